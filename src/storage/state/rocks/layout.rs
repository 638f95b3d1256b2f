//! Which databases are in the store's directory, and which of them is live.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::value;
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

/// The file that names the live database.
pub(super) const POINTER_NAME: &str = "CURRENT_STATE";
const DATABASE_PREFIX: &str = "db-";

/// The directory of a database.
pub(super) fn database_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{DATABASE_PREFIX}{number}"))
}

/// The number in a name that [`database_path`] gives.
fn database_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(DATABASE_PREFIX)?.parse().ok()?;
    (name == format!("{DATABASE_PREFIX}{number}")).then_some(number)
}

/// Makes a database the live one, durably; a crash before this returns leaves the one before.
pub(super) fn write_pointer(dir: &Path, number: u64) -> Result<(), StorageError> {
    let name = format!("{DATABASE_PREFIX}{number}");
    crashsafe::replace(&dir.join(POINTER_NAME), &value::seal(name.as_bytes()))
}

/// The live database, which is there; `None` when there is no pointer.
pub(super) fn read_pointer(dir: &Path) -> Result<Option<u64>, StorageError> {
    let path = dir.join(POINTER_NAME);
    let Some(raw) = crashsafe::read(&path)? else {
        return Ok(None);
    };
    let damaged = |what: String| StorageError::StateDamaged {
        path: path.clone(),
        what,
    };
    let name = value::open("pointer", raw.into()).map_err(|error| damaged(error.to_string()))?;
    let number = std::str::from_utf8(&name).ok().and_then(database_number);
    let number = number.ok_or_else(|| damaged(format!("it names {name:?}, which is no state")))?;
    let named = database_path(dir, number);
    if fs::exists(&named).map_err(StorageError::io("look at", &named))? {
        Ok(Some(number))
    } else {
        Err(damaged(format!(
            "it names {}, which is gone",
            named.display()
        )))
    }
}

/// Removes the databases that the pointer does not name.
pub(super) fn remove_left_overs(dir: &Path, pointer: Option<u64>) -> Result<(), StorageError> {
    for name in fs::list_dir(dir).map_err(StorageError::io("list", dir))? {
        let number = name.to_str().and_then(database_number);
        let Some(number) = number.filter(|number| Some(*number) != pointer) else {
            continue;
        };
        let path = database_path(dir, number);
        if pointer.is_none() && holds_tables(&path)? {
            // Not what a crash leaves: a first database has no tables before the pointer is there.
            return Err(StorageError::StateDamaged {
                path: dir.join(POINTER_NAME),
                what: format!("it is gone, but {} holds data", path.display()),
            });
        }
        remove_if_there(&path)?;
    }
    Ok(())
}

fn holds_tables(path: &Path) -> Result<bool, StorageError> {
    let names = fs::list_dir(path).map_err(StorageError::io("list", path))?;
    let is_table = |name: &std::ffi::OsString| Path::new(name).extension() == Some("sst".as_ref());
    Ok(names.iter().any(is_table))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

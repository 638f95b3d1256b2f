//! Small text files in a worker's directory that say whose it is: read within a bound, replaced all or nothing.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use super::ClientError;
use crate::env::fs::{self, File};

/// The file's text; `None` if there is no file. `next` is what to do about one that cannot be used.
///
/// # Errors
/// `Local` when it cannot be read, `LocalState` when it is longer than `bytes_max`, or no text.
pub(super) fn read(path: &Path, bytes_max: u64, next: &str) -> Result<Option<String>, ClientError> {
    let read = |error| ClientError::local("read", path, error);
    if !fs::exists(path).map_err(read)? {
        return Ok(None);
    }
    let bad = |why: String| ClientError::LocalState {
        path: path.to_owned(),
        why,
        next: next.to_owned(),
    };
    if fs::metadata(path).map_err(read)?.len() > bytes_max {
        return Err(bad(format!("it is longer than {bytes_max} bytes")));
    }
    let text = String::from_utf8(fs::read(path).map_err(read)?);
    text.map(Some).map_err(|_| bad("it is no text".into()))
}

/// Replaces the file's text by way of the file `new` beside it. Durable, and all or nothing; of two processes at once one
/// is refused.
///
/// # Errors
/// `Local` when the disk refuses, `LocalState` when another process replaces it just now.
pub(super) fn replace(path: &Path, new: &Path, text: &str) -> Result<(), ClientError> {
    let write = |error| ClientError::local("write", path, error);
    let file = fs::open_or_create(new).map_err(write)?;
    // Whoever had the lock may have given the file its name.
    let is_ours =
        fs::lock_exclusive(&file).map_err(write)? && is_still(&file, new).map_err(write)?;
    if !is_ours {
        return Err(ClientError::LocalState {
            path: path.to_owned(),
            why: "another process writes it just now".into(),
            next: "try again".into(),
        });
    }
    file.set_len(0).map_err(write)?;
    fs::write_all_at(&file, text.as_bytes(), 0).map_err(write)?;
    // IMPORTANT: the bytes before the name.
    file.sync_all().map_err(write)?;
    fs::rename(new, path).map_err(write)?;
    fs::sync_dir(path.parent().unwrap_or(path)).map_err(write)
}

/// Whether the file still has that name.
pub(super) fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_replace_at_once_one_is_refused_and_nothing_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("f"), dir.path().join("f.new"));
        replace(&path, &new, "first").unwrap();
        let other = fs::open_or_create(&new).unwrap();
        assert!(fs::lock_exclusive(&other).unwrap());
        let refused = replace(&path, &new, "second").unwrap_err();
        assert!(
            matches!(refused, ClientError::LocalState { .. }),
            "{refused}"
        );
        drop(other);
        assert_eq!(read(&path, 5, "").unwrap().as_deref(), Some("first"));
        replace(&path, &new, "third!").unwrap();
        assert_eq!(read(&path, 6, "").unwrap().as_deref(), Some("third!"));
        assert!(read(&path, 5, "").is_err() && !new.exists());
        assert_eq!(read(&new, 5, "").unwrap(), None);
    }
}

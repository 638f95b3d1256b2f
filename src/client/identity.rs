//! The file that says whose directory this is: written by a restore and by the worker, read when the worker starts.
//!
//! ```text
//! # ...                      comments
//! format 1
//! worker JOB/WORKER
//! epoch 3
//! in-use BOOT                while a worker writes: on a machine that started since, unsynced bytes may be gone
//! journal ops NAME           one line per journal
//! ```
//!
//! Beside it lies a file whose lock says that a process uses the directory: a worker, or a restore that replaces it.

use std::{collections::BTreeMap, path::Path};

use super::{ClientError, replay::PathMap, small_file};
use crate::{
    domain::{Epoch, JournalKind, JournalName, WorkerRef},
    env::fs::{self, File},
};

/// The identity file's name in a worker's directory.
pub const IDENTITY_FILE: &str = ".dos-worker";
/// The name it has while it is being written.
const NEW_FILE: &str = ".dos-worker.new";
/// The file whose lock says that a process uses the directory.
const LOCK_FILE: &str = ".dos-worker.lock";
/// Longest identity file read, in bytes: 1024 journals with names of 255 bytes fit.
const FILE_BYTES_MAX: u64 = 1 << 20;
const FORMAT: &str = "1";

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerIdentity {
    /// The worker.
    pub worker: WorkerRef,
    /// The epoch under which the directory's journals are written.
    pub epoch: Epoch,
    /// The boot of the machine in which the directory is, or was, being written without having been closed since.
    pub in_use: Option<String>,
    /// The journals whose files are in the directory.
    pub journals: BTreeMap<JournalName, JournalKind>,
}

impl WorkerIdentity {
    /// Reads the identity of a directory; `None` if it has none.
    ///
    /// # Errors
    /// `Local` when it cannot be read, `LocalState` when it is damaged or of another version.
    pub fn read(directory: &Path) -> Result<Option<Self>, ClientError> {
        let path = directory.join(IDENTITY_FILE);
        let next = "restore the worker into a new directory";
        let Some(text) = small_file::read(&path, FILE_BYTES_MAX, next)? else {
            return Ok(None);
        };
        let bad = |why: String| ClientError::LocalState {
            path,
            why,
            next: next.into(),
        };
        Self::parse(&text).map(Some).map_err(bad)
    }

    /// Replaces the identity of a directory. Durable, and all or nothing.
    ///
    /// # Errors
    /// `Local` when the disk refuses.
    pub fn write(&self, directory: &Path) -> Result<(), ClientError> {
        let (path, new) = (directory.join(IDENTITY_FILE), directory.join(NEW_FILE));
        small_file::replace(&path, &new, &self.to_text())
    }

    fn to_text(&self) -> String {
        use std::fmt::Write;
        let Self {
            worker,
            epoch,
            in_use,
            journals,
        } = self;
        let mut text = format!(
            "# Whose directory this is. Written by dos-cluster; do not edit, and do not copy the directory.\n\
             format {FORMAT}\nworker {worker}\nepoch {epoch}\n"
        );
        if let Some(boot) = in_use {
            let _ = writeln!(text, "in-use {boot}"); // a String takes everything
        }
        for (name, kind) in journals {
            let _ = writeln!(text, "journal {} {name}", kind.as_str());
        }
        text
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut format, mut worker, mut epoch, mut in_use) = (None, None, None, None);
        let mut journals = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "format" => format = Some(value),
                "worker" => worker = Some(value.parse().map_err(|e| format!("{e}"))?),
                "epoch" => {
                    let number = value.parse().map_err(|_| format!("bad epoch {value:?}"))?;
                    epoch = Some(Epoch(number));
                }
                "in-use" => in_use = Some(value.to_owned()),
                "journal" => {
                    let (kind, name) = value.split_once(' ').unwrap_or((value, ""));
                    let kind = match kind {
                        "ops" => JournalKind::Ops,
                        "raw" => JournalKind::Raw,
                        _ => return Err(format!("bad kind of journal {kind:?}")),
                    };
                    journals.insert(name.parse().map_err(|e| format!("{e}"))?, kind);
                }
                _ => return Err(format!("unknown line {line:?}")),
            }
        }
        if format != Some(FORMAT) {
            return Err(format!(
                "its format is {format:?}; this version reads {FORMAT}"
            ));
        }
        Ok(Self {
            worker: worker.ok_or("it names no worker")?,
            epoch: epoch.ok_or("it names no epoch")?,
            in_use,
            journals,
        })
    }
}

/// That no other process uses the directory, for as long as this is held; the system lets go of it also after a kill.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    /// Held for its lock.
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of a directory without waiting.
    pub(super) fn take(directory: &Path) -> Result<Self, ClientError> {
        let path = directory.join(LOCK_FILE);
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error| ClientError::local(what, path, error)
        };
        let file = fs::open_or_create(&path).map_err(failed("open"))?;
        if !fs::lock_exclusive(&file).map_err(failed("lock"))? {
            return Err(in_use(directory));
        }
        // A restore may have put another directory there.
        let same = small_file::is_still(&file, &path).map_err(failed("look at"))?;
        if !same {
            return Err(ClientError::LocalState {
                path: directory.to_owned(),
                why: "it was replaced while it was being opened".into(),
                next: "try again".into(),
            });
        }
        Ok(Self { _file: file })
    }

    /// Takes the lock of a directory that a worker has used; `None` if none ever has, or there is no directory.
    pub(super) fn take_if_used(directory: &Path) -> Result<Option<Self>, ClientError> {
        let path = directory.join(LOCK_FILE);
        match fs::exists(&path) {
            Ok(true) => Self::take(directory).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(ClientError::local("look at", path, error)),
        }
    }
}

fn in_use(directory: &Path) -> ClientError {
    ClientError::LocalState {
        path: directory.to_owned(),
        why: "another process has it open: its worker, or a restore".into(),
        next: "stop that process first, and give each worker a directory of its own".into(),
    }
}

/// Whether an operation's path would touch the identity file or a journal's own file.
pub(super) fn is_reserved<'a>(
    map: &PathMap,
    path: &[u8],
    mut journals: impl Iterator<Item = &'a JournalName>,
) -> bool {
    let Ok(components) = map.resolve(path) else {
        return false; // refused for a better reason
    };
    let Some(first) = components.first() else {
        return false;
    };
    is_identity_name(first) || journals.any(|name| name.as_str().as_bytes() == first)
}

/// Whether a name in the worker's directory is one of this module's files.
pub(super) fn is_identity_name(name: &[u8]) -> bool {
    [IDENTITY_FILE, NEW_FILE, LOCK_FILE]
        .iter()
        .any(|taken| taken.as_bytes() == name)
}

/// Whether a name in the worker's directory is the lock's: a directory with nothing else is empty.
pub(super) fn is_lock_name(name: &[u8]) -> bool {
    name == LOCK_FILE.as_bytes()
}

/// This boot of the machine: what was written without a sync in another one may be gone. `None` where there is no telling.
pub(super) fn this_boot() -> Option<String> {
    let id = fs::read(Path::new("/proc/sys/kernel/random/boot_id")).ok()?;
    let id = String::from_utf8(id).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty() && !id.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> WorkerIdentity {
        WorkerIdentity {
            worker: "job/worker 1".parse().unwrap(),
            epoch: Epoch(7),
            in_use: Some("b-o-o-t".into()),
            journals: BTreeMap::from([
                ("a b.journal".parse().unwrap(), JournalKind::Ops),
                ("#x".parse().unwrap(), JournalKind::Raw),
            ]),
        }
    }

    #[test]
    fn an_identity_reads_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(WorkerIdentity::read(dir.path()).unwrap(), None);
        identity().write(dir.path()).unwrap();
        let mut second = identity();
        second.in_use = None;
        assert_eq!(WorkerIdentity::read(dir.path()).unwrap(), Some(identity()));
        second.write(dir.path()).unwrap();
        assert_eq!(WorkerIdentity::read(dir.path()).unwrap(), Some(second));
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        for bad in [
            "",
            "format 2\nworker a/b\nepoch 1\n",
            "format 1\nepoch 1\n",
            "format 1\nworker a/b\n",
            "format 1\nworker a\nepoch 1\n",
            "format 1\nworker a/b\nepoch -1\n",
            "format 1\nworker a/b\nepoch 1\njournal x y\n",
            "format 1\nworker a/b\nepoch 1\njournal ops ..\n",
            "format 1\nworker a/b\nepoch 1\nwhat\n",
        ] {
            assert!(WorkerIdentity::parse(bad).is_err(), "{bad:?}");
        }
    }
}

//! Replay: the operations of an `ops` journal, applied to files below one directory.
//!
//! A journal may hold any path. [`PathMap`] decides which file below the directory is meant, or refuses; nothing
//! outside the directory is ever touched. A refused path is the caller's to judge: it may go on with the next record.
//! Operations are applied in the order given; none is durable before [`Replayer::finish`] has returned.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::files::{AccessError, Files};
use crate::codec::ops::{Op, OpRecord};

mod path_map;

pub use path_map::PathMap;

/// The end of the longest file that a signed offset can speak of.
pub(super) const FILE_BYTES_MAX: u64 = i64::MAX.cast_unsigned();

/// What an operation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The file has the length.
    SetLength,
    /// The bytes are in the file.
    Written,
    /// The file is gone.
    Removed,
    /// No file has that name (nothing, or a directory, which stays): a notice, as removes may well come twice.
    NothingToRemove,
}

/// Why a path of a journal is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No byte at all.
    #[error("the path is empty")]
    Empty,
    /// A NUL byte, which no path can hold.
    #[error("the path contains a NUL byte")]
    Nul,
    /// `..` somewhere in it.
    #[error("the path contains `..`")]
    ParentDirectory,
    /// A component above 255 bytes, or more than the file system takes.
    #[error("the path or one of its components is too long")]
    TooLong,
    /// `/`, `.`, or a trailing slash.
    #[error("the path names a directory")]
    Directory,
    /// Absolute, and no rule of the map has it.
    #[error("the path is absolute and no rule maps it")]
    Unmapped,
    /// The rule that has it leads out of the target directory.
    #[error("the rule for `{}` leads outside the target directory", .prefix.escape_ascii())]
    Outside {
        /// The old prefix of the rule.
        prefix: Vec<u8>,
    },
    /// Links are not followed.
    #[error("{} is a symbolic link", .0.display())]
    Symlink(PathBuf),
    /// A file where a directory is needed.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A directory, a pipe, a device or a socket where a file is needed.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
}

/// Why an operation was not applied. Offsets are those of the records in the journal.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The path is not to be touched. Nothing was changed but perhaps empty parent directories made; replay may go on.
    #[error("op record at offset {offset}: `{}` is refused: {rule}", .path.escape_ascii())]
    RefusedPath {
        /// As the journal spells it.
        path: Bytes,
        /// Of the record.
        offset: u64,
        /// What it offends against.
        #[source]
        rule: Refusal,
    },
    /// No file can reach so far. Nothing was changed; replay may go on.
    #[error(
        "op record at offset {offset}: `{}` would end beyond 2^63 bytes ({bytes} bytes at {at})", .path.escape_ascii()
    )]
    RefusedRange {
        /// As the journal spells it.
        path: Bytes,
        /// Of the record.
        offset: u64,
        /// Where in the file.
        at: u64,
        /// How many bytes there.
        bytes: u64,
    },
    /// The operating system refused. The file may be changed in part, and the replay is closed.
    #[error("op record at offset {offset}: cannot {action} `{}`: {source}", .path.escape_ascii())]
    Io {
        /// As the journal spells it.
        path: Bytes,
        /// Of the record.
        offset: u64,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that was changed could not be made durable.
    #[error("cannot sync {}: {source}", .path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An earlier operation failed: the files cannot be vouched for.
    #[error("the replay was closed by an earlier failure: {first}")]
    Closed {
        /// The failure.
        first: String,
    },
}

/// Applies records to files. At most 64 files are open; a file that must make room is synced first.
///
/// The first failure of the operating system closes it for good. A caller that drops it without
/// [`finish`](Self::finish) must take the files for not written.
#[derive(Debug)]
pub struct Replayer {
    map: PathMap,
    files: Files,
    failed: Option<String>,
}

impl Replayer {
    /// A replay into `map.root`, which must be a directory.
    pub fn new(map: PathMap) -> Self {
        let files = Files::new(map.root.clone());
        Self {
            map,
            files,
            failed: None,
        }
    }

    /// Applies the record that begins at `offset` of its journal. Applying one twice in a row changes nothing.
    ///
    /// # Errors
    /// [`ReplayError::RefusedPath`] and [`ReplayError::RefusedRange`] leave the replay open, every other one closes it.
    pub fn apply(&mut self, offset: u64, record: &OpRecord) -> Result<Applied, ReplayError> {
        self.check_open()?;
        let op = &record.op;
        let result = self
            .map
            .resolve(op.path())
            .map_err(Failure::Refused)
            .and_then(|components| match op {
                Op::SetLength { length, .. } => {
                    check_range(0, *length)?;
                    self.files.set_length(&components, *length)?;
                    Ok(Applied::SetLength)
                }
                Op::WriteV {
                    offset: at, data, ..
                } => {
                    check_range(*at, data.len() as u64)?;
                    self.files.write(&components, *at, data)?;
                    Ok(Applied::Written)
                }
                Op::Remove { .. } => Ok(if self.files.remove(&components)? {
                    Applied::Removed
                } else {
                    Applied::NothingToRemove
                }),
            });
        result.map_err(|failure| self.fail(offset, op.path().clone(), failure))
    }

    /// Makes every touched file and directory durable; the target directory's own name is left to the caller.
    ///
    /// # Errors
    /// One of them could not be synced, or the replay is closed.
    pub fn finish(mut self) -> Result<(), ReplayError> {
        self.check_open()?;
        self.files
            .sync()
            .map_err(|(path, source)| ReplayError::Sync { path, source })
    }

    fn check_open(&self) -> Result<(), ReplayError> {
        match &self.failed {
            None => Ok(()),
            Some(first) => Err(ReplayError::Closed {
                first: first.clone(),
            }),
        }
    }

    fn fail(&mut self, offset: u64, path: Bytes, failure: Failure) -> ReplayError {
        match failure {
            Failure::Refused(rule) => ReplayError::RefusedPath { path, offset, rule },
            Failure::Range { at, bytes } => ReplayError::RefusedRange {
                path,
                offset,
                at,
                bytes,
            },
            Failure::Io { action, source } => {
                let error = ReplayError::Io {
                    path,
                    offset,
                    action,
                    source,
                };
                self.failed = Some(error.to_string());
                error
            }
        }
    }
}

/// Why an operation was not applied, before the record is named.
enum Failure {
    Refused(Refusal),
    Range {
        at: u64,
        bytes: u64,
    },
    Io {
        action: &'static str,
        source: io::Error,
    },
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::Refused(match error {
            AccessError::Symlink(path) => Refusal::Symlink(path),
            AccessError::NotADirectory(path) => Refusal::NotADirectory(path),
            AccessError::NotAFile(path) => Refusal::NotAFile(path),
            AccessError::Name => Refusal::TooLong,
            AccessError::Io(action, source) => return Self::Io { action, source },
        })
    }
}

fn check_range(at: u64, bytes: u64) -> Result<(), Failure> {
    match at.checked_add(bytes) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(()),
        _ => Err(Failure::Range { at, bytes }),
    }
}

#[cfg(test)]
mod tests;

//! What can go wrong with a node's own disk. Each message names the object, the cause and the next step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::{JournalId, Offset};

/// A failure of a node's storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}; see to the disk, then start the node again", path.display())]
    Io {
        /// Verb: "open", "sync".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Bytes that had been synced are gone or changed. Never repaired by guessing.
    #[error(
        "{} is damaged at byte {offset}: {what}; a node whose synced data changed must not vote: \
         remove it with `dos-cluster member remove` and `dos-cluster join` with an empty data directory",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found, and what should be there.
        what: String,
    },
    /// The state store holds what it must not, or lacks what it must.
    #[error(
        "the state store {} is damaged: {what}; remove this node with `dos-cluster member remove` and \
         `dos-cluster join` with an empty data directory",
        path.display()
    )]
    StateDamaged {
        /// The store's directory or file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Bytes of a journal are gone or changed on this node. They are never served.
    #[error(
        "journal {journal} is damaged at offset {at} in {}: {why}; read it from another node, then remove this one \
         with `dos-cluster member remove` and `dos-cluster join` with an empty data directory",
        path.display()
    )]
    JournalDamaged {
        /// The store's directory or file.
        path: PathBuf,
        /// The journal.
        journal: JournalId,
        /// The first byte that cannot be given, or the start of the damaged chunk.
        at: Offset,
        /// What was found.
        why: String,
    },
    /// An earlier write or sync failed; nothing is written any more.
    #[error(
        "this node no longer writes since: {reason}; see to the cause, then start the node again"
    )]
    GateClosed {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The log was closed by its owner.
    #[error("the log is closed: the node is stopping; ask another node")]
    Closed,
    /// Another process has this directory.
    #[error(
        "data directory {} is in use by process {owner}; stop that process or choose another directory",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that its LOCK file names, or "unknown".
        owner: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "{} has format version {found}, this program reads up to {supported}; start it with a newer dos-cluster",
        path.display()
    )]
    ForeignFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// `IDENTITY` is there, the log is not.
    #[error(
        "the Raft log of node n{node_id} of cluster {cluster_id:032x} in {} is gone: a node that lost its log must \
         not vote under its old identity; remove it with `dos-cluster member remove n{node_id}` and \
         `dos-cluster join` with an empty data directory",
        path.display()
    )]
    LogGone {
        /// The data directory.
        path: PathBuf,
        /// From `IDENTITY`.
        cluster_id: u128,
        /// From `IDENTITY`.
        node_id: u64,
    },
    /// Data is there, `IDENTITY` is not.
    #[error(
        "{} holds data ({found}) but no IDENTITY file, so it is not known which node's it is; put the file back, or \
         `dos-cluster join` with an empty data directory",
        path.display()
    )]
    NoIdentity {
        /// The data directory.
        path: PathBuf,
        /// A file that was found.
        found: String,
    },
    /// `IDENTITY` was to be changed into another node's, or written before there is a log.
    #[error("cannot write the identity of {}: {why}; use an empty data directory", path.display())]
    IdentityRefused {
        /// The data directory.
        path: PathBuf,
        /// The rule that forbids it.
        why: String,
    },
    /// Entries were asked for that the log does not hold.
    #[error(
        "log entries {from}..{until} are not all there: the log holds {held_from}..{held_until}; a snapshot is needed"
    )]
    NotHeld {
        /// First index asked for.
        from: u64,
        /// One past the last index asked for.
        until: u64,
        /// First index held.
        held_from: u64,
        /// One past the last index held.
        held_until: u64,
    },
    /// An append that would leave a hole or overwrite.
    #[error(
        "log entry {index} cannot be appended: the next index is {expected}; this is a bug of the caller"
    )]
    NotConsecutive {
        /// The index that should come next.
        expected: u64,
        /// The index that came.
        index: u64,
    },
    /// An entry over the bound.
    #[error(
        "log entry {index} has {bytes} bytes of {bytes_max} that fit; send it in smaller pieces"
    )]
    EntryTooLarge {
        /// Its index.
        index: u64,
        /// Its payload's length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// More requests are queued than may be.
    #[error(
        "the log writer is {queued_max} requests behind; the disk is too slow for what is admitted"
    )]
    QueueFull {
        /// The bound of the queue.
        queued_max: usize,
    },
    /// Options that contradict each other or a bound.
    #[error("log option {name} is {value}, allowed is {allowed}; correct it")]
    BadOption {
        /// The option.
        name: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        allowed: String,
    },
}

impl StorageError {
    /// For `map_err`: puts the verb and the path to an operating system's error.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Damage at a place in a file.
    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::Io { source, .. } => source.kind(),
            StorageError::Damaged { .. }
            | StorageError::StateDamaged { .. }
            | StorageError::JournalDamaged { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

//! Why a file is not mirrored any more, or a whole directory.

use std::path::{Path, PathBuf};

use super::NamePattern;
use crate::{
    client::{ClientError, Effect, ErrorKind},
    domain::{Epoch, JournalRef, Offset, Rejected, WorkerRef, Writer},
};

/// Why the mirror of one file has stopped for good. The others go on, except after a takeover.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MirrorFault {
    /// The local file lacks what the cluster has.
    #[error(
        "{} is shorter than journal {journal}: it has {local} bytes, the cluster has {tail}; restore the worker into a new directory, or mirror this one as another worker", .path.display()
    )]
    Shorter {
        /// The file.
        path: PathBuf,
        /// Its journal.
        journal: JournalRef,
        /// Its length.
        local: Offset,
        /// The journal's.
        tail: Offset,
    },
    /// The local file has other bytes than the cluster.
    #[error(
        "{} differs from journal {journal}: of the {bytes} bytes before {tail} the CRC-32C is {here:08x} here and {there:08x} in the cluster; restore the worker into a new directory, or mirror this one as another worker", .path.display()
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// Its journal.
        journal: JournalRef,
        /// How many bytes were compared.
        bytes: u64,
        /// The journal's tail, where they end.
        tail: Offset,
        /// Their CRC-32C in the file.
        here: u32,
        /// Their CRC-32C in the cluster.
        there: u32,
    },
    /// The local file was cut while it was mirrored.
    #[error(
        "{} was cut to {local} bytes while it was mirrored, after {sent} had been sent to journal {journal}: only files that grow can be mirrored", .path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its journal.
        journal: JournalRef,
        /// Its length now.
        local: Offset,
        /// Up to where it was sent.
        sent: Offset,
    },
    /// The name is another file's by now, or nobody's.
    #[error(
        "{} was removed or replaced while it was mirrored to journal {journal}: only files that grow can be mirrored; start the mirror again to compare what is there now", .path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
        /// Its journal.
        journal: JournalRef,
    },
    /// Someone else has the journal open.
    #[error(
        "journal {journal} is being written by someone else (writer {writer}): stop that process first; --steal fences it", writer = .writer.0
    )]
    InUse {
        /// The journal.
        journal: JournalRef,
        /// The newest writer.
        writer: Writer,
        /// `Unknown` when an open of this mirror may have fenced that writer.
        effect: Effect,
    },
    /// The worker was taken over.
    #[error("{rejected}")]
    TakenOver {
        /// Who it was, and when.
        rejected: Box<Rejected>,
        /// `Unknown` when bytes had been sent before whose fate is not known.
        effect: Effect,
    },
    /// Anything else.
    #[error(transparent)]
    Client(ClientError),
}

/// Why a mirror has stopped, or has not begun, with all its files.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MirrorError {
    /// The worker was taken over while it was mirrored.
    #[error("{rejected}")]
    TakenOver {
        /// Who it was, and when.
        rejected: Box<Rejected>,
        /// As the file's that heard of it.
        effect: Effect,
    },
    /// The worker was taken over since the directory was mirrored last.
    #[error(
        "{} was mirrored as worker {worker} under epoch {held}, but epoch {current} took over since (by {by:?}, log index {log_index}); restore the worker into a new directory and mirror that one, or give --adopt once if this one is to go on all the same", .directory.display()
    )]
    TakenOverSince {
        /// The directory.
        directory: PathBuf,
        /// The worker.
        worker: WorkerRef,
        /// The epoch under which the directory was mirrored.
        held: Epoch,
        /// The epoch in force.
        current: Epoch,
        /// Who took over.
        by: String,
        /// The log index of the takeover.
        log_index: u64,
    },
    /// The directory was mirrored to another cluster.
    #[error(
        "{} was mirrored as worker {worker} to cluster {held_cluster} under epoch {held}, but this is cluster {current_cluster}, which has {}; check --endpoints, or give --adopt once if the directory is to go on here", .directory.display(), epoch_there(*.current)
    )]
    OtherCluster {
        /// The directory.
        directory: PathBuf,
        /// The worker.
        worker: WorkerRef,
        /// The epoch under which the directory was mirrored.
        held: Epoch,
        /// The cluster to which it was.
        held_cluster: Box<str>,
        /// The worker's epoch here, if it is known here.
        current: Option<Epoch>,
        /// This cluster.
        current_cluster: Box<str>,
    },
    /// There is no file to copy.
    #[error("{}", no_file(.directory, .pattern))]
    NothingToMirror {
        /// The directory.
        directory: PathBuf,
        /// What was looked for.
        pattern: NamePattern,
    },
    /// Anything else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn epoch_there(current: Option<Epoch>) -> String {
    current.map_or_else(
        || "no such worker".into(),
        |epoch| format!("the worker at epoch {epoch}"),
    )
}

/// What a mirror without files says.
pub(super) fn no_file(directory: &Path, pattern: &NamePattern) -> String {
    format!(
        "no file in {} has a name like {pattern} (--journal GLOB says which are journals)",
        directory.display()
    )
}

impl From<ClientError> for MirrorFault {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rejected { rejected, effect }
                if matches!(*rejected, Rejected::EpochFenced { .. }) =>
            {
                Self::TakenOver { rejected, effect }
            }
            error => Self::Client(error),
        }
    }
}

impl MirrorError {
    /// Whether the mirror may have changed something of what is not told by its files.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::TakenOver { effect, .. } => *effect,
            Self::TakenOverSince { .. }
            | Self::OtherCluster { .. }
            | Self::NothingToMirror { .. } => Effect::None,
            Self::Client(error) => error.effect(),
        }
    }
}

impl MirrorFault {
    /// Whether bytes of the file may have been sent whose fate is not known, or someone may have been fenced.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            // Found before the journal was opened.
            Self::Shorter { .. } | Self::Different { .. } => Effect::None,
            Self::Cut { .. } | Self::Replaced { .. } => Effect::Unknown,
            Self::InUse { effect, .. } | Self::TakenOver { effect, .. } => *effect,
            Self::Client(error) => error.effect(),
        }
    }

    /// Whether it may be over by itself.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Client(error) if is_outage(error))
    }
}

/// Whether an error may be over by itself: the cluster cannot be reached, or does not serve.
pub(super) fn is_outage(error: &ClientError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CannotConnect | ErrorKind::Unhealthy | ErrorKind::Timeout
    )
}

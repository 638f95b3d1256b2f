//! Why a file is not mirrored any more.

use std::path::PathBuf;

use crate::{
    client::{ClientError, ErrorKind},
    domain::{JournalRef, Offset, Rejected, Writer},
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
    },
    /// Anything else.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl MirrorFault {
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

/// Whether the worker was taken over: nothing of it may be mirrored from here any more.
pub(super) fn is_takeover(error: &ClientError) -> bool {
    matches!(error.rejected(), Some(Rejected::EpochFenced { .. }))
}

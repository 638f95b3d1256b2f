//! What a command changed.

use bytes::Bytes;

use crate::domain::{
    checkpoint::CheckpointId,
    ids::{JournalId, NodeId, WorkerId},
    offset::Offset,
};

/// What a command changed: the store writes these, in order, in one batch with the applied log id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The worker's record.
    Worker(WorkerId),
    /// The journal's record: written when it is still there, else deleted.
    Journal(JournalId),
    /// A checkpoint's record: written when the worker still has it, else deleted.
    Checkpoint(WorkerId, CheckpointId),
    /// A member's record: written when it is still there, else deleted.
    Member(NodeId),
    /// New bytes of a journal.
    Chunk {
        /// The journal.
        journal: JournalId,
        /// Where they begin.
        at: Offset,
        /// The bytes.
        data: Bytes,
    },
    /// The journal's bytes from `at` on are gone.
    Cut {
        /// The journal.
        journal: JournalId,
        /// The new tail.
        at: Offset,
    },
}

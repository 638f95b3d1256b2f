//! What is replicated, and what it answers.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    checkpoint::CheckpointId,
    endpoint::{Addresses, Endpoint},
    ids::{JournalId, JournalName, JournalRef, NodeId, WorkerRef},
    journal::JournalKind,
    member::Member,
    offset::{Offset, OffsetRange},
    rejected::Rejected,
    token::{Epoch, FencingToken, Writer},
};

/// One entry of the replicated log, decided alike by every member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Appends of any streams, decided one by one.
    Append(AppendBatch),
    /// Registers a worker, or attaches to it.
    OpenWorker(OpenWorker),
    /// Registers a journal, or opens it for a new writer.
    OpenJournal(OpenJournal),
    /// Says which writers have ended; those that are not the newest of their journal are passed over.
    CloseWriters(Vec<(JournalId, FencingToken)>),
    /// Makes a checkpoint durable.
    CommitCheckpoint(CommitCheckpoint),
    /// Raises a worker's epoch and fixes its restore point.
    Takeover(Takeover),
    /// Cuts a journal's end off.
    Truncate(Truncate),
    /// Removes a journal.
    DeleteJournal(JournalRef),
    /// Gives out the number of a node that will join.
    AllocateNode,
    /// A member says where it is reached.
    AnnounceMember(Member),
    /// Says where a worker is reached.
    SetEndpoint(SetEndpoint),
}

/// Appends of any streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendBatch {
    /// In the order in which they are decided.
    pub appends: Vec<Append>,
    /// The proposer's wall clock, in milliseconds since 1970: when a checkpoint that they complete became durable.
    pub at_unix_ms: u64,
}

/// One append of one stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Append {
    /// The journal.
    pub journal: JournalId,
    /// Who writes.
    pub token: FencingToken,
    /// Where the bytes begin.
    pub at: Offset,
    /// The bytes, 1 to [`super::limits::APPEND_BYTES_MAX`].
    pub data: Bytes,
}

impl std::fmt::Debug for Append {
    /// Without the payload, which may be private and is always long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Append({} at {}, {} bytes, {})",
            self.journal,
            self.at,
            self.data.len(),
            self.token
        )
    }
}

/// Registers a worker that is not known, or attaches to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWorker {
    /// The worker.
    pub worker: WorkerRef,
    /// The epoch that the caller holds from before; fenced unless it is the current one. `None` attaches to whichever is current.
    pub epoch: Option<Epoch>,
    /// The proposer's wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// Registers a journal that is not known, or opens it for a new writer, which fences the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJournal {
    /// The journal.
    pub journal: JournalRef,
    /// Its kind; a journal keeps the kind it was created with.
    pub kind: JournalKind,
    /// The caller's epoch.
    pub epoch: Epoch,
    /// The tail that the caller expects; `None` takes any.
    pub expected: Option<Offset>,
    /// The newest writer that the caller has seen, 0 of a journal that is not there: refused if another was opened since, unless
    /// all of them by the same opener.
    pub over: Option<Writer>,
    /// What the caller drew for all opens of one append stream, whose answers may be lost, or come late; 0: nothing.
    pub opener: u64,
}

/// Makes a checkpoint durable; ordered behind the appends it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitCheckpoint {
    /// The worker.
    pub worker: WorkerRef,
    /// Its epoch.
    pub epoch: Epoch,
    /// Which checkpoint; newer than the last, or one that is kept again with the same offsets (a retry).
    pub id: CheckpointId,
    /// Up to where it covers each journal.
    pub offsets: BTreeMap<JournalName, Offset>,
    /// The proposer's wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// Where a takeover cuts the worker's journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePoint {
    /// Everything durable. Only what a legacy worker could not be restarted behind is cut: a torn last entry of its event log
    /// or ops journal, and a checkpoint that one of the two lacks.
    Latest,
    /// The recovery line of the job, computed in the command.
    Line,
    /// A checkpoint of the worker.
    Checkpoint(CheckpointId),
}

/// Raises a worker's epoch, which fences the old incarnation, and cuts its journals at the restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The worker.
    pub worker: WorkerRef,
    /// Take over only from this epoch.
    pub expected_epoch: Option<Epoch>,
    /// Where to cut. Later checkpoints are dropped, and earlier ones that cover more than is left.
    pub point: RestorePoint,
    /// Who takes over, in its own words; at most 255 bytes are kept.
    pub by: String,
    /// The proposer's wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Where the new incarnation is reached, which raises the generation; `None` leaves what is known.
    pub endpoint: Option<Addresses>,
}

/// Replaces the addresses that a worker is reached at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetEndpoint {
    /// The worker.
    pub worker: WorkerRef,
    /// Refused unless this is the generation in force (0: none yet), or these addresses followed it: a retry. `None` replaces any.
    pub expected_generation: Option<u64>,
    /// All of its addresses.
    pub addresses: Addresses,
    /// Who sets them, in its own words; at most 255 bytes are kept.
    pub by: String,
    /// The proposer's wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// Cuts a journal's end off, never below what a checkpoint covers: how a torn last record is dropped after a takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// The journal.
    pub journal: JournalRef,
    /// The caller's epoch.
    pub epoch: Epoch,
    /// The new tail.
    pub at: Offset,
}

/// The answer to a command that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One answer per append of the batch.
    Appended(Vec<Result<Appended, Rejected>>),
    /// The worker's epoch; `created` when it was not known before.
    WorkerOpened {
        /// The epoch in force.
        epoch: Epoch,
        /// Not known before.
        created: bool,
    },
    /// A journal opened for a new writer.
    JournalOpened(OpenedJournal),
    /// The writers have ended.
    WritersClosed,
    /// The checkpoint is durable, at this log index.
    CheckpointCommitted {
        /// A member that has applied it can serve the checkpoint.
        log_index: u64,
    },
    /// The worker is taken over.
    TakenOver(TakenOver),
    /// The journal is gone.
    JournalDeleted,
    /// The journal's new tail.
    Truncated {
        /// First offset not written.
        tail: Offset,
    },
    /// The number given out.
    NodeAllocated(NodeId),
    /// The addresses are known.
    MemberAnnounced,
    /// The worker is reached at the addresses.
    EndpointSet {
        /// Their generation.
        generation: u64,
    },
}

/// One accepted append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Where the bytes are.
    pub range: OffsetRange,
    /// The journal's tail with them.
    pub tail: Offset,
}

/// An opened journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedJournal {
    /// Its number: what appends carry.
    pub journal: JournalId,
    /// The token of the new writer.
    pub token: FencingToken,
    /// Where to go on.
    pub tail: Offset,
}

/// A worker taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The new epoch.
    pub epoch: Epoch,
    /// The checkpoint of the restore point; `None` for the latest bytes.
    pub checkpoint: Option<CheckpointId>,
    /// Each journal with its kind and its tail now: what a restore copies.
    pub journals: BTreeMap<JournalName, (JournalId, JournalKind, Offset)>,
    /// The journals that the takeover cut, with their tails of before.
    pub cut: BTreeMap<JournalName, Offset>,
    /// The log index of the takeover: a member that has applied it can serve the restore.
    pub log_index: u64,
    /// Where the worker is reached, as far as anybody said.
    pub endpoint: Option<Endpoint>,
}

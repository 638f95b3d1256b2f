//! What clients did and were told, in the order in which it happened.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

/// A journal's, worker's or node's name, as messages show it.
pub type Name = Arc<str>;

/// One operation, or one append stream: the number that ties its end to its beginning.
pub type OpId = u64;

/// Rollback epoch and number of a checkpoint.
pub type CheckpointId = (u64, u64);

/// What a read must at least contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Floor {
    /// Everything acknowledged before it began.
    Linearizable,
    /// Everything up to this log index, which an acknowledgement carried.
    LogIndex(u64),
    /// Nothing: it may be stale.
    Stale,
}

/// One thing that a client did or heard. An event that begins an operation comes before anything is sent; one that ends it
/// comes after the answer was heard. Without an ending event the outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A writer opens a journal.
    Opening {
        /// This stream.
        stream: OpId,
        /// Whose journal.
        worker: Name,
        /// Which journal.
        journal: Name,
        /// The epoch that the writer holds.
        epoch: u64,
    },
    /// The stream is open. Everything before `at` is durable.
    Opened {
        /// Which stream.
        stream: OpId,
        /// The tail: where its first byte goes.
        at: u64,
    },
    /// The stream is about to append. One record: its bytes occur nowhere else.
    Sent {
        /// Which stream.
        stream: OpId,
        /// Where they go.
        at: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The stream was told how far it is.
    Progress {
        /// Which stream.
        stream: OpId,
        /// The leader has received everything before this.
        written: u64,
        /// Everything before this is durable.
        durable: u64,
        /// A node that has applied this log index serves everything before `durable`.
        log_index: u64,
    },
    /// A read of a journal begins.
    ReadBegan {
        /// This read.
        read: OpId,
        /// Which journal.
        journal: Name,
        /// The node asked.
        node: Name,
        /// What it must contain.
        floor: Floor,
    },
    /// The read answered all bytes from `from` up to the tail.
    ReadEnded {
        /// Which read.
        read: OpId,
        /// The first offset asked for.
        from: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// A new incarnation takes a worker over, at everything durable.
    TakeoverBegan {
        /// This takeover.
        takeover: OpId,
        /// Whom.
        worker: Name,
    },
    /// The takeover is done.
    TakenOver {
        /// Which takeover.
        takeover: OpId,
        /// Whom.
        worker: Name,
        /// The new epoch.
        epoch: u64,
        /// The tail of each journal of the worker.
        tails: BTreeMap<Name, u64>,
    },
    /// A worker commits a checkpoint.
    CheckpointBegan {
        /// This operation.
        commit: OpId,
        /// Who.
        worker: Name,
        /// The epoch it holds.
        epoch: u64,
        /// Which checkpoint.
        id: CheckpointId,
        /// Up to where it covers each journal.
        offsets: BTreeMap<Name, u64>,
    },
    /// The checkpoint is durable.
    CheckpointCommitted {
        /// Which operation.
        commit: OpId,
    },
    /// The client itself found what must not be: bytes that do not verify, a tail that cannot be.
    Broken {
        /// In its own words.
        what: String,
    },
    /// What a node holds in the end, after everything was healed and all nodes had applied the same.
    Final(FinalNode),
}

/// What a node holds in the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FinalNode {
    /// Its name.
    pub node: Name,
    /// Each journal's bytes.
    pub journals: BTreeMap<Name, Bytes>,
    /// Each worker's checkpoints.
    pub checkpoints: BTreeMap<Name, BTreeMap<CheckpointId, FinalCheckpoint>>,
}

/// What a checkpoint covers: each journal up to where. A journal that is not there is covered up to 0.
pub type FinalCheckpoint = BTreeMap<Name, u64>;

/// Everything that clients did and heard. The position of an event is its time.
#[derive(Debug, Clone, Default)]
pub struct History {
    events: Vec<Event>,
    next_op: OpId,
}

impl History {
    /// A number for a new operation or stream.
    pub fn next_op(&mut self) -> OpId {
        self.next_op += 1;
        self.next_op
    }

    /// Adds what happened now.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Everything so far, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

//! What the story and its legacy workers say to each other over stdin and stdout, one JSON line each. It stands for the
//! application's own channels: the source, the sink and the barriers of its checkpoints. Nothing of it reaches the cluster.

use serde::{Deserialize, Serialize};

/// One result that a worker gives out: the sequence number that a key has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Emission {
    /// The key.
    pub(super) key: u32,
    /// Its next number, from 1 on.
    pub(super) number: u64,
}

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Order {
    /// Work on these positions of the source.
    Feed { from: u64, to: u64 },
    /// The initializer only: begin the next checkpoint.
    Begin { rollback: u64 },
    /// Write the state, as data of this checkpoint.
    Data { id: u64 },
    /// Write the checkpoint's id behind the data.
    Id { id: u64 },
    /// The checkpoint is complete.
    Commit { id: u64, rollback: u64 },
    /// Go back to a complete checkpoint.
    Rollback { id: u64 },
}

/// What a worker answers, one to each order, and `Started` before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(super) enum Said {
    /// It has its files: fresh ones, or those of an earlier run.
    Started { recovering: bool, complete: u64 },
    /// What came of the positions.
    Fed { emissions: Vec<Emission> },
    /// The checkpoint that was begun.
    Begun { id: u64 },
    /// Anything else is done.
    Done,
}

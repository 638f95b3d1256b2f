//! One worker: its epoch, its journals, its checkpoints.

use std::collections::BTreeMap;

use super::{
    checkpoint::{Checkpoint, CheckpointId},
    endpoint::Endpoint,
    ids::{JournalId, JournalName, WorkerId, WorkerRef},
    rejected::Rejected,
    token::Epoch,
};

/// How a worker got its epoch: what a fenced predecessor is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Succession {
    /// Who took over, in its own words; for people.
    pub by: String,
    /// The proposer's wall clock, in milliseconds since 1970; for people.
    pub at_unix_ms: u64,
    /// The log index of the takeover.
    pub log_index: u64,
}

/// The replicated record of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Its name.
    pub name: WorkerRef,
    /// Its incarnation.
    pub epoch: Epoch,
    /// How it came to that epoch.
    pub succession: Succession,
    /// Where it is reached; `None` until somebody says so.
    pub endpoint: Option<Endpoint>,
    /// Its journals by name.
    pub journals: BTreeMap<JournalName, JournalId>,
    /// Its durable checkpoints.
    pub checkpoints: BTreeMap<CheckpointId, Checkpoint>,
}

impl Worker {
    /// Refuses every epoch but the current one.
    ///
    /// # Errors
    /// `EpochFenced`, which says who took over, when and where in the log.
    pub fn fence(&self, held: Epoch) -> Result<(), Rejected> {
        if held == self.epoch {
            return Ok(());
        }
        Err(Rejected::EpochFenced {
            worker: self.name.clone(),
            held,
            current: self.epoch,
            succession: self.succession.clone(),
        })
    }

    /// The generation of its endpoint; 0 while there is none.
    #[must_use]
    pub fn endpoint_generation(&self) -> u64 {
        let endpoint = self.endpoint.as_ref();
        endpoint.map_or(0, |endpoint| endpoint.generation)
    }

    /// The newest durable checkpoint.
    #[must_use]
    pub fn newest_checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoints
            .last_key_value()
            .map(|(_, checkpoint)| checkpoint)
    }
}

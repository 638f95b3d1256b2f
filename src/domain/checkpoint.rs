//! A checkpoint: the point up to which a worker's journals belong together.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{
    ids::{JournalId, NameError},
    offset::Offset,
};

/// Which checkpoint: ordered by rollback epoch, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CheckpointId {
    /// How often the application has rolled back.
    pub rollback_epoch: u64,
    /// The application's number.
    pub number: u64,
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.rollback_epoch, self.number))
    }
}

impl FromStr for CheckpointId {
    type Err = NameError;
    /// `EPOCH:NUMBER`, or `NUMBER` alone for rollback epoch 0.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (epoch, number) = text.split_once(':').unwrap_or(("0", text));
        match (epoch.parse(), number.parse()) {
            (Ok(rollback_epoch), Ok(number)) => Ok(Self {
                rollback_epoch,
                number,
            }),
            _ => Err(NameError::NotAnId {
                what: "a checkpoint id",
                text: text.to_owned(),
                expected: "42 or 0:42",
            }),
        }
    }
}

/// A durable checkpoint of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which one.
    pub id: CheckpointId,
    /// Up to where it covers each journal. A journal that is not here is covered up to 0.
    pub offsets: BTreeMap<JournalId, Offset>,
    /// The log index that committed it: a member that has applied it can serve it.
    pub log_index: u64,
    /// The proposer's wall clock, in milliseconds since 1970: for people, never for decisions.
    pub at_unix_ms: u64,
    /// It was read out of a legacy worker's journals; no call has committed it.
    pub found: bool,
}

impl Checkpoint {
    /// Up to where it covers a journal.
    #[must_use]
    pub fn covered(&self, journal: JournalId) -> Offset {
        self.offsets.get(&journal).copied().unwrap_or_default()
    }
}

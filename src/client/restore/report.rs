//! What a restore tells.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{LegacyReport, fetch::Fetched};
use crate::{
    client::replay::Refusal,
    domain::{CheckpointId, Epoch, JournalKind, JournalName, Offset, TakenOver},
};

/// One journal that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredJournal {
    /// Its name, which is also its file's name in the directory.
    pub name: JournalName,
    /// What was done with it: `ops` were replayed too.
    pub kind: JournalKind,
    /// Its length here and in the cluster.
    pub bytes: u64,
    /// Bytes fetched from each member, by client address.
    pub members: BTreeMap<String, u64>,
    /// Records replayed.
    pub records: u64,
    /// Records of a newer version or an unknown op, which were passed over.
    pub unknown_records: u64,
}

impl RestoredJournal {
    /// Every journal of a takeover. `records` answers how many of a journal's records were replayed, and how many passed over.
    pub(super) fn all(
        taken: &TakenOver,
        mut fetched: Fetched,
        records: impl Fn(&JournalName) -> (u64, u64),
    ) -> Vec<Self> {
        let journal = |(name, (_, kind, tail)): (&JournalName, &(_, JournalKind, Offset))| {
            let (records, unknown_records) = records(name);
            Self {
                name: name.clone(),
                kind: *kind,
                bytes: tail.0,
                members: fetched.remove(name).unwrap_or_default(),
                records,
                unknown_records,
            }
        };
        taken.journals.iter().map(journal).collect()
    }
}

/// A path that an op named and that was not touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPath {
    /// The journal.
    pub journal: JournalName,
    /// As the journal spells it; what is no UTF-8 is replaced.
    pub path: String,
    /// Where its first refused record begins.
    pub offset: Offset,
    /// Why.
    pub why: RefusalReason,
    /// How many records named it so.
    pub records: u64,
}

/// Why a path was not touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// What it offends against.
    #[error(transparent)]
    Path(Refusal),
    /// The name is not an op's to use.
    #[error("the name is taken by a journal or the identity")]
    Reserved,
    /// A journal whose own file could not be in the directory.
    #[error("the journal's name is taken by the identity: read it with `dos-cluster journal read`")]
    ReservedJournal,
    /// No file of a legacy worker.
    #[error("it is no file of this worker in its directory")]
    NotThisWorkers,
    /// A write that ends where no file can reach; in the words of the replay.
    #[error("{0}")]
    Range(String),
}

/// A last record that was not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The journal.
    pub journal: JournalName,
    /// Where the record begins.
    pub at: Offset,
    /// How much of it was there, in bytes.
    pub bytes: u64,
    /// Whether it was cut off, here and in the cluster. It is not when a checkpoint covers it: then the journal ends here
    /// for good, and the worker goes on in another one.
    pub cut: bool,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// The directory.
    pub directory: PathBuf,
    /// The epoch of the new incarnation.
    pub epoch: Epoch,
    /// The checkpoint that the files are at; `None` for the latest bytes.
    pub checkpoint: Option<CheckpointId>,
    /// The takeover's log index.
    pub log_index: u64,
    /// The journals, by name.
    pub journals: Vec<RestoredJournal>,
    /// Files that the ops made and did not remove again.
    pub files: u64,
    /// Paths that were refused; the first thousand. A journal whose own name is taken is one of them, and was not replayed.
    pub refused: Vec<RefusedPath>,
    /// Last records that were not whole.
    pub torn: Vec<TornTail>,
    /// Directories of this restore or of earlier ones, beside `directory`, that could not be removed.
    pub left: Vec<PathBuf>,
    /// How long it took.
    pub elapsed: Duration,
    /// What there is to say of a legacy worker; `None` for any other.
    pub legacy: Option<LegacyReport>,
}

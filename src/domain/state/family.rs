//! The journals of a legacy worker that belong together, and where they may be cut for it to be restarted.

use std::collections::BTreeMap;

use super::{Change, State};
use crate::domain::{
    CheckpointId, Journal, JournalId, JournalName, Offset, Worker, WorkerId,
    legacy::{self, LegacyFamily, LegacyName, LegacyPart},
    scan::{Found, JournalScan},
};

/// The journals of one application and worker.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) owner: WorkerId,
    pub(super) ops: JournalId,
    /// The parts of the event log, in its order: where each begins, unless the log is not rotated.
    pub(super) logs: Vec<(Option<u64>, JournalId)>,
}

/// One entry of `.checkpoint_ids`: the checkpoint that it calls complete, and where its record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: CheckpointId,
    pub(super) at: Offset,
    pub(super) end: Offset,
    /// The run of the worker that it is of.
    pub(super) run: u64,
}

impl Entry {
    fn of(scan: &JournalScan, found: &Found) -> Option<Self> {
        match found {
            Found::Ids { ids, at, end } => Some(Self {
                id: CheckpointId {
                    rollback_epoch: ids.rollback,
                    number: ids.complete,
                },
                at: *at,
                end: *end,
                run: scan.run_of(found),
            }),
            Found::Written { .. } | Found::Ended { .. } => None,
        }
    }
}

pub(super) fn name_of(journal: &Journal) -> Option<LegacyName<'_>> {
    LegacyName::of(journal.name.as_str(), journal.kind)
}

impl State {
    /// The ops journal of a family, by its name.
    pub(super) fn ops_of(&self, worker: &Worker, prefix: &str) -> Option<&Journal> {
        let name = JournalName::new(&legacy::ops_name(prefix)).ok()?;
        let journal = self.journals.get(worker.journals.get(&name)?)?;
        let part = name_of(journal)?.part;
        (part == LegacyPart::Ops).then_some(journal)
    }

    /// The family of an ops journal. Takes time with the worker's journals.
    pub(super) fn family(&self, worker: &Worker, prefix: &str, ops: JournalId) -> Family {
        let found = self.families(worker).remove(prefix);
        Family {
            owner: worker.id,
            ops,
            logs: found.map(|found| found.logs).unwrap_or_default(),
        }
    }

    /// Whose journal it is, and the family that it is in; `None` when it is in none.
    pub(super) fn family_of(
        &self,
        journal: JournalId,
    ) -> Option<(WorkerId, LegacyFamily<JournalId>)> {
        let journal = self.journals.get(&journal)?;
        let worker = self.workers.get(&journal.owner)?;
        let prefix = name_of(journal)?.prefix;
        Some((worker.id, self.families(worker).remove(prefix)?))
    }

    /// A worker's families, by their prefix. Takes time with its journals.
    pub(super) fn families(&self, worker: &Worker) -> BTreeMap<&str, LegacyFamily<JournalId>> {
        let journals = worker.journals.values();
        let journals = journals.filter_map(|id| self.journals.get(id));
        legacy::families(journals.map(|journal| (journal.name.as_str(), journal.kind, journal.id)))
    }

    /// The entries of `.checkpoint_ids` that wait for their counterpart in the event log.
    pub(super) fn entries(&self, ops: JournalId) -> Vec<Entry> {
        let scan = self.journals.get(&ops).and_then(|ops| ops.scan.as_ref());
        let entries = scan.into_iter().flat_map(|scan| {
            let waiting = scan.waiting.iter();
            waiting.filter_map(|found| Entry::of(scan, found))
        });
        entries.collect()
    }

    /// Where the journals of a legacy worker are to be cut for it to go on when it is restarted on them: behind the last whole
    /// entry of each, and the ops journal before an entry that calls a checkpoint complete which the event log does not hold, for
    /// the worker would look for it there and give up. What a checkpoint covers stays. Only journals that are longer are named.
    pub fn restart_cuts(&self, worker: &Worker) -> BTreeMap<JournalId, Offset> {
        let mut cuts = BTreeMap::new();
        for found in self.families(worker).into_values() {
            let Some(ops) = found.ops.filter(|_| !found.logs.is_empty()) else {
                continue; // its journals only happen to be named so
            };
            let owner = worker.id;
            let logs = found.logs;
            let family = Family { owner, ops, logs };
            let run = self.run_of(&family);
            let lacks = |entry: &Entry| entry.run > run || !self.is_told(&family, *entry);
            let lacking = self.entries(ops).into_iter().find(lacks);
            let lacking = (ops, lacking.map(|entry| entry.at));
            let logs = family.logs.iter().map(|(_, log)| (*log, None));
            for (journal, end) in logs.chain([lacking]) {
                cuts.extend(Some(journal).zip(self.restart_cut(worker, journal, end)));
            }
        }
        cuts
    }

    fn restart_cut(&self, worker: &Worker, id: JournalId, end: Option<Offset>) -> Option<Offset> {
        let journal = self.journals.get(&id)?;
        let boundary = journal.scan.as_ref().and_then(|scan| scan.boundary());
        let at = boundary.into_iter().chain(end).min()?;
        let checkpoints = worker.checkpoints.values();
        let covered = checkpoints.map(|kept| kept.covered(id)).max();
        (at < journal.tail && covered.is_none_or(|covered| covered <= at)).then_some(at)
    }

    /// Cuts the journals of a legacy worker where it can go on.
    pub(super) fn cut_to_restart(&mut self, id: WorkerId, changes: &mut Vec<Change>) {
        for (journal, at) in self.restart_cuts(&self.workers[&id]) {
            let record = self.journals.get_mut(&journal);
            if record.is_some_and(|record| record.cut(at)) {
                changes.push(Change::Cut { journal, at });
            }
        }
    }
}

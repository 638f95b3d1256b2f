//! Checkpoints of legacy workers, which never tell of them: read out of what is committed.
//!
//! A checkpoint is complete when the event log holds its id, behind all its data, and the ops journal the entry of
//! `.checkpoint_ids` that says so. The two come over two connections, in any order; whichever bytes come last complete it.

use std::collections::BTreeMap;

use super::{
    Change, State,
    family::{Entry, Family, name_of},
};
use crate::domain::{Checkpoint, JournalId, Offset, scan::JournalScan};

impl State {
    /// Makes the checkpoints that new bytes of a scanned journal have completed; answers the journals whose finds they took.
    pub(super) fn find_checkpoints(
        &mut self,
        journal: JournalId,
        log_index: u64,
        at_unix_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Vec<JournalId> {
        let mut settled = Vec::new();
        let Some(family) = self.waiting_family(journal) else {
            return settled;
        };
        let run = self.run_of(&family);
        for entry in self.entries(family.ops) {
            if entry.run > run {
                break; // the event log is still in the run before
            }
            if entry.run < run || self.is_told(&family, entry) {
                self.settle(family.ops, entry.end, &mut settled);
                continue;
            }
            let Some((log, end)) = self.written(&family, entry.id.number) else {
                continue;
            };
            let checkpoint = Checkpoint {
                id: entry.id,
                offsets: self.covered_by(&family, entry, (log, end)),
                log_index,
                at_unix_ms,
                found: true,
            };
            self.settle(family.ops, entry.end, &mut settled);
            for (_, part) in &family.logs {
                let is_last = *part == log;
                let end = if is_last { end } else { Offset(u64::MAX) };
                self.settle(*part, end, &mut settled);
                if is_last {
                    break;
                }
            }
            let worker = self.worker_mut(family.owner);
            if worker.checkpoints.contains_key(&entry.id) {
                continue; // of another application's journals
            }
            worker.checkpoints.insert(entry.id, checkpoint);
            changes.push(Change::Checkpoint(family.owner, entry.id));
            self.drop_oldest_checkpoint(family.owner, changes);
        }
        settled
    }

    /// The family of a journal, if the ops journal in it has finds that wait; else nothing can have been completed.
    fn waiting_family(&self, journal: JournalId) -> Option<Family> {
        let journal = self.journals.get(&journal)?;
        let worker = self.workers.get(&journal.owner)?;
        let prefix = name_of(journal)?.prefix;
        let ops = self.ops_of(worker, prefix)?;
        let scan = ops.scan.as_ref()?;
        (!scan.waiting.is_empty()).then(|| self.family(worker, prefix, ops.id))
    }

    /// Whether an entry says nothing new: it is as old as what is known, or says again, after a rollback, what was complete
    /// before. A number that the event log used again is another checkpoint.
    pub(super) fn is_told(&self, family: &Family, entry: Entry) -> bool {
        let known = self.workers[&family.owner].checkpoints.values();
        let mut known = known.filter(|known| known.offsets.contains_key(&family.ops));
        let is_older = |known: &Checkpoint| known.id >= entry.id;
        let is_same = |known: &Checkpoint| known.id.number == entry.id.number;
        let is_reused = || self.is_reused(family, entry.id.number);
        known.any(|known| is_older(known) || is_same(known) && !is_reused())
    }

    /// The run of the worker that its event log is in. An entry of another run is no counterpart of anything in it.
    pub(super) fn run_of(&self, family: &Family) -> u64 {
        let first = family.logs.first().and_then(|(_, first)| self.scan(first));
        first.map_or(0, |first| first.ended_runs)
    }

    fn scan(&self, journal: &JournalId) -> Option<&JournalScan> {
        self.journals.get(journal)?.scan.as_ref()
    }

    fn is_reused(&self, family: &Family, number: u64) -> bool {
        let mut parts = family.logs.iter().filter_map(|(_, log)| self.scan(log));
        let mut newest = None;
        parts.any(|part| {
            let before = newest.max(part.newest());
            let is_low = std::mem::replace(&mut newest, before) >= Some(number);
            part.reused.contains(&number) || is_low && part.written(number).is_some()
        })
    }

    /// The part of the event log that holds the id of a checkpoint, and where; `None` while it, or something of the checkpoint
    /// before it, is missing, or when the id was used before: the worker takes the first entry of an id.
    fn written(&self, family: &Family, number: u64) -> Option<(JournalId, Offset)> {
        let mut place = 0;
        let end = loop {
            let (_, log) = family.logs.get(place)?;
            let scan = self.scan(log)?;
            if let Some(end) = scan.written(number) {
                break end;
            }
            if scan.newest() >= Some(number) {
                return None;
            }
            place += 1;
        };
        let (_, log) = *family.logs.get(place)?;
        self.is_whole_before(family, place).then_some((log, end))
    }

    /// Whether nothing is missing between a part of the event log and the id before it. The parts come over connections of their
    /// own; the name of each says how many bytes come before it.
    fn is_whole_before(&self, family: &Family, place: usize) -> bool {
        for (before, part) in family
            .logs
            .iter()
            .zip(family.logs.iter().skip(1))
            .take(place)
            .rev()
        {
            let Some(journal) = self.journals.get(&before.1) else {
                return false;
            };
            if let (Some(from), Some(to)) = (before.0, part.0)
                && journal.tail.0 < to.saturating_sub(from)
            {
                return false;
            }
            if journal
                .scan
                .as_ref()
                .and_then(JournalScan::newest)
                .is_some()
            {
                break;
            }
        }
        true
    }

    /// What a checkpoint covers: the ops journal, and the event log up to the part that holds its id.
    fn covered_by(
        &self,
        family: &Family,
        entry: Entry,
        (log, end): (JournalId, Offset),
    ) -> BTreeMap<JournalId, Offset> {
        let parts = family.logs.iter().map(|(_, part)| *part);
        let earlier = parts.take_while(|part| *part != log);
        let tail = |id: JournalId| Some((id, self.journals.get(&id)?.tail));
        let mut offsets: BTreeMap<_, _> = earlier.filter_map(tail).collect();
        offsets.insert(log, end);
        offsets.insert(family.ops, entry.end);
        offsets
    }

    /// A new run of the worker began in the event log: the checkpoints of the one before are gone with its files. Answers the
    /// journals whose finds went with them.
    pub(super) fn forget_run(
        &mut self,
        journal: JournalId,
        changes: &mut Vec<Change>,
    ) -> Vec<JournalId> {
        let Some((owner, family)) = self.family_of(journal) else {
            return Vec::new();
        };
        if family.ops == Some(journal) {
            return Vec::new(); // until the new run has begun, the worker can be restored to the one before
        }
        let worker = self.worker_mut(owner);
        let is_old = |known: &Checkpoint| known.found && known.covered(journal) > Offset::ZERO;
        let dropped = worker.checkpoints.extract_if(.., |_, known| is_old(known));
        changes.extend(dropped.map(|(id, _)| Change::Checkpoint(owner, id)));
        let later: Vec<_> = family.logs.into_iter().map(|(_, log)| log).collect();
        let later = later.into_iter().skip_while(|log| *log != journal).skip(1);
        later
            .inspect(|log| {
                let record = self.journals.get_mut(log);
                if let Some(scan) = record.and_then(|record| record.scan.as_mut()) {
                    scan.outlive_run();
                }
            })
            .collect()
    }

    /// Forgets the finds of a journal up to `end`.
    fn settle(&mut self, journal: JournalId, end: Offset, settled: &mut Vec<JournalId>) {
        let record = self.journals.get_mut(&journal);
        if let Some(scan) = record.and_then(|record| record.scan.as_mut()) {
            scan.settle(end);
            settled.push(journal);
        }
    }
}

//! Journals: appended to, opened, fenced, cut.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, State};
use crate::domain::{
    Append, AppendBatch, Appended, FencingToken, Journal, JournalId, JournalKind, JournalName,
    JournalRef, Offset, OpenJournal, OpenedJournal, Outcome, Rejected, Truncate, WorkerId, Writer,
    journal::AppendDecision, limits::JOURNALS_PER_WORKER_MAX, rejected::what, scan::JournalScan,
};

/// The journals that a batch has appended to.
#[derive(Debug, Default)]
struct Touched {
    journals: BTreeSet<JournalId>,
    /// Those that are scanned.
    scanned: BTreeSet<JournalId>,
    /// Those in which a run of their worker has ended.
    ended: BTreeSet<JournalId>,
}

impl State {
    pub(super) fn append_all(
        &mut self,
        log_index: u64,
        batch: &AppendBatch,
        changes: &mut Vec<Change>,
    ) -> Vec<Result<Appended, Rejected>> {
        let mut touched = Touched::default();
        let answers = batch
            .appends
            .iter()
            .map(|append| self.append(append, &mut touched, changes))
            .collect();
        for journal in touched.ended {
            touched.journals.extend(self.forget_run(journal, changes));
        }
        for journal in touched.scanned {
            let found = self.find_checkpoints(journal, log_index, batch.at_unix_ms, changes);
            touched.journals.extend(found);
        }
        changes.extend(touched.journals.into_iter().map(Change::Journal));
        answers
    }

    fn append(
        &mut self,
        append: &Append,
        touched: &mut Touched,
        changes: &mut Vec<Change>,
    ) -> Result<Appended, Rejected> {
        let id = append.journal;
        let journal = self
            .journals
            .get_mut(&id)
            .ok_or(Rejected::UnknownJournalId { journal: id })?;
        // The epoch first: its refusal says who took over, when and where.
        if let Some(owner) = self.workers.get(&journal.owner) {
            owner.fence(append.token.epoch)?;
        }
        let range = match journal.append(append.token, append.at, append.data.len())? {
            AppendDecision::Write(range) => {
                touched.journals.insert(id);
                if let Some(scan) = &mut journal.scan {
                    let ended_runs = scan.ended_runs;
                    scan.push(&append.data);
                    touched.scanned.insert(id);
                    if scan.ended_runs > ended_runs {
                        touched.ended.insert(id);
                    }
                }
                changes.push(Change::Chunk {
                    journal: id,
                    at: range.from,
                    data: append.data.clone(),
                });
                range
            }
            AppendDecision::Duplicate(range) => range,
        };
        Ok(Appended {
            range,
            tail: journal.tail,
        })
    }

    pub(super) fn open_journal(
        &mut self,
        open: &OpenJournal,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&open.journal.owner)?;
        worker.fence(open.epoch)?;
        let known = worker.journals.get(&open.journal.journal);
        let mut journal = match known {
            Some(id) => self.journals[id].clone(),
            None if worker.journals.len() >= JOURNALS_PER_WORKER_MAX => {
                return Err(Rejected::TooMany {
                    what: what::JOURNALS,
                    count_max: JOURNALS_PER_WORKER_MAX as u64,
                });
            }
            None => Journal {
                id: JournalId(self.counters.next_journal),
                owner: worker.id,
                name: open.journal.journal.clone(),
                kind: open.kind,
                token: FencingToken {
                    epoch: open.epoch,
                    writer: self.counters.last_deleted_writer,
                },
                writer_from: Offset::ZERO,
                writer_open: false,
                opener: 0,
                opened_over: Writer(0),
                tail: Offset::ZERO,
                cuts: 0,
                scan: JournalScan::of(open.journal.journal.as_str(), open.kind),
            },
        };
        if journal.kind != open.kind {
            return Err(Rejected::WrongKind {
                journal: open.journal.clone(),
                has: journal.kind,
                wanted: open.kind,
            });
        }
        let newest = known.map_or(Writer(0), |_| journal.token.writer);
        let was_seen = |over| over == newest || journal.was_opened_by(open.opener, over);
        if let Some(over) = open.over.filter(|over| !was_seen(*over)) {
            return Err(Rejected::OpenedMeanwhile {
                journal: open.journal.clone(),
                over,
                newest,
            });
        }
        let (id, tail) = (journal.id, journal.tail);
        if let Some(at) = open.expected.filter(|at| *at != tail) {
            return Err(Rejected::WrongOffset {
                journal: id,
                at,
                tail,
            });
        }
        // Nothing is refused any more: from here on the state changes.
        if known.is_none() {
            self.counters.next_journal += 1;
        }
        journal.open(journal.next_token(open.epoch), open.opener, newest);
        let token = journal.token;
        self.put_journal(journal);
        changes.push(Change::Journal(id));
        Ok(Outcome::JournalOpened(OpenedJournal {
            journal: id,
            token,
            tail,
        }))
    }

    /// The journals that are being appended to, with their writers.
    pub fn open_writers(&self) -> impl Iterator<Item = (JournalId, FencingToken)> {
        let journals = self.journals.values();
        let open = journals.filter(|journal| journal.writer_open);
        open.map(|journal| (journal.id, journal.token))
    }

    pub(super) fn close_writers(
        &mut self,
        writers: &[(JournalId, FencingToken)],
        changes: &mut Vec<Change>,
    ) -> Outcome {
        for (id, token) in writers {
            if let Some(journal) = self.journals.get_mut(id)
                && journal.close(*token)
            {
                changes.push(Change::Journal(*id));
            }
        }
        Outcome::WritersClosed
    }

    /// Gives every journal of a worker a token under the worker's epoch, which fences all writers; answers their tails.
    pub(super) fn fence_journals(
        &mut self,
        owner: WorkerId,
        changes: &mut Vec<Change>,
    ) -> BTreeMap<JournalName, (JournalId, JournalKind, Offset)> {
        let worker = &self.workers[&owner];
        let mut fenced = BTreeMap::new();
        for (name, id) in &worker.journals {
            if let Some(journal) = self.journals.get_mut(id) {
                journal.fence(journal.next_token(worker.epoch));
                changes.push(Change::Journal(*id));
                fenced.insert(name.clone(), (*id, journal.kind, journal.tail));
            }
        }
        fenced
    }

    pub(super) fn truncate(
        &mut self,
        truncate: &Truncate,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&truncate.journal.owner)?;
        worker.fence(truncate.epoch)?;
        let journal = self.journal(&truncate.journal)?;
        let (id, at, tail) = (journal.id, truncate.at, journal.tail);
        if at > tail {
            return Err(Rejected::WrongOffset {
                journal: id,
                at,
                tail,
            });
        }
        // Every checkpoint, for a newer one may cover less than an older.
        let mut newest_first = worker.checkpoints.values().rev();
        if let Some(checkpoint) = newest_first.find(|checkpoint| checkpoint.covered(id) > at) {
            return Err(Rejected::CutBelowCheckpoint {
                journal: truncate.journal.clone(),
                at,
                id: checkpoint.id,
                covered: checkpoint.covered(id),
            });
        }
        if let Some(journal) = self.journals.get_mut(&id)
            && journal.cut(at)
        {
            journal.fence(journal.next_token(truncate.epoch));
            changes.push(Change::Cut { journal: id, at });
            changes.push(Change::Journal(id));
        }
        Ok(Outcome::Truncated { tail: at })
    }

    /// Removes a journal, whoever writes it, and the checkpoints that cover bytes of it: they could not be restored any more.
    pub(super) fn delete_journal(
        &mut self,
        name: &JournalRef,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let journal = self.journal(name)?;
        let (id, owner, tail) = (journal.id, journal.owner, journal.tail);
        // Whoever saw a writer of it must not take it for one of the journal that is made in its place.
        self.counters.last_deleted_writer =
            self.counters.last_deleted_writer.max(journal.token.writer);
        let worker = self.worker_mut(owner);
        worker.journals.remove(&name.journal);
        let dropped = worker
            .checkpoints
            .extract_if(.., |_, checkpoint| checkpoint.covered(id) > Offset::ZERO);
        changes.extend(dropped.map(|(checkpoint, _)| Change::Checkpoint(owner, checkpoint)));
        for checkpoint in worker.checkpoints.values_mut() {
            if checkpoint.offsets.remove(&id).is_some() {
                changes.push(Change::Checkpoint(owner, checkpoint.id));
            }
        }
        self.journals.remove(&id);
        if tail > Offset::ZERO {
            changes.push(Change::Cut {
                journal: id,
                at: Offset::ZERO,
            });
        }
        changes.push(Change::Journal(id));
        Ok(Outcome::JournalDeleted)
    }
}

//! The replicated state and the one function that changes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    checkpoint::{Checkpoint, CheckpointId},
    command::{
        Append, Appended, Command, CommitCheckpoint, OpenJournal, OpenWorker, OpenedJournal,
        Outcome, RestorePoint, TakenOver, Takeover, Truncate,
    },
    ids::{JobName, JournalId, JournalRef, NodeId, WorkerId, WorkerRef},
    journal::{AppendDecision, Journal},
    limits::{CHECKPOINTS_PER_WORKER_MAX, JOURNALS_PER_WORKER_MAX, NAME_BYTES_MAX, WORKERS_MAX},
    member::Member,
    offset::Offset,
    recovery_line::{Line, recovery_line},
    rejected::Rejected,
    token::{Epoch, FencingToken, Writer},
    worker::{Succession, Worker},
};

/// What a command changed: the store writes these, in order, in one batch with the applied log id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The worker's record.
    Worker(WorkerId),
    /// The journal's record.
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

/// Numbers given out so far, and the chained hash of all commands applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// The next worker's number.
    pub next_worker: u64,
    /// The next journal's number.
    pub next_journal: u64,
    /// The next node's number.
    pub next_node: u64,
    /// Equal on two members that have applied the same log.
    pub hash: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            next_worker: 1,
            next_journal: 1,
            next_node: 1,
            hash: 0,
        }
    }
}

/// Everything replicated but the journals' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    counters: Counters,
    workers: BTreeMap<WorkerId, Worker>,
    worker_ids: BTreeMap<WorkerRef, WorkerId>,
    journals: BTreeMap<JournalId, Journal>,
    members: BTreeMap<NodeId, Member>,
}

impl State {
    /// Puts a state together from stored records. Checkpoints and journals are inside their workers' records here.
    #[must_use]
    pub fn from_records(
        counters: Counters,
        workers: impl IntoIterator<Item = Worker>,
        journals: impl IntoIterator<Item = Journal>,
        checkpoints: impl IntoIterator<Item = (WorkerId, Checkpoint)>,
        members: impl IntoIterator<Item = Member>,
    ) -> Self {
        let mut state = Self {
            counters,
            ..Self::default()
        };
        for worker in workers {
            state.worker_ids.insert(worker.name.clone(), worker.id);
            state.workers.insert(worker.id, worker);
        }
        for journal in journals {
            if let Some(owner) = state.workers.get_mut(&journal.owner) {
                owner.journals.insert(journal.name.clone(), journal.id);
            }
            state.journals.insert(journal.id, journal);
        }
        for (worker, checkpoint) in checkpoints {
            if let Some(worker) = state.workers.get_mut(&worker) {
                worker.checkpoints.insert(checkpoint.id, checkpoint);
            }
        }
        state.members = members
            .into_iter()
            .map(|member| (member.node, member))
            .collect();
        state
    }

    /// The counters, as stored.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A worker by number.
    #[must_use]
    pub fn worker_by_id(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// A worker by name.
    ///
    /// # Errors
    /// `UnknownJob` or `UnknownWorker`.
    pub fn worker(&self, name: &WorkerRef) -> Result<&Worker, Rejected> {
        if let Some(id) = self.worker_ids.get(name) {
            return Ok(&self.workers[id]);
        }
        self.job(&name.job)?;
        Err(Rejected::UnknownWorker {
            worker: name.clone(),
        })
    }

    /// The workers of a job, by name; at least one.
    ///
    /// # Errors
    /// `UnknownJob`.
    pub fn job(&self, job: &JobName) -> Result<Vec<&Worker>, Rejected> {
        let workers: Vec<_> = self
            .workers()
            .filter(|worker| worker.name.job == *job)
            .collect();
        if workers.is_empty() {
            Err(Rejected::UnknownJob { job: job.clone() })
        } else {
            Ok(workers)
        }
    }

    /// Every worker, by job and name.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> + Clone {
        self.worker_ids.values().map(|id| &self.workers[id])
    }

    /// A journal by number.
    #[must_use]
    pub fn journal_by_id(&self, id: JournalId) -> Option<&Journal> {
        self.journals.get(&id)
    }

    /// A journal by name.
    ///
    /// # Errors
    /// `UnknownJob`, `UnknownWorker` or `UnknownJournal`.
    pub fn journal(&self, name: &JournalRef) -> Result<&Journal, Rejected> {
        let worker = self.worker(&name.owner)?;
        let id = worker
            .journals
            .get(&name.journal)
            .ok_or_else(|| Rejected::UnknownJournal {
                journal: name.clone(),
            })?;
        Ok(&self.journals[id])
    }

    /// Every journal, by number.
    pub fn journals(&self) -> impl Iterator<Item = &Journal> {
        self.journals.values()
    }

    /// Every member known, by number.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member by number.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// The full name of a journal.
    #[must_use]
    pub fn journal_ref(&self, journal: &Journal) -> Option<JournalRef> {
        Some(
            self.workers
                .get(&journal.owner)?
                .name
                .journal(journal.name.clone()),
        )
    }

    /// The recovery line of a job.
    ///
    /// # Errors
    /// `UnknownJob`; `NoRecoveryLine`, which names the workers that hold it back.
    pub fn line(&self, job: &JobName) -> Result<Line, Rejected> {
        let workers = self.job(job)?;
        recovery_line(workers.iter().copied()).ok_or_else(|| {
            let bare = workers
                .iter()
                .filter(|worker| worker.checkpoints.is_empty());
            let mut late: Vec<_> = bare.map(|worker| worker.name.worker.clone()).collect();
            if late.is_empty() {
                late = workers
                    .iter()
                    .map(|worker| worker.name.worker.clone())
                    .collect();
            }
            Rejected::NoRecoveryLine {
                job: job.clone(),
                late,
            }
        })
    }

    /// Applies one command; the answer is the same on every member. `digest` is a checksum of the encoded command: it is
    /// chained into [`Counters::hash`]. What changed is added to `changes`; nothing is when the command was refused.
    ///
    /// # Errors
    /// The rejection, with no effect but the hash.
    pub fn apply(
        &mut self,
        log_index: u64,
        digest: u32,
        command: &Command,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        self.counters.hash = chain(self.counters.hash, log_index, digest);
        match command {
            Command::Append(appends) => Ok(Outcome::Appended(self.append_all(appends, changes))),
            Command::OpenWorker(open) => self.open_worker(log_index, open, changes),
            Command::OpenJournal(open) => self.open_journal(open, changes),
            Command::CommitCheckpoint(commit) => self.commit_checkpoint(log_index, commit, changes),
            Command::Takeover(takeover) => self.take_over(log_index, takeover, changes),
            Command::Truncate(truncate) => self.truncate(truncate, changes),
            Command::AllocateNode => {
                let node = NodeId(self.counters.next_node);
                self.counters.next_node += 1;
                Ok(Outcome::NodeAllocated(node))
            }
            Command::AnnounceMember(member) => self.announce(member, changes),
        }
    }

    /// Follows a membership entry: members that are new in it are registered, members that left it are forgotten.
    pub fn follow_membership(
        &mut self,
        log_index: u64,
        members: &[Member],
        changes: &mut Vec<Change>,
    ) {
        self.counters.hash = chain(self.counters.hash, log_index, 0);
        let named: BTreeSet<_> = members.iter().map(|member| member.node).collect();
        let gone: Vec<_> = self
            .members
            .keys()
            .filter(|node| !named.contains(node))
            .copied()
            .collect();
        for node in gone {
            self.members.remove(&node);
            changes.push(Change::Member(node));
        }
        for member in members {
            self.counters.next_node = self.counters.next_node.max(member.node.0 + 1);
            if !self.members.contains_key(&member.node) {
                self.members.insert(member.node, member.clone());
                changes.push(Change::Member(member.node));
            }
        }
    }

    fn append_all(
        &mut self,
        appends: &[Append],
        changes: &mut Vec<Change>,
    ) -> Vec<Result<Appended, Rejected>> {
        let mut touched = BTreeSet::new();
        let answers = appends
            .iter()
            .map(|append| self.append(append, &mut touched, changes))
            .collect();
        changes.extend(touched.into_iter().map(Change::Journal));
        answers
    }

    fn append(
        &mut self,
        append: &Append,
        touched: &mut BTreeSet<JournalId>,
        changes: &mut Vec<Change>,
    ) -> Result<Appended, Rejected> {
        let id = append.journal;
        let journal = self
            .journals
            .get_mut(&id)
            .ok_or(Rejected::UnknownJournalId { journal: id })?;
        if let Some(owner) = self.workers.get(&journal.owner) {
            owner.fence(append.token.epoch)?;
        }
        let range = match journal.append(append.token, append.at, append.data.len())? {
            AppendDecision::Write(range) => {
                touched.insert(id);
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

    fn open_worker(
        &mut self,
        log_index: u64,
        open: &OpenWorker,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        if let Some(id) = self.worker_ids.get(&open.worker) {
            let worker = &self.workers[id];
            if let Some(held) = open.epoch {
                worker.fence(held)?;
            }
            return Ok(Outcome::WorkerOpened {
                epoch: worker.epoch,
                created: false,
            });
        }
        if open.epoch.is_some() {
            return Err(Rejected::UnknownWorker {
                worker: open.worker.clone(),
            });
        }
        if self.workers.len() >= WORKERS_MAX {
            return Err(Rejected::TooMany {
                what: "workers",
                count_max: WORKERS_MAX as u64,
            });
        }
        let id = WorkerId(self.counters.next_worker);
        self.counters.next_worker += 1;
        let epoch = Epoch(1);
        let succession = Succession {
            by: "first open".to_owned(),
            at_unix_ms: open.at_unix_ms,
            log_index,
        };
        let worker = Worker {
            id,
            name: open.worker.clone(),
            epoch,
            succession,
            journals: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
        };
        self.workers.insert(id, worker);
        self.worker_ids.insert(open.worker.clone(), id);
        changes.push(Change::Worker(id));
        Ok(Outcome::WorkerOpened {
            epoch,
            created: true,
        })
    }

    fn open_journal(
        &mut self,
        open: &OpenJournal,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&open.journal.owner)?;
        worker.fence(open.epoch)?;
        let (owner, known, count) = (
            worker.id,
            worker.journals.get(&open.journal.journal).copied(),
            worker.journals.len(),
        );
        let id = known.unwrap_or(JournalId(self.counters.next_journal));
        let tail = self
            .journals
            .get(&id)
            .map_or(Offset::ZERO, |journal| journal.tail);
        if let Some(at) = open.expected.filter(|at| *at != tail) {
            return Err(Rejected::WrongOffset {
                journal: id,
                at,
                tail,
            });
        }
        if known.is_none() {
            if count >= JOURNALS_PER_WORKER_MAX {
                return Err(Rejected::TooMany {
                    what: "journals of this worker",
                    count_max: JOURNALS_PER_WORKER_MAX as u64,
                });
            }
            self.counters.next_journal += 1;
            let name = open.journal.journal.clone();
            let token = FencingToken {
                epoch: open.epoch,
                writer: Writer(0),
            };
            let journal = Journal {
                id,
                owner,
                name: name.clone(),
                kind: open.kind,
                token,
                writer_from: tail,
                tail,
                cuts: 0,
            };
            self.journals.insert(id, journal);
            if let Some(worker) = self.workers.get_mut(&owner) {
                worker.journals.insert(name, id);
            }
        }
        let journal = self
            .journals
            .get_mut(&id)
            .ok_or(Rejected::UnknownJournalId { journal: id })?;
        if journal.kind != open.kind {
            return Err(Rejected::WrongKind {
                journal: open.journal.clone(),
                has: journal.kind,
                wanted: open.kind,
            });
        }
        journal.open(journal.next_token(open.epoch));
        changes.push(Change::Journal(id));
        Ok(Outcome::JournalOpened(OpenedJournal {
            journal: id,
            token: journal.token,
            tail,
        }))
    }

    fn commit_checkpoint(
        &mut self,
        log_index: u64,
        commit: &CommitCheckpoint,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&commit.worker)?;
        worker.fence(commit.epoch)?;
        let mut offsets = BTreeMap::new();
        for (name, offset) in &commit.offsets {
            let journal = self.journal(&commit.worker.journal(name.clone()))?;
            if *offset > journal.tail {
                return Err(Rejected::CheckpointBeyondTail {
                    id: commit.id,
                    journal: commit.worker.journal(name.clone()),
                    offset: *offset,
                    tail: journal.tail,
                });
            }
            offsets.insert(journal.id, *offset);
        }
        if let Some(last) = worker.newest_checkpoint() {
            if last.id == commit.id && last.offsets == offsets {
                return Ok(Outcome::CheckpointCommitted {
                    log_index: last.log_index,
                });
            }
            if last.id >= commit.id {
                return Err(Rejected::CheckpointNotNewer {
                    worker: commit.worker.clone(),
                    id: commit.id,
                    last: last.id,
                });
            }
        }
        let id = worker.id;
        self.make_room_for_checkpoint(id, changes)?;
        let checkpoint = Checkpoint {
            id: commit.id,
            offsets,
            log_index,
            at_unix_ms: commit.at_unix_ms,
        };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.checkpoints.insert(commit.id, checkpoint);
        }
        changes.push(Change::Checkpoint(id, commit.id));
        Ok(Outcome::CheckpointCommitted { log_index })
    }

    /// Drops the oldest checkpoint when the bound is reached, but never the recovery line or a newer one.
    fn make_room_for_checkpoint(
        &mut self,
        id: WorkerId,
        changes: &mut Vec<Change>,
    ) -> Result<(), Rejected> {
        let worker = &self.workers[&id];
        if worker.checkpoints.len() < CHECKPOINTS_PER_WORKER_MAX {
            return Ok(());
        }
        let line = self.line(&worker.name.job).ok().map(|line| line.id);
        let oldest = worker.checkpoints.keys().next().copied();
        let Some(drop) = oldest.filter(|oldest| line.is_some_and(|line| *oldest < line)) else {
            let what = "checkpoints ahead of the job's recovery line";
            return Err(Rejected::TooMany {
                what,
                count_max: CHECKPOINTS_PER_WORKER_MAX as u64,
            });
        };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.checkpoints.remove(&drop);
        }
        changes.push(Change::Checkpoint(id, drop));
        Ok(())
    }

    fn take_over(
        &mut self,
        log_index: u64,
        takeover: &Takeover,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&takeover.worker)?;
        if let Some(expected) = takeover.expected_epoch {
            worker.fence(expected)?;
        }
        let id = worker.id;
        let point = match takeover.point {
            RestorePoint::Latest => None,
            RestorePoint::Line => Some(self.line(&takeover.worker.job)?.id),
            RestorePoint::Checkpoint(id) => Some(id),
        };
        let cuts = match point {
            None => None,
            Some(point) => {
                let unknown = || Rejected::UnknownCheckpoint {
                    worker: takeover.worker.clone(),
                    id: point,
                };
                Some(
                    worker
                        .checkpoints
                        .get(&point)
                        .ok_or_else(unknown)?
                        .offsets
                        .clone(),
                )
            }
        };
        let mut by = takeover.by.clone();
        by.truncate(by.floor_char_boundary(NAME_BYTES_MAX));
        let Some(worker) = self.workers.get_mut(&id) else {
            return Err(Rejected::UnknownWorker {
                worker: takeover.worker.clone(),
            });
        };
        worker.epoch = Epoch(worker.epoch.0 + 1);
        worker.succession = Succession {
            by,
            at_unix_ms: takeover.at_unix_ms,
            log_index,
        };
        if let Some(point) = point {
            let dropped: Vec<_> = worker
                .checkpoints
                .keys()
                .filter(|id| **id > point)
                .copied()
                .collect();
            for later in dropped {
                worker.checkpoints.remove(&later);
                changes.push(Change::Checkpoint(id, later));
            }
        }
        changes.push(Change::Worker(id));
        let epoch = worker.epoch;
        let mut journals = BTreeMap::new();
        for (name, journal_id) in worker.journals.clone() {
            let Some(journal) = self.journals.get_mut(&journal_id) else {
                continue;
            };
            if let Some(cuts) = &cuts {
                let at = cuts.get(&journal_id).copied().unwrap_or_default();
                if journal.cut(at) {
                    changes.push(Change::Cut {
                        journal: journal_id,
                        at,
                    });
                }
            }
            journal.open(journal.next_token(epoch));
            changes.push(Change::Journal(journal_id));
            journals.insert(name, (journal_id, journal.kind, journal.tail));
        }
        Ok(Outcome::TakenOver(TakenOver {
            epoch,
            checkpoint: point,
            journals,
            log_index,
        }))
    }

    fn truncate(
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
        if let Some(last) = worker.newest_checkpoint()
            && let Some(covered) = last.offsets.get(&id).filter(|covered| **covered > at)
        {
            return Err(Rejected::CutBelowCheckpoint {
                journal: truncate.journal.clone(),
                at,
                id: last.id,
                covered: *covered,
            });
        }
        if let Some(journal) = self.journals.get_mut(&id)
            && journal.cut(at)
        {
            journal.open(journal.next_token(truncate.epoch));
            changes.push(Change::Cut { journal: id, at });
            changes.push(Change::Journal(id));
        }
        Ok(Outcome::Truncated { tail: at })
    }

    fn announce(
        &mut self,
        member: &Member,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let known = self
            .members
            .get_mut(&member.node)
            .ok_or(Rejected::UnknownMember { node: member.node })?;
        if known.incarnation != member.incarnation {
            return Err(Rejected::ForeignIncarnation { node: member.node });
        }
        if known != member {
            known.clone_from(member);
            changes.push(Change::Member(member.node));
        }
        Ok(Outcome::MemberAnnounced)
    }
}

/// Chains one applied entry into the hash of all before: splitmix64's finaliser (Steele, Lea, Flood 2014) over the three.
fn chain(hash: u64, log_index: u64, digest: u32) -> u64 {
    let mut x =
        hash ^ log_index.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(digest).rotate_left(17);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

//! The naive model: nothing but the list of what was accepted, from which everything is told anew each time.
//!
//! Every byte of a journal carries the token that wrote it: a retry is a range of bytes that are all the caller's own.

use super::*;
use crate::domain::{Endpoint, JournalName, OffsetRange, Succession, limits::APPEND_BYTES_MAX};

/// What was accepted, with its log index.
#[derive(Debug, Clone)]
enum Fact {
    /// A batch of appends is several facts, of one append each.
    Command(Command),
    Membership(Vec<Member>),
}

#[derive(Debug, Default)]
pub(super) struct Model {
    accepted: Vec<(u64, Fact)>,
}

/// Everything, as the facts tell it.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) workers: Vec<ToldWorker>,
    pub(super) journals: Vec<ToldJournal>,
    pub(super) members: Vec<Member>,
    nodes_given: u64,
    journals_given: u64,
    last_deleted_writer: u64,
}

#[derive(Debug)]
pub(super) struct ToldWorker {
    pub(super) name: WorkerRef,
    pub(super) succession: Vec<Succession>,
    pub(super) checkpoints: Vec<ToldCheckpoint>,
    /// Each set of addresses that it ever had.
    endpoints: Vec<(Addresses, String, u64)>,
}

#[derive(Debug)]
pub(super) struct ToldCheckpoint {
    pub(super) id: CheckpointId,
    offsets: BTreeMap<JournalName, u64>,
    log_index: u64,
}

#[derive(Debug)]
pub(super) struct ToldJournal {
    pub(super) id: JournalId,
    pub(super) name: JournalRef,
    pub(super) kind: JournalKind,
    pub(super) bytes: Vec<(u8, FencingToken)>,
    pub(super) token: FencingToken,
    /// The newest writer has been heard of since it ended, or has not ended.
    pub(super) writer_open: bool,
    /// Who opened each writer, by its number; 0: nobody that said so.
    openers: BTreeMap<Writer, u64>,
    pub(super) cuts: u64,
}

impl ToldWorker {
    pub(super) fn epoch(&self) -> u64 {
        self.succession.len() as u64
    }

    pub(super) fn generation(&self) -> u64 {
        self.endpoints.len() as u64
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let (addresses, by, at_unix_ms) = self.endpoints.last()?.clone();
        Some(Endpoint {
            generation: self.generation(),
            addresses,
            by,
            at_unix_ms,
        })
    }

    /// The addresses are those that followed the generation.
    fn is_retry(&self, set: &SetEndpoint) -> bool {
        let followed = set
            .expected_generation
            .map(|expected| expected.checked_add(1));
        let last = self.endpoints.last().map(|(addresses, ..)| addresses);
        followed == Some(Some(self.generation())) && last == Some(&set.addresses)
    }

    fn fence(&self, held: Epoch) -> Result<(), Rejected> {
        if held.0 == self.epoch() {
            return Ok(());
        }
        Err(Rejected::EpochFenced {
            worker: self.name.clone(),
            held,
            current: Epoch(self.epoch()),
            succession: self.succession.last().unwrap().clone(),
        })
    }
}

impl ToldJournal {
    pub(super) fn tail(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn covered(&self, checkpoint: &ToldCheckpoint) -> u64 {
        let offset = checkpoint.offsets.get(&self.name.journal);
        offset.copied().unwrap_or(0)
    }

    fn next_writer(&mut self, epoch: u64) {
        self.token = token(epoch, self.token.writer.0 + 1);
        self.writer_open = false;
        self.openers.insert(self.token.writer, 0);
    }

    fn cut(&mut self, at: u64) -> bool {
        let cuts = at < self.tail();
        self.bytes
            .truncate(usize::try_from(at).unwrap_or(usize::MAX));
        self.cuts += u64::from(cuts);
        cuts
    }

    /// True when every byte of the range is there and was written under this token.
    fn are_all_of(&self, token: FencingToken, from: u64, to: u64) -> bool {
        let of = |at: u64| self.bytes.get(usize::try_from(at).ok()?).map(|byte| byte.1);
        to <= self.tail() && (from..to).all(|at| of(at) == Some(token))
    }
}

impl World {
    fn tell(&mut self, log_index: u64, fact: &Fact) {
        let command = match fact {
            Fact::Command(command) => command,
            Fact::Membership(members) => return self.tell_members(members),
        };
        match command {
            Command::Append(batch) => {
                for append in &batch.appends {
                    let bytes = append.data.iter().map(|byte| (*byte, append.token));
                    let journal = self.by_number_mut(append.journal).unwrap();
                    journal.bytes.extend(bytes);
                    journal.writer_open = true;
                }
            }
            Command::OpenWorker(open) => self.tell_worker(log_index, open),
            Command::OpenJournal(open) => self.tell_open(open),
            Command::CloseWriters(writers) => {
                for journal in &mut self.journals {
                    journal.writer_open &= !writers.contains(&(journal.id, journal.token));
                }
            }
            Command::CommitCheckpoint(commit) => self.tell_checkpoint(log_index, commit),
            Command::Takeover(takeover) => self.tell_takeover(log_index, takeover),
            Command::Truncate(truncate) => {
                let journal = self.journal_mut(&truncate.journal).unwrap();
                if journal.cut(truncate.at.0) {
                    journal.next_writer(truncate.epoch.0);
                }
            }
            Command::DeleteJournal(name) => self.tell_delete(name),
            Command::AllocateNode => self.nodes_given += 1,
            Command::SetEndpoint(set) => {
                let worker = self.worker_mut(&set.worker).unwrap();
                if !worker.is_retry(set) {
                    let next = (set.addresses.clone(), set.by.clone(), set.at_unix_ms);
                    worker.endpoints.push(next);
                }
            }
            Command::AnnounceMember(member) => {
                self.members.retain(|known| known.node != member.node);
                self.members.push(member.clone());
            }
        }
    }

    fn tell_members(&mut self, members: &[Member]) {
        self.members
            .retain(|known| members.iter().any(|member| member.node == known.node));
        for member in members {
            self.nodes_given = self.nodes_given.max(member.node.0);
            if self.members.iter().all(|known| known.node != member.node) {
                self.members.push(member.clone());
            }
        }
    }

    fn tell_worker(&mut self, log_index: u64, open: &OpenWorker) {
        if self.worker(&open.worker).is_err() {
            self.workers.push(ToldWorker {
                name: open.worker.clone(),
                succession: vec![Succession {
                    by: "first open".to_owned(),
                    at_unix_ms: open.at_unix_ms,
                    log_index,
                }],
                checkpoints: Vec::new(),
                endpoints: Vec::new(),
            });
        }
    }

    fn tell_open(&mut self, open: &OpenJournal) {
        if self.journal(&open.journal).is_err() {
            self.journals_given += 1;
            self.journals.push(ToldJournal {
                id: JournalId(self.journals_given),
                name: open.journal.clone(),
                kind: open.kind,
                bytes: Vec::new(),
                token: token(0, self.last_deleted_writer),
                writer_open: false,
                openers: BTreeMap::new(),
                cuts: 0,
            });
        }
        let journal = self.journal_mut(&open.journal).unwrap();
        journal.next_writer(open.epoch.0);
        journal.writer_open = true;
        journal.openers.insert(journal.token.writer, open.opener);
    }

    fn tell_delete(&mut self, name: &JournalRef) {
        let deleted = self.journal(name).unwrap().token.writer.0;
        self.last_deleted_writer = self.last_deleted_writer.max(deleted);
        self.journals.retain(|journal| journal.name != *name);
        let worker = self.worker_mut(&name.owner).unwrap();
        let covers =
            |kept: &ToldCheckpoint| kept.offsets.get(&name.journal).is_some_and(|at| *at > 0);
        worker.checkpoints.retain(|kept| !covers(kept));
        for kept in &mut worker.checkpoints {
            kept.offsets.remove(&name.journal);
        }
    }

    fn tell_checkpoint(&mut self, log_index: u64, commit: &CommitCheckpoint) {
        let worker = self.worker_mut(&commit.worker).unwrap();
        if worker.checkpoints.iter().any(|kept| kept.id == commit.id) {
            return;
        }
        let offsets = commit.offsets.iter();
        worker.checkpoints.push(ToldCheckpoint {
            id: commit.id,
            offsets: offsets.map(|(name, at)| (name.clone(), at.0)).collect(),
            log_index,
        });
    }

    fn tell_takeover(&mut self, log_index: u64, takeover: &Takeover) {
        let name = &takeover.worker;
        if let Some(point) = self.point(takeover).unwrap() {
            let worker = self.worker(name).unwrap();
            let position = worker.checkpoints.iter().position(|kept| kept.id == point);
            let point_offsets = worker.checkpoints[position.unwrap()].offsets.clone();
            let left = |journal: &JournalName| point_offsets.get(journal).copied().unwrap_or(0);
            for journal in self.journals.iter_mut().filter(|j| j.name.owner == *name) {
                journal.cut(left(&journal.name.journal));
            }
            self.worker_mut(name).unwrap().checkpoints.retain(|kept| {
                kept.id <= point && kept.offsets.iter().all(|(name, at)| *at <= left(name))
            });
        }
        let worker = self.worker_mut(name).unwrap();
        worker.succession.push(Succession {
            by: takeover.by.clone(),
            at_unix_ms: takeover.at_unix_ms,
            log_index,
        });
        if let Some(addresses) = &takeover.endpoint {
            let next = (addresses.clone(), takeover.by.clone(), takeover.at_unix_ms);
            worker.endpoints.push(next);
        }
        let epoch = worker.epoch();
        for journal in self.journals.iter_mut().filter(|j| j.name.owner == *name) {
            journal.next_writer(epoch);
        }
    }

    fn worker(&self, name: &WorkerRef) -> Result<&ToldWorker, Rejected> {
        let mut job = self
            .workers
            .iter()
            .filter(|w| w.name.job == name.job)
            .peekable();
        if job.peek().is_none() {
            let job = name.job.clone();
            return Err(Rejected::UnknownJob { job });
        }
        let worker = name.clone();
        job.find(|w| w.name == *name)
            .ok_or(Rejected::UnknownWorker { worker })
    }

    fn worker_mut(&mut self, name: &WorkerRef) -> Option<&mut ToldWorker> {
        self.workers.iter_mut().find(|worker| worker.name == *name)
    }

    fn journal(&self, name: &JournalRef) -> Result<&ToldJournal, Rejected> {
        self.worker(&name.owner)?;
        let journal = name.clone();
        let mut journals = self.journals.iter();
        let found = journals.find(|journal| journal.name == *name);
        found.ok_or(Rejected::UnknownJournal { journal })
    }

    fn journal_mut(&mut self, name: &JournalRef) -> Option<&mut ToldJournal> {
        self.journals
            .iter_mut()
            .find(|journal| journal.name == *name)
    }

    fn by_number_mut(&mut self, id: JournalId) -> Option<&mut ToldJournal> {
        self.journals.iter_mut().find(|journal| journal.id == id)
    }

    /// Numbers are given in order, from 1.
    fn number_of(&self, name: &JournalRef) -> JournalId {
        let known = self.journals.iter().find(|journal| journal.name == *name);
        known.map_or(JournalId(self.journals_given + 1), |journal| journal.id)
    }

    fn line(&self, job: &JobName) -> Result<CheckpointId, Rejected> {
        let workers: Vec<_> = self.workers.iter().filter(|w| w.name.job == *job).collect();
        let has = |worker: &ToldWorker, id| worker.checkpoints.iter().any(|kept| kept.id == id);
        let all = workers.iter().flat_map(|worker| &worker.checkpoints);
        let shared = all
            .map(|kept| kept.id)
            .filter(|id| workers.iter().all(|worker| has(worker, *id)));
        shared.max().ok_or_else(|| {
            let bare = workers.iter().any(|worker| worker.checkpoints.is_empty());
            let late = workers.iter().filter(|w| !bare || w.checkpoints.is_empty());
            let mut late: Vec<_> = late.map(|worker| worker.name.worker.clone()).collect();
            late.sort();
            Rejected::NoRecoveryLine {
                job: job.clone(),
                late,
            }
        })
    }

    fn point(&self, takeover: &Takeover) -> Result<Option<CheckpointId>, Rejected> {
        let worker = self.worker(&takeover.worker)?;
        let id = match takeover.point {
            RestorePoint::Latest => return Ok(None),
            RestorePoint::Line => self.line(&takeover.worker.job)?,
            RestorePoint::Checkpoint(id) => id,
        };
        if worker.checkpoints.iter().any(|kept| kept.id == id) {
            return Ok(Some(id));
        }
        Err(Rejected::UnknownCheckpoint {
            worker: takeover.worker.clone(),
            id,
        })
    }

    /// Is the command refused? Never asked of appends.
    fn check(&self, command: &Command) -> Result<(), Rejected> {
        match command {
            Command::Append(_) | Command::CloseWriters(_) | Command::AllocateNode => Ok(()),
            Command::OpenWorker(open) => match (self.worker(&open.worker), open.epoch) {
                (Ok(worker), Some(held)) => worker.fence(held),
                (Err(_), Some(_)) => Err(Rejected::UnknownWorker {
                    worker: open.worker.clone(),
                }),
                (_, None) => Ok(()),
            },
            Command::OpenJournal(open) => self.check_open(open),
            Command::CommitCheckpoint(commit) => self.check_commit(commit),
            Command::Takeover(takeover) => {
                let worker = self.worker(&takeover.worker)?;
                takeover
                    .expected_epoch
                    .map_or(Ok(()), |held| worker.fence(held))?;
                self.point(takeover).map(|_| ())
            }
            Command::Truncate(truncate) => self.check_truncate(truncate),
            Command::DeleteJournal(name) => self.journal(name).map(|_| ()),
            Command::SetEndpoint(set) => {
                let worker = self.worker(&set.worker)?;
                let current = worker.generation();
                match set.expected_generation {
                    Some(expected) if expected != current && !worker.is_retry(set) => {
                        Err(Rejected::StaleEndpoint {
                            worker: set.worker.clone(),
                            expected,
                            current,
                        })
                    }
                    _ => Ok(()),
                }
            }
            Command::AnnounceMember(member) => {
                let node = member.node;
                let known = self.members.iter().find(|known| known.node == node);
                match known.map(|known| known.incarnation == member.incarnation) {
                    None => Err(Rejected::UnknownMember { node }),
                    Some(false) => Err(Rejected::ForeignIncarnation { node }),
                    Some(true) => Ok(()),
                }
            }
        }
    }

    fn check_open(&self, open: &OpenJournal) -> Result<(), Rejected> {
        self.worker(&open.journal.owner)?.fence(open.epoch)?;
        let known = self.journal(&open.journal).ok();
        if let Some(known) = known
            && known.kind != open.kind
        {
            return Err(Rejected::WrongKind {
                journal: open.journal.clone(),
                has: known.kind,
                wanted: open.kind,
            });
        }
        let newest = known.map_or(Writer(0), |known| known.token.writer);
        let all_own = |over: Writer| {
            let since = |known: &ToldJournal| {
                let mut since = known.openers.iter().filter(|(at, _)| **at > over);
                known.openers.get(&newest) == Some(&open.opener)
                    && since.all(|(_, opener)| *opener == open.opener)
            };
            open.opener > 0 && known.is_some_and(since)
        };
        if let Some(over) = open.over
            && over != newest
            && !all_own(over)
        {
            return Err(Rejected::OpenedMeanwhile {
                journal: open.journal.clone(),
                over,
                newest,
            });
        }
        let tail = Offset(known.map_or(0, ToldJournal::tail));
        match open.expected {
            Some(at) if at != tail => Err(Rejected::WrongOffset {
                journal: self.number_of(&open.journal),
                at,
                tail,
            }),
            _ => Ok(()),
        }
    }

    fn check_commit(&self, commit: &CommitCheckpoint) -> Result<(), Rejected> {
        let worker = self.worker(&commit.worker)?;
        worker.fence(commit.epoch)?;
        for (name, offset) in &commit.offsets {
            let journal = self.journal(&commit.worker.journal(name.clone()))?;
            if offset.0 > journal.tail() {
                return Err(Rejected::CheckpointBeyondTail {
                    id: commit.id,
                    journal: journal.name.clone(),
                    offset: *offset,
                    tail: Offset(journal.tail()),
                });
            }
        }
        let mut kept = worker.checkpoints.iter();
        let same = |kept: &ToldCheckpoint| {
            let offsets = commit.offsets.iter().map(|(name, at)| (name, &at.0));
            kept.id == commit.id && offsets.eq(&kept.offsets)
        };
        match worker.checkpoints.iter().map(|kept| kept.id).max() {
            Some(last) if last >= commit.id && !kept.any(same) => {
                Err(Rejected::CheckpointNotNewer {
                    worker: commit.worker.clone(),
                    id: commit.id,
                    last,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_truncate(&self, truncate: &Truncate) -> Result<(), Rejected> {
        let worker = self.worker(&truncate.journal.owner)?;
        worker.fence(truncate.epoch)?;
        let journal = self.journal(&truncate.journal)?;
        if truncate.at.0 > journal.tail() {
            return Err(Rejected::WrongOffset {
                journal: self.number_of(&truncate.journal),
                at: truncate.at,
                tail: Offset(journal.tail()),
            });
        }
        let needs = |kept: &&ToldCheckpoint| journal.covered(kept) > truncate.at.0;
        let newest = worker
            .checkpoints
            .iter()
            .filter(needs)
            .max_by_key(|kept| kept.id);
        newest.map_or(Ok(()), |kept| {
            Err(Rejected::CutBelowCheckpoint {
                journal: truncate.journal.clone(),
                at: truncate.at,
                id: kept.id,
                covered: Offset(journal.covered(kept)),
            })
        })
    }

    /// True when the append is a retry; false when its bytes are new.
    fn check_append(&self, append: &Append) -> Result<bool, Rejected> {
        let id = append.journal;
        let named = self.journals.iter().find(|journal| journal.id == id);
        let journal = named.ok_or(Rejected::UnknownJournalId { journal: id })?;
        self.worker(&journal.name.owner)?
            .fence(append.token.epoch)?;
        if append.token != journal.token {
            return Err(Rejected::WriterFenced {
                journal: id,
                held: append.token,
                newest: journal.token,
            });
        }
        let (at, bytes) = (append.at.0, append.data.len() as u64);
        if bytes == 0 {
            return Err(Rejected::EmptyAppend { journal: id });
        }
        if bytes > APPEND_BYTES_MAX as u64 {
            return Err(Rejected::TooLarge {
                what: "append",
                bytes,
                bytes_max: APPEND_BYTES_MAX as u64,
            });
        }
        let end = at.checked_add(bytes);
        match end {
            Some(_) if at == journal.tail() => Ok(false),
            Some(to) if journal.are_all_of(append.token, at, to) => Ok(true),
            _ => Err(Rejected::WrongOffset {
                journal: id,
                at: append.at,
                tail: Offset(journal.tail()),
            }),
        }
    }
}

fn journals_cut(world: &World, old: &ToldJournal) -> bool {
    world.journal(&old.name).unwrap().tail() < old.tail()
}

impl Model {
    /// Everything, told anew from the first fact on.
    pub(super) fn world(&self) -> World {
        let mut world = World::default();
        for (log_index, fact) in &self.accepted {
            world.tell(*log_index, fact);
        }
        world
    }

    pub(super) fn follow_membership(&mut self, log_index: u64, members: &[Member]) {
        let fact = Fact::Membership(members.to_vec());
        self.accepted.push((log_index, fact));
    }

    pub(super) fn apply(&mut self, log_index: u64, command: &Command) -> Result<Outcome, Rejected> {
        if let Command::Append(batch) = command {
            let answers = batch
                .appends
                .iter()
                .map(|append| self.append(log_index, append));
            return Ok(Outcome::Appended(answers.collect()));
        }
        let before = self.world();
        before.check(command)?;
        let fact = Fact::Command(command.clone());
        self.accepted.push((log_index, fact));
        Ok(self.answer(&before, log_index, command))
    }

    fn append(&mut self, log_index: u64, append: &Append) -> Result<Appended, Rejected> {
        let retried = self.world().check_append(append)?;
        if !retried {
            let fact = Fact::Command(batch(vec![append.clone()]));
            self.accepted.push((log_index, fact));
        }
        let mut world = self.world();
        let range = OffsetRange {
            from: append.at,
            to: Offset(append.at.0 + append.data.len() as u64),
        };
        let journal = world.by_number_mut(append.journal).unwrap();
        Ok(Appended {
            range,
            tail: Offset(journal.tail()),
        })
    }

    fn answer(&self, before: &World, log_index: u64, command: &Command) -> Outcome {
        let world = self.world();
        match command {
            Command::Append(_) => unreachable!("answered one by one"),
            Command::OpenWorker(open) => Outcome::WorkerOpened {
                epoch: Epoch(world.worker(&open.worker).unwrap().epoch()),
                created: before.worker(&open.worker).is_err(),
            },
            Command::OpenJournal(open) => {
                let journal = world.journal(&open.journal).unwrap();
                Outcome::JournalOpened(OpenedJournal {
                    journal: world.number_of(&open.journal),
                    token: journal.token,
                    tail: Offset(journal.tail()),
                })
            }
            Command::CommitCheckpoint(commit) => {
                let worker = world.worker(&commit.worker).unwrap();
                let mut kept = worker.checkpoints.iter();
                let log_index = kept.find(|kept| kept.id == commit.id).unwrap().log_index;
                Outcome::CheckpointCommitted { log_index }
            }
            Command::Takeover(takeover) => {
                let worker = &takeover.worker;
                let journals = world.journals.iter().filter(|j| j.name.owner == *worker);
                let tail = |journal: &ToldJournal| {
                    let tail = Offset(journal.tail());
                    (
                        journal.name.journal.clone(),
                        (journal.id, journal.kind, tail),
                    )
                };
                Outcome::TakenOver(TakenOver {
                    epoch: Epoch(world.worker(worker).unwrap().epoch()),
                    checkpoint: before.point(takeover).unwrap(),
                    cut: before
                        .journals
                        .iter()
                        .filter(|old| journals_cut(&world, old))
                        .filter(|old| old.name.owner == *worker)
                        .map(|old| (old.name.journal.clone(), Offset(old.tail())))
                        .collect(),
                    journals: journals.map(tail).collect(),
                    log_index,
                    endpoint: world.worker(worker).unwrap().endpoint(),
                })
            }
            Command::CloseWriters(_) => Outcome::WritersClosed,
            Command::Truncate(truncate) => Outcome::Truncated { tail: truncate.at },
            Command::DeleteJournal(_) => Outcome::JournalDeleted,
            Command::AllocateNode => Outcome::NodeAllocated(NodeId(world.nodes_given)),
            Command::AnnounceMember(_) => Outcome::MemberAnnounced,
            Command::SetEndpoint(set) => Outcome::EndpointSet {
                generation: world.worker(&set.worker).unwrap().generation(),
            },
        }
    }
}

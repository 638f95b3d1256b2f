//! The replicated state and the one function that changes it.

mod change;
mod checkpoints;
mod counters;
mod family;
mod found;
mod journals;
mod members;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::BTreeMap;

pub use change::Change;
pub use counters::Counters;

use super::{
    Checkpoint, Command, JobName, Journal, JournalId, JournalRef, Member, NodeId, Outcome,
    Rejected, Worker, WorkerId, WorkerName, WorkerRef,
};

/// Everything replicated but the journals' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    counters: Counters,
    workers: BTreeMap<WorkerId, Worker>,
    jobs: BTreeMap<JobName, BTreeMap<WorkerName, WorkerId>>,
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
            state.register(worker);
        }
        for journal in journals {
            state.put_journal(journal);
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
        let job = self.roster(&name.job)?;
        let unknown = || Rejected::UnknownWorker {
            worker: name.clone(),
        };
        let id = job.get(&name.worker).ok_or_else(unknown)?;
        Ok(&self.workers[id])
    }

    /// The workers of a job, by name; at least one.
    ///
    /// # Errors
    /// `UnknownJob`.
    pub fn job(&self, job: &JobName) -> Result<Vec<&Worker>, Rejected> {
        let roster = self.roster(job)?;
        Ok(roster.values().map(|id| &self.workers[id]).collect())
    }

    fn roster(&self, job: &JobName) -> Result<&BTreeMap<WorkerName, WorkerId>, Rejected> {
        let unknown = || Rejected::UnknownJob { job: job.clone() };
        self.jobs.get(job).ok_or_else(unknown)
    }

    /// Every worker, by job and name.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> + Clone {
        let ids = self.jobs.values().flat_map(BTreeMap::values);
        ids.map(|id| &self.workers[id])
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
        self.counters.chain(log_index, digest);
        match command {
            Command::Append(batch) => Ok(Outcome::Appended(
                self.append_all(log_index, batch, changes),
            )),
            Command::OpenWorker(open) => self.open_worker(log_index, open, changes),
            Command::OpenJournal(open) => self.open_journal(open, changes),
            Command::CommitCheckpoint(commit) => self.commit_checkpoint(log_index, commit, changes),
            Command::Takeover(takeover) => self.take_over(log_index, takeover, changes),
            Command::CloseWriters(writers) => Ok(self.close_writers(writers, changes)),
            Command::Truncate(truncate) => self.truncate(truncate, changes),
            Command::DeleteJournal(journal) => self.delete_journal(journal, changes),
            Command::AllocateNode => Ok(Outcome::NodeAllocated(self.allocate_node())),
            Command::AnnounceMember(member) => self.announce(member, changes),
            Command::SetEndpoint(set) => self.set_endpoint(set, changes),
        }
    }

    fn register(&mut self, worker: Worker) {
        let roster = self.jobs.entry(worker.name.job.clone()).or_default();
        roster.insert(worker.name.worker.clone(), worker.id);
        self.workers.insert(worker.id, worker);
    }

    fn put_journal(&mut self, journal: Journal) {
        if let Some(owner) = self.workers.get_mut(&journal.owner) {
            owner.journals.insert(journal.name.clone(), journal.id);
        }
        self.journals.insert(journal.id, journal);
    }

    fn worker_mut(&mut self, id: WorkerId) -> &mut Worker {
        let worker = self.workers.get_mut(&id);
        worker.expect("a worker that was found by name, and workers are never removed")
    }
}

//! Checkpoints: made durable, kept, and the line they make.

use std::collections::BTreeMap;

use super::{Change, State};
use crate::domain::{
    Checkpoint, CommitCheckpoint, JobName, Line, Outcome, Rejected, WorkerId,
    limits::{CHECKPOINTS_PER_WORKER_MAX, LATE_WORKERS_NAMED_MAX},
    recovery_line,
};

impl State {
    /// The recovery line of a job.
    ///
    /// # Errors
    /// `UnknownJob`; `NoRecoveryLine`, which names the workers that hold it back.
    pub fn line(&self, job: &JobName) -> Result<Line, Rejected> {
        let workers = self.job(job)?;
        if let Some(line) = recovery_line(workers.iter().copied()) {
            return Ok(line);
        }
        let all_have_some = workers.iter().all(|worker| !worker.checkpoints.is_empty());
        let late = workers
            .iter()
            .filter(|worker| all_have_some || worker.checkpoints.is_empty())
            .take(LATE_WORKERS_NAMED_MAX)
            .map(|worker| worker.name.worker.clone())
            .collect();
        Err(Rejected::NoRecoveryLine {
            job: job.clone(),
            late,
        })
    }

    pub(super) fn commit_checkpoint(
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
        let kept = worker.checkpoints.get(&commit.id);
        if let Some(kept) = kept.filter(|kept| kept.offsets == offsets) {
            return Ok(Outcome::CheckpointCommitted {
                log_index: kept.log_index,
            });
        }
        if let Some(last) = worker.newest_checkpoint()
            && last.id >= commit.id
        {
            return Err(Rejected::CheckpointNotNewer {
                worker: commit.worker.clone(),
                id: commit.id,
                last: last.id,
            });
        }
        let id = worker.id;
        let checkpoint = Checkpoint {
            id: commit.id,
            offsets,
            log_index,
            at_unix_ms: commit.at_unix_ms,
            found: false,
        };
        let worker = self.worker_mut(id);
        worker.checkpoints.insert(commit.id, checkpoint);
        changes.push(Change::Checkpoint(id, commit.id));
        self.drop_oldest_checkpoint(id, changes);
        Ok(Outcome::CheckpointCommitted { log_index })
    }

    /// Keeps to the bound: the oldest checkpoint goes, but never the recovery line.
    ///
    /// A worker is not refused for being far ahead of the others: it keeps the line and its newest checkpoints, so the line
    /// moves on as soon as the last worker gets to any of these, be it one that joined the job only now.
    pub(super) fn drop_oldest_checkpoint(&mut self, id: WorkerId, changes: &mut Vec<Change>) {
        let worker = &self.workers[&id];
        if worker.checkpoints.len() <= CHECKPOINTS_PER_WORKER_MAX {
            return;
        }
        let line = self.line(&worker.name.job).ok().map(|line| line.id);
        let mut droppable = worker.checkpoints.keys().filter(|id| Some(**id) != line);
        if let Some(oldest) = droppable.next().copied() {
            self.worker_mut(id).checkpoints.remove(&oldest);
            changes.push(Change::Checkpoint(id, oldest));
        }
    }
}

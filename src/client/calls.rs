//! The unary calls: workers, journals, checkpoints.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Client, ClientError, Effect,
    call::{Plan, Target, stub},
    read::Floor,
};
use crate::{
    codec::{CodecError, wire},
    domain::{
        Addresses, CheckpointId, CommitCheckpoint, Epoch, JobName, JournalName, JournalRef, Offset,
        OpenWorker, RestorePoint, TakenOver, Takeover, Truncate, WorkerRef,
    },
    env::time::{self, Instant},
    pb::{
        self, checkpoints_client::CheckpointsClient, journals_client::JournalsClient,
        workers_client::WorkersClient,
    },
};

/// How long one call of [`Client::await_line`] lets the node wait.
const AWAIT_SLICE: Duration = Duration::from_secs(5);

/// Makes a unary call of the stub's method with the message, by the plan.
macro_rules! unary {
    ($self:ident, $plan:expr, $stub:ident.$method:ident($message:expr)) => {{
        let message = $message;
        $self
            .call($plan, |target: Target| {
                let request = target.request(message.clone());
                async move {
                    let answer = stub!($stub, target.channel).$method(request).await?;
                    Ok(answer.into_inner())
                }
            })
            .await
    }};
}
pub(super) use unary;

/// An answer that does not parse.
pub(super) fn bad_answer(what: String, node: String, error: &CodecError) -> ClientError {
    ClientError::BadAnswer {
        what,
        node,
        why: error.to_string(),
        effect: Effect::Unknown,
    }
}

/// How [`Client::takeover_with`] takes a worker over.
#[derive(Debug, Clone)]
pub struct TakeoverOptions {
    /// Refused unless this is the epoch in force; then it may be repeated.
    pub expected_epoch: Option<Epoch>,
    /// Where the journals are cut.
    pub point: RestorePoint,
    /// Who takes over, in its own words.
    pub by: String,
    /// Where the new incarnation is reached; `None` leaves what is known.
    pub endpoint: Option<Addresses>,
}

impl Client {
    /// Registers a worker, or attaches to it; answers its epoch, and whether it is new. With `epoch`, the one that the
    /// caller holds from before, it is refused unless that is the current one. Safe to repeat.
    ///
    /// # Errors
    /// `Rejected` with `EpochFenced` when the worker was taken over; or as any call.
    pub async fn open_worker(
        &self,
        worker: &WorkerRef,
        epoch: Option<Epoch>,
    ) -> Result<(Epoch, bool), ClientError> {
        let open = pb::OpenWorker::from(OpenWorker {
            worker: worker.clone(),
            epoch,
            at_unix_ms: time::unix_millis(),
        });
        let plan = self.plan(format!("open worker {worker}"), true);
        let (opened, _) = unary!(self, plan, WorkersClient.open(open))?;
        Ok((Epoch(opened.epoch), opened.created))
    }

    /// Takes a worker over: raises its epoch, which fences the old incarnation for good, and cuts its journals at `point`.
    /// `by` says who, in its own words. With `expected_epoch` it is refused unless that is the current epoch, and so may be
    /// repeated; without, it is not repeated once an attempt may have been carried out.
    ///
    /// # Errors
    /// `Rejected`, whose effect is unknown when an earlier attempt went unanswered; or as any call.
    pub async fn takeover(
        &self,
        worker: &WorkerRef,
        expected_epoch: Option<Epoch>,
        point: RestorePoint,
        by: &str,
    ) -> Result<TakenOver, ClientError> {
        let options = TakeoverOptions {
            expected_epoch,
            point,
            by: by.to_owned(),
            endpoint: None,
        };
        self.takeover_with(worker, options).await
    }

    /// Takes a worker over, as [`Client::takeover`], and in the same command says where the new incarnation is reached.
    ///
    /// # Errors
    /// As [`Client::takeover`].
    pub async fn takeover_with(
        &self,
        worker: &WorkerRef,
        options: TakeoverOptions,
    ) -> Result<TakenOver, ClientError> {
        let what = format!("take over worker {worker}");
        let plan = self.plan(what.clone(), options.expected_epoch.is_some());
        let takeover = pb::Takeover::from(Takeover {
            worker: worker.clone(),
            expected_epoch: options.expected_epoch,
            point: options.point,
            by: options.by,
            at_unix_ms: time::unix_millis(),
            endpoint: options.endpoint,
        });
        let (taken, node) = unary!(self, plan, WorkersClient.takeover(takeover))?;
        TakenOver::try_from(taken).map_err(|e| bad_answer(what, node, &e))
    }

    /// The workers of a job, or of all; with their epochs, sizes and newest checkpoints.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_workers(
        &self,
        job: Option<&JobName>,
        floor: Floor,
    ) -> Result<pb::ListWorkersResponse, ClientError> {
        let request = pb::ListWorkersRequest {
            job: job.map(ToString::to_string).unwrap_or_default(),
            floor: Some(floor.into()),
        };
        let plan = self.plan("list workers", true);
        Ok(unary!(self, plan, WorkersClient.list(request))?.0)
    }

    /// The journals of a job or of one worker, or all.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_journals(
        &self,
        job: Option<&JobName>,
        worker: Option<&WorkerRef>,
        floor: Floor,
    ) -> Result<pb::ListJournalsResponse, ClientError> {
        let job = worker.map(|worker| &worker.job).or(job);
        let request = pb::ListJournalsRequest {
            job: job.map(ToString::to_string).unwrap_or_default(),
            worker: worker.map_or_else(String::new, |worker| worker.worker.to_string()),
            floor: Some(floor.into()),
        };
        let plan = self.plan("list journals", true);
        Ok(unary!(self, plan, JournalsClient.list(request))?.0)
    }

    /// Removes a journal with its bytes, and the checkpoints that cover some of these; whoever appends to it is fenced. Not
    /// repeated once an attempt may have been carried out, for the name may be in use again by then.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJournal`; or as any call.
    pub async fn delete_journal(&self, journal: &JournalRef) -> Result<(), ClientError> {
        let request = pb::DeleteJournal {
            journal: Some(wire::journal_to_pb(journal)),
        };
        let plan = self.plan(format!("delete journal {journal}"), false);
        unary!(self, plan, JournalsClient.delete(request))?;
        Ok(())
    }

    /// A journal's kind, tail and newest writer.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJournal`; or as any call.
    pub async fn stat(
        &self,
        journal: &JournalRef,
        floor: Floor,
    ) -> Result<pb::StatResponse, ClientError> {
        let request = pb::StatRequest {
            journal: Some(wire::journal_to_pb(journal)),
            floor: Some(floor.into()),
        };
        let plan = self.plan(format!("stat journal {journal}"), true);
        Ok(unary!(self, plan, JournalsClient.stat(request))?.0)
    }

    /// Cuts a journal's end off at `at`, under the worker's current epoch, never below what a checkpoint covers; answers
    /// the new tail. Not repeated once an attempt may have been carried out, for a late one would cut later appends too:
    /// after an unknown effect raise the epoch by a takeover first.
    ///
    /// # Errors
    /// `Rejected`; or as any call.
    pub async fn truncate(
        &self,
        journal: &JournalRef,
        epoch: Epoch,
        at: Offset,
    ) -> Result<Offset, ClientError> {
        let truncate = pb::Truncate::from(Truncate {
            journal: journal.clone(),
            epoch,
            at,
        });
        let plan = self.plan(format!("cut journal {journal} at {at}"), false);
        let (truncated, _) = unary!(self, plan, JournalsClient.truncate(truncate))?;
        Ok(Offset(truncated.tail))
    }

    /// Makes a checkpoint durable; answers the log index at which it is. `offsets` says up to where it covers each
    /// journal; a journal that is not in it is covered up to 0. Safe to repeat.
    ///
    /// # Errors
    /// `Rejected`: fenced, not newer than the last, or beyond a tail; or as any call.
    pub async fn commit_checkpoint(
        &self,
        worker: &WorkerRef,
        epoch: Epoch,
        id: CheckpointId,
        offsets: BTreeMap<JournalName, Offset>,
    ) -> Result<u64, ClientError> {
        let commit = pb::CommitCheckpoint::from(CommitCheckpoint {
            worker: worker.clone(),
            epoch,
            id,
            offsets,
            at_unix_ms: time::unix_millis(),
        });
        let plan = self.plan(format!("commit checkpoint {id} of worker {worker}"), true);
        let (committed, _) = unary!(self, plan, CheckpointsClient.commit(commit))?;
        Ok(committed.log_index)
    }

    /// The checkpoints of one worker, or of all workers of a job.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_checkpoints(
        &self,
        job: &JobName,
        worker: Option<&WorkerRef>,
        floor: Floor,
    ) -> Result<pb::ListCheckpointsResponse, ClientError> {
        let request = pb::ListCheckpointsRequest {
            job: job.to_string(),
            worker: worker.map_or_else(String::new, |worker| worker.worker.to_string()),
            floor: Some(floor.into()),
        };
        let plan = self.plan(format!("list checkpoints of job {job}"), true);
        Ok(unary!(self, plan, CheckpointsClient.list(request))?.0)
    }

    /// The job's recovery line: the newest checkpoint that all its workers have made durable; with each worker's newest.
    ///
    /// # Errors
    /// As any call.
    pub async fn line(&self, job: &JobName, floor: Floor) -> Result<pb::LineResponse, ClientError> {
        let request = pb::LineRequest {
            job: job.to_string(),
            floor: Some(floor.into()),
        };
        let plan = self.plan(format!("read the recovery line of job {job}"), true);
        Ok(unary!(self, plan, CheckpointsClient.line(request))?.0)
    }

    /// Waits until every worker of the job has made checkpoint `id` or a newer one durable, or `timeout` has passed; then
    /// the answer names the late ones.
    ///
    /// # Errors
    /// As any call.
    pub async fn await_line(
        &self,
        job: &JobName,
        id: CheckpointId,
        timeout: Duration,
    ) -> Result<pb::AwaitLineResponse, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            let slice = AWAIT_SLICE.min(deadline.saturating_duration_since(Instant::now()));
            let request = pb::AwaitLineRequest {
                job: job.to_string(),
                id: Some(wire::checkpoint_id_to_pb(id)),
                timeout_ms: u64::try_from(slice.as_millis()).unwrap_or(u64::MAX),
            };
            let plan = self.plan(format!("wait for checkpoint {id} of job {job}"), true);
            let plan = Plan {
                timeout: plan.timeout + slice,
                attempt_timeout: plan.attempt_timeout + slice,
                ..plan
            };
            let (answer, _) = unary!(self, plan, CheckpointsClient.await_line(request))?;
            if answer.reached || Instant::now() >= deadline {
                return Ok(answer);
            }
        }
    }
}

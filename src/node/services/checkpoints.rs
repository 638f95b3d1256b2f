//! `dos.v1.Checkpoints`: durable checkpoints and the recovery line.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use super::{
    convert::{checkpoint_stat, worker_checkpoint},
    deadline, reads,
    workers::workers_of,
};
use crate::{
    codec::wire::{checkpoint_id_from_pb, checkpoint_id_to_pb, job_from_pb},
    domain::{
        Command, CommitCheckpoint, Outcome,
        recovery_line::{Pace, late_for},
    },
    env::time::{self, Instant},
    node::{shared::Shared, status::NodeError},
    pb,
};

/// The longest that one call waits for a line; a caller that waits longer asks again.
const AWAIT_MAX: Duration = Duration::from_mins(10);

/// The service.
#[derive(Debug)]
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
}

impl Checkpoints {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl pb::checkpoints_server::Checkpoints for Checkpoints {
    async fn commit(
        &self,
        request: Request<pb::CommitCheckpoint>,
    ) -> Result<Response<pb::CheckpointCommitted>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let mut commit: CommitCheckpoint =
            request.into_inner().try_into().map_err(NodeError::from)?;
        commit.at_unix_ms = time::unix_millis();
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::CommitCheckpoint(commit), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::CheckpointCommitted { log_index } => {
                Ok(Response::new(pb::CheckpointCommitted { log_index }))
            }
            other => Err(super::workers::unexpected(&other)),
        }
    }

    async fn list(
        &self,
        request: Request<pb::ListCheckpointsRequest>,
    ) -> Result<Response<pb::ListCheckpointsResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        // Unlike the other lists this one is of a job.
        job_from_pb(&request.job).map_err(NodeError::from)?;
        let running = self.shared.running()?;
        let served = reads::reach(&running, request.floor, until).await?;
        let state = running.router.group().view().read();
        let workers = workers_of(&state, &request.job, &request.worker)?;
        let checkpoints = workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .checkpoints
                    .values()
                    .map(|checkpoint| checkpoint_stat(&state, worker, checkpoint))
            })
            .collect();
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::ListCheckpointsResponse {
            checkpoints,
            applied_index,
            stale,
        }))
    }

    async fn line(
        &self,
        request: Request<pb::LineRequest>,
    ) -> Result<Response<pb::LineResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let job = job_from_pb(&request.job).map_err(NodeError::from)?;
        let running = self.shared.running()?;
        let served = reads::reach(&running, request.floor, until).await?;
        let state = running.router.group().view().read();
        let workers = state.job(&job).map_err(NodeError::from)?;
        let pace = Pace::of(workers.iter().copied());
        Ok(Response::new(pb::LineResponse {
            line: state
                .line(&job)
                .ok()
                .map(|line| checkpoint_id_to_pb(line.id)),
            workers: workers
                .into_iter()
                .map(|worker| worker_checkpoint(&pace, worker))
                .collect(),
            applied_index: served.applied_index,
            stale: served.stale,
        }))
    }

    async fn await_line(
        &self,
        request: Request<pb::AwaitLineRequest>,
    ) -> Result<Response<pb::AwaitLineResponse>, Status> {
        let until = deadline(request.metadata(), AWAIT_MAX);
        let request = request.into_inner();
        let until =
            until.min(Instant::now() + Duration::from_millis(request.timeout_ms).min(AWAIT_MAX));
        let job = job_from_pb(&request.job).map_err(NodeError::from)?;
        let id = checkpoint_id_from_pb(request.id).map_err(NodeError::from)?;
        let running = self.shared.running()?;
        let view = running.router.group().view();
        // What was acknowledged before this call counts, also when the call does not wait.
        let first = Instant::now() + self.shared.config.request_timeout;
        reads::reach(&running, None, first).await?;
        let mut applied = view.watch_applied();
        let mut stopping = self.shared.stopping.subscribe();
        loop {
            applied.mark_unchanged();
            let held = {
                let state = view.read();
                let workers = state.job(&job).map_err(NodeError::from)?;
                let late = late_for(workers.iter().copied(), id).late;
                let is_late = |worker: &&crate::domain::Worker| {
                    late.iter().any(|(name, _)| *name == worker.name.worker)
                };
                if late.is_empty() {
                    Vec::new()
                } else {
                    let pace = Pace::of(workers.iter().copied());
                    let late = workers.into_iter().filter(is_late);
                    late.map(|worker| worker_checkpoint(&pace, worker))
                        .collect()
                }
            };
            if held.is_empty() {
                return Ok(Response::new(pb::AwaitLineResponse {
                    reached: true,
                    late: held,
                }));
            }
            let moved = tokio::select! {
                moved = time::timeout_at(until, applied.changed()) => matches!(moved, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => return Err(NodeError::Stopping.into()),
            };
            if !moved {
                return Ok(Response::new(pb::AwaitLineResponse {
                    reached: false,
                    late: held,
                }));
            }
        }
    }
}

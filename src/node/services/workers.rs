//! `dos.v1.Workers`: incarnations and takeovers.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{convert::worker_stat, deadline, reads};
use crate::{
    domain::{Command, OpenWorker, Outcome, Takeover},
    env::time,
    node::{shared::Shared, status::NodeError},
    pb,
};

/// The service.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// An outcome that does not belong to the command; a fault of the member that answered.
pub(super) fn unexpected(outcome: &Outcome) -> Status {
    NodeError::LeaderLost {
        why: format!("an answer to another command: {outcome:?}"),
    }
    .into()
}

#[tonic::async_trait]
impl pb::workers_server::Workers for Workers {
    async fn open(
        &self,
        request: Request<pb::OpenWorker>,
    ) -> Result<Response<pb::WorkerOpened>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let mut open: OpenWorker = request.into_inner().try_into().map_err(NodeError::from)?;
        open.at_unix_ms = time::unix_millis();
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::OpenWorker(open), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::WorkerOpened { epoch, created } => Ok(Response::new(pb::WorkerOpened {
                epoch: epoch.0,
                created,
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn takeover(
        &self,
        request: Request<pb::Takeover>,
    ) -> Result<Response<pb::TakenOver>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let mut takeover: Takeover = request.into_inner().try_into().map_err(NodeError::from)?;
        takeover.at_unix_ms = time::unix_millis();
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::Takeover(takeover), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::TakenOver(taken) => Ok(Response::new(taken.into())),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(
        &self,
        request: Request<pb::ListWorkersRequest>,
    ) -> Result<Response<pb::ListWorkersResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let running = self.shared.running()?;
        let served = reads::reach(&running, request.floor, until).await?;
        let state = running.router.group().view().read();
        let workers = state
            .workers()
            .filter(|worker| request.job.is_empty() || request.job == worker.name.job.as_str());
        let workers = workers.map(|worker| worker_stat(&state, worker)).collect();
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::ListWorkersResponse {
            workers,
            applied_index,
            stale,
        }))
    }
}

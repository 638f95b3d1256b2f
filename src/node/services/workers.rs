//! `dos.v1.Workers`: incarnations and takeovers.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    convert::worker_stat,
    deadline,
    endpoints::{self, Watchers},
    reads,
};
use crate::{
    codec::wire::{job_from_pb, worker_from_pb},
    domain::{Command, OpenWorker, Outcome, SetEndpoint, State, Takeover, Worker},
    env::time,
    node::{shared::Shared, status::NodeError},
    pb,
};

/// The service.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    watchers: Watchers,
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            watchers: Watchers::default(),
        }
    }
}

/// An outcome that does not belong to the command; a fault of the member that answered.
pub(super) fn unexpected(outcome: &Outcome) -> Status {
    NodeError::LeaderLost {
        why: format!("an answer to another command: {outcome:?}"),
    }
    .into()
}

/// The workers of a job, or the one that is named too; without a job those of all jobs.
///
/// # Errors
/// A name that is none, or that nobody has: an empty list would say that all is well.
pub(super) fn workers_of<'a>(
    state: &'a State,
    job: &str,
    worker: &str,
) -> Result<Vec<&'a Worker>, NodeError> {
    if job.is_empty() {
        let named = |known: &&Worker| worker.is_empty() || known.name.worker.as_str() == worker;
        return Ok(state.workers().filter(named).collect());
    }
    if worker.is_empty() {
        return Ok(state.job(&job_from_pb(job)?)?);
    }
    let name = pb::WorkerRef {
        job: job.to_owned(),
        worker: worker.to_owned(),
    };
    Ok(vec![state.worker(&worker_from_pb(Some(name))?)?])
}

#[tonic::async_trait]
impl pb::workers_server::Workers for Workers {
    type WatchEndpointsStream = endpoints::Changes;

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
        let workers = workers_of(&state, &request.job, "")?.into_iter();
        let workers = workers.map(|worker| worker_stat(&state, worker)).collect();
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::ListWorkersResponse {
            workers,
            applied_index,
            stale,
        }))
    }

    async fn set_endpoint(
        &self,
        request: Request<pb::SetEndpoint>,
    ) -> Result<Response<pb::EndpointSet>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let mut set: SetEndpoint = request.into_inner().try_into().map_err(NodeError::from)?;
        set.at_unix_ms = time::unix_millis();
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::SetEndpoint(set), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::EndpointSet { generation } => {
                Ok(Response::new(pb::EndpointSet { generation }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn list_endpoints(
        &self,
        request: Request<pb::ListEndpointsRequest>,
    ) -> Result<Response<pb::ListEndpointsResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let running = self.shared.running()?;
        let served = reads::reach(&running, request.floor, until).await?;
        let state = running.router.group().view().read();
        let workers = workers_of(&state, &request.job, &request.worker)?;
        let endpoints = workers.into_iter().filter_map(endpoints::of).collect();
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::ListEndpointsResponse {
            endpoints,
            applied_index,
            stale,
        }))
    }

    async fn watch_endpoints(
        &self,
        request: Request<pb::WatchEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let job = job_from_pb(&request.into_inner().job).map_err(NodeError::from)?;
        let watch = self.watchers.watch(&self.shared, job, until).await?;
        Ok(Response::new(watch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Rejected;

    #[test]
    fn a_job_or_a_worker_that_nobody_has_is_refused_and_named() {
        let mut state = State::default();
        let open = Command::OpenWorker(OpenWorker {
            worker: "tour/w1".parse().unwrap(),
            epoch: None,
            at_unix_ms: 1,
        });
        state.apply(1, 0, &open, &mut Vec::new()).unwrap();
        for (job, worker) in [("", ""), ("tour", ""), ("tour", "w1")] {
            assert_eq!(workers_of(&state, job, worker).unwrap().len(), 1);
        }
        let refused = |job, worker| workers_of(&state, job, worker).unwrap_err();
        assert!(matches!(
            refused("nojob", ""),
            NodeError::Rejected(Rejected::UnknownJob { job }) if job.as_str() == "nojob"
        ));
        for job in ["tour", "nojob"] {
            let said = refused(job, "nobody").to_string();
            assert!(said.contains("dos-cluster worker list"), "{said}");
        }
        assert!(matches!(refused("a/b", ""), NodeError::BadRequest(_)));
    }
}

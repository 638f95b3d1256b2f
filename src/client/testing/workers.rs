//! The workers' service of a fake node: with their endpoints.

use futures::stream::{self, BoxStream};
use tonic::{Code, Request, Response, Status};

use super::{Node, failed, rejected};
use crate::{
    codec::wire,
    domain::{Command, Outcome, Worker},
    pb,
};

impl Node {
    fn endpoints(&self) -> Vec<pb::WorkerEndpoint> {
        let shared = self.shared();
        let endpoint = |worker: &Worker| {
            let endpoint = worker.endpoint.as_ref()?;
            Some(wire::worker_endpoint_to_pb(&worker.name, endpoint))
        };
        shared.state.workers().filter_map(endpoint).collect()
    }
}

#[tonic::async_trait]
impl pb::workers_server::Workers for Node {
    type WatchEndpointsStream = BoxStream<'static, Result<pb::WatchEndpointsResponse, Status>>;

    async fn open(
        &self,
        request: Request<pb::OpenWorker>,
    ) -> Result<Response<pb::WorkerOpened>, Status> {
        match self.command(request.into_inner(), Command::OpenWorker)? {
            Outcome::WorkerOpened { epoch, created } => Ok(Response::new(pb::WorkerOpened {
                epoch: epoch.0,
                created,
            })),
            other => panic!("{other:?}"),
        }
    }

    async fn takeover(
        &self,
        request: Request<pb::Takeover>,
    ) -> Result<Response<pb::TakenOver>, Status> {
        match self.command(request.into_inner(), Command::Takeover)? {
            Outcome::TakenOver(taken) => Ok(Response::new(taken.into())),
            other => panic!("{other:?}"),
        }
    }

    async fn set_endpoint(
        &self,
        request: Request<pb::SetEndpoint>,
    ) -> Result<Response<pb::EndpointSet>, Status> {
        match self.command(request.into_inner(), Command::SetEndpoint)? {
            Outcome::EndpointSet { generation } => {
                Ok(Response::new(pb::EndpointSet { generation }))
            }
            other => panic!("{other:?}"),
        }
    }

    async fn list_endpoints(
        &self,
        _: Request<pb::ListEndpointsRequest>,
    ) -> Result<Response<pb::ListEndpointsResponse>, Status> {
        Ok(Response::new(pb::ListEndpointsResponse {
            endpoints: self.endpoints(),
            applied_index: self.shared().log_index,
            stale: false,
        }))
    }

    /// What is there now; then the stream ends, as when a node is lost.
    async fn watch_endpoints(
        &self,
        request: Request<pb::WatchEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        let job = request.into_inner().job.parse().unwrap();
        self.shared().state.job(&job).map_err(rejected)?;
        let mut now = pb::WatchEndpointsResponse {
            endpoints: self.endpoints(),
            more: false,
            applied_index: self.shared().log_index,
        };
        let mut shared = self.shared();
        let (faults, fired) = shared.faults(self.node);
        if let Some(code) = faults.refuse_watches {
            fired.refused_watches += 1;
            let status = Code::FailedPrecondition;
            return Err(failed(status, code, pb::Effect::None, None));
        }
        if faults.malformed_watches {
            fired.malformed_watches += 1;
            now.endpoints.push(pb::WorkerEndpoint::default());
        }
        Ok(Response::new(Box::pin(stream::iter([Ok(now)]))))
    }

    async fn list(
        &self,
        _: Request<pb::ListWorkersRequest>,
    ) -> Result<Response<pb::ListWorkersResponse>, Status> {
        let shared = self.shared();
        let workers = shared.state.workers().map(|worker| pb::WorkerStat {
            worker: Some(wire::worker_to_pb(&worker.name)),
            epoch: worker.epoch.0,
            succession: Some(wire::succession_to_pb(&worker.succession)),
            ..pb::WorkerStat::default()
        });
        Ok(Response::new(pb::ListWorkersResponse {
            workers: workers.collect(),
            applied_index: shared.log_index,
            stale: false,
        }))
    }
}

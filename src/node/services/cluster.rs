//! `dos.v1.Cluster`: forming it, its members, and what a node says of itself; and gRPC's own health service.

use std::{sync::Arc, time::Duration};

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{convert::member_statuses, deadline};
use crate::{
    domain::NodeId,
    env::{task, time},
    node::{
        bootstrap, http,
        shared::{Phase, Running, Shared},
        status::NodeError,
    },
    pb::{self, change_members_request::Change},
    raft::Role,
};

/// How often gRPC's health service is told anew.
const HEALTH_PERIOD: Duration = Duration::from_millis(500);

/// The service.
#[derive(Debug)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
}

impl Cluster {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

/// `grpc.health.v1.Health`: serving while `/readyz` says that this node is ready.
pub(super) fn health(
    shared: &Arc<Shared>,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let shared = Arc::downgrade(shared);
    task::spawn(async move {
        while let Some(shared) = shared.upgrade() {
            let ready = http::is_ready(&shared);
            drop(shared);
            let status = if ready {
                tonic_health::ServingStatus::Serving
            } else {
                tonic_health::ServingStatus::NotServing
            };
            reporter.set_service_status("", status).await;
            time::sleep(HEALTH_PERIOD).await;
        }
    });
    service
}

fn describe(running: &Running, response: &mut pb::StatusResponse) {
    let group = running.router.group();
    let status = group.status();
    let me = running.identity.node;
    response.state = match (status.role, status.leader) {
        (Role::Leader, _) => pb::NodeState::Leader,
        (Role::Candidate, _) => pb::NodeState::Candidate,
        (Role::Stopped, _) => pb::NodeState::Stopping,
        (_, None) => pb::NodeState::Starting,
        (Role::Follower, _) => pb::NodeState::Follower,
        (Role::Learner, _) => pb::NodeState::Learner,
    }
    .into();
    response.term = status.term;
    response.leader_id = status.leader.map_or(0, |leader| leader.0);
    response.leader_address = status
        .leader
        .and_then(|leader| group.peers().client_address(leader))
        .unwrap_or_default();
    response.last_log_index = status.last_log_index;
    response.snapshot_index = status.snapshot_index;
    response.purged_index = status.purged_index;
    response.quorum_acknowledged_ms = status.quorum_acknowledged_ms;
    response.log_bytes = group.wal().stats().bytes_on_disk;
    if group.wal().is_pristine() {
        response.state = pb::NodeState::Waiting.into();
        response.problem = format!(
            "it was given to cluster {} by an init or a join that has not finished: run it again",
            running.identity.cluster
        );
    }
    if let Some(failed) = &status.failed {
        response.problem.clone_from(failed);
    }
    let state = group.view().read();
    response.state_hash = state.counters().hash;
    response.applied_index = group.view().applied_index();
    response.members = member_statuses(&status, &state, me);
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    type JoinStream = BoxStream<'static, Result<pb::JoinProgress, Status>>;

    async fn init(
        &self,
        request: Request<pb::InitRequest>,
    ) -> Result<Response<pb::InitResponse>, Status> {
        let addresses = request.into_inner().addresses;
        // Goes on when the caller is gone: half an init helps nobody.
        let shared = self.shared.clone();
        let formed = task::spawn(async move { bootstrap::init(&shared, &addresses).await });
        let (cluster, members) = formed
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        let members = members.iter().map(Into::into).collect();
        Ok(Response::new(pb::InitResponse {
            cluster_id: cluster.to_string(),
            members,
        }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let address = request.into_inner().address;
        self.shared.running()?;
        let (progress, steps) = mpsc::channel(16);
        let shared = self.shared.clone();
        task::spawn(async move {
            if let Err(error) = bootstrap::join(&shared, &address, &progress).await {
                let _ = progress.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(steps))))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let shared = &self.shared;
        let identity = shared.identity();
        let mut response = pb::StatusResponse {
            cluster_id: identity
                .map(|identity| identity.cluster.to_string())
                .unwrap_or_default(),
            node_id: identity.map_or(0, |identity| identity.node.0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client_address: shared.addresses.client.clone(),
            peer_address: shared.addresses.peer.clone(),
            http_address: shared.addresses.http.clone(),
            ..Default::default()
        };
        match shared.phase() {
            Phase::Running(running) => describe(&running, &mut response),
            Phase::Waiting(_) => {
                response.state = pb::NodeState::Waiting.into();
                let waiting = shared.running().err().unwrap_or(NodeError::Waiting);
                response.problem = waiting.to_string();
            }
            Phase::Starting => {
                response.state = pb::NodeState::Starting.into();
                response.problem = NodeError::Starting.to_string();
            }
            Phase::Stopping => {
                response.state = pb::NodeState::Stopping.into();
                response.problem = NodeError::Stopping.to_string();
            }
            Phase::Failed(why) => {
                response.state = pb::NodeState::Stopping.into();
                response.problem = why;
            }
        }
        Ok(Response::new(response))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let node = request.into_inner().node_id;
        let running = self.shared.running()?;
        running
            .router
            .change_members(Change::Remove(node), until)
            .await?;
        let group = running.router.group();
        let members = member_statuses(&group.status(), &group.view().read(), running.identity.node);
        let members = members
            .into_iter()
            .filter(|m| m.member.as_ref().is_none_or(|m| m.node_id != node))
            .collect();
        Ok(Response::new(pb::RemoveMemberResponse { members }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let to = request.into_inner().node_id;
        let running = self.shared.running()?;
        let before = running.router.leader();
        running
            .router
            .change_members(Change::TransferLeader(to), until)
            .await?;
        let mut leader = running.router.group().watch_leader();
        let moved = |leader: &Option<NodeId>| {
            leader.is_some_and(|leader| {
                if to == 0 {
                    Some(leader) != before
                } else {
                    leader.0 == to
                }
            })
        };
        match time::timeout_at(until, leader.wait_for(moved)).await {
            Ok(Ok(leader)) => {
                let leader_id = leader.map_or(0, |leader| leader.0);
                Ok(Response::new(pb::TransferLeaderResponse { leader_id }))
            }
            _ => Err(NodeError::Membership(
                "leadership did not move in time: see `dos-cluster status`".to_owned(),
            )
            .into()),
        }
    }
}

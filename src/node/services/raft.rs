//! `dos.v1.Raft` on a node that may not have a group yet: handed to the group when there is one, else refused with the reason.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use crate::{
    domain::NodeId,
    node::shared::{Phase, Shared},
    pb::{self, raft_server::Raft as Api},
    raft::RaftService,
};

/// The service.
#[derive(Debug)]
pub(super) struct Raft {
    shared: Arc<Shared>,
}

impl Raft {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn group(&self, header: Option<&pb::PeerHeader>) -> Result<RaftService, Status> {
        if let (Phase::Waiting(_), Some(header)) = (self.shared.phase(), header) {
            let cluster =
                <[u8; 16]>::try_from(&header.cluster_id[..]).map_or(0, u128::from_be_bytes);
            let cluster = crate::domain::ClusterId(cluster).to_string();
            return Err(self.shared.mistaken_for(&cluster, NodeId(header.to)).into());
        }
        Ok(self.shared.running()?.router.group().service())
    }
}

#[tonic::async_trait]
impl Api for Raft {
    type AppendStream = <RaftService as Api>::AppendStream;

    async fn append(
        &self,
        request: Request<Streaming<pb::RaftAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.group(None)?.append(request).await
    }

    async fn heartbeat(
        &self,
        request: Request<pb::RaftAppendRequest>,
    ) -> Result<Response<pb::RaftAppendResponse>, Status> {
        self.group(request.get_ref().header.as_ref())?
            .heartbeat(request)
            .await
    }

    async fn vote(
        &self,
        request: Request<pb::RaftVoteRequest>,
    ) -> Result<Response<pb::RaftVoteResponse>, Status> {
        self.group(request.get_ref().header.as_ref())?
            .vote(request)
            .await
    }

    async fn pre_vote(
        &self,
        request: Request<pb::RaftVoteRequest>,
    ) -> Result<Response<pb::RaftVoteResponse>, Status> {
        self.group(request.get_ref().header.as_ref())?
            .pre_vote(request)
            .await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::RaftTransferLeaderRequest>,
    ) -> Result<Response<pb::RaftTransferLeaderResponse>, Status> {
        self.group(request.get_ref().header.as_ref())?
            .transfer_leader(request)
            .await
    }

    async fn offer_snapshot(
        &self,
        request: Request<pb::SnapshotManifest>,
    ) -> Result<Response<pb::SnapshotWanted>, Status> {
        self.group(request.get_ref().header.as_ref())?
            .offer_snapshot(request)
            .await
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::RaftSnapshotResponse>, Status> {
        self.group(None)?.send_snapshot(request).await
    }
}

//! `dos.v1.Bootstrap`: what a node is, before anybody can rely on it; and taking on an identity.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::{
    codec::CodecError,
    domain::{ClusterId, NodeId},
    env::task,
    node::{
        shared::{Phase, Shared},
        status::NodeError,
    },
    pb,
};

/// The service.
#[derive(Debug)]
pub(super) struct Bootstrap {
    shared: Arc<Shared>,
}

impl Bootstrap {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl pb::bootstrap_server::Bootstrap for Bootstrap {
    async fn probe(
        &self,
        _request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeResponse>, Status> {
        let identity = self.shared.identity();
        let cluster = identity.map(|identity| identity.cluster.0.to_be_bytes().to_vec());
        Ok(Response::new(pb::ProbeResponse {
            waiting: self.shared.is_adoptable(),
            starting: matches!(self.shared.phase(), Phase::Starting),
            cluster_id: cluster.unwrap_or_default().into(),
            node_id: identity.map_or(0, |identity| identity.node.0),
            incarnation: self.shared.incarnation(),
        }))
    }

    async fn adopt(
        &self,
        request: Request<pb::AdoptRequest>,
    ) -> Result<Response<pb::AdoptResponse>, Status> {
        let request = request.into_inner();
        let cluster: [u8; 16] = request.cluster_id[..]
            .try_into()
            .map_err(|_| NodeError::from(CodecError::field("cluster id", "it has not 16 bytes")))?;
        if request.incarnation != self.shared.incarnation() || request.node_id == 0 {
            let why = "it is meant for another node: this one was restarted or replaced meanwhile; try again";
            return Err(NodeError::from(CodecError::field("incarnation", why)).into());
        }
        // Goes on when the caller is gone: half an adoption helps nobody.
        let shared = self.shared.clone();
        let cluster = ClusterId(u128::from_be_bytes(cluster));
        let adopted =
            task::spawn(async move { shared.adopt(cluster, NodeId(request.node_id)).await });
        let member = adopted
            .await
            .map_err(|e| Status::internal(e.to_string()))??;
        Ok(Response::new(pb::AdoptResponse {
            member: Some((&member).into()),
        }))
    }
}

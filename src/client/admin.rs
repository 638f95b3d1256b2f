//! The cluster itself: forming it, joining it, its members and their health.

use futures::{Stream, StreamExt};

use super::{
    Client, ClientError,
    call::{Plan, Target, stub},
    calls::unary,
    failure::Failure,
    leader,
};
use crate::{
    domain::NodeId,
    pb::{self, cluster_client::ClusterClient},
};

impl Client {
    /// One node's word on itself: also while it waits or starts.
    ///
    /// # Errors
    /// `CannotConnect` or `Timeout` when that node does not answer in time; `BadRequest` for what is no address.
    pub async fn status_of(&self, endpoint: &str) -> Result<pb::StatusResponse, ClientError> {
        let address = leader::authority(endpoint)?;
        let plan = Plan {
            only: vec![address.clone()],
            timeout: self.options().attempt_timeout.min(self.options().timeout),
            ..self.plan(format!("read the status of {address}"), true)
        };
        let (status, _) = unary!(self, plan, ClusterClient.status(pb::StatusRequest {}))?;
        self.directory().learn(&status);
        Ok(status)
    }

    /// The word of the first node that answers: the leader's if it is known.
    ///
    /// # Errors
    /// As any call.
    pub async fn status(&self) -> Result<pb::StatusResponse, ClientError> {
        let plan = self.plan("read the status of the cluster", true);
        let (status, _) = unary!(self, plan, ClusterClient.status(pb::StatusRequest {}))?;
        self.directory().learn(&status);
        Ok(status)
    }

    /// Forms a cluster from waiting nodes, once. `addresses` are the client addresses of all of them; the first is asked.
    ///
    /// # Errors
    /// `BadRequest` names the cluster when there is one already; or as any call.
    pub async fn init(&self, addresses: &[String]) -> Result<pb::InitResponse, ClientError> {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|address| leader::authority(address))
            .collect::<Result<_, _>>()?;
        let plan = Plan {
            only: addresses.iter().take(1).cloned().collect(),
            ..self.plan("form a cluster", false)
        };
        let request = pb::InitRequest { addresses };
        Ok(unary!(self, plan, ClusterClient.init(request))?.0)
    }

    /// Admits the waiting node at `address`; the stream tells how far it is and ends when it votes. Dropping the stream
    /// does not undo anything.
    ///
    /// # Errors
    /// As any call; so do the stream's items.
    pub async fn join(
        &self,
        address: &str,
    ) -> Result<impl Stream<Item = Result<pb::JoinProgress, ClientError>> + use<>, ClientError>
    {
        let address = leader::authority(address)?;
        let what = format!("admit node {address}");
        let request = pb::JoinRequest { address };
        let plan = self.plan(what.clone(), false);
        let (answers, node) = self
            .call(plan, |target: Target| {
                // Without a deadline of the call: catching up takes as long as it takes.
                let request = tonic::Request::new(request.clone());
                async move {
                    let answers = stub!(ClusterClient, target.channel).join(request).await?;
                    Ok(answers.into_inner())
                }
            })
            .await?;
        let after = self.options().timeout;
        Ok(answers.map(move |item| {
            item.map_err(|status| Failure::of(&status).into_error_at(&what, &node, after))
        }))
    }

    /// Removes a member for good; answers the members that are left. Its number is never used again.
    ///
    /// # Errors
    /// `Rejected` with `UnknownMember`; or as any call.
    pub async fn remove_member(
        &self,
        node: NodeId,
    ) -> Result<pb::RemoveMemberResponse, ClientError> {
        let plan = self.plan(format!("remove node {node}"), false);
        let request = pb::RemoveMemberRequest { node_id: node.0 };
        Ok(unary!(self, plan, ClusterClient.remove_member(request))?.0)
    }

    /// Hands leadership to `node`, or to the most caught-up voter; answers who leads then.
    ///
    /// # Errors
    /// As any call.
    pub async fn transfer_leader(&self, node: Option<NodeId>) -> Result<NodeId, ClientError> {
        let plan = self.plan("hand leadership over", false);
        let request = pb::TransferLeaderRequest {
            node_id: node.map_or(0, |node| node.0),
        };
        let (answer, _) = unary!(self, plan, ClusterClient.transfer_leader(request))?;
        Ok(NodeId(answer.leader_id))
    }
}

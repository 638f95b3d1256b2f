//! Who is who among the members: addresses to dial, and the check that a message is meant for this node.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Code, Status};

use super::state_machine::StateView;
use crate::{
    domain::{ClusterId, GroupId, NodeId},
    pb,
};

/// This node as it presents itself to the other members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// Drawn when its data directory was made.
    pub incarnation: u64,
}

/// The members as this node knows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerBook {
    identity: Identity,
    view: Arc<StateView>,
    last_refusal: Arc<Mutex<String>>,
}

impl PeerBook {
    /// Over the applied state.
    #[must_use]
    pub fn new(identity: Identity, view: StateView) -> Self {
        Self {
            identity,
            view: Arc::new(view),
            last_refusal: Arc::default(),
        }
    }

    /// This node.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where a member is reached by members: as announced last, else as in the membership.
    #[must_use]
    pub fn peer_address(&self, node: NodeId) -> Option<String> {
        let members = self.view.members();
        members.get(&node).map(|member| member.peer_address.clone())
    }

    /// Where a member is reached by clients.
    #[must_use]
    pub fn client_address(&self, node: NodeId) -> Option<String> {
        let members = self.view.members();
        members
            .get(&node)
            .map(|member| member.client_address.clone())
    }

    /// What each message to `to` begins with.
    #[must_use]
    pub fn header(&self, to: NodeId) -> pb::PeerHeader {
        pb::PeerHeader {
            cluster_id: self.identity.cluster.0.to_be_bytes().to_vec().into(),
            group: GroupId::default().0,
            from: self.identity.node.0,
            from_incarnation: self.identity.incarnation,
            to: to.0,
        }
    }

    /// Logs a refusal, but not over and over: heartbeats come several times a second.
    fn note_refusal(&self, why: &str) {
        let mut last = self
            .last_refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *last != why {
            tracing::warn!(%why, "refused a peer's message");
            why.clone_into(&mut last);
        }
    }

    /// Refuses a message that is not for this node of this cluster and group, or from a member's number on another disk.
    ///
    /// # Errors
    /// A status that says what does not fit, and the cure where there is one.
    pub fn check(&self, header: Option<&pb::PeerHeader>) -> Result<NodeId, Status> {
        let refuse = |why: String| {
            self.note_refusal(&why);
            Err(Status::new(Code::PermissionDenied, why))
        };
        let Some(header) = header else {
            return refuse("a peer message without a header".to_owned());
        };
        let me = self.identity;
        if header.cluster_id[..] != me.cluster.0.to_be_bytes() {
            return refuse(format!(
                "this is {} of cluster {}, but the message is for another cluster: check the addresses of both",
                me.node, me.cluster
            ));
        }
        if header.group != GroupId::default().0 {
            return refuse(format!("this node has no group {}", header.group));
        }
        if header.to != me.node.0 {
            let (to, me) = (NodeId(header.to), me.node);
            return refuse(format!(
                "this is {me}, not {to}: an address in the membership is wrong"
            ));
        }
        let from = NodeId(header.from);
        let members = self.view.members();
        let known = members.get(&from).map(|member| member.incarnation);
        if known.is_some_and(|incarnation| incarnation != header.from_incarnation) {
            return refuse(format!(
                "{from} speaks from another disk than the one that joined: a wiped or foreign data directory must not come \
                 back under an old number; cure: dos-cluster member remove {from}, then dos-cluster join with an empty data \
                 directory"
            ));
        }
        Ok(from)
    }
}

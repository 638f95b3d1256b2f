//! Kept connections from this node to the others, for what is forwarded and for asking who is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::Channel;

use crate::{
    domain::{Member, NodeId, limits::MESSAGE_BYTES_MAX},
    env::{
        net::{self, ChannelOptions},
        time,
    },
    pb,
    pb::{bootstrap_client::BootstrapClient, forward_client::ForwardClient},
    raft::Group,
};

/// How long a node is given to say that it is there.
pub(super) const PROBE_WITHIN: Duration = Duration::from_millis(500);

/// One channel per address. Cheap to clone; bounded by the number of members, for addresses come from the membership.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Links {
    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let channel = net::channel(address, ChannelOptions::BETWEEN_MEMBERS)
            .inspect_err(|error| tracing::warn!(address, %error, "cannot dial"))
            .ok()?;
        if channels.len() >= crate::domain::limits::MEMBERS_MAX * 2 {
            channels.clear(); // addresses of former members
        }
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }

    /// The forwarding service of a member.
    pub(super) fn forward(&self, group: &Group, node: NodeId) -> Option<ForwardClient<Channel>> {
        let address = group.peers().peer_address(node)?;
        let client = ForwardClient::new(self.channel(&address)?);
        Some(
            client
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// Asks whoever listens at a peer address who it is.
    pub(super) async fn probe(&self, peer_address: &str) -> Result<pb::ProbeResponse, String> {
        let channel = self
            .channel(peer_address)
            .ok_or_else(|| format!("{peer_address:?} is no host:port"))?;
        let mut client = BootstrapClient::new(channel);
        match time::timeout(PROBE_WITHIN, client.probe(pb::ProbeRequest {})).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {PROBE_WITHIN:?}")),
        }
    }

    /// The bootstrap service at a peer address.
    pub(super) fn bootstrap(&self, peer_address: &str) -> Option<BootstrapClient<Channel>> {
        Some(BootstrapClient::new(self.channel(peer_address)?))
    }

    /// A sentence that names the members that do not answer now.
    pub(super) async fn who_is_missing(&self, group: &Group) -> String {
        let me = group.peers().identity().node;
        let members: Vec<Member> = group
            .view()
            .read()
            .members()
            .filter(|member| member.node != me)
            .cloned()
            .collect();
        let probes = members.iter().map(|member| async move {
            let found = self.probe(&member.peer_address).await;
            let there = found.is_ok_and(|answer| answer.node_id == member.node.0);
            (!there).then(|| format!("{} at {}", member.node, member.peer_address))
        });
        let missing: Vec<String> = futures::future::join_all(probes)
            .await
            .into_iter()
            .flatten()
            .collect();
        if missing.is_empty() {
            "all members answer; an election is under way".to_owned()
        } else {
            format!("not answering: {}", missing.join(", "))
        }
    }
}

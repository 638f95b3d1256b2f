//! What a group says of itself: facts from openraft's metrics, in our words.

use std::collections::BTreeMap;

use openraft::{Instant, ServerState, metrics::RaftMetrics};

use super::types::{TypeConfig, member};
use crate::domain::{Member, NodeId};

/// What a node is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes the writes.
    Leader,
    /// Follows a leader, with a vote.
    Follower,
    /// Follows a leader, without a vote.
    Learner,
    /// Asks for votes.
    Candidate,
    /// Stopped.
    Stopped,
}

/// A member as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberProgress {
    /// Identity, and the addresses it was added with.
    pub member: Member,
    /// With a vote.
    pub voter: bool,
    /// The last index known to be on its disk; only the leader knows.
    pub matched_index: Option<u64>,
    /// Milliseconds since it last answered; only the leader knows.
    pub last_answer_ms: Option<u64>,
}

/// A snapshot of openraft's metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// What this node is.
    pub role: Role,
    /// Raft's term.
    pub term: u64,
    /// The leader that this node leads as, or has heard lately.
    pub leader: Option<NodeId>,
    /// Its last log index.
    pub last_log_index: u64,
    /// Up to where it has applied.
    pub applied_index: u64,
    /// Up to where its newest snapshot goes.
    pub snapshot_index: u64,
    /// Up to where its log is purged.
    pub purged_index: u64,
    /// Milliseconds since a majority acknowledged this leader; `None` elsewhere.
    pub quorum_acknowledged_ms: Option<u64>,
    /// A membership change is not finished.
    pub joint: bool,
    /// The members, by number.
    pub members: Vec<MemberProgress>,
    /// Why Raft stopped, when it did.
    pub failed: Option<String>,
}

impl GroupStatus {
    /// The voters' numbers.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.members
            .iter()
            .filter(|member| member.voter)
            .map(|member| member.member.node)
    }

    /// A member by number.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&MemberProgress> {
        self.members
            .iter()
            .find(|member| member.member.node == node)
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn status_of(metrics: &RaftMetrics<TypeConfig>) -> GroupStatus {
    let stored = &metrics.membership_config;
    let voters: Vec<u64> = stored.voter_ids().collect();
    let matched: BTreeMap<u64, Option<u64>> = metrics
        .replication
        .iter()
        .flatten()
        .map(|(node, log_id)| (*node, log_id.as_ref().map(|id| id.index)))
        .collect();
    let heard: BTreeMap<u64, u64> = metrics
        .heartbeat
        .iter()
        .flatten()
        .filter_map(|(node, at)| Some((*node, millis(at.as_ref()?.elapsed()))))
        .collect();
    let progress = |(node, peer): (&u64, &super::types::Peer)| MemberProgress {
        member: member(*node, peer),
        voter: voters.contains(node),
        matched_index: matched.get(node).map(|index| index.unwrap_or_default()),
        last_answer_ms: heard.get(node).copied(),
    };
    GroupStatus {
        role: match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Learner => Role::Learner,
            ServerState::Candidate => Role::Candidate,
            ServerState::Shutdown => Role::Stopped,
        },
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        last_log_index: metrics.last_log_index.unwrap_or_default(),
        applied_index: metrics.last_applied.map_or(0, |id| id.index),
        snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
        purged_index: metrics.purged.map_or(0, |id| id.index),
        quorum_acknowledged_ms: if voters == [metrics.id] {
            Some(0).filter(|_| metrics.state == ServerState::Leader) // it is a majority by itself, and asks nobody
        } else {
            metrics.last_quorum_acked.map(|at| millis(at.elapsed()))
        },
        joint: stored.get_joint_config().len() > 1,
        members: stored.nodes().map(progress).collect(),
        failed: metrics
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string),
    }
}

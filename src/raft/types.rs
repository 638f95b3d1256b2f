//! openraft's type parameters, and its types to storage's and the wire's and back.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use openraft::{EntryPayload, Membership};
use prost::Message;

use crate::{
    codec::CodecError,
    domain::{Member, NodeId, Outcome, Rejected},
    pb,
    storage::wal,
};

/// openraft's own runtime; in a simulation, the same with its randomness seeded.
#[cfg(not(sim))]
pub(super) type Runtime = openraft_rt_tokio::TokioRuntime;
#[cfg(sim)]
pub(super) type Runtime = super::simulated_runtime::SimulatedRuntime;

openraft::declare_raft_types!(
    /// dos-cluster's parameters of openraft.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = Runtime,
);

pub(super) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(super) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// An encoded command: encoded once, and never copied between the socket, the log and the followers.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry answered; `None` for entries that are not commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub Option<Result<Outcome, Rejected>>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("nothing"),
            Some(Ok(_)) => f.write_str("done"),
            Some(Err(rejected)) => rejected.fmt(f),
        }
    }
}

/// A member as Raft's membership carries it. The addresses are those of the time it was added; the state knows newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Drawn when its data directory was made.
    pub incarnation: u64,
    /// `host:port` for clients.
    pub client_address: String,
    /// `host:port` for the other members.
    pub peer_address: String,
    /// `host:port` of health and metrics.
    pub http_address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer_address)
    }
}

impl From<Member> for Peer {
    fn from(member: Member) -> Self {
        Self {
            incarnation: member.incarnation,
            client_address: member.client_address,
            peer_address: member.peer_address,
            http_address: member.http_address,
        }
    }
}

pub(super) fn member(node: u64, peer: &Peer) -> Member {
    Member {
        node: NodeId(node),
        incarnation: peer.incarnation,
        client_address: peer.client_address.clone(),
        peer_address: peer.peer_address.clone(),
        http_address: peer.http_address.clone(),
    }
}

// --- storage

pub(super) fn log_id_to_wal(id: &LogId) -> wal::LogId {
    wal::LogId {
        term: id.leader_id.term,
        node_id: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn log_id_from_wal(id: wal::LogId) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: id.term,
            node_id: id.node_id,
        },
        index: id.index,
    }
}

pub(super) fn vote_to_wal(vote: &Vote) -> wal::Vote {
    wal::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(super) fn vote_from_wal(vote: wal::Vote) -> Vote {
    Vote {
        leader_id: LeaderId {
            term: vote.term,
            node_id: vote.node_id,
        },
        committed: vote.committed,
    }
}

const BLANK: u8 = 1;
const COMMAND: u8 = 2;
const MEMBERSHIP: u8 = 3;

fn payload_to_bytes(payload: EntryPayload<Proposal, u64, Peer>) -> (u8, Bytes) {
    match payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(proposal) => (COMMAND, proposal.0),
        EntryPayload::Membership(membership) => (
            MEMBERSHIP,
            membership_to_pb(&membership).encode_to_vec().into(),
        ),
    }
}

fn payload_from_bytes(
    kind: u8,
    payload: Bytes,
) -> Result<EntryPayload<Proposal, u64, Peer>, CodecError> {
    match kind {
        BLANK => Ok(EntryPayload::Blank),
        COMMAND => Ok(EntryPayload::Normal(Proposal(payload))),
        MEMBERSHIP => {
            let membership = pb::RaftMembership::decode(payload)
                .map_err(|e| CodecError::damaged("membership", e))?;
            Ok(EntryPayload::Membership(membership_from_pb(membership)?))
        }
        other => Err(CodecError::damaged(
            "log entry",
            format!("kind {other} is not known to this version"),
        )),
    }
}

pub(super) fn entry_to_wal(entry: Entry) -> wal::LogEntry {
    let log_id = log_id_to_wal(&entry.log_id);
    let (kind, payload) = payload_to_bytes(entry.payload);
    wal::LogEntry {
        log_id,
        kind,
        payload,
    }
}

pub(super) fn entry_from_wal(entry: wal::LogEntry) -> Result<Entry, CodecError> {
    Ok(Entry {
        log_id: log_id_from_wal(entry.log_id),
        payload: payload_from_bytes(entry.kind, entry.payload)?,
    })
}

// --- wire

pub(super) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        node_id: id.leader_id.node_id,
        index: id.index,
    }
}

pub(super) fn log_id_from_pb(id: pb::LogId) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: id.term,
            node_id: id.node_id,
        },
        index: id.index,
    }
}

pub(super) fn vote_to_pb(vote: &Vote) -> pb::RaftVote {
    pb::RaftVote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(super) fn vote_from_pb(vote: Option<pb::RaftVote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or_else(|| CodecError::field("vote", "it is missing"))?;
    let leader_id = LeaderId {
        term: vote.term,
        node_id: vote.node_id,
    };
    Ok(Vote {
        leader_id,
        committed: vote.committed,
    })
}

pub(super) fn entry_to_pb(entry: Entry) -> pb::RaftEntry {
    let log_id = Some(log_id_to_pb(&entry.log_id));
    let (kind, payload) = payload_to_bytes(entry.payload);
    pb::RaftEntry {
        log_id,
        kind: u32::from(kind),
        payload,
    }
}

pub(super) fn entry_from_pb(entry: pb::RaftEntry) -> Result<Entry, CodecError> {
    let log_id = entry
        .log_id
        .ok_or_else(|| CodecError::field("log id", "it is missing"))?;
    let kind = u8::try_from(entry.kind).unwrap_or(u8::MAX);
    Ok(Entry {
        log_id: log_id_from_pb(log_id),
        payload: payload_from_bytes(kind, entry.payload)?,
    })
}

fn membership_to_pb(membership: &Membership<u64, Peer>) -> pb::RaftMembership {
    let set = |ids: &std::collections::BTreeSet<u64>| pb::RaftVoterSet {
        node_ids: ids.iter().copied().collect(),
    };
    pb::RaftMembership {
        configs: membership.get_joint_config().iter().map(set).collect(),
        members: membership
            .nodes()
            .map(|(node, peer)| (&member(*node, peer)).into())
            .collect(),
    }
}

fn membership_from_pb(membership: pb::RaftMembership) -> Result<Membership<u64, Peer>, CodecError> {
    let configs: Vec<_> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().collect())
        .collect();
    let peers: BTreeMap<u64, Peer> = membership
        .members
        .into_iter()
        .map(|peer| (peer.node_id, Member::from(peer).into()))
        .collect();
    if configs.is_empty() && peers.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, peers).map_err(|e| CodecError::damaged("membership", e))
}

pub(super) fn stored_membership_to_pb(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(stored.membership())),
    }
}

pub(super) fn stored_membership_from_pb(
    stored: Option<pb::StoredMembership>,
) -> Result<StoredMembership, CodecError> {
    let stored = stored.unwrap_or_default();
    let membership = membership_from_pb(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(
        stored.log_id.map(log_id_from_pb),
        membership,
    ))
}

/// The applied mark that the state store keeps with each batch: up to where the log is applied, and the membership there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Applied {
    pub(super) log_id: Option<LogId>,
    pub(super) membership: StoredMembership,
}

impl Applied {
    pub(super) fn encode(&self) -> Bytes {
        let stored = pb::StoredApplied {
            log_id: self.log_id.as_ref().map(log_id_to_pb),
            membership: Some(stored_membership_to_pb(&self.membership)),
        };
        stored.encode_to_vec().into()
    }

    pub(super) fn decode(raw: Option<Bytes>) -> Result<Self, CodecError> {
        let Some(raw) = raw else {
            return Ok(Self::default());
        };
        let stored =
            pb::StoredApplied::decode(raw).map_err(|e| CodecError::damaged("applied mark", e))?;
        Ok(Self {
            log_id: stored.log_id.map(log_id_from_pb),
            membership: stored_membership_from_pb(stored.membership)?,
        })
    }

    pub(super) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.log_id,
            last_membership: self.membership.clone(),
        }
    }
}

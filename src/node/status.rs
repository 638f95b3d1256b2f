//! The one map from what goes wrong in a node to a gRPC status, a stable code, and whether the call may have had an effect.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{
    codec::{
        CodecError,
        wire::{attach_detail, detail_of},
    },
    domain::{Rejected, limits::COMMAND_BYTES_MAX, rejected::what},
    pb,
    raft::ProposeError,
    storage::StorageError,
};

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Decided, and refused.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The request cannot be understood.
    #[error(transparent)]
    BadRequest(#[from] CodecError),
    /// The node has no identity yet.
    #[error(
        "this node waits for `dos-cluster init` or `dos-cluster join`: it is not a member of a cluster yet"
    )]
    Waiting,
    /// The node refuses to come back, and says why.
    #[error("{0}")]
    Unfit(String),
    /// The node is recovering.
    #[error("this node is starting: try again shortly, or ask another member")]
    Starting,
    /// The node is going down.
    #[error("this node is stopping: ask another member")]
    Stopping,
    /// Nobody leads; nothing was tried.
    #[error("no leader within {after:.1?}: {missing}")]
    NoLeader {
        /// How long was waited.
        after: Duration,
        /// Which members do not answer.
        missing: String,
    },
    /// It was proposed, but no majority has answered.
    #[error("no majority answered within {after:.1?}: {missing}; it may yet be carried out")]
    NoQuorum {
        /// How long was waited.
        after: Duration,
        /// Which members do not answer.
        missing: String,
    },
    /// The leader changed, or the way to it broke, while it was under way.
    #[error(
        "the leader was lost while the call was under way ({why}); it may have been carried out: read before trying again"
    )]
    LeaderLost {
        /// What broke.
        why: String,
    },
    /// A read's floor was not reached.
    #[error(
        "this node has not applied log index {index} within {after:.1?} (it is at {applied}): ask another member"
    )]
    Behind {
        /// The floor.
        index: u64,
        /// Where the node is.
        applied: u64,
        /// How long was waited.
        after: Duration,
    },
    /// A range that is not there.
    #[error("bytes {from}..{to} of journal {journal} are not there: its tail is {tail}")]
    OutOfRange {
        /// The journal.
        journal: String,
        /// The first byte asked for.
        from: u64,
        /// One past the last.
        to: u64,
        /// The tail.
        tail: u64,
    },
    /// The journal's end was cut off, or replaced, while it was read.
    #[error(
        "journal {journal} was cut, or replaced by a snapshot, while it was read: read it again"
    )]
    CutMeanwhile {
        /// The journal.
        journal: String,
    },
    /// Bytes of a journal do not verify here; other members have them.
    #[error("journal {journal} is damaged on this node: {source}; read it from another member")]
    DamagedJournal {
        /// The journal.
        journal: String,
        /// Where, and how.
        source: StorageError,
    },
    /// The disk or its content.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A cluster is there already.
    #[error(
        "{address} belongs to cluster {cluster} already: an init happens once, and a join takes a waiting node with an empty data directory (`dos-cluster status` shows the cluster)"
    )]
    AlreadyFormed {
        /// The node asked.
        address: String,
        /// Its cluster.
        cluster: String,
    },
    /// Another init is at work at the same nodes.
    #[error(
        "{address} was given to cluster {cluster} just now, by another init or join: wait for that, or try again in a few seconds"
    )]
    InitUnderWay {
        /// The node asked.
        address: String,
        /// The other cluster.
        cluster: String,
    },
    /// A node that init or join needs does not answer, or not as it should.
    #[error("{address}: {why}")]
    Peer {
        /// The node.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// A membership change, or a transfer, makes no sense; nothing has happened.
    #[error("{0}")]
    Refused(String),
    /// Raft refused a membership change, or part of it.
    #[error("{0}")]
    Membership(String),
    /// More than this node takes at once.
    #[error("this node has {what}: try again shortly, or ask another member")]
    Overloaded {
        /// What there is too much of.
        what: &'static str,
    },
    /// Raft has stopped on this node.
    #[error("Raft has stopped on this node ({0}): see its log; ask another member")]
    RaftStopped(String),
}

/// The code of [`NodeError::AlreadyFormed`].
pub(super) const ALREADY_FORMED: &str = "already_formed";
/// The code of [`NodeError::Refused`].
pub(super) const REFUSED: &str = "refused";
/// The code of [`NodeError::InitUnderWay`].
pub(super) const INIT_UNDER_WAY: &str = "init_under_way";

/// May the call have changed something?
fn effect(error: &NodeError) -> pb::Effect {
    match error {
        NodeError::Rejected(_)
        | NodeError::BadRequest(_)
        | NodeError::Waiting
        | NodeError::Unfit(_)
        | NodeError::Starting
        | NodeError::Stopping
        | NodeError::NoLeader { .. }
        | NodeError::Behind { .. }
        | NodeError::OutOfRange { .. }
        | NodeError::CutMeanwhile { .. }
        | NodeError::DamagedJournal { .. }
        | NodeError::Storage(_)
        | NodeError::AlreadyFormed { .. }
        | NodeError::InitUnderWay { .. }
        | NodeError::Refused(_)
        | NodeError::Overloaded { .. } => pb::Effect::None,
        NodeError::NoQuorum { .. }
        | NodeError::LeaderLost { .. }
        | NodeError::Peer { .. }
        | NodeError::Membership(_)
        | NodeError::RaftStopped(_) => pb::Effect::Unknown,
    }
}

fn code(error: &NodeError) -> (Code, &'static str) {
    match error {
        NodeError::Rejected(_) => (Code::FailedPrecondition, "rejected"),
        NodeError::BadRequest(_) => (Code::InvalidArgument, "bad_request"),
        NodeError::Waiting => (Code::Unavailable, "waiting"),
        NodeError::Unfit(_) => (Code::FailedPrecondition, "unfit"),
        NodeError::Starting => (Code::Unavailable, "starting"),
        NodeError::Stopping => (Code::Unavailable, "stopping"),
        NodeError::NoLeader { .. } => (Code::Unavailable, "no_leader"),
        NodeError::NoQuorum { .. } => (Code::Unavailable, "no_quorum"),
        NodeError::LeaderLost { .. } => (Code::Unavailable, "leader_lost"),
        NodeError::Behind { .. } => (Code::Unavailable, "behind"),
        NodeError::OutOfRange { .. } => (Code::OutOfRange, "out_of_range"),
        NodeError::CutMeanwhile { .. } => (Code::Aborted, "cut_meanwhile"),
        NodeError::Storage(
            StorageError::Damaged { .. }
            | StorageError::StateDamaged { .. }
            | StorageError::JournalDamaged { .. },
        )
        | NodeError::DamagedJournal { .. } => (Code::DataLoss, "damaged"),
        NodeError::Storage(_) => (Code::Internal, "storage"),
        NodeError::AlreadyFormed { .. } => (Code::AlreadyExists, ALREADY_FORMED),
        NodeError::InitUnderWay { .. } => (Code::Unavailable, INIT_UNDER_WAY),
        NodeError::Peer { .. } => (Code::Unavailable, "peer"),
        NodeError::Refused(_) => (Code::FailedPrecondition, REFUSED),
        NodeError::Membership(_) => (Code::FailedPrecondition, "membership"),
        NodeError::Overloaded { .. } => (Code::ResourceExhausted, "overloaded"),
        NodeError::RaftStopped(_) => (Code::Unavailable, "raft_stopped"),
    }
}

impl From<NodeError> for Status {
    fn from(error: NodeError) -> Self {
        let (status, stable) = code(&error);
        let rejected = match &error {
            NodeError::Rejected(rejected) => Some(rejected.into()),
            _ => None,
        };
        let detail = pb::ErrorDetail {
            effect: effect(&error).into(),
            code: stable.to_owned(),
            rejected,
            leader_address: String::new(),
        };
        let mut status = Self::new(status, error.to_string());
        attach_detail(&mut status, &detail);
        status
    }
}

impl From<ProposeError> for NodeError {
    /// Outcomes that are not handled by trying again.
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { .. } => Self::NoLeader {
                after: Duration::ZERO,
                missing: "this node does not lead".to_owned(),
            },
            ProposeError::Lost => Self::LeaderLost {
                why: "its log gave way to another leader's".to_owned(),
            },
            ProposeError::NoQuorum => Self::NoQuorum {
                after: Duration::ZERO,
                missing: "a majority does not answer".to_owned(),
            },
            ProposeError::TooLarge { bytes } => Self::Rejected(Rejected::TooLarge {
                what: what::COMMAND,
                bytes: bytes as u64,
                bytes_max: COMMAND_BYTES_MAX as u64,
            }),
            ProposeError::Stalled => Self::Overloaded {
                what: "a disk under its log that hangs",
            },
            ProposeError::Stopped(why) => Self::RaftStopped(why),
            ProposeError::Refused(why) => Self::Refused(why),
            ProposeError::Membership(why) => Self::Membership(why),
            ProposeError::UnknownMember(node) => Self::Rejected(Rejected::UnknownMember { node }),
        }
    }
}

/// True when a failed call of another member had no effect, and another try may fare better.
pub(super) fn may_try_again(status: &Status) -> bool {
    let retriable = ["starting", "stopping", "waiting", "no_leader", "overloaded"];
    detail_of(status)
        .is_some_and(|d| d.effect() == pb::Effect::None && retriable.contains(&d.code.as_str()))
}

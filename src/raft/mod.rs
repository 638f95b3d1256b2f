//! The only place that spells openraft: one replicated group of this node.
//!
//! Floor 3 sees [`Group`]: commands go in, answers come out, and the applied state is read through a [`StateView`]. What
//! openraft calls vote, log id or membership stays in here, so that a new version of it is a change of this folder.
//!
//! ```text
//! propose -> openraft core -> log_store (write-ahead log) ----> fsync here
//!                          -> network -> follower's service --> fsync there
//!            commit (a majority) -> state_machine (core + state store) -> answer
//! ```
//! The order of the log's marks: `purged <= snapshot <= applied <= commit`, and `purged <= synced`; a commit may be ahead of this
//! node's own sync, never of a majority's.

#![expect(
    unreachable_pub,
    reason = "openraft's associated types must be pub, in modules that nobody else sees"
)]

mod bereaved;
mod compaction;
mod group;
mod heard;
mod log_store;
mod network;
mod peers;
mod receive_snapshot;
mod send_snapshot;
mod service;
#[cfg(sim)]
mod simulated_runtime;
mod snapshot;
mod state_machine;
mod status;
mod types;

pub use group::{Group, GroupOptions, ProposeError, Proposed, StartError, StatusChanges};
pub use peers::{Identity, PeerBook};
pub use service::RaftService;
pub use state_machine::StateView;
pub use status::{GroupStatus, MemberProgress, Role};

use state_machine::StateMachine;
use types::TypeConfig;

type RaftHandle = openraft::Raft<TypeConfig, StateMachine>;

#[cfg(test)]
mod tests;

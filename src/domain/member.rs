//! What the cluster knows of each member besides Raft's membership.

use super::ids::NodeId;

/// A member's identity and addresses. Addresses may change freely; the incarnation never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Drawn at random when its data directory was made: another one under the same number is a wiped or foreign disk.
    pub incarnation: u64,
    /// `host:port` for clients.
    pub client_address: String,
    /// `host:port` for the other members.
    pub peer_address: String,
    /// `host:port` of health, metrics and the status page.
    pub http_address: String,
}

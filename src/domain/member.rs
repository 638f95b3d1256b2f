//! What the cluster knows of each member besides Raft's membership.

use super::{
    ids::NodeId,
    limits::ADDRESS_BYTES_MAX,
    rejected::{Rejected, what},
};

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

impl Member {
    /// Refuses addresses that nobody can have: they are kept for ever and travel in every status.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn check(&self) -> Result<(), Rejected> {
        let addresses = [&self.client_address, &self.peer_address, &self.http_address];
        match addresses
            .iter()
            .find(|address| address.len() > ADDRESS_BYTES_MAX)
        {
            None => Ok(()),
            Some(long) => Err(Rejected::TooLarge {
                what: what::ADDRESS,
                bytes: long.len() as u64,
                bytes_max: ADDRESS_BYTES_MAX as u64,
            }),
        }
    }
}

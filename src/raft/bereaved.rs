//! A leader whose process is gone: its host says so at once, and nobody has to wait out the election timeout.
//!
//! When a process ends, its host closes its connections and refuses new ones. So a follower whose replication stream broke, or which
//! has missed two heartbeats, for an idle leader keeps no stream, knocks at its leader's port: refused there, it stands for election as if leadership had been handed to it, which the others do not hold
//! against the lease of the dead leader. A leader that is only cut off, or hung, or restarted by then refuses nobody, and is
//! waited for as ever. That is no question of safety, for a candidate needs a majority of votes in any case; the survivors go one
//! after the other, so that they do not split them.

use std::{io, time::Duration};

use openraft::{async_runtime::WatchReceiver, raft::TransferLeaderRequest};
use tokio::sync::mpsc;

use super::{RaftHandle, heard::Heard, peers::PeerBook};
use crate::{
    domain::NodeId,
    env::{net, task, time},
};

/// How often a port is knocked at, and with which pause, before its process counts as alive: the sockets of a process that is
/// killed do not all close at the same instant.
const KNOCKS: u32 = 5;
const KNOCK_AGAIN: Duration = Duration::from_millis(10);
/// How long a port may take to refuse or to accept; on the way to a host that is gone nobody answers.
const KNOCK_WITHIN: Duration = Duration::from_millis(100);
/// The next survivor stands so much later than the one before.
const TURN: Duration = Duration::from_millis(150);

/// Takes reports of broken replication streams. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Bereaved {
    broken: mpsc::Sender<NodeId>,
}

/// Reports a replication stream when it is dropped, however it ended.
#[derive(Debug)]
pub(super) struct BrokenStream {
    from: NodeId,
    broken: mpsc::Sender<NodeId>,
}

impl Drop for BrokenStream {
    fn drop(&mut self) {
        // When reports wait already, one of them is about the same leader.
        let _ = self.broken.try_send(self.from);
    }
}

impl Bereaved {
    /// Looks after broken streams, and a leader that is silent, until `raft` has stopped or is not served any more.
    pub(super) fn start(
        raft: RaftHandle,
        peers: PeerBook,
        heard: Heard,
        heartbeat: Duration,
    ) -> Self {
        let (broken, mut reports) = mpsc::channel(4);
        task::spawn(async move {
            loop {
                let suspect = tokio::select! {
                    report = reports.recv() => match report {
                        Some(from) => Some(from),
                        None => return,
                    },
                    () = time::sleep(heartbeat) => {
                        let silent = heard.silent_for().is_some_and(|silent| silent > 2 * heartbeat);
                        let metrics = raft.metrics();
                        let followed = metrics.borrow_watched().current_leader.map(NodeId);
                        followed.filter(|leader| silent && *leader != peers.identity().node)
                    }
                };
                if let Some(leader) = suspect
                    && stand_if_gone(&raft, &peers, leader).await.is_err()
                {
                    return;
                }
            }
        });
        Self { broken }
    }

    /// To be held for as long as a replication stream of that member lasts.
    pub(super) fn stream_of(&self, from: NodeId) -> BrokenStream {
        BrokenStream {
            from,
            broken: self.broken.clone(),
        }
    }
}

/// Stands for election if nobody else than `leader` leads, and its process is gone.
///
/// # Errors
/// When Raft has stopped.
async fn stand_if_gone(
    raft: &RaftHandle,
    peers: &PeerBook,
    leader: NodeId,
) -> Result<(), impl std::error::Error + use<>> {
    let me = peers.identity().node;
    // This node's turn among the survivors, and its vote; `None` when it has none, or follows somebody else.
    let turn = || {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        let mut survivors: Vec<u64> = voters.filter(|voter| *voter != leader.0).collect();
        survivors.sort_unstable();
        let turn = survivors.iter().position(|voter| *voter == me.0)?;
        let follows = metrics.current_leader;
        (follows.is_none() || follows == Some(leader.0)).then(|| (turn, metrics.vote))
    };
    let Some((before, _)) = turn() else {
        return Ok(());
    };
    let Some(address) = peers.peer_address(leader) else {
        return Ok(());
    };
    if !is_gone(&address).await {
        return Ok(());
    }
    time::sleep(TURN.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))).await;
    // One that went before may have raised the term and lost, for its log was behind: then it is this one's turn all the same.
    let Some((_, vote)) = turn() else {
        return Ok(());
    };
    tracing::info!(%leader, "the leader's process is gone; standing for election");
    let handed_over = TransferLeaderRequest::new(vote, me.0, None);
    raft.handle_transfer_leader(handed_over).await.map(|_| ())
}

/// Whether connections to `address` are refused: by its host, on which nobody listens there any more.
async fn is_gone(address: &str) -> bool {
    for _ in 0..KNOCKS {
        match time::timeout(KNOCK_WITHIN, net::connect(address)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Ok(_) => time::sleep(KNOCK_AGAIN).await,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_port_that_refuses_is_gone() {
        let listener = net::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_gone(&address).await);
        drop(listener);
        assert!(is_gone(&address).await);
    }
}

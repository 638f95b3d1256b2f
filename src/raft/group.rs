//! One replicated group: start it, propose to it, read from it, change its members, stop it.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use openraft::{
    ChangeMembers, Config, ReadPolicy, SnapshotPolicy,
    alias::WatchReceiverOf,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, LinearizableReadError, RaftError},
    impls::ProgressResponder,
    metrics::RaftServerMetrics,
    raft::ClientWriteResponse,
};
use tokio::sync::{Notify, watch};

use super::{
    RaftHandle, RaftService,
    bereaved::Bereaved,
    compaction,
    heard::Heard,
    log_store::LogStore,
    network::Network,
    peers::{Identity, PeerBook},
    receive_snapshot::SnapshotReceiver,
    snapshot::SnapshotDir,
    state_machine::{StateMachine, StateView},
    status::{GroupStatus, Role, status_of},
    types::{Answer, Peer, Proposal, TypeConfig},
};
use crate::{
    codec::wire::encode_command,
    domain::{Command, Member, NodeId, Outcome, Rejected, limits::COMMAND_BYTES_MAX},
    env::{task, time},
    storage::{state::StateStore, wal::Wal},
};

/// How long a command waits for a log whose disk is behind.
const ROOM_WITHIN: Duration = Duration::from_secs(2);

/// What a group needs besides its stores.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// Who this node is.
    pub identity: Identity,
    /// The node's `snapshots/` directory.
    pub snapshots_dir: std::path::PathBuf,
    /// How often a leader is heard. Also the deadline of one heartbeat, which is answered behind the log's syncs.
    pub heartbeat: Duration,
    /// A follower that heard nothing for this, and a random time of up to a fifth more, asks for votes.
    pub election_timeout: Duration,
    /// A snapshot is built after this much log.
    pub snapshot_log_bytes: u64,
}

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A record or the newest snapshot cannot be read.
    #[error("cannot read the state of this node: {0}")]
    State(#[from] std::io::Error),
    /// openraft refuses the log and state as they are.
    #[error("cannot start Raft from what is on the disk: {0}")]
    Raft(String),
    /// The timeouts do not fit together.
    #[error("the Raft timeouts do not fit together: {0}")]
    Config(String),
}

/// Why a command, or a read, was not decided here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead; nothing has happened.
    #[error("this node does not lead the cluster")]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// The leader changed while the command was on its way: it may be committed yet.
    #[error("the leader changed while the command was under way; it may have been carried out")]
    Lost,
    /// No majority answers.
    #[error("no majority of the voters answers")]
    NoQuorum,
    /// The disk under this node's log takes no more; nothing has happened.
    #[error("the disk under this node's log hangs")]
    Stalled,
    /// The command is longer than a log entry may be; nothing has happened.
    #[error("the command of {bytes} bytes is too large: {COMMAND_BYTES_MAX} bytes are the limit")]
    TooLarge {
        /// Its length, encoded.
        bytes: usize,
    },
    /// Raft has stopped on this node.
    #[error("Raft has stopped on this node: {0}")]
    Stopped(String),
    /// A membership change makes no sense; nothing has happened.
    #[error("{0}")]
    Refused(String),
    /// Raft refused a membership change, or part of it.
    #[error("the membership was not changed: {0}")]
    Membership(String),
    /// A membership change of a node that is none of the members; nothing has happened.
    #[error("{0} is not a member")]
    UnknownMember(NodeId),
}

/// A decided command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The answer, or why it was refused.
    pub answer: Result<Outcome, Rejected>,
    /// Its log index: a member that has applied it shows its effect.
    pub log_index: u64,
}

/// How long a failure of Raft may go unnoticed.
const FAILED_WITHIN: Duration = Duration::from_millis(100);

/// One replicated group of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    raft: RaftHandle,
    view: StateView,
    wal: Wal,
    peers: PeerBook,
    receiver: SnapshotReceiver,
    heard: Heard,
    bereaved: Bereaved,
    stop: Arc<Notify>,
}

/// openraft's bounds, in milliseconds, for a follower that stands for election after `silence` of the leader and up to a fifth more.
///
/// A follower waits for the leader's lease, which is as long as the upper bound, and then for a time that is drawn between the
/// two. The lower bound must be longer than a heartbeat.
fn election_timeouts(heartbeat: u64, silence: u64) -> (u64, u64) {
    let min = (silence * 2 / 5).max(heartbeat + heartbeat / 10 + 1);
    let max = (silence * 3 / 5).max(min + (silence / 5).max(1));
    (min, max)
}

fn config(options: &GroupOptions) -> Result<Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (election_timeout_min, election_timeout_max) =
        election_timeouts(millis(options.heartbeat), millis(options.election_timeout));
    let config = Config {
        cluster_name: options.identity.cluster.to_string(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min,
        election_timeout_max,
        max_payload_entries: 1024,
        snapshot_policy: SnapshotPolicy::Never, // compaction.rs decides, by bytes
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        api_channel_size: Some(4096),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        backoff: "20ms 40ms 80ms 160ms 320ms ...500ms".to_owned(),
        ..Config::default()
    };
    config
        .validate()
        .map_err(|e| StartError::Config(e.to_string()))
}

impl Group {
    /// Recovers the group from its stores and starts it. A group that was never formed waits for [`form`](Self::form) or for
    /// a leader that has added it.
    ///
    /// # Errors
    /// When the stores cannot be read, or do not fit together.
    pub async fn start(
        options: GroupOptions,
        wal: Wal,
        store: Arc<dyn StateStore>,
    ) -> Result<Self, StartError> {
        let (snapshots, newest) = SnapshotDir::open(&options.snapshots_dir)?;
        let receiver = SnapshotReceiver::new(snapshots.clone(), store.clone());
        let (state_machine, view) = StateMachine::open(store, snapshots, newest)?;
        let snapshot = state_machine.cover_purge(&wal).await?;
        let peers = PeerBook::new(options.identity, view.clone());
        let raft = RaftHandle::new(
            options.identity.node.0,
            Arc::new(config(&options)?),
            Network::new(peers.clone()),
            LogStore::new(wal.clone()),
            state_machine,
        )
        .await
        .map_err(|e| StartError::Raft(e.to_string()))?;
        let stop = Arc::new(Notify::new());
        compaction::start(
            raft.clone(),
            wal.clone(),
            compaction::Start {
                snapshot,
                log_bytes: options.snapshot_log_bytes,
            },
            stop.clone(),
        );
        let heard = Heard::new(options.election_timeout);
        let bereaved = Bereaved::start(
            raft.clone(),
            peers.clone(),
            heard.clone(),
            options.heartbeat,
        );
        Ok(Self {
            raft,
            view,
            wal,
            peers,
            receiver,
            heard,
            bereaved,
            stop,
        })
    }

    /// The receiving side of Raft's messages, for the peer port.
    #[must_use]
    pub fn service(&self) -> RaftService {
        RaftService::new(
            self.raft.clone(),
            self.peers.clone(),
            self.receiver.clone(),
            self.heard.clone(),
            self.bereaved.clone(),
        )
    }

    /// The members as this node knows them.
    #[must_use]
    pub fn peers(&self) -> &PeerBook {
        &self.peers
    }

    /// The applied state.
    #[must_use]
    pub fn view(&self) -> &StateView {
        &self.view
    }

    /// The log on disk.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Forms the group from `members`, this node among them.
    ///
    /// # Errors
    /// When Raft refuses, or the group is formed already: `Membership`.
    pub async fn form(&self, members: Vec<Member>) -> Result<(), ProposeError> {
        let peers: BTreeMap<u64, Peer> = members
            .into_iter()
            .map(|member| (member.node.0, member.into()))
            .collect();
        match self.raft.initialize(peers).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(error)) => Err(ProposeError::Membership(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Hands a command to Raft, in call order, and returns once it is queued; the future it returns waits for the decision.
    /// Durable on a majority and applied here when that resolves.
    ///
    /// # Errors
    /// [`ProposeError::TooLarge`], [`ProposeError::Stalled`] and [`ProposeError::Stopped`] here; each of the others from the
    /// future. `TooLarge`, `Stalled` and `NotLeader` have no effect, the others may have.
    pub async fn submit(
        &self,
        command: Command,
    ) -> Result<impl Future<Output = Result<Proposed, ProposeError>> + Send + use<>, ProposeError>
    {
        let proposal = Proposal(encode_command(command));
        // IMPORTANT: a log entry that the log refuses stops Raft on this node, and on the next leader when it is tried again.
        if proposal.0.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes: proposal.0.len(),
            });
        }
        // Back-pressure: a majority commits without this disk, so nothing else would bound what waits for it.
        if time::timeout(ROOM_WITHIN, self.wal.room()).await.is_err() {
            return Err(ProposeError::Stalled);
        }
        let (responder, decided) = ProgressResponder::complete_only();
        let queued = self.raft.client_write_ff(proposal, Some(responder)).await;
        queued.map_err(|fatal| ProposeError::Stopped(fatal.to_string()))?;
        Ok(async move {
            // Raft drops the responder only when it stops.
            let result = decided
                .await
                .map_err(|_| ProposeError::Stopped("it ended before it answered".to_owned()))?;
            result.map_err(write_error).and_then(proposed)
        })
    }

    /// Proposes a command and waits for the decision: durable on a majority and applied here.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub async fn propose(&self, command: Command) -> Result<Proposed, ProposeError> {
        self.submit(command).await?.await
    }

    /// The log index that a read must wait for to see everything acknowledged before now. Asks a majority whether this node
    /// still leads.
    ///
    /// # Errors
    /// `NotLeader`, `NoQuorum` or `Stopped`.
    pub async fn read_index(&self) -> Result<u64, ProposeError> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader {
                    leader: forward.leader_id.map(NodeId),
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => Err(ProposeError::Stopped(fatal.to_string())),
        }
    }

    /// Waits until this node has applied `index`; false when it has not within `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        let mut applied = self.view.watch_applied();
        matches!(
            time::timeout(timeout, applied.wait_for(|applied| *applied >= index)).await,
            Ok(Ok(_))
        )
    }

    /// What the group says of itself.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let status = status_of(&self.raft.metrics().borrow_watched().clone());
        let leader = status
            .leader
            .filter(|_| status.role == Role::Leader || self.heard.lately());
        GroupStatus { leader, ..status }
    }

    /// Whom Raft follows, heard lately or not: whom to ask first.
    #[must_use]
    pub fn presumed_leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().current_leader.map(NodeId)
    }

    /// The leader that this node knows of, and changes of it.
    #[must_use]
    pub fn watch_leader(&self) -> watch::Receiver<Option<NodeId>> {
        let mut metrics = self.raft.server_metrics();
        let (changed, watched) =
            watch::channel(metrics.borrow_watched().current_leader.map(NodeId));
        task::spawn(async move {
            while metrics.changed().await.is_ok() {
                let leader = metrics.borrow_watched().current_leader.map(NodeId);
                changed.send_if_modified(|known| std::mem::replace(known, leader) != leader);
                if changed.is_closed() {
                    return;
                }
            }
        });
        watched
    }

    /// Follows changes of the leader, the term and the membership.
    #[must_use]
    pub fn watch_status(&self) -> StatusChanges {
        StatusChanges(self.raft.server_metrics())
    }

    /// Resolves when Raft has stopped on this node, with the reason.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "its metrics ended".to_owned();
            }
            // They change with every entry, which is no reason to wake up each time.
            time::sleep(FAILED_WITHIN).await;
        }
    }

    /// Adds a node without a vote.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit), and `Membership` when Raft refuses.
    pub async fn add_learner(&self, member: Member) -> Result<(), ProposeError> {
        let added = self
            .raft
            .add_learner(member.node.0, member.into(), false)
            .await;
        added.map(|_| ()).map_err(membership_error)
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// As for [`add_learner`](Self::add_learner).
    pub async fn promote(&self, node: NodeId) -> Result<(), ProposeError> {
        let change = ChangeMembers::AddVoterIds([node.0].into());
        self.change(change, true).await
    }

    /// Finishes a membership change that another leader left half done.
    ///
    /// # Errors
    /// As for [`add_learner`](Self::add_learner).
    pub async fn finish_change(&self) -> Result<(), ProposeError> {
        let change = ChangeMembers::AddVoterIds([].into());
        self.change(change, true).await
    }

    /// Removes a member, voter or learner, for good.
    ///
    /// # Errors
    /// As for [`add_learner`](Self::add_learner).
    pub async fn remove(&self, node: NodeId) -> Result<(), ProposeError> {
        let voter = self
            .status()
            .member(node)
            .is_some_and(|member| member.voter);
        let change = if voter {
            ChangeMembers::RemoveVoters([node.0].into())
        } else {
            ChangeMembers::RemoveNodes([node.0].into())
        };
        self.change(change, false).await
    }

    /// Changes the members, and waits until the change is committed; `retain` keeps a voter that loses its vote as a learner.
    async fn change(
        &self,
        change: ChangeMembers<u64, Peer>,
        retain: bool,
    ) -> Result<(), ProposeError> {
        let changed = self.raft.change_membership(change, retain).await;
        changed.map(|_| ()).map_err(membership_error)
    }

    /// Asks another voter to lead; `to` must be one. There is no way back: a target that cannot costs an election.
    ///
    /// # Errors
    /// When Raft has stopped.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ProposeError> {
        self.raft
            .trigger()
            .transfer_leader(to.0)
            .await
            .map_err(|fatal| ProposeError::Stopped(fatal.to_string()))
    }

    /// Stops Raft on this node, and flushes the state, so that the next start replays nothing; the log is synced by closing it
    /// afterwards.
    pub async fn stop(&self) {
        self.stop.notify_waiters();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        let store = self.view.store().clone();
        if let Err(error) = task::blocking(move || store.flush()).await {
            tracing::info!(%error, "the state was not flushed; the log is replayed at the next start");
        }
    }
}

/// Tells when a group's leader, term or membership changed.
pub struct StatusChanges(WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>);

impl std::fmt::Debug for StatusChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusChanges").finish_non_exhaustive()
    }
}

impl StatusChanges {
    /// Waits for the next change; false when the group has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

fn proposed(response: ClientWriteResponse<TypeConfig>) -> Result<Proposed, ProposeError> {
    let Answer(Some(answer)) = response.data else {
        return Err(ProposeError::Lost);
    };
    Ok(Proposed {
        answer,
        log_index: response.log_id.index,
    })
}

fn write_error(error: ClientWriteError<TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader {
            leader: forward.leader_id.map(NodeId),
        },
        ClientWriteError::LogEntryDiscarded(_) => ProposeError::Lost,
        ClientWriteError::ChangeMembershipError(error) => {
            ProposeError::Membership(error.to_string())
        }
        ClientWriteError::PreconditionFailed(error) => ProposeError::Membership(error.to_string()),
    }
}

fn membership_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
    match error {
        RaftError::APIError(error) => write_error(error),
        RaftError::Fatal(fatal) => ProposeError::Stopped(fatal.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_waits_as_long_as_it_is_told_and_at_most_a_fifth_more() {
        for (heartbeat, silence) in [(100, 1000), (150, 900), (100, 1500)] {
            let (min, max) = election_timeouts(heartbeat, silence);
            let waits = (max + min, max + max); // the lease, then the time that is drawn
            assert_eq!(waits, (silence, silence * 6 / 5), "{heartbeat} {silence}");
        }
        for (heartbeat, silence) in [(10, 20), (10, 21), (150, 300), (10_000, 20_000)] {
            let (min, max) = election_timeouts(heartbeat, silence);
            assert!(
                heartbeat < min && min < max && max + max < silence * 2,
                "{min} {max}"
            );
        }
    }
}

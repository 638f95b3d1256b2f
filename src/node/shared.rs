//! What all services of a node share: who it is, what phase it is in, and how it gets from one to the next.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Fault, NodeConfig,
    append::{Admission, AppendQueue, OpenWriters},
    links::Links,
    metrics::Metrics,
    router::Router,
    status::NodeError,
};
use crate::{
    domain::{ClusterId, Member, NodeId},
    env::{rng, task, time::Instant},
    raft::{Group, GroupOptions, Identity},
    storage::{
        self,
        gate::WriteGate,
        identity::DataDir,
        state::StateStore,
        wal::{LogId, Wal, WalOptions},
    },
};

/// A cluster that expects another node here says so at each heartbeat and each try to catch it up.
const MISTAKEN_FOR: Duration = Duration::from_secs(5);
/// For how long after an adoption a node counts as claimed: an init takes less as a rule, and looks again before it forms.
const CLAIM: Duration = Duration::from_secs(5);

/// Where the node is reached, as it tells others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) http: String,
}

/// What a node is doing.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// No identity yet; and which cluster expects an older inhabitant at this address.
    Waiting(Option<Mistaken>),
    /// Recovering.
    Starting,
    /// A member, or about to become one.
    Running(Arc<Running>),
    /// Going down.
    Stopping,
    /// Neither a member nor able to become one: the process is about to end.
    Failed(String),
}

/// A cluster takes this empty node for one of its members.
#[derive(Debug, Clone)]
pub(super) struct Mistaken {
    problem: String,
    /// When it last said so: a cluster that has been put right is silent.
    heard: Instant,
}

impl Phase {
    /// What keeps a waiting node from being admitted as it is.
    fn problem(&self) -> Option<String> {
        match self {
            Self::Waiting(Some(mistaken)) if mistaken.heard.elapsed() < MISTAKEN_FOR => {
                Some(mistaken.problem.clone())
            }
            _ => None,
        }
    }
}

/// A node with an identity.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) identity: Identity,
    pub(super) router: Router,
    pub(super) queue: AppendQueue,
}

/// The log and the state of a node: opened once, whatever identity it gets.
#[derive(Debug, Clone)]
struct Stores {
    wal: Wal,
    state: Arc<dyn StateStore>,
}

/// Everything that outlives a phase.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: NodeConfig,
    pub(super) addresses: Addresses,
    pub(super) links: Links,
    pub(super) metrics: Metrics,
    pub(super) admission: Admission,
    pub(super) writers: OpenWriters,
    pub(super) gate: WriteGate,
    pub(super) stopping: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
    data_dir: Mutex<DataDir>,
    stores: Mutex<Option<Stores>>,
    /// Drawn at start; it becomes the identity's when the node is adopted.
    fresh_incarnation: u64,
    /// One adoption at a time, and when the last one was.
    adopting: tokio::sync::Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn open(config: NodeConfig, addresses: Addresses) -> Result<Arc<Self>, Fault> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let (phase, _) = watch::channel(match data_dir.identity() {
            Some(_) => Phase::Starting,
            None => Phase::Waiting(None),
        });
        Ok(Arc::new(Self {
            config,
            addresses,
            links: Links::default(),
            metrics: Metrics::default(),
            admission: Admission::default(),
            writers: OpenWriters::default(),
            gate: WriteGate::default(),
            stopping: watch::channel(false).0,
            phase,
            data_dir: Mutex::new(data_dir),
            stores: Mutex::new(None),
            fresh_incarnation: rng::u64(),
            adopting: tokio::sync::Mutex::default(),
        }))
    }

    fn data_dir(&self) -> MutexGuard<'_, DataDir> {
        self.data_dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the data directory says that this node is.
    pub(super) fn identity(&self) -> Option<Identity> {
        let stored = self.data_dir().identity()?;
        Some(Identity {
            cluster: ClusterId(stored.cluster_id),
            node: NodeId(stored.node_id),
            incarnation: stored.incarnation,
        })
    }

    /// The incarnation that this node has, or will have.
    pub(super) fn incarnation(&self) -> u64 {
        self.identity()
            .map_or(self.fresh_incarnation, |identity| identity.incarnation)
    }

    /// This node as a member with that number.
    pub(super) fn as_member(&self, node: NodeId) -> Member {
        Member {
            node,
            incarnation: self.incarnation(),
            client_address: self.addresses.client.clone(),
            peer_address: self.addresses.peer.clone(),
            http_address: self.addresses.http.clone(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The running node.
    ///
    /// # Errors
    /// Why there is none: waiting, starting or stopping.
    pub(super) fn running(&self) -> Result<Arc<Running>, NodeError> {
        let phase = self.phase.borrow();
        match &*phase {
            Phase::Running(running) => Ok(running.clone()),
            Phase::Waiting(_) => Err(phase.problem().map_or(NodeError::Waiting, NodeError::Unfit)),
            Phase::Starting => Err(NodeError::Starting),
            Phase::Stopping => Err(NodeError::Stopping),
            Phase::Failed(why) => Err(NodeError::Unfit(why.clone())),
        }
    }

    /// False once the node stopped, or runs again under another identity.
    pub(super) fn still_runs(&self, running: &Arc<Running>) -> bool {
        matches!(&*self.phase.borrow(), Phase::Running(now) if Arc::ptr_eq(now, running))
    }

    /// Recovers the group from the disk and becomes a running node.
    pub(super) async fn recover(self: &Arc<Self>) -> Result<Arc<Running>, Fault> {
        let identity = self
            .identity()
            .ok_or_else(|| Fault::Failed("it has no identity to recover".to_owned()))?;
        self.set_phase(Phase::Starting);
        let stores = self.stores().await?;
        let options = GroupOptions {
            identity,
            snapshots_dir: self.data_dir().snapshots_dir(),
            heartbeat: self.config.heartbeat,
            election_timeout: self.config.election_timeout,
            snapshot_log_bytes: self.config.snapshot_log_bytes,
        };
        let group = Group::start(options, stores.wal, stores.state).await?;
        // Only with the log applied is it known where this node was last; nothing of the group answers yet.
        if let Err(copy) = super::bootstrap::refuse_a_copy(self, identity, &group).await {
            group.stop().await;
            return Err(copy);
        }
        let router = Router::new(group, self.links.clone());
        let queue = AppendQueue::start(router.clone(), self.metrics.clone());
        let running = Arc::new(Running {
            identity,
            router,
            queue,
        });
        self.set_phase(Phase::Running(running.clone()));
        tracing::info!(
            node = %identity.node,
            cluster = %identity.cluster,
            applied_index = running.router.group().view().applied_index(),
            "running"
        );
        super::bootstrap::announce(self.clone(), running.clone());
        super::chronicle::keep(running.router.group());
        super::lost_writers::watch(self.clone(), running.clone());
        super::stall::watch(self.clone(), running.clone());
        Ok(running)
    }

    /// Opens the log and the state, once.
    async fn stores(&self) -> Result<Stores, Fault> {
        if let Some(stores) = self
            .stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
        {
            return Ok(stores);
        }
        let (log_dir, state_dir) = {
            let data_dir = self.data_dir();
            (data_dir.wal_dir(), data_dir.state_dir())
        };
        let (gate, metrics, config) =
            (self.gate.clone(), self.metrics.clone(), self.config.clone());
        let opened = task::blocking(move || {
            let options = WalOptions {
                segment_bytes: usize::try_from(config.segment_bytes).unwrap_or(usize::MAX),
                on_sync: Some(Arc::new(move |took, bytes| metrics.log_sync(took, bytes))),
                ..WalOptions::default()
            };
            let (wal, recovered) = Wal::open(&log_dir, options, gate.clone())?;
            let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
            tracing::info!(
                purged_index = index(recovered.last_purged),
                last_index = index(recovered.last_log_id),
                vote_term = recovered.vote.map_or(0, |vote| vote.term),
                segments = recovered.report.segments,
                records = recovered.report.records,
                "opened the log"
            );
            let state = storage::state::open(
                &state_dir,
                usize::try_from(config.state_memory_bytes).unwrap_or(usize::MAX),
            )?;
            Ok::<_, Fault>(Stores { wal, state })
        });
        let stores = opened.await?;
        *self.stores.lock().unwrap_or_else(PoisonError::into_inner) = Some(stores.clone());
        Ok(stores)
    }

    /// True when this node may be given an identity: it has none, or one that has never had a log or a vote.
    pub(super) fn is_adoptable(&self) -> bool {
        match self.phase() {
            Phase::Waiting(_) => true,
            Phase::Running(running) => running.router.group().wal().is_pristine(),
            Phase::Starting | Phase::Stopping | Phase::Failed(_) => false,
        }
    }

    /// # Errors
    /// `AlreadyFormed` when this node cannot be given an identity.
    pub(super) fn check_adoptable(&self) -> Result<(), NodeError> {
        if self.is_adoptable() {
            return Ok(());
        }
        let identity = self.identity();
        Err(NodeError::AlreadyFormed {
            address: self.addresses.client.clone(),
            cluster: identity.map_or_else(String::new, |identity| identity.cluster.to_string()),
        })
    }

    /// Takes on an identity: writes it, then starts the group. A node without a vote and a log takes another one, but not while
    /// whoever gave it the one it has may still be at work.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Member, NodeError> {
        let mut adopted_at = self.adopting.lock().await;
        self.check_adoptable()?;
        let claimed = adopted_at.is_some_and(|at| at.elapsed() < CLAIM);
        let another = |known: &Identity| (known.cluster, known.node) != (cluster, node);
        if let Some(identity) = self.identity().filter(another)
            && claimed
        {
            return Err(self.under_way(identity.cluster));
        }
        if let Phase::Running(running) = self.phase() {
            self.set_phase(Phase::Starting);
            running.router.group().stop().await;
            // A leader may have been heard before it stopped: then it stays what it is.
            if !running.router.group().wal().is_pristine() {
                self.recover().await.map_err(|fault| self.unfit(&fault))?;
                self.check_adoptable()?;
            }
        }
        let adopted = self.take_on(cluster, node).await;
        adopted.map_err(|fault| self.unfit(&fault))?;
        *adopted_at = Some(Instant::now());
        Ok(self.as_member(node))
    }

    async fn take_on(self: &Arc<Self>, cluster: ClusterId, node: NodeId) -> Result<(), Fault> {
        // The log before the identity: an identity without a log is a disk that lost one.
        let stores = self.stores().await?;
        let identity = storage::identity::Identity {
            cluster_id: cluster.0,
            node_id: node.0,
            incarnation: self.incarnation(),
        };
        self.data_dir().set_identity(identity, &stores.wal)?;
        self.recover().await?;
        Ok(())
    }

    /// Forms the cluster that this node was adopted into.
    pub(super) async fn form(
        &self,
        cluster: ClusterId,
        node: NodeId,
        members: Vec<Member>,
    ) -> Result<Arc<Running>, NodeError> {
        let _nobody_adopts_meanwhile = self.adopting.lock().await;
        let running = self.running()?;
        if (running.identity.cluster, running.identity.node) != (cluster, node) {
            return Err(self.under_way(running.identity.cluster));
        }
        running.router.group().form(members).await?;
        Ok(running)
    }

    fn under_way(&self, cluster: ClusterId) -> NodeError {
        NodeError::InitUnderWay {
            address: self.addresses.client.clone(),
            cluster: cluster.to_string(),
        }
    }

    /// What becomes of a failed adoption: a node that was waiting still waits, one whose group is gone ends.
    fn unfit(&self, fault: &Fault) -> NodeError {
        if matches!(self.phase(), Phase::Starting) {
            self.set_phase(Phase::Failed(fault.to_string()));
        }
        NodeError::Unfit(fault.to_string())
    }

    /// A message of a cluster that takes this empty node for one of its members: the disk was wiped.
    pub(super) fn mistaken_for(&self, cluster: &str, node: NodeId) -> NodeError {
        let problem = format!(
            "cluster {cluster} expects {node} at this address, but this data directory ({}) is empty: its disk was wiped or \
             replaced, and a node that lost its log must not vote under its old identity; cure: dos-cluster member remove {node}, \
             then dos-cluster join {}",
            self.config.data_dir.display(),
            self.addresses.client
        );
        self.phase.send_if_modified(|phase| {
            if phase.problem().as_ref() != Some(&problem) {
                tracing::error!("{problem}");
            }
            if let Phase::Waiting(known) = phase {
                *known = Some(Mistaken {
                    problem: problem.clone(),
                    heard: Instant::now(),
                });
            }
            false // nobody waits for it
        });
        NodeError::Unfit(problem)
    }

    /// Resolves when this node can no longer keep its promises, with the reason.
    pub(super) async fn failed(&self) -> String {
        let mut phases = self.phase.subscribe();
        loop {
            if let Phase::Failed(why) = self.phase() {
                return why;
            }
            let running = self.running().ok();
            let raft = async {
                match &running {
                    Some(running) => running.router.group().failed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                reason = self.gate.closed() => return reason.to_string(),
                why = raft => {
                    // A group that was stopped to be started under another identity has not failed.
                    if running.as_ref().is_some_and(|running| self.still_runs(running)) {
                        return why;
                    }
                }
                changed = phases.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    }
}

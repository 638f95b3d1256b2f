//! One node: everything between its sockets and its stores, started, run and stopped.
//!
//! A node without an identity waits: its ports answer, and say so, until `init` or `join` gives it one. From then on it recovers
//! its group from its own disk at each start. See [`bootstrap`](self) for how identities are given.

mod append;
mod bootstrap;
mod chronicle;
pub mod config;
mod http;
mod links;
mod lost_writers;
mod members;
mod metrics;
mod router;
mod servers;
mod services;
mod shared;
mod stall;
mod status;

use std::{future::Future, sync::Arc, time::Duration};

pub use config::NodeConfig;
pub use metrics::METRICS_CONTENT_TYPE;
use prometheus_client::registry::Registry;
use shared::{Phase, Running, Shared};

use crate::{
    env::time,
    raft::{Role, StartError},
    storage::StorageError,
};

/// Why a node cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The data directory, the log or the state.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A port is taken, or an address is none.
    #[error(
        "cannot listen on {address} for {purpose}: {source}; is another node running there? choose another with --{flag}"
    )]
    Listen {
        /// The address.
        address: String,
        /// clients, members or HTTP.
        purpose: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The group does not start from what is on the disk.
    #[error(transparent)]
    Group(#[from] StartError),
    /// The data directory is a copy of a running node's.
    #[error("{0}")]
    Copy(String),
    /// A first failed write or sync, or Raft, ended this node.
    #[error(
        "this node stopped itself: {0}; nothing acknowledged is lost while a majority lives; see what is wrong with the disk, then start it again"
    )]
    Failed(String),
}

/// A started node.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    servers: servers::Servers,
}

impl Node {
    /// Opens the data directory, binds the ports, and starts what the directory says: waiting, or recovering its group. The
    /// ports answer from the beginning.
    ///
    /// # Errors
    /// When the directory is in use, foreign, damaged or of a newer format, a port is taken, or the group does not start.
    pub async fn start(config: NodeConfig) -> Result<Self, Fault> {
        let listeners = servers::Listeners::bind(&config).await?;
        let shared = Shared::open(config, listeners.addresses())?;
        let servers = servers::start(listeners, &shared);
        let node = Self { shared, servers };
        if node.shared.identity().is_some() {
            node.shared.recover().await?;
        } else {
            tracing::info!(
                client_address = %node.shared.addresses.client,
                "waiting for `dos-cluster init` or `dos-cluster join`: this data directory has no identity yet"
            );
        }
        Ok(node)
    }

    /// Where clients reach it: the port is the bound one, also when 0 was asked for.
    #[must_use]
    pub fn client_address(&self) -> &str {
        &self.shared.addresses.client
    }

    /// Shows at `/metrics` what this process counts besides the node, too; once.
    pub fn show_metrics_beside(&self, others: Arc<Registry>) {
        self.shared.metrics.show_beside(others);
    }

    /// Serves until `shutdown` resolves or the node can no longer keep its promises; then hands leadership over and stops.
    ///
    /// # Errors
    /// [`Fault::Failed`] when it stopped by itself.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Fault> {
        let failed = tokio::select! {
            () = shutdown => None,
            why = self.shared.failed() => Some(why),
        };
        match failed {
            None => {
                tracing::info!("stopping: hand over leadership, then close");
                self.drain().await;
                Ok(())
            }
            Some(why) => {
                // No drain: what this node says can no longer be relied on.
                tracing::error!(%why, "this node stops itself");
                self.servers.abort();
                Err(Fault::Failed(why))
            }
        }
    }

    async fn drain(mut self) {
        let running = self.shared.running();
        if let Ok(running) = &running {
            hand_over(running).await;
        }
        self.shared.stopping.send_replace(true);
        self.shared.set_phase(Phase::Stopping);
        self.servers.stop_clients().await;
        if let Ok(running) = running {
            running.router.group().stop().await;
            if let Err(error) = running.router.group().wal().close().await {
                tracing::warn!(%error, "the log was not closed cleanly; it is recovered at the next start");
            }
        }
        self.servers.abort();
        tracing::info!("stopped");
    }
}

/// Asks the most caught-up voter to lead, and waits a little until another one does.
async fn hand_over(running: &Running) {
    let group = running.router.group();
    let status = group.status();
    if status.role != Role::Leader {
        return;
    }
    let Some(to) = members::successor(&status, running.router.me()) else {
        return;
    };
    if group.transfer_leader(to).await.is_err() {
        return;
    }
    let mut leader = group.watch_leader();
    let me = running.router.me();
    let moved = leader.wait_for(|leader| leader.is_some_and(|leader| leader != me));
    match time::timeout(Duration::from_secs(2), moved).await {
        Ok(_) => tracing::info!(%to, "handed over leadership"),
        Err(_) => {
            tracing::info!(%to, "leadership was not taken over in time; the others will elect")
        }
    }
}

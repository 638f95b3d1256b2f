//! The legacy gateway: old workers, who speak the DOS protocol over TCP, get the cluster's journals.
//!
//! ```text
//! legacy worker --TCP--> connection: u l s d g a --Client--> any member
//!                             | ok to `a`
//!                             v
//!                        append mode: raw bytes in, "written TAB synced" out, until FIN, RST or silence
//! ```
//!
//! A directory is a worker of one job, a file one of its journals. A connection is one small state machine; it shares nothing with
//! the others but the client and the memory of append windows. `synced` is what a majority has fsynced, `written` what the leader
//! has received. A change of the leader is a pause: requests are held until the cluster answers, streams go on where they were.
//!
//! The protocol has no authentication: whoever reaches the port writes any journal of the job.

mod append;
mod budget;
mod commands;
mod connection;
mod metrics;
mod names;
mod outage;
mod store;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::{
    client::{Client, ClientOptions},
    domain::JobName,
    env::{
        net::TcpListener,
        task::{self, JoinHandle, JoinSet},
        time,
    },
};
use budget::Budget;
use connection::{Connection, Served};
use metrics::Metrics;

/// Connections at a time; more are closed as they come.
const CONNECTIONS_MAX: usize = 20_000;
/// Bytes that all streams together may have received that are not durable yet; each may have 64 KiB besides.
const WINDOWS_BYTES_MAX: usize = 512 << 20;

/// How long a request waits for a cluster that does not answer.
const HOLD: Duration = Duration::from_secs(60);
/// How long one node may take to answer before another is asked: old workers give up after two seconds.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The same to connect.
const CONNECT: Duration = Duration::from_millis(300);

/// Options of the client that a gateway works over: quick to turn to another node, slow to give up.
#[must_use]
pub fn client_options(endpoints: impl IntoIterator<Item = impl Into<String>>) -> ClientOptions {
    ClientOptions {
        timeout: HOLD,
        attempt_timeout: ATTEMPT,
        connect_timeout: CONNECT,
        ..ClientOptions::new(endpoints)
    }
}

/// A gateway that serves. Dropped, it ends at once, with what its streams had not handed to the cluster.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    metrics: Metrics,
    stopping: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
        self.watching.abort();
    }
}

impl Gateway {
    /// Serves `listener` over `client`, best made with [`client_options`]; legacy workers are those of `job`. Logs when workers wait
    /// because the cluster does not answer; with `ask_first`, also when it does not before any worker has come. Must be called
    /// inside a runtime.
    ///
    /// # Errors
    /// When the listener does not know its address.
    pub fn start(
        listener: TcpListener,
        client: Client,
        job: JobName,
        ask_first: bool,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stopping, stops) = watch::channel(false);
        let metrics = Metrics::default();
        let served = Served {
            client,
            metrics: metrics.clone(),
            job,
            budget: Budget::new(WINDOWS_BYTES_MAX),
            stops,
        };
        Ok(Self {
            address,
            metrics,
            stopping,
            watching: task::spawn(outage::watch(served.clone(), ask_first)),
            accepting: task::spawn(accept(listener, served)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts, to be shown with what else the process counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Registry> {
        self.metrics.registry()
    }

    /// Whether any machine but this one can reach it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Takes no more connections, answers the requests at hand, commits what the streams have received, and ends; at the latest
    /// after `within`. True: nothing that was received is left uncommitted.
    pub async fn stop(mut self, within: Duration) -> bool {
        self.stopping.send_replace(true);
        time::timeout(within, &mut self.accepting).await.is_ok()
    }
}

/// Takes connections until the gateway stops, then waits for those at hand.
async fn accept(listener: TcpListener, served: Served) {
    let mut stops = served.stops.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            socket = listener.accept() => {
                if connections.len() >= CONNECTIONS_MAX {
                    tracing::info!("legacy connection refused: there are {CONNECTIONS_MAX}");
                    continue;
                }
                if let Err(error) = socket.notice_vanished_peer() {
                    tracing::debug!(%error, "a legacy connection was gone before it was served");
                    continue;
                }
                let open = served.metrics.connection();
                let connection = Connection::new(socket, served.clone());
                connections.spawn(async move {
                    connection.run().await;
                    drop(open);
                });
            }
            Some(_) = connections.join_next() => {}
            _ = stops.wait_for(|stops| *stops) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

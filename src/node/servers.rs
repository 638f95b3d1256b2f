//! The node's ports: clients, members, HTTP. All answer from the beginning, and say so while the node cannot serve.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Fault, NodeConfig, http, services,
    shared::{Addresses, Shared},
};
use crate::env::{
    net::{self, ChannelOptions, TcpListener},
    task::{self, JoinHandle},
    time,
};

/// What a client may have on its way in one call before the node has read it: one append.
const CLIENT_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Calls of one connection that are decided at a time; others wait. An open stream is no longer one of them.
const CALLS_PER_CONNECTION_MAX: usize = 256;
/// How long open calls are given to end when the node stops.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Bound ports.
pub(super) struct Listeners {
    client: TcpListener,
    peer: TcpListener,
    http: TcpListener,
    addresses: Addresses,
}

impl Listeners {
    pub(super) async fn bind(config: &NodeConfig) -> Result<Self, Fault> {
        let bind = async |address: &str, purpose, flag| {
            net::bind(address).await.map_err(|source| Fault::Listen {
                address: address.to_owned(),
                purpose,
                flag,
                source,
            })
        };
        let client = bind(&config.client_listen, "clients", "listen").await?;
        let peer = bind(&config.peer_listen, "members", "peer-listen").await?;
        let http = bind(&config.http_listen, "HTTP", "http-listen").await?;
        let addresses = Addresses {
            client: told(
                config.client_advertise.as_ref(),
                &config.client_listen,
                &client,
            ),
            peer: told(config.peer_advertise.as_ref(), &config.peer_listen, &peer),
            http: told(config.http_advertise.as_ref(), &config.http_listen, &http),
        };
        Ok(Self {
            client,
            peer,
            http,
            addresses,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }
}

/// What others are told: as configured, with the bound port in place of port 0.
fn told(advertised: Option<&String>, listen: &str, bound: &TcpListener) -> String {
    if let Some(advertised) = advertised {
        return advertised.clone();
    }
    match (listen.rsplit_once(':'), bound.local_addr()) {
        (Some((host, "0")), Ok(address)) => format!("{host}:{}", address.port()),
        _ => listen.to_owned(),
    }
}

/// The running servers.
#[derive(Debug)]
pub(super) struct Servers {
    client: JoinHandle<()>,
    peer: JoinHandle<()>,
    http: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// Starts to answer on all ports.
pub(super) fn start(listeners: Listeners, shared: &Arc<Shared>) -> Servers {
    let (stop, stopping) = watch::channel(false);
    // A client that vanished is noticed as soon: what it appended to counts as open until then.
    let keep_alive = ChannelOptions::BETWEEN_MEMBERS;
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let client = net::server(keep_alive)
        .initial_stream_window_size(CLIENT_STREAM_WINDOW_BYTES)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_routes(services::for_clients(shared))
        .serve_with_incoming_shutdown(net::incoming(listeners.client), stopped(stopping.clone()));
    let peer = net::server(keep_alive)
        .add_routes(services::for_members(shared))
        .serve_with_incoming(net::incoming(listeners.peer));
    let log = |result: Result<(), tonic::transport::Error>| {
        if let Err(error) = result {
            tracing::error!(%error, "a port stopped answering");
        }
    };
    Servers {
        client: task::spawn(async move { log(client.await) }),
        peer: task::spawn(async move { log(peer.await) }),
        http: task::spawn(http::serve(
            listeners.http,
            shared.clone(),
            stopped(stopping),
        )),
        stop,
    }
}

impl Servers {
    /// Takes no new calls of clients, and gives the open ones a moment to end. The members' port answers on: what clients
    /// wait for may need it.
    pub(super) async fn stop_clients(&mut self) {
        self.stop.send_replace(true);
        for task in [&mut self.client, &mut self.http] {
            if time::timeout(STOP_WITHIN, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }

    /// Drops every connection now.
    pub(super) fn abort(self) {
        for task in [self.client, self.peer, self.http] {
            task.abort();
        }
    }
}

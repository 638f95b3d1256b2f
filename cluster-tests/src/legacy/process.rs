//! A gateway beside a worker.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{cli, ports, wait::eventually};

/// A `dos-cluster gateway` process; killed when this is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Where it listens.
    pub address: String,
    process: Child,
}

impl GatewayProcess {
    /// Starts it in front of these nodes, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(endpoints: &str) -> Self {
        Self::start_at(endpoints, ports::free_address()).await
    }

    /// The same, at a given address.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn start_at(endpoints: &str, address: String) -> Self {
        let mut command = cli::command();
        command
            .env("DOS_CLUSTER_ENDPOINTS", endpoints)
            .args(["gateway", "--listen", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let gateway = Self { address, process };
        eventually("the gateway listens", Duration::from_secs(10), async || {
            let connected = TcpStream::connect(&gateway.address).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        gateway
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

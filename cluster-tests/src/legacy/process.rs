//! A gateway beside a worker.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use crate::cli;

/// How long it may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// A `dos-cluster gateway` process; killed when this is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Where it listens.
    pub address: String,
    process: Child,
}

impl GatewayProcess {
    /// Starts it in front of these nodes, on any free port, and waits until it says where it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(endpoints: &str) -> Self {
        Self::start_at(endpoints, "127.0.0.1:0").await
    }

    /// The same, at a given address.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn start_at(endpoints: &str, address: &str) -> Self {
        Self::start_with(endpoints, &["--listen", address]).await
    }

    /// The same, with these flags.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn start_with(endpoints: &str, flags: &[&str]) -> Self {
        let mut command = cli::command();
        command
            .env("DOS_CLUSTER_ENDPOINTS", endpoints)
            .arg("gateway")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut gateway = Self {
            address: String::new(),
            process,
        };
        let said = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).map(|_| line)
        });
        let said = tokio::time::timeout(LISTENS_WITHIN, said).await;
        let line = said.expect("the gateway says nothing").unwrap().unwrap();
        let address = line.trim_end().strip_prefix("listening on ");
        gateway.address = address
            .unwrap_or_else(|| panic!("the gateway says {line:?}"))
            .to_owned();
        gateway
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

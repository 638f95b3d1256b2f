//! A gateway beside a worker.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::cli;

/// How long it may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// A `dos-cluster gateway` process; killed when this is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Where it listens.
    pub address: String,
    process: Child,
    log: NamedTempFile,
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
        let log = NamedTempFile::new().unwrap();
        let mut command = cli::command();
        command
            .env("DOS_CLUSTER_ENDPOINTS", endpoints)
            .arg("gateway")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut gateway = Self {
            address: String::new(),
            process,
            log,
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

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// SIGSTOP: alive, and silent.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Everything it has logged.
    ///
    /// # Panics
    /// When the log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

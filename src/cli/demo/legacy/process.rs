//! The processes of the story: workers, the gateways beside them, and the restore command.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    super::{
        super::{
            exit::{self, Exit, Failure},
            gateway,
            lifeline::UNTIL_STDIN_CLOSES,
        },
        stage::STEP_WITHIN,
    },
    talk::{Order, Said},
};
use crate::env::{fs, time};

/// The application: its name has blanks, as the original's has.
pub(super) const APP: &str = "Multi Partition Detector";

/// A worker, where it is, and the gateway beside it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Its host, so to speak: a directory.
    pub(super) host: PathBuf,
    /// The number of the node that its gateway turns to first, from 0.
    pub(super) node: usize,
    pub(super) gateway: Gateway,
    /// Its place in the list of children.
    child: usize,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

/// The address that a legacy worker is given.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) address: String,
    child: usize,
    /// The gateway stops when this closes, which it does whatever becomes of us.
    _lifeline: Option<ChildStdin>,
}

/// What `restore -o json` says.
#[derive(Debug, Deserialize)]
pub(super) struct Restored {
    pub(super) epoch: u64,
    pub(super) checkpoint: Option<String>,
    pub(super) journals: Vec<RestoredJournal>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RestoredJournal {
    pub(super) bytes: u64,
    pub(super) members: std::collections::BTreeMap<String, u64>,
}

/// How a worker is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    /// All workers of the job.
    pub(super) workers: &'a [String],
    pub(super) host: &'a Path,
    /// Where its logs go.
    pub(super) logs: &'a Path,
}

fn program() -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::error(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOS_CLUSTER_") {
            command.env_remove(name);
        }
    }
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

fn log(path: &Path) -> Result<fs::File, Failure> {
    let log = fs::OpenOptions::new().append(true).create(true).open(path);
    log.map_err(|error| exit::cannot("open", path, &error))
}

fn start(mut command: Command) -> Result<Child, Failure> {
    command
        .spawn()
        .map_err(|error| Failure::error(format!("cannot start {command:?}: {error}")))
}

/// The addresses for other workers: nothing listens there, for nothing but the store is on show.
pub(super) fn addresses(host: &Path) -> [String; 2] {
    let host = host.file_name().unwrap_or_default().to_string_lossy();
    [3131, 3132].map(|port| format!("{host}:{port}"))
}

impl Gateway {
    /// Starts `dos-cluster gateway` for a job, on any free port; it turns to the first endpoint first.
    pub(super) async fn start(
        children: &mut Vec<Child>,
        endpoints: &[String],
        job: &str,
        logs: &Path,
    ) -> Result<Self, Failure> {
        let errors = log(&logs.join("gateways.log"))?;
        let mut command = program()?;
        command
            .args(["gateway", "--endpoints", &endpoints.join(",")])
            .args(["--listen", "127.0.0.1:0", "--job", job])
            .arg(UNTIL_STDIN_CLOSES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = start(command)?;
        let (lifeline, said) = (child.stdin.take(), child.stdout.take());
        children.push(child);
        let no_pipes = || Failure::error("a gateway was started without its pipes");
        let mut said = BufReader::new(said.ok_or_else(no_pipes)?).lines();
        let line = time::timeout(STEP_WITHIN, said.next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten();
        let address = line.as_deref().and_then(gateway::address_in);
        let silent = || Failure::error("a gateway has ended").try_next("see gateways.log");
        Ok(Self {
            address: address.ok_or_else(silent)?.to_owned(),
            child: children.len() - 1,
            _lifeline: lifeline,
        })
    }

    /// `kill -9`.
    pub(super) async fn kill(&self, children: &mut [Child]) {
        kill(children, self.child).await;
    }
}

/// That it has ended already is as good.
async fn kill(children: &mut [Child], index: usize) {
    if let Some(child) = children.get_mut(index) {
        child.kill().await.ok();
    }
}

impl Member {
    /// Starts a worker on its files, and waits until it has them; answers the last checkpoint that it knows to be complete.
    pub(super) async fn start(
        children: &mut Vec<Child>,
        place: Place<'_>,
        gateway: Gateway,
        node: usize,
    ) -> Result<(Self, u64), Failure> {
        let host = place.host;
        fs::create_dir_all(host).map_err(|error| exit::cannot("create", host, &error))?;
        let errors = log(&place.logs.join(format!("{}.log", place.name)))?;
        let [control, data] = addresses(host);
        let mut command = program()?;
        command
            .args(["demo-legacy-worker", "--app", APP, "--name", place.name])
            .args(["--workers", &place.workers.join(",")])
            .arg("--resilience-dir")
            .arg(host)
            .args(["--resilience-dos-server", &gateway.address])
            .args(["--my-control", &control, "--my-data", &data])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = start(command)?;
        let (orders, said) = (child.stdin.take(), child.stdout.take());
        children.push(child);
        let (Some(orders), Some(said)) = (orders, said) else {
            return Err(Failure::error("a worker was started without its pipes"));
        };
        let mut member = Self {
            name: place.name.to_owned(),
            host: host.to_owned(),
            node,
            gateway,
            child: children.len() - 1,
            orders,
            said: BufReader::new(said).lines(),
        };
        match member.heard().await? {
            Said::Started { complete, .. } => Ok((member, complete)),
            other => Err(member.unexpected(&other)),
        }
    }

    /// Gives an order, and waits for the answer.
    pub(super) async fn order(&mut self, order: &Order) -> Result<Said, Failure> {
        let mut line =
            serde_json::to_vec(order).map_err(|error| Failure::error(error.to_string()))?;
        line.push(b'\n');
        // A worker that is gone is found when its answer is missing.
        self.orders.write_all(&line).await.ok();
        self.heard().await
    }

    async fn heard(&mut self) -> Result<Said, Failure> {
        let line = time::timeout(STEP_WITHIN, self.said.next_line()).await;
        let said = line.ok().and_then(Result::ok).flatten();
        let said = said.and_then(|line| serde_json::from_str(&line).ok());
        said.ok_or_else(|| {
            let message = format!("{} has ended, or says nothing", self.name);
            Failure::error(message).try_next(format!("see {}.log", self.name))
        })
    }

    pub(super) fn unexpected(&self, said: &Said) -> Failure {
        Failure::error(format!("{} answered {said:?}", self.name))
    }

    /// `kill -9`.
    pub(super) async fn kill(&self, children: &mut [Child]) {
        kill(children, self.child).await;
    }
}

/// `dos-cluster restore` of a worker at the recovery line into a new host, through `endpoints`; from one member only, if told.
pub(super) async fn restore(
    endpoints: &[String],
    from: Option<&str>,
    job: &str,
    name: &str,
    host: &Path,
) -> Result<Restored, Failure> {
    let [control, data] = addresses(host);
    let mut command = program()?;
    command
        .args(["restore", "-o", "json", "--timeout", "60s"])
        .args(["--endpoints", &endpoints.join(",")])
        .args(["--job", job, "--worker", name, "--at", "line", "--to"])
        .arg(host)
        .args(["--control", &control, "--data", &data])
        .stdin(Stdio::null());
    if let Some(from) = from {
        command.args(["--from", from]);
    }
    let output = time::timeout(STEP_WITHIN, command.output()).await;
    let output = output
        .map_err(|_| Failure::new(Exit::Timeout, format!("restore of {name} takes too long")))?
        .map_err(|error| Failure::error(format!("cannot start {command:?}: {error}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::error(format!(
            "restore of {name}: {}",
            message.trim()
        )));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::error(format!("restore of {name} printed no report: {error}")))
}

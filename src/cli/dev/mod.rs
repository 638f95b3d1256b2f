//! `dos-cluster dev`: a cluster of real processes in one directory, for trying things out.
//!
//! ```text
//! DIR/LOCK           one `dev` at a time
//! DIR/ports.json     which ports each node has, so that the same cluster comes back at the same addresses
//! DIR/n1/            the data directory of the first node
//! DIR/n1.log         what it said
//! DIR/n1.pid         its process, for `kill -9 $(cat DIR/n1.pid)`
//! ```

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{or_dash, stderr_is_terminal, table},
    progress::Progress,
    signals,
    status::{self, NodeRow, Report},
};
use crate::{
    client::Client,
    env::time::{self, Instant},
    pb,
};

mod node;
mod ports;

pub(super) use node::{DevNode, stop_all};
pub(super) use ports::Layout;
use ports::Ports;

/// How often the nodes are asked whether they are there.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long the nodes are given to start and to elect, beyond `--timeout` or not.
const START_WITHIN_MIN: Duration = Duration::from_secs(20);

/// Run a local cluster of real processes until Ctrl-C; the same directory brings the same cluster back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster dev --nodes 3
  dos-cluster dev --nodes 5 --dir /tmp/try --base-port 17420

In another terminal: paste the printed `export` line, then
  echo hello | dos-cluster journal append tour/w1/notes
  kill -9 $(cat dos-dev/n1.pid); dos-cluster status

Node n1 has ports P to P+3 (clients, members, HTTP, legacy workers), n2 the next four, and so on. On one machine: for
trying things out, not for keeping data. The nodes stop with it, whatever ends it.")]
pub(super) struct Dev {
    /// How many nodes [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Where everything goes
    #[arg(long, value_name = "DIR", default_value = "./dos-dev")]
    dir: PathBuf,
    /// The first port; without it 7420, or another one from which on enough are free
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Running {
    cluster_id: Option<String>,
    endpoints: Vec<String>,
    legacy_addresses: Vec<String>,
    directory: String,
    pids: Vec<u32>,
}

impl Dev {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let layout = Layout::open(&self.dir, self.nodes, self.base_port)?;
        let mut stop = Box::pin(signals::stop_signal()?);
        let mut nodes = Vec::new();
        // Whatever happens from here on, what was started is stopped.
        let ended = tokio::select! {
            ended = run_nodes(context, &layout, &mut nodes) => ended,
            () = &mut stop => Ok(()),
        };
        if ended.is_ok() && !stderr_is_terminal() {
            context.output.talk("stopping the nodes");
        }
        let progress = Progress::spinner("stopping the nodes");
        stop_all(&mut nodes, context).await;
        drop(progress);
        ended.map(|()| Exit::Done)
    }
}

/// Starts the nodes of a layout, forms their cluster if there is none, and waits for a leader.
pub(super) async fn start_cluster(
    context: &Context,
    layout: &Layout,
    nodes: &mut Vec<DevNode>,
) -> Result<Report, Failure> {
    layout.check_free()?;
    for number in layout.numbers() {
        nodes.push(DevNode::start(layout, number)?);
    }
    let endpoints = layout.endpoints();
    let client = context.client_of(&endpoints)?;
    let deadline = Instant::now() + context.timeout.max(START_WITHIN_MIN);
    let progress = Progress::spinner(format!("starting {} nodes", nodes.len()));
    let statuses = wait_for_answers(&client, layout, nodes, deadline).await?;
    form_or_complete(&client, &endpoints, &statuses).await?;
    progress.say("waiting for a leader");
    wait_for_leader(&client, layout, nodes, deadline).await
}

/// Starts the nodes, and watches them for ever.
async fn run_nodes(
    context: &Context,
    layout: &Layout,
    nodes: &mut Vec<DevNode>,
) -> Result<(), Failure> {
    let report = start_cluster(context, layout, nodes).await?;
    let running = Running {
        cluster_id: report.cluster_id.clone(),
        endpoints: layout.endpoints(),
        legacy_addresses: layout.legacy_addresses(),
        directory: layout.dir.display().to_string(),
        pids: nodes.iter().filter_map(DevNode::pid).collect(),
    };
    context.output.talk(&format!(
        "{} nodes run in {}; their logs are {}; stop them with Ctrl-C\n{}\n",
        nodes.len(),
        layout.dir.display(),
        layout.logs(),
        addresses_table(&report.nodes, layout),
    ));
    context.output.show(&running, |running| {
        format!(
            "export DOS_CLUSTER_ENDPOINTS={}",
            running.endpoints.join(",")
        )
    })?;
    watch(context, layout, nodes).await
}

/// The nodes, and where each is reached.
fn addresses_table(nodes: &[NodeRow], layout: &Layout) -> String {
    let row = |node: &NodeRow| {
        let ports = layout.ports_at(&node.address);
        vec![
            or_dash(node.node.as_ref()),
            node.state.to_owned(),
            node.address.clone(),
            or_dash(ports.map(Ports::http)),
            or_dash(ports.map(Ports::legacy)),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    table(
        &["node", "state", "clients", "http", "legacy workers"],
        &rows,
    )
}

/// Waits until every node answers; a node that ends before that is the failure.
async fn wait_for_answers(
    client: &Client,
    layout: &Layout,
    nodes: &mut [DevNode],
    deadline: Instant,
) -> Result<Vec<pb::StatusResponse>, Failure> {
    let endpoints = layout.endpoints();
    loop {
        for node in nodes.iter_mut() {
            node.check_alive()?;
        }
        let asked = status::ask_all(client).await;
        let answer = |endpoint: &String| {
            let asked = asked.iter().find(|(address, _)| address == endpoint)?;
            asked.1.as_ref().ok().cloned()
        };
        let statuses: Vec<_> = endpoints.iter().filter_map(answer).collect();
        if statuses.len() == endpoints.len() {
            return Ok(statuses);
        }
        if Instant::now() >= deadline {
            let (some, all) = (statuses.len(), endpoints.len());
            let failure = Failure::new(Exit::Timeout, format!("only {some} of {all} nodes answer"));
            return Err(failure.try_next(format!("see the logs of the nodes, {}", layout.logs())));
        }
        time::sleep(ASK_EVERY).await;
    }
}

/// Forms a cluster of nodes that all wait; where some have one already, admits the others.
async fn form_or_complete(
    client: &Client,
    endpoints: &[String],
    statuses: &[pb::StatusResponse],
) -> Result<(), Failure> {
    let is_waiting = |status: &pb::StatusResponse| status.state() == pb::NodeState::Waiting;
    if statuses.iter().all(is_waiting) {
        client.init(endpoints).await?;
        return Ok(());
    }
    for (endpoint, _) in endpoints
        .iter()
        .zip(statuses)
        .filter(|(_, status)| is_waiting(status))
    {
        let mut steps = std::pin::pin!(client.join(endpoint).await?);
        while let Some(step) = futures::StreamExt::next(&mut steps).await {
            step?;
        }
    }
    Ok(())
}

/// Waits until there is a leader, and every node knows it.
async fn wait_for_leader(
    client: &Client,
    layout: &Layout,
    nodes: &mut [DevNode],
    deadline: Instant,
) -> Result<Report, Failure> {
    loop {
        for node in nodes.iter_mut() {
            node.check_alive()?;
        }
        let report = Report::of(&status::ask_all(client).await);
        let starting = report.nodes.iter().find(|node| node.state == "starting");
        let failure = match (status::verdict(&report), starting) {
            (None, None) => return Ok(report),
            (Some(failure), _) => failure,
            (None, Some(node)) => {
                let message = format!("the node at {} is still starting", node.address);
                Failure::new(Exit::Timeout, message)
                    .try_next(format!("see the logs, {}", layout.logs()))
            }
        };
        if Instant::now() >= deadline {
            return Err(failure);
        }
        time::sleep(ASK_EVERY).await;
    }
}

/// Says when a node ends; fails when none is left.
async fn watch(context: &Context, layout: &Layout, nodes: &mut [DevNode]) -> Result<(), Failure> {
    loop {
        for node in nodes.iter_mut() {
            if let Some(line) = node.news_of_its_end() {
                context.output.talk(&line);
            }
        }
        if nodes.iter().all(DevNode::has_ended) {
            let failure = Failure::error("all nodes have ended");
            return Err(failure.try_next(format!("see their logs, {}", layout.logs())));
        }
        time::sleep(ASK_EVERY).await;
    }
}

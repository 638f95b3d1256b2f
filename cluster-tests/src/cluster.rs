//! A cluster of real processes.

use std::{path::Path, sync::OnceLock, time::Duration};

use dos_cluster::{
    client::{Client, ClientOptions},
    pb,
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    cli::{self, CliOutput},
    logs,
    node::TestNode,
    wait::{check, eventually},
};

/// How long a cluster may take to elect, to recover or to agree, however busy the machine.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// Clusters that run at once: more of them would only slow each other down.
const CLUSTERS_MAX: u32 = 2;
/// Lines of a node's log that are shown when a test fails.
const SHOWN_LINES: usize = 40;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many nodes.
    pub nodes: usize,
    /// More flags for each node's `serve`.
    pub flags: Vec<String>,
}

impl ClusterOptions {
    /// This many nodes that elect fast.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let flags = [
            "--heartbeat",
            "100ms",
            "--election-timeout",
            "1s",
            "--segment-bytes",
            "4MiB",
        ];
        Self {
            nodes,
            flags: flags.map(str::to_owned).to_vec(),
        }
    }

    /// With flags for `serve`.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Snapshots after every 4 MiB of log, so that a test soon has a purged log.
    #[must_use]
    pub fn that_purges_soon(nodes: usize) -> Self {
        Self::new(nodes).with(&["--snapshot-log-bytes", "4MiB"])
    }
}

/// Nodes in a temporary directory. End it with [`TestCluster::finish`].
#[derive(Debug)]
pub struct TestCluster {
    /// The nodes, the first is n1.
    pub nodes: Vec<TestNode>,
    options: ClusterOptions,
    allowed: Vec<String>,
    dir: TempDir,
    finished: bool,
    _permit: Option<SemaphorePermit<'static>>,
}

impl TestCluster {
    /// A cluster of this many nodes, formed and ready.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(ClusterOptions::new(nodes)).await
    }

    /// A cluster, formed and ready.
    pub async fn start_with(options: ClusterOptions) -> Self {
        let cluster = Self::waiting(options).await;
        cluster.init().await;
        cluster
    }

    /// Nodes that wait for `init`.
    pub async fn waiting(options: ClusterOptions) -> Self {
        Self::within(1, options).await
    }

    /// A cluster, formed and ready, while no other of this process runs; for tests that hold it to a time.
    pub async fn alone(options: ClusterOptions) -> Self {
        let cluster = Self::within(CLUSTERS_MAX, options).await;
        cluster.init().await;
        cluster
    }

    async fn within(permits: u32, options: ClusterOptions) -> Self {
        static RUNNING: OnceLock<Semaphore> = OnceLock::new();
        let running = RUNNING.get_or_init(|| Semaphore::new(CLUSTERS_MAX as usize));
        let permit = running.acquire_many(permits).await.unwrap();
        Self::make(options, Some(permit)).await
    }

    /// Another cluster beside this one, of its own nodes, formed and ready; for tests that need two.
    pub async fn beside(&self, options: ClusterOptions) -> Self {
        let cluster = Self::make(options, None).await;
        cluster.init().await;
        cluster
    }

    async fn make(options: ClusterOptions, permit: Option<SemaphorePermit<'static>>) -> Self {
        let dir = TempDir::with_prefix("dos-cluster-test-").unwrap();
        let mut cluster = Self {
            nodes: Vec::new(),
            options,
            allowed: Vec::new(),
            dir,
            finished: false,
            _permit: permit,
        };
        for _ in 0..cluster.options.nodes {
            cluster.add_node();
        }
        for i in 0..cluster.nodes.len() {
            cluster.answers(i).await;
        }
        cluster
    }

    /// Forms the cluster from all nodes through the command line, and waits until it is ready.
    pub async fn init(&self) {
        let nodes = self.endpoints();
        let _ = self.cli(&["init", "--nodes", &nodes]).await.done();
        self.ready().await;
    }

    /// Starts one more node with an empty directory; answers its place.
    pub fn add_node(&mut self) -> usize {
        let place = self.nodes.len();
        let mut node = TestNode::new(
            self.dir.path(),
            &format!("node{}", place + 1),
            &self.options.flags,
        );
        node.start();
        self.nodes.push(node);
        place
    }

    /// A directory for the test's own files, gone with the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Logged warnings and errors that contain `words` are expected.
    pub fn allow(&mut self, words: &str) {
        self.allowed.push(words.to_owned());
    }

    /// The client addresses of all nodes, as the command line takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(TestNode::address).collect();
        addresses.join(",")
    }

    /// A client that knows all nodes.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_within(Duration::from_secs(30))
    }

    /// A client that knows nothing but one node.
    pub fn client_at(&self, node: usize) -> Client {
        Client::new(ClientOptions::new([self.nodes[node].address()])).unwrap()
    }

    /// A client that knows all nodes, and gives a call this long.
    #[must_use]
    pub fn client_within(&self, timeout: Duration) -> Client {
        let options = ClientOptions::new(self.nodes.iter().map(TestNode::address));
        Client::new(ClientOptions { timeout, ..options }).unwrap()
    }

    /// The command line, with all nodes as endpoints.
    pub async fn cli(&self, arguments: &[&str]) -> CliOutput {
        cli::cli(&self.endpoints(), arguments).await
    }

    /// What a node says of itself; it is asked alone.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self, place: usize) -> Result<pb::StatusResponse, String> {
        let options = ClientOptions::new([self.nodes[place].address()]);
        let client = Client::new(ClientOptions {
            timeout: Duration::from_secs(2),
            ..options
        })
        .unwrap();
        client
            .status_of(self.nodes[place].address())
            .await
            .map_err(|error| error.to_string())
    }

    /// Waits until a node answers at all.
    pub async fn answers(&self, place: usize) {
        let what = format!("{} answers", self.nodes[place].name);
        eventually(&what, SETTLE_WITHIN, async || self.status(place).await).await;
    }

    /// The statuses of all running nodes; `Err` when one does not answer.
    async fn statuses(&self) -> Result<Vec<(usize, pb::StatusResponse)>, String> {
        let mut statuses = Vec::new();
        for place in (0..self.nodes.len()).filter(|place| self.nodes[*place].is_running()) {
            statuses.push((place, self.status(place).await?));
        }
        Ok(statuses)
    }

    /// Waits until all running nodes agree on a leader that says so itself; answers its place.
    pub async fn leader(&self) -> usize {
        eventually("the nodes agree on a leader", SETTLE_WITHIN, async || {
            let statuses = self.statuses().await?;
            let leads = |status: &pb::StatusResponse| status.state() == pb::NodeState::Leader;
            let seen = || {
                statuses
                    .iter()
                    .map(|(place, s)| (*place, s.state(), s.term, s.leader_id))
                    .collect::<Vec<_>>()
            };
            let (place, leader) = statuses
                .iter()
                .find(|(_, s)| leads(s))
                .ok_or_else(|| format!("{:?}", seen()))?;
            let agreed = statuses
                .iter()
                .all(|(_, s)| s.leader_id == leader.node_id && s.term == leader.term);
            check(agreed, || format!("{:?}", seen()))?;
            Ok(*place)
        })
        .await
    }

    /// A running node that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.nodes.len())
            .find(|place| *place != leader && self.nodes[*place].is_running())
            .unwrap()
    }

    /// Waits until there is a leader and every running node says that it is ready.
    pub async fn ready(&self) {
        self.leader().await;
        eventually("all nodes are ready", SETTLE_WITHIN, async || {
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                let (code, text) = node.get("/readyz").await?;
                check(code == 200, || format!("{}: {text}", node.name))?;
            }
            Ok(())
        })
        .await;
    }

    /// Waits until all running nodes have applied the same log, and hold the same state.
    pub async fn converged(&self) {
        eventually("the nodes have the same state", SETTLE_WITHIN, async || {
            let statuses = self.statuses().await?;
            let seen: Vec<_> = statuses
                .iter()
                .map(|(_, s)| (s.applied_index, s.state_hash))
                .collect();
            check(seen.windows(2).all(|pair| pair[0].0 == pair[1].0), || {
                format!("{seen:?}")
            })?;
            // A node may answer between the two: only a difference that lasts is one.
            check(seen.windows(2).all(|pair| pair[0] == pair[1]), || {
                format!("the same log, but another state: {seen:?}")
            })
        })
        .await;
    }

    /// kill -9 of all nodes, one right after the other.
    pub fn kill9_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_running()) {
            node.kill9();
        }
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.start();
        }
    }

    /// Stops what runs, in order, and looks through the logs.
    ///
    /// # Panics
    /// When a node does not stop in order, or a log holds what was not allowed.
    pub async fn finish(mut self) {
        let running = || (0..self.nodes.len()).filter(|place| self.nodes[*place].is_running());
        for place in running() {
            self.nodes[place].ask_to_stop();
        }
        for place in running().collect::<Vec<_>>() {
            self.nodes[place].stopped().await;
        }
        for node in &self.nodes {
            let faults = logs::faults(&node.log(), &self.allowed);
            assert!(
                faults.is_empty(),
                "{} logged what no test allows:\n{}",
                node.name,
                faults.join("\n")
            );
        }
        self.finished = true;
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.finished, "a test must end its cluster with finish()");
            return;
        }
        for node in &self.nodes {
            println!(
                "=== the end of {}'s log:\n{}",
                node.name,
                logs::tail(&node.log(), SHOWN_LINES)
            );
        }
        if std::env::var_os("DOS_TEST_KEEP").is_some() {
            self.dir.disable_cleanup(true);
            println!("=== kept {}", self.dir.path().display());
        }
    }
}

//! T1: how soon a server is back that was killed with much behind it, and one that lost its disk as well.

use futures::{StreamExt, future};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    cluster::Cluster,
    fill,
    line::{Head, Line, Printed, float, round},
    native,
    payload::Pool,
    workload::Name,
};
use crate::{
    cli::exit::{Exit, Failure},
    client::Client,
    domain::NodeId,
    env::{
        net,
        time::{self, Duration, Instant},
    },
    pb,
};

/// The journals, filled at once.
const JOURNALS: usize = 4;
const ASK_EVERY: Duration = Duration::from_millis(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// No server takes longer to be back.
const BACK_WITHIN: Duration = Duration::from_mins(10);

/// How long a server was away.
#[derive(Debug, Serialize)]
struct Restarts {
    #[serde(flatten)]
    head: Head,
    loaded_mb: f64,
    load_mb_s: f64,
    /// From the start of a server that was killed to its first answer that it is ready.
    ready_ms: f64,
    /// From the start of one that has nothing any more, and is no member any more, to the end of its join.
    caught_up_ms: f64,
    caught_up_mb_s: f64,
    errors: u64,
}

/// Writes so many bytes, then kills a follower, and another time wipes it as well.
pub(super) async fn run(cluster: &mut Cluster, pool: &Pool, bytes: u64) -> Result<Line, Failure> {
    let client = cluster.client()?;
    let worker = native::fresh_worker()?;
    let began = Instant::now();
    let fills = (0..JOURNALS).map(|number| {
        let (client, journal) = (&client, native::journal(&worker, number));
        async move { fill::fill(client, &journal, pool, bytes / JOURNALS as u64).await }
    });
    future::try_join_all(fills).await?;
    let loaded = began.elapsed();
    let leader = cluster.leader(&client).await?;
    let number = leader % cluster.endpoints.len() + 1;
    cluster.kill(number).await?;
    let ready = restart(cluster, number).await?;
    let caught_up = replace(cluster, &client, number).await?;
    let megabytes = float(bytes) / 1e6;
    Line::of(&Restarts {
        head: Head::new(Name::T1, cluster),
        loaded_mb: round(megabytes, 0),
        load_mb_s: round(megabytes / loaded.as_secs_f64(), 1),
        ready_ms: round(ready.as_secs_f64() * 1e3, 1),
        caught_up_ms: round(caught_up.as_secs_f64() * 1e3, 1),
        caught_up_mb_s: round(megabytes / caught_up.as_secs_f64(), 1),
        errors: 0,
    })
}

/// Starts a killed server; answers how long it took to be ready.
async fn restart(cluster: &mut Cluster, number: usize) -> Result<Duration, Failure> {
    let began = Instant::now();
    cluster.start_again(number)?;
    let address = cluster.http_address(number)?;
    let ready = async {
        while !is_ready(&address).await {
            time::sleep(ASK_EVERY).await;
        }
    };
    within(number, "ready", ready).await?;
    Ok(began.elapsed())
}

/// Removes a server from the cluster, with its data, and lets it join as a new one; answers how long it took from its start until it
/// had everything.
async fn replace(
    cluster: &mut Cluster,
    client: &Client,
    number: usize,
) -> Result<Duration, Failure> {
    let address = cluster.address(number)?;
    cluster.kill(number).await?;
    let members = client.status().await?.members;
    let members = members.into_iter().filter_map(|member| member.member);
    let member = members.into_iter().find(|m| m.client_address == address);
    let member = member.ok_or_else(|| {
        Failure::error(format!("the server at {address} is no member"))
            .try_next("dos-cluster member list")
    })?;
    client.remove_member(NodeId(member.node_id)).await?;
    cluster.wipe(number)?;
    let began = Instant::now();
    cluster.start_again(number)?;
    let waits = async {
        while !is_waiting(client, &address).await {
            time::sleep(ASK_EVERY).await;
        }
    };
    within(number, "waiting to join", waits).await?;
    let mut steps = std::pin::pin!(client.join(&address).await?);
    while let Some(step) = steps.next().await {
        step?;
    }
    Ok(began.elapsed())
}

async fn within(number: usize, what: &str, until: impl Future<Output = ()>) -> Result<(), Failure> {
    let late = |_| {
        let message = format!("server n{number} is not {what} within {BACK_WITHIN:?}");
        Failure::new(Exit::Timeout, message).try_next("the same with less --bytes")
    };
    time::timeout(BACK_WITHIN, until).await.map_err(late)
}

async fn is_waiting(client: &Client, address: &str) -> bool {
    let asked = time::timeout(ANSWER_WITHIN, client.status_of(address)).await;
    matches!(asked, Ok(Ok(status)) if status.state() == pb::NodeState::Waiting)
}

/// Whether a server says that it is ready, as whoever watches over it asks.
async fn is_ready(address: &str) -> bool {
    let asked = async {
        let mut connection = net::connect(address).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = time::timeout(ANSWER_WITHIN, asked).await;
    matches!(answer, Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200 "))
}

impl Printed for Restarts {
    const COLUMNS: &'static [&'static str] = &[
        "workload",
        "MB",
        "load MB/s",
        "ready ms",
        "caught up ms",
        "caught up MB/s",
    ];

    fn row(&self) -> Vec<String> {
        vec![
            self.head.name(),
            format!("{:.0}", self.loaded_mb),
            format!("{:.1}", self.load_mb_s),
            format!("{:.0}", self.ready_ms),
            format!("{:.0}", self.caught_up_ms),
            format!("{:.1}", self.caught_up_mb_s),
        ]
    }
}

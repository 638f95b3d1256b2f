//! F1: the leading server is killed under load. How long nobody gets an acknowledgement, and whether every acknowledged byte is there
//! afterwards.

use std::sync::Arc;

use serde::Serialize;

use super::{
    acks::{Acks, Seen},
    cluster::Cluster,
    line::{Head, Line, Printed, float, round},
    load::{Load, Outcome},
    native,
    payload::Pool,
    workload::{Name, Shape},
};
use crate::{
    cli::exit::{Exit, Failure},
    client::{Client, Floor},
    domain::{JournalRef, Offset, WorkerRef},
    env::time::{self, Duration},
};

/// How long the writers are given to go on.
const WITHIN: Duration = Duration::from_mins(1);

/// What happened, over all rounds.
#[derive(Debug, Serialize)]
struct Failovers {
    #[serde(flatten)]
    head: Head,
    payload: usize,
    writers: usize,
    window: usize,
    repeat: usize,
    /// Medians, and what they are of.
    next_ack_ms: Option<f64>,
    next_ack_ms_all: Vec<Option<f64>>,
    failover_ms: Option<f64>,
    failover_ms_all: Vec<Option<f64>>,
    all_writers_ms: Option<f64>,
    all_writers_ms_all: Vec<Option<f64>>,
    /// Bytes that were acknowledged, and of these the ones that did not come back as they were sent.
    acked_bytes: u64,
    lost_bytes: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// One kill.
struct Round {
    seen: Seen,
    outcome: Outcome,
    acked_bytes: u64,
    lost_bytes: u64,
}

/// Kills the leader so many times.
///
/// # Errors
/// When something acknowledged is lost, after that was printed; or as anything on the way.
pub(super) async fn run(
    cluster: &mut Cluster,
    pool: &Pool,
    (shape, warm_up): (Shape, Duration),
    repeat: usize,
    mut print: impl FnMut(Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut rounds = Vec::new();
    for _ in 0..repeat {
        rounds.push(round_of(cluster, pool, shape, warm_up).await?);
    }
    let failovers = Failovers::of(Head::new(Name::F1, cluster), shape, &rounds);
    print(Line::of(&failovers)?)?;
    match failovers.lost_bytes {
        0 => Ok(()),
        lost => {
            let of = failovers.acked_bytes;
            let message = format!("{lost} of {of} acknowledged bytes are not there any more");
            Err(Failure::new(Exit::Verification, message))
        }
    }
}

async fn round_of(
    cluster: &mut Cluster,
    pool: &Pool,
    shape: Shape,
    warm_up: Duration,
) -> Result<Round, Failure> {
    let client = cluster.client()?;
    let worker = native::fresh_worker()?;
    let writers = native::open(std::slice::from_ref(&client), &worker, shape).await?;
    let acks = Arc::new(Acks::new(shape.writers));
    let load = Load::start(writers, shape, pool, Some(acks.clone()));
    time::sleep(warm_up).await;
    let leader = cluster.leader(&client).await?;
    acks.killed();
    cluster.kill(leader).await?;
    // Whoever does not go on by then shows in the figures.
    let _ = time::timeout(WITHIN, acks.all_went_on()).await;
    let outcome = load.stop().await;
    let (acked_bytes, lost_bytes) = read_back(&client, pool, &worker, shape, &outcome).await?;
    cluster.bring_back(&client, leader).await?;
    Ok(Round {
        seen: acks.seen(),
        outcome,
        acked_bytes,
        lost_bytes,
    })
}

/// How many bytes were acknowledged, and how many of them are not there as they were sent.
async fn read_back(
    client: &Client,
    pool: &Pool,
    worker: &WorkerRef,
    shape: Shape,
    outcome: &Outcome,
) -> Result<(u64, u64), Failure> {
    let (mut acked_bytes, mut lost_bytes) = (0, 0);
    for (number, acked) in &outcome.acked {
        let journal = native::journal(worker, *number);
        let there = there(client, pool, &journal, *number, shape.payload, *acked).await?;
        acked_bytes += acked;
        lost_bytes += acked - there;
    }
    Ok((acked_bytes, lost_bytes))
}

/// How many of the first `acked` bytes of a journal are what its writer sent.
async fn there(
    client: &Client,
    pool: &Pool,
    journal: &JournalRef,
    number: usize,
    payload: usize,
    acked: u64,
) -> Result<u64, Failure> {
    let read = client.read(journal, Offset::ZERO, None, Floor::Linearizable);
    let mut read = read.await?;
    let mut there = 0;
    while let Some((at, data)) = read.next().await? {
        let behind = acked.saturating_sub(at.0);
        let wanted = usize::try_from(behind)
            .unwrap_or(usize::MAX)
            .min(data.len());
        there += pool.matching(number, at.0, payload, &data[..wanted]);
    }
    Ok(there)
}

impl Failovers {
    fn of(head: Head, shape: Shape, rounds: &[Round]) -> Self {
        let all = |figure: fn(&Seen) -> Option<Duration>| -> Vec<_> {
            let figures = rounds.iter().map(|round| figure(&round.seen));
            figures.map(|took| took.map(milliseconds)).collect()
        };
        let next_ack = all(|seen| seen.next_ack);
        let failover = all(|seen| seen.failover);
        let all_writers = all(|seen| seen.all_writers);
        let mut errors = rounds.iter().map(|round| &round.outcome.last_error);
        Self {
            head,
            payload: shape.payload,
            writers: shape.writers,
            window: shape.window,
            repeat: rounds.len(),
            next_ack_ms: median(&next_ack),
            next_ack_ms_all: next_ack,
            failover_ms: median(&failover),
            failover_ms_all: failover,
            all_writers_ms: median(&all_writers),
            all_writers_ms_all: all_writers,
            acked_bytes: rounds.iter().map(|round| round.acked_bytes).sum(),
            lost_bytes: rounds.iter().map(|round| round.lost_bytes).sum(),
            errors: rounds.iter().map(|round| round.outcome.errors).sum(),
            last_error: errors.find_map(Clone::clone),
        }
    }
}

fn milliseconds(took: Duration) -> f64 {
    round(took.as_secs_f64() * 1e3, 1)
}

/// The one in the middle; none if some round has none.
fn median(figures: &[Option<f64>]) -> Option<f64> {
    let mut sorted = figures.iter().copied().collect::<Option<Vec<f64>>>()?;
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl Printed for Failovers {
    const COLUMNS: &'static [&'static str] = &[
        "workload",
        "rounds",
        "next ack ms",
        "failover ms",
        "all writers ms",
        "longest ms",
        "acked MB",
        "lost bytes",
        "errors",
    ];

    fn row(&self) -> Vec<String> {
        let shown = |figure: Option<f64>| figure.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        let longest = self.next_ack_ms_all.iter().copied().flatten();
        vec![
            self.head.name(),
            self.repeat.to_string(),
            shown(self.next_ack_ms),
            shown(self.failover_ms),
            shown(self.all_writers_ms),
            shown(longest.max_by(f64::total_cmp)),
            format!("{:.1}", float(self.acked_bytes) / 1e6),
            self.lost_bytes.to_string(),
            self.errors.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_of_all_rounds_or_of_none() {
        assert_eq!(median(&[Some(3.0), Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(&[Some(3.0), None]), None);
        assert_eq!(median(&[]), None);
    }
}

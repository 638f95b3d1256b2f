//! A closed loop of writers: each keeps its window full, and an append counts when it is durable.

use std::{collections::VecDeque, sync::Arc};

use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::{payload::Pool, workload::Shape};
use crate::{
    client::{AppendOptions, AppendStream, Client, ClientError},
    domain::{JournalKind, JournalName, Offset, WorkerRef},
    env::{
        task::JoinSet,
        time::{self, Duration, Instant},
    },
};

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;

/// Before, within and behind the time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Appends that became durable in the measured time.
    pub(super) appends: u64,
    /// Appends of the whole run, warm-up included.
    pub(super) total_appends: u64,
    /// The measured time.
    pub(super) elapsed: Duration,
    /// From the append to its acknowledgement, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Writers that failed, and why the last one did.
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
}

/// What every writer works with.
#[derive(Debug)]
struct Shared {
    pool: Pool,
    shape: Shape,
    phase: watch::Receiver<Phase>,
}

/// One writer's part of the outcome.
struct Part {
    appends: u64,
    total_appends: u64,
    latency: Histogram<u64>,
    error: Option<ClientError>,
}

fn histogram() -> Histogram<u64> {
    // The bounds are constants that it accepts.
    Histogram::new_with_max(LATENCY_MAX_US, 3).unwrap_or_else(|_| unreachable!("valid bounds"))
}

/// Opens the journals of `shape`, fills the windows for `warm_up`, then counts for `measured`. `began` and `ended` are called at
/// both ends of the measured time.
///
/// # Errors
/// Whatever an open fails with. Writers that fail later are counted.
pub(super) async fn run(
    clients: &[Client],
    worker: &WorkerRef,
    shape: Shape,
    (warm_up, measured): (Duration, Duration),
    pool: &Pool,
    mut at: impl FnMut(),
) -> Result<Outcome, ClientError> {
    let (phase, watched) = watch::channel(Phase::WarmUp);
    let shared = Arc::new(Shared {
        pool: pool.clone(),
        shape,
        phase: watched,
    });
    let streams = open(clients, worker, shape).await?;
    let mut writers = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let shared = shared.clone();
        writers.spawn(async move { write(&shared, number, stream).await });
    }
    time::sleep(warm_up).await;
    at();
    let began = Instant::now();
    phase.send_replace(Phase::Measured);
    time::sleep(measured).await;
    phase.send_replace(Phase::Over);
    let elapsed = began.elapsed();
    at();
    let mut outcome = Outcome {
        appends: 0,
        total_appends: 0,
        elapsed,
        latency: histogram(),
        errors: 0,
        last_error: None,
    };
    while let Some(part) = writers.join_next().await {
        // A writer that panicked has aborted nothing else; it counts as failed.
        let part = match part {
            Ok(part) => part,
            Err(error) => {
                outcome.errors += 1;
                outcome.last_error = Some(error.to_string());
                continue;
            }
        };
        outcome.appends += part.appends;
        outcome.total_appends += part.total_appends;
        outcome.latency.add(&part.latency).ok(); // of the same bounds
        if let Some(error) = part.error {
            outcome.errors += 1;
            outcome.last_error = Some(error.to_string());
        }
    }
    Ok(outcome)
}

/// Opens one journal for each writer.
async fn open(
    clients: &[Client],
    worker: &WorkerRef,
    shape: Shape,
) -> Result<Vec<AppendStream>, ClientError> {
    let mut streams = Vec::new();
    let Some(first) = clients.first() else {
        return Ok(streams);
    };
    let (epoch, _) = first.open_worker(worker, None).await?;
    let opens = (0..shape.writers).zip(clients.iter().cycle());
    let opens = opens.map(|(number, client)| {
        let options = AppendOptions {
            // Appends are bounded by their number, not by this.
            window_bytes: 4 * shape.window * shape.payload.max(1024),
            ..AppendOptions::of(client)
        };
        let name = JournalName::new(&format!("w{number}"));
        async move {
            let name = name.unwrap_or_else(|_| unreachable!("a valid name"));
            let (journal, kind) = (worker.journal(name), JournalKind::Raw);
            AppendStream::open(client, &journal, kind, epoch, None, options).await
        }
    });
    // A few at once: 1,024 opens one after the other would take long.
    let mut opened = std::pin::pin!(futures::StreamExt::buffered(
        futures::stream::iter(opens),
        16
    ));
    while let Some(stream) = futures::StreamExt::next(&mut opened).await {
        streams.push(stream?);
    }
    Ok(streams)
}

async fn write(shared: &Shared, number: usize, mut stream: AppendStream) -> Part {
    let mut part = Part {
        appends: 0,
        total_appends: 0,
        latency: histogram(),
        error: None,
    };
    let ended = keep_full(shared, number, &mut stream, &mut part).await;
    part.error = match ended {
        Ok(()) => stream.close().await.err(),
        Err(error) => Some(error),
    };
    part
}

/// Keeps the window full until the time is over.
async fn keep_full(
    shared: &Shared,
    number: usize,
    stream: &mut AppendStream,
    part: &mut Part,
) -> Result<(), ClientError> {
    let Shape {
        window, payload, ..
    } = shared.shape;
    let mut in_flight: VecDeque<(Offset, Instant)> = VecDeque::with_capacity(window);
    let mut watch = stream.watch();
    let mut sequence = 0;
    while *shared.phase.borrow() != Phase::Over {
        while in_flight.len() < window {
            let began = Instant::now();
            let bytes = shared.pool.payload(number, sequence, payload);
            let end = stream.append(bytes).await?;
            in_flight.push_back((end, began));
            sequence += 1;
        }
        let Some((oldest, _)) = in_flight.front() else {
            continue;
        };
        let durable = watch.wait_durable(*oldest).await?.durable;
        let (now, is_measured) = (Instant::now(), *shared.phase.borrow() == Phase::Measured);
        while let Some((end, began)) = in_flight.front().copied() {
            if end > durable {
                break;
            }
            in_flight.pop_front();
            part.total_appends += 1;
            if is_measured {
                part.appends += 1;
                let took = now.duration_since(began).as_micros();
                let took = u64::try_from(took).unwrap_or(LATENCY_MAX_US);
                part.latency.saturating_record(took.max(1));
            }
        }
    }
    Ok(())
}

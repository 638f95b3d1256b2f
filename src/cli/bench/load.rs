//! A closed loop of writers: each keeps its window full, and an append counts when it is durable.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{acks::Acks, latency::Latencies, payload::Pool, workload::Shape};
use crate::{
    cli::exit::Failure,
    env::{
        task::JoinSet,
        time::{self, Duration, Instant},
    },
};

/// One journal's way into the cluster.
pub(super) trait Writer: Send + Sized + 'static {
    /// Sends bytes behind all before; answers the offset behind them.
    fn append(&mut self, bytes: Bytes) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Waits until everything before `offset` is durable; answers the offset before which everything is.
    fn durable(&mut self, offset: u64) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Ends it in order, everything durable.
    fn close(self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Before, within and behind the time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// How long the load runs before it counts, and while it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    /// All that was sent, in the warm-up and at the end too.
    pub(super) total_appends: u64,
    /// The measured time.
    pub(super) elapsed: Duration,
    /// From the append to its acknowledgement, of those that became durable in the measured time.
    pub(super) latencies: Latencies,
    /// The number of each writer that ended, and the offset before which everything was acknowledged to it.
    pub(super) acked: Vec<(usize, u64)>,
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
    acks: Option<Arc<Acks>>,
}

/// One writer's part of the outcome.
#[derive(Debug)]
pub(super) struct Part {
    number: usize,
    /// The ends of what was sent, and of what was acknowledged.
    sent: u64,
    acked: u64,
    pub(super) total_appends: u64,
    pub(super) latencies: Latencies,
    pub(super) error: Option<Failure>,
}

impl Part {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            sent: 0,
            acked: 0,
            total_appends: 0,
            latencies: Latencies::new(),
            error: None,
        }
    }
}

/// Writers that write.
#[derive(Debug)]
pub(super) struct Load {
    phase: watch::Sender<Phase>,
    writers: JoinSet<Part>,
}

impl Load {
    /// Starts to fill the windows. Nothing counts yet. `acks` is told about each acknowledgement.
    pub(super) fn start<W: Writer>(
        writers: Vec<W>,
        shape: Shape,
        pool: &Pool,
        acks: Option<Arc<Acks>>,
    ) -> Self {
        let (phase, watched) = watch::channel(Phase::WarmUp);
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            shape,
            phase: watched,
            acks,
        });
        let mut running = JoinSet::new();
        for (number, writer) in writers.into_iter().enumerate() {
            let shared = shared.clone();
            running.spawn(async move { write(&shared, number, writer).await });
        }
        Self::of(phase, running)
    }

    /// Tasks that do anything until the phase that they see is over.
    pub(super) fn of(phase: watch::Sender<Phase>, writers: JoinSet<Part>) -> Self {
        Self { phase, writers }
    }

    /// Lets the load run, and counts; `at` is called at both ends of the measured time.
    pub(super) async fn run(self, times: Times, mut at: impl FnMut()) -> Outcome {
        time::sleep(times.warm_up).await;
        at();
        let began = Instant::now();
        self.phase.send_replace(Phase::Measured);
        time::sleep(times.measured).await;
        self.phase.send_replace(Phase::Over);
        let elapsed = began.elapsed();
        at();
        self.finish(elapsed).await
    }

    /// Ends a load of which nothing counted, in order.
    pub(super) async fn stop(self) -> Outcome {
        self.phase.send_replace(Phase::Over);
        self.finish(Duration::ZERO).await
    }

    async fn finish(mut self, elapsed: Duration) -> Outcome {
        let mut outcome = Outcome {
            total_appends: 0,
            elapsed,
            latencies: Latencies::new(),
            acked: Vec::new(),
            errors: 0,
            last_error: None,
        };
        while let Some(part) = self.writers.join_next().await {
            // A writer that panicked has aborted nothing else; it counts as failed.
            let part = match part {
                Ok(part) => part,
                Err(error) => {
                    outcome.errors += 1;
                    outcome.last_error = Some(error.to_string());
                    continue;
                }
            };
            outcome.total_appends += part.total_appends;
            outcome.latencies.add(&part.latencies);
            outcome.acked.push((part.number, part.acked));
            if let Some(error) = part.error {
                outcome.errors += 1;
                outcome.last_error = Some(error.message);
            }
        }
        outcome
    }
}

async fn write<W: Writer>(shared: &Shared, number: usize, mut writer: W) -> Part {
    let mut part = Part::new(number);
    let ended = keep_full(shared, number, &mut writer, &mut part).await;
    let closed = match ended {
        Ok(()) => writer.close().await,
        Err(error) => Err(error),
    };
    match closed {
        Ok(()) => part.acked = part.sent,
        Err(error) => part.error = Some(error),
    }
    part
}

/// Keeps the window full until the time is over.
async fn keep_full<W: Writer>(
    shared: &Shared,
    number: usize,
    writer: &mut W,
    part: &mut Part,
) -> Result<(), Failure> {
    let Shape {
        window, payload, ..
    } = shared.shape;
    let mut in_flight: VecDeque<(u64, Instant)> = VecDeque::with_capacity(window);
    let mut sequence = 0;
    while *shared.phase.borrow() != Phase::Over {
        while in_flight.len() < window {
            let began = Instant::now();
            let bytes = shared.pool.payload(number, sequence, payload);
            let end = writer.append(bytes).await?;
            in_flight.push_back((end, began));
            part.sent = end;
            part.total_appends += 1;
            sequence += 1;
        }
        let Some((oldest, _)) = in_flight.front() else {
            continue;
        };
        let durable = writer.durable(*oldest).await?;
        part.acked = durable;
        let mut newest = None;
        let (now, is_measured) = (Instant::now(), *shared.phase.borrow() == Phase::Measured);
        while let Some((end, began)) = in_flight.front().copied() {
            if end > durable {
                break;
            }
            in_flight.pop_front();
            newest = Some(began);
            if is_measured {
                part.latencies.record(now.duration_since(began));
            }
        }
        if let (Some(acks), Some(sent)) = (&shared.acks, newest) {
            acks.note(number, sent, now);
        }
    }
    Ok(())
}

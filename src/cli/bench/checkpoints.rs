//! C1: workers that commit checkpoints in step, as stream workers do: bytes behind two journals each, and then the checkpoint that
//! covers them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    cluster::{Cluster, Meter, Used},
    latency::{Latencies, Spread},
    line::{Head, Printed, float, millis, round},
    load::{Load, Outcome, Part, Phase, Times},
    native,
    payload::Pool,
    record::{Done, ServerUse},
    workload::{Name, Shape},
};
use crate::{
    cli::exit::Failure,
    client::{AppendOptions, AppendStream, Client},
    domain::{CheckpointId, Epoch, JournalKind, JournalName, WorkerName, WorkerRef},
    env::{
        task::JoinSet,
        time::{self, Duration, Instant, MissedTickBehavior},
    },
};

/// Between two checkpoints of a worker.
const EVERY: Duration = Duration::from_millis(100);
/// Journals of a worker.
const JOURNALS: usize = 2;
/// Workers that are opened at a time.
const OPENS_AT_ONCE: usize = 16;

/// Checkpoints, over all workers.
#[derive(Debug, Serialize)]
pub(super) struct Checkpoints {
    #[serde(flatten)]
    head: Head,
    /// Bytes that a checkpoint has behind it.
    payload: usize,
    writers: usize,
    journals: usize,
    interval_ms: u128,
    conns: usize,
    secs: f64,
    /// Checkpoints a second.
    ops_s: f64,
    mb_s: f64,
    /// From the first byte appended to the checkpoint's acknowledgement.
    #[serde(flatten)]
    latency: Spread,
    /// Of that, the call that commits the checkpoint, when its bytes are durable.
    commit_p50_us: u64,
    commit_p99_us: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    servers: Option<ServerUse>,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// What every worker works with.
struct Shared {
    pool: Pool,
    shape: Shape,
    phase: watch::Receiver<Phase>,
    commits: Mutex<Latencies>,
}

/// One worker.
struct Worker {
    client: Client,
    worker: WorkerRef,
    epoch: Epoch,
    journals: Vec<AppendStream>,
}

/// Lets as many workers as the shape has writers commit checkpoints.
pub(super) async fn run(
    cluster: &Cluster,
    clients: &[Client],
    pool: &Pool,
    shape: Shape,
    times: Times,
) -> Result<Checkpoints, Failure> {
    let mut meter = Meter::new(cluster);
    let workers = open(clients, shape).await?;
    let (phase, watched) = watch::channel(Phase::WarmUp);
    let shared = Arc::new(Shared {
        pool: pool.clone(),
        shape,
        phase: watched,
        commits: Mutex::new(Latencies::new()),
    });
    let mut running = JoinSet::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let shared = shared.clone();
        running.spawn(async move { shared.work(number, worker).await });
    }
    let outcome = Load::of(phase, running).run(times, || meter.read()).await;
    let commits = shared.commits.lock();
    let commits = commits.unwrap_or_else(PoisonError::into_inner).clone();
    let head = Head::new(Name::C1, cluster);
    let used = meter.used();
    Ok(Checkpoints::of(
        head,
        (shape, clients.len()),
        &outcome,
        &commits,
        used.as_ref(),
    ))
}

/// Opens the workers, all in one job, each with its journals.
async fn open(clients: &[Client], shape: Shape) -> Result<Vec<Worker>, Failure> {
    let job = native::fresh_worker()?.job;
    let opens = (0..shape.writers).zip(clients.iter().cycle());
    let opens = opens.map(|(number, client)| {
        let name = WorkerName::new(&format!("w{number}"));
        let worker = WorkerRef {
            job: job.clone(),
            worker: name.unwrap_or_else(|_| unreachable!("a valid name")),
        };
        Worker::open(client.clone(), worker)
    });
    let mut opened = std::pin::pin!(futures::stream::iter(opens).buffered(OPENS_AT_ONCE));
    let mut workers = Vec::new();
    while let Some(worker) = opened.next().await {
        workers.push(worker?);
    }
    Ok(workers)
}

impl Worker {
    async fn open(client: Client, worker: WorkerRef) -> Result<Self, Failure> {
        let (epoch, _) = client.open_worker(&worker, None).await?;
        let mut journals = Vec::new();
        for number in 0..JOURNALS {
            let journal = native::journal(&worker, number);
            let options = AppendOptions::of(&client);
            let kind = JournalKind::Raw;
            let stream = AppendStream::open(&client, &journal, kind, epoch, None, options);
            journals.push(stream.await?);
        }
        Ok(Self {
            client,
            worker,
            epoch,
            journals,
        })
    }

    /// Appends a part of the bytes to each journal, and commits the checkpoint that covers them once they are durable; answers how
    /// long the commit alone took.
    async fn checkpoint(&mut self, number: u64, parts: Vec<Bytes>) -> Result<Duration, Failure> {
        for (journal, part) in self.journals.iter_mut().zip(parts) {
            journal.append(part).await?;
        }
        let mut offsets = BTreeMap::new();
        for journal in &self.journals {
            journal.wait_durable(journal.end()).await?;
            let name: JournalName = journal.journal().journal.clone();
            offsets.insert(name, journal.end());
        }
        let id = CheckpointId {
            rollback_epoch: 0,
            number,
        };
        let began = Instant::now();
        let (client, worker) = (&self.client, &self.worker);
        client
            .commit_checkpoint(worker, self.epoch, id, offsets)
            .await?;
        Ok(began.elapsed())
    }
}

impl Shared {
    /// Commits a checkpoint at every tick until the time is over.
    async fn work(&self, number: usize, mut worker: Worker) -> Part {
        let mut part = Part::new(number);
        part.error = self.tick(number, &mut worker, &mut part).await.err();
        for journal in worker.journals {
            let closed = journal.close().await;
            part.error = part.error.or(closed.err().map(Failure::from));
        }
        part
    }

    async fn tick(
        &self,
        number: usize,
        worker: &mut Worker,
        part: &mut Part,
    ) -> Result<(), Failure> {
        // Workers of one job do not tick together by themselves: they are spread evenly.
        let share = u32::try_from(number).unwrap_or_default();
        let all = u32::try_from(self.shape.writers.max(1)).unwrap_or(1);
        // One that is late moves those behind it: a worker has one checkpoint on its way.
        let mut ticks = time::interval(EVERY);
        time::sleep(EVERY * share / all).await;
        ticks.reset_immediately();
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for checkpoint in 1.. {
            ticks.tick().await;
            if *self.phase.borrow() == Phase::Over {
                break;
            }
            let began = Instant::now();
            let bytes = self.pool.payload(number, checkpoint, self.shape.payload);
            let parts = parts(&bytes);
            let commit = worker.checkpoint(checkpoint, parts).await?;
            part.total_appends += 1;
            if *self.phase.borrow() == Phase::Measured {
                part.latencies.record(began.elapsed());
                let commits = self.commits.lock();
                commits
                    .unwrap_or_else(PoisonError::into_inner)
                    .record(commit);
            }
        }
        Ok(())
    }
}

/// The bytes of a checkpoint, cut for its journals.
fn parts(bytes: &Bytes) -> Vec<Bytes> {
    let middle = bytes.len() / JOURNALS;
    vec![bytes.slice(..middle), bytes.slice(middle..)]
}

impl Checkpoints {
    fn of(
        head: Head,
        (shape, conns): (Shape, usize),
        outcome: &Outcome,
        commits: &Latencies,
        used: Option<&Used>,
    ) -> Self {
        let latencies = &outcome.latencies;
        let secs = outcome.elapsed.as_secs_f64();
        let payload = shape.payload as u64;
        let done = Done {
            ops: latencies.count(),
            bytes: latencies.count() * payload,
            total_bytes: outcome.total_appends * payload,
        };
        Self {
            head,
            payload: shape.payload,
            writers: shape.writers,
            journals: JOURNALS,
            interval_ms: EVERY.as_millis(),
            conns,
            secs: round(secs, 1),
            ops_s: round(float(done.ops) / secs, 1),
            mb_s: round(float(done.bytes) / secs / 1e6, 2),
            latency: Spread::of(latencies),
            commit_p50_us: commits.at(0.5),
            commit_p99_us: commits.at(0.99),
            servers: used.map(|used| ServerUse::new(used, done)),
            errors: outcome.errors,
            last_error: outcome.last_error.clone(),
        }
    }
}

impl Printed for Checkpoints {
    const COLUMNS: &'static [&'static str] = &[
        "workload",
        "workers",
        "checkpoints/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "commit p50 ms",
        "commit p99 ms",
        "CPU s/GB",
        "errors",
    ];

    fn row(&self) -> Vec<String> {
        let servers = self.servers.as_ref();
        vec![
            self.head.name(),
            self.writers.to_string(),
            format!("{:.0}", self.ops_s),
            millis(self.latency.p50_us),
            millis(self.latency.p95_us),
            millis(self.latency.p99_us),
            millis(self.latency.max_us),
            millis(self.commit_p50_us),
            millis(self.commit_p99_us),
            servers.map_or("-".to_owned(), |servers| {
                format!("{:.1}", servers.server_cpu_s_per_gb)
            }),
            self.errors.to_string(),
        ]
    }
}

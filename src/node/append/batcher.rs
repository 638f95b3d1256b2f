//! One task that turns whatever is queued, from all streams, into batches, and sends them to the leader in order.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{admission::Permit, forwarder::Forwarder};
use crate::{
    domain::{
        Append, AppendBatch, Appended, Command, Offset, Outcome, Rejected,
        limits::{BATCH_APPENDS_MAX, BATCH_BYTES_MAX},
    },
    env::{task, time},
    node::{metrics::Metrics, router::Router},
    raft::{ProposeError, Proposed},
};

/// Batches under way at once: enough to keep the log's writer and the network busy, few enough that batches grow under load.
const IN_FLIGHT_MAX: usize = 4;
/// Appends queued; their bytes are bounded by admission.
const QUEUE_LEN: usize = 65_536;

/// What became of an append.
#[derive(Debug)]
pub(super) enum Settled {
    /// Decided, at this log index.
    Decided(Result<Appended, Rejected>, u64),
    /// Not known, and why: the stream ends, and its writer opens another.
    Failed(String),
}

/// How far the leader has received what a stream sent. Only a hint, so the batcher wakes nobody up for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Written(Arc<AtomicU64>);

impl Written {
    pub(super) fn get(&self) -> Offset {
        Offset(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn reached(&self, end: Offset) {
        self.0.fetch_max(end.0, Ordering::Relaxed);
    }
}

/// One append on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) append: Append,
    /// Given back when the append is settled.
    pub(super) _permit: Permit,
    /// The stream it came from. Unbounded, for what it holds is bounded by the stream's permits.
    pub(super) settled: mpsc::UnboundedSender<Settled>,
    pub(super) written: Written,
}

/// A batch on its way: what is sent, and who waits.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) waiting: Vec<Pending>,
}

impl Batch {
    /// The appends, as one command. Payloads are shared, not copied.
    pub(super) fn appends(&self) -> AppendBatch {
        let appends = self.waiting.iter().map(|pending| pending.append.clone());
        AppendBatch {
            appends: appends.collect(),
            at_unix_ms: time::unix_millis(),
        }
    }

    /// The leader has all of it.
    pub(super) fn written(&self) {
        for pending in &self.waiting {
            if let Some(end) = pending.append.at.advance(pending.append.data.len()) {
                pending.written.reached(end);
            }
        }
    }

    /// All of it is decided.
    pub(super) fn decided(self, answers: Vec<Result<Appended, Rejected>>, log_index: u64) {
        for (pending, answer) in self.waiting.into_iter().zip(answers) {
            let _ = pending.settled.send(Settled::Decided(answer, log_index)); // a stream that is gone needs no answer
        }
    }

    /// Nothing is known.
    pub(super) fn failed(self, why: &str) {
        for pending in self.waiting {
            let _ = pending.settled.send(Settled::Failed(why.to_owned()));
        }
    }
}

/// The way into the batcher. Cheap to clone; the batcher ends with the last clone.
#[derive(Debug, Clone)]
pub(in crate::node) struct AppendQueue {
    sender: mpsc::Sender<Pending>,
}

impl AppendQueue {
    /// Starts the node's batcher.
    pub(in crate::node) fn start(router: Router, metrics: Metrics) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        task::spawn(run(queue, router, metrics));
        Self { sender }
    }

    /// Queues an append, in call order.
    pub(super) async fn send(&self, pending: Pending) {
        // The batcher lives as long as any queue.
        let _ = self.sender.send(pending).await;
    }
}

async fn run(mut queue: mpsc::Receiver<Pending>, router: Router, metrics: Metrics) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut forwarder = Forwarder::default();
    let mut left_over = None;
    let mut leader = router.group().watch_leader();
    loop {
        let first = match left_over.take() {
            Some(pending) => pending,
            None => match queue.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        // The permit comes before the gathering: while none is free, the queue fills and the batch grows.
        let permit = loop {
            tokio::select! {
                permit = in_flight.clone().acquire_owned() => match permit {
                    Ok(permit) => break permit,
                    Err(_) => return,
                },
                // A former leader whose disk hangs is alive, and never answers: its batches would keep their permits.
                Ok(()) = leader.changed() => {
                    let now = *leader.borrow_and_update();
                    forwarder.leave_unless(now);
                }
            }
        };
        let batch = gather(first, &mut queue, &mut left_over);
        metrics.batch(batch.waiting.len());
        match router.leader() {
            Some(leader) if leader == router.me() => propose(&router, batch, permit).await,
            Some(leader) => forwarder.send(&router, leader, batch, permit).await,
            None => batch.failed("no leader is known"),
        }
    }
}

fn gather(
    first: Pending,
    queue: &mut mpsc::Receiver<Pending>,
    left_over: &mut Option<Pending>,
) -> Batch {
    let mut bytes = first.append.data.len();
    let mut waiting = vec![first];
    while waiting.len() < BATCH_APPENDS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.append.data.len();
        if bytes > BATCH_BYTES_MAX {
            *left_over = Some(next);
            break;
        }
        waiting.push(next);
    }
    Batch { waiting }
}

async fn propose(router: &Router, batch: Batch, permit: OwnedSemaphorePermit) {
    match router
        .group()
        .submit(Command::Append(batch.appends()))
        .await
    {
        Err(error) => batch.failed(&error.to_string()),
        Ok(decision) => {
            batch.written();
            task::spawn(async move {
                settle(batch, decision.await);
                drop(permit);
            });
        }
    }
}

fn settle(batch: Batch, decision: Result<Proposed, ProposeError>) {
    match decision {
        Ok(Proposed {
            answer: Ok(Outcome::Appended(answers)),
            log_index,
        }) => batch.decided(answers, log_index),
        Ok(_) => batch.failed("the batch got another command's answer"),
        Err(error) => batch.failed(&error.to_string()),
    }
}

//! Tasks, blocking work, and the single writer behind a bounded queue.

use std::future::Future;
use std::time::Duration;

pub use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

/// Runs a future beside the caller. Dropping the handle detaches it.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs work that blocks (disk, compression) without holding up other tasks: on a thread of its own, or, in a
/// simulation, at once. A panic of the work goes on in the caller. If the runtime is going down and the work was never
/// started, the future does not resolve.
pub async fn blocking<T, W>(work: W) -> T
where
    W: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    #[cfg(not(sim))]
    {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }
    #[cfg(sim)]
    {
        work()
    }
}

/// What a single writer does with its queue. Called from one thread (in a simulation, from one task), never
/// concurrently.
pub trait BatchWorker: Send + 'static {
    /// One request. Dropped unanswered only if the worker panics.
    type Item: Send + 'static;

    /// How much of [`BatchLimits::weight_max`] an item takes, usually bytes.
    fn weight(item: &Self::Item) -> usize;

    /// Writes a batch, in order. Takes the items out of `items`, which is empty afterwards or dropped.
    fn write(&mut self, items: &mut Vec<Self::Item>);

    /// Syncs what [`write`](Self::write) wrote and answers it. In a simulation time passes between the two, so that a
    /// power cut can fall there.
    fn sync(&mut self);

    /// Answers what [`write`](Self::write) wrote although it is not synced: what the simulation's [`canary`] does wrong.
    #[cfg(sim)]
    fn answer_before_sync(&mut self);

    /// Called once when [`IDLE_AFTER`] has passed without work.
    fn idle(&mut self);

    /// Called last, when no sender is left and the queue is empty.
    fn stop(&mut self);
}

/// How much one batch gathers. An item that is over `weight_max` by itself is a batch of its own.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Items in one batch at most.
    pub items_max: usize,
    /// Sum of weights in one batch at most.
    pub weight_max: usize,
}

/// Time without work after which [`BatchWorker::idle`] is called.
pub const IDLE_AFTER: Duration = Duration::from_millis(50);

/// Why an item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue holds as many items as it may.
    #[error("the queue is full")]
    Full,
    /// The worker has ended.
    #[error("the worker has ended")]
    Ended,
}

/// The sending side of a worker's queue. The worker ends when the last clone is dropped and the queue is empty.
#[derive(Debug)]
pub struct WorkerQueue<T> {
    #[cfg(not(sim))]
    sender: std::sync::mpsc::SyncSender<T>,
    #[cfg(sim)]
    sender: tokio::sync::mpsc::Sender<T>,
}

impl<T> Clone for WorkerQueue<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

impl<T> WorkerQueue<T> {
    /// Queues an item, in call order, or refuses at once: never waits.
    pub fn try_send(&self, item: T) -> Result<(), QueueError> {
        #[cfg(not(sim))]
        {
            self.sender.try_send(item).map_err(|error| match error {
                std::sync::mpsc::TrySendError::Full(_) => QueueError::Full,
                std::sync::mpsc::TrySendError::Disconnected(_) => QueueError::Ended,
            })
        }
        #[cfg(sim)]
        {
            self.sender.try_send(item).map_err(|error| match error {
                tokio::sync::mpsc::error::TrySendError::Full(_) => QueueError::Full,
                tokio::sync::mpsc::error::TrySendError::Closed(_) => QueueError::Ended,
            })
        }
    }
}

/// Starts a worker on a thread of its own, called `name` (in a simulation: as a task of the current runtime), behind a
/// queue of `queue_len` items. Fails if the operating system gives no thread.
pub fn spawn_worker<W: BatchWorker>(
    name: &str,
    queue_len: usize,
    limits: BatchLimits,
    worker: W,
) -> std::io::Result<WorkerQueue<W::Item>> {
    #[cfg(not(sim))]
    {
        let (sender, receiver) = std::sync::mpsc::sync_channel(queue_len);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&receiver, limits, worker))?;
        Ok(WorkerQueue { sender })
    }
    #[cfg(sim)]
    {
        let _ = name;
        let (sender, receiver) = tokio::sync::mpsc::channel(queue_len);
        tokio::spawn(run(receiver, limits, worker));
        Ok(WorkerQueue { sender })
    }
}

/// Fills `batch` from `next` until a limit is reached or nothing is queued. `batch` holds the first item already.
/// An item that would break the weight limit is returned, to begin the next batch.
fn gather<W: BatchWorker>(
    batch: &mut Vec<W::Item>,
    limits: BatchLimits,
    mut next: impl FnMut() -> Option<W::Item>,
) -> Option<W::Item> {
    let mut weight: usize = batch.iter().map(W::weight).sum();
    while batch.len() < limits.items_max && weight < limits.weight_max {
        let item = next()?;
        weight = weight.saturating_add(W::weight(&item));
        if weight > limits.weight_max {
            return Some(item);
        }
        batch.push(item);
    }
    None
}

#[cfg(not(sim))]
fn run<W: BatchWorker>(
    receiver: &std::sync::mpsc::Receiver<W::Item>,
    limits: BatchLimits,
    mut worker: W,
) {
    use std::sync::mpsc::RecvTimeoutError;

    let mut batch = Vec::new();
    let mut left_over = None;
    let mut idle = true;
    loop {
        let first = match left_over.take() {
            Some(item) => item,
            None if idle => match receiver.recv() {
                Ok(item) => item,
                Err(_) => break,
            },
            None => match receiver.recv_timeout(IDLE_AFTER) {
                Ok(item) => item,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    worker.idle();
                    idle = true;
                    continue;
                }
            },
        };
        idle = false;
        batch.push(first);
        left_over = gather::<W>(&mut batch, limits, || receiver.try_recv().ok());
        worker.write(&mut batch);
        batch.clear();
        worker.sync();
    }
    worker.stop();
}

#[cfg(sim)]
async fn run<W: BatchWorker>(
    mut receiver: tokio::sync::mpsc::Receiver<W::Item>,
    limits: BatchLimits,
    mut worker: W,
) {
    let mut batch = Vec::new();
    let mut left_over = None;
    let mut idle = true;
    loop {
        let received = match left_over.take() {
            Some(item) => Some(item),
            None if idle => receiver.recv().await,
            None => match super::time::timeout(IDLE_AFTER, receiver.recv()).await {
                Ok(received) => received,
                Err(_) => {
                    worker.idle();
                    idle = true;
                    continue;
                }
            },
        };
        let Some(first) = received else { break };
        idle = false;
        batch.push(first);
        left_over = gather::<W>(&mut batch, limits, || receiver.try_recv().ok());
        worker.write(&mut batch);
        batch.clear();
        if canary::answers_before_sync() {
            worker.answer_before_sync();
            super::time::sleep(canary::SYNC_AFTER).await;
        }
        super::time::sleep(simulated_disk_latency()).await;
        worker.sync();
    }
    worker.stop();
}

/// A planted bug: workers answer before they sync. Only a simulation has it, to show that its checkers would find it.
#[cfg(sim)]
pub mod canary {
    use std::{cell::Cell, time::Duration};

    /// How long after its answer a batch is synced: long enough that a power cut falls in between.
    pub(super) const SYNC_AFTER: Duration = Duration::from_millis(100);

    thread_local! {
        static ANSWERS_BEFORE_SYNC: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants the bug in every worker of this thread.
    pub fn answer_before_sync() {
        ANSWERS_BEFORE_SYNC.set(true);
    }

    pub(super) fn answers_before_sync() -> bool {
        ANSWERS_BEFORE_SYNC.get()
    }
}

/// 0.1 to 3 ms, as a disk's sync takes.
#[cfg(sim)]
fn simulated_disk_latency() -> Duration {
    Duration::from_micros(100 + super::rng::u64() % 2_900)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Reports each step; a negative item is heavy.
    struct Recorder {
        steps: mpsc::Sender<String>,
        blocked_on: Option<mpsc::Receiver<()>>,
    }

    impl BatchWorker for Recorder {
        type Item = i32;

        fn weight(item: &i32) -> usize {
            if *item < 0 { 100 } else { 1 }
        }

        fn write(&mut self, items: &mut Vec<i32>) {
            if let Some(gate) = self.blocked_on.take() {
                gate.recv().unwrap();
            }
            self.steps.send(format!("{items:?}")).unwrap();
        }

        fn sync(&mut self) {
            self.steps.send("sync".into()).unwrap();
        }

        fn idle(&mut self) {
            self.steps.send("idle".into()).unwrap();
        }

        fn stop(&mut self) {
            self.steps.send("stop".into()).unwrap();
        }
    }

    const LIMITS: BatchLimits = BatchLimits {
        items_max: 3,
        weight_max: 100,
    };

    #[test]
    fn what_is_queued_is_gathered_into_batches_within_the_limits() {
        let (steps, seen) = mpsc::channel();
        let (open, blocked_on) = mpsc::channel();
        let worker = Recorder {
            steps,
            blocked_on: Some(blocked_on),
        };
        let queue = spawn_worker("test", 16, LIMITS, worker).unwrap();
        queue.try_send(-1).unwrap(); // heavy: a batch of its own, and the gate holds it
        for item in [1, 2, 3, 4, -5, 6] {
            queue.try_send(item).unwrap();
        }
        drop(queue);
        open.send(()).unwrap();
        let steps: Vec<_> = seen.iter().collect();
        assert_eq!(
            steps,
            [
                "[-1]",
                "sync",
                "[1, 2, 3]",
                "sync",
                "[4]",
                "sync",
                "[-5]",
                "sync",
                "[6]",
                "sync",
                "stop"
            ]
        );
    }

    #[test]
    fn idle_is_called_once_after_work() {
        let (steps, seen) = mpsc::channel();
        let queue = spawn_worker(
            "test",
            16,
            LIMITS,
            Recorder {
                steps,
                blocked_on: None,
            },
        )
        .unwrap();
        queue.try_send(1).unwrap();
        let first: Vec<_> = seen.iter().take(3).collect();
        assert_eq!(first, ["[1]", "sync", "idle"]);
        assert!(seen.recv_timeout(IDLE_AFTER * 3).is_err());
        drop(queue);
        assert_eq!(seen.recv().unwrap(), "stop");
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let (steps, _seen) = mpsc::channel();
        let (open, blocked_on) = mpsc::channel();
        let worker = Recorder {
            steps,
            blocked_on: Some(blocked_on),
        };
        let queue = spawn_worker("test", 2, LIMITS, worker).unwrap();
        let refused = (0..10)
            .map(|item| queue.try_send(item))
            .find_map(Result::err);
        assert_eq!(refused, Some(QueueError::Full));
        open.send(()).unwrap();
    }
}

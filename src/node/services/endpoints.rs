//! Where workers are reached, told to whoever watches: all of a job, then each change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::reads;
use crate::{
    codec::wire::worker_endpoint_to_pb,
    domain::{
        JobName, State, Worker, WorkerId,
        limits::{
            ADDRESS_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, ROLE_BYTES_MAX,
            ROLES_PER_WORKER_MAX,
        },
    },
    env::{
        task,
        time::{self, Instant},
    },
    node::{
        shared::{Running, Shared},
        status::NodeError,
    },
    pb,
};

/// Most watchers of one node.
const WATCHERS_MAX: usize = 1024;
/// Most workers in one message.
const ENDPOINTS_PER_MESSAGE: usize = 512;
/// Messages that wait for a slow watcher; while they do, changes are gathered.
const AHEAD: usize = 2;
/// The state is looked through at most this often for one watcher, however fast the log moves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A watcher hears at least this often that the node still keeps up with the cluster.
const CONFIRM_EVERY: Duration = Duration::from_secs(3);

const _: () = assert!(
    ENDPOINTS_PER_MESSAGE
        * (ROLES_PER_WORKER_MAX * (ROLE_BYTES_MAX + ADDRESS_BYTES_MAX + 16)
            + 3 * NAME_BYTES_MAX
            + 64)
        < MESSAGE_BYTES_MAX,
    "a full message of a watch is taken by its watcher"
);

/// What a watcher gets.
pub(super) type Changes = BoxStream<'static, Result<pb::WatchEndpointsResponse, Status>>;

/// A worker's endpoint, if it has one.
pub(super) fn of(worker: &Worker) -> Option<pb::WorkerEndpoint> {
    let endpoint = worker.endpoint.as_ref()?;
    Some(worker_endpoint_to_pb(&worker.name, endpoint))
}

/// Room for watchers.
#[derive(Debug)]
pub(super) struct Watchers {
    room: Arc<Semaphore>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(WATCHERS_MAX)),
        }
    }
}

impl Watchers {
    /// Begins a watch; everything acknowledged before this call is in its first messages.
    ///
    /// # Errors
    /// `UnknownJob`; `Overloaded`; or as any read.
    pub(super) async fn watch(
        &self,
        shared: &Arc<Shared>,
        job: JobName,
        until: Instant,
    ) -> Result<Changes, NodeError> {
        let full = NodeError::Overloaded {
            what: "too many watchers of endpoints",
        };
        let room = self.room.clone().try_acquire_owned().map_err(|_| full)?;
        let running = shared.running()?;
        reads::reach(&running, None, until).await?;
        running.router.group().view().read().job(&job)?;
        let (output, changes) = mpsc::channel(AHEAD);
        let watch = Watch {
            shared: shared.clone(),
            running,
            told: Told {
                job,
                generations: BTreeMap::new(),
            },
            output,
            _room: room,
        };
        task::spawn(watch.serve());
        Ok(Box::pin(ReceiverStream::new(changes)))
    }
}

/// What a watcher was told.
#[derive(Debug)]
struct Told {
    job: JobName,
    generations: BTreeMap<WorkerId, u64>,
}

impl Told {
    /// Up to a message of what it was not told, and whether there is more.
    fn news(&mut self, state: &State) -> (Vec<pb::WorkerEndpoint>, bool) {
        let workers = state.job(&self.job).unwrap_or_default();
        let told = |worker: &Worker| self.generations.get(&worker.id).copied().unwrap_or(0);
        let mut fresh = workers
            .into_iter()
            .filter(|worker| worker.endpoint_generation() > told(worker));
        let now: Vec<_> = fresh.by_ref().take(ENDPOINTS_PER_MESSAGE).collect();
        let more = fresh.next().is_some();
        let generations = now
            .iter()
            .map(|worker| (worker.id, worker.endpoint_generation()));
        let generations: Vec<_> = generations.collect();
        self.generations.extend(generations);
        (now.into_iter().filter_map(of).collect(), more)
    }
}

/// One watcher, served by a task of its own.
struct Watch {
    shared: Arc<Shared>,
    running: Arc<Running>,
    told: Told,
    output: mpsc::Sender<Result<pb::WatchEndpointsResponse, Status>>,
    _room: OwnedSemaphorePermit,
}

impl Watch {
    async fn serve(mut self) {
        let mut stopping = self.shared.stopping.subscribe();
        let output = self.output.clone();
        let ended = tokio::select! {
            ended = self.tell() => ended,
            () = output.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => NodeError::Stopping,
        };
        let last = output.send(Err(ended.into()));
        // A watcher that reads nothing is not waited for.
        time::timeout(CONFIRM_EVERY, last).await.ok();
    }

    /// Tells what changes until it cannot be known any more.
    async fn tell(&mut self) -> NodeError {
        let mut applied = self.running.router.group().view().watch_applied();
        let mut first = true;
        let mut confirmed = Instant::now();
        loop {
            applied.mark_unchanged();
            let due = confirmed + CONFIRM_EVERY;
            let confirm = Instant::now() >= due;
            if confirm {
                let until = Instant::now() + self.shared.config.request_timeout;
                // A node that is cut off from the others must not keep its watchers.
                if let Err(error) = reads::reach(&self.running, None, until).await {
                    return error;
                }
                confirmed = Instant::now();
            }
            if !self.send_news(first || confirm).await {
                return NodeError::Stopping;
            }
            first = false;
            time::sleep(LOOK_EVERY).await;
            let due = confirmed + CONFIRM_EVERY;
            if matches!(time::timeout_at(due, applied.changed()).await, Ok(Err(_))) {
                return NodeError::Stopping;
            }
        }
    }

    /// Sends what the watcher was not told; with `also_none` also that there is nothing. False when nobody listens.
    async fn send_news(&mut self, also_none: bool) -> bool {
        let mut must = also_none;
        loop {
            // Room first: what is read is on its way at once.
            let Ok(room) = self.output.reserve().await else {
                return false;
            };
            let view = self.running.router.group().view();
            let (endpoints, more) = self.told.news(&view.read());
            if endpoints.is_empty() && !must {
                return true;
            }
            must = false;
            room.send(Ok(pb::WatchEndpointsResponse {
                endpoints,
                more,
                applied_index: view.applied_index(),
            }));
            if !more {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Addresses, Command, OpenWorker, SetEndpoint};

    fn set(state: &mut State, worker: &str) {
        let address = ("control".to_owned(), "h:1".to_owned());
        let open = Command::OpenWorker(OpenWorker {
            worker: worker.parse().unwrap(),
            epoch: None,
            at_unix_ms: 1,
        });
        let set = Command::SetEndpoint(SetEndpoint {
            worker: worker.parse().unwrap(),
            expected_generation: None,
            addresses: Addresses::new([address].into()).unwrap(),
            by: "a test".to_owned(),
            at_unix_ms: 2,
        });
        for command in [open, set] {
            state.apply(1, 0, &command, &mut Vec::new()).unwrap();
        }
    }

    #[test]
    fn a_watcher_is_told_each_change_of_its_job_once_and_in_bounded_messages() {
        let mut state = State::default();
        for number in 0..=ENDPOINTS_PER_MESSAGE {
            set(&mut state, &format!("j/{number}"));
        }
        set(&mut state, "other/w");
        let mut told = Told {
            job: "j".parse().unwrap(),
            generations: BTreeMap::new(),
        };
        let (all, more) = told.news(&state);
        assert_eq!((all.len(), more), (ENDPOINTS_PER_MESSAGE, true));
        let (rest, more) = told.news(&state);
        assert_eq!((rest.len(), more), (1, false));
        assert_eq!(told.news(&state), (Vec::new(), false));
        // Two changes in between are one.
        set(&mut state, "j/7");
        set(&mut state, "j/7");
        let (changed, _) = told.news(&state);
        let generations: Vec<_> = changed
            .iter()
            .map(|found| found.endpoint.as_ref().unwrap().generation)
            .collect();
        assert_eq!(generations, [3]);
    }
}

//! Where workers are reached: set, listed, and watched through the loss of nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt;
use tonic::Streaming;

use super::{
    Client, ClientError, Floor,
    call::{Plan, Target, stub},
    calls::{bad_answer, unary},
    failure::Failure,
    retry::Backoff,
};
use crate::{
    codec::{CodecError, wire},
    domain::{Addresses, Endpoint, JobName, SetEndpoint, WorkerRef},
    env::time,
    pb::{self, workers_client::WorkersClient},
};

/// A node that is watched says something at least every few seconds; one that is silent for longer hangs.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Endpoints, and what node state they are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEndpoints {
    /// The workers that have one.
    pub endpoints: BTreeMap<WorkerRef, Endpoint>,
    /// The log index that the node had applied.
    pub applied_index: u64,
    /// It was asked for whatever the node has.
    pub stale: bool,
}

impl Client {
    /// Replaces the addresses that a worker is reached at; answers their generation. With `expected_generation` (0: none
    /// yet) it is refused unless that is the one in force, and so may be repeated; without, it is not repeated once an
    /// attempt may have been carried out.
    ///
    /// # Errors
    /// `Rejected` with `StaleEndpoint` when somebody else has set it since; or as any call.
    pub async fn set_endpoint(
        &self,
        worker: &WorkerRef,
        expected_generation: Option<u64>,
        addresses: Addresses,
        by: &str,
    ) -> Result<u64, ClientError> {
        let set = pb::SetEndpoint::from(SetEndpoint {
            worker: worker.clone(),
            expected_generation,
            addresses,
            by: by.to_owned(),
            at_unix_ms: time::unix_millis(),
        });
        let what = format!("set the endpoint of worker {worker}");
        let plan = self.plan(what, expected_generation.is_some());
        let (set, _) = unary!(self, plan, WorkersClient.set_endpoint(set))?;
        Ok(set.generation)
    }

    /// The endpoints of one worker, of a job, or of all; of the workers that have one.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJob` or `UnknownWorker`; or as any call.
    pub async fn endpoints(
        &self,
        job: Option<&JobName>,
        worker: Option<&WorkerRef>,
        floor: Floor,
    ) -> Result<ListedEndpoints, ClientError> {
        let job = worker.map(|worker| &worker.job).or(job);
        let request = pb::ListEndpointsRequest {
            job: job.map(ToString::to_string).unwrap_or_default(),
            worker: worker.map_or_else(String::new, |worker| worker.worker.to_string()),
            floor: Some(floor.into()),
        };
        let plan = self.plan("list endpoints", true);
        let what = plan.what.clone();
        let (listed, node) = unary!(self, plan, WorkersClient.list_endpoints(request))?;
        let endpoints = listed.endpoints.into_iter();
        let endpoints = endpoints
            .map(wire::worker_endpoint_from_pb)
            .collect::<Result<_, _>>();
        Ok(ListedEndpoints {
            endpoints: endpoints.map_err(|e| bad_answer(what, node, &e))?,
            applied_index: listed.applied_index,
            stale: listed.stale,
        })
    }

    /// Watches where the workers of a job are reached.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJob`; or as any call.
    pub async fn watch_endpoints(&self, job: &JobName) -> Result<EndpointWatch, ClientError> {
        let mut watch = EndpointWatch {
            client: self.clone(),
            job: job.clone(),
            open: None,
            begin_behind: None,
            bad: BTreeSet::new(),
            known: BTreeMap::new(),
            fresh: BTreeMap::new(),
            told_once: false,
            backoff: Backoff::of_streams(),
        };
        watch.reopen().await?;
        Ok(watch)
    }
}

/// The endpoints of a job's workers, and each change. When the node that is watched is lost, it goes on at another; what
/// is told of one worker never goes back in generation.
#[derive(Debug)]
pub struct EndpointWatch {
    client: Client,
    job: JobName,
    open: Option<(String, Streaming<pb::WatchEndpointsResponse>)>,
    /// The node that was begun with last: the next attempt begins with the one behind it, so that each has its turn.
    begin_behind: Option<String>,
    /// Nodes that gave answers which do not parse, since one last did.
    bad: BTreeSet<String>,
    /// The newest known of each worker.
    known: BTreeMap<WorkerRef, Endpoint>,
    /// What was not told yet.
    fresh: BTreeMap<WorkerRef, Endpoint>,
    told_once: bool,
    backoff: Backoff,
}

impl EndpointWatch {
    /// All that are known now, the newest of each worker.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<WorkerRef, Endpoint> {
        &self.known
    }

    /// First all endpoints of the job, which may be none; then, each time, those that have changed. Waits as long as it
    /// takes, also for a cluster that has no leader: whatever goes wrong at one node, another carries on. Cancelling it
    /// loses nothing.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJob`, when the job is there no more; `BadAnswer` when no node known gives a better one.
    pub async fn next(&mut self) -> Result<BTreeMap<WorkerRef, Endpoint>, ClientError> {
        loop {
            let Some((address, answers)) = &mut self.open else {
                let pause = self.backoff.pause();
                time::sleep(pause).await;
                match self.reopen().await {
                    Ok(()) => continue,
                    // The cluster's decision; all else is one node's, for the request was good at the first.
                    Err(error) if error.rejected().is_some() => return Err(error),
                    Err(_) => continue,
                }
            };
            let answer = match time::timeout(SILENCE_MAX, answers.next()).await {
                Ok(Some(Ok(answer))) => answer,
                Ok(Some(Err(status))) => {
                    let address = address.clone();
                    self.lost(&address, &Failure::of(&status));
                    continue;
                }
                Ok(None) => {
                    let address = address.clone();
                    self.lost(&address, &Failure::lost("the watch ended".to_owned()));
                    continue;
                }
                Err(_) => {
                    let address = address.clone();
                    self.lost(&address, &Failure::timeout(SILENCE_MAX));
                    continue;
                }
            };
            let address = address.clone();
            let more = answer.more;
            if let Err(error) = self.take_in(answer) {
                self.lost(&address, &Failure::bad_answer(error.to_string()));
                self.bad.insert(address.clone());
                if self.client.addresses().iter().all(|a| self.bad.contains(a)) {
                    return Err(bad_answer(self.what(), address, &error));
                }
                continue;
            }
            self.backoff.reset();
            self.bad.clear();
            if !more && (!self.fresh.is_empty() || !self.told_once) {
                self.told_once = true;
                return Ok(std::mem::take(&mut self.fresh));
            }
        }
    }

    /// Takes in what is newer than what is known.
    fn take_in(&mut self, answer: pb::WatchEndpointsResponse) -> Result<(), CodecError> {
        for found in answer.endpoints {
            let (worker, endpoint) = wire::worker_endpoint_from_pb(found)?;
            let known = self.known.get(&worker);
            if known.is_none_or(|known| known.generation < endpoint.generation) {
                self.known.insert(worker.clone(), endpoint.clone());
                self.fresh.insert(worker, endpoint);
            }
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("watch the endpoints of job {}", self.job)
    }

    fn lost(&mut self, address: &str, failure: &Failure) {
        self.client.note_failure(address, failure);
        self.open = None;
    }

    /// Whom to ask next, in order; empty at first: as any call. Later not the leader first, which may be what fails.
    async fn turns(&mut self) -> Vec<String> {
        let Some(last) = &self.begin_behind else {
            return Vec::new();
        };
        // What has become of the members meanwhile.
        self.client.refresh().await;
        let mut turns = self.client.addresses();
        self.bad.retain(|address| turns.contains(address));
        let place = turns.iter().position(|address| address == last);
        turns.rotate_left(place.map_or(0, |place| place + 1));
        self.begin_behind = turns.first().cloned();
        turns
    }

    /// Begins to watch at any node, within the client's timeout.
    async fn reopen(&mut self) -> Result<(), ClientError> {
        let request = pb::WatchEndpointsRequest {
            job: self.job.to_string(),
        };
        let plan = Plan {
            only: self.turns().await,
            ..self.client.plan(self.what(), true)
        };
        let watch = |target: Target| {
            let request = target.request(request.clone());
            async move {
                let answer = stub!(WorkersClient, target.channel)
                    .watch_endpoints(request)
                    .await?;
                Ok(answer.into_inner())
            }
        };
        let (answers, address) = self.client.call(plan, watch).await?;
        self.begin_behind = Some(address.clone());
        self.open = Some((address, answers));
        Ok(())
    }
}

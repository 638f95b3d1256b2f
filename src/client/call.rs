//! One call: which node, how often, and what is said when it failed.

use std::{future::Future, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tonic::{Request, Status, transport::Channel};

use super::{
    Client, ClientError, Effect, Tried,
    failure::{Failure, FailureKind},
    retry::Backoff,
};
use crate::{
    env::{
        task,
        time::{self, Instant},
    },
    pb::{self, cluster_client::ClusterClient},
};

/// How long a node may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// The same once a call has failed, whose time is over: who is up answers at once.
const WHY_TIMEOUT: Duration = Duration::from_millis(300);
/// How long to listen for a newer leader, once a node has named one.
const STATUS_GRACE: Duration = Duration::from_millis(150);
/// A leader that heard no majority for longer than this is said to have no quorum.
const QUORUM_SILENCE: Duration = Duration::from_secs(2);

/// How often a client whose streams are open asks who the members are: between two losses all of them may be replaced.
pub(super) const KEEP_UP_EVERY: Duration = Duration::from_secs(5);

/// A node's address, and its word on itself.
pub(super) type StatusAnswer = (String, Result<pb::StatusResponse, Failure>);

/// What is called, and how.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Verb and object, for errors: "open worker j/w".
    pub(super) what: String,
    /// Whether doing it twice is as doing it once.
    pub(super) repeatable: bool,
    /// How long in all.
    pub(super) timeout: Duration,
    /// How long one attempt may take.
    pub(super) attempt_timeout: Duration,
    /// Ask only these; empty: every node known.
    pub(super) only: Vec<String>,
}

/// Where an attempt goes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) channel: Channel,
    /// When the attempt is given up.
    pub(super) limit: Duration,
}

impl Target {
    /// The message with its deadline, for the node to know.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.limit);
        request
    }
}

/// Sets the size limits that both sides agree on.
macro_rules! stub {
    ($client:ident, $channel:expr) => {
        $client::new($channel)
            .max_decoding_message_size($crate::domain::limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size($crate::domain::limits::MESSAGE_BYTES_MAX)
    };
}
pub(super) use stub;

/// What the attempts of one call have come to so far.
struct Attempts {
    plan: Plan,
    began: Instant,
    tried: Tried,
    /// Some attempt may have been carried out.
    effect: Effect,
    worst: Option<Failure>,
}

impl Client {
    /// The usual plan: until the client's timeout, at any node.
    pub(super) fn plan(&self, what: impl Into<String>, repeatable: bool) -> Plan {
        let options = self.options();
        let attempt_timeout = if repeatable {
            options.attempt_timeout
        } else {
            options.timeout
        };
        Plan {
            what: what.into(),
            repeatable,
            timeout: options.timeout,
            attempt_timeout,
            only: Vec::new(),
        }
    }

    /// Makes a call: at the leader if it is known, else at any node; again while that can do no harm and there is time.
    /// Answers with the address that answered.
    pub(super) async fn call<T, F, A>(
        &self,
        plan: Plan,
        attempt: F,
    ) -> Result<(T, String), ClientError>
    where
        F: Fn(Target) -> A,
        A: Future<Output = Result<T, Status>>,
    {
        let mut attempts = Attempts::new(plan);
        let mut backoff = Backoff::of_calls();
        let mut queue = Vec::new();
        loop {
            if queue.is_empty() {
                queue = self.candidates(&attempts.plan).await;
                queue.reverse();
            }
            let Some(address) = queue.pop() else {
                return Err(self.give_up(attempts).await);
            };
            let limit = attempts.plan.attempt_timeout.min(attempts.remaining());
            let failure = match self.attempt(&address, limit, &attempt).await {
                Ok(value) => {
                    self.directory().succeeded(&address);
                    return Ok((value, address));
                }
                Err(failure) => failure,
            };
            self.note_failure(&address, &failure);
            // Unreachable costs nobody anything: the next node is asked at once.
            let at_once = failure.kind == FailureKind::Connect && !queue.is_empty();
            if !attempts.note(&address, failure) {
                return Err(self.give_up(attempts).await);
            }
            if !at_once {
                time::sleep(backoff.pause().min(attempts.remaining())).await;
            }
            if attempts.remaining().is_zero() {
                return Err(self.give_up(attempts).await);
            }
        }
    }

    /// One attempt at one node, within `limit`.
    async fn attempt<T, F, A>(
        &self,
        address: &str,
        limit: Duration,
        attempt: &F,
    ) -> Result<T, Failure>
    where
        F: Fn(Target) -> A,
        A: Future<Output = Result<T, Status>>,
    {
        let target = Target {
            channel: self.channel(address).map_err(|e| Failure::no_channel(&e))?,
            limit,
        };
        match time::timeout(limit, attempt(target)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(status)) => Err(Failure::of(&status)),
            Err(_) => Err(Failure::timeout(limit)),
        }
    }

    /// Remembers that `address` did not do, so that others come first.
    pub(super) fn note_failure(&self, address: &str, failure: &Failure) {
        match failure.kind {
            FailureKind::Rejected(_) | FailureKind::BadRequest => {
                self.directory().succeeded(address);
                return;
            }
            // The connection may hang: the next attempt dials anew.
            FailureKind::Timeout => self.drop_channel(address),
            _ => {}
        }
        self.directory().failed(address, Instant::now());
    }

    /// Whom to ask, in order. When no leader is known, the nodes are asked for one first.
    pub(super) async fn candidates(&self, plan: &Plan) -> Vec<String> {
        if !plan.only.is_empty() {
            return plan.only.clone();
        }
        if self.directory().leader().is_none() {
            self.refresh().await;
        }
        self.directory().candidates()
    }

    /// Asks every node known how it is, and learns the leader and the members from the answers. Answers within about a
    /// second whatever the nodes do; as soon as a leader is known and the others had a moment to name a newer one.
    pub(super) async fn refresh(&self) -> Vec<StatusAnswer> {
        self.ask_until(STATUS_TIMEOUT, STATUS_GRACE).await
    }

    /// Asks every node known how it is, and waits for all of them, up to about a second.
    pub(super) async fn ask_all(&self) -> Vec<StatusAnswer> {
        self.ask_until(STATUS_TIMEOUT, STATUS_TIMEOUT).await
    }

    /// Asks every node known how it is, for at most `limit`; waits for `grace` once a leader is known.
    async fn ask_until(&self, limit: Duration, grace: Duration) -> Vec<StatusAnswer> {
        let ask = |address: String| async move {
            let answer = self.ask_status(&address, limit).await;
            (address, answer)
        };
        let mut asked: FuturesUnordered<_> =
            self.directory().addresses().into_iter().map(ask).collect();
        let mut answers = Vec::new();
        let mut until = Instant::now() + STATUS_TIMEOUT * 2;
        while let Ok(Some((address, answer))) = time::timeout_at(until, asked.next()).await {
            if answer
                .as_ref()
                .is_ok_and(|status| !status.leader_address.is_empty())
            {
                until = until.min(Instant::now() + grace);
            }
            answers.push((address, answer));
        }
        answers
    }

    /// Learns the members from `address`, in the background, unless this client has lately.
    pub(super) fn keep_up(&self, address: &str) {
        if !self.directory().is_due(Instant::now(), KEEP_UP_EVERY) {
            return;
        }
        let (client, address) = (self.clone(), address.to_owned());
        task::spawn(async move {
            // What does not answer is found out by who needs an answer.
            if let Ok(status) = client.status_from(&address, STATUS_TIMEOUT).await {
                client.directory().learn(&status);
            }
        });
    }

    async fn status_from(
        &self,
        address: &str,
        limit: Duration,
    ) -> Result<pb::StatusResponse, Failure> {
        let ask = |target: Target| async move {
            let request = target.request(pb::StatusRequest {});
            stub!(ClusterClient, target.channel).status(request).await
        };
        let answer = self.attempt(address, limit, &ask).await;
        answer.map(tonic::Response::into_inner)
    }

    /// One node's word on itself, which the directory learns from.
    pub(super) async fn ask_status(
        &self,
        address: &str,
        limit: Duration,
    ) -> Result<pb::StatusResponse, Failure> {
        let answer = self.status_from(address, limit).await;
        match &answer {
            Ok(status) => {
                let mut directory = self.directory();
                directory.succeeded(address);
                directory.learn(status);
            }
            Err(failure) => self.note_failure(address, failure),
        }
        answer
    }

    /// What a call that is given up failed with. A missing answer is explained, where the nodes know why.
    async fn give_up(&self, mut attempts: Attempts) -> ClientError {
        let silent = attempts
            .worst
            .as_ref()
            .is_some_and(|worst| matches!(worst.kind, FailureKind::Timeout | FailureKind::Lost));
        if silent && let Some(reason) = self.why_no_quorum(&mut attempts.tried).await {
            return ClientError::NoQuorum {
                what: attempts.plan.what,
                reason,
                tried: attempts.tried,
                effect: attempts.effect,
            };
        }
        attempts.into_error()
    }

    /// Why the cluster has no quorum, as far as its nodes can tell; `None` if it has one, or nobody answers.
    pub(super) async fn why_no_quorum(&self, tried: &mut Tried) -> Option<String> {
        let answers = self.ask_until(WHY_TIMEOUT, WHY_TIMEOUT).await;
        let mut answering = Vec::new();
        let mut silent = Vec::new();
        let mut healthy = false;
        // Without the leader's own word, that of those who follow it counts.
        let mut followed = false;
        let mut leader_answers = false;
        for (address, answer) in &answers {
            match answer {
                Ok(status) => {
                    let silence = status.quorum_acknowledged_ms.map(Duration::from_millis);
                    let leads = status.state == i32::from(pb::NodeState::Leader);
                    healthy |= leads && silence.is_none_or(|silence| silence < QUORUM_SILENCE);
                    leader_answers |= leads;
                    followed |= !status.leader_address.is_empty();
                    answering.push(address.as_str());
                }
                Err(failure) => {
                    tried.record(address, &failure.reason);
                    silent.push(address.as_str());
                }
            }
        }
        if healthy || answering.is_empty() || (followed && !leader_answers) {
            return None;
        }
        let missing = if silent.is_empty() {
            "all nodes known answer, but no leader has a majority behind it".to_owned()
        } else {
            format!("no answer from {}", silent.join(", "))
        };
        Some(format!("{missing}; {} answers", answering.join(", ")))
    }
}

impl Attempts {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            began: Instant::now(),
            tried: Tried::default(),
            effect: Effect::None,
            worst: None,
        }
    }

    fn remaining(&self) -> Duration {
        self.plan.timeout.saturating_sub(self.began.elapsed())
    }

    /// Takes in a failed attempt; whether another may follow.
    fn note(&mut self, address: &str, failure: Failure) -> bool {
        self.tried.record(address, &failure.reason);
        let may_retry = failure.may_retry(self.plan.repeatable);
        // A decision to refuse is known, whatever else a node says of it.
        let decided = matches!(failure.kind, FailureKind::Rejected(_));
        if failure.effect == Effect::Unknown && !decided {
            self.effect = Effect::Unknown;
        }
        let heavier = |worst: &Failure| failure.weight() >= worst.weight();
        if self.worst.as_ref().is_none_or(heavier) {
            self.worst = Some(failure);
        }
        may_retry
    }

    fn into_error(self) -> ClientError {
        let after = self.began.elapsed();
        match self.worst {
            Some(worst) => worst.into_error(self.plan.what, self.tried, after, self.effect),
            None => ClientError::CannotConnect {
                what: self.plan.what,
                tried: self.tried,
            },
        }
    }
}

//! Commands and reads that must reach the leader, from whichever node they came to.
//!
//! A call that had no effect is tried again until its deadline; one that may have had an effect is never repeated here, for
//! only the caller can tell what a second time would mean.

use std::{future::Future, time::Duration};

use tokio::sync::watch;
use tonic::{Status, transport::Channel};

use super::{
    links::Links,
    status::{NodeError, REFUSED, may_try_again},
};
use crate::{
    codec::wire::{detail_of, outcome_from_pb, outcome_to_pb},
    domain::{Command, NodeId},
    env::{
        net,
        time::{self, Instant},
    },
    pb,
    pb::forward_client::ForwardClient,
    raft::{Group, ProposeError, Proposed},
};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a leader that was asked may still answer once another is known.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The way to the leader. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Router {
    group: Group,
    links: Links,
    /// Whom this node follows.
    follows: watch::Receiver<Option<NodeId>>,
}

/// What one try came to.
enum Try<T> {
    Done(Result<T, NodeError>),
    Again,
}

/// What a try came to that was left because another leads by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It changes nothing: it is asked again.
    Again,
    /// It may have been carried out.
    Unknown,
}

impl Router {
    /// From this node. Must be called inside a runtime.
    #[must_use]
    pub(super) fn new(group: Group, links: Links) -> Self {
        let follows = group.watch_leader();
        Self {
            group,
            links,
            follows,
        }
    }

    /// The group of this node.
    #[must_use]
    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    /// The connections to the other members.
    #[must_use]
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// This node's number.
    #[must_use]
    pub(super) fn me(&self) -> NodeId {
        self.group.peers().identity().node
    }

    /// The leader that this node knows of.
    #[must_use]
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.group.presumed_leader()
    }

    /// Proposes a command at the leader and waits for the decision.
    ///
    /// # Errors
    /// The rejection; `NoLeader` when it was never proposed; `NoQuorum` or `LeaderLost` when it may have been.
    pub(super) async fn propose(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Proposed, NodeError> {
        let wire = pb::Command::from(command.clone());
        let here = || {
            let command = command.clone();
            async move { settle(self.group.propose(command).await) }
        };
        let there = |mut client: ForwardClient<Channel>, leader: NodeId| {
            let request = pb::ProposeRequest {
                header: Some(self.group.peers().header(leader)),
                command: Some(wire.clone()),
            };
            async move {
                match client.propose(request).await {
                    Ok(response) => {
                        let response = response.into_inner();
                        let answer = outcome_from_pb(response.outcome).map_err(NodeError::from);
                        Try::Done(answer.map(|answer| Proposed {
                            answer,
                            log_index: response.log_index,
                        }))
                    }
                    Err(status) => settle_status(&status),
                }
            }
        };
        self.at_leader((deadline, Left::Unknown), here, there).await
    }

    /// The log index that a linearizable read waits for.
    ///
    /// # Errors
    /// `NoLeader` or `NoQuorum`.
    pub(super) async fn read_index(&self, deadline: Instant) -> Result<u64, NodeError> {
        let here = || async move {
            match self.group.read_index().await {
                Ok(index) => Try::Done(Ok(index)),
                Err(ProposeError::NotLeader { .. } | ProposeError::NoQuorum) => Try::Again,
                Err(error) => Try::Done(Err(error.into())),
            }
        };
        let there = |mut client: ForwardClient<Channel>, leader: NodeId| {
            let request = pb::ReadIndexRequest {
                header: Some(self.group.peers().header(leader)),
            };
            async move {
                match client.read_index(request).await {
                    Ok(response) => Try::Done(Ok(response.into_inner().log_index)),
                    Err(status) => match settle_status(&status) {
                        // A read has no effect: any failure may be tried again.
                        Try::Done(Err(NodeError::LeaderLost { .. })) => Try::Again,
                        other => other,
                    },
                }
            }
        };
        self.at_leader((deadline, Left::Again), here, there).await
    }

    /// Changes the membership at the leader.
    ///
    /// # Errors
    /// As for [`propose`](Self::propose), and `Membership` when it is refused.
    pub(super) async fn change_members(
        &self,
        change: pb::change_members_request::Change,
        deadline: Instant,
    ) -> Result<pb::ChangeMembersResponse, NodeError> {
        let request = |to| pb::ChangeMembersRequest {
            header: Some(self.group.peers().header(to)),
            change: Some(change.clone()),
        };
        let here = || {
            let change = change.clone();
            async move { settle(super::members::change_here(&self.group, change).await) }
        };
        let there = |mut client: ForwardClient<Channel>, leader: NodeId| {
            let request = request(leader);
            async move {
                match client.change_members(request).await {
                    Ok(response) => Try::Done(Ok(response.into_inner())),
                    Err(status) => settle_status(&status),
                }
            }
        };
        self.at_leader((deadline, Left::Unknown), here, there).await
    }

    /// Resolves when somebody else than `asked` is known to lead, and whoever was asked has had time for its last words: a hung
    /// leader never answers.
    async fn follows_another_than(&self, asked: Option<NodeId>) {
        let mut follows = self.follows.clone();
        let another = follows.wait_for(|now| now.is_some() && *now != asked);
        if another.await.is_err() {
            std::future::pending::<()>().await; // the group ends, and what is asked of it with it
        }
        time::sleep(LAST_WORDS).await;
    }

    /// Calls `here` when this node leads, `there` when another does, until one is done or the deadline has passed.
    async fn at_leader<T, Here, There>(
        &self,
        (deadline, left): (Instant, Left),
        here: impl Fn() -> Here,
        there: impl Fn(ForwardClient<Channel>, NodeId) -> There,
    ) -> Result<T, NodeError>
    where
        Here: Future<Output = Try<T>>,
        There: Future<Output = Try<T>>,
    {
        let began = Instant::now();
        loop {
            let leader = self.leader();
            let attempt = async {
                match leader {
                    Some(leader) if leader == self.me() => here().await,
                    Some(leader) => match self.links.forward(&self.group, leader) {
                        Some(client) => there(client, leader).await,
                        None => Try::Again,
                    },
                    None => Try::Again,
                }
            };
            let attempt = async {
                tokio::select! {
                    biased;
                    tried = attempt => Some(tried),
                    () = self.follows_another_than(leader) => None,
                }
            };
            match time::timeout_at(deadline, attempt).await {
                Ok(Some(Try::Done(result))) => return result,
                Ok(Some(Try::Again)) => {}
                Ok(None) if left == Left::Again => {}
                Ok(None) => {
                    let why = "another was elected before it answered".to_owned();
                    return Err(NodeError::LeaderLost { why });
                }
                Err(_) => {
                    let after = began.elapsed();
                    return Err(NodeError::NoQuorum {
                        after,
                        missing: self.links.who_is_missing(&self.group).await,
                    });
                }
            }
            if Instant::now() + PAUSE >= deadline {
                let after = began.elapsed();
                return Err(NodeError::NoLeader {
                    after,
                    missing: self.links.who_is_missing(&self.group).await,
                });
            }
            time::sleep(PAUSE).await;
        }
    }
}

fn settle<T>(result: Result<T, ProposeError>) -> Try<T> {
    match result {
        Ok(answer) => Try::Done(Ok(answer)),
        Err(ProposeError::NotLeader { .. } | ProposeError::Stalled) => Try::Again,
        Err(error) => Try::Done(Err(error.into())),
    }
}

fn settle_status<T>(status: &Status) -> Try<T> {
    if may_try_again(status) || net::never_connected(status) {
        return Try::Again;
    }
    match detail_of(status) {
        Some(pb::ErrorDetail {
            rejected: Some(rejected),
            ..
        }) => Try::Done(Err(match rejected.try_into() {
            Ok(rejected) => NodeError::Rejected(rejected),
            Err(error) => NodeError::from(error),
        })),
        Some(detail) if detail.code == "membership" => {
            Try::Done(Err(NodeError::Membership(status.message().to_owned())))
        }
        Some(detail) if detail.code == REFUSED => {
            Try::Done(Err(NodeError::Refused(status.message().to_owned())))
        }
        _ => Try::Done(Err(NodeError::LeaderLost {
            why: status.message().to_owned(),
        })),
    }
}

/// The answer of a forwarded command.
pub(super) fn propose_response(proposed: Proposed) -> pb::ProposeResponse {
    pb::ProposeResponse {
        outcome: Some(outcome_to_pb(proposed.answer)),
        log_index: proposed.log_index,
    }
}

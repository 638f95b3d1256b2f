//! What the nodes' words come to, as a pure function of them.

use std::fmt::Display;

use serde::Serialize;

use crate::{domain::NodeId, pb};

/// A leader that no majority has acknowledged for longer than this may be one no more.
const QUORUM_SILENCE_MS: u64 = 2_000;

/// The cluster, as far as its nodes answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) cluster_id: Option<String>,
    /// A leader that a majority follows.
    pub(crate) leader: Option<String>,
    pub(crate) term: Option<u64>,
    pub(crate) healthy: bool,
    /// Why it is not healthy.
    pub(crate) problem: Option<String>,
    /// Voters that do not answer, as "n2 (host:port)".
    pub(crate) missing: Vec<String>,
    /// Nodes of other clusters among those that were asked.
    pub(crate) foreign: Vec<Foreign>,
    pub(crate) nodes: Vec<NodeRow>,
}

/// A node of another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Foreign {
    pub(crate) address: String,
    pub(crate) cluster_id: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NodeRow {
    /// Its number, `n2`; none while it waits.
    pub(crate) node: Option<String>,
    pub(crate) state: &'static str,
    /// For clients.
    pub(crate) address: String,
    pub(crate) peer_address: Option<String>,
    pub(crate) http_address: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) member: bool,
    pub(crate) voter: bool,
    pub(crate) term: Option<u64>,
    pub(crate) applied_index: Option<u64>,
    pub(crate) last_log_index: Option<u64>,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) log_bytes: Option<u64>,
    /// Equal on two members with the same applied index; hexadecimal, as JSON numbers lose digits.
    pub(crate) state_hash: Option<String>,
    /// Log entries behind the leader.
    pub(crate) lag: Option<u64>,
    /// Since the leader last heard from it.
    pub(crate) last_answer_ms: Option<u64>,
    /// Why it does not serve, or does not answer.
    pub(crate) problem: Option<String>,
}

impl Report {
    /// What the answers come to. Errors are shown as they are.
    pub(crate) fn of<E: Display>(asked: &[(String, Result<pb::StatusResponse, E>)]) -> Self {
        let answers = || asked.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let formed = || answers().filter(|status| !status.cluster_id.is_empty());
        // The newest leader knows best; without one, whoever has applied the most.
        let best =
            formed().max_by_key(|status| (is_leader(status), status.term, status.applied_index));
        let leader = best.filter(|status| is_leader(status));
        let members: &[pb::MemberStatus] = best.map_or(&[], |status| &status.members);

        let cluster_id = best.map(|status| status.cluster_id.clone());
        let mut nodes: Vec<NodeRow> = members
            .iter()
            .filter_map(|member| {
                let own = answers().find(|own| {
                    let number = member.member.as_ref().map(|member| member.node_id);
                    Some(own.node_id) == number && Some(&own.cluster_id) == cluster_id.as_ref()
                });
                Some(member_row(
                    member,
                    member.member.as_ref()?,
                    own,
                    asked,
                    leader,
                ))
            })
            .collect();
        let foreign = asked.iter().filter_map(|(address, answer)| {
            let status = answer.as_ref().ok()?;
            is_foreign(status, cluster_id.as_deref()).then(|| Foreign {
                address: address.clone(),
                cluster_id: status.cluster_id.clone(),
            })
        });
        let foreign = foreign.collect();
        for (address, answer) in asked {
            let is_known = match answer {
                Ok(status) => nodes.iter().any(|row| {
                    cluster_id.as_ref() == Some(&status.cluster_id)
                        && row.node == node_name(status.node_id)
                }),
                Err(_) => nodes.iter().any(|row| row.address == *address),
            };
            if !is_known {
                nodes.push(other_row(address, answer, cluster_id.as_deref()));
            }
        }
        let mut report = Self {
            cluster_id,
            leader: leader.and_then(|status| node_name(status.node_id)),
            term: best.map(|status| status.term),
            healthy: false,
            problem: None,
            missing: Vec::new(),
            foreign,
            nodes,
        };
        report.judge(leader);
        report
    }

    /// The members; with `all`, or while there are none, every node.
    pub(crate) fn shown(&self, all: bool) -> Vec<NodeRow> {
        let any_member = self.nodes.iter().any(|node| node.member);
        let nodes = self.nodes.iter();
        nodes
            .filter(|node| all || node.member || !any_member)
            .cloned()
            .collect()
    }

    /// Whether it serves, and what is wrong. A cluster that serves is no good answer when other nodes were meant too.
    fn judge(&mut self, leader: Option<&pb::StatusResponse>) {
        let foreign = self.foreign.iter().map(|node| {
            let Foreign {
                address,
                cluster_id,
            } = node;
            format!("{address} belongs to another cluster, {cluster_id}")
        });
        let foreign: Vec<_> = foreign.collect();
        self.judge_cluster(leader);
        if !foreign.is_empty() {
            let others = foreign.join("; ");
            self.problem = Some(match self.problem.take() {
                Some(problem) => format!("{problem}; {others}"),
                None => others,
            });
            self.healthy = false;
        }
    }

    fn judge_cluster(&mut self, leader: Option<&pb::StatusResponse>) {
        let voters: Vec<_> = self.nodes.iter().filter(|node| node.voter).collect();
        let name =
            |row: &NodeRow| format!("{} ({})", row.node.as_deref().unwrap_or("?"), row.address);
        let silent = voters.iter().filter(|row| row.state == "unreachable");
        self.missing = silent.map(|row| name(row)).collect();
        let (all, answering) = (voters.len(), voters.len() - self.missing.len());
        let who = match self.missing.as_slice() {
            [] => String::new(),
            missing => format!("; missing: {}", missing.join(", ")),
        };
        self.problem = if self.cluster_id.is_none() {
            let waiting = self
                .nodes
                .iter()
                .filter(|node| node.state == "waiting")
                .count();
            Some(match waiting {
                0 => "no node that answers belongs to a cluster or waits for one".to_owned(),
                1 => "there is no cluster yet: 1 node waits for init".to_owned(),
                many => format!("there is no cluster yet: {many} nodes wait for init"),
            })
        } else if let Some(leader) = leader {
            let silence = leader.quorum_acknowledged_ms.unwrap_or(0);
            (silence > QUORUM_SILENCE_MS).then(|| {
                format!("the cluster has no quorum: {answering} of {all} voters answer, and no majority has acknowledged its leader for {silence} ms{who}")
            })
        } else if answering * 2 <= all {
            Some(format!(
                "the cluster has no quorum: {answering} of {all} voters answer{who}"
            ))
        } else {
            Some(format!(
                "the cluster has no leader: {answering} of {all} voters answer{who}"
            ))
        };
        self.healthy = self.problem.is_none();
        if !self.healthy {
            self.leader = None;
        }
    }
}

fn is_leader(status: &pb::StatusResponse) -> bool {
    status.state() == pb::NodeState::Leader
}

/// Whether a node belongs to a cluster, and to another one.
fn is_foreign(status: &pb::StatusResponse, cluster_id: Option<&str>) -> bool {
    !status.cluster_id.is_empty() && cluster_id != Some(&*status.cluster_id)
}

fn node_name(id: u64) -> Option<String> {
    (id > 0).then(|| NodeId(id).to_string())
}

fn state_name(state: pb::NodeState) -> &'static str {
    match state {
        pb::NodeState::Unspecified => "unknown",
        pb::NodeState::Waiting => "waiting",
        pb::NodeState::Starting => "starting",
        pb::NodeState::Leader => "leader",
        pb::NodeState::Follower => "follower",
        pb::NodeState::Learner => "learner",
        pb::NodeState::Candidate => "candidate",
        pb::NodeState::Stopping => "stopping",
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A member, with its own word where it gave one.
fn member_row<E: Display>(
    status: &pb::MemberStatus,
    member: &pb::Member,
    own: Option<&pb::StatusResponse>,
    asked: &[(String, Result<pb::StatusResponse, E>)],
    leader: Option<&pb::StatusResponse>,
) -> NodeRow {
    let row = match own {
        Some(own) => answered_row(&member.client_address, own),
        None => {
            let answer = asked
                .iter()
                .find(|(address, _)| *address == member.client_address);
            let problem = match answer {
                Some((_, Err(error))) => error.to_string(),
                // A wiped node knows its own cure.
                Some((_, Ok(other))) if !other.problem.is_empty() => other.problem.clone(),
                Some((_, Ok(other))) if other.cluster_id.is_empty() => {
                    "a node without an identity answers at its address".to_owned()
                }
                Some((_, Ok(_))) => "another node answers at its address".to_owned(),
                None => "it was not asked".to_owned(),
            };
            silent_row(&member.client_address, problem)
        }
    };
    let is_leader = leader.is_some_and(|leader| leader.node_id == member.node_id);
    let last_log_index = leader.map(|leader| leader.last_log_index);
    let applied = row.applied_index.or(status.matched_index);
    NodeRow {
        node: node_name(member.node_id),
        member: true,
        voter: status.voter,
        peer_address: text(&member.peer_address),
        http_address: text(&member.http_address),
        lag: last_log_index.and_then(|last| Some(last.saturating_sub(applied?))),
        last_answer_ms: status.last_answer_ms.filter(|_| !is_leader),
        ..row
    }
}

/// A node that is no member of the cluster.
fn other_row<E: Display>(
    address: &str,
    answer: &Result<pb::StatusResponse, E>,
    cluster_id: Option<&str>,
) -> NodeRow {
    match answer {
        Ok(status) => {
            let mut row = answered_row(address, status);
            if is_foreign(status, cluster_id) {
                row.problem = Some(format!(
                    "it belongs to another cluster, {}",
                    status.cluster_id
                ));
            }
            row
        }
        Err(error) => silent_row(address, error.to_string()),
    }
}

fn answered_row(address: &str, status: &pb::StatusResponse) -> NodeRow {
    let has_state = status.node_id > 0;
    let when = |value: u64| has_state.then_some(value);
    NodeRow {
        node: node_name(status.node_id),
        state: state_name(status.state()),
        address: address.to_owned(),
        peer_address: text(&status.peer_address),
        http_address: text(&status.http_address),
        version: text(&status.version),
        member: false,
        voter: false,
        term: when(status.term),
        applied_index: when(status.applied_index),
        last_log_index: when(status.last_log_index),
        snapshot_index: when(status.snapshot_index),
        log_bytes: when(status.log_bytes),
        state_hash: when(status.state_hash).map(|hash| format!("{hash:016x}")),
        lag: None,
        last_answer_ms: None,
        problem: text(&status.problem),
    }
}

fn silent_row(address: &str, problem: String) -> NodeRow {
    NodeRow {
        node: None,
        state: "unreachable",
        address: address.to_owned(),
        peer_address: None,
        http_address: None,
        version: None,
        member: false,
        voter: false,
        term: None,
        applied_index: None,
        last_log_index: None,
        snapshot_index: None,
        log_bytes: None,
        state_hash: None,
        lag: None,
        last_answer_ms: None,
        problem: Some(problem),
    }
}

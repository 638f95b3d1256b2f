//! `dos-cluster status`: every node in its own words, and whether the cluster serves.

use std::fmt;

use clap::Args;
use futures::future::join_all;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{fields, or_dash, table},
};
use crate::{
    client::{Client, ClientError},
    pb,
};

mod report;

pub(super) use report::{NodeRow, Report};

/// Show the nodes of the cluster and whether it serves; exit code 5 if it does not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster status
  dos-cluster --endpoints n1:7420,n2:7420 status --all-endpoints
  dos-cluster status -o json | jq '.nodes[] | {node, lag}'

LAG is in log entries behind the leader; LAST ANSWER is how long ago the leader heard from the node.")]
pub(super) struct Status {
    /// Also show the endpoints that are no members: nodes that wait, and nodes of other clusters
    #[arg(long)]
    all_endpoints: bool,
}

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let asked = ask_all(&client).await;
        if asked.iter().all(|(_, answer)| answer.is_err()) {
            return Err(nobody_answers(&asked));
        }
        let report = Report::of(&asked);
        let shown = Report {
            nodes: report.shown(self.all_endpoints),
            ..report
        };
        context.output.show(&shown, text)?;
        verdict(&shown).map_or(Ok(Exit::Done), Err)
    }
}

/// What a node said, or why it did not.
type Asked = (String, Result<pb::StatusResponse, Silence>);

/// Why the node at an address says nothing, in as few words as a list of nodes has room for.
#[derive(Debug)]
pub(super) struct Silence(String, ClientError);

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address, error) = self;
        let reason = match error {
            ClientError::CannotConnect { tried, .. }
            | ClientError::Timeout { tried, .. }
            | ClientError::NoQuorum { tried, .. } => {
                tried.0.iter().find(|(tried, _)| tried == address)
            }
            _ => None,
        };
        match reason {
            Some((_, reason)) => f.write_str(reason),
            None => error.fmt(f),
        }
    }
}

/// Asks every endpoint, then every member that they name.
pub(super) async fn ask_all(client: &Client) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    // Once for the endpoints, once for what they name; a third round could only meet nodes that were just added.
    for _ in 0..2 {
        let addresses = client.addresses();
        let new = addresses
            .into_iter()
            .filter(|address| !asked.iter().any(|(known, _)| known == address));
        let answers = new.map(|address| async move {
            let answer = client.status_of(&address).await;
            let answer = answer.map_err(|error| Silence(address.clone(), error));
            (address, answer)
        });
        asked.extend(join_all(answers).await);
    }
    asked
}

/// The only node's own failure; of several, that none answers.
fn nobody_answers(asked: &[Asked]) -> Failure {
    if let [(_, Err(Silence(_, error)))] = asked {
        return error.clone().into();
    }
    let silent: Vec<_> = asked.iter().map(|(address, _)| address.as_str()).collect();
    let message = format!(
        "cannot read the status of the cluster: no answer from {}",
        silent.join(", ")
    );
    Failure::new(Exit::CannotConnect, message)
        .try_next("start the nodes, or name others with --endpoints HOST:PORT,...")
}

/// Why the cluster does not serve; `None` if it does.
pub(super) fn verdict(report: &Report) -> Option<Failure> {
    let problem = report.problem.clone()?;
    let failure = Failure::new(Exit::Unhealthy, problem);
    let waiting = report.nodes.iter().filter(|node| node.state == "waiting");
    let waiting: Vec<_> = waiting.map(|node| node.address.as_str()).collect();
    Some(if report.cluster_id.is_none() && !waiting.is_empty() {
        failure.try_next(format!("dos-cluster init --nodes {}", waiting.join(",")))
    } else {
        match report.missing.as_slice() {
            [] => failure
                .try_next("dos-cluster status, in a moment: an election takes about a second"),
            missing => failure.try_next(format!("start {}", missing.join(" and "))),
        }
    })
}

fn text(report: &Report) -> String {
    let header = fields(&[
        ("cluster", or_dash(report.cluster_id.as_ref())),
        ("leader", or_dash(report.leader.as_ref())),
        ("term", or_dash(report.term)),
    ]);
    let problems = report.nodes.iter().filter_map(|node| {
        let problem = node.problem.as_ref()?;
        Some(format!("{}: {problem}\n", node.address))
    });
    let problems: String = problems.collect();
    let separator = if problems.is_empty() { "" } else { "\n\n" };
    format!(
        "{header}\n{}{separator}{problems}",
        nodes_table(&report.nodes)
    )
}

/// The nodes, one a line.
pub(super) fn nodes_table(nodes: &[NodeRow]) -> String {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            vec![
                or_dash(node.node.as_ref()),
                node.state.to_owned(),
                node.address.clone(),
                or_dash(node.term),
                or_dash(node.applied_index),
                or_dash(node.lag),
                or_dash(node.last_answer_ms.map(|ms| format!("{ms} ms ago"))),
            ]
        })
        .collect();
    let headers = [
        "node",
        "state",
        "address",
        "term",
        "applied",
        "lag",
        "last answer",
    ];
    table(&headers, &rows)
}

#[cfg(test)]
mod tests;

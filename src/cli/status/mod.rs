//! `dos-cluster status`: every node in its own words, and whether the cluster serves.

use clap::Args;
use futures::future::join_all;

use super::{
    Context,
    exit::{Exit, Failure},
    output::{fields, or_dash, table},
};
use crate::{client::Client, pb};

mod ask;
mod report;

pub(super) use ask::Silence;
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

/// Asks every endpoint, then every member that they name; each once.
pub(super) async fn ask_all(client: &Client) -> Vec<Asked> {
    let options = client.options();
    let limit = options.attempt_timeout.min(options.timeout);
    let mut asked: Vec<Asked> = Vec::new();
    let mut next = client.addresses();
    // Once for the endpoints, once for what they name; a third round could only meet nodes that were just added.
    for _ in 0..2 {
        let answers = next.iter().map(|address| async move {
            let answer = ask::status(address, options.connect_timeout, limit).await;
            (address.clone(), answer)
        });
        asked.extend(join_all(answers).await);
        next = members(&asked);
    }
    asked
}

/// Addresses of members that were not asked yet.
fn members(asked: &[Asked]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let answers = asked.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let members = answers.flat_map(|status| &status.members);
    for member in members.filter_map(|status| status.member.as_ref()) {
        let address = &member.client_address;
        let is_known = asked.iter().any(|(known, _)| known == address);
        if !is_known && !found.contains(address) {
            found.push(address.clone());
        }
    }
    found
}

/// The only node's own failure; of several, that none answers.
fn nobody_answers(asked: &[Asked]) -> Failure {
    if let [(address, Err(silence))] = asked {
        return silence.clone().into_failure(address);
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
    let foreign = report.foreign.iter().map(|node| node.address.as_str());
    let foreign: Vec<_> = foreign.collect();
    Some(if !foreign.is_empty() {
        failure.try_next(format!("--endpoints without {}", foreign.join(",")))
    } else if report.cluster_id.is_none() && !waiting.is_empty() {
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
        Some(match &node.node {
            Some(name) => format!("{name} ({}): {problem}\n", node.address),
            None => format!("{}: {problem}\n", node.address),
        })
    });
    let problems: String = problems.collect();
    let separator = if problems.is_empty() { "" } else { "\n\n" };
    format!(
        "{header}\n{}{separator}{problems}",
        nodes_table(&report.nodes)
    )
}

/// The nodes, one a line.
fn nodes_table(nodes: &[NodeRow]) -> String {
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

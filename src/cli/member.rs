//! `dos-cluster member`: who belongs to the cluster.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    output::table,
    progress::Progress,
};
use crate::{client::Client, domain::NodeId, pb};

/// List or remove members
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster member list
  dos-cluster member remove n3")]
pub(super) struct Member {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the members and their addresses
    #[command(after_help = "Example:\n  dos-cluster member list -o json")]
    List,
    /// Remove a member for good; its number is never used again
    #[command(after_help = "Example:\n  dos-cluster member remove n3")]
    Remove {
        /// Its number, such as n3
        #[arg(value_name = "ID")]
        node: NodeId,
    },
}

#[derive(Debug, Serialize)]
struct Members {
    members: Vec<MemberRow>,
}

/// A member as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct MemberRow {
    pub(super) node: String,
    pub(super) role: &'static str,
    pub(super) leader: bool,
    pub(super) client_address: String,
    pub(super) peer_address: String,
    pub(super) http_address: String,
}

impl MemberRow {
    /// A member that votes.
    pub(super) fn voter(member: &pb::Member) -> Self {
        Self {
            node: NodeId(member.node_id).to_string(),
            role: "voter",
            leader: false,
            client_address: member.client_address.clone(),
            peer_address: member.peer_address.clone(),
            http_address: member.http_address.clone(),
        }
    }

    fn of(status: &pb::MemberStatus) -> Option<Self> {
        Some(Self {
            role: if status.voter { "voter" } else { "learner" },
            leader: status.leader,
            ..Self::voter(status.member.as_ref()?)
        })
    }

    pub(super) fn table(rows: &[Self]) -> String {
        let cells = rows.iter().map(|row| {
            let leader = if row.leader { "yes" } else { "" };
            vec![
                row.node.clone(),
                row.role.to_owned(),
                leader.to_owned(),
                row.client_address.clone(),
                row.peer_address.clone(),
                row.http_address.clone(),
            ]
        });
        let headers = [
            "node",
            "role",
            "leader",
            "client address",
            "peer address",
            "http address",
        ];
        table(&headers, &cells.collect::<Vec<_>>())
    }
}

/// A node that waits knows no members.
fn check_formed(status: &pb::StatusResponse) -> Result<(), Failure> {
    if !status.cluster_id.is_empty() {
        return Ok(());
    }
    let address = &status.client_address;
    let message = format!("node {address} waits: it is not a member of a cluster yet");
    Err(Failure::new(Exit::Unhealthy, message).try_next("dos-cluster init --nodes HOST:PORT,..."))
}

/// Refuses what is no member, before anything is asked of the cluster.
pub(super) async fn check_member(client: &Client, node: NodeId) -> Result<(), Failure> {
    let status = client.status().await?;
    check_formed(&status)?;
    let members = status.members.iter();
    let mut members = members.filter_map(|member| member.member.as_ref());
    if members.any(|member| member.node_id == node.0) {
        return Ok(());
    }
    let message = format!("node {node} is not a member");
    Err(Failure::new(Exit::Refused, message).try_next("dos-cluster member list"))
}

impl Member {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let members = match self.verb {
            Verb::List => {
                let status = client.status().await?;
                check_formed(&status)?;
                status.members
            }
            Verb::Remove { node } => {
                check_member(&client, node).await?;
                let progress = Progress::spinner(format!("removing {node}"));
                let removed = client.remove_member(node).await;
                drop(progress);
                let members = removed?.members;
                context.output.talk(&format!(
                    "removed {node}; its data directory can be deleted"
                ));
                members
            }
        };
        let members = Members {
            members: members.iter().filter_map(MemberRow::of).collect(),
        };
        context
            .output
            .show(&members, |shown| MemberRow::table(&shown.members))?;
        Ok(Exit::Done)
    }
}

//! `dos-cluster leader`: who leads.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    member::check_member,
    progress::Progress,
};
use crate::domain::NodeId;

/// Hand leadership over
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster leader transfer
  dos-cluster leader transfer n2")]
pub(super) struct Leader {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make another voter the leader, before maintenance of the one that is
    #[command(after_help = "Example:\n  dos-cluster leader transfer n2")]
    Transfer {
        /// The next leader, such as n2; without it, the most caught-up voter
        #[arg(value_name = "ID")]
        node: Option<NodeId>,
    },
}

#[derive(Debug, Serialize)]
struct Leads {
    leader: String,
}

impl Leader {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Verb::Transfer { node } = self.verb;
        let client = context.client()?;
        if let Some(node) = node {
            check_member(&client, node).await?;
        }
        let progress = Progress::spinner("handing leadership over");
        let leader = client.transfer_leader(node).await;
        drop(progress);
        let leader = leader?;
        let leads = Leads {
            leader: leader.to_string(),
        };
        context
            .output
            .show(&leads, |leads| format!("{} leads", leads.leader))?;
        Ok(Exit::Done)
    }
}

//! `dos-cluster init`: forms a cluster, once.

use clap::Args;
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    member::MemberRow,
    output::fields,
    progress::Progress,
};

/// Form a cluster from waiting nodes, once, from anywhere
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster init --nodes n1:7420,n2:7420,n3:7420
  dos-cluster --endpoints n1:7420,n2:7420,n3:7420 init

Three or five nodes are usual: three survive the loss of one, five of two.")]
pub(super) struct Init {
    /// Client addresses of all the waiting nodes; without it, those of --endpoints
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    nodes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Formed {
    cluster_id: String,
    members: Vec<MemberRow>,
}

impl Init {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let nodes = if self.nodes.is_empty() {
            &context.endpoints
        } else {
            &self.nodes
        };
        let client = context.client_of(nodes)?;
        let progress = Progress::spinner(format!("forming a cluster of {}", nodes.len()));
        let answer = client.init(nodes).await;
        drop(progress);
        let formed = answer?;
        let formed = Formed {
            cluster_id: formed.cluster_id,
            members: formed.members.iter().map(MemberRow::voter).collect(),
        };
        context.output.show(&formed, |formed| {
            let header = fields(&[("cluster", formed.cluster_id.clone())]);
            format!("{header}\n{}", MemberRow::table(&formed.members))
        })?;
        Ok(Exit::Done)
    }
}

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
use crate::{
    client::{Client, ClientError},
    pb,
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
        let answer = form(&client, nodes).await;
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

/// Forms the cluster; that there is one already is a refusal.
pub(super) async fn form(client: &Client, nodes: &[String]) -> Result<pb::InitResponse, Failure> {
    match client.init(nodes).await {
        Ok(formed) => Ok(formed),
        Err(error) => match nodes.first() {
            Some(first) => Err(refused_if_formed(client, error, first).await),
            None => Err(error.into()),
        },
    }
}

/// The failure of a call that needs the node at `address` to wait: a refusal if it belongs to a cluster.
pub(super) async fn refused_if_formed(
    client: &Client,
    error: ClientError,
    address: &str,
) -> Failure {
    let is_formed = matches!(error, ClientError::BadRequest { .. })
        && client
            .status_of(address)
            .await
            .is_ok_and(|status| !status.cluster_id.is_empty());
    let failure = Failure::from(error);
    if is_formed {
        Failure {
            exit: Exit::Refused,
            ..failure
        }
    } else {
        failure
    }
}

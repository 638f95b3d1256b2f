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
        refuse_twice(&client.addresses())?;
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

/// A node that is named twice is a slip: it cannot be two members.
fn refuse_twice(addresses: &[String]) -> Result<(), Failure> {
    let twice = addresses.iter().enumerate().find(|(index, address)| {
        let before = &addresses[..*index];
        before
            .iter()
            .any(|other| other.eq_ignore_ascii_case(address))
    });
    match twice {
        Some((_, address)) => Err(Failure::usage(format!(
            "cannot form a cluster: {address} is named twice; name each node once"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_named_twice_is_wrong_usage() {
        let named = |nodes: &[&str]| {
            let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            refuse_twice(&nodes)
        };
        named(&["a:7420", "b:7420", "a:7421"]).unwrap();
        let failure = named(&["a:7420", "b:7420", "A:7420"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("A:7420 is named twice"));
    }
}

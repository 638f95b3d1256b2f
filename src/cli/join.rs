//! `dos-cluster join`: a further node, admitted as a learner and promoted when it has caught up.

use clap::Args;
use futures::StreamExt;
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    member::MemberRow,
    progress::Progress,
};
use crate::{
    client::Effect,
    pb::{self, join_progress::Phase},
};

/// Admit a waiting node: it catches up as a learner, then votes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dos-cluster serve --data-dir ./n4 --listen 0.0.0.0:7420 --advertise n4:7420 ...   # on n4
  dos-cluster --endpoints n1:7420 join n4:7420                                      # anywhere

Returns when the node votes; keep it running until then.")]
pub(super) struct Join {
    /// Client address of the waiting node
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

#[derive(Debug, Serialize)]
struct Joined {
    #[serde(flatten)]
    member: MemberRow,
}

impl Join {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let mut steps = std::pin::pin!(client.join(&self.address).await?);
        let progress = Progress::entries(0, format!("{}: waiting", self.address));
        let mut last: Option<pb::JoinProgress> = None;
        while let Some(step) = steps.next().await {
            let step = match step {
                Ok(step) => step,
                Err(error) if error.effect() == Effect::None => return Err(error.into()),
                Err(error) => return Err(undecided(&self.address, error.into())),
            };
            let phase = step.phase();
            if last.as_ref().is_none_or(|last| last.phase() != phase) {
                drop_line(context, &progress, &self.address, &step);
            }
            progress.set_total(step.last_index);
            progress.set(step.matched_index);
            last = Some(step);
        }
        drop(progress);
        match last {
            Some(pb::JoinProgress {
                member: Some(member),
                phase,
                ..
            }) if phase == i32::from(Phase::Voter) => {
                let joined = Joined {
                    member: MemberRow::voter(&member),
                };
                context.output.show(&joined, |joined| {
                    MemberRow::table(std::slice::from_ref(&joined.member))
                })?;
                Ok(Exit::Done)
            }
            _ => {
                let message = format!(
                    "node {}: the cluster stopped reporting before it voted",
                    self.address
                );
                Err(undecided(
                    &self.address,
                    Failure::new(Exit::Timeout, message),
                ))
            }
        }
    }
}

fn undecided(address: &str, failure: Failure) -> Failure {
    failure.try_next(format!(
        "dos-cluster member list, to see whether {address} is there"
    ))
}

/// Says what has begun: drawn at the bar, or as a line where there is none.
fn drop_line(context: &Context, progress: &Progress, address: &str, step: &pb::JoinProgress) {
    let node = step.member.as_ref().map_or(0, |member| member.node_id);
    let said = match step.phase() {
        Phase::Unspecified => return,
        Phase::Adopted => format!("{address} is n{node}"),
        Phase::Learner => format!("n{node} catches up"),
        Phase::Voter => format!("n{node} votes"),
    };
    if super::output::stderr_is_terminal() {
        progress.say(said);
    } else {
        context.output.talk(&said);
    }
}

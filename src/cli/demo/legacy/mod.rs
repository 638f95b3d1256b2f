//! `dos-cluster demo legacy`: workers that speak only the original's TCP protocol survive what its own demos do to them, and more.
//!
//! The workers are processes that keep the original's files and speak its protocol (`dos_client`) to a `dos-cluster gateway` beside
//! them; what brings them back is `dos-cluster restore`, as an operator types it. The sink lets results out when the recovery line
//! covers them, and a validator judges every sequence.

mod crew;
pub(in crate::cli) mod dos_client;
mod files;
mod journal;
mod process;
mod sink;
mod source;
mod state;
mod story;
mod talk;
mod validator;
mod worker;

use std::path::PathBuf;

use clap::Args;

use super::super::{
    Context,
    exit::{Exit, Failure},
};

/// Show workers of the original's kind being restarted, moved and lost together with a server, and no sequence broken
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster demo legacy
  dos-cluster demo legacy --dir /tmp/demo

Starts three servers on this machine and plays five acts: a restart in place, a move with two workers and with three, the loss
of a worker and the leading server together, and one worker moved three times. The workers are processes that speak only the
original's TCP protocol, to a `dos-cluster gateway` beside each. A validator checks that no sequence number is lost, doubled or out of order.
Exit code 6 if one is.")]
pub(super) struct Legacy {
    /// Where everything goes; kept afterwards. Without it: a temporary directory, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Legacy {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        story::tell(self.dir.as_deref(), context).await
    }
}

/// A legacy worker of the demo: a process of its own, started by `demo legacy`
#[derive(Debug, Args)]
#[command(hide = true)]
#[command(
    after_help = "Example: see what `dos-cluster demo legacy` starts, with `ps -C dos-cluster -f`"
)]
pub(in crate::cli) struct DemoLegacyWorker {
    #[command(flatten)]
    task: worker::Task,
}

impl DemoLegacyWorker {
    pub(in crate::cli) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        worker::run(self.task, context).await
    }
}

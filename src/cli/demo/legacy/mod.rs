//! `dos-cluster demo legacy`: workers that speak only the original's TCP protocol survive what its own demos do to them, and more.
//!
//! The workers are processes that keep the original's files and speak its protocol (`dos_client`) to a `dos-cluster gateway`; what
//! brings them back is `dos-cluster restore`, as an operator types it. The sink lets results out when the recovery line covers
//! them, and a validator judges every sequence.

mod dos_client;
mod files;
mod journal;
mod source;
mod state;
mod talk;
mod validator;
mod worker;

use clap::Args;

use super::super::{
    Context,
    exit::{Exit, Failure},
};

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

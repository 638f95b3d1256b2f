//! `dos-cluster demo`: a worker and the leading server die together, and the counts still come out right. `demo legacy` is the
//! same for workers that speak only the original's protocol.
//!
//! Everything is real: three server processes, two word-count workers as processes of their own, `kill -9`. The story goes to
//! stdout with times; any difference at the end is a failure.

mod input;
mod legacy;
mod stage;
mod story;
mod wordcount;
mod worker;

pub(super) use legacy::{DemoLegacyWorker, dos_client};
pub(super) use stage::bring_back;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    Context,
    exit::{Exit, Failure},
};

/// The job's name in the cluster.
const JOB: &str = "wordcount";

/// Show a worker and a server dying together, and nothing acknowledged being lost; `legacy`: with the original's workers
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  dos-cluster demo
  dos-cluster demo --input /var/log/dpkg.log --dir /tmp/demo
  dos-cluster demo legacy

Starts three servers and two word-count workers on this machine, kills -9 one worker and the leading server at the same
moment, deletes the worker's directory, restores it elsewhere from the survivors at the recovery line, finishes the count and
compares it with one made without the cluster. Exit code 6 if they differ.")]
pub(super) struct Demo {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    native: Native,
}

#[derive(Debug, Subcommand)]
enum Other {
    Legacy(legacy::Legacy),
}

#[derive(Debug, Args)]
struct Native {
    /// The text to count [default: a text that is on every Debian, or this program's own licence notice, many times over]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where everything goes; kept afterwards. Without it: a temporary directory, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Lines between two checkpoints of a worker
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_lines: u64,
    /// Lines that each worker counts in a second, so that there is time to watch; 0: as fast as it can
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    lines_per_second: u64,
}

/// A word-count worker of the demo: a process of its own, started by `demo`
#[derive(Debug, Args)]
#[command(hide = true)]
#[command(after_help = "Example: see what `dos-cluster demo` starts, with `ps -C dos-cluster -f`")]
pub(super) struct DemoWorker {
    #[command(flatten)]
    task: worker::Task,
}

impl Demo {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.other {
            None => story::tell(self.native, context).await,
            Some(Other::Legacy(legacy)) => legacy.run(context).await,
        }
    }
}

impl DemoWorker {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        worker::run(self.task, context).await
    }
}

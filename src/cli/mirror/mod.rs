//! `dos-cluster mirror`: journal files that a worker writes by itself, streamed to the cluster.

mod metrics;
mod report;

use std::path::PathBuf;

use clap::Args;

use super::{
    Context, Signals,
    exit::{Exit, Failure},
    metrics::MetricsListen,
};
use crate::{
    client::{
        Client,
        mirror_dir::{DirMirror, IN_USE_PATIENCE, MirrorError, MirrorOptions, NamePattern, Step},
    },
    domain::{JobName, WorkerName, WorkerRef},
    env::time,
};
use report::Reporter;

/// Follow the journal files in a directory, which only grow, and stream them to the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster mirror --job wallaroo --worker worker1 /var/lib/wallaroo
  dos-cluster mirror --job wallaroo --worker worker1 /var/lib/wallaroo \\
    --metrics-listen 127.0.0.1:7460
  dos-cluster mirror --job wallaroo --worker worker1 /var/lib/wallaroo --once

New files are found as they come; each goes on where the cluster's journal ends, after any outage of either side. \
A file that is shorter than its journal, or whose last bytes differ from it, is refused, and so is one that another \
process streams; the others go on, and the exit code is 4: at the end, or once no file is left that can go on. \
SIGTERM and SIGINT end it once what was read is durable: exit code 8 if that takes longer than --timeout.

After a takeover of the worker all of it stops with exit code 4, and so does every later mirror of this directory: \
the file .dos-mirror-WORKER@JOB in it says under which epoch, and to which cluster, it was mirrored.

Workers that share a directory are mirrored by one command each, with --journal '*-worker2*.journal' or the like. \
A journal of a file P.evlog.journal is raw, of another P.journal it is ops, of any other name it is raw.")]
pub(super) struct Mirror {
    /// The job
    #[arg(long)]
    job: JobName,
    /// The worker, which is registered if it is not there
    #[arg(long)]
    worker: WorkerName,
    /// Where the files are
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Which files are journals: a name with * for any characters, and ? for one
    #[arg(long, value_name = "GLOB", default_value = "*.journal")]
    journal: NamePattern,
    /// Copy what is there now, wait until it is durable, and end
    #[arg(long)]
    once: bool,
    /// Stream journals also while another process does, which is fenced
    #[arg(long)]
    steal: bool,
    /// Go on although the worker was taken over since this directory was mirrored, or the cluster is another one; needed
    /// once
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    metrics: MetricsListen,
}

impl Mirror {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let worker = WorkerRef {
            job: self.job.clone(),
            worker: self.worker.clone(),
        };
        let mut signals = Signals::install()?;
        let listener = self.metrics.bind().await?;
        let mut mirror = self.start(&client, &worker);
        let view = mirror.view();
        let shown = view.clone();
        let serving = listener.serve(move || metrics::text(&shown.snapshot()));
        let mut reporter = Reporter::new(context, worker, view);
        let ended = loop {
            tokio::select! {
                biased;
                step = mirror.next() => match step {
                    Ok(Step::News) => reporter.news(),
                    Ok(Step::Ended) => break Ok(Ended::Through),
                    Err(error) => break Err(error),
                },
                () = reporter.tick() => {}
                () = signals.next() => break drain(context, &mut mirror, &mut signals).await,
            }
        };
        drop(serving);
        let is_late = matches!(ended, Ok(Ended::Late));
        reporter.finish(is_late, ended.err())
    }

    fn start(&self, client: &Client, worker: &WorkerRef) -> DirMirror {
        let options = MirrorOptions {
            worker: worker.clone(),
            directory: self.directory.clone(),
            pattern: self.journal.clone(),
            once: self.once,
            steal: self.steal,
            adopt: self.adopt,
            patience: IN_USE_PATIENCE,
        };
        DirMirror::start(client, options)
    }
}

/// How a mirror ended that was not stopped by a fault of its own.
enum Ended {
    /// What was sent is durable.
    Through,
    /// It is not, and was not waited for any longer.
    Late,
}

/// After a signal: stops reading, and waits until what was sent is durable; not longer than a call is tried, nor when a
/// second signal comes.
async fn drain(
    context: &Context,
    mirror: &mut DirMirror,
    signals: &mut Signals,
) -> Result<Ended, MirrorError> {
    mirror.stop();
    tokio::select! {
        biased;
        ended = mirror.ended() => ended.map(|()| Ended::Through),
        () = signals.next() => Ok(Ended::Late),
        () = time::sleep(context.timeout) => Ok(Ended::Late),
    }
}

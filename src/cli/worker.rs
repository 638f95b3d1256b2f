//! `dos-cluster worker`: named writers, and how one incarnation follows another.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    arguments::{self, FloorArguments, checkpoint_name, worker_name},
    exit::{Exit, Failure},
    output::{fields, moment, or_dash, table},
    progress::Progress,
};
use crate::{
    client::TakeoverOptions,
    domain::{Epoch, JobName, RestorePoint, WorkerRef},
    env::fs,
    pb,
};

/// List workers, or take one over
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster worker list
  dos-cluster worker list wordcount
  dos-cluster worker takeover wordcount/w1 --at line")]
pub(super) struct Worker {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show workers with their epochs, sizes and newest checkpoints
    #[command(after_help = "Example:\n  dos-cluster worker list wordcount")]
    List {
        /// Only those of this job
        job: Option<JobName>,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Fence the present incarnation of a worker for good, and cut its journals at a point; `restore` does it too
    #[command(after_help = "\
Examples:
  dos-cluster worker takeover wordcount/w1
  dos-cluster worker takeover wordcount/w1 --at line
  dos-cluster worker takeover wordcount/w1 --at 0:42 --expect-epoch 3
  dos-cluster worker takeover wallaroo/w1 --endpoint control=w1.new:3131 --endpoint data=w1.new:3132")]
    Takeover {
        /// The worker
        #[arg(value_name = "JOB/WORKER")]
        worker: WorkerRef,
        /// Where to cut: `latest` cuts nothing, `line` is the job's recovery line, or a checkpoint id
        #[arg(long, default_value = "latest", value_name = "latest|line|ID")]
        #[arg(value_parser = arguments::restore_point)]
        at: RestorePoint,
        /// Refuse unless this is the present epoch; then it is safe to repeat
        #[arg(long, value_name = "EPOCH")]
        expect_epoch: Option<u64>,
        /// Who takes over: the fenced incarnation is told
        #[arg(long, value_name = "TEXT")]
        by: Option<String>,
        /// Where the new incarnation is reached, in each role; replaces what was known, in the same command
        #[arg(long = "endpoint", value_name = "ROLE=HOST:PORT")]
        #[arg(value_parser = arguments::role_and_address)]
        addresses: Vec<(String, String)>,
    },
}

#[derive(Debug, Serialize)]
struct Workers {
    applied_index: u64,
    stale: bool,
    workers: Vec<WorkerRow>,
}

#[derive(Debug, Serialize)]
struct WorkerRow {
    worker: String,
    epoch: u64,
    journals: u32,
    bytes: u64,
    newest_checkpoint: Option<String>,
    taken_over_by: Option<String>,
    taken_over_at_unix_ms: Option<u64>,
}

impl WorkerRow {
    fn of(stat: &pb::WorkerStat) -> Self {
        // Epoch 1 is the first: nobody was taken over.
        let succession = stat.succession.as_ref().filter(|_| stat.epoch > 1);
        Self {
            worker: worker_name(stat.worker.as_ref()),
            epoch: stat.epoch,
            journals: stat.journals,
            bytes: stat.bytes,
            newest_checkpoint: stat.newest_checkpoint.map(checkpoint_name),
            taken_over_by: succession.map(|succession| succession.by.clone()),
            taken_over_at_unix_ms: succession.map(|succession| succession.at_unix_ms),
        }
    }
}

#[derive(Debug, Serialize)]
struct TakenOver {
    worker: String,
    epoch: u64,
    checkpoint: Option<String>,
    log_index: u64,
    /// Of the endpoint in force; none while there is none.
    endpoint_generation: Option<u64>,
    journals: Vec<TakenJournal>,
}

#[derive(Debug, Serialize)]
struct TakenJournal {
    journal: String,
    kind: &'static str,
    tail: u64,
}

impl Worker {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List { job, floor } => list(context, job.as_ref(), floor).await,
            Verb::Takeover {
                worker,
                at,
                expect_epoch,
                by,
                addresses,
            } => {
                let endpoint = if addresses.is_empty() {
                    None
                } else {
                    Some(arguments::addresses(addresses)?)
                };
                let options = TakeoverOptions {
                    expected_epoch: expect_epoch.map(Epoch),
                    point: at,
                    by: by.unwrap_or_else(|| whoami("dos-cluster worker takeover")),
                    endpoint,
                };
                takeover(context, &worker, options).await
            }
        }
    }
}

async fn list(
    context: &Context,
    job: Option<&JobName>,
    floor: FloorArguments,
) -> Result<Exit, Failure> {
    let listed = context.client()?.list_workers(job, floor.floor()).await?;
    let workers = Workers {
        applied_index: listed.applied_index,
        stale: listed.stale,
        workers: listed.workers.iter().map(WorkerRow::of).collect(),
    };
    context.output.show(&workers, |workers| {
        let cells = workers.workers.iter().map(|row| {
            vec![
                row.worker.clone(),
                row.epoch.to_string(),
                row.journals.to_string(),
                row.bytes.to_string(),
                or_dash(row.newest_checkpoint.as_ref()),
                or_dash(row.taken_over_at_unix_ms.map(moment)),
                or_dash(row.taken_over_by.as_ref()),
            ]
        });
        let headers = [
            "worker",
            "epoch",
            "journals",
            "bytes",
            "checkpoint",
            "taken over",
            "by",
        ];
        table(&headers, &cells.collect::<Vec<_>>())
    })?;
    say_if_stale(context, listed.stale, listed.applied_index);
    Ok(Exit::Done)
}

async fn takeover(
    context: &Context,
    worker: &WorkerRef,
    options: TakeoverOptions,
) -> Result<Exit, Failure> {
    let client = context.client()?;
    let progress = Progress::spinner(format!("take {worker} over"));
    let taken = client.takeover_with(worker, options).await;
    drop(progress);
    let taken = taken.map_err(|error| {
        let failure = Failure::from(error);
        if failure.exit == Exit::Timeout {
            let step = format!(
                "dos-cluster worker list {}, to see whether its epoch has risen",
                worker.job
            );
            return failure.try_next(step);
        }
        failure
    })?;
    let taken = TakenOver {
        worker: worker.to_string(),
        epoch: taken.epoch.0,
        checkpoint: taken.checkpoint.map(|id| id.to_string()),
        log_index: taken.log_index,
        endpoint_generation: taken.endpoint.map(|endpoint| endpoint.generation),
        journals: taken
            .journals
            .iter()
            .map(|(name, (_, kind, tail))| TakenJournal {
                journal: name.to_string(),
                kind: kind.as_str(),
                tail: tail.0,
            })
            .collect(),
    };
    context.output.show(&taken, |taken| {
        let header = fields(&[
            ("worker", taken.worker.clone()),
            ("epoch", taken.epoch.to_string()),
            ("checkpoint", or_dash(taken.checkpoint.as_ref())),
            ("log index", taken.log_index.to_string()),
            ("endpoint", or_dash(taken.endpoint_generation)),
        ]);
        let rows = taken.journals.iter().map(|journal| {
            vec![
                journal.journal.clone(),
                journal.kind.to_owned(),
                journal.tail.to_string(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        format!("{header}\n{}", table(&["journal", "kind", "tail"], &rows))
    })?;
    Ok(Exit::Done)
}

/// What did it, who, and where: what a fenced incarnation is told.
pub(super) fn whoami(command: &str) -> String {
    let user = std::env::var("USER")
        .unwrap_or_else(|_| format!("user {}", rustix::process::getuid().as_raw()));
    let host = fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = String::from_utf8_lossy(&host);
    match host.trim() {
        "" => format!("{command} by {user}"),
        host => format!("{command} by {user} on {host}"),
    }
}

/// A stale answer is labelled.
pub(super) fn say_if_stale(context: &Context, stale: bool, applied_index: u64) {
    if stale {
        let note =
            format!("note: this may be stale: it is what a node had at log index {applied_index}");
        context.output.talk(&note);
    }
}

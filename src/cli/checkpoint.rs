//! `dos-cluster checkpoint`: what a job can go back to.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    arguments::{FloorArguments, Scope, checkpoint_name, worker_name},
    exit::{Exit, Failure},
    output::{fields, moment, or_dash, table},
    progress::Progress,
    worker::say_if_stale,
};
use crate::{
    domain::{CheckpointId, JobName},
    pb,
};

/// List checkpoints, show the recovery line, or wait for one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster checkpoint list wordcount/w1
  dos-cluster checkpoint line wordcount
  dos-cluster checkpoint await wordcount 42 --timeout 1m")]
pub(super) struct Checkpoint {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the durable checkpoints of a job or a worker, and what they cover
    #[command(after_help = "Example:\n  dos-cluster checkpoint list wordcount/w1")]
    List {
        /// The job or the worker
        #[arg(value_name = "JOB[/WORKER]")]
        scope: Scope,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Show the recovery line: the newest checkpoint that every worker of the job has made durable
    #[command(after_help = "\
Examples:
  dos-cluster checkpoint line wordcount
  dos-cluster checkpoint line --job wordcount")]
    Line {
        #[command(flatten)]
        job: JobArguments,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Wait until every worker of the job has a checkpoint or a newer one; exit code 8 names the late ones after --timeout
    #[command(
        allow_missing_positional = true,
        after_help = "\
Examples:
  dos-cluster checkpoint await wordcount 0:42 --timeout 1m
  dos-cluster checkpoint await --job wordcount 42"
    )]
    Await {
        #[command(flatten)]
        job: JobArguments,
        /// The checkpoint: 42, or 1:42 in rollback epoch 1
        #[arg(value_name = "ID", required = true)]
        id: CheckpointId,
    },
}

/// The job: by its place, or by its name.
#[derive(Debug, Args)]
struct JobArguments {
    /// The job
    #[arg(value_name = "JOB")]
    place: Option<JobName>,
    /// The job, where it is not given by its place
    #[arg(long = "job", value_name = "JOB", conflicts_with = "place")]
    named: Option<JobName>,
}

impl JobArguments {
    fn job(self, verb: &str) -> Result<JobName, Failure> {
        let missing = || {
            Failure::usage(format!("cannot {verb}: no job is named"))
                .try_next("dos-cluster worker list, to see the jobs")
        };
        self.place.or(self.named).ok_or_else(missing)
    }
}

#[derive(Debug, Serialize)]
struct Checkpoints {
    applied_index: u64,
    stale: bool,
    checkpoints: Vec<CheckpointRow>,
}

#[derive(Debug, Serialize)]
struct CheckpointRow {
    worker: String,
    checkpoint: String,
    at_unix_ms: u64,
    log_index: u64,
    offsets: Vec<Covered>,
}

#[derive(Debug, Serialize)]
struct Covered {
    journal: String,
    offset: u64,
}

impl CheckpointRow {
    fn of(stat: pb::CheckpointStat) -> Self {
        let covered = |named: pb::NamedOffset| Covered {
            journal: named.journal,
            offset: named.offset,
        };
        Self {
            worker: worker_name(stat.worker.as_ref()),
            checkpoint: checkpoint_name(stat.id.unwrap_or_default()),
            at_unix_ms: stat.at_unix_ms,
            log_index: stat.log_index,
            offsets: stat.offsets.into_iter().map(covered).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    job: String,
    /// The recovery line; none while the workers share no checkpoint.
    line: Option<String>,
    applied_index: u64,
    stale: bool,
    workers: Vec<Newest>,
}

#[derive(Debug, Serialize)]
struct Newest {
    worker: String,
    newest_checkpoint: Option<String>,
    at_unix_ms: Option<u64>,
    /// Since when it holds the line back: another worker made a newer checkpoint then.
    behind_since_unix_ms: Option<u64>,
}

impl Newest {
    fn of(job: &JobName, newest: &pb::WorkerCheckpoint) -> Self {
        Self {
            worker: format!("{job}/{}", newest.worker),
            newest_checkpoint: newest.newest.map(checkpoint_name),
            at_unix_ms: newest.newest.map(|_| newest.at_unix_ms),
            behind_since_unix_ms: newest.behind_since_unix_ms,
        }
    }

    fn table(rows: &[Self]) -> String {
        let cells = rows.iter().map(|row| {
            vec![
                row.worker.clone(),
                or_dash(row.newest_checkpoint.as_ref()),
                or_dash(row.at_unix_ms.map(moment)),
                or_dash(row.behind_since_unix_ms.map(moment)),
            ]
        });
        table(
            &["worker", "newest checkpoint", "made", "behind since"],
            &cells.collect::<Vec<_>>(),
        )
    }
}

#[derive(Debug, Serialize)]
struct Reached {
    job: String,
    checkpoint: String,
    reached: bool,
    late: Vec<Newest>,
}

impl Checkpoint {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List { scope, floor } => list(context, &scope, floor).await,
            Verb::Line { job, floor } => {
                line(context, &job.job("show the recovery line")?, floor).await
            }
            Verb::Await { job, id } => {
                await_line(context, &job.job("wait for a checkpoint")?, id).await
            }
        }
    }
}

async fn list(context: &Context, scope: &Scope, floor: FloorArguments) -> Result<Exit, Failure> {
    let client = context.client()?;
    let listed = client
        .list_checkpoints(scope.job(), scope.worker(), floor.floor())
        .await?;
    let (applied_index, stale) = (listed.applied_index, listed.stale);
    let checkpoints = Checkpoints {
        applied_index,
        stale,
        checkpoints: listed
            .checkpoints
            .into_iter()
            .map(CheckpointRow::of)
            .collect(),
    };
    context.output.show(&checkpoints, |checkpoints| {
        let cells = checkpoints.checkpoints.iter().map(|row| {
            let covers = row.offsets.iter();
            let covers = covers.map(|covered| format!("{}={}", covered.journal, covered.offset));
            vec![
                row.worker.clone(),
                row.checkpoint.clone(),
                moment(row.at_unix_ms),
                row.log_index.to_string(),
                covers.collect::<Vec<_>>().join(" "),
            ]
        });
        let headers = ["worker", "checkpoint", "made", "log index", "covers"];
        table(&headers, &cells.collect::<Vec<_>>())
    })?;
    say_if_stale(context, stale, applied_index);
    Ok(Exit::Done)
}

async fn line(context: &Context, job: &JobName, floor: FloorArguments) -> Result<Exit, Failure> {
    let answer = context.client()?.line(job, floor.floor()).await?;
    let line = Line {
        job: job.to_string(),
        line: answer.line.map(checkpoint_name),
        applied_index: answer.applied_index,
        stale: answer.stale,
        workers: answer
            .workers
            .iter()
            .map(|newest| Newest::of(job, newest))
            .collect(),
    };
    context.output.show(&line, |line| {
        let header = fields(&[
            ("job", line.job.clone()),
            ("line", or_dash(line.line.as_ref())),
        ]);
        format!("{header}\n{}", Newest::table(&line.workers))
    })?;
    say_if_stale(context, answer.stale, answer.applied_index);
    Ok(Exit::Done)
}

async fn await_line(context: &Context, job: &JobName, id: CheckpointId) -> Result<Exit, Failure> {
    let client = context.client()?;
    let progress = Progress::spinner(format!("waiting for checkpoint {id} of job {job}"));
    let answer = client.await_line(job, id, context.timeout).await;
    drop(progress);
    let answer = answer?;
    let reached = Reached {
        job: job.to_string(),
        checkpoint: id.to_string(),
        reached: answer.reached,
        late: answer
            .late
            .iter()
            .map(|newest| Newest::of(job, newest))
            .collect(),
    };
    context.output.show(&reached, |reached| {
        if reached.reached {
            format!("every worker of job {job} has checkpoint {id}")
        } else {
            Newest::table(&reached.late)
        }
    })?;
    if reached.reached {
        return Ok(Exit::Done);
    }
    let late: Vec<_> = answer
        .late
        .iter()
        .map(|newest| newest.worker.as_str())
        .collect();
    let after = humantime::format_duration(context.timeout);
    let message = format!(
        "checkpoint {id} of job {job} is not reached after {after}: these workers lack it: {}",
        late.join(", ")
    );
    Err(Failure::new(Exit::Timeout, message).try_next("the same with a longer --timeout"))
}

//! `dos-cluster endpoint`: where workers are reached.

mod format;
mod render;
mod replace;
mod template;
#[cfg(test)]
mod testing;
mod watch;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    arguments::{self, FloorArguments},
    exit::{Exit, Failure},
    output::{fields, moment, table},
    worker::{say_if_stale, whoami},
};
use crate::{
    client::{Floor, ListedEndpoints},
    domain::{Endpoint as Found, JobName, WorkerRef},
};
use render::RenderArguments;

/// Say where workers are reached, and follow them when they move
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster endpoint set wallaroo/w1 control=10.0.0.7:3131 data=10.0.0.7:3132
  dos-cluster endpoint list --job wallaroo
  dos-cluster endpoint watch --job wallaroo --format hosts --out /run/hosts.workers")]
pub(super) struct Endpoint {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Replace all addresses of a worker
    #[command(
        after_help = "Example:\n  dos-cluster endpoint set wallaroo/w1 control=10.0.0.7:3131 --generation 2"
    )]
    Set {
        /// The worker
        #[arg(value_name = "JOB/WORKER")]
        worker: WorkerRef,
        /// The addresses, each in a role: control, data, or any other name
        #[arg(value_name = "ROLE=HOST:PORT", required = true, value_parser = arguments::role_and_address)]
        addresses: Vec<(String, String)>,
        /// Refuse unless this is the present generation (0: none yet); then it is safe to repeat
        #[arg(long, value_name = "GENERATION")]
        generation: Option<u64>,
        /// Who sets it
        #[arg(long, value_name = "TEXT")]
        by: Option<String>,
    },
    /// Show where a worker is reached
    #[command(after_help = "Example:\n  dos-cluster endpoint get wallaroo/w1")]
    Get {
        /// The worker
        #[arg(value_name = "JOB/WORKER")]
        worker: WorkerRef,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Show where the workers are reached that have said so
    #[command(after_help = "Example:\n  dos-cluster endpoint list --job wallaroo")]
    List {
        /// Only those of this job
        #[arg(long)]
        job: Option<JobName>,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Show all endpoints of a job, then each change, until a signal; goes on at another node when one is lost
    #[command(after_help = "\
Examples:
  dos-cluster endpoint watch --job wallaroo
  dos-cluster endpoint watch --job wallaroo --exec ./on-move.sh
  dos-cluster endpoint watch --job wallaroo --format env --out /run/w.env --exec ./reload.sh

A job that is not there yet is waited for, and so is the first endpoint of one: nothing is written before. A file that
cannot be written is tried again until it is. The command is run once for each change, one at a time and after the
file is written, with DOS_JOB, DOS_WORKER, DOS_GENERATION, DOS_ADDRESSES and DOS_ADDRESS_<ROLE> in its environment. One
that fails is reported, and does not end the watch.")]
    Watch {
        /// The job
        #[arg(long)]
        job: JobName,
        /// Run this with `sh -c` for each change
        #[arg(long, value_name = "CMD")]
        exec: Option<String>,
        #[command(flatten)]
        render: RenderArguments,
    },
    /// Write endpoints for other programs: into a file, all at once, and only when it changes
    #[command(after_help = "\
Examples:
  dos-cluster endpoint render --job wallaroo --format env
  dos-cluster endpoint render --worker wallaroo/w1 --format wallaroo --prefix App --out /tmp

While no worker has said where it is reached, nothing is written, and the exit code is 4.")]
    Render {
        /// All workers of this job
        #[arg(long, required_unless_present = "worker", conflicts_with = "worker")]
        job: Option<JobName>,
        /// This worker
        #[arg(long, value_name = "JOB/WORKER")]
        worker: Option<WorkerRef>,
        #[command(flatten)]
        render: RenderArguments,
    },
}

#[derive(Debug, Serialize)]
struct Listed {
    applied_index: u64,
    stale: bool,
    endpoints: Vec<Row>,
}

/// One worker's endpoint, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    worker: String,
    generation: u64,
    addresses: BTreeMap<String, String>,
    set_by: String,
    set_at_unix_ms: u64,
}

impl Row {
    fn of((worker, endpoint): (&WorkerRef, &Found)) -> Self {
        let addresses = endpoint.addresses.iter();
        Self {
            worker: worker.to_string(),
            generation: endpoint.generation,
            addresses: addresses
                .map(|(role, address)| (role.to_owned(), address.to_owned()))
                .collect(),
            set_by: endpoint.by.clone(),
            set_at_unix_ms: endpoint.at_unix_ms,
        }
    }

    /// `ROLE=HOST:PORT`, with blanks between.
    fn addresses(&self) -> String {
        let one = |(role, address): (&String, &String)| format!("{role}={address}");
        self.addresses.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Debug, Serialize)]
struct Set {
    worker: String,
    generation: u64,
}

impl Endpoint {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Set {
                worker,
                addresses,
                generation,
                by,
            } => {
                let by = by.unwrap_or_else(|| whoami("dos-cluster endpoint set"));
                set(context, &worker, addresses, generation, &by).await
            }
            Verb::Get { worker, floor } => get(context, &worker, floor).await,
            Verb::List { job, floor } => list(context, job.as_ref(), floor).await,
            Verb::Watch { job, exec, render } => {
                watch::watch(context, &job, &render, exec.as_deref()).await
            }
            Verb::Render {
                job,
                worker,
                render,
            } => rendered(context, job.as_ref(), worker.as_ref(), &render).await,
        }
    }
}

async fn set(
    context: &Context,
    worker: &WorkerRef,
    given: Vec<(String, String)>,
    generation: Option<u64>,
    by: &str,
) -> Result<Exit, Failure> {
    let addresses = arguments::addresses(given)?;
    let client = context.client()?;
    let generation = client.set_endpoint(worker, generation, addresses, by);
    let set = Set {
        worker: worker.to_string(),
        generation: generation.await?,
    };
    context.output.show(&set, |set| {
        fields(&[
            ("worker", set.worker.clone()),
            ("generation", set.generation.to_string()),
        ])
    })?;
    Ok(Exit::Done)
}

async fn get(
    context: &Context,
    worker: &WorkerRef,
    floor: FloorArguments,
) -> Result<Exit, Failure> {
    let client = context.client()?;
    let listed = client.endpoints(None, Some(worker), floor.floor()).await?;
    let Some(row) = listed.endpoints.iter().next().map(Row::of) else {
        return Err(none_of(worker));
    };
    context.output.show(&row, |row| {
        let mut shown = fields(&[
            ("worker", row.worker.clone()),
            ("generation", row.generation.to_string()),
            ("set", moment(row.set_at_unix_ms)),
            ("by", row.set_by.clone()),
        ]);
        let cells = row.addresses.iter();
        let cells = cells.map(|(role, address)| vec![role.clone(), address.clone()]);
        shown.push('\n');
        shown.push_str(&table(&["role", "address"], &cells.collect::<Vec<_>>()));
        shown
    })?;
    say_if_stale(context, listed.stale, listed.applied_index);
    Ok(Exit::Done)
}

async fn list(
    context: &Context,
    job: Option<&JobName>,
    floor: FloorArguments,
) -> Result<Exit, Failure> {
    let client = context.client()?;
    let ListedEndpoints {
        endpoints,
        applied_index,
        stale,
    } = client.endpoints(job, None, floor.floor()).await?;
    let listed = Listed {
        applied_index,
        stale,
        endpoints: endpoints.iter().map(Row::of).collect(),
    };
    context.output.show(&listed, |listed| {
        let cells = listed.endpoints.iter().map(|row| {
            vec![
                row.worker.clone(),
                row.generation.to_string(),
                row.addresses(),
                moment(row.set_at_unix_ms),
                row.set_by.clone(),
            ]
        });
        let headers = ["worker", "generation", "addresses", "set", "by"];
        table(&headers, &cells.collect::<Vec<_>>())
    })?;
    say_if_stale(context, stale, applied_index);
    Ok(Exit::Done)
}

async fn rendered(
    context: &Context,
    job: Option<&JobName>,
    worker: Option<&WorkerRef>,
    render: &RenderArguments,
) -> Result<Exit, Failure> {
    render.check(false)?;
    let client = context.client()?;
    let listed = client.endpoints(job, worker, Floor::Linearizable).await?;
    if listed.endpoints.is_empty() {
        // An address is never taken back: what an older file holds is not replaced by nothing.
        return Err(match (worker, job) {
            (Some(worker), _) => none_of(worker),
            (None, Some(job)) => none_in(job),
            (None, None) => Failure::refused("no worker has an endpoint yet"),
        });
    }
    render.write(context, &listed.endpoints)?;
    Ok(Exit::Done)
}

fn none_of(worker: &WorkerRef) -> Failure {
    let why = format!("worker {worker} has no endpoint yet: nobody has said where it is reached");
    let step = format!("dos-cluster endpoint set {worker} ROLE=HOST:PORT");
    Failure::refused(why).try_next(step)
}

fn none_in(job: &JobName) -> Failure {
    let why =
        format!("no worker of job {job} has an endpoint yet: nobody has said where one is reached");
    let step = format!("dos-cluster endpoint set {job}/WORKER ROLE=HOST:PORT");
    Failure::refused(why).try_next(step)
}

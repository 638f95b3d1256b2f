//! `dos-cluster bench`: how fast a cluster is, and what that costs. One line of JSON for each run, on stdout; a table on stderr.

mod acks;
mod checkpoints;
mod cluster;
mod cold;
mod failover;
mod fill;
mod latency;
mod legacy;
mod line;
mod load;
mod native;
mod payload;
mod probe;
mod record;
mod report;
mod restart;
mod restore;
mod stop;
mod usage;
mod workload;

use std::path::PathBuf;

use clap::Args;

use super::{
    Context, arguments,
    exit::{Exit, Failure},
};
use crate::{client::Client, env::time::Duration};
use cluster::{Cluster, Meter};
use line::{Head, Line};
use load::{Load, Times};
use payload::Pool;
use probe::Effort;
use record::Record;
use stop::Stop;
use workload::{Name, Run, Shape};

/// Measure a cluster: appends a second, how late they are durable, what the servers use for it; restores, and lost leaders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster bench W1 W3 --start-nodes 3
  dos-cluster bench W3 --endpoints n1:7420,n2:7420,n3:7420 --measure 60s
  dos-cluster bench W2 --start-nodes 3 --writers 64 --window 16 --payload 256
  dos-cluster bench R1 F1 --probe --start-nodes 3 --dir /var/tmp/bench
  dos-cluster bench --report results.jsonl > report.html

Writers keep their windows full; an append counts once a majority has fsynced it. Without workloads: W1 to W6, but none with
--probe alone. What was written to a cluster given by --endpoints stays there, as a job bench-..., or by W6 as a worker
bench-... of the job of the legacy workers. Exit code 6 if something acknowledged was lost in F1.")]
pub(super) struct Bench {
    /// What to measure
    #[arg(value_name = "WORKLOAD", value_enum, ignore_case = true)]
    workloads: Vec<Name>,
    /// Measure first what the machine itself can do: syncs, calls, logs, and a copy over the loopback
    #[arg(long)]
    probe: bool,
    /// Measure nothing: the page of what earlier runs printed to stdout, to stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workloads", "start_nodes", "probe"])]
    report: Option<PathBuf>,
    /// Start this many fresh servers on this machine for each workload, instead of using the cluster at --endpoints
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    start_nodes: Option<u16>,
    /// Where started servers keep their data, and --probe its files; removed behind each workload [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where W6 finds legacy ports of the cluster at --endpoints
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        conflicts_with = "start_nodes"
    )]
    legacy_endpoints: Vec<String>,
    /// How long is measured
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = arguments::positive_duration)]
    measure: Duration,
    /// How long the load runs before that
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = arguments::positive_duration)]
    warm_up: Duration,
    /// Another number of writers than the workload's; of S1 the largest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: Option<u16>,
    /// Another number of appends in flight than the workload's, for each writer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Another number of bytes of an append than the workload's
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    payload: Option<u32>,
    /// Another size than 1GiB of the journal that R1 brings back, and of the file that --probe copies; than 4GiB of the largest
    /// journal that S1 appends to, and of all journals of T1
    #[arg(long, value_name = "BYTES", value_parser = arguments::bytes)]
    bytes: Option<u64>,
    /// How often the leader is killed in F1 [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: Option<u16>,
    /// Connections to each node that writers share
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
}

const ALL: [Name; 6] = [Name::W1, Name::W2, Name::W3, Name::W4, Name::W5, Name::W6];

/// Each part of a probe.
const PROBE_LASTS_MAX: Duration = Duration::from_secs(2);

impl Bench {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if let Some(file) = &self.report {
            context.output.raw(report::of_file(file)?.as_bytes())?;
            return Ok(Exit::Done);
        }
        if cfg!(debug_assertions) {
            context
                .output
                .talk("note: this program was built without optimisation (`cargo build --release` is with it)");
        }
        let runs = self.chosen()?;
        let pool = Pool::new();
        let mut lines = Vec::new();
        let stop = Stop::listen()?;
        let ended = async {
            if self.probe {
                let line = probe::run(self.dir.as_deref(), self.effort(), &stop).await?;
                line.print(&context.output)?;
                lines.push(line);
            }
            for run in runs {
                self.one(context, run, &pool, &stop, &mut lines).await?;
            }
            Ok(Exit::Done)
        }
        .await;
        Line::tables(&lines, &context.output);
        ended
    }

    /// What is measured; refused before anything is, if it cannot be.
    fn chosen(&self) -> Result<Vec<Run>, Failure> {
        let has_legacy = self.start_nodes.is_some() || !self.legacy_endpoints.is_empty();
        let mut names = self.workloads.clone();
        if names.is_empty() && !self.probe {
            names.extend(ALL);
            names.retain(|name| has_legacy || *name != Name::W6);
        }
        if names.contains(&Name::W6) && !has_legacy {
            let message = "cannot measure W6: where the legacy ports are is not known";
            let step = "--legacy-endpoints HOST:PORT,... or --start-nodes 3";
            return Err(Failure::usage(message).try_next(step));
        }
        let kills = names.iter().find(|name| name.kills());
        if let Some(name) = kills.filter(|_| self.start_nodes.is_none_or(|nodes| nodes < 3)) {
            let message = format!(
                "cannot measure {name:?}: it kills a server, which must be one of three that it has started"
            );
            return Err(Failure::usage(message).try_next("--start-nodes 3"));
        }
        Ok(names.into_iter().flat_map(|name| self.runs(name)).collect())
    }

    fn runs(&self, name: Name) -> Vec<Run> {
        let shape = self.shape(name);
        if name == Name::S1 {
            let writers_max = self.writers.map_or(1024, usize::from);
            return Run::growing(shape, writers_max, self.bytes.unwrap_or(4 << 30));
        }
        let journal_bytes = match name {
            Name::R1 => self.bytes.unwrap_or(1 << 30),
            Name::T1 => self.bytes.unwrap_or(4 << 30),
            _ => 0,
        };
        vec![Run {
            name,
            shape,
            journal_bytes,
        }]
    }

    fn shape(&self, name: Name) -> Shape {
        let shape = name.shape();
        Shape {
            writers: self.writers.map_or(shape.writers, usize::from),
            window: self.window.map_or(shape.window, usize::from),
            payload: self.payload.map_or(shape.payload, |bytes| bytes as usize),
        }
    }

    fn effort(&self) -> Effort {
        Effort {
            lasts: self.measure.min(PROBE_LASTS_MAX),
            copied_bytes: self.bytes.unwrap_or(1 << 30),
        }
    }

    fn times(&self) -> Times {
        Times {
            warm_up: self.warm_up,
            measured: self.measure,
        }
    }

    /// One run on a cluster of its own, or on the one that is given.
    async fn one(
        &self,
        context: &Context,
        run: Run,
        pool: &Pool,
        stop: &Stop,
        lines: &mut Vec<Line>,
    ) -> Result<(), Failure> {
        let mut cluster = match self.start_nodes {
            Some(nodes) => Cluster::fresh(context, self.dir.as_deref(), nodes)?,
            None => Cluster::given(context, &self.legacy_endpoints),
        };
        let print = |line: Line| {
            line.print(&context.output)?;
            lines.push(line);
            Ok(())
        };
        let measured = stop.or(async {
            cluster.start().await?;
            self.measure(&mut cluster, run, pool, print).await
        });
        let measured = measured.await;
        let ended = cluster.end().await;
        measured.and(ended)
    }

    async fn measure(
        &self,
        cluster: &mut Cluster,
        run: Run,
        pool: &Pool,
        mut print: impl FnMut(Line) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (shape, times) = (run.shape, self.times());
        let line = match run.name {
            Name::C1 => {
                let clients = self.clients(cluster)?;
                Line::of(&checkpoints::run(cluster, &clients, pool, shape, times).await?)
            }
            Name::F1 => {
                let repeat = usize::from(self.repeat.unwrap_or(10));
                let load = (shape, self.warm_up);
                return failover::run(cluster, pool, load, repeat, print).await;
            }
            Name::R1 => return restore::run(cluster, pool, run.journal_bytes, print).await,
            Name::T1 => restart::run(cluster, pool, run.journal_bytes).await,
            _ => Line::of(&self.appends(cluster, run, pool).await?),
        };
        print(line?)
    }

    fn clients(&self, cluster: &Cluster) -> Result<Vec<Client>, Failure> {
        (0..self.connections).map(|_| cluster.client()).collect()
    }

    /// Writers that append.
    async fn appends(&self, cluster: &Cluster, run: Run, pool: &Pool) -> Result<Record, Failure> {
        let shape = run.shape;
        let mut meter = Meter::new(cluster);
        let worker = native::fresh_worker()?;
        if run.journal_bytes > 0 {
            let journal = native::journal(&worker, 0);
            fill::fill(&cluster.client()?, &journal, pool, run.journal_bytes).await?;
        }
        let (load, conns) = if run.name == Name::W6 {
            let writers = legacy::open(&cluster.legacy, shape).await?;
            (Load::start(writers, shape, pool, None), shape.writers)
        } else {
            let clients = self.clients(cluster)?;
            let writers = native::open(&clients, &worker, shape).await?;
            (Load::start(writers, shape, pool, None), clients.len())
        };
        let outcome = load.run(self.times(), || meter.read()).await;
        let used = meter.used();
        let head = Head::new(run.name, cluster);
        Ok(Record::new(head, run, conns, &outcome, used.as_ref()))
    }
}

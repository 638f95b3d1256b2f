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
mod restore;
mod usage;
mod workload;

use std::path::PathBuf;

use clap::Args;

use super::{
    Context, arguments,
    exit::{Exit, Failure},
    signals,
};
use crate::{client::Client, env::time::Duration};
use cluster::{Cluster, Meter};
use line::{Head, Line};
use load::{Load, Times};
use payload::Pool;
use probe::Effort;
use record::Record;
use workload::{Name, Shape};

/// Measure a cluster: appends a second, how late they are durable, what the servers use for it; restores, and lost leaders
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster bench W1 W3 --start-nodes 3
  dos-cluster bench W3 --endpoints n1:7420,n2:7420,n3:7420 --measure 60s
  dos-cluster bench W2 --start-nodes 3 --writers 64 --window 16 --payload 256
  dos-cluster bench R1 F1 --probe --start-nodes 3 --dir /var/tmp/bench

Writers keep their windows full; an append counts once a majority has fsynced it. Without workloads: W1 to W6; with
--probe alone: none. What was
written to a cluster given by --endpoints stays there, as worker w of a job bench-...")]
pub(super) struct Bench {
    /// What to measure
    #[arg(value_name = "WORKLOAD", value_enum, ignore_case = true)]
    workloads: Vec<Name>,
    /// Measure first what the machine itself can do: syncs, calls, logs, and a copy over the loopback
    #[arg(long)]
    probe: bool,
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
    /// Another number of writers than the workload's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: Option<u16>,
    /// Another number of appends in flight than the workload's, for each writer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Another number of bytes of an append than the workload's
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    payload: Option<u32>,
    /// Another size of the journal that R1 brings back, and of the file that --probe copies [default: 1GiB]
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
        if cfg!(debug_assertions) {
            context
                .output
                .talk("note: this program was built without optimisation (`cargo build --release` is with it)");
        }
        let workloads = self.chosen()?;
        let pool = Pool::new();
        let mut lines = Vec::new();
        let stop = signals::stop_signal()?;
        let all = async {
            if self.probe {
                let line = probe::run(self.dir.as_deref(), self.effort()).await?;
                line.print(&context.output)?;
                lines.push(line);
            }
            for workload in workloads {
                self.one(context, workload, &pool, &mut lines).await?;
            }
            Ok(Exit::Done)
        };
        let ended = tokio::select! {
            ended = all => ended,
            () = stop => Err(Failure::error("a signal stopped the measurement before its end")),
        };
        Line::tables(&lines, &context.output);
        ended
    }

    /// What is measured; refused before anything is, if it cannot be.
    fn chosen(&self) -> Result<Vec<Name>, Failure> {
        let has_legacy = self.start_nodes.is_some() || !self.legacy_endpoints.is_empty();
        if self.workloads.is_empty() && self.probe {
            return Ok(Vec::new());
        }
        if self.workloads.is_empty() {
            let all = ALL.into_iter();
            return Ok(all.filter(|name| has_legacy || *name != Name::W6).collect());
        }
        if self.workloads.contains(&Name::W6) && !has_legacy {
            let failure =
                Failure::usage("cannot measure W6: where the legacy ports are is not known");
            return Err(failure.try_next("--legacy-endpoints HOST:PORT,... or --start-nodes 3"));
        }
        if self.workloads.contains(&Name::F1) && self.start_nodes.is_none_or(|nodes| nodes < 3) {
            let message = "cannot measure F1: it kills a server, which must be one of three that it has started";
            return Err(Failure::usage(message).try_next("--start-nodes 3"));
        }
        Ok(self.workloads.clone())
    }

    fn shape(&self, workload: Name) -> Shape {
        let shape = workload.shape();
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

    /// One workload on a cluster of its own, or on the one that is given.
    async fn one(
        &self,
        context: &Context,
        workload: Name,
        pool: &Pool,
        lines: &mut Vec<Line>,
    ) -> Result<(), Failure> {
        let mut cluster = match self.start_nodes {
            Some(nodes) => Cluster::start(context, self.dir.as_deref(), nodes).await?,
            None => Cluster::given(context, &self.legacy_endpoints),
        };
        let print = |line: Line| {
            line.print(&context.output)?;
            lines.push(line);
            Ok(())
        };
        let measured = self.measure(&mut cluster, workload, pool, print).await;
        let ended = cluster.end().await;
        measured.and(ended)
    }

    async fn measure(
        &self,
        cluster: &mut Cluster,
        workload: Name,
        pool: &Pool,
        mut print: impl FnMut(Line) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match workload {
            Name::R1 => restore::run(cluster, pool, self.bytes.unwrap_or(1 << 30), print).await,
            Name::C1 => {
                let (shape, clients) = (self.shape(workload), self.clients(cluster)?);
                let times = self.times();
                let run = checkpoints::run(cluster, &clients, pool, shape, times);
                print(Line::of(&run.await?)?)
            }
            Name::F1 => {
                let shape = self.shape(workload);
                let repeat = usize::from(self.repeat.unwrap_or(10));
                print(failover::run(cluster, pool, shape, self.warm_up, repeat).await?)
            }
            _ => print(Line::of(&self.appends(cluster, workload, pool).await?)?),
        }
    }

    fn clients(&self, cluster: &Cluster) -> Result<Vec<Client>, Failure> {
        (0..self.connections).map(|_| cluster.client()).collect()
    }

    /// Writers that append.
    async fn appends(
        &self,
        cluster: &Cluster,
        workload: Name,
        pool: &Pool,
    ) -> Result<Record, Failure> {
        let shape = self.shape(workload);
        let mut meter = Meter::new(cluster);
        let (load, conns) = if workload == Name::W6 {
            let writers = legacy::open(&cluster.legacy, shape).await?;
            (Load::start(writers, shape, pool, None), shape.writers)
        } else {
            let clients = self.clients(cluster)?;
            let writers = native::open(&clients, &native::fresh_worker()?, shape).await?;
            (Load::start(writers, shape, pool, None), clients.len())
        };
        let outcome = load.run(self.times(), || meter.read()).await;
        let used = meter.used();
        let head = Head::new(workload, cluster);
        Ok(Record::new(head, shape, conns, &outcome, used.as_ref()))
    }
}

//! `dos-cluster bench`: how fast a cluster is, and what that costs. One line of JSON for each run, on stdout; a table on stderr.

mod load;
mod payload;
mod record;
mod usage;
mod workload;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    Context, arguments,
    dev::{self, DevNode, Layout},
    exit::{self, Exit, Failure},
    signals,
};
use crate::{
    client::Client,
    domain::{JobName, WorkerName, WorkerRef},
    env::{fs, rng, time::Duration},
};
use payload::Pool;
use record::{Reading, Record, Used};
use usage::Usage;
use workload::{Name, Shape};

/// Measure appends: how many a second, how late they are durable, and what the servers use for it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster bench W1 W3 --start-nodes 3
  dos-cluster bench W3 --endpoints n1:7420,n2:7420,n3:7420 --measure 60s
  dos-cluster bench W2 --start-nodes 3 --writers 64 --window 16 --payload 256

Writers keep their windows full; an append counts once a majority has fsynced it. Without workloads: W1 to W5. What was
written to a cluster given by --endpoints stays there, as worker w of a job bench-...")]
pub(super) struct Bench {
    /// What to measure
    #[arg(value_name = "WORKLOAD", value_enum, ignore_case = true)]
    workloads: Vec<Name>,
    /// Start this many fresh servers on this machine for each workload, instead of using the cluster at --endpoints
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    start_nodes: Option<u16>,
    /// Where started servers keep their data; removed behind each workload [default: a temporary directory]
    #[arg(long, value_name = "DIR", requires = "start_nodes")]
    dir: Option<PathBuf>,
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
    /// Connections to each node that writers share
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
}

const ALL: [Name; 5] = [Name::W1, Name::W2, Name::W3, Name::W4, Name::W5];

impl Bench {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if cfg!(debug_assertions) {
            context
                .output
                .talk("note: this program was built without optimisation (`cargo build --release` is with it)");
        }
        let workloads = match self.workloads.is_empty() {
            true => ALL.to_vec(),
            false => self.workloads.clone(),
        };
        let pool = Pool::new();
        let mut records = Vec::new();
        let stop = signals::stop_signal()?;
        let all = async {
            for workload in workloads {
                let record = self.one(context, workload, &pool).await?;
                let line = serde_json::to_string(&record)
                    .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?;
                context.output.raw(format!("{line}\n").as_bytes())?;
                records.push(record);
            }
            Ok(Exit::Done)
        };
        let ended = tokio::select! {
            ended = all => ended,
            () = stop => Err(Failure::error("a signal stopped the measurement before its end")),
        };
        if !records.is_empty() {
            context.output.talk(&Record::table(&records));
        }
        ended
    }

    fn shape(&self, workload: Name) -> Shape {
        let shape = workload.shape();
        Shape {
            writers: self.writers.map_or(shape.writers, usize::from),
            window: self.window.map_or(shape.window, usize::from),
            payload: self.payload.map_or(shape.payload, |bytes| bytes as usize),
        }
    }

    async fn one(&self, context: &Context, workload: Name, pool: &Pool) -> Result<Record, Failure> {
        let Some(count) = self.start_nodes else {
            return self.measure(context, workload, pool, None).await;
        };
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => {
                std::env::temp_dir().join(format!("dos-cluster-bench-{:08x}", rng::u64() >> 32))
            }
        };
        let mut servers = Vec::new();
        let record = async {
            let layout = Layout::open(&dir, Some(count), None)?;
            dev::start_cluster(context, &layout, &mut servers).await?;
            let local = Local {
                dir: &dir,
                endpoints: layout.endpoints(),
                pids: servers.iter().filter_map(DevNode::pid).collect(),
            };
            self.measure(context, workload, pool, Some(&local)).await
        }
        .await;
        dev::stop_all(&mut servers, context).await;
        fs::remove_dir_all(&dir).map_err(|error| exit::cannot("remove", &dir, &error))?;
        record
    }

    async fn measure(
        &self,
        context: &Context,
        workload: Name,
        pool: &Pool,
        local: Option<&Local<'_>>,
    ) -> Result<Record, Failure> {
        let shape = self.shape(workload);
        let endpoints = local.map_or(&context.endpoints, |local| &local.endpoints);
        let clients: Vec<Client> = (0..self.connections)
            .map(|_| context.client_of(endpoints))
            .collect::<Result<_, _>>()?;
        let job = format!("bench-{:08x}", rng::u64() >> 32);
        let worker = WorkerRef {
            job: JobName::new(&job).map_err(|error| Failure::error(error.to_string()))?,
            worker: WorkerName::new("w").map_err(|error| Failure::error(error.to_string()))?,
        };
        let times = (self.warm_up, self.measure);
        let device = || {
            rustix::fs::sync();
            local.map_or(0, |local| usage::device_write_bytes(local.dir))
        };
        let before = device();
        let mut readings = Vec::new();
        let mut at = || readings.push(local.map(Local::read));
        let outcome = load::run(&clients, &worker, shape, times, pool, &mut at).await?;
        let device_bytes = device().saturating_sub(before);
        let mut readings = readings.into_iter().flatten();
        let used = readings.next().zip(readings.next());
        let used = used.map(|(before, after)| Used {
            before,
            after,
            device_bytes,
        });
        let (nodes, conns) = (endpoints.len(), clients.len());
        Ok(Record::of(
            workload,
            shape,
            (nodes, conns),
            &outcome,
            used.as_ref(),
        ))
    }
}

/// Servers that this command has started.
struct Local<'a> {
    dir: &'a Path,
    endpoints: Vec<String>,
    pids: Vec<u32>,
}

impl Local<'_> {
    fn read(&self) -> Reading {
        Reading {
            servers: self.pids.iter().map(|pid| Usage::of(*pid)).collect(),
            client_cpu_s: Usage::of(std::process::id()).cpu_s,
            machine_cpu_s: usage::machine_cpu_s(),
        }
    }
}

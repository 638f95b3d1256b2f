//! What a run prints: a line of JSON, whose names are shared with the measurements of other systems, and a table for people.

use serde::Serialize;

use super::{
    load::Outcome,
    usage::Usage,
    workload::{Name, Shape},
};
use crate::{cli::output::table, env::time};

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    peer: &'static str,
    version: &'static str,
    fsync_at_quorum: bool,
    /// Built without optimisation: the figures say nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    debug_build: bool,
    workload: Name,
    t: u64,
    nodes: usize,
    payload: usize,
    writers: usize,
    window: usize,
    conns: usize,
    secs: f64,
    ops_s: f64,
    mb_s: f64,
    p50_us: u64,
    p95_us: u64,
    p99_us: u64,
    max_us: u64,
    /// Of servers that this command started.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    servers: Option<Servers>,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Servers {
    server_cpu_s_per_gb: f64,
    server_cpu_s: Vec<f64>,
    client_cpu_s: f64,
    other_cpu_s: f64,
    rss_peak_mb: Vec<f64>,
    proc_write_per_byte: f64,
    device_write_per_byte: f64,
}

/// What was used at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) servers: Vec<Usage>,
    pub(super) client_cpu_s: f64,
    pub(super) machine_cpu_s: f64,
}

/// What was used between two moments, and written to the device in the whole run.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) before: Reading,
    pub(super) after: Reading,
    pub(super) device_bytes: u64,
}

impl Record {
    pub(super) fn of(
        workload: Name,
        shape: Shape,
        (nodes, conns): (usize, usize),
        outcome: &Outcome,
        used: Option<&Used>,
    ) -> Self {
        let secs = outcome.elapsed.as_secs_f64();
        let (appends, payload) = (float(outcome.appends), float(shape.payload as u64));
        let at = |quantile| outcome.latency.value_at_quantile(quantile);
        Self {
            peer: "dos-cluster",
            version: env!("CARGO_PKG_VERSION"),
            fsync_at_quorum: true,
            debug_build: cfg!(debug_assertions),
            workload,
            t: time::unix_millis() / 1000,
            nodes,
            payload: shape.payload,
            writers: shape.writers,
            window: shape.window,
            conns,
            secs: round(secs, 1),
            ops_s: round(appends / secs, 0),
            mb_s: round(appends * payload / secs / 1e6, 2),
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            max_us: outcome.latency.max(),
            servers: used.map(|used| Servers::of(shape, outcome, used)),
            errors: outcome.errors,
            last_error: outcome.last_error.clone(),
        }
    }

    pub(super) fn table(records: &[Self]) -> String {
        let millis = |micros: u64| format!("{:.2}", float(micros) / 1e3);
        let row = |record: &Self| {
            let servers = record.servers.as_ref();
            let of = |figure: fn(&Servers) -> String| servers.map_or("-".to_owned(), figure);
            vec![
                format!("{:?}", record.workload),
                format!("{:.0}", record.ops_s),
                format!("{:.1}", record.mb_s),
                millis(record.p50_us),
                millis(record.p95_us),
                millis(record.p99_us),
                millis(record.max_us),
                of(|servers| format!("{:.1}", servers.server_cpu_s_per_gb)),
                of(|servers| {
                    let most = servers.rss_peak_mb.iter().copied().fold(0.0, f64::max);
                    format!("{most:.0}")
                }),
                of(|servers| format!("{:.2}", servers.device_write_per_byte)),
                record.errors.to_string(),
            ]
        };
        let head = [
            "workload",
            "ops/s",
            "MB/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "CPU s/GB",
            "peak MB",
            "written/byte",
            "errors",
        ];
        table(&head, &records.iter().map(row).collect::<Vec<_>>())
    }
}

impl Servers {
    fn of(shape: Shape, outcome: &Outcome, used: &Used) -> Self {
        let Used {
            before,
            after,
            device_bytes,
        } = used;
        let payload = float(shape.payload as u64);
        let bytes = (float(outcome.appends) * payload).max(1.0);
        let total = (float(outcome.total_appends) * payload).max(1.0);
        let pairs = || before.servers.iter().zip(&after.servers);
        let cpu: Vec<f64> = pairs()
            .map(|(before, after)| after.cpu_s - before.cpu_s)
            .collect();
        let written = pairs().map(|(before, after)| after.write_bytes - before.write_bytes);
        let all: f64 = cpu.iter().sum();
        let client = after.client_cpu_s - before.client_cpu_s;
        let machine = after.machine_cpu_s - before.machine_cpu_s;
        let peaks = after.servers.iter().map(|usage| usage.peak_rss);
        Self {
            server_cpu_s_per_gb: round(all / (bytes / 1e9), 1),
            server_cpu_s: cpu.iter().map(|cpu| round(*cpu, 2)).collect(),
            client_cpu_s: round(client, 2),
            other_cpu_s: round(machine - all - client, 2),
            rss_peak_mb: peaks.map(|bytes| round(float(bytes) / 1e6, 0)).collect(),
            proc_write_per_byte: round(float(written.sum()) / bytes, 2),
            device_write_per_byte: round(float(*device_bytes) / total, 2),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures of three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

fn round(figure: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (figure * scale).round() / scale
}

//! A run of writers that append, as it is printed.

use serde::Serialize;

use super::{
    cluster::Used,
    latency::Spread,
    line::{Head, Printed, float, millis, round},
    load::Outcome,
    workload::Run,
};

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    #[serde(flatten)]
    head: Head,
    payload: usize,
    writers: usize,
    window: usize,
    /// What each journal had before.
    #[serde(skip_serializing_if = "is_nothing")]
    journal_bytes: u64,
    conns: usize,
    secs: f64,
    ops_s: f64,
    mb_s: f64,
    #[serde(flatten)]
    latency: Spread,
    /// Of servers that this command started.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    servers: Option<ServerUse>,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// What servers used for what was measured.
#[derive(Debug, Serialize)]
pub(super) struct ServerUse {
    pub(super) server_cpu_s_per_gb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us_per_op: Option<f64>,
    server_cpu_s: Vec<f64>,
    client_cpu_s: f64,
    other_cpu_s: f64,
    rss_peak_mb: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proc_write_per_byte: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_write_per_byte: Option<f64>,
    /// Where reading is measured: what of it came from the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proc_read_per_byte: Option<f64>,
}

/// What was done for what was used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// Operations that counted; 0 if it was none.
    pub(super) ops: u64,
    /// Their payload.
    pub(super) bytes: u64,
    /// What was written in the whole run, warm-up and filling included; 0 if it is about reading.
    pub(super) total_bytes: u64,
}

impl Record {
    pub(super) fn new(
        head: Head,
        run: Run,
        conns: usize,
        outcome: &Outcome,
        used: Option<&Used>,
    ) -> Self {
        let shape = run.shape;
        let secs = outcome.elapsed.as_secs_f64();
        let (appends, payload) = (outcome.latencies.count(), shape.payload as u64);
        let done = Done {
            ops: appends,
            bytes: appends * payload,
            total_bytes: outcome.total_appends * payload + run.journal_bytes,
        };
        Self {
            head,
            payload: shape.payload,
            writers: shape.writers,
            window: shape.window,
            journal_bytes: run.journal_bytes,
            conns,
            secs: round(secs, 1),
            ops_s: round(float(appends) / secs, 0),
            mb_s: round(float(done.bytes) / secs / 1e6, 2),
            latency: Spread::of(&outcome.latencies),
            servers: used.map(|used| ServerUse::new(used, done)),
            errors: outcome.errors,
            last_error: outcome.last_error.clone(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

impl Printed for Record {
    const COLUMNS: &'static [&'static str] = &[
        "workload",
        "writers",
        "journal MB",
        "ops/s",
        "MB/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "CPU s/GB",
        "CPU us/op",
        "peak MB",
        "written/byte",
        "errors",
    ];

    fn row(&self) -> Vec<String> {
        let servers = self.servers.as_ref();
        let of = |figure: fn(&ServerUse) -> String| servers.map_or("-".to_owned(), figure);
        vec![
            self.head.name(),
            self.writers.to_string(),
            format!("{:.0}", float(self.journal_bytes) / 1e6),
            format!("{:.0}", self.ops_s),
            format!("{:.1}", self.mb_s),
            millis(self.latency.p50_us),
            millis(self.latency.p95_us),
            millis(self.latency.p99_us),
            millis(self.latency.max_us),
            of(|servers| format!("{:.1}", servers.server_cpu_s_per_gb)),
            of(|servers| {
                let cost = servers.server_cpu_us_per_op;
                cost.map_or("-".to_owned(), |micros| format!("{micros:.0}"))
            }),
            of(|servers| {
                let most = servers.rss_peak_mb.iter().copied().fold(0.0, f64::max);
                format!("{most:.0}")
            }),
            of(|servers| {
                let written = servers.device_write_per_byte;
                written.map_or("-".to_owned(), |bytes| format!("{bytes:.2}"))
            }),
            self.errors.to_string(),
        ]
    }
}

impl ServerUse {
    pub(super) fn new(used: &Used, done: Done) -> Self {
        let Used {
            before,
            after,
            device_bytes,
        } = used;
        let bytes = float(done.bytes.max(1));
        let pairs = || before.servers.iter().zip(&after.servers);
        let cpu: Vec<f64> = pairs()
            .map(|(before, after)| after.cpu_s - before.cpu_s)
            .collect();
        let written =
            pairs().map(|(before, after)| after.write_bytes.saturating_sub(before.write_bytes));
        let read =
            pairs().map(|(before, after)| after.read_bytes.saturating_sub(before.read_bytes));
        let writes = done.total_bytes > 0;
        let all: f64 = cpu.iter().sum();
        let client = after.client_cpu_s - before.client_cpu_s;
        let machine = after.machine_cpu_s - before.machine_cpu_s;
        let peaks = after.servers.iter().map(|usage| usage.peak_rss);
        Self {
            server_cpu_s_per_gb: round(all / (bytes / 1e9), 1),
            server_cpu_us_per_op: (done.ops > 0).then(|| round(all * 1e6 / float(done.ops), 1)),
            server_cpu_s: cpu.iter().map(|cpu| round(*cpu, 2)).collect(),
            client_cpu_s: round(client, 2),
            other_cpu_s: round(machine - all - client, 2),
            rss_peak_mb: peaks.map(|bytes| round(float(bytes) / 1e6, 0)).collect(),
            proc_write_per_byte: writes.then(|| round(float(written.sum()) / bytes, 2)),
            device_write_per_byte: writes
                .then(|| round(float(*device_bytes) / float(done.total_bytes), 2)),
            proc_read_per_byte: (!writes).then(|| round(float(read.sum()) / bytes, 2)),
        }
    }
}

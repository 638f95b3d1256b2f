//! What a node counts, in Prometheus' text format, every name with the prefix `dos_`.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The content type of metrics in the text format of OpenMetrics, which Prometheus reads.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The node's metrics. Cheap to clone.
#[derive(Clone)]
pub(super) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    /// What the process counts besides.
    beside: OnceLock<Arc<Registry>>,
    batches: Counter,
    appends: Counter,
    streams: Gauge,
    log_syncs: Histogram,
    log_synced_bytes: Counter,
    term: Gauge,
    leader: Gauge,
    is_leader: Gauge,
    last_log_index: Gauge<u64, AtomicU64>,
    applied_index: Gauge<u64, AtomicU64>,
    snapshot_index: Gauge<u64, AtomicU64>,
    purged_index: Gauge<u64, AtomicU64>,
    log_bytes: Gauge<u64, AtomicU64>,
    state_bytes: Gauge<u64, AtomicU64>,
    write_gate_closed: Gauge,
    damaged_records: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is read off the node when its metrics are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Observed {
    /// Raft's term.
    pub(super) term: u64,
    /// The leader's number, 0 when none is known.
    pub(super) leader: u64,
    /// This node leads.
    pub(super) is_leader: bool,
    /// Last log index.
    pub(super) last_log_index: u64,
    /// Applied index.
    pub(super) applied_index: u64,
    /// Index of the newest snapshot.
    pub(super) snapshot_index: u64,
    /// Index up to which the log is purged.
    pub(super) purged_index: u64,
    /// Bytes of the log on disk.
    pub(super) log_bytes: u64,
    /// Bytes of the state on disk, about.
    pub(super) state_bytes: u64,
    /// The first I/O failure closed the node for writes.
    pub(super) write_gate_closed: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        let sync_buckets =
            prometheus_client::metrics::histogram::exponential_buckets(0.000_05, 2.0, 18);
        let mut inner = Inner {
            registry: Registry::with_prefix("dos"),
            beside: OnceLock::new(),
            batches: Counter::default(),
            appends: Counter::default(),
            streams: Gauge::default(),
            log_syncs: Histogram::new(sync_buckets),
            log_synced_bytes: Counter::default(),
            term: Gauge::default(),
            leader: Gauge::default(),
            is_leader: Gauge::default(),
            last_log_index: Gauge::default(),
            applied_index: Gauge::default(),
            snapshot_index: Gauge::default(),
            purged_index: Gauge::default(),
            log_bytes: Gauge::default(),
            state_bytes: Gauge::default(),
            write_gate_closed: Gauge::default(),
            damaged_records: Counter::default(),
        };
        register(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one statement per metric")]
fn register(i: &mut Inner) {
    let r = &mut i.registry;
    r.register(
        "append_batches",
        "Batches of appends sent to the leader",
        i.batches.clone(),
    );
    r.register(
        "appends",
        "Appends accepted from clients of this node",
        i.appends.clone(),
    );
    r.register(
        "append_streams",
        "Append streams open on this node",
        i.streams.clone(),
    );
    r.register_with_unit(
        "log_sync",
        "Time of one sync of the log, with the writes before it",
        Unit::Seconds,
        i.log_syncs.clone(),
    );
    r.register_with_unit(
        "log_synced",
        "Bytes synced to the log",
        Unit::Bytes,
        i.log_synced_bytes.clone(),
    );
    r.register("raft_term", "Raft's term", i.term.clone());
    r.register(
        "raft_leader_id",
        "The leader's number; 0: none known",
        i.leader.clone(),
    );
    r.register("raft_is_leader", "1 on the leader", i.is_leader.clone());
    r.register(
        "raft_last_log_index",
        "The last log index of this node",
        i.last_log_index.clone(),
    );
    r.register(
        "raft_applied_index",
        "The last log index applied here",
        i.applied_index.clone(),
    );
    r.register(
        "raft_snapshot_index",
        "The log index of the newest snapshot",
        i.snapshot_index.clone(),
    );
    r.register(
        "raft_purged_index",
        "The log index up to which the log is purged",
        i.purged_index.clone(),
    );
    r.register_with_unit(
        "log_size",
        "Size of the log on disk",
        Unit::Bytes,
        i.log_bytes.clone(),
    );
    r.register_with_unit(
        "state_size",
        "Size of the state on disk, about",
        Unit::Bytes,
        i.state_bytes.clone(),
    );
    r.register(
        "write_gate_closed",
        "1 after the first failed write or sync, until restart",
        i.write_gate_closed.clone(),
    );
    r.register(
        "damaged_records",
        "Damaged records met; none was served",
        i.damaged_records.clone(),
    );
}

impl Metrics {
    /// A batch of so many appends left for the leader.
    pub(super) fn batch(&self, appends: usize) {
        self.inner.batches.inc();
        self.inner.appends.inc_by(appends as u64);
    }

    /// An append stream was opened (`1`) or ended (`-1`).
    pub(super) fn streams(&self, change: i64) {
        self.inner.streams.inc_by(change);
    }

    /// The log was synced.
    pub(super) fn log_sync(&self, took: Duration, bytes: usize) {
        self.inner.log_syncs.observe(took.as_secs_f64());
        self.inner.log_synced_bytes.inc_by(bytes as u64);
    }

    /// A damaged record was met and not served.
    pub(super) fn damaged(&self) {
        self.inner.damaged_records.inc();
    }

    /// Shows these, too, from now on; only the first ones.
    pub(super) fn show_beside(&self, others: Arc<Registry>) {
        self.inner.beside.get_or_init(|| others);
    }

    /// The metrics as text, with what was observed just now.
    #[must_use]
    pub(super) fn text(&self, observed: Observed) -> String {
        let i = &*self.inner;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        i.term.set(signed(observed.term));
        i.leader.set(signed(observed.leader));
        i.is_leader.set(i64::from(observed.is_leader));
        i.last_log_index.set(observed.last_log_index);
        i.applied_index.set(observed.applied_index);
        i.snapshot_index.set(observed.snapshot_index);
        i.purged_index.set(observed.purged_index);
        i.log_bytes.set(observed.log_bytes);
        i.state_bytes.set(observed.state_bytes);
        i.write_gate_closed
            .set(i64::from(observed.write_gate_closed));
        let mut text = String::new();
        // Writing into a string cannot fail.
        for registry in std::iter::once(&i.registry).chain(i.beside.get().map(AsRef::as_ref)) {
            let _ = encode_registry(&mut text, registry);
        }
        let _ = encode_eof(&mut text);
        text
    }
}

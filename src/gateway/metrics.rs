//! What a gateway counts, every name with the prefix `dos_gateway_`.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    client::{AppendWatch, ClientError},
    domain::{Offset, Rejected},
};

/// The gateway's metrics. Cheap to clone.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    open_connections: Gauge,
    connections: Counter,
    held_requests: Gauge,
    append_streams: Gauge,
    fenced_streams: Counter,
    received: Counter,
    synced: Counter,
    buffered: Gauge,
    commands: Family<Labels, Counter>,
}

type Labels = [(&'static str, &'static str); 2];

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dos_gateway");
        let counts = Counts::default();
        register(&mut registry, &counts);
        Self {
            registry: Arc::new(registry),
            counts: Arc::new(counts),
        }
    }
}

fn register(r: &mut Registry, counts: &Counts) {
    r.register(
        "open_connections",
        "Connections of legacy workers that are open",
        counts.open_connections.clone(),
    );
    r.register(
        "connections",
        "Connections of legacy workers that were served",
        counts.connections.clone(),
    );
    r.register(
        "held_requests",
        "Requests of legacy workers that wait for the cluster",
        counts.held_requests.clone(),
    );
    r.register(
        "append_streams",
        "Append streams of legacy workers that are open",
        counts.append_streams.clone(),
    );
    r.register(
        "fenced_streams",
        "Append streams that a takeover or a newer writer ended",
        counts.fenced_streams.clone(),
    );
    r.register_with_unit(
        "received",
        "Bytes received in append streams",
        Unit::Bytes,
        counts.received.clone(),
    );
    r.register_with_unit(
        "synced",
        "Bytes of them that a majority has fsynced",
        Unit::Bytes,
        counts.synced.clone(),
    );
    r.register_with_unit(
        "buffered",
        "Bytes received in open append streams that are not durable yet; at most 512 MiB, and 64 KiB for each stream",
        Unit::Bytes,
        counts.buffered.clone(),
    );
    for command in Command::ALL {
        for outcome in Outcome::ALL {
            drop(counts.commands.get_or_create(&labels(command, outcome)));
        }
    }
    r.register(
        "commands",
        "Requests of legacy workers, by what was asked and what came of it",
        counts.commands.clone(),
    );
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    UseDir,
    List,
    Sync,
    Delete,
    Get,
    Append,
    /// Nothing that the protocol has.
    Unknown,
}

impl Command {
    const ALL: [Self; 7] = [
        Self::UseDir,
        Self::List,
        Self::Sync,
        Self::Delete,
        Self::Get,
        Self::Append,
        Self::Unknown,
    ];

    /// By a request's payload, which need not be right otherwise.
    pub(super) fn of(payload: &[u8]) -> Self {
        match payload.first() {
            Some(b'u') => Self::UseDir,
            Some(b'l') => Self::List,
            Some(b's') => Self::Sync,
            Some(b'd') => Self::Delete,
            Some(b'g') => Self::Get,
            Some(b'a') => Self::Append,
            _ => Self::Unknown,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::UseDir => "usedir",
            Self::List => "list",
            Self::Sync => "sync",
            Self::Delete => "delete",
            Self::Get => "get",
            Self::Append => "append",
            Self::Unknown => "unknown",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done, and answered.
    Done,
    /// It was refused: by the rules, or for what it asked.
    Refused,
    /// The cluster did not carry it out in time.
    Unanswered,
    /// The worker was gone before the answer.
    Abandoned,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Unanswered, Self::Abandoned];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Abandoned => "abandoned",
        }
    }
}

fn labels(command: Command, outcome: Outcome) -> Labels {
    [("command", command.as_str()), ("outcome", outcome.as_str())]
}

impl Metrics {
    /// All of them, to be shown.
    pub(super) fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// A request was answered, or is not going to be.
    pub(super) fn command(&self, command: Command, outcome: Outcome) {
        let counted = self
            .counts
            .commands
            .get_or_create(&labels(command, outcome));
        counted.inc();
    }

    /// A connection is served from now on, until this is dropped.
    pub(super) fn connection(&self) -> ConnectionMeter {
        self.counts.connections.inc();
        self.counts.open_connections.inc();
        ConnectionMeter(self.clone())
    }

    /// A request waits for the cluster from now on, until this is dropped.
    pub(super) fn held(&self) -> HeldMeter {
        self.counts.held_requests.inc();
        HeldMeter(self.clone())
    }

    /// What waits for the cluster now.
    pub(super) fn waiting(&self) -> Waiting {
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        Waiting {
            requests: count(&self.counts.held_requests),
            bytes: count(&self.counts.buffered),
        }
    }

    /// An append stream is served from now on, until this is dropped; everything before `opened_at` is durable.
    pub(super) fn stream(&self, opened_at: Offset) -> StreamMeter {
        self.counts.append_streams.inc();
        StreamMeter {
            metrics: self.clone(),
            received: AtomicU64::new(opened_at.0),
            synced: AtomicU64::new(opened_at.0),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct ConnectionMeter(Metrics);

impl Drop for ConnectionMeter {
    fn drop(&mut self) {
        self.0.counts.open_connections.dec();
    }
}

/// What waits for the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Waiting {
    /// Requests that are held.
    pub(super) requests: u64,
    /// Bytes of append streams that are not durable.
    pub(super) bytes: u64,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct HeldMeter(Metrics);

impl Drop for HeldMeter {
    fn drop(&mut self) {
        self.0.counts.held_requests.dec();
    }
}

/// An open append stream. What it has not synced when it is dropped is not buffered any longer.
#[derive(Debug)]
pub(super) struct StreamMeter {
    metrics: Metrics,
    /// Offsets, not counts.
    received: AtomicU64,
    synced: AtomicU64,
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl StreamMeter {
    /// So many bytes came.
    pub(super) fn received(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.received.fetch_add(bytes, Relaxed);
        self.metrics.counts.received.inc_by(bytes);
        self.metrics.counts.buffered.inc_by(signed(bytes));
    }

    /// Everything before `durable` is synced.
    pub(super) fn synced(&self, durable: Offset) {
        let before = self.synced.fetch_max(durable.0, Relaxed);
        let bytes = durable.0.saturating_sub(before);
        self.metrics.counts.synced.inc_by(bytes);
        self.metrics.counts.buffered.dec_by(signed(bytes));
    }

    /// Counts what is synced as it comes, whether the worker reads its statuses or not. Cancelling it loses nothing.
    pub(super) async fn follow(&self, mut watch: AppendWatch) -> Infallible {
        loop {
            self.synced(watch.progress().durable);
            if !watch.changed().await {
                self.synced(watch.progress().durable);
                std::future::pending::<()>().await;
            }
        }
    }

    /// It ended, with everything before `durable` synced; perhaps with an error.
    pub(super) fn ended(&self, durable: Offset, error: Option<&ClientError>) {
        self.synced(durable);
        let fenced = matches!(
            error.and_then(ClientError::rejected),
            Some(Rejected::EpochFenced { .. } | Rejected::WriterFenced { .. })
        );
        if fenced {
            self.metrics.counts.fenced_streams.inc();
        }
    }
}

impl Drop for StreamMeter {
    fn drop(&mut self) {
        let left = self
            .received
            .load(Relaxed)
            .saturating_sub(self.synced.load(Relaxed));
        self.metrics.counts.buffered.dec_by(signed(left));
        self.metrics.counts.append_streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode(&mut text, &metrics.registry()).unwrap();
        text
    }

    #[test]
    fn a_stream_that_ends_leaves_its_counts_and_takes_its_buffer_away() {
        let metrics = Metrics::default();
        let stream = metrics.stream(Offset(1000));
        stream.received(10);
        stream.synced(Offset(1004));
        stream.synced(Offset(1002));
        let open = text(&metrics);
        drop(stream);
        let ended = text(&metrics);
        for (text, line) in [
            (&open, "dos_gateway_append_streams 1\n"),
            (&open, "dos_gateway_buffered_bytes 6\n"),
            (&ended, "dos_gateway_append_streams 0\n"),
            (&ended, "dos_gateway_buffered_bytes 0\n"),
            (&ended, "dos_gateway_received_bytes_total 10\n"),
            (&ended, "dos_gateway_synced_bytes_total 4\n"),
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_command_has_its_count_from_the_beginning() {
        let metrics = Metrics::default();
        metrics.command(Command::of(b"aname\t0"), Outcome::Refused);
        metrics.command(Command::of(b""), Outcome::Done);
        let text = text(&metrics);
        for line in [
            "dos_gateway_commands_total{command=\"append\",outcome=\"refused\"} 1",
            "dos_gateway_commands_total{command=\"append\",outcome=\"done\"} 0",
            "dos_gateway_commands_total{command=\"unknown\",outcome=\"done\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

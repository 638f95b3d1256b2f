//! What a mirror counts.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::super::metrics;
use crate::client::mirror_dir::MirrorSnapshot;

type Labels = Vec<(&'static str, String)>;

/// The metrics of a moment.
pub(super) fn text(snapshot: &MirrorSnapshot) -> String {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (local, durable, lag, files) = <(Gauges, Gauges, Gauges, Gauges)>::default();
    for phase in ["waiting", "streaming", "durable", "stopped"] {
        let phase = vec![("phase", phase.to_owned())];
        files.get_or_create(&phase).set(0);
    }
    for (name, file) in &snapshot.files {
        let journal = vec![("journal", name.to_string())];
        local.get_or_create(&journal).set(signed(file.local.0));
        durable.get_or_create(&journal).set(signed(file.durable.0));
        lag.get_or_create(&journal).set(signed(file.lag_bytes()));
        let phase = vec![("phase", file.phase.as_str().to_owned())];
        files.get_or_create(&phase).inc();
    }
    let reached: Gauge = Gauge::default();
    reached.set(i64::from(snapshot.outage.is_none()));
    let refused: Gauge = Gauge::default();
    refused.set(i64::try_from(snapshot.refused.len()).unwrap_or(i64::MAX));
    let mut registry = Registry::with_prefix("dos_mirror");
    registry.register("local_bytes", "Length of the local file", local);
    registry.register(
        "durable_bytes",
        "Bytes of it that a majority has fsynced",
        durable,
    );
    registry.register("lag_bytes", "Bytes of it that are not durable yet", lag);
    registry.register("files", "Files, by what their mirror does", files);
    registry.register(
        "worker_open",
        "Whether the cluster has answered since the start",
        reached,
    );
    registry.register(
        "refused_names",
        "Files whose names no journal can have",
        refused,
    );
    metrics::text(&registry)
}

type Gauges = Family<Labels, Gauge>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::mirror_dir::{FilePhase, FileStatus},
        domain::{JournalKind, Offset},
    };

    #[test]
    fn each_file_has_its_length_what_is_durable_and_the_lag() {
        let mut snapshot = MirrorSnapshot::default();
        let file = FileStatus {
            kind: JournalKind::Raw,
            local: Offset(10),
            durable: Offset(4),
            phase: FilePhase::Streaming,
        };
        snapshot.files.insert("a\"b".parse().unwrap(), file);
        let text = text(&snapshot);
        for line in [
            "dos_mirror_local_bytes{journal=\"a\\\"b\"} 10",
            "dos_mirror_durable_bytes{journal=\"a\\\"b\"} 4",
            "dos_mirror_lag_bytes{journal=\"a\\\"b\"} 6",
            "dos_mirror_files{phase=\"streaming\"} 1",
            "dos_mirror_files{phase=\"stopped\"} 0",
            "dos_mirror_worker_open 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

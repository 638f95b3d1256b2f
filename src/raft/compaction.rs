//! When a snapshot is built and the log behind it purged: by bytes, not by entries.
//!
//! A snapshot is built after every `snapshot_log_bytes` of synced log; then the log is purged up to the snapshot *before* it. So a
//! member that was away for less than that catches up from the log, and the log holds at most about two such stretches.

use std::{sync::Arc, time::Duration};

use openraft::{async_runtime::WatchReceiver, metrics::RaftMetrics};
use tokio::sync::Notify;

use super::{RaftHandle, types::TypeConfig};
use crate::{
    env::{task, time},
    storage::wal::Wal,
};

/// How often the log's size is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// What compaction begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Up to where the newest snapshot goes; `None` without one.
    pub(super) snapshot: Option<u64>,
    /// A snapshot is built after this much log.
    pub(super) log_bytes: u64,
}

/// Runs until Raft stops or `stop` is notified.
pub(super) fn start(raft: RaftHandle, wal: Wal, start: Start, stop: Arc<Notify>) {
    task::spawn(async move {
        tokio::select! {
            () = stop.notified() => {}
            () = run(&raft, &wal, start) => {}
        }
    });
}

async fn run(raft: &RaftHandle, wal: &Wal, start: Start) {
    // The log that an earlier run has written since: a node that is started often builds a snapshot all the same.
    let mut found = wal.bytes_after(start.snapshot);
    let mut synced_at_snapshot = wal.stats().synced_bytes;
    let mut purge_next = start.snapshot.unwrap_or(0);
    loop {
        time::sleep(PERIOD).await;
        let synced = wal.stats().synced_bytes;
        if found.saturating_add(synced - synced_at_snapshot) < start.log_bytes {
            continue;
        }
        let before = snapshot_index(raft);
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let wait = raft.wait(None);
        let newer = |metrics: &RaftMetrics<TypeConfig>| {
            metrics.snapshot.is_some_and(|id| id.index > before)
        };
        let built = wait.metrics(newer, "a newer snapshot");
        // One that is not built in time is tried again; while nothing new is applied there is nothing newer to build.
        if time::timeout(Duration::from_mins(5), built).await.is_err() {
            continue;
        }
        (found, synced_at_snapshot) = (0, synced);
        if purge_next > 0 && raft.trigger().purge_log(purge_next).await.is_err() {
            return;
        }
        purge_next = snapshot_index(raft);
    }
}

fn snapshot_index(raft: &RaftHandle) -> u64 {
    raft.metrics()
        .borrow_watched()
        .snapshot
        .map_or(0, |id| id.index)
}

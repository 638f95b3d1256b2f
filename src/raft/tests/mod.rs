//! openraft's own storage suite over our log and state machine, and the contracts that it does not check.

mod snapshots;
mod types;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use openraft::{
    StorageError,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;

use super::{
    log_store::LogStore,
    snapshot::SnapshotDir,
    state_machine::StateMachine,
    types::{Entry, LeaderId, LogId, Peer, TypeConfig, Vote},
};
use crate::storage::{
    WriteGate,
    state::{MemStore, StateStore},
    wal::{Wal, WalOptions},
};

fn open_wal(dir: &Path) -> Wal {
    let options = WalOptions {
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    Wal::open(&dir.join("log"), options, WriteGate::new())
        .unwrap()
        .0
}

fn open_log(dir: &Path) -> LogStore {
    LogStore::new(open_wal(dir))
}

fn open_state(dir: &Path, store: Arc<dyn StateStore>) -> StateMachine {
    let (snapshots, newest) = SnapshotDir::open(&dir.join("snapshots")).unwrap();
    StateMachine::open(store, snapshots, newest).unwrap().0
}

struct Builder {
    state: fn(&Path) -> Arc<dyn StateStore>,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let log = open_log(dir.path());
        let state = open_state(dir.path(), (self.state)(&dir.path().join("state")));
        Ok((dir, log, state))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_over_the_memory_store() {
    let state = |dir: &Path| -> Arc<dyn StateStore> { Arc::new(MemStore::open(dir).unwrap()) };
    Suite::test_all(Builder { state }).await.unwrap();
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn openrafts_suite_passes_over_rocksdb() {
    let state = |dir: &Path| crate::storage::state::open(dir, 8 << 20).unwrap();
    Suite::test_all(Builder { state }).await.unwrap();
}

fn vote(term: u64) -> Vote {
    Vote {
        leader_id: LeaderId { term, node_id: 1 },
        committed: false,
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: LeaderId { term, node_id: 1 },
        index,
    }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: openraft::EntryPayload::Blank,
    }
}

/// openraft releases the answers to appends of an older vote as soon as a newer vote is saved (its `io_ordering.md`).
#[tokio::test]
async fn a_saved_vote_means_that_all_earlier_appends_are_durable() {
    let dir = TempDir::new().unwrap();
    let mut log = open_log(dir.path());
    log.save_vote(&vote(1)).await.unwrap();
    for index in 0..200 {
        let (flushed, mut durable) = TypeConfig::oneshot();
        log.append([blank(1, index)], IOFlushed::signal(flushed))
            .await
            .unwrap();
        log.save_vote(&vote(index + 2)).await.unwrap();
        durable
            .try_recv()
            .expect("the append is durable when the later vote is")
            .unwrap();
    }
}

/// A commit index may be saved ahead of this node's own entries; after a power cut openraft must not be told of entries that
/// are gone.
#[tokio::test]
async fn the_saved_commit_index_never_passes_the_recovered_log() {
    let dir = TempDir::new().unwrap();
    {
        let mut log = open_log(dir.path());
        let (flushed, durable) = TypeConfig::oneshot();
        log.append(
            (0..6).map(|index| blank(1, index)),
            IOFlushed::signal(flushed),
        )
        .await
        .unwrap();
        durable.await.unwrap().unwrap();
        log.save_committed(Some(log_id(1, 10))).await.unwrap();
        log.save_vote(&vote(2)).await.unwrap();
    }
    let mut log = open_log(dir.path());
    let last = log.get_log_state().await.unwrap().last_log_id;
    assert_eq!(last, Some(log_id(1, 5)));
    assert_eq!(log.read_committed().await.unwrap(), last);
}

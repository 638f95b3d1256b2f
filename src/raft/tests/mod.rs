//! openraft's own storage suite over our log and state machine, and the contracts that it does not check.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use openraft::{
    RaftSnapshotBuilder, StorageError,
    storage::{IOFlushed, RaftLogStorage, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;

use super::{
    log_store::LogStore,
    snapshot::{SnapshotDir, SnapshotHandle},
    state_machine::StateMachine,
    types::{Entry, LeaderId, LogId, Peer, SnapshotMeta, TypeConfig, Vote},
};
use crate::storage::{
    WriteGate,
    state::{MemStore, StateStore},
    wal::{Wal, WalOptions},
};

fn open_log(dir: &Path) -> LogStore {
    let options = WalOptions {
        segment_bytes: 64 << 10,
        ..WalOptions::default()
    };
    LogStore::new(
        Wal::open(&dir.join("log"), options, WriteGate::new())
            .unwrap()
            .0,
    )
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

fn membership(term: u64, index: u64) -> Entry {
    let peer = |node: u64| Peer {
        incarnation: node,
        peer_address: format!("n{node}:7421"),
        ..Peer::default()
    };
    let peers: BTreeMap<u64, Peer> = (1..=3).map(|node| (node, peer(node))).collect();
    let membership = openraft::Membership::new(vec![[1, 2, 3].into()], peers).unwrap();
    Entry {
        log_id: log_id(term, index),
        payload: openraft::EntryPayload::Membership(membership),
    }
}

async fn apply(state: &mut StateMachine, entries: Vec<Entry>) {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    state.apply(futures::stream::iter(entries)).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_survives_a_restart_and_an_install_replaces_everything() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = |dir: &Path| -> Arc<dyn StateStore> {
        Arc::new(MemStore::open(&dir.join("state")).unwrap())
    };
    let mut source = open_state(one.path(), store(one.path()));
    apply(
        &mut source,
        vec![blank(1, 0), membership(1, 1), blank(1, 2)],
    )
    .await;
    let built = source
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    assert_eq!(built.meta.last_log_id, Some(log_id(1, 2)));

    // The restarted node has the snapshot, whatever else its store has lost.
    drop(source);
    let mut source = open_state(one.path(), store(one.path()));
    let current = source.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);

    let received = two.path().join("received");
    std::fs::create_dir(&received).unwrap();
    for file in current.snapshot.files().unwrap() {
        std::fs::copy(
            current.snapshot.dir().join(&file.name),
            received.join(&file.name),
        )
        .unwrap();
    }
    let mut target = open_state(two.path(), store(two.path()));
    apply(&mut target, vec![blank(1, 0)]).await;
    target
        .install_snapshot(&current.meta, SnapshotHandle::new(received))
        .await
        .unwrap();
    let (applied, stored) = target.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(1, 2)));
    assert_eq!(stored.membership().nodes().count(), 3);
    assert_eq!(
        target.get_current_snapshot().await.unwrap().unwrap().meta,
        built.meta
    );
}

#[test]
fn only_the_newest_complete_snapshot_is_kept_and_half_built_ones_go() {
    let dir = TempDir::new().unwrap();
    let name = |index: u64| format!("{index:020}-{:020}-{:020}", 1, 1);
    for sub in [
        name(5),
        name(40),
        name(7),
        "building".to_owned(),
        "incoming-00".to_owned(),
    ] {
        std::fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let (_, newest) = SnapshotDir::open(dir.path()).unwrap();
    assert_eq!(newest.unwrap().dir(), dir.path().join(name(40)));
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [std::ffi::OsString::from(name(40))]);
}

#[test]
fn a_snapshots_directory_goes_with_its_last_user_once_it_is_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image");
    std::fs::create_dir(&path).unwrap();
    let handle = SnapshotHandle::new(path.clone());
    let sending = handle.clone();
    handle.replaced();
    drop(handle);
    assert!(path.exists(), "it is being sent");
    drop(sending);
    assert!(!path.exists());
    // Never while it is the current one.
    std::fs::create_dir(&path).unwrap();
    drop(SnapshotHandle::new(path.clone()));
    assert!(path.exists());
}

#[test]
fn an_image_of_the_same_log_id_leaves_the_one_that_is_there_alone() {
    let dir = TempDir::new().unwrap();
    let (snapshots, _) = SnapshotDir::open(dir.path()).unwrap();
    let mut handles = Vec::new();
    for content in ["first", "second"] {
        let building = snapshots.building();
        std::fs::create_dir(&building).unwrap();
        crate::env::fs::open_or_create(&building.join("file"))
            .and_then(|file| crate::env::fs::write_all_at(&file, content.as_bytes(), 0))
            .unwrap();
        let handle = snapshots.complete(&building, &SnapshotMeta::default());
        handles.push(handle.unwrap());
        assert!(!building.exists());
    }
    assert_eq!(handles[0].dir(), handles[1].dir());
    let held = std::fs::read(handles[0].dir().join("file")).unwrap();
    assert_eq!(held, b"first", "it may be being sent");
}

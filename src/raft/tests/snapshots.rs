//! Snapshots: built, installed, both at once, and across crashes.

use std::{
    path::PathBuf,
    sync::{Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use openraft::{RaftSnapshotBuilder, storage::RaftStateMachine};

use super::*;
use crate::{
    domain::{ClusterId, Command, JournalId, NodeId, OffsetRange, OpenWorker, State},
    pb::{self, raft_server::Raft as _},
    raft::{
        Group, GroupOptions, Identity, Role,
        snapshot::SnapshotHandle,
        types::{SnapshotMeta, member},
    },
    storage::{
        StorageError as StoreError,
        state::{Chunk, StateBatch},
    },
};

fn memory(dir: &Path) -> Arc<dyn StateStore> {
    Arc::new(MemStore::open(&dir.join("state")).unwrap())
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

/// The files of a snapshot as another node received them.
fn copy_of(snapshot: &SnapshotHandle, to: &Path) -> SnapshotHandle {
    let received = to.join("copy");
    std::fs::create_dir(&received).unwrap();
    for file in snapshot.files().unwrap() {
        let (from, to) = (snapshot.dir().join(&file.name), received.join(&file.name));
        std::fs::copy(from, to).unwrap();
    }
    SnapshotHandle::new(received)
}

/// A snapshot that ends at `index`, of another node.
async fn snapshot_of_another_node(index: u64, to: &Path) -> (SnapshotMeta, SnapshotHandle) {
    let dir = TempDir::new().unwrap();
    let mut source = open_state(dir.path(), memory(dir.path()));
    let blanks = (2..=index).map(|index| blank(1, index));
    let entries = [blank(1, 0), membership(1, 1)].into_iter().chain(blanks);
    apply(&mut source, entries.collect()).await;
    let built = build(&mut source).await;
    (built.meta.clone(), copy_of(&built.snapshot, to))
}

async fn build(
    state: &mut StateMachine,
) -> openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle> {
    let mut builder = state.get_snapshot_builder().await;
    builder.build_snapshot().await.unwrap()
}

#[tokio::test]
async fn a_snapshot_survives_a_restart_and_an_install_replaces_everything() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut source = open_state(one.path(), memory(one.path()));
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
    let mut source = open_state(one.path(), memory(one.path()));
    let current = source.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);

    let received = copy_of(&current.snapshot, two.path());
    let mut target = open_state(two.path(), memory(two.path()));
    apply(&mut target, vec![blank(1, 0)]).await;
    target
        .install_snapshot(&current.meta, received)
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

#[tokio::test]
async fn an_image_of_the_same_log_id_leaves_the_one_that_is_there_alone() {
    let dir = TempDir::new().unwrap();
    let (snapshots, _) = SnapshotDir::open(dir.path()).unwrap();
    let turn = snapshots.turn().await;
    let mut handles = Vec::new();
    for content in ["first", "second"] {
        let building = snapshots.building(&turn);
        std::fs::create_dir(&building).unwrap();
        crate::env::fs::open_or_create(&building.join("file"))
            .and_then(|file| crate::env::fs::write_all_at(&file, content.as_bytes(), 0))
            .unwrap();
        let handle = snapshots.complete(&turn, &building, &SnapshotMeta::default());
        handles.push(handle.unwrap());
        assert!(!building.exists());
    }
    assert_eq!(handles[0].dir(), handles[1].dir());
    let held = std::fs::read(handles[0].dir().join("file")).unwrap();
    assert_eq!(held, b"first", "it may be being sent");
}

/// A store whose first image, once it is made, is handed out only when it is let go.
#[derive(Debug)]
struct SlowStore {
    store: MemStore,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl SlowStore {
    fn open(dir: &Path) -> (Arc<Self>, mpsc::Sender<()>) {
        let (release, gate) = mpsc::channel();
        let store = Self {
            store: MemStore::open(&dir.join("state")).unwrap(),
            gate: Mutex::new(Some(gate)),
        };
        (Arc::new(store), release)
    }

    async fn wait_until_an_image_is_made(&self) {
        while self.gate.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl StateStore for SlowStore {
    fn applied(&self) -> Result<Option<Bytes>, StoreError> {
        self.store.applied()
    }

    fn load(&self) -> Result<State, StoreError> {
        self.store.load()
    }

    fn write(&self, batch: StateBatch) -> Result<(), StoreError> {
        self.store.write(batch)
    }

    fn read(
        &self,
        journal: JournalId,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Result<Vec<Chunk>, StoreError> {
        self.store.read(journal, range, bytes_max)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn snapshot(&self, dir: &Path) -> Result<(), StoreError> {
        let made = self.store.snapshot(dir);
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.recv().unwrap();
        }
        made
    }

    fn verify(&self, dir: &Path) -> Result<Option<Bytes>, StoreError> {
        self.store.verify(dir)
    }

    fn install(&self, dir: &Path) -> Result<State, StoreError> {
        self.store.install(dir)
    }

    fn snapshot_applied(&self, dir: &Path) -> Result<Option<Bytes>, StoreError> {
        self.store.snapshot_applied(dir)
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }
}

/// The current snapshot ends at `index`, is there, and is the only one.
async fn assert_current_is(state: &mut StateMachine, index: u64, dir: &Path) {
    let current = state.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, index)));
    assert!(!current.snapshot.files().unwrap().is_empty());
    let left = std::fs::read_dir(dir.join("snapshots")).unwrap();
    let left: Vec<PathBuf> = left.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [current.snapshot.dir()]);
}

#[tokio::test]
async fn a_slow_build_never_replaces_a_newer_snapshot() {
    let dir = TempDir::new().unwrap();
    let (store, release) = SlowStore::open(dir.path());
    let mut state = open_state(dir.path(), store.clone());
    apply(&mut state, vec![blank(1, 0), membership(1, 1)]).await;
    let mut slow = state.get_snapshot_builder().await;
    let slow = tokio::spawn(async move { slow.build_snapshot().await });
    store.wait_until_an_image_is_made().await;

    apply(&mut state, vec![blank(1, 2)]).await;
    let mut quick = state.get_snapshot_builder().await;
    let quick = tokio::spawn(async move { quick.build_snapshot().await });
    let turns = async {
        while !quick.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    // It waits for its turn; one that did not would be done by now.
    let _ = tokio::time::timeout(Duration::from_millis(100), turns).await;
    release.send(()).unwrap();
    slow.await.unwrap().unwrap();
    quick.await.unwrap().unwrap();
    assert_current_is(&mut state, 2, dir.path()).await;
}

#[tokio::test]
async fn a_build_and_an_install_do_not_disturb_each_other() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (meta, snapshot) = snapshot_of_another_node(9, other.path()).await;
    let (store, release) = SlowStore::open(dir.path());
    let mut state = open_state(dir.path(), store.clone());
    apply(&mut state, vec![blank(1, 0), membership(1, 1)]).await;
    let mut slow = state.get_snapshot_builder().await;
    let slow = tokio::spawn(async move { slow.build_snapshot().await });
    store.wait_until_an_image_is_made().await;

    let released = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        release.send(()).unwrap();
    };
    let (installed, ()) = tokio::join!(state.install_snapshot(&meta, snapshot), released);
    installed.unwrap();
    slow.await.unwrap().unwrap();
    assert_current_is(&mut state, 9, dir.path()).await;
}

fn options(dir: &Path, snapshot_log_bytes: u64) -> GroupOptions {
    GroupOptions {
        identity: Identity {
            cluster: ClusterId(7),
            node: NodeId(1),
            incarnation: 1,
        },
        snapshots_dir: dir.join("snapshots"),
        heartbeat: Duration::from_millis(20),
        election_timeout: Duration::from_millis(100),
        snapshot_log_bytes,
    }
}

/// A state store may lose more than its snapshot has: openraft then installs the snapshot that is there.
#[tokio::test]
async fn a_state_that_was_lost_comes_back_from_the_snapshot_which_stays() {
    let dir = TempDir::new().unwrap();
    let mut state = open_state(dir.path(), memory(dir.path()));
    apply(&mut state, vec![blank(1, 0), membership(1, 1)]).await;
    build(&mut state).await;
    drop(state);
    let mut state = open_state(dir.path(), memory(dir.path()));
    assert_eq!(state.applied_state().await.unwrap().0, None);
    let current = state.get_current_snapshot().await.unwrap().unwrap();
    let installed = state.install_snapshot(&current.meta, current.snapshot);
    installed.await.unwrap();
    assert_eq!(state.applied_state().await.unwrap().0, Some(log_id(1, 1)));
    assert_current_is(&mut state, 1, dir.path()).await;
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_was_promised_leaves_the_state_alone() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (meta, snapshot) = snapshot_of_another_node(9, other.path()).await;
    let store = memory(dir.path());
    let mut state = open_state(dir.path(), store.clone());
    apply(&mut state, vec![blank(1, 0), membership(1, 1)]).await;
    let before = store.applied().unwrap();
    let promised = SnapshotMeta {
        last_log_id: Some(log_id(1, 10)),
        ..meta
    };
    let installed = state.install_snapshot(&promised, snapshot).await;
    let error = installed.unwrap_err().to_string();
    assert!(error.contains("was promised"), "{error}");
    assert_eq!(store.applied().unwrap(), before);
}

/// Killed between the install and the image of what was installed: openraft then purges the log up to what is applied.
#[tokio::test]
async fn a_node_that_was_killed_in_an_install_starts_with_a_snapshot_that_covers_its_purge() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_, snapshot) = snapshot_of_another_node(9, other.path()).await;
    {
        let mut log = open_log(dir.path());
        let (flushed, durable) = TypeConfig::oneshot();
        let entries = [blank(1, 0), membership(1, 1)];
        log.append(entries.clone(), IOFlushed::signal(flushed))
            .await
            .unwrap();
        durable.await.unwrap().unwrap();
        let store = memory(dir.path());
        let mut state = open_state(dir.path(), store.clone());
        apply(&mut state, entries.to_vec()).await;
        build(&mut state).await;
        store.install(snapshot.dir()).unwrap();
    }
    let wal = open_wal(dir.path());
    let group = Group::start(options(dir.path(), 1 << 30), wal, memory(dir.path()));
    let group = group.await.unwrap();
    assert_eq!(group.wal().last_purged().map(|id| id.index), Some(9));
    let snapshots = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
    let names: Vec<_> = snapshots.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1);
    let name = names[0].to_str().unwrap();
    assert!(name.starts_with(&format!("{:020}-", 9)), "{name}");
    group.stop().await;
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"));
}

/// It used to count only what it wrote since it was started.
#[tokio::test]
async fn a_node_that_is_started_often_builds_a_snapshot_of_what_earlier_runs_wrote() {
    let dir = TempDir::new().unwrap();
    let written = {
        let options = options(dir.path(), 1 << 30);
        let group = Group::start(options, open_wal(dir.path()), memory(dir.path()));
        let group = group.await.unwrap();
        let me = Peer {
            incarnation: 1,
            ..Peer::default()
        };
        group.form(vec![member(1, &me)]).await.unwrap();
        wait_until("a leader", || group.status().role == Role::Leader).await;
        for worker in 0..50 {
            let worker = format!("job/worker-{worker}").parse().unwrap();
            let open = OpenWorker {
                worker,
                epoch: None,
                at_unix_ms: 1,
            };
            group.propose(Command::OpenWorker(open)).await.unwrap();
        }
        let written = group.wal().bytes_after(None);
        assert!(written > 50 * 20, "{written}");
        assert!(group.wal().bytes_after(Some(20)) < written);
        assert_eq!(group.wal().bytes_after(Some(1000)), 0);
        group.stop().await;
        group.wal().close().await.unwrap();
        written
    };
    let options = options(dir.path(), written);
    let group = Group::start(options, open_wal(dir.path()), memory(dir.path()));
    let group = group.await.unwrap();
    wait_until("a snapshot", || group.status().snapshot_index > 40).await;
    assert!(group.wal().stats().synced_bytes < written);
    group.stop().await;
}

/// A deposed leader is told before it sends what nobody would install.
#[tokio::test]
async fn an_offer_under_an_older_vote_is_answered_with_the_newer_one() {
    let dir = TempDir::new().unwrap();
    let wal = open_wal(dir.path());
    LogStore::new(wal.clone())
        .save_vote(&vote(5))
        .await
        .unwrap();
    let group = Group::start(options(dir.path(), 1 << 30), wal, memory(dir.path()));
    let group = group.await.unwrap();
    wait_until("the vote", || group.status().term == 5).await;
    let service = group.service();
    let offer = |term| {
        let manifest = pb::SnapshotManifest {
            header: Some(pb::PeerHeader {
                from: 2,
                ..group.peers().header(NodeId(1))
            }),
            vote: Some(pb::RaftVote {
                term,
                node_id: 2,
                committed: true,
            }),
            ..Default::default()
        };
        service.offer_snapshot(tonic::Request::new(manifest))
    };
    let answer = offer(4).await.unwrap().into_inner();
    assert_eq!(answer.higher_vote.map(|vote| vote.term), Some(5));
    let snapshots = dir.path().join("snapshots");
    assert_eq!(std::fs::read_dir(&snapshots).unwrap().count(), 0);
    let answer = offer(6).await.unwrap().into_inner();
    assert_eq!(answer.higher_vote, None);
    group.stop().await;
}

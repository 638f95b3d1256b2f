//! openraft's state machine: the deterministic core in memory, its records and the journals' bytes in the state store.
//!
//! Each chunk of entries becomes one batch of the store, with the applied mark in it. Nothing is synced here: after a crash the
//! store is behind and the log is replayed, which is why the log is purged only up to a snapshot, which is durable.

use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    snapshot::{SnapshotDir, SnapshotHandle},
    types::{Answer, Applied, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, member},
};
use crate::{
    codec::wire::decode_command,
    domain::{Change, State},
    env::task,
    storage::{
        StorageError,
        state::{StateBatch, StateStore},
    },
};

/// Most entries that are applied in one batch of the store. With entries of 2 MiB at most this bounds its memory.
const BATCH_ENTRIES_MAX: usize = 32;

/// The applied state, for readers: records in memory, bytes in the store.
#[derive(Debug, Clone)]
pub struct StateView {
    state: Arc<RwLock<State>>,
    store: Arc<dyn StateStore>,
    applied: watch::Receiver<u64>,
    installs: Arc<AtomicU64>,
}

impl StateView {
    /// The records, as of some applied index that is at least [`applied_index`](Self::applied_index) before the call. Do not
    /// hold it across an await: applying waits for it.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying ends the process, so a poisoned lock is never seen by a survivor.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journals' bytes.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Counts the beginnings and ends of snapshot installs: odd while one is under way, when records and bytes may be of two
    /// histories. Bytes that were read belong to the records that were read before them only if this is even and the same
    /// before and after.
    #[must_use]
    pub fn installs(&self) -> u64 {
        self.installs.load(Ordering::SeqCst)
    }

    /// Up to where the log is applied; 0 before anything is.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Follows the applied index.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }
}

/// What openraft drives.
#[derive(Debug)]
pub struct StateMachine {
    state: Arc<RwLock<State>>,
    store: Arc<dyn StateStore>,
    applied: Applied,
    applied_index: watch::Sender<u64>,
    installs: Arc<AtomicU64>,
    snapshots: SnapshotDir,
    current: Arc<RwLock<Option<(SnapshotMeta, SnapshotHandle)>>>,
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

impl StateMachine {
    /// Over an opened store and the node's `snapshots/` directory.
    ///
    /// # Errors
    /// When a record is damaged, or the newest snapshot cannot be read.
    pub fn open(
        store: Arc<dyn StateStore>,
        snapshots: SnapshotDir,
        newest: Option<SnapshotHandle>,
    ) -> io::Result<(Self, StateView)> {
        let applied = Applied::decode(store.applied().map_err(other)?).map_err(other)?;
        let state = Arc::new(RwLock::new(store.load().map_err(other)?));
        let current = match newest {
            None => None,
            Some(handle) => {
                let mark = store.snapshot_applied(handle.dir()).map_err(other)?;
                Some((Applied::decode(mark).map_err(other)?.meta(), handle))
            }
        };
        let (applied_index, watched) = watch::channel(index_of(applied.log_id.as_ref()));
        let view = StateView {
            state: state.clone(),
            store: store.clone(),
            applied: watched,
            installs: Arc::default(),
        };
        let installs = view.installs.clone();
        let current = Arc::new(RwLock::new(current));
        Ok((
            Self {
                state,
                store,
                applied,
                applied_index,
                installs,
                snapshots,
                current,
            },
            view,
        ))
    }

    fn apply_chunk(&mut self, chunk: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let mut changes = Vec::new();
        let mut answers = Vec::with_capacity(chunk.len());
        {
            // Readers see the records and the bytes of a chunk together, or neither.
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for (entry, responder) in chunk {
                let log_id = entry.log_id;
                let answer = apply_entry(
                    &mut state,
                    entry,
                    &mut self.applied.membership,
                    &mut changes,
                )?;
                self.applied.log_id = Some(log_id);
                answers.push((responder, answer));
            }
            let batch = StateBatch::new(&state, changes, self.applied.encode());
            self.store.write(batch).map_err(other)?;
            // Whoever holds the records sees the index that they are of.
            self.applied_index
                .send_replace(index_of(self.applied.log_id.as_ref()));
        }
        for (responder, answer) in answers {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.store.clone(),
            snapshots: self.snapshots.clone(),
            current: self.current.clone(),
        }
    }
}

fn index_of(log_id: Option<&LogId>) -> u64 {
    log_id.map_or(0, |id| id.index)
}

fn apply_entry(
    state: &mut State,
    entry: Entry,
    membership: &mut StoredMembership,
    changes: &mut Vec<Change>,
) -> io::Result<Answer> {
    match entry.payload {
        EntryPayload::Blank => Ok(Answer(None)),
        EntryPayload::Normal(proposal) => {
            let digest = crc32c::crc32c(&proposal.0);
            let command = decode_command(proposal.0).map_err(other)?;
            Ok(Answer(Some(state.apply(
                entry.log_id.index,
                digest,
                &command,
                changes,
            ))))
        }
        EntryPayload::Membership(new) => {
            let members: Vec<_> = new
                .nodes()
                .map(|(node, peer)| member(*node, peer))
                .collect();
            state.follow_membership(entry.log_id.index, &members, changes);
            *membership = StoredMembership::new(Some(entry.log_id), new);
            Ok(Answer(None))
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        // Whatever is ready becomes one batch; no timer.
        let mut chunks = entries.ready_chunks(BATCH_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.apply_chunk(chunk)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> io::Result<()> {
        let (store, dir) = (self.store.clone(), snapshot.dir().to_owned());
        self.installs.fetch_add(1, Ordering::SeqCst);
        let installed = task::blocking(move || {
            store.install(&dir)?;
            Ok::<_, StorageError>((store.applied()?, store.load()?))
        });
        let (applied, loaded) = installed.await.map_err(other)?;
        let applied = Applied::decode(applied).map_err(other)?;
        if applied.log_id != meta.last_log_id {
            return Err(io::Error::other(format!(
                "the snapshot installed ends at {:?}, but {:?} was promised",
                applied.log_id, meta.last_log_id
            )));
        }
        self.applied = applied;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            *state = loaded;
            self.applied_index
                .send_replace(index_of(self.applied.log_id.as_ref()));
        }
        // After an error above it stays odd: nothing is read any more from a node that is about to stop.
        self.installs.fetch_add(1, Ordering::SeqCst);
        // openraft asks for the current snapshot at any time from now on.
        let (_, current) = self.builder().build().await?;
        if current.dir() != snapshot.dir() {
            snapshot.replaced();
        }
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotHandle>>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Ok(current.as_ref().map(
            |(meta, snapshot)| SnapshotOf::<TypeConfig, SnapshotHandle> {
                meta: meta.clone(),
                snapshot: snapshot.clone(),
            },
        ))
    }
}

/// Builds an image beside the applying: what it holds is read from the image itself.
#[derive(Debug)]
pub struct SnapshotBuilder {
    store: Arc<dyn StateStore>,
    snapshots: SnapshotDir,
    current: Arc<RwLock<Option<(SnapshotMeta, SnapshotHandle)>>>,
}

impl SnapshotBuilder {
    async fn build(&self) -> io::Result<(SnapshotMeta, SnapshotHandle)> {
        let (store, snapshots) = (self.store.clone(), self.snapshots.clone());
        let built = task::blocking(move || {
            let building = snapshots.building();
            store.snapshot(&building).map_err(other)?;
            let applied = Applied::decode(store.snapshot_applied(&building).map_err(other)?)
                .map_err(other)?;
            let meta = applied.meta();
            let handle = snapshots.complete(&building, &meta)?;
            io::Result::Ok((meta, handle))
        });
        let (meta, handle) = built.await?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, older)) = current.replace((meta.clone(), handle.clone()))
            && older.dir() != handle.dir()
        {
            older.replaced();
        }
        Ok((meta, handle))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotHandle>> {
        let (meta, snapshot) = self.build().await?;
        Ok(SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot })
    }
}

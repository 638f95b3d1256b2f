//! openraft's state machine: the deterministic core in memory, its records and the journals' bytes in the state store.
//!
//! Each chunk of entries becomes one batch of the store, with the applied mark in it. Nothing is synced here: after a crash the
//! store is behind and the log is replayed, which is why the log is purged only up to a snapshot, which is durable.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
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
    snapshot::{SnapshotDir, SnapshotHandle, Turn},
    types::{Answer, Applied, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, member},
};
use crate::{
    codec::wire::decode_command,
    domain::{Change, Member, NodeId, State},
    env::task,
    storage::{
        state::{StateBatch, StateStore},
        wal::Wal,
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
    members: watch::Receiver<Arc<Members>>,
    installs: Arc<AtomicU64>,
}

/// The members by number.
pub(super) type Members = BTreeMap<NodeId, Member>;

impl StateView {
    /// The records, as of some applied index that is at least [`applied_index`](Self::applied_index) before the call. Do not
    /// hold it across an await: applying waits for it.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying ends the process, so a poisoned lock is never seen by a survivor.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members, without waiting for what is being applied: each message of a peer is checked against them, and a store that
    /// stalls must not hold up heartbeats.
    #[must_use]
    pub(super) fn members(&self) -> Arc<Members> {
        self.members.borrow().clone()
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
    members: watch::Sender<Arc<Members>>,
    installs: Arc<AtomicU64>,
    snapshots: SnapshotDir,
    current: Current,
}

/// The newest snapshot. Replaced only by whoever has the [`Turn`].
type Current = Arc<RwLock<Option<(SnapshotMeta, SnapshotHandle)>>>;

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
        let applied = Applied::decode(store.applied()?).map_err(other)?;
        let loaded = store.load()?;
        let (members, watched_members) = watch::channel(members_of(&loaded));
        let state = Arc::new(RwLock::new(loaded));
        let current = match newest {
            None => None,
            Some(handle) => {
                let mark = store.snapshot_applied(handle.dir())?;
                Some((Applied::decode(mark).map_err(other)?.meta(), handle))
            }
        };
        let (applied_index, watched) = watch::channel(index_of(applied.log_id.as_ref()));
        let view = StateView {
            state: state.clone(),
            store: store.clone(),
            applied: watched,
            members: watched_members,
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
                members,
                installs,
                snapshots,
                current,
            },
            view,
        ))
    }

    /// Builds a snapshot when the newest one ends before the log begins; gives the index of the newest.
    ///
    /// A node that was killed while it installed a snapshot has the state and not yet an image of it, and openraft purges the
    /// log up to what is applied when it starts. With only the older image it could not bring a member up to its log once it
    /// leads.
    ///
    /// # Errors
    /// When the image cannot be made.
    pub async fn cover_purge(&self, wal: &Wal) -> io::Result<Option<u64>> {
        let newest = || {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            let (meta, _) = current.as_ref()?;
            meta.last_log_id.map(|id| id.index)
        };
        let applied = self.applied.log_id.map(|id| id.index);
        let last = wal.last_log_id().map(|id| id.index);
        // IMPORTANT: before Raft starts, for it purges up to what is applied when the log ends before that.
        let purged = if last < applied {
            applied
        } else {
            wal.last_purged().map(|id| id.index)
        };
        if newest() < purged.min(applied) {
            let built = self.builder().build().await?;
            tracing::info!(
                index = index_of(built.0.last_log_id.as_ref()),
                "built the snapshot that the log begins behind"
            );
        }
        Ok(newest())
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
            if changes
                .iter()
                .any(|change| matches!(change, Change::Member(_)))
            {
                self.members.send_replace(members_of(&state));
            }
            let batch = StateBatch::new(&state, changes, self.applied.encode());
            self.store.write(batch)?;
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

fn members_of(state: &State) -> Arc<Members> {
    let members = state.members().cloned();
    Arc::new(members.map(|member| (member.node, member)).collect())
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
        let turn = self.snapshots.turn().await;
        self.installs.fetch_add(1, Ordering::SeqCst);
        let builder = self.builder();
        let promised = meta.clone();
        let installed = task::blocking(move || {
            let installed = builder.install(&promised, &snapshot)?;
            io::Result::Ok((turn, installed))
        });
        // After an error it stays odd: nothing is read any more from a node that is about to stop.
        let (turn, (applied, loaded)) = installed.await?;
        self.applied = applied;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            *state = loaded;
            self.members.send_replace(members_of(&state));
            self.applied_index
                .send_replace(index_of(self.applied.log_id.as_ref()));
        }
        self.installs.fetch_add(1, Ordering::SeqCst);
        // openraft asks for the current snapshot at any time from now on.
        self.builder().build_in(turn).await?;
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
#[derive(Debug, Clone)]
pub struct SnapshotBuilder {
    store: Arc<dyn StateStore>,
    snapshots: SnapshotDir,
    current: Current,
}

impl SnapshotBuilder {
    async fn build(&self) -> io::Result<(SnapshotMeta, SnapshotHandle)> {
        let turn = self.snapshots.turn().await;
        self.build_in(turn).await
    }

    /// The turn goes along: a build ends in order also when nobody waits for it any more.
    async fn build_in(&self, turn: Turn) -> io::Result<(SnapshotMeta, SnapshotHandle)> {
        let builder = self.clone();
        task::blocking(move || builder.build_now(&turn)).await
    }

    /// The newest image: the one that is there, when nothing was applied since.
    fn build_now(&self, turn: &Turn) -> io::Result<(SnapshotMeta, SnapshotHandle)> {
        let applied = Applied::decode(self.store.applied()?).map_err(other)?;
        let current = self.current().clone();
        if let Some(current) = current.filter(|(meta, _)| meta.last_log_id >= applied.log_id) {
            return Ok(current);
        }
        let building = self.snapshots.building(turn);
        self.store.snapshot(&building)?;
        // Newer than the mark above when something was applied meanwhile.
        let mark = self.store.snapshot_applied(&building)?;
        let meta = Applied::decode(mark).map_err(other)?.meta();
        let handle = self.snapshots.complete(turn, &building, &meta)?;
        let older = self.current().replace((meta.clone(), handle.clone()));
        if let Some((_, older)) = older.filter(|(_, older)| older.dir() != handle.dir()) {
            older.replaced();
        }
        Ok((meta, handle))
    }

    /// Replaces the state by an image that is what `promised` says.
    fn install(
        &self,
        promised: &SnapshotMeta,
        image: &SnapshotHandle,
    ) -> io::Result<(Applied, State)> {
        let mark = if image.is_verified() {
            self.store.snapshot_applied(image.dir())?
        } else {
            self.store.verify(image.dir())?
        };
        let applied = Applied::decode(mark).map_err(other)?;
        if applied.log_id != promised.last_log_id {
            return Err(io::Error::other(format!(
                "the snapshot to install ends at {:?}, but {:?} was promised",
                applied.log_id, promised.last_log_id
            )));
        }
        let state = self.store.install(image.dir())?;
        // A state store that lost more than its snapshot gets it back, and consumes it.
        self.current()
            .take_if(|(_, current)| current.dir() == image.dir());
        Ok((applied, state))
    }

    fn current(&self) -> RwLockWriteGuard<'_, Option<(SnapshotMeta, SnapshotHandle)>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotHandle>> {
        let (meta, snapshot) = self.build().await?;
        Ok(SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot })
    }
}

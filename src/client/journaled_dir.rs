//! A worker's directory of ordinary files whose every change is streamed to the cluster.
//!
//! A change is written to the local journal file first, then applied to the file, then streamed. So after a crash of the
//! process the journal is never behind the files: at most its last record is not applied, and it is applied again at the
//! next open. Nothing is synced on this disk while the worker runs, for the cluster is what makes it durable; after the
//! machine itself went down the directory is not believed any more, and the worker is restored. A clean close syncs what
//! it vouches for: the files that this process changed, or everything if the process before it did not close.
//!
//! ```text
//! open    lock the directory -> compare journal and cluster -> settle -> open the stream, which fences -> mark it in use
//! change  journal -> file -> mirror        a change that the files refuse is cut off the journal, and never mirrored
//! close   everything durable in the cluster -> sync here -> mark it closed -> unlock
//! ```
//!
//! A directory is refused before anything is fenced: whoever opens the wrong one does no harm to the worker that runs.

use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    AppendOptions, AppendStream, Client, ClientError, Effect,
    files::sync_tree,
    identity::{self, DirectoryLock, WorkerIdentity},
    local_journal::{LocalJournal, Scan},
    mirror::{JournalMirror, MirrorHandle, MirrorStatus},
    read::Floor,
    replay::{FILE_BYTES_MAX, PathMap, ReplayError, Replayer},
};
use crate::{
    codec::ops::{Op, OpRecord},
    domain::{
        CheckpointId, Epoch, JournalKind, JournalName, JournalRef, Offset, Rejected, WorkerRef,
    },
    env::{fs, task},
};

/// Most bytes of one record: a longer write becomes several.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Opens of the stream while the tail moves, which it does as long as bytes of a killed process are on their way.
const OPENS_MAX: u32 = 8;

/// How a [`JournaledDir`] behaves.
#[derive(Debug, Clone, Default)]
pub struct JournaledDirOptions {
    /// The journal's name, which is also its file's name in the directory; `None`: `WORKER.journal`. One journal is written
    /// at a time. A worker that changes to another one gives it a name that sorts behind the old one's, for a restore
    /// replays them in the order of their names.
    pub journal: Option<JournalName>,
    /// Most bytes sent and not durable yet; `None`: 8 MiB. Memory stays within about this, whatever the backlog.
    pub window_bytes: Option<usize>,
}

/// A durable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which one.
    pub id: CheckpointId,
    /// A member that has applied this log index can serve it.
    pub log_index: u64,
    /// Up to where it covers each journal.
    pub offsets: BTreeMap<JournalName, Offset>,
}

/// A worker's directory. Read its files as any others; change them through this only. May be shared between tasks:
/// changes are applied, and mirrored, in the order of the calls.
#[derive(Debug)]
pub struct JournaledDir {
    client: Client,
    identity: WorkerIdentity,
    directory: PathBuf,
    journal: JournalName,
    /// Up to where the worker's other journals were durable when this was opened.
    others: BTreeMap<JournalName, Offset>,
    map: PathMap,
    local: Mutex<Local>,
    mirror: JournalMirror,
    handle: MirrorHandle,
    /// It was not closed before this process opened it: files that this one never touches may not be synced.
    unclean: bool,
    lock: DirectoryLock,
}

/// What a change goes through, one at a time.
#[derive(Debug)]
struct Local {
    journal: LocalJournal,
    files: Replayer,
    next_tag: u64,
    /// A change that was begun and not finished: journal and files differ.
    broken: Option<ClientError>,
}

impl JournaledDir {
    /// Opens a worker's directory: a new one, one that this worker left behind in a crash of its process, or a restored
    /// one. Attaches to the worker (and registers it if it is new), fences every other writer of its journal, and brings
    /// the cluster up to what is here, in the background. The directory is locked until it is closed or dropped.
    ///
    /// # Errors
    /// `Rejected` with `EpochFenced` when the worker was taken over since; `LocalState` when another process has the
    /// directory open, or when it is another worker's, is behind the cluster, or was in use when the machine went down:
    /// restore then; or as any call. No writer was fenced, unless the effect is unknown.
    pub async fn open(
        client: &Client,
        worker: &WorkerRef,
        directory: &Path,
        options: JournaledDirOptions,
    ) -> Result<Self, ClientError> {
        let journal = journal_name(worker, options.journal)?;
        let (lock, known) = prepare(worker, directory).await?;
        let held = known.as_ref().map(|identity| identity.epoch);
        let (epoch, _) = client.open_worker(worker, held).await?;
        let (local, scan) = {
            let path = directory.join(journal.as_str());
            task::blocking(move || LocalJournal::open(&path)).await?
        };
        let full = worker.journal(journal.clone());
        let map = PathMap::new(directory.to_owned());
        let unclean = known.as_ref().is_some_and(|known| known.in_use.is_some());
        let tail = cluster_tail(client, &full).await?;
        check_tail(scan.whole, scan.length, tail, directory)?;
        let journals = known.as_ref().map(|known| known.journals.clone());
        let journals = journals.unwrap_or_default();
        let others = other_journals(client, worker, &journal, &journals, directory).await?;
        let reserved = Reserved {
            map: &map,
            journals: &journals,
        };
        let local = settle(local, &scan, tail, &reserved, unclean, directory)?;
        let append = AppendOptions {
            give_up_after: None,
            window_bytes: options.window_bytes.unwrap_or(8 << 20),
            over: None,
        };
        let length = local.journal.length();
        let stream = open_stream(client, &full, epoch, tail, append, |tail| {
            check_tail(length, length, tail, directory)
        })
        .await?;
        let mut identity = known.unwrap_or_else(|| new_identity(worker, epoch));
        identity.in_use = Some(identity::this_boot().unwrap_or_else(|| "unknown".into()));
        identity.journals.insert(journal.clone(), JournalKind::Ops);
        identity.write(directory)?;
        let mirror = JournalMirror::start(
            stream,
            directory.join(journal.as_str()),
            local.journal.file(),
            local.journal.length(),
        );
        Ok(Self {
            client: client.clone(),
            handle: mirror.handle(),
            identity,
            directory: directory.to_owned(),
            journal,
            others,
            map,
            local: Mutex::new(local),
            mirror,
            unclean,
            lock,
        })
    }

    /// Overwrites the file at `path` from `offset` on, and makes it if it is not there; a hole before `offset` reads as
    /// zeros. `path` is relative to the directory.
    ///
    /// # Errors
    /// `BadRequest` for a path that leaves the directory, is reserved, or leads to no regular file (through a link, or
    /// through a file), and for a range that no file can hold, with nothing changed; whatever stopped the mirror for
    /// good, with nothing changed; `Local` when the disk refused, after which only a new open or a restore helps.
    pub fn write_at(&self, path: &str, offset: u64, data: &[u8]) -> Result<(), ClientError> {
        let mut local = self.ready(path)?;
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > FILE_BYTES_MAX) {
            let why = no_file_holds(offset, data.len() as u64);
            return Err(self.bad_change(path.as_bytes(), why));
        }
        let mut at = offset;
        let mut rest = data;
        loop {
            let (part, behind) = rest.split_at(rest.len().min(WRITE_BYTES_MAX));
            let op = Op::WriteV {
                offset: at,
                path: Bytes::copy_from_slice(path.as_bytes()),
                data: Bytes::copy_from_slice(part),
            };
            // Refused is the first part or none: from then on the file is open.
            self.change(&mut local, op)?;
            at = at.saturating_add(part.len() as u64);
            rest = behind;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Cuts the file at `path`, or extends it with zeros, to `length` bytes, and makes it if it is not there.
    ///
    /// # Errors
    /// As [`JournaledDir::write_at`].
    pub fn set_len(&self, path: &str, length: u64) -> Result<(), ClientError> {
        let mut local = self.ready(path)?;
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.change(&mut local, Op::SetLength { path, length })
    }

    /// Removes the file at `path`; that there is none is no error.
    ///
    /// # Errors
    /// As [`JournaledDir::write_at`].
    pub fn remove(&self, path: &str) -> Result<(), ClientError> {
        let mut local = self.ready(path)?;
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.change(&mut local, Op::Remove { path })
    }

    /// Makes a checkpoint of everything changed before this call. The future may be awaited elsewhere while changes go on;
    /// it answers once the cluster has acknowledged the checkpoint, and waits as long as an outage of the stream lasts.
    ///
    /// # Errors
    /// What broke an earlier change off, or stopped the mirror for good; or as [`Client::commit_checkpoint`], which is safe
    /// to repeat with this id.
    pub fn checkpoint(
        &self,
        id: CheckpointId,
    ) -> impl Future<Output = Result<Receipt, ClientError>> + Send + 'static {
        self.checkpoint_covering(id, BTreeMap::new())
    }

    /// As [`JournaledDir::checkpoint`], covering other journals of the worker further than they were when the directory was
    /// opened, each up to an offset that is durable.
    pub fn checkpoint_covering(
        &self,
        id: CheckpointId,
        others: BTreeMap<JournalName, Offset>,
    ) -> impl Future<Output = Result<Receipt, ClientError>> + Send + 'static {
        let (end, broken) = {
            let local = self.local();
            (local.journal.length(), local.broken.clone())
        };
        // A restore at this checkpoint cuts what it does not cover.
        let mut offsets = self.others.clone();
        offsets.extend(others);
        offsets.insert(self.journal.clone(), end);
        let (client, handle) = (self.client.clone(), self.handle.clone());
        let (worker, epoch) = (self.identity.worker.clone(), self.identity.epoch);
        async move {
            // What it covers would never be mirrored.
            if let Some(broken) = broken {
                return Err(broken);
            }
            handle.wait_durable(end).await?;
            let log_index = client
                .commit_checkpoint(&worker, epoch, id, offsets.clone())
                .await?;
            Ok(Receipt {
                id,
                log_index,
                offsets,
            })
        }
    }

    /// Everything before this offset of the journal is durable in the cluster.
    #[must_use]
    pub fn durable(&self) -> Offset {
        self.handle.status().progress.durable
    }

    /// Bytes of changes that are not durable in the cluster yet.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.handle.status().lag_bytes()
    }

    /// How far the mirror is, and what it is doing.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        self.handle.status()
    }

    /// A view of the mirror, to be kept and waited on elsewhere.
    #[must_use]
    pub fn mirror(&self) -> MirrorHandle {
        self.handle.clone()
    }

    /// The worker's epoch under which it writes.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    /// Where the files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Waits until every change is durable in the cluster, syncs the files here, and marks the directory as closed: whoever
    /// opens it next believes it, also after the machine went down.
    ///
    /// # Errors
    /// Whatever stopped the mirror for good, or `Local` when the disk refused.
    pub async fn close(self) -> Result<(), ClientError> {
        self.mirror.close().await?;
        let local = self
            .local
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(broken) = local.broken {
            return Err(broken);
        }
        let (directory, mut identity) = (self.directory, self.identity);
        let (lock, unclean) = (self.lock, self.unclean);
        task::blocking(move || {
            let synced = local.files.finish();
            synced.map_err(|error| replay_error(&directory, error))?;
            local.journal.sync()?;
            if unclean {
                // IMPORTANT: a process that crashed synced nothing of what it wrote.
                sync_tree(&directory).map_err(|(path, e)| ClientError::local("sync", path, e))?;
            }
            fs::sync_dir(&directory).map_err(|e| ClientError::local("sync", &directory, e))?;
            identity.in_use = None;
            identity.write(&directory)?;
            drop(lock); // the last: from here on another process may open it
            Ok(())
        })
        .await
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The local state, if a change of `path` may go on.
    fn ready(&self, path: &str) -> Result<MutexGuard<'_, Local>, ClientError> {
        let bad = |why| self.bad_change(path.as_bytes(), why);
        let resolved = self.map.resolve(path.as_bytes());
        resolved.map_err(|refusal| bad(refusal.to_string()))?;
        let journals = self.identity.journals.keys();
        if identity::is_reserved(&self.map, path.as_bytes(), journals) {
            return Err(bad(
                "the name is taken by the journal or the identity".into()
            ));
        }
        if let Some(failure) = self.handle.failure() {
            return Err(failure);
        }
        let local = self.local();
        match &local.broken {
            Some(broken) => Err(broken.clone()),
            None => Ok(local),
        }
    }

    /// A change that is refused, and changed nothing.
    fn bad_change(&self, path: &[u8], why: String) -> ClientError {
        ClientError::BadRequest {
            what: format!(
                "change \"{}\" in {}",
                path.escape_ascii(),
                self.directory.display()
            ),
            why,
        }
    }

    /// Journal first, then the file, then the mirror.
    fn change(&self, local: &mut Local, op: Op) -> Result<(), ClientError> {
        let tag = match op {
            Op::Remove { .. } => 0,
            _ => local.next_tag,
        };
        let record = OpRecord { tag, op };
        let at = match local.journal.append(&record) {
            Ok(at) => at,
            Err(error @ ClientError::BadRequest { .. }) => return Err(error),
            Err(error) => {
                local.broken = Some(error.clone());
                return Err(error);
            }
        };
        let Err(error) = local.files.apply(at.0, &record) else {
            local.next_tag += u64::from(tag != 0);
            self.mirror.grown(local.journal.length());
            return Ok(());
        };
        let error = match refusal(error) {
            // Nobody was told of the record, so it may go again.
            Ok(why) => match local.journal.cut(at) {
                Ok(()) => return Err(self.bad_change(record.op.path(), why)),
                Err(error) => error,
            },
            Err(error) => replay_error(&self.directory, error),
        };
        local.broken = Some(error.clone());
        Err(error)
    }
}

/// Why a change was refused with nothing changed; or what else went wrong with it.
fn refusal(error: ReplayError) -> Result<String, ReplayError> {
    match error {
        ReplayError::RefusedPath { rule, .. } => Ok(rule.to_string()),
        ReplayError::RefusedRange { at, bytes, .. } => Ok(no_file_holds(at, bytes)),
        other => Err(other),
    }
}

fn no_file_holds(at: u64, bytes: u64) -> String {
    format!("no file can hold {bytes} bytes at {at}")
}

/// The journal's name, which must not be the identity file's.
fn journal_name(
    worker: &WorkerRef,
    given: Option<JournalName>,
) -> Result<JournalName, ClientError> {
    let bad = |why: String| ClientError::BadRequest {
        what: format!("open the directory of worker {worker}"),
        why,
    };
    let name = match given {
        Some(name) => name,
        None => format!("{}.journal", worker.worker)
            .parse()
            .map_err(|e: crate::domain::NameError| bad(e.to_string()))?,
    };
    if identity::is_identity_name(name.as_str().as_bytes()) {
        return Err(bad(format!(
            "a journal cannot be named {name}, which is the identity file"
        )));
    }
    Ok(name)
}

fn new_identity(worker: &WorkerRef, epoch: Epoch) -> WorkerIdentity {
    WorkerIdentity {
        worker: worker.clone(),
        epoch,
        in_use: None,
        journals: BTreeMap::new(),
    }
}

/// Makes the directory if it is not there, locks it, and reads whose it is.
async fn prepare(
    worker: &WorkerRef,
    directory: &Path,
) -> Result<(DirectoryLock, Option<WorkerIdentity>), ClientError> {
    let (worker, directory) = (worker.clone(), directory.to_owned());
    task::blocking(move || {
        let made = fs::create_dir_all_synced(&directory);
        made.map_err(|e| ClientError::local("create", &directory, e))?;
        let lock = DirectoryLock::take(&directory)?;
        let Some(identity) = WorkerIdentity::read(&directory)? else {
            return Ok((lock, None));
        };
        let refuse = |why: String, next: &str| {
            Err(ClientError::LocalState {
                path: directory.clone(),
                why,
                next: next.to_owned(),
            })
        };
        if identity.worker != worker {
            let owner = &identity.worker;
            return refuse(
                format!("it belongs to worker {owner}, not to {worker}"),
                "give each worker a directory of its own",
            );
        }
        if let (Some(then), Some(now)) = (&identity.in_use, identity::this_boot())
            && *then != now
        {
            return refuse(
                "it was in use when the machine went down, so files may lack bytes that were never synced".into(),
                "restore the worker (`dos-cluster restore --force`)",
            );
        }
        Ok((lock, Some(identity)))
    })
    .await
}

/// Up to where the cluster has the journal.
async fn cluster_tail(client: &Client, journal: &JournalRef) -> Result<Offset, ClientError> {
    match client.stat(journal, Floor::Linearizable).await {
        Ok(answer) => Ok(answer.stat.map_or(Offset::ZERO, |stat| Offset(stat.tail))),
        Err(error) => match error.rejected() {
            Some(Rejected::UnknownJournal { .. }) => Ok(Offset::ZERO),
            _ => Err(error),
        },
    }
}

/// Refuses a local journal, whole up to `whole`, of which the cluster's cannot be a beginning, or which cannot be continued
/// because half a record is in the cluster.
fn check_tail(
    whole: Offset,
    length: Offset,
    tail: Offset,
    directory: &Path,
) -> Result<(), ClientError> {
    const RESTORE: &str = "restore the worker (`dos-cluster restore --force`)";
    let refuse = |why: String, next: String| {
        Err(ClientError::LocalState {
            path: directory.to_owned(),
            why,
            next,
        })
    };
    if tail > length {
        let why = format!("its journal has {length} bytes, but the cluster has {tail}");
        return refuse(why, RESTORE.into());
    }
    if tail > whole {
        let why = format!(
            "the last record of its journal, at {whole}, is torn, and part of it is in the cluster"
        );
        // A restore leaves just that of a record that a checkpoint covers.
        let next = if tail == length {
            format!(
                "{RESTORE}, which cuts it off; if it says that a checkpoint covers the record, write to another journal, whose name sorts behind this one's"
            )
        } else {
            RESTORE.into()
        };
        return refuse(why, next);
    }
    Ok(())
}

/// Opens the stream at a tail that was compared with what is here. When the tail has moved meanwhile it is compared again:
/// a writer that is ahead of this directory is not fenced by it.
async fn open_stream(
    client: &Client,
    journal: &JournalRef,
    epoch: Epoch,
    mut tail: Offset,
    options: AppendOptions,
    check: impl Fn(Offset) -> Result<(), ClientError>,
) -> Result<AppendStream, ClientError> {
    let mut opens = 0;
    loop {
        let (kind, options) = (JournalKind::Ops, options.clone());
        let opened = AppendStream::open(client, journal, kind, epoch, Some(tail), options).await;
        opens += 1;
        match opened
            .as_ref()
            .map_err(|error| (error.rejected(), error.effect()))
        {
            Err((Some(Rejected::WrongOffset { tail: now, .. }), Effect::None))
                if opens < OPENS_MAX =>
            {
                tail = *now;
            }
            _ => return opened,
        }
        check(tail)?;
    }
}

/// Where the worker's other journals are, which a checkpoint must cover too. An ops journal whose end is only here has changed the
/// files: it is brought up by opening the directory with it.
async fn other_journals(
    client: &Client,
    worker: &WorkerRef,
    journal: &JournalName,
    journals: &BTreeMap<JournalName, JournalKind>,
    directory: &Path,
) -> Result<BTreeMap<JournalName, Offset>, ClientError> {
    let mut others = BTreeMap::new();
    for (name, kind) in journals.iter().filter(|(name, _)| *name != journal) {
        let tail = cluster_tail(client, &worker.journal(name.clone())).await?;
        let here = fs::metadata(directory.join(name.as_str())).map(|found| found.len());
        if *kind == JournalKind::Ops && here.is_ok_and(|here| here != tail.0) {
            return Err(ClientError::LocalState {
                path: directory.to_owned(),
                why: format!(
                    "its journal {name} is not as long here as in the cluster, which has {tail}"
                ),
                next: "open it with that journal first, which brings the cluster up".into(),
            });
        }
        if tail > Offset::ZERO {
            others.insert(name.clone(), tail);
        }
    }
    Ok(others)
}

/// Names that no op may touch.
struct Reserved<'a> {
    map: &'a PathMap,
    journals: &'a BTreeMap<JournalName, JournalKind>,
}

/// Brings the local journal, of which the cluster has a beginning up to `tail`, and the files together: cuts off what was
/// not carried out, and carries out what may not have been.
fn settle(
    mut journal: LocalJournal,
    scan: &Scan,
    tail: Offset,
    reserved: &Reserved<'_>,
    unclean: bool,
    directory: &Path,
) -> Result<Local, ClientError> {
    if scan.whole < scan.length {
        journal.cut(scan.whole)?;
    }
    let mut files = Replayer::new(reserved.map.clone());
    let is_reserved = |record: &OpRecord| {
        identity::is_reserved(reserved.map, record.op.path(), reserved.journals.keys())
    };
    if unclean
        && let Some((offset, record)) = &scan.last
        && !is_reserved(record)
    {
        // It may have been written to the journal and not to the file.
        match files.apply(*offset, record) {
            Ok(_) => {}
            // It was refused then too, and the process ended before it was cut off.
            Err(ReplayError::RefusedPath { .. } | ReplayError::RefusedRange { .. })
                if tail.0 <= *offset =>
            {
                journal.cut(Offset(*offset))?;
            }
            // A restore passed it over, too.
            Err(ReplayError::RefusedPath { .. } | ReplayError::RefusedRange { .. }) => {}
            Err(error) => return Err(replay_error(directory, error)),
        }
    }
    Ok(Local {
        journal,
        files,
        next_tag: 1,
        broken: None,
    })
}

/// A failure of applying a change, as one of the client.
pub(super) fn replay_error(directory: &Path, error: ReplayError) -> ClientError {
    match error {
        ReplayError::Io { action, source, .. } => ClientError::local(action, directory, source),
        ReplayError::Sync { path, source } => ClientError::local("sync", path, source),
        other => ClientError::LocalState {
            path: directory.to_owned(),
            why: other.to_string(),
            next: "its journal and its files differ now: restore the worker (`dos-cluster restore --force`)".into(),
        },
    }
}

//! The mirror of one file.

use std::{io, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    compare::compare,
    fault::MirrorFault,
    slots::Slots,
    status::{Board, FilePhase},
    stopped,
};
use crate::{
    client::{
        AppendOptions, AppendPhase, AppendStream, Client, ClientError, Effect, Floor,
        local_journal::read_block, retry::Backoff,
    },
    codec::wire,
    domain::{Epoch, JournalKind, JournalRef, Offset, Rejected, Writer},
    env::{
        fs::{self, File, Metadata},
        task,
        time::{self, Duration, Instant},
    },
};

/// Bytes read at a time.
const BLOCK_BYTES: u64 = 256 * 1024;
/// Most bytes of a file that are sent and not durable.
const WINDOW_BYTES: usize = 1 << 20;
/// How long until a journal that someone writes is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a file that grows all the time may keep its stream while another waits for one.
const TURN: Duration = Duration::from_secs(10);

/// Which file a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What a scan saw under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: FileId,
    pub(super) length: Offset,
}

/// What the mirror of one file is made of.
#[derive(Debug)]
pub(super) struct FileMirror {
    pub(super) client: Client,
    pub(super) journal: JournalRef,
    pub(super) kind: JournalKind,
    pub(super) epoch: Epoch,
    pub(super) path: PathBuf,
    pub(super) once: bool,
    pub(super) steal: bool,
    pub(super) patience: Duration,
    /// What the last scan saw; `None`: nothing has that name.
    pub(super) seen: watch::Receiver<Option<Seen>>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) slots: Arc<Slots>,
    pub(super) board: Arc<Board>,
    /// The file that was opened first: another one of that name is not gone on with.
    pub(super) id: Option<FileId>,
}

/// What the cluster has of a journal.
#[derive(Debug)]
struct Found {
    tail: Offset,
    writer: Writer,
    appending: bool,
    log_index: u64,
}

/// Why a stream was closed.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    /// The mirror was stopped, or is through.
    Done,
    /// Another file waits for the slot.
    GaveBack,
}

impl FileMirror {
    /// Mirrors the file until the mirror is stopped; with `once`, until what is there is durable. What stopped it is on
    /// the board, too.
    pub(super) async fn run(mut self) -> Result<(), MirrorFault> {
        let ended = self.take_turns().await;
        if let Err(fault) = &ended {
            let phase = FilePhase::Stopped(fault.clone());
            self.board.phase(&self.journal.journal, phase, None);
        }
        ended
    }

    async fn take_turns(&mut self) -> Result<(), MirrorFault> {
        let mut stop = self.stop.clone();
        loop {
            let slots = self.slots.clone();
            let opened = async {
                let slot = slots.take().await;
                Ok::<_, MirrorFault>((slot, self.open().await?))
            };
            let (slot, (file, stream)) = tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                opened = opened => opened?,
            };
            let name = &self.journal.journal;
            let watch = stream.watch();
            self.board
                .phase(name, FilePhase::Streaming, Some(watch.clone()));
            let ended = self.stream(&file, stream).await?;
            let durable = watch.progress().durable;
            drop(slot);
            let local = self.seen.borrow().map_or(durable, |seen| seen.length);
            let phase = if durable >= local || self.once {
                FilePhase::Durable
            } else {
                FilePhase::Waiting { reason: None }
            };
            self.board.phase(&self.journal.journal, phase, None);
            if ended == Closed::Done || !self.differs_from(durable).await? {
                return Ok(());
            }
        }
    }

    /// Waits until the file has another length; false when the mirror was stopped.
    async fn differs_from(&mut self, length: Offset) -> Result<bool, MirrorFault> {
        let (path, journal, id) = (self.path.clone(), self.journal.clone(), self.id);
        let changed = self.seen.wait_for(|seen| {
            let known = |seen: Seen| Some(seen.id) == id && seen.length == length;
            !seen.is_some_and(known)
        });
        let seen = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Ok(false),
            seen = changed => match seen {
                Ok(seen) => *seen,
                Err(_) => return Ok(false),
            },
        };
        match seen {
            Some(seen) if Some(seen.id) == id => Ok(true),
            _ => Err(MirrorFault::Replaced { path, journal }),
        }
    }

    /// Opens file and journal, as long as an outage lasts unless `once`.
    async fn open(&mut self) -> Result<(Arc<File>, AppendStream), MirrorFault> {
        let mut backoff = Backoff::of_streams();
        loop {
            match self.try_open().await {
                Err(fault) if fault.is_outage() && !self.once => {
                    let reason = Some(fault.to_string());
                    let phase = FilePhase::Waiting { reason };
                    self.board.phase(&self.journal.journal, phase, None);
                    time::sleep(backoff.pause()).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_open(&mut self) -> Result<(Arc<File>, AppendStream), MirrorFault> {
        let deadline = Instant::now() + self.patience;
        let mut effect = Effect::None;
        loop {
            let found = self.look().await?;
            self.board.durable(&self.journal.journal, found.tail);
            if !found.appending || self.steal {
                let file = self.open_file()?;
                let (journal, path) = (&self.journal, &self.path);
                let (tail, log_index) = (found.tail, found.log_index);
                compare(&self.client, journal, path, &file, tail, log_index).await?;
                match self.open_stream(&found).await {
                    Ok(stream) => return Ok((file, stream)),
                    // Another writer came, or the last bytes of the one before: also an open of ours that was given up.
                    Err(error) if has_moved(&error) => {
                        if error.effect() == Effect::Unknown {
                            effect = Effect::Unknown;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if Instant::now() >= deadline {
                return Err(MirrorFault::InUse {
                    journal: self.journal.clone(),
                    writer: found.writer,
                    effect,
                });
            }
            time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the cluster has of the journal now, and whether someone writes it.
    async fn look(&self) -> Result<Found, ClientError> {
        let worker = &self.journal.owner;
        let list = self
            .client
            .list_journals(None, Some(worker), Floor::Linearizable)
            .await?;
        let name = self.journal.journal.as_str();
        let found = list.journals.into_iter().find(|stat| {
            let journal = stat.journal.as_ref();
            journal.is_some_and(|journal| journal.journal == name)
        });
        let Some(stat) = found else {
            return Ok(Found {
                tail: Offset::ZERO,
                writer: Writer(0),
                appending: false,
                log_index: list.applied_index,
            });
        };
        let token = wire::token_from_pb(stat.token).map_err(|error| ClientError::Failed {
            what: format!("look who writes journal {}", self.journal),
            reason: error.to_string(),
            effect: Effect::None,
        })?;
        Ok(Found {
            tail: Offset(stat.tail),
            writer: token.writer,
            appending: stat.appending,
            log_index: list.applied_index,
        })
    }

    fn open_file(&mut self) -> Result<Arc<File>, MirrorFault> {
        let failed = |what| move |error| (what, error);
        let opened = fs::open(&self.path).map_err(failed("open"));
        let opened = opened.and_then(|file| {
            let metadata = file.metadata().map_err(failed("look at"))?;
            Ok((file, FileId::of(&metadata)))
        });
        match opened {
            Ok((file, id)) if *self.id.get_or_insert(id) == id => Ok(Arc::new(file)),
            Ok(_) => Err(self.replaced()),
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound => Err(self.replaced()),
            Err((what, error)) => Err(ClientError::local(what, &self.path, error).into()),
        }
    }

    async fn open_stream(&self, found: &Found) -> Result<AppendStream, ClientError> {
        let options = AppendOptions {
            window_bytes: WINDOW_BYTES,
            give_up_after: self.once.then(|| self.client.options().timeout),
            over: Some(found.writer),
        };
        let (journal, kind, expected) = (&self.journal, self.kind, Some(found.tail));
        AppendStream::open(&self.client, journal, kind, self.epoch, expected, options).await
    }

    /// Streams what is there and what comes, and closes the stream once it is durable.
    async fn stream(
        &mut self,
        file: &Arc<File>,
        mut stream: AppendStream,
    ) -> Result<Closed, MirrorFault> {
        let (mut stop, mut watch) = (self.stop.clone(), stream.watch());
        let (began, slots) = (Instant::now(), self.slots.clone());
        let is_over = || !self.once && slots.are_wanted() && began.elapsed() >= TURN;
        let goal = self.goal(file)?;
        let mut seen = self.seen.clone();
        let closed = loop {
            seen.mark_unchanged();
            while !*stop.borrow() && !is_over() {
                let block = self.read(file, stream.end(), goal).await?;
                if block.is_empty() {
                    break;
                }
                tokio::select! {
                    biased;
                    () = stopped(&mut stop) => {}
                    appended = stream.append(block) => drop(appended?),
                }
            }
            if *stop.borrow() || goal.is_some_and(|goal| stream.end() >= goal) {
                break Closed::Done;
            }
            if is_over() {
                break Closed::GaveBack;
            }
            if let AppendPhase::Failed(error) = watch.phase() {
                return Err(error.into());
            }
            let is_idle = watch.progress().durable >= stream.end();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => {}
                changed = seen.changed() => if changed.is_err() {
                    break Closed::Done;
                },
                _ = watch.changed() => {}
                () = slots.wanted(), if is_idle => break Closed::GaveBack,
                () = time::sleep_until(began + TURN), if slots.are_wanted() => {}
            }
        };
        stream.close().await?;
        Ok(closed)
    }

    /// With `once`, up to where the file is copied: what is there now.
    fn goal(&self, file: &File) -> Result<Option<Offset>, ClientError> {
        if !self.once {
            return Ok(None);
        }
        let metadata = file.metadata();
        let metadata = metadata.map_err(|e| ClientError::local("look at", &self.path, e))?;
        Ok(Some(Offset(metadata.len())))
    }

    /// The next bytes of the file from `from` on, none at its end; after a look whether it is still the file that it was,
    /// and not shorter than what was sent.
    async fn read(
        &self,
        file: &Arc<File>,
        from: Offset,
        goal: Option<Offset>,
    ) -> Result<Bytes, MirrorFault> {
        let (held, path) = (file.clone(), self.path.clone());
        let looked = task::blocking(move || {
            let named = match fs::metadata(&path) {
                Ok(named) => Some(FileId::of(&named)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let length = Offset(held.metadata()?.len());
            let end = goal.map_or(length, |goal| goal.min(length));
            let bytes = usize::try_from(end.since(from).min(BLOCK_BYTES)).unwrap_or(0);
            let block = match read_block(&held, from, bytes) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None, // cut just now
                block => Some(block?),
            };
            Ok((named, length, block))
        });
        let looked = looked.await;
        let (named, length, block) =
            looked.map_err(|error| ClientError::local("read", &self.path, error))?;
        if named.is_none() || named != self.id {
            return Err(self.replaced());
        }
        match block {
            Some(block) if length >= from => Ok(block),
            _ => Err(MirrorFault::Cut {
                path: self.path.clone(),
                journal: self.journal.clone(),
                local: length,
                sent: from,
            }),
        }
    }

    fn replaced(&self) -> MirrorFault {
        MirrorFault::Replaced {
            path: self.path.clone(),
            journal: self.journal.clone(),
        }
    }
}

/// Whether the journal is not any more as it was looked at.
fn has_moved(error: &ClientError) -> bool {
    matches!(
        error.rejected(),
        Some(Rejected::OpenedMeanwhile { .. } | Rejected::WrongOffset { .. })
    )
}

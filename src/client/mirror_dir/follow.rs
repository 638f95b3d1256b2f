//! Which files are there: the scan of the directory, and a task per file.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::{
    MirrorOptions,
    claim::claim,
    fault::{MirrorError, MirrorFault, is_outage, no_file},
    file::{FileId, FileMirror, Seen},
    names::{NamePattern, Named, named, shown},
    slots::Slots,
    status::Board,
    stopped,
};
use crate::{
    client::{Client, ClientError, retry::Backoff},
    domain::{Epoch, JournalKind, JournalName, Offset, limits::JOURNALS_PER_WORKER_MAX},
    env::{
        fs,
        task::{self, JoinError, JoinSet},
        time::{self, Duration},
        watch::DirWatch,
    },
};

/// Streams open at a time.
const STREAMS_MAX: usize = 32;
/// A scan comes at least this often: not every file system tells of every change.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// Time between a wake-up and its scan, in which a busy writer's other wake-ups are gathered.
const GATHER: Duration = Duration::from_millis(50);

/// What follows the directory.
#[derive(Debug)]
pub(super) struct Follower {
    client: Client,
    options: MirrorOptions,
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
    slots: Arc<Slots>,
    /// Also those that have stopped, so that they are not begun again.
    files: BTreeMap<JournalName, watch::Sender<Option<Seen>>>,
    tasks: JoinSet<Result<(), MirrorFault>>,
}

/// What a scan found.
#[derive(Debug)]
struct Scan {
    directory: FileId,
    files: BTreeMap<JournalName, (JournalKind, Seen)>,
    refused: Vec<(OsString, String)>,
}

impl Follower {
    pub(super) fn new(
        client: Client,
        options: MirrorOptions,
        board: Arc<Board>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            client,
            options,
            board,
            stop,
            slots: Arc::new(Slots::new(STREAMS_MAX)),
            files: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Follows the directory until it is stopped, or with `once` until what is there is durable.
    pub(super) async fn run(mut self) -> Result<(), MirrorError> {
        // Before the first scan, so that nothing happens unseen in between.
        let watch = if self.options.once {
            None
        } else {
            Some(self.watch()?)
        };
        let mut scan = self.look(None).await?;
        let directory = scan.directory;
        // A worker that has nothing to mirror would hold its job's recovery line for nothing.
        while scan.files.is_empty() {
            self.note_refused(scan.refused);
            let (directory_path, pattern) = (&self.options.directory, &self.options.pattern);
            let Some(watch) = &watch else {
                return Err(MirrorError::NothingToMirror {
                    directory: directory_path.clone(),
                    pattern: pattern.clone(),
                });
            };
            self.board.idle(Some(no_file(directory_path, pattern)));
            self.wake(watch).await?;
            if *self.stop.borrow() {
                return Ok(());
            }
            scan = self.look(Some(directory)).await?;
        }
        self.board.idle(None);
        let Some(epoch) = self.open_worker().await? else {
            return Ok(());
        };
        loop {
            self.take_in(scan, epoch);
            match &watch {
                // All files have stopped, and no new one has come: whoever started this must hear of it.
                Some(_) if self.tasks.is_empty() => break,
                Some(watch) if !*self.stop.borrow() => self.wake(watch).await?,
                _ => break,
            }
            scan = self.look(Some(directory)).await?;
        }
        while let Some(ended) = self.tasks.join_next().await {
            check_takeover(ended)?;
        }
        Ok(())
    }

    fn watch(&self) -> Result<DirWatch, ClientError> {
        let directory = &self.options.directory;
        DirWatch::new(directory).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.cannot_follow(error),
            _ => ClientError::LocalState {
                path: directory.clone(),
                why: format!("it cannot be watched: {error}"),
                next:
                    "if a limit is reached, raise fs.inotify.max_user_watches or max_user_instances"
                        .into(),
            },
        })
    }

    /// Waits for a reason to scan.
    async fn wake(&mut self, watch: &DirWatch) -> Result<(), MirrorError> {
        let scan_at = time::Instant::now() + SCAN_EVERY;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(()),
                Some(ended) = self.tasks.join_next() => {
                    check_takeover(ended)?;
                    if self.tasks.is_empty() {
                        return Ok(());
                    }
                }
                changed = watch.changed() => {
                    let directory = &self.options.directory;
                    changed.map_err(|error| ClientError::local("watch", directory, error))?;
                    time::sleep(GATHER).await;
                    return Ok(());
                }
                () = time::sleep_until(scan_at) => return Ok(()),
            }
        }
    }

    /// The worker's epoch, once the cluster answers; `None` when it was stopped before that.
    async fn open_worker(&mut self) -> Result<Option<Epoch>, MirrorError> {
        let mut backoff = Backoff::of_streams();
        loop {
            let opened = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(None),
                opened = claim(&self.client, &self.options) => opened,
            };
            match opened {
                Ok((epoch, is_new)) => {
                    self.board.worker(Ok(is_new));
                    return Ok(Some(epoch));
                }
                Err(MirrorError::Client(error)) if !self.options.once && is_outage(&error) => {
                    self.board.worker(Err(&error));
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(None),
                () = time::sleep(backoff.pause()) => {}
            }
        }
    }

    /// Scans the directory, which must be `known` if that is given.
    async fn look(&self, known: Option<FileId>) -> Result<Scan, ClientError> {
        let directory = self.options.directory.clone();
        let pattern = self.options.pattern.clone();
        let scan = task::blocking(move || scan(&directory, &pattern)).await;
        let scan = scan.map_err(|error| self.cannot_follow(error))?;
        if known.is_some_and(|known| known != scan.directory) {
            return Err(self.gone());
        }
        Ok(scan)
    }

    fn cannot_follow(&self, error: io::Error) -> ClientError {
        let path = &self.options.directory;
        let name = path.file_name().filter(|_| {
            let found = fs::metadata(path);
            found.is_ok_and(|metadata| !metadata.is_dir())
        });
        let Some(name) = name else {
            return ClientError::local("follow", path, error);
        };
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new(".")).display();
        ClientError::LocalState {
            path: path.clone(),
            why: "it is a file, and a mirror follows the files in a directory".into(),
            next: format!(
                "give the directory and the name: {parent} --journal {}",
                name.display()
            ),
        }
    }

    fn note_refused(&self, refused: Vec<(OsString, String)>) {
        for (name, why) in refused {
            self.board.refused(shown(&name), why);
        }
    }

    /// Begins what is new, and tells the tasks what became of the rest.
    fn take_in(&mut self, scan: Scan, epoch: Epoch) {
        self.note_refused(scan.refused);
        for (name, known) in &self.files {
            let seen = scan.files.get(name).map(|(_, seen)| *seen);
            known.send_if_modified(|known| {
                let differs = *known != seen;
                *known = seen;
                differs
            });
        }
        for (name, (kind, seen)) in scan.files {
            if self.files.contains_key(&name) {
                self.board.seen(&name, kind, seen.length);
            } else if self.files.len() < JOURNALS_PER_WORKER_MAX {
                self.board.seen(&name, kind, seen.length);
                self.begin(name, kind, seen, epoch);
            } else {
                let why = format!("a worker has at most {JOURNALS_PER_WORKER_MAX} journals");
                self.board.refused(name.to_string(), why);
            }
        }
    }

    fn begin(&mut self, name: JournalName, kind: JournalKind, seen: Seen, epoch: Epoch) {
        let (sender, receiver) = watch::channel(Some(seen));
        let file = FileMirror {
            client: self.client.clone(),
            path: self.options.directory.join(name.as_str()),
            journal: self.options.worker.journal(name.clone()),
            kind,
            epoch,
            once: self.options.once,
            steal: self.options.steal,
            patience: self.options.patience,
            seen: receiver,
            stop: self.stop.clone(),
            slots: self.slots.clone(),
            board: self.board.clone(),
            id: None,
        };
        self.files.insert(name, sender);
        self.tasks.spawn(file.run());
    }

    fn gone(&self) -> ClientError {
        ClientError::LocalState {
            path: self.options.directory.clone(),
            why: "it was replaced while it was mirrored".into(),
            next: "start the mirror again to compare what is there now".into(),
        }
    }
}

/// The end of a file's task: its fault is on the board; a takeover ends the others, too.
fn check_takeover(ended: Result<Result<(), MirrorFault>, JoinError>) -> Result<(), MirrorError> {
    match ended {
        Ok(Err(MirrorFault::TakenOver { rejected, effect })) => {
            Err(MirrorError::TakenOver { rejected, effect })
        }
        Ok(_) => Ok(()),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(()), // the runtime goes down
        },
    }
}

fn scan(directory: &Path, pattern: &NamePattern) -> io::Result<Scan> {
    let mut scan = Scan {
        directory: FileId::of(&fs::metadata(directory)?),
        files: BTreeMap::new(),
        refused: Vec::new(),
    };
    for name in fs::list_dir(directory)? {
        let path: PathBuf = directory.join(&name);
        let (journal, kind) = match named(pattern, &name) {
            Named::Other => continue,
            Named::Refused(why) => {
                scan.refused.push((name, why));
                continue;
            }
            Named::Journal(journal, kind) => (journal, kind),
        };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let seen = Seen {
                    id: FileId::of(&metadata),
                    length: Offset(metadata.len()),
                };
                scan.files.insert(journal, (kind, seen));
            }
            Ok(_) => scan.refused.push((name, "it is no regular file".into())),
            // Removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => scan.refused.push((name, error.to_string())),
        }
    }
    Ok(scan)
}

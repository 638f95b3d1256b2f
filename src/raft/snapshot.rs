//! Raft's snapshots: durable images of the state store, as directories of files that are linked, streamed and installed, and
//! never whole in memory.
//!
//! ```text
//! snapshots/INDEX-TERM-NODE   a complete image, renamed into place; only the newest is kept
//! snapshots/building          an image in the making
//! snapshots/incoming-ID       files received from a leader, kept between attempts so that a transfer resumes
//! snapshots/received-NUMBER   all files of an image, verified; goes when it is installed, or when Raft has no use for it
//! ```
//! What is not a complete image goes at start, too. There is one `building`, and one newest image: whoever builds or installs
//! has the [`Turn`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::types::SnapshotMeta;
use crate::{
    env::{fs, rng},
    pb,
};

const BUILDING: &str = "building";
const INCOMING: &str = "incoming-";
const RECEIVED: &str = "received-";
const READ_BYTES: usize = 1024 * 1024;

/// A complete image on disk. The directory goes when the last handle of a replaced image is dropped.
#[derive(Debug, Clone)]
pub struct SnapshotHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Tells attempts to send this image apart from attempts to send another.
    id: u64,
    replaced: AtomicBool,
    verified: bool,
    files: OnceLock<Vec<pb::SnapshotFile>>,
}

impl SnapshotHandle {
    /// The image in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self::with(dir, false)
    }

    /// The image in `dir`, which came from another node, was verified, and is removed once nobody uses it.
    #[must_use]
    pub fn received(dir: PathBuf) -> Self {
        let handle = Self::with(dir, true);
        handle.replaced();
        handle
    }

    fn with(dir: PathBuf, verified: bool) -> Self {
        let inner = Inner {
            dir,
            id: rng::u64(),
            replaced: AtomicBool::new(false),
            verified,
            files: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Its number, drawn when the handle was made.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Whether all of it was read through since it came here.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.inner.verified
    }

    /// Removes the directory once nobody uses it.
    pub fn replaced(&self) {
        self.inner.replaced.store(true, Ordering::Release);
    }

    /// Name, size and checksum of each file. Reads them all the first time: call it off the async threads.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn files(&self) -> io::Result<Vec<pb::SnapshotFile>> {
        if let Some(files) = self.inner.files.get() {
            return Ok(files.clone());
        }
        let mut files = Vec::new();
        for name in fs::list_dir(&self.inner.dir)? {
            let name = name
                .into_string()
                .map_err(|_| io::Error::other("a snapshot file's name is not text"))?;
            let (bytes, crc32c) = checksum(&self.inner.dir.join(&name))?;
            files.push(pb::SnapshotFile {
                name,
                bytes,
                crc32c,
            });
        }
        Ok(self.inner.files.get_or_init(|| files).clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Acquire) {
            remove_dir_all(&self.dir);
        }
    }
}

fn remove_dir_all(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove an old snapshot; its space is not freed");
    }
}

/// Size and CRC-32C of a file, read in parts.
///
/// # Errors
/// When it cannot be read.
pub fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let file = fs::open(path)?;
    let bytes = file.metadata()?.len();
    let (mut at, mut crc) = (0, 0);
    let mut buffer = vec![0; READ_BYTES];
    while at < bytes {
        let part = usize::try_from(bytes - at).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let part = &mut buffer[..part];
        fs::read_exact_at(&file, part, at)?;
        crc = crc32c::crc32c_append(crc, part);
        at += part.len() as u64;
    }
    Ok((bytes, crc))
}

/// The right to build or install an image, and to say which is the newest. Held until all of that is done.
pub type Turn = OwnedMutexGuard<()>;

/// The `snapshots/` directory of a node. Clones share it.
#[derive(Debug, Clone)]
pub struct SnapshotDir {
    dir: Arc<Path>,
    turn: Arc<Mutex<()>>,
}

impl SnapshotDir {
    /// Opens it: drops what was left half done, and all complete images but the newest.
    ///
    /// # Errors
    /// When it cannot be read or created.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<SnapshotHandle>)> {
        fs::create_private_dir_all(dir)?;
        let mut newest: Option<((u64, u64, u64), PathBuf)> = None;
        for name in fs::list_dir(dir)? {
            let path = dir.join(&name);
            let name = name.to_string_lossy();
            let Some(id) = parse_name(&name) else {
                remove_dir_all(&path);
                continue;
            };
            match &newest {
                Some((best, _)) if *best >= id => remove_dir_all(&path),
                _ => {
                    if let Some((_, older)) = newest.replace((id, path)) {
                        remove_dir_all(&older);
                    }
                }
            }
        }
        let handle = newest.map(|(_, path)| SnapshotHandle::new(path));
        let snapshots = Self {
            dir: dir.into(),
            turn: Arc::default(),
        };
        Ok((snapshots, handle))
    }

    /// Waits until nobody else builds or installs.
    pub async fn turn(&self) -> Turn {
        self.turn.clone().lock_owned().await
    }

    /// Where the next image is built. Empty: what was there is removed.
    #[must_use]
    pub fn building(&self, _turn: &Turn) -> PathBuf {
        let path = self.dir.join(BUILDING);
        remove_dir_all(&path);
        path
    }

    /// Names a built image for good.
    ///
    /// # Errors
    /// When it cannot be renamed or the directory not synced.
    pub fn complete(
        &self,
        _turn: &Turn,
        built: &Path,
        meta: &SnapshotMeta,
    ) -> io::Result<SnapshotHandle> {
        let path = self.dir.join(name_of(meta));
        if fs::exists(&path)? {
            // IMPORTANT: the same log id is the same state, and the image that is there may be the one that a purge relied
            // on: were it removed first, a power cut before the rename is durable would leave none.
            remove_dir_all(built);
        } else {
            fs::rename(built, &path)?;
        }
        fs::sync_dir(&self.dir)?; // IMPORTANT: a purge relies on this image
        Ok(SnapshotHandle::new(path))
    }

    /// Where the files of the image `id` are received; files of other attempts are dropped.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn incoming(&self, id: u64) -> io::Result<PathBuf> {
        let wanted = format!("{INCOMING}{id:016x}");
        for name in fs::list_dir(&self.dir)? {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with(INCOMING) && name != wanted {
                remove_dir_all(&self.dir.join(name));
            }
        }
        let path = self.dir.join(wanted);
        fs::create_private_dir_all(&path)?;
        Ok(path)
    }

    /// Takes a verified image out of the reach of later offers. It is removed once nobody uses it.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn received(&self, incoming: &Path) -> io::Result<SnapshotHandle> {
        // Not the image's own number: the leader may send it again while this one waits to be installed.
        let path = self.dir.join(format!("{RECEIVED}{:016x}", rng::u64()));
        fs::rename(incoming, &path)?;
        fs::sync_dir(&self.dir)?;
        Ok(SnapshotHandle::received(path))
    }

    /// Gives up an image that is being received.
    pub fn drop_incoming(&self, incoming: &Path) {
        remove_dir_all(incoming);
    }
}

/// `INDEX-TERM-NODE`, index first so that the newest sorts last.
fn name_of(meta: &SnapshotMeta) -> String {
    let (index, term, node) = meta.last_log_id.map_or((0, 0, 0), |id| {
        (id.index, id.leader_id.term, id.leader_id.node_id)
    });
    format!("{index:020}-{term:020}-{node:020}")
}

fn parse_name(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name
        .split('-')
        .map(|part| (part.len() == 20).then(|| part.parse().ok()).flatten());
    let id = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(id)
}

//! Receiving a snapshot: keep what arrives, verify all of it, sync it, and only then hand it to Raft.
//!
//! Two things are verified: that the files are those of the leader (their checksums), and that they are an image of a state
//! (everything in it is read). The second is for a leader whose disk has changed what it wrote: its checksums are right, and an
//! install would replace a good state by its damaged one. Raft stops for good when an install fails, so it comes before.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt};
use tonic::Status;

use super::{
    snapshot::{SnapshotDir, SnapshotHandle, checksum},
    types::{Applied, SnapshotMeta},
};
use crate::{
    domain::NodeId,
    env::{fs, task},
    pb,
    storage::{StorageError, state::StateStore},
};

/// Most files of one snapshot.
const FILES_MAX: usize = 100_000;

fn refused(why: impl ToString) -> Status {
    Status::invalid_argument(why.to_string())
}

fn io_failed(error: &io::Error) -> Status {
    Status::internal(format!("cannot keep the snapshot received: {error}"))
}

/// A file of a snapshot is a plain name in its directory: nothing in a message leads out of it.
fn plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(parts.next(), Some(Component::Normal(part)) if part == name) && parts.next().is_none()
}

fn check(manifest: &pb::SnapshotManifest) -> Result<(), Status> {
    if manifest.files.len() > FILES_MAX {
        return Err(refused(format!(
            "a snapshot of {} files: at most {FILES_MAX} are taken",
            manifest.files.len()
        )));
    }
    match manifest.files.iter().find(|file| !plain(&file.name)) {
        Some(file) => Err(refused(format!("a snapshot file called {:?}", file.name))),
        None => Ok(()),
    }
}

/// Takes the snapshots that leaders send. Clones share what they know.
#[derive(Debug, Clone)]
pub(super) struct SnapshotReceiver {
    snapshots: SnapshotDir,
    store: Arc<dyn StateStore>,
    /// The damaged image that came last, and what is wrong with it: nothing of it is taken a second time.
    damaged: Arc<Mutex<Option<(u64, String)>>>,
}

impl SnapshotReceiver {
    pub(super) fn new(snapshots: SnapshotDir, store: Arc<dyn StateStore>) -> Self {
        Self {
            snapshots,
            store,
            damaged: Arc::default(),
        }
    }

    /// What is still wanted of an offered snapshot.
    ///
    /// # Errors
    /// When the offer is malformed, or of an image that was damaged; when the disk fails.
    pub(super) async fn wanted(
        &self,
        manifest: pb::SnapshotManifest,
    ) -> Result<Vec<pb::WantedFile>, Status> {
        check(&manifest)?;
        self.check_not_damaged(manifest.id)?;
        let snapshots = self.snapshots.clone();
        let wanted = task::blocking(move || {
            let dir = snapshots.incoming(manifest.id)?;
            let mut wanted = Vec::new();
            for file in manifest.files {
                let path = dir.join(&file.name);
                let have = if fs::exists(&path)? {
                    fs::open(&path)?.metadata()?.len()
                } else {
                    0
                };
                // A file that is longer than it should be is not the one offered.
                let from = if have > file.bytes { 0 } else { have };
                if from < file.bytes || file.bytes == 0 {
                    wanted.push(pb::WantedFile {
                        name: file.name,
                        from,
                    });
                }
            }
            io::Result::Ok(wanted)
        });
        wanted.await.map_err(|e| io_failed(&e))
    }

    /// Receives the files of one snapshot and verifies it. What arrived stays for the next attempt when this one fails.
    ///
    /// # Errors
    /// When the stream breaks off, a checksum does not match, the image is damaged or not of `meta`, or the disk fails.
    pub(super) async fn receive(
        &self,
        manifest: &pb::SnapshotManifest,
        meta: &SnapshotMeta,
        mut chunks: impl Stream<Item = Result<pb::SnapshotChunk, Status>> + Unpin,
    ) -> Result<SnapshotHandle, Status> {
        check(manifest)?;
        self.check_not_damaged(manifest.id)?;
        let dir = self
            .snapshots
            .incoming(manifest.id)
            .map_err(|e| io_failed(&e))?;
        let sizes: BTreeMap<&str, u64> = manifest
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.bytes))
            .collect();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            check_chunk(&chunk, sizes.get(chunk.file.as_str()).copied())?;
            let path = dir.join(&chunk.file);
            task::blocking(move || {
                fs::write_all_at(&fs::open_or_create(&path)?, &chunk.data, chunk.at)
            })
            .await
            .map_err(|e| io_failed(&e))?;
        }
        let (receiver, files, meta) = (self.clone(), manifest.files.clone(), meta.clone());
        let id = manifest.id;
        let from = NodeId(manifest.header.as_ref().map_or(0, |header| header.from));
        task::blocking(move || {
            verify_files(&dir, &files)?;
            match receiver.verify_image(&dir, &meta) {
                Ok(()) => receiver.snapshots.received(&dir).map_err(|e| io_failed(&e)),
                Err(Unfit::Here(error)) => Err(io_failed(&error.into())),
                Err(Unfit::Damaged(why)) => {
                    receiver.snapshots.drop_incoming(&dir);
                    tracing::error!(
                        %from, %why,
                        "the snapshot that was received is damaged, and this node keeps the state it has: {from} must not lead; \
                         transfer leadership, remove it with `dos-cluster member remove {from}` and join it again with an empty \
                         data directory"
                    );
                    Err(receiver.note_damaged(id, why))
                }
            }
        })
        .await
    }

    fn verify_image(&self, dir: &Path, meta: &SnapshotMeta) -> Result<(), Unfit> {
        let mark = self.store.verify(dir).map_err(|error| match error {
            StorageError::StateDamaged { what, .. } => Unfit::Damaged(what),
            StorageError::JournalDamaged {
                journal, at, why, ..
            } => Unfit::Damaged(format!("journal {journal} at offset {at}: {why}")),
            other => Unfit::Here(other),
        })?;
        let found = Applied::decode(mark).map_err(|error| Unfit::Damaged(error.to_string()))?;
        if found.meta() == *meta {
            Ok(())
        } else {
            let found = found.meta();
            Err(Unfit::Damaged(format!("it is of {found}, not of {meta}")))
        }
    }

    fn check_not_damaged(&self, id: u64) -> Result<(), Status> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        match &*damaged {
            Some((known, why)) if *known == id => Err(damaged_image(why)),
            _ => Ok(()),
        }
    }

    fn note_damaged(&self, id: u64, why: String) -> Status {
        let status = damaged_image(&why);
        *self.damaged.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, why));
        status
    }
}

/// Why an image is not handed to Raft.
enum Unfit {
    /// It is not what a store made.
    Damaged(String),
    /// It could not be read here.
    Here(StorageError),
}

/// A precondition, so that the leader waits before it offers it again, and does not send it.
fn damaged_image(why: &str) -> Status {
    Status::failed_precondition(format!("this snapshot is damaged: {why}"))
}

/// A chunk lies within a file of `size`, and is as it was sent.
fn check_chunk(chunk: &pb::SnapshotChunk, size: Option<u64>) -> Result<(), Status> {
    let size = size.ok_or_else(|| refused(format!("no file {:?} was offered", chunk.file)))?;
    let end = chunk.at.checked_add(chunk.data.len() as u64);
    if end.is_none_or(|end| end > size) {
        return Err(refused(format!("bytes behind the end of {:?}", chunk.file)));
    }
    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
        return Err(Status::data_loss(format!(
            "{:?} was damaged on the way, at {}",
            chunk.file, chunk.at
        )));
    }
    Ok(())
}

/// Every file is there, whole and undamaged, and durable.
fn verify_files(dir: &Path, files: &[pb::SnapshotFile]) -> Result<(), Status> {
    for file in files {
        let path = dir.join(&file.name);
        let open = fs::open_or_create(&path).map_err(|e| io_failed(&e))?;
        let (bytes, crc) = checksum(&path).map_err(|e| io_failed(&e))?;
        if bytes < file.bytes {
            return Err(Status::unavailable(format!(
                "{:?} has {bytes} of {} bytes so far",
                file.name, file.bytes
            )));
        }
        if (bytes, crc) != (file.bytes, file.crc32c) {
            // Not the bytes offered: begin this file again.
            fs::remove_file(&path).map_err(|e| io_failed(&e))?;
            return Err(Status::data_loss(format!(
                "{:?} does not match its checksum",
                file.name
            )));
        }
        open.sync_all().map_err(|e| io_failed(&e))?;
    }
    fs::sync_dir(dir).map_err(|e| io_failed(&e))
}

#[cfg(test)]
mod tests;

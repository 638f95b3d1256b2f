//! Receiving a snapshot: keep what arrives, verify all of it, sync it, and only then hand it to Raft.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

use tonic::{Status, Streaming};

use super::snapshot::{SnapshotDir, SnapshotHandle, checksum};
use crate::{
    env::{fs, task},
    pb,
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

/// What is still wanted of an offered snapshot.
///
/// # Errors
/// When the offer is malformed or the disk fails.
pub(super) async fn wanted(
    snapshots: &SnapshotDir,
    manifest: pb::SnapshotManifest,
) -> Result<Vec<pb::WantedFile>, Status> {
    check(&manifest)?;
    let snapshots = snapshots.clone();
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
/// When the stream breaks off, a checksum does not match, or the disk fails.
pub(super) async fn receive(
    snapshots: &SnapshotDir,
    manifest: &pb::SnapshotManifest,
    mut chunks: Streaming<pb::SnapshotChunk>,
) -> Result<SnapshotHandle, Status> {
    check(manifest)?;
    let dir = snapshots.incoming(manifest.id).map_err(|e| io_failed(&e))?;
    let sizes: BTreeMap<String, u64> = manifest
        .files
        .iter()
        .map(|file| (file.name.clone(), file.bytes))
        .collect();
    while let Some(chunk) = chunks.message().await? {
        let size = sizes
            .get(&chunk.file)
            .copied()
            .ok_or_else(|| refused(format!("no file {:?} was offered", chunk.file)))?;
        let end = chunk
            .at
            .checked_add(chunk.data.len() as u64)
            .filter(|end| *end <= size);
        if end.is_none() {
            return Err(refused(format!("bytes behind the end of {:?}", chunk.file)));
        }
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(Status::data_loss(format!(
                "{:?} was damaged on the way, at {}",
                chunk.file, chunk.at
            )));
        }
        let path = dir.join(&chunk.file);
        task::blocking(move || {
            fs::write_all_at(&fs::open_or_create(&path)?, &chunk.data, chunk.at)
        })
        .await
        .map_err(|e| io_failed(&e))?;
    }
    let files = manifest.files.clone();
    task::blocking(move || verify(dir, &files)).await
}

/// Every file is there, whole and undamaged, and durable.
fn verify(dir: PathBuf, files: &[pb::SnapshotFile]) -> Result<SnapshotHandle, Status> {
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
    fs::sync_dir(&dir).map_err(|e| io_failed(&e))?;
    Ok(SnapshotHandle::new(dir))
}

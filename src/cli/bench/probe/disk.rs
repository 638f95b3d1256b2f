//! What a sync costs, and how much logs write.

use std::{io, path::Path};

use super::super::{latency::Latencies, line::float};
use crate::env::{
    fs::{self, BLOCK_BYTES, File},
    rng,
    task::{self, JoinSet},
    time::{Duration, Instant},
};

/// Bytes between two syncs of three logs at once.
pub(super) const SYNC_BYTES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// A log, written round and round.
const LOG_BYTES: u64 = 64 << 20;
const LOGS: usize = 3;

/// How long a block and its sync take within a file that is there, and at the end of one that grows.
pub(super) async fn syncs(dir: &Path, lasts: Duration) -> io::Result<(Latencies, Latencies)> {
    let (old, new) = (dir.join("old"), dir.join("new"));
    task::blocking(move || {
        let overwritten = write_and_sync(&preallocated(&old)?, BLOCK_BYTES, LOG_BYTES, lasts)?;
        let grown = write_and_sync(&fs::open_or_create(&new)?, BLOCK_BYTES, u64::MAX, lasts)?;
        fs::remove_file(&old)?;
        fs::remove_file(&new)?;
        Ok((overwritten, grown))
    })
    .await
}

/// Bytes a second that three logs write together, with a sync after every `bytes_per_sync` of one.
pub(super) async fn three_logs(
    dir: &Path,
    bytes_per_sync: usize,
    lasts: Duration,
) -> io::Result<f64> {
    let mut files = Vec::new();
    for number in 0..LOGS {
        let path = dir.join(format!("log{number}"));
        files.push(task::blocking(move || preallocated(&path)).await?);
    }
    let mut logs = JoinSet::new();
    let began = Instant::now();
    for file in files {
        logs.spawn_blocking(move || write_and_sync(&file, bytes_per_sync, LOG_BYTES, lasts));
    }
    let mut syncs = 0;
    while let Some(log) = logs.join_next().await {
        syncs += log??.count();
    }
    Ok(float(syncs) * float(bytes_per_sync as u64) / began.elapsed().as_secs_f64())
}

/// A file whose blocks are all there and written, so that a write within it changes no metadata.
fn preallocated(path: &Path) -> io::Result<File> {
    let file = fs::open_or_create(path)?;
    let bytes = random(1 << 20);
    let mut at = file.metadata()?.len();
    while at < LOG_BYTES {
        fs::write_all_at(&file, &bytes, at)?;
        at += bytes.len() as u64;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes so many bytes and syncs them, again and again, from the beginning once `end` is reached.
fn write_and_sync(file: &File, bytes: usize, end: u64, lasts: Duration) -> io::Result<Latencies> {
    let mut latencies = Latencies::new();
    let (bytes, mut at) = (random(bytes), 0);
    let began = Instant::now();
    while began.elapsed() < lasts {
        let this_began = Instant::now();
        fs::write_all_at(file, &bytes, at)?;
        file.sync_data()?;
        latencies.record(this_began.elapsed());
        at += bytes.len() as u64;
        if at >= end {
            at = 0;
        }
    }
    Ok(latencies)
}

/// Bytes that no disk makes fewer of.
pub(super) fn random(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&rng::u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

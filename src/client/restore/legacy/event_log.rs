//! The event log of a worker from its journal. A worker that is shut down in order removes the file, not the journal: the next
//! run, in the same directory, begins a new file, and its journal goes on behind the old one. So the file is what the journal
//! holds from its last beginning on.

use std::path::Path;

use super::ends::read_events;
use crate::{
    client::{ClientError, local_journal::blocks},
    codec::evlog::Event,
    env::fs::{self, File},
};

/// The id that a log begins with, and that no later checkpoint has.
const FIRST_ID: Event = Event::CheckpointId(0);

/// Writes the file from its journal, in which every entry is whole.
///
/// # Errors
/// Of the disk.
pub(super) fn write(journal: &Path, to: &Path) -> Result<(), ClientError> {
    let source = fs::open(journal).map_err(|e| ClientError::local("open", journal, e))?;
    let length = length(journal, &source)?;
    let mut from = 0;
    // A malformed one was refused before.
    let _ = read_events(journal, &source, length, |entry| {
        if entry.event == FIRST_ID {
            from = entry.offset;
        }
    })?;
    let target = fs::open_or_create(to).map_err(|e| ClientError::local("create", to, e))?;
    for block in blocks(&source, length) {
        let (at, mut block) = block.map_err(|e| ClientError::local("read", journal, e))?;
        let before = from.saturating_sub(at.0).min(block.len() as u64);
        let kept = block.split_off(usize::try_from(before).unwrap_or(block.len()));
        let at = (at.0 + before).saturating_sub(from);
        fs::write_all_at(&target, &kept, at).map_err(|e| ClientError::local("write", to, e))?;
    }
    Ok(())
}

/// Where a file holds the id of a checkpoint.
///
/// # Errors
/// Of the disk.
pub(super) fn places(path: &Path, number: u64) -> Result<Vec<u64>, ClientError> {
    let file = fs::open(path).map_err(|e| ClientError::local("open", path, e))?;
    let length = length(path, &file)?;
    let mut places = Vec::new();
    let _ = read_events(path, &file, length, |entry| {
        if entry.event == Event::CheckpointId(number) {
            places.push(entry.offset);
        }
    })?;
    Ok(places)
}

fn length(path: &Path, file: &File) -> Result<u64, ClientError> {
    let found = file.metadata();
    Ok(found
        .map_err(|e| ClientError::local("look at", path, e))?
        .len())
}

//! Whether a legacy worker could start from what was restored, found out before any of it is put into place.

use std::path::Path;

use super::{
    cure::Cure,
    event_log,
    family::Family,
    install::{LOCAL_KEYS, Staging, event_log_of},
    replay::Replayed,
};
use crate::{
    client::ClientError,
    domain::{CheckpointId, JournalName},
    env::fs,
};

/// What a worker exits without, beside its event log.
const REQUIRED: [&str; 5] = [
    "checkpoint_ids",
    "local-topology",
    LOCAL_KEYS,
    "tcp-control",
    "workers",
];
/// What all workers but the initializer exit without.
const REQUIRED_OF_OTHERS: [&str; 2] = ["tcp-data", "connection-addresses"];
/// One entry of `.checkpoint_ids`, in bytes; only the last one counts.
const ENTRY_BYTES: usize = 24;

/// What a worker would start from.
#[derive(Debug)]
pub(super) struct Startable {
    /// The checkpoint that it rolls back to.
    pub(super) checkpoint: CheckpointId,
    /// What an operator should know before it is started.
    pub(super) warnings: Vec<String>,
}

/// Looks through what a worker would look through.
///
/// # Errors
/// `NotStartable` with the cure, or a disk's.
pub(super) fn check(
    family: &Family,
    staging: &Staging,
    replayed: &Replayed,
    cure: &Cure,
) -> Result<Startable, ClientError> {
    let files = staging.files();
    let missing = |suffixes: &[&str]| missing(family, &files, suffixes);
    let logs: Vec<&JournalName> = family
        .logs
        .iter()
        .filter(|log| staging.has_events(log))
        .collect();
    let mut lacks = missing(&REQUIRED)?;
    if logs.is_empty() {
        lacks.push(family.file("evlog"));
    }
    if !lacks.is_empty() {
        let lacks = lacks.join(", ");
        return Err(cure.not_startable(match replayed.removed_at {
            Some(at) => format!(
                "it was shut down cleanly, which removed its files (the last one at {at} of journal {}): {lacks}",
                family.ops
            ),
            None => format!("its journals do not make {lacks}"),
        }));
    }
    let Some(checkpoint) = last_entry(&files.join(family.file("checkpoint_ids")))? else {
        let why = format!("{} holds no entry", family.file("checkpoint_ids"));
        return Err(cure.not_startable(why));
    };
    let mut warnings = Vec::new();
    let places = places(staging, &logs, checkpoint.number)?;
    match places.as_slice() {
        [] => {
            let why = format!("its event log lacks checkpoint {}, which it calls complete", checkpoint.number);
            return Err(cure.not_startable(why));
        }
        [_] => {}
        [(first, at), ..] => warnings.push(format!(
            "checkpoint {} is {} times in the event log, and the worker takes the first one, at {at} of {first}: an earlier run used its number too",
            checkpoint.number,
            places.len()
        )),
    }
    if let (Some((log, _)), Some(last)) = (places.last(), logs.last())
        && log != *last
    {
        warnings.push(format!(
            "checkpoint {} is in {}, before the last part of the event log: a worker that looks into the last part only does not find it",
            checkpoint.number,
            event_log_of(log)
        ));
    }
    let lacks = missing(&REQUIRED_OF_OTHERS)?;
    if !lacks.is_empty() {
        warnings.push(format!(
            "its journals do not make {}: only the initializer starts without",
            lacks.join(", ")
        ));
    }
    Ok(Startable {
        checkpoint,
        warnings,
    })
}

fn missing(family: &Family, files: &Path, suffixes: &[&str]) -> Result<Vec<String>, ClientError> {
    let mut missing = Vec::new();
    for suffix in suffixes {
        let name = family.file(suffix);
        let path = files.join(&name);
        if !fs::exists(&path).map_err(|e| ClientError::local("look at", &path, e))? {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// What the last entry calls complete, in its rollback epoch.
fn last_entry(path: &Path) -> Result<Option<CheckpointId>, ClientError> {
    let failed = |e| ClientError::local("read", path, e);
    let file = fs::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let Some(at) = length.checked_sub(ENTRY_BYTES as u64) else {
        return Ok(None);
    };
    let mut entry = [0; ENTRY_BYTES];
    fs::read_exact_at(&file, &mut entry, at).map_err(failed)?;
    let [_, number, rollback_epoch] = {
        let mut numbers = [0; 3];
        for (number, bytes) in numbers.iter_mut().zip(entry.chunks_exact(8)) {
            *number = bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        numbers
    };
    Ok(Some(CheckpointId {
        rollback_epoch,
        number,
    }))
}

/// Where the id of a checkpoint is in the event log, part by part.
fn places(
    staging: &Staging,
    logs: &[&JournalName],
    number: u64,
) -> Result<Vec<(JournalName, u64)>, ClientError> {
    let mut places = Vec::new();
    for log in logs {
        let path = staging.files().join(event_log_of(log));
        let found = event_log::places(&path, number)?.into_iter();
        places.extend(found.map(|at| ((*log).clone(), at)));
    }
    Ok(places)
}

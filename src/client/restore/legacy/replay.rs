//! Replaying the ops journal of a legacy worker, from nothing, into files with the names that its paths end in.
//!
//! As the original's `journal-dump.py`, but for its faults: it wrote wherever a path led, over whatever was there.

use std::path::Path;

use bytes::Bytes;

use super::{
    super::{REFUSED_MAX, RefusedPath},
    family::Family,
};
use crate::{
    client::{
        ClientError,
        journaled_dir::replay_error,
        local_journal::{RecordsError, read_records},
        replay::{Applied, PathMap, ReplayError, Replayer},
        restore::RefusalReason,
    },
    codec::ops::{Op, OpRecord, Record},
    domain::Offset,
    env::fs,
};

const LOCAL_KEYS: &[u8] = b"local-keys";
/// Of what event logs and journals are made: from their journals, not from what the ops say of them.
const NOT_FROM_OPS: [&[u8]; 3] = [b"evlog", b"evlog.journal", b"journal"];

/// What a replay came to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) records: u64,
    pub(super) unknown_records: u64,
    /// Paths of this worker that no file can have.
    pub(super) refused: Vec<RefusedPath>,
    /// Paths that are not of this worker's files: the rotation history, which lies in its working directory.
    pub(super) skipped: Vec<RefusedPath>,
    /// Where the last record is that removed a file; as a worker does when it is shut down.
    pub(super) removed_at: Option<Offset>,
}

/// Replays the journal at `path`, of `length` bytes and whole, into the directory `files`. `done` is told the offsets passed.
pub(super) fn replay(
    family: &Family,
    path: &Path,
    length: u64,
    files: &Path,
    done: impl Fn(u64),
) -> Result<Replayed, ClientError> {
    let file = fs::open(path).map_err(|e| ClientError::local("open", path, e))?;
    let mut replay = Replay {
        family,
        replayer: Replayer::new(PathMap::new(files.to_owned())),
        files,
        local_keys: 0,
        replayed: Replayed::default(),
    };
    let failed = |error| match error {
        RecordsError::Read(e) => ClientError::local("read", path, e),
        RecordsError::Malformed(source) => ClientError::MalformedJournal {
            journal: family.ops.clone(),
            source,
        },
    };
    let each = |record| {
        replay.replayed.records += 1;
        match record {
            Record::Unknown(_) => {
                replay.replayed.unknown_records += 1;
                Ok(())
            }
            Record::Op { offset, record } => {
                done(offset);
                replay.apply(offset, record)
            }
        }
    };
    read_records(&file, length, each, failed)?;
    let synced = replay.replayer.finish();
    synced.map_err(|error| replay_error(files, error))?;
    Ok(replay.replayed)
}

struct Replay<'a> {
    family: &'a Family,
    replayer: Replayer,
    files: &'a Path,
    /// How long `.local-keys` is, in bytes.
    local_keys: u64,
    replayed: Replayed,
}

impl Replay<'_> {
    fn apply(&mut self, offset: u64, record: OpRecord) -> Result<(), ClientError> {
        let path = record.op.path().clone();
        // Whatever directory the worker had when it wrote that: it moves.
        let at = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let name = path.slice(at..);
        let Some(suffix) = self.family.suffix(&name) else {
            let why = RefusalReason::NotThisWorkers;
            name_path(&mut self.replayed.skipped, self.family, &path, offset, why);
            return Ok(());
        };
        if NOT_FROM_OPS.contains(&suffix) {
            return Ok(());
        }
        let is_keys =
            suffix == LOCAL_KEYS && name.len() == self.family.prefix.len() + 1 + suffix.len();
        let record = OpRecord {
            op: self.renamed(record.op, name, is_keys),
            ..record
        };
        let why = match self.replayer.apply(offset, &record) {
            Ok(Applied::Removed) => {
                self.replayed.removed_at = Some(Offset(offset));
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(ReplayError::RefusedPath { rule, .. }) => RefusalReason::Path(rule),
            Err(error @ ReplayError::RefusedRange { .. }) => {
                RefusalReason::Range(error.to_string())
            }
            Err(error) => return Err(replay_error(self.files, error)),
        };
        name_path(&mut self.replayed.refused, self.family, &path, offset, why);
        Ok(())
    }

    /// The op on the file of that name below the directory.
    fn renamed(&mut self, op: Op, path: Bytes, is_keys: bool) -> Op {
        match op {
            Op::SetLength { length, .. } => {
                if is_keys {
                    self.local_keys = length;
                }
                Op::SetLength { path, length }
            }
            Op::WriteV { offset, data, .. } => {
                // IMPORTANT: the worker only appends to it, but a worker that has recovered journals a stale offset, mostly
                // 0: taken at its word, it would write new keys over old ones.
                let offset = if is_keys { self.local_keys } else { offset };
                if is_keys {
                    self.local_keys = self.local_keys.saturating_add(data.len() as u64);
                }
                Op::WriteV { offset, path, data }
            }
            Op::Remove { .. } => {
                if is_keys {
                    self.local_keys = 0;
                }
                Op::Remove { path }
            }
        }
    }
}

/// Names a path once, with the number of its records.
fn name_path(
    named: &mut Vec<RefusedPath>,
    family: &Family,
    path: &Bytes,
    offset: u64,
    why: RefusalReason,
) {
    let path = String::from_utf8_lossy(path).into_owned();
    if let Some(known) = named.iter_mut().find(|known| known.path == path) {
        known.records += 1;
    } else if named.len() < REFUSED_MAX {
        named.push(RefusedPath {
            journal: family.ops.clone(),
            path,
            offset: Offset(offset),
            why,
            records: 1,
        });
    }
}

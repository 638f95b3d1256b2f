//! Replaying fetched ops journals into files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    REFUSED_MAX, RefusalReason, RefusedPath, RestoredJournal, TornTail, fetch::Fetched,
    staging::Staging,
};
use crate::{
    client::{
        ClientError, identity,
        journaled_dir::replay_error,
        local_journal::{RecordsError, read_records},
        replay::{Applied, PathMap, ReplayError, Replayer},
    },
    codec::ops::{OpRecord, Record, Tail},
    domain::{JournalId, JournalKind, JournalName, Offset, TakenOver},
    env::fs,
};

/// Most file names that are counted one by one.
const FILES_MAX: usize = 1 << 20;

type Journals = BTreeMap<JournalName, (JournalId, JournalKind, Offset)>;

/// What a replay came to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) refused: Vec<RefusedPath>,
    pub(super) torn: Vec<TornTail>,
    pub(super) files: u64,
    records: BTreeMap<JournalName, (u64, u64)>,
}

impl Replayed {
    /// The report of each journal.
    pub(super) fn journals(&self, taken: &TakenOver, fetched: Fetched) -> Vec<RestoredJournal> {
        RestoredJournal::all(taken, fetched, |name| {
            self.records.get(name).copied().unwrap_or_default()
        })
    }
}

/// Replays every ops journal, in the order of their names; raw ones are done as they are. `done` is sent the bytes behind it.
pub(super) fn replay(
    map: PathMap,
    journals: &Journals,
    staging: &Staging,
    done: &watch::Sender<u64>,
) -> Result<Replayed, ClientError> {
    let mut replayed = Replayed::default();
    let mut files = BTreeSet::new();
    let mut replayer = Replayer::new(map.clone());
    let mut behind = 0;
    for (name, (_, kind, tail)) in journals {
        let before = behind;
        behind += tail.0;
        if *kind != JournalKind::Ops {
            continue;
        }
        let mut one = OneJournal {
            name,
            map: &map,
            reserved: journals,
            replayer: &mut replayer,
            replayed: &mut replayed,
            files: &mut files,
            counts: (0, 0),
            done,
            before,
        };
        let ending = one.replay(&staging.journal(name), *tail)?;
        let counts = one.counts;
        replayed.records.insert(name.clone(), counts);
        if let Tail::Torn { offset, have, .. } = ending {
            replayed.torn.push(TornTail {
                journal: name.clone(),
                at: Offset(offset),
                bytes: have,
                cut: false,
            });
        }
    }
    replayed.files = files.len() as u64;
    let synced = replayer.finish();
    synced.map_err(|error| replay_error(&staging.files(), error))?;
    Ok(replayed)
}

/// One journal being replayed.
struct OneJournal<'a> {
    name: &'a JournalName,
    map: &'a PathMap,
    reserved: &'a Journals,
    replayer: &'a mut Replayer,
    replayed: &'a mut Replayed,
    files: &'a mut BTreeSet<Vec<u8>>,
    /// Records, and those not known.
    counts: (u64, u64),
    done: &'a watch::Sender<u64>,
    /// Bytes of the journals before this one.
    before: u64,
}

impl OneJournal<'_> {
    fn replay(&mut self, path: &Path, tail: Offset) -> Result<Tail, ClientError> {
        let file = fs::open(path).map_err(|e| ClientError::local("open", path, e))?;
        let journal = self.name.clone();
        let failed = |error| match error {
            RecordsError::Read(e) => ClientError::local("read", path, e),
            RecordsError::Malformed(source) => ClientError::MalformedJournal {
                journal: journal.clone(),
                source,
            },
        };
        read_records(&file, tail.0, |record| self.record(record), failed)
    }

    fn record(&mut self, record: Record) -> Result<(), ClientError> {
        self.counts.0 += 1;
        match record {
            Record::Unknown(_) => {
                self.counts.1 += 1;
                Ok(())
            }
            Record::Op { offset, record } => {
                self.done.send_replace(self.before + offset);
                self.apply(offset, &record)
            }
        }
    }

    fn apply(&mut self, offset: u64, record: &OpRecord) -> Result<(), ClientError> {
        let path = record.op.path();
        if identity::is_reserved(self.map, path, self.reserved.keys()) {
            self.refuse(path, offset, RefusalReason::Reserved);
            return Ok(());
        }
        match self.replayer.apply(offset, record) {
            Ok(applied) => {
                self.count_file(path, applied);
                Ok(())
            }
            Err(ReplayError::RefusedPath { path, rule, .. }) => {
                self.refuse(&path, offset, RefusalReason::Path(rule));
                Ok(())
            }
            Err(error @ ReplayError::RefusedRange { .. }) => {
                self.refuse(path, offset, RefusalReason::Range(error.to_string()));
                Ok(())
            }
            Err(error) => Err(replay_error(&self.map.root, error)),
        }
    }

    fn count_file(&mut self, path: &[u8], applied: Applied) {
        let Ok(components) = self.map.resolve(path) else {
            return;
        };
        let key = components.join(&b'/');
        match applied {
            Applied::SetLength | Applied::Written if self.files.len() < FILES_MAX => {
                self.files.insert(key);
            }
            Applied::Removed => {
                self.files.remove(&key);
            }
            _ => {}
        }
    }

    fn refuse(&mut self, path: &Bytes, offset: u64, why: RefusalReason) {
        let path = String::from_utf8_lossy(path).into_owned();
        let refused = &mut self.replayed.refused;
        let known = refused
            .iter()
            .position(|known| known.path == path && known.journal == *self.name);
        match known {
            Some(known) => refused[known].records += 1,
            None if refused.len() < REFUSED_MAX => refused.push(RefusedPath {
                journal: self.name.clone(),
                path,
                offset: Offset(offset),
                why,
                records: 1,
            }),
            None => {}
        }
    }
}

//! The resilience files of a legacy worker, all named `<dir>/<app>-<worker>` and an ending: each change goes to the local file
//! first, then to a local journal, which a DOS client sends on.
//!
//! ```text
//! .journal          every change of the files below, as op records
//! .evlog.journal    the same bytes as .evlog
//! .evlog            the event log: states, checkpoint ids, restart markers
//! .checkpoint_ids   begun, complete, rollback epoch; 24 bytes each time, only the last ones count
//! .local-keys .workers .tcp-control .tcp-data .connection-addresses .local-topology
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use super::{
    super::super::exit::{self, Failure},
    journal::Journal,
};
use crate::{
    codec::{
        evlog::{self, Event},
        ops::{self, Op, OpRecord},
    },
    env::fs,
};

pub(super) const CHECKPOINT_IDS: &str = "checkpoint_ids";
pub(super) const LOCAL_KEYS: &str = "local-keys";
pub(super) const TCP_CONTROL: &str = "tcp-control";
pub(super) const TCP_DATA: &str = "tcp-data";
pub(super) const WORKERS: &str = "workers";
pub(super) const LOCAL_TOPOLOGY: &str = "local-topology";
pub(super) const CONNECTION_ADDRESSES: &str = "connection-addresses";
const EVLOG: &str = "evlog";
const OPS_JOURNAL: &str = "journal";
const EVLOG_JOURNAL: &str = "evlog.journal";

/// All of them are needed to recover.
const REQUIRED: [&str; 6] = [
    EVLOG,
    CHECKPOINT_IDS,
    LOCAL_TOPOLOGY,
    LOCAL_KEYS,
    TCP_CONTROL,
    WORKERS,
];
/// These too, but not at the initializer.
const REQUIRED_OF_OTHERS: [&str; 2] = [TCP_DATA, CONNECTION_ADDRESSES];
/// Events are written in groups of so many, and at each checkpoint id.
const EVENTS_PER_WRITE: usize = 10;

/// The open files of one worker.
#[derive(Debug)]
pub(super) struct Files {
    prefix: PathBuf,
    pub(super) ops_journal: Arc<Journal>,
    pub(super) evlog_journal: Arc<Journal>,
    evlog: Local,
    files: BTreeMap<&'static str, Local>,
    /// Events that are not written yet.
    events: BytesMut,
    event_count: usize,
}

/// A local file, its length, and how many records its journal has of it.
#[derive(Debug)]
struct Local {
    file: fs::File,
    length: u64,
    tag: u64,
}

/// What was there at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: everything begins.
    Fresh,
    /// An earlier run's files.
    Recovering,
}

/// `<dir>/<app>-<worker>.<ending>`
fn path(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Looks which files are there: none, or all that are needed.
///
/// # Errors
/// Some are there and some are not: the worker must not start.
pub(super) fn look(prefix: &Path, is_initializer: bool) -> Result<Found, Failure> {
    let others = (!is_initializer).then_some(REQUIRED_OF_OTHERS);
    let required = REQUIRED.into_iter().chain(others.into_iter().flatten());
    let mut missing = Vec::new();
    let mut there = false;
    for ending in required {
        if exists(prefix, ending)? {
            there = true;
        } else {
            missing.push(ending);
        }
    }
    let journals = exists(prefix, OPS_JOURNAL)? || exists(prefix, EVLOG_JOURNAL)?;
    match (there || journals, missing.is_empty()) {
        (false, _) => Ok(Found::Fresh),
        (true, true) => Ok(Found::Recovering),
        (true, false) => Err(Failure::error(format!(
            "cannot recover from {}.*: there is no {}",
            prefix.display(),
            missing.join(", no ")
        ))),
    }
}

fn exists(prefix: &Path, ending: &str) -> Result<bool, Failure> {
    let path = path(prefix, ending);
    fs::exists(&path).map_err(|error| exit::cannot("look at", &path, &error))
}

impl Local {
    fn open(path: &Path) -> Result<Self, Failure> {
        let opened = fs::open_or_create(path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok(Self {
                file,
                length,
                tag: 0,
            })
        });
        opened.map_err(|error| exit::cannot("open", path, &error))
    }
}

impl Files {
    /// Opens what is there, and makes what is not.
    pub(super) fn open(prefix: &Path) -> Result<Self, Failure> {
        let journal = |ending| {
            let path = path(prefix, ending);
            let opened = Journal::open(path.clone());
            opened
                .map(Arc::new)
                .map_err(|error| exit::cannot("open", &path, &error))
        };
        Ok(Self {
            prefix: prefix.to_owned(),
            ops_journal: journal(OPS_JOURNAL)?,
            evlog_journal: journal(EVLOG_JOURNAL)?,
            evlog: Local::open(&path(prefix, EVLOG))?,
            files: BTreeMap::new(),
            events: BytesMut::new(),
            event_count: 0,
        })
    }

    fn path(&self, ending: &str) -> PathBuf {
        path(&self.prefix, ending)
    }

    /// The content of a file.
    pub(super) fn read(&self, ending: &str) -> Result<Vec<u8>, Failure> {
        let path = self.path(ending);
        fs::read(&path).map_err(|error| exit::cannot("read", &path, &error))
    }

    /// The event log as it is on disk.
    pub(super) fn event_log(&self) -> Result<Vec<u8>, Failure> {
        self.read(EVLOG)
    }

    /// Writes at the end of a file.
    pub(super) fn append(&mut self, ending: &'static str, data: &[u8]) -> Result<(), Failure> {
        let path = self.path(ending);
        let local = self.local(ending, &path)?;
        let offset = local.length;
        fs::write_all_at(&local.file, data, offset)
            .map_err(|error| exit::cannot("write", &path, &error))?;
        local.length += data.len() as u64;
        local.tag += 1;
        let tag = local.tag;
        let op = Op::WriteV {
            offset,
            path: spelt(&path),
            data: Bytes::copy_from_slice(data),
        };
        self.record(OpRecord { tag, op })
    }

    /// Gives a file new content.
    pub(super) fn replace(&mut self, ending: &'static str, data: &[u8]) -> Result<(), Failure> {
        let path = self.path(ending);
        let local = self.local(ending, &path)?;
        let cut = local.file.set_len(0);
        cut.map_err(|error| exit::cannot("truncate", &path, &error))?;
        local.length = 0;
        local.tag += 1;
        let tag = local.tag;
        let op = Op::SetLength {
            path: spelt(&path),
            length: 0,
        };
        self.record(OpRecord { tag, op })?;
        self.append(ending, data)
    }

    fn local(&mut self, ending: &'static str, path: &Path) -> Result<&mut Local, Failure> {
        use std::collections::btree_map::Entry;
        match self.files.entry(ending) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(Local::open(path)?)),
        }
    }

    fn record(&self, record: OpRecord) -> Result<(), Failure> {
        let mut bytes = BytesMut::new();
        ops::encode(&record, &mut bytes).map_err(|fault| Failure::error(fault.to_string()))?;
        journalled(&self.ops_journal, bytes.freeze())
    }

    /// Adds an event to the log. It is written with others, at the latest at the next checkpoint id or restart marker.
    pub(super) fn log(&mut self, event: &Event) -> Result<(), Failure> {
        let encoded = evlog::encode(event, &mut self.events);
        encoded.map_err(|fault| Failure::error(fault.to_string()))?;
        self.event_count += 1;
        let is_data = matches!(event, Event::Data { .. });
        if is_data && self.event_count < EVENTS_PER_WRITE {
            return Ok(());
        }
        self.event_count = 0;
        let bytes = self.events.split().freeze();
        let local = &mut self.evlog;
        fs::write_all_at(&local.file, &bytes, local.length)
            .map_err(|error| exit::cannot("write", &path(&self.prefix, EVLOG), &error))?;
        local.length += bytes.len() as u64;
        journalled(&self.evlog_journal, bytes)
    }

    /// Drops events that are not written yet: a rollback leaves their checkpoint unfinished.
    pub(super) fn forget_events(&mut self) {
        self.events.clear();
        self.event_count = 0;
    }
}

fn journalled(journal: &Journal, bytes: Bytes) -> Result<(), Failure> {
    let appended: io::Result<()> = journal.append(bytes);
    appended.map_err(|error| exit::cannot("write", journal.path(), &error))
}

fn spelt(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ops::{OpReader, Record};

    #[test]
    fn a_worker_starts_afresh_or_with_all_of_its_files_and_not_with_some() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("An App-w");
        assert_eq!(look(&prefix, false).unwrap(), Found::Fresh);
        for ending in REQUIRED {
            fs::open_or_create(&path(&prefix, ending)).unwrap();
        }
        assert_eq!(look(&prefix, true).unwrap(), Found::Recovering);
        let failure = look(&prefix, false).unwrap_err();
        assert!(failure.message.contains("no tcp-data"), "{failure:?}");
    }

    #[test]
    fn journals_hold_what_the_files_hold() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("An App-w");
        let mut files = Files::open(&prefix).unwrap();
        files.replace(WORKERS, b"w\n").unwrap();
        files.append(WORKERS, b"x\n").unwrap();
        files.log(&Event::CheckpointId(0)).unwrap();
        files.log(&Event::RestartMarker).unwrap();
        assert_eq!(
            files.read(EVLOG_JOURNAL).unwrap(),
            files.event_log().unwrap()
        );

        let mut reader = OpReader::new(0);
        reader.push(files.read(OPS_JOURNAL).unwrap().into());
        let mut seen = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            let Record::Op { record, .. } = record else {
                panic!("unknown: {record:?}");
            };
            assert!(record.op.path().ends_with(b"/An App-w.workers"));
            seen.push((
                record.tag,
                matches!(record.op, Op::WriteV { offset: 2, .. }),
            ));
        }
        assert_eq!(seen, [(1, false), (2, false), (3, true)]);
        assert_eq!(files.read(WORKERS).unwrap(), b"w\nx\n");
    }

    #[test]
    fn data_is_written_in_groups_and_at_the_id() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(&dir.path().join("a-w")).unwrap();
        let data = Event::Data {
            last: true,
            resilient_id: 1,
            payload: Bytes::from_static(b"x"),
        };
        for _ in 1..EVENTS_PER_WRITE {
            files.log(&data).unwrap();
        }
        assert_eq!(files.event_log().unwrap().len(), 0);
        files.log(&data).unwrap();
        assert_eq!(files.event_log().unwrap().len(), 230);
        files.log(&data).unwrap();
        files.log(&Event::CheckpointId(1)).unwrap();
        assert_eq!(files.event_log().unwrap().len(), 230 + 23 + 9);
    }
}

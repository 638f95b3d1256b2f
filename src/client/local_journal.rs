//! The worker's own copy of an `ops` journal: a file that only grows, one record after the other.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};

use super::ClientError;
use crate::{
    codec::ops::{self, OpReader, OpRecord, Record, Tail},
    domain::Offset,
    env::fs::{self, File},
};

/// How much of a journal file is read at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// What a journal file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the last whole record ends.
    pub(super) whole: Offset,
    /// The length of the file.
    pub(super) length: Offset,
    /// The last whole record, and where it begins; `None` if there is none, or its op is not known.
    pub(super) last: Option<(u64, OpRecord)>,
}

/// Reads the records of the first `length` bytes of a file, each handed to `each` with its offset. Memory is one block
/// and one record.
pub(super) fn read_records(
    file: &File,
    length: u64,
    mut each: impl FnMut(Record) -> Result<(), ClientError>,
    failed: impl Fn(RecordsError) -> ClientError,
) -> Result<Tail, ClientError> {
    let mut reader = OpReader::new(0);
    for block in blocks(file, length) {
        let (_, block) = block.map_err(|e| failed(RecordsError::Read(e)))?;
        reader.push(block);
        loop {
            match reader.next_record() {
                Ok(Some(record)) => each(record)?,
                Ok(None) => break,
                Err(error) => return Err(failed(RecordsError::Malformed(error))),
            }
        }
    }
    Ok(reader.finish())
}

/// Why the records of a file could not be read.
#[derive(Debug)]
pub(super) enum RecordsError {
    Read(std::io::Error),
    Malformed(ops::OpError),
}

/// The worker's own copy of a journal, open for writing at its end.
#[derive(Debug)]
pub(super) struct LocalJournal {
    path: PathBuf,
    file: Arc<File>,
    length: Offset,
    buffer: BytesMut,
}

impl LocalJournal {
    /// Opens the file, and makes it if it is not there; tells what it holds.
    pub(super) fn open(path: &Path) -> Result<(Self, Scan), ClientError> {
        let local = |what: &'static str| move |e| ClientError::local(what, path, e);
        let file = fs::open_or_create(path).map_err(local("open"))?;
        let length = file.metadata().map_err(local("read the length of"))?.len();
        let mut last = None;
        let remember = |record| {
            last = match record {
                Record::Op { offset, record } => Some((offset, record)),
                Record::Unknown(_) => None,
            };
            Ok(())
        };
        let failed = |error| match error {
            RecordsError::Read(e) => ClientError::local("read", path, e),
            RecordsError::Malformed(e) => ClientError::LocalState {
                path: path.to_owned(),
                why: e.to_string(),
                next: "it is damaged: restore the worker (`dos-cluster restore --force`)".into(),
            },
        };
        let whole = match read_records(&file, length, remember, failed)? {
            Tail::Clean => length,
            Tail::Torn { offset, .. } => offset,
        };
        let journal = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            length: Offset(length),
            buffer: BytesMut::new(),
        };
        let scan = Scan {
            whole: Offset(whole),
            length: Offset(length),
            last,
        };
        Ok((journal, scan))
    }

    /// The file, for reading what is in it.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Where the next record goes.
    pub(super) fn length(&self) -> Offset {
        self.length
    }

    /// Cuts the last record off: one that is torn, or that was refused.
    pub(super) fn cut(&mut self, at: Offset) -> Result<(), ClientError> {
        let cut = self.file.set_len(at.0);
        cut.map_err(|e| ClientError::local("cut", &self.path, e))?;
        self.length = at;
        Ok(())
    }

    /// Appends a record; answers where it begins. After an error the end of the file is not known: do not go on.
    pub(super) fn append(&mut self, record: &OpRecord) -> Result<Offset, ClientError> {
        self.buffer.clear();
        ops::encode(record, &mut self.buffer).map_err(|fault| ClientError::BadRequest {
            what: format!("write a record to {}", self.path.display()),
            why: fault.to_string(),
        })?;
        let at = self.length;
        let written = fs::write_all_at(&self.file, &self.buffer, at.0);
        written.map_err(|e| ClientError::local("write", &self.path, e))?;
        self.length = Offset(at.0.saturating_add(self.buffer.len() as u64));
        Ok(at)
    }

    /// Makes everything written durable on this disk.
    pub(super) fn sync(&self) -> Result<(), ClientError> {
        let synced = self.file.sync_all();
        synced.map_err(|e| ClientError::local("sync", &self.path, e))
    }
}

/// Reads `bytes` of a file from `at` on.
pub(super) fn read_block(file: &File, at: Offset, bytes: usize) -> std::io::Result<Bytes> {
    let mut block = BytesMut::zeroed(bytes);
    fs::read_exact_at(file, &mut block, at.0)?;
    Ok(block.freeze())
}

/// The first `length` bytes of a file, block by block, each with its offset. Nothing can be said of what follows an error.
pub(super) fn blocks(
    file: &File,
    length: u64,
) -> impl Iterator<Item = std::io::Result<(Offset, Bytes)>> {
    let mut at = Offset::ZERO;
    std::iter::from_fn(move || {
        let rest = Offset(length).since(at);
        if rest == 0 {
            return None;
        }
        let bytes = usize::try_from(rest).map_or(BLOCK_BYTES, |rest| rest.min(BLOCK_BYTES));
        let from = at;
        at = Offset(from.0 + bytes as u64);
        Some(read_block(file, from, bytes).map(|block| (from, block)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ops::Op;

    fn write(offset: u64, data: &'static [u8]) -> OpRecord {
        OpRecord {
            tag: 1,
            op: Op::WriteV {
                offset,
                path: Bytes::from_static(b"f"),
                data: Bytes::from_static(data),
            },
        }
    }

    #[test]
    fn a_torn_last_record_is_told_from_the_whole_ones_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, empty) = LocalJournal::open(&path).unwrap();
        assert_eq!(
            (empty.whole, empty.length, empty.last),
            (Offset(0), Offset(0), None)
        );
        journal.append(&write(0, b"one")).unwrap();
        let second = journal.append(&write(3, b"two")).unwrap();
        let end = journal.length();
        drop(journal);
        let (mut journal, scan) = LocalJournal::open(&path).unwrap();
        assert_eq!((scan.whole, scan.length), (end, end));
        assert_eq!(scan.last, Some((second.0, write(3, b"two"))));
        journal.cut(Offset(end.0 - 1)).unwrap();
        let (_, scan) = LocalJournal::open(&path).unwrap();
        assert_eq!(scan.whole, second);
        assert_eq!(scan.length, Offset(end.0 - 1));
        assert_eq!(scan.last, Some((0, write(0, b"one"))));
    }

    #[test]
    fn zeros_behind_a_record_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = LocalJournal::open(&path).unwrap();
        journal.append(&write(0, b"one")).unwrap();
        journal.file().set_len(journal.length().0 + 64).unwrap();
        let error = LocalJournal::open(&path).unwrap_err();
        assert!(matches!(error, ClientError::LocalState { .. }), "{error}");
    }
}

//! From stored bytes to chunks and records. Every value is checked against its checksum before anything is made of it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::batch::{Entry, chunk_key};
use super::{Chunk, StorageError};
use crate::codec::key::{Key, MetaItem};
use crate::codec::{CodecError, value};
use crate::domain::state::Counters;
use crate::domain::{
    Checkpoint, Journal, JournalId, Member, Offset, OffsetRange, State, Worker, WorkerId,
};

/// Puts the chunks of one range together. Give it the stored chunks in key order, beginning with the last one whose key
/// is not after the start of the range.
#[derive(Debug)]
pub(super) struct RangeReader<'a> {
    path: &'a Path,
    journal: JournalId,
    /// The first byte that is still missing.
    next: Offset,
    to: Offset,
    bytes_max: usize,
    bytes: usize,
    chunks: Vec<Chunk>,
}

impl<'a> RangeReader<'a> {
    pub(super) fn new(
        path: &'a Path,
        journal: JournalId,
        range: OffsetRange,
        bytes_max: usize,
    ) -> Self {
        Self {
            path,
            journal,
            next: range.from,
            to: range.to,
            bytes_max,
            bytes: 0,
            chunks: Vec::new(),
        }
    }

    /// Whether another chunk is needed.
    pub(super) fn wants_more(&self) -> bool {
        self.next < self.to && (self.chunks.is_empty() || self.bytes < self.bytes_max)
    }

    /// The first byte that is still missing.
    #[cfg(feature = "rocksdb")]
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Takes the next stored chunk.
    pub(super) fn push(&mut self, key: &[u8], raw: Bytes) -> Result<(), StorageError> {
        let (_, at, data) = open_chunk(self.path, key, raw)?;
        let fits = if self.chunks.is_empty() {
            at <= self.next
        } else {
            at == self.next
        };
        let end = at.advance(data.len());
        let Some(end) = end.filter(|end| fits && *end > self.next) else {
            return Err(self.damaged(format!(
                "the stored chunk there is {at} with {} bytes",
                data.len()
            )));
        };
        let skipped = within(self.next.since(at), data.len());
        let kept = within(self.to.since(at), data.len());
        let data = data.slice(skipped..kept);
        self.bytes += data.len();
        self.chunks.push(Chunk {
            at: self.next,
            data,
        });
        self.next = end.min(self.to);
        Ok(())
    }

    /// The chunks, when nothing is missing.
    pub(super) fn finish(self) -> Result<Vec<Chunk>, StorageError> {
        if self.wants_more() {
            return Err(self.damaged("no chunk holds this byte".to_owned()));
        }
        Ok(self.chunks)
    }

    fn damaged(&self, why: String) -> StorageError {
        StorageError::JournalDamaged {
            path: self.path.to_owned(),
            journal: self.journal,
            at: self.next,
            why,
        }
    }
}

/// `distance` in a slice of `len` bytes; `len` when it is past the end.
fn within(distance: u64, len: usize) -> usize {
    usize::try_from(distance).map_or(len, |distance| distance.min(len))
}

/// Checks a stored chunk; gives its journal, where it begins and its bytes.
fn open_chunk(
    path: &Path,
    key: &[u8],
    raw: Bytes,
) -> Result<(JournalId, Offset, Bytes), StorageError> {
    let damaged = |what| StorageError::StateDamaged {
        path: path.to_owned(),
        what,
    };
    let (journal, at) = match Key::decode(key) {
        Ok((_, Key::Chunk(journal, at))) => (journal, at),
        Ok((_, other)) => return Err(damaged(format!("{other:?} among the chunks"))),
        Err(error) => return Err(damaged(error.to_string())),
    };
    match value::open("chunk", raw) {
        Ok(data) => Ok((journal, at, data)),
        Err(error) => Err(StorageError::JournalDamaged {
            path: path.to_owned(),
            journal,
            at,
            why: error.to_string(),
        }),
    }
}

/// What a cut at `cut` makes of the last chunk stored before it: its key and its new value, or `None` when it ends there
/// anyway.
pub(super) fn shortened(
    path: &Path,
    journal: JournalId,
    cut: Offset,
    stored: (&[u8], Bytes),
) -> Result<Option<Entry>, StorageError> {
    let (_, at, data) = open_chunk(path, stored.0, stored.1)?;
    let kept = within(cut.since(at), data.len());
    Ok((kept < data.len()).then(|| (chunk_key(journal, at), value::seal(&data[..kept]))))
}

/// The body of the applied mark's record.
pub(super) fn applied_mark(path: &Path, raw: Bytes) -> Result<Bytes, StorageError> {
    value::open("applied mark", raw).map_err(|error| StorageError::StateDamaged {
        path: path.to_owned(),
        what: error.to_string(),
    })
}

/// Checks that the chunks of an image are those of its journals, whole. Give it all of them, in key order.
#[derive(Debug)]
pub(super) struct ChunkCheck<'a> {
    path: &'a Path,
    state: &'a State,
    /// Up to where each journal's chunks go.
    ends: BTreeMap<JournalId, Offset>,
}

impl<'a> ChunkCheck<'a> {
    /// Over the records of the image in `path`.
    pub(super) fn new(path: &'a Path, state: &'a State) -> Self {
        Self {
            path,
            state,
            ends: BTreeMap::new(),
        }
    }

    /// Takes the next stored chunk.
    pub(super) fn push(&mut self, key: &[u8], raw: Bytes) -> Result<(), StorageError> {
        let (journal, at, data) = open_chunk(self.path, key, raw)?;
        let next = self.ends.entry(journal).or_insert(Offset::ZERO);
        match at.advance(data.len()) {
            Some(end) if at == *next && end > at => {
                *next = end;
                Ok(())
            }
            _ => {
                let next = *next;
                let why = format!("the stored chunk there is {at} with {} bytes", data.len());
                Err(self.damaged(journal, next, why))
            }
        }
    }

    /// Ends the check: every journal reaches its tail, and there are no bytes of anything else.
    pub(super) fn finish(self) -> Result<(), StorageError> {
        for (journal, end) in &self.ends {
            if self.state.journal_by_id(*journal).is_none() {
                return Err(self.damaged(
                    *journal,
                    *end,
                    "no record names this journal".to_owned(),
                ));
            }
        }
        for journal in self.state.journals() {
            let end = self.ends.get(&journal.id).copied().unwrap_or(Offset::ZERO);
            if end != journal.tail {
                let why = format!("its chunks end here, its record says {}", journal.tail);
                return Err(self.damaged(journal.id, end, why));
            }
        }
        Ok(())
    }

    fn damaged(&self, journal: JournalId, at: Offset, why: String) -> StorageError {
        StorageError::JournalDamaged {
            path: self.path.to_owned(),
            journal,
            at,
            why,
        }
    }
}

/// Puts a state together from its records.
#[derive(Debug, Default)]
pub(super) struct Loader {
    counters: Option<Counters>,
    applied: bool,
    workers: Vec<Worker>,
    journals: Vec<Journal>,
    checkpoints: Vec<(WorkerId, Checkpoint)>,
    members: Vec<Member>,
}

impl Loader {
    /// Takes one stored record.
    pub(super) fn push(&mut self, path: &Path, key: &[u8], raw: Bytes) -> Result<(), StorageError> {
        self.take(key, raw)
            .map_err(|error| StorageError::StateDamaged {
                path: path.to_owned(),
                what: error.to_string(),
            })
    }

    fn take(&mut self, key: &[u8], raw: Bytes) -> Result<(), CodecError> {
        let (_, key) = Key::decode(key)?;
        let found = match key {
            Key::Worker(_) => {
                let worker = value::decode_worker(raw)?;
                let found = Key::Worker(worker.id);
                self.workers.push(worker);
                found
            }
            Key::Journal(_) => {
                let journal = value::decode_journal(raw)?;
                let found = Key::Journal(journal.id);
                self.journals.push(journal);
                found
            }
            Key::Checkpoint(worker, _) => {
                let checkpoint = value::decode_checkpoint(raw)?;
                let found = Key::Checkpoint(worker, checkpoint.id);
                self.checkpoints.push((worker, checkpoint));
                found
            }
            Key::Member(_) => {
                let member = value::decode_member(raw)?;
                let found = Key::Member(member.node);
                self.members.push(member);
                found
            }
            Key::Meta(MetaItem::Counters) => {
                self.counters = Some(value::decode_counters(raw)?);
                key
            }
            Key::Meta(MetaItem::Applied) => {
                value::open("applied mark", raw)?;
                self.applied = true;
                key
            }
            Key::Chunk(..) => {
                return Err(CodecError::damaged("record", "a chunk among the records"));
            }
        };
        if found == key {
            Ok(())
        } else {
            let why = format!("{found:?} stored under {key:?}");
            Err(CodecError::damaged("record", why))
        }
    }

    /// The state; the empty one when there was no record at all.
    pub(super) fn finish(self, path: &Path) -> Result<State, StorageError> {
        let damaged = |what: &str| StorageError::StateDamaged {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let records =
            self.workers.len() + self.journals.len() + self.checkpoints.len() + self.members.len();
        // Every batch writes both.
        let counters = match (self.counters, self.applied) {
            (Some(counters), true) => counters,
            (None, false) if records == 0 => Counters::default(),
            (None, _) => return Err(damaged("the counters' record is missing")),
            (_, false) => return Err(damaged("the applied mark is missing")),
        };
        Ok(State::from_records(
            counters,
            self.workers,
            self.journals,
            self.checkpoints,
            self.members,
        ))
    }
}

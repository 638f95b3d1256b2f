//! What applied commands changed, put in the order-free form that a store writes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::GROUP;
use crate::codec::key::{Key, MetaItem};
use crate::codec::value;
use crate::domain::{Change, JournalId, Offset, State};

/// Neighbouring chunks of one batch are stored as one up to this many bytes: a worker that appends line by line would
/// otherwise make as many keys as lines.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// What a key and a value take beside the value, at most.
#[cfg(feature = "rocksdb")]
const ENTRY_BYTES: usize = 64;

/// An encoded key and its sealed value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// The changes of one or more applied commands and the applied mark that belongs to them.
#[derive(Debug, Clone)]
pub struct StateBatch {
    /// By encoded key: the sealed value, or `None` to delete.
    pub(super) records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) journals: BTreeMap<JournalId, JournalChange>,
}

/// What happens to one journal's bytes: first the cut of what is stored, then the new chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct JournalChange {
    /// Stored bytes from here on are gone.
    pub(super) cut: Option<Offset>,
    /// In offset order, none overlapping.
    chunks: Vec<(Offset, Bytes)>,
}

impl StateBatch {
    /// Takes the changes of commands, in the order they were applied, and the records they name as they are in `state`
    /// now. `applied` is opaque: the last log id among them and what else must be known about it.
    ///
    /// # Panics
    /// If a chunk begins before the one before it ends, which [`State::apply`] never does.
    #[must_use]
    pub fn new(state: &State, changes: Vec<Change>, applied: Bytes) -> Self {
        let mut batch = Self {
            records: BTreeMap::new(),
            journals: BTreeMap::new(),
        };
        for change in changes {
            match change {
                Change::Chunk { journal, at, data } => {
                    batch.journals.entry(journal).or_default().append(at, data);
                }
                Change::Cut { journal, at } => {
                    batch.journals.entry(journal).or_default().cut(at);
                }
                Change::Worker(id) => batch.record(Key::Worker(id), || {
                    state.worker_by_id(id).map(value::encode_worker)
                }),
                Change::Journal(id) => batch.record(Key::Journal(id), || {
                    state.journal_by_id(id).map(value::encode_journal)
                }),
                Change::Checkpoint(worker, id) => batch.record(Key::Checkpoint(worker, id), || {
                    let worker = state.worker_by_id(worker)?;
                    worker.checkpoints.get(&id).map(value::encode_checkpoint)
                }),
                Change::Member(node) => batch.record(Key::Member(node), || {
                    state.member(node).map(value::encode_member)
                }),
            }
        }
        batch.record(Key::Meta(MetaItem::Counters), || {
            Some(value::encode_counters(state.counters()))
        });
        batch.record(Key::Meta(MetaItem::Applied), || Some(value::seal(&applied)));
        batch
    }

    /// Encodes a record once, however often it changed: the state holds its last form already.
    fn record(&mut self, key: Key, encode: impl FnOnce() -> Option<Vec<u8>>) {
        self.records.entry(key.encode(GROUP)).or_insert_with(encode);
    }

    /// About how many bytes it is, keys and records included.
    #[cfg(feature = "rocksdb")]
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.journals.values().flat_map(|change| &change.chunks);
        let chunks: usize = chunks.map(|(_, data)| data.len() + ENTRY_BYTES).sum();
        let records = self.records.values().flatten();
        let records: usize = records.map(|raw| raw.len() + ENTRY_BYTES).sum();
        chunks + records
    }

    /// Keys and values of the new chunks, neighbours joined. To be put after the cuts.
    pub(super) fn chunk_puts(&self) -> impl Iterator<Item = Entry> {
        self.journals.iter().flat_map(|(journal, change)| {
            let puts = change.runs();
            puts.map(|(at, run)| {
                let parts = run.iter().map(|(_, data)| &data[..]);
                (chunk_key(*journal, at), value::seal_parts(parts))
            })
        })
    }

    /// The journals whose stored bytes are cut, and where.
    pub(super) fn cuts(&self) -> impl Iterator<Item = (JournalId, Offset)> {
        self.journals
            .iter()
            .filter_map(|(journal, change)| Some((*journal, change.cut?)))
    }
}

impl JournalChange {
    fn append(&mut self, at: Offset, data: Bytes) {
        if let Some((last, bytes)) = self.chunks.last() {
            let end = end_of(*last, bytes);
            assert!(at >= end, "a chunk at {at} overlaps the one up to {end}");
        }
        if !data.is_empty() {
            self.chunks.push((at, data));
        }
    }

    fn cut(&mut self, at: Offset) {
        self.chunks.retain(|(from, _)| *from < at);
        if let Some((from, data)) = self.chunks.last_mut() {
            // When the bytes do not fit a usize the cut is behind them.
            data.truncate(usize::try_from(at.since(*from)).unwrap_or(usize::MAX));
        }
        self.cut = Some(self.cut.map_or(at, |earlier| earlier.min(at)));
    }

    /// The new chunks, neighbours together up to [`JOINED_BYTES_MAX`]; a chunk is never split.
    fn runs(&self) -> impl Iterator<Item = (Offset, &[(Offset, Bytes)])> {
        let mut rest = self.chunks.as_slice();
        std::iter::from_fn(move || {
            let ((at, first), mut after) = rest.split_first()?;
            let mut end = end_of(*at, first);
            let mut bytes = first.len();
            while let Some(((next, data), later)) = after.split_first()
                && *next == end
                && bytes + data.len() <= JOINED_BYTES_MAX
            {
                end = end_of(*next, data);
                bytes += data.len();
                after = later;
            }
            let run = &rest[..rest.len() - after.len()];
            rest = after;
            Some((*at, run))
        })
    }
}

/// The key of the chunk that begins at `at`.
pub(super) fn chunk_key(journal: JournalId, at: Offset) -> Vec<u8> {
    Key::Chunk(journal, at).encode(GROUP)
}

fn end_of(at: Offset, data: &Bytes) -> Offset {
    at.advance(data.len())
        .expect("the state moved the tail there, so it is an offset")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(at: u64, data: &'static str) -> Change {
        Change::Chunk {
            journal: JournalId(1),
            at: Offset(at),
            data: data.into(),
        }
    }

    fn cut(at: u64) -> Change {
        Change::Cut {
            journal: JournalId(1),
            at: Offset(at),
        }
    }

    fn change_of(changes: Vec<Change>) -> (Option<Offset>, Vec<(u64, String)>) {
        let batch = StateBatch::new(&State::default(), changes, Bytes::from_static(b"mark"));
        let change = &batch.journals[&JournalId(1)];
        let joined = change.runs().map(|(at, run)| {
            let data: Vec<_> = run.iter().flat_map(|(_, data)| data.to_vec()).collect();
            (at.0, String::from_utf8(data).unwrap())
        });
        (change.cut, joined.collect())
    }

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let (cut, chunks) = change_of(vec![chunk(5, "ab"), chunk(7, "cd"), chunk(20, "x")]);
        assert_eq!(cut, None);
        assert_eq!(chunks, [(5, "abcd".to_owned()), (20, "x".to_owned())]);
    }

    #[test]
    fn a_joined_chunk_stays_within_the_bound() {
        let data = Bytes::from(vec![7; JOINED_BYTES_MAX / 2 + 1]);
        let changes = (0..4)
            .map(|nth| Change::Chunk {
                journal: JournalId(1),
                at: Offset(nth * data.len() as u64),
                data: data.clone(),
            })
            .collect();
        let batch = StateBatch::new(&State::default(), changes, Bytes::from_static(b"mark"));
        assert_eq!(batch.chunk_puts().count(), 4);
    }

    #[test]
    fn a_cut_takes_what_was_appended_before_it_and_not_what_comes_after() {
        let (at, chunks) = change_of(vec![chunk(10, "abcdef"), cut(12), chunk(12, "XY")]);
        assert_eq!(at, Some(Offset(12)));
        assert_eq!(chunks, [(10, "abXY".to_owned())]);
        let (at, chunks) = change_of(vec![
            chunk(10, "abcdef"),
            cut(4),
            chunk(4, "UVW"),
            cut(6),
            chunk(6, "Z"),
        ]);
        assert_eq!(at, Some(Offset(4)));
        assert_eq!(chunks, [(4, "UVZ".to_owned())]);
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn an_overlapping_chunk_is_a_bug() {
        change_of(vec![chunk(10, "abc"), chunk(12, "d")]);
    }
}

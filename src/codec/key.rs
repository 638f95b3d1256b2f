//! Every key of the state store. All numbers big-endian, so that byte order is the order of the numbers.
//!
//! ```text
//! kind u8 | group u32 | ...
//! 1 journal    | journal u64
//! 2 chunk      | journal u64 | offset u64
//! 3 worker     | worker u64
//! 4 checkpoint | worker u64 | rollback epoch u64 | number u64
//! 5 member     | node u64
//! 6 meta       | item u8
//! ```
#![deny(clippy::indexing_slicing)]

use super::CodecError;
use crate::domain::{CheckpointId, GroupId, JournalId, NodeId, Offset, WorkerId};

/// First byte of every key. Persisted: never renumber, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyKind {
    /// A journal's record.
    Journal = 1,
    /// Bytes of a journal.
    Chunk = 2,
    /// A worker's record.
    Worker = 3,
    /// A checkpoint's record.
    Checkpoint = 4,
    /// A member's record.
    Member = 5,
    /// One of [`MetaItem`].
    Meta = 6,
}

/// Single records. Persisted: never renumber, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MetaItem {
    /// The counters of the state.
    Counters = 1,
    /// The applied log id and the membership.
    Applied = 2,
}

/// A key, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A journal's record.
    Journal(JournalId),
    /// The bytes of a journal that begin at this offset.
    Chunk(JournalId, Offset),
    /// A worker's record.
    Worker(WorkerId),
    /// A checkpoint's record.
    Checkpoint(WorkerId, CheckpointId),
    /// A member's record.
    Member(NodeId),
    /// A single record.
    Meta(MetaItem),
}

impl Key {
    /// The key's bytes.
    #[must_use]
    pub fn encode(self, group: GroupId) -> Vec<u8> {
        let (kind, numbers): (KeyKind, &[u64]) = match &self {
            Self::Journal(id) => (KeyKind::Journal, &[id.0]),
            Self::Chunk(id, at) => (KeyKind::Chunk, &[id.0, at.0]),
            Self::Worker(id) => (KeyKind::Worker, &[id.0]),
            Self::Checkpoint(worker, id) => (
                KeyKind::Checkpoint,
                &[worker.0, id.rollback_epoch, id.number],
            ),
            Self::Member(node) => (KeyKind::Member, &[node.0]),
            Self::Meta(_) => (KeyKind::Meta, &[]),
        };
        let mut key = Self::prefix(kind, group);
        for number in numbers {
            key.extend_from_slice(&number.to_be_bytes());
        }
        if let Self::Meta(item) = self {
            key.push(item as u8);
        }
        key
    }

    /// What all keys of a kind begin with.
    #[must_use]
    pub fn prefix(kind: KeyKind, group: GroupId) -> Vec<u8> {
        let mut key = Vec::with_capacity(29);
        key.push(kind as u8);
        key.extend_from_slice(&group.0.to_be_bytes());
        key
    }

    /// Reads a key back.
    ///
    /// # Errors
    /// When the bytes are not a key: wrong kind or length.
    pub fn decode(raw: &[u8]) -> Result<(GroupId, Self), CodecError> {
        let bad = || {
            CodecError::damaged(
                "key",
                format!("{} bytes that are no key of this format", raw.len()),
            )
        };
        let (kind, rest) = raw.split_first().ok_or_else(bad)?;
        let (group, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let group = GroupId(u32::from_be_bytes(*group));
        if *kind == KeyKind::Meta as u8 {
            return match rest {
                [1] => Ok((group, Self::Meta(MetaItem::Counters))),
                [2] => Ok((group, Self::Meta(MetaItem::Applied))),
                _ => Err(bad()),
            };
        }
        let (numbers, odd) = rest.as_chunks::<8>();
        if !odd.is_empty() {
            return Err(bad());
        }
        let number = |at: usize| {
            numbers
                .get(at)
                .map(|raw| u64::from_be_bytes(*raw))
                .unwrap_or_default()
        };
        let key = match (*kind, numbers.len()) {
            (1, 1) => Self::Journal(JournalId(number(0))),
            (2, 2) => Self::Chunk(JournalId(number(0)), Offset(number(1))),
            (3, 1) => Self::Worker(WorkerId(number(0))),
            (4, 3) => {
                let id = CheckpointId {
                    rollback_epoch: number(1),
                    number: number(2),
                };
                Self::Checkpoint(WorkerId(number(0)), id)
            }
            (5, 1) => Self::Member(NodeId(number(0))),
            _ => return Err(bad()),
        };
        Ok((group, key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        (0..7u8, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(kind, a, b, c)| match kind {
            0 => Key::Journal(JournalId(a)),
            1 => Key::Chunk(JournalId(a), Offset(b)),
            2 => Key::Worker(WorkerId(a)),
            3 => Key::Checkpoint(
                WorkerId(a),
                CheckpointId {
                    rollback_epoch: b,
                    number: c,
                },
            ),
            4 => Key::Member(NodeId(a)),
            5 => Key::Meta(MetaItem::Counters),
            _ => Key::Meta(MetaItem::Applied),
        })
    }

    proptest! {
        #[test]
        fn keys_come_back(key in keys(), group in any::<u32>()) {
            let group = GroupId(group);
            prop_assert_eq!(Key::decode(&key.encode(group)), Ok((group, key)));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((group, key)) = Key::decode(&raw) {
                prop_assert_eq!(key.encode(group), raw);
            }
        }

        #[test]
        fn chunk_keys_sort_as_their_offsets(a in any::<u64>(), b in any::<u64>()) {
            let key = |at| Key::Chunk(JournalId(7), Offset(at)).encode(GroupId(0));
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
        }
    }
}

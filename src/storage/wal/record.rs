//! One record of the log: bytes to meaning and back.
//!
//! ```text
//!  0        4        8   9          12       16
//!  | crc32c | length | t | synced/8 | group  | payload, padded with zeros to 8 bytes
//! ```
//!
//! All numbers are little endian. The checksum covers everything behind it, padding included, and then the segment's
//! generation, so that what a recycled segment held before is not a record of its new life. `t` is a [`Kind`] and never
//! 0: zeros are no record. `synced` is the offset in the segment up to which it had been synced when the record was
//! written: a valid record *vouches* for everything before that offset, and so tells damage from a torn tail. `group`
//! is masked with the generation's secret, so that bytes which a client sent are never taken for a header.

use super::{ENTRY_BYTES_MAX, GroupId, LogId, Vote};

/// Length of a record's header.
pub(super) const HEADER_BYTES: usize = 16;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// What an entry's payload has before the caller's bytes: term, node id, index, kind.
const ENTRY_HEAD_BYTES: usize = 25;
/// The longest payload of a record.
const PAYLOAD_BYTES_MAX: usize = ENTRY_HEAD_BYTES + ENTRY_BYTES_MAX;
/// The longest record, header and padding included.
pub(super) const RECORD_BYTES_MAX: usize =
    (HEADER_BYTES + PAYLOAD_BYTES_MAX).next_multiple_of(ALIGNMENT);
/// `synced` has 24 bits and counts in units of [`ALIGNMENT`].
pub(super) const SEGMENT_BYTES_MAX: u32 = (1 << 24) * 8 - 8;

/// One life of a segment file. The sequence is used once; the secret is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// The segment's place in the log, from 1.
    pub(super) sequence: u64,
    /// Known to nobody outside of this node's disk.
    pub(super) secret: u64,
}

impl Generation {
    fn seal(self, crc: u32) -> u32 {
        let crc = crc32c::crc32c_append(crc, &self.sequence.to_le_bytes());
        crc32c::crc32c_append(crc, &self.secret.to_le_bytes())
    }

    fn group_mask(self) -> u32 {
        let [a, b, c, d, ..] = self.secret.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// What the log knew when a segment began. Older segments can go without anything being forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) last_purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Where the records of the segment before this one ended, in bytes. 0 for the first.
    pub(super) previous_end: u32,
}

/// A record's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    State(State),
    Entry {
        log_id: LogId,
        kind: u8,
        payload: &'a [u8],
    },
    Vote(Vote),
    Committed(Option<LogId>),
    TruncateAfter(Option<LogId>),
    Purge(LogId),
}

/// Persisted: never renumber, never reuse.
mod kind {
    pub(super) const STATE: u8 = 1;
    pub(super) const ENTRY: u8 = 2;
    pub(super) const VOTE: u8 = 3;
    pub(super) const COMMITTED: u8 = 4;
    pub(super) const TRUNCATE_AFTER: u8 = 5;
    pub(super) const PURGE: u8 = 6;
    pub(super) const LAST: u8 = PURGE;
}

/// A record that was found whole.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) record: Record<'a>,
    /// Everything before this offset in the segment was synced when the record was written.
    pub(super) synced: u32,
    pub(super) crc: u32,
    /// Header, payload and padding.
    pub(super) bytes: u32,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRecord {
    #[error("zeros or the end of the file, no record")]
    Nothing,
    #[error("bytes that begin no record of this segment")]
    BadHeader,
    #[error("a record that is cut off")]
    CutOff,
    #[error("a record whose checksum does not match")]
    BadChecksum,
    #[error("a record with a valid checksum but without meaning")]
    BadPayload,
}

/// Length of a record on disk.
pub(super) fn encoded_bytes(record: &Record<'_>) -> usize {
    let payload = match record {
        Record::State(state) => {
            state.vote.map_or(1, |_| VOTE_BYTES + 1)
                + optional_bytes(state.committed)
                + optional_bytes(state.last_purged)
                + optional_bytes(state.last)
                + 4
        }
        Record::Entry { payload, .. } => ENTRY_HEAD_BYTES + payload.len(),
        Record::Vote(_) => VOTE_BYTES,
        Record::Committed(log_id) | Record::TruncateAfter(log_id) => optional_bytes(*log_id),
        Record::Purge(_) => LOG_ID_BYTES,
    };
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

const LOG_ID_BYTES: usize = 24;
const VOTE_BYTES: usize = 17;

fn optional_bytes(log_id: Option<LogId>) -> usize {
    log_id.map_or(1, |_| LOG_ID_BYTES + 1)
}

/// Appends a record to `out` and returns its checksum. `synced` is a multiple of [`ALIGNMENT`]. The caller has checked
/// that an entry is within [`ENTRY_BYTES_MAX`].
pub(super) fn encode(
    record: &Record<'_>,
    generation: Generation,
    synced: u32,
    group: GroupId,
    out: &mut Vec<u8>,
) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = put_payload(record, out);
    let length = out.len() - start - HEADER_BYTES;
    assert!(
        length <= PAYLOAD_BYTES_MAX,
        "a record of {length} bytes is over the bound"
    );
    out.resize(
        start + (HEADER_BYTES + length).next_multiple_of(ALIGNMENT),
        0,
    );

    let length = u32::try_from(length).expect("checked against the bound above");
    let units = (synced / 8).to_le_bytes();
    let group = group.0 ^ generation.group_mask();
    let bytes = &mut out[start..];
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8] = kind;
    bytes[9..12].copy_from_slice(&units[..3]);
    bytes[12..16].copy_from_slice(&group.to_le_bytes());
    let crc = generation.seal(crc32c::crc32c(&bytes[4..]));
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn put_payload(record: &Record<'_>, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::State(state) => {
            match state.vote {
                None => out.push(0),
                Some(vote) => {
                    out.push(1);
                    put_vote(vote, out);
                }
            }
            put_optional(state.committed, out);
            put_optional(state.last_purged, out);
            put_optional(state.last, out);
            out.extend_from_slice(&state.previous_end.to_le_bytes());
            kind::STATE
        }
        Record::Entry {
            log_id,
            kind,
            payload,
        } => {
            put_log_id(*log_id, out);
            out.push(*kind);
            out.extend_from_slice(payload);
            kind::ENTRY
        }
        Record::Vote(vote) => {
            put_vote(*vote, out);
            kind::VOTE
        }
        Record::Committed(log_id) => {
            put_optional(*log_id, out);
            kind::COMMITTED
        }
        Record::TruncateAfter(log_id) => {
            put_optional(*log_id, out);
            kind::TRUNCATE_AFTER
        }
        Record::Purge(log_id) => {
            put_log_id(*log_id, out);
            kind::PURGE
        }
    }
}

pub(super) fn put_log_id(log_id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&log_id.term.to_le_bytes());
    out.extend_from_slice(&log_id.node_id.to_le_bytes());
    out.extend_from_slice(&log_id.index.to_le_bytes());
}

pub(super) fn put_optional(log_id: Option<LogId>, out: &mut Vec<u8>) {
    match log_id {
        None => out.push(0),
        Some(log_id) => {
            out.push(1);
            put_log_id(log_id, out);
        }
    }
}

fn put_vote(vote: Vote, out: &mut Vec<u8>) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.node_id.to_le_bytes());
    out.push(u8::from(vote.committed));
}

/// Reads the record at the beginning of `bytes`, which may be longer than the record.
pub(super) fn decode(bytes: &[u8], generation: Generation) -> Result<Frame<'_>, NoRecord> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(NoRecord::Nothing);
    };
    if header == &[0; HEADER_BYTES] {
        return Err(NoRecord::Nothing);
    }
    let [
        c0,
        c1,
        c2,
        c3,
        l0,
        l1,
        l2,
        l3,
        kind,
        s0,
        s1,
        s2,
        g0,
        g1,
        g2,
        g3,
    ] = *header;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let group = u32::from_le_bytes([g0, g1, g2, g3]) ^ generation.group_mask();
    // Only group 0 is in use: a random header passes this once in 2^32 times, so that scanning costs no checksums.
    if group != GroupId::ONLY.0 || kind == 0 || kind > kind::LAST || length > PAYLOAD_BYTES_MAX {
        return Err(NoRecord::BadHeader);
    }
    let total = (HEADER_BYTES + length).next_multiple_of(ALIGNMENT);
    let Some(whole) = bytes.get(..total) else {
        return Err(NoRecord::CutOff);
    };
    let crc = u32::from_le_bytes([c0, c1, c2, c3]);
    if generation.seal(crc32c::crc32c(&whole[4..])) != crc {
        return Err(NoRecord::BadChecksum);
    }
    let mut payload = Payload(&whole[HEADER_BYTES..HEADER_BYTES + length]);
    let record = payload.record(kind).ok_or(NoRecord::BadPayload)?;
    let synced = u32::from_le_bytes([s0, s1, s2, 0]) * 8;
    let bytes = u32::try_from(total).map_err(|_| NoRecord::BadHeader)?;
    Ok(Frame {
        record,
        synced,
        crc,
        bytes,
    })
}

/// The part of a payload that is not read yet.
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl<'a> Payload<'a> {
    fn record(&mut self, kind: u8) -> Option<Record<'a>> {
        let record = match kind {
            kind::STATE => Record::State(State {
                vote: match self.byte()? {
                    0 => None,
                    1 => Some(self.vote()?),
                    _ => return None,
                },
                committed: self.optional()?,
                last_purged: self.optional()?,
                last: self.optional()?,
                previous_end: u32::from_le_bytes(self.take()?),
            }),
            kind::ENTRY => Record::Entry {
                log_id: self.log_id()?,
                kind: self.byte()?,
                payload: std::mem::take(&mut self.0),
            },
            kind::VOTE => Record::Vote(self.vote()?),
            kind::COMMITTED => Record::Committed(self.optional()?),
            kind::TRUNCATE_AFTER => Record::TruncateAfter(self.optional()?),
            kind::PURGE => Record::Purge(self.log_id()?),
            _ => return None,
        };
        self.0.is_empty().then_some(record)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn log_id(&mut self) -> Option<LogId> {
        Some(LogId {
            term: self.number()?,
            node_id: self.number()?,
            index: self.number()?,
        })
    }

    pub(super) fn optional(&mut self) -> Option<Option<LogId>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(self.log_id()?)),
            _ => None,
        }
    }

    fn vote(&mut self) -> Option<Vote> {
        Some(Vote {
            term: self.number()?,
            node_id: self.number()?,
            committed: match self.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GENERATION: Generation = Generation {
        sequence: 3,
        secret: 0x0123_4567_89ab_cdef,
    };

    fn log_id() -> impl Strategy<Value = LogId> {
        any::<(u64, u64, u64)>().prop_map(|(term, node_id, index)| LogId {
            term,
            node_id,
            index,
        })
    }

    fn vote() -> impl Strategy<Value = Vote> {
        any::<(u64, u64, bool)>().prop_map(|(term, node_id, committed)| Vote {
            term,
            node_id,
            committed,
        })
    }

    /// Records that borrow from `payload`.
    fn with_record(check: impl Fn(Record<'_>, u32) -> Result<(), TestCaseError>) {
        let option = proptest::option::of::<BoxedStrategy<LogId>>;
        let strategy = (
            0..6,
            proptest::option::of(vote()),
            (
                option(log_id().boxed()),
                option(log_id().boxed()),
                option(log_id().boxed()),
            ),
            (
                vote(),
                log_id(),
                any::<u8>(),
                proptest::collection::vec(any::<u8>(), 0..100),
            ),
            0..(1u32 << 24),
        );
        proptest!(|((which, a, (b, c, d), (vote, log_id, kind, payload), units) in strategy)| {
            let record = match which {
                0 => Record::State(State { vote: a, committed: b, last_purged: c, last: d, previous_end: units }),
                1 => Record::Entry { log_id, kind, payload: &payload },
                2 => Record::Vote(vote),
                3 => Record::Committed(b),
                4 => Record::TruncateAfter(c),
                _ => Record::Purge(log_id),
            };
            check(record, units * 8)?;
        });
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        with_record(|record, synced| {
            let mut bytes = Vec::new();
            let crc = encode(&record, GENERATION, synced, GroupId::ONLY, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_bytes(&record));
            bytes.extend_from_slice(b"what follows");
            let frame = decode(&bytes, GENERATION).unwrap();
            prop_assert_eq!(
                (frame.record, frame.synced, frame.crc),
                (record, synced, crc)
            );
            Ok(())
        });
    }

    #[test]
    fn a_record_with_any_bit_changed_is_no_record() {
        let entry = Record::Entry {
            log_id: LogId {
                term: 1,
                node_id: 2,
                index: 3,
            },
            kind: 4,
            payload: b"payload",
        };
        let mut bytes = Vec::new();
        encode(&entry, GENERATION, 64, GroupId::ONLY, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, GENERATION).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], GENERATION).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_record_of_another_generation_is_no_record() {
        let mut bytes = Vec::new();
        encode(
            &Record::Committed(None),
            GENERATION,
            0,
            GroupId::ONLY,
            &mut bytes,
        );
        decode(&bytes, GENERATION).unwrap();
        for other in [
            Generation {
                sequence: 4,
                ..GENERATION
            },
            Generation {
                secret: GENERATION.secret ^ 1 << 40,
                ..GENERATION
            },
        ] {
            assert_eq!(decode(&bytes, other).unwrap_err(), NoRecord::BadChecksum);
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(
            decode(&[0; 4096], GENERATION).unwrap_err(),
            NoRecord::Nothing
        );
        assert_eq!(decode(&[], GENERATION).unwrap_err(), NoRecord::Nothing);
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..64), secret: u64)| {
            let _ = decode(&bytes, Generation { sequence: 1, secret });
        });
    }

    #[test]
    fn the_longest_entry_fits_the_bounds() {
        let payload = vec![7; ENTRY_BYTES_MAX];
        let entry = Record::Entry {
            log_id: LogId {
                term: 1,
                node_id: 1,
                index: 1,
            },
            kind: 0,
            payload: &payload,
        };
        let mut bytes = Vec::new();
        encode(&entry, GENERATION, 0, GroupId::ONLY, &mut bytes);
        assert_eq!(bytes.len(), RECORD_BYTES_MAX);
        decode(&bytes, GENERATION).unwrap();
    }
}

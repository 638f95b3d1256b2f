//! The entries of a worker's event log, a `raw` journal: where its checkpoints lie, and where it may be cut.
//!
//! ```text
//! 00 | u8 last | u128 resilient id | u32 n | payload[n]     data            (22 + n bytes, big-endian)
//! 01 | u64 checkpoint id                                    checkpoint id   (9 bytes)
//! 02 | 8 bytes "Reset!!!"                                   restart marker  (9 bytes)
//! ```
//!
//! There is no file header. Data belongs to the checkpoint id behind it; a restart marker voids what an unfinished
//! checkpoint wrote before it. Entry boundaries mean nothing on the wire: a journal may be cut anywhere.

#![deny(clippy::indexing_slicing)]

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::incremental::Slices;
pub use super::incremental::Tail;

/// The longest payload in bytes: 256 MiB.
///
/// A reader holds an unfinished entry in memory, so there must be a bound below the 4 GiB that the length field can
/// say. A payload is the state of one object of a worker.
pub const EVENT_PAYLOAD_BYTES_MAX: u32 = 256 << 20;

const DATA: u8 = 0;
const CHECKPOINT_ID: u8 = 1;
const RESTART: u8 = 2;
const RESTART_TEXT: &[u8; 8] = b"Reset!!!";
/// Bytes of a data entry before its payload.
const DATA_HEADER_BYTES: usize = 22;
/// Bytes of the other two.
const SHORT_ENTRY_BYTES: usize = 9;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// State of one resilient object, or a part of it.
    Data {
        /// Whether this part ends the object's state in this checkpoint.
        last: bool,
        /// Which object.
        resilient_id: u128,
        /// Its bytes.
        payload: Bytes,
    },
    /// The data behind the previous id, or behind a later restart marker, makes up this checkpoint.
    CheckpointId(u64),
    /// The worker restarted here.
    RestartMarker,
}

impl Event {
    /// The bytes that [`encode`] appends.
    pub fn encoded_bytes(&self) -> u64 {
        match self {
            Self::Data { payload, .. } => DATA_HEADER_BYTES as u64 + payload.len() as u64,
            Self::CheckpointId(_) | Self::RestartMarker => SHORT_ENTRY_BYTES as u64,
        }
    }
}

/// Appends one entry to `out`.
///
/// # Errors
/// [`EventFault::TooLong`] above [`EVENT_PAYLOAD_BYTES_MAX`]; `out` is then unchanged.
pub fn encode(event: &Event, out: &mut BytesMut) -> Result<(), EventFault> {
    match event {
        Event::Data {
            last,
            resilient_id,
            payload,
        } => {
            let length = u32::try_from(payload.len())
                .ok()
                .filter(|length| *length <= EVENT_PAYLOAD_BYTES_MAX)
                .ok_or(EventFault::TooLong {
                    length: payload.len() as u64,
                })?;
            out.reserve(DATA_HEADER_BYTES + payload.len());
            out.put_slice(&[DATA, u8::from(*last)]);
            out.put_u128(*resilient_id);
            out.put_u32(length);
            out.put_slice(payload);
        }
        Event::CheckpointId(id) => {
            out.put_u8(CHECKPOINT_ID);
            out.put_u64(*id);
        }
        Event::RestartMarker => {
            out.put_u8(RESTART);
            out.put_slice(RESTART_TEXT);
        }
    }
    Ok(())
}

/// An entry and where its first byte lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In bytes.
    pub offset: u64,
    /// What is written there.
    pub event: Event,
}

/// An entry that is not well formed. Nothing behind it can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed event log entry at offset {offset}: {fault}")]
pub struct EventError {
    /// Where the entry begins in the journal.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub fault: EventFault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// The first byte is none of the three.
    #[error("unknown kind {kind:#04x}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// A truth value that is neither.
    #[error("its last flag is {last}, not 0 or 1")]
    LastFlag {
        /// The byte.
        last: u8,
    },
    /// Above [`EVENT_PAYLOAD_BYTES_MAX`].
    #[error("its payload of {length} bytes is above the limit of {EVENT_PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// What the length field says, or would have to.
        length: u64,
    },
    /// A restart marker with another text, as after a tear that was written over.
    #[error("its restart marker does not read \"Reset!!!\"")]
    RestartText,
}

/// Reads entries out of slices of any size, in the manner of [`OpReader`](super::ops::OpReader).
#[derive(Debug)]
pub struct EventReader {
    slices: Slices,
    failed: Option<EventError>,
}

impl EventReader {
    /// A reader whose first byte lies at `offset` of the journal; an entry must begin there.
    pub fn new(offset: u64) -> Self {
        Self {
            slices: Slices::new(offset),
            failed: None,
        }
    }

    /// Adds the next bytes of the journal. Whole payloads in `chunk` are handed out as views of it, without a copy.
    pub fn push(&mut self, chunk: Bytes) {
        self.slices.push(chunk);
    }

    /// The next entry, or `None` until more is pushed.
    ///
    /// # Errors
    /// The entry at hand is malformed; every later call gives the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, EventError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let offset = self.slices.offset();
        match self.take() {
            Ok(event) => Ok(event.map(|event| Entry { offset, event })),
            Err(fault) => Err(self.failed.insert(EventError { offset, fault }).clone()),
        }
    }

    fn take(&mut self) -> Result<Option<Event>, EventFault> {
        let wanted = self.wanted()?;
        let Some(mut entry) = self.slices.take(wanted).filter(|entry| !entry.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(match entry.get_u8() {
            CHECKPOINT_ID => Event::CheckpointId(entry.get_u64()),
            RESTART => Event::RestartMarker,
            _ => {
                let last = entry.get_u8() == 1;
                let resilient_id = entry.get_u128();
                entry.advance(size_of::<u32>());
                Event::Data {
                    last,
                    resilient_id,
                    payload: entry,
                }
            }
        }))
    }

    /// The size of the entry at hand as far as its header is here; a fault is found as soon as its byte is.
    fn wanted(&self) -> Result<usize, EventFault> {
        match self.slices.peek() {
            None => return Ok(0),
            Some([RESTART]) => {
                return match self.slices.peek::<SHORT_ENTRY_BYTES>() {
                    Some([_, text @ ..]) if text != *RESTART_TEXT => Err(EventFault::RestartText),
                    _ => Ok(SHORT_ENTRY_BYTES),
                };
            }
            Some([CHECKPOINT_ID]) => return Ok(SHORT_ENTRY_BYTES),
            Some([DATA]) => {}
            Some([kind]) => return Err(EventFault::UnknownKind { kind }),
        }
        if let Some([_, last @ 2..=u8::MAX]) = self.slices.peek() {
            return Err(EventFault::LastFlag { last });
        }
        let Some(header) = self.slices.peek::<DATA_HEADER_BYTES>() else {
            return Ok(DATA_HEADER_BYTES);
        };
        let [.., a, b, c, d] = header;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length > EVENT_PAYLOAD_BYTES_MAX {
            return Err(EventFault::TooLong {
                length: u64::from(length),
            });
        }
        Ok(DATA_HEADER_BYTES + length as usize)
    }

    /// Where the next entry begins: everything before it was handed out.
    pub fn offset(&self) -> u64 {
        self.slices.offset()
    }

    /// How the journal ended. Take every entry first: one that was left, or was refused, counts as torn.
    pub fn finish(self) -> Tail {
        let wanted = self.wanted().unwrap_or(self.slices.available());
        self.slices.tail(wanted as u64)
    }
}

#[cfg(test)]
mod tests;

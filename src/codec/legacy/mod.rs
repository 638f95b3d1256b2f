//! The legacy DOS protocol: frames, requests, replies and status frames, byte for byte as the old workers speak them. Pure.
//!
//! ```text
//! frame    = u32 length, big-endian | payload
//! request  = command byte | arguments, separated by single TABs
//! reply    = ok | ERROR | ERROR: TEXT | the bytes asked for
//! status   = WRITTEN TAB SYNCED        (append mode; the other way bytes come without frames)
//! ```
//!
//! Names are bytes: they may hold blanks and anything but TAB. Error texts are those of the original server (Python 2), without
//! its server paths.

#![deny(clippy::indexing_slicing)]

mod listing;
mod number;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use listing::{Listed, listing};
pub use number::Number;

/// The longest request that is read, in bytes. The original waits for whatever a length says.
pub const REQUEST_BYTES_MAX: u32 = 64 << 10;
/// Of a longer request the first bytes are kept, one more than these: enough to say what is wrong with it. The longest request of
/// an honest worker has 255 bytes. What a connection keeps that stands still in the middle of a request is never more.
pub const REQUEST_BYTES_KEPT: usize = 4 << 10;
/// The longest reply to `u`, `l` and `a`: longer ones desynchronise the old workers' reader.
pub const REPLY_BYTES_MAX: usize = 16_384;

const TAB: u8 = b'\t';
/// The length field.
const LENGTH_BYTES: usize = 4;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `u`: the directory of later requests.
    UseDir {
        /// Empty is the root.
        dir: Bytes,
    },
    /// `l`: the files of the directory.
    List,
    /// `a`: append to a file from an offset on.
    Append {
        /// The file.
        name: Bytes,
        /// Where the client wants to go on.
        offset: Number,
    },
    /// `s`: make a file durable.
    Sync {
        /// The file.
        name: Bytes,
    },
    /// `g`: a part of a file.
    Get {
        /// The file.
        name: Bytes,
        /// From where; negative counts as 0.
        offset: Number,
        /// How much; 0 is as much as there is.
        size: Number,
    },
    /// `d`: delete a file.
    Delete {
        /// The file.
        name: Bytes,
    },
}

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// No such command; the connection stays usable.
    #[error("unknown command {0:#04x}")]
    UnknownCommand(u8),
    /// Wrong arguments, in the original's words; it answers them and closes.
    #[error("{0}")]
    Arguments(String),
    /// Wrong arguments of `g`, which has no way to answer them: it closes.
    #[error("bad arguments of get")]
    Get,
}

impl Request {
    /// Reads the payload of a frame as [`RequestReader`] hands it out, which has at least one byte.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, RequestFault> {
        let Some((command, _)) = payload.split_first() else {
            return Err(RequestFault::Arguments("string index out of range".into()));
        };
        let arguments = payload.slice(1..);
        if payload.len() > REQUEST_BYTES_KEPT {
            // Its end was not kept.
            match command {
                b'a' | b's' => return Err(RequestFault::Arguments("request too long".into())),
                b'g' => return Err(RequestFault::Get),
                _ => {}
            }
        }
        match command {
            b'u' => Ok(Self::UseDir { dir: arguments }),
            b'l' => Ok(Self::List),
            b'd' => Ok(Self::Delete { name: arguments }),
            b'a' => {
                let [name, offset] = fields(&arguments).map_err(RequestFault::Arguments)?;
                let offset = Number::parse(&offset).map_err(RequestFault::Arguments)?;
                Ok(Self::Append { name, offset })
            }
            b's' => {
                let [name] = fields(&arguments).map_err(RequestFault::Arguments)?;
                Ok(Self::Sync { name })
            }
            b'g' => {
                let [name, offset, size] = fields(&arguments).map_err(|_| RequestFault::Get)?;
                match (Number::parse(&offset), Number::parse(&size)) {
                    (Ok(offset), Ok(size)) => Ok(Self::Get { name, offset, size }),
                    _ => Err(RequestFault::Get),
                }
            }
            other => Err(RequestFault::UnknownCommand(*other)),
        }
    }
}

/// Exactly `N` arguments; otherwise what Python says when a list does not unpack.
fn fields<const N: usize>(arguments: &Bytes) -> Result<[Bytes; N], String> {
    let found: Vec<Bytes> = arguments
        .split(|byte| *byte == TAB)
        .map(|field| arguments.slice_ref(field))
        .collect();
    let count = found.len();
    found.try_into().map_err(|_| {
        if count > N {
            "too many values to unpack".to_owned()
        } else {
            let values = if count == 1 { "value" } else { "values" };
            format!("need more than {count} {values} to unpack")
        }
    })
}

/// A reply, as its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// Bytes: of a file, or a listing.
    Data(Bytes),
    /// Two durable offsets.
    Synced(u64),
    /// `d` did not find the file.
    DeleteFailed,
    /// No such command.
    UnknownCommand(u8),
    /// Somebody appends already.
    Locked(Bytes),
    /// The offset is not the end.
    WrongOffset {
        /// The file.
        name: Bytes,
        /// As it was asked for.
        offset: Number,
        /// The end.
        eof: u64,
    },
    /// Anything else.
    Error(String),
}

impl Reply {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut payload = BytesMut::new();
        match self {
            Self::Ok => payload.put_slice(b"ok"),
            Self::Data(data) => return frame(data),
            Self::Synced(offset) => payload.put_slice(format!("{offset}\t{offset}").as_bytes()),
            Self::DeleteFailed => payload.put_slice(b"ERROR"),
            Self::UnknownCommand(command) => {
                payload.put_slice(b"ERROR: unknown command \"");
                payload.put_u8(*command);
                payload.put_u8(b'"');
            }
            Self::Locked(name) => {
                payload.put_slice(b"ERROR: ");
                payload.put_slice(name);
                payload.put_slice(b" file is locked");
            }
            Self::WrongOffset { name, offset, eof } => {
                payload.put_slice(b"ERROR: ");
                payload.put_slice(name);
                payload.put_slice(
                    format!(" file requested offset {offset} but eof_offset {eof}").as_bytes(),
                );
            }
            Self::Error(text) => {
                payload.put_slice(b"ERROR: ");
                payload.put_slice(text.as_bytes());
            }
        }
        // Errors repeat what was asked for, however long it was.
        payload.truncate(REPLY_BYTES_MAX);
        frame(&payload)
    }
}

fn frame(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut out = BytesMut::with_capacity(LENGTH_BYTES + payload.len());
    out.put_u32(length);
    out.put_slice(payload);
    out.freeze()
}

/// The header of a reply of `bytes` bytes, which follow; `None` for more than a frame can say.
#[must_use]
pub fn data_header(bytes: u64) -> Option<[u8; LENGTH_BYTES]> {
    u32::try_from(bytes).ok().map(u32::to_be_bytes)
}

/// A status frame of append mode.
#[must_use]
pub fn status(written: u64, synced: u64) -> Bytes {
    frame(format!("{written}\t{synced}").as_bytes())
}

/// A length field that no request has: the original closes, or waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request of {length} bytes: 1 to {REQUEST_BYTES_MAX} are taken")]
pub struct FrameFault {
    /// The length.
    pub length: u32,
}

/// Requests out of slices of any size. What follows an `a` request is not framed: take it with [`RequestReader::rest`].
#[derive(Debug, Default)]
pub struct RequestReader {
    /// In one piece, so that a peer that sends byte by byte costs no more than its bytes.
    received: BytesMut,
    /// The kept bytes of a longer request, and how many of it are still to come.
    long: Option<(Bytes, usize)>,
}

impl RequestReader {
    /// Adds bytes as they came. Memory is bounded by what was received and not taken.
    pub fn push(&mut self, mut chunk: &[u8]) {
        if let Some((_, left)) = &mut self.long {
            let over = chunk.split_off(..chunk.len().min(*left));
            *left -= over.map_or(0, <[u8]>::len);
        }
        self.received.extend_from_slice(chunk);
    }

    /// The payload of the next frame, of a long one the first [`REQUEST_BYTES_KEPT`] bytes and one more; `None` until more is
    /// pushed.
    ///
    /// # Errors
    /// A length that is refused as soon as it is here; nothing can be read behind it.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameFault> {
        if let Some((kept, 0)) = &self.long {
            let kept = kept.clone();
            self.long = None;
            return Ok(Some(kept));
        }
        if self.long.is_some() {
            return Ok(None);
        }
        let Some(header) = self.received.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header);
        if length == 0 || length > REQUEST_BYTES_MAX {
            return Err(FrameFault { length });
        }
        let kept = (length as usize).min(REQUEST_BYTES_KEPT + 1);
        if self.received.len() < LENGTH_BYTES + kept {
            return Ok(None);
        }
        let head = self.received.split_to(LENGTH_BYTES + kept).freeze();
        let payload = head.slice(LENGTH_BYTES..);
        let over = length as usize - kept;
        let here = over.min(self.received.len());
        self.received.advance(here);
        if self.received.is_empty() {
            self.received = BytesMut::new(); // an idle connection holds nothing
        }
        if here < over {
            self.long = Some((payload, over - here));
            return Ok(None);
        }
        Ok(Some(payload))
    }

    /// How many bytes were pushed and not taken.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.received.len()
    }

    /// Everything that was pushed and not taken.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.received.freeze()
    }
}

#[cfg(test)]
mod tests;

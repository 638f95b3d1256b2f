//! The records of an `ops` journal: one file operation each, byte for byte as the legacy workers write them.
//!
//! ```text
//! record  = u32 n | n bytes                                          every integer is big-endian
//! n bytes = u8 version = 0 | u8 op | u8 #ints | u8 #strings | u64 tag
//!           #ints x i64 | #strings x i64 size | the strings, back to back
//!
//! op 0  set_length   ints [length]   strings [path]
//! op 1  writev       ints [offset]   strings [path, data]
//! op 2  remove       ints []         strings [path]
//! ```
//!
//! Paths are bytes, not text. Versions and ops that are not known are handed on as [`Record::Unknown`], because the
//! original ignores them too; so are spare ints and strings behind the ones an op needs. What is not well formed is an
//! [`OpError`] with its offset. Record boundaries mean nothing on the wire: a journal may be cut anywhere.

#![deny(clippy::indexing_slicing)]

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::incremental::Slices;
pub use super::incremental::Tail;

/// The longest record in bytes, its length field not counted: 256 MiB.
///
/// A reader holds an unfinished record in memory, so there must be a bound below the 4 GiB that the length field can
/// say. The largest honest record is one write of one buffer by a worker, a few MiB; this leaves ample room and still
/// finds most misread lengths at once instead of waiting for bytes that never come.
pub const OP_RECORD_BYTES_MAX: u32 = 256 << 20;

/// The only version there is.
const VERSION: u8 = 0;
/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;
/// Bytes between the length field and the ints: version, op, the two counts, tag.
const HEADER_BYTES: u32 = 12;
/// Lengths and offsets are written signed: from here on they would be negative.
const SIGNED_END: u64 = 1 << 63;

/// One change to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the file if need be, then cuts it or extends it with zeros to `length` bytes (below 2^63).
    SetLength {
        /// The file, as the worker spelt it.
        path: Bytes,
        /// Its size from now on, in bytes.
        length: u64,
    },
    /// Creates the file if need be, then overwrites it from `offset` on; a hole before `offset` reads as zeros.
    WriteV {
        /// Where in the file the first byte of `data` goes (below 2^63).
        offset: u64,
        /// The file, as the worker spelt it.
        path: Bytes,
        /// What is written; may be empty.
        data: Bytes,
    },
    /// Unlinks the file.
    Remove {
        /// The file, as the worker spelt it; unlike the others often relative.
        path: Bytes,
    },
}

impl Op {
    /// The file that the operation changes, as the worker spelt it.
    pub fn path(&self) -> &Bytes {
        match self {
            Self::SetLength { path, .. } | Self::WriteV { path, .. } | Self::Remove { path } => {
                path
            }
        }
    }
}

/// An operation with the tag that its writer gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpRecord {
    /// Counts from 1 for each open file object, 0 for removes: neither unique nor ordered across files.
    pub tag: u64,
    /// What is done.
    pub op: Op,
}

impl OpRecord {
    /// The bytes that [`encode`] appends, the length field included.
    pub fn encoded_bytes(&self) -> u64 {
        LENGTH_BYTES as u64 + self.body_bytes()
    }

    fn body_bytes(&self) -> u64 {
        let path = self.op.path().len() as u64;
        let fields = match &self.op {
            Op::SetLength { .. } => 16,
            Op::WriteV { data, .. } => 24 + data.len() as u64,
            Op::Remove { .. } => 8,
        };
        u64::from(HEADER_BYTES) + fields + path
    }
}

/// Appends one record to `out`.
///
/// # Errors
/// [`OpFault::TooLong`] above [`OP_RECORD_BYTES_MAX`] and [`OpFault::Negative`] for a length or an offset from 2^63 on;
/// `out` is then unchanged.
pub fn encode(record: &OpRecord, out: &mut BytesMut) -> Result<(), OpFault> {
    let body = record.body_bytes();
    let length = u32::try_from(body)
        .ok()
        .filter(|length| *length <= OP_RECORD_BYTES_MAX)
        .ok_or(OpFault::TooLong { length: body })?;
    let (op, int, path, data) = match &record.op {
        Op::SetLength { path, length } => (0, Some(*length), path, None),
        Op::WriteV { offset, path, data } => (1, Some(*offset), path, Some(data)),
        Op::Remove { path } => (2, None, path, None),
    };
    int.map_or(Ok(0), signed)?;

    out.reserve(LENGTH_BYTES + length as usize);
    out.put_u32(length);
    out.put_slice(&[
        VERSION,
        op,
        u8::from(int.is_some()),
        1 + u8::from(data.is_some()),
    ]);
    out.put_u64(record.tag);
    if let Some(int) = int {
        out.put_u64(int);
    }
    out.put_u64(path.len() as u64);
    if let Some(data) = data {
        out.put_u64(data.len() as u64);
    }
    out.put_slice(path);
    if let Some(data) = data {
        out.put_slice(data);
    }
    Ok(())
}

/// A record whose sizes add up, whatever its version and op are: what can be shown of any record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Where its length field begins in the journal.
    pub offset: u64,
    /// 0, unless a newer writer was at work.
    pub version: u8,
    /// 0 to 2, unless a newer writer was at work.
    pub op: u8,
    /// As [`OpRecord::tag`].
    pub tag: u64,
    /// At most 255, read unsigned.
    pub ints: Vec<u64>,
    /// At most 255.
    pub strings: Vec<Bytes>,
}

/// A record of the journal, with the offset of its length field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An operation to apply.
    Op {
        /// Where the record begins in the journal.
        offset: u64,
        /// What it says.
        record: OpRecord,
    },
    /// A version or an op that this reader does not know: to be reported and passed over.
    Unknown(RawRecord),
}

/// A record that is not well formed. Nothing behind it can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed op record at offset {offset}: {fault}")]
pub struct OpError {
    /// Where the record begins in the journal.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub fault: OpFault,
}

/// What is wrong with a record. Sizes are bytes without the length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpFault {
    /// Not even the fixed header fits; a length of 0 is the usual one.
    #[error("its length {length} is below the {HEADER_BYTES} bytes of a header")]
    TooShort {
        /// What the length field says.
        length: u32,
    },
    /// Above [`OP_RECORD_BYTES_MAX`].
    #[error("its length {length} is above the limit of {OP_RECORD_BYTES_MAX} bytes")]
    TooLong {
        /// What the length field says, or would have to.
        length: u64,
    },
    /// The record ends before its ints and string sizes do.
    #[error("{ints} ints and {strings} string sizes do not fit the {have} bytes behind its header")]
    FieldsCut {
        /// How many ints it claims.
        ints: u8,
        /// How many strings it claims.
        strings: u8,
        /// What is there for them and for the strings themselves.
        have: usize,
    },
    /// The strings are longer or shorter than their place; a negative size counts as 2^63 and more.
    #[error("its strings add up to {stated} bytes, but {have} are there")]
    StringSizes {
        /// The sum of the sizes, `u64::MAX` if it is larger.
        stated: u64,
        /// The rest of the record.
        have: usize,
    },
    /// A known op without the ints and strings that it needs.
    #[error("op {op} with {ints} ints and {strings} strings lacks a field")]
    MissingField {
        /// The op.
        op: u8,
        /// How many ints it has.
        ints: usize,
        /// How many strings it has.
        strings: usize,
    },
    /// A length or an offset that is negative.
    #[error("its length or offset {value} is not below 2^63")]
    Negative {
        /// The number, read unsigned.
        value: u64,
    },
}

impl RawRecord {
    /// Cuts the `body` behind a length field into its fields.
    fn parse(offset: u64, mut body: Bytes) -> Result<Self, OpFault> {
        let too_short = OpFault::TooShort {
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
        };
        let (Ok(version), Ok(op), Ok(int_count), Ok(string_count), Ok(tag)) = (
            body.try_get_u8(),
            body.try_get_u8(),
            body.try_get_u8(),
            body.try_get_u8(),
            body.try_get_u64(),
        ) else {
            return Err(too_short);
        };
        let fields_cut = OpFault::FieldsCut {
            ints: int_count,
            strings: string_count,
            have: body.len(),
        };
        let mut numbers = || body.try_get_u64().map_err(|_| fields_cut);
        let ints = (0..int_count)
            .map(|_| numbers())
            .collect::<Result<Vec<_>, _>>()?;
        let sizes = (0..string_count)
            .map(|_| numbers())
            .collect::<Result<Vec<_>, _>>()?;

        let stated = sizes
            .iter()
            .fold(0u64, |sum, size| sum.saturating_add(*size));
        let have = body.len();
        if stated != have as u64 {
            return Err(OpFault::StringSizes { stated, have });
        }
        let strings = sizes
            .into_iter()
            .map(|size| usize::try_from(size).map(|size| body.split_to(size)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| OpFault::StringSizes { stated, have })?;
        Ok(Self {
            offset,
            version,
            op,
            tag,
            ints,
            strings,
        })
    }

    /// What the record means.
    ///
    /// # Errors
    /// A known op that lacks a field, or has a negative length or offset.
    pub fn interpret(self) -> Result<Record, OpError> {
        let offset = self.offset;
        match self.operation() {
            Ok(Some(op)) => Ok(Record::Op {
                offset,
                record: OpRecord { tag: self.tag, op },
            }),
            Ok(None) => Ok(Record::Unknown(self)),
            Err(fault) => Err(OpError { offset, fault }),
        }
    }

    /// The operation, or `None` if this version or op is not known.
    fn operation(&self) -> Result<Option<Op>, OpFault> {
        if self.version != VERSION {
            return Ok(None);
        }
        let missing = OpFault::MissingField {
            op: self.op,
            ints: self.ints.len(),
            strings: self.strings.len(),
        };
        let int = || {
            self.ints
                .first()
                .ok_or(missing)
                .and_then(|int| signed(*int))
        };
        let string = |index: usize| self.strings.get(index).cloned().ok_or(missing);
        Ok(Some(match self.op {
            0 => Op::SetLength {
                length: int()?,
                path: string(0)?,
            },
            1 => Op::WriteV {
                offset: int()?,
                path: string(0)?,
                data: string(1)?,
            },
            2 => Op::Remove { path: string(0)? },
            _ => return Ok(None),
        }))
    }
}

fn signed(value: u64) -> Result<u64, OpFault> {
    if value < SIGNED_END {
        Ok(value)
    } else {
        Err(OpFault::Negative { value })
    }
}

/// Reads records out of slices of any size.
///
/// Push a slice, take records until there is none, push the next. Memory is what was pushed and not yet taken, which is
/// one unfinished record if taken so. The first malformed record ends it: every later call gives the same error.
#[derive(Debug)]
pub struct OpReader {
    slices: Slices,
    failed: Option<OpError>,
}

impl OpReader {
    /// A reader whose first byte lies at `offset` of the journal; a record must begin there.
    pub fn new(offset: u64) -> Self {
        Self {
            slices: Slices::new(offset),
            failed: None,
        }
    }

    /// Adds the next bytes of the journal. Whole records in `chunk` are handed out as views of it, without a copy.
    pub fn push(&mut self, chunk: Bytes) {
        self.slices.push(chunk);
    }

    /// The next record, or `None` until more is pushed.
    ///
    /// # Errors
    /// The record at hand is malformed.
    pub fn next_record(&mut self) -> Result<Option<Record>, OpError> {
        let found = self.next_raw()?.map(RawRecord::interpret).transpose();
        found.map_err(|error| self.fail(error))
    }

    /// The next record as far as its sizes tell, or `None` until more is pushed: to show records that mean nothing.
    ///
    /// # Errors
    /// The sizes of the record at hand do not add up.
    pub fn next_raw(&mut self) -> Result<Option<RawRecord>, OpError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let offset = self.slices.offset();
        self.take_raw(offset)
            .map_err(|fault| self.fail(OpError { offset, fault }))
    }

    fn take_raw(&mut self, offset: u64) -> Result<Option<RawRecord>, OpFault> {
        let Some(length) = self.slices.peek().map(u32::from_be_bytes) else {
            return Ok(None);
        };
        if length < HEADER_BYTES {
            return Err(OpFault::TooShort { length });
        }
        if length > OP_RECORD_BYTES_MAX {
            return Err(OpFault::TooLong {
                length: u64::from(length),
            });
        }
        let Some(mut body) = self.slices.take(LENGTH_BYTES + length as usize) else {
            return Ok(None);
        };
        body.advance(LENGTH_BYTES);
        RawRecord::parse(offset, body).map(Some)
    }

    fn fail(&mut self, error: OpError) -> OpError {
        self.failed.insert(error).clone()
    }

    /// Where the next record begins: everything before it was handed out.
    pub fn offset(&self) -> u64 {
        self.slices.offset()
    }

    /// How the journal ended. Take every record first: one that was left, or was refused, counts as torn.
    pub fn finish(self) -> Tail {
        let length = self.slices.peek().map_or(0, u32::from_be_bytes);
        self.slices.tail(LENGTH_BYTES as u64 + u64::from(length))
    }
}

#[cfg(test)]
mod tests;

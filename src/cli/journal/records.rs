//! What may be appended to an `ops` journal by hand: whole records, so that a replay can go on behind them.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::codec::ops::{OpError, OpReader, Tail};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Lets whole records through, and holds back the beginning of one. Memory is bounded by the longest record.
#[derive(Debug)]
pub(super) struct WholeRecords {
    reader: OpReader,
    held: BytesMut,
    passed: u64,
}

/// Why an input is no row of records.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRecords {
    #[error(transparent)]
    Malformed(#[from] OpError),
    #[error("its last record, at byte {at}, is cut: {have} of {wanted} bytes are there")]
    Cut { at: u64, have: u64, wanted: u64 },
}

impl WholeRecords {
    pub(super) fn new() -> Self {
        Self {
            reader: OpReader::new(0),
            held: BytesMut::new(),
            passed: 0,
        }
    }

    /// The records that are whole with the next bytes of the input; perhaps none.
    pub(super) fn next(&mut self, bytes: Bytes) -> Result<Bytes, NoRecords> {
        self.held.extend_from_slice(&bytes);
        self.reader.push(bytes);
        while self.reader.next_record()?.is_some() {}
        let whole = usize::try_from(self.reader.offset() - self.passed).unwrap_or(usize::MAX);
        self.passed = self.reader.offset();
        Ok(self.held.split_to(whole.min(self.held.len())).freeze())
    }

    /// Refuses an input that ended inside a record.
    pub(super) fn finish(self) -> Result<(), NoRecords> {
        match self.reader.finish() {
            Tail::Clean => Ok(()),
            Tail::Torn {
                offset,
                have,
                wanted,
            } => Err(NoRecords::Cut {
                at: offset,
                have,
                wanted,
            }),
        }
    }
}

/// Reads an input to its end; what is wrong with it as records, if anything is.
pub(super) fn check(mut input: impl io::Read) -> io::Result<Result<(), NoRecords>> {
    let mut reader = OpReader::new(0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        reader.push(Bytes::copy_from_slice(&buffer[..length]));
        loop {
            match reader.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Ok(Err(error.into())),
            }
        }
    }
    let checked = WholeRecords {
        reader,
        held: BytesMut::new(),
        passed: 0,
    };
    Ok(checked.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ops::{Op, OpRecord, encode};

    fn record(path: &'static [u8]) -> Bytes {
        let record = OpRecord {
            tag: 1,
            op: Op::SetLength {
                path: Bytes::from_static(path),
                length: 7,
            },
        };
        let mut bytes = BytesMut::new();
        encode(&record, &mut bytes).unwrap();
        bytes.freeze()
    }

    #[test]
    fn whole_records_pass_and_the_beginning_of_one_is_held_back() {
        let all = Bytes::from([record(b"a"), record(b"bc")].concat());
        let first = record(b"a").len();
        for cut in 0..=all.len() {
            let mut records = WholeRecords::new();
            let one = records.next(all.slice(..cut)).unwrap();
            assert!(one.is_empty() || one.len() == first || one.len() == all.len());
            let other = records.next(all.slice(cut..)).unwrap();
            assert_eq!([one, other].concat(), all);
            records.finish().unwrap();
        }
    }

    #[test]
    fn what_is_no_row_of_records_is_refused_and_says_where() {
        let all = record(b"a");
        let mut cut = WholeRecords::new();
        assert!(cut.next(all.slice(..9)).unwrap().is_empty());
        let said = cut.finish().unwrap_err().to_string();
        assert_eq!(
            said,
            format!(
                "its last record, at byte 0, is cut: 9 of {} bytes are there",
                all.len()
            )
        );
        let text = &b"hello, this is no record"[..];
        assert!(WholeRecords::new().next(Bytes::from_static(text)).is_err());
        assert!(check(text).unwrap().is_err());
        assert!(check(&all[..9]).unwrap().is_err());
        check(&all[..]).unwrap().unwrap();
        check(&[][..]).unwrap().unwrap();
    }
}

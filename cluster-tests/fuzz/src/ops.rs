//! `codec::ops`.

use bytes::{Bytes, BytesMut};
use dos_cluster::codec::ops::{OpError, OpReader, Record, Tail, encode};

use crate::{input, memory};

/// Reads slices to their end or to the first malformed record.
pub(crate) fn read(slices: &[Bytes], mut take: impl FnMut(Record)) -> (Option<OpError>, OpReader) {
    let mut reader = OpReader::new(0);
    let mut failed = None;
    for slice in slices {
        reader.push(slice.clone());
        loop {
            match reader.next_record() {
                Ok(Some(record)) => take(record),
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
    }
    (failed, reader)
}

fn read_all(slices: &[Bytes]) -> (Vec<Record>, Option<OpError>, OpReader) {
    let mut records = Vec::new();
    let (failed, reader) = read(slices, |record| records.push(record));
    (records, failed, reader)
}

/// What must hold for any bytes.
///
/// # Panics
/// When it does not.
pub fn check(data: &[u8]) {
    let Some((whole, slices)) = input::cut(data) else {
        return;
    };
    let (records, failed, reader) = read_all(std::slice::from_ref(&whole));
    let (cut_records, cut_failed, cut_reader) = read_all(&slices);
    assert_eq!(records, cut_records, "slices make a difference");
    assert_eq!(
        (&failed, reader.offset()),
        (&cut_failed, cut_reader.offset())
    );

    let mut end = 0;
    for record in &records {
        let offset = match record {
            Record::Op { offset, .. } => *offset,
            Record::Unknown(raw) => raw.offset,
        };
        assert_eq!(offset, end, "records follow each other");
        let header: [u8; 4] = std::array::from_fn(|i| whole[usize::try_from(end).unwrap_or(0) + i]);
        end += 4 + u64::from(u32::from_be_bytes(header));
        if let Record::Op { record, .. } = record {
            // Fields that an op does not need are passed over, so the bytes may differ; what they say must not.
            let mut written = BytesMut::new();
            encode(record, &mut written).expect("it was read");
            assert_eq!(written.len() as u64, record.encoded_bytes());
            let (again, fault, _) = read_all(&[written.freeze()]);
            assert_eq!(fault, None);
            assert!(
                matches!(&again[..], [Record::Op { offset: 0, record: same }] if same == record),
                "{record:?} became {again:?}"
            );
        }
    }
    if failed.is_none() {
        assert_eq!(reader.offset(), end);
        let left = whole.len() as u64 - end;
        let tail = reader.finish();
        assert_eq!(
            tail,
            cut_reader.finish(),
            "slices make a difference to the tail"
        );
        match tail {
            Tail::Clean => assert_eq!(left, 0),
            Tail::Torn {
                offset,
                have,
                wanted,
            } => {
                assert_eq!((offset, have), (end, left));
                assert!(wanted > have, "a whole record was left: {tail:?}");
            }
        }
    }
    memory::bounded_by(whole.len(), || {
        read(&slices, drop);
    });
}

#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::testing::{hex, split};

/// `/r/a-w.workers`
const PATH: &[u8] = b"/r/a-w.workers";
const SET_LENGTH: &str =
    "0000002a0000010100000000000000010000000000000000000000000000000e2f722f612d772e776f726b657273";
const WRITEV: &str = "0000003a000101020000000000000003000000000000000c000000000000000e0000000000000008\
                      2f722f612d772e776f726b657273776f726b6572320a";
const REMOVE: &str = "00000022000200010000000000000000000000000000000e2f722f612d772e776f726b657273";
const TORN: &str = "0000003a00010102000000000000000400000000";

fn path() -> Bytes {
    Bytes::from_static(PATH)
}

fn set_length(tag: u64, length: u64) -> OpRecord {
    let op = Op::SetLength {
        path: path(),
        length,
    };
    OpRecord { tag, op }
}

fn remove() -> OpRecord {
    OpRecord {
        tag: 0,
        op: Op::Remove { path: path() },
    }
}

fn encoded(records: &[OpRecord]) -> Bytes {
    let mut out = BytesMut::new();
    for record in records {
        let before = out.len();
        encode(record, &mut out).expect("a record within its bounds");
        assert_eq!((out.len() - before) as u64, record.encoded_bytes());
    }
    out.freeze()
}

/// Feeds the slices one by one, takes what there is after each.
fn read(slices: impl IntoIterator<Item = Bytes>) -> (Vec<Record>, Result<Tail, OpError>) {
    let mut reader = OpReader::new(0);
    let mut records = Vec::new();
    for slice in slices {
        reader.push(slice);
        loop {
            match reader.next_record() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) => return (records, Err(error)),
            }
        }
    }
    (records, Ok(reader.finish()))
}

/// The error that a journal of one record ends with.
fn fault(bytes: &[u8]) -> OpFault {
    let (records, end) = read([Bytes::copy_from_slice(bytes)]);
    assert_eq!(records, []);
    let error = end.expect_err("the record is malformed");
    assert_eq!(error.offset, 0);
    error.fault
}

/// A record with any header and fields, its length and sizes right.
fn raw(version: u8, op: u8, tag: u64, ints: &[u64], strings: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![
        version,
        op,
        u8::try_from(ints.len()).expect("few"),
        u8::try_from(strings.len()).expect("few"),
    ];
    body.put_u64(tag);
    ints.iter().for_each(|int| body.put_u64(*int));
    strings
        .iter()
        .for_each(|string| body.put_u64(string.len() as u64));
    strings.iter().for_each(|string| body.put_slice(string));
    let mut record = u32::try_from(body.len())
        .expect("short")
        .to_be_bytes()
        .to_vec();
    record.append(&mut body);
    record
}

#[test]
fn the_legacy_vectors_are_read_and_written_byte_for_byte() {
    let write = OpRecord {
        tag: 3,
        op: Op::WriteV {
            offset: 12,
            path: path(),
            data: Bytes::from_static(b"worker2\n"),
        },
    };
    for (vector, record) in [
        (SET_LENGTH, set_length(1, 0)),
        (WRITEV, write),
        (REMOVE, remove()),
    ] {
        assert_eq!(encoded(std::slice::from_ref(&record)), hex(vector));
        let expected = vec![Record::Op { offset: 0, record }];
        assert_eq!(read([hex(vector)]), (expected, Ok(Tail::Clean)));
    }
}

#[test]
fn the_legacy_torn_vector_is_a_torn_tail_behind_the_records_before_it() {
    let torn = Tail::Torn {
        offset: 0,
        have: 20,
        wanted: 0x3e,
    };
    assert_eq!(read([hex(TORN)]), (vec![], Ok(torn)));

    let expected = vec![Record::Op {
        offset: 0,
        record: remove(),
    }];
    let behind = Tail::Torn {
        offset: 38,
        have: 20,
        wanted: 0x3e,
    };
    assert_eq!(read([hex(REMOVE), hex(TORN)]), (expected, Ok(behind)));
}

#[test]
fn offsets_count_from_where_the_reader_starts() {
    let mut reader = OpReader::new(1000);
    reader.push(hex(REMOVE));
    reader.push(hex(SET_LENGTH));
    for (offset, record) in [(1000, remove()), (1038, set_length(1, 0))] {
        let found = reader.next_record().expect("well formed");
        assert_eq!(found, Some(Record::Op { offset, record }));
    }
    assert_eq!(reader.offset(), 1038 + 46);
    assert_eq!(reader.finish(), Tail::Clean);
}

#[test]
fn unknown_versions_and_ops_are_handed_on_and_reading_goes_on_behind_them() {
    for (version, op) in [(1, 0), (0, 3), (255, 255)] {
        let unknown = raw(version, op, 9, &[u64::MAX], &[b"x", b""]);
        let length = unknown.len() as u64;
        let (records, end) = read([Bytes::from(unknown), hex(REMOVE)]);
        let first = Record::Unknown(RawRecord {
            offset: 0,
            version,
            op,
            tag: 9,
            ints: vec![u64::MAX],
            strings: vec![Bytes::from_static(b"x"), Bytes::new()],
        });
        let second = Record::Op {
            offset: length,
            record: remove(),
        };
        assert_eq!((records, end), (vec![first, second], Ok(Tail::Clean)));
    }
}

#[test]
fn spare_fields_are_passed_over_as_by_the_original() {
    let spare = raw(0, 2, 0, &[1, 2], &[PATH, b"spare"]);
    let expected = Record::Op {
        offset: 0,
        record: remove(),
    };
    assert_eq!(
        read([Bytes::from(spare)]),
        (vec![expected], Ok(Tail::Clean))
    );
}

#[test]
fn lengths_out_of_bounds_are_refused_before_the_body_is_there() {
    assert_eq!(fault(&[0; 4]), OpFault::TooShort { length: 0 });
    assert_eq!(fault(&[0, 0, 0, 11]), OpFault::TooShort { length: 11 });
    let length = u64::from(OP_RECORD_BYTES_MAX) + 1;
    assert_eq!(fault(&[0x10, 0, 0, 1]), OpFault::TooLong { length });
    let (records, end) = read([Bytes::from_static(&[0x10, 0, 0, 0])]);
    let torn = Tail::Torn {
        offset: 0,
        have: 4,
        wanted: 4 + (256 << 20),
    };
    assert_eq!((records, end), (vec![], Ok(torn)));
}

#[test]
fn sizes_that_do_not_add_up_are_refused() {
    let mut more = raw(0, 2, 0, &[], &[PATH]);
    more[23] += 1;
    let (stated, have) = (15, 14);
    assert_eq!(fault(&more), OpFault::StringSizes { stated, have });
    more[23] -= 2;
    assert_eq!(fault(&more), OpFault::StringSizes { stated: 13, have });

    let mut negative = raw(0, 1, 0, &[0], &[b"a", b"b"]);
    negative[24..40].fill(0xff);
    let stated = u64::MAX;
    assert_eq!(
        fault(&negative),
        OpFault::StringSizes { stated, have: 2 },
        "two sizes of -1 must not add up to what is there"
    );

    let mut cut = raw(0, 0, 0, &[0], &[b""]);
    cut[6] = 255;
    let (ints, strings, have) = (255, 1, 16);
    let expected = OpFault::FieldsCut {
        ints,
        strings,
        have,
    };
    assert_eq!(fault(&cut), expected);
}

#[test]
fn a_known_op_that_lacks_a_field_or_has_a_negative_number_is_refused() {
    for (op, ints, strings) in [
        (0, &[][..], &[PATH][..]),
        (0, &[1], &[]),
        (1, &[], &[PATH, PATH]),
        (1, &[1], &[PATH]),
        (2, &[], &[]),
    ] {
        let expected = OpFault::MissingField {
            op,
            ints: ints.len(),
            strings: strings.len(),
        };
        assert_eq!(fault(&raw(0, op, 0, ints, strings)), expected);
    }
    let value = 1 << 63;
    let expected = OpFault::Negative { value };
    assert_eq!(fault(&raw(0, 0, 0, &[value], &[PATH])), expected);
    assert_eq!(fault(&raw(0, 1, 0, &[value], &[PATH, b""])), expected);
}

#[test]
fn after_a_malformed_record_every_call_gives_the_same_error() {
    let mut reader = OpReader::new(0);
    reader.push(hex(REMOVE));
    reader.push(Bytes::from_static(&[0; 4]));
    reader.push(hex(REMOVE));
    assert!(reader.next_record().expect("well formed").is_some());
    let error = reader.next_record().expect_err("a length of 0");
    assert_eq!(
        error.to_string(),
        "malformed op record at offset 38: its length 0 is below the 12 bytes of a header"
    );
    assert_eq!(reader.next_record(), Err(error.clone()));
    assert_eq!(reader.next_raw(), Err(error));
}

#[test]
fn what_cannot_be_written_leaves_the_output_unchanged() {
    let mut out = BytesMut::from(&b"before"[..]);
    let value = 1 << 63;
    let refused = encode(&set_length(1, value), &mut out);
    assert_eq!(refused, Err(OpFault::Negative { value }));

    let data = Bytes::from(vec![0; OP_RECORD_BYTES_MAX as usize]);
    let op = Op::WriteV {
        offset: 0,
        path: path(),
        data,
    };
    let refused = encode(&OpRecord { tag: 1, op }, &mut out);
    assert!(matches!(refused, Err(OpFault::TooLong { .. })));
    assert_eq!(out, b"before"[..]);
}

fn bytes(size_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..size_max).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = OpRecord> {
    let number = 0..SIGNED_END;
    let op = prop_oneof![
        (bytes(40), number.clone()).prop_map(|(path, length)| Op::SetLength { path, length }),
        (number, bytes(40), bytes(200)).prop_map(|(offset, path, data)| Op::WriteV {
            offset,
            path,
            data
        }),
        bytes(40).prop_map(|path| Op::Remove { path }),
    ];
    (any::<u64>(), op).prop_map(|(tag, op)| OpRecord { tag, op })
}

/// The records with the offsets that they have when written one behind the other.
fn located(records: &[OpRecord]) -> Vec<Record> {
    let mut offset = 0;
    let place = |record: &OpRecord| {
        let placed = Record::Op {
            offset,
            record: record.clone(),
        };
        offset += record.encoded_bytes();
        placed
    };
    records.iter().map(place).collect()
}

proptest! {
    #[test]
    fn any_split_of_a_journal_gives_the_records_that_were_written(
        records in vec(record(), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let journal = encoded(&records);
        let expected = (located(&records), Ok(Tail::Clean));
        prop_assert_eq!(read(split(&journal, &cuts)), expected.clone());

        // All slices first and the records after, too.
        let mut reader = OpReader::new(0);
        split(&journal, &cuts).into_iter().for_each(|slice| reader.push(slice));
        let mut found = Vec::new();
        while let Some(record) = reader.next_record().expect("well formed") {
            found.push(record);
        }
        prop_assert_eq!((found, Ok(reader.finish())), expected);
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_torn_at_the_last_record_boundary(
        records in vec(record(), 1..4),
    ) {
        let journal = encoded(&records);
        let all = located(&records);
        for cut in 0..journal.len() {
            let (found, end) = read([journal.slice(..cut)]);
            let whole: u64 = records[..found.len()].iter().map(OpRecord::encoded_bytes).sum();
            prop_assert_eq!(&found[..], &all[..found.len()]);
            let have = cut as u64 - whole;
            let needed = records[found.len()].encoded_bytes();
            prop_assert!(have < needed, "a whole record was not handed out");
            let wanted = if have < 4 { 4 } else { needed };
            let expected = match have {
                0 => Tail::Clean,
                _ => Tail::Torn { offset: whole, have, wanted },
            };
            prop_assert_eq!(end, Ok(expected));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_hold_more_than_was_fed(
        slices in vec(bytes(60), 0..20),
        small_lengths in any::<bool>(),
    ) {
        let mut reader = OpReader::new(0);
        let mut fed = 0;
        for mut slice in slices {
            if small_lengths && slice.len() >= 8 {
                let mut plausible = BytesMut::from(&slice[..]);
                plausible[..6].copy_from_slice(&[0, 0, 0, slice[3] % 64, 0, slice[5] % 4]);
                slice = plausible.freeze();
            }
            fed += slice.len();
            reader.push(slice);
            while let Ok(Some(record)) = reader.next_record() {
                if let Record::Unknown(record) = record {
                    let strings: usize = record.strings.iter().map(Bytes::len).sum();
                    prop_assert!(strings + 8 * record.ints.len() <= fed);
                }
            }
            // A growing buffer doubles.
            prop_assert!(reader.slices.carried() <= 2 * fed + 64);
        }
        let end = reader.offset();
        prop_assert!(end <= fed as u64);
        reader.finish();
    }
}

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::codec::{
    evlog::{self, Event, EventReader},
    ops::{self, Op, OpReader, OpRecord, Record},
};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<bool>(), any::<u128>(), vec(any::<u8>(), 0..60)).prop_map(|(last, resilient_id, payload)| Event::Data {
            last,
            resilient_id,
            payload: payload.into(),
        }),
        2 => any::<u64>().prop_map(Event::CheckpointId),
        1 => Just(Event::RestartMarker),
    ]
}

fn op() -> impl Strategy<Value = OpRecord> {
    let path = prop_oneof![
        Just(Bytes::from_static(b"/tmp/app-w1.checkpoint_ids")),
        Just(Bytes::from_static(b".checkpoint_ids")),
        Just(Bytes::from_static(b"/tmp/app-w1.checkpoint_ids.old")),
        vec(any::<u8>(), 0..30).prop_map(Bytes::from),
    ];
    let data = prop_oneof![
        vec(any::<u8>(), 24..25),
        vec(any::<u8>(), 48..49),
        vec(any::<u8>(), 0..60),
    ];
    (any::<u64>(), path, data, 0..3u8).prop_map(|(tag, path, data, kind)| OpRecord {
        tag,
        op: match kind {
            0 => Op::SetLength { path, length: 7 },
            1 => Op::Remove { path },
            _ => Op::WriteV {
                offset: 5,
                path,
                data: data.into(),
            },
        },
    })
}

/// What the readers of `codec`, which keep everything, make of it.
fn read_events(bytes: &[u8]) -> (Vec<Found>, Offset, bool) {
    let mut reader = EventReader::new(0);
    reader.push(Bytes::copy_from_slice(bytes));
    let mut found = Vec::new();
    let lost = loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                if let Event::CheckpointId(id) = entry.event {
                    let end = Offset(reader.offset());
                    found.push(Found::Written { id, end });
                }
            }
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    (found, Offset(reader.offset()), lost)
}

fn read_ops(bytes: &[u8]) -> Vec<Found> {
    let mut reader = OpReader::new(0);
    reader.push(Bytes::copy_from_slice(bytes));
    let mut found = Vec::new();
    let mut begin = 0;
    while let Ok(Some(record)) = reader.next_record() {
        let at = Offset(begin);
        begin = reader.offset();
        let end = Offset(reader.offset());
        let Record::Op { record, .. } = record else {
            continue;
        };
        if let Op::Remove { path } = &record.op
            && path.ends_with(b".checkpoint_ids")
        {
            found.push(Found::Ended { end });
        }
        if let Op::WriteV { path, data, .. } = record.op
            && path.ends_with(b".checkpoint_ids")
            && !data.is_empty()
            && data.len() % 24 == 0
        {
            let number = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
            let last = data.len() - 24;
            let ids = CheckpointIds {
                current: number(last),
                complete: number(last + 8),
                rollback: number(last + 16),
            };
            found.push(Found::Ids { ids, at, end });
        }
    }
    found
}

fn scan(mut scan: Scan, bytes: &[u8], cuts: &[prop::sample::Index]) -> (Vec<Found>, Scan) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let mut found = Vec::new();
    for pair in places.windows(2) {
        scan.push(&bytes[pair[0]..pair[1]], &mut found);
    }
    (found, scan)
}

proptest! {
    #[test]
    fn an_event_log_is_scanned_as_the_reader_reads_it(
        events in vec(event(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        torn in any::<prop::sample::Index>(),
        noise in vec(any::<u8>(), 0..30),
    ) {
        let mut bytes = BytesMut::new();
        for event in &events {
            evlog::encode(event, &mut bytes).unwrap();
        }
        bytes.truncate(bytes.len() - torn.index(bytes.len().min(20) + 1));
        bytes.extend_from_slice(&noise);
        let (expected, boundary, lost) = read_events(&bytes);
        let (found, scan) = scan(Scan::EventLog(EventLogScan::default()), &bytes, &cuts);
        prop_assert_eq!(found, expected);
        prop_assert_eq!((scan.boundary(), scan.is_lost()), (boundary, lost));
        let Scan::EventLog(EventLogScan { head, .. }) = scan else { unreachable!() };
        prop_assert!(head.capacity() <= 64);
    }

    #[test]
    fn an_ops_journal_is_scanned_as_the_reader_reads_it(
        records in vec(op(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        torn in any::<prop::sample::Index>(),
    ) {
        let mut bytes = BytesMut::new();
        for record in &records {
            ops::encode(record, &mut bytes).unwrap();
        }
        bytes.truncate(bytes.len() - torn.index(bytes.len().min(20) + 1));
        let (found, scan) = scan(Scan::CheckpointIds(CheckpointIdsScan::default()), &bytes, &cuts);
        prop_assert_eq!(found, read_ops(&bytes));
        prop_assert!(!scan.is_lost());
    }

    /// Whatever comes: no panic, and memory within its bound.
    #[test]
    fn hostile_bytes_are_scanned_in_bounded_memory(bytes in vec(any::<u8>(), 0..6000), cuts in vec(any::<prop::sample::Index>(), 0..5)) {
        for start in [Scan::EventLog(EventLogScan::default()), Scan::CheckpointIds(CheckpointIdsScan::default())] {
            let (_, scan) = scan(start, &bytes, &cuts);
            if let Scan::CheckpointIds(scan) = scan {
                prop_assert!(scan.head.len() <= 4_096 && scan.path_end.len() <= 15 && scan.data_end.len() <= 24);
            }
        }
    }
}

#[test]
fn a_scan_goes_on_from_a_boundary_where_the_journal_was_cut() {
    let mut bytes = BytesMut::new();
    for id in 0..3 {
        evlog::encode(&Event::CheckpointId(id), &mut bytes).unwrap();
    }
    let mut scan = Scan::EventLog(EventLogScan::default());
    let mut found = Vec::new();
    scan.push(&bytes[..22], &mut found);
    assert_eq!(scan.boundary(), Offset(18));
    scan.cut(Offset(9));
    scan.push(&bytes[18..27], &mut found);
    let last = found.last().copied();
    assert_eq!(
        last,
        Some(Found::Written {
            id: 2,
            end: Offset(18)
        })
    );

    scan.push(&bytes[..5], &mut found);
    scan.cut(Offset(20));
    assert!(scan.is_lost(), "the entry at hand was cut");
    scan.cut(Offset(18));
    assert!(!scan.is_lost());
}

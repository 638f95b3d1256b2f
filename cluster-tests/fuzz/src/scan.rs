//! `domain::scan`, against the readers of `codec`: the input's first byte also says which of the two scans.

use bytes::Bytes;
use dos_cluster::{
    codec::{
        evlog::Event,
        ops::{Op, Record},
    },
    domain::{
        Offset,
        scan::{CheckpointIds, CheckpointIdsScan, EventLogScan, Found, Scan},
    },
};

use crate::{event_log, input, memory, ops};

/// An entry of `.checkpoint_ids`, in bytes.
const IDS_BYTES: usize = 24;

fn scan(mut scan: Scan, slices: &[Bytes]) -> (Vec<Found>, Scan) {
    let mut found = Vec::new();
    for slice in slices {
        scan.push(slice, &mut found);
    }
    (found, scan)
}

/// What the reader of event logs finds, where its last whole entry ends, and whether it failed there.
fn in_event_log(whole: &Bytes) -> (Vec<Found>, u64, bool) {
    let (entries, failed, _, end) = event_log::read_all(std::slice::from_ref(whole));
    let ids = entries.iter().filter_map(|entry| match entry.event {
        Event::CheckpointId(id) => Some(Found::Written {
            id,
            end: Offset(entry.offset + entry.event.encoded_bytes()),
        }),
        _ => None,
    });
    (ids.collect(), end, failed.is_some())
}

/// The same of ops journals; the end is known only if nothing failed.
fn in_ops(whole: &Bytes) -> (Vec<Found>, Option<u64>) {
    let mut found = Vec::new();
    let mut records = Vec::new();
    let (failed, reader) = ops::read(std::slice::from_ref(whole), |record| records.push(record));
    let starts = records.iter().skip(1).map(|record| match record {
        Record::Op { offset, .. } => *offset,
        Record::Unknown(raw) => raw.offset,
    });
    let last = failed
        .as_ref()
        .map_or(reader.offset(), |error| error.offset);
    let ends: Vec<u64> = starts.chain([last]).collect();
    let mut at = 0;
    for (record, end) in records.iter().zip(ends) {
        let begin = std::mem::replace(&mut at, end);
        let Record::Op { record, .. } = record else {
            continue;
        };
        if !record.op.path().ends_with(b".checkpoint_ids") {
            continue;
        }
        if let Op::Remove { .. } = &record.op {
            found.push(Found::Ended { end: Offset(end) });
        }
        if let Op::WriteV { data, .. } = &record.op
            && data.len().is_multiple_of(IDS_BYTES)
            && let Some(entry) = data.last_chunk::<IDS_BYTES>()
        {
            let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| entry[at + i]));
            let ids = CheckpointIds {
                current: number(0),
                complete: number(8),
                rollback: number(16),
            };
            found.push(Found::Ids {
                ids,
                at: Offset(begin),
                end: Offset(end),
            });
        }
    }
    (found, failed.is_none().then(|| reader.offset()))
}

/// What must hold for any bytes.
///
/// # Panics
/// When it does not.
pub fn check(data: &[u8]) {
    let Some((whole, slices)) = input::cut(data) else {
        return;
    };
    let is_event_log = data[0].is_multiple_of(2);
    let begin = || {
        if is_event_log {
            Scan::EventLog(EventLogScan::at(Offset(0)))
        } else {
            Scan::CheckpointIds(CheckpointIdsScan::at(Offset(0)))
        }
    };
    let (found, end) = scan(begin(), std::slice::from_ref(&whole));
    let (cut_found, cut_end) = scan(begin(), &slices);
    assert_eq!(found, cut_found, "slices make a difference");
    if end.is_lost() {
        // How much of the header was kept when the fault was seen is nobody's business: it is never read again.
        assert!(cut_end.is_lost());
        assert_eq!(end.boundary(), cut_end.boundary());
    } else {
        assert_eq!(end, cut_end, "slices make a difference");
    }
    if is_event_log {
        let (expected, boundary, failed) = in_event_log(&whole);
        assert_eq!(found, expected, "scan and reader differ");
        assert_eq!((end.boundary().0, end.is_lost()), (boundary, failed));
    } else {
        // The scan looks less closely than the reader: it goes on where the reader finds a record without sense.
        let (expected, boundary) = in_ops(&whole);
        assert!(found.starts_with(&expected), "{found:?}, not {expected:?}");
        if let Some(boundary) = boundary {
            assert_eq!((found, end.boundary().0), (expected, boundary));
            // Sizes that do not add up are found with the header; the reader waits for the whole record.
            assert!(!end.is_lost() || boundary < whole.len() as u64);
        }
    }
    // Of what it passed over a scan keeps only the last header.
    memory::bounded_by(0, || {
        let mut at_hand = begin();
        for slice in &slices {
            at_hand.push(slice, &mut Vec::new());
        }
    });
}

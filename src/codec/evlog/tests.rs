#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::testing::{hex, split};

const ROLLBACK: &str = "010000000000000000000000000000000000000000000000000007000000024131000100000000000000000000000000\
    000007000000024132010000000000000001000100000000000000000000000000000007000000024231025265736574\
    212121000100000000000000000000000000000007000000024331010000000000000002";

fn read(slices: impl IntoIterator<Item = Bytes>) -> (Vec<Entry>, Result<Tail, EventError>) {
    let mut reader = EventReader::new(0);
    let mut entries = Vec::new();
    for slice in slices {
        reader.push(slice);
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => break,
                Err(error) => return (entries, Err(error)),
            }
        }
    }
    (entries, Ok(reader.finish()))
}

fn encoded(events: &[Event]) -> Bytes {
    let mut out = BytesMut::new();
    for event in events {
        let before = out.len();
        encode(event, &mut out).expect("an entry within its bounds");
        assert_eq!((out.len() - before) as u64, event.encoded_bytes());
    }
    out.freeze()
}

fn located(events: &[Event]) -> Vec<Entry> {
    let mut offset = 0;
    let place = |event: &Event| {
        let event = event.clone();
        let at = offset;
        offset += event.encoded_bytes();
        Entry { offset: at, event }
    };
    events.iter().map(place).collect()
}

fn data(last: bool, resilient_id: u128, payload: &'static [u8]) -> Event {
    Event::Data {
        last,
        resilient_id,
        payload: Bytes::from_static(payload),
    }
}

fn fault(bytes: &'static [u8]) -> EventFault {
    let whole = encoded(&[Event::CheckpointId(0)]);
    let (entries, end) = read([whole, Bytes::from_static(bytes)]);
    assert_eq!(entries.len(), 1);
    let error = end.expect_err("the entry is malformed");
    assert_eq!(error.offset, 9);
    error.fault
}

#[test]
fn the_legacy_vectors_are_read_and_written_byte_for_byte() {
    for (vector, event) in [
        (
            "00010123456789abcdef00112233445566770000000568656c6c6f",
            data(true, 0x0123_4567_89ab_cdef_0011_2233_4455_6677, b"hello"),
        ),
        (
            "0000000000000000000000000000000000070000000200ff",
            data(false, 7, b"\x00\xff"),
        ),
        ("01000000000000002b", Event::CheckpointId(43)),
        ("025265736574212121", Event::RestartMarker),
    ] {
        assert_eq!(encoded(std::slice::from_ref(&event)), hex(vector));
        let expected = vec![Entry { offset: 0, event }];
        assert_eq!(read([hex(vector)]), (expected, Ok(Tail::Clean)));
    }
}

#[test]
fn the_legacy_rollback_log_is_read_with_its_offsets() {
    let events = [
        Event::CheckpointId(0),
        data(false, 7, b"A1"),
        data(true, 7, b"A2"),
        Event::CheckpointId(1),
        data(true, 7, b"B1"),
        Event::RestartMarker,
        data(true, 7, b"C1"),
        Event::CheckpointId(2),
    ];
    let (entries, end) = read([hex(ROLLBACK)]);
    assert_eq!(entries, located(&events));
    assert_eq!(end, Ok(Tail::Clean));
    let offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [0, 9, 33, 57, 66, 90, 99, 123]);
    assert_eq!(encoded(&events), hex(ROLLBACK));
}

#[test]
fn malformed_entries_are_refused_as_soon_as_the_wrong_byte_is_there() {
    assert_eq!(fault(b"\x03"), EventFault::UnknownKind { kind: 3 });
    assert_eq!(fault(b"\x00\x02"), EventFault::LastFlag { last: 2 });
    assert_eq!(fault(b"\x02Reset!!?"), EventFault::RestartText);
    let length = u64::from(EVENT_PAYLOAD_BYTES_MAX) + 1;
    assert_eq!(
        fault(b"\x00\x01................\x10\x00\x00\x01"),
        EventFault::TooLong { length }
    );
    let error = EventError {
        offset: 9,
        fault: EventFault::UnknownKind { kind: 3 },
    };
    assert_eq!(
        error.to_string(),
        "malformed event log entry at offset 9: unknown kind 0x03"
    );
}

#[test]
fn after_a_malformed_entry_every_call_gives_the_same_error() {
    let mut reader = EventReader::new(7);
    reader.push(Bytes::from_static(b"\x09"));
    let error = reader.next_entry().expect_err("an unknown kind");
    reader.push(encoded(&[Event::RestartMarker]));
    assert_eq!(reader.next_entry(), Err(error.clone()));
    assert_eq!(error.offset, 7);
}

#[test]
fn a_payload_above_the_limit_is_not_written() {
    let payload = Bytes::from(vec![0; EVENT_PAYLOAD_BYTES_MAX as usize + 1]);
    let event = Event::Data {
        last: true,
        resilient_id: 0,
        payload,
    };
    let mut out = BytesMut::new();
    assert!(matches!(
        encode(&event, &mut out),
        Err(EventFault::TooLong { .. })
    ));
    assert!(out.is_empty());
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<bool>(), any::<u128>(), vec(any::<u8>(), 0..100)).prop_map(
            |(last, resilient_id, payload)| Event::Data {
                last,
                resilient_id,
                payload: payload.into(),
            }
        ),
        any::<u64>().prop_map(Event::CheckpointId),
        Just(Event::RestartMarker),
    ]
}

proptest! {
    #[test]
    fn any_split_of_a_log_gives_the_entries_that_were_written(
        events in vec(event(), 0..10),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let log = encoded(&events);
        prop_assert_eq!(read(split(&log, &cuts)), (located(&events), Ok(Tail::Clean)));
    }

    #[test]
    fn a_log_cut_at_any_byte_is_torn_at_the_last_entry_boundary(events in vec(event(), 1..5)) {
        let log = encoded(&events);
        let all = located(&events);
        for cut in 0..log.len() {
            let (found, end) = read([log.slice(..cut)]);
            prop_assert_eq!(&found[..], &all[..found.len()]);
            let torn = &all[found.len()];
            let have = cut as u64 - torn.offset;
            let needed = torn.event.encoded_bytes();
            prop_assert!(have < needed, "a whole entry was not handed out");
            let wanted = if have < 22 { needed.min(22) } else { needed };
            let expected = match have {
                0 => Tail::Clean,
                _ => Tail::Torn { offset: torn.offset, have, wanted },
            };
            prop_assert_eq!(end, Ok(expected));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_hold_more_than_was_fed(
        slices in vec(vec(prop_oneof![0..4u8, any::<u8>()], 0..60), 0..20),
    ) {
        let mut reader = EventReader::new(0);
        let mut fed = 0;
        for slice in slices {
            fed += slice.len();
            reader.push(slice.into());
            while let Ok(Some(entry)) = reader.next_entry() {
                prop_assert!(entry.offset + entry.event.encoded_bytes() <= fed as u64);
            }
            // A growing buffer doubles.
            prop_assert!(reader.slices.carried() <= 2 * fed + 64);
        }
        prop_assert!(reader.offset() <= fed as u64);
        reader.finish();
    }
}

/// What is refused is left where it is, so that the journal can be cut before it.
#[test]
fn a_restart_marker_with_another_text_counts_as_torn() {
    let mut reader = EventReader::new(5);
    reader.push(Bytes::from_static(b"\x02Reset!?!"));
    assert_eq!(
        reader.next_entry().unwrap_err().fault,
        EventFault::RestartText
    );
    assert_eq!(reader.offset(), 5);
    assert!(matches!(
        reader.finish(),
        Tail::Torn {
            offset: 5,
            have: 9,
            ..
        }
    ));
}

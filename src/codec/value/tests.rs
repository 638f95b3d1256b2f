use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::Index,
};

use super::*;
use crate::{
    codec::wire::testing,
    domain::scan::{CheckpointIds, CheckpointIdsScan, EventLogScan, Found, JournalScan, Scan},
};

fn journals() -> impl Strategy<Value = Journal> {
    let numbers = (testing::number(), testing::number(), testing::number());
    let offsets = (testing::offset(), testing::offset());
    let named = (testing::journal_name(), testing::kind());
    let scan = proptest::option::of(scans());
    let opener = (testing::number(), testing::number().prop_map(Writer));
    let writer = (testing::token(), any::<bool>(), opener);
    (numbers, named, writer, offsets, scan).prop_map(
        |(
            (id, owner, cuts),
            (name, kind),
            (token, writer_open, (opener, opened_over)),
            (writer_from, tail),
            scan,
        )| {
            Journal {
                id: JournalId(id),
                owner: WorkerId(owner),
                name,
                kind,
                token,
                writer_from,
                writer_open,
                opener,
                opened_over,
                tail,
                cuts,
                scan,
            }
        },
    )
}

fn scans() -> impl Strategy<Value = JournalScan> {
    let bytes = || vec(any::<u8>(), 0..30);
    let numbers = || (testing::number(), testing::number(), testing::number());
    let log = (testing::offset(), bytes(), testing::number(), any::<bool>()).prop_map(
        |(entry, head, skip, lost)| {
            Scan::EventLog(EventLogScan {
                entry,
                head,
                skip,
                lost,
            })
        },
    );
    let strings = (bytes(), bytes(), bytes());
    let ids = (testing::offset(), strings, testing::number(), any::<bool>()).prop_map(
        |(record, (head, path_end, data_end), passed, lost)| {
            Scan::CheckpointIds(CheckpointIdsScan {
                record,
                head,
                passed,
                path_end,
                data_end,
                lost,
            })
        },
    );
    let found = prop_oneof![
        (testing::number(), testing::offset()).prop_map(|(id, end)| Found::Written { id, end }),
        testing::offset().prop_map(|end| Found::Ended { end }),
        (numbers(), testing::offset(), testing::offset()).prop_map(
            |((current, complete, rollback), at, end)| Found::Ids {
                ids: CheckpointIds {
                    current,
                    complete,
                    rollback,
                },
                at,
                end,
            }
        ),
    ];
    let passed = proptest::option::of(testing::number());
    let runs = (
        vec(testing::number(), 0..4),
        testing::number(),
        testing::offset(),
    );
    (prop_oneof![log, ids], vec(found, 0..4), passed, runs).prop_map(
        |(scan, waiting, passed, (reused, ended_runs, run_from))| JournalScan {
            scan,
            waiting,
            passed,
            reused,
            ended_runs,
            run_from,
        },
    )
}

fn workers() -> impl Strategy<Value = Worker> {
    let numbers = (testing::number(), testing::number());
    let endpoint = proptest::option::of(testing::endpoint());
    (numbers, testing::worker(), testing::succession(), endpoint).prop_map(
        |((id, epoch), name, succession, endpoint)| Worker {
            id: WorkerId(id),
            name,
            epoch: Epoch(epoch),
            succession,
            endpoint,
            journals: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
        },
    )
}

fn checkpoints() -> impl Strategy<Value = Checkpoint> {
    let offsets = btree_map(
        testing::number().prop_map(JournalId),
        testing::offset(),
        0..5,
    );
    let numbers = (testing::number(), testing::number());
    (testing::checkpoint_id(), offsets, numbers, any::<bool>()).prop_map(
        |(id, offsets, (log_index, at_unix_ms), found)| Checkpoint {
            id,
            offsets,
            log_index,
            at_unix_ms,
            found,
        },
    )
}

/// A record's bytes with one bit turned and its end cut off, or one of the two.
fn damage(mut raw: Vec<u8>, bit: Index, keep: Index) -> Bytes {
    let bit = bit.index(raw.len() * 8);
    let keep = keep.index(2 * raw.len());
    if let Some(byte) = raw.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    raw.truncate(keep);
    raw.into()
}

fn is_damage<T: std::fmt::Debug>(found: Result<T, CodecError>, object: &str) -> bool {
    matches!(found, Err(CodecError::Damaged { what, .. }) if what == object)
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found(body in vec(any::<u8>(), 0..200), bit in any::<Index>()) {
        let mut raw = seal(&body);
        prop_assert_eq!(open("x", raw.clone().into()), Ok(Bytes::from(body)));
        let bit = bit.index(raw.len() * 8);
        *raw.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        prop_assert!(is_damage(open("x", raw.into()), "x"));
    }

    #[test]
    fn a_cut_frame_is_found(body in vec(any::<u8>(), 1..200), keep in any::<Index>()) {
        let mut raw = seal(&body);
        raw.truncate(keep.index(raw.len()));
        prop_assert!(is_damage(open("x", raw.into()), "x"));
    }

    #[test]
    fn journals_come_back_or_are_damaged(
        journal in journals(), bit in any::<Index>(), keep in any::<Index>(),
    ) {
        let raw = encode_journal(&journal);
        prop_assert_eq!(decode_journal(raw.clone().into()), Ok(journal));
        prop_assert!(is_damage(decode_journal(damage(raw, bit, keep)), JOURNAL));
    }

    #[test]
    fn workers_come_back_or_are_damaged(
        worker in workers(), bit in any::<Index>(), keep in any::<Index>(),
    ) {
        let raw = encode_worker(&worker);
        prop_assert_eq!(decode_worker(raw.clone().into()), Ok(worker));
        prop_assert!(is_damage(decode_worker(damage(raw, bit, keep)), WORKER));
    }

    #[test]
    fn checkpoints_come_back_or_are_damaged(
        checkpoint in checkpoints(), bit in any::<Index>(), keep in any::<Index>(),
    ) {
        let raw = encode_checkpoint(&checkpoint);
        prop_assert_eq!(decode_checkpoint(raw.clone().into()), Ok(checkpoint));
        prop_assert!(is_damage(decode_checkpoint(damage(raw, bit, keep)), CHECKPOINT));
    }

    #[test]
    fn members_come_back_or_are_damaged(
        member in testing::member(), bit in any::<Index>(), keep in any::<Index>(),
    ) {
        let raw = encode_member(&member);
        prop_assert_eq!(decode_member(raw.clone().into()), Ok(member));
        prop_assert!(is_damage(decode_member(damage(raw, bit, keep)), MEMBER));
    }

    #[test]
    fn counters_come_back_or_are_damaged(
        numbers in any::<[u64; 5]>(), bit in any::<Index>(), keep in any::<Index>(),
    ) {
        let [next_worker, next_journal, next_node, writer, hash] = numbers;
        let last_deleted_writer = Writer(writer);
        let counters = Counters { next_worker, next_journal, next_node, last_deleted_writer, hash };
        let raw = encode_counters(counters);
        prop_assert_eq!(decode_counters(raw.clone().into()), Ok(counters));
        prop_assert!(is_damage(decode_counters(damage(raw, bit, keep)), COUNTERS));
    }

    /// A checksum that matches does not make a record of any bytes.
    #[test]
    fn a_sealed_body_is_a_record_or_damage(body in vec(any::<u8>(), 0..60)) {
        let raw = Bytes::from(seal(&body));
        if let Err(error) = decode_journal(raw.clone()) {
            prop_assert!(is_damage::<()>(Err(error), JOURNAL));
        }
        if let Err(error) = decode_worker(raw.clone()) {
            prop_assert!(is_damage::<()>(Err(error), WORKER));
        }
        if let Err(error) = decode_checkpoint(raw) {
            prop_assert!(is_damage::<()>(Err(error), CHECKPOINT));
        }
    }
}

#[test]
fn zeros_are_not_a_frame() {
    assert!(open("x", Bytes::from_static(&[0; 64])).is_err());
}

#[test]
fn a_frame_of_another_format_is_refused() {
    let body = [FORMAT + 1, 7];
    let mut raw = crc32c::crc32c(&body).to_le_bytes().to_vec();
    raw.extend_from_slice(&body);
    let refused = open("x", raw.into()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "x is damaged: format 2, this version reads 1"
    );
}

#[test]
fn a_record_that_lacks_a_part_is_damaged() {
    let sealed = |body: Vec<u8>| Bytes::from(seal(&body));
    let nameless = sealed(pb::StoredJournal::default().encode_to_vec());
    assert!(is_damage(decode_journal(nameless), JOURNAL));
    let kindless = pb::StoredJournal {
        name: "a".to_owned(),
        ..Default::default()
    };
    let kindless = sealed(kindless.encode_to_vec());
    assert!(is_damage(decode_journal(kindless), JOURNAL));
    let first = pb::StoredWorker {
        job: "j".to_owned(),
        worker: "w".to_owned(),
        ..Default::default()
    };
    let first = sealed(first.encode_to_vec());
    assert!(is_damage(decode_worker(first), WORKER));
    let of = |journals: &[u64], offsets: &[u64]| pb::StoredCheckpoint {
        id: Some(Default::default()),
        journals: journals.to_vec(),
        offsets: offsets.to_vec(),
        ..Default::default()
    };
    for bad in [
        pb::StoredCheckpoint::default(),
        of(&[1, 2], &[3]),
        of(&[1], &[3, 4]),
        of(&[1, 1], &[3, 4]),
    ] {
        let bad = sealed(bad.encode_to_vec());
        assert!(is_damage(decode_checkpoint(bad), CHECKPOINT));
    }
    let good = sealed(of(&[1, 2], &[3, 4]).encode_to_vec());
    assert!(decode_checkpoint(good).is_ok());
}

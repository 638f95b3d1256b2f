//! Checkpoints that are read out of legacy workers' journals.

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    codec::{
        evlog::{self, Event},
        ops::{self, Op, OpRecord},
    },
    domain::recovery_line::Pace,
};

pub(super) const LOG: &str = "j/a/app-a.evlog.journal";
pub(super) const OPS: &str = "j/a/app-a.journal";

/// Entries of an event log.
pub(super) fn log(events: &[Event]) -> Bytes {
    let mut bytes = BytesMut::new();
    for event in events {
        evlog::encode(event, &mut bytes).unwrap();
    }
    bytes.freeze()
}

pub(super) fn id(number: u64) -> Event {
    Event::CheckpointId(number)
}

pub(super) fn data(payload: &'static str) -> Event {
    Event::Data {
        last: true,
        resilient_id: 7,
        payload: payload.into(),
    }
}

/// A record that appends to `.checkpoint_ids`.
pub(super) fn ids(current: u64, complete: u64, rollback: u64) -> Bytes {
    let entry = [current, complete, rollback].map(u64::to_be_bytes).concat();
    write("/tmp/app-a.checkpoint_ids", entry.into())
}

pub(super) fn write(path: &'static str, data: Bytes) -> Bytes {
    op(Op::WriteV {
        path: path.into(),
        offset: 0,
        data,
    })
}

/// A record.
pub(super) fn op(op: Op) -> Bytes {
    let mut bytes = BytesMut::new();
    ops::encode(&OpRecord { tag: 1, op }, &mut bytes).unwrap();
    bytes.freeze()
}

impl Bench {
    pub(super) fn open_as(&mut self, journal: &str, kind: JournalKind) -> OpenedJournal {
        let journal: JournalRef = journal.parse().unwrap();
        let epoch = self.state.worker(&journal.owner).unwrap().epoch;
        let opened = self.accept(&Command::OpenJournal(OpenJournal {
            journal,
            kind,
            epoch,
            expected: None,
            over: None,
            opener: 0,
        }));
        match opened {
            Outcome::JournalOpened(opened) => opened,
            other => panic!("{other:?}"),
        }
    }

    /// Opens both journals of a worker.
    pub(super) fn open_both(&mut self, worker: &str) -> (OpenedJournal, OpenedJournal) {
        self.open_worker(&format!("j/{worker}"));
        let log = format!("j/{worker}/app-{worker}.evlog.journal");
        let ops = format!("j/{worker}/app-{worker}.journal");
        let log = self.open_as(&log, JournalKind::Raw);
        (log, self.open_as(&ops, JournalKind::Ops))
    }

    /// Appends at the tail; answers the new tail.
    pub(super) fn feed(&mut self, opened: &OpenedJournal, data: &Bytes) -> u64 {
        let at = self.state.journal_by_id(opened.journal).unwrap().tail;
        self.accept(&batch(vec![Append {
            journal: opened.journal,
            token: opened.token,
            at,
            data: data.clone(),
        }]));
        at.0 + data.len() as u64
    }

    pub(super) fn line(&self) -> Option<CheckpointId> {
        let line = self.state.line(&"j".parse().unwrap());
        line.ok().map(|line| line.id)
    }

    /// Up to where a checkpoint covers the journals that it names.
    pub(super) fn covered(&self, worker: &str, id: CheckpointId) -> BTreeMap<JournalId, Offset> {
        let worker = self.state.worker(&worker.parse().unwrap()).unwrap();
        worker.checkpoints[&id].offsets.clone()
    }
}

fn rolled_back(rollback_epoch: u64, number: u64) -> CheckpointId {
    CheckpointId {
        rollback_epoch,
        number,
    }
}

#[test]
fn a_checkpoint_is_there_once_both_journals_hold_it_whichever_comes_last() {
    for log_first in [true, false] {
        let mut bench = Bench::default();
        let (a, b) = bench.open_both("a");
        let other = bench.open_as("j/a/notes", JournalKind::Raw);
        bench.feed(&other, &"note".into());
        let entries = log(&[id(0), data("x"), id(1), data("of the next")]);
        let covered = log(&[id(0), data("x"), id(1)]).len() as u64;
        if log_first {
            bench.feed(&a, &entries);
        }
        bench.feed(&b, &ids(1, 0, 0));
        let end = bench.feed(&b, &ids(1, 1, 0));
        let mut at = bench.index;
        bench.feed(&b, &write("/tmp/app-a.workers", "w\n".into()));
        if !log_first {
            assert_eq!(bench.checkpoints("j/a"), [0; 0]);
            // In two parts, the second from the middle of the id's entry on.
            let (first, last) = entries.split_at(usize::try_from(covered).unwrap() - 4);
            bench.feed(&a, &Bytes::copy_from_slice(first));
            bench.feed(&a, &Bytes::copy_from_slice(last));
            at = bench.index;
        }
        assert_eq!(bench.checkpoints("j/a"), [0, 1]);
        let expected = [(a.journal, covered), (b.journal, end)];
        let expected = expected.map(|(journal, at)| (journal, Offset(at)));
        assert_eq!(bench.covered("j/a", checkpoint(1)), expected.into());
        let worker = bench.state.worker(&"j/a".parse().unwrap()).unwrap();
        let told = worker.newest_checkpoint().unwrap();
        assert_eq!((told.at_unix_ms, told.log_index), (1500, at));
    }
}

/// The failure of the original that its README tells in eleven steps: 43 is complete at A, and at B it is lost.
#[test]
fn the_line_stays_where_it_was_until_the_last_worker_has_the_bytes_and_both_restore_there() {
    let mut bench = Bench::default();
    let (a_log, a_ops) = bench.open_both("a");
    let (b_log, b_ops) = bench.open_both("b");
    let mut sizes = Vec::new();
    for (log_of, ops_of) in [(&a_log, &a_ops), (&b_log, &b_ops)] {
        let log = bench.feed(log_of, &log(&[id(0), data("42"), id(42)]));
        let ops = bench.feed(ops_of, &ids(42, 42, 0));
        sizes.push((log, ops));
    }
    assert_eq!(bench.line(), Some(checkpoint(42)));
    let next = log(&[data("43"), id(43)]);
    bench.feed(&a_log, &next);
    bench.feed(&a_ops, &ids(43, 43, 0));
    let (lost, rest) = (next.len() - 3, next.slice(next.len() - 3..));
    bench.feed(&b_log, &next.slice(..lost));
    bench.feed(&b_ops, &ids(43, 43, 0));
    assert_eq!(bench.checkpoints("j/a"), [42, 43]);
    assert_eq!(bench.line(), Some(checkpoint(42)), "B's bytes are missing");
    let workers = bench.state.job(&"j".parse().unwrap()).unwrap();
    let pace = Pace::of(workers.iter().copied());
    let behind: Vec<_> = workers.iter().map(|w| pace.behind_since(w)).collect();
    assert_eq!(behind, [None, Some(1500)]);

    let mut other = bench.clone();
    other.feed(&b_log, &rest);
    assert_eq!(other.line(), Some(checkpoint(43)));

    for (worker, (log, ops)) in ["a", "b"].iter().zip(sizes) {
        let taken = bench.take_over(&format!("j/{worker}"), RestorePoint::Line);
        assert_eq!(taken.checkpoint, Some(checkpoint(42)));
        let tails: Vec<u64> = taken.journals.values().map(|(_, _, tail)| tail.0).collect();
        assert_eq!(tails, [log, ops]);
        assert_eq!(taken.cut.len(), 2);
    }
    // Both go on, and use the number again that was cut off.
    for worker in ["a", "b"] {
        let (log_of, ops_of) = bench.open_both(worker);
        bench.feed(
            &log_of,
            &log(&[Event::RestartMarker, data("43 again"), id(43)]),
        );
        bench.feed(&ops_of, &ids(43, 43, 1));
    }
    assert_eq!(bench.line(), Some(rolled_back(1, 43)));
}

#[test]
fn an_id_that_was_used_before_is_passed_over_for_the_worker_would_find_the_first() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1), id(2), id(3)]));
    bench.feed(&b, &ids(2, 2, 0));
    assert_eq!(bench.checkpoints("j/a"), [2]);
    bench.feed(&a, &log(&[Event::RestartMarker, data("other"), id(3)]));
    bench.feed(&b, &ids(3, 3, 1));
    // The entry of 3 that is taken is the one from before the restart: whether it was complete does not matter, for ...
    let covered = bench.covered("j/a", rolled_back(1, 3))[&a.journal];
    assert_eq!(covered.0, log(&[id(0), id(1), id(2), id(3)]).len() as u64);
    // ... an id that is too low is never one.
    bench.feed(&a, &log(&[id(2), data("more"), id(3)]));
    bench.feed(&b, &ids(2, 2, 2));
    assert_eq!(bench.checkpoints("j/a").len(), 2);
    bench.feed(&a, &log(&[id(4)]));
    bench.feed(&b, &ids(4, 4, 2));
    assert!(bench.checkpoints("j/a").contains(&4));
}

#[test]
fn with_rotation_a_checkpoint_needs_all_of_the_part_before() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let first = bench.open_as("j/a/app-a-0000000000000000.evlog.journal", JournalKind::Raw);
    let ops = bench.open_as(OPS, JournalKind::Ops);
    let part = log(&[id(0), id(1), data("of two")]);
    let next = format!("j/a/app-a-{:016x}.evlog.journal", part.len());
    let second = bench.open_as(&next, JournalKind::Raw);
    let third = bench.open_as("j/a/app-a-00000000000000ff.evlog.journal", JournalKind::Raw);
    bench.feed(&first, &part.slice(..part.len() - 1));
    bench.feed(&ops, &ids(1, 1, 0));
    let end = bench.feed(&second, &log(&[data("more of two"), id(2)]));
    bench.feed(&second, &log(&[data("of three")]));
    bench.feed(&third, &log(&[data("of three")]));
    bench.feed(&ops, &ids(2, 2, 0));
    assert_eq!(
        bench.checkpoints("j/a"),
        [1],
        "a byte of the first part is missing"
    );
    bench.feed(&first, &part.slice(part.len() - 1..));
    assert_eq!(bench.checkpoints("j/a"), [1, 2]);
    let covered = bench.covered("j/a", checkpoint(2));
    assert_eq!(covered[&first.journal].0, part.len() as u64);
    assert_eq!(covered[&second.journal].0, end);
    assert_eq!(covered.get(&third.journal), None);
}

#[test]
fn a_takeover_of_everything_cuts_where_the_worker_can_be_restarted() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1)]));
    bench.feed(&b, &ids(1, 1, 0));
    let whole = bench.feed(&a, &log(&[data("of two")]));
    bench.feed(&a, &log(&[data("torn")]).slice(..20));
    let kept = bench.feed(&b, &write("/tmp/app-a.workers", "w\n".into()));
    bench.feed(&b, &ids(2, 2, 0)); // the event log lacks it
    let torn = bench.feed(&b, &ids(3, 2, 0).slice(..30));
    let taken = bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!((bench.tail(LOG), bench.tail(OPS)), (whole, kept));
    let cut: Vec<u64> = taken.cut.values().map(|before| before.0).collect();
    assert_eq!(cut, [whole + 20, torn]);
    // The worker goes on.
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[Event::RestartMarker, id(2)]));
    bench.feed(&b, &ids(2, 2, 1));
    assert_eq!(bench.checkpoints("j/a"), [1, 2]);
}

#[test]
fn what_is_no_entry_is_never_cut_and_ends_the_finding() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1)]));
    bench.feed(&b, &ids(1, 1, 0));
    let end = bench.feed(&a, &Bytes::from_static(b"\x09 is no entry"));
    bench.feed(&a, &log(&[id(2)]));
    bench.feed(&b, &ids(2, 2, 0));
    assert_eq!(bench.checkpoints("j/a"), [1]);
    bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!(bench.tail(LOG), end + 9);
}

#[test]
fn finds_that_wait_are_bounded_and_the_newest_are_kept() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&(0..200).map(id).collect::<Vec<_>>()));
    let waiting = |bench: &Bench, journal| {
        let record = bench.state.journal_by_id(journal).unwrap();
        record.scan.as_ref().unwrap().waiting.len()
    };
    assert_eq!(waiting(&bench, a.journal), 64);
    bench.feed(&b, &ids(100, 100, 0));
    assert_eq!(bench.checkpoints("j/a"), [0; 0], "too far behind");
    bench.feed(&b, &ids(150, 150, 0));
    bench.feed(&b, &ids(199, 199, 0));
    assert_eq!(bench.checkpoints("j/a"), [150, 199]);
    assert_eq!(
        (waiting(&bench, a.journal), waiting(&bench, b.journal)),
        (0, 0)
    );
}

#[derive(Debug, Clone)]
enum Piece {
    Log(Bytes),
    Ops(Bytes),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        (1..20usize).prop_map(|n| (true, n)),
        (1..60usize).prop_map(|n| (false, n)),
    ];
    // A worker that completes some of the checkpoints that it begins.
    let run = vec((any::<bool>(), 0..3u64), 1..8);
    (run, vec(piece, 0..60)).prop_map(|(run, pieces)| {
        let (mut log_bytes, mut ops_bytes) = (BytesMut::new(), BytesMut::new());
        log_bytes.extend(log(&[id(0)]));
        let mut number = 0;
        let mut complete = 0;
        for (is_completed, skipped) in run {
            number += 1 + skipped;
            log_bytes.extend(log(&[data("state")]));
            ops_bytes.extend(ids(number, complete, 0));
            if is_completed {
                log_bytes.extend(log(&[id(number)]));
                complete = number;
                ops_bytes.extend(ids(number, number, 0));
            }
        }
        let (mut log_bytes, mut ops_bytes) = (log_bytes.freeze(), ops_bytes.freeze());
        let mut made = Vec::new();
        for (of_log, bytes) in pieces {
            let left = if of_log {
                &mut log_bytes
            } else {
                &mut ops_bytes
            };
            let part = left.split_to(bytes.min(left.len()));
            if !part.is_empty() {
                made.push(if of_log {
                    Piece::Log(part)
                } else {
                    Piece::Ops(part)
                });
            }
        }
        made
    })
}

/// Everything up to now, read whole: the numbers that both journals hold.
fn read_whole(log_bytes: &[u8], ops_bytes: &[u8]) -> Vec<u64> {
    let mut reader = evlog::EventReader::new(0);
    reader.push(Bytes::copy_from_slice(log_bytes));
    let mut written = Vec::new();
    while let Ok(Some(entry)) = reader.next_entry() {
        if let Event::CheckpointId(id) = entry.event {
            written.push(id);
        }
    }
    let mut reader = ops::OpReader::new(0);
    reader.push(Bytes::copy_from_slice(ops_bytes));
    let mut complete = Vec::new();
    while let Ok(Some(ops::Record::Op { record, .. })) = reader.next_record() {
        if let Op::WriteV { data, .. } = record.op {
            complete.push(u64::from_be_bytes(data[8..16].try_into().unwrap()));
        }
    }
    complete.dedup();
    complete.retain(|number| written.contains(number));
    complete
}

proptest! {
    #[test]
    fn the_checkpoints_are_those_that_reading_both_journals_whole_finds(pieces in pieces()) {
        let mut bench = Bench::default();
        let (a, b) = bench.open_both("a");
        let (mut log_bytes, mut ops_bytes) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Log(bytes) => {
                    log_bytes.extend_from_slice(&bytes);
                    bench.feed(&a, &bytes);
                }
                Piece::Ops(bytes) => {
                    ops_bytes.extend_from_slice(&bytes);
                    bench.feed(&b, &bytes);
                }
            }
            let expected = read_whole(&log_bytes, &ops_bytes);
            // Once a newer one is there, an older is not made any more.
            seen.retain(|number| expected.contains(number));
            seen.extend(expected.last().filter(|last| !seen.contains(last)));
            let found = bench.checkpoints("j/a");
            prop_assert_eq!(found.last(), expected.last());
            prop_assert!(found.iter().all(|number| expected.contains(number)));
            prop_assert!(seen.iter().all(|number| found.contains(number)));
        }
    }
}

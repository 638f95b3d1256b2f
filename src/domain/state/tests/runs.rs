//! Legacy workers that roll back, begin again, share their name, or rotate their event log: what counts as a checkpoint then.

use super::{
    found::{LOG, OPS, data, id, ids, log, op, write},
    *,
};
use crate::codec::{evlog::Event, ops::Op};

/// What a shutdown in order appends to the ops journal.
fn shut_down() -> Bytes {
    let path = "app-a.checkpoint_ids".into();
    op(Op::Remove { path })
}

#[test]
fn what_is_said_again_after_a_rollback_is_no_new_checkpoint_and_never_cut() {
    for complete in [1, 2] {
        let mut bench = Bench::default();
        let (a, b) = bench.open_both("a");
        bench.feed(&a, &log(&[id(0), id(1), id(2)]));
        bench.feed(&b, &ids(1, 1, 0));
        bench.feed(&b, &ids(2, 2, 0));
        // It rolls back to `complete`, says so in its first checkpoint of the new epoch, and writes other files.
        let log_end = bench.feed(&a, &log(&[Event::RestartMarker]));
        bench.feed(&b, &ids(3, complete, 1));
        let ops_end = bench.feed(&b, &write("/tmp/app-a.workers", "w".into()));
        assert_eq!(bench.checkpoints("j/a"), [1, 2]);
        let taken = bench.take_over("j/a", RestorePoint::Latest);
        assert_eq!(taken.cut, BTreeMap::new());
        assert_eq!((bench.tail(LOG), bench.tail(OPS)), (log_end, ops_end));
    }
}

#[test]
fn a_number_that_the_log_uses_again_is_cut_off_for_the_worker_would_take_the_first() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1), id(2)]));
    bench.feed(&b, &ids(1, 1, 0));
    let kept = bench.feed(&b, &ids(2, 2, 0));
    bench.feed(&a, &log(&[Event::RestartMarker, data("other"), id(2)]));
    bench.feed(&b, &ids(2, 2, 1));
    assert_eq!(bench.checkpoints("j/a"), [1, 2]);
    bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!(bench.tail(OPS), kept);
}

#[test]
fn a_new_run_over_old_journals_counts_from_its_beginning_whichever_journal_is_ahead() {
    for log_first in [true, false] {
        let mut bench = Bench::default();
        let (a, b) = bench.open_both("a");
        let (other_log, other_ops) = bench.open_both("b");
        for (log_of, ops_of) in [(&a, &b), (&other_log, &other_ops)] {
            bench.feed(log_of, &log(&[id(0), id(1), id(2), id(3)]));
            bench.feed(ops_of, &ids(2, 2, 0));
            bench.feed(ops_of, &ids(3, 3, 0));
        }
        assert_eq!(bench.line(), Some(checkpoint(3)));
        let again = log(&[id(0), data("new"), id(1), id(2)]);
        let (shut, complete) = (shut_down(), ids(1, 1, 0));
        if log_first {
            bench.feed(&a, &again);
            assert_eq!(bench.checkpoints("j/a"), [0; 0], "its files are gone");
            bench.feed(&b, &ids(4, 3, 0)); // of the old run: not its counterpart
            bench.feed(&b, &shut);
        } else {
            bench.feed(&b, &shut);
            assert_eq!(bench.checkpoints("j/a"), [2, 3], "it may come back there");
            bench.feed(&b, &complete);
            assert_eq!(bench.checkpoints("j/a"), [2, 3], "1 is of the old run");
            bench.feed(&a, &again);
        }
        if log_first {
            bench.feed(&b, &complete);
        }
        assert_eq!(bench.checkpoints("j/a"), [1], "log first: {log_first}");
        assert_eq!(bench.line(), None, "b has not begun again");
        bench.feed(&b, &ids(2, 2, 0));
        let taken = bench.take_over("j/a", RestorePoint::Checkpoint(checkpoint(1)));
        assert_eq!(taken.cut.len(), 2);
        let (a, b) = bench.open_both("a");
        bench.feed(&a, &log(&[Event::RestartMarker, id(2)]));
        bench.feed(&b, &ids(2, 2, 1));
        assert_eq!(bench.checkpoints("j/a"), [1, 2], "after a restore");
    }
}

#[test]
fn a_worker_that_was_shut_down_is_taken_back_to_before_and_goes_on() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1)]));
    let end = bench.feed(&b, &ids(1, 1, 0));
    bench.feed(&b, &shut_down());
    bench.take_over("j/a", RestorePoint::Checkpoint(checkpoint(1)));
    assert_eq!(bench.tail(OPS), end);
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[Event::RestartMarker, id(2)]));
    bench.feed(&b, &ids(2, 2, 1));
    assert_eq!(bench.checkpoints("j/a"), [1, 2]);
}

#[test]
fn the_last_checkpoint_of_a_run_is_found_when_the_event_log_comes_after_the_shutdown() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&b, &ids(1, 1, 0));
    bench.feed(&b, &shut_down());
    bench.feed(&b, &ids(1, 1, 0)); // of the next run
    bench.feed(&a, &log(&[id(0), id(1)]));
    let first = bench.covered("j/a", checkpoint(1))[&b.journal];
    assert_eq!(first.0, ids(1, 1, 0).len() as u64);
    bench.feed(&a, &log(&[id(0), id(1)]));
    assert_eq!(bench.checkpoints("j/a"), [1]);
    assert!(bench.covered("j/a", checkpoint(1))[&b.journal] > first);
}

#[test]
fn what_a_new_run_calls_complete_while_the_event_log_is_behind_is_cut_off() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    bench.feed(&a, &log(&[id(0), id(1), id(2)]));
    bench.feed(&b, &ids(2, 2, 0));
    let kept = bench.feed(&b, &shut_down());
    bench.feed(&b, &ids(1, 1, 0));
    bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!(bench.tail(OPS), kept);
}

#[test]
fn an_id_that_an_earlier_part_of_the_log_used_is_no_checkpoint() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let part = log(&[id(0), id(1), id(2), id(3)]);
    let first = bench.open_as("j/a/app-a-0000000000000000.evlog.journal", JournalKind::Raw);
    let next = format!("j/a/app-a-{:016x}.evlog.journal", part.len());
    let second = bench.open_as(&next, JournalKind::Raw);
    let ops = bench.open_as(OPS, JournalKind::Ops);
    bench.feed(&first, &part);
    bench.feed(&ops, &ids(3, 3, 0));
    bench.feed(
        &second,
        &log(&[Event::RestartMarker, id(2), data("new"), id(3)]),
    );
    bench.feed(&ops, &ids(2, 2, 1));
    bench.feed(&ops, &ids(3, 3, 1));
    assert_eq!(bench.checkpoints("j/a"), [3]);
    bench.feed(&second, &log(&[id(4)]));
    bench.feed(&ops, &ids(4, 4, 1));
    assert_eq!(bench.checkpoints("j/a"), [3, 4]);
}

#[test]
fn every_part_since_the_id_before_must_be_whole() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let parts = [
        log(&[id(0), data("of one, torn")]),
        log(&[data("of one, more")]),
        log(&[id(1)]),
    ];
    let mut start = 0;
    let opened = [0, 1, 2].map(|part: usize| {
        let name = format!("j/a/app-a-{start:016x}.evlog.journal");
        start += parts[part].len();
        bench.open_as(&name, JournalKind::Raw)
    });
    let ops = bench.open_as(OPS, JournalKind::Ops);
    let torn = parts[0].len() - 5;
    bench.feed(&opened[0], &parts[0].slice(..torn));
    bench.feed(&opened[1], &parts[1]);
    bench.feed(&opened[2], &parts[2]);
    bench.feed(&ops, &ids(1, 1, 0));
    assert_eq!(bench.checkpoints("j/a"), [0; 0]);
    bench.feed(&opened[0], &parts[0].slice(torn..));
    assert_eq!(bench.checkpoints("j/a"), [1]);
}

#[test]
fn a_restore_of_one_application_leaves_the_workers_other_journals_alone() {
    let mut bench = Bench::default();
    let (a, b) = bench.open_both("a");
    let notes = bench.open_as("j/a/notes", JournalKind::Raw);
    bench.feed(&a, &log(&[id(0), id(1)]));
    bench.feed(&b, &ids(1, 1, 0));
    bench.feed(&a, &log(&[id(2)]));
    bench.feed(&b, &ids(2, 2, 0));
    let other_log = bench.open_as("j/a/other-a.evlog.journal", JournalKind::Raw);
    let other_ops = bench.open_as("j/a/other-a.journal", JournalKind::Ops);
    bench.feed(&other_log, &log(&[id(0), id(7)]));
    let record = Op::WriteV {
        offset: 0,
        path: "/tmp/other-a.checkpoint_ids".into(),
        data: [7_u64, 7, 0].map(u64::to_be_bytes).concat().into(),
    };
    bench.feed(&other_ops, &op(record));
    bench.feed(&notes, &"note".into());
    assert_eq!(bench.checkpoints("j/a"), [1, 2, 7]);
    let taken = bench.take_over("j/a", RestorePoint::Checkpoint(checkpoint(1)));
    assert_eq!(taken.cut.len(), 2, "{taken:?}");
    assert_eq!(bench.tail("j/a/notes"), 4);
    assert!(bench.tail("j/a/other-a.journal") > 0);
    assert_eq!(bench.checkpoints("j/a"), [1, 7]);
}

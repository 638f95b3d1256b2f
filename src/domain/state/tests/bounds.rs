//! What happens at the bounds.

use super::*;
use crate::domain::{
    limits::{
        CHECKPOINTS_PER_WORKER_MAX, JOURNALS_PER_WORKER_MAX, LATE_WORKERS_NAMED_MAX,
        NAME_BYTES_MAX, WORKERS_MAX,
    },
    rejected::what,
};

/// One more than are kept.
const ONE_TOO_MANY: u64 = CHECKPOINTS_PER_WORKER_MAX as u64 + 1;

#[test]
fn a_worker_too_many_is_refused_and_the_known_go_on() {
    let mut state = State::default();
    let mut open = |worker: &str| state.apply(1, 7, &open_worker(worker, None), &mut Vec::new());
    for number in 0..WORKERS_MAX {
        assert!(open(&format!("j{}/{number}", number % 7)).is_ok());
    }
    let refused = Rejected::TooMany {
        what: what::WORKERS,
        count_max: WORKERS_MAX as u64,
    };
    assert_eq!(open("j0/more"), Err(refused));
    let known = Outcome::WorkerOpened {
        epoch: Epoch(1),
        created: false,
    };
    assert_eq!(open("j0/7"), Ok(known));
}

#[test]
fn a_journal_too_many_is_refused_and_the_known_go_on() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    for number in 0..JOURNALS_PER_WORKER_MAX {
        bench.open(&format!("j/a/{number}"), 1);
    }
    let refused = Rejected::TooMany {
        what: what::JOURNALS,
        count_max: JOURNALS_PER_WORKER_MAX as u64,
    };
    assert_eq!(bench.refuse(&open_journal("j/a/more", 1, None)), refused);
    bench.open("j/a/0", 1);
    bench.open_worker("j/b");
    bench.open("j/b/0", 1);
}

#[test]
fn the_oldest_checkpoint_goes_first() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    for number in 1..ONE_TOO_MANY {
        bench.accept(&commit("j/a", 1, number, &[]));
    }
    assert_eq!(bench.checkpoints("j/a").first(), Some(&1));
    let (_, changes) = bench.apply(&commit("j/a", 1, ONE_TOO_MANY, &[]));
    let of = |number| Change::Checkpoint(WorkerId(1), checkpoint(number));
    assert_eq!(changes, [of(ONE_TOO_MANY), of(1)]);
    let expected: Vec<_> = (2..=ONE_TOO_MANY).collect();
    assert_eq!(bench.checkpoints("j/a"), expected);
}

#[test]
fn the_recovery_line_is_kept_however_far_a_worker_is_ahead() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.open_worker("j/b");
    bench.accept(&commit("j/a", 1, 1, &[]));
    bench.accept(&commit("j/b", 1, 1, &[]));
    for number in 2..ONE_TOO_MANY + 500 {
        bench.accept(&commit("j/a", 1, number, &[]));
        let line = bench.state.line(&"j".parse().unwrap()).unwrap();
        assert_eq!(line.id, checkpoint(1));
    }
    assert_eq!(bench.checkpoints("j/a").len(), CHECKPOINTS_PER_WORKER_MAX);
    // The late worker catches up, and the line with it.
    bench.accept(&commit("j/b", 1, ONE_TOO_MANY, &[]));
    let line = bench.state.line(&"j".parse().unwrap()).unwrap();
    assert_eq!(line.id, checkpoint(ONE_TOO_MANY));
}

/// It was refused: without a line nothing was old enough to go, and without more checkpoints no line could come.
#[test]
fn a_worker_at_the_bound_goes_on_when_another_joins_the_job() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    for number in 1..ONE_TOO_MANY {
        bench.accept(&commit("j/a", 1, number, &[]));
    }
    bench.open_worker("j/b");
    for number in ONE_TOO_MANY..ONE_TOO_MANY + 3 {
        bench.accept(&commit("j/a", 1, number, &[]));
        bench.accept(&commit("j/b", 1, number, &[]));
        let line = bench.state.line(&"j".parse().unwrap()).unwrap();
        assert_eq!(line.id, checkpoint(number));
    }
}

#[test]
fn a_rejection_names_a_bounded_number_of_late_workers() {
    let mut bench = Bench::default();
    for number in 0..100 {
        bench.open_worker(&format!("j/{number:03}"));
    }
    let late = match bench.refuse(&take_over("j/000", None, RestorePoint::Line)) {
        Rejected::NoRecoveryLine { late, .. } => late,
        other => panic!("{other:?}"),
    };
    assert_eq!(late.len(), LATE_WORKERS_NAMED_MAX);
}

#[test]
fn who_takes_over_is_kept_up_to_a_bound_and_never_half_a_character() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.accept(&Command::Takeover(Takeover {
        worker: "j/a".parse().unwrap(),
        expected_epoch: Some(Epoch(1)),
        point: RestorePoint::Latest,
        by: format!("x{}", "€".repeat(100)),
        at_unix_ms: 1,
        endpoint: None,
    }));
    let worker = bench.state.worker(&"j/a".parse().unwrap()).unwrap();
    let kept = &worker.succession.by;
    assert_eq!(*kept, format!("x{}", "€".repeat(84)));
    assert!(kept.len() <= NAME_BYTES_MAX);
}

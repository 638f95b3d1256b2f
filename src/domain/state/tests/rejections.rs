//! Each rejection of each command, by table, over one prepared state.

use super::*;
use crate::domain::{Endpoint, Succession, limits::APPEND_BYTES_MAX, rejected::what};

/// Job `j`: worker `a` in epoch 2 with journals `x` (10 bytes, of which writer 4 wrote the last 4) and `y` (5 bytes), and
/// checkpoint 3, which covers 6 bytes of `x` and none of `y`; worker `b` without anything. Member 1.
fn prepared() -> Bench {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.open_worker("j/b");
    bench.open("j/a/x", 1);
    bench.take_over("j/a", RestorePoint::Latest); // at log index 4
    let x = bench.open("j/a/x", 2);
    bench.append(&x, 0, "012345").unwrap();
    bench.accept(&commit("j/a", 2, 3, &[("x", 6)]));
    let x = bench.open("j/a/x", 2);
    assert_eq!(x.token, token(2, 4));
    bench.append(&x, 6, "6789").unwrap();
    let y = bench.open("j/a/y", 2);
    bench.append(&y, 0, "01234").unwrap();
    let Bench { state, index } = &mut bench;
    state.follow_membership(*index, &[member(1, 11, "a:1")], &mut Vec::new());
    bench
}

fn fenced(held: u64) -> Rejected {
    Rejected::EpochFenced {
        worker: "j/a".parse().unwrap(),
        held: Epoch(held),
        current: Epoch(2),
        succession: Succession {
            by: "a test".to_owned(),
            at_unix_ms: 3000,
            log_index: 4,
        },
    }
}

fn unknown_job() -> Rejected {
    Rejected::UnknownJob {
        job: "nope".parse().unwrap(),
    }
}

fn unknown_worker() -> Rejected {
    Rejected::UnknownWorker {
        worker: "j/nope".parse().unwrap(),
    }
}

fn unknown_journal() -> Rejected {
    Rejected::UnknownJournal {
        journal: "j/a/nope".parse().unwrap(),
    }
}

fn wrong_offset(journal: u64, at: u64, tail: u64) -> Rejected {
    Rejected::WrongOffset {
        journal: JournalId(journal),
        at: Offset(at),
        tail: Offset(tail),
    }
}

fn check(table: impl IntoIterator<Item = (Command, Rejected)>) {
    let mut bench = prepared();
    for (command, expected) in table {
        assert_eq!(bench.refuse(&command), expected, "{command:?}");
    }
}

#[test]
fn opens_of_workers_are_refused() {
    let nope = Rejected::UnknownWorker {
        worker: "nope/a".parse().unwrap(),
    };
    check([
        (open_worker("j/nope", Some(1)), unknown_worker()),
        (open_worker("nope/a", Some(1)), nope),
        (open_worker("j/a", Some(1)), fenced(1)),
        (open_worker("j/a", Some(3)), fenced(3)),
    ]);
}

#[test]
fn opens_of_journals_are_refused() {
    let of_kind = |journal: &str, expected: Option<u64>| {
        Command::OpenJournal(OpenJournal {
            journal: journal.parse().unwrap(),
            kind: JournalKind::Raw,
            epoch: Epoch(2),
            expected: expected.map(Offset),
            over: None,
            opener: 0,
        })
    };
    let wrong_kind = || Rejected::WrongKind {
        journal: "j/a/x".parse().unwrap(),
        has: JournalKind::Ops,
        wanted: JournalKind::Raw,
    };
    check([
        (open_journal("nope/a/x", 2, None), unknown_job()),
        (open_journal("j/nope/x", 2, None), unknown_worker()),
        (open_journal("j/a/x", 1, None), fenced(1)),
        (open_journal("j/a/x", 3, None), fenced(3)),
        (open_journal("j/a/new", 1, None), fenced(1)),
        (of_kind("j/a/x", None), wrong_kind()),
        (of_kind("j/a/x", Some(10)), wrong_kind()),
        (open_journal("j/a/x", 2, Some(9)), wrong_offset(1, 9, 10)),
        (open_journal("j/a/x", 2, Some(11)), wrong_offset(1, 11, 10)),
        (open_journal("j/a/new", 2, Some(1)), wrong_offset(3, 1, 0)),
    ]);
}

#[test]
fn a_refused_open_gives_out_no_number() {
    let mut bench = prepared();
    let before = bench.state.counters();
    bench.refuse(&open_journal("j/a/new", 2, Some(1)));
    bench.refuse(&open_journal("j/a/new", 1, None));
    bench.refuse(&open_worker("j/new", Some(1)));
    let hash = bench.state.counters().hash;
    assert_eq!(bench.state.counters(), Counters { hash, ..before });
    assert_eq!(bench.open("j/a/new", 2).journal, JournalId(3));
}

#[test]
fn appends_are_refused() {
    let newest = token(2, 4);
    let refused = |token: FencingToken| Rejected::WriterFenced {
        journal: JournalId(1),
        held: token,
        newest,
    };
    let empty = Rejected::EmptyAppend {
        journal: JournalId(1),
    };
    let too_large = Rejected::TooLarge {
        what: what::APPEND,
        bytes: APPEND_BYTES_MAX as u64 + 1,
        bytes_max: APPEND_BYTES_MAX as u64,
    };
    let unknown = Rejected::UnknownJournalId {
        journal: JournalId(9),
    };
    let table = [
        (9, newest, 0, 1, unknown),
        (1, token(1, 4), 10, 1, fenced(1)),
        (1, token(3, 5), 10, 1, fenced(3)),
        (1, token(2, 3), 10, 1, refused(token(2, 3))),
        (1, token(2, 5), 10, 1, refused(token(2, 5))),
        // A writer of before hears that it is fenced, whatever else is wrong.
        (1, token(2, 3), 99, 0, refused(token(2, 3))),
        (1, newest, 10, 0, empty),
        (1, newest, 10, APPEND_BYTES_MAX + 1, too_large),
        // A gap; an overlap of the tail; bytes of the writer before; beyond all positions.
        (1, newest, 11, 1, wrong_offset(1, 11, 10)),
        (1, newest, 9, 2, wrong_offset(1, 9, 10)),
        (1, newest, 0, 1, wrong_offset(1, 0, 10)),
        (1, newest, 5, 2, wrong_offset(1, 5, 10)),
        (1, newest, 5, 6, wrong_offset(1, 5, 10)),
        (1, newest, u64::MAX, 1, wrong_offset(1, u64::MAX, 10)),
        (
            1,
            newest,
            u64::MAX - 1,
            2,
            wrong_offset(1, u64::MAX - 1, 10),
        ),
    ];
    let mut bench = prepared();
    for (journal, token, at, bytes, expected) in table {
        let refused = Append {
            journal: JournalId(journal),
            token,
            at: Offset(at),
            data: vec![b'!'; bytes].into(),
        };
        let before = bench.state.clone();
        let (answer, changes) = bench.apply(&batch(vec![refused.clone()]));
        assert_eq!(
            answer,
            Ok(Outcome::Appended(vec![Err(expected)])),
            "{refused:?}"
        );
        assert_eq!(changes, []);
        bench.state.counters.hash = before.counters.hash;
        assert_eq!(bench.state, before);
    }
}

#[test]
fn checkpoints_are_refused() {
    let beyond = |offset| Rejected::CheckpointBeyondTail {
        id: checkpoint(4),
        journal: "j/a/x".parse().unwrap(),
        offset: Offset(offset),
        tail: Offset(10),
    };
    let not_newer = |number| Rejected::CheckpointNotNewer {
        worker: "j/a".parse().unwrap(),
        id: checkpoint(number),
        last: checkpoint(3),
    };
    check([
        (commit("nope/a", 2, 4, &[]), unknown_job()),
        (commit("j/nope", 2, 4, &[]), unknown_worker()),
        (commit("j/a", 1, 4, &[]), fenced(1)),
        (commit("j/a", 3, 4, &[]), fenced(3)),
        (commit("j/a", 2, 4, &[("nope", 0)]), unknown_journal()),
        (commit("j/a", 2, 4, &[("x", 11)]), beyond(11)),
        (
            commit("j/a", 2, 4, &[("y", 1), ("x", u64::MAX)]),
            beyond(u64::MAX),
        ),
        (commit("j/a", 2, 2, &[]), not_newer(2)),
        (commit("j/a", 2, 3, &[("x", 5)]), not_newer(3)),
        (commit("j/a", 2, 3, &[]), not_newer(3)),
        (commit("j/a", 2, 3, &[("x", 6), ("y", 0)]), not_newer(3)),
    ]);
}

#[test]
fn takeovers_are_refused() {
    let none = Rejected::NoRecoveryLine {
        job: "j".parse().unwrap(),
        late: vec!["b".parse().unwrap()],
    };
    let unknown = Rejected::UnknownCheckpoint {
        worker: "j/a".parse().unwrap(),
        id: checkpoint(2),
    };
    let second = RestorePoint::Checkpoint(checkpoint(2));
    check([
        (
            take_over("nope/a", None, RestorePoint::Latest),
            unknown_job(),
        ),
        (
            take_over("j/nope", None, RestorePoint::Latest),
            unknown_worker(),
        ),
        (take_over("j/a", Some(1), RestorePoint::Latest), fenced(1)),
        (take_over("j/a", Some(3), RestorePoint::Line), fenced(3)),
        (take_over("j/a", Some(2), RestorePoint::Line), none.clone()),
        (take_over("j/b", None, RestorePoint::Line), none),
        (take_over("j/a", None, second), unknown),
    ]);
}

#[test]
fn endpoints_are_refused() {
    let stale = |expected, current| Rejected::StaleEndpoint {
        worker: "j/a".parse().unwrap(),
        expected,
        current,
    };
    check([
        (set_endpoint("nope/a", None, 1), unknown_job()),
        (set_endpoint("j/nope", None, 1), unknown_worker()),
        (set_endpoint("j/a", Some(1), 1), stale(1, 0)),
        (set_endpoint("j/a", Some(u64::MAX), 1), stale(u64::MAX, 0)),
    ]);
    let mut bench = prepared();
    bench.accept(&set_endpoint("j/a", Some(0), 1));
    bench.accept(&set_endpoint("j/a", None, 2));
    // Only what followed the expected generation is a retry.
    assert_eq!(bench.refuse(&set_endpoint("j/a", Some(1), 1)), stale(1, 2));
    assert_eq!(bench.refuse(&set_endpoint("j/a", Some(0), 2)), stale(0, 2));
    let done = Outcome::EndpointSet { generation: 2 };
    assert_eq!(
        bench.apply(&set_endpoint("j/a", Some(1), 2)),
        (Ok(done), vec![])
    );
}

#[test]
fn a_takeover_sets_the_endpoint_in_the_same_command() {
    let mut bench = prepared();
    bench.accept(&set_endpoint("j/a", None, 1));
    let kept = bench
        .take_over("j/a", RestorePoint::Latest)
        .endpoint
        .unwrap();
    assert_eq!((kept.generation, kept.addresses), (1, addresses(1)));
    let moves = |expected| {
        Command::Takeover(Takeover {
            worker: "j/a".parse().unwrap(),
            expected_epoch: Some(Epoch(expected)),
            point: RestorePoint::Latest,
            by: "mover".to_owned(),
            at_unix_ms: 9,
            endpoint: Some(addresses(2)),
        })
    };
    bench.refuse(&moves(1));
    let Outcome::TakenOver(taken) = bench.accept(&moves(3)) else {
        panic!("not taken over")
    };
    let expected = Endpoint {
        generation: 2,
        addresses: addresses(2),
        by: "mover".to_owned(),
        at_unix_ms: 9,
    };
    assert_eq!(taken.endpoint, Some(expected));
}

#[test]
fn truncations_are_refused() {
    let below = |at| Rejected::CutBelowCheckpoint {
        journal: "j/a/x".parse().unwrap(),
        at: Offset(at),
        id: checkpoint(3),
        covered: Offset(6),
    };
    check([
        (truncate("nope/a/x", 2, 0), unknown_job()),
        (truncate("j/nope/x", 2, 0), unknown_worker()),
        (truncate("j/a/nope", 2, 0), unknown_journal()),
        (truncate("j/a/x", 1, 8), fenced(1)),
        (truncate("j/a/x", 3, 8), fenced(3)),
        (truncate("j/a/x", 2, 11), wrong_offset(1, 11, 10)),
        (
            truncate("j/a/x", 2, u64::MAX),
            wrong_offset(1, u64::MAX, 10),
        ),
        (truncate("j/a/x", 2, 5), below(5)),
        (truncate("j/a/x", 2, 0), below(0)),
    ]);
}

#[test]
fn announcements_are_refused() {
    let unknown = Rejected::UnknownMember { node: NodeId(2) };
    let foreign = Rejected::ForeignIncarnation { node: NodeId(1) };
    check([
        (Command::AnnounceMember(member(2, 11, "a:1")), unknown),
        (Command::AnnounceMember(member(1, 12, "a:1")), foreign),
    ]);
}

#[test]
fn workers_without_a_shared_checkpoint_are_all_late() {
    let mut bench = prepared();
    bench.accept(&commit("j/b", 1, 4, &[]));
    let late = Rejected::NoRecoveryLine {
        job: "j".parse().unwrap(),
        late: vec!["a".parse().unwrap(), "b".parse().unwrap()],
    };
    assert_eq!(bench.state.line(&"j".parse().unwrap()), Err(late));
    bench.accept(&commit("j/a", 2, 4, &[]));
    let line = bench.state.line(&"j".parse().unwrap()).unwrap();
    assert_eq!(line.id, checkpoint(4));
}

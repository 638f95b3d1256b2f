//! Short histories, each for one rule.

use super::*;
use crate::domain::OffsetRange;

fn appended(from: u64, to: u64, tail: u64) -> Result<Appended, Rejected> {
    let range = OffsetRange {
        from: Offset(from),
        to: Offset(to),
    };
    Ok(Appended {
        range,
        tail: Offset(tail),
    })
}

#[test]
fn a_retried_append_is_answered_and_written_once() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let x = bench.open("j/a/x", 1);
    assert_eq!(bench.append(&x, 0, "0123"), appended(0, 4, 4));
    assert_eq!(bench.append(&x, 4, "45"), appended(4, 6, 6));
    for (at, data, to) in [(0, "0123", 4), (4, "45", 6), (2, "2345", 6), (5, "5", 6)] {
        let (answer, changes) = bench.apply(&append(&x, at, data));
        assert_eq!(answer, Ok(Outcome::Appended(vec![appended(at, to, 6)])));
        assert_eq!(changes, []);
    }
}

#[test]
fn a_batch_is_decided_append_by_append() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let (x, y) = (bench.open("j/a/x", 1), bench.open("j/a/y", 1));
    let parts = [
        (&x, 0, "ab"),
        (&x, 3, "gap"),
        (&y, 0, "y"),
        (&x, 2, "cd"),
        (&x, 0, "ab"),
    ];
    let appends = parts
        .iter()
        .flat_map(|(opened, at, data)| match append(opened, *at, data) {
            Command::Append(batch) => batch.appends,
            other => panic!("{other:?}"),
        });
    let (answer, changes) = bench.apply(&batch(appends.collect()));
    let gap = Rejected::WrongOffset {
        journal: x.journal,
        at: Offset(3),
        tail: Offset(2),
    };
    let answers = [
        appended(0, 2, 2),
        Err(gap),
        appended(0, 1, 1),
        appended(2, 4, 4),
        appended(0, 2, 4),
    ];
    assert_eq!(answer, Ok(Outcome::Appended(answers.to_vec())));
    let chunk = |opened: &OpenedJournal, at, data: &'static str| Change::Chunk {
        journal: opened.journal,
        at: Offset(at),
        data: Bytes::from_static(data.as_bytes()),
    };
    let expected = [
        chunk(&x, 0, "ab"),
        chunk(&y, 0, "y"),
        chunk(&x, 2, "cd"),
        Change::Journal(x.journal),
        Change::Journal(y.journal),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_newer_writer_fences_the_one_before() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let first = bench.open("j/a/x", 1);
    bench.append(&first, 0, "0123").unwrap();
    let second = bench.open("j/a/x", 1);
    assert_eq!((first.token, second.token), (token(1, 1), token(1, 2)));
    assert_eq!(second.tail, Offset(4));
    assert!(bench.append(&first, 4, "old").is_err());
    // Not even as the retry that it would have been.
    assert!(bench.append(&first, 0, "0123").is_err());
    assert!(bench.append(&second, 0, "0123").is_err());
    assert_eq!(bench.append(&second, 4, "new"), appended(4, 7, 7));
}

#[test]
fn a_takeover_cuts_where_the_checkpoint_says_and_else_at_nothing() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let (x, y) = (bench.open("j/a/x", 1), bench.open("j/a/y", 1));
    bench.append(&x, 0, "0123").unwrap();
    bench.append(&y, 0, "01").unwrap();
    bench.accept(&commit("j/a", 1, 1, &[("x", 2)]));
    bench.accept(&commit("j/a", 1, 2, &[("x", 4), ("y", 2)]));
    let z = bench.open("j/a/z", 1);
    let first = RestorePoint::Checkpoint(checkpoint(1));
    let (answer, changes) = bench.apply(&take_over("j/a", Some(1), first));
    let Ok(Outcome::TakenOver(taken)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (taken.epoch, taken.checkpoint),
        (Epoch(2), Some(checkpoint(1)))
    );
    let tails: Vec<_> = taken.journals.values().map(|(_, _, tail)| tail.0).collect();
    assert_eq!(tails, [2, 0, 0]);
    let cut = |opened: &OpenedJournal, at| Change::Cut {
        journal: opened.journal,
        at: Offset(at),
    };
    let expected = [
        Change::Checkpoint(WorkerId(1), checkpoint(2)),
        cut(&x, 2),
        cut(&y, 0),
        Change::Worker(WorkerId(1)),
        Change::Journal(x.journal),
        Change::Journal(y.journal),
        Change::Journal(z.journal),
    ];
    assert_eq!(changes, expected);
    // Every stream of before is fenced, also of the journal that was not cut.
    for stream in [&x, &y, &z] {
        let refused = bench.append(stream, 0, "late").unwrap_err();
        assert!(matches!(refused, Rejected::EpochFenced { .. }), "{refused}");
    }
    let x = bench.open("j/a/x", 2);
    assert_eq!(bench.append(&x, 2, "new"), appended(2, 5, 5));
}

#[test]
fn a_takeover_at_the_latest_cuts_nothing_and_fences_all() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let x = bench.open("j/a/x", 1);
    bench.append(&x, 0, "0123").unwrap();
    bench.accept(&commit("j/a", 1, 1, &[("x", 2)]));
    let taken = bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!(taken.checkpoint, None);
    assert_eq!(bench.tail("j/a/x"), 4);
    assert_eq!(bench.checkpoints("j/a"), [1]);
    assert!(bench.append(&x, 4, "late").is_err());
}

#[test]
fn a_takeover_at_the_line_keeps_what_the_slowest_worker_has() {
    let mut bench = Bench::default();
    for worker in ["j/a", "j/b"] {
        bench.open_worker(worker);
        let x = bench.open(&format!("{worker}/x"), 1);
        bench.append(&x, 0, "0123456789").unwrap();
    }
    for number in 1..=3 {
        bench.accept(&commit("j/a", 1, number, &[("x", number * 3)]));
    }
    bench.accept(&commit("j/b", 1, 2, &[("x", 5)]));
    let taken = bench.take_over("j/a", RestorePoint::Line);
    assert_eq!(taken.checkpoint, Some(checkpoint(2)));
    assert_eq!((bench.tail("j/a/x"), bench.tail("j/b/x")), (6, 10));
    assert_eq!(bench.checkpoints("j/a"), [1, 2]);
}

#[test]
fn an_older_checkpoint_that_covers_more_goes_with_its_bytes() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let x = bench.open("j/a/x", 1);
    bench.append(&x, 0, "0123456789").unwrap();
    bench.accept(&commit("j/a", 1, 1, &[("x", 3)]));
    bench.accept(&commit("j/a", 1, 2, &[("x", 8)]));
    bench.accept(&commit("j/a", 1, 3, &[("x", 5)]));
    // The newest covers 5 bytes, but the second needs 8.
    let refused = Rejected::CutBelowCheckpoint {
        journal: "j/a/x".parse().unwrap(),
        at: Offset(6),
        id: checkpoint(2),
        covered: Offset(8),
    };
    assert_eq!(bench.refuse(&truncate("j/a/x", 1, 6)), refused);
    bench.take_over("j/a", RestorePoint::Checkpoint(checkpoint(3)));
    assert_eq!(bench.checkpoints("j/a"), [1, 3]);
    assert_eq!(bench.tail("j/a/x"), 5);
}

#[test]
fn a_checkpoint_committed_again_is_answered_with_its_first_log_index() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.open("j/a/x", 1);
    let first = commit("j/a", 1, 1, &[("x", 0)]);
    let answer = bench.accept(&first);
    assert_eq!(answer, Outcome::CheckpointCommitted { log_index: 3 });
    assert_eq!(bench.apply(&first), (Ok(answer.clone()), vec![]));
    // Also when the next was on its way already.
    bench.accept(&commit("j/a", 1, 2, &[]));
    assert_eq!(bench.apply(&first), (Ok(answer), vec![]));
}

#[test]
fn a_truncation_fences_the_writer_whose_bytes_it_cuts() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let x = bench.open("j/a/x", 1);
    bench.append(&x, 0, "0123").unwrap();
    let at_the_tail = bench.apply(&truncate("j/a/x", 1, 4));
    assert_eq!(
        at_the_tail,
        (Ok(Outcome::Truncated { tail: Offset(4) }), vec![])
    );
    bench.append(&x, 4, "45").unwrap();
    let (answer, changes) = bench.apply(&truncate("j/a/x", 1, 3));
    assert_eq!(answer, Ok(Outcome::Truncated { tail: Offset(3) }));
    let cut = Change::Cut {
        journal: x.journal,
        at: Offset(3),
    };
    assert_eq!(changes, [cut, Change::Journal(x.journal)]);
    assert!(bench.append(&x, 3, "on").is_err());
    // What is left is nobody's to retry.
    let x = bench.open("j/a/x", 1);
    assert!(bench.append(&x, 0, "012").is_err());
    assert_eq!(bench.append(&x, 3, "on"), appended(3, 5, 5));
}

#[test]
fn a_deleted_journal_takes_the_checkpoints_along_that_cover_it_and_its_name_begins_anew() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let (x, y) = (bench.open("j/a/x", 1), bench.open("j/a/y", 1));
    bench.append(&x, 0, "0123").unwrap();
    bench.append(&y, 0, "0123").unwrap();
    bench.accept(&commit("j/a", 1, 1, &[("x", 0), ("y", 2)]));
    bench.accept(&commit("j/a", 1, 2, &[("x", 3), ("y", 2)]));
    let delete = Command::DeleteJournal("j/a/x".parse().unwrap());
    let (answer, changes) = bench.apply(&delete);
    assert_eq!(answer, Ok(Outcome::JournalDeleted));
    let worker = bench.state.worker(&"j/a".parse().unwrap()).unwrap();
    let cut = Change::Cut {
        journal: x.journal,
        at: Offset(0),
    };
    let kept = |number| Change::Checkpoint(worker.id, checkpoint(number));
    let gone = Change::Journal(x.journal);
    assert_eq!(changes, [kept(2), kept(1), cut, gone]);
    assert_eq!(bench.checkpoints("j/a"), [1]);
    let unknown = Rejected::UnknownJournalId { journal: x.journal };
    assert_eq!(bench.append(&x, 4, "4"), Err(unknown));
    bench.refuse(&delete);
    let again = bench.open("j/a/x", 1);
    assert!(again.journal != x.journal && again.tail == Offset(0));
    assert_eq!(
        again.token,
        token(1, x.token.writer.0 + 1),
        "not one of the deleted one's"
    );
}

fn open_x(over: Option<u64>, opener: u64) -> Command {
    Command::OpenJournal(OpenJournal {
        journal: "j/a/x".parse().unwrap(),
        kind: JournalKind::Ops,
        epoch: Epoch(1),
        expected: None,
        over: over.map(Writer),
        opener,
    })
}

#[test]
fn an_open_over_a_writer_is_refused_once_another_was_opened() {
    let over = |writer| open_x(Some(writer), 0);
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.accept(&over(0));
    let refused = Rejected::OpenedMeanwhile {
        journal: "j/a/x".parse().unwrap(),
        over: Writer(0),
        newest: Writer(1),
    };
    assert_eq!(bench.refuse(&over(0)), refused);
    bench.accept(&over(1));
    bench.accept(&over(2));
    bench.refuse(&over(1));
}

#[test]
fn an_open_whose_answer_was_lost_is_not_another_one_to_its_own_opener() {
    let over = |opener| open_x(Some(0), opener);
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.accept(&over(7));
    bench.refuse(&over(8));
    bench.refuse(&over(0));
    bench.accept(&over(7));
    bench.open("j/a/x", 1);
    bench.refuse(&over(7));
}

#[test]
fn an_open_that_comes_late_does_not_hide_who_came_between() {
    let open = |over| open_x(over, 7);
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.accept(&open(None));
    bench.accept(&open(None)); // the first try of the same, late
    bench.accept(&open(Some(1)));
    let stranger = bench.open("j/a/x", 1);
    assert_eq!(stranger.token, token(1, 4));
    bench.accept(&open(None)); // another one, over whoever it is
    bench.refuse(&open(Some(3)));
    bench.accept(&open(Some(4)));
}

#[test]
fn a_journal_that_is_made_again_is_nobodys_who_wrote_the_one_before() {
    let open = |opener| open_x(Some(0), opener);
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    bench.accept(&open(7));
    bench.accept(&Command::DeleteJournal("j/a/x".parse().unwrap()));
    bench.accept(&open(8));
    bench.accept(&open(8));
    bench.refuse(&open(7));
    bench.refuse(&open_x(Some(1), 7));
    bench.accept(&open_x(Some(3), 7));
}

#[test]
fn a_writer_is_open_until_it_is_closed_or_fenced_and_again_when_it_appends() {
    let mut bench = Bench::default();
    bench.open_worker("j/a");
    let open = |bench: &Bench| bench.state.open_writers().collect::<Vec<_>>();
    let first = bench.open("j/a/x", 1);
    let second = bench.open("j/a/x", 1);
    let close = |token| Command::CloseWriters(vec![(second.journal, token)]);
    bench.accept(&close(first.token));
    assert_eq!(
        open(&bench),
        [(second.journal, second.token)],
        "not the newest"
    );
    bench.accept(&close(second.token));
    assert_eq!(open(&bench), []);
    bench.append(&second, 0, "it lives").unwrap();
    assert_eq!(open(&bench), [(second.journal, second.token)]);
    bench.take_over("j/a", RestorePoint::Latest);
    assert_eq!(open(&bench), []);
    bench.accept(&Command::CloseWriters(vec![(JournalId(99), first.token)]));
}

#[test]
fn node_numbers_are_never_given_twice() {
    let mut bench = Bench::default();
    let allocate =
        |state: &mut State| match state.apply(1, 7, &Command::AllocateNode, &mut Vec::new()) {
            Ok(Outcome::NodeAllocated(node)) => node.0,
            other => panic!("{other:?}"),
        };
    let members = [member(1, 1, "a"), member(5, 5, "e")];
    bench.state.follow_membership(1, &members, &mut Vec::new());
    assert_eq!(allocate(&mut bench.state), 6);
    bench
        .state
        .follow_membership(2, &members[..1], &mut Vec::new());
    assert_eq!(allocate(&mut bench.state), 7);
}

#[test]
fn members_are_followed_and_may_move() {
    let mut bench = Bench::default();
    let mut changes = Vec::new();
    let (one, two, three) = (member(1, 1, "a"), member(2, 2, "b"), member(3, 3, "c"));
    bench
        .state
        .follow_membership(1, &[one.clone(), two.clone()], &mut changes);
    assert_eq!(
        changes,
        [Change::Member(NodeId(1)), Change::Member(NodeId(2))]
    );
    let moved = member(2, 2, "moved");
    let announced = Command::AnnounceMember(moved.clone());
    let moves = (
        Ok(Outcome::MemberAnnounced),
        vec![Change::Member(NodeId(2))],
    );
    assert_eq!(bench.apply(&announced), moves);
    assert_eq!(
        bench.apply(&announced),
        (Ok(Outcome::MemberAnnounced), vec![])
    );
    // A membership names the addresses of when the member joined: what it announced since is kept.
    changes.clear();
    bench
        .state
        .follow_membership(2, &[two, three.clone()], &mut changes);
    assert_eq!(
        changes,
        [Change::Member(NodeId(1)), Change::Member(NodeId(3))]
    );
    let found: Vec<_> = bench.state.members().cloned().collect();
    assert_eq!(found, [moved, three]);
    let refused = bench.refuse(&Command::AnnounceMember(one));
    assert_eq!(refused, Rejected::UnknownMember { node: NodeId(1) });
}

#[test]
fn the_hash_tells_histories_apart() {
    let hash_of = |entries: &[(u64, u32)]| {
        let mut state = State::default();
        for (log_index, digest) in entries {
            let _ = state.apply(*log_index, *digest, &Command::AllocateNode, &mut Vec::new());
        }
        state.counters().hash
    };
    let first = hash_of(&[(1, 7), (2, 8)]);
    assert_eq!(first, hash_of(&[(1, 7), (2, 8)]));
    for other in [
        &[(1, 8), (2, 7)],
        &[(2, 8), (1, 7)],
        &[(1, 7), (2, 9)],
        &[(1, 7), (3, 8)],
    ] {
        assert_ne!(first, hash_of(other));
    }
}

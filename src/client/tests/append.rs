//! Append streams that lose their nodes, their answers and their right to write.

use std::time::Duration;

use bytes::Bytes;

use super::super::{
    AppendOptions, AppendPhase, AppendStream, Client, ClientError, ClientOptions, Effect,
    ErrorKind,
    testing::{FakeCluster, Faults, RAW, open_worker, worker},
};
use super::{foreign_takeover, pattern};
use crate::{
    domain::{
        Append, AppendBatch, Command, Epoch, JournalRef, Offset, OpenJournal, Outcome, Rejected,
    },
    env::time::Instant,
};

async fn open(client: &Client, epoch: Epoch, journal: &JournalRef) -> AppendStream {
    open_with(client, epoch, journal, AppendOptions::of(client)).await
}

async fn open_with(
    client: &Client,
    epoch: Epoch,
    journal: &JournalRef,
    options: AppendOptions,
) -> AppendStream {
    AppendStream::open(client, journal, RAW, epoch, None, options)
        .await
        .unwrap()
}

/// Of a stream that never gives up.
fn patient(client: &Client) -> AppendOptions {
    AppendOptions {
        give_up_after: None,
        ..AppendOptions::of(client)
    }
}

/// A client that gives up soon.
fn impatient(cluster: &FakeCluster) -> Client {
    let mut options = ClientOptions::new([cluster.address(0)]);
    options.timeout = Duration::from_millis(500);
    options.attempt_timeout = Duration::from_millis(200);
    Client::new(options).unwrap()
}

/// Whether node 0 has taken bytes that it will not answer.
fn swallowed(cluster: &FakeCluster) -> bool {
    cluster.fired(0).swallowed_appends > 0
}

/// Someone else opens the journal under the same epoch, and appends.
fn foreign_append(cluster: &FakeCluster, journal: &JournalRef, epoch: Epoch, data: &'static [u8]) {
    let opened = cluster.apply(&Command::OpenJournal(OpenJournal {
        journal: journal.clone(),
        kind: RAW,
        epoch,
        expected: None,
        over: None,
        opener: 0,
    }));
    let Ok(Outcome::JournalOpened(opened)) = opened else {
        panic!("{opened:?}");
    };
    let append = Append {
        journal: opened.journal,
        token: opened.token,
        at: opened.tail,
        data: Bytes::from_static(data),
    };
    cluster
        .apply(&Command::Append(AppendBatch {
            appends: vec![append],
            at_unix_ms: 1,
        }))
        .unwrap();
}

#[tokio::test]
async fn bytes_are_durable_in_order_and_the_stream_closes_in_order() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[1]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    let sent = pattern(3_000_000); // more than one message
    let end = stream.append(Bytes::from(sent.clone())).await.unwrap();
    assert_eq!(end, Offset(3_000_000));
    let progress = stream.wait_durable(end).await.unwrap();
    assert!(progress.durable == end && progress.log_index > 0);
    stream.append(Bytes::from_static(b"end")).await.unwrap();
    assert_eq!(stream.close().await.unwrap().durable, Offset(3_000_003));
    assert_eq!(cluster.journal(&journal).0, [&sent[..], b"end"].concat());
    // Another stream goes on at the tail, and is refused where another tail is expected.
    let options = AppendOptions::of(&client);
    let wrong = AppendStream::open(
        &client,
        &journal,
        RAW,
        epoch,
        Some(Offset(1)),
        options.clone(),
    );
    let wrong = wrong.await.unwrap_err();
    assert!(
        matches!(wrong.rejected(), Some(Rejected::WrongOffset { .. })),
        "{wrong}"
    );
    let right = AppendStream::open(
        &client,
        &journal,
        RAW,
        epoch,
        Some(Offset(3_000_003)),
        options,
    );
    assert_eq!(right.await.unwrap().opened_at(), Offset(3_000_003));
}

#[tokio::test]
async fn a_stream_opened_at_a_follower_moves_to_the_leader() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.lead(1); // the client still believes in node 0
    let mut stream = open(&client, epoch, &journal).await;
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!((cluster.append_opens(0), cluster.append_opens(1)), (1, 1));
}

#[tokio::test]
async fn lost_nodes_and_lost_answers_neither_lose_nor_double_bytes() {
    let mut cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0, 1, 2]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    let sent = pattern(6_000_000);
    let fired = |cluster: &FakeCluster| {
        let fired = (0..3).map(|node| cluster.fired(node));
        fired.fold((0, 0), |(lost, broken), fired| {
            (lost + fired.lost_answers, broken + fired.broken_appends)
        })
    };
    let mut leader = 0;
    for (round, part) in sent.chunks(200_000).enumerate() {
        let before = stream.end();
        let (lost, broken) = fired(&cluster);
        if round % 3 == 1 {
            for node in 0..3 {
                cluster.fault(node, |faults| faults.break_appends_after = Some(3));
            }
            cluster.fault(leader, |faults| faults.lost_answers = 1);
        }
        for piece in part.chunks(15_000) {
            stream.append(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        if round % 3 == 1 {
            let what = "a broken stream, and the lost answer of a re-open";
            cluster
                .until(what, |cluster| {
                    let (lost_now, broken_now) = fired(cluster);
                    lost_now > lost && broken_now > broken
                })
                .await;
            for node in 0..3 {
                cluster.fault(node, |faults| faults.break_appends_after = None);
            }
        }
        if round % 3 == 2 {
            let old = leader;
            leader = (leader + 1) % 3;
            cluster.lead(leader);
            cluster.kill(old); // with bytes on their way
            cluster.restart(old).await;
        }
        stream.wait_durable(before).await.unwrap();
    }
    stream.close().await.unwrap();
    let (lost, broken) = fired(&cluster);
    assert!(lost >= 10 && broken >= 10, "{lost} lost, {broken} broken");
    assert_eq!(cluster.journal(&journal).0, sent);
}

#[tokio::test]
async fn what_a_reopen_finds_durable_comes_with_a_log_index_that_covers_it() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    let end = stream.append(Bytes::from_static(b"abc")).await.unwrap();
    let heard = stream.wait_durable(end).await.unwrap();
    // The second append is carried out, and its answer is lost with the session.
    cluster.fault(0, |faults| faults.break_appends_after = Some(2));
    let end = stream.append(Bytes::from_static(b"def")).await.unwrap();
    let found = stream.wait_durable(end).await.unwrap();
    assert_eq!(cluster.append_opens(0), 2, "the session was lost");
    assert_eq!(cluster.fired(0).broken_appends, 1);
    assert!(
        found.log_index > heard.log_index,
        "{found:?} after {heard:?}"
    );
}

/// A stream whose bytes are durable loses its node, and is closed before it has another.
async fn close_without_a_session(
    cluster: &mut FakeCluster,
    stream: &mut AppendStream,
    meanwhile: impl FnOnce(&FakeCluster),
) {
    let end = stream.append(Bytes::from_static(b"abc")).await.unwrap();
    stream.wait_durable(end).await.unwrap();
    cluster.kill(0);
    let mut watch = stream.watch();
    while !matches!(watch.phase(), AppendPhase::Reconnecting { .. }) {
        assert!(watch.changed().await);
    }
    meanwhile(cluster);
}

#[tokio::test]
async fn a_stream_that_ends_between_two_nodes_leaves_its_journal_free() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    close_without_a_session(&mut cluster, &mut stream, |cluster| {
        assert!(cluster.is_being_written(&journal), "nobody said it ended");
    })
    .await;
    let closed = tokio::spawn(stream.close());
    cluster.restart(0).await;
    assert_eq!(closed.await.unwrap().unwrap().durable, Offset(3));
    assert!(!cluster.is_being_written(&journal));
}

#[tokio::test]
async fn a_stream_that_ends_between_two_nodes_leaves_alone_who_has_come_since() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    close_without_a_session(&mut cluster, &mut stream, |cluster| {
        foreign_append(cluster, &journal, epoch, b"def");
    })
    .await;
    let writer = cluster.journal(&journal).1;
    let closed = tokio::spawn(stream.close());
    cluster.restart(0).await;
    assert_eq!(closed.await.unwrap().unwrap().durable, Offset(3));
    assert_eq!(cluster.journal(&journal), (b"abcdef".to_vec(), writer));
}

#[tokio::test]
async fn a_stream_without_anything_to_send_ends_although_no_node_answers() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open_with(&client, epoch, &journal, patient(&client)).await;
    close_without_a_session(&mut cluster, &mut stream, |_| {}).await;
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.close()).await;
    assert_eq!(closed.unwrap().unwrap().durable, Offset(3));
}

#[tokio::test]
async fn a_takeover_ends_the_stream_for_good_and_none_of_its_later_bytes_appear() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    let end = stream.append(Bytes::from_static(b"before")).await.unwrap();
    stream.wait_durable(end).await.unwrap();
    cluster.apply(&foreign_takeover(&worker())).unwrap();
    let end = stream.append(Bytes::from_static(b"after")).await.unwrap();
    let error = stream.wait_durable(end).await.unwrap_err();
    assert!(
        matches!(error.rejected(), Some(Rejected::EpochFenced { .. })),
        "{error}"
    );
    assert_eq!(
        error.effect(),
        Effect::Unknown,
        "sent bytes went unanswered"
    );
    assert!(stream.append(Bytes::from_static(b"again")).await.is_err());
    assert!(stream.close().await.is_err());
    assert_eq!(cluster.journal(&journal).0, b"before");
}

#[tokio::test]
async fn a_second_writer_of_the_same_epoch_ends_the_first() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut first = open(&client, epoch, &journal).await;
    let mut second = open(&client, epoch, &journal).await;
    let end = first.append(Bytes::from_static(b"first")).await.unwrap();
    let error = first.wait_durable(end).await.unwrap_err();
    assert!(matches!(error, ClientError::Superseded { .. }), "{error}");
    second.append(Bytes::from_static(b"second")).await.unwrap();
    second.close().await.unwrap();
    assert_eq!(cluster.journal(&journal).0, b"second");
}

#[tokio::test]
async fn a_writer_that_came_and_went_during_an_outage_ends_the_stream() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    // Sent and not answered: without the token's word, the stranger's bytes would pass for these.
    cluster.fault(0, |faults| faults.swallow_appends = true);
    stream.append(Bytes::from_static(b"mine!")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    cluster.kill(0);
    cluster.fault(0, |faults| faults.swallow_appends = false);
    foreign_append(&cluster, &journal, epoch, b"yours");
    cluster.restart(0).await;
    let error = stream.wait_durable(Offset(6)).await.unwrap_err();
    assert!(matches!(error, ClientError::Superseded { .. }), "{error}");
    assert_eq!(
        stream.durable(),
        Offset(0),
        "nothing of it was acknowledged"
    );
    assert_eq!(cluster.journal(&journal).0, b"yours");
}

#[tokio::test]
async fn a_stranger_is_found_out_even_where_a_lost_open_of_this_stream_could_explain_it() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    stream.append(Bytes::from_static(b"mine!")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    cluster.kill(0);
    foreign_append(&cluster, &journal, epoch, b"yours");
    cluster.fault(0, |faults| {
        faults.swallow_appends = false;
        faults.late_opens = 1; // and it never is carried out
    });
    cluster.restart(0).await;
    let error = stream.wait_durable(Offset(5)).await.unwrap_err();
    assert!(matches!(error, ClientError::Superseded { .. }), "{error}");
    assert_eq!(cluster.fired(0).late_opens, 1);
    assert_eq!(stream.durable(), Offset(0), "none of it was acknowledged");
    assert_eq!(cluster.journal(&journal).0, b"yours");
}

#[tokio::test]
async fn a_first_open_that_is_carried_out_late_does_not_hide_a_stranger() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.late_opens = 1);
    let mut stream = open(&client, epoch, &journal).await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    stream.append(Bytes::from_static(b"mine!")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    cluster.kill(0);
    foreign_append(&cluster, &journal, epoch, b"yours");
    cluster.carry_out_late();
    cluster.fault(0, |faults| faults.swallow_appends = false);
    cluster.restart(0).await;
    let error = stream.wait_durable(Offset(5)).await.unwrap_err();
    assert!(matches!(error, ClientError::Superseded { .. }), "{error}");
    assert_eq!(stream.durable(), Offset(0), "none of it was acknowledged");
    assert_eq!(cluster.journal(&journal).0, b"yours");
}

#[tokio::test]
async fn a_first_open_that_is_carried_out_late_does_not_end_its_own_stream() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.late_opens = 1);
    let mut stream = open(&client, epoch, &journal).await;
    assert_eq!(cluster.fired(0).late_opens, 1);
    cluster.carry_out_late();
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(cluster.append_opens(0), 3, "fenced by its own open");
    assert_eq!(cluster.journal(&journal).0, b"abc");
}

#[tokio::test]
async fn a_first_open_without_an_answer_may_yet_be_carried_out() {
    let cluster = FakeCluster::start(1).await;
    let (epoch, journal) = open_worker(&cluster.client(&[0]), "j").await;
    cluster.fault(0, |faults| faults.late_opens = u32::MAX);
    let client = impatient(&cluster);
    let options = AppendOptions::of(&client);
    let opened = AppendStream::open(&client, &journal, RAW, epoch, None, options);
    let error = opened.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Timeout, Effect::Unknown),
        "{error}"
    );
    assert!(!error.to_string().contains("nothing was changed"));
    assert!(cluster.fired(0).late_opens > 0);
    cluster.carry_out_late();
    assert!(cluster.journal(&journal).1.writer.0 > 0, "as was warned of");
}

#[tokio::test]
async fn an_own_open_that_is_carried_out_without_an_answer_does_not_count_as_a_stranger() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    cluster.fault(0, |faults| {
        faults.break_appends_after = Some(1);
        faults.lost_answers = 3;
    });
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster
        .until("three opens without an answer", |cluster| {
            cluster.fired(0).lost_answers == 3
        })
        .await;
    cluster.fault(0, |faults| faults.break_appends_after = None);
    stream.append(Bytes::from_static(b"def")).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(cluster.fired(0).broken_appends, 1);
    assert_eq!(cluster.journal(&journal).0, b"abcdef");
}

#[tokio::test]
async fn bytes_damaged_on_the_way_are_sent_again() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster.fault(0, |faults| faults.damaged_appends = 2);
    stream.append(Bytes::from_static(b"def")).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(cluster.fired(0).damaged_appends, 2);
    assert_eq!(cluster.journal(&journal).0, b"abcdef");
}

#[tokio::test]
async fn bytes_that_always_arrive_damaged_end_the_stream_with_unknown_effect() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open_with(&client, epoch, &journal, patient(&client)).await;
    cluster.fault(0, |faults| faults.damaged_appends = u32::MAX);
    let end = stream.append(Bytes::from_static(b"abc")).await.unwrap();
    let error = stream.wait_durable(end).await.unwrap_err();
    // An earlier session's bytes may still be about to arrive, whatever the last one says of its own.
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let fired = cluster.fired(0).damaged_appends;
    assert!(fired > 1 && fired < 10, "{fired}");
}

#[tokio::test]
async fn a_session_that_dies_at_once_is_not_opened_again_without_a_pause() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open_with(&client, epoch, &journal, patient(&client)).await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    let began = Instant::now();
    cluster.fault(0, |faults| faults.break_opened = true);
    cluster.kill(0);
    cluster.restart(0).await;
    cluster
        .until("six sessions that die", |cluster| {
            cluster.fired(0).broken_opened >= 6
        })
        .await;
    // Between them are five pauses, each at least half of 25, 50, 100, 200 and 400 ms.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(387), "{took:?}");
    cluster.fault(0, |faults| *faults = Faults::default());
    stream.close().await.unwrap();
    assert_eq!(cluster.journal(&journal).0, b"abc");
}

#[tokio::test]
async fn an_open_is_told_even_when_its_session_is_lost_at_once() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.break_opened = true);
    let options = patient(&client);
    let opened = AppendStream::open(&client, &journal, RAW, epoch, None, options);
    let opened = tokio::time::timeout(Duration::from_secs(30), opened).await;
    let mut stream = opened.unwrap().unwrap();
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster
        .until("a session that dies", |cluster| {
            cluster.fired(0).broken_opened > 0
        })
        .await;
    cluster.fault(0, |faults| faults.break_opened = false);
    stream.close().await.unwrap();
    assert_eq!(cluster.journal(&journal).0, b"abc");
}

#[tokio::test]
async fn what_only_a_lost_leader_had_no_longer_counts_as_written() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let mut stream = open(&client, epoch, &journal).await;
    cluster.fault(0, |faults| faults.only_write_appends = true);
    stream.append(Bytes::from_static(b"abc")).await.unwrap();
    let mut watch = stream.watch();
    while watch.progress().written < Offset(3) {
        assert!(watch.changed().await);
    }
    assert_eq!(cluster.fired(0).only_written_appends, 1);
    cluster.kill(0);
    cluster.fault(0, |faults| {
        faults.only_write_appends = false;
        faults.swallow_appends = true;
    });
    cluster.restart(0).await;
    cluster.until("the bytes sent again", swallowed).await;
    let progress = stream.watch().progress();
    assert_eq!(
        (progress.written, progress.durable),
        (Offset(0), Offset(0)),
        "the leader of now has none of it"
    );
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_open_what_arrives() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    let mut stream = open(&client, epoch, &journal).await;
    let end = stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    let mut watch = stream.watch();
    drop(stream);
    let error = watch.wait_durable(end).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
}

#[tokio::test]
async fn appends_wait_while_the_window_is_full() {
    let cluster = FakeCluster::start(1).await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let options = AppendOptions {
        window_bytes: 100_000,
        ..AppendOptions::of(&client)
    };
    let mut stream = open_with(&client, epoch, &journal, options).await;
    let much = stream.append(Bytes::from(pattern(1_000_000)));
    let waited = tokio::time::timeout(Duration::from_millis(200), much).await;
    assert!(waited.is_err(), "it must wait");
    let queued = stream.end().0;
    assert!(queued > 0 && queued <= 100_000, "{queued}");
    cluster.until("bytes that nobody answers", swallowed).await;
}

#[tokio::test]
async fn a_stream_without_progress_gives_up_with_unknown_effect() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let options = AppendOptions {
        give_up_after: Some(Duration::from_millis(500)),
        ..AppendOptions::of(&client)
    };
    let mut stream = open_with(&client, epoch, &journal, options).await;
    cluster.fault(0, |faults| faults.swallow_appends = true);
    let end = stream.append(Bytes::from_static(b"abc")).await.unwrap();
    cluster.until("bytes on their way", swallowed).await;
    cluster.kill(0);
    let error = stream.wait_durable(end).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Timeout, Effect::Unknown),
        "{error}"
    );
}

#[tokio::test]
async fn opening_while_no_node_runs_fails_in_time() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, journal) = open_worker(&client, "j").await;
    cluster.kill(0);
    cluster.gone(0).await;
    let client = cluster.client(&[0]); // without a connection that breaks under the open
    let options = patient(&client);
    let opened = AppendStream::open(&client, &journal, RAW, epoch, None, options);
    let error = tokio::time::timeout(Duration::from_secs(8), opened)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CannotConnect, "{error}");
}

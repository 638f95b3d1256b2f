//! Promise 3: a fenced writer's bytes never appear, and it is told who and when.

use dos_cluster::{
    client::{AppendOptions, AppendStream, Effect, ErrorKind, Floor},
    domain::{Epoch, JournalKind, Offset, Rejected, RestorePoint, Writer},
    pb::{self, rejected::Reason},
};
use dos_cluster_tests::{
    Load, LoadOptions, TestCluster, assert_pattern, cluster::SETTLE_WITHIN, pattern, phase, raw,
    raw::RawAppend,
};

use crate::journal;

const OLD: u64 = 1;
const NEW: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_worker_that_was_taken_over_never_appear_and_it_is_told_by_whom() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let journal = journal("job/w/log");
    let (epoch, _) = client.open_worker(&journal.owner, None).await.unwrap();
    assert_eq!(epoch.0, 1);

    phase("an old writer floods through one node, without waiting for answers");
    let mut old = RawAppend::open(cluster.nodes[one].address(), &journal, epoch.0, None)
        .await
        .unwrap();
    old.send(pattern(OLD, 0, 10_000)).await;
    old.durable().await.unwrap();
    let flood = tokio::spawn(async move {
        let mut at = 10_000;
        while old.send(pattern(OLD, at, 1_000)).await {
            at += 1_000;
        }
        (old.refused().await, at)
    });

    phase("take over through another node");
    let before = raw::read(
        cluster.nodes[other].address(),
        &journal,
        raw::linearizable(),
    )
    .await;
    assert_pattern(OLD, 0, &before.unwrap());
    let taken = client
        .takeover(
            &journal.owner,
            None,
            RestorePoint::Latest,
            "a test that restores",
        )
        .await
        .unwrap();
    assert_eq!(taken.epoch.0, 2);
    let (_, _, cut) = taken.journals.values().next().copied().unwrap();
    assert!(cut.0 >= 10_000, "what was durable stays: {cut}");

    phase("the old writer is told who and when");
    let flood = tokio::time::timeout(SETTLE_WITHIN, flood).await;
    let (refusal, sent) = flood.expect("the old writer is refused").unwrap();
    let Reason::EpochFenced(fenced) = refusal.reason() else {
        panic!("{refusal:?}")
    };
    assert_eq!((fenced.held, fenced.current), (1, 2), "{refusal:?}");
    let succession = fenced.succession.as_ref().unwrap();
    assert_eq!(succession.by, "a test that restores");
    assert_eq!(succession.log_index, taken.log_index);
    assert!(succession.at_unix_ms > 0);
    assert!(
        refusal.message.contains("a test that restores") && refusal.message.contains("epoch 2"),
        "{refusal:?}"
    );
    assert!(
        sent > cut.0,
        "it sent more than what the takeover left: {sent}, {cut}"
    );

    phase("the old epoch opens no stream any more, at any node");
    for node in &cluster.nodes {
        let refusal = RawAppend::open(node.address(), &journal, epoch.0, None)
            .await
            .unwrap_err();
        assert!(
            matches!(refusal.reason(), Reason::EpochFenced(_)),
            "{refusal:?}"
        );
    }

    phase("the new incarnation goes on exactly where the takeover cut");
    let mut new = RawAppend::open(cluster.nodes[one].address(), &journal, 2, Some(cut.0))
        .await
        .unwrap();
    assert_eq!(new.opened.tail, cut.0);
    new.send(pattern(NEW, 0, 50_000)).await;
    new.durable().await.unwrap();

    phase("also after a restart of everything, there is nothing else");
    cluster.kill9_all();
    cluster.start_all();
    cluster.ready().await;
    for node in &cluster.nodes {
        let bytes = raw::read(node.address(), &journal, raw::linearizable())
            .await
            .unwrap();
        let (old, new) = bytes.split_at(usize::try_from(cut.0).unwrap());
        assert_pattern(OLD, 0, old);
        assert_pattern(NEW, 0, new);
        assert_eq!(new.len(), 50_000);
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_append_stream_fences_the_older_one() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let follower = cluster.follower().await;

    phase("a writer through the client library");
    let load = Load::start(
        &client,
        "job/w/log",
        LoadOptions {
            seed: OLD,
            ..LoadOptions::default()
        },
    )
    .await;
    load.advance(100_000).await;
    let journal = load.journal().clone();

    phase("another stream under the same epoch, at another node");
    let mut new = RawAppend::open(cluster.nodes[follower].address(), &journal, 1, None)
        .await
        .unwrap();
    let cut = new.opened.tail;
    new.send(pattern(NEW, 0, 10_000)).await;
    new.durable().await.unwrap();

    phase("the older one ends, and does not take the journal back");
    let error = load.fails().await;
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("fenced"), "{error}");
    new.send(pattern(NEW, 10_000, 10_000)).await;
    assert_eq!(new.durable().await.unwrap(), cut + 20_000);

    let bytes = raw::read(
        cluster.nodes[follower].address(),
        &journal,
        raw::linearizable(),
    )
    .await
    .unwrap();
    let (old, new) = bytes.split_at(usize::try_from(cut).unwrap());
    assert_pattern(OLD, 0, old);
    assert_pattern(NEW, 0, new);
    assert_eq!(new.len(), 20_000);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_over_a_takeover_acknowledges_nothing_of_the_old_writer() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let journal = journal("job/w/log");
    client.open_worker(&journal.owner, None).await.unwrap();
    let leader = cluster.leader().await;
    let mut old = RawAppend::open(cluster.nodes[leader].address(), &journal, 1, None)
        .await
        .unwrap();
    old.send(pattern(OLD, 0, 10_000)).await;
    old.durable().await.unwrap();

    phase("pause the leader; the old writer sends on into its socket");
    cluster.nodes[leader].pause();
    old.send(pattern(OLD, 10_000, 10_000)).await;

    phase("the others elect, and the worker is taken over there");
    let taken = client.takeover(
        &journal.owner,
        Some(Epoch(1)),
        RestorePoint::Latest,
        "a rescuer",
    );
    match taken.await {
        Ok(taken) => {
            let (_, _, cut) = taken.journals.values().next().copied().unwrap();
            assert_eq!(cut, Offset(10_000));
        }
        // An attempt that got no answer was carried out all the same: its repetition is refused, and says so.
        Err(error) => {
            assert_eq!(error.effect(), Effect::Unknown, "{error}");
            assert!(error.to_string().contains("a rescuer"), "{error}");
        }
    }

    phase("the old leader wakes up");
    cluster.nodes[leader].resume();
    let refusal = old.refused().await;
    // Either it reaches the new leader and is fenced there, or nobody knows any more what became of it.
    let detail = refusal.detail.as_ref().unwrap();
    match &detail.rejected {
        Some(_) => assert!(
            matches!(refusal.reason(), Reason::EpochFenced(_)),
            "{refusal:?}"
        ),
        None => assert_eq!(detail.effect(), pb::Effect::Unknown, "{refusal:?}"),
    }
    cluster.ready().await;
    let error = client
        .open_worker(&journal.owner, Some(Epoch(1)))
        .await
        .unwrap_err();
    let Some(Rejected::EpochFenced { succession, .. }) = error.rejected() else {
        panic!("{error}")
    };
    assert_eq!(succession.by, "a rescuer");
    for node in &cluster.nodes {
        let bytes = raw::read(node.address(), &journal, raw::linearizable())
            .await
            .unwrap();
        assert_eq!(bytes, pattern(OLD, 0, 10_000), "{}", node.name);
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_any_member_sees_which_journals_are_being_written_and_one_of_two_openers_gets_one()
 {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let journal = journal("job/w/log");
    let (epoch, _) = client.open_worker(&journal.owner, None).await.unwrap();
    let is_written = async |node: usize| {
        let client = cluster.client_at(node);
        let listed = client
            .list_journals(None, Some(&journal.owner), Floor::Linearizable)
            .await
            .unwrap();
        listed.journals.iter().any(|stat| stat.appending)
    };
    assert!(!is_written(leader).await);

    phase("two open the journal over what they both saw");
    let open = |node: usize| {
        let client = cluster.client_at(node);
        let journal = journal.clone();
        async move {
            let options = AppendOptions {
                over: Some(Writer(0)),
                ..AppendOptions::of(&client)
            };
            AppendStream::open(&client, &journal, JournalKind::Raw, epoch, None, options).await
        }
    };
    let (one, other) = tokio::join!(open(leader), open((leader + 1) % 3));
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("one of them: {both:?}"),
    };
    assert!(
        matches!(lost.rejected(), Some(Rejected::OpenedMeanwhile { .. })),
        "{lost}"
    );

    phase("every member sees it, and sees its end at once");
    for node in 0..3 {
        assert!(is_written(node).await, "{node}");
    }
    won.close().await.unwrap();
    for node in 0..3 {
        assert!(!is_written(node).await, "{node}");
    }

    phase("delete it");
    client.delete_journal(&journal).await.unwrap();
    let gone = client.delete_journal(&journal).await.unwrap_err();
    assert!(
        matches!(gone.rejected(), Some(Rejected::UnknownJournal { .. })),
        "{gone}"
    );
    cluster.finish().await;
}

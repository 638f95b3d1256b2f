//! The recovery line: a takeover at it cuts what is newer.

use std::collections::BTreeMap;

use dos_cluster::{
    client::{Client, Floor},
    domain::{CheckpointId, Epoch, JournalRef, Offset, Rejected, RestorePoint},
};
use dos_cluster_tests::{TestCluster, pattern, phase, raw, raw::RawAppend};

use crate::journal;

fn id(number: u64) -> CheckpointId {
    CheckpointId {
        rollback_epoch: 0,
        number,
    }
}

/// Appends 1000 bytes for each checkpoint from 1 to `last`, and makes them.
async fn checkpoints(
    cluster: &TestCluster,
    client: &Client,
    journal: &JournalRef,
    seed: u64,
    last: u64,
) {
    client.open_worker(&journal.owner, None).await.unwrap();
    let address = cluster.nodes[cluster.follower().await].address().to_owned();
    let mut stream = RawAppend::open(&address, journal, 1, None).await.unwrap();
    for number in 1..=last {
        stream.send(pattern(seed, (number - 1) * 1000, 1000)).await;
        let durable = stream.durable().await.unwrap();
        let offsets = BTreeMap::from([(journal.journal.clone(), Offset(durable))]);
        client
            .commit_checkpoint(&journal.owner, Epoch(1), id(number), offsets)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_at_the_line_cuts_the_journal_and_drops_later_checkpoints() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let (fast, slow) = (journal("job/fast/log"), journal("job/slow/log"));
    let job = fast.owner.job.clone();

    phase("no line while a worker has no checkpoint");
    client.open_worker(&slow.owner, None).await.unwrap();
    checkpoints(&cluster, &client, &fast, 1, 5).await;
    assert_eq!(
        client.line(&job, Floor::Linearizable).await.unwrap().line,
        None
    );
    let error = client
        .takeover(&fast.owner, None, RestorePoint::Line, "test")
        .await
        .unwrap_err();
    let Some(Rejected::NoRecoveryLine { late, .. }) = error.rejected() else {
        panic!("{error}")
    };
    assert_eq!(
        late.as_slice(),
        std::slice::from_ref(&slow.owner.worker),
        "{error}"
    );

    phase("the line is the newest checkpoint that all have");
    checkpoints(&cluster, &client, &slow, 2, 3).await;
    let line = client.line(&job, Floor::Linearizable).await.unwrap();
    assert_eq!(line.line.unwrap().number, 3);
    let waited = client
        .await_line(&job, id(4), std::time::Duration::from_millis(300))
        .await
        .unwrap();
    assert!(!waited.reached);
    assert_eq!(waited.late[0].worker, "slow", "{waited:?}");
    let output = cluster
        .cli(&["checkpoint", "line", "--job", "job"])
        .await
        .done();
    assert!(output.stdout.contains("0:3"), "{output:?}");

    phase("take the fast one over at the line");
    let taken = client
        .takeover(&fast.owner, None, RestorePoint::Line, "test")
        .await
        .unwrap();
    assert_eq!(taken.checkpoint, Some(id(3)));
    let later = client
        .list_checkpoints(&job, Some(&fast.owner), Floor::Linearizable)
        .await
        .unwrap();
    let numbers: Vec<_> = later
        .checkpoints
        .iter()
        .map(|checkpoint| checkpoint.id.unwrap().number)
        .collect();
    assert!(
        numbers.contains(&3) && numbers.iter().all(|number| *number <= 3),
        "{numbers:?}"
    );
    for node in &cluster.nodes {
        let bytes = raw::read(node.address(), &fast, raw::linearizable())
            .await
            .unwrap();
        assert_eq!(bytes, pattern(1, 0, 3000), "{}", node.name);
    }

    phase("the dropped checkpoint can be made again by the new incarnation, not by the old one");
    let mut stream = RawAppend::open(cluster.nodes[0].address(), &fast, 2, Some(3000))
        .await
        .unwrap();
    stream.send(pattern(3, 0, 500)).await;
    stream.durable().await.unwrap();
    let offsets = BTreeMap::from([(fast.journal.clone(), Offset(3500))]);
    let stale = client
        .commit_checkpoint(&fast.owner, Epoch(1), id(4), offsets.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(stale.rejected(), Some(Rejected::EpochFenced { .. })),
        "{stale}"
    );
    client
        .commit_checkpoint(&fast.owner, Epoch(2), id(4), offsets)
        .await
        .unwrap();

    phase("all of that survives a restart of everything");
    cluster.kill9_all();
    cluster.start_all();
    cluster.ready().await;
    let line = client.line(&job, Floor::Linearizable).await.unwrap();
    assert_eq!(line.line.unwrap().number, 3);
    let newest = line
        .workers
        .iter()
        .find(|worker| worker.worker == "fast")
        .unwrap();
    assert_eq!(newest.newest.unwrap().number, 4);
    let bytes = raw::read(cluster.nodes[1].address(), &fast, raw::linearizable())
        .await
        .unwrap();
    assert_eq!(bytes, [pattern(1, 0, 3000), pattern(3, 0, 500)].concat());
    cluster.finish().await;
}

//! Members that come, go, fall behind, and lose their disks.

use std::time::Duration;

use dos_cluster::{domain::NodeId, pb};
use dos_cluster_tests::{
    ClusterOptions, Load, LoadOptions, TestCluster, cluster::SETTLE_WITHIN, eventually, phase,
    wait::check,
};

use crate::{stop_and_verify, verify_at, verify_everywhere};

const MIB: u64 = 1 << 20;
/// Two election timeouts: what a writer waits for at most when leadership is handed over.
const GAP_MAX: Duration = Duration::from_secs(1);

/// About 15 MB/s: the log is purged soon.
fn heavy() -> LoadOptions {
    LoadOptions {
        piece: 64 << 10,
        ..LoadOptions::default()
    }
}

/// Waits until a node's log has been purged past `index`.
async fn purged_past(cluster: &TestCluster, place: usize, index: u64) {
    eventually("the log is purged", Duration::from_secs(60), async || {
        let status = cluster.status(place).await?;
        check(
            status.purged_index > index && status.snapshot_index >= status.purged_index,
            || {
                format!(
                    "purged up to {}, snapshot at {}",
                    status.purged_index, status.snapshot_index
                )
            },
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_refused_with_the_cure_and_its_replacement_joins_under_load() {
    let mut cluster = TestCluster::start_with(ClusterOptions::that_purges_soon(3)).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", heavy()).await;
    let leader = cluster.leader().await;
    let lost = cluster.follower().await;
    let lost_name = format!("n{}", lost + 1);
    load.advance(MIB).await;

    phase("a node loses its disk and comes back at its old address");
    cluster.nodes[lost].kill9();
    cluster.nodes[lost].wipe();
    let cure = format!("member remove {lost_name}");
    cluster.allow(&format!("expects {lost_name} at this address"));
    cluster.nodes[lost].start();

    phase("it is refused, and says so in its log, its status and its health");
    let line = cluster.nodes[lost]
        .logs(&["ERROR", "its disk was wiped", &cure], SETTLE_WITHIN)
        .await;
    assert!(
        line.contains(&format!(
            "dos-cluster join {}",
            cluster.nodes[lost].address()
        )),
        "{line}"
    );
    let status = cluster.status(lost).await.unwrap();
    assert_eq!(status.state(), pb::NodeState::Waiting);
    assert!(status.problem.contains(&cure), "{status:?}");
    let (code, text) = cluster.nodes[lost].get("/readyz").await.unwrap();
    assert!(code == 503 && text.contains(&cure), "{code} {text}");
    let shown = cluster.cli(&["status", "--all-endpoints"]).await;
    let address = cluster.nodes[lost].address();
    let waits = |row: &str| row.contains("waiting") && row.contains(address);
    assert!(
        shown.stdout.lines().any(waits) && shown.stdout.contains(&cure),
        "{shown:#?}"
    );
    let output = cluster.cli(&["member", "list"]).await.done();
    assert!(output.stdout.contains(&lost_name), "{output:?}");

    phase("meanwhile the log that it would need is purged");
    purged_past(&cluster, leader, 0).await;
    let purged = cluster.status(leader).await.unwrap().purged_index;

    phase("joined before its old number is removed, it is refused with the cure");
    let output = cluster.cli(&["join", cluster.nodes[lost].address()]).await;
    let output = output.exits_with(4, &[cluster.nodes[lost].address(), &cure]);
    assert!(
        !output.stderr.contains("may have been carried out"),
        "{output:?}"
    );

    phase("the cure: remove the old member, join the empty node, while appends go on");
    let output = cluster.cli(&["member", "remove", &lost_name]).await.done();
    assert!(!output.stdout.contains(&lost_name), "{output:?}");
    let durable = load.durable();
    let before = cluster.nodes[lost].log_end();
    let joined = cluster
        .cli(&["join", cluster.nodes[lost].address(), "-o", "json"])
        .await
        .done()
        .json();
    let number: NodeId = joined["node"].as_str().unwrap().parse().unwrap();
    assert!(number.0 >= 4, "a number is never given twice: {joined}");
    assert_eq!(joined["role"], "voter");
    assert!(load.durable() > durable, "the writer went on meanwhile");

    phase("it was caught up by a snapshot, and votes");
    let status = cluster.status(lost).await.unwrap();
    assert!(status.snapshot_index >= purged, "{status:?}");
    cluster.nodes[lost]
        .logs_since(before, &["installed a snapshot"], SETTLE_WITHIN)
        .await;
    let members = cluster
        .status(cluster.leader().await)
        .await
        .unwrap()
        .members;
    assert_eq!(
        members.iter().filter(|member| member.voter).count(),
        3,
        "{members:?}"
    );

    phase("it counts: with another node down, there is a quorum");
    let other = (0..3)
        .find(|place| *place != lost && *place != leader)
        .unwrap();
    cluster.nodes[other].kill9();
    load.advance(MIB).await;
    let (journal, seed) = (load.journal().clone(), load.seed());
    let total = load.stop().await;
    verify_at(&cluster, lost, &journal, seed, total).await;
    cluster.nodes[other].start();
    cluster.ready().await;
    assert_eq!(
        verify_everywhere(&cluster, &journal, seed, total).await,
        total
    );
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_down_past_a_purge_is_caught_up_by_a_snapshot_under_load() {
    let mut cluster = TestCluster::start_with(ClusterOptions::that_purges_soon(3)).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", heavy()).await;
    load.advance(MIB).await;
    let down = cluster.follower().await;
    let had = cluster.status(down).await.unwrap().last_log_index;

    phase("a follower is killed, and the log goes on past what it has");
    cluster.nodes[down].kill9();
    let leader = cluster.leader().await;
    purged_past(&cluster, leader, had + 100).await;

    phase("it comes back under load");
    let before = cluster.nodes[down].log_end();
    cluster.nodes[down].start();
    cluster.nodes[down]
        .logs_since(before, &["installed a snapshot"], Duration::from_secs(60))
        .await;
    load.advance(MIB).await;
    cluster.ready().await;
    let (journal, seed, total) = stop_and_verify(&cluster, load).await;
    cluster.converged().await;

    phase("what was installed survives kill -9");
    cluster.nodes[down].kill9();
    cluster.nodes[down].start();
    cluster.ready().await;
    verify_at(&cluster, down, &journal, seed, total).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_hands_over_and_does_not_come_back() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    load.advance(MIB).await;
    let leader = cluster.leader().await;

    phase("remove the leader under load");
    let name = format!("n{}", leader + 1);
    let output = cluster.cli(&["member", "remove", &name]).await.done();
    assert!(!output.stdout.contains(&name), "{output:?}");
    let removed = cluster.status(leader).await.unwrap();
    assert_ne!(
        removed.state(),
        pb::NodeState::Leader,
        "it handed over first"
    );
    eventually("another node leads", SETTLE_WITHIN, async || {
        for place in (0..3).filter(|place| *place != leader) {
            let status = cluster.status(place).await?;
            let others = status.leader_id != 0
                && status.leader_id != leader as u64 + 1
                && status.members.len() == 2;
            check(others, || format!("{status:?}"))?;
        }
        Ok(())
    })
    .await;
    load.advance(MIB).await;

    phase("it can be stopped and deleted; the others go on");
    cluster.nodes[leader].kill9();
    load.advance(MIB).await;
    stop_and_verify(&cluster, load).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_hands_leadership_over_and_a_writer_sees_no_error() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    phase("leadership goes where it is told to");
    load.advance(MIB).await;
    let to = cluster.follower().await;
    let name = format!("n{}", to + 1);
    let _ = load.longest_gap(); // from here on
    let output = cluster.cli(&["leader", "transfer", &name]).await.done();
    assert!(output.stdout.contains(&name), "{output:?}");
    assert_eq!(cluster.leader().await, to);
    load.advance(MIB).await;
    let gap = load.longest_gap();
    assert!(
        gap < GAP_MAX,
        "the writer waited {gap:?}: that was an election"
    );

    for round in 1..=2 {
        phase(&format!("round {round}: SIGTERM to the leader"));
        load.advance(MIB).await;
        let leader = cluster.leader().await;
        let _ = load.longest_gap(); // from here on
        let before = cluster.nodes[leader].log_end();
        cluster.nodes[leader].terminate().await;
        load.advance(MIB).await;
        let gap = load.longest_gap();
        assert!(
            gap < GAP_MAX,
            "the writer waited {gap:?}: that was an election"
        );
        cluster.nodes[leader]
            .logs_since(before, &["handed over leadership"], SETTLE_WITHIN)
            .await;
        cluster.nodes[leader].start();
        cluster.ready().await;
    }
    stop_and_verify(&cluster, load).await;
    cluster.finish().await;
}

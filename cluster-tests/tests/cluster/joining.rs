//! Inits and joins that meet, are interrupted, or come twice.

use dos_cluster::pb::{self, change_members_request::Change};
use dos_cluster_tests::{
    ClusterOptions, TestCluster, cli, cluster::SETTLE_WITHIN, eventually, phase, raw, wait::check,
};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_at_once_one_forms_the_cluster_and_the_other_names_it() {
    let cluster = TestCluster::waiting(ClusterOptions::new(3)).await;
    let nodes: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| node.address().to_owned())
        .collect();
    let (forwards, backwards) = (
        nodes.join(","),
        nodes.iter().rev().cloned().collect::<Vec<_>>().join(","),
    );
    let init = async |first: &str, nodes: &str| {
        cli(first, &["init", "--nodes", nodes, "--timeout", "30s"]).await
    };
    let (one, other) = tokio::join!(init(&nodes[0], &forwards), init(&nodes[2], &backwards),);
    let (formed, refused) = if one.code == 0 {
        (one, other)
    } else {
        (other, one)
    };
    let formed = formed.done();
    cluster.ready().await;
    let id = cluster.status(1).await.unwrap().cluster_id;
    assert!(formed.stdout.contains(&id), "{formed:?}");
    let _ = refused.exits_with(4, &["belongs to cluster", &id]);
    for place in 0..3 {
        let status = cluster.status(place).await.unwrap();
        assert_eq!(
            (status.cluster_id.as_str(), status.members.len()),
            (id.as_str(), 3)
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_ended_half_way_is_taken_further_by_the_next() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let fresh = cluster.add_node();
    cluster.answers(fresh).await;
    let waiting = cluster.status(fresh).await.unwrap();

    phase("a node is adopted and added as a learner; then whoever did that is gone");
    let formed = cluster.status(leader).await.unwrap();
    let id = u128::from_str_radix(&formed.cluster_id, 16)
        .unwrap()
        .to_be_bytes();
    let incarnation = raw::probe(&cluster.nodes[fresh].addresses.peer)
        .await
        .incarnation;
    raw::adopt(&cluster.nodes[fresh].addresses.peer, id, 7).await;
    let member = pb::Member {
        node_id: 7,
        incarnation,
        client_address: waiting.client_address,
        peer_address: waiting.peer_address,
        http_address: waiting.http_address,
    };
    raw::change_members(
        &cluster.nodes[leader].addresses.peer,
        Change::AddLearner(member),
    )
    .await;
    let learns = |status: &pb::StatusResponse| {
        let mut members = status.members.iter();
        members.any(|m| !m.voter && m.member.as_ref().is_some_and(|m| m.node_id == 7))
    };
    eventually("it is a learner", SETTLE_WITHIN, async || {
        let status = cluster.status(leader).await?;
        check(learns(&status), || format!("{:?}", status.members))
    })
    .await;

    phase("a join of the same node gives it its vote");
    let address = cluster.nodes[fresh].address();
    let joined = cluster
        .cli(&["join", address, "-o", "json"])
        .await
        .done()
        .json();
    assert_eq!(
        (&joined["node"], &joined["role"]),
        (&"n7".into(), &"voter".into()),
        "{joined}"
    );
    cluster.ready().await;

    phase("and a further one says that it is there");
    let again = cluster.cli(&["join", address]).await;
    let _ = again.exits_with(4, &["belongs to cluster", &formed.cluster_id]);
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_not_removed_when_that_would_end_the_majority() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[dead].kill9();
    let (dead_name, alive_name) = (format!("n{}", dead + 1), format!("n{}", alive + 1));
    eventually("the leader misses it", SETTLE_WITHIN, async || {
        let status = cluster.status(leader).await?;
        let mut members = status.members.iter();
        let silent_ms = members
            .find(|m| {
                m.member
                    .as_ref()
                    .is_some_and(|m| m.node_id == dead as u64 + 1)
            })
            .and_then(|m| m.last_answer_ms);
        check(silent_ms > Some(2_500), || format!("{silent_ms:?} ms"))
    })
    .await;
    let output = cluster.cli(&["member", "remove", &alive_name]).await;
    let _ = output.exits_with(4, &["no majority", &dead_name, "remove it first"]);

    phase("the dead one can be removed, and the others go on");
    let output = cluster.cli(&["member", "remove", &dead_name]).await.done();
    assert!(
        output.stdout.contains(&alive_name) && !output.stdout.contains(&dead_name),
        "{output:?}"
    );
    cluster.ready().await;
    cluster.finish().await;
}

/// A command that the log would refuse stops Raft on the leader, and on the next one when it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_any_size_is_answered_and_no_node_dies_of_it() {
    let cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let (_, created) = cluster
        .client()
        .open_worker(&"job/w".parse().unwrap(), None)
        .await
        .unwrap();
    assert!(created);
    for node in &cluster.nodes {
        for bytes in [
            300,
            2_000_000,
            (2 << 20) - 60,
            (2 << 20) - 20,
            (2 << 20) + 1,
            7 << 20,
            9 << 20,
        ] {
            let takeover = pb::Takeover {
                worker: Some(pb::WorkerRef {
                    job: "job".into(),
                    worker: "w".into(),
                }),
                by: "x".repeat(bytes),
                point: Some(pb::RestorePoint {
                    point: Some(pb::restore_point::Point::Latest(
                        pb::restore_point::Latest {},
                    )),
                }),
                ..Default::default()
            };
            let mut client = pb::workers_client::WorkersClient::new(raw::channel(node.address()));
            if let Err(status) = client.takeover(takeover).await {
                assert!(
                    status.message().contains("too large")
                        || status.code() == tonic::Code::OutOfRange,
                    "{bytes}: {status:?}"
                );
            }
        }
    }
    assert_eq!(cluster.leader().await, leader);
    cluster.converged().await;
    cluster.finish().await;
}

//! Nodes that meet a stranger: another cluster's node, an address that moved.

use std::time::Duration;

use dos_cluster::{
    env::net::{ChannelOptions, channel},
    pb::{self, raft_client::RaftClient},
};
use dos_cluster_tests::{
    ClusterOptions, Load, LoadOptions, TestCluster, cluster::SETTLE_WITHIN, eventually, phase, wait,
};

use crate::{stop_and_verify, verify_everywhere};

/// A request for a vote in a term that no cluster here reaches by itself.
fn vote(header: pb::PeerHeader) -> pb::RaftVoteRequest {
    pb::RaftVoteRequest {
        vote: Some(pb::RaftVote {
            term: 1_000,
            node_id: header.from,
            committed: false,
        }),
        header: Some(header),
        last_log_id: None,
        leadership_transfer: false,
    }
}

async fn ask(peer: &str, request: &pb::RaftVoteRequest) -> Result<(), tonic::Status> {
    let channel = channel(peer, ChannelOptions::default()).unwrap();
    let answer = RaftClient::new(channel).vote(request.clone()).await;
    answer.map(|_| ())
}

fn cluster_bytes(cluster: &str) -> bytes::Bytes {
    let id = u128::from_str_radix(cluster, 16).unwrap();
    id.to_be_bytes().to_vec().into()
}

/// Asks for a vote in the name of a cluster, once the node answers as a member; why it is refused.
async fn message_of_cluster(peer: &str, cluster: &str, to: u64) -> String {
    let request = vote(pb::PeerHeader {
        cluster_id: cluster_bytes(cluster),
        group: 0,
        from: 1,
        from_incarnation: 1,
        to,
    });
    eventually(
        "the node answers as a member",
        SETTLE_WITHIN,
        async || match ask(peer, &request).await {
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                Ok(status.message().to_owned())
            }
            other => Err(format!("{other:?}")),
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_is_not_meant_for_this_node_or_not_from_a_member_is_refused_and_changes_nothing()
 {
    let mut cluster = TestCluster::start(3).await;
    cluster.allow("refused a peer's message");
    let leader = cluster.leader().await;
    let (to, from) = ((leader + 1) % 3, (leader + 2) % 3);
    let status = cluster.status(to).await.unwrap();
    let members = status.members.iter().filter_map(|m| m.member.as_ref());
    let sender = members
        .clone()
        .find(|m| m.node_id == from as u64 + 1)
        .unwrap();
    let right = pb::PeerHeader {
        cluster_id: cluster_bytes(&status.cluster_id),
        group: 0,
        from: sender.node_id,
        from_incarnation: sender.incarnation,
        to: to as u64 + 1,
    };
    let peer = cluster.nodes[to].addresses.peer.clone();

    phase("each with one thing wrong");
    type Wrong = fn(&mut pb::PeerHeader);
    let table: [(Wrong, &str); 6] = [
        (|h| h.group = 1, "this node has no group 1"),
        (|h| h.to = h.from, "an address in the membership is wrong"),
        (|h| h.to = 99, "not n99"),
        (|h| h.from_incarnation ^= 1, "speaks from another disk"),
        (|h| h.from_incarnation = 0, "speaks from another disk"),
        (|h| h.cluster_id = vec![7; 16].into(), "another cluster"),
    ];
    for (wrong, words) in table {
        let mut header = right.clone();
        wrong(&mut header);
        let refused = ask(&peer, &vote(header)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains(words), "{words:?}: {refused:?}");
    }
    let mut headless = vote(right.clone());
    headless.header = None;
    let refused = ask(&peer, &headless).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");

    phase("no term has changed, and the same leader leads");
    for place in 0..3 {
        let now = cluster.status(place).await.unwrap();
        assert_eq!(
            (now.term, now.leader_id),
            (status.term, status.leader_id),
            "{now:?}"
        );
    }

    phase("with nothing wrong it is taken in: it was the header that was refused");
    let mut old = vote(right);
    old.vote.as_mut().unwrap().term = 1;
    ask(&peer, &old).await.unwrap();
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_clusters_whose_addresses_were_swapped_refuse_each_other() {
    let mut red = TestCluster::start(3).await;
    let mut blue = red.beside(ClusterOptions::new(3)).await;
    let red_load = Load::start(
        &red.client(),
        "job/red/log",
        LoadOptions {
            seed: 1,
            ..LoadOptions::default()
        },
    )
    .await;
    let blue_load = Load::start(
        &blue.client(),
        "job/blue/log",
        LoadOptions {
            seed: 2,
            ..LoadOptions::default()
        },
    )
    .await;
    for cluster in [&mut red, &mut blue] {
        cluster.allow("the message is for another cluster");
        cluster.allow("refused a peer's message");
    }

    phase("neither takes a node of the other in");
    let foreign = blue.status(0).await.unwrap().cluster_id;
    let output = red.cli(&["join", blue.nodes[0].address()]).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains(&foreign), "{output:?}");
    assert_eq!(red.status(0).await.unwrap().members.len(), 3);

    phase("a follower of each is started at the other's addresses");
    let (a, b) = (red.follower().await, blue.follower().await);
    red.nodes[a].terminate().await;
    blue.nodes[b].terminate().await;
    let addresses = red.nodes[a].addresses.clone();
    red.nodes[a].addresses = std::mem::replace(&mut blue.nodes[b].addresses, addresses);
    red.nodes[a].start();
    blue.nodes[b].start();

    phase("both say which cluster they are of, and that the message is for another");
    let ids = [
        red.status(red.leader().await).await.unwrap().cluster_id,
        blue.status(blue.leader().await).await.unwrap().cluster_id,
    ];
    assert_ne!(ids[0], ids[1]);
    for (node, to, mine, other) in [
        (&red.nodes[a], a, &ids[0], &ids[1]),
        (&blue.nodes[b], b, &ids[1], &ids[0]),
    ] {
        let refused = message_of_cluster(&node.addresses.peer, other, to as u64 + 1).await;
        assert!(refused.contains(mine.as_str()), "{refused}");
        assert!(
            refused.contains("the message is for another cluster"),
            "{refused}"
        );
        let line = ["WARN", "but the message is for another cluster"];
        node.logs(&line, SETTLE_WITHIN).await;
    }

    phase("each tells its own cluster where it is now, and follows again");
    for (cluster, load, seed) in [(red, red_load, 1), (blue, blue_load, 2)] {
        cluster.ready().await;
        let journal = load.journal().clone();
        let total = load.stop().await;
        assert_eq!(
            verify_everywhere(&cluster, &journal, seed, total).await,
            total
        );
        cluster.converged().await;
        cluster.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_at_other_addresses_is_found_again() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    for place in 0..3 {
        phase("a node moves");
        load.advance(100_000).await;
        cluster.nodes[place].terminate().await;
        cluster.nodes[place].addresses = dos_cluster_tests::node::Addresses::free();
        cluster.nodes[place].start();
        cluster.ready().await;
        // Its stream may be open at another node all the time: it hears of the move all the same.
        let moved = &cluster.nodes[place].addresses.client;
        eventually("the client knows", Duration::from_secs(20), async || {
            let known = client.addresses();
            wait::check(known.contains(moved), || format!("{known:?}"))
        })
        .await;
    }
    phase("after all have moved, nothing is at its old address");
    load.advance(100_000).await;
    stop_and_verify(&cluster, load).await;
    let listed = cluster.cli(&["member", "list"]).await.done().stdout;
    for node in &cluster.nodes {
        assert!(listed.contains(&node.addresses.peer), "{listed}");
    }
    cluster.finish().await;
}

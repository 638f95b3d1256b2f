//! Nodes that meet a stranger: another cluster's node, an address that moved.

use dos_cluster_tests::{
    ClusterOptions, Load, LoadOptions, TestCluster, cluster::SETTLE_WITHIN, phase,
};

use crate::verify_everywhere;

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

    phase("both say which cluster they are of");
    red.nodes[a]
        .logs(
            &["WARN", "but the message is for another cluster"],
            SETTLE_WITHIN,
        )
        .await;
    blue.nodes[b]
        .logs(
            &["WARN", "but the message is for another cluster"],
            SETTLE_WITHIN,
        )
        .await;

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
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    for place in 0..3 {
        phase("a node moves");
        load.advance(100_000).await;
        cluster.nodes[place].terminate().await;
        cluster.nodes[place].addresses = dos_cluster_tests::node::Addresses::free();
        cluster.nodes[place].start();
        cluster.ready().await;
    }
    phase("after all have moved, nothing is at its old address");
    load.advance(100_000).await;
    let (journal, seed) = (load.journal().clone(), load.seed());
    let total = load.stop().await;
    assert_eq!(
        verify_everywhere(&cluster, &journal, seed, total).await,
        total
    );
    let listed = cluster.cli(&["member", "list"]).await.done().stdout;
    for node in &cluster.nodes {
        assert!(listed.contains(&node.addresses.peer), "{listed}");
    }
    cluster.finish().await;
}

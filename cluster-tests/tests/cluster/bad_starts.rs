//! Nodes that cannot start as they were told to, nodes that wait, and a second `init`.

use std::io::Write;

use dos_cluster::pb;
use dos_cluster_tests::{ClusterOptions, TestCluster, TestNode, cli, cli_with_stdin, phase, raw};

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let node = TestNode::new(dir.path(), "node", &[]);
    let addresses = &node.addresses;
    let ports = [
        (&addresses.client, "--listen", "clients"),
        (&addresses.peer, "--peer-listen", "members"),
        (&addresses.http, "--http-listen", "HTTP"),
    ];
    for (address, flag, purpose) in ports {
        let _holder = std::net::TcpListener::bind(address).unwrap();
        let output = node.fails_to_start().await;
        let _ = output.exits_with(1, &["cannot listen on", address, purpose, flag]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_configuration_are_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dos.toml");
    std::fs::write(
        &file,
        "hartbeat = '1s'\nsegment_bytes = 'many'\npeer_listen = 'nowhere'\n",
    )
    .unwrap();
    let mut node = TestNode::new(
        dir.path(),
        "node",
        &["--election-timeout".into(), "1ms".into()],
    );
    node.addresses.peer.clone_from(&node.addresses.client);
    let mut command = node.serve();
    command
        .arg("--config")
        .arg(&file)
        .env("DOS_CLUSTER_STATE_MEMORY_BYTES", "1");
    let output = cli::run(command, &[]).await;
    let file = file.to_str().unwrap();
    let words = [
        "hartbeat",
        "segment_bytes",
        "many",
        "nowhere",
        "--election-timeout",
        "DOS_CLUSTER_STATE_MEMORY_BYTES",
        file,
    ];
    let _ = output.exits_with(2, &words);
    assert!(
        !node.data_dir.exists(),
        "nothing is made before the configuration is right"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_node_says_what_it_waits_for() {
    let cluster = TestCluster::waiting(ClusterOptions::new(1)).await;
    let node = &cluster.nodes[0];
    for arguments in [
        &["journal", "stat", "job/w/log"][..],
        &["journal", "append", "job/w/log"],
        &["worker", "takeover", "job/w"],
        &["member", "remove", "n1"],
    ] {
        let output = cluster
            .cli(&[arguments, &["--timeout", "2s"]].concat())
            .await;
        let _ = output.exits_with(5, &["dos-cluster init", node.address()]);
    }
    let output = cluster
        .cli(&["member", "list"])
        .await
        .exits_with(5, &["waits", "dos-cluster init"]);
    assert!(output.stdout.is_empty(), "{output:?}");
    let _ = cluster
        .cli(&["status"])
        .await
        .exits_with(5, &["there is no cluster yet", "init"]);
    let (code, text) = node.get("/readyz?verbose").await.unwrap();
    assert!(
        code == 503 && text.contains("waits for `dos-cluster init`"),
        "{code} {text}"
    );
    assert_eq!(node.get("/livez").await.unwrap().0, 200);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_happens_once() {
    let mut cluster = TestCluster::waiting(ClusterOptions::new(3)).await;
    let nodes = cluster.endpoints();

    phase("an init with a node that does not answer changes nothing");
    let gone = dos_cluster_tests::ports::free_address();
    let with_gone = format!("{nodes},{gone}");
    let output = cluster.cli(&["init", "--nodes", &with_gone]).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains(&gone), "{output:?}");
    for place in 0..3 {
        assert!(cluster.status(place).await.unwrap().cluster_id.is_empty());
    }

    phase("nor does one that names a node twice");
    let first = cluster.nodes[0].address().to_owned();
    let output = cluster
        .cli(&["init", "--nodes", &format!("{first},{first}")])
        .await;
    let _ = output.exits_with(2, &[&first, "named twice"]);
    let other_name = first.replace("127.0.0.1", "localhost");
    let output = cluster
        .cli(&["init", "--nodes", &format!("{first},{other_name}")])
        .await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("same node"), "{output:?}");

    phase("the first real one forms the cluster");
    cluster.init().await;
    let formed = cluster.status(0).await.unwrap().cluster_id;

    phase("a second one names the cluster that is there");
    let second = cluster.cli(&["init", "--nodes", &nodes]).await;
    let _ = second.exits_with(4, &["belongs to cluster", &formed, "an init happens once"]);

    phase("so does one that asks a fresh node to take members away");
    let fresh = cluster.add_node();
    cluster.answers(fresh).await;
    let fresh_address = cluster.nodes[fresh].address();
    let stolen = format!("{fresh_address},{first}");
    let output = cli(fresh_address, &["init", "--nodes", &stolen]).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains(&formed), "{output:?}");
    assert!(
        cluster.status(fresh).await.unwrap().cluster_id.is_empty(),
        "the fresh node still waits"
    );

    phase("nothing has changed: the same cluster, and the fresh node can join it");
    assert_eq!(cluster.status(0).await.unwrap().cluster_id, formed);
    let joined = cluster.cli(&["join", fresh_address]).await.done();
    assert!(joined.stdout.contains("n4"), "{joined:?}");
    let again = cluster.cli(&["join", fresh_address]).await;
    assert_ne!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains(&formed), "{again:?}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_an_init_that_failed_half_way_can_be_given_to_another() {
    let mut cluster = TestCluster::waiting(ClusterOptions::new(3)).await;

    phase("two of three nodes are given an identity, then whoever ran the init is gone");
    for (node, place) in (1..).zip([0, 1]) {
        raw::adopt(&cluster.nodes[place].addresses.peer, [7; 16], node).await;
    }
    phase("one of them was restarted meanwhile");
    cluster.nodes[1].kill9();
    cluster.nodes[1].start();
    cluster.answers(1).await;
    assert_eq!(cluster.status(1).await.unwrap().cluster_id, "07".repeat(16));

    phase("another init forms the cluster of all three");
    cluster.init().await;
    let formed = cluster.status(0).await.unwrap();
    assert_ne!(formed.cluster_id, "07".repeat(16));
    assert_eq!(formed.members.len(), 3);

    phase("from then on no identity is given any more");
    let peer = &cluster.nodes[2].addresses.peer;
    let refused = raw::try_adopt(peer, [7; 16], 3).await.unwrap_err();
    assert_eq!(refused.detail.unwrap().code, "already_formed");
    cluster.kill9_all();
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(
        cluster.status(1).await.unwrap().cluster_id,
        formed.cluster_id
    );
    cluster.finish().await;
}

/// The marker of the log is read before anything else of it; read from a pipe, it keeps a node in its recovery for as long as
/// the test likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_starting_says_so_and_the_others_serve_meanwhile() {
    let mut cluster = TestCluster::start(3).await;
    let place = cluster.follower().await;
    cluster.nodes[place].terminate().await;
    let marker = cluster.nodes[place].data_dir.join("log/MARKER");
    let kept = marker.with_extension("kept");
    std::fs::rename(&marker, &kept).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&marker).status();
    assert!(made.unwrap().success());
    cluster.nodes[place].start();

    phase("the node answers that it is starting, on every port");
    cluster.answers(place).await;
    let address = cluster.nodes[place].address();
    let status = cluster.status(place).await.unwrap();
    assert_eq!(status.state(), pb::NodeState::Starting);
    let (code, text) = cluster.nodes[place].get("/readyz?verbose").await.unwrap();
    assert!(code == 503 && text.contains("starting"), "{code} {text}");
    for arguments in [
        &["journal", "stat", "job/w/log"][..],
        &["journal", "append", "job/w/log"],
        &["worker", "takeover", "job/w"],
    ] {
        let output = cli(address, &[arguments, &["--timeout", "1s"]].concat()).await;
        let _ = output.exits_with(5, &["starting", address]);
    }

    phase("a client that knows the others, too, does not notice");
    let append = ["journal", "append", "job/w/log", "--timeout", "10s"];
    let output = cli_with_stdin(&cluster.endpoints(), &append, b"bytes").await;
    assert_eq!(output.done().stdout, "5\n");

    phase("it goes on with its recovery, and has it all");
    let mut pipe = std::fs::OpenOptions::new()
        .write(true)
        .open(&marker)
        .unwrap();
    let bytes = std::fs::read(&kept).unwrap();
    std::fs::rename(&kept, &marker).unwrap();
    pipe.write_all(&bytes).unwrap();
    drop(pipe);
    cluster.ready().await;
    cluster.converged().await;
    cluster.finish().await;
}

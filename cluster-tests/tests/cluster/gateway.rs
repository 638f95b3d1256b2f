//! The gateway's process: what it says to scripts.

use std::{process::Stdio, time::Duration};

use dos_cluster_tests::{
    TestCluster,
    cli::{cli, command},
    eventually,
    legacy::{GatewayProcess, LegacyClient},
    phase, wait,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_any_port_says_which_and_ends_with_the_pipe_at_its_stdin() {
    let mut command = command();
    command
        .args(["gateway", "--endpoints", "127.0.0.1:1", "-o", "json"])
        .args(["--listen", "127.0.0.1:0", "--until-stdin-closes"]);
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut gateway = command.spawn().unwrap();
    let lifeline = gateway.stdin.take().unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let told: serde_json::Value = loop {
        said += &lines.next_line().await.unwrap().expect(&said);
        if let Ok(told) = serde_json::from_str(&said) {
            break told;
        }
    };
    let address = told["legacy_address"].as_str().expect(&said);
    assert!(!address.ends_with(":0"), "{said}");
    TcpStream::connect(address).await.unwrap();
    drop(lifeline);
    assert!(gateway.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_where_somebody_serves_already_says_who_that_may_be() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = [
        "gateway",
        "--endpoints",
        "127.0.0.1:1",
        "--listen",
        &address,
    ];
    let refused = cli("", &arguments).await;
    let _ = refused.exits_with(
        1,
        &[&address, "another --listen", "a node or another gateway"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_says_that_the_cluster_does_not_answer_and_when_it_does_again() {
    let mut cluster = TestCluster::start(3).await;
    let gateway = GatewayProcess::start(&cluster.endpoints()).await;
    let says = async |times: usize, words: &str| {
        eventually(words, Duration::from_secs(30), async || {
            let log = gateway.log();
            let said = log.matches(words).count();
            wait::check(said >= times, || log)
        })
        .await;
    };
    let silent = "the cluster does not answer";
    says(1, "the cluster answers").await;
    assert!(!gateway.log().contains(silent), "{}", gateway.log());

    phase("without a majority a worker waits, and the log says why");
    let leader = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for node in others {
        cluster.nodes[node].kill9();
    }
    let address = gateway.address.clone();
    let waiting = tokio::spawn(async move {
        let mut client = LegacyClient::in_dir(&address, "w").await;
        client.ask(b"l").await
    });
    says(2, silent).await;
    let log = gateway.log();
    let line = log.lines().rfind(|line| line.contains(silent)).unwrap();
    assert!(
        line.contains("WARN") && line.contains("held_requests=1"),
        "{line}"
    );
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(
        waiting.await.unwrap().unwrap(),
        b"",
        "the worker has its answer"
    );
    says(1, "the cluster answers again").await;

    phase("wrong endpoints are spoken of before any worker comes");
    let nobody = dos_cluster_tests::ports::free_address();
    let lost = GatewayProcess::start(&nobody).await;
    eventually("it says so", Duration::from_secs(20), async || {
        let log = lost.log();
        wait::check(log.contains(silent) && log.contains(&nobody), || log)
    })
    .await;
    cluster.finish().await;
}

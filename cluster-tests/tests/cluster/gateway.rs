//! The gateway's process: what it says to scripts.

use std::process::Stdio;

use dos_cluster_tests::cli::{cli, command};
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

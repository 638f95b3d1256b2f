//! The gateway's process: what it says to scripts.

use std::process::Stdio;

use dos_cluster_tests::cli;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_any_port_says_which_and_ends_with_the_pipe_at_its_stdin() {
    let mut command = cli::command();
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

//! Hostile legacy clients cost themselves their connection, and nobody else anything.

use std::time::Duration;

use dos_cluster_tests::{
    TestCluster,
    legacy::{LegacyClient, append_request, frame},
    phase,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// What a node may grow by under all of it, in bytes.
const GROWTH_MAX: u64 = 192 << 20;
const IDLE_CONNECTIONS: usize = 10_000;
/// Connections that send half of what they could, and what a node may grow by for all of them.
const GREEDY_CONNECTIONS: usize = 2_000;
const GREEDY_GROWTH_MAX: u64 = 64 << 20;

/// Others are answered: the client panics when that takes longer than a worker waits.
async fn others_are_answered(address: &str) -> Duration {
    let mut client = LegacyClient::in_dir(address, "honest").await;
    client.list().await;
    client.slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_a_peer_that_never_reads_and_ten_thousand_idle_connections_hurt_nobody() {
    let cluster = TestCluster::start(3).await;
    let address = cluster.nodes[0].legacy_address().to_owned();
    let before = cluster.nodes[0].resident_bytes();

    phase("lengths that are none");
    for length in [0_u32, 0x8000_0000, u32::MAX] {
        let mut client = LegacyClient::connect(&address).await;
        client.send(&length.to_be_bytes()).await;
        if length == 0 {
            client.send(b"x").await;
        }
        assert_eq!(client.reply().await, None, "{length:#x}");
    }
    phase("half frames, and a giant length that stays");
    let mut held = Vec::new();
    for bytes in [&b"\0\0"[..], b"\0\0\0\x05ua", b"\x7f\xff\xff\xffu"] {
        let mut client = LegacyClient::connect(&address).await;
        client.send(bytes).await;
        held.push(client);
    }
    phase("garbage where a request should be");
    let garbage = dos_cluster_tests::pattern(3, 0, 100_000);
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(&frame(b"ug")).await.unwrap();
    socket.write_all(&garbage).await.ok(); // it may be closed by then
    others_are_answered(&address).await;

    phase("a peer that sends byte by byte, others in between");
    let mut slow = LegacyClient::connect(&address).await;
    for byte in [frame(b"uslow"), frame(b"l")].concat() {
        slow.send(&[byte]).await;
        others_are_answered(&address).await;
    }
    assert_eq!(slow.reply().await, Some(b"ok".to_vec()), "u");
    assert_eq!(slow.reply().await, Some(Vec::new()), "l");

    phase("a peer that never reads while it sends 64 MiB");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let requests = [frame(b"udeaf"), append_request("deaf.evlog.journal", 0)].concat();
    socket.write_all(&requests).await.unwrap();
    let part = vec![0; 1 << 20];
    let send = async {
        for _ in 0..64 {
            if socket.write_all(&part).await.is_err() {
                break;
            }
        }
    };
    let honest = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            slowest = slowest.max(others_are_answered(&address).await);
        }
        slowest
    };
    let (sent, slowest) = tokio::join!(timeout(Duration::from_secs(60), send), honest);
    sent.expect("64 MiB are taken, or the connection ends");
    println!("others were answered within {slowest:?}");
    drop(socket);

    phase("a peer that never reads its replies");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let asks = frame(b"z").repeat(10_000);
    let flood = async { while socket.write_all(&asks).await.is_ok() {} };
    timeout(Duration::from_secs(2), flood).await.ok(); // it is closed, or held back
    others_are_answered(&address).await;

    dos_cluster::env::limits::raise_open_files().unwrap(); // this end of them needs as many
    phase(
        "two thousand that hold as much as they can: a long directory, and half of a long request",
    );
    let calm = cluster.nodes[0].resident_bytes();
    let greedy = [
        frame(&[b"u".to_vec(), vec![b'x'; 4_000]].concat()),
        4_000_u32.to_be_bytes().to_vec(),
        vec![b'a'; 3_900],
    ];
    let greedy = greedy.concat();
    for _ in 0..GREEDY_CONNECTIONS {
        let mut client = LegacyClient::connect(&address).await;
        client.send(&greedy).await;
        assert_eq!(client.reply().await, Some(b"ok".to_vec()), "u");
        held.push(client);
    }
    let mut client = LegacyClient::connect(&address).await;
    client.send(&frame(&[b'u'; 70_000])).await;
    assert_eq!(client.reply().await, None, "longer than any request");
    let grown = cluster.nodes[0].resident_bytes().saturating_sub(calm);
    println!(
        "they cost {} KiB each",
        (grown / GREEDY_CONNECTIONS as u64) >> 10
    );
    assert!(grown < GREEDY_GROWTH_MAX, "{} MiB", grown >> 20);

    phase("ten thousand idle connections");
    let mut idle = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        match timeout(Duration::from_secs(2), TcpStream::connect(&address)).await {
            Ok(Ok(connection)) => idle.push(connection),
            _ => break,
        }
    }
    println!("{} connections", idle.len());
    assert!(
        idle.len() >= 9_000,
        "this machine lets {} connect",
        idle.len()
    );
    let slowest = others_are_answered(&address).await;
    let grown = cluster.nodes[0].resident_bytes().saturating_sub(before);
    println!(
        "answered within {slowest:?}; the node grew by {} MiB",
        grown >> 20
    );
    assert!(grown < GROWTH_MAX, "{} MiB", grown >> 20);
    drop((idle, held));
    cluster.finish().await;
}

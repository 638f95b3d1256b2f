//! Append streams of old workers: what they are told, and who holds the lock. What a killed leader costs them is a timed test.

use std::time::{Duration, Instant};

use dos_cluster_tests::{
    TestCluster, eventually,
    legacy::{LegacyClient, LegacyStream},
    phase,
};

const COMMIT_WITHIN: Duration = Duration::from_secs(10);
const NAME: &str = "app-w.journal";

async fn open(address: &str, name: &str, offset: u64) -> Result<LegacyStream, String> {
    let client = LegacyClient::in_dir(address, "w").await;
    client.append(name, offset).await
}

/// Opens once the lock is free; answers how long that took.
async fn open_when_free(address: &str, name: &str, offset: u64) -> (LegacyStream, Duration) {
    let began = Instant::now();
    let stream = eventually("the lock is free", Duration::from_secs(15), async || {
        open(address, name, offset).await
    })
    .await;
    (stream, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_freed_by_fin_and_rst_at_once_and_statuses_come_soon() {
    let cluster = TestCluster::start(3).await;
    let [n1, n2, n3] = [0, 1, 2].map(|place| cluster.nodes[place].legacy_address());

    phase("each byte is reported soon, not once a second");
    let mut stream = open(n1, NAME, 0).await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        stream.send(b"0123456789").await;
        slowest = slowest.max(stream.synced(COMMIT_WITHIN).await);
    }
    println!("slowest status {slowest:?}");
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    let mut looker = LegacyClient::in_dir(n2, "w").await;
    assert_eq!(looker.sync(NAME).await, 100, "s of a live file");
    let line = looker.find(NAME).await.unwrap();
    assert_eq!((line.size, line.appending), (100, true));
    assert_eq!(looker.get(NAME, 0, 0).await.unwrap().len(), 100);

    phase("FIN");
    stream.finish(COMMIT_WITHIN).await;
    let (mut stream, waited) = open_when_free(n3, NAME, 100).await;
    assert!(waited < Duration::from_secs(1), "FIN: {waited:?}");
    stream.send(b"x").await;
    stream.synced(COMMIT_WITHIN).await;

    phase("RST");
    stream.reset();
    let (stream, waited) = open_when_free(n1, NAME, 101).await;
    assert!(waited < Duration::from_secs(1), "RST: {waited:?}");

    phase("a takeover ends the old stream before anything more of it lands");
    let mut stream = stream;
    let _ = cluster
        .cli(&["worker", "takeover", "wallaroo/w"])
        .await
        .done();
    stream.send(b"late bytes of the old incarnation").await;
    while stream.status(COMMIT_WITHIN).await.is_some() {}
    for node in [n1, n2, n3] {
        let mut looker = LegacyClient::in_dir(node, "w").await;
        let line = looker.find(NAME).await.unwrap();
        assert_eq!((line.size, line.appending), (101, false), "{node}");
    }

    phase("delete of a live file ends its stream, and frees its name");
    let mut stream = open(n2, NAME, 101).await.unwrap();
    let mut other = LegacyClient::in_dir(n3, "w").await;
    let reply = other.ask(format!("d{NAME}").as_bytes()).await.unwrap();
    assert_eq!(reply, b"ok");
    stream.send(b"into nowhere").await;
    while stream.status(COMMIT_WITHIN).await.is_some() {}
    let stream = open(n1, NAME, 0).await.unwrap();
    stream.finish(COMMIT_WITHIN).await;
    cluster.finish().await;
}

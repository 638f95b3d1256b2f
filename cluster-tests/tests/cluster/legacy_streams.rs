//! Append streams of old workers: what they are told, who holds the lock, and what a killed leader costs them.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use dos_cluster_tests::{
    TestCluster, assert_pattern, eventually,
    legacy::{GatewayProcess, LegacyClient, LegacyStream},
    pattern, phase,
};

const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// A worker waits for 2 s, then connects again. An election takes 1 to 1.2 s here and what the machine, whose few cores are busy with
/// other tests, adds to it: the slowest answer is printed.
const ANSWERED_DURING_ELECTION: Duration = Duration::from_secs(4);
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
    assert!(reply == b"ok" || reply == b"ERROR", "{reply:?}");
    if reply == b"ok" {
        stream.send(b"into nowhere").await;
        while stream.status(COMMIT_WITHIN).await.is_some() {}
        let (stream, _) = open_when_free(n1, NAME, 0).await;
        stream.finish(COMMIT_WITHIN).await;
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_through_a_gateway_outlives_the_leader_and_every_byte_lands_once() {
    let mut cluster = TestCluster::start(3).await;
    let gateway = GatewayProcess::start(&cluster.endpoints()).await;
    let leader = cluster.leader().await;
    let survivors: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let total = 4 << 20;
    let bytes = pattern(7, 0, total);

    phase("stream, and kill the leader in the middle");
    let mut stream = open(&gateway.address, NAME, 0).await.unwrap();
    let mut slowest = Duration::ZERO;
    let mut at_kill = 0;
    for (index, part) in bytes.chunks(64 << 10).enumerate() {
        stream.send(part).await;
        if index == 31 {
            stream.status(COMMIT_WITHIN).await.unwrap();
            at_kill = stream.last.synced;
            cluster.nodes[leader].kill9();
            for place in survivors.iter().chain(&survivors).chain(&survivors) {
                let address = cluster.nodes[*place].legacy_address();
                let mut looker =
                    LegacyClient::patient(address, "w", ANSWERED_DURING_ELECTION).await;
                let line = looker.find(NAME).await.unwrap();
                assert!(line.size >= at_kill, "{line:?} after {at_kill} was synced");
                slowest = slowest.max(looker.slowest);
            }
        }
    }
    println!("{at_kill} synced at the kill; the slowest answer took {slowest:?}");
    let paused = stream.synced(Duration::from_secs(30)).await;
    println!("synced again after {paused:?}");
    stream.finish(COMMIT_WITHIN).await;

    phase("every survivor has every byte once");
    for place in survivors {
        let address = cluster.nodes[place].legacy_address();
        let mut looker = LegacyClient::in_dir(address, "w").await;
        let got = looker.get(NAME, 0, 0).await.unwrap();
        assert_eq!(got.len(), total);
        assert_pattern(7, 0, &got);
    }
    cluster.start_all();
    cluster.ready().await;
    cluster.finish().await;
}

/// Asks one node for listings, parts and locks until `end`; none may be late, or show less than was synced before it was asked.
async fn ask_until(end: Instant, place: usize, address: &str, synced: &AtomicU64) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut round = 0;
    while Instant::now() < end {
        let floor = synced.load(SeqCst);
        let mut looker = LegacyClient::patient(address, "w", ANSWERED_DURING_ELECTION).await;
        let line = looker.find(NAME).await.expect("it is there");
        assert!(line.size >= floor, "ls {} of {floor}", line.size);
        let floor = synced.load(SeqCst);
        let got = looker.get(NAME, 0, 0).await.unwrap();
        assert!(got.len() as u64 >= floor, "get {} of {floor}", got.len());
        assert_pattern(9, 0, &got);
        slowest = slowest.max(looker.slowest);

        let mut opener = LegacyClient::patient(address, "others", ANSWERED_DURING_ELECTION).await;
        let name = format!("n{place}-{round}.journal");
        let reply = opener.ask_in_time(format!("a{name}\t0").as_bytes()).await;
        slowest = slowest.max(opener.slowest);
        let stream = opener.appending(reply, 0).await.unwrap();
        stream.finish(Duration::from_secs(20)).await;
        round += 1;
    }
    assert!(round > 3, "only {round} rounds");
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_appends_are_answered_in_time_while_the_leader_is_killed() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let survivors: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let [one, other] = [0, 1].map(|index| survivors[index]);
    let [here, there] = [one, other].map(|place| cluster.nodes[place].legacy_address().to_owned());
    let synced = AtomicU64::new(0);
    let bytes = pattern(9, 0, 64 << 10);
    let mut stream = open(&here, NAME, 0).await.unwrap();
    stream.send(&bytes[..100]).await;
    stream.synced(COMMIT_WITHIN).await;
    synced.store(100, SeqCst);

    phase("kill the leader while both survivors are asked, and one is written to");
    let end = Instant::now() + Duration::from_secs(5);
    let write = async {
        for part in bytes[100..].chunks(512) {
            stream.send(part).await;
            stream.synced(Duration::from_secs(30)).await;
            synced.store(stream.last.synced, SeqCst);
        }
        stream.finish(COMMIT_WITHIN).await;
    };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(500)).await; // the fault comes in the middle, whenever that is
        cluster.nodes[leader].kill9();
    };
    let ((), (), slow_here, slow_there) = tokio::join!(
        write,
        kill,
        ask_until(end, one, &here, &synced),
        ask_until(end, other, &there, &synced)
    );
    println!("slowest answers: {slow_here:?} and {slow_there:?}");
    cluster.start_all();
    cluster.ready().await;
    cluster.finish().await;
}

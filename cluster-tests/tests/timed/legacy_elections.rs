//! Old workers while the leader is killed: they wait for an answer for two seconds, then connect again; here none has to.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use dos_cluster_tests::{
    ClusterOptions, TestCluster, assert_pattern,
    legacy::{GatewayProcess, LegacyClient, LegacyStream},
    pattern, phase,
};

const COMMIT_WITHIN: Duration = Duration::from_secs(10);
const NAME: &str = "app-w.journal";

async fn open(address: &str) -> LegacyStream {
    let client = LegacyClient::in_dir(address, "w").await;
    client.append(NAME, 0).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_through_a_gateway_outlives_the_leader_and_every_byte_lands_once() {
    let mut cluster = TestCluster::alone(ClusterOptions::new(3)).await;
    let gateway = GatewayProcess::start(&cluster.endpoints()).await;
    let leader = cluster.leader().await;
    let survivors: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let total = 4 << 20;
    let bytes = pattern(7, 0, total);

    phase("stream, and kill the leader in the middle");
    let mut stream = open(&gateway.address).await;
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
                let mut looker = LegacyClient::in_dir(address, "w").await;
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
        let mut looker = LegacyClient::in_dir(address, "w").await;
        let line = looker.find(NAME).await.expect("it is there");
        assert!(line.size >= floor, "ls {} of {floor}", line.size);
        let floor = synced.load(SeqCst);
        let got = looker.get(NAME, 0, 0).await.unwrap();
        assert!(got.len() as u64 >= floor, "get {} of {floor}", got.len());
        assert_pattern(9, 0, &got);
        slowest = slowest.max(looker.slowest);

        let mut opener = LegacyClient::in_dir(address, "others").await;
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
    let mut cluster = TestCluster::alone(ClusterOptions::new(3)).await;
    let leader = cluster.leader().await;
    let survivors: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let [one, other] = [0, 1].map(|index| survivors[index]);
    let [here, there] = [one, other].map(|place| cluster.nodes[place].legacy_address().to_owned());
    let synced = AtomicU64::new(0);
    let bytes = pattern(9, 0, 64 << 10);
    let mut stream = open(&here).await;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Hung,
}

/// A second worker asks for the same file through another gateway, all through the election; how long its slowest answer took.
async fn lock_outlives_the_leader(fault: Fault) -> Duration {
    let mut cluster = TestCluster::alone(ClusterOptions::new(3)).await;
    // What a node that was stopped is asked meanwhile, and what is given up, meets it all at once when it goes on.
    cluster.allow("remotely-reset pending-accept streams reached limit");
    let first = GatewayProcess::start(&cluster.endpoints()).await;
    let second = GatewayProcess::start(&cluster.endpoints()).await;
    let leader = cluster.leader().await;
    let mut stream = open(&first.address).await;
    stream.send(b"0123456789").await;
    stream.synced(COMMIT_WITHIN).await;
    let closed = LegacyClient::in_dir(&first.address, "w").await;
    let closed = closed.append("idle.journal", 0).await.unwrap();
    closed.finish(COMMIT_WITHIN).await;

    phase("the leader goes while the worker is connected");
    match fault {
        Fault::Killed => cluster.nodes[leader].kill9(),
        Fault::Hung => cluster.nodes[leader].pause(),
    }
    stream.send(b"abcdefghij").await;
    let until = Instant::now() + Duration::from_secs(7);
    let mut asked = 0;
    let mut slowest = Duration::ZERO;
    let intrude = async {
        while Instant::now() < until {
            let mut looker = LegacyClient::in_dir(&second.address, "w").await;
            let line = looker.find(NAME).await.unwrap();
            assert!(
                line.appending,
                "{fault:?}: the lock of a live worker is gone: {line:?}"
            );
            let asked_at = Instant::now();
            slowest = slowest.max(looker.slowest);
            let refused = looker.append(NAME, line.size).await;
            slowest = slowest.max(asked_at.elapsed());
            let text = refused.expect_err("two writers of one file");
            assert_eq!(text, format!("ERROR: {NAME} file is locked"), "{fault:?}");
            asked += 1;
        }
    };
    let bystander = async {
        let other = LegacyClient::in_dir(&second.address, "w").await;
        other.append("idle.journal", 0).await
    };
    let ((), other) = tokio::join!(intrude, bystander);
    assert!(asked > 3, "asked {asked} times only");
    other
        .expect("nobody appends to that one")
        .finish(Duration::from_secs(20))
        .await;

    phase("the worker has kept its connection, and every byte lands");
    stream.synced(Duration::from_secs(30)).await;
    stream.finish(COMMIT_WITHIN).await;
    let mut looker = LegacyClient::in_dir(&second.address, "w").await;
    let got = looker.get(NAME, 0, 0).await.unwrap();
    assert_eq!(got, b"0123456789abcdefghij");
    let line = looker.find(NAME).await.unwrap();
    assert!(!line.appending, "{fault:?}: it ended in order: {line:?}");
    match fault {
        Fault::Killed => cluster.start_all(),
        Fault::Hung => cluster.nodes[leader].resume(),
    }
    cluster.ready().await;
    cluster.finish().await;
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_stays_the_live_workers_while_the_leader_is_killed() {
    let slowest = lock_outlives_the_leader(Fault::Killed).await;
    println!("slowest answer: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_stays_the_live_workers_while_the_leader_hangs() {
    let slowest = lock_outlives_the_leader(Fault::Hung).await;
    println!("slowest answer: {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_process_is_killed_is_replaced_before_its_silence_would_tell() {
    let mut cluster = TestCluster::alone(ClusterOptions::new(3)).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let survivor = cluster.nodes[(leader + 1) % 3].legacy_address().to_owned();
        let mut looker = LegacyClient::in_dir(&survivor, "w").await;
        looker.list().await;
        cluster.nodes[leader].kill9();
        let began = Instant::now();
        looker.list().await;
        slowest = slowest.max(began.elapsed());
        cluster.start_all();
        cluster.ready().await;
    }
    println!("answered again within {slowest:?}");
    // Followers that waited would need the election timeout of a second.
    assert!(slowest < Duration::from_millis(700), "{slowest:?}");
    cluster.finish().await;
}

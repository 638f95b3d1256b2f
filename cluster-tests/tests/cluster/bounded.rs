//! What stands still makes nobody grow, and keeps nobody waiting for longer than it said.

use std::time::Duration;

use dos_cluster::pb::{self, journals_client::JournalsClient, read_response};
use dos_cluster_tests::{
    ClusterOptions, Load, LoadOptions, TestCluster, assert_pattern, cli_with_stdin, eventually,
    phase, raw, wait::check,
};
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;
/// Loaded while a follower, and then a reader, stand still.
const LOADED: u64 = 220 * MIB;
/// What the leader may grow by meanwhile, whatever it caches: far less than what it was given.
const GROWTH_MAX: u64 = 96 * MIB;
/// Loaded before, so that its caches are full.
const WARM: u64 = 120 * MIB;
/// A call of two seconds.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2_900);

/// What a node that was stopped is asked meanwhile, and what is given up, meets it all at once when it goes on.
const RESETS: &str = "remotely-reset pending-accept streams reached limit";

/// Waits until `bytes` more are durable; answers the most memory that the leader had meanwhile.
async fn peak(cluster: &TestCluster, leader: usize, load: &Load, bytes: u64) -> u64 {
    let (until, mut peak) = (load.durable() + bytes, 0);
    eventually("the writer goes on", Duration::from_secs(90), async || {
        peak = peak.max(cluster.nodes[leader].resident_bytes());
        let durable = load.durable();
        check(durable >= until, || format!("{durable} of {until}"))
    })
    .await;
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_and_a_reader_that_stand_still_do_not_grow_the_leader() {
    let options = ClusterOptions::that_purges_soon(3).with(&["--state-memory-bytes", "8MiB"]);
    let mut cluster = TestCluster::start_with(options).await;
    cluster.allow(RESETS);
    let fast = LoadOptions {
        piece: 256 << 10,
        ..LoadOptions::default()
    };
    let load = Load::start(&cluster.client(), "job/w/log", fast).await;
    let leader = cluster.leader().await;
    let paused = (leader + 1) % 3;
    let before = peak(&cluster, leader, &load, WARM).await;

    phase("a follower stands still");
    cluster.nodes[paused].pause();
    let with_follower = peak(&cluster, leader, &load, LOADED).await;
    let grown = with_follower.saturating_sub(before) / MIB;
    println!("{} MiB, then {} MiB", before / MIB, with_follower / MIB);
    assert!(
        grown < GROWTH_MAX / MIB,
        "{grown} MiB for a follower that stands still"
    );

    phase("and a reader that asks for all of it and takes nothing");
    let request = pb::ReadRequest {
        journal: Some(raw::journal_ref(load.journal())),
        from: 0,
        to: Some(100 * MIB),
        floor: Some(raw::linearizable()),
    };
    let mut client = JournalsClient::new(raw::channel(cluster.nodes[leader].address()));
    let mut parts = client.read(request).await.unwrap().into_inner();
    let with_reader = peak(&cluster, leader, &load, 10 * MIB).await;
    let grown = with_reader.saturating_sub(before) / MIB;
    println!("then {} MiB", with_reader / MIB);
    assert!(
        grown < GROWTH_MAX / MIB,
        "{grown} MiB for a reader that takes nothing"
    );

    phase("both go on where they were");
    cluster.nodes[paused].resume();
    let (journal, seed) = (load.journal().clone(), load.seed());
    let mut at = 0;
    while let Some(part) = parts.message().await.unwrap() {
        if let Some(read_response::Response::Data(data)) = part.response {
            assert_eq!(data.at, at);
            at += data.data.len() as u64;
            // Every byte of the last MiB, and a sample of the others: the comparison is slow.
            let checked = if at > 99 * MIB { data.data.len() } else { 64 };
            assert_pattern(seed, data.at, &data.data[..checked.min(data.data.len())]);
        }
    }
    assert_eq!(at, 100 * MIB);
    let total = load.stop().await;
    cluster.ready().await;
    cluster.converged().await;
    // Its last bytes, which it was sent once it went on.
    let tail = pb::ReadRequest {
        journal: Some(raw::journal_ref(&journal)),
        from: total - 8 * MIB,
        to: None,
        floor: Some(raw::linearizable()),
    };
    let mut client = JournalsClient::new(raw::channel(cluster.nodes[paused].address()));
    let mut parts = client.read(tail).await.unwrap().into_inner();
    let mut at = total - 8 * MIB;
    while let Some(part) = parts.message().await.unwrap() {
        if let Some(read_response::Response::Data(data)) = part.response {
            assert_eq!(data.at, at);
            assert_pattern(seed, at, &data.data);
            at += data.data.len() as u64;
        }
    }
    assert_eq!(at, total);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_majority_that_stands_still_every_call_answers_in_time() {
    let mut cluster = TestCluster::start(3).await;
    cluster.allow(RESETS);
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    load.advance(MIB).await;
    // Its takeover may be carried out later: it must not be the load's worker.
    let idle = ["journal", "append", "job/idle/log"];
    let _ = cli_with_stdin(&cluster.endpoints(), &idle, b"x")
        .await
        .done();
    let leader = cluster.leader().await;
    let up = cluster.nodes[leader].address().to_owned();

    phase("two of three stand still: their sockets still take what is sent");
    for place in (0..3).filter(|place| *place != leader) {
        cluster.nodes[place].pause();
    }
    let mut calls = JoinSet::new();
    for endpoints in [up.clone(), cluster.endpoints()] {
        for arguments in [
            "journal append job/other/log",
            "journal stat job/w/log",
            "journal read job/w/log",
            "worker takeover job/idle",
            "checkpoint line --job job",
        ] {
            let endpoints = endpoints.clone();
            calls.spawn(async move {
                let words: Vec<_> = arguments.split(' ').collect();
                let words = [&words[..], &["--timeout", "2s", "-o", "json"]].concat();
                (arguments, cli_with_stdin(&endpoints, &words, b"x").await)
            });
        }
    }
    for (arguments, output) in calls.join_all().await {
        assert!(output.took < ANSWERED_WITHIN, "{arguments}: {output:?}");
        assert!([5, 8].contains(&output.code), "{arguments}: {output:?}");
        let said: serde_json::Value = serde_json::from_str(&output.stderr)
            .unwrap_or_else(|error| panic!("{arguments}: {error}: {output:?}"));
        let said = &said["error"];
        assert_eq!(said["exit_code"], output.code, "{output:?}");
        if arguments.starts_with("worker") {
            assert_eq!(said["effect"], "unknown", "{output:?}");
        }
    }
    let output = cli_with_stdin(&up, &["status", "--timeout", "2s"], &[]).await;
    assert!(output.took < ANSWERED_WITHIN, "{output:?}");
    let _ = output.exits_with(5, &["no quorum"]);

    phase("awake again, what waited goes on");
    for place in (0..3).filter(|place| *place != leader) {
        cluster.nodes[place].resume();
    }
    load.advance(MIB).await;
    load.stop().await;
    cluster.ready().await;
    cluster.converged().await;
    cluster.finish().await;
}

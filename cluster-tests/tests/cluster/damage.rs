//! A disk that lies, a disk that fails: nothing wrong is served, and the others go on.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{stop_and_verify, verify_at};
use dos_cluster_tests::{
    ClusterOptions, Load, LoadOptions, TestCluster, TestNode, assert_pattern, cli,
    cluster::SETTLE_WITHIN, eventually, pattern, phase, raw, wait::check,
};

const MIB: u64 = 1 << 20;

/// About 15 MB/s: the log is purged soon.
fn heavy() -> LoadOptions {
    LoadOptions {
        piece: 64 << 10,
        ..LoadOptions::default()
    }
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
}

/// Flips a bit of what the seed's writer wrote at an offset, in every table or blob file of a stopped node's state that holds it; answers
/// how many do.
fn flip(node: &TestNode, seed: u64, offset: u64) -> usize {
    let needle = pattern(seed, offset, 32);
    let mut tables = Vec::new();
    for extension in ["sst", "blob"] {
        files(&node.data_dir.join("state"), extension, &mut tables);
    }
    let mut flipped = 0;
    for table in tables {
        let bytes = std::fs::read(&table).unwrap();
        let Some(at) = bytes.windows(32).position(|window| window == needle) else {
            continue;
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&table)
            .unwrap();
        file.write_all_at(&[bytes[at] ^ 4], at as u64).unwrap();
        flipped += 1;
    }
    flipped
}

fn damaged_records(metrics: &str) -> u64 {
    let line = metrics
        .lines()
        .find(|line| line.starts_with("dos_damaged_records"));
    let value = line.and_then(|line| line.rsplit_once(' ')).unwrap().1;
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_flips_in_the_state_is_never_served_and_a_restore_takes_it_elsewhere() {
    let mut cluster = TestCluster::start_with(ClusterOptions::that_purges_soon(3)).await;
    let load = Load::start(&cluster.client(), "job/w/log", heavy()).await;
    let victim = cluster.follower().await;
    eventually("the log is purged", Duration::from_secs(60), async || {
        let status = cluster.status(victim).await?;
        check(status.purged_index > 0, || format!("{status:?}"))
    })
    .await;
    eventually("24 MiB are written", Duration::from_secs(60), async || {
        let durable = load.durable();
        check(durable >= 24 * MIB, || durable.to_string())
    })
    .await;
    let (journal, seed) = (load.journal().clone(), load.seed());
    let total = load.stop().await;
    cluster.converged().await;

    phase("a bit of the journal flips while a follower is stopped");
    let address = cluster.nodes[victim].address().to_owned();
    cluster.nodes[victim].terminate().await;
    // In each of the first three ranges that a restore asks for: one of them it asks this node for first.
    for range in 0..3 {
        let flipped = flip(&cluster.nodes[victim], seed, range * (4 << 20) + 300_000);
        assert!(flipped > 0, "no table holds the byte in range {range}");
    }
    for words in ["a read met damaged data", "is damaged"] {
        cluster.allow(words);
    }
    cluster.nodes[victim].start();
    cluster.ready().await;

    phase("a read there says so, and gives no wrong byte");
    let refused = raw::read(&address, &journal, raw::stale())
        .await
        .unwrap_err();
    assert_eq!(refused.code, tonic::Code::DataLoss, "{refused:?}");
    assert!(refused.message.contains("job/w/log"), "{refused:?}");
    let node = &cluster.nodes[victim];
    node.logs(&["ERROR", "damaged", "job/w/log"], SETTLE_WITHIN)
        .await;
    let (_, metrics) = node.get("/metrics").await.unwrap();
    assert!(damaged_records(&metrics) >= 1, "{metrics}");

    phase("the command line, told of this node alone, finds the rest of the bytes elsewhere");
    let read = cli(&address, &["journal", "read", "job/w/log", "--stale"])
        .await
        .done();
    let right = pattern(seed, 0, usize::try_from(total).unwrap());
    assert!(
        read.stdout == String::from_utf8_lossy(&right),
        "{}",
        read.stderr
    );

    phase("a restore takes the range from another member");
    let to = cluster.dir().join("restored");
    let before = cluster.nodes[victim].log_end();
    let arguments = [
        "restore",
        "--job",
        "job",
        "--worker",
        "w",
        "--to",
        to.to_str().unwrap(),
    ];
    let report = cluster
        .cli(&[&arguments[..], &["-o", "json"]].concat())
        .await
        .done()
        .json();
    assert_eq!(report["bytes"], total, "{report}");
    let bytes = std::fs::read(to.join("log")).unwrap();
    assert_pattern(seed, 0, &bytes);
    assert_eq!(bytes.len() as u64, total);

    let asked = cluster.nodes[victim].line_since(before, &["a read met damaged data"]);
    assert!(asked.is_some(), "it was asked for a damaged range");

    phase("the others have it all");
    for place in (0..3).filter(|place| *place != victim) {
        assert_eq!(
            verify_at(&cluster, place, &journal, seed, total).await,
            total
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_write_fails_stops_itself_and_the_others_go_on() {
    let mut cluster = TestCluster::start_with(ClusterOptions::that_purges_soon(3)).await;
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    load.advance(MIB).await;
    let victim = cluster.follower().await;
    cluster.nodes[victim].terminate().await;
    cluster.nodes[victim].start_with_failing_writes();
    cluster.ready().await;
    for words in [
        "this node stops writing",
        "this node stops itself",
        "Notification::StorageError",
        "error: ",
    ] {
        cluster.allow(words);
    }

    phase("its disk takes no more");
    let before = cluster.nodes[victim].log_end();
    cluster.nodes[victim].limit_file_size(MIB);
    let durable = load.durable();
    let node = &mut cluster.nodes[victim];
    node.logs_since(before, &["ERROR", "this node stops itself"], SETTLE_WITHIN)
        .await;
    assert_eq!(node.ended().await, 1, "its exit code");

    phase("the load goes on without it");
    load.advance(2 * MIB).await;
    assert!(load.durable() > durable);

    phase("started again with a disk that takes writes, it has it all");
    cluster.nodes[victim].start();
    cluster.ready().await;
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acked_bytes_survive_kill_9_of_all_nodes_once_their_logs_were_purged() {
    let mut cluster = TestCluster::start_with(ClusterOptions::that_purges_soon(3)).await;
    let load = Load::start(&cluster.client(), "job/w/log", heavy()).await;
    eventually("every log is purged", Duration::from_secs(60), async || {
        for place in 0..3 {
            let status = cluster.status(place).await?;
            check(status.purged_index > 0, || format!("{status:?}"))?;
        }
        Ok(())
    })
    .await;

    phase("kill all nodes mid-stream");
    cluster.kill9_all();
    let durable = load.durable();
    cluster.start_all();
    cluster.ready().await;
    for place in 0..3 {
        verify_at(&cluster, place, load.journal(), load.seed(), durable).await;
        let status = cluster.status(place).await.unwrap();
        assert!(status.purged_index > 0, "{status:?}");
    }

    phase("the writer goes on by itself");
    load.advance(MIB).await;
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

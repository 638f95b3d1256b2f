//! The failure that the original's README tells: a checkpoint is complete at one worker and lost at another, and a restore mixes the
//! two. Told through the legacy port: here the line stays where both are.

use std::{path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use dos_cluster::codec::{
    evlog::{self, Event},
    ops::{self, Op, OpRecord},
};
use dos_cluster_tests::{
    TestCluster,
    legacy::{LegacyClient, LegacyStream},
    phase,
};

const DURABLE_WITHIN: Duration = Duration::from_secs(20);
/// Files that a worker needs to start, beside those that the test writes itself.
const OTHERS: [&str; 5] = [
    "local-topology",
    "workers",
    "tcp-control",
    "tcp-data",
    "connection-addresses",
];

/// A worker as its two connections show it.
struct Worker {
    name: &'static str,
    log: LegacyStream,
    ops: LegacyStream,
}

impl Worker {
    /// Connects, at the node's legacy port.
    async fn start(address: &str, name: &'static str) -> Self {
        let open = async |file: String, at: u64| {
            let client = LegacyClient::in_dir(address, name).await;
            client.append(&file, at).await.unwrap()
        };
        let mut client = LegacyClient::in_dir(address, name).await;
        let mut sizes = Vec::new();
        for file in [log_of(name), ops_of(name)] {
            sizes.push(client.find(&file).await.map_or(0, |line| line.size));
        }
        Self {
            name,
            log: open(log_of(name), sizes[0]).await,
            ops: open(ops_of(name), sizes[1]).await,
        }
    }

    /// The data of a checkpoint and its id: what the event log gets.
    async fn write_log(&mut self, bytes: &[u8]) {
        self.log.send(bytes).await;
        self.log.synced(DURABLE_WITHIN).await;
    }

    /// What the ops journal gets.
    async fn write_ops(&mut self, bytes: &[u8]) {
        self.ops.send(bytes).await;
        self.ops.synced(DURABLE_WITHIN).await;
    }
}

fn ops_of(worker: &str) -> String {
    format!("App-{worker}.journal")
}

fn log_of(worker: &str) -> String {
    format!("App-{worker}.evlog.journal")
}

fn write(worker: &str, suffix: &str, data: &[u8]) -> Vec<u8> {
    let op = Op::WriteV {
        offset: 0,
        path: Bytes::from(format!("/tmp/App-{worker}.{suffix}")),
        data: Bytes::copy_from_slice(data),
    };
    let mut out = BytesMut::new();
    ops::encode(&OpRecord { tag: 1, op }, &mut out).unwrap();
    out.to_vec()
}

fn ids(worker: &str, current: u64, complete: u64) -> Vec<u8> {
    let entry = [current, complete, 0].map(u64::to_be_bytes).concat();
    write(worker, "checkpoint_ids", &entry)
}

/// Data, then the checkpoint's id.
fn events(number: u64) -> Vec<u8> {
    let data = Event::Data {
        last: true,
        resilient_id: 7,
        payload: Bytes::from(vec![b'x'; 500]),
    };
    let mut out = BytesMut::new();
    for event in [data, Event::CheckpointId(number)] {
        evlog::encode(&event, &mut out).unwrap();
    }
    out.to_vec()
}

/// The line, and the workers that hold it back.
async fn line(cluster: &TestCluster) -> (String, Vec<String>) {
    let arguments = ["checkpoint", "line", "--job", "wallaroo", "-o", "json"];
    let told = cluster.cli(&arguments).await.done().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let workers = told["workers"].as_array().unwrap().iter();
    let behind = workers.filter(|worker| !worker["behind_since_unix_ms"].is_null());
    let behind = behind.map(|worker| worker["worker"].as_str().unwrap().to_owned());
    let line = told["line"].as_str().unwrap_or("none").to_owned();
    (line, behind.collect())
}

/// The last entry of the restored `.checkpoint_ids`, and where the event log ends.
fn restored(to: &Path, worker: &str) -> (u64, Vec<u8>) {
    let read = |suffix: &str| std::fs::read(to.join(format!("App-{worker}.{suffix}"))).unwrap();
    let ids = read("checkpoint_ids");
    let complete = ids[ids.len() - 16..ids.len() - 8].try_into().unwrap();
    (u64::from_be_bytes(complete), read("evlog"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_one_worker_lost_is_not_the_line_and_both_are_restored_before_it() {
    let cluster = TestCluster::start(3).await;
    let address = |node: usize| cluster.nodes[node].legacy_address().to_owned();

    phase("two workers, at two nodes, complete checkpoint 42");
    let mut a = Worker::start(&address(0), "a").await;
    let mut b = Worker::start(&address(1), "b").await;
    for worker in [&mut a, &mut b] {
        for suffix in OTHERS {
            let record = write(worker.name, suffix, b"h\n1\n");
            worker.write_ops(&record).await;
        }
        worker.write_log(&events(42)).await;
        let entry = ids(worker.name, 42, 42);
        worker.write_ops(&entry).await;
    }
    assert_eq!(line(&cluster).await, ("0:42".to_owned(), vec![]));

    phase("43 is complete everywhere, as the workers see it; B's event log has not arrived whole");
    let next = events(43);
    a.write_log(&next).await;
    let (arrived, lost) = next.split_at(next.len() - 4);
    b.write_log(arrived).await;
    for worker in [&mut a, &mut b] {
        let entry = ids(worker.name, 43, 43);
        worker.write_ops(&entry).await;
    }
    let held = ("0:42".to_owned(), vec!["wallaroo/b".to_owned()]);
    assert_eq!(line(&cluster).await, held);

    phase("both workers die, and are restored at the line");
    for worker in [a, b] {
        worker.log.reset();
        worker.ops.reset();
    }
    let to = cluster.dir().join("restored");
    let arguments = |worker| {
        let to = to.to_str().unwrap();
        let at = ["--to", to, "--at", "line"];
        [
            &["restore", "--job", "wallaroo", "--worker", worker][..],
            &at,
        ]
        .concat()
    };
    for worker in ["a", "b"] {
        let _ = cluster.cli(&arguments(worker)).await.done();
        assert_eq!(restored(&to, worker), (42, events(42)), "{worker}");
    }

    phase(
        "they go on where the restored files end, and 43 becomes the line, for which somebody waits",
    );
    let awaited = ["checkpoint", "await", "--job", "wallaroo", "43"];
    let awaited = cluster.cli(&awaited);
    let mut awaited = Box::pin(awaited);
    let early = tokio::time::timeout(Duration::from_secs(1), &mut awaited).await;
    assert!(early.is_err(), "{early:?}");
    for (node, name) in [(2, "a"), (0, "b")] {
        let mut worker = Worker::start(&address(node), name).await;
        let mut log = BytesMut::new();
        evlog::encode(&Event::RestartMarker, &mut log).unwrap();
        worker.write_log(&log).await;
        let (most, rest) = next.split_at(next.len() - lost.len());
        worker.write_log(most).await;
        let entry = ids(name, 43, 43);
        worker.write_ops(&entry).await;
        assert_eq!(
            line(&cluster).await.0,
            "0:42",
            "{name}'s last bytes are missing"
        );
        worker.write_log(rest).await;
        worker.log.finish(DURABLE_WITHIN).await;
        worker.ops.finish(DURABLE_WITHIN).await;
    }
    assert_eq!(line(&cluster).await, ("0:43".to_owned(), vec![]));
    let told = awaited.await.done().stdout;
    assert!(told.contains("0:43"), "{told:?}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_follows_an_event_log_that_is_rotated_and_every_part_is_restored() {
    let cluster = TestCluster::start(3).await;
    let name = "r";
    let addresses: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| node.legacy_address())
        .collect();
    let open = async |node: usize, file: &str| {
        let client = LegacyClient::in_dir(addresses[node], name).await;
        client.append(file, 0).await.unwrap()
    };
    let part = |start: usize| format!("App-{name}-{start:016x}.evlog.journal");
    let first = events(1);
    let log = open(0, &part(0)).await;
    let ops = open(1, &ops_of(name)).await;
    let mut worker = Worker { name, log, ops };
    for suffix in OTHERS {
        let record = write(name, suffix, b"h\n1\n");
        worker.write_ops(&record).await;
    }
    worker.write_log(&first).await;
    worker.write_ops(&ids(name, 1, 1)).await;
    assert_eq!(line(&cluster).await.0, "0:1");

    phase(
        "the log is rotated: its next part begins where the first ends, on a connection of its own",
    );
    let next = open(2, &part(first.len())).await;
    let ended = std::mem::replace(&mut worker.log, next);
    ended.finish(DURABLE_WITHIN).await;
    worker.write_ops(&ids(name, 2, 2)).await;
    assert_eq!(line(&cluster).await.0, "0:1", "its log has not said so yet");
    worker.write_log(&events(2)).await;
    assert_eq!(line(&cluster).await.0, "0:2");
    worker.log.reset();
    worker.ops.reset();

    phase("restored, part for part");
    let to = cluster.dir().join("restored");
    let arguments = [
        "restore", "--job", "wallaroo", "--worker", name, "--at", "line", "--to",
    ];
    let arguments = [&arguments[..], &[to.to_str().unwrap()]].concat();
    let _ = cluster.cli(&arguments).await.done();
    for (start, bytes) in [(0, events(1)), (first.len(), events(2))] {
        let file = part(start).replace(".evlog.journal", ".evlog");
        assert_eq!(std::fs::read(to.join(&file)).unwrap(), bytes, "{file}");
    }
    cluster.finish().await;
}

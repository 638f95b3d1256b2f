//! Restore of a legacy worker with one command: the files that it starts from, and journals that it can go on with.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use dos_cluster::{
    client::{AppendOptions, AppendStream, Floor},
    codec::{
        evlog::{self, Event},
        ops::{self, Op, OpRecord},
    },
    domain::{Epoch, JournalKind},
};
use dos_cluster_tests::{CliOutput, TestCluster, legacy::LegacyClient, phase};

use crate::journal;

const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Application and worker.
pub(crate) const P: &str = "Multi Partition Detector-worker2";
const OPS: &str = "wallaroo/worker2/Multi Partition Detector-worker2.journal";
const LOG: &str = "wallaroo/worker2/Multi Partition Detector-worker2.evlog.journal";

pub(crate) fn write(offset: u64, suffix: &str, data: &[u8]) -> Vec<u8> {
    write_to(&format!("/tmp/{P}.{suffix}"), offset, data)
}

pub(crate) fn write_to(path: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    let op = Op::WriteV {
        offset,
        path: Bytes::copy_from_slice(path.as_bytes()),
        data: Bytes::copy_from_slice(data),
    };
    let mut out = BytesMut::new();
    ops::encode(&OpRecord { tag: 1, op }, &mut out).unwrap();
    out.to_vec()
}

/// What a worker writes when it starts.
pub(crate) fn started() -> Vec<u8> {
    let files = [
        write(0, "local-topology", b"topology"),
        write(0, "workers", b"initializer\nworker2\n"),
        write(0, "tcp-control", b"10.0.0.1\n3131\n"),
        write(0, "tcp-data", b"10.0.0.1\n3132\n"),
        write(0, "connection-addresses", b"connections"),
    ];
    files.concat()
}

pub(crate) fn ids(number: u64) -> Vec<u8> {
    [number, number, 0].map(u64::to_be_bytes).concat()
}

pub(crate) fn events(number: u64) -> Vec<u8> {
    let data = Event::Data {
        last: true,
        resilient_id: 7,
        payload: Bytes::from(vec![b'x'; 3000]),
    };
    let mut out = BytesMut::new();
    for event in [data, Event::CheckpointId(number)] {
        evlog::encode(&event, &mut out).unwrap();
    }
    out.to_vec()
}

pub(crate) async fn append(cluster: &TestCluster, journal: &str, kind: &str, bytes: &[u8]) {
    let file = cluster.dir().join("to-append");
    std::fs::write(&file, bytes).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["journal", "append", journal, file, "--kind", kind];
    let _ = cluster.cli(&arguments).await.done();
}

pub(crate) async fn restore(cluster: &TestCluster, to: &Path, more: &[&str]) -> CliOutput {
    let to = to.to_str().unwrap();
    let arguments = [
        "restore", "--job", "wallaroo", "--worker", "worker2", "--to", to, "-o", "json",
    ];
    cluster.cli(&[&arguments[..], more].concat()).await
}

/// A restarted worker exits if the cluster's journal is longer than its file.
async fn assert_resumes(cluster: &TestCluster, to: &Path) {
    let arguments = ["journal", "list", "wallaroo/worker2", "-o", "json"];
    let listed = cluster.cli(&arguments).await.done().json();
    let journals = listed["journals"].as_array().unwrap();
    assert_eq!(journals.len(), 2, "{listed}");
    for journal in journals {
        let name = journal["journal"].as_str().unwrap();
        let name = name.strip_prefix("wallaroo/worker2/").unwrap();
        let local = std::fs::metadata(to.join(name)).unwrap().len();
        assert_eq!(journal["tail"], local, "{name}: {listed}");
    }
}

/// The files of the worker, by what comes behind their prefix; nothing else but `others` may be there.
pub(crate) fn files(to: &Path, others: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(to).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.strip_prefix(&format!("{P}.")) {
            Some(suffix) => {
                let bytes = std::fs::read(to.join(&name)).unwrap();
                files.insert(suffix.to_owned(), bytes);
            }
            None => assert!(others.contains(&name.as_str()), "{name}"),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_worker_is_restored_by_one_command_and_nothing_is_left_to_do_by_hand() {
    let cluster = TestCluster::start(3).await;
    let first_ops = [started(), write(0, "checkpoint_ids", &ids(1))].concat();
    let second_ops = write(24, "checkpoint_ids", &ids(2));
    let torn_event = &events(3)[..1000];
    append(&cluster, OPS, "ops", &first_ops).await;
    append(&cluster, LOG, "raw", &events(1)).await;
    append(
        &cluster,
        LOG,
        "raw",
        &[events(2), torn_event.to_vec()].concat(),
    )
    .await;
    append(&cluster, OPS, "ops", &second_ops).await;

    phase("the worker died in the middle of a record");
    let (client, name) = (cluster.client(), journal(OPS));
    let options = AppendOptions::of(&client);
    let stream = AppendStream::open(&client, &name, JournalKind::Ops, Epoch(1), None, options);
    let mut stream = stream.await.unwrap();
    let torn_op = write(48, "checkpoint_ids", &ids(3));
    let torn_op = Bytes::from(torn_op).slice(..50);
    stream.append(torn_op).await.unwrap();
    stream.close().await.unwrap();

    phase("its checkpoints are known, though it never told of any");
    let arguments = ["checkpoint", "list", "wallaroo/worker2", "-o", "json"];
    let listed = cluster.cli(&arguments).await.done().json();
    let known = listed["checkpoints"].as_array().unwrap().iter();
    let known: Vec<_> = known
        .map(|row| row["checkpoint"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, ["0:1", "0:2"]);

    phase("a dry run shows what would be done, and does nothing");
    let shared = cluster.dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("neighbour"), "theirs").unwrap();
    let plan = restore(&cluster, &shared, &["--at", "line", "--dry-run"]).await;
    let plan = plan.done().json();
    let (log_end, ops_end) = (2 * events(1).len(), first_ops.len() + second_ops.len());
    assert_eq!(
        (&plan["legacy_prefix"], &plan["epoch"], &plan["checkpoint"]),
        (&P.into(), &1.into(), &"0:2".into()),
        "{plan}"
    );
    assert_eq!(plan["journals"][0]["cut_at"], log_end, "{plan}");
    assert_eq!(plan["journals"][1]["cut_at"], ops_end, "{plan}");
    assert!(files(&shared, &["neighbour"]).is_empty());

    phase("everything durable comes back, without what is torn, here and in the cluster");
    let old = LegacyClient::in_dir(cluster.nodes[1].legacy_address(), "worker2").await;
    let torn_end = ops_end as u64 + 50;
    let mut old = old.append(&format!("{P}.journal"), torn_end).await.unwrap();
    let restored = restore(&cluster, &shared, &[]).await.done();
    let report = restored.json();
    let cut = serde_json::json!([
        {"journal": format!("{P}.evlog.journal"), "at": log_end, "bytes": torn_event.len()},
        {"journal": format!("{P}.journal"), "at": ops_end, "bytes": 50},
    ]);
    assert_eq!(report["legacy"]["cut"], cut, "{report}");
    assert_eq!(report["legacy"]["rolls_back_to"], "0:2", "{report}");
    assert!(
        restored.stderr.contains("lost 50 bytes behind that"),
        "{restored:?}"
    );
    phase("the old incarnation, believed dead, is cut off, and nothing more of it lands");
    old.send(b"late bytes of the old incarnation").await;
    while old.status(CLOSED_WITHIN).await.is_some() {}
    assert_resumes(&cluster, &shared).await;
    let log = [events(1), events(2)].concat();
    let expected = [
        ("checkpoint_ids", [ids(1), ids(2)].concat()),
        ("connection-addresses", b"connections".to_vec()),
        ("evlog", log.clone()),
        ("evlog.journal", log),
        ("journal", [first_ops.clone(), second_ops].concat()),
        ("local-keys", Vec::new()),
        ("local-topology", b"topology".to_vec()),
        ("tcp-control", b"10.0.0.1\n3131\n".to_vec()),
        ("tcp-data", b"10.0.0.1\n3132\n".to_vec()),
        ("workers", b"initializer\nworker2\n".to_vec()),
    ];
    let expected = expected.map(|(suffix, bytes)| (suffix.to_owned(), bytes));
    assert_eq!(files(&shared, &["neighbour"]), expected.into());

    phase("files of before are not replaced without leave, and nobody is fenced for it");
    let refused = restore(&cluster, &shared, &[]).await;
    let _ = refused.exits_with(1, &["--force", P]);

    phase("an earlier checkpoint comes back elsewhere, where the worker is reached now");
    let moved = cluster.dir().join("moved");
    let addresses = ["--control", "10.0.0.7:3131", "--data", "10.0.0.7:3132"];
    let report = restore(&cluster, &moved, &[&addresses[..], &["--at", "1"]].concat()).await;
    let report = report.done().json();
    assert_eq!(
        (&report["epoch"], &report["checkpoint"]),
        (&3.into(), &"0:1".into()),
        "{report}"
    );
    assert_resumes(&cluster, &moved).await;
    let found = files(&moved, &[]);
    assert_eq!(found["evlog"], events(1));
    assert_eq!(found["journal"], first_ops);
    assert_eq!(found["checkpoint_ids"], ids(1));
    assert_eq!(found["tcp-control"], b"10.0.0.7\n3131\n");
    assert_eq!(found["tcp-data"], b"10.0.0.7\n3132\n");
    let known = client.endpoints(None, Some(&name.owner), Floor::Linearizable);
    let known = known.await.unwrap().endpoints;
    let data = known[&name.owner].addresses.get("data");
    assert_eq!(data, Some("10.0.0.7:3132"));

    phase("the line is there, and what is said of the wrong kind of worker helps");
    let line = cluster.dir().join("line");
    let report = restore(&cluster, &line, &["--at", "line"])
        .await
        .done()
        .json();
    assert_eq!(report["checkpoint"], "0:1", "{report}");
    assert_resumes(&cluster, &line).await;
    let map = restore(&cluster, &line, &["--map", "/tmp=old", "--force"]).await;
    let _ = map.exits_with(4, &["legacy worker", "path rules"]);
    cluster.finish().await;
}

//! Restore: what is replayed, what is refused, and that a directory appears whole or not at all.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use dos_cluster::{
    client::{AppendOptions, AppendStream},
    codec::ops::{Op, OpRecord, encode},
    domain::{Epoch, JournalKind},
};
use dos_cluster_tests::{CliOutput, TestCluster, cli, pattern, phase, raw};

use crate::journal;

fn record(op: Op) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(&OpRecord { tag: 3, op }, &mut bytes).unwrap();
    bytes.to_vec()
}

fn write(path: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    let (path, data) = (
        Bytes::copy_from_slice(path.as_bytes()),
        Bytes::copy_from_slice(data),
    );
    record(Op::WriteV { offset, path, data })
}

fn set_length(path: &str, length: u64) -> Vec<u8> {
    let path = Bytes::copy_from_slice(path.as_bytes());
    record(Op::SetLength { path, length })
}

/// Appends an `ops` journal through the command line.
async fn append(cluster: &TestCluster, journal: &str, bytes: &[u8]) {
    let file = cluster.dir().join("to-append");
    std::fs::write(&file, bytes).unwrap();
    let file = file.to_str().unwrap();
    let output = cluster
        .cli(&["journal", "append", journal, file, "--kind", "ops"])
        .await;
    assert_eq!(output.done().stdout, format!("{}\n", bytes.len()));
}

async fn restore(cluster: &TestCluster, worker: &str, to: &Path, more: &[&str]) -> CliOutput {
    let to = to.to_str().unwrap();
    let arguments = [
        "restore", "--job", "job", "--worker", worker, "--to", to, "-o", "json",
    ];
    cluster.cli(&[&arguments[..], more].concat()).await
}

async fn epoch(cluster: &TestCluster, worker: &str) -> u64 {
    let listed = cluster
        .cli(&["worker", "list", "job", "-o", "json"])
        .await
        .done()
        .json();
    let rows = listed["workers"].as_array().unwrap().clone();
    let row = rows
        .into_iter()
        .find(|row| row["worker"] == format!("job/{worker}"));
    row.unwrap()["epoch"].as_u64().unwrap()
}

/// What lies beside a directory because of a restore into it.
fn beside(dir: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}.", dir.file_name().unwrap().to_str().unwrap());
    let entries = std::fs::read_dir(dir.parent().unwrap()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&prefix)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ops_are_replayed_inside_the_directory_only_and_a_torn_record_is_cut() {
    let cluster = TestCluster::start(3).await;
    let data = pattern(5, 0, 300_000);
    let outside = cluster.dir().join("outside/f");
    let outside = outside.to_str().unwrap();
    let whole = [
        set_length("state/grows", 10),
        write("state/data", 7, &data),
        write("gone", 0, b"x"),
        record(Op::Remove {
            path: Bytes::from_static(b"gone"),
        }),
        write(outside, 3, b"rebased"),
    ]
    .concat();
    let torn = &write("state/data", 0, b"never whole")[..20];
    append(&cluster, "job/w1/w1.journal", &whole).await;

    phase("the command line appends whole records only; a worker that dies leaves a part of one");
    let half = cluster.dir().join("half");
    std::fs::write(&half, torn).unwrap();
    let half = half.to_str().unwrap();
    let arguments = ["journal", "append", "job/w1/w1.journal", half];
    let of_ops = [&arguments[..], &["--kind", "ops"]].concat();
    let refused = cluster.cli(&of_ops).await;
    let _ = refused.exits_with(4, &["whole records", "20 of"]);
    let _ = cluster
        .cli(&arguments)
        .await
        .exits_with(4, &["ops journal"]);
    let (client, log) = (cluster.client(), journal("job/w1/w1.journal"));
    let options = AppendOptions::of(&client);
    let stream = AppendStream::open(&client, &log, JournalKind::Ops, Epoch(1), None, options);
    let mut stream = stream.await.unwrap();
    stream.append(Bytes::copy_from_slice(torn)).await.unwrap();
    let written = stream.close().await.unwrap();
    assert_eq!(written.durable.0, whole.len() as u64 + 20);
    let escape = [
        write("../escaped", 0, b"x"),
        write("a/../../escaped", 0, b"x"),
        write("kept", 0, b"y"),
    ];
    append(&cluster, "job/w2/w2.journal", &escape.concat()).await;

    phase("a directory that is not empty is refused before anybody is fenced");
    let to = cluster.dir().join("restored");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("mine"), "mine").unwrap();
    let refused = restore(&cluster, "w1", &to, &[]).await;
    let refused = refused.exits_with(1, &[to.to_str().unwrap(), "it is not empty", "--force"]);
    assert_eq!(refused.stdout, "");
    assert_eq!(epoch(&cluster, "w1").await, 1);
    assert_eq!(std::fs::read(to.join("mine")).unwrap(), b"mine");

    phase(
        "with --force its content is replaced; a path outside is refused by name, the torn record cut",
    );
    let forced = restore(&cluster, "w1", &to, &["--force"]).await;
    let forced = forced.exits_with(1, &["1 of its paths was refused", outside, "--map OLD=NEW"]);
    let report = forced.json();
    assert_eq!(report["refused"][0]["path"], outside, "{report}");
    let at = whole.len() as u64;
    let cut = serde_json::json!([{"journal": "w1.journal", "at": at, "bytes": 20, "cut": true}]);
    assert_eq!(report["torn"], cut, "{report}");
    let note = "the last record of journal w1.journal, 20 bytes at";
    assert!(forced.stderr.contains(note), "{forced:?}");
    assert!(!to.join("mine").exists());
    assert!(!Path::new(outside).exists());

    phase("with --map the same path leads into the directory");
    let mapped = cluster.dir().join("mapped");
    let rule = format!("{}=old", Path::new(outside).parent().unwrap().display());
    let report = restore(&cluster, "w1", &mapped, &["--map", &rule])
        .await
        .done()
        .json();
    assert_eq!(
        (&report["refused"], &report["torn"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(
        (&report["files"], &report["journals"][0]["records"]),
        (&3.into(), &5.into()),
        "{report}"
    );
    assert_eq!(
        std::fs::read(mapped.join("old/f")).unwrap(),
        b"\0\0\0rebased"
    );
    assert_eq!(std::fs::read(mapped.join("state/grows")).unwrap(), [0; 10]);
    let found = std::fs::read(mapped.join("state/data")).unwrap();
    assert!(
        found[..7] == [0; 7] && found[7..] == data,
        "state/data is not what was written"
    );
    assert!(!mapped.join("gone").exists());

    phase("the journal's own file is byte for byte what every node holds");
    let file = std::fs::read(mapped.join("w1.journal")).unwrap();
    assert!(
        file == whole,
        "{} bytes, {} were whole",
        file.len(),
        whole.len()
    );
    let name = journal("job/w1/w1.journal");
    for node in &cluster.nodes {
        let held = raw::read(node.address(), &name, raw::linearizable()).await;
        assert!(held.unwrap() == file, "{}", node.name);
    }

    phase("no path climbs out of the directory");
    let inside = cluster.dir().join("deep/inside");
    let climbed = restore(&cluster, "w2", &inside, &[]).await;
    let report = climbed
        .exits_with(1, &["2 of its paths were refused", "../escaped"])
        .json();
    assert_eq!(report["refused"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(std::fs::read(inside.join("kept")).unwrap(), b"y");
    for parent in [inside.parent().unwrap(), cluster.dir()] {
        assert!(!parent.join("escaped").exists(), "{}", parent.display());
    }
    for dir in [&to, &mapped, &inside] {
        assert_eq!(
            beside(dir),
            [""; 0].map(PathBuf::from),
            "left beside {}",
            dir.display()
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_no_directory_and_can_be_repeated() {
    let cluster = TestCluster::start(3).await;
    let data = pattern(6, 0, 1 << 20);
    let whole: Vec<u8> = (0..24)
        .flat_map(|part| write("state/data", part << 20, &data))
        .collect();
    append(&cluster, "job/w/w.journal", &whole).await;

    phase("kill -9 of the restore while its staging directory is there");
    let to = cluster.dir().join("restored");
    let mut command = cli::command();
    command
        .env("DOS_CLUSTER_ENDPOINTS", cluster.endpoints())
        .args(["restore", "--job", "job", "--worker", "w", "--to"])
        .arg(&to)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while beside(&to).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "it begins");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        status.code(),
        None,
        "it was killed before its end: {status}"
    );
    assert!(!to.exists());
    let left = beside(&to);
    assert_eq!(left, [cluster.dir().join("restored.restoring-2")]);

    phase("the same again succeeds, and clears up behind the first");
    let report = restore(&cluster, "w", &to, &[]).await.done().json();
    assert_eq!(
        (&report["epoch"], &report["files"]),
        (&3.into(), &1.into()),
        "{report}"
    );
    assert_eq!(beside(&to), [""; 0].map(PathBuf::from));
    let found = std::fs::read(to.join("state/data")).unwrap();
    assert!(found == data.repeat(24), "{} bytes", found.len());
    assert!(std::fs::read(to.join("w.journal")).unwrap() == whole);
    cluster.finish().await;
}

//! Restores of workers that speak the legacy protocol.

mod given;
mod plan;
mod refused;

use std::{collections::BTreeMap, path::Path};

use bytes::{Bytes, BytesMut};

use crate::client::{
    AppendOptions, AppendStream, Client, ClientError, ErrorKind, Floor,
    restore::{RestoreOptions, RestorePhase, RestoreProgress, RestoreReport},
    testing::{FakeCluster, worker},
};
use crate::{
    codec::{
        evlog::{self, Event},
        ops::{self, Op, OpRecord},
    },
    domain::{
        Addresses, CheckpointId, Epoch, JournalKind, JournalRef, RestorePoint, legacy::kind_by_name,
    },
};

/// Application and worker.
const P: &str = "word count-worker";

fn quiet(_: RestoreProgress) {}

fn journal(name: &str) -> JournalRef {
    worker().journal(name.parse().unwrap())
}

fn options(to: &Path) -> RestoreOptions {
    RestoreOptions::new(worker(), to, "test")
}

fn at(number: u64, to: &Path) -> RestoreOptions {
    let id = CheckpointId {
        rollback_epoch: 0,
        number,
    };
    RestoreOptions {
        point: RestorePoint::Checkpoint(id),
        ..options(to)
    }
}

fn op(op: Op) -> Vec<u8> {
    let mut out = BytesMut::new();
    ops::encode(&OpRecord { tag: 1, op }, &mut out).unwrap();
    out.to_vec()
}

fn write_at(offset: u64, path: &str, data: &[u8]) -> Vec<u8> {
    op(Op::WriteV {
        offset,
        path: Bytes::copy_from_slice(path.as_bytes()),
        data: Bytes::copy_from_slice(data),
    })
}

fn remove(path: &str) -> Vec<u8> {
    op(Op::Remove {
        path: Bytes::copy_from_slice(path.as_bytes()),
    })
}

/// The entry of `.checkpoint_ids` that calls a checkpoint complete.
fn ids(number: u64) -> [u8; 24] {
    let mut entry = [0; 24];
    entry[..8].copy_from_slice(&number.to_be_bytes());
    entry[8..16].copy_from_slice(&number.to_be_bytes());
    entry
}

fn complete(number: u64) -> Vec<u8> {
    write_at(
        24 * number,
        &format!("/old/{P}.checkpoint_ids"),
        &ids(number),
    )
}

/// What a worker that is not the initializer writes when it starts, with `checkpoint` 0 complete.
fn started() -> Vec<u8> {
    let files = [
        ("local-topology", &b"topology"[..]),
        ("workers", b"worker\ninitializer\n"),
        ("tcp-control", b"old\n3131\n"),
        ("tcp-data", b"old\n3132\n"),
        ("connection-addresses", b"connections"),
    ];
    let files = files.map(|(suffix, data)| write_at(0, &format!("/old/{P}.{suffix}"), data));
    [files.concat(), complete(0)].concat()
}

fn events(events: &[Event]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for event in events {
        evlog::encode(event, &mut out).unwrap();
    }
    out.to_vec()
}

/// The state of one checkpoint.
fn checkpoint(number: u64) -> Vec<u8> {
    let data = Event::Data {
        last: true,
        resilient_id: 7,
        payload: Bytes::from(format!("state {number}")),
    };
    events(&[data, Event::CheckpointId(number)])
}

async fn put(client: &Client, name: &str, bytes: &[u8]) {
    let (epoch, _) = client.open_worker(&worker(), None).await.unwrap();
    let (options, kind) = (AppendOptions::of(client), kind_by_name(name));
    let journal = journal(name);
    let stream = AppendStream::open(client, &journal, kind, epoch, None, options);
    let mut stream = stream.await.unwrap();
    stream.append(Bytes::copy_from_slice(bytes)).await.unwrap();
    stream.close().await.unwrap();
}

/// A cluster with a worker's two journals.
async fn cluster(ops: &[u8], log: &[u8]) -> (FakeCluster, Client) {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, &format!("{P}.journal"), ops).await;
    put(&client, &format!("{P}.evlog.journal"), log).await;
    (cluster, client)
}

/// All files of a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap();
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_file = entry.file_type().unwrap().is_file();
        assert!(is_file, "{name} was left");
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// The worker resumes its journals at the ends of its own copies, and exits when they are not those of the cluster.
fn assert_resumes(cluster: &FakeCluster, directory: &Path, report: &RestoreReport) {
    for restored in &report.journals {
        let local = std::fs::read(directory.join(restored.name.as_str())).unwrap();
        let name = worker().journal(restored.name.clone());
        assert_eq!(local, cluster.journal(&name).0, "{}", restored.name);
        assert_eq!(restored.bytes, local.len() as u64);
    }
}

fn not_startable(error: &ClientError, parts: &[&str]) {
    let ClientError::AfterTakeover { source, .. } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(**source, ClientError::NotStartable { .. }),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Verification);
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
    let again = "restore again"; // which would fail in the same way
    assert!(!error.to_string().contains(again), "{error}");
}

#[tokio::test]
async fn a_worker_gets_all_that_it_starts_from_and_others_of_the_directory_nothing() {
    let history = "/home/wally/TODO-EventLog-rotation-history.txt";
    // Before and after a migration the files were in different directories.
    let moved = write_at(0, &format!("/new/{P}.workers"), b"initializer\nworker\n");
    let ops = [
        started(),
        write_at(0, history, b"rotated"),
        write_at(9, history, b"again"),
        moved,
        write_at(0, "../neighbour", b"evil"),
        write_at(0, &format!("/old/{P}.evlog"), b"not so"),
        remove(&format!("{P}.evlog")),
        complete(1),
    ]
    .concat();
    let log = [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat();
    let (cluster, client) = cluster(&ops, &log).await;
    put(&client, "notes", b"of an operator").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("shared");
    std::fs::create_dir(&to).unwrap();
    let neighbour = "word count-worker2.workers";
    std::fs::write(to.join(neighbour), b"theirs").unwrap();

    let wanted = RestoreOptions {
        endpoint: Some(
            Addresses::new(
                [("control", "new:3131"), ("data", "[::1]:3132")]
                    .map(|(role, address)| (role.to_owned(), address.to_owned()))
                    .into(),
            )
            .unwrap(),
        ),
        ..options(&to)
    };
    let report = client.restore(wanted, &quiet).await.unwrap();

    let mut expected: BTreeMap<_, _> = [
        ("checkpoint_ids", [ids(0), ids(1)].concat()),
        ("connection-addresses", b"connections".to_vec()),
        ("evlog", log.clone()),
        ("evlog.journal", log),
        ("journal", ops),
        ("local-keys", Vec::new()),
        ("local-topology", b"topology".to_vec()),
        ("tcp-control", b"new\n3131\n".to_vec()),
        ("tcp-data", b"::1\n3132\n".to_vec()),
        ("workers", b"initializer\nworker\n".to_vec()),
    ]
    .into_iter()
    .map(|(suffix, bytes)| (format!("{P}.{suffix}"), bytes))
    .collect();
    expected.insert(neighbour.to_owned(), b"theirs".to_vec());
    assert_eq!(files(&to), expected);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    assert_resumes(&cluster, &to, &report);

    let legacy = report.legacy.unwrap();
    assert_eq!((report.epoch, legacy.prefix.as_str()), (Epoch(2), P));
    assert_eq!(legacy.rolls_back_to.number, 1);
    let skipped: Vec<_> = legacy
        .skipped
        .iter()
        .map(|skipped| (skipped.path.as_str(), skipped.records))
        .collect();
    assert_eq!(skipped, [(history, 2), ("../neighbour", 1)]);
    assert_eq!(legacy.others, ["notes".parse().unwrap()]);
    assert!(report.refused.is_empty());
    assert!(legacy.cut.is_empty() && legacy.warnings.is_empty());
    let of = worker();
    let known = client.endpoints(None, Some(&of), Floor::Linearizable);
    let known = known.await.unwrap().endpoints;
    let control = known[&of].addresses.get("control");
    assert_eq!(control, Some("new:3131"));
}

#[tokio::test]
async fn what_is_torn_is_cut_alike_here_and_in_the_cluster() {
    let torn_op = &complete(2)[..30];
    let torn_event = &checkpoint(2)[..25];
    let (ops, log) = (
        [started(), complete(1)].concat(),
        [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat(),
    );
    let (cluster, client) = cluster(
        &[&ops[..], torn_op].concat(),
        &[&log[..], torn_event].concat(),
    )
    .await;
    let temp = tempfile::tempdir().unwrap();
    let report = client.restore(options(temp.path()), &quiet).await.unwrap();
    assert_resumes(&cluster, temp.path(), &report);
    let evlog = std::fs::read(temp.path().join(format!("{P}.evlog"))).unwrap();
    assert_eq!(evlog, log);
    let cuts = report.legacy.unwrap().cut;
    let cuts: Vec<_> = cuts
        .iter()
        .map(|cut| (cut.journal.as_str(), cut.at.0, cut.bytes))
        .collect();
    assert_eq!(
        cuts,
        [
            ("word count-worker.evlog.journal", log.len() as u64, 25),
            ("word count-worker.journal", ops.len() as u64, 30)
        ]
    );
}

#[tokio::test]
async fn a_checkpoint_comes_back_with_every_part_of_the_event_log_up_to_it() {
    let ops = [started(), complete(1), complete(2)].concat();
    let first = [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat();
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let part = |start: usize| format!("{P}-{start:016x}.evlog");
    put(&client, &format!("{}.journal", part(0)), &first).await;
    put(
        &client,
        &format!("{}.journal", part(first.len())),
        &checkpoint(2),
    )
    .await;
    put(&client, &format!("{P}.journal"), &ops).await;
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));

    let report = client.restore(options(&old), &quiet).await.unwrap();
    assert_resumes(&cluster, &old, &report);
    let installed = files(&old);
    assert_eq!(installed[&part(0)], first);
    assert_eq!(installed[&part(first.len())], checkpoint(2));
    assert!(!installed.contains_key(&format!("{P}.evlog")));
    assert_eq!(report.legacy.unwrap().rolls_back_to.number, 2);

    let report = client.restore(at(1, &new), &quiet).await.unwrap();
    assert_resumes(&cluster, &new, &report);
    let installed = files(&new);
    assert_eq!(installed[&part(0)], first);
    let empty = part(first.len());
    assert_eq!(installed[&format!("{empty}.journal")], b"");
    assert!(
        !installed.contains_key(&empty),
        "a worker would look into it"
    );
    assert_eq!(
        installed[&format!("{P}.checkpoint_ids")],
        [ids(0), ids(1)].concat()
    );
}

#[tokio::test]
async fn keys_are_appended_whatever_offset_a_recovered_worker_gave() {
    let keys = format!("/old/{P}.local-keys");
    let length = |length| {
        op(Op::SetLength {
            path: Bytes::from(keys.clone()),
            length,
        })
    };
    let ops = [
        started(),
        write_at(0, &keys, b"first"),
        write_at(5, &keys, b"second"),
        // After a recovery.
        write_at(0, &keys, b"third"),
        length(14),
        write_at(3, &keys, b"last"),
    ]
    .concat();
    let (_cluster, client) = cluster(&ops, &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    client.restore(options(temp.path()), &quiet).await.unwrap();
    let found = std::fs::read(temp.path().join(format!("{P}.local-keys"))).unwrap();
    assert_eq!(found, b"firstsecondthilast");
}

#[tokio::test]
async fn files_of_before_are_replaced_only_with_leave_and_all_of_them() {
    let (_cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path();
    let stale = ["checkpoint_ids", "active_stream_ids", "workers"];
    for suffix in stale {
        std::fs::write(to.join(format!("{P}.{suffix}")), b"stale").unwrap();
    }
    let chunk = to.join(format!("{P}-{:016x}.evlog", 77));
    std::fs::write(&chunk, b"stale").unwrap();
    std::fs::write(to.join(format!("{P}.notes")), b"kept").unwrap();
    std::fs::create_dir(to.join(format!(".{P}.restoring-1"))).unwrap();

    let error = client.restore(options(to), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    let plan = client.plan_restore(options(to)).await.unwrap();
    assert_eq!(plan.epoch, Epoch(1), "nothing was fenced");
    assert!(plan.needs_force && plan.replaces.contains(&chunk));

    let forced = RestoreOptions {
        force: true,
        ..options(to)
    };
    let report = client.restore(forced, &quiet).await.unwrap();
    let installed = files(to);
    let mut expected = report.legacy.unwrap().files;
    expected.push(format!("{P}.notes"));
    expected.sort();
    assert_eq!(installed.keys().cloned().collect::<Vec<_>>(), expected);
    assert!(installed.values().all(|bytes| bytes != b"stale"));
}

#[tokio::test]
async fn what_a_worker_could_not_start_from_is_not_put_into_place() {
    let log = [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat();
    let removes = ["workers", "tcp-control", "checkpoint_ids"];
    let removes = removes.map(|suffix| remove(&format!("../resilience/{P}.{suffix}")));
    let shut_down = [started(), complete(1), removes.concat()].concat();
    let bad_log = [&log[..], b"\x09bad"].concat();
    let removed = removes.concat();
    let (choose, none) = ("choose a checkpoint", "knows of no checkpoint");
    let table = [
        (
            shut_down,
            log.clone(),
            &["shut down cleanly", choose, "checkpoint list job/worker"][..],
        ),
        (
            [write_at(0, &format!("{P}.workers"), b"worker\n"), removed].concat(),
            b"".to_vec(),
            &["shut down cleanly", none],
        ),
        (
            complete(1),
            log.clone(),
            &["do not make", "local-topology", choose],
        ),
        (started(), b"".to_vec(), &["do not make", "evlog", none]),
        (started(), bad_log, &["malformed event log entry"]),
    ];
    for (ops, log, parts) in table {
        let (_cluster, client) = cluster(&ops, &log).await;
        let temp = tempfile::tempdir().unwrap();
        let error = client.restore(options(temp.path()), &quiet).await;
        let error = error.unwrap_err();
        not_startable(&error, parts);
        // The worker would find its journals longer than its files, and exit.
        for name in ["evlog.journal", "journal"] {
            let remove = format!("`dos-cluster journal rm 'job/worker/{P}.{name}'`");
            assert!(error.to_string().contains(&remove), "{error}");
        }
        let chosen = error.to_string().contains(choose);
        assert!(chosen != error.to_string().contains(none), "{error}");
        assert!(files(temp.path()).is_empty());
    }
}

#[tokio::test]
async fn what_an_operator_should_know_before_a_start_is_said() {
    let (zero, twice) = (events(&[Event::CheckpointId(0)]), checkpoint(1).repeat(2));
    let whole = format!("{P}.evlog.journal");
    let part = |start: usize| format!("{P}-{start:016x}.evlog.journal");
    let first = [zero.clone(), checkpoint(1)].concat();
    let behind = checkpoint(2);
    let behind = &behind[..behind.len() - events(&[Event::CheckpointId(2)]).len()];
    let initializers: Vec<u8> = ["local-topology", "workers", "tcp-control"]
        .map(|suffix| write_at(0, &format!("{P}.{suffix}"), b"x"))
        .concat();
    let others = [started(), complete(1)].concat();
    let initializers = [initializers, complete(0), complete(1)].concat();
    let table = [
        (
            &others,
            vec![(whole.clone(), [zero, twice].concat())],
            &["checkpoint 1 is 2 times", "takes the first one"][..],
        ),
        (
            &others,
            vec![
                (part(0), first.clone()),
                (part(first.len()), behind.to_vec()),
            ],
            &["checkpoint 1 is in", "before the last part"],
        ),
        (
            &initializers,
            vec![(whole, first)],
            &["tcp-data", "only the initializer starts without"],
        ),
    ];
    for (ops, logs, parts) in table {
        let cluster = FakeCluster::start(1).await;
        let client = cluster.client(&[0]);
        for (name, bytes) in logs {
            put(&client, &name, &bytes).await;
        }
        put(&client, &format!("{P}.journal"), ops).await;
        let temp = tempfile::tempdir().unwrap();
        let report = client.restore(options(temp.path()), &quiet).await.unwrap();
        assert_resumes(&cluster, temp.path(), &report);
        let legacy = report.legacy.unwrap();
        assert_eq!(legacy.rolls_back_to.number, 1);
        let [warning] = legacy.warnings.try_into().unwrap();
        for part in parts {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }
}

#[tokio::test]
async fn the_files_of_a_new_run_over_old_journals_are_the_new_ones() {
    let zero = events(&[Event::CheckpointId(0)]);
    let old = [zero.clone(), checkpoint(1), checkpoint(2)].concat();
    let removed = ["workers", "checkpoint_ids", "evlog"];
    let removed = removed.map(|suffix| remove(&format!("{P}.{suffix}")));
    let again = [zero, events(&[Event::RestartMarker]), checkpoint(1)].concat();
    let runs = [started(), complete(1), complete(2), removed.concat()].concat();
    let ops = [runs, started(), complete(1)].concat();
    let (cluster, client) = cluster(&ops, &[&old[..], &again].concat()).await;
    let temp = tempfile::tempdir().unwrap();
    let plan = client.plan_restore(options(temp.path())).await.unwrap();
    assert!(plan.journals.iter().all(|journal| journal.cut_at.is_none()));
    let report = client.restore(options(temp.path()), &quiet).await.unwrap();
    assert_resumes(&cluster, temp.path(), &report);
    let installed = files(temp.path());
    assert_eq!(installed[&format!("{P}.evlog")], again);
    let journal = &installed[&format!("{P}.evlog.journal")];
    assert_eq!(*journal, [&old[..], &again].concat());
    let legacy = report.legacy.unwrap();
    assert_eq!(
        (legacy.rolls_back_to.number, legacy.warnings),
        (1, Vec::new())
    );
}

#[tokio::test]
async fn a_worker_that_was_shut_down_comes_back_at_a_checkpoint_of_before() {
    let log = [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat();
    let ops = [started(), complete(1), remove(&format!("{P}.workers"))].concat();
    let (cluster, client) = cluster(&ops, &log).await;
    let temp = tempfile::tempdir().unwrap();
    let report = client.restore(at(1, temp.path()), &quiet).await.unwrap();
    assert_resumes(&cluster, temp.path(), &report);
}

#[tokio::test]
async fn another_takeover_meanwhile_keeps_the_files_out() {
    let (cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let watch = |progress: RestoreProgress| {
        if progress.phase == RestorePhase::Finishing {
            let _ = cluster.apply(&super::foreign_takeover(&worker()));
        }
    };
    let error = client
        .restore(options(temp.path()), &watch)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(files(temp.path()).is_empty());
    // What one that was interrupted left is removed by the next one.
    std::fs::create_dir(temp.path().join(format!(".{P}.restoring-1"))).unwrap();
    client.restore(options(temp.path()), &quiet).await.unwrap();
    files(temp.path());
}

#[tokio::test]
async fn options_that_do_not_go_with_the_worker_are_refused_before_it_is_fenced() {
    let (cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    put(&client, "other-worker.journal", b"").await;
    put(&client, "other-worker.evlog.journal", b"").await;
    let temp = tempfile::tempdir().unwrap();
    let refused = async |options: RestoreOptions, parts: &[&str]| {
        let error = client
            .restore(options, &quiet)
            .await
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    };
    let to = temp.path();
    let prefix = |prefix: &str| RestoreOptions {
        prefix: Some(prefix.to_owned()),
        ..options(to)
    };
    refused(options(to), &["--prefix", P, "other-worker"]).await;
    refused(prefix("neither"), &["other-worker"]).await;
    let map = RestoreOptions {
        map: vec![("/old".into(), String::new())],
        ..prefix("word count")
    };
    refused(map, &["legacy worker", "rules"]).await;
    assert_eq!(cluster.epoch(&worker()), Epoch(1));

    let report = client.restore(prefix("word count"), &quiet).await.unwrap();
    assert_eq!(report.legacy.unwrap().others.len(), 2);

    let native = FakeCluster::start(1).await;
    let client = native.client(&[0]);
    put(&client, "w.journal", b"").await;
    let error = client.restore(prefix("w"), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("no legacy worker"), "{error}");
}

#[tokio::test]
async fn a_plan_says_where_a_checkpoint_is_and_changes_nothing() {
    let ops = [started(), complete(1)].concat();
    let log = [events(&[Event::CheckpointId(0)]), checkpoint(1)].concat();
    let (cluster, client) = cluster(
        &[&ops[..], &complete(2)].concat(),
        &[&log[..], &checkpoint(2)].concat(),
    )
    .await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("missing");
    let plan = client.plan_restore(options(&to)).await.unwrap();
    assert_eq!((plan.prefix.as_deref(), plan.checkpoint), (Some(P), None));
    let kinds: Vec<_> = plan.journals.iter().map(|journal| journal.kind).collect();
    assert_eq!(kinds, [JournalKind::Raw, JournalKind::Ops]);
    assert!(plan.replaces.is_empty() && !plan.needs_force);
    assert!(!to.exists());
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
}

//! Restores: what comes back, what is refused, what survives members that fail.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::super::{
    AppendOptions, AppendStream, Client, ClientError, ClientOptions, Effect, ErrorKind,
    JournaledDir, JournaledDirOptions, WorkerIdentity,
    restore::{RestoreOptions, RestorePhase, RestoreProgress},
    testing::{FakeCluster, worker},
};
use super::{foreign_takeover, pattern};
use crate::{
    codec::ops::{Op, OpRecord, encode},
    domain::{CheckpointId, Epoch, JournalKind, JournalName, JournalRef, Offset, RestorePoint},
};

fn quiet(_: RestoreProgress) {}

fn options(to: &Path) -> RestoreOptions {
    RestoreOptions {
        range_bytes: 64 << 10,
        ..RestoreOptions::new(worker(), to, "test")
    }
}

fn journal(name: &str) -> JournalRef {
    worker().journal(name.parse().unwrap())
}

fn record(op: Op) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&OpRecord { tag: 1, op }, &mut out).unwrap();
    out.to_vec()
}

fn write(path: &str, data: &[u8]) -> Vec<u8> {
    record(Op::WriteV {
        offset: 0,
        path: Bytes::copy_from_slice(path.as_bytes()),
        data: Bytes::copy_from_slice(data),
    })
}

async fn put(client: &Client, name: &str, kind: JournalKind, bytes: &[u8]) {
    let (epoch, _) = client.open_worker(&worker(), None).await.unwrap();
    let options = AppendOptions::of(client);
    let journal = journal(name);
    let stream = AppendStream::open(client, &journal, kind, epoch, None, options);
    let mut stream = stream.await.unwrap();
    stream.append(Bytes::copy_from_slice(bytes)).await.unwrap();
    stream.close().await.unwrap();
}

/// Whoever reads it knows that the old incarnation is fenced, by which epoch, and what to do.
fn assert_is_after_takeover(error: &ClientError, cluster: &FakeCluster) {
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let (message, epoch) = (error.to_string(), cluster.epoch(&worker()));
    assert!(epoch > Epoch(1));
    for part in [&format!("epoch {epoch}")[..], "fenced", "restore again"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

/// The names beside and in a directory's place.
fn names(parent: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(parent).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn reopen(client: &Client, path: &Path) -> JournaledDir {
    let options = JournaledDirOptions::default();
    JournaledDir::open(client, &worker(), path, options)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_worker_that_died_is_restored_and_goes_on() {
    let mut cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0, 1, 2]);
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new/dir"));
    let dir = reopen(&client, &old).await;
    let bytes = pattern(700_000);
    dir.write_at("state/big", 0, &bytes).unwrap();
    dir.write_at("small", 5, b"x").unwrap();
    let id = CheckpointId {
        rollback_epoch: 0,
        number: 1,
    };
    dir.checkpoint(id).await.unwrap();
    dir.write_at("small", 0, b"later").unwrap();
    let later = CheckpointId {
        rollback_epoch: 0,
        number: 2,
    };
    dir.checkpoint(later).await.unwrap();
    // Worker and a server die together.
    drop(dir);
    std::fs::remove_dir_all(&old).unwrap();
    cluster.kill(0);
    cluster.lead(1);

    let seen = Mutex::new(Vec::new());
    let watch = |progress: RestoreProgress| seen.lock().unwrap().push(progress);
    let wanted = RestoreOptions {
        point: RestorePoint::Checkpoint(id),
        ..options(&new)
    };
    let report = client.restore(wanted, &watch).await.unwrap();
    assert_eq!(
        (report.epoch, report.checkpoint, report.files),
        (Epoch(2), Some(id), 2)
    );
    assert!(report.refused.is_empty() && report.torn.is_empty());
    assert_eq!(report.journals[0].members.len(), 2, "both survivors served");
    assert_eq!(std::fs::read(new.join("state/big")).unwrap(), bytes);
    assert_eq!(std::fs::read(new.join("small")).unwrap(), b"\0\0\0\0\0x");
    assert_eq!(
        std::fs::read(new.join("worker.journal")).unwrap(),
        cluster.journal(&journal("worker.journal")).0
    );
    let fetched = seen.into_inner().unwrap();
    let last = fetched
        .iter()
        .rfind(|p| p.phase == RestorePhase::Fetching)
        .unwrap();
    assert_eq!(last.bytes_done, last.bytes_total);
    let names = std::fs::read_dir(temp.path().join("new")).unwrap().count();
    assert_eq!(names, 1, "nothing is left beside it");

    let dir = reopen(&client, &new).await;
    assert_eq!(dir.epoch(), Epoch(2));
    dir.write_at("small", 0, b"again").unwrap();
    dir.checkpoint(later).await.unwrap();
}

#[tokio::test]
async fn raw_journals_come_back_as_files_and_empty_ones_too() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "w.evlog", JournalKind::Raw, b"\xff\x00raw").await;
    put(&client, "empty", JournalKind::Raw, b"").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let report = client.restore(options(&to), &quiet).await.unwrap();
    assert_eq!(std::fs::read(to.join("w.evlog")).unwrap(), b"\xff\x00raw");
    assert_eq!(std::fs::read(to.join("empty")).unwrap(), b"");
    assert_eq!(report.journals.len(), 2);
    let identity = WorkerIdentity::read(&to).unwrap().unwrap();
    assert_eq!(identity.epoch, report.epoch);
    assert_eq!(identity.journals.len(), 2);
}

#[tokio::test]
async fn no_path_of_a_journal_leaves_the_directory_or_takes_a_name_of_ours() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let absolute = format!("{}/mapped", to.display());
    let evil = [
        "../evil",
        "/tmp/evil-of-dos-cluster",
        "a/../../evil",
        ".dos-worker",
        "ops.journal",
        "./raw",
    ];
    let mut bytes = Vec::new();
    for path in evil {
        bytes.extend(write(path, b"evil"));
    }
    bytes.extend(write("/old/place/f", b"mapped"));
    bytes.extend(write("fine", b"fine"));
    put(&client, "ops.journal", JournalKind::Ops, &bytes).await;
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let wanted = RestoreOptions {
        map: vec![("/old/place".into(), absolute)],
        ..options(&to)
    };
    let report = client.restore(wanted, &quiet).await.unwrap();
    let refused: Vec<_> = report
        .refused
        .iter()
        .map(|refused| refused.path.as_str())
        .collect();
    assert_eq!(refused, evil);
    assert_eq!(std::fs::read(to.join("fine")).unwrap(), b"fine");
    assert_eq!(std::fs::read(to.join("mapped/f")).unwrap(), b"mapped");
    assert_eq!(std::fs::read(to.join("ops.journal")).unwrap(), bytes);
    assert_eq!(std::fs::read(to.join("raw")).unwrap(), b"raw");
    assert!(WorkerIdentity::read(&to).unwrap().is_some());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    assert!(!Path::new("/tmp/evil-of-dos-cluster").exists());
}

#[tokio::test]
async fn a_torn_last_record_is_cut_here_and_in_the_cluster_even_when_the_answer_is_lost() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    let whole = write("f", b"whole");
    let torn = write("f", b"torn");
    let bytes = [&whole[..], &torn[..torn.len() - 2]].concat();
    put(&client, "ops.journal", JournalKind::Ops, &bytes).await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let watch = |progress: RestoreProgress| {
        if progress.phase == RestorePhase::Replaying {
            cluster.fault(0, |faults| faults.lost_answers = 1);
        }
    };
    let report = client.restore(options(&to), &watch).await.unwrap();
    assert_eq!(report.torn.len(), 1);
    assert_eq!(report.torn[0].at.0, whole.len() as u64);
    assert_eq!(
        (report.torn[0].bytes, report.torn[0].cut),
        (torn.len() as u64 - 2, true)
    );
    assert_eq!(std::fs::read(to.join("ops.journal")).unwrap(), whole);
    assert_eq!(cluster.journal(&journal("ops.journal")).0, whole);
    assert_eq!(std::fs::read(to.join("f")).unwrap(), b"whole");
    assert_eq!(
        report.epoch,
        Epoch(3),
        "the cut whose answer was lost is fenced"
    );
    assert_eq!(cluster.epoch(&worker()), report.epoch);
    let options = JournaledDirOptions {
        journal: Some("ops.journal".parse().unwrap()),
        window_bytes: None,
    };
    JournaledDir::open(&client, &worker(), &to, options)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_takeover_whose_answer_is_lost_is_done_again_from_where_it_came_to() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    cluster.fault(0, |faults| faults.lost_answers = 1);
    let temp = tempfile::tempdir().unwrap();
    let report = client
        .restore(options(&temp.path().join("dir")), &quiet)
        .await
        .unwrap();
    assert_eq!(report.epoch, cluster.epoch(&worker()));
}

#[tokio::test]
async fn a_range_that_one_member_cannot_give_is_fetched_from_another() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0]);
    let bytes = pattern(500_000);
    put(&client, "raw", JournalKind::Raw, &bytes).await;
    cluster.fault(0, |faults| faults.corrupt_reads = true);
    cluster.fault(1, |faults| faults.break_reads_after = Some(3));
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let report = client.restore(options(&to), &quiet).await.unwrap();
    assert_eq!(std::fs::read(to.join("raw")).unwrap(), bytes);
    let members = &report.journals[0].members;
    assert!(!members.contains_key(&cluster.address(0)), "{members:?}");
    assert_eq!(members.values().sum::<u64>(), 500_000);
}

#[tokio::test]
async fn bytes_that_no_member_can_vouch_for_fail_the_restore_and_leave_no_directory() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    for node in 0..2 {
        cluster.fault(node, |faults| faults.corrupt_reads = true);
    }
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let error = client.restore(options(&to), &quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    assert_is_after_takeover(&error, &cluster);
    assert!(!to.exists());
    // Once they are well again, the same restore succeeds and clears away what the failed one left.
    for node in 0..2 {
        cluster.fault(node, |faults| faults.corrupt_reads = false);
    }
    let wanted = RestoreOptions {
        from: Some("n2".into()),
        ..options(&to)
    };
    let report = client.restore(wanted, &quiet).await.unwrap();
    let members: Vec<_> = report.journals[0].members.keys().cloned().collect();
    assert_eq!(members, [cluster.address(1)]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn records_that_are_none_fail_the_restore_with_their_offset() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let good = write("f", b"x");
    let bytes = [&good[..], &[0; 20]].concat();
    put(&client, "ops.journal", JournalKind::Ops, &bytes).await;
    let temp = tempfile::tempdir().unwrap();
    let error = client
        .restore(options(&temp.path().join("dir")), &quiet)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert_is_after_takeover(&error, &cluster);
    assert!(
        error
            .to_string()
            .contains(&format!("offset {}", good.len())),
        "{error}"
    );
}

#[tokio::test]
async fn a_directory_with_content_is_refused_before_anything_is_fenced_and_replaced_with_force() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("precious"), b"x").unwrap();
    let error = client.restore(options(&to), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
    let wanted = RestoreOptions {
        force: true,
        ..options(&to)
    };
    client.restore(wanted, &quiet).await.unwrap();
    assert!(!to.join("precious").exists());
    assert!(to.join("raw").exists());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn force_does_not_replace_another_workers_directory_or_the_one_it_runs_in() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let temp = tempfile::tempdir().unwrap();
    let of_another = temp.path().join("dir");
    std::fs::create_dir(&of_another).unwrap();
    let identity = WorkerIdentity {
        worker: "job/another".parse().unwrap(),
        epoch: Epoch(1),
        in_use: None,
        journals: BTreeMap::new(),
    };
    identity.write(&of_another).unwrap();
    let here = std::env::current_dir().unwrap();
    for (to, words) in [
        (of_another.clone(), "worker job/another"),
        (here.clone(), "works inside it"),
        (here.parent().unwrap().to_owned(), "works inside it"),
    ] {
        let wanted = RestoreOptions {
            force: true,
            ..options(&to)
        };
        let error = client.restore(wanted, &quiet).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.effect(), Effect::None);
    }
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
    assert!(of_another.exists() && here.join("Cargo.toml").exists());
}

#[tokio::test]
async fn a_restore_that_is_overtaken_leaves_no_directory() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let watch = |progress: RestoreProgress| {
        if progress.phase == RestorePhase::Replaying && progress.bytes_done == 0 {
            cluster.apply(&foreign_takeover(&worker())).unwrap();
        }
    };
    let error = client.restore(options(&to), &watch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(error.rejected().is_some());
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(error.to_string().contains("epoch 2"), "{error}");
    assert!(!to.exists());
}

#[tokio::test]
async fn an_unknown_worker_and_a_foreign_member_are_refused() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let error = client.restore(options(&to), &quiet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let wanted = RestoreOptions {
        from: Some("n9".into()),
        ..options(&to)
    };
    let error = client.restore(wanted, &quiet).await.unwrap_err();
    assert!(error.to_string().contains("n9"), "{error}");
}

#[tokio::test]
async fn a_takeover_that_was_carried_out_is_told_also_when_the_next_one_fails() {
    let cluster = FakeCluster::start(1).await;
    put(&cluster.client(&[0]), "raw", JournalKind::Raw, b"raw").await;
    let client = Client::new(ClientOptions {
        timeout: Duration::from_millis(500),
        ..ClientOptions::new([cluster.address(0)])
    });
    let client = client.unwrap();
    let temp = tempfile::tempdir().unwrap();
    cluster.fault(0, |faults| faults.lost_answers = 1);
    let before = cluster.carried_out(0);
    let leader_goes = async {
        while cluster.carried_out(0) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.fault(0, |faults| faults.no_leader = true);
    };
    let wanted = options(&temp.path().join("dir"));
    let (restored, ()) = tokio::join!(client.restore(wanted, &quiet), leader_goes);
    assert_is_after_takeover(&restored.unwrap_err(), &cluster);
}

#[tokio::test]
async fn what_can_be_known_to_fail_is_refused_before_anything_is_fenced() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    cluster.fault(1, |faults| faults.no_leader = true);
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    std::fs::write(temp.path().join("file"), b"x").unwrap();
    let from = |member: &str| RestoreOptions {
        from: Some(member.into()),
        ..options(&to)
    };
    let map = |new: &str| RestoreOptions {
        map: vec![("/fine".into(), "in".into()), ("/old".into(), new.into())],
        ..options(&to)
    };
    for (wanted, said) in [
        (from("n9"), "n9"),
        (from("n2"), "does not serve"),
        (from("127.0.0.1:1"), "127.0.0.1:1"),
        (map("/elsewhere"), "outside"),
        (map("../beside"), "outside"),
        (map(&"x".repeat(256)), "too long"),
        (options(&temp.path().join("x".repeat(250))), "too long"),
        (options(&temp.path().join("file/dir")), "file"),
    ] {
        let error = client.restore(wanted, &quiet).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(cluster.epoch(&worker()), Epoch(1), "{error}");
    }
    assert_eq!(names(temp.path()), ["file"]);
}

#[tokio::test]
async fn a_directory_that_a_process_uses_is_not_replaced_and_the_process_goes_on() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let dir = reopen(&client, &to).await;
    dir.write_at("f", 0, b"one").unwrap();
    let wanted = RestoreOptions {
        force: true,
        ..options(&to)
    };
    let error = client.restore(wanted.clone(), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("stop that process"), "{error}");
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
    dir.write_at("f", 3, b"two").unwrap();
    dir.close().await.unwrap();
    client.restore(wanted, &quiet).await.unwrap();
    assert_eq!(std::fs::read(to.join("f")).unwrap(), b"onetwo");
    assert_eq!(names(temp.path()), ["dir"]);
}

#[tokio::test]
async fn content_that_an_interrupted_restore_moved_away_is_put_back() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let moved = temp.path().join("dir.replaced-2"); // as the next restore would name it
    std::fs::create_dir(&moved).unwrap();
    std::fs::write(moved.join("precious"), b"x").unwrap();
    let error = client.restore(options(&to), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
    assert_eq!(std::fs::read(to.join("precious")).unwrap(), b"x");
    assert_eq!(names(temp.path()), ["dir"]);
    // With something in its place by now, it is named; and goes with what it was replaced for.
    std::fs::rename(&to, &moved).unwrap();
    std::fs::create_dir(&to).unwrap();
    let error = client.restore(options(&to), &quiet).await.unwrap_err();
    assert!(error.to_string().contains("dir.replaced-2"), "{error}");
    assert_eq!(cluster.epoch(&worker()), Epoch(1));
    assert!(moved.join("precious").exists());
    let wanted = RestoreOptions {
        force: true,
        ..options(&to)
    };
    client.restore(wanted, &quiet).await.unwrap();
    assert_eq!(std::fs::read(to.join("raw")).unwrap(), b"raw");
    assert_eq!(names(temp.path()), ["dir"]);
}

#[tokio::test]
async fn what_failed_restores_left_is_removed_and_nothing_else() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    let temp = tempfile::tempdir().unwrap();
    for ours in ["dir.restoring-1/files/f", "dir.restoring-2/journals"] {
        std::fs::create_dir_all(temp.path().join(ours)).unwrap();
    }
    let others = ["dir.restoring-", "dir.restoring-2x", "other.restoring-1"];
    for other in others {
        std::fs::create_dir(temp.path().join(other)).unwrap();
    }
    std::fs::write(temp.path().join("dir.restoring-9"), b"a file").unwrap();
    let to = temp.path().join("dir");
    client.restore(options(&to), &quiet).await.unwrap();
    let left = [
        "dir",
        "dir.restoring-",
        "dir.restoring-2x",
        "dir.restoring-9",
        "other.restoring-1",
    ];
    assert_eq!(names(temp.path()), left);
}

/// Files below `directory` that this process has open.
fn open_below(directory: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|path: &PathBuf| path.starts_with(directory))
        .count()
}

#[tokio::test]
async fn a_restore_of_many_journals_has_few_files_open() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let names: Vec<_> = (0..60).map(|number| format!("raw-{number}")).collect();
    for name in &names {
        put(&client, name, JournalKind::Raw, name.as_bytes()).await;
    }
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let most = AtomicUsize::new(0);
    let watch = |_: RestoreProgress| {
        most.fetch_max(open_below(temp.path()), Ordering::Relaxed);
    };
    let wanted = options(&to);
    let at_once = wanted.ranges_at_once;
    client.restore(wanted, &watch).await.unwrap();
    for name in &names {
        assert_eq!(std::fs::read(to.join(name)).unwrap(), name.as_bytes());
    }
    let most = most.into_inner();
    let locks = 1;
    assert!((1..=at_once + locks).contains(&most), "{most} were open");
}

#[tokio::test]
async fn a_journal_with_a_name_of_ours_is_named_as_not_restored() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "raw", JournalKind::Raw, b"raw").await;
    put(&client, ".dos-worker", JournalKind::Raw, b"not ours").await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let report = client.restore(options(&to), &quiet).await.unwrap();
    let journals: Vec<_> = report.journals.iter().map(|j| j.name.as_str()).collect();
    assert_eq!(journals, ["raw"]);
    let refused: Vec<_> = report.refused.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(refused, [".dos-worker"]);
    let identity = WorkerIdentity::read(&to).unwrap().unwrap();
    assert_eq!(identity.journals.len(), 1);
}

#[tokio::test]
async fn a_torn_record_that_a_checkpoint_covers_stays_and_the_worker_goes_on_in_another_journal() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (whole, torn) = (write("f", b"whole"), write("f", b"torn"));
    let bytes = [&whole[..], &torn[..torn.len() - 2]].concat();
    put(&client, "ops.journal", JournalKind::Ops, &bytes).await;
    let id = CheckpointId {
        rollback_epoch: 0,
        number: 1,
    };
    let name: JournalName = "ops.journal".parse().unwrap();
    let covered = BTreeMap::from([(name.clone(), Offset(bytes.len() as u64))]);
    let worker = worker();
    let committed = client.commit_checkpoint(&worker, Epoch(1), id, covered);
    committed.await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("dir");
    let report = client.restore(options(&to), &quiet).await.unwrap();
    assert_eq!(report.torn.len(), 1);
    assert!(!report.torn[0].cut);
    assert_eq!(std::fs::read(to.join("ops.journal")).unwrap(), bytes);
    assert_eq!(std::fs::read(to.join("f")).unwrap(), b"whole");

    let opens = cluster.append_opens(0);
    let open = |journal: JournalName| {
        let options = JournaledDirOptions {
            journal: Some(journal),
            window_bytes: None,
        };
        JournaledDir::open(&client, &worker, &to, options)
    };
    let error = open(name).await.unwrap_err();
    assert!(error.to_string().contains("another journal"), "{error}");
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(cluster.append_opens(0), opens, "nobody was fenced");
    let dir = open("ops.journal.2".parse().unwrap()).await.unwrap();
    dir.write_at("f", 5, b" again").unwrap();
    dir.close().await.unwrap();
    let again = temp.path().join("again");
    let report = client.restore(options(&again), &quiet).await.unwrap();
    assert_eq!(report.journals.len(), 2);
    assert_eq!(std::fs::read(again.join("f")).unwrap(), b"whole again");
}

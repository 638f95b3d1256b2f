//! A journaled directory through crashes, outages and takeovers.

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::super::{
    AppendOptions, AppendStream, Client, ClientError, Effect, JournaledDir, JournaledDirOptions,
    WorkerIdentity,
    restore::RestoreOptions,
    testing::{FakeCluster, worker},
};
use super::{foreign_takeover, pattern};
use crate::{
    codec::ops::{Op, OpRecord, encode},
    domain::{CheckpointId, JournalKind, JournalRef, Rejected, RestorePoint},
};

async fn open(client: &Client, path: &Path) -> Result<JournaledDir, ClientError> {
    JournaledDir::open(client, &worker(), path, JournaledDirOptions::default()).await
}

fn journal() -> JournalRef {
    worker().journal("worker.journal".parse().unwrap())
}

fn checkpoint(number: u64) -> CheckpointId {
    CheckpointId {
        rollback_epoch: 0,
        number,
    }
}

fn local(path: &Path) -> Vec<u8> {
    std::fs::read(path.join("worker.journal")).unwrap()
}

#[tokio::test]
async fn changes_are_in_the_files_and_a_checkpoint_puts_them_into_the_cluster() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("counts/a", 0, b"hello").unwrap();
    dir.write_at("counts/a", 3, b"p!").unwrap();
    dir.write_at("b", 2, b"x").unwrap();
    dir.set_len("counts/a", 4).unwrap();
    dir.write_at("gone", 0, b"x").unwrap();
    dir.remove("gone").unwrap();
    dir.remove("never").unwrap();
    assert_eq!(
        std::fs::read(temp.path().join("counts/a")).unwrap(),
        b"help"
    );
    assert_eq!(std::fs::read(temp.path().join("b")).unwrap(), b"\0\0x");
    assert!(!temp.path().join("gone").exists());
    let receipt = dir.checkpoint(checkpoint(1)).await.unwrap();
    assert!(receipt.log_index > 0);
    assert_eq!(
        receipt.offsets[&journal().journal].0,
        local(temp.path()).len() as u64
    );
    assert_eq!(cluster.journal(&journal()).0, local(temp.path()));
    assert_eq!(dir.lag_bytes(), 0);
    dir.close().await.unwrap();
    let identity = WorkerIdentity::read(temp.path()).unwrap().unwrap();
    assert_eq!((identity.worker, identity.in_use), (worker(), None));
}

#[tokio::test]
async fn paths_outside_and_reserved_names_are_refused_and_change_nothing() {
    let cluster = FakeCluster::start(1).await;
    let temp = tempfile::tempdir().unwrap();
    let inside = temp.path().join("dir");
    let dir = open(&cluster.client(&[0]), &inside).await.unwrap();
    for bad in [
        "",
        "/etc/x",
        "../x",
        "a/../../x",
        "worker.journal",
        "./worker.journal",
        ".dos-worker",
        ".dos-worker.new",
        "a/",
    ] {
        let error = dir.write_at(bad, 0, b"x").unwrap_err();
        assert!(
            matches!(error, ClientError::BadRequest { .. }),
            "{bad}: {error}"
        );
    }
    dir.write_at("fine", 0, b"x").unwrap();
    dir.close().await.unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_crashed_process_goes_on_where_it_was() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    dir.write_at("f", 3, b"two").unwrap();
    drop(dir); // as a kill does: nothing is synced or closed
    // The record was written, the file was not.
    std::fs::write(temp.path().join("f"), b"one").unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), b"onetwo");
    dir.checkpoint(checkpoint(2)).await.unwrap();
    assert_eq!(cluster.journal(&journal()).0, local(temp.path()));
}

#[tokio::test]
async fn a_torn_record_that_the_cluster_lacks_is_cut_and_one_that_it_has_asks_for_a_restore() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    let whole = local(temp.path());
    cluster.kill(0);
    dir.write_at("f", 3, b"two").unwrap();
    drop(dir);
    let longer = local(temp.path());
    std::fs::write(
        temp.path().join("worker.journal"),
        &longer[..longer.len() - 1],
    )
    .unwrap();
    cluster.restart(0).await;
    let dir = open(&client, temp.path()).await.unwrap();
    assert_eq!(local(temp.path()), whole);
    drop(dir);
    // Now the cluster gets the beginning of a record of which a little more is here, but not all.
    let beginning = &longer[..whole.len() + 9];
    let (epoch, _) = client.open_worker(&worker(), None).await.unwrap();
    let (journal, options) = (journal(), AppendOptions::of(&client));
    let stream = AppendStream::open(&client, &journal, JournalKind::Ops, epoch, None, options);
    let mut stream = stream.await.unwrap();
    let part = Bytes::copy_from_slice(&beginning[whole.len()..whole.len() + 5]);
    stream.append(part).await.unwrap();
    stream.close().await.unwrap();
    std::fs::write(temp.path().join("worker.journal"), beginning).unwrap();
    let error = open(&client, temp.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::LocalState { .. }), "{error}");
    assert!(error.to_string().contains("is torn"), "{error}");
    assert_eq!(local(temp.path()), beginning, "it is left as it is");
}

#[tokio::test]
async fn an_outage_is_caught_up_with_from_the_local_journal() {
    let mut cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let options = JournaledDirOptions {
        journal: None,
        window_bytes: Some(100_000),
    };
    let dir = JournaledDir::open(&client, &worker(), temp.path(), options)
        .await
        .unwrap();
    cluster.kill(0);
    let bytes = pattern(2_000_000);
    for (index, part) in bytes.chunks(50_000).enumerate() {
        dir.write_at("f", index as u64 * 50_000, part).unwrap();
    }
    let acknowledged = dir.checkpoint(checkpoint(1));
    tokio::pin!(acknowledged);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut acknowledged).await;
    assert!(early.is_err(), "nobody can have acknowledged it");
    assert!(dir.lag_bytes() > 2_000_000);
    cluster.restart(0).await;
    acknowledged.await.unwrap();
    assert_eq!(cluster.journal(&journal()).0, local(temp.path()));
    assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), bytes);
}

#[tokio::test]
async fn a_worker_that_was_taken_over_stops_and_cannot_come_back() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    let before = cluster.journal(&journal()).0;
    cluster.apply(&foreign_takeover(&worker())).unwrap();
    dir.write_at("f", 3, b"two").unwrap();
    let fenced =
        |error: &ClientError| matches!(error.rejected(), Some(Rejected::EpochFenced { .. }));
    let error = dir.checkpoint(checkpoint(2)).await.unwrap_err();
    assert!(fenced(&error), "{error}");
    let error = dir.write_at("f", 6, b"three").unwrap_err();
    assert!(fenced(&error), "{error}");
    drop(dir);
    let error = open(&client, temp.path()).await.unwrap_err();
    assert!(fenced(&error) && error.effect() == Effect::None, "{error}");
    assert_eq!(cluster.journal(&journal()).0, before);
}

#[tokio::test]
async fn a_directory_that_lost_its_journal_or_is_anothers_is_not_used() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.close().await.unwrap();
    let other = "job/other".parse().unwrap();
    let foreign = JournaledDir::open(&client, &other, temp.path(), JournaledDirOptions::default());
    let error = foreign.await.unwrap_err();
    assert!(error.to_string().contains("belongs to"), "{error}");
    std::fs::remove_file(temp.path().join("worker.journal")).unwrap();
    let error = open(&client, temp.path()).await.unwrap_err();
    assert!(error.to_string().contains("restore"), "{error}");
}

#[tokio::test]
async fn after_the_machine_went_down_a_directory_in_use_is_not_believed() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    drop(open(&client, temp.path()).await.unwrap());
    let mut identity = WorkerIdentity::read(temp.path()).unwrap().unwrap();
    assert!(identity.in_use.is_some());
    identity.in_use = Some("another-boot".into());
    identity.write(temp.path()).unwrap();
    let error = open(&client, temp.path()).await.unwrap_err();
    assert!(error.to_string().contains("machine went down"), "{error}");
}

#[tokio::test]
async fn a_directory_has_one_process_and_a_second_one_does_not_disturb_it() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    let (_, token) = cluster.journal(&journal());
    let error = open(&client, temp.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::LocalState { .. }), "{error}");
    let message = error.to_string();
    let named = temp.path().display().to_string();
    assert!(
        message.contains(&named) && message.contains("stop"),
        "{message}"
    );
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(cluster.journal(&journal()).1, token, "nobody was fenced");
    dir.write_at("f", 3, b"two").unwrap();
    dir.checkpoint(checkpoint(2)).await.unwrap();
    assert_eq!(cluster.journal(&journal()).0, local(temp.path()));
    dir.close().await.unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    drop(dir); // as a kill does
    open(&client, temp.path()).await.unwrap();
}

/// A directory whose path is too long for the system: it cannot be synced, and whoever syncs all there is will say so.
fn put_what_cannot_be_synced(below: &Path, beside: &Path) {
    let name = "d".repeat(200);
    let long = |mut path: std::path::PathBuf, names: usize| {
        path.extend(std::iter::repeat_n(&name, names));
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let deep = beside.join("deep");
    long(deep.clone(), 12);
    std::fs::rename(&deep, long(below.join("deep"), 12).join("deeper")).unwrap();
}

#[tokio::test]
async fn a_clean_close_after_a_crash_syncs_also_what_only_the_crashed_process_wrote() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let inside = temp.path().join("dir");
    let dir = open(&client, &inside).await.unwrap();
    dir.write_at("deep/f1", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    drop(dir);
    put_what_cannot_be_synced(&inside, temp.path());
    let in_use = || WorkerIdentity::read(&inside).unwrap().unwrap().in_use;
    let dir = open(&client, &inside).await.unwrap();
    dir.write_at("f2", 0, b"two").unwrap();
    let error = dir.close().await.unwrap_err();
    assert!(matches!(error, ClientError::Local { .. }), "{error}");
    assert!(in_use().is_some(), "not all of it is known to be synced");
    // Once all can be synced, the close vouches for it; and what was closed cleanly need not be synced again.
    std::fs::remove_dir_all(inside.join("deep")).unwrap();
    let dir = open(&client, &inside).await.unwrap();
    dir.close().await.unwrap();
    assert_eq!(in_use(), None);
    put_what_cannot_be_synced(&inside, temp.path());
    let dir = open(&client, &inside).await.unwrap();
    dir.close().await.unwrap();
    assert_eq!(in_use(), None);
}

#[tokio::test]
async fn a_refused_change_changes_nothing_and_the_directory_goes_on() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("a", 0, b"file").unwrap();
    dir.write_at("d/f", 0, b"in a directory").unwrap();
    std::os::unix::fs::symlink("a", temp.path().join("link")).unwrap();
    let before = local(temp.path());
    let end = i64::MAX.cast_unsigned();
    for (path, offset) in [
        ("a/b", 0),
        ("d", 0),
        ("link", 0),
        ("a", end),
        ("a", end + 1),
    ] {
        let error = dir.write_at(path, offset, b"x").unwrap_err();
        assert!(
            matches!(error, ClientError::BadRequest { .. }),
            "{path} {offset}: {error}"
        );
        assert_eq!(error.effect(), Effect::None);
        assert_eq!(local(temp.path()), before, "{path} {offset}");
    }
    // Also where the first parts of a long write would fit.
    let long = vec![1; 9 << 20];
    let error = dir.write_at("a", end - (8 << 20), &long).unwrap_err();
    assert!(matches!(error, ClientError::BadRequest { .. }), "{error}");
    let error = dir.set_len("link", 0).unwrap_err();
    assert!(matches!(error, ClientError::BadRequest { .. }), "{error}");
    assert_eq!(local(temp.path()), before);
    assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"file");

    dir.write_at("a", 4, b" goes on").unwrap();
    let covered = tokio::time::timeout(Duration::from_secs(5), dir.checkpoint(checkpoint(1)));
    covered.await.unwrap().unwrap();
    assert_eq!(cluster.journal(&journal()).0, local(temp.path()));
    dir.close().await.unwrap();
    drop(open(&client, temp.path()).await.unwrap());
}

#[tokio::test]
async fn a_refused_record_of_a_process_that_ended_before_it_was_cut_off_is_cut_off() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    dir.write_at("a", 0, b"file").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    drop(dir);
    let before = local(temp.path());
    let mut longer = bytes::BytesMut::from(&before[..]);
    let op = Op::WriteV {
        offset: 0,
        path: Bytes::from_static(b"a/b"),
        data: Bytes::from_static(b"x"),
    };
    encode(&OpRecord { tag: 9, op }, &mut longer).unwrap();
    std::fs::write(temp.path().join("worker.journal"), &longer).unwrap();
    let dir = open(&client, temp.path()).await.unwrap();
    assert_eq!(local(temp.path()), before);
    dir.write_at("a", 0, b"f").unwrap();
    dir.checkpoint(checkpoint(2)).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_of_a_directory_that_broke_fails_instead_of_waiting_for_ever() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let inside = temp.path().join("dir");
    let dir = open(&client, &inside).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    // The journal's file is open and is written all the same; the file cannot be made.
    std::fs::rename(&inside, temp.path().join("moved")).unwrap();
    let broken = dir.write_at("g", 0, b"two").unwrap_err();
    assert!(matches!(broken, ClientError::Local { .. }), "{broken}");
    let answer = tokio::time::timeout(Duration::from_secs(5), dir.checkpoint(checkpoint(1)));
    let error = answer.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), broken.to_string());
}

#[tokio::test]
async fn a_directory_that_is_refused_does_not_fence_the_worker_that_runs() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let (running, stale) = (temp.path().join("running"), temp.path().join("stale"));
    let dir = open(&client, &running).await.unwrap();
    dir.write_at("f", 0, b"one").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    let (bytes, token) = cluster.journal(&journal());
    // Empty, behind the cluster, and torn within what the cluster has.
    for length in [0, 1, bytes.len() - 1] {
        std::fs::create_dir_all(&stale).unwrap();
        std::fs::write(stale.join("worker.journal"), &bytes[..length]).unwrap();
        let error = open(&client, &stale).await.unwrap_err();
        assert!(matches!(error, ClientError::LocalState { .. }), "{error}");
        assert_eq!(error.effect(), Effect::None);
        assert_eq!(cluster.journal(&journal()).1, token, "{length}");
    }
    dir.write_at("f", 3, b"two").unwrap();
    dir.checkpoint(checkpoint(2)).await.unwrap();
}

async fn open_with(
    client: &Client,
    path: &Path,
    journal: &str,
) -> Result<JournaledDir, ClientError> {
    let options = JournaledDirOptions {
        journal: Some(journal.parse().unwrap()),
        ..JournaledDirOptions::default()
    };
    JournaledDir::open(client, &worker(), path, options).await
}

/// A restore at a checkpoint cuts every journal that it does not cover.
#[tokio::test]
async fn a_checkpoint_covers_the_journals_that_were_written_before_this_one() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("dir");
    std::fs::create_dir(&path).unwrap();
    for (journal, file, number) in [("a.journal", "first", 1), ("b.journal", "second", 2)] {
        let dir = open_with(&client, &path, journal).await.unwrap();
        dir.write_at(file, 0, file.as_bytes()).unwrap();
        dir.checkpoint(checkpoint(number)).await.unwrap();
        dir.close().await.unwrap();
    }
    let to = temp.path().join("restored");
    let wanted = RestoreOptions {
        point: RestorePoint::Checkpoint(checkpoint(2)),
        ..RestoreOptions::new(worker(), &to, "test")
    };
    client.restore(wanted, &|_| {}).await.unwrap();
    for file in ["first", "second"] {
        assert_eq!(std::fs::read(to.join(file)).unwrap(), file.as_bytes());
    }
}

/// What only one journal has would be in no restore of what another one goes on with.
#[tokio::test]
async fn another_journal_whose_end_is_only_here_is_brought_up_first() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let temp = tempfile::tempdir().unwrap();
    let open = async |journal| open_with(&client, temp.path(), journal).await;
    let dir = open("a.journal").await.unwrap();
    dir.write_at("f", 0, b"x").unwrap();
    dir.checkpoint(checkpoint(1)).await.unwrap();
    dir.close().await.unwrap();
    let mut longer = std::fs::read(temp.path().join("a.journal")).unwrap();
    longer.extend(longer.clone());
    std::fs::write(temp.path().join("a.journal"), longer).unwrap();
    let error = open("b.journal").await.unwrap_err();
    assert!(error.to_string().contains("a.journal"), "{error}");
    assert_eq!(error.effect(), Effect::None);
    open("a.journal").await.unwrap().close().await.unwrap();
    open("b.journal").await.unwrap().close().await.unwrap();
}

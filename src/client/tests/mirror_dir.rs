//! Files that a worker writes by itself, on their way to the cluster.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use super::super::{
    AppendOptions, AppendStream, ClientError, Effect,
    mirror_dir::{
        DirMirror, FilePhase, MirrorError, MirrorFault, MirrorOptions, MirrorSnapshot, Step,
    },
    testing::{FakeCluster, worker},
};
use super::{foreign_takeover, pattern};
use crate::domain::{JournalKind, JournalName, JournalRef};

fn options(directory: &Path) -> MirrorOptions {
    MirrorOptions {
        worker: worker(),
        directory: directory.to_owned(),
        pattern: "*.journal".parse().unwrap(),
        once: false,
        steal: false,
        adopt: false,
        patience: Duration::from_millis(100),
    }
}

fn once(directory: &Path) -> MirrorOptions {
    MirrorOptions {
        once: true,
        ..options(directory)
    }
}

fn name(name: &str) -> JournalName {
    name.parse().unwrap()
}

fn journal(journal: &str) -> JournalRef {
    worker().journal(name(journal))
}

fn append(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(bytes).unwrap();
}

/// Waits until the mirror's state is as it should be.
async fn until(mirror: &DirMirror, what: &str, condition: impl Fn(&MirrorSnapshot) -> bool) {
    let view = mirror.view();
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition(&view.snapshot()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: {:?}", view.snapshot());
}

fn is_durable(snapshot: &MirrorSnapshot, file: &str, bytes: u64) -> bool {
    let file = snapshot.files.get(&name(file));
    file.is_some_and(|file| file.durable.0 == bytes)
}

fn fault(snapshot: &MirrorSnapshot, file: &str) -> Option<MirrorFault> {
    match &snapshot.files.get(&name(file))?.phase {
        FilePhase::Stopped(fault) => Some(fault.clone()),
        _ => None,
    }
}

/// A directory with one file, all of which is in the cluster.
async fn mirrored(cluster: &FakeCluster, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.journal");
    append(&path, bytes);
    let mut mirror = DirMirror::start(&cluster.client(&[0]), once(dir.path()));
    mirror.ended().await.unwrap();
    assert_eq!(cluster.journal(&journal("a.journal")).0, bytes);
    (dir, path)
}

/// Mirrors the directory once more; answers what stopped the file.
async fn refused(cluster: &FakeCluster, directory: &Path) -> MirrorFault {
    let before = cluster.journal(&journal("a.journal"));
    let mut mirror = DirMirror::start(&cluster.client(&[0]), once(directory));
    mirror.ended().await.unwrap();
    let after = cluster.journal(&journal("a.journal"));
    assert_eq!(before, after, "nothing was written, and nobody fenced");
    let snapshot = mirror.view().snapshot();
    let durable = before.0.len() as u64;
    assert!(is_durable(&snapshot, "a.journal", durable), "{snapshot:?}");
    let fault = fault(&snapshot, "a.journal").unwrap();
    assert_eq!(fault.effect(), Effect::None);
    fault
}

#[tokio::test]
async fn once_copies_what_is_there_and_goes_on_where_the_journal_ends() {
    let cluster = FakeCluster::start(1).await;
    let bytes = pattern(1_500_000);
    let (dir, path) = mirrored(&cluster, &bytes[..700_000]).await;
    append(&path, &bytes[700_000..]);
    append(&dir.path().join("notes"), b"not meant");
    append(&dir.path().join("empty.evlog.journal"), b"");
    let mut mirror = DirMirror::start(&cluster.client(&[0]), once(dir.path()));
    mirror.ended().await.unwrap();
    assert_eq!(cluster.journal(&journal("a.journal")).0, bytes);
    let snapshot = mirror.view().snapshot();
    let files: Vec<_> = snapshot
        .files
        .iter()
        .map(|(n, f)| (n.as_str(), f.kind))
        .collect();
    let expected = [
        ("a.journal", JournalKind::Ops),
        ("empty.evlog.journal", JournalKind::Raw),
    ];
    assert_eq!(files, expected);
    assert!(is_durable(&snapshot, "a.journal", 1_500_000) && snapshot.lag_bytes() == 0);
    assert_eq!(cluster.journal(&journal("empty.evlog.journal")).0, b"");
}

#[tokio::test]
async fn growth_and_new_files_arrive_also_over_lost_nodes_and_the_stop_is_in_order() {
    let mut cluster = FakeCluster::start(3).await;
    let dir = tempfile::tempdir().unwrap();
    let bytes = pattern(900_000);
    let mut mirror = DirMirror::start(&cluster.client(&[0, 1, 2]), options(dir.path()));
    append(&dir.path().join("a.journal"), &bytes[..300_000]);
    until(&mirror, "a new file", |s| {
        is_durable(s, "a.journal", 300_000)
    })
    .await;
    for node in 0..3 {
        cluster.fault(node, |faults| faults.break_appends_after = Some(2));
    }
    append(&dir.path().join("a.journal"), &bytes[300_000..600_000]);
    append(&dir.path().join("b.journal"), &bytes);
    until(&mirror, "over broken streams", |s| {
        is_durable(s, "a.journal", 600_000) && is_durable(s, "b.journal", 900_000)
    })
    .await;
    cluster.kill(0);
    cluster.gone(0).await;
    cluster.lead(1);
    append(&dir.path().join("a.journal"), &bytes[600_000..]);
    until(&mirror, "over a lost node", |s| {
        is_durable(s, "a.journal", 900_000)
    })
    .await;
    mirror.stop();
    mirror.ended().await.unwrap();
    for name in ["a.journal", "b.journal"] {
        assert!(cluster.journal(&journal(name)).0 == bytes, "{name}");
    }
}

#[tokio::test]
async fn a_file_shorter_than_its_journal_is_refused_and_nobody_is_fenced() {
    let cluster = FakeCluster::start(1).await;
    let (dir, path) = mirrored(&cluster, &pattern(1000)).await;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(999).unwrap();
    let fault = refused(&cluster, dir.path()).await;
    assert!(matches!(fault, MirrorFault::Shorter { .. }), "{fault}");
    let text = fault.to_string();
    assert!(
        text.contains("has 999 bytes, the cluster has 1000"),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_whose_last_bytes_differ_is_refused_and_nobody_is_fenced() {
    let cluster = FakeCluster::start(1).await;
    let mut bytes = pattern(100_000);
    let (dir, path) = mirrored(&cluster, &bytes).await;
    bytes[40_000] ^= 1;
    std::fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
    let fault = refused(&cluster, dir.path()).await;
    assert!(matches!(fault, MirrorFault::Different { .. }), "{fault}");
    assert!(
        fault.to_string().contains("65536 bytes before 100000"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_file_that_is_cut_or_replaced_stops_and_the_others_go_on() {
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["cut.journal", "new.journal", "gone.journal", "fine.journal"] {
        append(&path(name), b"0123456789");
    }
    let mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    until(&mirror, "all", |s| s.durable_bytes() == 40).await;
    let file = OpenOptions::new()
        .write(true)
        .open(path("cut.journal"))
        .unwrap();
    file.set_len(3).unwrap();
    append(&path("x"), b"0123456789 and more");
    std::fs::rename(path("x"), path("new.journal")).unwrap();
    std::fs::remove_file(path("gone.journal")).unwrap();
    let stopped = |s: &MirrorSnapshot, name| fault(s, name).is_some();
    until(&mirror, "three have stopped", |s| {
        stopped(s, "cut.journal") && stopped(s, "new.journal") && stopped(s, "gone.journal")
    })
    .await;
    append(&path("fine.journal"), b"abc");
    until(&mirror, "the other", |s| is_durable(s, "fine.journal", 13)).await;
    let snapshot = mirror.view().snapshot();
    for (name, is_cut) in [
        ("cut.journal", true),
        ("new.journal", false),
        ("gone.journal", false),
    ] {
        let fault = fault(&snapshot, name).unwrap();
        assert_eq!(matches!(fault, MirrorFault::Cut { .. }), is_cut, "{fault}");
        assert_eq!(
            matches!(fault, MirrorFault::Replaced { .. }),
            !is_cut,
            "{fault}"
        );
        assert_eq!(cluster.journal(&journal(name)).0, b"0123456789");
    }
}

#[tokio::test]
async fn a_journal_that_someone_else_streams_is_refused_unless_it_is_stolen_which_ends_the_other_for_good()
 {
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.journal"), b"0123456789");
    let first = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    until(&first, "the first", |s| is_durable(s, "a.journal", 10)).await;
    let fault_of_second = refused(&cluster, dir.path()).await;
    assert!(
        matches!(fault_of_second, MirrorFault::InUse { .. }),
        "{fault_of_second}"
    );
    assert!(fault_of_second.to_string().contains("--steal"));

    let steal = MirrorOptions {
        steal: true,
        ..options(dir.path())
    };
    let second = DirMirror::start(&cluster.client(&[0]), steal);
    until(&second, "the second", |s| is_durable(s, "a.journal", 10)).await;
    append(&dir.path().join("a.journal"), b"abc");
    until(&second, "what comes", |s| is_durable(s, "a.journal", 13)).await;
    until(&first, "the first is fenced", |s| {
        fault(s, "a.journal").is_some()
    })
    .await;
    let opens = cluster.append_opens(0);
    append(&dir.path().join("a.journal"), b"def");
    until(&second, "what comes", |s| is_durable(s, "a.journal", 16)).await;
    assert_eq!(cluster.append_opens(0), opens, "it does not fight back");
    assert_eq!(
        cluster.journal(&journal("a.journal")).0,
        b"0123456789abcdef"
    );
}

#[tokio::test]
async fn a_takeover_ends_the_whole_mirror_and_says_who_it_was() {
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.journal"), b"0123456789");
    let mut mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    until(&mirror, "begun", |s| is_durable(s, "a.journal", 10)).await;
    cluster.apply(&foreign_takeover(&worker())).unwrap();
    append(&dir.path().join("a.journal"), b"abc");
    let error = mirror.ended().await.unwrap_err();
    assert!(matches!(error, MirrorError::TakenOver { .. }), "{error}");
    let fault = fault(&mirror.view().snapshot(), "a.journal").unwrap();
    for text in [error.to_string(), fault.to_string()] {
        assert!(text.contains("someone else"), "{text}");
        assert!(!text.contains("an earlier attempt"), "{text}");
    }
}

#[tokio::test]
async fn a_directory_that_was_mirrored_before_a_takeover_is_refused_until_it_is_adopted() {
    let cluster = FakeCluster::start(1).await;
    let (dir, path) = mirrored(&cluster, b"0123456789").await;
    cluster.apply(&foreign_takeover(&worker())).unwrap();
    append(&path, b"abc");
    for options in [once(dir.path()), options(dir.path())] {
        for steal in [false, true] {
            let options = MirrorOptions {
                steal,
                ..options.clone()
            };
            let mut mirror = DirMirror::start(&cluster.client(&[0]), options);
            let error = mirror.ended().await.unwrap_err();
            let MirrorError::TakenOverSince { held, current, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!((held.0, current.0), (1, 2));
            assert_eq!(error.effect(), Effect::None);
        }
    }
    assert_eq!(cluster.journal(&journal("a.journal")).0, b"0123456789");
    let adopt = MirrorOptions {
        adopt: true,
        ..once(dir.path())
    };
    for options in [adopt, once(dir.path())] {
        let mut mirror = DirMirror::start(&cluster.client(&[0]), options);
        mirror.ended().await.unwrap();
        let name = journal("a.journal");
        assert_eq!(cluster.journal(&name).0, b"0123456789abc");
    }
}

#[tokio::test]
async fn a_directory_that_was_mirrored_to_another_cluster_is_refused_until_it_is_adopted() {
    let (cluster, other) = (FakeCluster::start(1).await, FakeCluster::start(1).await);
    let (dir, _) = mirrored(&cluster, b"0123456789").await;
    // It may know no such worker, one at the same epoch, or one at another.
    for current in [None, Some(1), Some(2)] {
        match current {
            None => {}
            Some(1) => {
                let client = other.client(&[0]);
                client.open_worker(&worker(), None).await.unwrap();
            }
            _ => drop(other.apply(&foreign_takeover(&worker())).unwrap()),
        }
        let mut mirror = DirMirror::start(&other.client(&[0]), once(dir.path()));
        let error = mirror.ended().await.unwrap_err();
        let MirrorError::OtherCluster { current: there, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(there.map(|epoch| epoch.0), current, "{error}");
        assert_eq!(other.append_opens(0), 0);
    }
    let adopt = MirrorOptions {
        adopt: true,
        ..once(dir.path())
    };
    let mut mirror = DirMirror::start(&other.client(&[0]), adopt);
    mirror.ended().await.unwrap();
    assert_eq!(other.journal(&journal("a.journal")).0, b"0123456789");
    let mut mirror = DirMirror::start(&cluster.client(&[0]), once(dir.path()));
    let error = mirror.ended().await.unwrap_err();
    assert!(matches!(error, MirrorError::OtherCluster { .. }), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_before_the_epoch_is_written_down_which_is_never_mirrored_itself() {
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.journal"), b"0123456789");
    let in_the_way = dir.path().join(".dos-mirror-worker@job.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let mut mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    let error = mirror.ended().await.unwrap_err();
    assert!(
        error.to_string().contains(".dos-mirror-worker@job"),
        "{error}"
    );
    assert_eq!(cluster.append_opens(0), 0);
    std::fs::remove_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let everything = MirrorOptions {
            pattern: "*".parse().unwrap(),
            ..once(dir.path())
        };
        let mut mirror = DirMirror::start(&cluster.client(&[0]), everything);
        mirror.ended().await.unwrap();
        let snapshot = mirror.view().snapshot();
        let files: Vec<_> = snapshot.files.keys().map(JournalName::as_str).collect();
        assert_eq!(files, ["a.journal"]);
        assert!(dir.path().join(".dos-mirror-worker@job").is_file());
    }
}

#[tokio::test]
async fn a_mirror_with_nothing_to_mirror_registers_nobody() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("notes"), b"not meant");
    std::fs::create_dir(dir.path().join("c.journal")).unwrap();
    let mut mirror = DirMirror::start(&client, once(dir.path()));
    let error = mirror.ended().await.unwrap_err();
    assert!(
        matches!(error, MirrorError::NothingToMirror { .. }),
        "{error}"
    );
    assert_eq!(mirror.view().snapshot().refused.len(), 1);
    let mirror = DirMirror::start(&client, options(dir.path()));
    until(&mirror, "it waits", |s| {
        s.idle.is_some() && s.refused.len() == 1
    })
    .await;
    let (_, is_new) = client.open_worker(&worker(), None).await.unwrap();
    assert!(is_new);
    append(&dir.path().join("a.journal"), b"0123456789");
    until(&mirror, "begun", |s| is_durable(s, "a.journal", 10)).await;
    assert!(mirror.view().snapshot().idle.is_none());
}

#[tokio::test]
async fn a_mirror_ends_once_no_file_is_left_that_can_go_on() {
    let cluster = FakeCluster::start(1).await;
    let (dir, path) = mirrored(&cluster, b"0123456789").await;
    append(&dir.path().join("b.journal"), b"01234");
    let mut mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    until(&mirror, "both", |s| s.durable_bytes() == 15).await;
    std::fs::remove_file(&path).unwrap();
    until(&mirror, "one stops", |s| fault(s, "a.journal").is_some()).await;
    append(&dir.path().join("b.journal"), b"56789");
    until(&mirror, "the other goes on", |s| {
        is_durable(s, "b.journal", 10)
    })
    .await;
    std::fs::remove_file(dir.path().join("b.journal")).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), mirror.ended());
    ended.await.unwrap().unwrap();
    assert!(fault(&mirror.view().snapshot(), "b.journal").is_some());
}

/// A scan comes every five seconds, and begins anew with each change that is seen: without the wake-ups each round would
/// take as long.
#[tokio::test]
async fn growth_and_new_files_are_noticed_when_they_come() {
    const ROUNDS: u64 = 6;
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    let began = std::time::Instant::now();
    for round in 1..=ROUNDS {
        append(&dir.path().join("a.journal"), b"0123456789");
        until(&mirror, "growth", |s| {
            is_durable(s, "a.journal", round * 10)
        })
        .await;
        let name = format!("{round}.journal");
        append(&dir.path().join(&name), b"01234");
        until(&mirror, "a new file", |s| is_durable(s, &name, 5)).await;
    }
    // Eleven of twelve scans' distances would be 55 s.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn more_files_than_streams_take_turns() {
    let cluster = FakeCluster::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..40).map(|n| format!("{n}.journal")).collect();
    for name in &names {
        append(&dir.path().join(name), b"0123456789");
    }
    let mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    until(&mirror, "all", |s| s.durable_bytes() == 400).await;
    for name in &names {
        append(&dir.path().join(name), b"abc");
    }
    until(&mirror, "all again", |s| s.durable_bytes() == 520).await;
    for name in &names {
        assert_eq!(cluster.journal(&journal(name)).0, b"0123456789abc");
    }
}

#[tokio::test]
async fn a_mirror_waits_for_a_cluster_that_is_not_there_yet_and_once_does_not() {
    let mut cluster = FakeCluster::start(1).await;
    cluster.kill(0);
    cluster.gone(0).await;
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.journal"), b"0123456789");
    let mut impatient = DirMirror::start(&cluster.client(&[0]), once(dir.path()));
    let error = impatient.ended().await.unwrap_err();
    assert!(
        matches!(
            error,
            MirrorError::Client(ClientError::CannotConnect { .. })
        ),
        "{error}"
    );
    let mut mirror = DirMirror::start(&cluster.client(&[0]), options(dir.path()));
    while mirror.view().snapshot().outage.is_none() {
        assert_eq!(mirror.next().await.unwrap(), Step::News);
    }
    cluster.restart(0).await;
    until(&mirror, "begun", |s| is_durable(s, "a.journal", 10)).await;
    assert!(mirror.view().snapshot().outage.is_none());
}

#[tokio::test]
async fn a_journal_of_the_other_kind_and_a_bad_name_are_told_of() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    let (epoch, _) = client.open_worker(&worker(), None).await.unwrap();
    let (name, kind) = (journal("a.journal"), JournalKind::Raw);
    let options = AppendOptions::of(&client);
    let stream = AppendStream::open(&client, &name, kind, epoch, None, options).await;
    stream.unwrap().close().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.journal"), b"0123456789");
    append(&dir.path().join("b\n.journal"), b"0123456789");
    std::fs::create_dir(dir.path().join("c.journal")).unwrap();
    let mut mirror = DirMirror::start(&client, once(dir.path()));
    mirror.ended().await.unwrap();
    let snapshot = mirror.view().snapshot();
    let fault = fault(&snapshot, "a.journal").unwrap();
    assert!(
        fault.to_string().contains("is of kind raw, not ops"),
        "{fault}"
    );
    let refused: Vec<_> = snapshot.refused.keys().map(String::as_str).collect();
    assert_eq!(refused, ["b\\n.journal", "c.journal"]);
}

//! What is refused before a legacy worker is fenced, and directories that are not meant.

use super::*;

fn forced(to: &Path) -> RestoreOptions {
    RestoreOptions {
        force: true,
        ..options(to)
    }
}

/// A directory with the files of a neighbour.
fn shared(temp: &tempfile::TempDir) -> std::path::PathBuf {
    let to = temp.path().join("shared");
    std::fs::create_dir(&to).unwrap();
    for suffix in ["journal", "evlog.journal", "workers"] {
        let name = format!("word count-worker1.{suffix}");
        std::fs::write(to.join(name), b"theirs").unwrap();
    }
    to
}

#[tokio::test]
async fn a_worker_of_which_the_cluster_has_a_part_only_is_refused_and_its_neighbours_keep_their_files()
 {
    let table = [
        (format!("{P}.journal"), format!("{P}.evlog.journal")),
        (format!("{P}.evlog.journal"), format!("{P}.journal")),
    ];
    for (has, lacks) in table {
        let cluster = FakeCluster::start(1).await;
        let client = cluster.client(&[0]);
        put(&client, &has, b"").await;
        let temp = tempfile::tempdir().unwrap();
        let to = shared(&temp);
        let before = files(&to);
        let addresses = [("control".to_owned(), "new:3131".to_owned())];
        let moved = RestoreOptions {
            endpoint: Some(Addresses::new(addresses.into()).unwrap()),
            ..options(&to)
        };
        for wanted in [options(&to), forced(&to), moved] {
            for error in [
                client.restore(wanted.clone(), &quiet).await.map(drop),
                client.plan_restore(wanted).await.map(drop),
            ] {
                let error = error.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
                let remove = format!("journal rm 'job/worker/{has}'");
                for part in [&has, &lacks, "is not in the cluster", &remove, "--native"] {
                    assert!(error.to_string().contains(part), "no {part:?} in {error}");
                }
            }
        }
        assert_eq!(cluster.epoch(&worker()), Epoch(1), "nobody was fenced");
        assert_eq!(files(&to), before);

        let native = RestoreOptions {
            native: true,
            ..options(&temp.path().join("own"))
        };
        let report = client.restore(native, &quiet).await.unwrap();
        assert!(report.legacy.is_none());
        assert!(temp.path().join("own").join(&has).exists());
    }
}

#[tokio::test]
async fn a_directory_with_the_journals_of_others_is_not_replaced_even_with_force() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    put(&client, "ours.journal", b"").await;
    let temp = tempfile::tempdir().unwrap();
    let to = shared(&temp);
    let before = files(&to);
    for wanted in [options(&to), forced(&to)] {
        let error = client.restore(wanted, &quiet).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("word count-worker1.evlog.journal"), "{said}");
        assert!(!said.contains("--force"), "{said}");
    }
    assert_eq!(cluster.epoch(&worker()), Epoch(1), "nobody was fenced");
    assert_eq!(files(&to), before);

    // Its own, of which an earlier version left no identity, may be replaced.
    let own = temp.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("ours.journal"), b"stale").unwrap();
    client.restore(forced(&own), &quiet).await.unwrap();
    assert_eq!(std::fs::read(own.join("ours.journal")).unwrap(), b"");
}

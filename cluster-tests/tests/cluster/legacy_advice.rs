//! What an operator is told who restores a legacy worker: what would be done, what is refused, and the way out.

use dos_cluster_tests::{CliOutput, TestCluster, legacy::LegacyClient, phase};

use crate::legacy_restore::{P, append, events, files, ids, restore, started, write, write_to};

const OPS: &str = "wallaroo/worker2/Multi Partition Detector-worker2.journal";
const LOG: &str = "wallaroo/worker2/Multi Partition Detector-worker2.evlog.journal";

/// A restore of `worker2`, in the words for people.
async fn told(cluster: &TestCluster, to: &std::path::Path, more: &[&str]) -> CliOutput {
    let to = to.to_str().unwrap();
    let arguments = [
        "restore", "--job", "wallaroo", "--worker", "worker2", "--to", to,
    ];
    cluster.cli(&[&arguments[..], more].concat()).await
}

async fn set_endpoint(cluster: &TestCluster, addresses: &[&str]) {
    let arguments = [&["endpoint", "set", "wallaroo/worker2"][..], addresses].concat();
    let _ = cluster.cli(&arguments).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_is_told_to_people_and_what_is_restored_is_what_was_planned() {
    let cluster = TestCluster::start(1).await;
    let history = "/home/wally/TODO-EventLog-rotation-history.txt";
    let ops = [
        started(),
        write_to(history, 0, b"rotated"),
        write(0, "checkpoint_ids", &ids(1)),
        write(24, "checkpoint_ids", &ids(2)),
    ];
    append(&cluster, OPS, "ops", &ops.concat()).await;
    append(&cluster, LOG, "raw", &[events(1), events(2)].concat()).await;
    let second = OPS.replace("Multi Partition Detector", "Other App");
    append(&cluster, &second, "ops", &started()).await;
    append(
        &cluster,
        &second.replace(".journal", ".evlog.journal"),
        "raw",
        &events(1),
    )
    .await;

    phase("which application is meant has to be said");
    let to = cluster.dir().join("shared");
    std::fs::create_dir(&to).unwrap();
    let which = told(&cluster, &to, &["--dry-run"]).await;
    let _ = which.exits_with(4, &["--prefix", P, "Other App-worker2"]);
    let which = told(&cluster, &to, &["--prefix", "Third App"]).await;
    let _ = which.exits_with(4, &["Third App", P, "Other App-worker2"]);

    phase("a dry run names files, cuts and addresses, and what is not known of those");
    set_endpoint(&cluster, &["admin=c:3"]).await;
    let moved = [
        "--prefix",
        "Multi Partition Detector",
        "--control",
        "new:3131",
    ];
    let plan = told(
        &cluster,
        &to,
        &[&moved[..], &["--at", "1", "--dry-run"]].concat(),
    )
    .await;
    let plan = plan.done();
    for part in [
        &format!("its files are {P}.*"),
        "epoch 1",
        "admin=c:3 control=new:3131",
        &(events(1).len().to_string()),
    ] {
        assert!(plan.stdout.contains(part), "no {part:?} in {}", plan.stdout);
    }
    assert!(
        plan.stderr.contains("without --dry-run does it"),
        "{plan:?}"
    );
    assert!(plan.stderr.contains(&format!("{P}.tcp-data")), "{plan:?}");
    assert!(files(&to, &[]).is_empty());

    phase("the restore does what was planned, and says what it passed over");
    let done = told(&cluster, &to, &[&moved[..], &["--at", "1"]].concat()).await;
    let done = done.done();
    for part in [
        &format!("{history} is not of this worker's files and was skipped, with 1 record\n"),
        &format!("warning: no data address is given and the cluster has none, so {P}.tcp-data"),
        "make sure that the old process of wallaroo/worker2 is dead",
        "Other App-worker2.journal is not of",
    ] {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
    let found = files(&to, &[]);
    assert_eq!(found["evlog"], events(1));
    assert_eq!(found["tcp-control"], b"new\n3131\n");
    assert_eq!(found["tcp-data"], b"10.0.0.1\n3132\n");
    let known = cluster
        .cli(&["endpoint", "get", "wallaroo/worker2", "-o", "json"])
        .await;
    let known = known.done().json();
    let addresses = serde_json::json!({"admin": "c:3", "control": "new:3131"});
    assert_eq!(known["addresses"], addresses, "{known}");

    phase("an address that is known stays, and is written");
    set_endpoint(&cluster, &["control=a:1", "data=b:2"]).await;
    let again = cluster.dir().join("again");
    let done = told(&cluster, &again, &moved).await.done();
    assert!(done.stderr.contains("tcp-data holds b:2"), "{done:?}");
    assert_eq!(files(&again, &[])["tcp-data"], b"b\n2\n");

    phase("what is there is not replaced without leave, which a dry run says, too");
    let refused = told(&cluster, &to, &[&moved[..], &["--dry-run"]].concat())
        .await
        .done();
    assert!(
        refused.stdout.contains("REFUSED WITHOUT --FORCE"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("is refused: what is there"),
        "{refused:?}"
    );
    let _ = told(&cluster, &to, &moved)
        .await
        .exits_with(1, &["--force"]);

    phase("a dry run is refused where the restore would be");
    std::fs::create_dir(cluster.dir().join("blocked")).unwrap();
    let blocked = cluster.dir().join("blocked");
    std::fs::create_dir(blocked.join(format!("{P}.workers"))).unwrap();
    for more in [&moved[..], &[&moved[..], &["--dry-run"]].concat()] {
        let refused = told(&cluster, &blocked, more).await;
        let _ = refused.exits_with(1, &["it is a directory, where a file"]);
        let nowhere = told(&cluster, "/proc/nope".as_ref(), more).await;
        let _ = nowhere.exits_with(1, &["cannot create /proc/nope"]);
    }

    phase("a name that was mistyped is told from those that are there");
    let typo = [
        "restore", "--job", "wallaroo", "--worker", "worker3", "--to", "x",
    ];
    let said = ["job wallaroo has worker2"];
    let _ = cluster.cli(&typo).await.exits_with(4, &said);
    let typo = [
        "restore", "--job", "walaroo", "--worker", "worker2", "--to", "x",
    ];
    let said = ["no job walaroo, only wallaroo"];
    let _ = cluster.cli(&typo).await.exits_with(4, &said);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_be_restored_starts_anew_by_what_the_operator_is_told() {
    let cluster = TestCluster::start(1).await;
    let to = cluster.dir().join("shared");
    std::fs::create_dir(&to).unwrap();
    let neighbour = "Multi Partition Detector-worker1.journal";
    std::fs::write(to.join(neighbour), "theirs").unwrap();

    phase("it died before its event log had reached the cluster");
    append(&cluster, OPS, "ops", &started()).await;
    for more in [&[][..], &["--force"], &["--control", "a:1"], &["--dry-run"]] {
        let refused = told(&cluster, &to, more).await;
        let said = [
            "is not in the cluster",
            &format!("`dos-cluster journal rm '{OPS}'`"),
        ];
        let _ = refused.exits_with(4, &said);
    }
    let native = told(&cluster, &to, &["--native", "--force"]).await;
    let _ = native.exits_with(1, &[neighbour]);
    assert!(files(&to, &[neighbour]).is_empty());
    let epoch = cluster
        .cli(&["worker", "list", "wallaroo", "-o", "json"])
        .await;
    assert_eq!(
        epoch.done().json()["workers"][0]["epoch"],
        1,
        "nobody was fenced"
    );

    phase("it died before its first checkpoint: there is none to choose");
    append(&cluster, LOG, "raw", b"").await;
    let failed = restore(&cluster, &to, &[]).await;
    let failed = failed.exits_with(
        6,
        &["knows of no checkpoint", "its old incarnation is fenced"],
    );
    assert!(!failed.stderr.contains("restore again"), "{failed:?}");
    assert!(files(&to, &[neighbour]).is_empty(), "nothing is left of it");

    phase("what the operator is told to do makes the worker start");
    for journal in [LOG, OPS] {
        let command = format!("`dos-cluster journal rm '{journal}'`");
        assert!(failed.stderr.contains(&command), "{failed:?}");
        let _ = cluster.cli(&["journal", "rm", journal]).await.done();
    }
    let anew = LegacyClient::in_dir(cluster.nodes[0].legacy_address(), "worker2").await;
    let anew = anew.append(&format!("{P}.journal"), 0).await;
    assert!(anew.is_ok(), "{:?}", anew.err());
    cluster.finish().await;
}

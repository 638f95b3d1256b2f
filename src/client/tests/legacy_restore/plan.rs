//! What a plan tells: what a restore would replace, and what it would refuse.

use super::*;

/// A plan is refused as the restore would be, and leaves nothing.
async fn refused_alike(client: &Client, wanted: RestoreOptions, part: &str) {
    let planned = client.plan_restore(wanted.clone()).await.unwrap_err();
    let restored = client.restore(wanted, &quiet).await.unwrap_err();
    assert_eq!(planned.to_string(), restored.to_string());
    assert!(planned.to_string().contains(part), "{planned}");
}

#[tokio::test]
async fn a_plan_is_refused_where_the_restore_would_be() {
    let (cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path();
    std::fs::create_dir(to.join(format!("{P}.workers"))).unwrap();
    refused_alike(&client, options(to), "it is a directory").await;
    let nowhere = options(Path::new("/proc/nope"));
    refused_alike(&client, nowhere.clone(), "/proc").await;
    let from = RestoreOptions {
        from: Some("n9".into()),
        ..options(&to.join("fine"))
    };
    refused_alike(&client, from, "n9").await;
    let native = FakeCluster::start(1).await;
    let native_client = native.client(&[0]);
    put(&native_client, "ours.journal", b"").await;
    refused_alike(&native_client, nowhere, "/proc").await;
    let foreign = temp.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("theirs.journal"), b"").unwrap();
    refused_alike(&native_client, options(&foreign), "theirs.journal").await;
    let here = std::env::current_dir().unwrap();
    refused_alike(&native_client, options(&here), "works inside it").await;

    let far = temp.path().join("a/b/c");
    let plan = native_client.plan_restore(options(&far)).await.unwrap();
    assert_eq!(plan.directory, far);
    let names = std::fs::read_dir(to).unwrap().count();
    assert_eq!(names, 2, "a plan leaves nothing");
    for cluster in [&cluster, &native] {
        assert_eq!(cluster.epoch(&worker()), Epoch(1), "nobody was fenced");
    }
}

#[tokio::test]
async fn an_operators_own_file_is_not_planned_to_be_replaced_and_asks_for_no_force() {
    let (_cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let (to, notes) = (temp.path(), temp.path().join(format!("{P}.notes")));
    std::fs::write(&notes, b"kept").unwrap();
    let plan = client.plan_restore(options(to)).await.unwrap();
    assert!(plan.replaces.is_empty() && !plan.needs_force, "{plan:?}");
    client.restore(options(to), &quiet).await.unwrap();
    assert_eq!(std::fs::read(&notes).unwrap(), b"kept");

    let plan = client.plan_restore(options(to)).await.unwrap();
    assert!(plan.needs_force);
    let workers = to.join(format!("{P}.workers"));
    assert!(plan.replaces.contains(&workers), "{plan:?}");
    assert!(!plan.replaces.contains(&notes), "{plan:?}");
}

#[tokio::test]
async fn a_file_that_only_the_journal_makes_is_not_replaced_without_leave_either() {
    let ops = [started(), write_at(0, &format!("/old/{P}.extra"), b"new")].concat();
    let (_cluster, client) = cluster(&ops, &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let extra = temp.path().join(format!("{P}.extra"));
    std::fs::write(&extra, b"old").unwrap();
    let error = client.restore(options(temp.path()), &quiet).await;
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("a file of") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(files(temp.path()).len(), 1);
    assert_eq!(std::fs::read(&extra).unwrap(), b"old");
}

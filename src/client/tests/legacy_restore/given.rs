//! What is given with a restore: addresses, an owner, a name that may be wrong.

use std::os::unix::fs::{MetadataExt, chown};

use super::*;

fn addresses(of: &[(&str, &str)]) -> Addresses {
    let of = of.iter();
    let of = of.map(|(role, address)| ((*role).to_owned(), (*address).to_owned()));
    Addresses::new(of.collect()).unwrap()
}

async fn in_force(client: &Client) -> Addresses {
    let of = worker();
    let known = client.endpoints(None, Some(&of), Floor::Linearizable);
    known.await.unwrap().endpoints[&of].addresses.clone()
}

#[tokio::test]
async fn an_address_that_is_not_given_stays_as_it_is_and_that_is_said() {
    let (_cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    let (first, second) = (temp.path().join("first"), temp.path().join("second"));
    let control = |to: &Path, address| RestoreOptions {
        endpoint: Some(addresses(&[("control", address)])),
        ..options(to)
    };
    let data = format!("{P}.tcp-data");

    let report = client
        .restore(control(&first, "a:1"), &quiet)
        .await
        .unwrap();
    assert_eq!(in_force(&client).await, addresses(&[("control", "a:1")]));
    assert_eq!(files(&first)[&data], b"old\n3132\n");
    let [warning] = report.legacy.unwrap().warnings.try_into().unwrap();
    assert!(
        warning.contains(&data) && warning.contains("--data"),
        "{warning}"
    );

    let all = [("control", "a:1"), ("data", "b:2"), ("admin", "c:3")];
    let of = worker();
    let set = client.set_endpoint(&of, None, addresses(&all), "test");
    set.await.unwrap();
    let wanted = control(&second, "new:3131");
    let now = addresses(&[("control", "new:3131"), ("data", "b:2"), ("admin", "c:3")]);
    let plan = client.plan_restore(wanted.clone()).await.unwrap();
    assert_eq!(plan.endpoint.as_ref(), Some(&now));
    let report = client.restore(wanted, &quiet).await.unwrap();
    assert_eq!(in_force(&client).await, now);
    let found = files(&second);
    assert_eq!(found[&format!("{P}.tcp-control")], b"new\n3131\n");
    assert_eq!(found[&data], b"b\n2\n");
    let warnings = report.legacy.unwrap().warnings;
    assert_eq!(warnings, plan.warnings);
    let [warning] = warnings.try_into().unwrap();
    assert!(
        warning.contains("b:2") && warning.contains("--data"),
        "{warning}"
    );
}

/// The owners of everything below a directory, and of it.
fn owners_below(root: &Path) -> Vec<(u32, u32)> {
    let found = std::fs::symlink_metadata(root).unwrap();
    let mut owners = vec![(found.uid(), found.gid())];
    if found.is_dir() {
        for entry in std::fs::read_dir(root).unwrap() {
            owners.extend(owners_below(&entry.unwrap().path()));
        }
    }
    owners
}

#[tokio::test]
async fn what_root_restores_belongs_to_whom_the_directory_belongs_to() {
    let temp = tempfile::tempdir().unwrap();
    let of = |path: &Path| chown(path, Some(1234), Some(2345));
    if of(temp.path()).is_err() {
        return; // only root can give anything away
    }
    let (_cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let native = FakeCluster::start(1).await;
    let native = native.client(&[0]);
    put(&native, "ours.journal", &write_at(0, "deep/f", b"x")).await;
    for (client, name) in [(&client, "legacy"), (&native, "native")] {
        let missing = temp.path().join(format!("{name}-parent/missing"));
        client.restore(options(&missing), &quiet).await.unwrap();
        let there = temp.path().join(name);
        std::fs::create_dir(&there).unwrap();
        of(&there).unwrap();
        client.restore(options(&there), &quiet).await.unwrap();
    }
    let owners = owners_below(temp.path());
    assert!(owners.len() > 25, "{owners:?}");
    assert!(
        owners.iter().all(|owner| *owner == (1234, 2345)),
        "{owners:?}"
    );

    // Root's own stays root's.
    let roots = tempfile::tempdir().unwrap();
    client.restore(options(roots.path()), &quiet).await.unwrap();
    let owners = owners_below(roots.path());
    assert!(owners.iter().all(|(user, _)| *user == 0), "{owners:?}");
}

#[tokio::test]
async fn a_worker_whose_name_was_mistyped_is_told_from_those_that_are_there() {
    let (_cluster, client) = cluster(&started(), &events(&[Event::CheckpointId(0)])).await;
    let temp = tempfile::tempdir().unwrap();
    for (name, part) in [
        ("job/workr", "job job has worker"),
        ("jbo/worker", "only job"),
    ] {
        let to = temp.path().join("to");
        let wanted = RestoreOptions::new(name.parse().unwrap(), &to, "test");
        for error in [
            client.plan_restore(wanted.clone()).await.map(drop),
            client.restore(wanted, &quiet).await.map(drop),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
            let said = error.to_string();
            assert!(said.contains(part) && said.contains(name), "{said}");
            assert!(!said.contains("open it"), "{said}");
        }
        assert!(!to.exists());
    }
}

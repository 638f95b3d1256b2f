//! Promise 1: what was acknowledged survives kill -9 of anything.

use dos_cluster_tests::{Load, LoadOptions, TestCluster, phase};

use crate::{stop_and_verify, verify_at, worker};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn acked_bytes_survive_kill_9_of_the_leader_mid_stream() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    for round in 1..=2 {
        phase(&format!("round {round}: kill the leader mid-stream"));
        load.advance(MIB).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill9();
        let durable = load.durable();

        phase("the others hold everything acknowledged, and the stream goes on");
        let other = (leader + 1) % 3;
        verify_at(&cluster, other, load.journal(), load.seed(), durable).await;
        load.advance(MIB).await;

        phase("the killed node comes back");
        cluster.nodes[leader].start();
        cluster.ready().await;
    }
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acked_bytes_survive_kill_9_of_all_nodes_at_once() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    for round in 1..=2 {
        phase(&format!("round {round}: kill all nodes mid-stream"));
        load.advance(2 * MIB).await;
        cluster.kill9_all();
        let durable = load.durable();

        phase("start them again");
        cluster.start_all();
        cluster.ready().await;
        for place in 0..3 {
            verify_at(&cluster, place, load.journal(), load.seed(), durable).await;
        }
    }
    phase("the writer goes on by itself");
    load.advance(MIB).await;
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acked_checkpoints_survive_kill_9_of_a_worker_and_the_leader_together() {
    let mut cluster = TestCluster::start(3).await;
    let dir = cluster.dir().join("worker");

    phase("a worker process writes files and makes checkpoints");
    let mut worker = worker::spawn(&cluster.endpoints(), "job/w", &dir);
    worker.acked_at_least(20).await;

    phase("kill -9 of the worker and of the leader");
    let leader = cluster.leader().await;
    worker.kill9();
    cluster.nodes[leader].kill9();
    let acked = worker.acked();
    std::fs::remove_dir_all(&dir).unwrap();

    phase("restore from the survivors");
    let restored = cluster.dir().join("restored");
    let to = restored.to_str().unwrap();
    let report = cluster
        .cli(&[
            "restore", "--job", "job", "--worker", "w", "--to", to, "-o", "json",
        ])
        .await
        .done();
    assert_eq!(report.json()["epoch"], 2, "{report:?}");
    worker::assert_files(&restored, acked.files_bytes);

    phase("the restored worker goes on; the killed node catches up");
    cluster.nodes[leader].start();
    let mut worker = worker::spawn(&cluster.endpoints(), "job/w", &restored);
    worker.acked_at_least(acked.number + 20).await;
    worker.kill9();
    cluster.ready().await;
    cluster.converged().await;

    phase("restore at the line: exactly the newest checkpoint, everywhere");
    let acked = worker.acked();
    let again = cluster.dir().join("again");
    let to = again.to_str().unwrap();
    let arguments = [
        "restore", "--job", "job", "--worker", "w", "--to", to, "--at", "line", "-o", "json",
    ];
    let report = cluster.cli(&arguments).await.done().json();
    let number: u64 = report["checkpoint"]
        .as_str()
        .unwrap()
        .split(':')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        number >= acked.number,
        "checkpoint {} was acknowledged, {number} was restored",
        acked.number
    );
    assert_eq!(
        worker::assert_files(&again, acked.files_bytes),
        worker::files_bytes(number)
    );
    cluster.finish().await;
}

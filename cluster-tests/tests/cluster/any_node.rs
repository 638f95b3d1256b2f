//! Any node takes appends, serves reads, and feeds restores.

use dos_cluster_tests::{TestCluster, cli, phase, raw, raw::RawAppend};

use crate::{journal, verify_at, verify_everywhere};

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_appends_and_serves_reads_and_restores_while_one_is_down() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let leader = cluster.leader().await;

    phase("append through each node alone");
    let journals: Vec<_> = (0..3)
        .map(|place| journal(&format!("job/w{place}/log")))
        .collect();
    for (place, journal) in journals.iter().enumerate() {
        let (epoch, created) = client.open_worker(&journal.owner, None).await.unwrap();
        assert!(created);
        let address = cluster.nodes[place].address();
        let mut stream = RawAppend::open(address, journal, epoch.0, Some(0))
            .await
            .unwrap();
        let told = if place == leader {
            ""
        } else {
            cluster.nodes[leader].address()
        };
        assert_eq!(
            stream.opened.leader_address, told,
            "who leads, as told by {address}"
        );
        let bytes = dos_cluster_tests::pattern(place as u64, 0, 2 << 20);
        for part in bytes.chunks(100_000) {
            assert!(stream.send(part.to_vec()).await);
        }
        assert_eq!(stream.durable().await.unwrap(), bytes.len() as u64);
    }
    for (seed, journal) in journals.iter().enumerate() {
        verify_everywhere(&cluster, journal, seed as u64, 2 << 20).await;
    }

    phase("with one node down the others still do");
    let down = cluster.follower().await;
    cluster.nodes[down].kill9();
    let up: Vec<usize> = (0..3).filter(|place| *place != down).collect();
    for place in &up {
        verify_at(&cluster, *place, &journals[0], 0, 2 << 20).await;
    }
    for (place, from) in up.iter().enumerate() {
        let address = cluster.nodes[*from].address().to_owned();
        let to = cluster.dir().join(format!("restored{place}"));
        let worker = format!("w{place}");
        let arguments = [
            "restore",
            "--job",
            "job",
            "--worker",
            &worker,
            "--to",
            to.to_str().unwrap(),
            "--from",
            &address,
        ];
        let report = cluster
            .cli(&[&arguments[..], &["-o", "json"]].concat())
            .await
            .done()
            .json();
        assert_eq!(
            report["journals"][0]["members"][&address],
            2 << 20,
            "{report}"
        );
        let bytes = std::fs::read(to.join("log")).unwrap();
        dos_cluster_tests::assert_pattern(place as u64, 0, &bytes);
        assert_eq!(bytes.len(), 2 << 20);
    }

    phase("a restore from all members does without the one that is down");
    let to = cluster.dir().join("restored");
    let arguments = [
        "restore",
        "--job",
        "job",
        "--worker",
        "w2",
        "--to",
        to.to_str().unwrap(),
        "-o",
        "json",
    ];
    let report = cluster.cli(&arguments).await.done().json();
    let members = report["journals"][0]["members"].as_object().unwrap();
    assert!(
        !members.contains_key(cluster.nodes[down].address()),
        "{report}"
    );
    dos_cluster_tests::assert_pattern(2, 0, &std::fs::read(to.join("log")).unwrap());

    phase("a stale read needs no leader, and says what it is");
    cluster.nodes[down].start();
    cluster.ready().await;
    cluster.converged().await;
    let survivor = up[0];
    for place in (0..3).filter(|place| *place != survivor) {
        cluster.nodes[place].kill9();
    }
    let bytes = raw::read(
        cluster.nodes[survivor].address(),
        &journals[0],
        raw::stale(),
    )
    .await
    .unwrap();
    dos_cluster_tests::assert_pattern(0, 0, &bytes);
    assert_eq!(bytes.len(), 2 << 20);
    let arguments = ["journal", "read", "job/w0/log", "--stale", "--to", "0"];
    let shown = cli(cluster.nodes[survivor].address(), &arguments).await;
    let _ = shown.exits_with(0, &["this may be stale"]);
    cluster.start_all();
    cluster.ready().await;
    cluster.finish().await;
}

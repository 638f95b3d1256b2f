//! Requests that cannot be carried out: each is refused in a sentence, and nothing else happens.

use std::time::Duration;

use dos_cluster::{
    client::ErrorKind,
    domain::{Epoch, Offset, Rejected, RestorePoint},
    pb,
};
use dos_cluster_tests::{
    Load, LoadOptions, TestCluster, cli, cli_with_stdin, cluster::SETTLE_WITHIN, eventually, phase,
    raw, raw::RawAppend, wait::check,
};
use tonic::Code;

use crate::{journal, stop_and_verify};

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_in_a_sentence_and_change_nothing() {
    let cluster = TestCluster::start(3).await;
    let endpoints = cluster.endpoints();
    let client = cluster.client();

    phase("unknown names");
    let _ = cluster
        .cli(&["journal", "stat", "job/w/log"])
        .await
        .exits_with(4, &["job", "is not known"]);
    let _ = cluster
        .cli(&["worker", "takeover", "job/w"])
        .await
        .exits_with(4, &["is not known"]);
    let to = cluster.dir().join("nothing");
    let restore = [
        "restore",
        "--job",
        "job",
        "--worker",
        "w",
        "--to",
        to.to_str().unwrap(),
    ];
    let _ = cluster.cli(&restore).await.exits_with(4, &["is not known"]);
    assert!(!to.exists());
    let appended = cli_with_stdin(&endpoints, &["journal", "append", "job/w/log"], b"hello ")
        .await
        .done();
    assert_eq!(appended.stdout, "6\n");
    let _ = cluster
        .cli(&["journal", "read", "job/w/other"])
        .await
        .exits_with(4, &["job/w/other", "is not known"]);
    let _ = cluster
        .cli(&["journal", "read", "job/v/log"])
        .await
        .exits_with(4, &["job/v", "is not known"]);
    let _ = cluster
        .cli(&["member", "remove", "n9"])
        .await
        .exits_with(4, &["n9", "not a member"]);

    phase("a wrong offset");
    let output = cli_with_stdin(
        &endpoints,
        &["journal", "append", "job/w/log", "--at", "999"],
        b"lost",
    )
    .await;
    let _ = output.exits_with(4, &["offset 999", "its tail is 6"]);
    let read = ["journal", "read", "job/w/log", "--from", "7"];
    let _ = cluster
        .cli(&read)
        .await
        .exits_with(4, &["offset 7 is behind the end, 6"]);
    let log = journal("job/w/log");
    let mut stream = RawAppend::open(cluster.nodes[1].address(), &log, 1, Some(6))
        .await
        .unwrap();
    stream.send_at(5, b"overlap".to_vec()).await;
    let refusal = stream.refused().await;
    assert!(
        matches!(refusal.reason(), pb::rejected::Reason::WrongOffset(wrong) if wrong.at == 5 && wrong.tail == 6)
    );

    phase("bad names, on the command line and on the wire");
    for bad in ["job/w", "job//log", "job/../log", "/job/w/log"] {
        let _ = cluster
            .cli(&["journal", "stat", bad])
            .await
            .exits_with(2, &[bad]);
    }
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "a/b", "a\nb", "a\0b", &long] {
        let name = pb::JournalRef {
            job: "job".into(),
            worker: "w".into(),
            journal: bad.to_owned(),
        };
        let refusal = RawAppend::open_wire(cluster.nodes[0].address(), name, 1, None)
            .await
            .unwrap_err();
        assert_eq!(refusal.code, Code::InvalidArgument, "{bad:?}: {refusal:?}");
        assert_eq!(
            refusal.detail.as_ref().unwrap().effect(),
            pb::Effect::None,
            "{refusal:?}"
        );
        assert!(refusal.message.contains("journal"), "{refusal:?}");
    }

    phase("oversize messages: refused by name, then by the connection, and the node lives");
    for node in &cluster.nodes {
        let mut stream = RawAppend::open(node.address(), &log, 1, None)
            .await
            .unwrap();
        stream.send(vec![1; (1 << 20) + 1]).await;
        let refusal = stream.refused().await;
        assert!(
            refusal.message.contains("1048577 bytes is too large")
                && refusal.message.contains("1048576"),
            "{refusal:?}"
        );
        let mut stream = RawAppend::open(node.address(), &log, 1, None)
            .await
            .unwrap();
        stream.send(vec![1; 9 << 20]).await;
        let refusal = stream.refused().await;
        assert_eq!(refusal.code, Code::OutOfRange, "{refusal:?}");
    }
    let mut stream = RawAppend::open(cluster.nodes[0].address(), &log, 1, None)
        .await
        .unwrap();
    stream.send(Vec::new()).await;
    assert!(stream.refused().await.message.contains("empty append"));

    phase("damaged on the way");
    let mut stream = RawAppend::open(cluster.nodes[2].address(), &log, 1, None)
        .await
        .unwrap();
    stream.send_with_crc(b"damaged".to_vec(), 1).await;
    let refusal = stream.refused().await;
    assert_eq!(refusal.code, Code::InvalidArgument, "{refusal:?}");
    assert!(refusal.message.contains("checksum"), "{refusal:?}");

    phase("a stale token");
    client
        .takeover(&log.owner, None, RestorePoint::Latest, "the test")
        .await
        .unwrap();
    let error = client
        .open_worker(&log.owner, Some(Epoch(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let words = ["job/w is fenced", "holds epoch 1", "epoch 2", "the test"];
    assert!(
        words.iter().all(|word| error.to_string().contains(word)),
        "{error}"
    );
    let error = client
        .truncate(&log, Epoch(1), Offset(0))
        .await
        .unwrap_err();
    assert!(
        matches!(error.rejected(), Some(Rejected::EpochFenced { .. })),
        "{error}"
    );

    phase("nothing of all that is in the journal");
    for node in &cluster.nodes {
        assert_eq!(
            raw::read(node.address(), &log, raw::linearizable())
                .await
                .unwrap(),
            b"hello "
        );
    }
    cluster.converged().await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_every_call_answers_in_time_and_names_who_is_missing() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let load = Load::start(&client, "job/w/log", LoadOptions::default()).await;
    load.advance(1 << 20).await;
    let leader = cluster.leader().await;
    let up = cluster.nodes[leader].address().to_owned();
    let missing: Vec<usize> = (0..3).filter(|place| *place != leader).collect();

    phase("two of three are killed");
    for place in &missing {
        cluster.nodes[*place].kill9();
    }
    let names: Vec<String> = missing
        .iter()
        .map(|place| format!("n{}", place + 1))
        .collect();
    let words = [names[0].as_str(), names[1].as_str(), "not answering"];
    for endpoints in [up.clone(), cluster.endpoints()] {
        for arguments in [
            &["journal", "append", "job/other/log"][..],
            &["journal", "stat", "job/w/log"],
            &["journal", "read", "job/w/log"],
            &["worker", "takeover", "job/w"],
        ] {
            let output = cli_with_stdin(
                &endpoints,
                &[arguments, &["--timeout", "4s"]].concat(),
                b"x",
            )
            .await;
            assert!(output.took < Duration::from_millis(4_900), "{output:?}");
            let _ = output.exits_with(5, &words);
        }
    }
    let output = cli(&up, &["status"]).await;
    let _ = output.exits_with(5, &["no quorum", &names[0], &names[1]]);

    phase("a node that is alone is not ready, but alive");
    eventually("it is not ready", SETTLE_WITHIN, async || {
        let (code, text) = cluster.nodes[leader].get("/readyz?verbose").await?;
        check(
            code == 503 && text.contains("[-]a majority answers failed: no majority has answered"),
            || format!("{code} {text}"),
        )
    })
    .await;
    assert_eq!(cluster.nodes[leader].get("/livez").await.unwrap().0, 200);

    phase("with a quorum back, what waited goes on");
    cluster.start_all();
    cluster.ready().await;
    load.advance(1 << 20).await;
    stop_and_verify(&cluster, load).await;

    phase("another port of a node than the clients'");
    let addresses = &cluster.nodes[0].addresses;
    for port in [&addresses.peer, &addresses.http] {
        let output = cli(port, &["journal", "list"]).await;
        let _ = output.exits_with(1, &["client port", "7420 by default"]);
    }

    phase("nobody listens at all");
    let nobody = dos_cluster_tests::ports::free_address();
    let output = cli(
        &nobody,
        &["journal", "stat", "job/w/log", "--timeout", "2s"],
    )
    .await;
    let _ = output.exits_with(3, &["cannot connect", &nobody]);
    cluster.finish().await;
}

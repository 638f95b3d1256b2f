//! Health, metrics, and the services that a node says it has.

use std::collections::BTreeSet;

use dos_cluster_tests::{
    TestCluster, cli_with_stdin, cluster::SETTLE_WITHIN, eventually, http::samples, phase, raw,
    wait::check,
};
use tokio_stream::StreamExt;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn serving(address: &str) -> Result<ServingStatus, String> {
    let mut client = HealthClient::new(raw::channel(address));
    let answer = client
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await;
    Ok(answer
        .map_err(|status| status.to_string())?
        .into_inner()
        .status())
}

/// A leader that is a majority by itself asks nobody, so nobody answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_stays_healthy_while_it_idles() {
    let cluster = TestCluster::start(1).await;
    let began = std::time::Instant::now();
    eventually("it has idled", SETTLE_WITHIN, async || {
        let (code, text) = cluster.nodes[0].get("/readyz").await?;
        assert_eq!(code, 200, "{text}");
        check(began.elapsed().as_secs() >= 7, || "not yet".to_owned())
    })
    .await;
    let status = cluster.cli(&["status"]).await.done();
    assert!(!status.stdout.contains("no quorum"), "{status:?}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_reflection_say_what_is_so() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let appended = cli_with_stdin(
        &cluster.endpoints(),
        &["journal", "append", "job/w/log"],
        &[7; 100_000],
    )
    .await;
    assert_eq!(appended.done().stdout, "100000\n");

    phase("HTTP on each node");
    for (place, node) in cluster.nodes.iter().enumerate() {
        assert_eq!(node.get("/livez").await.unwrap(), (200, "ok\n".to_owned()));
        assert_eq!(node.get("/readyz").await.unwrap(), (200, "ok\n".to_owned()));
        let (code, text) = node.get("/readyz?verbose").await.unwrap();
        assert!(
            code == 200
                && text.contains("[+]storage takes writes ok")
                && text.ends_with("passed\n"),
            "{text}"
        );
        assert_eq!(node.get("/nothing").await.unwrap().0, 404);
        let (code, page) = node.get("/").await.unwrap();
        assert!(code == 200 && page.contains("job/w"), "{page}");

        // The leader acknowledges what two others have synced: its own sync, or a follower's apply, may be a moment later.
        eventually(
            "the metrics show what was appended",
            SETTLE_WITHIN,
            async || {
                let (code, text) = node.get("/metrics").await?;
                assert_eq!(code, 200);
                let samples = samples(&text);
                assert!(
                    samples.keys().all(|name| name.starts_with("dos_")),
                    "{text}"
                );
                let value = |name: &str| {
                    let sample = samples.get(name);
                    *sample.unwrap_or_else(|| panic!("no {name} in {text}"))
                };
                assert_eq!(value("dos_raft_is_leader") > 0.5, place == leader, "{text}");
                assert!(value("dos_write_gate_closed") < 0.5, "{text}");
                let applied = value("dos_raft_applied_index") > 3.0
                    && value("dos_log_sync_seconds_count") > 3.0;
                check(
                    applied && value("dos_log_synced_bytes_total") > 100_000.0,
                    || text,
                )
            },
        )
        .await;
    }

    phase("gRPC health and reflection");
    for node in &cluster.nodes {
        eventually("gRPC health says serving", SETTLE_WITHIN, async || {
            let status = serving(node.address()).await?;
            check(status == ServingStatus::Serving, || format!("{status:?}"))
        })
        .await;
    }
    let mut reflection = ServerReflectionClient::new(raw::channel(cluster.nodes[0].address()));
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(list),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer else {
        panic!("{answer:?}")
    };
    let services: BTreeSet<_> = listed
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in [
        "dos.v1.Journals",
        "dos.v1.Workers",
        "dos.v1.Checkpoints",
        "dos.v1.Cluster",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(service), "{services:?}");
    }

    phase("a node that has lost its leader says so");
    let alone = (leader + 1) % 3;
    for place in (0..3).filter(|place| *place != alone) {
        cluster.nodes[place].kill9();
    }
    eventually("it is not ready", SETTLE_WITHIN, async || {
        let (code, text) = cluster.nodes[alone].get("/readyz").await?;
        check(
            code == 503 && text.contains("[-]a leader is known failed"),
            || format!("{code} {text}"),
        )?;
        let status = serving(cluster.nodes[alone].address()).await?;
        check(status == ServingStatus::NotServing, || {
            format!("{status:?}")
        })
    })
    .await;
    assert_eq!(cluster.nodes[alone].get("/livez").await.unwrap().0, 200);
    cluster.start_all();
    cluster.ready().await;
    cluster.finish().await;
}

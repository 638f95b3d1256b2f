//! What nodes and gateways count of their legacy workers, read at `/metrics` while a stream is open and after it.

use std::{collections::BTreeMap, time::Duration};

use dos_cluster_tests::{
    TestCluster, eventually,
    http::{self, samples},
    legacy::{GatewayProcess, LegacyClient},
    phase, ports,
    wait::check,
};

const COMMIT_WITHIN: Duration = Duration::from_secs(10);
const COUNTED_WITHIN: Duration = Duration::from_secs(5);
const NAME: &str = "app-w.journal";

/// What one gateway counts: the names without `dos_gateway_`, the values whole.
async fn counted(http: &str) -> Result<BTreeMap<String, u64>, String> {
    let (code, text) = http::get(http, "/metrics").await?;
    assert_eq!(code, 200, "{text}");
    let named = samples(&text).into_iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("dos_gateway_")?.to_owned();
        Some((name, value.to_string().parse().unwrap()))
    });
    Ok(named.collect())
}

/// Waits until it counts all of these.
async fn counts(http: &str, wanted: &[(&str, u64)]) {
    eventually(&format!("{wanted:?}"), COUNTED_WITHIN, async || {
        let counted = counted(http).await?;
        let all = wanted
            .iter()
            .all(|(name, value)| counted.get(*name) == Some(value));
        check(all, || format!("{counted:?}"))
    })
    .await;
}

fn command(command: &str, outcome: &str) -> String {
    format!("commands_total{{command=\"{command}\",outcome=\"{outcome}\"}}")
}

/// One worker's day at `address`, whose metrics are at `http`; it writes 1000 bytes into `dir`.
async fn a_day(cluster: &TestCluster, address: &str, http: &str, dir: &str) {
    phase("a stream is open");
    let client = LegacyClient::in_dir(address, dir).await;
    let mut stream = client.append(NAME, 0).await.unwrap();
    stream.send(&[7; 600]).await;
    stream.synced(COMMIT_WITHIN).await;
    let [usedir, append, refused] = [
        ("usedir", "done"),
        ("append", "done"),
        ("append", "refused"),
    ]
    .map(|(asked, outcome)| command(asked, outcome));
    let open = [
        ("open_connections", 1),
        ("append_streams", 1),
        ("received_bytes_total", 600),
        ("synced_bytes_total", 600),
        ("buffered_bytes", 0),
        ("connections_total", 1),
        (usedir.as_str(), 1),
        (append.as_str(), 1),
        (refused.as_str(), 0),
    ];
    counts(http, &open).await;

    phase("another writer is refused, and the stream ends");
    let other = LegacyClient::in_dir(address, dir).await;
    other.append(NAME, 600).await.unwrap_err();
    stream.send(&[7; 400]).await;
    stream.finish(COMMIT_WITHIN).await;
    let ended = [
        ("open_connections", 0),
        ("append_streams", 0),
        ("received_bytes_total", 1000),
        ("synced_bytes_total", 1000),
        ("buffered_bytes", 0),
        ("connections_total", 2),
        ("fenced_streams_total", 0),
        (usedir.as_str(), 2),
        (append.as_str(), 1),
        (refused.as_str(), 1),
    ];
    counts(http, &ended).await;

    phase("a takeover fences a stream");
    let client = LegacyClient::in_dir(address, dir).await;
    let mut stream = client.append(NAME, 1000).await.unwrap();
    let worker = format!("wallaroo/{dir}");
    let _ = cluster.cli(&["worker", "takeover", &worker]).await.done();
    stream.send(&[7; 10]).await;
    while stream.status(COMMIT_WITHIN).await.is_some() {}
    let fenced = [
        ("append_streams", 0),
        ("synced_bytes_total", 1000),
        ("buffered_bytes", 0),
        ("fenced_streams_total", 1),
    ];
    counts(http, &fenced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_a_gateway_count_what_their_workers_do() {
    let cluster = TestCluster::start(3).await;
    let metrics = ports::free_address();
    let flags = ["--listen", "127.0.0.1:0", "--metrics-listen", &metrics];
    let gateway = GatewayProcess::start_with(&cluster.endpoints(), &flags).await;
    let node = &cluster.nodes[0];
    a_day(&cluster, node.legacy_address(), &node.addresses.http, "w1").await;
    a_day(&cluster, &gateway.address, &metrics, "w2").await;

    phase("what the cluster does not take is buffered, and counted");
    let client = LegacyClient::in_dir(&gateway.address, "w3").await;
    let mut stream = client.append(NAME, 0).await.unwrap();
    for place in [1, 2] {
        cluster.nodes[place].pause();
    }
    stream.send(&[7; 5000]).await;
    counts(&metrics, &[("buffered_bytes", 5000)]).await;
    for place in [1, 2] {
        cluster.nodes[place].resume();
    }
    stream.finish(Duration::from_secs(30)).await;
    counts(&metrics, &[("buffered_bytes", 0)]).await;
    cluster.ready().await;
    cluster.finish().await;
}

//! The load generator: what it prints, what a report makes of it, and that it leaves nothing behind.

use std::time::Duration;

use dos_cluster_tests::{
    TestCluster, cli, eventually,
    processes::{ends_with_all_in, processes_in},
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

const SHORT: [&str; 4] = ["--warm-up", "200ms", "--measure", "1s"];

fn lines(stdout: &str) -> Vec<serde_json::Value> {
    let lines = stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_on_fresh_servers_says_what_it_reached_and_what_the_servers_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("servers");
    let servers = ["--start-nodes", "3", "--dir", data.to_str().unwrap()];
    let arguments = [&["bench", "w3"][..], &servers, &SHORT].concat();
    let output = cli("", &arguments).await.done();
    let [run] = lines(&output.stdout).try_into().unwrap();
    let number = |field: &str| {
        run[field]
            .as_f64()
            .unwrap_or_else(|| panic!("{field}: {run}"))
    };
    assert_eq!(
        (&run["workload"], &run["errors"]),
        (&"W3".into(), &0.into())
    );
    assert_eq!(
        (number("writers"), number("window"), number("payload")),
        (16.0, 32.0, 4096.0)
    );
    assert!(number("ops_s") > 10.0, "{run}");
    let rate = number("ops_s") * 4096.0 / 1e6;
    assert!((number("mb_s") - rate).abs() < 0.1, "{run}");
    assert!(number("p50_us") > 0.0 && number("p50_us") <= number("p99_us"));
    assert!(number("p99_us") <= number("max_us"), "{run}");
    assert_eq!(run["rss_peak_mb"].as_array().unwrap().len(), 3);
    assert!(number("server_cpu_s_per_gb") > 0.0, "{run}");
    assert!(output.stderr.contains("WORKLOAD"), "{output:?}");
    assert!(!data.exists(), "the servers' data is removed");
    assert_eq!(processes_in(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_there_is_measured_too_and_what_was_acknowledged_is_in_it() {
    let cluster = TestCluster::start(3).await;
    let shape = ["--writers", "2", "--window", "4", "--payload", "100"];
    let arguments = [&["bench", "W1"][..], &shape, &SHORT].concat();
    let output = cluster.cli(&arguments).await.done();
    let [run] = lines(&output.stdout).try_into().unwrap();
    assert_eq!(run.get("rss_peak_mb"), None, "they are not its servers");
    let listed = cluster.cli(&["journal", "list", "-o", "json"]).await;
    let listed = listed.done().json();
    let journals = listed["journals"].as_array().unwrap();
    assert_eq!(journals.len(), 2, "{listed}");
    let bytes: u64 = journals.iter().filter_map(|j| j["tail"].as_u64()).sum();
    let counted = run["ops_s"].as_f64().unwrap() * run["secs"].as_f64().unwrap() * 100.0;
    assert!(bytes as f64 >= counted * 0.9, "{bytes} bytes, {run}");
    cluster.finish().await;
}

/// Quick, where a figure only has to be there.
const QUICK: [&str; 6] = [
    "--start-nodes",
    "3",
    "--warm-up",
    "200ms",
    "--measure",
    "300ms",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_port_is_measured_as_its_workers_use_it() {
    let arguments = [&["bench", "W6", "--writers", "4"][..], &QUICK].concat();
    let [run] = lines(&cli("", &arguments).await.done().stdout)
        .try_into()
        .unwrap();
    assert_eq!(run["workload"], "W6");
    assert_eq!((&run["errors"], &run["conns"]), (&0.into(), &4.into()));
    assert!(run["ops_s"].as_f64().unwrap() > 10.0, "{run}");
    let cluster = TestCluster::start(1).await;
    let refused = cluster.cli(&["bench", "W6"]).await;
    let _ = refused.exits_with(2, &["cannot measure W6", "--legacy-endpoints"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_comes_back_from_one_and_from_all_warm_and_cold() {
    let arguments = [&["bench", "R1", "--bytes", "3MiB"][..], &QUICK].concat();
    let runs = lines(&cli("", &arguments).await.done().stdout);
    let ways: Vec<_> = runs
        .iter()
        .map(|run| ["how", "from", "cache"].map(|field| run[field].as_str().unwrap()))
        .collect();
    let wanted = [
        ["read", "one", "warm"],
        ["restore", "one", "warm"],
        ["restore", "all", "warm"],
        ["restore", "one", "cold"],
        ["restore", "all", "cold"],
    ];
    assert_eq!(ways, wanted);
    for run in &runs {
        assert!(run["mb_s"].as_f64().unwrap() > 0.1, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_and_every_acknowledged_byte_is_there() {
    let shape = ["--repeat", "2", "--writers", "4", "--payload", "1000"];
    let arguments = [&["bench", "F1"][..], &shape, &QUICK].concat();
    let [run] = lines(&cli("", &arguments).await.done().stdout)
        .try_into()
        .unwrap();
    assert_eq!((&run["lost_bytes"], &run["errors"]), (&0.into(), &0.into()));
    assert!(run["acked_bytes"].as_u64().unwrap() > 10_000, "{run}");
    assert_eq!(run["next_ack_ms_all"].as_array().unwrap().len(), 2, "{run}");
    let millis = |field: &str| run[field].as_f64().unwrap();
    assert!(millis("next_ack_ms") <= millis("all_writers_ms"), "{run}");
    let refused = cli("", &["bench", "F1", "--start-nodes", "1"]).await;
    let _ = refused.exits_with(2, &["cannot measure F1", "--start-nodes 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_many_workers_are_measured() {
    let arguments = [&["bench", "C1", "--writers", "4"][..], &QUICK].concat();
    let [run] = lines(&cli("", &arguments).await.done().stdout)
        .try_into()
        .unwrap();
    let number = |field: &str| run[field].as_f64().unwrap();
    assert_eq!((number("errors"), number("writers")), (0.0, 4.0));
    assert!(number("ops_s") > 1.0, "{run}");
    assert!(number("commit_p50_us") > 0.0, "{run}");
    assert!(number("commit_p50_us") <= number("max_us"), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_the_machine_can_do_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["bench", "--probe", "--dir", dir.path().to_str().unwrap()];
    let short = ["--measure", "50ms", "--bytes", "4MiB"];
    let output = cli("", &[&arguments[..], &short].concat()).await.done();
    let [limits] = lines(&output.stdout).try_into().unwrap();
    for field in [
        "sync_overwrite_p50_us",
        "sync_grow_p50_us",
        "grpc_p50_us",
        "loopback_copy_mb_s",
    ] {
        assert!(limits[field].as_f64().unwrap() > 0.0, "{field}: {limits}");
    }
    assert_eq!(limits["three_logs"].as_array().unwrap().len(), 4);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_is_measured_line_by_line() {
    let small = ["--writers", "2", "--payload", "500", "--bytes", "1MiB"];
    let arguments = [&["bench", "S1"][..], &small, &QUICK].concat();
    let runs = lines(&cli("", &arguments).await.done().stdout);
    let grown: Vec<_> = runs
        .iter()
        .map(|run| (run["writers"].as_u64(), run["journal_bytes"].as_u64()))
        .collect();
    let wanted = [(Some(1), None), (Some(2), None), (Some(1), Some(1 << 20))];
    assert_eq!(grown, wanted);
    for run in &runs {
        let cost = run["server_cpu_us_per_op"].as_f64();
        assert!(cost.unwrap() > 0.0 && run["errors"] == 0, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_timed_that_was_killed_and_one_that_was_wiped() {
    let servers = ["--start-nodes", "3", "--bytes", "4MiB"];
    let arguments = [&["bench", "T1"][..], &servers].concat();
    let [run] = lines(&cli("", &arguments).await.done().stdout)
        .try_into()
        .unwrap();
    for field in ["ready_ms", "caught_up_ms", "caught_up_mb_s"] {
        assert!(run[field].as_f64().unwrap() > 0.0, "{field}: {run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_printed_becomes_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results.jsonl");
    let run = cli("", &[&["bench", "W1"][..], &QUICK].concat()).await;
    std::fs::write(&results, run.done().stdout).unwrap();
    let page = cli("", &["bench", "--report", results.to_str().unwrap()]).await;
    let page = page.done().stdout;
    for shown in ["<!doctype html>", "Latency", "Throughput", ">W1<"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_that_is_stopped_takes_its_servers_and_their_data_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("servers");
    let mut command = cli::command();
    command.args(["bench", "W1", "--start-nodes", "3", "--dir"]);
    let mut child = command.arg(&data).spawn().unwrap();
    eventually("the servers run", Duration::from_secs(30), async || {
        let running = processes_in(dir.path()).len();
        wait::check(running > 3, || format!("{running} processes"))
    })
    .await;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_with_all_in(&mut child, dir.path()).await, Some(1));
    assert!(!data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "bytes").unwrap();
    let servers = ["--start-nodes", "3", "--dir", dir.path().to_str().unwrap()];
    let refused = cli("", &[&["bench", "W1"][..], &servers].concat()).await;
    let _ = refused.exits_with(2, &["it is not empty", "--dir"]);
    assert!(dir.path().join("precious").exists());
}

//! The legacy demo: workers of the old kind are restarted, moved and lost together with a server, and no sequence breaks.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use dos_cluster_tests::{cli, cluster::SETTLE_WITHIN, eventually, wait::check};
use rustix::process::{Pid, Signal, kill_process};

/// Processes that have a directory in their command line.
fn processes_in(dir: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let lines = processes.filter_map(|process| {
        let line = std::fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    let place = dir.to_str().unwrap();
    lines.filter(|line| line.contains(place)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_demo_plays_its_five_acts_and_every_verdict_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cli::command();
    command.args(["demo", "legacy", "--dir"]).arg(dir.path());
    let output = cli::run(command, &[]).await.done();
    let count = |words: &str| output.stdout.matches(words).count();
    assert_eq!(count("kill -9: worker2"), 7, "{output:#?}");
    assert_eq!(count("restore --job"), 6, "{output:#?}");
    let verdict = "none lost, none doubled, none out of order";
    assert_eq!(count(verdict), 5, "{output:#?}");
    assert!(!dir.path().join("two-workers/host2").exists(), "it is lost");
    assert!(
        dir.path()
            .join("two-workers/host4/Multi Partition Detector-worker2.evlog")
            .is_file()
    );
    assert_eq!(processes_in(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_demo_that_is_stopped_takes_everything_with_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = cli::command();
    command
        .args(["demo", "legacy"])
        .env("TMPDIR", temporary.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let story = BufReader::new(child.stdout.take().unwrap());
    let mut lines = story.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("act 1")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = eventually("it ends", SETTLE_WITHIN, async || {
        child
            .try_wait()
            .unwrap()
            .ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert_eq!(ended.code(), Some(1));
    eventually("so does what it started", SETTLE_WITHIN, async || {
        let left = processes_in(temporary.path());
        check(left.is_empty(), || format!("{left:?}"))
    })
    .await;
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "nothing in the temporary directory");
}

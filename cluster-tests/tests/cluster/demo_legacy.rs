//! The legacy demo: workers of the old kind are restarted, moved and lost together with a server, and no sequence breaks.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use dos_cluster_tests::{
    cli,
    processes::{ends_with_all_in, processes_in},
};
use rustix::process::{Pid, Signal, kill_process};

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
    assert_eq!(
        ends_with_all_in(&mut child, temporary.path()).await,
        Some(1)
    );
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "nothing in the temporary directory");
}

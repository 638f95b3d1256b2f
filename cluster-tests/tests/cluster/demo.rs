//! The demo: a worker and the leading server die together, and the counts still come out right.

use std::{
    fmt::Write,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use dos_cluster_tests::{
    CliOutput, cli,
    load::scramble,
    processes::{ends_with_all_in, processes_in},
};
use rustix::process::{Pid, Signal, kill_process};

/// The demo over that many lines of a text of its own.
fn command(dir: &Path, lines: u64) -> Command {
    let mut text = String::new();
    for line in 0..lines {
        // Words of a vocabulary that grows, so that each part of the text has words that the others do not have.
        for word in 0..8 {
            let number = scramble(line * 8 + word) % (line / 10 + 20);
            write!(text, "word{number} ").unwrap();
        }
        text.push('\n');
    }
    let input = dir.join("input.txt");
    std::fs::write(&input, text).unwrap();
    let mut command = cli::command();
    command
        .arg("demo")
        .arg("--input")
        .arg(&input)
        .arg("--dir")
        .arg(dir.join("demo"))
        .args(["--checkpoint-lines", "500", "--lines-per-second", "5000"]);
    command
}

async fn demo(dir: &Path, lines: u64) -> CliOutput {
    cli::run(command(dir, lines), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_and_the_counts_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path(), 20_000).await.done();
    for words in [
        "kill -9",
        "restored wordcount/w2 elsewhere at the recovery line",
        "of the survivors",
        "as epoch 2",
        "caught up",
        "counted 160000 words",
        "the same as without the cluster",
    ] {
        assert!(output.stdout.contains(words), "{words:?} in {output:#?}");
    }
    let kept = dir.path().join("demo");
    assert!(output.stderr.contains(kept.to_str().unwrap()), "{output:?}");
    assert!(kept.join("w2-elsewhere/counts").is_file());
    assert!(!kept.join("w2").exists(), "the dead worker's directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_whose_input_is_too_short_to_kill_anything_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path(), 10).await;
    let _ = output.exits_with(1, &["too short", "--input"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_stopped_takes_everything_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), 20_000);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let story = BufReader::new(child.stdout.take().unwrap());
    let mut lines = story.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("at work")));
    assert!(processes_in(dir.path()).len() > 3, "servers and workers");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ends_with_all_in(&mut child, dir.path()).await, Some(1));
}

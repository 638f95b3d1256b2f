//! The demo: a worker and the leading server die together, and the counts still come out right.

use std::{fmt::Write, path::Path};

use dos_cluster_tests::{CliOutput, cli, load::scramble};

async fn demo(dir: &Path, lines: u64) -> CliOutput {
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
    cli::run(command, &[]).await
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

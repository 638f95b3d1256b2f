//! The `dos-cluster` program: where it is, and what it answers.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt;

/// Longer than this no command may take here.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// What a command answered.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk, and why it failed.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl CliOutput {
    /// The same, if it succeeded.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn done(self) -> Self {
        self.exits_with(0, &[])
    }

    /// The same, if it ended with `code` and said all of `words` on stderr, and no word of a panic.
    ///
    /// # Panics
    /// If not.
    #[must_use]
    pub fn exits_with(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "exit code of {self:#?}");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not in {}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// What it printed as JSON.
    ///
    /// # Panics
    /// If that is no JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }
}

/// The program under test: `DOS_CLUSTER_BIN`, or the one that `cargo build` left beside this test.
///
/// # Panics
/// When it is missing, or older than its sources.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("DOS_CLUSTER_BIN") {
            return given.into();
        }
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap(); // target/debug/deps/test
        let binary = profile.join("dos-cluster");
        assert!(
            binary.is_file(),
            "{} is missing: run `cargo build` first, or `make test`",
            binary.display()
        );
        refuse_a_stale(&binary);
        binary
    })
}

/// `cargo test` does not build another package's program: one from before the last change would be tested instead.
fn refuse_a_stale(binary: &Path) {
    let modified = |path: &Path| {
        path.metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let Ok(sources) = std::fs::read_to_string(binary.with_extension("d")) else {
        return;
    };
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.split_whitespace().map(Path::new) {
        assert!(
            modified(source) <= modified(binary),
            "{} is older than {}: run `cargo build` first, or `make test`",
            binary.display(),
            source.display()
        );
    }
}

/// A command line of the program, without what this process's environment says about `dos-cluster`.
#[must_use]
pub fn command() -> std::process::Command {
    let mut command = std::process::Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOS_CLUSTER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command against `endpoints`.
///
/// # Panics
/// When it hangs.
pub async fn cli(endpoints: &str, arguments: &[&str]) -> CliOutput {
    cli_with_stdin(endpoints, arguments, &[]).await
}

/// Runs a command against `endpoints`, with `input` on its stdin.
///
/// # Panics
/// When it hangs.
pub async fn cli_with_stdin(endpoints: &str, arguments: &[&str], input: &[u8]) -> CliOutput {
    let mut command = command();
    command
        .env("DOS_CLUSTER_ENDPOINTS", endpoints)
        .args(arguments);
    run(command, input).await
}

/// Runs any command line to its end.
///
/// # Panics
/// When it hangs.
pub async fn run(command: std::process::Command, input: &[u8]) -> CliOutput {
    let began = Instant::now();
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        stdin.write_all(input).await.ok(); // a command that has failed reads no more
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(COMMAND_WITHIN, both).await;
    let output = output
        .unwrap_or_else(|_| panic!("no end within {COMMAND_WITHIN:?}: {shown}"))
        .unwrap();
    CliOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: began.elapsed(),
    }
}

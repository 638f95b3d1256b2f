//! One process of a dev cluster.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::{
    super::{
        Context,
        exit::{self, Failure},
        lifeline::UNTIL_STDIN_CLOSES,
    },
    ports::{Layout, write_file},
};
use crate::env::{fs, time};

/// How long a node is given to drain.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A running node, or what became of it. Killed when dropped, so that no way out leaves it behind.
#[derive(Debug)]
pub(in crate::cli) struct DevNode {
    number: usize,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
    /// How to start it by hand.
    command: String,
    /// The node stops when this closes, which it does whatever becomes of us.
    _lifeline: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

impl DevNode {
    /// Starts node `number` of the cluster.
    pub(in crate::cli) fn start(layout: &Layout, number: usize) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::error(format!("cannot find this program: {error}")))?;
        let (log, pid_file) = (layout.path(number, ".log"), layout.path(number, ".pid"));
        let ports = layout.ports(number);
        let data_dir = layout.path(number, "");
        let arguments = [
            "serve".into(),
            "--data-dir".into(),
            data_dir.into_os_string(),
            "--listen".into(),
            ports.client().into(),
            "--peer-listen".into(),
            ports.peer().into(),
            "--http-listen".into(),
            ports.http().into(),
            "--legacy-listen".into(),
            ports.legacy().into(),
        ];
        let words = std::iter::once(program.as_os_str())
            .chain(arguments.iter().map(|word| word.as_os_str()));
        let words: Vec<_> = words.map(|word| quoted(&word.to_string_lossy())).collect();
        let output = fs::OpenOptions::new().append(true).create(true).open(&log);
        let output = output.map_err(|error| exit::cannot("open", &log, &error))?;
        let errors = output
            .try_clone()
            .map_err(|error| exit::cannot("open", &log, &error))?;
        let mut command = Command::new(&program);
        command
            .args(&arguments)
            .arg(UNTIL_STDIN_CLOSES)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for us: the nodes are then stopped in order.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let is_setting = name.to_string_lossy().starts_with("DOS_CLUSTER_");
            if is_setting && name != "DOS_CLUSTER_LOG" && name != "DOS_CLUSTER_LOG_FORMAT" {
                command.env_remove(name);
            }
        }
        let mut child = command
            .spawn()
            .map_err(|error| exit::cannot("start", &program, &error))?;
        let node = Self {
            number,
            _lifeline: child.stdin.take(),
            child,
            log,
            pid_file,
            command: words.join(" "),
            ended: None,
        };
        if let Some(pid) = node.pid() {
            write_file(&node.pid_file, format!("{pid}\n").as_bytes())?;
        }
        Ok(node)
    }

    /// Its process; none once it has ended.
    pub(in crate::cli) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended, and that was said.
    pub(in crate::cli) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// A node that ended by itself is a failure, with the end of what it said.
    pub(in crate::cli) fn check_alive(&mut self) -> Result<(), Failure> {
        let Some(status) = self.poll() else {
            return Ok(());
        };
        let message = format!(
            "node n{} has ended ({status}): {}",
            self.number,
            self.last_words()
        );
        Err(Failure::error(message).try_next(format!("see its log, {}", self.log.display())))
    }

    /// The news that it has ended; once.
    pub(in crate::cli) fn news_of_its_end(&mut self) -> Option<String> {
        if self.ended.is_some() {
            return None;
        }
        let status = self.poll()?;
        Some(format!(
            "node n{} has ended ({status}); its log is {}; to start it again:\n  {}",
            self.number,
            self.log.display(),
            self.command
        ))
    }

    /// How it ended; none while it runs.
    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// The last lines of its log, for a failure.
    fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(2_000)..];
        let tail = String::from_utf8_lossy(tail);
        let lines: Vec<_> = tail
            .lines()
            .rev()
            .filter(|line| !line.is_empty())
            .take(3)
            .collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// `kill -9`: it gets no chance to do anything.
    pub(in crate::cli) async fn kill_9(&mut self) {
        // That it has ended already is as good.
        self.child.kill().await.ok();
        self.poll();
    }

    /// Asks it to drain.
    fn ask_to_stop(&self) {
        // A pid that is none any more belongs to a child that was waited for: `id` is none then.
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).ok();
        }
    }

    async fn wait_for_its_end(&mut self, context: &Context) {
        if time::timeout(STOP_WITHIN, self.child.wait()).await.is_err() {
            let line = format!(
                "node n{} does not stop within {STOP_WITHIN:?}: killed",
                self.number
            );
            context.output.talk(&line);
            self.child.kill().await.ok();
        }
        fs::remove_file(&self.pid_file).ok();
    }
}

/// Stops every node in order: all are asked at once, so that none waits for another.
pub(in crate::cli) async fn stop_all(nodes: &mut [DevNode], context: &Context) {
    for node in nodes.iter() {
        node.ask_to_stop();
    }
    for node in nodes {
        node.wait_for_its_end(context).await;
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("/a/b-1"), "/a/b-1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}

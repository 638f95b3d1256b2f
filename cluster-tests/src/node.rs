//! One node: a process, its data directory, its ports, its log.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::{cli, ports, wait::eventually};

/// How long a node may take to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// By clients.
    pub client: String,
    /// By members.
    pub peer: String,
    /// Over HTTP.
    pub http: String,
    /// By legacy workers.
    pub legacy: String,
}

impl Addresses {
    /// Four free ports of this machine.
    #[must_use]
    pub fn free() -> Self {
        Self {
            client: ports::free_address(),
            peer: ports::free_address(),
            http: ports::free_address(),
            legacy: ports::free_address(),
        }
    }
}

/// One node. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct TestNode {
    /// Its place in the cluster's list, and its directory's name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its addresses, the same at every start.
    pub addresses: Addresses,
    log: PathBuf,
    flags: Vec<String>,
    process: Option<Child>,
}

impl TestNode {
    /// A node in `dir`, not started yet; `flags` are added to its `serve` command.
    #[must_use]
    pub fn new(dir: &Path, name: &str, flags: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            data_dir: dir.join(name),
            addresses: Addresses::free(),
            log: dir.join(format!("{name}.log")),
            flags: flags.to_vec(),
            process: None,
        }
    }

    /// Its client address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.addresses.client
    }

    /// Its address for legacy workers.
    #[must_use]
    pub fn legacy_address(&self) -> &str {
        &self.addresses.legacy
    }

    /// The `serve` command that starts it.
    #[must_use]
    pub fn serve(&self) -> std::process::Command {
        let mut command = cli::command();
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        command.args([
            "--listen",
            &self.addresses.client,
            "--peer-listen",
            &self.addresses.peer,
        ]);
        command
            .args(["--http-listen", &self.addresses.http])
            .args(["--legacy-listen", &self.addresses.legacy])
            .args(&self.flags);
        command
    }

    /// Starts its process; the log goes on where it was.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&mut self) {
        let command = self.serve();
        self.spawn(command);
    }

    /// The same, by way of a shell that lets a write beyond [`TestNode::limit_file_size`] fail, rather than kill the process.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start_with_failing_writes(&mut self) {
        let serve = self.serve();
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(serve.get_program())
            .args(serve.get_args());
        for (name, value) in serve.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.spawn(command);
    }

    fn spawn(&mut self, mut command: std::process::Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Runs `serve` in the foreground: for starts that must fail.
    pub async fn fails_to_start(&self) -> cli::CliOutput {
        cli::run(self.serve(), &[]).await
    }

    /// Whether its process was started and not ended by this harness.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn signal(&self, signal: Signal) {
        let child = self
            .process
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// The process's id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// From now on no file of the process grows beyond this, nor is anything written behind it.
    ///
    /// # Panics
    /// If it does not run.
    pub fn limit_file_size(&self, bytes: u64) {
        let pid = Pid::from_child(self.process.as_ref().unwrap());
        let limit = Rlimit {
            current: Some(bytes),
            maximum: None,
        };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    }

    /// Memory that it has, in bytes (`VmRSS`).
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() << 10
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Panics
    /// If it does not run, or had ended by itself.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        let status = self.process.take().unwrap().wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "{} had ended by itself: {status}",
            self.name
        );
    }

    /// SIGTERM; returns when the process has stopped in order.
    ///
    /// # Panics
    /// When it does not stop in time, or says that it failed.
    pub async fn terminate(&mut self) {
        self.ask_to_stop();
        self.stopped().await;
    }

    /// SIGTERM; does not wait.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until the process has stopped in order.
    ///
    /// # Panics
    /// When it does not stop in time, or says that it failed.
    pub async fn stopped(&mut self) {
        let code = self.ended().await;
        assert_eq!(code, 0, "{} did not stop in order", self.name);
    }

    /// Waits until the process has ended; answers its exit code, -1 for a signal.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) -> i32 {
        let name = self.name.clone();
        let child = self.process.as_mut().unwrap();
        let status = eventually(&format!("{name} ends"), STOP_WITHIN, async || {
            child
                .try_wait()
                .unwrap()
                .ok_or_else(|| "it runs".to_owned())
        })
        .await;
        self.process = None;
        status.code().unwrap_or(-1)
    }

    /// SIGSTOP: alive, and silent.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Empties its data directory, as a new disk would be.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self) {
        assert!(!self.is_running(), "{} runs", self.name);
        std::fs::remove_dir_all(&self.data_dir).unwrap();
    }

    /// Everything it has written since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How long its log is by now: for [`TestNode::logs_since`].
    #[must_use]
    pub fn log_end(&self) -> usize {
        self.log().len()
    }

    /// The first line behind `from` in its log that holds all of `words`.
    #[must_use]
    pub fn line_since(&self, from: usize, words: &[&str]) -> Option<String> {
        let log = self.log();
        let mut lines = log[from..].lines();
        lines
            .find(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
    }

    /// Waits until its log holds all of `words` in one line, whenever it was written, and answers the line.
    pub async fn logs(&self, words: &[&str], within: Duration) -> String {
        self.logs_since(0, words, within).await
    }

    /// Waits until its log holds all of `words` in one line behind `from`, and answers the line.
    pub async fn logs_since(&self, from: usize, words: &[&str], within: Duration) -> String {
        let what = format!("{} logs {words:?}", self.name);
        eventually(&what, within, async || {
            self.line_since(from, words)
                .ok_or_else(|| "no such line".to_owned())
        })
        .await
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        crate::http::get(&self.addresses.http, path).await
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

//! The README's tour, word for word, and the `dev` cluster that it runs on.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dos_cluster_tests::{
    CliOutput, cli, cluster::SETTLE_WITHIN, eventually, legacy::LegacyClient, phase, ports,
    wait::check,
};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

const README: &str = include_str!("../../../README.md");
const TITLE: &str = "\n## A tour in five minutes\n";
const PORTS_PER_NODE: u16 = 4;
const PORTS: u16 = 3 * PORTS_PER_NODE;

/// The tour's commands, block by block, at another place, on other ports, with the program under test.
struct Tour {
    dir: PathBuf,
    base: u16,
    blocks: Vec<String>,
}

impl Tour {
    fn prepare(dir: &Path) -> Self {
        let (_, tour) = README.split_once(TITLE).unwrap();
        let tour = tour.split("\n## ").next().unwrap();
        let programs = dir.join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(cli::binary(), programs.join("dos-cluster")).unwrap();
        let base = ports::free_run(PORTS);
        let mut blocks = Vec::new();
        for block in tour.split("```sh\n").skip(1) {
            let mut block = block.split("```").next().unwrap().to_owned();
            for port in 0..PORTS {
                block = block.replace(&(17_420 + port).to_string(), &(base + port).to_string());
            }
            block = block.replace("make build\n", ""); // it is built: this test runs it
            let place = dir.join("tour");
            block = block.replace("/tmp/tour", place.to_str().unwrap());
            let path = programs.to_str().unwrap();
            blocks.push(block.replace("$HOME/.cache/dos-cluster/target/debug", path));
        }
        Self {
            dir: dir.join("tour"),
            base,
            blocks,
        }
    }

    /// The addresses of the nodes, by their port's place in the node's row.
    fn addresses(&self, place: u16) -> Vec<String> {
        let ports = (place..PORTS).step_by(usize::from(PORTS_PER_NODE));
        let addresses = ports.map(|port| format!("127.0.0.1:{}", self.base + port));
        addresses.collect()
    }

    fn endpoints(&self) -> String {
        self.addresses(0).join(",")
    }

    fn legacy_addresses(&self) -> Vec<String> {
        self.addresses(3)
    }
}

fn bash(script: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-e", "-o", "pipefail", "-c", script]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOS_CLUSTER_") {
            bash.env_remove(name);
        }
    }
    bash
}

/// A terminal in which `dev` runs; whatever happens, it does not outlive the test.
struct Terminal {
    child: Child,
    output: PathBuf,
}

impl Terminal {
    fn open(mut command: Command, output: PathBuf) -> Self {
        let file = std::fs::File::create(&output).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .process_group(0);
        Self {
            child: command.spawn().unwrap(),
            output,
        }
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    async fn shows(&mut self, words: &str) {
        eventually(&format!("dev says {words:?}"), SETTLE_WITHIN, async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "dev ended ({ended:?}): {}", self.shown());
            check(self.shown().contains(words), || self.shown())
        })
        .await;
    }

    /// Ctrl-C: to everything in the foreground of the terminal.
    async fn interrupt(mut self) {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = eventually("dev ends", Duration::from_secs(30), async || {
            let ended = self.child.try_wait().unwrap();
            ended.ok_or_else(|| self.shown())
        })
        .await;
        assert_eq!(status.code(), Some(0), "{status}: {}", self.shown());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // `dev` stops its nodes when it is asked to; killed it could not.
        kill_process_group(Pid::from_child(&self.child), Signal::TERM).ok();
        self.child.wait().ok();
    }
}

/// The processes of the nodes that run in a directory.
fn pids(dir: &Path) -> Vec<Pid> {
    let pid = |number: usize| {
        let text = std::fs::read_to_string(dir.join(format!("n{number}.pid"))).ok()?;
        Pid::from_raw(text.trim().parse().unwrap())
    };
    (1..=9).filter_map(pid).collect()
}

fn assert_gone(pids: &[Pid]) {
    for pid in pids {
        assert!(test_kill_process(*pid).is_err(), "{pid:?} still runs");
    }
}

async fn run(script: &str) -> CliOutput {
    cli::run(bash(script), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_works_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let tour = Tour::prepare(dir.path());
    let [dev, look, append, kill, restore] = &tour.blocks[..] else {
        panic!("the tour has five blocks of commands: {:#?}", tour.blocks)
    };

    phase("the first terminal: a cluster of three");
    let mut terminal = Terminal::open(bash(dev), dir.path().join("terminal"));
    let export = format!("export DOS_CLUSTER_ENDPOINTS={}", tour.endpoints());
    terminal.shows(&export).await;
    assert!(
        look.contains(&export),
        "the tour exports what `dev` says: {look}"
    );
    for address in tour.legacy_addresses() {
        terminal.shows(&address).await;
    }
    let nodes = pids(&tour.dir);
    assert_eq!(nodes.len(), 3);

    phase("the second terminal: look at it, append, read, list");
    let shown = run(&format!("{look}{append}")).await.done().stdout;
    for words in [
        "leader",
        "follower",
        "hello, durable world\n",
        "tour/w1/notes",
    ] {
        assert!(shown.contains(words), "{words:?} in {shown}");
    }

    phase("kill the leader the hard way, and go on; then restore");
    let settings: String = look
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    let shown = run(&format!("{settings}{kill}{restore}"))
        .await
        .done()
        .stdout;
    let both = "hello, durable world\nstill here\n";
    assert_eq!(
        shown.matches(both).count(),
        2,
        "read, and restored: {shown}"
    );
    assert!(
        shown.contains("unreachable"),
        "the status shows the killed one: {shown}"
    );
    let restored = dir.path().join("tour-w1/notes");
    assert_eq!(std::fs::read_to_string(restored).unwrap(), both);
    terminal.shows("has ended (signal: 9").await;

    phase("Ctrl-C ends it, and all that it started");
    terminal.interrupt().await;
    assert_gone(&nodes);
    assert_eq!(pids(&tour.dir), []);

    phase("the same directory brings the same cluster back");
    let mut again = cli::command();
    again.args(["dev", "-o", "json", "--dir"]).arg(&tour.dir);
    let mut terminal = Terminal::open(again, dir.path().join("terminal2"));
    terminal.shows("\"endpoints\"").await;
    let nodes = pids(&tour.dir);
    assert_eq!(nodes.len(), 3);
    let read = run(&format!("{settings}dos-cluster journal read tour/w1/notes")).await;
    assert_eq!(read.done().stdout, both);

    phase("it serves legacy workers where it says");
    let told = format!("{:?}", tour.legacy_addresses());
    let shown: String = terminal.shown().split_whitespace().collect();
    assert!(
        shown.contains(&format!("\"legacy_addresses\":{}", told.replace(' ', ""))),
        "{told} in {shown}"
    );
    for (place, address) in tour.legacy_addresses().iter().enumerate() {
        let client = LegacyClient::in_dir(address, "w").await;
        let mut stream = client.append("a.journal", 2 * place as u64).await.unwrap();
        stream.send(b"ab").await;
        stream.finish(SETTLE_WITHIN).await;
    }
    terminal.interrupt().await;
    assert_gone(&nodes);
}

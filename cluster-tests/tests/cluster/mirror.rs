//! `dos-cluster mirror` as a process of its own, beside files that grow, while nodes and the mirror itself are killed.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use dos_cluster_tests::{
    TestCluster, assert_pattern, cli, eventually, http, pattern, phase, ports, raw, wait::check,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::journal;

const WITHIN: Duration = Duration::from_secs(60);
/// Bytes of one append to a file.
const PIECE: usize = 5000;

/// A file that grows, of a pattern that is known at every offset.
struct Growing {
    path: PathBuf,
    journal: String,
    seed: u64,
    length: u64,
}

impl Growing {
    fn new(dir: &Path, name: &str, seed: u64) -> Self {
        let growing = Self {
            path: dir.join(name),
            journal: format!("job/w/{name}"),
            seed,
            length: 0,
        };
        std::fs::write(&growing.path, b"").unwrap();
        growing
    }

    fn grow(&mut self, pieces: usize) {
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        for _ in 0..pieces {
            file.write_all(&pattern(self.seed, self.length, PIECE))
                .unwrap();
            self.length += PIECE as u64;
        }
    }

    /// Waits until the cluster has all of it, byte for byte.
    async fn arrives(&self, cluster: &TestCluster) {
        let what = format!("{} arrives", self.journal);
        eventually(&what, WITHIN, async || {
            let arguments = ["journal", "stat", &self.journal, "-o", "json"];
            let stat = cluster.cli(&arguments).await;
            check(stat.code == 0, || stat.stderr.clone())?;
            let tail = stat.json()["tail"].as_u64().unwrap();
            check(tail == self.length, || format!("{tail} of {}", self.length))
        })
        .await;
        let at = cluster.nodes[cluster.leader().await].address();
        let journal = journal(&self.journal);
        let bytes = raw::read(at, &journal, raw::linearizable()).await.unwrap();
        assert_eq!(bytes.len() as u64, self.length);
        assert_pattern(self.seed, 0, &bytes);
    }
}

/// A mirror process; killed when it is dropped.
struct Mirror {
    child: Child,
    stderr: PathBuf,
}

impl Mirror {
    fn start(cluster: &TestCluster, dir: &Path, flags: &[&str]) -> Self {
        let stderr = dir.with_extension("stderr");
        let log = OpenOptions::new().create(true).append(true).open(&stderr);
        let mut command = cli::command();
        command
            .args(["mirror", "--job", "job", "--worker", "w"])
            .arg(dir)
            .args(flags)
            .env("DOS_CLUSTER_ENDPOINTS", cluster.endpoints())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        Self {
            child: command.spawn().unwrap(),
            stderr,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The most memory that it has had so far (`VmHWM`); `None` once it has ended.
    fn peak_bytes(&self) -> Option<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        Some(kib << 10)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits until its last line of progress, of bytes durable and of lag, is as it should be.
    async fn tells(&self, what: &str, holds: impl Fn((u64, u64)) -> bool) {
        eventually(&format!("the mirror tells {what}"), WITHIN, async || {
            let said = self.said();
            let last = said.lines().filter_map(progress).next_back();
            check(last.is_some_and(&holds), || said)
        })
        .await;
    }

    async fn ended(&mut self) -> i32 {
        eventually("the mirror ends", WITHIN, async || {
            let ended = self.child.try_wait().unwrap();
            ended.map_or(Err("it runs".to_owned()), |status| {
                Ok(status.code().unwrap_or(-1))
            })
        })
        .await
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Bytes durable, and lag, of a line of progress.
fn progress(line: &str) -> Option<(u64, u64)> {
    let numbers = line.strip_prefix("mirror job/w: ")?;
    let (_, numbers) = numbers.split_once(" files, ")?;
    let (durable, lag) = numbers.split_once(" bytes durable, lag ")?;
    let (lag, _) = lag.split_once(" bytes")?;
    Some((durable.parse().ok()?, lag.parse().ok()?))
}

/// The mirror's command with `--once`, as a word list.
fn once(dir: &Path) -> [&str; 7] {
    let dir = dir.to_str().unwrap();
    ["mirror", "--job", "job", "--worker", "w", dir, "--once"]
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_byte_for_byte_whoever_is_killed_meanwhile() {
    let mut cluster = TestCluster::start(3).await;
    let dir = cluster.dir().join("worker");
    std::fs::create_dir(&dir).unwrap();
    let mut log = Growing::new(&dir, "app-w.evlog.journal", 1);
    log.grow(20);
    let metrics = ports::free_address();
    let mut mirror = Mirror::start(&cluster, &dir, &["--metrics-listen", &metrics]);
    log.arrives(&cluster).await;

    phase("the leader is killed while a file grows, and a new file appears");
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill9();
    let mut second = Growing::new(&dir, "app-w-00000000000186a0.evlog.journal", 2);
    for _ in 0..20 {
        log.grow(10);
        second.grow(5);
        tokio::time::sleep(Duration::from_millis(20)).await; // the pace of a worker
    }
    log.arrives(&cluster).await;
    second.arrives(&cluster).await;
    cluster.nodes[leader].start();
    cluster.ready().await;

    phase("its metrics show what is durable");
    let lines = [
        format!(
            "dos_mirror_durable_bytes{{journal=\"app-w.evlog.journal\"}} {}",
            log.length
        ),
        "dos_mirror_lag_bytes{journal=\"app-w.evlog.journal\"} 0".to_owned(),
        "dos_mirror_files{phase=\"streaming\"} 2".to_owned(),
        "dos_mirror_files{phase=\"stopped\"} 0".to_owned(),
    ];
    eventually("the metrics", WITHIN, async || {
        let (code, text) = http::get(&metrics, "/metrics").await?;
        let all = lines.iter().all(|line| text.contains(line.as_str()));
        check(code == 200 && all, || format!("{code} {text}"))
    })
    .await;

    phase("the mirror is killed, and goes on where the cluster's journals end");
    log.grow(40);
    mirror.signal(Signal::KILL);
    assert_eq!(mirror.ended().await, -1);
    log.grow(40);
    let mut mirror = Mirror::start(&cluster, &dir, &[]);
    log.arrives(&cluster).await;
    log.grow(1);
    log.arrives(&cluster).await;

    phase("all nodes are killed, and started later");
    cluster.kill9_all();
    log.grow(100);
    second.grow(100);
    let backlog = 200 * PIECE as u64;
    mirror.tells("a lag", |(_, lag)| lag >= backlog).await;
    cluster.start_all();
    cluster.ready().await;
    log.arrives(&cluster).await;
    second.arrives(&cluster).await;
    let all = (log.length + second.length, 0);
    mirror
        .tells("that all is durable", |told| told == all)
        .await;

    phase("SIGTERM: the end is in order");
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.ended().await, 0, "{}", mirror.said());
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_continue_the_clusters_journal_is_refused_and_the_rest_is_mirrored() {
    let cluster = TestCluster::start(3).await;
    let dir = cluster.dir().join("worker");
    std::fs::create_dir(&dir).unwrap();
    let mut short = Growing::new(&dir, "short.evlog.journal", 1);
    let mut other = Growing::new(&dir, "other.evlog.journal", 2);
    let mut fine = Growing::new(&dir, "fine.evlog.journal", 3);
    for file in [&mut short, &mut other, &mut fine] {
        file.grow(3);
    }
    let copied = cluster.cli(&once(&dir)).await.done();
    assert!(
        copied.stdout.contains("job/w/fine.evlog.journal"),
        "{copied:?}"
    );

    phase("one is cut, one is changed in its last bytes, one grows");
    let file = OpenOptions::new().write(true).open(&short.path).unwrap();
    file.set_len(short.length - 1).unwrap();
    std::fs::write(&other.path, pattern(9, 0, 20_000)).unwrap();
    fine.grow(1);
    let words = [
        "short.evlog.journal is shorter than journal job/w/short.evlog.journal: it has 14999 bytes, the cluster has 15000",
        "other.evlog.journal differs from journal job/w/other.evlog.journal: of the 15000 bytes before 15000 the CRC-32C is",
        "2 files were not mirrored",
    ];
    let refused = cluster.cli(&once(&dir)).await.exits_with(4, &words);
    assert!(refused.stdout.contains("stopped"), "{refused:?}");
    for file in [&short, &other] {
        let at = cluster.nodes[0].address();
        let journal = journal(&file.journal);
        let bytes = raw::read(at, &journal, raw::linearizable()).await.unwrap();
        assert_eq!(bytes.len(), 15_000);
        assert_pattern(file.seed, 0, &bytes);
    }
    fine.arrives(&cluster).await;

    phase("two mirrors of one journal: the second is refused, and the first goes on");
    std::fs::remove_file(&short.path).unwrap();
    std::fs::remove_file(&other.path).unwrap();
    let mirror = Mirror::start(&cluster, &dir, &[]);
    fine.grow(1);
    fine.arrives(&cluster).await;
    let words = [
        "journal job/w/fine.evlog.journal is being written by someone else",
        "--steal",
    ];
    let _ = cluster.cli(&once(&dir)).await.exits_with(4, &words);
    fine.grow(1);
    fine.arrives(&cluster).await;

    phase("a takeover ends the mirror, which says who it was");
    let mut mirror = mirror;
    let taken = cluster.cli(&["worker", "takeover", "job/w"]).await;
    let _ = taken.done();
    fine.grow(1);
    assert_eq!(mirror.ended().await, 4, "{}", mirror.said());
    let said = mirror.said();
    assert!(said.contains("took over"), "{said}");
    assert!(!said.contains("an earlier attempt"), "{said}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_hosts_mirror_stays_out_after_a_takeover_however_often_it_is_started() {
    let cluster = TestCluster::start(3).await;
    let (old, new) = (cluster.dir().join("old"), cluster.dir().join("new"));
    std::fs::create_dir(&old).unwrap();
    std::fs::create_dir(&new).unwrap();
    let mut log = Growing::new(&old, "app-w.evlog.journal", 1);
    log.grow(3);
    let _ = cluster.cli(&once(&old)).await.done();

    phase("the worker moves to a new host, while the old one is not dead");
    let taken = cluster.cli(&["worker", "takeover", "job/w"]).await;
    let _ = taken.done();
    let mut moved = Growing::new(&new, "app-w.evlog.journal", 1);
    moved.grow(3);
    log.grow(1);
    let words = [
        "worker job/w",
        "under epoch 1",
        "epoch 2 took over",
        "restore the worker",
        "--adopt",
    ];
    for _ in 0..2 {
        let _ = cluster.cli(&once(&old)).await.exits_with(4, &words);
        let mut mirror = Mirror::start(&cluster, &old, &[]);
        assert_eq!(mirror.ended().await, 4, "{}", mirror.said());
        let _ = cluster
            .cli(&with(&once(&old), "--steal"))
            .await
            .exits_with(4, &words);
    }
    moved.arrives(&cluster).await;

    phase("the new host's mirror goes on");
    let mut mirror = Mirror::start(&cluster, &new, &[]);
    moved.grow(2);
    moved.arrives(&cluster).await;
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.ended().await, 0, "{}", mirror.said());

    phase("whoever insists goes on with the old one, and says so once");
    log.grow(2);
    let _ = cluster.cli(&with(&once(&old), "--adopt")).await.done();
    log.arrives(&cluster).await;
    log.grow(1);
    let _ = cluster.cli(&once(&old)).await.done();
    log.arrives(&cluster).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_nothing_to_mirror_registers_nobody_and_one_whose_files_are_all_refused_ends()
{
    let cluster = TestCluster::start(1).await;
    let dir = cluster.dir().join("worker");
    std::fs::create_dir(&dir).unwrap();
    let words = ["no file", "*.journal", "--journal"];
    let _ = cluster.cli(&once(&dir)).await.exits_with(1, &words);
    let mut mirror = Mirror::start(&cluster, &dir, &[]);
    eventually("it waits for a file", WITHIN, async || {
        let said = mirror.said();
        check(said.contains("no file"), || said)
    })
    .await;
    let workers = cluster.cli(&["worker", "list", "-o", "json"]).await.done();
    assert!(!workers.stdout.contains("\"w\""), "{workers:?}");
    assert!(!workers.stdout.contains("job/w"), "{workers:?}");
    let mut log = Growing::new(&dir, "app-w.evlog.journal", 1);
    log.grow(2);
    log.arrives(&cluster).await;
    let workers = cluster.cli(&["worker", "list", "-o", "json"]).await.done();
    assert!(workers.stdout.contains("job/w"), "{workers:?}");

    phase("a file is named instead of its directory");
    let words = ["--journal app-w.evlog.journal", dir.to_str().unwrap()];
    let refused = cluster.cli(&once(&log.path)).await.exits_with(1, &words);
    assert!(!refused.stderr.contains("Not a directory"), "{refused:?}");

    phase("the only file is refused: a supervisor hears of it, and what is durable is told");
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.ended().await, 0, "{}", mirror.said());
    let file = OpenOptions::new().write(true).open(&log.path).unwrap();
    file.set_len(6).unwrap();
    let mut mirror = Mirror::start(&cluster, &dir, &[]);
    assert_eq!(mirror.ended().await, 4, "{}", mirror.said());
    let refused = cluster.cli(&with(&once(&dir), "--output=json")).await;
    let refused = refused.exits_with(4, &["is shorter than journal", "\"effect\":\"none\""]);
    assert!(!refused.stderr.contains("unknown"), "{refused:?}");
    let row = &refused.json()["journals"][0];
    assert_eq!(
        (&row["local"], &row["durable"]),
        (&6.into(), &10_000.into()),
        "{row}"
    );
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_copied_within_a_small_memory() {
    const FILE_BYTES: u64 = 256 << 20;
    const MEMORY_BYTES_MAX: u64 = 64 << 20;
    let cluster = TestCluster::start(1).await;
    let dir = cluster.dir().join("worker");
    std::fs::create_dir(&dir).unwrap();
    let name = "app-w.evlog.journal";
    let file = std::fs::File::create(dir.join(name)).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    for at in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_all_at(&pattern(1, at, PIECE), at).unwrap();
    }
    let mut mirror = Mirror::start(&cluster, &dir, &["--once"]);
    let mut peak = 0;
    let code = loop {
        if let Some(status) = mirror.child.try_wait().unwrap() {
            break status.code();
        }
        // It only grows, and is gone with the process: the last value is that of all but its last moment.
        peak = mirror.peak_bytes().unwrap_or(peak);
        assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(code, Some(0), "{}", mirror.said());
    println!("at its peak the mirror had {} KiB", peak >> 10);
    assert!(peak > 0, "it was seen");
    let journal = format!("job/w/{name}");
    let stat = cluster
        .cli(&["journal", "stat", &journal, "-o", "json"])
        .await;
    assert_eq!(stat.done().json()["tail"], FILE_BYTES);
    cluster.finish().await;
}

/// A command with one more word.
fn with<'a>(words: &[&'a str], word: &'a str) -> Vec<&'a str> {
    [words, &[word]].concat()
}

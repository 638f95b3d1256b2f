//! The story of the demo, step by step, each with what was measured.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use super::{
    super::{
        Context,
        dev::{self, DevNode, Layout},
        exit::{self, Exit, Failure},
    },
    Demo, JOB,
    input::Input,
    wordcount::{self, WordCount},
    worker::Said,
};
use crate::{
    client::{
        Client,
        restore::{RestoreOptions, RestoreReport},
    },
    domain::{NodeId, RestorePoint, WorkerName, WorkerRef},
    env::{
        fs, rng, task,
        time::{self, Instant},
    },
};

/// How many of each.
const SERVERS: u16 = 3;
const WORKERS: u64 = 2;
/// The worker that dies.
const VICTIM: u64 = 1;
/// Both workers have this many checkpoints when the blow falls.
const CHECKPOINTS_BEFORE: u64 = 4;
/// No single step takes longer.
const STEP_WITHIN: Duration = Duration::from_mins(2);

/// Everything that is running, and the clock of the story.
struct Stage<'a> {
    context: &'a Context,
    demo: &'a Demo,
    dir: PathBuf,
    began: Instant,
    input: Input,
    client: Client,
    endpoints: Vec<String>,
    said: mpsc::UnboundedReceiver<(u64, Instant, Said)>,
    say: mpsc::UnboundedSender<(u64, Instant, Said)>,
    newest: Vec<u64>,
    done: Vec<bool>,
    acks_us: Vec<u64>,
}

fn millis(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{:.2} s", duration.as_secs_f64())
    } else {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    }
}

fn bytes(count: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "for people: three digits are shown"
    )]
    let mebibytes = count as f64 / f64::from(1 << 20);
    if mebibytes >= 1.0 {
        format!("{mebibytes:.1} MiB")
    } else {
        format!("{:.1} KiB", mebibytes * 1024.0)
    }
}

/// Tells it, and cleans up behind it.
pub(super) async fn tell(demo: Demo, context: &Context) -> Result<Exit, Failure> {
    let (dir, keep) = match &demo.dir {
        Some(dir) => (dir.clone(), true),
        None => (
            std::env::temp_dir().join(format!("dos-cluster-demo-{:08x}", rng::u64() >> 32)),
            false,
        ),
    };
    fs::create_private_dir_all(&dir).map_err(|error| exit::cannot("create", &dir, &error))?;
    let mut servers = Vec::new();
    let mut workers = Vec::new();
    let ended = run(&demo, context, &dir, &mut servers, &mut workers).await;
    for worker in &mut workers {
        worker.kill().await.ok();
    }
    dev::stop_all(&mut servers, context).await;
    if ended.is_err() || keep {
        context
            .output
            .talk(&format!("everything is kept in {}", dir.display()));
    } else if let Err(error) = fs::remove_dir_all(&dir) {
        context
            .output
            .talk(&format!("cannot remove {}: {error}", dir.display()));
    }
    ended.map(|()| Exit::Done)
}

async fn run(
    demo: &Demo,
    context: &Context,
    dir: &Path,
    servers: &mut Vec<DevNode>,
    workers: &mut Vec<Child>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let input = Input::prepare(demo.input.as_deref(), dir)?;
    let layout = Layout::open(&dir.join("servers"), Some(SERVERS), None)?;
    dev::start_cluster(context, &layout, servers).await?;
    let endpoints = layout.endpoints();
    let (say, said) = mpsc::unbounded_channel();
    let count = usize::try_from(WORKERS).unwrap_or_default();
    let mut stage = Stage {
        client: context.client_of(&endpoints)?,
        newest: vec![0; count],
        done: vec![false; count],
        acks_us: Vec::new(),
        dir: dir.to_owned(),
        context,
        demo,
        began,
        input,
        endpoints,
        said,
        say,
    };
    stage.tell(&format!(
        "{SERVERS} servers form a cluster; {} ({} lines, {}) is to be counted by {WORKERS} workers",
        stage.input.from,
        stage.input.lines,
        bytes(stage.input.bytes)
    ))?;
    for share in 0..WORKERS {
        workers.push(stage.start_worker(share, &stage.worker_dir(share))?);
    }
    stage
        .until(|stage| {
            stage
                .newest
                .iter()
                .all(|newest| *newest >= CHECKPOINTS_BEFORE)
        })
        .await?;
    stage.acknowledgements("both workers are at work")?;

    let (leader, blow) = stage.strike(servers, workers).await?;
    let restored = stage.restore().await?;
    stage.resume(workers, &restored, blow).await?;
    stage.bring_back(&layout, servers, leader).await?;
    stage
        .until(|stage| stage.done.iter().all(|done| *done))
        .await?;
    stage.acknowledgements("both workers are done")?;
    stage.compare(&restored)
}

impl Stage<'_> {
    /// A line of the story, with its time.
    fn tell(&self, line: &str) -> Result<(), Failure> {
        let at = self.began.elapsed().as_secs_f64();
        self.context
            .output
            .raw(format!("{at:7.2} s  {line}\n").as_bytes())
    }

    fn name(share: u64) -> Result<WorkerRef, Failure> {
        let bad = |error: crate::domain::NameError| Failure::error(error.to_string());
        let worker: WorkerName = format!("w{}", share + 1).parse().map_err(bad)?;
        Ok(WorkerRef {
            job: JOB.parse().map_err(bad)?,
            worker,
        })
    }

    fn worker_dir(&self, share: u64) -> PathBuf {
        self.dir.join(format!("w{}", share + 1))
    }

    fn start_worker(&self, share: u64, dir: &Path) -> Result<Child, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::error(format!("cannot find this program: {error}")))?;
        let log = self.dir.join(format!("w{}.log", share + 1));
        let errors = fs::OpenOptions::new().append(true).create(true).open(&log);
        let errors = errors.map_err(|error| exit::cannot("open", &log, &error))?;
        let mut child = Command::new(&program)
            .args([
                "demo-worker",
                "--endpoints",
                &self.endpoints.join(","),
                "--timeout",
                "60s",
            ])
            .args([
                "--worker",
                &format!("w{}", share + 1),
                "--share",
                &share.to_string(),
                "--of",
                &WORKERS.to_string(),
            ])
            .args([
                "--checkpoint-lines",
                &self.demo.checkpoint_lines.to_string(),
            ])
            .args([
                "--lines-per-second",
                &self.demo.lines_per_second.to_string(),
            ])
            .arg("--dir")
            .arg(dir)
            .arg("--input")
            .arg(&self.input.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| exit::cannot("start", &program, &error))?;
        if let Some(stdout) = child.stdout.take() {
            let say = self.say.clone();
            task::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(said) = serde_json::from_str(&line) {
                        let _ = say.send((share, Instant::now(), said));
                    }
                }
            });
        }
        Ok(child)
    }

    /// Listens to the workers until a condition holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP_WITHIN;
        while !holds(self) {
            self.listen(deadline).await?;
        }
        Ok(())
    }

    /// The next thing that a worker says.
    async fn listen(&mut self, deadline: Instant) -> Result<(u64, Instant, Said), Failure> {
        let heard = time::timeout_at(deadline, self.said.recv())
            .await
            .ok()
            .flatten();
        let Some((share, at, said)) = heard else {
            let message = format!("the workers have not got on for {}", millis(STEP_WITHIN));
            return Err(Failure::new(Exit::Timeout, message)
                .try_next(format!("see {}/w*.log", self.dir.display())));
        };
        let index = usize::try_from(share).unwrap_or_default();
        match &said {
            Said::Started { .. } => {}
            Said::Acknowledged { number, ack_us, .. } => {
                self.newest[index] = *number;
                self.acks_us.push(*ack_us);
            }
            Said::Done { .. } => self.done[index] = true,
        }
        Ok((share, at, said))
    }

    fn acknowledgements(&mut self, what: &str) -> Result<(), Failure> {
        let mut acks = std::mem::take(&mut self.acks_us);
        acks.sort_unstable();
        let at = |part: usize| {
            acks.get((acks.len().saturating_sub(1)) * part / 100)
                .copied()
                .unwrap_or_default()
        };
        let (middle, worst) = (
            Duration::from_micros(at(50)),
            Duration::from_micros(at(100)),
        );
        self.tell(&format!(
            "{what}: {} checkpoints acknowledged by a majority's disks, {} each (the slowest {})",
            acks.len(),
            millis(middle),
            millis(worst)
        ))
    }

    /// Kills a worker and the leader at the same moment, and deletes the worker's directory.
    async fn strike(
        &mut self,
        servers: &mut [DevNode],
        workers: &mut [Child],
    ) -> Result<(usize, Instant), Failure> {
        let status = self.client.status().await?;
        let leader = usize::try_from(status.leader_id).unwrap_or_default();
        let victim = usize::try_from(VICTIM).unwrap_or_default();
        if self.done[victim] {
            return Err(Failure::error(
                "the input is too short: the worker was done before it could be killed",
            )
            .try_next("give a longer --input, or a lower --lines-per-second"));
        }
        let node = leader
            .checked_sub(1)
            .and_then(|index| servers.get_mut(index));
        let node =
            node.ok_or_else(|| Failure::new(Exit::Unhealthy, "the cluster has no leader"))?;
        let blow = Instant::now();
        workers[victim]
            .start_kill()
            .map_err(|error| Failure::error(format!("cannot kill the worker: {error}")))?;
        node.kill_9().await;
        workers[victim].wait().await.ok();
        let dir = self.worker_dir(VICTIM);
        fs::remove_dir_all(&dir).map_err(|error| exit::cannot("remove", &dir, &error))?;
        self.tell(&format!(
            "kill -9: worker {} and the leading server, {}, at the same moment; {}'s directory is deleted",
            Self::name(VICTIM)?,
            NodeId(leader as u64),
            Self::name(VICTIM)?.worker
        ))?;
        // What the dead worker still managed to say before the blow belongs to the past.
        while let Ok((share, at, said)) = self.said.try_recv() {
            if let (0, true, Said::Acknowledged { number, .. }) = (share, at < blow, &said) {
                self.newest[0] = *number;
            }
        }
        Ok((leader, blow))
    }

    /// Restores the worker elsewhere, at the recovery line, from the survivors.
    async fn restore(&mut self) -> Result<RestoreReport, Failure> {
        let asked = Instant::now();
        let mut options = RestoreOptions::new(
            Self::name(VICTIM)?,
            self.dir.join("w2-elsewhere"),
            "dos-cluster demo",
        );
        options.point = RestorePoint::Line;
        options.range_bytes = 256 << 10; // small enough that each survivor has a part in it
        let report = self.client.restore(options, &|_| {}).await?;
        let restored: u64 = report.journals.iter().map(|journal| journal.bytes).sum();
        let mut members: Vec<&str> = report
            .journals
            .iter()
            .flat_map(|journal| journal.members.keys().map(String::as_str))
            .collect();
        members.sort_unstable();
        members.dedup();
        self.tell(&format!(
            "restored {} elsewhere at the recovery line, checkpoint {}, as epoch {}: {} of journal from {} of the survivors, {} files, {} in all, the election of a new leader included",
            Self::name(VICTIM)?,
            report.checkpoint.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            report.epoch,
            bytes(restored),
            members.len(),
            report.files,
            millis(asked.elapsed()),
        ))?;
        Ok(report)
    }

    /// Starts the restored worker, and waits until both workers are acknowledged again.
    async fn resume(
        &mut self,
        workers: &mut [Child],
        restored: &RestoreReport,
        blow: Instant,
    ) -> Result<(), Failure> {
        let victim = usize::try_from(VICTIM).unwrap_or_default();
        workers[victim] = self.start_worker(VICTIM, &restored.directory)?;
        let deadline = Instant::now() + STEP_WITHIN;
        let (mut survivor, mut successor) = (None, None);
        while survivor.is_none() || successor.is_none() {
            let (share, at, said) = self.listen(deadline).await?;
            match (share == VICTIM, said) {
                (true, Said::Started { epoch, line }) => {
                    self.tell(&format!("w2 starts where it was restored, as epoch {epoch}, and replays its input from line {line}"))?;
                }
                (true, Said::Acknowledged { .. }) => successor = successor.or(Some(at)),
                (false, Said::Acknowledged { .. } | Said::Done { .. }) => {
                    survivor = survivor.or(Some(at))
                }
                _ => {}
            }
        }
        let since = |at: Option<Instant>| {
            at.map_or_else(String::new, |at| millis(at.saturating_duration_since(blow)))
        };
        self.tell(&format!(
            "the surviving worker's next checkpoint was acknowledged {} after the blow, the restored one's {} after it",
            since(survivor),
            since(successor)
        ))
    }

    /// Starts the dead server again, and waits until it has caught up.
    async fn bring_back(
        &mut self,
        layout: &Layout,
        servers: &mut [DevNode],
        number: usize,
    ) -> Result<(), Failure> {
        let asked = Instant::now();
        if let Some(server) = servers.get_mut(number.saturating_sub(1)) {
            *server = DevNode::start(layout, number)?;
        }
        let address = self
            .endpoints
            .get(number.saturating_sub(1))
            .cloned()
            .unwrap_or_default();
        let deadline = Instant::now() + STEP_WITHIN;
        loop {
            let target = self
                .client
                .status()
                .await
                .map(|status| status.applied_index)
                .unwrap_or(u64::MAX);
            let caught_up =
                time::timeout(Duration::from_secs(5), self.client.status_of(&address)).await;
            if let Ok(Ok(status)) = caught_up
                && status.leader_id != 0
                && status.applied_index >= target
            {
                let line = format!(
                    "{} is started again and has caught up, to log index {target}, in {}",
                    NodeId(number as u64),
                    millis(asked.elapsed())
                );
                return self.tell(&line);
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(
                    Exit::Timeout,
                    format!("{} has not caught up", NodeId(number as u64)),
                ));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Compares the counts in the workers' files with a count made without the cluster.
    fn compare(&self, restored: &RestoreReport) -> Result<(), Failure> {
        let text = fs::read(&self.input.path)
            .map_err(|error| exit::cannot("read", &self.input.path, &error))?;
        let expected = wordcount::count(&text);
        let mut found = wordcount::Counts::new();
        for dir in [self.worker_dir(0), restored.directory.clone()] {
            let state =
                WordCount::load(&dir).map_err(|error| exit::cannot("read", &dir, &error))?;
            for (word, count) in state.counts() {
                *found.entry(word).or_default() += count;
            }
        }
        let total = |counts: &wordcount::Counts| counts.values().sum::<u64>();
        if found == expected {
            return self.tell(&format!(
                "counted {} words, {} different ones: the same as without the cluster. Nothing acknowledged was lost.",
                total(&found),
                found.len()
            ));
        }
        let differs = |word: &&Vec<u8>| expected.get(*word) != found.get(*word);
        let words: Vec<_> = expected
            .keys()
            .chain(found.keys())
            .filter(differs)
            .take(5)
            .collect();
        let shown: Vec<_> = words
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let message = format!(
            "the counts differ: {} words counted, {} expected; for example: {}",
            total(&found),
            total(&expected),
            shown.join(", ")
        );
        Err(Failure::new(Exit::Verification, message))
    }
}

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
    JOB, Native,
    input::Input,
    stage::{self, STEP_WITHIN, bytes, millis},
    wordcount::{self, WordCount},
    worker::Said,
};
use crate::{
    client::{
        Client,
        restore::{RestoreOptions, RestoreReport},
    },
    domain::{CheckpointId, NodeId, RestorePoint, WorkerName, WorkerRef},
    env::{
        fs, task,
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

/// Everything that is running, and the clock of the story.
struct Stage<'a> {
    context: &'a Context,
    demo: &'a Native,
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

/// The blow: when it fell, and whom it hit.
#[derive(Debug, Clone, Copy)]
struct Blow {
    /// The leading server's number.
    leader: usize,
    at: Instant,
    /// When the surviving worker was first acknowledged again, as far as that was heard already.
    survivor: Option<Instant>,
}

/// Tells it, and cleans up behind it.
pub(super) async fn tell(demo: Native, context: &Context) -> Result<Exit, Failure> {
    stage::play(
        demo.dir.as_deref(),
        context,
        async |dir, servers, workers| run(&demo, context, dir, servers, workers).await,
    )
    .await
}

async fn run(
    demo: &Native,
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
            let enough = |newest: &u64| *newest >= CHECKPOINTS_BEFORE;
            stage.newest.iter().all(enough) || stage.done.contains(&true)
        })
        .await?;
    stage.refuse_a_short_input()?;
    stage.acknowledgements("both workers are at work")?;

    let blow = stage.strike(servers, workers).await?;
    let restored = stage.restore().await?;
    stage.resume(workers, &restored, blow).await?;
    stage.bring_back(&layout, servers, blow.leader).await?;
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
        self.note(share, &said);
        Ok((share, at, said))
    }

    /// Keeps what a worker said.
    fn note(&mut self, share: u64, said: &Said) {
        let index = usize::try_from(share).unwrap_or_default();
        match said {
            Said::Started { .. } => {}
            Said::Acknowledged { number, ack_us, .. } => {
                self.newest[index] = *number;
                self.acks_us.push(*ack_us);
            }
            Said::Done { .. } => self.done[index] = true,
        }
    }

    /// There must be something left to do after the blow.
    fn refuse_a_short_input(&self) -> Result<(), Failure> {
        if !self.done.contains(&true) {
            return Ok(());
        }
        let message = "the input is too short: a worker was done before one could be killed";
        Err(Failure::error(message)
            .try_next("give a longer --input, or a lower --lines-per-second or --checkpoint-lines"))
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
    ) -> Result<Blow, Failure> {
        let status = self.client.status().await?;
        let leader = usize::try_from(status.leader_id).unwrap_or_default();
        let victim = usize::try_from(VICTIM).unwrap_or_default();
        let node = leader
            .checked_sub(1)
            .and_then(|index| servers.get_mut(index));
        let node =
            node.ok_or_else(|| Failure::new(Exit::Unhealthy, "the cluster has no leader"))?;
        let at = Instant::now();
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
        let mut blow = Blow {
            leader,
            at,
            survivor: None,
        };
        // What was said meanwhile: all of it was acknowledged before the restore begins, and must be in it.
        while let Ok((share, at, said)) = self.said.try_recv() {
            self.note(share, &said);
            let is_news = !matches!(said, Said::Started { .. }) && at > blow.at;
            if share != VICTIM && is_news {
                blow.survivor = blow.survivor.or(Some(at));
            }
        }
        if self.done[victim] {
            self.refuse_a_short_input()?;
        }
        Ok(blow)
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
        match behind(report.checkpoint, &self.newest) {
            Some(message) => Err(Failure::new(Exit::Verification, message)),
            None => Ok(report),
        }
    }

    /// Starts the restored worker, and waits until both workers are acknowledged again.
    async fn resume(
        &mut self,
        workers: &mut [Child],
        restored: &RestoreReport,
        blow: Blow,
    ) -> Result<(), Failure> {
        let victim = usize::try_from(VICTIM).unwrap_or_default();
        workers[victim] = self.start_worker(VICTIM, &restored.directory)?;
        let deadline = Instant::now() + STEP_WITHIN;
        let (mut survivor, mut successor) = (blow.survivor, None);
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
            at.map_or_else(String::new, |at| {
                millis(at.saturating_duration_since(blow.at))
            })
        };
        self.tell(&format!(
            "the surviving worker's next checkpoint was acknowledged {} after the blow, the restored one's {} after it",
            since(survivor),
            since(successor)
        ))
    }

    /// Starts the dead server again, and waits until it has caught up.
    async fn bring_back(
        &self,
        layout: &Layout,
        servers: &mut [DevNode],
        number: usize,
    ) -> Result<(), Failure> {
        let asked = Instant::now();
        let index = stage::bring_back(&self.client, layout, servers, number).await?;
        self.tell(&format!(
            "{} is started again and has caught up, to log index {index}, in {}",
            NodeId(number as u64),
            millis(asked.elapsed())
        ))
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
        if let Some(message) = wordcount::difference(&expected, &found) {
            return Err(Failure::new(Exit::Verification, message));
        }
        self.tell(&format!(
            "counted {} words, {} different ones: the same as without the cluster. Nothing acknowledged was lost.",
            wordcount::total(&found),
            found.len()
        ))
    }
}

/// What is wrong with a restore at the recovery line, given each worker's newest acknowledged checkpoint: the line is at least
/// the oldest of these.
fn behind(restored: Option<CheckpointId>, acknowledged: &[u64]) -> Option<String> {
    let least = acknowledged.iter().min().copied().unwrap_or_default();
    let number = restored.map_or(0, |id| id.number);
    (number < least).then(|| {
        let shown = restored.map_or_else(|| "nothing".to_owned(), |id| format!("checkpoint {id}"));
        format!("acknowledged checkpoints were lost: every worker had {least} acknowledged, but {shown} was restored")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> Option<CheckpointId> {
        Some(CheckpointId {
            rollback_epoch: 0,
            number,
        })
    }

    #[test]
    fn a_restore_behind_what_every_worker_was_told_is_a_loss() {
        assert_eq!(behind(id(4), &[4, 7]), None);
        assert_eq!(behind(id(6), &[4, 7]), None);
        assert_eq!(behind(None, &[0, 7]), None);
        let lost = behind(id(3), &[4, 7]).unwrap();
        assert!(lost.contains("had 4") && lost.contains("0:3"), "{lost}");
        let lost = behind(None, &[4, 7]).unwrap();
        assert!(lost.contains("nothing was restored"), "{lost}");
    }
}

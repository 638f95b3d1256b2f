//! The worker's process: counts its share of the lines, keeps its state in a mirrored directory, makes checkpoints, and says on
//! stdout what the cluster has acknowledged, one JSON line each.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Context,
        exit::{self, Exit, Failure},
    },
    JOB,
    wordcount::WordCount,
};
use crate::{
    client::{JournaledDir, JournaledDirOptions},
    domain::{CheckpointId, WorkerName, WorkerRef},
    env::{fs, time, time::Instant},
};

/// Lines counted between two writes of the files.
const LINES_PER_WRITE: u64 = 100;

/// What a worker does.
#[derive(Debug, Args)]
pub(super) struct Task {
    /// Its name
    #[arg(long)]
    worker: WorkerName,
    /// Its directory
    #[arg(long)]
    dir: PathBuf,
    /// The text
    #[arg(long)]
    input: PathBuf,
    /// Which of the lines are its own: those whose number, divided by --of, leaves this
    #[arg(long)]
    share: u64,
    /// Into how many shares the lines are divided
    #[arg(long)]
    of: u64,
    /// Lines between two checkpoints
    #[arg(long)]
    checkpoint_lines: u64,
    /// Lines in a second; 0: as fast as it can
    #[arg(long)]
    lines_per_second: u64,
}

/// What a worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Said {
    /// It is at work, from this line of its share on.
    Started { epoch: u64, line: u64 },
    /// The cluster has acknowledged a checkpoint.
    Acknowledged { number: u64, line: u64, ack_us: u64 },
    /// All of its share is counted and acknowledged.
    Done { line: u64, bytes: u64 },
}

/// Counts to the end.
pub(super) async fn run(task: Task, context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let worker = WorkerRef {
        job: JOB.parse().map_err(|e| Failure::error(format!("{e}")))?,
        worker: task.worker.clone(),
    };
    let dir =
        JournaledDir::open(&client, &worker, &task.dir, JournaledDirOptions::default()).await?;
    let text = fs::read(&task.input).map_err(|error| exit::cannot("read", &task.input, &error))?;
    let mut state =
        WordCount::load(&task.dir).map_err(|error| exit::cannot("read", &task.dir, &error))?;
    let say = |said: Said| {
        let mut line =
            serde_json::to_vec(&said).map_err(|error| Failure::error(error.to_string()))?;
        line.push(b'\n');
        context.output.raw(&line)
    };
    say(Said::Started {
        epoch: dir.epoch().0,
        line: state.position(),
    })?;

    let own = text
        .split(|byte| *byte == b'\n')
        .zip(0_u64..)
        .filter(|(_, number)| number % task.of == task.share);
    let lines: Vec<&[u8]> = own.map(|(line, _)| line).collect();
    let total = lines.len() as u64;
    let began = (Instant::now(), state.position());
    let resumed = usize::try_from(state.position()).unwrap_or(usize::MAX);
    for line in lines.into_iter().skip(resumed) {
        state.line(line);
        let at = state.position();
        let checkpoint = at % task.checkpoint_lines == 0 || at == total;
        if at % LINES_PER_WRITE == 0 || checkpoint {
            for change in state.take_changes() {
                dir.write_at(change.file, change.offset, &change.data)?;
            }
            pace(began, at, task.lines_per_second).await;
        }
        if checkpoint {
            let number = at.div_ceil(task.checkpoint_lines);
            let asked = Instant::now();
            dir.checkpoint(CheckpointId {
                rollback_epoch: 0,
                number,
            })
            .await?;
            let ack_us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            say(Said::Acknowledged {
                number,
                line: at,
                ack_us,
            })?;
        }
    }
    say(Said::Done {
        line: state.position(),
        bytes: dir.durable().0,
    })?;
    dir.close().await?;
    Ok(Exit::Done)
}

/// Waits until `at` lines may be counted.
async fn pace((began, from): (Instant, u64), at: u64, lines_per_second: u64) {
    if let Some(micros) = (at - from)
        .saturating_mul(1_000_000)
        .checked_div(lines_per_second)
    {
        time::sleep_until(began + Duration::from_micros(micros)).await;
    }
}

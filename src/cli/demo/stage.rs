//! What both stories stand on: a directory that is gone afterwards, servers, and processes that end with the story.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Child;

use super::super::{
    Context,
    dev::{self, DevNode, Layout},
    exit::{self, Exit, Failure},
    signals,
};
use crate::{
    client::Client,
    domain::NodeId,
    env::{
        fs, rng,
        time::{self, Instant},
    },
};

/// No single step takes longer.
pub(super) const STEP_WITHIN: Duration = Duration::from_mins(2);
/// How long a starting node may take to answer before it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Plays a story in `dir`, which is kept, or in a temporary directory, which is removed unless the story fails. Whatever happens,
/// the servers and workers that the story put into its lists are stopped.
pub(super) async fn play(
    dir: Option<&Path>,
    context: &Context,
    story: impl AsyncFnOnce(&Path, &mut Vec<DevNode>, &mut Vec<Child>) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let (dir, keep) = match dir {
        Some(dir) => (absolute(dir)?, true),
        None => (
            std::env::temp_dir().join(format!("dos-cluster-demo-{:08x}", rng::u64() >> 32)),
            false,
        ),
    };
    fs::create_private_dir_all(&dir).map_err(|error| exit::cannot("create", &dir, &error))?;
    let mut servers = Vec::new();
    let mut workers = Vec::new();
    let stop = signals::stop_signal()?;
    // Whatever happens from here on, what was started is stopped.
    let (ended, stopped) = tokio::select! {
        ended = story(&dir, &mut servers, &mut workers) => (ended, false),
        () = stop => (Err(Failure::error("a signal stopped the demo before its end")), true),
    };
    for worker in &mut workers {
        worker.kill().await.ok();
    }
    dev::stop_all(&mut servers, context).await;
    if (ended.is_err() && !stopped) || keep {
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

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| exit::cannot("use", dir, &error))
}

/// Starts a dead server again, and waits until it has caught up; answers with which log index.
pub(in crate::cli) async fn bring_back(
    client: &Client,
    layout: &Layout,
    servers: &mut [DevNode],
    number: usize,
) -> Result<u64, Failure> {
    if let Some(server) = servers.get_mut(number.saturating_sub(1)) {
        *server = DevNode::start(layout, number)?;
    }
    let endpoints = layout.endpoints();
    let address = endpoints.get(number.saturating_sub(1));
    let address = address.cloned().unwrap_or_default();
    let deadline = Instant::now() + STEP_WITHIN;
    loop {
        let status = client.status().await;
        let target = status.map_or(u64::MAX, |status| status.applied_index);
        let caught_up = time::timeout(ANSWER_WITHIN, client.status_of(&address)).await;
        if let Ok(Ok(status)) = caught_up
            && status.leader_id != 0
            && status.applied_index >= target
        {
            return Ok(target);
        }
        if Instant::now() >= deadline {
            let message = format!("{} has not caught up", NodeId(number as u64));
            return Err(Failure::new(Exit::Timeout, message));
        }
        time::sleep(ASK_EVERY).await;
    }
}

pub(super) fn millis(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{:.2} s", duration.as_secs_f64())
    } else {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    }
}

pub(super) fn bytes(count: u64) -> String {
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

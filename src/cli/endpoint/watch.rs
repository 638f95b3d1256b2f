//! Watching endpoints: printed, rendered, and a command for each change.

use std::{future::Future, process::Stdio};

use super::{
    super::{
        Context,
        exit::{Exit, Failure},
        signals,
    },
    Row,
    format::{Endpoints, variable},
    render::RenderArguments,
};
use crate::{
    client::EndpointWatch,
    domain::{Endpoint, JobName, Rejected, WorkerRef},
    env::time::{self, Duration},
};

/// Between the first attempts.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Between later ones: whoever repairs what was wrong should not have to wait.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Until a signal. A command that fails is told; a file that cannot be written is told, and tried again until it is.
pub(super) async fn watch(
    context: &Context,
    job: &JobName,
    render: &RenderArguments,
    exec: Option<&str>,
) -> Result<Exit, Failure> {
    render.check(true)?;
    let mut stop = Box::pin(signals::stop_signal()?);
    tokio::select! {
        ended = follow(context, job, render, exec) => ended,
        () = &mut stop => Ok(Exit::Done),
    }
}

async fn follow(
    context: &Context,
    job: &JobName,
    render: &RenderArguments,
    exec: Option<&str>,
) -> Result<Exit, Failure> {
    let mut watch = open(context, job).await?;
    // Changes whose command is to be run once they are written.
    let mut due = Endpoints::new();
    let mut attempts = Attempts::default();
    loop {
        // While a command runs, changes gather at the node: one at a time, and only the newest.
        let changed = match attempts.pause() {
            None => watch.next().await?,
            Some(pause) => tokio::select! {
                changed = watch.next() => changed?,
                () = time::sleep(pause) => Endpoints::new(),
            },
        };
        if render.is_given() {
            due.extend(changed);
            if watch.known().is_empty() {
                let note =
                    format!("note: no worker of job {job} has an endpoint yet: waiting for one");
                context.output.talk(&note);
                continue;
            }
            match render.write(context, watch.known()) {
                Ok(paths) => {
                    attempts = Attempts::default();
                    for path in paths {
                        context.output.talk(&format!("wrote {}", path.display()));
                    }
                }
                Err(failure) if failure.exit == Exit::Error => {
                    attempts.failed(context, failure);
                    // What the command would read is not there yet.
                    continue;
                }
                Err(failure) => return Err(failure),
            }
        } else {
            print(context, &changed)?;
            due = changed;
        }
        for (worker, endpoint) in std::mem::take(&mut due) {
            if let Some(command) = exec {
                run(context, command, &worker, &endpoint).await;
            }
        }
    }
}

/// Begins to watch, once the job is there.
async fn open(context: &Context, job: &JobName) -> Result<EndpointWatch, Failure> {
    let client = context.client()?;
    let mut pauses = Attempts::default();
    loop {
        match client.watch_endpoints(job).await {
            Ok(watch) => return Ok(watch),
            Err(error) if matches!(error.rejected(), Some(Rejected::UnknownJob { .. })) => {
                if pauses.pause().is_none() {
                    let note = format!("note: there is no job {job} yet: waiting for it");
                    context.output.talk(&note);
                }
                time::sleep(pauses.longer()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What was tried in vain, and will be tried again.
#[derive(Debug, Default)]
struct Attempts {
    pause: Option<Duration>,
    said: String,
}

impl Attempts {
    /// How long to wait for the next one; `None` if nothing has failed.
    fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// The pause that is due now: twice the last, within bounds.
    fn longer(&mut self) -> Duration {
        let pause = self
            .pause
            .map_or(PAUSE_MIN, |last| (2 * last).min(PAUSE_MAX));
        self.pause = Some(pause);
        pause
    }

    /// One more has failed: it is said once for each cause.
    fn failed(&mut self, context: &Context, failure: Failure) {
        self.longer();
        if self.said != failure.message {
            self.said.clone_from(&failure.message);
            let failure = failure.after("it is tried again until it is written");
            context.output.failure(&failure);
        }
    }
}

/// A line for each: for programs, an object.
fn print(context: &Context, changed: &Endpoints) -> Result<(), Failure> {
    for row in changed.iter().map(Row::of) {
        let mut line = if context.output.is_json() {
            serde_json::to_string(&row)
                .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?
        } else {
            format!("{} {} {}", row.worker, row.generation, row.addresses())
        };
        line.push('\n');
        context.output.raw(line.as_bytes())?;
    }
    Ok(())
}

/// Runs the command, which is killed with this process's end; says how it failed.
fn run(
    context: &Context,
    command: &str,
    worker: &WorkerRef,
    endpoint: &Endpoint,
) -> impl Future<Output = ()> {
    let mut shell = tokio::process::Command::new("sh");
    shell
        .args(["-c", command])
        .env("DOS_JOB", worker.job.as_str())
        .env("DOS_WORKER", worker.worker.as_str())
        .env("DOS_GENERATION", endpoint.generation.to_string())
        .env("DOS_ADDRESSES", Row::of((worker, endpoint)).addresses())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (role, address) in endpoint.addresses.iter() {
        shell.env(format!("DOS_ADDRESS_{}", variable(role)), address);
    }
    let output = context.output.clone();
    let of = format!("{worker} generation {}", endpoint.generation);
    async move {
        match shell.status().await {
            Ok(status) if status.success() => {}
            Ok(status) => output.talk(&format!("note: the command for {of} failed: {status}")),
            Err(error) => output.talk(&format!("note: cannot run the command for {of}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_growing_pauses_within_bounds() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.pause(), None);
        let pauses: Vec<_> = (0..8).map(|_| attempts.longer()).collect();
        assert_eq!(pauses[0], PAUSE_MIN);
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert_eq!(attempts.pause(), Some(PAUSE_MAX));
    }
}

//! Watching endpoints: printed, rendered, and a command for each change.

use std::{future::Future, process::Stdio};

use super::{
    super::{
        Context, dev,
        exit::{Exit, Failure},
    },
    Row,
    format::{Endpoints, variable},
    render::RenderArguments,
};
use crate::domain::{Endpoint, JobName, WorkerRef};

/// Until a signal. A command or a file that fails is told, and the next change tries again.
pub(super) async fn watch(
    context: &Context,
    job: &JobName,
    render: &RenderArguments,
    exec: Option<&str>,
) -> Result<Exit, Failure> {
    let mut stop = Box::pin(dev::stop_signal()?);
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
    let mut watch = context.client()?.watch_endpoints(job).await?;
    loop {
        // While a command runs, changes gather at the node: one at a time, and only the newest.
        let changed = watch.next().await?;
        if render.is_given() {
            match render.write(context, watch.known()) {
                Ok(paths) => {
                    for path in paths {
                        context.output.talk(&format!("wrote {}", path.display()));
                    }
                }
                Err(failure) if failure.exit == Exit::Error => context.output.failure(&failure),
                Err(failure) => return Err(failure),
            }
        } else {
            print(context, &changed)?;
        }
        if let Some(command) = exec {
            for (worker, endpoint) in &changed {
                run(context, command, worker, endpoint).await;
            }
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

//! The gateway beside a worker: what `dos-cluster gateway` runs, on any free port, until stdin ends.

use clap::Args;
use tokio::io::AsyncReadExt;

use super::super::super::{
    Context,
    exit::{Exit, Failure},
};
use crate::{
    client::Client,
    domain::JobName,
    env::{net, time::Duration},
    gateway::{Gateway, client_options},
};

/// How long its streams are given to be committed at the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a gateway serves.
#[derive(Debug, Args)]
pub(super) struct Task {
    /// Whose workers
    #[arg(long)]
    job: JobName,
}

/// Serves; says on stdout where.
pub(super) async fn run(task: Task, context: &Context) -> Result<Exit, Failure> {
    let cannot = |error: std::io::Error| Failure::error(format!("cannot listen: {error}"));
    let client = Client::new(client_options(context.endpoints.iter().cloned()));
    let client = client.map_err(|error| Failure::usage(error.to_string()))?;
    let listener = net::bind("127.0.0.1:0").await.map_err(cannot)?;
    let gateway = Gateway::start(listener, client, task.job).map_err(cannot)?;
    let address = format!("{}\n", gateway.address());
    context.output.raw(address.as_bytes())?;
    // What is written there means nothing.
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while matches!(stdin.read(&mut buffer).await, Ok(1..)) {}
    gateway.stop(STOP_WITHIN).await;
    Ok(Exit::Done)
}

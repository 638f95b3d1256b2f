//! The end of a process that is not to outlive whoever started it: no signal may tell of a parent that was killed, a pipe does.

use std::os::fd::AsFd;

use clap::Args;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::exit::Failure;

/// The flag of [`UntilStdinCloses`].
pub(super) const UNTIL_STDIN_CLOSES: &str = "--until-stdin-closes";

/// Whether the end of stdin is the end of the process.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct UntilStdinCloses {
    /// Stop, as at SIGTERM, when the pipe at stdin is closed: a process that is not to outlive whoever started it
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

impl UntilStdinCloses {
    /// Watches stdin from now on, if that was asked for.
    pub(super) fn watch(self) -> Result<Lifeline, Failure> {
        if !self.until_stdin_closes {
            return Ok(Lifeline(None));
        }
        // By a pipe's receiver: a thread that reads stdin would hold up the end.
        let pipe = std::io::stdin().as_fd().try_clone_to_owned();
        let pipe = pipe.and_then(pipe::Receiver::from_owned_fd);
        pipe.map(|pipe| Lifeline(Some(pipe))).map_err(|error| {
            Failure::usage(format!(
                "cannot watch stdin for {UNTIL_STDIN_CLOSES}: {error}; it must be a pipe"
            ))
        })
    }
}

/// The pipe at stdin, if it is watched.
#[derive(Debug)]
pub(super) struct Lifeline(Option<pipe::Receiver>);

impl Lifeline {
    /// Waits until it is closed; for ever, if it is not watched. Cancelling it loses nothing.
    pub(super) async fn closed(&mut self) {
        let Some(pipe) = &mut self.0 else {
            return std::future::pending().await;
        };
        // What is written there means nothing.
        let mut buffer = [0; 64];
        while matches!(pipe.read(&mut buffer).await, Ok(1..)) {}
    }
}

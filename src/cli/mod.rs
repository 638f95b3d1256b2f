//! The command line: `dos-cluster NOUN VERB`. One file per noun; `output` alone prints, `exit` says how a command ends.
//!
//! Data goes to stdout, talk to stderr, so that a pipe gets data only. With `-o json` both are JSON: one document on stdout,
//! and on stderr an object a line, `{"note": ...}` or `{"error": ...}`. What `journal read` and `completions` print is bytes.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};

mod arguments;
mod bench;
mod checkpoint;
mod completions;
mod demo;
mod dev;
mod endpoint;
mod exit;
mod gateway;
mod help;
mod init;
mod join;
mod journal;
mod leader;
mod lifeline;
mod log;
mod member;
mod metrics;
mod mirror;
mod output;
mod progress;
mod restore;
mod serve;
mod signals;
mod status;
mod usage;
mod worker;

use crate::client::{Client, ClientOptions};
use exit::{Exit, Failure};
use output::{Format, Output};
use signals::Signals;

/// Where a client looks when nothing is said.
const DEFAULT_ENDPOINT: &str = "127.0.0.1:7420";

/// How long a node that has stopped may take to close its stores.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  error
  2  wrong usage or configuration
  3  cannot connect
  4  refused: fenced, conflict, unknown name
  5  no quorum, or unhealthy
  6  verification failed
  8  timeout: the outcome is unknown";

/// A replicated, fsynced store for the journals of stream-processing workers.
#[derive(Debug, Parser)]
#[command(name = "dos-cluster", version, after_help = EXIT_CODES)]
// Ours is hidden: listed under every noun it would be half of the help.
#[command(disable_help_subcommand = true)]
#[command(arg_required_else_help = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Client addresses of any nodes of the cluster; the others are learned from them
    #[arg(
        long,
        global = true,
        env = "DOS_CLUSTER_ENDPOINTS",
        value_name = "HOST:PORT,..."
    )]
    #[arg(value_delimiter = ',', default_value = DEFAULT_ENDPOINT, hide_env_values = true)]
    endpoints: Vec<String>,
    /// What goes to stdout: text for people, or JSON for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// How long a call is tried before it fails
    #[arg(long, global = true, value_parser = arguments::positive_duration, default_value = "10s")]
    #[arg(value_name = "DURATION")]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Init(init::Init),
    Join(join::Join),
    Status(status::Status),
    Member(member::Member),
    Leader(leader::Leader),
    Journal(journal::Journal),
    Worker(worker::Worker),
    Checkpoint(checkpoint::Checkpoint),
    Endpoint(endpoint::Endpoint),
    Restore(restore::Restore),
    Gateway(gateway::GatewayCommand),
    Mirror(mirror::Mirror),
    Dev(dev::Dev),
    Bench(bench::Bench),
    Demo(demo::Demo),
    DemoWorker(demo::DemoWorker),
    DemoLegacyWorker(demo::DemoLegacyWorker),
    Help(usage::Help),
    Completions(completions::Completions),
}

/// What a command works with.
#[derive(Debug, Clone)]
struct Context {
    endpoints: Vec<String>,
    timeout: Duration,
    output: Output,
}

impl Context {
    fn new(global: Global) -> Self {
        let endpoints = global.endpoints.into_iter();
        Self {
            endpoints: endpoints
                .map(|endpoint| endpoint.trim().to_owned())
                .filter(|endpoint| !endpoint.is_empty())
                .collect(),
            timeout: global.timeout,
            output: Output::new(global.output),
        }
    }

    /// A client of the cluster behind the endpoints.
    fn client(&self) -> Result<Client, Failure> {
        self.client_of(&self.endpoints)
    }

    /// A client of the cluster behind these endpoints.
    fn client_of(&self, endpoints: &[String]) -> Result<Client, Failure> {
        let defaults = ClientOptions::new(endpoints.iter().cloned());
        let options = ClientOptions {
            timeout: self.timeout,
            attempt_timeout: defaults.attempt_timeout.min(self.timeout),
            connect_timeout: defaults.connect_timeout.min(self.timeout),
            ..defaults
        };
        // Only an endpoint that is no address can be wrong here.
        Client::new(options).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// Parses the command line, runs the command, and answers its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match help::parse(&words) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&words, error).into(),
    };
    let context = Context::new(cli.global);
    let output = context.output.clone();
    match run(context, cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

fn run(context: Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Completions(command) => return command.run(&context, Cli::command()),
        Command::Help(command) => return command.run(&context),
        Command::Journal(command) if command.is_offline() => return command.run_offline(&context),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start the runtime: {error}")))?;
    let is_node = matches!(command, Command::Serve(_));
    let ended = runtime.block_on(Box::pin(run_online(&context, command)));
    if is_node {
        // RocksDB must be closed before the process ends: what it leaves running meets destructors at exit and aborts.
        runtime.shutdown_timeout(CLOSE_WITHIN);
    } else {
        // A read of stdin that waits for more input must not hold up the end.
        runtime.shutdown_background();
    }
    ended
}

async fn run_online(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(command) => command.run().await,
        Command::Init(command) => command.run(context).await,
        Command::Join(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Member(command) => command.run(context).await,
        Command::Leader(command) => command.run(context).await,
        Command::Journal(command) => command.run(context).await,
        Command::Worker(command) => command.run(context).await,
        Command::Checkpoint(command) => command.run(context).await,
        Command::Endpoint(command) => command.run(context).await,
        Command::Restore(command) => command.run(context).await,
        Command::Gateway(command) => command.run(context).await,
        Command::Mirror(command) => command.run(context).await,
        Command::Dev(command) => command.run(context).await,
        Command::Bench(command) => command.run(context).await,
        Command::Demo(command) => command.run(context).await,
        Command::DemoWorker(command) => command.run(context).await,
        Command::DemoLegacyWorker(command) => command.run(context).await,
        Command::Help(command) => command.run(context),
        Command::Completions(command) => command.run(context, Cli::command()),
    }
}

#[cfg(test)]
mod tests;

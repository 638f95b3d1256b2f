//! `dos-sim`: whole clusters in one thread, on simulated time, network and disks; many seeds, one process each.

mod admin;
mod dice;
mod fleet;
mod nemesis;
mod plan;
mod recorder;
mod run;
mod workload;

#[cfg(not(all(sim, tokio_unstable)))]
compile_error!(
    "build this in cluster-tests/sim, whose .cargo/config.toml sets `--cfg tokio_unstable --cfg sim`; a RUSTFLAGS variable overrides it"
);

use std::{ops::Range, process::ExitCode, time::Duration};

use clap::Parser;
use rand::SeedableRng;

use plan::Plan;
use run::Mutation;

/// Set by the parent: this process runs that seed.
const CHILD_VARIABLE: &str = "DOS_SIM_CHILD_SEED";

/// Simulates clusters under faults, and checks what their clients were told.
#[derive(Debug, Parser)]
#[command(name = "dos-sim")]
struct Arguments {
    /// Seeds to run, the last one excluded: 0..100.
    #[arg(long, value_parser = parse_seeds, default_value = "0..20")]
    seeds: Range<u64>,
    /// One seed instead.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Simulated seconds of faults for each seed.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Print every event to stderr; RUST_LOG adds the nodes' own words.
    #[arg(long)]
    trace: bool,
    /// Plant a bug.
    #[arg(long)]
    mutation: Option<Mutation>,
    /// Succeed when a violation is found, and stop there; fail when none is.
    #[arg(long)]
    expect_violation: bool,
    /// Run every seed twice, and compare.
    #[arg(long)]
    check_determinism: bool,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("expected FROM..TO, such as 0..100")?;
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| format!("{text:?}: {error}"))
    };
    let seeds = number(from)?..number(to)?;
    if seeds.is_empty() {
        Err("there is no seed in it".into())
    } else {
        Ok(seeds)
    }
}

fn main() -> ExitCode {
    // IMPORTANT: before anything draws a random number, as the first HashMap does.
    if let Ok(seed) = std::env::var(CHILD_VARIABLE) {
        let seed = seed.parse().expect("the parent sets a number");
        mad_turmoil::rand::set_rng(rand::rngs::StdRng::seed_from_u64(seed));
        return child(seed, &Arguments::parse());
    }
    fleet::run(&Arguments::parse())
}

fn child(seed: u64, arguments: &Arguments) -> ExitCode {
    let limit = rustix::process::Rlimit {
        current: Some(600),
        maximum: Some(600),
    };
    rustix::process::setrlimit(rustix::process::Resource::Cpu, limit)
        .expect("a lower limit is always allowed");
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    if arguments.trace {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .without_time()
            .init();
    }
    let plan = Plan::new(seed, Duration::from_secs(arguments.seconds));
    let report = run::run(&plan, arguments.mutation, arguments.trace);
    println!(
        "{}",
        serde_json::to_string(&report).expect("a report is JSON")
    );
    ExitCode::SUCCESS
}

//! Many seeds: one child process each, some at a time, and the sum of what they report.

use std::{
    collections::VecDeque,
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::{Arguments, CHILD_VARIABLE, nemesis::Kind, recorder::Report};

/// What a seed came to.
type Ran = (u64, Result<Report, String>);

pub fn run(arguments: &Arguments) -> ExitCode {
    let seeds = arguments
        .seed
        .map_or(arguments.seeds.clone(), |seed| seed..seed + 1);
    let queue = Mutex::new(seeds.clone().collect::<VecDeque<u64>>());
    let ran = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some(seed) = take(&queue) {
                    let result = run_seed(arguments, seed);
                    let caught = is_caught(&result);
                    report_failure(arguments, &(seed, result.clone()));
                    ran.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((seed, result));
                    if caught && arguments.expect_violation {
                        queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    }
                }
            });
        }
    });
    let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum_up(arguments, &ran)
}

fn take(queue: &Mutex<VecDeque<u64>>) -> Option<u64> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

fn is_failure(result: &Result<Report, String>) -> bool {
    !result
        .as_ref()
        .is_ok_and(|report| report.violations.is_empty())
}

/// Whether a checker found what was planted. That the bug made an assertion of openraft fail is no merit of ours.
fn is_caught(result: &Result<Report, String>) -> bool {
    result.as_ref().is_ok_and(|report| {
        let mut violations = report.violations.iter();
        violations.any(|violation| !violation.starts_with("a panic"))
    })
}

/// Runs a seed in a process of its own; twice when its determinism is checked.
fn run_seed(arguments: &Arguments, seed: u64) -> Result<Report, String> {
    let mut report = run_child(arguments, seed)?;
    if arguments.check_determinism {
        let again = run_child(arguments, seed)?;
        if again != report {
            let (one, other) = (report.trace_hash, again.trace_hash);
            report.violations.push(format!(
                "two runs differ: trace {one:016x} and {other:016x}"
            ));
        }
    }
    Ok(report)
}

fn run_child(arguments: &Arguments, seed: u64) -> Result<Report, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command
        .env(CHILD_VARIABLE, seed.to_string())
        .args(["--seconds", &arguments.seconds.to_string()]);
    if let Some(mutation) = arguments.mutation {
        use clap::ValueEnum;
        let name = mutation
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        command.args(["--mutation", &name.unwrap_or_default()]);
    }
    if arguments.trace {
        command.arg("--trace").stderr(Stdio::inherit());
    } else {
        command.stderr(Stdio::piped());
    }
    let output = command
        .stdout(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|error| format!("cannot run a child: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = said.lines().rev().take(5).collect();
        format!(
            "the run died ({}): {}",
            output.status,
            said.into_iter().rev().collect::<Vec<_>>().join(" | ")
        )
    })
}

fn report_failure(arguments: &Arguments, (seed, result): &Ran) {
    let violations = match result {
        Ok(report) => report.violations.clone(),
        Err(why) => vec![why.clone()],
    };
    let Some(first) = violations.first() else {
        return;
    };
    let mutation = arguments
        .mutation
        .map_or("", |_| " --mutation ack_before_sync");
    println!(
        "seed {seed}: {first}{}\n  repeat: cargo run -- --seed {seed} --seconds {}{mutation} --trace",
        if violations.len() > 1 {
            format!(" (and {} more)", violations.len() - 1)
        } else {
            String::new()
        },
        arguments.seconds,
    );
}

fn sum_up(arguments: &Arguments, ran: &[Ran]) -> ExitCode {
    let mut sum = Report::default();
    let mut slowest = 0;
    for report in ran.iter().filter_map(|(_, result)| result.as_ref().ok()) {
        sum.simulated_millis += report.simulated_millis;
        sum.acknowledged += report.acknowledged;
        sum.unknown += report.unknown;
        sum.reads += report.reads;
        sum.checkpoints += report.checkpoints;
        sum.takeovers += report.takeovers;
        sum.elections += report.elections;
        sum.snapshots += report.snapshots;
        slowest = slowest.max(report.recovery_millis);
        for (kind, count) in &report.faults {
            *sum.faults.entry(kind.clone()).or_default() += count;
        }
    }
    let failed = ran.iter().filter(|(_, result)| is_failure(result)).count();
    println!(
        "{} seeds, {failed} with violations; {} simulated s, {} acknowledged appends, {} unknown outcomes, {} reads, \
         {} checkpoints, {} takeovers, {} elections, {} snapshots, slowest recovery {} ms; faults: {:?}",
        ran.len(),
        sum.simulated_millis / 1000,
        sum.acknowledged,
        sum.unknown,
        sum.reads,
        sum.checkpoints,
        sum.takeovers,
        sum.elections,
        sum.snapshots,
        slowest,
        sum.faults,
    );
    if arguments.expect_violation {
        let caught = ran.iter().filter(|(_, result)| is_caught(result)).count();
        if caught == 0 {
            println!("no violation was found, but one was planted: the checkers are blind");
        }
        return if caught > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let mut good = failed == 0;
    if sum.acknowledged == 0 {
        println!("nothing was acknowledged: this run proves nothing");
        good = false;
    }
    // A few seeds may lack a kind; many may not.
    if ran.len() >= 20 {
        let missing: Vec<_> = Kind::ALL
            .iter()
            .filter(|kind| !sum.faults.contains_key(&format!("{kind:?}")))
            .collect();
        if !missing.is_empty() {
            println!("these faults never happened: {missing:?}: this run proves too little");
            good = false;
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

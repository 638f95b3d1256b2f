//! Many seeds: one child process each, some at a time, and the sum of what they report.

use std::{
    collections::VecDeque,
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use clap::ValueEnum;

use crate::{Arguments, CHILD_VARIABLE, nemesis::Kind, recorder::Report, run::Mutation};

/// From this many seeds on, everything has to happen.
const MANY: usize = 20;

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

/// Whether a checker found what was planted. That the bug made an assertion of openraft fail, or that a node does not start
/// or the cluster does not recover, is no merit of the checkers.
fn is_caught(result: &Result<Report, String>) -> bool {
    result.as_ref().is_ok_and(|report| report.verdicts > 0)
}

/// A planted bug, as the command line spells it.
fn name_of(mutation: Mutation) -> String {
    let value = mutation.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
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
        command.args(["--mutation", &name_of(mutation)]);
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
        .map_or_else(String::new, |m| format!(" --mutation {}", name_of(m)));
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
    let missing = missing(&sum, ran.len());
    if !missing.is_empty() {
        println!("these never happened: {missing:?}: this run proves too little");
    }
    if failed == 0 && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What has to happen for a run to prove anything, and did not. A few seeds may lack a kind; many may not.
fn missing(sum: &Report, seeds: usize) -> Vec<String> {
    let always = [("acknowledged appends", sum.acknowledged)];
    let of_many = [
        ("reads", sum.reads),
        ("checkpoints", sum.checkpoints),
        ("takeovers", sum.takeovers),
        ("elections", sum.elections),
        ("snapshots", sum.snapshots),
    ];
    let faults = Kind::ALL.map(|kind| format!("{kind:?}"));
    let count = |fault: &String| sum.faults.get(fault).copied().unwrap_or_default();
    let mut missing: Vec<String> = always
        .into_iter()
        .chain(of_many.into_iter().filter(|_| seeds >= MANY))
        .filter(|(_, count)| *count == 0)
        .map(|(what, _)| what.to_owned())
        .collect();
    missing.extend(
        faults
            .into_iter()
            .filter(|fault| seeds >= MANY && count(fault) == 0),
    );
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_of_a_checker_catches_a_planted_bug() {
        let report = |violations: &[&str], verdicts| Report {
            violations: violations.iter().map(ToString::to_string).collect(),
            verdicts,
            ..Report::default()
        };
        for other in [
            "a panic: log id must be greater",
            "the run ended: n1 does not start: the log is damaged",
            "[\"w1/a\"] are not acknowledged within 60s after the repair",
            "two runs differ: trace 1 and 2",
            "n1 labelled a read with Stale stale: false",
        ] {
            assert!(!is_caught(&Ok(report(&[other], 0))), "{other}");
        }
        assert!(!is_caught(&Err("the run died".into())));
        assert!(is_caught(&Ok(report(
            &["a panic: x", "AcknowledgedLost: w1/a"],
            1
        ))));
    }

    #[test]
    fn many_seeds_without_an_election_or_a_fault_prove_too_little() {
        let mut sum = Report {
            acknowledged: 1,
            reads: 1,
            checkpoints: 1,
            takeovers: 1,
            elections: 1,
            snapshots: 1,
            faults: Kind::ALL.map(|kind| (format!("{kind:?}"), 1)).into(),
            ..Report::default()
        };
        assert_eq!(missing(&sum, MANY), [""; 0]);
        sum.elections = 0;
        sum.faults.remove("IsolateLeader");
        assert_eq!(missing(&sum, MANY), ["elections", "IsolateLeader"]);
        assert_eq!(missing(&sum, MANY - 1), [""; 0]);
        sum.acknowledged = 0;
        assert_eq!(missing(&sum, 1), ["acknowledged appends"]);
    }

    #[test]
    fn a_failure_is_repeated_with_the_bug_that_was_planted() {
        assert_eq!(name_of(Mutation::AckBeforeSync), "ack_before_sync");
    }
}

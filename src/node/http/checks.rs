//! What must hold for a node to be ready, one by one.

use crate::{node::shared::Shared, raft::Role};

/// Older than this, a leader's majority counts as lost.
const QUORUM_MS: u64 = 5_000;

/// One check.
#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    /// Why it does not hold.
    pub(super) problem: Option<String>,
}

fn check(name: &'static str, problem: Option<String>) -> Check {
    Check { name, problem }
}

/// Runs them all.
pub(super) fn run(shared: &Shared) -> Vec<Check> {
    let mut checks = vec![check(
        "storage takes writes",
        shared.gate.check().err().map(|error| error.to_string()),
    )];
    let running = match shared.running() {
        Ok(running) => running,
        Err(error) => {
            checks.push(check("member of a cluster", Some(error.to_string())));
            return checks;
        }
    };
    checks.push(check("member of a cluster", None));
    let status = running.router.group().status();
    checks.push(check("Raft runs", status.failed.clone()));
    let leader = status
        .leader
        .is_none()
        .then(|| "no leader is known: is a majority of the members up, and is this node still one of them (dos-cluster member list)?".to_owned());
    checks.push(check("a leader is known", leader));
    if status.role == Role::Leader {
        let age = status.quorum_acknowledged_ms;
        let lost = age.is_none_or(|age| age > QUORUM_MS);
        let problem = lost.then(|| match age {
            Some(age) => format!("no majority has answered this leader for {age} ms"),
            None => "no majority has answered this leader yet".to_owned(),
        });
        checks.push(check("a majority answers", problem));
    }
    checks
}

/// One line per check, as Kubernetes' own servers print them.
pub(super) fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        match &check.problem {
            None => text.push_str(&format!("[+]{} ok\n", check.name)),
            Some(problem) => text.push_str(&format!("[-]{} failed: {problem}\n", check.name)),
        }
    }
    let all = checks.iter().all(|check| check.problem.is_none());
    text.push_str(if all {
        "readyz check passed\n"
    } else {
        "readyz check failed\n"
    });
    text
}

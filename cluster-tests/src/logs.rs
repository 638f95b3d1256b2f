//! What nodes wrote, and whether it is fit to be written.

/// Lines that may appear in any test.
const ALWAYS_ALLOWED: &[&str] = &[];

/// The last lines of a log, without backtraces.
#[must_use]
pub fn tail(log: &str, lines: usize) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        line.starts_with("at /")
            || line
                .split_once(": ")
                .is_some_and(|(n, _)| n.parse::<u32>().is_ok())
    };
    let told: Vec<_> = log.lines().filter(|line| !is_frame(line)).collect();
    told[told.len().saturating_sub(lines)..].join("\n")
}

/// The lines of a log that must not be there: panics, and every WARN, ERROR or last word of a failed start that contains
/// none of the `allowed` words.
#[must_use]
pub fn faults(log: &str, allowed: &[String]) -> Vec<String> {
    let is_allowed = |line: &str| {
        allowed.iter().any(|word| line.contains(word.as_str()))
            || ALWAYS_ALLOWED.iter().any(|word| line.contains(word))
    };
    let is_fault = |line: &&str| {
        let bug = line.contains("panicked at") || line.contains("met a bug");
        let level = line.split_whitespace().nth(1);
        let loud = matches!(level, Some("WARN" | "ERROR")) || line.starts_with("error: ");
        bug || (loud && !is_allowed(line))
    };
    log.lines().filter(is_fault).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_unlisted_warnings_are_faults() {
        let log = "\
2026-01-01T00:00:00.1Z  INFO dos_cluster::node: running
2026-01-01T00:00:00.2Z  WARN dos_cluster::raft: listed peers
2026-01-01T00:00:00.3Z  WARN dos_cluster::raft: unlisted
2026-01-01T00:00:00.4Z ERROR dos_cluster::node: this node met a bug and aborts, listed
thread 'main' panicked at src/x.rs:1:1: listed
error: cannot listen";
        let found = faults(log, &["listed peers".to_owned()]);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].contains("unlisted"), "{found:#?}");
    }
}

//! The cluster tests that hold answers to a time: one at a time, after the others, for the machine's few cores to be theirs.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure is a panic, and nothing is simulated"
)]

mod legacy_elections;

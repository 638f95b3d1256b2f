//! Finds every promise that a history breaks.
//!
//! | file | promise |
//! | --- | --- |
//! | `content.rs` | what was acknowledged is there, on every node; bytes are those sent by the owner of their offset |
//! | `reads.rs` | every read is a prefix of the final content, at least as far as its floor, never of bytes not sent yet |
//! | `progress.rs` | `durable <= written <= sent`, and `durable` never goes back |
//! | `fencing.rs` | after a takeover the older incarnation writes nothing, and is told nothing else |
//! | `checkpoints.rs` | an acknowledged checkpoint is there, as it was committed |
//!
//! Linear time, no search: for one writer at a time, with unique bytes, the final content says the order of everything, and
//! these rules together are linearizability of an append-only log.

mod checkpoints;
mod content;
mod fencing;
mod index;
mod progress;
mod reads;
#[cfg(test)]
mod testing;

use std::fmt;

use crate::history::History;
use index::Index;

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The history ends without the final content of a node, or an event does not fit those before: nothing is proven.
    Incomplete,
    /// Two nodes hold different content.
    NodesDiffer,
    /// Something acknowledged as durable is not there.
    AcknowledgedLost,
    /// Bytes that the owner of their offset did not send: a gap, a duplicate, a reordering, or another writer's.
    ForeignBytes,
    /// A read that is no prefix of the final content.
    ReadNotPrefix,
    /// A read or an open that misses what was acknowledged before it began.
    Stale,
    /// A read of bytes that nobody had sent yet.
    FromTheFuture,
    /// Progress beyond what was sent, or that went back.
    Progress,
    /// An older incarnation did something after a takeover.
    Fencing,
    /// A checkpoint is lost, or is not as it was committed.
    Checkpoint,
    /// The client found a broken promise by itself.
    Client,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub rule: Rule,
    /// What exactly, with names and offsets.
    pub what: String,
}

impl Violation {
    fn new(rule: Rule, what: String) -> Self {
        Self { rule, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// Every promise that `history` breaks. It must hold the final content of each of `nodes`.
#[must_use]
pub fn check(history: &History, nodes: &[&str]) -> Vec<Violation> {
    let (index, mut violations) = Index::of(history);
    content::check_nodes(&index, nodes, &mut violations);
    for (name, journal) in &index.journals {
        content::check(&index, name, journal, &mut violations);
        reads::check(&index, name, journal, &mut violations);
        progress::check(name, journal, &mut violations);
        fencing::check(&index, name, journal, &mut violations);
    }
    checkpoints::check(&index, &mut violations);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::testing::{Healthy, rules},
        history::Event,
    };

    #[test]
    fn a_history_that_keeps_every_promise_has_no_violation() {
        assert_eq!(check(&Healthy::new().history(), &["n1", "n2"]), []);
    }

    #[test]
    fn a_history_without_the_final_content_of_a_node_proves_nothing() {
        let history = Healthy::new().history();
        assert_eq!(
            rules(&check(&history, &["n1", "n2", "n3"])),
            [Rule::Incomplete]
        );
    }

    #[test]
    fn what_the_client_found_broken_is_a_violation() {
        let mut healthy = Healthy::new();
        healthy.events.push(Event::Broken {
            what: "a tail that cannot be".into(),
        });
        assert_eq!(rules(&healthy.check()), [Rule::Client]);
    }
}

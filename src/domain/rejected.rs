//! A rejection is an answer: decided by every member alike, with no effect on the state.

use std::time::{Duration, UNIX_EPOCH};

use super::{
    checkpoint::CheckpointId,
    ids::{JobName, JournalId, JournalRef, NodeId, WorkerName, WorkerRef},
    journal::JournalKind,
    offset::Offset,
    token::{Epoch, FencingToken, Writer},
    worker::Succession,
};

/// What `TooLarge` and `TooMany` can be about. They travel as text, so each must be in [`what::ALL`].
pub mod what {
    /// One append.
    pub const APPEND: &str = "append";
    /// One command.
    pub const COMMAND: &str = "command";
    /// A member's address.
    pub const ADDRESS: &str = "address of a member";
    /// The workers of the cluster.
    pub const WORKERS: &str = "workers";
    /// The journals of one worker.
    pub const JOURNALS: &str = "journals of this worker";
    /// What another version named and this one does not know.
    pub const OTHER: &str = "items";
    /// All of them.
    pub const ALL: [&str; 6] = [APPEND, COMMAND, ADDRESS, WORKERS, JOURNALS, OTHER];
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No worker was ever opened in this job.
    #[error(
        "job {job} is not known: its first worker creates it (`dos-cluster worker list` shows what is there)"
    )]
    UnknownJob {
        /// The job asked for.
        job: JobName,
    },
    /// The worker was never opened.
    #[error(
        "worker {worker} is not known: open it first (`dos-cluster worker list` shows what is there)"
    )]
    UnknownWorker {
        /// The worker asked for.
        worker: WorkerRef,
    },
    /// The journal was never opened.
    #[error("journal {journal} is not known (`dos-cluster journal list` shows what is there)")]
    UnknownJournal {
        /// The journal asked for.
        journal: JournalRef,
    },
    /// The journal's number is not known; only a stale stream can hold one.
    #[error("journal number {} is not known: open the journal again", .journal.0)]
    UnknownJournalId {
        /// The number.
        journal: JournalId,
    },
    /// The journal is there with the other kind.
    #[error("journal {journal} is of kind {has}, not {wanted}: a journal keeps its kind", has = .has.as_str(), wanted = .wanted.as_str())]
    WrongKind {
        /// The journal.
        journal: JournalRef,
        /// Its kind.
        has: JournalKind,
        /// The kind asked for.
        wanted: JournalKind,
    },
    /// The worker has been taken over.
    #[error("{}", fenced(.worker, *.held, *.current, .succession))]
    EpochFenced {
        /// The worker.
        worker: WorkerRef,
        /// The epoch that the caller holds.
        held: Epoch,
        /// The epoch in force.
        current: Epoch,
        /// Who, when and where.
        succession: Succession,
    },
    /// A newer append stream of the journal was opened.
    #[error(
        "this append stream of journal number {} is fenced: it holds {held}, but {newest} was opened since", .journal.0
    )]
    WriterFenced {
        /// The journal.
        journal: JournalId,
        /// The token that the caller holds.
        held: FencingToken,
        /// The token in force.
        newest: FencingToken,
    },
    /// A writer was opened since the caller looked.
    #[error(
        "journal {journal} was opened for writing meanwhile: its newest writer is {newest}, not {over}; look again"
    )]
    OpenedMeanwhile {
        /// The journal.
        journal: JournalRef,
        /// The newest writer that the caller has seen.
        over: Writer,
        /// The newest writer.
        newest: Writer,
    },
    /// The append, or the open, does not begin at the journal's tail.
    #[error(
        "offset {at} is wrong for journal number {}: its tail is {tail}; read the tail and continue there", .journal.0
    )]
    WrongOffset {
        /// The journal.
        journal: JournalId,
        /// The offset asked for.
        at: Offset,
        /// The tail.
        tail: Offset,
    },
    /// An append without bytes.
    #[error("empty append to journal number {}: send at least one byte", .journal.0)]
    EmptyAppend {
        /// The journal.
        journal: JournalId,
    },
    /// Larger than its bound.
    #[error(
        "{what} of {bytes} bytes is too large: at most {bytes_max} are allowed; send it in parts"
    )]
    TooLarge {
        /// What was too large: one of [`what`].
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// One more would pass a bound.
    #[error("too many {what}: {count_max} are there already, which is the limit")]
    TooMany {
        /// What there are too many of: one of [`what`].
        what: &'static str,
        /// The bound.
        count_max: u64,
    },
    /// A checkpoint names bytes that are not in the journal.
    #[error(
        "checkpoint {id} covers journal {journal} up to {offset}, but its tail is {tail}: append the bytes first"
    )]
    CheckpointBeyondTail {
        /// The checkpoint.
        id: CheckpointId,
        /// The journal.
        journal: JournalRef,
        /// The offset named.
        offset: Offset,
        /// The tail.
        tail: Offset,
    },
    /// A checkpoint that is not newer than the last.
    #[error(
        "checkpoint {id} of worker {worker} is not newer than its last, {last}: checkpoint ids only grow"
    )]
    CheckpointNotNewer {
        /// The worker.
        worker: WorkerRef,
        /// The id asked for.
        id: CheckpointId,
        /// The newest id.
        last: CheckpointId,
    },
    /// The worker has no checkpoint of that id.
    #[error(
        "worker {worker} has no checkpoint {id} (`dos-cluster checkpoint list` shows what is there)"
    )]
    UnknownCheckpoint {
        /// The worker.
        worker: WorkerRef,
        /// The id asked for.
        id: CheckpointId,
    },
    /// The workers of the job share no checkpoint yet.
    #[error("job {job} has no recovery line yet: these workers hold it back: {}", names(.late))]
    NoRecoveryLine {
        /// The job.
        job: JobName,
        /// Workers without any checkpoint, or all of them when none is shared; the first
        /// [`LATE_WORKERS_NAMED_MAX`](super::limits::LATE_WORKERS_NAMED_MAX).
        late: Vec<WorkerName>,
    },
    /// A truncation below what a checkpoint covers.
    #[error(
        "journal {journal} cannot be cut at {at}: checkpoint {id} covers it up to {covered}; take over at an older checkpoint instead"
    )]
    CutBelowCheckpoint {
        /// The journal.
        journal: JournalRef,
        /// The cut asked for.
        at: Offset,
        /// The newest checkpoint that covers more.
        id: CheckpointId,
        /// Up to where it does.
        covered: Offset,
    },
    /// A member's number is in use by another disk.
    #[error(
        "node {node} is registered with another incarnation: a wiped or foreign disk must not come back under its number; remove it with `dos-cluster member remove {node}` and join with an empty data directory"
    )]
    ForeignIncarnation {
        /// The member.
        node: NodeId,
    },
    /// The addresses of the worker were changed since the caller read them.
    #[error(
        "the endpoint of worker {worker} is at generation {current}, not {expected}: `dos-cluster endpoint get {worker}` shows it; set it from there"
    )]
    StaleEndpoint {
        /// The worker.
        worker: WorkerRef,
        /// The generation that the caller expects.
        expected: u64,
        /// The generation in force; 0: none yet.
        current: u64,
    },
    /// No such member.
    #[error("node {node} is not a member (`dos-cluster member list` shows them)")]
    UnknownMember {
        /// The node asked for.
        node: NodeId,
    },
}

/// An epoch that was followed by another, or was never given out.
fn fenced(worker: &WorkerRef, held: Epoch, current: Epoch, succession: &Succession) -> String {
    if held > current {
        return format!("worker {worker} is at epoch {current}, not {held}");
    }
    let Succession {
        by,
        at_unix_ms,
        log_index,
    } = succession;
    let at = moment(*at_unix_ms);
    format!(
        "worker {worker} is fenced: it holds epoch {held}, but epoch {current} took over (by {by:?}, at {at}, log index {log_index}); stop this incarnation, or restore it"
    )
}

/// A moment for people, in UTC; what is beyond the years of four digits is none.
fn moment(unix_ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_000;
    if unix_ms > LAST {
        return format!("unix ms {unix_ms}");
    }
    let since = Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn names(workers: &[WorkerName]) -> String {
    let names: Vec<_> = workers.iter().map(WorkerName::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fenced(held: u64) -> String {
        let rejected = Rejected::EpochFenced {
            worker: "tour/w1".parse().unwrap(),
            held: Epoch(held),
            current: Epoch(2),
            succession: Succession {
                by: "restore by ann".to_owned(),
                at_unix_ms: 1_735_689_600_123,
                log_index: 7,
            },
        };
        rejected.to_string()
    }

    #[test]
    fn an_epoch_that_was_never_given_out_is_not_said_to_be_fenced() {
        assert_eq!(fenced(9), "worker tour/w1 is at epoch 2, not 9");
    }

    #[test]
    fn a_fenced_worker_is_told_who_took_over_and_when_in_words_for_people() {
        let said = fenced(1);
        assert!(
            said.contains("(by \"restore by ann\", at 2025-01-01T00:00:00Z, log index 7)"),
            "{said}"
        );
        assert_eq!(moment(u64::MAX), format!("unix ms {}", u64::MAX));
    }

    #[test]
    fn workers_and_journals_are_not_shown_as_debug_output() {
        let late = ["w1", "w2"].map(|name| WorkerName::new(name).unwrap());
        let rejected = Rejected::NoRecoveryLine {
            job: JobName::new("tour").unwrap(),
            late: late.to_vec(),
        };
        let said = rejected.to_string();
        assert!(
            said.ends_with("these workers hold it back: w1, w2"),
            "{said}"
        );
        let rejected = Rejected::WrongOffset {
            journal: JournalId(1),
            at: Offset(9),
            tail: Offset(6),
        };
        let said = rejected.to_string();
        assert!(
            said.starts_with("offset 9 is wrong for journal number 1: its tail is 6"),
            "{said}"
        );
    }
}

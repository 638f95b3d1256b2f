//! What a client call may fail with, and whether it may have happened all the same.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    codec::ops::OpError,
    domain::{Epoch, FencingToken, JournalName, JournalRef, Offset, Rejected, WorkerRef},
};

/// Whether a failed call may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It has not, and will not.
    None,
    /// It may have, or may yet: read the state before going on.
    Unknown,
}

/// What sort of failure it is: what an exit code is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The cluster decided to refuse: fenced, conflict, unknown name.
    Rejected,
    /// No endpoint could be reached.
    CannotConnect,
    /// Reached, but there is no quorum, or the nodes do not serve.
    Unhealthy,
    /// Bytes do not match their checksums, or a promise of the cluster does not hold.
    Verification,
    /// No answer in time.
    Timeout,
    /// Anything else.
    Other,
}

/// The nodes that were tried, each with the last reason why it did not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried(pub Vec<(String, String)>);

impl Tried {
    /// Remembers why `address` did not do; a newer reason replaces an older one.
    pub fn record(&mut self, address: &str, reason: &str) {
        match self.0.iter_mut().find(|(known, _)| known == address) {
            Some((_, last)) => reason.clone_into(last),
            None => self.0.push((address.to_owned(), reason.to_owned())),
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no node was tried");
        }
        for (index, (address, reason)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {reason}")?;
        }
        Ok(())
    }
}

/// Why a call of the client failed. Cheap to clone: one failure may be told to many waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The cluster decided to refuse.
    #[error("{rejected}{}", match .effect {
        Effect::None => "",
        Effect::Unknown => " (an earlier attempt of this call got no answer and may have been carried out)",
    })]
    Rejected {
        /// The decision.
        rejected: Box<Rejected>,
        /// `Unknown` only when an earlier attempt of the same call went unanswered: the refusal itself changed nothing.
        effect: Effect,
    },
    /// No endpoint could be reached.
    #[error(
        "cannot {what}: cannot connect to the cluster ({tried}); check the endpoints, and that the nodes run"
    )]
    CannotConnect {
        /// Verb and object of the call.
        what: String,
        /// Who was tried, and why not.
        tried: Tried,
    },
    /// No majority of the members answers.
    #[error(
        "cannot {what}: the cluster has no quorum: {reason} ({tried}); start the missing nodes, then try again"
    )]
    NoQuorum {
        /// Verb and object of the call.
        what: String,
        /// What the nodes that answer know about it.
        reason: String,
        /// Who was tried.
        tried: Tried,
        /// Whether the call may have happened.
        effect: Effect,
    },
    /// Nodes answer, but do not serve yet or any more: starting, waiting for `init`, without a leader, stopping.
    #[error(
        "cannot {what}: {reason} ({tried}); `dos-cluster status` shows what the nodes wait for"
    )]
    NotReady {
        /// Verb and object of the call.
        what: String,
        /// The last node's own words.
        reason: String,
        /// Who was tried.
        tried: Tried,
        /// Whether an attempt of the call may have happened.
        effect: Effect,
    },
    /// The cluster has too much to do.
    #[error("cannot {what}: the cluster is overloaded: {reason}; try again later")]
    Overloaded {
        /// Verb and object of the call.
        what: String,
        /// The node's own words.
        reason: String,
    },
    /// No answer in time, or the connection broke before the answer.
    #[error("cannot {what}: no answer within {after:?} ({tried}){}", match .effect {
        Effect::None => "; nothing was changed",
        Effect::Unknown => "; it may have been carried out: read the state before trying again",
    })]
    Timeout {
        /// Verb and object of the call.
        what: String,
        /// How long it was tried.
        after: Duration,
        /// Who was tried.
        tried: Tried,
        /// Whether the call may have happened.
        effect: Effect,
    },
    /// A node says why it did not come to an end; without effect: it refused. With one: it, or an earlier attempt of the call, may
    /// have been carried out.
    #[error("cannot {what}: {reason}{}", match .effect {
        Effect::None => "",
        Effect::Unknown => "; it, or part of it, may have been carried out: read the state before trying again",
    })]
    Failed {
        /// Verb and object of the call.
        what: String,
        /// The node's own words.
        reason: String,
        /// Whether the call may have happened.
        effect: Effect,
    },
    /// The call itself is wrong; nothing was changed. Where an earlier attempt, or what a stream carried before, may have
    /// been carried out, it is `Failed`.
    #[error("cannot {what}: {why}")]
    BadRequest {
        /// Verb and object of the call.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is asked for does not go with what the cluster holds; nothing was changed.
    #[error("cannot {what}: {why}")]
    Refused {
        /// Verb and object of the call.
        what: String,
        /// What does not go with it, and what would.
        why: String,
    },
    /// There is no such worker, which is mostly a name that was mistyped.
    #[error("worker {worker} is not known: {there}")]
    NoSuchWorker {
        /// The worker asked for.
        worker: WorkerRef,
        /// Which workers, or jobs, are there instead.
        there: String,
        /// The cluster's decision.
        rejected: Box<Rejected>,
    },
    /// An answer that breaks the protocol: another version, or a bug.
    #[error(
        "cannot {what}: node {node} answered what it must not: {why}; check that client and nodes are of one version"
    )]
    BadAnswer {
        /// Verb and object of the call.
        what: String,
        /// The node's address.
        node: String,
        /// What is wrong with the answer.
        why: String,
        /// Whether the call may have happened.
        effect: Effect,
    },
    /// Bytes that do not match their checksum, or that a node lacks, on every node that was asked.
    #[error(
        "cannot {what}: no node gives bytes that verify ({tried}); `dos-cluster status` shows which nodes are damaged"
    )]
    Verification {
        /// Verb and object of the call.
        what: String,
        /// Who was asked, and what was wrong.
        tried: Tried,
    },
    /// A journal's bytes verify, and are no records: its writer was faulty.
    #[error(
        "journal {journal} cannot be replayed: {source}; `dos-cluster journal dump` shows what can be read"
    )]
    MalformedJournal {
        /// The journal.
        journal: JournalName,
        /// What is wrong, and where.
        source: OpError,
    },
    /// The journal's end was cut off during a read: what was read before may be gone.
    #[error(
        "journal {journal} was cut while it was read (a takeover or a truncation): read it again from the start"
    )]
    JournalCut {
        /// The journal.
        journal: JournalRef,
    },
    /// A re-opened append stream found a tail that cannot come from this writer: a broken promise, or a foreign writer.
    #[error(
        "the append stream of journal {journal} cannot go on: the cluster's tail is {tail}, but {durable} was acknowledged as durable and {sent} was sent; keep the local files and find out who else writes"
    )]
    TailMismatch {
        /// The journal.
        journal: JournalRef,
        /// The tail answered at the re-open.
        tail: Offset,
        /// What was acknowledged as durable before.
        durable: Offset,
        /// The end of what was ever sent.
        sent: Offset,
    },
    /// Another append stream was opened under the same epoch since.
    #[error(
        "the append stream of journal {journal} ({held}) is fenced: {newest} was opened by someone else under the same epoch; only one process may write as this worker"
    )]
    Superseded {
        /// The journal.
        journal: JournalRef,
        /// The token that this stream held.
        held: FencingToken,
        /// The token in force.
        newest: FencingToken,
    },
    /// The append stream was closed, or dropped: then what it had sent may still arrive.
    #[error(
        "the append stream of journal {journal} is closed, and what it had sent may still arrive: open it again"
    )]
    Closed {
        /// The journal.
        journal: JournalRef,
    },
    /// The local disk refused.
    #[error("cannot {what} {}: {source}", .path.display())]
    Local {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// A local directory that cannot be used as it is.
    #[error("cannot use {}: {why}; {next}", .path.display())]
    LocalState {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        next: String,
    },
    /// What a legacy worker's journals make is nothing that it could be started from.
    #[error(
        "worker {worker} could not start from what is restored, so nothing was put into place: {why}; {next}"
    )]
    NotStartable {
        /// The worker.
        worker: WorkerRef,
        /// What is missing or wrong.
        why: String,
        /// What to do.
        next: String,
    },
    /// A restore failed after its takeover, which stays.
    #[error("{source}; before that, worker {worker} was taken over as epoch {epoch}, and its old incarnation is fenced{}", match **.source {
        // It would fail in the same way, and says itself what to do.
        Self::NotStartable { .. } => "",
        _ => ": restore again",
    })]
    AfterTakeover {
        /// The worker.
        worker: WorkerRef,
        /// The epoch of the takeover.
        epoch: Epoch,
        /// Why the restore failed.
        source: Box<ClientError>,
    },
}

impl ClientError {
    /// Whether the call may have changed something.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Rejected { effect, .. }
            | Self::NoQuorum { effect, .. }
            | Self::NotReady { effect, .. }
            | Self::Timeout { effect, .. }
            | Self::Failed { effect, .. }
            | Self::BadAnswer { effect, .. } => *effect,
            Self::CannotConnect { .. }
            | Self::Overloaded { .. }
            | Self::BadRequest { .. }
            | Self::Refused { .. }
            | Self::NoSuchWorker { .. }
            | Self::Verification { .. }
            | Self::MalformedJournal { .. }
            | Self::NotStartable { .. }
            | Self::JournalCut { .. }
            | Self::LocalState { .. } => Effect::None,
            Self::TailMismatch { .. }
            | Self::Superseded { .. }
            | Self::Closed { .. }
            | Self::Local { .. }
            | Self::AfterTakeover { .. } => Effect::Unknown,
        }
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rejected { .. }
            | Self::Refused { .. }
            | Self::NoSuchWorker { .. }
            | Self::Superseded { .. }
            | Self::Failed {
                effect: Effect::None,
                ..
            } => ErrorKind::Rejected,
            Self::CannotConnect { .. } => ErrorKind::CannotConnect,
            Self::NoQuorum { .. } | Self::NotReady { .. } | Self::Overloaded { .. } => {
                ErrorKind::Unhealthy
            }
            Self::Verification { .. }
            | Self::MalformedJournal { .. }
            | Self::NotStartable { .. }
            | Self::TailMismatch { .. } => ErrorKind::Verification,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::BadRequest { .. }
            | Self::Failed { .. }
            | Self::BadAnswer { .. }
            | Self::JournalCut { .. }
            | Self::Closed { .. }
            | Self::Local { .. }
            | Self::LocalState { .. } => ErrorKind::Other,
            Self::AfterTakeover { source, .. } => source.kind(),
        }
    }

    /// The cluster's decision, when it is one.
    #[must_use]
    pub fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected { rejected, .. } | Self::NoSuchWorker { rejected, .. } => Some(rejected),
            Self::AfterTakeover { source, .. } => source.rejected(),
            _ => None,
        }
    }

    /// A local disk's refusal, with verb and file.
    pub(crate) fn local(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Local {
            what,
            path: path.into(),
            source: Arc::new(source),
        }
    }
}

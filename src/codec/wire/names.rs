//! Names, numbers and the small messages that every other message is made of.

use super::{Wire, required};
use crate::{
    codec::CodecError,
    domain::{
        CheckpointId, Epoch, FencingToken, JobName, JournalId, JournalKind, JournalName,
        JournalRef, Member, NodeId, Succession, WorkerName, WorkerRef, Writer,
    },
    pb,
};

/// Checks a job's name.
///
/// # Errors
/// When it breaks a rule of names.
pub fn job_from_pb(job: &str) -> Wire<JobName> {
    job.parse().map_err(|e| CodecError::field("job", e))
}

/// Checks a journal's name.
///
/// # Errors
/// When it breaks a rule of names.
pub fn journal_name_from_pb(name: &str) -> Wire<JournalName> {
    name.parse().map_err(|e| CodecError::field("journal", e))
}

/// Checks a worker's name in its job.
///
/// # Errors
/// When it breaks a rule of names.
pub fn worker_name_from_pb(name: &str) -> Wire<WorkerName> {
    name.parse().map_err(|e| CodecError::field("worker", e))
}

/// Checks a worker's full name.
///
/// # Errors
/// When it is missing or breaks a rule of names.
pub fn worker_from_pb(worker: Option<pb::WorkerRef>) -> Wire<WorkerRef> {
    let worker = required("worker", worker)?;
    Ok(WorkerRef {
        job: job_from_pb(&worker.job)?,
        worker: worker_name_from_pb(&worker.worker)?,
    })
}

/// A worker's full name.
#[must_use]
pub fn worker_to_pb(worker: &WorkerRef) -> pb::WorkerRef {
    pb::WorkerRef {
        job: worker.job.to_string(),
        worker: worker.worker.to_string(),
    }
}

/// Checks a journal's full name.
///
/// # Errors
/// When it is missing or breaks a rule of names.
pub fn journal_from_pb(journal: Option<pb::JournalRef>) -> Wire<JournalRef> {
    let journal = required("journal", journal)?;
    let owner = worker_from_pb(Some(pb::WorkerRef {
        job: journal.job,
        worker: journal.worker,
    }))?;
    Ok(owner.journal(journal_name_from_pb(&journal.journal)?))
}

/// A journal's full name.
#[must_use]
pub fn journal_to_pb(journal: &JournalRef) -> pb::JournalRef {
    pb::JournalRef {
        job: journal.owner.job.to_string(),
        worker: journal.owner.worker.to_string(),
        journal: journal.journal.to_string(),
    }
}

/// Checks a journal's kind.
///
/// # Errors
/// When it is not one.
pub fn kind_from_pb(kind: i32) -> Wire<JournalKind> {
    match pb::JournalKind::try_from(kind) {
        Ok(pb::JournalKind::Ops) => Ok(JournalKind::Ops),
        Ok(pb::JournalKind::Raw) => Ok(JournalKind::Raw),
        _ => Err(CodecError::field(
            "kind",
            format!("{kind} is no kind of journal: use ops or raw"),
        )),
    }
}

/// A journal's kind.
#[must_use]
pub fn kind_to_pb(kind: JournalKind) -> pb::JournalKind {
    match kind {
        JournalKind::Ops => pb::JournalKind::Ops,
        JournalKind::Raw => pb::JournalKind::Raw,
    }
}

/// A fencing token.
#[must_use]
pub fn token_to_pb(token: FencingToken) -> pb::FencingToken {
    pb::FencingToken {
        epoch: token.epoch.0,
        writer: token.writer.0,
    }
}

/// A fencing token.
///
/// # Errors
/// When it is missing.
pub fn token_from_pb(token: Option<pb::FencingToken>) -> Wire<FencingToken> {
    let token = required("fencing token", token)?;
    Ok(FencingToken {
        epoch: Epoch(token.epoch),
        writer: Writer(token.writer),
    })
}

/// A writer of a journal.
#[must_use]
pub fn writer_to_pb((journal, token): (JournalId, FencingToken)) -> pb::OpenWriter {
    pb::OpenWriter {
        journal: journal.0,
        token: Some(token_to_pb(token)),
    }
}

/// A writer of a journal.
///
/// # Errors
/// When it has no token.
pub fn writer_from_pb(writer: pb::OpenWriter) -> Wire<(JournalId, FencingToken)> {
    Ok((JournalId(writer.journal), token_from_pb(writer.token)?))
}

/// A checkpoint's id.
#[must_use]
pub fn checkpoint_id_to_pb(id: CheckpointId) -> pb::CheckpointId {
    pb::CheckpointId {
        rollback_epoch: id.rollback_epoch,
        number: id.number,
    }
}

/// A checkpoint's id.
///
/// # Errors
/// When it is missing.
pub fn checkpoint_id_from_pb(id: Option<pb::CheckpointId>) -> Wire<CheckpointId> {
    let id = required("checkpoint id", id)?;
    Ok(CheckpointId {
        rollback_epoch: id.rollback_epoch,
        number: id.number,
    })
}

/// Who took over.
#[must_use]
pub fn succession_to_pb(succession: &Succession) -> pb::Succession {
    pb::Succession {
        by: succession.by.clone(),
        at_unix_ms: succession.at_unix_ms,
        log_index: succession.log_index,
    }
}

/// Who took over.
///
/// # Errors
/// When it is missing.
pub fn succession_from_pb(succession: Option<pb::Succession>) -> Wire<Succession> {
    let succession = required("succession", succession)?;
    Ok(Succession {
        by: succession.by,
        at_unix_ms: succession.at_unix_ms,
        log_index: succession.log_index,
    })
}

impl From<&Member> for pb::Member {
    fn from(member: &Member) -> Self {
        Self {
            node_id: member.node.0,
            incarnation: member.incarnation,
            client_address: member.client_address.clone(),
            peer_address: member.peer_address.clone(),
            http_address: member.http_address.clone(),
        }
    }
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        Self {
            node: NodeId(member.node_id),
            incarnation: member.incarnation,
            client_address: member.client_address,
            peer_address: member.peer_address,
            http_address: member.http_address,
        }
    }
}

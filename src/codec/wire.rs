//! Domain types to wire messages and back. What comes from outside is checked here, once: names, kinds, missing fields.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::CodecError;
use crate::{
    domain::{
        Append, Appended, CheckpointId, Command, CommitCheckpoint, Epoch, FencingToken, JobName,
        JournalId, JournalKind, JournalName, JournalRef, Member, NodeId, Offset, OffsetRange,
        OpenJournal, OpenWorker, OpenedJournal, Outcome, Rejected, RestorePoint, Succession,
        TakenOver, Takeover, Truncate, WorkerRef, Writer,
    },
    pb,
};

type Wire<T> = Result<T, CodecError>;

fn required<T>(field: &'static str, value: Option<T>) -> Wire<T> {
    value.ok_or_else(|| CodecError::field(field, "it is missing"))
}

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

/// Checks a worker's name.
///
/// # Errors
/// When it is missing or breaks a rule of names.
pub fn worker_from_pb(worker: Option<pb::WorkerRef>) -> Wire<WorkerRef> {
    let worker = required("worker", worker)?;
    Ok(WorkerRef {
        job: job_from_pb(&worker.job)?,
        worker: worker
            .worker
            .parse()
            .map_err(|e| CodecError::field("worker", e))?,
    })
}

/// A worker's name.
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

/// A fencing token; a missing one is that of nobody.
#[must_use]
pub fn token_from_pb(token: Option<pb::FencingToken>) -> FencingToken {
    let token = token.unwrap_or_default();
    FencingToken {
        epoch: Epoch(token.epoch),
        writer: Writer(token.writer),
    }
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
#[must_use]
pub fn succession_from_pb(succession: pb::Succession) -> Succession {
    Succession {
        by: succession.by,
        at_unix_ms: succession.at_unix_ms,
        log_index: succession.log_index,
    }
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

// --- commands

impl From<Append> for pb::Append {
    fn from(append: Append) -> Self {
        Self {
            journal: append.journal.0,
            epoch: append.token.epoch.0,
            writer: append.token.writer.0,
            at: append.at.0,
            data: append.data,
        }
    }
}

impl From<pb::Append> for Append {
    fn from(append: pb::Append) -> Self {
        Self {
            journal: JournalId(append.journal),
            token: FencingToken {
                epoch: Epoch(append.epoch),
                writer: Writer(append.writer),
            },
            at: Offset(append.at),
            data: append.data,
        }
    }
}

impl From<Takeover> for pb::Takeover {
    fn from(takeover: Takeover) -> Self {
        use pb::restore_point::{Latest, Line, Point};
        let point = match takeover.point {
            RestorePoint::Latest => Point::Latest(Latest {}),
            RestorePoint::Line => Point::Line(Line {}),
            RestorePoint::Checkpoint(id) => Point::Checkpoint(checkpoint_id_to_pb(id)),
        };
        Self {
            worker: Some(worker_to_pb(&takeover.worker)),
            expected_epoch: takeover.expected_epoch.map(|epoch| epoch.0),
            point: Some(pb::RestorePoint { point: Some(point) }),
            by: takeover.by,
            at_unix_ms: takeover.at_unix_ms,
        }
    }
}

impl TryFrom<pb::Takeover> for Takeover {
    type Error = CodecError;
    fn try_from(takeover: pb::Takeover) -> Wire<Self> {
        use pb::restore_point::Point;
        let point = match required(
            "restore point",
            takeover.point.and_then(|point| point.point),
        )? {
            Point::Latest(_) => RestorePoint::Latest,
            Point::Line(_) => RestorePoint::Line,
            Point::Checkpoint(id) => RestorePoint::Checkpoint(checkpoint_id_from_pb(Some(id))?),
        };
        Ok(Self {
            worker: worker_from_pb(takeover.worker)?,
            expected_epoch: takeover.expected_epoch.map(Epoch),
            point,
            by: takeover.by,
            at_unix_ms: takeover.at_unix_ms,
        })
    }
}

impl From<CommitCheckpoint> for pb::CommitCheckpoint {
    fn from(commit: CommitCheckpoint) -> Self {
        let named = |(name, offset): (JournalName, Offset)| pb::NamedOffset {
            journal: name.to_string(),
            offset: offset.0,
        };
        Self {
            worker: Some(worker_to_pb(&commit.worker)),
            epoch: commit.epoch.0,
            id: Some(checkpoint_id_to_pb(commit.id)),
            offsets: commit.offsets.into_iter().map(named).collect(),
            at_unix_ms: commit.at_unix_ms,
        }
    }
}

impl TryFrom<pb::CommitCheckpoint> for CommitCheckpoint {
    type Error = CodecError;
    fn try_from(commit: pb::CommitCheckpoint) -> Wire<Self> {
        let mut offsets = BTreeMap::new();
        for named in commit.offsets {
            if offsets
                .insert(journal_name_from_pb(&named.journal)?, Offset(named.offset))
                .is_some()
            {
                return Err(CodecError::field(
                    "offsets",
                    format!("journal {:?} is named twice", named.journal),
                ));
            }
        }
        Ok(Self {
            worker: worker_from_pb(commit.worker)?,
            epoch: Epoch(commit.epoch),
            id: checkpoint_id_from_pb(commit.id)?,
            offsets,
            at_unix_ms: commit.at_unix_ms,
        })
    }
}

impl From<OpenWorker> for pb::OpenWorker {
    fn from(open: OpenWorker) -> Self {
        Self {
            worker: Some(worker_to_pb(&open.worker)),
            epoch: open.epoch.map(|epoch| epoch.0),
            at_unix_ms: open.at_unix_ms,
        }
    }
}

impl TryFrom<pb::OpenWorker> for OpenWorker {
    type Error = CodecError;
    fn try_from(open: pb::OpenWorker) -> Wire<Self> {
        Ok(Self {
            worker: worker_from_pb(open.worker)?,
            epoch: open.epoch.map(Epoch),
            at_unix_ms: open.at_unix_ms,
        })
    }
}

impl From<Truncate> for pb::Truncate {
    fn from(truncate: Truncate) -> Self {
        Self {
            journal: Some(journal_to_pb(&truncate.journal)),
            epoch: truncate.epoch.0,
            at: truncate.at.0,
        }
    }
}

impl TryFrom<pb::Truncate> for Truncate {
    type Error = CodecError;
    fn try_from(truncate: pb::Truncate) -> Wire<Self> {
        Ok(Self {
            journal: journal_from_pb(truncate.journal)?,
            epoch: Epoch(truncate.epoch),
            at: Offset(truncate.at),
        })
    }
}

impl From<Command> for pb::Command {
    fn from(command: Command) -> Self {
        use pb::command::Command as Wire;
        let command = match command {
            Command::Append(appends) => Wire::Append(pb::AppendBatch {
                appends: appends.into_iter().map(Into::into).collect(),
            }),
            Command::OpenWorker(open) => Wire::OpenWorker(open.into()),
            Command::OpenJournal(open) => Wire::OpenJournal(pb::OpenJournal {
                journal: Some(journal_to_pb(&open.journal)),
                kind: kind_to_pb(open.kind).into(),
                epoch: open.epoch.0,
                expected: open.expected.map(|offset| offset.0),
            }),
            Command::CommitCheckpoint(commit) => Wire::CommitCheckpoint(commit.into()),
            Command::Takeover(takeover) => Wire::Takeover(takeover.into()),
            Command::Truncate(truncate) => Wire::Truncate(truncate.into()),
            Command::AllocateNode => Wire::AllocateNode(pb::AllocateNode {}),
            Command::AnnounceMember(member) => Wire::AnnounceMember((&member).into()),
        };
        Self {
            command: Some(command),
        }
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = CodecError;
    fn try_from(command: pb::Command) -> Wire<Self> {
        use pb::command::Command as Wire;
        Ok(match required("command", command.command)? {
            Wire::Append(batch) => {
                Self::Append(batch.appends.into_iter().map(Into::into).collect())
            }
            Wire::OpenWorker(open) => Self::OpenWorker(open.try_into()?),
            Wire::OpenJournal(open) => Self::OpenJournal(OpenJournal {
                journal: journal_from_pb(open.journal)?,
                kind: kind_from_pb(open.kind)?,
                epoch: Epoch(open.epoch),
                expected: open.expected.map(Offset),
            }),
            Wire::CommitCheckpoint(commit) => Self::CommitCheckpoint(commit.try_into()?),
            Wire::Takeover(takeover) => Self::Takeover(takeover.try_into()?),
            Wire::Truncate(truncate) => Self::Truncate(truncate.try_into()?),
            Wire::AllocateNode(_) => Self::AllocateNode,
            Wire::AnnounceMember(member) => Self::AnnounceMember(member.into()),
        })
    }
}

// --- answers

/// The answers to a batch of appends.
#[must_use]
pub fn answers_to_pb(answers: Vec<Result<Appended, Rejected>>) -> pb::AppendAnswers {
    use pb::append_answer::Answer;
    let answer = |answer: Result<Appended, Rejected>| match answer {
        Ok(Appended { range, tail }) => Answer::Appended(pb::Appended {
            from: range.from.0,
            to: range.to.0,
            tail: tail.0,
        }),
        Err(rejected) => Answer::Rejected((&rejected).into()),
    };
    pb::AppendAnswers {
        answers: answers
            .into_iter()
            .map(|a| pb::AppendAnswer {
                answer: Some(answer(a)),
            })
            .collect(),
    }
}

/// The answers to a batch of appends.
///
/// # Errors
/// When one is missing or malformed.
pub fn answers_from_pb(answers: pb::AppendAnswers) -> Wire<Vec<Result<Appended, Rejected>>> {
    use pb::append_answer::Answer;
    let answer = |answer: pb::AppendAnswer| {
        Ok(match required("answer", answer.answer)? {
            Answer::Appended(appended) => {
                let range = OffsetRange {
                    from: Offset(appended.from),
                    to: Offset(appended.to),
                };
                Ok(Appended {
                    range,
                    tail: Offset(appended.tail),
                })
            }
            Answer::Rejected(rejected) => Err(rejected.try_into()?),
        })
    };
    answers.answers.into_iter().map(answer).collect()
}

impl From<TakenOver> for pb::TakenOver {
    fn from(taken: TakenOver) -> Self {
        let journal =
            |(name, (id, kind, tail)): (JournalName, (JournalId, JournalKind, Offset))| {
                pb::JournalTail {
                    name: name.to_string(),
                    journal: id.0,
                    kind: kind_to_pb(kind).into(),
                    tail: tail.0,
                }
            };
        Self {
            epoch: taken.epoch.0,
            checkpoint: taken.checkpoint.map(checkpoint_id_to_pb),
            journals: taken.journals.into_iter().map(journal).collect(),
            log_index: taken.log_index,
        }
    }
}

impl TryFrom<pb::TakenOver> for TakenOver {
    type Error = CodecError;
    fn try_from(taken: pb::TakenOver) -> Wire<Self> {
        let journal = |journal: pb::JournalTail| {
            let value = (
                JournalId(journal.journal),
                kind_from_pb(journal.kind)?,
                Offset(journal.tail),
            );
            Ok((journal_name_from_pb(&journal.name)?, value))
        };
        Ok(Self {
            epoch: Epoch(taken.epoch),
            checkpoint: taken
                .checkpoint
                .map(|id| checkpoint_id_from_pb(Some(id)))
                .transpose()?,
            journals: taken
                .journals
                .into_iter()
                .map(journal)
                .collect::<Wire<_>>()?,
            log_index: taken.log_index,
        })
    }
}

/// A command's answer, refusals included.
#[must_use]
pub fn outcome_to_pb(outcome: Result<Outcome, Rejected>) -> pb::Outcome {
    use pb::outcome::Outcome as Wire;
    let outcome = match outcome {
        Err(rejected) => Wire::Rejected((&rejected).into()),
        Ok(Outcome::Appended(answers)) => Wire::Appended(answers_to_pb(answers)),
        Ok(Outcome::WorkerOpened { epoch, created }) => Wire::WorkerOpened(pb::WorkerOpened {
            epoch: epoch.0,
            created,
        }),
        Ok(Outcome::JournalOpened(opened)) => Wire::JournalOpened(pb::JournalOpened {
            journal: opened.journal.0,
            token: Some(token_to_pb(opened.token)),
            tail: opened.tail.0,
        }),
        Ok(Outcome::CheckpointCommitted { log_index }) => {
            Wire::CheckpointCommitted(pb::CheckpointCommitted { log_index })
        }
        Ok(Outcome::TakenOver(taken)) => Wire::TakenOver(taken.into()),
        Ok(Outcome::Truncated { tail }) => Wire::Truncated(pb::Truncated { tail: tail.0 }),
        Ok(Outcome::NodeAllocated(node)) => Wire::NodeAllocated(node.0),
        Ok(Outcome::MemberAnnounced) => Wire::MemberAnnounced(pb::MemberAnnounced {}),
    };
    pb::Outcome {
        outcome: Some(outcome),
    }
}

/// A command's answer.
///
/// # Errors
/// When it is missing or malformed.
pub fn outcome_from_pb(outcome: Option<pb::Outcome>) -> Wire<Result<Outcome, Rejected>> {
    use pb::outcome::Outcome as Wire;
    let outcome = match required("outcome", outcome.and_then(|outcome| outcome.outcome))? {
        Wire::Rejected(rejected) => return Ok(Err(rejected.try_into()?)),
        Wire::Appended(answers) => Outcome::Appended(answers_from_pb(answers)?),
        Wire::WorkerOpened(opened) => Outcome::WorkerOpened {
            epoch: Epoch(opened.epoch),
            created: opened.created,
        },
        Wire::JournalOpened(opened) => Outcome::JournalOpened(OpenedJournal {
            journal: JournalId(opened.journal),
            token: token_from_pb(opened.token),
            tail: Offset(opened.tail),
        }),
        Wire::CheckpointCommitted(committed) => Outcome::CheckpointCommitted {
            log_index: committed.log_index,
        },
        Wire::TakenOver(taken) => Outcome::TakenOver(taken.try_into()?),
        Wire::Truncated(truncated) => Outcome::Truncated {
            tail: Offset(truncated.tail),
        },
        Wire::NodeAllocated(node) => Outcome::NodeAllocated(NodeId(node)),
        Wire::MemberAnnounced(_) => Outcome::MemberAnnounced,
    };
    Ok(Ok(outcome))
}

impl From<&Rejected> for pb::Rejected {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm per reason, each a plain copy"
    )]
    fn from(rejected: &Rejected) -> Self {
        use pb::rejected as wire;
        use pb::rejected::Reason;
        let reason = match rejected {
            Rejected::UnknownJob { job } => Reason::UnknownJob(job.to_string()),
            Rejected::UnknownWorker { worker } => Reason::UnknownWorker(worker_to_pb(worker)),
            Rejected::UnknownJournal { journal } => Reason::UnknownJournal(journal_to_pb(journal)),
            Rejected::UnknownJournalId { journal } => Reason::UnknownJournalId(journal.0),
            Rejected::WrongKind {
                journal,
                has,
                wanted,
            } => Reason::WrongKind(wire::WrongKind {
                journal: Some(journal_to_pb(journal)),
                has: kind_to_pb(*has).into(),
                wanted: kind_to_pb(*wanted).into(),
            }),
            Rejected::EpochFenced {
                worker,
                held,
                current,
                succession,
            } => Reason::EpochFenced(wire::EpochFenced {
                worker: Some(worker_to_pb(worker)),
                held: held.0,
                current: current.0,
                succession: Some(succession_to_pb(succession)),
            }),
            Rejected::WriterFenced {
                journal,
                held,
                newest,
            } => Reason::WriterFenced(wire::WriterFenced {
                journal: journal.0,
                held: Some(token_to_pb(*held)),
                newest: Some(token_to_pb(*newest)),
            }),
            Rejected::WrongOffset { journal, at, tail } => Reason::WrongOffset(wire::WrongOffset {
                journal: journal.0,
                at: at.0,
                tail: tail.0,
            }),
            Rejected::EmptyAppend { journal } => Reason::EmptyAppend(journal.0),
            Rejected::TooLarge {
                what,
                bytes,
                bytes_max,
            } => Reason::TooLarge(wire::TooLarge {
                what: (*what).to_owned(),
                bytes: *bytes,
                bytes_max: *bytes_max,
            }),
            Rejected::TooMany { what, count_max } => Reason::TooMany(wire::TooMany {
                what: (*what).to_owned(),
                count_max: *count_max,
            }),
            Rejected::CheckpointBeyondTail {
                id,
                journal,
                offset,
                tail,
            } => Reason::CheckpointBeyondTail(wire::CheckpointBeyondTail {
                id: Some(checkpoint_id_to_pb(*id)),
                journal: Some(journal_to_pb(journal)),
                offset: offset.0,
                tail: tail.0,
            }),
            Rejected::CheckpointNotNewer { worker, id, last } => {
                Reason::CheckpointNotNewer(wire::CheckpointNotNewer {
                    worker: Some(worker_to_pb(worker)),
                    id: Some(checkpoint_id_to_pb(*id)),
                    last: Some(checkpoint_id_to_pb(*last)),
                })
            }
            Rejected::UnknownCheckpoint { worker, id } => {
                Reason::UnknownCheckpoint(wire::UnknownCheckpoint {
                    worker: Some(worker_to_pb(worker)),
                    id: Some(checkpoint_id_to_pb(*id)),
                })
            }
            Rejected::NoRecoveryLine { job, late } => {
                Reason::NoRecoveryLine(wire::NoRecoveryLine {
                    job: job.to_string(),
                    late: late.iter().map(ToString::to_string).collect(),
                })
            }
            Rejected::CutBelowCheckpoint {
                journal,
                at,
                id,
                covered,
            } => Reason::CutBelowCheckpoint(wire::CutBelowCheckpoint {
                journal: Some(journal_to_pb(journal)),
                at: at.0,
                id: Some(checkpoint_id_to_pb(*id)),
                covered: covered.0,
            }),
            Rejected::ForeignIncarnation { node } => Reason::ForeignIncarnation(node.0),
            Rejected::UnknownMember { node } => Reason::UnknownMember(node.0),
        };
        Self {
            reason: Some(reason),
        }
    }
}

/// Texts that rejections carry by reference; another version's text becomes a general one.
fn known_text(text: &str) -> &'static str {
    const KNOWN: [&str; 5] = [
        "append",
        "workers",
        "journals of this worker",
        "checkpoints ahead of the job's recovery line",
        "message",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == text)
        .unwrap_or("items")
}

impl TryFrom<pb::Rejected> for Rejected {
    type Error = CodecError;
    #[expect(
        clippy::too_many_lines,
        reason = "one arm per reason, each a plain copy"
    )]
    fn try_from(rejected: pb::Rejected) -> Wire<Self> {
        use pb::rejected::Reason;
        Ok(match required("rejection", rejected.reason)? {
            Reason::UnknownJob(job) => Self::UnknownJob {
                job: job_from_pb(&job)?,
            },
            Reason::UnknownWorker(worker) => Self::UnknownWorker {
                worker: worker_from_pb(Some(worker))?,
            },
            Reason::UnknownJournal(journal) => Self::UnknownJournal {
                journal: journal_from_pb(Some(journal))?,
            },
            Reason::UnknownJournalId(journal) => Self::UnknownJournalId {
                journal: JournalId(journal),
            },
            Reason::WrongKind(wrong) => Self::WrongKind {
                journal: journal_from_pb(wrong.journal)?,
                has: kind_from_pb(wrong.has)?,
                wanted: kind_from_pb(wrong.wanted)?,
            },
            Reason::EpochFenced(fenced) => Self::EpochFenced {
                worker: worker_from_pb(fenced.worker)?,
                held: Epoch(fenced.held),
                current: Epoch(fenced.current),
                succession: succession_from_pb(fenced.succession.unwrap_or_default()),
            },
            Reason::WriterFenced(fenced) => Self::WriterFenced {
                journal: JournalId(fenced.journal),
                held: token_from_pb(fenced.held),
                newest: token_from_pb(fenced.newest),
            },
            Reason::WrongOffset(wrong) => Self::WrongOffset {
                journal: JournalId(wrong.journal),
                at: Offset(wrong.at),
                tail: Offset(wrong.tail),
            },
            Reason::EmptyAppend(journal) => Self::EmptyAppend {
                journal: JournalId(journal),
            },
            Reason::TooLarge(large) => Self::TooLarge {
                what: known_text(&large.what),
                bytes: large.bytes,
                bytes_max: large.bytes_max,
            },
            Reason::TooMany(many) => Self::TooMany {
                what: known_text(&many.what),
                count_max: many.count_max,
            },
            Reason::CheckpointBeyondTail(beyond) => Self::CheckpointBeyondTail {
                id: checkpoint_id_from_pb(beyond.id)?,
                journal: journal_from_pb(beyond.journal)?,
                offset: Offset(beyond.offset),
                tail: Offset(beyond.tail),
            },
            Reason::CheckpointNotNewer(old) => Self::CheckpointNotNewer {
                worker: worker_from_pb(old.worker)?,
                id: checkpoint_id_from_pb(old.id)?,
                last: checkpoint_id_from_pb(old.last)?,
            },
            Reason::UnknownCheckpoint(unknown) => Self::UnknownCheckpoint {
                worker: worker_from_pb(unknown.worker)?,
                id: checkpoint_id_from_pb(unknown.id)?,
            },
            Reason::NoRecoveryLine(none) => Self::NoRecoveryLine {
                job: job_from_pb(&none.job)?,
                late: none
                    .late
                    .iter()
                    .map(|name| name.parse().map_err(|e| CodecError::field("worker", e)))
                    .collect::<Wire<_>>()?,
            },
            Reason::CutBelowCheckpoint(cut) => Self::CutBelowCheckpoint {
                journal: journal_from_pb(cut.journal)?,
                at: Offset(cut.at),
                id: checkpoint_id_from_pb(cut.id)?,
                covered: Offset(cut.covered),
            },
            Reason::ForeignIncarnation(node) => Self::ForeignIncarnation { node: NodeId(node) },
            Reason::UnknownMember(node) => Self::UnknownMember { node: NodeId(node) },
        })
    }
}

/// Encodes a command as the payload of a log entry.
#[must_use]
pub fn encode_command(command: Command) -> bytes::Bytes {
    prost::Message::encode_to_vec(&pb::Command::from(command)).into()
}

/// Reads the payload of a log entry; appended bytes are slices of it, not copies.
///
/// # Errors
/// When it is not a command of this version.
pub fn decode_command(payload: bytes::Bytes) -> Wire<Command> {
    let command = <pb::Command as prost::Message>::decode(payload)
        .map_err(|e| CodecError::damaged("command", e))?;
    command.try_into()
}

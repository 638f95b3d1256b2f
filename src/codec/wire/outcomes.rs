//! Outcomes: what commands answer.

use std::collections::BTreeMap;

use super::{
    Wire, checkpoint_id_from_pb, checkpoint_id_to_pb, endpoint_from_pb, endpoint_to_pb,
    journal_name_from_pb, kind_from_pb, kind_to_pb, required, token_from_pb, token_to_pb,
};
use crate::{
    codec::CodecError,
    domain::{
        Appended, Epoch, JournalId, JournalKind, JournalName, NodeId, Offset, OffsetRange,
        OpenedJournal, Outcome, Rejected, TakenOver,
    },
    pb,
};

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
        let cut = &taken.cut;
        let journal =
            |(name, (id, kind, tail)): (JournalName, (JournalId, JournalKind, Offset))| {
                pb::JournalTail {
                    tail_before: cut.get(&name).map(|before| before.0),
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
            endpoint: taken.endpoint.as_ref().map(endpoint_to_pb),
        }
    }
}

impl TryFrom<pb::TakenOver> for TakenOver {
    type Error = CodecError;
    fn try_from(taken: pb::TakenOver) -> Wire<Self> {
        let mut cut = BTreeMap::new();
        let journal = |journal: pb::JournalTail| {
            let name = journal_name_from_pb(&journal.name)?;
            if let Some(before) = journal.tail_before {
                cut.insert(name.clone(), Offset(before));
            }
            let value = (
                JournalId(journal.journal),
                kind_from_pb(journal.kind)?,
                Offset(journal.tail),
            );
            Ok((name, value))
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
            cut,
            log_index: taken.log_index,
            endpoint: taken
                .endpoint
                .map(|endpoint| endpoint_from_pb(Some(endpoint)))
                .transpose()?,
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
        Ok(Outcome::WritersClosed) => Wire::WritersClosed(pb::WritersClosed {}),
        Ok(Outcome::JournalDeleted) => Wire::JournalDeleted(pb::JournalDeleted {}),
        Ok(Outcome::MemberAnnounced) => Wire::MemberAnnounced(pb::MemberAnnounced {}),
        Ok(Outcome::EndpointSet { generation }) => {
            Wire::EndpointSet(pb::EndpointSet { generation })
        }
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
            token: token_from_pb(opened.token)?,
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
        Wire::WritersClosed(_) => Outcome::WritersClosed,
        Wire::JournalDeleted(_) => Outcome::JournalDeleted,
        Wire::MemberAnnounced(_) => Outcome::MemberAnnounced,
        Wire::EndpointSet(set) => Outcome::EndpointSet {
            generation: set.generation,
        },
    };
    Ok(Ok(outcome))
}

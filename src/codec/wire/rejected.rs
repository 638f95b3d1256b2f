//! Rejections: why a command was refused.

use super::{
    Wire, checkpoint_id_from_pb, checkpoint_id_to_pb, job_from_pb, journal_from_pb, journal_to_pb,
    kind_from_pb, kind_to_pb, required, succession_from_pb, succession_to_pb, token_from_pb,
    token_to_pb, worker_from_pb, worker_name_from_pb, worker_to_pb,
};
use crate::{
    codec::CodecError,
    domain::{Epoch, JournalId, NodeId, Offset, Rejected, Writer, rejected::what},
    pb,
};

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
            Rejected::OpenedMeanwhile {
                journal,
                over,
                newest,
            } => Reason::OpenedMeanwhile(wire::OpenedMeanwhile {
                journal: Some(journal_to_pb(journal)),
                over: over.0,
                newest: newest.0,
            }),
            Rejected::UnknownMember { node } => Reason::UnknownMember(node.0),
            Rejected::StaleEndpoint {
                worker,
                expected,
                current,
            } => Reason::StaleEndpoint(wire::StaleEndpoint {
                worker: Some(worker_to_pb(worker)),
                expected: *expected,
                current: *current,
            }),
        };
        Self {
            reason: Some(reason),
        }
    }
}

/// Texts that rejections carry by reference; another version's text becomes a general one.
fn known_text(text: &str) -> &'static str {
    what::ALL
        .into_iter()
        .find(|known| *known == text)
        .unwrap_or(what::OTHER)
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
                succession: succession_from_pb(fenced.succession)?,
            },
            Reason::WriterFenced(fenced) => Self::WriterFenced {
                journal: JournalId(fenced.journal),
                held: token_from_pb(fenced.held)?,
                newest: token_from_pb(fenced.newest)?,
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
                    .map(|name| worker_name_from_pb(name))
                    .collect::<Wire<_>>()?,
            },
            Reason::CutBelowCheckpoint(cut) => Self::CutBelowCheckpoint {
                journal: journal_from_pb(cut.journal)?,
                at: Offset(cut.at),
                id: checkpoint_id_from_pb(cut.id)?,
                covered: Offset(cut.covered),
            },
            Reason::ForeignIncarnation(node) => Self::ForeignIncarnation { node: NodeId(node) },
            Reason::OpenedMeanwhile(opened) => Self::OpenedMeanwhile {
                journal: journal_from_pb(opened.journal)?,
                over: Writer(opened.over),
                newest: Writer(opened.newest),
            },
            Reason::UnknownMember(node) => Self::UnknownMember { node: NodeId(node) },
            Reason::StaleEndpoint(stale) => Self::StaleEndpoint {
                worker: worker_from_pb(stale.worker)?,
                expected: stale.expected,
                current: stale.current,
            },
        })
    }
}

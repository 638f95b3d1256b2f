//! Commands: what is replicated.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{
    Wire, addresses_from_pb, addresses_to_pb, checkpoint_id_from_pb, checkpoint_id_to_pb,
    journal_from_pb, journal_name_from_pb, journal_to_pb, kind_from_pb, kind_to_pb, required,
    worker_from_pb, worker_to_pb, writer_from_pb, writer_to_pb,
};
use crate::{
    codec::CodecError,
    domain::{
        Append, AppendBatch, Command, CommitCheckpoint, Epoch, FencingToken, JournalId,
        JournalName, JournalRef, Offset, OpenJournal, OpenWorker, RestorePoint, SetEndpoint,
        Takeover, Truncate, Writer,
    },
    pb,
};

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

impl From<AppendBatch> for pb::AppendBatch {
    fn from(batch: AppendBatch) -> Self {
        Self {
            appends: batch.appends.into_iter().map(Into::into).collect(),
            at_unix_ms: batch.at_unix_ms,
        }
    }
}

impl From<pb::AppendBatch> for AppendBatch {
    fn from(batch: pb::AppendBatch) -> Self {
        Self {
            appends: batch.appends.into_iter().map(Into::into).collect(),
            at_unix_ms: batch.at_unix_ms,
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
            endpoint: takeover.endpoint.as_ref().map(addresses_to_pb),
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
            endpoint: takeover
                .endpoint
                .map(|addresses| addresses_from_pb(Some(addresses)))
                .transpose()?,
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

impl TryFrom<pb::DeleteJournal> for JournalRef {
    type Error = CodecError;
    fn try_from(delete: pb::DeleteJournal) -> Wire<Self> {
        journal_from_pb(delete.journal)
    }
}

impl From<SetEndpoint> for pb::SetEndpoint {
    fn from(set: SetEndpoint) -> Self {
        Self {
            worker: Some(worker_to_pb(&set.worker)),
            expected_generation: set.expected_generation,
            addresses: Some(addresses_to_pb(&set.addresses)),
            by: set.by,
            at_unix_ms: set.at_unix_ms,
        }
    }
}

impl TryFrom<pb::SetEndpoint> for SetEndpoint {
    type Error = CodecError;
    fn try_from(set: pb::SetEndpoint) -> Wire<Self> {
        Ok(Self {
            worker: worker_from_pb(set.worker)?,
            expected_generation: set.expected_generation,
            addresses: addresses_from_pb(set.addresses)?,
            by: set.by,
            at_unix_ms: set.at_unix_ms,
        })
    }
}

impl From<Command> for pb::Command {
    fn from(command: Command) -> Self {
        use pb::command::Command as Wire;
        let command = match command {
            Command::Append(batch) => Wire::Append(batch.into()),
            Command::OpenWorker(open) => Wire::OpenWorker(open.into()),
            Command::OpenJournal(open) => Wire::OpenJournal(pb::OpenJournal {
                journal: Some(journal_to_pb(&open.journal)),
                kind: kind_to_pb(open.kind).into(),
                epoch: open.epoch.0,
                expected: open.expected.map(|offset| offset.0),
                over: open.over.map(|writer| writer.0),
                opener: open.opener,
            }),
            Command::CloseWriters(writers) => Wire::CloseWriters(pb::CloseWriters {
                writers: writers.into_iter().map(writer_to_pb).collect(),
            }),
            Command::CommitCheckpoint(commit) => Wire::CommitCheckpoint(commit.into()),
            Command::Takeover(takeover) => Wire::Takeover(takeover.into()),
            Command::Truncate(truncate) => Wire::Truncate(truncate.into()),
            Command::DeleteJournal(journal) => Wire::DeleteJournal(pb::DeleteJournal {
                journal: Some(journal_to_pb(&journal)),
            }),
            Command::AllocateNode => Wire::AllocateNode(pb::AllocateNode {}),
            Command::AnnounceMember(member) => Wire::AnnounceMember((&member).into()),
            Command::SetEndpoint(set) => Wire::SetEndpoint(set.into()),
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
            Wire::Append(batch) => Self::Append(batch.into()),
            Wire::OpenWorker(open) => Self::OpenWorker(open.try_into()?),
            Wire::OpenJournal(open) => Self::OpenJournal(OpenJournal {
                journal: journal_from_pb(open.journal)?,
                kind: kind_from_pb(open.kind)?,
                epoch: Epoch(open.epoch),
                expected: open.expected.map(Offset),
                over: open.over.map(Writer),
                opener: open.opener,
            }),
            Wire::CloseWriters(close) => {
                let writers = close.writers.into_iter().map(writer_from_pb);
                Self::CloseWriters(writers.collect::<Result<_, _>>()?)
            }
            Wire::CommitCheckpoint(commit) => Self::CommitCheckpoint(commit.try_into()?),
            Wire::Takeover(takeover) => Self::Takeover(takeover.try_into()?),
            Wire::Truncate(truncate) => Self::Truncate(truncate.try_into()?),
            Wire::DeleteJournal(delete) => Self::DeleteJournal(delete.try_into()?),
            Wire::AllocateNode(_) => Self::AllocateNode,
            Wire::AnnounceMember(member) => Self::AnnounceMember(member.into()),
            Wire::SetEndpoint(set) => Self::SetEndpoint(set.try_into()?),
        })
    }
}

/// Encodes a command as the payload of a log entry.
#[must_use]
pub fn encode_command(command: Command) -> Bytes {
    pb::Command::from(command).encode_to_vec().into()
}

/// Reads the payload of a log entry; appended bytes are slices of it, not copies.
///
/// # Errors
/// When it is not a command of this version.
pub fn decode_command(payload: Bytes) -> Wire<Command> {
    let command = pb::Command::decode(payload).map_err(|e| CodecError::damaged("command", e))?;
    command.try_into()
}

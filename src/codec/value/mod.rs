//! Every value of the state store: framed by a format byte and a CRC-32C, so that damage is found where it is read.
//!
//! ```text
//! crc32c u32 (little-endian, over the rest) | format u8 = 1 | body
//! ```
//! The body of a chunk is the bytes themselves; that of a record is a message of `stored.proto`.
#![deny(clippy::indexing_slicing)]

mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use prost::Message;

use super::{
    CodecError,
    wire::{
        checkpoint_id_from_pb, checkpoint_id_to_pb, endpoint_from_pb, endpoint_to_pb, kind_from_pb,
        kind_to_pb, succession_from_pb, succession_to_pb,
    },
};
use crate::{
    domain::{
        Checkpoint, Epoch, FencingToken, Journal, JournalId, Member, Offset, Worker, WorkerId,
        WorkerRef, Writer, state::Counters,
    },
    pb,
};

const FORMAT: u8 = 1;
/// What a frame adds to a body, in bytes.
pub const FRAME_BYTES: usize = 5;

/// Frames a body.
#[must_use]
pub fn seal(body: &[u8]) -> Vec<u8> {
    seal_parts(std::iter::once(body))
}

/// Frames a body that is in parts, each of which is copied once.
#[must_use]
pub fn seal_parts<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let bytes: usize = parts.clone().map(<[u8]>::len).sum();
    let mut raw = Vec::with_capacity(FRAME_BYTES + bytes);
    raw.extend_from_slice(&[0; 4]);
    raw.push(FORMAT);
    for part in parts {
        raw.extend_from_slice(part);
    }
    let (stored, rest) = raw.split_at_mut(4);
    stored.copy_from_slice(&crc32c::crc32c(rest).to_le_bytes());
    raw
}

/// Checks a frame and gives its body, without a copy.
///
/// # Errors
/// When it is too short, of another format, or does not match its checksum.
pub fn open(what: &'static str, mut raw: Bytes) -> Result<Bytes, CodecError> {
    let (Some(stored), Some(format)) = (raw.first_chunk::<4>().copied(), raw.get(4).copied())
    else {
        return Err(CodecError::damaged(
            what,
            format!("{} bytes are too short for a frame", raw.len()),
        ));
    };
    raw.advance(4);
    let stored = u32::from_le_bytes(stored);
    let found = crc32c::crc32c(&raw);
    if stored != found {
        return Err(CodecError::damaged(
            what,
            format!("checksum {found:08x}, stored {stored:08x}"),
        ));
    }
    if format != FORMAT {
        return Err(CodecError::damaged(
            what,
            format!("format {format}, this version reads {FORMAT}"),
        ));
    }
    raw.advance(1);
    Ok(raw)
}

fn parse<M: Message + Default>(what: &'static str, raw: Bytes) -> Result<M, CodecError> {
    M::decode(open(what, raw)?).map_err(|e| CodecError::damaged(what, e))
}

const JOURNAL: &str = "journal record";
const WORKER: &str = "worker record";
const CHECKPOINT: &str = "checkpoint record";
const MEMBER: &str = "member record";
const COUNTERS: &str = "counters record";

/// A journal's record.
#[must_use]
pub fn encode_journal(journal: &Journal) -> Vec<u8> {
    let stored = pb::StoredJournal {
        id: journal.id.0,
        owner: journal.owner.0,
        name: journal.name.to_string(),
        kind: kind_to_pb(journal.kind).into(),
        epoch: journal.token.epoch.0,
        writer: journal.token.writer.0,
        writer_from: journal.writer_from.0,
        writer_open: journal.writer_open,
        opener: journal.opener,
        opened_over: journal.opened_over.0,
        tail: journal.tail.0,
        cuts: journal.cuts,
        scan: journal.scan.as_ref().map(Into::into),
    };
    seal(&stored.encode_to_vec())
}

/// Reads a journal's record.
///
/// # Errors
/// When it is damaged.
pub fn decode_journal(raw: Bytes) -> Result<Journal, CodecError> {
    let stored: pb::StoredJournal = parse(JOURNAL, raw)?;
    Ok(Journal {
        id: JournalId(stored.id),
        owner: WorkerId(stored.owner),
        name: stored
            .name
            .parse()
            .map_err(|e| CodecError::damaged(JOURNAL, e))?,
        kind: kind_from_pb(stored.kind).map_err(|e| CodecError::damaged(JOURNAL, e))?,
        token: FencingToken {
            epoch: Epoch(stored.epoch),
            writer: Writer(stored.writer),
        },
        writer_from: Offset(stored.writer_from),
        writer_open: stored.writer_open,
        opener: stored.opener,
        opened_over: Writer(stored.opened_over),
        tail: Offset(stored.tail),
        cuts: stored.cuts,
        scan: stored
            .scan
            .map(TryInto::try_into)
            .transpose()
            .map_err(|e: CodecError| CodecError::damaged(JOURNAL, e))?,
    })
}

/// A worker's record, without its journals and checkpoints, which have records of their own.
#[must_use]
pub fn encode_worker(worker: &Worker) -> Vec<u8> {
    let stored = pb::StoredWorker {
        id: worker.id.0,
        job: worker.name.job.to_string(),
        worker: worker.name.worker.to_string(),
        epoch: worker.epoch.0,
        succession: Some(succession_to_pb(&worker.succession)),
        endpoint: worker.endpoint.as_ref().map(endpoint_to_pb),
    };
    seal(&stored.encode_to_vec())
}

/// Reads a worker's record.
///
/// # Errors
/// When it is damaged.
pub fn decode_worker(raw: Bytes) -> Result<Worker, CodecError> {
    let stored: pb::StoredWorker = parse(WORKER, raw)?;
    let bad = |e| CodecError::damaged(WORKER, e);
    Ok(Worker {
        id: WorkerId(stored.id),
        name: WorkerRef {
            job: stored.job.parse().map_err(bad)?,
            worker: stored.worker.parse().map_err(bad)?,
        },
        epoch: Epoch(stored.epoch),
        succession: succession_from_pb(stored.succession)
            .map_err(|e| CodecError::damaged(WORKER, e))?,
        endpoint: stored
            .endpoint
            .map(|endpoint| endpoint_from_pb(Some(endpoint)))
            .transpose()
            .map_err(|e| CodecError::damaged(WORKER, e))?,
        journals: BTreeMap::new(),
        checkpoints: BTreeMap::new(),
    })
}

/// A checkpoint's record.
#[must_use]
pub fn encode_checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    let stored = pb::StoredCheckpoint {
        id: Some(checkpoint_id_to_pb(checkpoint.id)),
        journals: checkpoint.offsets.keys().map(|journal| journal.0).collect(),
        offsets: checkpoint.offsets.values().map(|offset| offset.0).collect(),
        log_index: checkpoint.log_index,
        at_unix_ms: checkpoint.at_unix_ms,
        found: checkpoint.found,
    };
    seal(&stored.encode_to_vec())
}

/// Reads a checkpoint's record.
///
/// # Errors
/// When it is damaged.
pub fn decode_checkpoint(raw: Bytes) -> Result<Checkpoint, CodecError> {
    let stored: pb::StoredCheckpoint = parse(CHECKPOINT, raw)?;
    let id = checkpoint_id_from_pb(stored.id).map_err(|e| CodecError::damaged(CHECKPOINT, e))?;
    let (journals, ends) = (stored.journals.len(), stored.offsets.len());
    let offsets: BTreeMap<_, _> = stored
        .journals
        .into_iter()
        .map(JournalId)
        .zip(stored.offsets.into_iter().map(Offset))
        .collect();
    if journals != ends || offsets.len() != journals {
        let why = format!(
            "{journals} journals and {ends} offsets, {} different",
            offsets.len()
        );
        return Err(CodecError::damaged(CHECKPOINT, why));
    }
    Ok(Checkpoint {
        id,
        offsets,
        log_index: stored.log_index,
        at_unix_ms: stored.at_unix_ms,
        found: stored.found,
    })
}

/// A member's record.
#[must_use]
pub fn encode_member(member: &Member) -> Vec<u8> {
    seal(&pb::Member::from(member).encode_to_vec())
}

/// Reads a member's record.
///
/// # Errors
/// When it is damaged.
pub fn decode_member(raw: Bytes) -> Result<Member, CodecError> {
    parse::<pb::Member>(MEMBER, raw).map(Member::from)
}

/// The counters' record.
#[must_use]
pub fn encode_counters(counters: Counters) -> Vec<u8> {
    let stored = pb::StoredCounters {
        next_worker: counters.next_worker,
        next_journal: counters.next_journal,
        next_node: counters.next_node,
        last_deleted_writer: counters.last_deleted_writer.0,
        hash: counters.hash,
    };
    seal(&stored.encode_to_vec())
}

/// Reads the counters' record.
///
/// # Errors
/// When it is damaged.
pub fn decode_counters(raw: Bytes) -> Result<Counters, CodecError> {
    let stored: pb::StoredCounters = parse(COUNTERS, raw)?;
    Ok(Counters {
        next_worker: stored.next_worker,
        next_journal: stored.next_journal,
        next_node: stored.next_node,
        last_deleted_writer: Writer(stored.last_deleted_writer),
        hash: stored.hash,
    })
}

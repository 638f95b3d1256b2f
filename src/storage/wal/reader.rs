//! Entries from disk. Every record is verified each time it is read; what does not verify is never served.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::index::Location;
use super::record::{Record, decode};
use super::segment::Segment;
use super::{LogEntry, LogId};
use crate::env::fs;
use crate::storage::StorageError;

/// Records further apart than this are read by themselves.
const GAP_BYTES_MAX: u32 = 4096;

/// Neighbouring records that are read at once.
#[derive(Debug)]
pub(super) struct Span {
    /// Held, so that the segment is not reused while it is read.
    segment: Arc<Segment>,
    entries: Vec<(u64, Location)>,
}

impl Span {
    fn start(&self) -> u32 {
        self.entries
            .first()
            .map_or(0, |(_, location)| location.offset)
    }

    fn end(&self) -> u32 {
        self.entries
            .last()
            .map_or(0, |(_, location)| location.offset + location.bytes)
    }
}

/// Adds the next entry to what will be read.
pub(super) fn push_location(
    spans: &mut Vec<Span>,
    segment: &Arc<Segment>,
    location: Location,
    index: u64,
) {
    if let Some(span) = spans.last_mut() {
        let gap = location.offset.checked_sub(span.end());
        if Arc::ptr_eq(&span.segment, segment) && gap.is_some_and(|gap| gap <= GAP_BYTES_MAX) {
            span.entries.push((index, location));
            return;
        }
    }
    spans.push(Span {
        segment: segment.clone(),
        entries: vec![(index, location)],
    });
}

/// Reads and verifies.
pub(super) fn read(spans: &[Span]) -> Result<Vec<LogEntry>, StorageError> {
    let mut entries = Vec::new();
    let mut open: Option<(&Path, fs::File)> = None;
    for span in spans {
        let path = span.segment.path.as_path();
        let file = match open.take() {
            Some((opened, file)) if opened == path => file,
            _ => fs::open(path).map_err(StorageError::io("open", path))?,
        };
        let length = usize::try_from(span.end() - span.start()).unwrap_or(0);
        let mut buffer = vec![0; length];
        fs::read_exact_at(&file, &mut buffer, u64::from(span.start()))
            .map_err(StorageError::io("read", path))?;
        let buffer = Bytes::from(buffer);
        for (index, location) in &span.entries {
            entries.push(verify(span, &buffer, *index, *location)?);
        }
        open = Some((path, file));
    }
    Ok(entries)
}

fn verify(
    span: &Span,
    buffer: &Bytes,
    index: u64,
    location: Location,
) -> Result<LogEntry, StorageError> {
    let damaged = |what: String| {
        StorageError::damaged(
            &span.segment.path,
            u64::from(location.offset),
            format!("entry {index}: {what}"),
        )
    };
    let start = usize::try_from(location.offset - span.start()).unwrap_or(usize::MAX);
    let frame = decode(
        buffer.get(start..).unwrap_or_default(),
        span.segment.generation,
    )
    .map_err(|error| damaged(error.to_string()))?;
    let expected = LogId {
        term: location.term,
        node_id: location.node_id,
        index,
    };
    match frame.record {
        Record::Entry {
            log_id,
            kind,
            payload,
        } if log_id == expected => Ok(LogEntry {
            log_id,
            kind,
            payload: buffer.slice_ref(payload),
        }),
        _ => Err(damaged("another record is in its place".into())),
    }
}

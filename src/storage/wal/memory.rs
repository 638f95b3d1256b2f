//! The log as its callers see it: every call has its effect here at once, durable or not. Beside it the index of what
//! is on disk, which the writer moves on after each sync.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::index::{DiskIndex, MaxByIndex};
use super::reader::{Span, push_location};
use super::segment::Segment;
use super::{ENTRY_BYTES_MAX, LogEntry, LogId, Recovered, Vote, WalOptions, WalStats};
use crate::env::time::Instant;
use crate::storage::{StorageError, WriteGate};

/// Payload bytes, and entries, that are appended and not durable before [`Shared::room`] makes callers wait.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
const BACKLOG_ENTRIES_MAX: u64 = 4096;

/// What the handles and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) gate: WriteGate,
    pub(super) queue_len: usize,
    cache_bytes_max: usize,
    memory: Mutex<Memory>,
    queued_bytes: AtomicUsize,
    /// Something that was queued is settled.
    settled: Notify,
    pub(super) synced_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) spares: AtomicUsize,
    pub(super) spare_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(gate: WriteGate, options: &WalOptions, recovered: &Recovered) -> Self {
        let memory = Memory {
            gate: gate.clone(),
            closed: false,
            vote: recovered.vote,
            committed: recovered.committed,
            last_purged: recovered.last_purged,
            last: recovered.last_log_id,
            first: recovered.first_log_id.map_or(0, |first| first.index),
            tail: VecDeque::new(),
            tail_bytes: 0,
            serial: 0,
            durable_serial: 0,
            truncations: 0,
            pending_since: None,
            disk: DiskIndex::default(),
            segments: BTreeMap::new(),
        };
        Self {
            gate,
            queue_len: options.queue_len,
            cache_bytes_max: options.cache_bytes_max,
            memory: Mutex::new(memory),
            queued_bytes: AtomicUsize::new(0),
            settled: Notify::new(),
            synced_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            spares: AtomicUsize::new(0),
            spare_bytes: AtomicU64::new(0),
        }
    }

    /// Never held across a wait or a disk access.
    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_queued(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take_queued(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.settled.notify_waiters();
    }

    /// See [`super::Wal::room`].
    pub(super) async fn room(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable(); // before the look, so that nothing is missed between the two
            let behind = {
                let memory = self.lock();
                memory.serial.saturating_sub(memory.durable_serial)
            };
            let full = self.queued_bytes() >= BACKLOG_BYTES_MAX || behind >= BACKLOG_ENTRIES_MAX;
            if !full || self.gate.check().is_err() {
                return;
            }
            settled.await;
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// The error of a request that no writer takes any more.
    pub(super) fn ended(&self) -> StorageError {
        self.gate.check().err().unwrap_or(StorageError::Closed)
    }

    pub(super) fn stats(&self) -> WalStats {
        let memory = self.lock();
        let in_segments: u64 = memory
            .segments
            .values()
            .map(|segment| segment.file_bytes.load(Ordering::Relaxed))
            .sum();
        WalStats {
            bytes_on_disk: in_segments + self.spare_bytes.load(Ordering::Relaxed),
            segments: memory.segments.len(),
            spares: self.spares.load(Ordering::Relaxed),
            synced_bytes: self.synced_bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            queued_bytes: self.queued_bytes(),
        }
    }

    /// Drops durable entries from the front of the tail until it is within its bound.
    pub(super) fn evict(&self, memory: &mut Memory) {
        while memory.tail_bytes > self.cache_bytes_max
            && memory
                .tail
                .front()
                .is_some_and(|cached| cached.serial <= memory.durable_serial)
        {
            memory.pop_front();
        }
    }
}

/// An entry in memory.
#[derive(Debug)]
struct Cached {
    /// Counts appended entries; increases along the tail, also where entries were truncated between.
    serial: u64,
    entry: LogEntry,
}

/// The state that the calls see.
#[derive(Debug)]
pub(super) struct Memory {
    gate: WriteGate,
    pub(super) closed: bool,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) last_purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// Index of the first entry held, if any is.
    first: u64,
    /// The last entries: at least those that are not durable.
    tail: VecDeque<Cached>,
    tail_bytes: usize,
    /// Of the entry appended last.
    pub(super) serial: u64,
    /// Entries up to this serial are synced.
    pub(super) durable_serial: u64,
    /// How often it was truncated: the writer counts, too, and is behind while one is queued.
    pub(super) truncations: u64,
    /// Since when the oldest entry that is not synced waits, or the last sync was.
    pending_since: Option<Instant>,
    /// What is synced. Where it and the calls' view differ, the difference is in the tail.
    pub(super) disk: DiskIndex,
    /// Segments that hold records, the active one included.
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
}

/// Where the entries that were asked for are.
#[derive(Debug)]
pub(super) enum Plan {
    Cached(Vec<LogEntry>),
    OnDisk(Vec<Span>),
}

impl Memory {
    pub(super) fn check_open(&self) -> Result<(), StorageError> {
        self.gate.check()?;
        if self.closed {
            Err(StorageError::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn check_append(&self, entries: &[LogEntry]) -> Result<(), StorageError> {
        let mut next = self.last.map(|last| last.index + 1);
        for LogEntry {
            log_id, payload, ..
        } in entries
        {
            let expected = next.unwrap_or(log_id.index);
            if expected != log_id.index {
                return Err(StorageError::NotConsecutive {
                    expected,
                    index: log_id.index,
                });
            }
            if payload.len() > ENTRY_BYTES_MAX {
                let (bytes, bytes_max) = (payload.len(), ENTRY_BYTES_MAX);
                return Err(StorageError::EntryTooLarge {
                    index: log_id.index,
                    bytes,
                    bytes_max,
                });
            }
            next = Some(log_id.index + 1);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, entries: Vec<LogEntry>) {
        self.pending_since.get_or_insert_with(Instant::now);
        for entry in entries {
            if self.is_empty() {
                self.first = entry.log_id.index;
            }
            self.serial += 1;
            self.tail_bytes += entry.payload.len();
            self.last = Some(entry.log_id);
            self.tail.push_back(Cached {
                serial: self.serial,
                entry,
            });
        }
    }

    /// Entries up to this serial are synced now.
    pub(super) fn durable_up_to(&mut self, serial: u64) {
        self.durable_serial = serial;
        self.pending_since = (serial < self.serial).then(Instant::now);
    }

    /// How long nothing was synced although something waits for it.
    pub(super) fn stalled_for(&self) -> Duration {
        self.pending_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn truncate_after(&mut self, after: Option<LogId>) {
        self.truncations += 1;
        let keep = after.map_or(0, |after| after.index + 1);
        while self
            .tail
            .back()
            .is_some_and(|cached| cached.entry.log_id.index >= keep)
        {
            if let Some(cached) = self.tail.pop_back() {
                self.tail_bytes -= cached.entry.payload.len();
            }
        }
        self.last = after;
    }

    pub(super) fn purge(&mut self, through: LogId) {
        self.last_purged = Some(through);
        self.last = self.last.max_by_index(self.last_purged);
        self.first = self.first.max(through.index + 1);
        while self
            .tail
            .front()
            .is_some_and(|cached| cached.entry.log_id.index <= through.index)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(cached) = self.tail.pop_front() {
            self.tail_bytes -= cached.entry.payload.len();
        }
    }

    fn is_empty(&self) -> bool {
        self.held().is_empty()
    }

    /// Indexes of the entries that are held.
    fn held(&self) -> Range<u64> {
        match self.last {
            None => 0..0,
            Some(last) if self.last_purged == Some(last) => last.index + 1..last.index + 1,
            Some(last) => self.first..last.index + 1,
        }
    }

    fn cached(&self, index: u64) -> Option<&LogEntry> {
        let first = self.tail.front()?.entry.log_id.index;
        let position = usize::try_from(index.checked_sub(first)?).ok()?;
        self.tail.get(position).map(|cached| &cached.entry)
    }

    pub(super) fn first_log_id(&self) -> Option<LogId> {
        self.log_id(self.held().start)
    }

    pub(super) fn log_id(&self, index: u64) -> Option<LogId> {
        if !self.held().contains(&index) {
            return None;
        }
        self.cached(index).map(|entry| entry.log_id).or_else(|| {
            let location = self.disk.location(index)?;
            Some(LogId {
                term: location.term,
                node_id: location.node_id,
                index,
            })
        })
    }

    /// Finds the first entries of a range that is not empty: those in memory, or those on disk before them.
    pub(super) fn plan(&self, range: Range<u64>, bytes_max: usize) -> Result<Plan, StorageError> {
        let held = self.held();
        let not_held = || StorageError::NotHeld {
            from: range.start,
            until: range.end,
            held_from: held.start,
            held_until: held.end,
        };
        if range.start < held.start || range.end > held.end {
            return Err(not_held());
        }
        let mut budget = bytes_max;
        let mut entries = Vec::new();
        let mut spans = Vec::new();
        for index in range.clone() {
            if let Some(entry) = self.cached(index).filter(|_| spans.is_empty()) {
                let Some(rest) = fits(budget, entry.payload.len(), entries.is_empty()) else {
                    break;
                };
                budget = rest;
                entries.push(entry.clone());
            } else if self.cached(index).is_some() {
                break;
            } else {
                let location = self.disk.location(index).ok_or_else(not_held)?;
                let bytes = usize::try_from(location.bytes).unwrap_or(usize::MAX);
                let Some(rest) = fits(budget, bytes, spans.is_empty()) else {
                    break;
                };
                budget = rest;
                let segment = self.segments.get(&location.sequence).ok_or_else(not_held)?;
                push_location(&mut spans, segment, location, index);
            }
        }
        Ok(if spans.is_empty() {
            Plan::Cached(entries)
        } else {
            Plan::OnDisk(spans)
        })
    }
}

/// What is left of a budget. The first one always fits.
fn fits(budget: usize, bytes: usize, is_first: bool) -> Option<usize> {
    if is_first {
        Some(budget.saturating_sub(bytes))
    } else {
        budget.checked_sub(bytes)
    }
}

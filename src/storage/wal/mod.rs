//! The Raft log on disk: entries, votes, committed, truncate and purge marks as one ordered stream of records in
//! recycled segments. It knows nothing of what an entry means.
//!
//! Order and durability:
//!
//! - Calls take effect in memory at once, and go to disk in call order, none overtaking another. That is what Raft
//!   needs most: a vote is not durable before the entries that were appended before it.
//! - One writer thread gathers what is queued, writes once, syncs once, then answers: callbacks and tickets in call
//!   order, after the sync that covers them and never before.
//! - The first failed write or sync closes the [`WriteGate`]: what is queued and what comes later gets an error. Nothing
//!   is tried again.
//! - Recovery tells a torn tail (written, never synced: cut silently) from damage (synced, and now gone or changed:
//!   [`StorageError::Damaged`]). Damage is known by a later record that vouches for the place, by a later segment, or by
//!   `MARKER`. Not told apart is only what was synced after the last mark: 50 ms, as a rule, before a kill.
//!
//! | module | owns |
//! | --- | --- |
//! | `record` | bytes of one record |
//! | `segment` | files of the directory, the block a segment begins with |
//! | `marker` | how far the log was synced |
//! | `index` | what the records say, and where each entry is |
//! | `writer` | the writer: batches, segments, recycling |
//! | `block_buffer` | what a batch gathers, in whole blocks |
//! | `reader` | entries from disk, verified |
//! | `recovery` | from files to a log, or to a reason why not |

mod block_buffer;
mod index;
mod marker;
mod memory;
mod reader;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::index::MaxByIndex;
use self::memory::Shared;
pub use self::recovery::{Cut, RecoveryReport};
use self::writer::{Request, Writer};
use super::{StorageError, WriteGate};
use crate::env::task::{self, BatchLimits, QueueError, WorkerQueue, spawn_worker};

/// The longest payload of one entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 2 << 20;

/// The longest segment that can be asked for, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 120 << 20;

/// Requests that one batch gathers at most.
const BATCH_REQUESTS_MAX: usize = 4096;

/// A Raft group. Every record carries one, so that several groups can share a node later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The one group there is yet.
    pub const ONLY: Self = Self(0);
}

/// The identity of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// The term of the leader that made it.
    pub term: u64,
    /// That leader.
    pub node_id: u64,
    /// Its place in the log.
    pub index: u64,
}

/// Whom this node voted for, or follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// For whom.
    pub node_id: u64,
    /// Whether a majority did.
    pub committed: bool,
}

/// One entry. The log does not look into `kind` and `payload`.
#[derive(Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its identity.
    pub log_id: LogId,
    /// For the caller: how to read the payload.
    pub kind: u8,
    /// At most [`ENTRY_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LogEntry")
            .field("log_id", &self.log_id)
            .field("kind", &self.kind)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

/// Called once, from the writer thread: `Ok` after the sync, or the failure. Must not block.
pub type OnDurable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Told after each sync of the log: how long it and the writes before it took, and how many bytes it made durable.
pub type OnSync = Arc<dyn Fn(Duration, usize) + Send + Sync>;

/// Bounds of a log.
#[derive(Clone)]
pub struct WalOptions {
    /// Length after which a new segment is begun, in bytes; at least 8 KiB, at most 120 MiB. A single record may pass it.
    pub segment_bytes: usize,
    /// What one write gathers, in bytes.
    pub batch_bytes_max: usize,
    /// Payload bytes of durable entries that are kept in memory for readers.
    pub cache_bytes_max: usize,
    /// Requests that may wait for the writer. A caller that meets the bound gets [`StorageError::QueueFull`].
    pub queue_len: usize,
    /// Watches syncs.
    pub on_sync: Option<OnSync>,
    /// Syncs to go until one fails.
    #[cfg(test)]
    pub(crate) syncs_before_failure: Option<Arc<std::sync::atomic::AtomicI64>>,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            batch_bytes_max: 8 << 20,
            cache_bytes_max: 64 << 20,
            queue_len: 16_384,
            on_sync: None,
            #[cfg(test)]
            syncs_before_failure: None,
        }
    }
}

impl fmt::Debug for WalOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WalOptions")
            .field("segment_bytes", &self.segment_bytes)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .field("cache_bytes_max", &self.cache_bytes_max)
            .field("queue_len", &self.queue_len)
            .finish_non_exhaustive()
    }
}

impl WalOptions {
    fn check(&self) -> Result<(), StorageError> {
        let bad = |name, value, allowed: &str| {
            Err(StorageError::BadOption {
                name,
                value,
                allowed: allowed.into(),
            })
        };
        if !(8 << 10..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return bad("segment_bytes", self.segment_bytes, "8 KiB to 120 MiB");
        }
        if !(4 << 10..=64 << 20).contains(&self.batch_bytes_max) {
            return bad("batch_bytes_max", self.batch_bytes_max, "4 KiB to 64 MiB");
        }
        if self.queue_len == 0 {
            return bad("queue_len", self.queue_len, "1 or more");
        }
        Ok(())
    }
}

const _: () = assert!(
    SEGMENT_BYTES_MAX + record::RECORD_BYTES_MAX <= record::SEGMENT_BYTES_MAX as usize,
    "the last record of the longest segment still has an offset"
);

/// What a log held when it was opened.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The newest vote.
    pub vote: Option<Vote>,
    /// The newest committed mark, no further than the last entry that is there.
    pub committed: Option<LogId>,
    /// The newest purge.
    pub last_purged: Option<LogId>,
    /// The first entry that is there.
    pub first_log_id: Option<LogId>,
    /// The last entry that is there, or else `last_purged`.
    pub last_log_id: Option<LogId>,
    /// What recovery met.
    pub report: RecoveryReport,
}

/// Numbers of an open log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalStats {
    /// Length of all segments and spares, in bytes.
    pub bytes_on_disk: u64,
    /// Segments that hold records.
    pub segments: usize,
    /// Segments that wait to be used again.
    pub spares: usize,
    /// Bytes made durable since the log was opened.
    pub synced_bytes: u64,
    /// Syncs since the log was opened, without those of the marker.
    pub syncs: u64,
    /// Payload bytes that are queued and not durable yet.
    pub queued_bytes: usize,
}

/// A handle to the log; clones share it. No method blocks on the disk except [`entries`](Self::entries), which may read.
/// The writer ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    queue: WorkerQueue<Request>,
}

impl Wal {
    /// Opens the log in `dir`, or begins one if there is none; blocks while it reads the log. In a simulation it must be
    /// called inside a runtime. On return all of the log is durable, what earlier writes never synced included.
    pub fn open(
        dir: &Path,
        options: WalOptions,
        gate: WriteGate,
    ) -> Result<(Self, Recovered), StorageError> {
        options.check()?;
        let log = recovery::recover(dir)?;
        let last = log.index.last;
        let recovered = Recovered {
            vote: log.index.vote,
            // Commit and apply do not wait for the local sync: the mark may have outlived the entries.
            committed: log
                .index
                .committed
                .zip(last)
                .map(|(mark, last)| if mark.index > last.index { last } else { mark }),
            last_purged: log.index.last_purged,
            first_log_id: log.index.first_log_id(),
            last_log_id: last,
            report: log.report.clone(),
        };
        let limits = BatchLimits {
            items_max: BATCH_REQUESTS_MAX,
            weight_max: options.batch_bytes_max,
        };
        let queue_len = options.queue_len;
        let shared = Arc::new(Shared::new(gate, &options, &recovered));
        let writer = Writer::start(dir, log, shared.clone(), options)?;
        let queue = spawn_worker("log-writer", queue_len, limits, writer)
            .map_err(StorageError::io("start", dir))?;
        Ok((Self { shared, queue }, recovered))
    }

    /// Appends consecutive entries; the first one follows [`last_log_id`](Self::last_log_id) (an empty log takes any).
    /// They can be read when this returns; `on_durable` is called after their sync. If this fails, nothing was
    /// appended and `on_durable` is dropped uncalled.
    ///
    /// The caller bounds what is queued: see [`room`](Self::room).
    pub fn append(
        &self,
        entries: Vec<LogEntry>,
        on_durable: OnDurable,
    ) -> Result<(), StorageError> {
        let mut memory = self.shared.lock();
        memory.check_open()?;
        memory.check_append(&entries)?;
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        let serial = memory.serial + entries.len() as u64;
        self.shared.add_queued(bytes);
        let request = Request::Append {
            entries: entries.clone(),
            serial,
            bytes,
            on_durable,
        };
        if let Err(error) = self.send(request) {
            self.shared.take_queued(bytes);
            return Err(error);
        }
        memory.append(entries);
        Ok(())
    }

    /// Saves a vote. The ticket resolves when it is durable, and with it everything that was called before.
    pub fn save_vote(&self, vote: Vote) -> Durable {
        let (ticket, done) = Durable::new();
        let mut memory = self.shared.lock();
        match memory
            .check_open()
            .and_then(|()| self.send(Request::Vote { vote, done }))
        {
            Ok(()) => {
                memory.vote = Some(vote);
                ticket
            }
            Err(error) => Durable::failed(error),
        }
    }

    /// Notes how far the log is committed. A hint for the next start; it is on disk with what is written next.
    pub fn save_committed(&self, committed: Option<LogId>) -> Result<(), StorageError> {
        let mut memory = self.shared.lock();
        memory.check_open()?;
        memory.committed = committed;
        Ok(())
    }

    /// Waits while too much is appended that is not durable: this disk is slower than its callers, who go on with a majority of
    /// others. Returns at once when writing has ended; the append then says why.
    pub async fn room(&self) {
        self.shared.room().await;
    }

    /// How long nothing was synced although entries wait for it.
    #[must_use]
    pub fn stalled_for(&self) -> Duration {
        self.shared.lock().stalled_for()
    }

    /// Drops the entries after `after`, or all of them. Readers see it at once; on disk it precedes what is called next.
    pub fn truncate_after(&self, after: Option<LogId>) -> Result<(), StorageError> {
        let mut memory = self.shared.lock();
        memory.check_open()?;
        let after = after.max_by_index(memory.last_purged);
        let keeps_all = match (after, memory.last) {
            (_, None) => true,
            (Some(after), Some(last)) => after.index >= last.index,
            (None, Some(_)) => false,
        };
        if keeps_all {
            return Ok(());
        }
        self.send(Request::TruncateAfter(after))?;
        memory.truncate_after(after);
        Ok(())
    }

    /// Drops the entries up to and including `through`, which may lie behind the last one: then the log is empty and
    /// goes on after `through`. Readers see it at once; segments are reused when it is durable.
    pub fn purge(&self, through: LogId) -> Result<(), StorageError> {
        let mut memory = self.shared.lock();
        memory.check_open()?;
        if memory
            .last_purged
            .is_some_and(|purged| purged.index >= through.index)
        {
            return Ok(());
        }
        self.send(Request::Purge(through))?;
        memory.purge(through);
        Ok(())
    }

    /// The newest vote that was saved, durable or not.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.shared.lock().vote
    }

    /// True when nothing was ever written: no vote, no entry, no purge.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        let memory = self.shared.lock();
        memory.vote.is_none() && memory.last.is_none()
    }

    /// The newest committed mark.
    #[must_use]
    pub fn committed(&self) -> Option<LogId> {
        self.shared.lock().committed
    }

    /// The newest purge.
    #[must_use]
    pub fn last_purged(&self) -> Option<LogId> {
        self.shared.lock().last_purged
    }

    /// The first entry that is held.
    #[must_use]
    pub fn first_log_id(&self) -> Option<LogId> {
        self.shared.lock().first_log_id()
    }

    /// The last entry, durable or not; of an empty log the last that was purged.
    #[must_use]
    pub fn last_log_id(&self) -> Option<LogId> {
        self.shared.lock().last
    }

    /// The identity of the entry with this index, without reading the disk; `None` if it is not held.
    #[must_use]
    pub fn log_id(&self, index: u64) -> Option<LogId> {
        self.shared.lock().log_id(index)
    }

    /// Bytes on disk of the durable entries behind `index`; of all that are held for `None`. Looks at each of them.
    #[must_use]
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.shared.lock().disk.bytes_after(index)
    }

    /// Entries of `range`, in order, as many as fit `bytes_max` payload bytes but at least one (unless the range is
    /// empty). From memory if they are recent; else from disk, verified, on a thread that may wait for it. An index that is
    /// not held is [`StorageError::NotHeld`]; bytes that do not verify are [`StorageError::Damaged`] and are never returned.
    pub async fn entries(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, StorageError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let plan = self.shared.lock().plan(range, bytes_max)?;
        match plan {
            memory::Plan::Cached(entries) => Ok(entries),
            memory::Plan::OnDisk(spans) => task::blocking(move || reader::read(&spans)).await,
        }
    }

    /// Payload bytes that were appended and are not durable yet.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes()
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        self.shared.stats()
    }

    /// Refuses further requests. The ticket resolves when everything queued is durable and marked as such.
    pub fn close(&self) -> Durable {
        let (ticket, done) = Durable::new();
        let mut memory = self.shared.lock();
        match memory
            .check_open()
            .and_then(|()| self.send(Request::Close { done }))
        {
            Ok(()) => {
                memory.closed = true;
                ticket
            }
            Err(error) => Durable::failed(error),
        }
    }

    fn send(&self, request: Request) -> Result<(), StorageError> {
        self.queue.try_send(request).map_err(|error| match error {
            QueueError::Full => StorageError::QueueFull {
                queued_max: self.shared.queue_len,
            },
            QueueError::Ended => self.shared.ended(),
        })
    }
}

/// Whether a directory holds a log.
pub(super) fn has_segments(dir: &Path) -> Result<bool, StorageError> {
    Ok(!segment::list(dir)?.segments.is_empty())
}

/// True when nothing was ever written to the log in `dir`; reads all of it.
pub(super) fn is_pristine_in(dir: &Path) -> Result<bool, StorageError> {
    let index = recovery::recover(dir)?.index;
    Ok(index.vote.is_none() && index.last.is_none())
}

/// A ticket: resolves when something is durable, or with the failure. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "durable only when awaited"]
pub struct Durable {
    done: oneshot::Receiver<Result<(), StorageError>>,
}

impl Durable {
    fn new() -> (Self, oneshot::Sender<Result<(), StorageError>>) {
        let (sender, done) = oneshot::channel();
        (Self { done }, sender)
    }

    fn failed(error: StorageError) -> Self {
        let (ticket, done) = Self::new();
        // The receiver is held above, so that this cannot fail.
        let _ = done.send(Err(error));
        ticket
    }
}

impl Future for Durable {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(StorageError::GateClosed {
                    reason: "the log writer has ended".into(),
                })
            })
        })
    }
}

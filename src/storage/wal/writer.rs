//! The one writer: takes requests in order, turns a batch into one write and one sync, answers, recycles segments.

use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::block_buffer::BlockBuffer;
use super::index::{Location, MaxByIndex};
use super::marker::{Marker, MarkerFile};
use super::memory::Shared;
use super::record::{Generation, Record, State, encode, encoded_bytes};
use super::recovery::RecoveredLog;
use super::segment::{FIRST_RECORD, Segment, encode_header, segment_path, spare_path};
use super::{GroupId, LogEntry, LogId, OnDurable, Vote, WalOptions};
use crate::env::task::{BatchWorker, IDLE_AFTER};
use crate::env::{fs, rng, time};
use crate::storage::{StorageError, crashsafe};

/// Purged segments that are kept for reuse; more are removed.
const SPARES_MAX: usize = 4;
/// The marker is written with the first batch after this time, and when the log is idle.
const MARKER_EVERY: Duration = IDLE_AFTER;

/// A write of at most this many bytes that makes a file longer makes it longer by [`AHEAD_BYTES`] more: a sync that makes a file
/// longer takes the file system several times as long as one that overwrites, and small appends would make it longer each time.
/// Large ones pay for it anyhow.
const SMALL_WRITE_BYTES: usize = 16 << 10;
const AHEAD_BYTES: usize = 128 << 10;

/// One call, on its way to disk.
pub(super) enum Request {
    Append {
        entries: Vec<LogEntry>,
        serial: u64,
        bytes: usize,
        on_durable: OnDurable,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    TruncateAfter(Option<LogId>),
    Purge(LogId),
    Close {
        done: Done,
    },
}

type Done = oneshot::Sender<Result<(), StorageError>>;

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Append { .. } => "Append",
            Self::Vote { .. } => "Vote",
            Self::TruncateAfter(_) => "TruncateAfter",
            Self::Purge(_) => "Purge",
            Self::Close { .. } => "Close",
        })
    }
}

/// A request that is written and waits for its sync.
enum Outcome {
    Appended {
        locations: Vec<(LogId, Location)>,
        serial: u64,
        bytes: usize,
        on_durable: OnDurable,
    },
    Voted {
        vote: Vote,
        done: Done,
    },
    Committed(Option<LogId>),
    Truncated(Option<LogId>),
    Purged(LogId),
    Closed {
        done: Done,
    },
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: fs::File,
    /// Where the next write goes.
    pub(super) written: u32,
    /// Everything before this is durable.
    pub(super) synced: u32,
    /// Checksum over the checksums of the records so far.
    pub(super) chain: u32,
    /// Whether it holds more than its first record, which says what came before.
    pub(super) has_records: bool,
}

pub(super) struct Writer {
    dir: PathBuf,
    options: WalOptions,
    shared: Arc<Shared>,
    active: Active,
    /// What the stream says so far, synced or not: a new segment begins with it.
    head: State,
    /// Whether segments are written past the page cache.
    direct: bool,
    buffer: BlockBuffer,
    /// How long the writes took that no sync was behind yet.
    unsynced_writing: Duration,
    outcomes: Vec<Outcome>,
    /// Whether something is written that someone waits for.
    sync_wanted: bool,
    marker: MarkerFile,
    marked: Marker,
    marked_at: time::Instant,
    /// Truncations written so far.
    truncations: u64,
    spares: Vec<(PathBuf, u64)>,
    /// Purged segments, which a reader may still hold.
    retired: Vec<Arc<Segment>>,
    /// After the first failure, and after a close, nothing is written.
    stopped: bool,
}

impl Writer {
    /// Takes over a recovered log; begins the first segment of a new one, durably.
    pub(super) fn start(
        dir: &Path,
        log: RecoveredLog,
        shared: Arc<Shared>,
        options: WalOptions,
    ) -> Result<Self, StorageError> {
        let RecoveredLog {
            index,
            segments,
            active,
            marker,
            marked,
            spares,
            retired,
            ..
        } = log;
        let head = State {
            vote: index.vote,
            committed: index.committed,
            last_purged: index.last_purged,
            last: index.last,
            previous_end: 0,
        };
        let direct = fs::takes_direct_io(dir);
        tracing::debug!(dir = %dir.display(), past_the_page_cache = direct, "writing the log");
        let mut buffer = BlockBuffer::default();
        let is_new = active.is_none();
        let active = match active {
            Some(active) => resume_segment(active, direct, &mut buffer)?,
            None => begin_segment(dir, 1, None, &head, direct, &mut buffer)?,
        };
        {
            let mut memory = shared.lock();
            memory.disk = index;
            memory.segments = segments;
            memory
                .segments
                .insert(active.segment.generation.sequence, active.segment.clone());
        }
        let mut writer = Self {
            dir: dir.to_owned(),
            options,
            shared,
            active,
            head,
            direct,
            buffer,
            unsynced_writing: Duration::ZERO,
            outcomes: Vec::new(),
            sync_wanted: is_new,
            marker,
            marked,
            marked_at: time::Instant::now(),
            truncations: 0,
            spares,
            retired,
            stopped: false,
        };
        // A mark that was taken back must not hold again once the log has grown past it with other entries.
        let clamped = writer.shared.lock().committed;
        if clamped != writer.head.committed {
            writer.put(&Record::Committed(clamped))?;
            writer.head.committed = clamped;
        }
        writer.flush_buffer()?;
        writer.sync_active()?;
        writer.mark()?;
        writer.release()?;
        Ok(writer)
    }

    fn take(&mut self, request: Request) -> Result<(), StorageError> {
        match request {
            Request::Append {
                entries,
                serial,
                bytes,
                on_durable,
            } => {
                let mut locations = Vec::with_capacity(entries.len());
                let written = self.put_entries(&entries, &mut locations);
                self.outcomes.push(Outcome::Appended {
                    locations,
                    serial,
                    bytes,
                    on_durable,
                });
                self.sync_wanted = true;
                written
            }
            Request::Vote { vote, done } => {
                self.outcomes.push(Outcome::Voted { vote, done });
                self.sync_wanted = true;
                self.put(&Record::Vote(vote))?;
                self.head.vote = Some(vote);
                Ok(())
            }
            Request::TruncateAfter(after) => {
                self.outcomes.push(Outcome::Truncated(after));
                self.sync_wanted = true;
                self.put(&Record::TruncateAfter(after))?;
                self.head.last = after;
                self.truncations += 1;
                Ok(())
            }
            Request::Purge(through) => {
                self.outcomes.push(Outcome::Purged(through));
                self.sync_wanted = true;
                self.put(&Record::Purge(through))?;
                self.head.last_purged = Some(through);
                self.head.last = self.head.last.max_by_index(Some(through));
                Ok(())
            }
            Request::Close { done } => {
                self.outcomes.push(Outcome::Closed { done });
                self.sync_wanted = true;
                Ok(())
            }
        }
    }

    /// Notes how far the log is committed, no further than it is written. It is not queued with the rest: commits of a majority go
    /// on while this disk hangs, and only the newest counts.
    fn put_committed(&mut self) -> Result<(), StorageError> {
        let committed = {
            let memory = self.shared.lock();
            // IMPORTANT: what is committed may be of another history than what is written until the truncation is written, too.
            if memory.truncations != self.truncations {
                return Ok(());
            }
            memory.committed
        };
        let mark = match (committed, self.head.last) {
            (Some(committed), Some(last)) if committed.index > last.index => Some(last),
            (_, None) => None,
            (committed, _) => committed,
        };
        if mark == self.head.committed {
            return Ok(());
        }
        self.outcomes.push(Outcome::Committed(mark));
        self.put(&Record::Committed(mark))?;
        self.head.committed = mark;
        Ok(())
    }

    fn put_entries(
        &mut self,
        entries: &[LogEntry],
        locations: &mut Vec<(LogId, Location)>,
    ) -> Result<(), StorageError> {
        for entry in entries {
            let LogId { term, node_id, .. } = entry.log_id;
            let (sequence, offset, bytes) = self.put(&Record::Entry {
                log_id: entry.log_id,
                kind: entry.kind,
                payload: &entry.payload,
            })?;
            let location = Location {
                term,
                node_id,
                sequence,
                offset,
                bytes,
            };
            locations.push((entry.log_id, location));
            self.head.last = Some(entry.log_id);
        }
        Ok(())
    }

    /// Encodes a record behind what is buffered; begins a new segment if it does not fit this one.
    fn put(&mut self, record: &Record<'_>) -> Result<(u64, u32, u32), StorageError> {
        let bytes = encoded_bytes(record);
        let end = self.active.written as usize + self.buffer.len() + bytes;
        if end > self.options.segment_bytes && self.active.has_records {
            self.roll()?;
        }
        let buffered = u32::try_from(self.buffer.len()).expect("a batch is bounded");
        let offset = self.active.written + buffered;
        let generation = self.active.segment.generation;
        let crc = encode(
            record,
            generation,
            self.active.synced,
            GroupId::ONLY,
            self.buffer.end(),
        );
        self.active.chain = chain(self.active.chain, crc);
        self.active.has_records = true;
        if self.buffer.len() >= self.options.batch_bytes_max {
            self.flush_buffer()?;
        }
        Ok((
            generation.sequence,
            offset,
            u32::try_from(bytes).expect("a record is bounded"),
        ))
    }

    fn flush_buffer(&mut self) -> Result<(), StorageError> {
        let bytes = self.buffer.len();
        if bytes == 0 {
            return Ok(());
        }
        let Active {
            segment,
            file,
            written,
            ..
        } = &mut self.active;
        let end = *written as usize + bytes;
        let grows = segment.file_bytes.load(Ordering::Relaxed) < end as u64;
        let ahead = if grows && bytes <= SMALL_WRITE_BYTES {
            AHEAD_BYTES.min(self.options.segment_bytes.saturating_sub(end))
        } else {
            0
        };
        let began = time::Instant::now();
        let file_bytes = self
            .buffer
            .write(file, *written, ahead)
            .map_err(StorageError::io("write", &segment.path))?;
        self.unsynced_writing += began.elapsed();
        segment.file_bytes.fetch_max(file_bytes, Ordering::Relaxed);
        *written = u32::try_from(end).expect("a segment is bounded");
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), StorageError> {
        let bytes = self.active.written - self.active.synced;
        if bytes == 0 {
            return Ok(());
        }
        let began = time::Instant::now();
        self.injected_failure()?;
        let path = &self.active.segment.path;
        self.active
            .file
            .sync_data()
            .map_err(StorageError::io("sync", path))?;
        self.active.synced = self.active.written;
        self.shared
            .synced_bytes
            .fetch_add(u64::from(bytes), Ordering::Relaxed);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let took = mem::take(&mut self.unsynced_writing) + began.elapsed();
        if let Some(on_sync) = &self.options.on_sync {
            on_sync(took, bytes as usize);
        }
        Ok(())
    }

    /// Does nothing, except in tests that want the disk to fail.
    fn injected_failure(&self) -> Result<(), StorageError> {
        #[cfg(test)]
        if let Some(left) = &self.options.syncs_before_failure
            && left.fetch_sub(1, Ordering::Relaxed) <= 0
        {
            let error = std::io::Error::other("injected failure");
            return Err(StorageError::io("sync", &self.active.segment.path)(error));
        }
        Ok(())
    }

    /// Ends the active segment and begins the next one.
    fn roll(&mut self) -> Result<(), StorageError> {
        self.flush_buffer()?;
        // IMPORTANT: all of the old segment is durable, and marked so, before the new one has a name. Recovery relies
        // on it: in a segment that has a successor nothing is a torn tail.
        self.sync_active()?;
        self.mark()?;
        self.head.previous_end = self.active.written;
        let sequence = self.active.segment.generation.sequence + 1;
        let spare = self.spares.pop();
        self.count_spares();
        self.active = begin_segment(
            &self.dir,
            sequence,
            spare,
            &self.head,
            self.direct,
            &mut self.buffer,
        )?;
        self.shared
            .lock()
            .segments
            .insert(sequence, self.active.segment.clone());
        Ok(())
    }

    /// Notes durably how far the log is synced, which must be all of it: the chain covers all records.
    fn mark(&mut self) -> Result<(), StorageError> {
        debug_assert_eq!(self.active.synced, self.active.written);
        let marker = Marker {
            sequence: self.active.segment.generation.sequence,
            offset: self.active.synced,
            chain: self.active.chain,
            last: self.head.last,
        };
        if marker != self.marked {
            self.marker.write(marker)?;
            self.marked = marker;
        }
        self.marked_at = time::Instant::now();
        Ok(())
    }

    /// Moves the index on, then answers, both in call order.
    fn publish(&mut self) {
        let mut answers = Vec::with_capacity(self.outcomes.len());
        let mut memory = self.shared.lock();
        for outcome in self.outcomes.drain(..) {
            match outcome {
                Outcome::Appended {
                    locations,
                    serial,
                    bytes,
                    on_durable,
                } => {
                    for (log_id, location) in locations {
                        let follows = memory.disk.append(log_id, location);
                        assert!(
                            follows,
                            "entry {} does not follow the log on disk",
                            log_id.index
                        );
                    }
                    memory.durable_up_to(serial);
                    self.shared.take_queued(bytes);
                    answers.push(Answer::Callback(on_durable));
                }
                Outcome::Voted { vote, done } => {
                    memory.disk.vote = Some(vote);
                    answers.push(Answer::Ticket(done));
                }
                Outcome::Committed(committed) => memory.disk.committed = committed,
                Outcome::Truncated(after) => memory.disk.truncate_after(after),
                Outcome::Purged(through) => memory.disk.purge(through),
                Outcome::Closed { done } => answers.push(Answer::Ticket(done)),
            }
        }
        self.shared.evict(&mut memory);
        drop(memory);
        for answer in answers {
            answer.give(Ok(()));
        }
    }

    /// Sets aside the segments that hold nothing needed any more, for reuse or removal. What purged them is durable.
    fn release(&mut self) -> Result<(), StorageError> {
        {
            let mut memory = self.shared.lock();
            let active = self.active.segment.generation.sequence;
            let needed = memory
                .disk
                .oldest_sequence()
                .map_or(active, |oldest| oldest.min(active));
            let kept = memory.segments.split_off(&needed);
            let released = mem::replace(&mut memory.segments, kept);
            self.retired.extend(released.into_values());
        }
        let mut changed = false;
        for segment in mem::take(&mut self.retired) {
            if Arc::strong_count(&segment) > 1 {
                self.retired.push(segment); // a reader has it: next time
                continue;
            }
            changed = true;
            if self.spares.len() < SPARES_MAX {
                let spare = spare_path(&self.dir, segment.generation.sequence);
                fs::rename(&segment.path, &spare)
                    .map_err(StorageError::io("rename", &segment.path))?;
                self.spares
                    .push((spare, segment.file_bytes.load(Ordering::Relaxed)));
            } else {
                fs::remove_file(&segment.path)
                    .map_err(StorageError::io("remove", &segment.path))?;
            }
        }
        if changed {
            fs::sync_dir(&self.dir).map_err(StorageError::io("sync directory", &self.dir))?;
        }
        self.count_spares();
        Ok(())
    }

    fn count_spares(&self) {
        self.shared
            .spares
            .store(self.spares.len(), Ordering::Relaxed);
        self.shared.spare_bytes.store(
            self.spares.iter().map(|(_, bytes)| bytes).sum(),
            Ordering::Relaxed,
        );
    }

    /// The first failure ends all writing; everybody who waits is told.
    fn fail(&mut self, error: &StorageError) {
        self.stopped = true;
        self.shared.gate.close(&error.to_string());
        self.buffer.clear();
        for outcome in mem::take(&mut self.outcomes) {
            self.refuse(outcome);
        }
    }

    fn refuse(&self, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Appended {
                bytes, on_durable, ..
            } => {
                self.shared.take_queued(bytes);
                Answer::Callback(on_durable)
            }
            Outcome::Voted { done, .. } | Outcome::Closed { done } => Answer::Ticket(done),
            Outcome::Committed(_) | Outcome::Truncated(_) | Outcome::Purged(_) => return,
        };
        answer.give(Err(self.shared.ended()));
    }

    fn refuse_request(&self, request: Request) {
        self.refuse(match request {
            Request::Append {
                serial,
                bytes,
                on_durable,
                ..
            } => Outcome::Appended {
                locations: Vec::new(),
                serial,
                bytes,
                on_durable,
            },
            Request::Vote { vote, done } => Outcome::Voted { vote, done },
            Request::TruncateAfter(after) => Outcome::Truncated(after),
            Request::Purge(through) => Outcome::Purged(through),
            Request::Close { done } => Outcome::Closed { done },
        });
    }

    fn finish_batch(&mut self) -> Result<(), StorageError> {
        let closing = self
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Closed { .. }));
        let purging = self
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Purged(_)));
        if mem::take(&mut self.sync_wanted) {
            self.sync_active()?;
        }
        if closing {
            self.mark()?;
        }
        self.stopped = closing;
        self.publish();
        if closing {
            return Ok(());
        }
        if purging {
            self.release()?;
        }
        // The beginning of a new segment is marked soon: without it the whole segment is unreadable, and would pass for
        // one that was never begun.
        let is_new = self.marked.sequence != self.active.segment.generation.sequence;
        let all_synced = self.active.synced == self.active.written;
        if all_synced && (is_new || self.marked_at.elapsed() >= MARKER_EVERY) {
            self.mark()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.sync_active()?;
        self.mark()?;
        if self.retired.is_empty() {
            Ok(())
        } else {
            self.release()
        }
    }
}

impl BatchWorker for Writer {
    type Item = Request;

    fn weight(request: &Request) -> usize {
        match request {
            Request::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    fn write(&mut self, requests: &mut Vec<Request>) {
        for request in requests.drain(..) {
            if self.stopped {
                self.refuse_request(request);
            } else if let Err(error) = self.take(request) {
                self.fail(&error);
            }
        }
        if !self.stopped
            && let Err(error) = self.put_committed().and_then(|()| self.flush_buffer())
        {
            self.fail(&error);
        }
    }

    fn sync(&mut self) {
        if !self.stopped
            && let Err(error) = self.finish_batch()
        {
            self.fail(&error);
        }
    }

    #[cfg(sim)]
    fn answer_before_sync(&mut self) {
        if !self.stopped {
            self.publish();
        }
    }

    fn idle(&mut self) {
        if !self.stopped
            && let Err(error) = self.settle()
        {
            self.fail(&error);
        }
    }

    fn stop(&mut self) {
        self.idle();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.gate.close("the log writer panicked");
        }
    }
}

enum Answer {
    Callback(OnDurable),
    Ticket(Done),
}

impl Answer {
    fn give(self, answer: Result<(), StorageError>) {
        match self {
            Self::Callback(on_durable) => on_durable(answer.map_err(Into::into)),
            // Nobody waits for it any more.
            Self::Ticket(done) => drop(done.send(answer)),
        }
    }
}

/// Names a segment, from a spare if there is one, and buffers what it begins with. The name is durable on return.
fn begin_segment(
    dir: &Path,
    sequence: u64,
    spare: Option<(PathBuf, u64)>,
    head: &State,
    direct: bool,
    buffer: &mut BlockBuffer,
) -> Result<Active, StorageError> {
    let path = segment_path(dir, sequence);
    let mut file_bytes = 0;
    if let Some((spare, bytes)) = spare {
        fs::rename(&spare, &path).map_err(StorageError::io("rename", &spare))?;
        // IMPORTANT: the name is durable before anything in the file is acknowledged.
        crashsafe::sync_parent(&path)?;
        file_bytes = bytes;
    }
    let file = open_segment(&path, direct)?;
    crashsafe::sync_parent(&path)?;
    let generation = Generation {
        sequence,
        secret: rng::u64(),
    };
    buffer.restart();
    buffer.end().extend_from_slice(&encode_header(generation));
    let first = Record::State(*head);
    let crc = encode(&first, generation, 0, GroupId::ONLY, buffer.end());
    debug_assert!(
        buffer.len() > FIRST_RECORD as usize,
        "the first record is behind the header"
    );
    Ok(Active {
        segment: Arc::new(Segment {
            generation,
            path,
            file_bytes: AtomicU64::new(file_bytes),
        }),
        file,
        written: 0,
        synced: 0,
        chain: chain(0, crc),
        has_records: false,
    })
}

/// Goes on in the segment that recovery ended in.
fn resume_segment(
    mut active: Active,
    direct: bool,
    buffer: &mut BlockBuffer,
) -> Result<Active, StorageError> {
    let path = &active.segment.path;
    buffer
        .resume(&active.file, active.written)
        .map_err(StorageError::io("read", path))?;
    active.file = open_segment(path, direct)?;
    Ok(active)
}

/// Opens a segment for writing, or makes it.
fn open_segment(path: &Path, direct: bool) -> Result<fs::File, StorageError> {
    let opened = if direct {
        fs::open_or_create_direct(path)
    } else {
        fs::open_or_create(path)
    };
    opened.map_err(StorageError::io("open", path))
}

/// The checksum over the checksums of a segment's records, one record on.
pub(super) fn chain(chain: u32, crc: u32) -> u32 {
    crc32c::crc32c_append(chain, &crc.to_le_bytes())
}

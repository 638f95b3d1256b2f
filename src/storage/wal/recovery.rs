//! From files to a log, or to the reason why there is none.
//!
//! The rules, in the order they are applied:
//!
//! 1. Segments are numbered without gaps, except that older ones may be missing whose entries are all purged: such a
//!    gap ends what is needed.
//! 2. Only the newest segment may be unfinished: one whose beginning never reached the disk is dropped. Any other ends
//!    exactly where its successor says, with the state that its successor says.
//! 3. In the newest segment the log ends at the first bytes that are no record. If a valid record behind them vouches
//!    for that place, or the marker does, then these bytes had been synced and are damaged. Otherwise they are a torn
//!    tail: it is cut, and overwritten with zeros as far as there are whole records, which must never come back.
//! 4. What is left is synced before anybody relies on it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::LogId;
use super::index::{DiskIndex, Location};
use super::marker::{Marker, MarkerFile};
use super::record::{ALIGNMENT, Frame, Generation, NoRecord, Record, SEGMENT_BYTES_MAX, decode};
use super::segment::{FIRST_RECORD, Listing, Segment, decode_header, list, segment_path};
use super::writer::{Active, chain};
use crate::env::fs;
use crate::storage::{StorageError, crashsafe};

/// The header and the first record of a segment are within this many bytes.
const BEGINNING_BYTES: usize = 2 * FIRST_RECORD as usize;

/// What recovery met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Segments that were read.
    pub segments: usize,
    /// Records that were read.
    pub records: u64,
    /// The torn tail, if there was one that can be told from what a recycled segment held before.
    pub cut: Option<Cut>,
}

/// Bytes that were written, never synced, and did not all reach the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Where the log ends now.
    pub offset: u64,
    /// How many bytes behind that were not zero or were whole records.
    pub bytes: u64,
}

/// A log, ready to be written to.
#[derive(Debug)]
pub(super) struct RecoveredLog {
    pub(super) index: DiskIndex,
    /// All but the active one.
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// `None` in a new log.
    pub(super) active: Option<Active>,
    pub(super) marker: MarkerFile,
    pub(super) marked: Marker,
    pub(super) spares: Vec<(PathBuf, u64)>,
    /// Segments below a gap: needed by nobody.
    pub(super) retired: Vec<Arc<Segment>>,
    pub(super) report: RecoveryReport,
}

/// Reads the log in `dir`, made if it is not there.
pub(super) fn recover(dir: &Path) -> Result<RecoveredLog, StorageError> {
    let listing = list(dir)?;
    if !fs::exists(dir).map_err(StorageError::io("look at", dir))? {
        fs::create_private_dir_all(dir).map_err(StorageError::io("create directory", dir))?;
        crashsafe::sync_parent(dir)?;
    }
    let (marker, marked) = open_marker(dir, &listing)?;
    let spares = measure(&listing.spares)?;
    let Chain {
        mut segments,
        retired,
    } = Chain::find(dir, &listing, marked)?;
    let (index, active, report) = if segments.is_empty() {
        (DiskIndex::default(), None, RecoveryReport::default())
    } else {
        let (index, active, report) = replay(dir, &mut segments, marked)?;
        (index, Some(active), report)
    };
    fs::sync_dir(dir).map_err(StorageError::io("sync directory", dir))?;
    Ok(RecoveredLog {
        index,
        segments,
        active,
        marker,
        marked,
        spares,
        retired,
        report,
    })
}

/// Reads all segments, in order, and takes out the newest one for writing.
fn replay(
    dir: &Path,
    segments: &mut BTreeMap<u64, Arc<Segment>>,
    marked: Marker,
) -> Result<(DiskIndex, Active, RecoveryReport), StorageError> {
    let mut replay = Replay {
        marked,
        index: None,
        report: RecoveryReport::default(),
        previous: None,
    };
    let mut newest = None;
    for segment in segments.values() {
        let bytes = read_segment(&segment.path)?;
        let end = replay.segment(segment, &bytes)?;
        replay.previous = Some((segment.path.clone(), end.offset));
        newest = Some((bytes, end));
    }
    let (Some((bytes, end)), Some((_, segment)), Some(index)) =
        (newest, segments.pop_last(), replay.index)
    else {
        let what = "it holds no segment that can be read";
        return Err(StorageError::damaged(dir, 0, what));
    };
    if let Some(absent) = index.absent() {
        let what = format!(
            "entries {} to {} are in segments that are gone",
            absent.start(),
            absent.end()
        );
        return Err(StorageError::damaged(dir, 0, what));
    }
    let mut report = replay.report;
    let active = cut(segment, &bytes, &end, &mut report)?;
    Ok((index, active, report))
}

fn open_marker(dir: &Path, listing: &Listing) -> Result<(MarkerFile, Marker), StorageError> {
    if listing.has_marker {
        return MarkerFile::open(dir);
    }
    // The marker is made before the first segment.
    if !listing.segments.is_empty() {
        let path = dir.join(super::marker::FILE_NAME);
        return Err(StorageError::damaged(
            &path,
            0,
            "it is gone, and with it how far the log was synced",
        ));
    }
    Ok((MarkerFile::create(dir)?, Marker::default()))
}

fn measure(spares: &[PathBuf]) -> Result<Vec<(PathBuf, u64)>, StorageError> {
    let measured = spares.iter().map(|path| {
        let metadata = fs::metadata(path).map_err(StorageError::io("look at", path))?;
        Ok((path.clone(), metadata.len()))
    });
    measured.collect()
}

/// A whole segment. At most 128 MiB, one at a time.
fn read_segment(path: &Path) -> Result<Vec<u8>, StorageError> {
    let bytes = fs::metadata(path)
        .map_err(StorageError::io("look at", path))?
        .len();
    if bytes > u64::from(SEGMENT_BYTES_MAX) {
        return Err(StorageError::damaged(
            path,
            u64::from(SEGMENT_BYTES_MAX),
            "it is longer than a segment can be",
        ));
    }
    fs::read(path).map_err(StorageError::io("read", path))
}

/// The segments that belong together.
struct Chain {
    segments: BTreeMap<u64, Arc<Segment>>,
    retired: Vec<Arc<Segment>>,
}

impl Chain {
    fn find(dir: &Path, listing: &Listing, marked: Marker) -> Result<Self, StorageError> {
        let mut sequences = listing.segments.clone();
        let mut this = Self {
            segments: BTreeMap::new(),
            retired: Vec::new(),
        };
        if sequences.last().is_some_and(|last| *last > marked.sequence)
            && let Some(newest) = sequences.pop()
        {
            match begun(dir, newest)? {
                Some(segment) => drop(this.segments.insert(newest, Arc::new(segment))),
                // Its beginning was never synced, so nothing in it was acknowledged. It must not be reused as it is:
                // its number will be given again.
                None if newest == 1 || sequences.last() == Some(&(newest - 1)) => {
                    let path = segment_path(dir, newest);
                    fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
                    fs::sync_dir(dir).map_err(StorageError::io("sync directory", dir))?;
                }
                None => {
                    let path = segment_path(dir, newest);
                    return Err(StorageError::damaged(
                        &path,
                        0,
                        "its beginning is unreadable and no segment is before it",
                    ));
                }
            }
        }
        for sequence in sequences.into_iter().rev() {
            let follows = this
                .segments
                .first_key_value()
                .is_none_or(|(next, _)| sequence + 1 == *next);
            if !follows || !this.retired.is_empty() {
                let path = segment_path(dir, sequence);
                let bytes = fs::metadata(&path)
                    .map_err(StorageError::io("look at", &path))?
                    .len();
                let generation = Generation {
                    sequence,
                    secret: 0,
                };
                this.retired.push(Arc::new(Segment {
                    generation,
                    path,
                    file_bytes: AtomicU64::new(bytes),
                }));
                continue;
            }
            let path = segment_path(dir, sequence);
            let segment = begun(dir, sequence)?.ok_or_else(|| {
                StorageError::damaged(&path, 0, "its header or its first record is unreadable")
            })?;
            this.segments.insert(sequence, Arc::new(segment));
        }
        let newest = this
            .segments
            .last_key_value()
            .map_or(0, |(sequence, _)| *sequence);
        if marked.sequence > newest {
            let path = segment_path(dir, marked.sequence);
            return Err(StorageError::damaged(
                &path,
                0,
                "the segment is gone, and had been synced",
            ));
        }
        Ok(this)
    }
}

/// A segment whose header and first record are whole; `None` if they are not.
fn begun(dir: &Path, sequence: u64) -> Result<Option<Segment>, StorageError> {
    let path = segment_path(dir, sequence);
    let file = fs::open(&path).map_err(StorageError::io("open", &path))?;
    let file_bytes = file
        .metadata()
        .map_err(StorageError::io("look at", &path))?
        .len();
    let mut bytes =
        vec![0; BEGINNING_BYTES.min(usize::try_from(file_bytes).unwrap_or(BEGINNING_BYTES))];
    fs::read_exact_at(&file, &mut bytes, 0).map_err(StorageError::io("read", &path))?;
    let Some(generation) = decode_header(&path, &bytes, sequence)? else {
        return Ok(None);
    };
    let first = bytes.get(FIRST_RECORD as usize..).unwrap_or_default();
    if let Ok(Frame {
        record: Record::State(_),
        ..
    }) = decode(first, generation)
    {
        return Ok(Some(Segment {
            generation,
            path,
            file_bytes: AtomicU64::new(file_bytes),
        }));
    }
    match vouching_record(&path, &read_segment(&path)?, FIRST_RECORD, generation) {
        ControlFlow::Break(damaged) => Err(damaged),
        ControlFlow::Continue(_) => Ok(None),
    }
}

/// Looks behind `end`, where the valid records end, for one that vouches for `end`: that is damage. Else where the last
/// whole record behind `end` ends, or `end`.
fn vouching_record(
    path: &Path,
    bytes: &[u8],
    end: u32,
    generation: Generation,
) -> ControlFlow<StorageError, u32> {
    let mut whole_until = end;
    let mut offset = end as usize + ALIGNMENT;
    while offset < bytes.len() {
        match decode(&bytes[offset..], generation) {
            Ok(frame) if frame.synced > end => {
                let what = format!(
                    "no valid record is there, but the record at byte {offset} was written after everything before byte \
                     {} had been synced",
                    frame.synced
                );
                return ControlFlow::Break(StorageError::damaged(path, u64::from(end), what));
            }
            Ok(frame) => {
                whole_until = u32::try_from(offset)
                    .unwrap_or(u32::MAX)
                    .saturating_add(frame.bytes);
                offset += frame.bytes as usize;
            }
            Err(_) => offset += ALIGNMENT,
        }
    }
    ControlFlow::Continue(whole_until)
}

/// Where the records of a segment end.
struct End {
    offset: u32,
    chain: u32,
    why: NoRecord,
    /// How far whole records follow that belong to nothing.
    whole_until: u32,
    has_records: bool,
}

struct Replay {
    marked: Marker,
    index: Option<DiskIndex>,
    report: RecoveryReport,
    /// The segment before: where it is and where its records end.
    previous: Option<(PathBuf, u32)>,
}

impl Replay {
    fn segment(&mut self, segment: &Segment, bytes: &[u8]) -> Result<End, StorageError> {
        let path = &segment.path;
        let sequence = segment.generation.sequence;
        let is_marked = self.marked.sequence == sequence;
        let mut mark_met = !is_marked;
        let mut offset = FIRST_RECORD;
        let mut links = 0;
        let mut count = 0;
        let why = loop {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let frame = match decode(rest, segment.generation) {
                Ok(frame) => frame,
                Err(why) => break why,
            };
            self.apply(path, sequence, offset, &frame, count == 0)?;
            links = chain(links, frame.crc);
            offset += frame.bytes;
            count += 1;
            if is_marked && offset == self.marked.offset {
                let last = self.index.as_ref().and_then(|index| index.last);
                mark_met = self.marked.chain == links && self.marked.last == last;
            }
        };
        if is_marked && offset < self.marked.offset {
            let what = format!(
                "{why}, but the log had been synced through byte {}",
                self.marked.offset
            );
            return Err(StorageError::damaged(path, u64::from(offset), what));
        }
        let whole_until = match vouching_record(path, bytes, offset, segment.generation) {
            ControlFlow::Break(damaged) => return Err(damaged),
            ControlFlow::Continue(whole_until) => whole_until,
        };
        if !mark_met {
            let what = "the records before this are not those that had been synced";
            return Err(StorageError::damaged(
                path,
                u64::from(self.marked.offset),
                what,
            ));
        }
        self.report.segments += 1;
        self.report.records += count;
        Ok(End {
            offset,
            chain: links,
            why,
            whole_until,
            has_records: count > 1,
        })
    }

    fn apply(
        &mut self,
        path: &Path,
        sequence: u64,
        offset: u32,
        frame: &Frame<'_>,
        is_first: bool,
    ) -> Result<(), StorageError> {
        let impossible = |what: &str| Err(StorageError::damaged(path, u64::from(offset), what));
        if let Record::State(state) = frame.record {
            let Some(index) = &self.index else {
                self.index = Some(DiskIndex::begin(&state));
                return Ok(());
            };
            return match &self.previous {
                Some((path, end)) if is_first && state.previous_end != *end => {
                    let what = format!(
                        "no valid record is there, but the next segment was begun at byte {}",
                        state.previous_end
                    );
                    Err(StorageError::damaged(path, u64::from(*end), what))
                }
                Some(_) if is_first && index.is_continued_by(&state) => Ok(()),
                _ => impossible("what this segment continues is not what the segment before holds"),
            };
        }
        let Some(index) = &mut self.index else {
            return impossible("the segment does not begin with the state of the log");
        };
        match frame.record {
            Record::Entry { log_id, .. } => {
                let LogId { term, node_id, .. } = log_id;
                let location = Location {
                    term,
                    node_id,
                    sequence,
                    offset,
                    bytes: frame.bytes,
                };
                if !index.append(log_id, location) {
                    return impossible("the entry does not follow the one before");
                }
            }
            Record::Vote(vote) => index.vote = Some(vote),
            Record::Committed(committed) => index.committed = committed,
            Record::TruncateAfter(after) => index.truncate_after(after),
            Record::Purge(through) => index.purge(through),
            Record::State(_) => {}
        }
        Ok(())
    }
}

/// Opens the newest segment for writing where its records end, and makes it so that only they are ever read again.
fn cut(
    newest: Arc<Segment>,
    bytes: &[u8],
    end: &End,
    report: &mut RecoveryReport,
) -> Result<Active, StorageError> {
    let path = &newest.path;
    let file = fs::open_or_create(path).map_err(StorageError::io("open", path))?;
    let rest = bytes.get(end.offset as usize..).unwrap_or_default();
    if end.whole_until > end.offset {
        // IMPORTANT: whole records that were never synced are not part of the log any more. Were they left there, a
        // later log that happens to end just before them would take them back.
        let zeros = vec![0; (end.whole_until - end.offset) as usize];
        fs::write_all_at(&file, &zeros, u64::from(end.offset))
            .map_err(StorageError::io("write", path))?;
    }
    let torn =
        matches!(end.why, NoRecord::CutOff | NoRecord::BadChecksum) || end.whole_until > end.offset;
    if torn {
        let used = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last as u64 + 1);
        let cut = Cut {
            path: path.clone(),
            offset: u64::from(end.offset),
            bytes: used,
        };
        tracing::info!(path = %cut.path.display(), cut.offset, cut.bytes, "a torn tail of the log was cut");
        report.cut = Some(cut);
    }
    file.sync_data().map_err(StorageError::io("sync", path))?;
    Ok(Active {
        segment: newest,
        file,
        written: end.offset,
        synced: end.offset,
        chain: end.chain,
        has_records: end.has_records,
    })
}

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc;

use proptest::prelude::*;

use super::memory::Plan;
use super::record::{Generation, decode};
use super::segment::{FIRST_RECORD, decode_header, list, segment_path};
use super::*;
use crate::env::fs;
use crate::storage::crashsafe;

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node_id: 1,
        index,
    }
}

fn entry(term: u64, index: u64, bytes: usize) -> LogEntry {
    let pattern = u8::try_from((term * 31 + index) % 251).unwrap();
    LogEntry {
        log_id: id(term, index),
        kind: 1,
        payload: vec![pattern; bytes].into(),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node_id: 2,
        committed: term.is_multiple_of(2),
    }
}

fn small() -> WalOptions {
    WalOptions {
        segment_bytes: 8 << 10,
        batch_bytes_max: 4 << 10,
        cache_bytes_max: 300,
        ..WalOptions::default()
    }
}

fn try_open(dir: &Path) -> Result<(Wal, Recovered), StorageError> {
    Wal::open(dir, small(), WriteGate::new())
}

fn open(dir: &Path) -> (Wal, Recovered) {
    try_open(dir).unwrap()
}

fn wait(ticket: Durable) -> Result<(), StorageError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(ticket)
}

/// A directory in memory where there is one: these tests sync thousands of times, and no power is cut.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Appends and waits for the sync.
fn append(wal: &Wal, entries: Vec<LogEntry>) {
    let (done, synced) = mpsc::channel();
    wal.append(entries, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    synced.recv().unwrap().unwrap();
}

fn close(wal: Wal) {
    wait(wal.close()).unwrap();
}

fn all(wal: &Wal) -> Vec<LogEntry> {
    let Some(last) = wal.last_log_id() else {
        return Vec::new();
    };
    let Some(first) = wal.first_log_id() else {
        return Vec::new();
    };
    let mut next = first.index;
    let mut entries = Vec::new();
    while next <= last.index {
        let some = wal.entries(next..last.index + 1, 1000).unwrap();
        assert!(!some.is_empty());
        next += some.len() as u64;
        entries.extend(some);
    }
    entries
}

/// The files of a directory, to make it again as it was.
#[derive(Clone)]
struct Image(Vec<(PathBuf, Vec<u8>)>);

impl Image {
    fn of(dir: &Path) -> Self {
        let names = fs::list_dir(dir).unwrap();
        Self(
            names
                .into_iter()
                .map(|name| (name.clone().into(), fs::read(dir.join(name)).unwrap()))
                .collect(),
        )
    }

    fn restore(&self, dir: &Path) {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir_all(dir).unwrap();
        for (name, bytes) in &self.0 {
            put(&dir.join(name), bytes);
        }
    }

    fn file(&mut self, name: &Path) -> &mut Vec<u8> {
        let name = Path::new(name.file_name().unwrap());
        &mut self.0.iter_mut().find(|(file, _)| file == name).unwrap().1
    }
}

fn put(path: &Path, bytes: &[u8]) {
    let file = fs::open_or_create(path).unwrap();
    file.set_len(0).unwrap();
    fs::write_all_at(&file, bytes, 0).unwrap();
}

/// Offset and length of each record in a segment.
fn records(path: &Path) -> Vec<(usize, usize)> {
    let bytes = fs::read(path).unwrap();
    let sequence = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    let generation: Generation = decode_header(path, &bytes, sequence).unwrap().unwrap();
    let mut found = Vec::new();
    let mut offset = FIRST_RECORD as usize;
    while let Ok(frame) = decode(&bytes[offset..], generation) {
        found.push((offset, frame.bytes as usize));
        offset += frame.bytes as usize;
    }
    found
}

/// The log's numbers once they are as wanted: segments are released after the answer.
fn settled(wal: &Wal, wanted: impl Fn(&WalStats) -> bool) -> WalStats {
    for _ in 0..1000 {
        let stats = wal.stats();
        if wanted(&stats) {
            return stats;
        }
        wait(wal.save_vote(wal.vote().unwrap_or(vote(1)))).unwrap();
    }
    panic!("{:?}", wal.stats());
}

fn newest(dir: &Path) -> PathBuf {
    segment_path(dir, *list(dir).unwrap().segments.last().unwrap())
}

fn assert_damaged(result: Result<(Wal, Recovered), StorageError>, context: &str) {
    match result {
        Err(error @ StorageError::Damaged { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("must not vote") && text.contains("member remove"),
                "{text}"
            );
        }
        Err(error) => panic!("{context}: {error}"),
        Ok((_, recovered)) => panic!("{context}: accepted {recovered:?}"),
    }
}

#[test]
fn entries_votes_and_marks_survive_reopening() {
    let dir = scratch();
    let (wal, recovered) = open(dir.path());
    assert_eq!(
        (
            recovered.vote,
            recovered.last_log_id,
            recovered.first_log_id
        ),
        (None, None, None)
    );
    append(&wal, (0..10).map(|index| entry(1, index, 50)).collect());
    wait(wal.save_vote(vote(4))).unwrap();
    wal.save_committed(Some(id(1, 7))).unwrap();
    wal.purge(id(1, 2)).unwrap();
    wal.truncate_after(Some(id(1, 8))).unwrap();
    let before = all(&wal);
    assert_eq!(before.len(), 6);
    close(wal);

    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.vote, Some(vote(4)));
    assert_eq!(recovered.committed, Some(id(1, 7)));
    assert_eq!(recovered.last_purged, Some(id(1, 2)));
    assert_eq!(recovered.first_log_id, Some(id(1, 3)));
    assert_eq!(recovered.last_log_id, Some(id(1, 8)));
    assert_eq!(recovered.report.cut, None);
    assert_eq!(all(&wal), before);
    assert_eq!(wal.log_id(8), Some(id(1, 8)));
    assert_eq!((wal.log_id(2), wal.log_id(9)), (None, None));
}

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, bytes: usize },
    Vote,
    Committed,
    Truncate { keep: u64 },
    Purge { ahead: u64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u64, 0..900usize).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        2 => Just(Step::Vote),
        2 => Just(Step::Committed),
        2 => (0..8u64).prop_map(|keep| Step::Truncate { keep }),
        2 => (0..20u64).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Reopen),
    ]
}

/// The log as a `Vec`.
#[derive(Default)]
struct Model {
    entries: Vec<LogEntry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    term: u64,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries
            .last()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }

    fn step(&mut self, wal: &Wal, step: &Step) {
        let next = self.last().map_or(0, |last| last.index + 1);
        match step {
            Step::Append { count, bytes } => {
                let entries: Vec<_> = (next..next + count)
                    .map(|index| entry(self.term, index, *bytes))
                    .collect();
                wal.append(entries.clone(), Box::new(|synced| synced.unwrap()))
                    .unwrap();
                self.entries.extend(entries);
            }
            Step::Vote => {
                self.term += 1;
                self.vote = Some(vote(self.term));
                drop(wal.save_vote(vote(self.term)));
            }
            Step::Committed => {
                self.committed = self.last();
                wal.save_committed(self.committed).unwrap();
            }
            Step::Truncate { keep } => {
                self.term += 1;
                self.entries.truncate(usize::try_from(*keep).unwrap());
                wal.truncate_after(self.last()).unwrap();
            }
            Step::Purge { ahead } => {
                let from = self.purged.map_or(0, |purged| purged.index + 1);
                let through = from + ahead;
                let held = self
                    .entries
                    .iter()
                    .find(|entry| entry.log_id.index == through);
                let through = held.map_or(id(self.term, through), |entry| entry.log_id);
                self.entries
                    .retain(|entry| entry.log_id.index > through.index);
                self.purged = Some(through);
                wal.purge(through).unwrap();
            }
            Step::Reopen => {}
        }
    }

    fn check(&self, wal: &Wal) {
        assert_eq!(wal.last_log_id(), self.last());
        assert_eq!(wal.last_purged(), self.purged);
        assert_eq!(wal.vote(), self.vote);
        assert_eq!(all(wal), self.entries);
    }
}

#[test]
fn the_log_is_what_a_vec_would_be_through_rolls_recycling_and_reopening() {
    let recycled = Mutex::new(0);
    proptest!(ProptestConfig::with_cases(200), |(steps in proptest::collection::vec(step(), 1..80))| {
        let dir = scratch();
        let mut model = Model::default();
        let (mut wal, _) = open(dir.path());
        for step in &steps {
            model.step(&wal, step);
            model.check(&wal);
            if matches!(step, Step::Reopen) {
                *recycled.lock().unwrap() += wal.stats().spares;
                close(wal);
                let recovered;
                (wal, recovered) = open(dir.path());
                prop_assert_eq!(recovered.committed, model.committed.map(|mark| {
                    let last = model.last().unwrap_or(mark);
                    if mark.index > last.index { last } else { mark }
                }).filter(|_| model.last().is_some()));
                prop_assert_eq!(recovered.report.cut, None);
                model.committed = recovered.committed;
                model.check(&wal);
            }
        }
        close(wal);
    });
    assert!(*recycled.lock().unwrap() > 0, "no case came to recycling");
}

/// A log with synced entries, then one more batch; the images before and after it.
fn two_images(dir: &Path, before: impl FnOnce(&Wal)) -> (Image, Image, Vec<LogEntry>) {
    let (wal, _) = open(dir);
    before(&wal);
    append(&wal, vec![entry(1, 100, 40), entry(1, 101, 40)]);
    let synced = Image::of(dir);
    append(&wal, (102..106).map(|index| entry(1, index, 20)).collect());
    let after = Image::of(dir);
    let entries = all(&wal);
    close(wal);
    (synced, after, entries)
}

/// Tears the last batch at every `step`th byte and fills the rest in some way; what was synced is always there.
fn tear_everywhere(step: usize, before: impl FnOnce(&Wal)) {
    let dir = scratch();
    let (mut synced, mut after, entries) = two_images(dir.path(), before);
    let path = newest(dir.path());
    after.restore(dir.path());
    let (start, end) = {
        let records = records(&path);
        let (last, bytes) = records[records.len() - 1];
        (records[records.len() - 4].0, last + bytes)
    };
    let old = synced.file(&path).clone();
    let new = after.file(&path).clone();
    let mut cuts = 0;
    for position in (start..=end).step_by(step) {
        for fill in ["old", "zeros", "garbage", "end"] {
            let mut torn = new[..position].to_vec();
            match fill {
                "old" => torn.extend_from_slice(old.get(position..).unwrap_or_default()),
                "zeros" => torn.resize(new.len(), 0),
                "garbage" => {
                    torn.extend((position..end).map(|at| 0x5a ^ u8::try_from(at % 256).unwrap()))
                }
                _ => {}
            }
            let mut image = synced.clone();
            *image.file(&path) = torn;
            image.restore(dir.path());
            let (wal, recovered) = open(dir.path());
            let found = all(&wal);
            let kept = entries.len() - 4..=entries.len();
            assert!(
                kept.contains(&found.len()),
                "torn at {position}, {fill}: {} entries",
                found.len()
            );
            assert_eq!(found, entries[..found.len()], "torn at {position}, {fill}");
            cuts += usize::from(recovered.report.cut.is_some());
            if position % 16 == 0 {
                // What was cut never comes back, and the log goes on.
                let next = wal.last_log_id().unwrap().index + 1;
                append(&wal, vec![entry(2, next, 3)]);
                close(wal);
                assert_eq!(open(dir.path()).1.last_log_id, Some(id(2, next)));
            }
        }
    }
    assert!(cuts > 0);
}

#[test]
fn a_tail_torn_at_any_byte_leaves_all_that_was_synced() {
    tear_everywhere(1, |wal| {
        append(wal, (98..100).map(|index| entry(1, index, 10)).collect())
    });
}

#[test]
fn a_tail_torn_in_a_recycled_segment_leaves_all_that_was_synced() {
    tear_everywhere(5, |wal| {
        append(wal, (0..90).map(|index| entry(1, index, 200)).collect());
        wal.purge(id(1, 89)).unwrap();
        append(wal, (90..92).map(|index| entry(1, index, 20)).collect());
        let began = settled(wal, |stats| stats.spares > 0);
        append(wal, (92..100).map(|index| entry(1, index, 600)).collect());
        assert!(
            wal.stats().spares < began.spares,
            "the newest segment is a recycled one"
        );
    });
}

#[test]
fn any_bit_changed_in_synced_records_is_damage() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..60).map(|index| entry(1, index, 150)).collect());
    wait(wal.save_vote(vote(3))).unwrap();
    append(&wal, (60..64).map(|index| entry(3, index, 150)).collect());
    close(wal);
    let segments = list(dir.path()).unwrap().segments;
    assert!(segments.len() >= 3, "{segments:?}");
    for sequence in segments {
        let path = segment_path(dir.path(), sequence);
        let good = fs::read(&path).unwrap();
        let (last, bytes) = *records(&path).last().unwrap();
        let file = fs::open_or_create(&path).unwrap();
        let synced = FIRST_RECORD as usize..last + bytes;
        for (position, byte) in good
            .iter()
            .copied()
            .enumerate()
            .filter(|(position, _)| synced.contains(position))
        {
            let bad = byte ^ (1 << (position % 8));
            fs::write_all_at(&file, &[bad], position as u64).unwrap();
            assert_damaged(
                try_open(dir.path()),
                &format!("segment {sequence} byte {position}"),
            );
            fs::write_all_at(&file, &[byte], position as u64).unwrap();
        }
        // The header is there twice.
        fs::write_all_at(&file, &[0; 100], 0).unwrap();
        assert_eq!(open(dir.path()).1.last_log_id, Some(id(3, 63)));
        fs::write_all_at(&file, &[0; 4096], 0).unwrap();
        assert_damaged(try_open(dir.path()), "both headers");
        fs::write_all_at(&file, &good[..4096], 0).unwrap();
    }
    assert_eq!(open(dir.path()).1.last_log_id, Some(id(3, 63)));
}

#[test]
fn synced_bytes_that_are_cut_off_or_zeroed_are_damage() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..8).map(|index| entry(1, index, 100)).collect());
    close(wal);
    let image = Image::of(dir.path());
    let path = newest(dir.path());
    for (offset, _) in records(&path) {
        let mut shorter = image.clone();
        shorter.file(&path).truncate(offset);
        shorter.restore(dir.path());
        assert_damaged(try_open(dir.path()), &format!("cut off at {offset}"));
        let mut zeroed = image.clone();
        zeroed.file(&path)[offset..].fill(0);
        zeroed.restore(dir.path());
        assert_damaged(try_open(dir.path()), &format!("zeros from {offset}"));
    }
}

#[test]
fn a_later_batch_vouches_for_the_one_before_even_if_the_marker_is_old() {
    let dir = scratch();
    let (mut synced, mut after, _) =
        two_images(dir.path(), |wal| append(wal, vec![entry(1, 99, 10)]));
    let path = newest(dir.path());
    after.restore(dir.path());
    let marker = dir.path().join(marker::FILE_NAME);
    *after.file(&marker) = synced.file(&marker).clone();
    let records = records(&path);
    // Entry 101, synced before the last batch was written.
    let (position, _) = records[records.len() - 5];
    after.file(&path)[position + 20] ^= 1;
    after.restore(dir.path());
    assert_damaged(
        try_open(dir.path()),
        "a record that the last batch vouches for",
    );
}

#[test]
fn whole_records_behind_a_torn_one_never_come_back() {
    let dir = scratch();
    let (mut synced, mut after, _) =
        two_images(dir.path(), |wal| append(wal, vec![entry(1, 99, 10)]));
    let path = newest(dir.path());
    let marker = dir.path().join(marker::FILE_NAME);
    after.restore(dir.path());
    let records = records(&path);
    let (position, _) = records[records.len() - 4];
    *after.file(&marker) = synced.file(&marker).clone();
    // The first record of the last batch did not reach the disk, the other three did.
    after.file(&path)[position..position + 16].fill(0);
    after.restore(dir.path());
    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.last_log_id, Some(id(1, 101)));
    assert!(recovered.report.cut.unwrap().bytes > 0);
    // Of the same length as the lost one, so that the old records would follow it.
    append(&wal, vec![entry(1, 102, 20)]);
    close(wal);
    assert_eq!(open(dir.path()).1.last_log_id, Some(id(1, 102)));
}

#[test]
fn a_missing_segment_is_damage_unless_all_its_entries_are_purged() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..100).map(|index| entry(1, index, 200)).collect());
    close(wal);
    let image = Image::of(dir.path());
    let segments = list(dir.path()).unwrap().segments;
    assert!(segments.len() >= 4);
    for sequence in &segments {
        fs::remove_file(segment_path(dir.path(), *sequence)).unwrap();
        assert_damaged(
            try_open(dir.path()),
            &format!("segment {sequence} is missing"),
        );
        image.restore(dir.path());
    }
    for sequence in &segments {
        fs::remove_file(segment_path(dir.path(), *sequence)).unwrap();
    }
    assert_damaged(try_open(dir.path()), "all segments are missing");

    // A crash may keep the removal of a newer purged segment and forget that of an older one.
    image.restore(dir.path());
    let (wal, _) = open(dir.path());
    let reader = wal.shared.lock().plan(0..60, 1 << 20).unwrap();
    wal.purge(id(1, 98)).unwrap();
    close(wal);
    drop(reader);
    assert_eq!(list(dir.path()).unwrap().segments, segments);
    fs::remove_file(segment_path(dir.path(), segments[1])).unwrap();
    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.first_log_id, Some(id(1, 99)));
    assert_eq!(all(&wal), [entry(1, 99, 200)]);
}

#[test]
fn a_missing_marker_is_damage() {
    let dir = scratch();
    close(open(dir.path()).0);
    fs::remove_file(dir.path().join(marker::FILE_NAME)).unwrap();
    assert_damaged(try_open(dir.path()), "no marker");
}

#[test]
fn a_segment_that_was_not_begun_is_dropped() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, vec![entry(1, 0, 10)]);
    close(wal);
    for content in [&b""[..], b"torn header", &[0; 8192]] {
        put(&segment_path(dir.path(), 2), content);
        let (wal, recovered) = open(dir.path());
        assert_eq!(recovered.last_log_id, Some(id(1, 0)));
        close(wal);
        assert_eq!(list(dir.path()).unwrap().segments, [1]);
    }
    // So is the first one of a log whose beginning was cut off.
    let dir = scratch();
    marker::MarkerFile::create(dir.path()).unwrap();
    put(&segment_path(dir.path(), 1), b"torn");
    let (wal, _) = open(dir.path());
    append(&wal, vec![entry(1, 0, 10)]);
}

#[test]
fn a_new_segment_whose_beginning_is_lost_is_damage_as_soon_as_it_was_synced() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..20).map(|index| entry(1, index, 600)).collect());
    wait(wal.save_vote(vote(1))).unwrap();
    let path = newest(dir.path());
    assert_ne!(path, segment_path(dir.path(), 1));
    let mut image = Image::of(dir.path());
    image.file(&path)[..FIRST_RECORD as usize].fill(0);
    close(wal);
    image.restore(dir.path());
    assert_damaged(try_open(dir.path()), "no header");
}

#[test]
fn purged_segments_are_used_again_and_few_are_kept() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    let mut next = 0;
    for round in 0..6 {
        append(
            &wal,
            (next..next + 100)
                .map(|index| entry(round, index, 500))
                .collect(),
        );
        next += 100;
        wal.purge(id(round, next - 2)).unwrap();
        wait(wal.save_vote(vote(round))).unwrap();
        let stats = settled(&wal, |stats| stats.segments <= 2 && stats.spares == 4);
        assert!(stats.bytes_on_disk <= 6 * 9000, "{stats:?}");
    }
    close(wal);
    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.vote, Some(vote(5)));
    assert_eq!(all(&wal), [entry(5, next - 1, 500)]);
}

#[test]
fn a_segment_is_not_reused_while_a_reader_has_it() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..40).map(|index| entry(1, index, 500)).collect());
    let plan = wal.shared.lock().plan(0..3, 10_000).unwrap();
    wal.purge(id(1, 39)).unwrap();
    append(&wal, (40..80).map(|index| entry(1, index, 500)).collect());
    let Plan::OnDisk(spans) = plan else {
        panic!("the entries are not cached any more")
    };
    assert_eq!(
        reader::read(&spans).unwrap(),
        (0..3).map(|index| entry(1, index, 500)).collect::<Vec<_>>()
    );
    drop(spans);
    wal.purge(id(1, 79)).unwrap();
    wait(wal.save_vote(vote(1))).unwrap();
    let first = segment_path(dir.path(), 1);
    close(wal);
    drop(open(dir.path()));
    assert!(!fs::exists(&first).unwrap());
}

#[test]
fn a_failed_sync_closes_the_gate_and_everybody_is_told() {
    let dir = scratch();
    let gate = WriteGate::new();
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let options = WalOptions {
        syncs_before_failure: Some(left.clone()),
        ..small()
    };
    let (wal, _) = Wal::open(dir.path(), options, gate.clone()).unwrap();
    append(&wal, vec![entry(1, 0, 10)]);
    left.store(0, std::sync::atomic::Ordering::Relaxed);
    let (done, synced) = mpsc::channel();
    wal.append(
        vec![entry(1, 1, 10)],
        Box::new(move |result| done.send(result).unwrap()),
    )
    .unwrap();
    let error = synced.recv().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("injected failure") && error.contains(".log"),
        "{error}"
    );
    assert!(gate.check().is_err());
    // A disk that works again does not open it.
    left.store(i64::MAX, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(
        wait(wal.save_vote(vote(1))),
        Err(StorageError::GateClosed { .. })
    ));
    assert!(
        wal.append(vec![entry(1, 2, 10)], Box::new(|_| panic!("called")))
            .is_err()
    );
    assert!(wal.purge(id(1, 0)).is_err() && wal.truncate_after(None).is_err());
    assert_eq!(
        wal.entries(0..1, 100).unwrap(),
        [entry(1, 0, 10)],
        "reads go on"
    );
    assert_eq!(wal.queued_bytes(), 0);
}

#[test]
fn a_vote_is_durable_only_after_the_entries_before_it() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tickets = Vec::new();
    for index in 0..50 {
        let order = order.clone();
        let on_durable = move |synced: io::Result<()>| {
            synced.unwrap();
            order.lock().unwrap().push(index);
        };
        wal.append(vec![entry(1, index, 300)], Box::new(on_durable))
            .unwrap();
        if index % 10 == 9 {
            tickets.push((index, wal.save_vote(vote(index))));
        }
    }
    for (index, ticket) in tickets {
        wait(ticket).unwrap();
        assert!(order.lock().unwrap().len() as u64 > index);
    }
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    assert_eq!(wal.queued_bytes(), 0);
    assert!(wal.stats().syncs > 0);
}

#[test]
fn a_saved_committed_mark_is_no_further_than_the_log() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, (0..4).map(|index| entry(1, index, 10)).collect());
    wal.save_committed(Some(id(1, 9))).unwrap();
    close(wal);
    let (wal, recovered) = open(dir.path());
    assert_eq!(
        (recovered.committed, wal.committed()),
        (Some(id(1, 3)), Some(id(1, 3)))
    );
}

#[test]
fn a_read_is_bounded_and_never_has_a_hole() {
    let dir = scratch();
    for cache_bytes_max in [0, 1 << 20] {
        let options = WalOptions {
            cache_bytes_max,
            segment_bytes: 8 << 10,
            ..small()
        };
        let log = dir.path().join(cache_bytes_max.to_string());
        let (wal, _) = Wal::open(&log, options, WriteGate::new()).unwrap();
        append(&wal, (5..40).map(|index| entry(1, index, 400)).collect());
        wal.purge(id(1, 9)).unwrap();
        assert_eq!(wal.entries(10..40, 0).unwrap(), [entry(1, 10, 400)]);
        assert_eq!(wal.entries(10..40, 1400).unwrap().len(), 3);
        assert_eq!(
            wal.entries(12..14, 1 << 20).unwrap(),
            [entry(1, 12, 400), entry(1, 13, 400)]
        );
        assert_eq!(wal.entries(40..40, 100).unwrap(), []);
        for range in [9..12, 39..41, 40..41, 0..1] {
            assert!(matches!(
                wal.entries(range, 100),
                Err(StorageError::NotHeld { .. })
            ));
        }
    }
}

#[test]
fn a_damaged_record_is_named_and_never_served() {
    let dir = scratch();
    let (wal, _) = Wal::open(
        dir.path(),
        WalOptions {
            cache_bytes_max: 0,
            ..small()
        },
        WriteGate::new(),
    )
    .unwrap();
    append(&wal, (0..3).map(|index| entry(1, index, 100)).collect());
    let path = newest(dir.path());
    let (offset, _) = records(&path)[2]; // the state, entry 0, entry 1
    let file = fs::open_or_create(&path).unwrap();
    fs::write_all_at(&file, b"x", offset as u64 + 50).unwrap();
    assert_eq!(wal.entries(0..1, 1000).unwrap().len(), 1);
    match wal.entries(0..3, 1000).unwrap_err() {
        StorageError::Damaged {
            path: named,
            offset: at,
            ..
        } => assert_eq!((named, at), (path, offset as u64)),
        error => panic!("{error}"),
    }
}

#[test]
fn what_cannot_be_appended_is_refused_without_effect() {
    let dir = scratch();
    let (wal, _) = open(dir.path());
    append(&wal, vec![entry(1, 7, 10)]);
    let refused = |entries| {
        wal.append(entries, Box::new(|_| panic!("called")))
            .unwrap_err()
    };
    assert!(matches!(
        refused(vec![entry(1, 9, 1)]),
        StorageError::NotConsecutive {
            expected: 8,
            index: 9
        }
    ));
    assert!(matches!(
        refused(vec![entry(1, 8, 1), entry(1, 8, 1)]),
        StorageError::NotConsecutive { .. }
    ));
    assert!(matches!(
        refused(vec![entry(1, 8, ENTRY_BYTES_MAX + 1)]),
        StorageError::EntryTooLarge { .. }
    ));
    assert_eq!(wal.last_log_id(), Some(id(1, 7)));
    append(&wal, vec![entry(1, 8, ENTRY_BYTES_MAX)]);
    close(wal.clone());
    assert!(matches!(
        wal.append(vec![entry(1, 9, 1)], Box::new(|_| {})),
        Err(StorageError::Closed)
    ));
    assert_eq!(open(dir.path()).1.last_log_id, Some(id(1, 8)));
}

#[test]
fn syncs_are_watched() {
    let dir = scratch();
    let seen = Arc::new(Mutex::new(0));
    let on_sync: OnSync = {
        let seen = seen.clone();
        Arc::new(move |_, bytes| *seen.lock().unwrap() += bytes as u64)
    };
    let (wal, _) = Wal::open(
        dir.path(),
        WalOptions {
            on_sync: Some(on_sync),
            ..small()
        },
        WriteGate::new(),
    )
    .unwrap();
    append(&wal, vec![entry(1, 0, 1000)]);
    assert!(*seen.lock().unwrap() > 1000);
    assert_eq!(wal.stats().synced_bytes, *seen.lock().unwrap());
}

#[test]
fn options_out_of_bounds_are_refused() {
    let dir = scratch();
    let options = WalOptions {
        segment_bytes: 1 << 30,
        ..WalOptions::default()
    };
    let error = Wal::open(dir.path(), options, WriteGate::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("segment_bytes is 1073741824"), "{error}");
    assert!(
        crashsafe::read(&dir.path().join("MARKER"))
            .unwrap()
            .is_none()
    );
}

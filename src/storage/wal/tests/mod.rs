use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc;

mod damage;
mod model;

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

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn entries(wal: &Wal, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, StorageError> {
    wait(wal.entries(range, bytes_max))
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
    let mut found = Vec::new();
    while next <= last.index {
        let some = entries(wal, next..last.index + 1, 1000).unwrap();
        assert!(!some.is_empty());
        next += some.len() as u64;
        found.extend(some);
    }
    found
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
fn a_log_on_a_real_disk_says_what_was_put_there_while_segments_are_used_again_and_after_it_is_opened_again()
 {
    // `scratch` is in memory, where nothing has to begin at a block.
    let dir = tempfile::tempdir().unwrap();
    let made = |index| entry(1, index, usize::try_from(index * 37 % 1500).unwrap());
    let mut next = 0;
    for _ in 0..4 {
        let (wal, recovered) = open(dir.path());
        assert_eq!(recovered.report.cut, None);
        for _ in 0..60 {
            append(&wal, vec![made(next)]);
            next += 1;
            if next % 16 == 0 {
                wal.purge(id(1, next - 8)).unwrap();
            }
        }
        let first = next / 16 * 16 - 7;
        let held: Vec<_> = (first..next).map(made).collect();
        assert_eq!(all(&wal), held);
        close(wal);
        let (wal, recovered) = open(dir.path());
        assert_eq!(recovered.report.cut, None);
        assert_eq!(all(&wal), held);
        close(wal);
    }
    assert!(list(dir.path()).unwrap().spares.len() <= 4);
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
        entries(&wal, 0..1, 100).unwrap(),
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
        assert_eq!(entries(&wal, 10..40, 0).unwrap(), [entry(1, 10, 400)]);
        assert_eq!(entries(&wal, 10..40, 1400).unwrap().len(), 3);
        assert_eq!(
            entries(&wal, 12..14, 1 << 20).unwrap(),
            [entry(1, 12, 400), entry(1, 13, 400)]
        );
        assert_eq!(entries(&wal, 40..40, 100).unwrap(), []);
        for range in [9..12, 39..41, 40..41, 0..1] {
            assert!(matches!(
                entries(&wal, range, 100),
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
    assert_eq!(entries(&wal, 0..1, 1000).unwrap().len(), 1);
    match entries(&wal, 0..3, 1000).unwrap_err() {
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

/// A majority of others goes on while this disk hangs, so nothing but this bounds what waits for it.
#[test]
fn while_the_disk_hangs_callers_wait_once_enough_is_queued() {
    let dir = scratch();
    let (hang, hanging) = mpsc::channel::<()>();
    let hanging = Mutex::new(hanging);
    let options = WalOptions {
        on_sync: Some(Arc::new(move |_, _| {
            hanging.lock().unwrap().recv().ok(); // until the test drops its end
        })),
        ..WalOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // The sync of the beginning hangs, too.
    hang.send(()).unwrap();
    let (wal, _) = Wal::open(dir.path(), options, WriteGate::new()).unwrap();
    runtime.block_on(wal.room());
    assert_eq!(wal.stalled_for(), Duration::ZERO);
    for index in 0..40 {
        let entries = vec![entry(1, index, 2 << 20)];
        wal.append(entries, Box::new(|done| done.unwrap())).unwrap();
        wal.save_committed(Some(id(1, index))).unwrap();
    }
    let waited = runtime
        .block_on(async { tokio::time::timeout(Duration::from_millis(50), wal.room()).await });
    assert!(waited.is_err(), "80 MiB are queued: there is no room");
    assert!(wal.stalled_for() >= Duration::from_millis(50));
    drop(hang);
    runtime.block_on(wal.room());
    close(wal.clone());
    assert_eq!(wal.stalled_for(), Duration::ZERO);
    drop(wal);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.committed, Some(id(1, 39)));
}

//! What every [`StateStore`] must keep. Commands go through [`State::apply`], as on a node, and each step is compared
//! with a model that holds every journal as a plain vector.

mod images;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::domain::{
    Append, AppendBatch, Change, CheckpointId, Command, CommitCheckpoint, Epoch, JournalKind,
    Member, NodeId, OpenJournal, OpenWorker, Outcome, RestorePoint, Takeover, Truncate, WorkerRef,
};
use crate::env::fs;

type Opened = Result<Box<dyn StateStore>, StorageError>;

/// Runs the whole suite. `open` opens or creates a store in a directory; it is called again to reopen it.
pub(super) fn run_all(open: impl Fn(&Path) -> Opened) {
    an_empty_store_has_nothing(&open);
    records_come_back_through_load(&open);
    a_batch_is_there_with_its_mark(&open);
    changes_of_one_batch_land_in_order(&open);
    a_cut_of_many_chunks_takes_them_all(&open);
    a_deleted_record_is_gone(&open);
    reads_match_the_model(&open);
    a_read_stops_at_its_bound(&open);
    a_read_past_the_end_or_over_a_hole_is_damage(&open);
    what_was_flushed_survives_a_crash(&open);
    images::a_snapshot_is_the_content_of_its_moment(&open);
    images::snapshots_beside_writes_are_whole_moments(&open);
    images::a_snapshot_does_not_overwrite(&open);
    images::an_installed_image_replaces_everything(&open);
    images::what_is_no_image_is_not_installed(&open);
    images::a_damaged_image_is_refused_and_the_old_state_stays(&open);
    images::an_image_that_lacks_bytes_of_a_journal_is_refused(&open);
    a_flipped_bit_is_never_served(&open);
}

/// A state and its journals' bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    state: State,
    journals: BTreeMap<JournalId, Vec<u8>>,
}

/// Applies commands to a store and to a model of it.
pub(super) struct Driver {
    pub(super) store: Arc<dyn StateStore>,
    model: Model,
    log_index: u64,
    pending: Vec<Change>,
    /// The model after each batch, by the log index that is its mark.
    pub(super) history: BTreeMap<u64, Model>,
}

impl Driver {
    pub(super) fn new(store: Box<dyn StateStore>) -> Self {
        Self {
            store: store.into(),
            model: Model::default(),
            log_index: 0,
            pending: Vec::new(),
            history: BTreeMap::from([(0, Model::default())]),
        }
    }

    /// Applies a command, which must not be refused; its changes wait for [`write`](Self::write).
    fn apply(&mut self, command: &Command) -> Outcome {
        self.log_index += 1;
        let mut changes = Vec::new();
        let outcome = self
            .model
            .state
            .apply(self.log_index, 7, command, &mut changes)
            .unwrap();
        for change in &changes {
            match change {
                Change::Chunk { journal, at, data } => {
                    let bytes = self.model.journals.entry(*journal).or_default();
                    assert_eq!(bytes.len() as u64, at.0);
                    bytes.extend_from_slice(data);
                }
                Change::Cut { journal, at } => {
                    let bytes = self.model.journals.entry(*journal).or_default();
                    bytes.truncate(usize::try_from(at.0).unwrap());
                }
                _ => {}
            }
        }
        self.pending.extend(changes);
        outcome
    }

    /// Writes what was applied since the last call as one batch.
    pub(super) fn write(&mut self) {
        let changes = std::mem::take(&mut self.pending);
        let batch = StateBatch::new(&self.model.state, changes, mark(self.log_index));
        self.store.write(batch).unwrap();
        self.history.insert(self.log_index, self.model.clone());
    }

    pub(super) fn open_journal(&mut self, name: &str) -> JournalId {
        self.apply(&Command::OpenWorker(OpenWorker {
            worker: worker(),
            epoch: None,
            at_unix_ms: 1,
        }));
        let epoch = self.model.state.worker(&worker()).unwrap().epoch;
        let outcome = self.apply(&Command::OpenJournal(OpenJournal {
            journal: worker().journal(name.parse().unwrap()),
            epoch,
            kind: JournalKind::Ops,
            expected: None,
            over: None,
            opener: 0,
        }));
        let Outcome::JournalOpened(opened) = outcome else {
            panic!("{outcome:?}");
        };
        opened.journal
    }

    pub(super) fn append(&mut self, journal: JournalId, data: &[u8]) {
        let record = self.model.state.journal_by_id(journal).unwrap();
        let append = Append {
            journal,
            token: record.token,
            at: record.tail,
            data: Bytes::copy_from_slice(data),
        };
        let outcome = self.apply(&Command::Append(AppendBatch {
            appends: vec![append],
            at_unix_ms: 1,
        }));
        assert!(matches!(outcome, Outcome::Appended(answers) if answers[0].is_ok()));
    }

    pub(super) fn delete(&mut self, journal: JournalId) {
        let state = &self.model.state;
        let record = state.journal_by_id(journal).unwrap();
        let name = state.journal_ref(record).unwrap();
        self.apply(&Command::DeleteJournal(name));
    }

    fn cut(&mut self, journal: JournalId, at: u64) {
        let state = &self.model.state;
        let record = state.journal_by_id(journal).unwrap();
        let truncate = Truncate {
            journal: state.journal_ref(record).unwrap(),
            epoch: state.worker(&worker()).unwrap().epoch,
            at: Offset(at),
        };
        self.apply(&Command::Truncate(truncate));
    }

    fn bytes(&self, journal: JournalId) -> &[u8] {
        &self.model.journals[&journal]
    }

    fn flush_and_reopen(&mut self, dir: &Path, open: &impl Fn(&Path) -> Opened) {
        self.store.flush().unwrap();
        // Two stores must not have one directory open at once.
        self.store = Arc::new(MemStore::open(&dir.join("aside")).unwrap());
        self.store = open(&dir.join("state")).unwrap().into();
    }

    pub(super) fn check(&self) {
        check_is(&*self.store, &self.model, Some(mark(self.log_index)));
    }
}

fn worker() -> WorkerRef {
    "job/w1".parse().unwrap()
}

fn mark(log_index: u64) -> Bytes {
    log_index.to_string().into()
}

/// The log index that a store's mark names; 0 when it has none.
pub(super) fn marked(store: &dyn StateStore) -> u64 {
    let applied = store.applied().unwrap();
    applied.map_or(0, |mark| {
        std::str::from_utf8(&mark).unwrap().parse().unwrap()
    })
}

fn range(from: usize, to: usize) -> OffsetRange {
    OffsetRange {
        from: Offset(from as u64),
        to: Offset(to as u64),
    }
}

/// Reads a range by as many calls as it takes; checks that chunks are neighbours and within the range.
fn read_all(
    store: &dyn StateStore,
    journal: JournalId,
    range: OffsetRange,
    bytes_max: usize,
) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    let mut rest = range;
    while rest.from < rest.to {
        let chunks = store.read(journal, rest, bytes_max)?;
        assert!(!chunks.is_empty(), "no progress at {rest}");
        for chunk in chunks {
            assert_eq!(chunk.at, rest.from);
            assert!(!chunk.data.is_empty());
            rest.from = chunk.at.advance(chunk.data.len()).unwrap();
            bytes.extend_from_slice(&chunk.data);
        }
        assert!(rest.from <= rest.to);
    }
    Ok(bytes)
}

fn check_is(store: &dyn StateStore, model: &Model, applied: Option<Bytes>) {
    assert_eq!(store.applied().unwrap(), applied);
    assert_eq!(store.load().unwrap(), model.state);
    for journal in model.state.journals() {
        let bytes = model.journals.get(&journal.id).cloned().unwrap_or_default();
        assert_eq!(bytes.len() as u64, journal.tail.0);
        let found = read_all(store, journal.id, range(0, bytes.len()), 1000).unwrap();
        assert!(found == bytes, "{} differs from the model", journal.id);
    }
}

/// The store is as it was after the batch that its mark names.
pub(super) fn check_is_a_moment_of(store: &dyn StateStore, history: &BTreeMap<u64, Model>) -> u64 {
    let at = marked(store);
    check_is(store, &history[&at], (at > 0).then(|| mark(at)));
    at
}

fn damaged(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::JournalDamaged { .. } | StorageError::StateDamaged { .. }
    )
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in fs::list_dir(from).unwrap() {
        let (from, to) = (from.join(&name), to.join(&name));
        if fs::metadata(&from).unwrap().is_dir() {
            copy_dir(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// The directory as a kill leaves it: what the process had only in memory is gone.
pub(super) fn crash(dir: &Path, to: &Path) {
    copy_dir(dir, to);
}

/// Flips a bit of `pattern` wherever a file under `dir` holds it; how often it did.
fn flip_a_bit_of(pattern: &[u8], dir: &Path) -> usize {
    let mut flipped = 0;
    for name in fs::list_dir(dir).unwrap() {
        let path = dir.join(name);
        if fs::metadata(&path).unwrap().is_dir() {
            flipped += flip_a_bit_of(pattern, &path);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(pattern.len()).position(|w| w == pattern);
        if let Some(at) = at {
            let file = fs::open_or_create(&path).unwrap();
            let byte = bytes[at + 2] ^ 0x10;
            fs::write_all_at(&file, &[byte], at as u64 + 2).unwrap();
            flipped += 1;
        }
    }
    flipped
}

fn fresh(open: &impl Fn(&Path) -> Opened) -> (tempfile::TempDir, Driver) {
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::new(open(&dir.path().join("state")).unwrap());
    (dir, driver)
}

fn an_empty_store_has_nothing(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    check_is(&*driver.store, &Model::default(), None);
    driver.flush_and_reopen(dir.path(), open);
    check_is(&*driver.store, &Model::default(), None);
}

fn records_come_back_through_load(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.open_journal("b");
    driver.append(journal, b"0123456789");
    for number in 1..4 {
        driver.apply(&Command::CommitCheckpoint(CommitCheckpoint {
            worker: worker(),
            epoch: Epoch(1),
            id: CheckpointId {
                rollback_epoch: 0,
                number,
            },
            offsets: BTreeMap::from([("a".parse().unwrap(), Offset(number))]),
            at_unix_ms: 5,
        }));
    }
    let member = |node| Member {
        node: NodeId(node),
        incarnation: 9,
        client_address: "a:1".to_owned(),
        peer_address: "a:2".to_owned(),
        http_address: "a:3".to_owned(),
    };
    let log_index = driver.log_index;
    let (state, pending) = (&mut driver.model.state, &mut driver.pending);
    state.follow_membership(log_index, &[member(1), member(2)], pending);
    driver.write();
    driver.check();
    driver.flush_and_reopen(dir.path(), open);
    driver.check();
    let found = driver.store.load().unwrap();
    assert_eq!(found.members().count(), 2);
    assert_eq!(found.worker(&worker()).unwrap().checkpoints.len(), 3);
}

fn a_deleted_record_is_gone(open: &impl Fn(&Path) -> Opened) {
    let (_dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, b"0123456789");
    for number in 1..4 {
        driver.apply(&Command::CommitCheckpoint(CommitCheckpoint {
            worker: worker(),
            epoch: Epoch(1),
            id: CheckpointId {
                rollback_epoch: 0,
                number,
            },
            offsets: BTreeMap::from([("a".parse().unwrap(), Offset(number * 2))]),
            at_unix_ms: 5,
        }));
        driver.write();
    }
    let point = CheckpointId {
        rollback_epoch: 0,
        number: 1,
    };
    driver.apply(&Command::Takeover(Takeover {
        worker: worker(),
        expected_epoch: None,
        point: RestorePoint::Checkpoint(point),
        by: "test".to_owned(),
        at_unix_ms: 6,
        endpoint: None,
    }));
    driver.write();
    driver.check();
    let found = driver.store.load().unwrap();
    let left: Vec<_> = found
        .worker(&worker())
        .unwrap()
        .checkpoints
        .keys()
        .collect();
    assert_eq!(left, [&point]);
    assert_eq!(driver.bytes(journal), b"01");
}

fn a_batch_is_there_with_its_mark(open: &impl Fn(&Path) -> Opened) {
    let (_dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    for size in [1, 2, 300, 70_000, 5] {
        driver.append(journal, &vec![7; size]);
        driver.write();
        driver.check();
    }
    assert!(driver.store.bytes() > 0 || driver.store.flush().is_ok());
}

fn changes_of_one_batch_land_in_order(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, b"stored and kept, stored and cut");
    driver.write();
    driver.append(journal, b"never seen");
    driver.cut(journal, 15);
    driver.append(journal, b"a first try");
    driver.cut(journal, 15);
    driver.append(journal, b"|new");
    driver.append(journal, b"er");
    driver.cut(journal, 18);
    driver.append(journal, b"xt");
    driver.write();
    assert_eq!(driver.bytes(journal), b"stored and kept|next");
    driver.check();
    driver.flush_and_reopen(dir.path(), open);
    driver.check();
    // To nothing and back, over a cut at the very start of a chunk.
    driver.cut(journal, 15);
    driver.cut(journal, 0);
    driver.append(journal, b"again");
    driver.write();
    driver.check();
    assert_eq!(driver.bytes(journal), b"again");
}

fn a_cut_of_many_chunks_takes_them_all(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    let next = driver.open_journal("b");
    driver.append(next, b"of the journal after it");
    for nth in 0..1500u64 {
        driver.append(journal, &nth.to_be_bytes());
        driver.write();
    }
    driver.cut(journal, 12);
    driver.append(journal, b"and on");
    driver.write();
    driver.check();
    // Older chunks behind the new tail would be found here.
    assert!(driver.store.read(journal, range(18, 24), 100).is_err());
    driver.append(journal, &[7; 8]);
    driver.flush_and_reopen(dir.path(), open);
    driver.write();
    driver.check();
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize, usize),
    Cut(usize, u64),
    Write,
    Reopen,
    Read(usize, u64, u64, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..2usize, 1..40usize).prop_map(|(journal, bytes)| Step::Append(journal, bytes)),
        4 => (0..2usize, any::<u64>()).prop_map(|(journal, at)| Step::Cut(journal, at)),
        8 => Just(Step::Write),
        1 => Just(Step::Reopen),
        16 => (0..2usize, any::<u64>(), any::<u64>(), 1..60usize)
            .prop_map(|(journal, from, to, max)| Step::Read(journal, from, to, max)),
    ];
    proptest::collection::vec(step, 1..80)
}

fn reads_match_the_model(open: &impl Fn(&Path) -> Opened) {
    let config = Config {
        cases: 32,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |steps: Vec<Step>| {
        let (dir, mut driver) = fresh(open);
        let journals = [driver.open_journal("a"), driver.open_journal("b")];
        driver.append(journals[0], b"a");
        driver.append(journals[1], b"b");
        driver.write();
        let mut next = 0u8;
        for step in steps {
            match step {
                Step::Append(journal, bytes) => {
                    let data: Vec<_> = (0..bytes)
                        .map(|_| {
                            next = next.wrapping_add(1);
                            next
                        })
                        .collect();
                    driver.append(journals[journal], &data);
                }
                Step::Cut(journal, at) => {
                    let len = driver.bytes(journals[journal]).len() as u64;
                    driver.cut(journals[journal], at % (len + 1));
                }
                Step::Write => driver.write(),
                Step::Reopen => {
                    driver.write();
                    driver.flush_and_reopen(dir.path(), open);
                }
                Step::Read(journal, a, b, bytes_max) => {
                    driver.write();
                    let journal = journals[journal];
                    let len = driver.bytes(journal).len();
                    let at = |seed: u64| usize::try_from(seed % (len as u64 + 1)).unwrap();
                    let (from, to) = (at(a).min(at(b)), at(a).max(at(b)));
                    let found = read_all(&*driver.store, journal, range(from, to), bytes_max);
                    prop_assert_eq!(found.unwrap(), &driver.bytes(journal)[from..to]);
                }
            }
        }
        driver.write();
        driver.check();
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}

fn a_read_stops_at_its_bound(open: &impl Fn(&Path) -> Opened) {
    let (_dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    for _ in 0..10 {
        driver.append(journal, &[1; 100]);
        driver.write();
    }
    let lengths = |from, to, bytes_max| {
        let chunks = driver.store.read(journal, range(from, to), bytes_max);
        let chunks = chunks.unwrap().into_iter();
        chunks.map(|chunk| chunk.data.len()).collect::<Vec<_>>()
    };
    assert_eq!(lengths(50, 1000, 0), [50]);
    assert_eq!(lengths(50, 1000, 50), [50]);
    assert_eq!(lengths(50, 1000, 51), [50, 100]);
    assert_eq!(lengths(0, 1000, 250), [100, 100, 100]);
    assert_eq!(lengths(110, 120, 250), [10]);
    assert!(lengths(500, 500, 250).is_empty());
}

fn a_read_past_the_end_or_over_a_hole_is_damage(open: &impl Fn(&Path) -> Opened) {
    let (_dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    let other = driver.open_journal("b");
    driver.append(journal, b"0123456789");
    driver.append(other, b"0123456789");
    driver.write();
    let hole_at = |journal, from, to| match driver.store.read(journal, range(from, to), 1000) {
        Err(StorageError::JournalDamaged {
            journal: named, at, ..
        }) => {
            assert_eq!(named, journal);
            at.0
        }
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(hole_at(journal, 3, 11), 10);
    assert_eq!(hole_at(journal, 10, 11), 10);
    assert_eq!(hole_at(journal, 500, 600), 500);
    assert_eq!(hole_at(JournalId(77), 0, 1), 0);
    // A hole inside, which no command makes.
    let lost = Change::Chunk {
        journal,
        at: Offset(20),
        data: Bytes::from_static(b"xyz"),
    };
    let batch = StateBatch::new(&driver.model.state, vec![lost], mark(1));
    driver.store.write(batch).unwrap();
    let hole_at = |from, to| match driver.store.read(journal, range(from, to), 1000) {
        Err(StorageError::JournalDamaged { at, .. }) => at.0,
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(hole_at(0, 23), 10);
    assert_eq!(hole_at(15, 23), 15);
    assert_eq!(
        read_all(&*driver.store, journal, range(20, 23), 9).unwrap(),
        b"xyz"
    );
}

fn what_was_flushed_survives_a_crash(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let state = dir.path().join("state");
    let journal = driver.open_journal("a");
    let mut flushed = 0;
    for round in 0..6u8 {
        for _ in 0..5 {
            driver.append(journal, &[round; 50]);
            driver.cut(journal, 20 + u64::from(round));
            driver.append(journal, &[round; 70]);
            driver.write();
        }
        if round % 2 == 0 {
            driver.store.flush().unwrap();
            flushed = marked(&*driver.store);
        }
        let crashed: PathBuf = dir.path().join(format!("crashed-{round}"));
        crash(&state, &crashed);
        let found = open(&crashed).unwrap();
        assert!(check_is_a_moment_of(&*found, &driver.history) >= flushed);
    }
    driver.check();
}

fn a_flipped_bit_is_never_served(open: &impl Fn(&Path) -> Opened) {
    let pattern = b"bytes that no other file holds";
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, &[1; 5000]);
    driver.append(journal, pattern);
    driver.write();
    driver.store.flush().unwrap();
    let crashed = dir.path().join("crashed");
    crash(&dir.path().join("state"), &crashed);
    assert_eq!(flip_a_bit_of(pattern, &crashed), 1);
    let everything = range(0, 5000 + pattern.len());
    match open(&crashed) {
        Err(error) => assert!(damaged(&error), "{error}"),
        Ok(store) => {
            let error = read_all(&*store, journal, everything, 1 << 20).unwrap_err();
            assert!(damaged(&error), "{error}");
            let error = error.to_string();
            assert!(error.contains(&journal.to_string()), "{error}");
        }
    }
    // A record: the worker's name is in it.
    let crashed = dir.path().join("crashed-record");
    crash(&dir.path().join("state"), &crashed);
    assert_eq!(flip_a_bit_of(b"\x12\x03job\x1a\x02w1", &crashed), 1);
    let opened = open(&crashed).and_then(|store| store.load());
    assert!(damaged(&opened.unwrap_err()));
}

use super::super::contract::{self, Driver};
use super::layout::POINTER_NAME;
use super::*;

fn open(dir: &Path) -> Result<Box<dyn StateStore>, StorageError> {
    let small = RocksOptions {
        memory_bytes: 1 << 20,
    };
    Ok(Box::new(RocksStore::open(dir, small)?))
}

#[test]
fn the_rocksdb_store_keeps_the_contract() {
    contract::run_all(open);
}

/// Memtables that fill up are written out in the background, at a moment of RocksDB's choosing.
#[test]
fn a_crash_after_flushes_that_nobody_asked_for_leaves_a_moment_of_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = RocksStore::open(
        &state,
        RocksOptions {
            memory_bytes: 1 << 20,
        },
    )
    .unwrap();
    let database = store.current();
    let mut driver = Driver::new(Box::new(store));
    let journals = [driver.open_journal("a"), driver.open_journal("b")];
    let mut moments = Vec::new();
    for round in 0..60u8 {
        driver.append(journals[usize::from(round % 2)], &vec![round; 30_000]);
        driver.write();
        if round % 10 == 9 {
            wait_until_quiet(&database);
            let crashed = dir.path().join(format!("crashed-{round}"));
            contract::crash(&state, &crashed);
            let found = open(&crashed).unwrap();
            moments.push(contract::check_is_a_moment_of(&*found, &driver.history));
        }
    }
    assert!(
        moments.last() > Some(&30),
        "nothing was written out: {moments:?}"
    );
    assert!(moments.is_sorted());
    assert!(
        moments.last() < driver.history.keys().last(),
        "nothing was lost"
    );
}

fn wait_until_quiet(database: &Database) {
    let count = |name| {
        let families = [database.chunks().unwrap(), database.records().unwrap()];
        let values = families.map(|family| {
            let value = database.db.property_int_value_cf(family, name);
            value.unwrap().unwrap()
        });
        values.iter().sum::<u64>()
    };
    while count(properties::MEM_TABLE_FLUSH_PENDING)
        + count(properties::NUM_RUNNING_FLUSHES)
        + count(properties::COMPACTION_PENDING)
        + count(properties::NUM_RUNNING_COMPACTIONS)
        > 0
    {
        std::thread::yield_now();
    }
}

#[test]
fn a_crash_in_an_install_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let (state, image) = (dir.path().join("state"), dir.path().join("image"));
    let mut driver = Driver::new(open(&state).unwrap());
    let journal = driver.open_journal("a");
    driver.append(journal, b"old");
    driver.write();
    driver.store.snapshot(&image).unwrap();
    // As far as an install gets before it moves the pointer.
    let crashed = dir.path().join("crashed");
    contract::crash(&state, &crashed);
    contract::crash(&image, &crashed.join("db-2"));
    let found = open(&crashed).unwrap();
    contract::check_is_a_moment_of(&*found, &driver.history);
    assert_eq!(fs::list_dir(&crashed).unwrap(), [POINTER_NAME, "db-1"]);
}

#[test]
fn readers_in_progress_end_on_the_old_state_which_then_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (state, image) = (dir.path().join("state"), dir.path().join("image"));
    let store = RocksStore::open(&state, RocksOptions::default()).unwrap();
    store.snapshot(&image).unwrap();
    let reader = store.current();
    store.install(&image).unwrap();
    assert_eq!(reader.applied().unwrap(), None);
    assert_eq!(
        fs::list_dir(&state).unwrap(),
        [POINTER_NAME, "db-1", "db-2"]
    );
    drop(reader);
    assert_eq!(fs::list_dir(&state).unwrap(), [POINTER_NAME, "db-2"]);
}

#[test]
fn a_lost_pointer_is_not_taken_for_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut driver = Driver::new(open(&state).unwrap());
    driver.open_journal("a");
    driver.write();
    driver.store.flush().unwrap();
    let crashed = dir.path().join("crashed");
    contract::crash(&state, &crashed);
    fs::remove_file(crashed.join(POINTER_NAME)).unwrap();
    let error = open(&crashed).unwrap_err().to_string();
    assert!(error.contains("it is gone, but"), "{error}");
    // And the other way round.
    let crashed = dir.path().join("crashed-database");
    contract::crash(&state, &crashed);
    fs::remove_dir_all(crashed.join("db-1")).unwrap();
    let error = open(&crashed).unwrap_err().to_string();
    assert!(error.contains("db-1, which is gone"), "{error}");
}

#[test]
fn a_lost_file_of_the_database_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut driver = Driver::new(open(&state).unwrap());
    driver.open_journal("a");
    driver.write();
    driver.store.flush().unwrap();
    for (nth, part) in ["CURRENT", "MANIFEST", ".sst"].into_iter().enumerate() {
        let crashed = dir.path().join(format!("crashed-{nth}"));
        contract::crash(&state, &crashed);
        let database = crashed.join("db-1");
        let names = fs::list_dir(&database).unwrap();
        let lost = names
            .iter()
            .find(|name| name.to_str().unwrap().contains(part));
        fs::remove_file(database.join(lost.unwrap())).unwrap();
        let error = open(&crashed).unwrap_err();
        assert!(
            matches!(error, StorageError::StateDamaged { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_creation_that_a_crash_ended_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir_all(&state.join("db-1")).unwrap();
    crashsafe::replace(&state.join("db-1/CURRENT"), b"torn").unwrap();
    assert_eq!(open(&state).unwrap().applied().unwrap(), None);
}

#[test]
fn reading_an_images_mark_changes_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let mut driver = Driver::new(open(&dir.path().join("state")).unwrap());
    driver.open_journal("a");
    driver.write();
    driver.store.snapshot(&image).unwrap();
    let before = fs::list_dir(&image).unwrap();
    assert!(driver.store.snapshot_applied(&image).unwrap().is_some());
    assert_eq!(fs::list_dir(&image).unwrap(), before);
}

/// Bytes of several journals are in one file: what one of them had goes only when the file is rewritten.
#[test]
fn what_a_removed_journal_had_is_given_back_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let small = RocksOptions {
        memory_bytes: 1 << 20,
    };
    let store = RocksStore::open(&dir.path().join("state"), small).unwrap();
    let database = store.current();
    let mut driver = Driver::new(Box::new(store));
    let [kept, removed] = [driver.open_journal("kept"), driver.open_journal("removed")];
    for round in 0..40u8 {
        driver.append(kept, &vec![round; 10_000]);
        driver.append(removed, &vec![round; 60_000]);
        driver.write();
    }
    driver.store.flush().unwrap();
    let full = driver.store.bytes();
    assert!(full > 2_800_000, "{full}");
    driver.delete(removed);
    driver.write();
    let mut left = full;
    for round in 0..200u8 {
        if left < 1_000_000 {
            break;
        }
        driver.append(kept, &vec![round; 1_000]);
        driver.write();
        driver.store.flush().unwrap();
        wait_until_quiet(&database);
        left = driver.store.bytes();
    }
    assert!(left < 1_000_000, "{left} of {full}");
    driver.check();
}

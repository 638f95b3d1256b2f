//! Images: built beside writes, verified, installed.

use super::*;

pub(super) fn a_snapshot_is_the_content_of_its_moment(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let image = dir.path().join("image");
    let journal = driver.open_journal("a");
    driver.append(journal, b"in the snapshot, and then cut");
    driver.write();
    let (model, applied) = (driver.model.clone(), mark(driver.log_index));
    driver.store.snapshot(&image).unwrap();
    assert_eq!(
        driver.store.snapshot_applied(&image).unwrap(),
        Some(applied.clone())
    );
    driver.cut(journal, 3);
    driver.append(journal, b"later");
    driver.write();
    driver.store.flush().unwrap();
    driver.check();
    let other = open(&dir.path().join("other")).unwrap();
    other.install(&image).unwrap();
    check_is(&*other, &model, Some(applied));
    driver.check();
}

pub(super) fn snapshots_beside_writes_are_whole_moments(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, b"first");
    driver.write();
    let store = Arc::clone(&driver.store);
    let done = AtomicBool::new(false);
    let image = |nth: usize| dir.path().join(format!("image-{nth}"));
    let taken = std::thread::scope(|scope| {
        let snapshots = scope.spawn(|| {
            let mut floors = Vec::new();
            while !done.load(Ordering::Acquire) && floors.len() < 20 {
                let at_least = marked(&*store);
                store.snapshot(&image(floors.len())).unwrap();
                store.flush().unwrap();
                floors.push(at_least);
            }
            floors
        });
        let mut round = 0u64;
        while !snapshots.is_finished() && round < 2000 {
            driver.append(journal, &round.to_be_bytes());
            if round.is_multiple_of(3) {
                driver.cut(journal, 5 + round % 11);
            }
            driver.write();
            round += 1;
        }
        done.store(true, Ordering::Release);
        snapshots.join().unwrap()
    });
    driver.check();
    assert!(!taken.is_empty());
    for (nth, at_least) in taken.iter().enumerate() {
        let other = open(&dir.path().join(format!("other-{nth}"))).unwrap();
        other.install(&image(nth)).unwrap();
        assert!(check_is_a_moment_of(&*other, &driver.history) >= *at_least);
    }
}

pub(super) fn a_snapshot_does_not_overwrite(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    driver.open_journal("a");
    driver.write();
    let image = dir.path().join("image");
    driver.store.snapshot(&image).unwrap();
    assert!(driver.store.snapshot(&image).is_err());
    assert_eq!(
        driver.store.snapshot_applied(&image).unwrap(),
        Some(mark(driver.log_index))
    );
}

pub(super) fn an_installed_image_replaces_everything(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, b"of the leader");
    driver.write();
    let image = dir.path().join("image");
    driver.store.snapshot(&image).unwrap();

    let follower_dir = dir.path().join("follower");
    fs::create_dir_all(&follower_dir).unwrap();
    let mut follower = Driver::new(open(&follower_dir.join("state")).unwrap());
    for name in ["x", "y", "z"] {
        let stale = follower.open_journal(name);
        follower.append(stale, b"of a follower that is to forget it");
    }
    follower.write();
    follower.store.flush().unwrap();
    follower.store.install(&image).unwrap();
    assert!(!fs::exists(&image).unwrap());

    let history = std::mem::take(&mut follower.history);
    follower.model = driver.model.clone();
    follower.log_index = driver.log_index;
    follower.check();
    // Durable without a flush, and writable as ever.
    let crashed = dir.path().join("crashed");
    crash(&follower_dir.join("state"), &crashed);
    let found = open(&crashed).unwrap();
    check_is_a_moment_of(&*found, &driver.history);
    assert_ne!(history.keys().max(), driver.history.keys().max());
    follower.append(journal, b", and on");
    follower.write();
    follower.check();
    follower.flush_and_reopen(&follower_dir, open);
    follower.check();
}

pub(super) fn what_is_no_image_is_not_installed(open: &impl Fn(&Path) -> Opened) {
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, b"stays");
    driver.write();
    let image = dir.path().join("image");
    fs::create_dir_all(&image).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), image.join("CURRENT")).unwrap();
    assert!(driver.store.snapshot_applied(&image).is_err());
    assert!(driver.store.verify(&image).is_err());
    assert!(driver.store.install(&image).is_err());
    let nowhere = dir.path().join("nowhere");
    assert!(driver.store.verify(&nowhere).is_err());
    assert!(driver.store.install(&nowhere).is_err());
    driver.check();
    driver.flush_and_reopen(dir.path(), open);
    driver.check();
}

/// As of a leader whose disk flips bits: the receiver must not give its good state for that.
pub(super) fn a_damaged_image_is_refused_and_the_old_state_stays(open: &impl Fn(&Path) -> Opened) {
    let chunk = b"bytes that no other file holds";
    let record = b"\x12\x03job\x1a\x02w1";
    let (dir, mut driver) = fresh(open);
    let journal = driver.open_journal("a");
    driver.append(journal, &[1; 5000]);
    driver.append(journal, chunk);
    driver.write();
    let image = dir.path().join("image");
    driver.store.snapshot(&image).unwrap();

    let follower_dir = dir.path().join("follower");
    fs::create_dir_all(&follower_dir).unwrap();
    let mut follower = Driver::new(open(&follower_dir.join("state")).unwrap());
    let kept = follower.open_journal("kept");
    follower.append(kept, b"what this node knows");
    follower.write();
    let good = follower.store.verify(&image).unwrap();
    assert_eq!(good, Some(mark(driver.log_index)));
    for (nth, pattern) in [&chunk[..], record].into_iter().enumerate() {
        let bad = dir.path().join(format!("bad-{nth}"));
        copy_dir(&image, &bad);
        assert_eq!(flip_a_bit_of(pattern, &bad), 1);
        let error = follower.store.verify(&bad).unwrap_err();
        assert!(damaged(&error), "{error}");
        if pattern == record {
            let error = follower.store.install(&bad).unwrap_err();
            assert!(damaged(&error), "{error}");
        }
        follower.append(kept, b", and goes on");
        follower.write();
        follower.check();
    }
    follower.flush_and_reopen(&follower_dir, open);
    follower.check();
    follower.store.install(&image).unwrap();
    check_is(
        &*follower.store,
        &driver.model,
        Some(mark(driver.log_index)),
    );
}

pub(super) fn an_image_that_lacks_bytes_of_a_journal_is_refused(open: &impl Fn(&Path) -> Opened) {
    let chunk = |journal, at, data| Change::Chunk {
        journal,
        at: Offset(at),
        data: Bytes::from_static(data),
    };
    let wrongs: [&dyn Fn(JournalId) -> Change; 4] = [
        &|journal| chunk(journal, 12, b"behind a hole"),
        &|journal| chunk(journal, 10, b"behind the tail"),
        &|journal| Change::Cut {
            journal,
            at: Offset(7),
        },
        &|_| chunk(JournalId(77), 0, b"of no journal"),
    ];
    for wrong in wrongs {
        let (dir, mut driver) = fresh(open);
        let journal = driver.open_journal("a");
        driver.append(journal, b"0123456789");
        driver.write();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        driver.store.snapshot(&good).unwrap();
        driver.store.verify(&good).unwrap();
        let batch = StateBatch::new(&driver.model.state, vec![wrong(journal)], mark(1));
        driver.store.write(batch).unwrap();
        driver.store.snapshot(&bad).unwrap();
        let error = driver.store.verify(&bad).unwrap_err();
        assert!(
            matches!(error, StorageError::JournalDamaged { .. }),
            "{error}"
        );
    }
}

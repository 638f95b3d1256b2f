//! Torn tails, which are cut silently, and damage to what was synced, which is never accepted.

use super::*;

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
    let reader = wal.shared.lock().plan(0..99, 1 << 20).unwrap();
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

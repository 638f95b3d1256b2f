//! Data directories that are not what they should be. One node has such a one; the other two go on.

use std::{
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use dos_cluster_tests::{Load, LoadOptions, TestCluster, TestNode, cluster::SETTLE_WITHIN, phase};

use crate::stop_and_verify;

/// The node with this data directory does not start, and says all of `words`.
async fn refuses(node: &TestNode, words: &[&str]) {
    let output = node.fails_to_start().await;
    let said = output
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_default()
        .to_owned();
    let _ = output.exits_with(1, words);
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The newest segment of a stopped node's log.
fn newest_segment(node: &TestNode) -> PathBuf {
    let entries = std::fs::read_dir(node.data_dir.join("log")).unwrap();
    let segments = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"));
    segments.max().unwrap()
}

/// Where the records of a segment end, and where the last one begins. A record is its CRC-32C, its length, eight bytes
/// that do not matter here, its payload, and padding to eight bytes; the checksum covers all behind it, and then the segment's sequence
/// and secret, which are in the segment's header.
fn end_of_records(segment: &Path) -> (u64, u64) {
    let bytes = std::fs::read(segment).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut last, mut at) = (4096, 4096);
    while at + 16 < bytes.len() {
        let next = at + (16 + number(at + 4) as usize).next_multiple_of(8);
        let Some(covered) = bytes.get(at + 4..next) else {
            break;
        };
        if crc32c::crc32c_append(crc32c::crc32c(covered), &bytes[16..32]) != number(at) {
            break;
        }
        (last, at) = (at, next);
    }
    (last as u64, at as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_in_use_newer_copied_or_without_its_log_is_refused() {
    let mut cluster = TestCluster::start(3).await;
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    load.advance(1 << 20).await;
    let victim = cluster.follower().await;
    let name = format!("n{}", victim + 1);
    let mode = std::fs::metadata(&cluster.nodes[victim].data_dir)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);

    phase("a data directory that another process has");
    let mut twin = TestNode::new(cluster.dir(), "twin", &[]);
    twin.data_dir.clone_from(&cluster.nodes[victim].data_dir);
    let pid = cluster.nodes[victim].pid().to_string();
    refuses(
        &twin,
        &[
            "is in use by process",
            &pid,
            twin.data_dir.to_str().unwrap(),
        ],
    )
    .await;

    phase("a copy of a running node's data directory");
    let copy = cluster.dir().join("copy");
    cluster.nodes[victim].pause(); // so that the copy is one moment's
    copy_dir(&cluster.nodes[victim].data_dir, &copy);
    cluster.nodes[victim].resume();
    twin.data_dir = copy.clone();
    refuses(
        &twin,
        &[
            &name,
            "is running at",
            &cluster.nodes[victim].addresses.peer,
            "is a copy",
        ],
    )
    .await;

    phase("a data directory of a newer format");
    cluster.nodes[victim].terminate().await;
    let identity = cluster.nodes[victim].data_dir.join("IDENTITY");
    let original = std::fs::read_to_string(&identity).unwrap();
    let body = original.replace("format_version = 1\n", "format_version = 2\n");
    let body = body.split_once("crc32c = ").unwrap().0;
    std::fs::write(
        &identity,
        format!("{body}crc32c = {:08x}\n", crc32c::crc32c(body.as_bytes())),
    )
    .unwrap();
    refuses(
        &cluster.nodes[victim],
        &[
            "IDENTITY",
            "format version 2",
            "reads up to 1",
            "newer dos-cluster",
        ],
    )
    .await;

    phase("an IDENTITY with a changed byte");
    std::fs::write(&identity, original.replace("node_id = ", "node_id = 1")).unwrap();
    refuses(
        &cluster.nodes[victim],
        &["IDENTITY", "checksum does not match"],
    )
    .await;

    phase("an IDENTITY that is gone, with the data still there");
    std::fs::remove_file(&identity).unwrap();
    refuses(&cluster.nodes[victim], &["no IDENTITY file"]).await;
    std::fs::write(&identity, &original).unwrap();

    phase("a log that is gone under its IDENTITY");
    let log = cluster.nodes[victim].data_dir.join("log");
    let aside = cluster.dir().join("log-aside");
    std::fs::rename(&log, &aside).unwrap();
    refuses(
        &cluster.nodes[victim],
        &["the Raft log of node", &name, "is gone", "member remove"],
    )
    .await;
    std::fs::create_dir(&log).unwrap();
    refuses(
        &cluster.nodes[victim],
        &["the Raft log of node", &name, "is gone", "member remove"],
    )
    .await;
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();

    phase("once all is as it was, the node goes on");
    cluster.nodes[victim].start();
    cluster.ready().await;
    stop_and_verify(&cluster, load).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_synced_log_was_damaged_refuses_to_vote_and_the_others_go_on() {
    let mut cluster = TestCluster::start(3).await;
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    load.advance(1 << 20).await;
    let victim = cluster.follower().await;

    phase("a byte in the middle of the log flips while the node is stopped");
    cluster.nodes[victim].terminate().await;
    let segment = newest_segment(&cluster.nodes[victim]);
    let (last, end) = end_of_records(&segment);
    assert!(last > 8192, "the log holds something: {last}..{end}");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&segment)
        .unwrap();
    let mut byte = [0];
    let at = 4096 + (last - 4096) / 2;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let words = [
        segment.to_str().unwrap(),
        "is damaged at byte",
        "must not vote",
        "member remove",
    ];
    refuses(&cluster.nodes[victim], &words).await;

    phase("the same for the very last record that was synced");
    file.write_all_at(&byte, at).unwrap();
    file.read_exact_at(&mut byte, end - 9).unwrap();
    file.write_all_at(&[byte[0] ^ 4], end - 9).unwrap();
    refuses(&cluster.nodes[victim], &words).await;

    phase("and for a log whose end was cut off");
    file.write_all_at(&byte, end - 9).unwrap();
    let whole = std::fs::read(&segment).unwrap();
    file.set_len(last).unwrap();
    refuses(&cluster.nodes[victim], &words).await;

    phase("the other two go on meanwhile");
    load.advance(1 << 20).await;

    phase("with the right bytes back, so does the node");
    file.write_all_at(&whole, 0).unwrap();
    cluster.nodes[victim].start();
    cluster.ready().await;
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

/// What a power cut leaves behind a log, given the log's last record.
type Tail = fn(&[u8]) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_the_node_goes_on() {
    let mut cluster = TestCluster::start(3).await;
    let load = Load::start(&cluster.client(), "job/w/log", LoadOptions::default()).await;
    // What begins no record looks like what a recycled segment held before: it is passed over, and no news.
    let tails: [(&str, Tail, bool); 4] = [
        (
            "the first half of a record",
            |record| record[..record.len() / 2].to_vec(),
            true,
        ),
        (
            "a record with a wrong byte",
            |record| {
                let mut record = record.to_vec();
                record[20] ^= 4;
                record
            },
            true,
        ),
        ("bytes of nothing", |_| vec![0xa5; 3000], false),
        ("zeros", |_| vec![0; 3000], false),
    ];
    for (what, tail, is_torn) in tails {
        phase(&format!("a power cut leaves {what} behind the log's end"));
        load.advance(1 << 20).await;
        let victim = cluster.follower().await;
        cluster.nodes[victim].kill9();
        let segment = newest_segment(&cluster.nodes[victim]);
        let (last, end) = end_of_records(&segment);
        let bytes = std::fs::read(&segment).unwrap();
        let (from, to) = (
            usize::try_from(last).unwrap(),
            usize::try_from(end).unwrap(),
        );
        let record = &bytes[from..to];
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&segment)
            .unwrap();
        // What the kill itself left there goes with the power, too.
        file.write_all_at(&vec![0; bytes.len() - to], end).unwrap();
        file.write_all_at(&tail(record), end).unwrap();

        phase("the node cuts it and follows again");
        let node = &mut cluster.nodes[victim];
        let before = node.log_end();
        node.start();
        cluster.ready().await;
        let node = &cluster.nodes[victim];
        node.logs_since(before, &["INFO", "opened the log"], SETTLE_WITHIN)
            .await;
        let cut = node.line_since(before, &["INFO", "a torn tail of the log was cut"]);
        assert_eq!(cut.is_some(), is_torn, "{what}: {cut:?}");
        if let Some(cut) = cut {
            assert!(cut.contains(&format!("offset={end}")), "{end}: {cut}");
        }
    }
    stop_and_verify(&cluster, load).await;
    cluster.converged().await;
    cluster.finish().await;
}

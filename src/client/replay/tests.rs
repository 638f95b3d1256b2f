use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::client::files::OPEN_FILES_MAX;

fn set_length(path: &str, length: u64) -> OpRecord {
    let path = Bytes::copy_from_slice(path.as_bytes());
    OpRecord {
        tag: 1,
        op: Op::SetLength { path, length },
    }
}

fn write(path: &str, offset: u64, data: &[u8]) -> OpRecord {
    let path = Bytes::copy_from_slice(path.as_bytes());
    let data = Bytes::copy_from_slice(data);
    OpRecord {
        tag: 1,
        op: Op::WriteV { offset, path, data },
    }
}

fn remove(path: &str) -> OpRecord {
    let path = Bytes::copy_from_slice(path.as_bytes());
    OpRecord {
        tag: 0,
        op: Op::Remove { path },
    }
}

/// A target directory with a neighbour that must never change.
struct Target {
    dir: TempDir,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("target")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        put(&dir.path().join("outside/secret"), b"untouched");
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.root().join(path)).unwrap()
    }

    fn replayer(&self) -> Replayer {
        Replayer::new(PathMap::new(self.root()))
    }

    /// Applies to the file system as it is, and expects a refusal that leaves the replay open.
    fn refusal(&self, record: &OpRecord) -> Refusal {
        let mut replayer = self.replayer();
        let error = replayer.apply(77, record).unwrap_err();
        assert_eq!(
            replayer.apply(99, &write("after", 0, b"x")).unwrap(),
            Applied::Written
        );
        replayer.finish().unwrap();
        match error {
            ReplayError::RefusedPath { path, offset, rule } => {
                assert_eq!((&path, offset), (record.op.path(), 77));
                rule
            }
            other => panic!("not a refusal: {other}"),
        }
    }

    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(
            std::fs::read(self.outside().join("secret")).unwrap(),
            b"untouched"
        );
    }
}

fn put(path: &Path, content: &[u8]) {
    let mut file = crate::env::fs::open_or_create(path).unwrap();
    io::Write::write_all(&mut file, content).unwrap();
}

#[test]
fn set_length_creates_cuts_and_extends_with_zeros() {
    let target = Target::new();
    let mut replayer = target.replayer();
    for (record, content) in [
        (set_length("f", 0), &b""[..]),
        (write("f", 0, b"abcdef"), b"abcdef"),
        (set_length("f", 3), b"abc"),
        (set_length("f", 5), b"abc\0\0"),
        (set_length("g", 2), b"\0\0"),
    ] {
        replayer.apply(0, &record).unwrap();
        let name = String::from_utf8(record.op.path().to_vec()).unwrap();
        assert_eq!(target.read(&name), content);
    }
    replayer.finish().unwrap();
}

#[test]
fn writev_creates_overwrites_in_place_and_fills_a_hole_with_zeros() {
    let target = Target::new();
    put(&target.root().join("old"), b"0123456789");
    let mut replayer = target.replayer();
    for record in [
        write("old", 3, b"xyz"),
        write("a/b/new", 4, b"tail"),
        write("a/b/new", 0, b"he"),
        write("empty", 100, b""),
    ] {
        assert_eq!(replayer.apply(0, &record).unwrap(), Applied::Written);
    }
    replayer.finish().unwrap();
    assert_eq!(target.read("old"), b"012xyz6789");
    assert_eq!(target.read("a/b/new"), b"he\0\0tail");
    assert_eq!(target.read("empty"), b"");
}

#[test]
fn a_remove_of_what_is_no_file_is_a_notice_and_a_directory_stays() {
    let target = Target::new();
    let mut replayer = target.replayer();
    replayer.apply(0, &write("d/f", 0, b"1")).unwrap();
    for (path, expected) in [
        ("d/f", Applied::Removed),
        ("d/f", Applied::NothingToRemove),
        ("d", Applied::NothingToRemove),
        ("missing/f", Applied::NothingToRemove),
    ] {
        assert_eq!(
            replayer.apply(0, &remove(path)).unwrap(),
            expected,
            "{path}"
        );
    }
    replayer.apply(0, &write("f", 0, b"1")).unwrap();
    assert_eq!(
        replayer.apply(0, &remove("f/g")).unwrap(),
        Applied::NothingToRemove
    );
    replayer.finish().unwrap();
    assert!(target.root().join("d").is_dir());
    assert!(
        !target.root().join("missing").exists(),
        "a remove makes no directories"
    );
}

#[test]
fn a_file_written_after_its_removal_is_a_new_one() {
    let target = Target::new();
    let mut replayer = target.replayer();
    replayer.apply(0, &write("f", 0, b"old content")).unwrap();
    replayer.apply(0, &remove("f")).unwrap();
    replayer.apply(0, &write("f", 0, b"new")).unwrap();
    replayer.finish().unwrap();
    assert_eq!(target.read("f"), b"new");
}

#[test]
fn many_more_files_than_may_be_open_come_out_right() {
    let target = Target::new();
    let mut replayer = target.replayer();
    let files = 3 * OPEN_FILES_MAX as u64;
    for round in 0..3u64 {
        for file in 0..files {
            let record = write(&format!("d{}/f{file}", file % 7), round * 2, &[1, 2]);
            replayer.apply(0, &record).unwrap();
        }
    }
    replayer.finish().unwrap();
    for file in 0..files {
        assert_eq!(
            target.read(&format!("d{}/f{file}", file % 7)),
            [1, 2, 1, 2, 1, 2]
        );
    }
}

#[test]
fn more_changed_directories_than_are_remembered_come_out_right() {
    let target = Target::new();
    let mut replayer = target.replayer();
    for directory in 0..1100 {
        let record = set_length(&format!("{directory}/f"), 0);
        replayer.apply(0, &record).unwrap();
    }
    replayer.finish().unwrap();
    assert_eq!(std::fs::read_dir(target.root()).unwrap().count(), 1100);
}

#[test]
fn symbolic_links_are_not_followed() {
    let target = Target::new();
    let root = target.root();
    symlink(target.outside(), root.join("dir")).unwrap();
    symlink(target.outside().join("secret"), root.join("file")).unwrap();
    symlink(target.outside().join("made"), root.join("dangling")).unwrap();

    for path in [
        "dir/secret",
        "dir/made",
        "dir/deep/made",
        "file",
        "dangling",
    ] {
        for record in [write(path, 0, b"!"), set_length(path, 0)] {
            let link = root.join(path.split('/').next().unwrap());
            assert_eq!(target.refusal(&record), Refusal::Symlink(link), "{path}");
        }
    }
    let through = target.refusal(&remove("dir/secret"));
    assert_eq!(through, Refusal::Symlink(root.join("dir")));
    target.assert_outside_untouched();
}

#[test]
fn a_remove_takes_a_link_away_and_not_what_it_leads_to() {
    let target = Target::new();
    let link = target.root().join("link");
    symlink(target.outside().join("secret"), &link).unwrap();
    let mut replayer = target.replayer();
    assert_eq!(
        replayer.apply(0, &remove("link")).unwrap(),
        Applied::Removed
    );
    replayer.finish().unwrap();
    assert!(!link.is_symlink());
    target.assert_outside_untouched();
}

#[test]
fn paths_that_lead_out_are_refused_and_replay_goes_on() {
    let target = Target::new();
    let absolute = target.outside().join("secret");
    let absolute = absolute.to_str().unwrap();
    assert_eq!(target.refusal(&write(absolute, 0, b"!")), Refusal::Unmapped);
    assert_eq!(target.refusal(&remove(absolute)), Refusal::Unmapped);
    let up = "../outside/secret";
    assert_eq!(
        target.refusal(&write(up, 0, b"!")),
        Refusal::ParentDirectory
    );
    target.assert_outside_untouched();
    assert_eq!(target.read("after"), b"x");
}

#[test]
fn absolute_paths_go_where_a_rule_leads() {
    let target = Target::new();
    let mut map = PathMap::new(target.root());
    map.rebase.push((b"/tmp".to_vec(), Vec::new()));
    let mut replayer = Replayer::new(map);
    replayer
        .apply(0, &write("/tmp/app-worker2.workers", 0, b"worker2\n"))
        .unwrap();
    replayer.finish().unwrap();
    assert_eq!(target.read("app-worker2.workers"), b"worker2\n");
}

#[test]
fn files_and_directories_in_each_others_place_are_refused() {
    let target = Target::new();
    std::fs::create_dir(target.root().join("d")).unwrap();
    put(&target.root().join("f"), b"");
    let d = Refusal::NotAFile(target.root().join("d"));
    assert_eq!(target.refusal(&write("d", 0, b"")), d);
    let f = Refusal::NotADirectory(target.root().join("f"));
    assert_eq!(target.refusal(&set_length("f/g", 0)), f);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_reader() {
    let target = Target::new();
    let pipe = target.root().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        target.refusal(&write("pipe", 0, b"!")),
        Refusal::NotAFile(pipe)
    );
}

#[test]
fn a_path_longer_than_the_system_takes_is_refused() {
    let target = Target::new();
    let path = format!("{}f", "d/".repeat(3000));
    assert_eq!(target.refusal(&remove("x/../f")), Refusal::ParentDirectory);
    assert_eq!(target.refusal(&write(&path, 0, b"")), Refusal::TooLong);
}

#[test]
fn a_write_beyond_the_end_of_any_file_is_refused_and_replay_goes_on() {
    let target = Target::new();
    let mut replayer = target.replayer();
    for record in [
        write("f", (1 << 63) - 1, b"x"),
        write("f", u64::MAX, b"x"),
        set_length("f", 1 << 63),
    ] {
        let error = replayer.apply(5, &record).unwrap_err();
        assert!(
            matches!(error, ReplayError::RefusedRange { offset: 5, .. }),
            "{error}"
        );
    }
    replayer.finish().unwrap();
    assert!(!target.root().join("f").exists());
}

#[test]
fn the_first_failure_of_the_system_closes_the_replay() {
    let target = Target::new();
    let mut replayer = Replayer::new(PathMap::new(target.root().join("missing")));
    let error = replayer.apply(38, &set_length("f", 0)).unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(error, ReplayError::Io { offset: 38, .. }),
        "{message}"
    );
    assert!(
        message.starts_with("op record at offset 38: cannot create `f`:"),
        "{message}"
    );
    std::fs::create_dir(target.root().join("missing")).unwrap();
    let again = replayer.apply(0, &set_length("f", 0)).unwrap_err();
    assert!(matches!(again, ReplayError::Closed { first } if first == message));
    assert!(matches!(replayer.finish(), Err(ReplayError::Closed { .. })));
}

#[test]
fn a_refusal_names_path_offset_and_rule() {
    let target = Target::new();
    let error = target.replayer().apply(38, &remove("/e\n/f")).unwrap_err();
    assert_eq!(
        error.to_string(),
        r"op record at offset 38: `/e\n/f` is refused: the path is absolute and no rule maps it"
    );
}

fn record() -> impl Strategy<Value = OpRecord> {
    let path = prop::sample::select(&["a", "b", "d/a", "d/e/a"][..]);
    prop_oneof![
        1 => (path.clone(), 0..60u64).prop_map(|(path, length)| set_length(path, length)),
        4 => (path.clone(), 0..40u64, vec(any::<u8>(), 0..20))
            .prop_map(|(path, offset, data)| write(path, offset, &data)),
        1 => path.prop_map(remove),
    ]
}

/// Applies a record to files that are only vectors.
fn apply_to_model(files: &mut BTreeMap<Bytes, Vec<u8>>, op: &Op) {
    match op {
        Op::SetLength { path, length } => {
            let length = usize::try_from(*length).unwrap();
            files.entry(path.clone()).or_default().resize(length, 0);
        }
        Op::WriteV { offset, path, data } => {
            let file = files.entry(path.clone()).or_default();
            let from = usize::try_from(*offset).unwrap();
            let end = from + data.len();
            if !data.is_empty() {
                file.resize(file.len().max(end), 0);
                file[from..end].copy_from_slice(data);
            }
        }
        Op::Remove { path } => {
            files.remove(path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn replay_agrees_with_a_naive_model(records in vec(record(), 0..40)) {
        let target = Target::new();
        let mut replayer = target.replayer();
        let mut model = BTreeMap::new();
        for record in &records {
            replayer.apply(0, record).unwrap();
            apply_to_model(&mut model, &record.op);
        }
        replayer.finish().unwrap();
        for path in ["a", "b", "d/a", "d/e/a"] {
            let found = std::fs::read(target.root().join(path)).ok();
            prop_assert_eq!(found.as_ref(), model.get(path.as_bytes()), "{}", path);
        }
    }
}

use bytes::Bytes;
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::{
    domain::State,
    raft::types::{LeaderId, LogId},
    storage::state::{MemStore, StateBatch},
};

fn receiver(dir: &Path) -> SnapshotReceiver {
    let (snapshots, _) = SnapshotDir::open(&dir.join("snapshots")).unwrap();
    SnapshotReceiver::new(
        snapshots,
        Arc::new(MemStore::open(&dir.join("state")).unwrap()),
    )
}

fn file(name: &str, content: &[u8]) -> pb::SnapshotFile {
    pb::SnapshotFile {
        name: name.to_owned(),
        bytes: content.len() as u64,
        crc32c: crc32c::crc32c(content),
    }
}

fn manifest(id: u64, files: Vec<pb::SnapshotFile>) -> pb::SnapshotManifest {
    pb::SnapshotManifest {
        id,
        files,
        ..Default::default()
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::write_all_at(&fs::open_or_create(path).unwrap(), content, 0).unwrap();
}

/// The one file of an image that ends at `index`, as a member would send it.
fn image(index: u64) -> (SnapshotMeta, String, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let store = MemStore::open(&dir.path().join("state")).unwrap();
    let applied = Applied {
        log_id: Some(LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }),
        ..Applied::default()
    };
    let batch = StateBatch::new(&State::default(), Vec::new(), applied.encode());
    store.write(batch).unwrap();
    let image = dir.path().join("image");
    store.snapshot(&image).unwrap();
    let name = fs::list_dir(&image).unwrap().remove(0);
    let content = fs::read(image.join(&name)).unwrap();
    (applied.meta(), name.into_string().unwrap(), content)
}

async fn send(
    receiver: &SnapshotReceiver,
    id: u64,
    meta: &SnapshotMeta,
    (name, content): (&str, &[u8]),
) -> Result<SnapshotHandle, Status> {
    let manifest = manifest(id, vec![file(name, content)]);
    receiver.wanted(manifest.clone()).await?;
    let chunk = pb::SnapshotChunk {
        manifest: None,
        file: name.to_owned(),
        at: 0,
        data: Bytes::copy_from_slice(content),
        crc32c: crc32c::crc32c(content),
    };
    let chunks = futures::stream::iter([Ok(chunk)]);
    receiver.receive(&manifest, meta, chunks).await
}

#[test]
fn a_manifest_with_a_name_that_leads_elsewhere_is_refused() {
    for name in ["../x", "/x", "a/b", "", ".", "..", "a/"] {
        let status = check(&manifest(1, vec![file(name, b"")])).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}");
    }
    check(&manifest(1, vec![file("000012.sst", b"")])).unwrap();
}

#[test]
fn a_manifest_of_too_many_files_is_refused() {
    let files = |count| manifest(1, vec![file("x", b""); count]);
    check(&files(FILES_MAX)).unwrap();
    let status = check(&files(FILES_MAX + 1)).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[test]
fn a_chunk_that_fits_no_offered_file_or_its_checksum_is_refused() {
    let chunk = |at| pb::SnapshotChunk {
        at,
        data: Bytes::from_static(b"abc"),
        crc32c: crc32c::crc32c(b"abc"),
        ..Default::default()
    };
    let code = |chunk, size| check_chunk(&chunk, size).map_err(|status| status.code());
    assert_eq!(code(chunk(4), Some(7)), Ok(()));
    assert_eq!(code(chunk(5), Some(7)), Err(Code::InvalidArgument));
    assert_eq!(code(chunk(u64::MAX), Some(7)), Err(Code::InvalidArgument));
    assert_eq!(code(chunk(4), None), Err(Code::InvalidArgument));
    let changed = pb::SnapshotChunk {
        data: Bytes::from_static(b"abd"),
        ..chunk(0)
    };
    assert_eq!(code(changed, Some(7)), Err(Code::DataLoss));
}

#[test]
fn a_file_with_a_wrong_checksum_goes_and_a_short_one_stays() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x");
    put(&path, b"half");
    let verify = || verify_files(dir.path(), &[file("x", b"half and half")]);
    assert_eq!(verify().unwrap_err().code(), Code::Unavailable);
    assert_eq!(fs::read(&path).unwrap(), b"half");
    put(&path, b"half and HALF");
    assert_eq!(verify().unwrap_err().code(), Code::DataLoss);
    assert!(!fs::exists(&path).unwrap());
    put(&path, b"half and half");
    verify().unwrap();
}

#[tokio::test]
async fn an_offer_resumes_each_file_behind_what_is_there() {
    let dir = TempDir::new().unwrap();
    let receiver = receiver(dir.path());
    let incoming = receiver.snapshots.incoming(5).unwrap();
    put(&incoming.join("part"), b"half");
    put(&incoming.join("whole"), b"whole");
    put(&incoming.join("long"), b"longer than offered");
    let files = vec![
        file("part", b"half and half"),
        file("whole", b"whole"),
        file("long", b"long"),
        file("none", b"x"),
        file("empty", b""),
    ];
    let wanted = receiver.wanted(manifest(5, files.clone())).await.unwrap();
    let wanted: Vec<_> = wanted
        .iter()
        .map(|file| (file.name.as_str(), file.from))
        .collect();
    assert_eq!(
        wanted,
        [("part", 4), ("long", 0), ("none", 0), ("empty", 0)]
    );
    // Another image begins anew.
    let wanted = receiver.wanted(manifest(6, files)).await.unwrap();
    assert!(wanted.iter().all(|file| file.from == 0));
    assert!(!fs::exists(&incoming).unwrap());
}

/// An offer used to remove every other received image, also one that Raft was about to install.
#[tokio::test]
async fn a_received_image_stays_until_nobody_uses_it() {
    let dir = TempDir::new().unwrap();
    let receiver = receiver(dir.path());
    let (meta, name, content) = image(9);
    let first = send(&receiver, 1, &meta, (&name, &content)).await.unwrap();
    // The same again, for its answer was lost, and one of another leader.
    let again = send(&receiver, 1, &meta, (&name, &content)).await.unwrap();
    receiver.wanted(manifest(2, Vec::new())).await.unwrap();
    for image in [first, again] {
        assert!(image.is_verified());
        let image_dir = image.dir().to_owned();
        assert_eq!(fs::read(image_dir.join(&name)).unwrap(), content);
        drop(image);
        assert!(!fs::exists(&image_dir).unwrap());
    }
    let left = fs::list_dir(&dir.path().join("snapshots")).unwrap();
    assert_eq!(left, ["incoming-0000000000000002"]);
    let snapshots = &dir.path().join("snapshots");
    fs::create_private_dir_all(&snapshots.join("received-00")).unwrap();
    SnapshotDir::open(snapshots).unwrap();
    assert!(fs::list_dir(snapshots).unwrap().is_empty());
}

/// Its checksums are right: the leader's own disk has changed it.
#[tokio::test]
async fn a_leaders_damaged_image_is_refused_and_not_taken_again() {
    let dir = TempDir::new().unwrap();
    let receiver = receiver(dir.path());
    let (meta, name, content) = image(9);
    let mut bad = content.clone();
    *bad.last_mut().unwrap() ^= 1;
    let status = send(&receiver, 1, &meta, (&name, &bad)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(
        fs::list_dir(&dir.path().join("snapshots"))
            .unwrap()
            .is_empty()
    );
    let again = receiver.wanted(manifest(1, Vec::new())).await;
    assert_eq!(again.unwrap_err().code(), Code::FailedPrecondition);
    // Whole, but not of the log id that is promised to Raft.
    let (other, ..) = image(8);
    let status = send(&receiver, 2, &other, (&name, &content)).await;
    assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    send(&receiver, 3, &meta, (&name, &content)).await.unwrap();
}

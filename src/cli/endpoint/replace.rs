//! Replacing a file that others own, read and may write, too: all at once, and only when its content changes.
//!
//! Unlike the store's own files these are somebody else's: several renderers may write one at a time, a link may lead to
//! it, and its owner and mode are its owner's choice. What is written beside it has a name that nobody else has, is never
//! opened through a link, and is gone when the replacement fails.

use std::{
    io::{self, ErrorKind, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::super::exit::{Failure, cannot};
use crate::env::fs;

/// As many links as Linux follows.
const LINKS_MAX: usize = 40;
/// More names than this that are taken already are no accident.
const NAMES_MAX: usize = 1000;

/// Replaces a file's content all at once, unless it is there already; whether it was not. An existing file keeps its mode
/// and its owner, and a link goes on leading to it. When this returns, the new content is durable.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<bool, Failure> {
    let failed = |error: io::Error| {
        let missing = error.kind() == ErrorKind::NotFound;
        let failure = cannot("write", path, &error);
        match path.parent() {
            Some(parent) if missing && !parent.as_os_str().is_empty() => {
                failure.try_next(format!("mkdir -p {}", parent.display()))
            }
            _ => failure,
        }
    };
    let refused = |why: &str| {
        let why = format!("cannot write {}: {why}", path.display());
        Err(Failure::error(why).try_next("name a file with --out"))
    };
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return refused("it names a directory");
    }
    let target = behind_links(path).map_err(failed)?;
    // By the path that was given: a link that the kernel does not let us follow is not followed here either.
    let there = match fs::metadata(path) {
        Ok(there) if there.is_dir() => return refused("it is a directory"),
        Ok(there) if !there.is_file() => return refused("it is not a regular file"),
        Ok(there) => Some(there),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if there.is_some() && fs::read(&target).is_ok_and(|found| found == content) {
        return Ok(false);
    }
    put(&target, content, there.as_ref()).map_err(failed)?;
    Ok(true)
}

/// Where a path leads in the end; nothing need be there.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let next = fs::read_link(&path)?;
                path = directory(&path).join(next);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn put(target: &Path, content: &[u8], there: Option<&fs::Metadata>) -> io::Result<()> {
    let directory = directory(target);
    // Until it has the owner and the mode of what it replaces, nobody else reads it.
    let mode = there.map_or(0o666, |_| 0o600);
    let mut beside = Beside::create(directory, mode)?;
    if let Some(there) = there {
        beside.take_after(there)?;
    }
    beside.file.write_all(content)?;
    // IMPORTANT: the content must be durable before the name is, or a crash leaves an empty file under it.
    beside.file.sync_all()?;
    beside.become_file(target)?;
    fs::sync_dir(directory)
}

/// A file on its way to its name; removed if it does not get there.
struct Beside {
    path: PathBuf,
    file: fs::File,
    renamed: bool,
}

impl Beside {
    /// A new file that nobody else has opened, and no link leads to.
    fn create(directory: &Path, mode: u32) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        for _ in 0..NAMES_MAX {
            // A process of the same number may write from another container; whoever comes second takes the next name.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!(".dos-cluster-{}-{number}.tmp", std::process::id());
            let path = directory.join(name);
            // `create_new` is O_EXCL, which follows no link.
            let mut options = fs::OpenOptions::new();
            match options.write(true).create_new(true).mode(mode).open(&path) {
                Ok(file) => {
                    return Ok(Self {
                        path,
                        file,
                        renamed: false,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Owner and mode of what it replaces. The owner first: a change of it takes away set-user-id bits.
    fn take_after(&self, there: &fs::Metadata) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
            let changed = fchown(&self.file, Some(there.uid()), Some(there.gid()));
            changed.map_err(|error| CannotKeepOwner::of(there, error))?;
        }
        let mode = std::fs::Permissions::from_mode(there.mode() & 0o7777);
        self.file.set_permissions(mode)
    }

    fn become_file(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.renamed {
            // Whatever stopped it is told; this is only tidying up.
            fs::remove_file(&self.path).ok();
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it belongs to user {uid}, group {gid}, and this process may not give them a file")]
struct CannotKeepOwner {
    uid: u32,
    gid: u32,
    source: io::Error,
}

impl CannotKeepOwner {
    fn of(there: &fs::Metadata, source: io::Error) -> io::Error {
        let kind = source.kind();
        let (uid, gid) = (there.uid(), there.gid());
        io::Error::new(kind, Self { uid, gid, source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::list_dir(directory).unwrap().into_iter();
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_only_when_its_content_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        assert!(replace(&path, b"a").unwrap());
        let before = fs::metadata(&path).unwrap().ino();
        assert!(!replace(&path, b"a").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        assert!(replace(&path, b"b").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"b");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_failure_names_the_file_and_what_to_do_and_speaks_of_no_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/out");
        let failure = replace(&path, b"a").unwrap_err();
        let wanted = format!("cannot write {}: No such file", path.display());
        assert!(failure.message.starts_with(&wanted), "{failure:?}");
        assert!(!failure.message.contains("node"), "{failure:?}");
        let step = format!("mkdir -p {}", dir.path().join("no").display());
        assert_eq!(failure.tries, [step]);
    }

    /// They took one name for all: one renamed what another was still writing.
    #[test]
    fn many_writers_at_once_all_succeed_and_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let content = |writer: u8| vec![writer; 100_000];
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(path, &content(writer)).unwrap();
                    }
                });
            }
        });
        let found = fs::read(&path).unwrap();
        assert_eq!(found, content(found[0]));
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn what_lies_beside_the_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        replace(&of("precious"), b"kept").unwrap();
        symlink("precious", of("hosts.tmp")).unwrap();
        assert!(replace(&of("hosts"), b"new").unwrap());
        assert_eq!(fs::read(of("precious")).unwrap(), b"kept");
        assert!(fs::symlink_metadata(of("hosts")).unwrap().is_file());
        assert!(fs::symlink_metadata(of("hosts.tmp")).unwrap().is_symlink());
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        replace(&path, b"a").unwrap();
        let secret = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&path, secret).unwrap();
        let own = fs::metadata(&path).unwrap();
        // Only root can give files away.
        let root = own.uid() == 0;
        let owner = if root {
            (12_345, 54_321)
        } else {
            (own.uid(), own.gid())
        };
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        assert!(replace(&path, b"b").unwrap());
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o640);
        assert_eq!((found.uid(), found.gid()), owner);
    }

    #[test]
    fn a_link_goes_on_leading_to_the_file_also_to_one_that_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("sub/target"));
        symlink("sub/target", &link).unwrap();
        for content in [b"a", b"b"] {
            assert!(replace(&link, content).unwrap());
            assert!(!replace(&link, content).unwrap());
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&target).unwrap(), content);
        }
        assert_eq!(names(dir.path()), ["link", "sub"]);
        symlink("round", dir.path().join("round")).unwrap();
        assert!(replace(&dir.path().join("round"), b"a").is_err());
    }

    #[test]
    fn what_is_no_file_is_refused_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["sub", "sub/", "new/"] {
            let failure = replace(&dir.path().join(name), b"a").unwrap_err();
            assert!(failure.message.contains("directory"), "{failure:?}");
        }
        let failure = replace(Path::new("/dev/null"), b"a").unwrap_err();
        assert!(failure.message.contains("not a regular"), "{failure:?}");
        assert_eq!(names(dir.path()), ["sub"]);
        assert_eq!(names(&dir.path().join("sub")), [""; 0]);
    }

    #[test]
    fn a_replacement_that_fails_leaves_nothing_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let beside = Beside::create(dir.path(), 0o600).unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        // What it should become is a directory.
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(beside.become_file(&dir.path().join("taken")).is_err());
        assert_eq!(names(dir.path()), ["taken"]);
    }
}

//! Files and directories, with one interface for a real disk and a simulated one.
//!
//! Order rules of the simulated disk, which hold on a real one too: a file that was created, renamed or removed is so
//! only after [`sync_dir`] of its directory; its bytes are there only after a sync of the file. Sync the directory
//! before a renamed file is opened under its new name: the simulated disk binds a handle to a name.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(not(sim))]
use std::fs as disk;
#[cfg(sim)]
use turmoil::fs::shim::std::fs as disk;

pub use disk::{
    File, Metadata, OpenOptions, create_dir, hard_link, metadata, read, remove_dir_all,
    remove_file, symlink_metadata,
};

/// The path without links; in a simulation there are none.
pub fn canonicalize(path: &Path) -> io::Result<std::path::PathBuf> {
    #[cfg(not(sim))]
    return disk::canonicalize(path);
    #[cfg(sim)]
    Ok(path.to_owned())
}

/// What a symbolic link leads to; in a simulation there are none.
pub fn read_link(path: &Path) -> io::Result<std::path::PathBuf> {
    #[cfg(not(sim))]
    return disk::read_link(path);
    #[cfg(sim)]
    {
        let _ = path;
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Leaves a directory to its owner only (mode 0700); a simulated one has no mode.
pub fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(sim)]
    let _ = path;
    #[cfg(not(sim))]
    {
        use std::os::unix::fs::PermissionsExt;
        disk::set_permissions(path, disk::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Gives a file or a directory to a user and a group, links not followed; a simulated disk knows of none.
pub fn give_to(path: &Path, user: u32, group: u32) -> io::Result<()> {
    #[cfg(sim)]
    let _ = (path, user, group);
    #[cfg(not(sim))]
    std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    Ok(())
}

/// Creates a directory and its missing parents; the directory itself is readable by its owner only (mode 0700).
/// An existing directory is left as it is. Durable after [`sync_dir`] of the parent.
pub fn create_private_dir_all(path: &Path) -> io::Result<()> {
    if exists(path)? {
        return Ok(());
    }
    #[cfg(sim)]
    if let Some(parent) = path.parent() {
        settle_removals(parent)?;
    }
    disk::create_dir_all(path)?;
    make_private(path)
}

/// Creates a directory and its missing parents with the usual mode.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    disk::create_dir_all(path)
}

/// Creates a directory and its missing parents with the usual mode. What was missing is durable when this returns.
pub fn create_dir_all_synced(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for directory in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if exists(directory)? {
            break;
        }
        missing.push(directory);
    }
    create_dir_all(path)?;
    for directory in missing.into_iter().rev() {
        let parent = directory.parent().unwrap_or(directory);
        // IMPORTANT: a new directory is lost with its name.
        sync_dir(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        })?;
    }
    Ok(())
}

/// Opens an existing file for reading.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// Opens a file for reading and writing; makes it, empty, if it is not there. Its content is kept.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Opens a file for writing past the page cache; makes it, empty, if it is not there. Where [`takes_direct_io`] says so, and then in
/// whole blocks of [`BLOCK_BYTES`] only, from memory that begins at a multiple of that.
#[cfg(feature = "server")]
pub fn open_or_create_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    #[cfg(not(sim))]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed());
    }
    options.open(path)
}

/// Whether files in this directory can be written past the page cache, which not every file system can do. Makes a file there, and
/// removes it. Only a refusal is a no: on a disk that is full or fails, what is opened next says so. A simulated disk has no page
/// cache to go past.
#[cfg(feature = "server")]
pub fn takes_direct_io(dir: &Path) -> bool {
    if cfg!(sim) {
        return false;
    }
    let probe = dir.join(".takes-direct-io");
    let opened = open_or_create_direct(&probe);
    // Some take the flag, and then no write.
    let room = vec![0; 2 * BLOCK_BYTES];
    let start = room.as_ptr().align_offset(BLOCK_BYTES);
    let block = room.get(start..start + BLOCK_BYTES).unwrap_or_default();
    let written = opened.and_then(|file| file.write_all_at(block, 0));
    let _ = remove_file(&probe); // at worst it is found again the next time
    !written.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
        )
    })
}

/// What is written past the page cache begins at multiples of this, in the file and in memory.
#[cfg(feature = "server")]
pub const BLOCK_BYTES: usize = 4096;

/// Whether anything has this name.
pub fn exists(path: &Path) -> io::Result<bool> {
    #[cfg(not(sim))]
    {
        disk::exists(path)
    }
    #[cfg(sim)]
    {
        Ok(disk::exists(path))
    }
}

/// Gives a file another name, replacing what had that name. Atomic; durable after [`sync_dir`]. To replace a file's
/// content use `storage::crashsafe`, which does all the steps.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(sim)]
    if metadata(from)?.is_dir() {
        return rename_simulated_dir(from, to);
    }
    #[cfg_attr(
        not(sim),
        expect(clippy::disallowed_methods, reason = "env is the door to files")
    )]
    disk::rename(from, to)
}

/// The simulated disk makes a new directory durable without the removal of the one that had its name before, which would
/// then remove the new one. So removals are made durable before a name is given again.
#[cfg(sim)]
fn settle_removals(parent: &Path) -> io::Result<()> {
    if disk::exists(parent) {
        disk::sync_dir(parent)?;
    }
    Ok(())
}

/// The simulated disk leaves a renamed directory's files behind: they are moved one by one. A crash in between leaves a
/// part of them under each name, but no directory entry of `to`, which is durable only after a sync of its parent.
#[cfg(sim)]
fn rename_simulated_dir(from: &Path, to: &Path) -> io::Result<()> {
    settle_removals(to.parent().unwrap_or(to))?;
    create_dir(to)?;
    for name in list_dir(from)? {
        disk::rename(from.join(&name), to.join(&name))?;
    }
    disk::sync_dir(to)?;
    disk::remove_dir(from)
}

/// The names in a directory, sorted, so that nothing depends on the order of a file system.
pub fn list_dir(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in disk::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(not(sim))]
    {
        open(path)?.sync_all()
    }
    #[cfg(sim)]
    {
        disk::sync_dir(path)
    }
}

/// Fills `buffer` from `offset`, without moving a cursor. An end of file before that is `UnexpectedEof`.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    FileExt::read_exact_at(file, buffer, offset)
}

/// Writes all of `bytes` at `offset`, without moving a cursor. Durable after `sync_data`.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    FileExt::write_all_at(file, bytes, offset)
}

/// Takes the exclusive lock on an open file without waiting; false if another process (or another handle) has it.
/// Held until the file is closed, also by a kill. In a simulation it is always free.
pub fn lock_exclusive(file: &File) -> io::Result<bool> {
    #[cfg(not(sim))]
    {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(disk::TryLockError::WouldBlock) => Ok(false),
            Err(disk::TryLockError::Error(error)) => Err(error),
        }
    }
    #[cfg(sim)]
    {
        let _ = file;
        Ok(true)
    }
}

/// Bytes that an ordinary user can still write to the file system that holds `path`. A simulated disk is without end.
#[cfg(feature = "server")]
pub fn available_bytes(path: &Path) -> io::Result<u64> {
    #[cfg(not(sim))]
    {
        let status = rustix::fs::statvfs(path)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }
    #[cfg(sim)]
    {
        let _ = path;
        Ok(u64::MAX)
    }
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_directory_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create_private_dir_all(&path).unwrap();
        assert_eq!(metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_lock_is_held_by_one_handle_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let first = open_or_create(&path).unwrap();
        let second = open_or_create(&path).unwrap();
        assert!(lock_exclusive(&first).unwrap());
        assert!(!lock_exclusive(&second).unwrap());
        drop(first);
        assert!(lock_exclusive(&second).unwrap());
    }

    #[test]
    fn missing_parents_are_made_with_a_directory_and_an_existing_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_dir_all_synced(&path).unwrap();
        open_or_create(&path.join("f")).unwrap();
        create_dir_all_synced(&path).unwrap();
        assert!(exists(&path.join("f")).unwrap());
        assert!(create_dir_all_synced(&path.join("f/g")).is_err());
    }

    #[test]
    fn names_come_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["c", "a", "b"] {
            open_or_create(&dir.path().join(name)).unwrap();
        }
        assert_eq!(list_dir(dir.path()).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn there_is_room_in_the_temporary_directory() {
        assert!(available_bytes(tempfile::tempdir().unwrap().path()).unwrap() > 0);
    }
}

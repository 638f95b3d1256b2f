//! Small files that a crash leaves either as they were or as they should be.

use std::path::{Path, PathBuf};

use super::StorageError;
use crate::env::fs;

/// Replaces the content of `path`, or creates it. When this returns, the new content is durable; a crash before that
/// leaves the old content, or the new. Not for two writers at once.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let temporary = temporary_name(path);
    let file = fs::open_or_create(&temporary).map_err(StorageError::io("create", &temporary))?;
    file.set_len(0)
        .map_err(StorageError::io("empty", &temporary))?;
    fs::write_all_at(&file, bytes, 0).map_err(StorageError::io("write", &temporary))?;
    // IMPORTANT: the content must be durable before the name is, or a crash leaves an empty file under it.
    file.sync_all()
        .map_err(StorageError::io("sync", &temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(StorageError::io("rename", &temporary))?;
    sync_parent(path)
}

/// The content of `path`; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    if !fs::exists(path).map_err(StorageError::io("look at", path))? {
        return Ok(None);
    }
    fs::read(path)
        .map(Some)
        .map_err(StorageError::io("read", path))
}

/// Makes the creation, renaming or removal of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path, // the root has no name to make durable
    };
    fs::sync_dir(parent).map_err(StorageError::io("sync directory", parent))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("IDENTITY");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"a longer first content").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"second");
        assert_eq!(fs::list_dir(dir.path()).unwrap(), ["IDENTITY"]);
    }

    #[test]
    fn what_an_earlier_crash_left_in_the_temporary_file_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(
            &dir.path().join("file.tmp"),
            b"torn content of a crash, longer than the new",
        )
        .unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_the_file() {
        let error = replace(Path::new("/nowhere/file"), b"x")
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/file.tmp"), "{error}");
    }
}

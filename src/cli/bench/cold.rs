//! What the page cache holds of the files below a directory, dropped: from then on they are read from the disk.

use std::{io, path::Path};

use rustix::fs::{Advice, fadvise};

use crate::env::fs;

/// Drops it. Pages that are not on the disk yet stay, so everything is synced before.
pub(super) fn drop_cached(dir: &Path) -> io::Result<()> {
    rustix::fs::sync();
    drop_below(dir)
}

fn drop_below(dir: &Path) -> io::Result<()> {
    for name in fs::list_dir(dir)? {
        let path = dir.join(name);
        let dropped = fs::symlink_metadata(&path).and_then(|found| {
            if found.is_dir() {
                drop_below(&path)
            } else if found.is_file() {
                Ok(fadvise(fs::open(&path)?, 0, None, Advice::DontNeed)?)
            } else {
                Ok(())
            }
        });
        match dropped {
            // A running server has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            dropped => dropped?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_directory_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below");
        fs::create_dir(&path).unwrap();
        let file = fs::open_or_create(&path.join("file")).unwrap();
        fs::write_all_at(&file, b"bytes", 0).unwrap();
        drop_cached(dir.path()).unwrap();
        assert_eq!(fs::read(path.join("file")).unwrap(), b"bytes");
    }
}

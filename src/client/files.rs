//! File access of a replay: files below one directory, and nothing outside it.
//!
//! A path is a list of components below the root. Each parent is looked at before it is entered, no symbolic link is
//! followed, and only regular files are opened. That keeps a journal's paths inside the root; it is no defence against
//! another process that swaps directories meanwhile.
//!
//! Open handles and remembered directories are bounded; what leaves a bound is synced first.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::env::fs::{self, File, OpenOptions};

/// Files held open at a time. A legacy worker has about ten.
pub(super) const OPEN_FILES_MAX: usize = 64;

/// Directories remembered for the final sync; beyond that all of them are synced at once.
const CHANGED_DIRECTORIES_MAX: usize = 1024;

/// A path below the root: names only, and at least one.
pub(super) type Components = Vec<Vec<u8>>;

/// What a path turned out to be when it was walked.
#[derive(Debug)]
pub(super) enum AccessError {
    /// A component is a symbolic link.
    Symlink(PathBuf),
    /// A component that has others behind it is not a directory.
    NotADirectory(PathBuf),
    /// The file is there and is not a regular file.
    NotAFile(PathBuf),
    /// The file system does not take such a name.
    Name,
    /// The operating system refused.
    Io(&'static str, io::Error),
}

/// An open file that was changed and is not synced.
#[derive(Debug)]
struct OpenFile {
    components: Components,
    file: File,
}

/// The files below `root` that were touched.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// The least recently used first.
    open: VecDeque<OpenFile>,
    /// Directories with a new or a removed name, not synced.
    changed: BTreeSet<PathBuf>,
}

impl Files {
    /// The root must be a directory when the first file is touched. How it is reached is the caller's affair.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            open: VecDeque::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Makes the file `length` bytes long, and makes it if it is not there.
    pub(super) fn set_length(
        &mut self,
        components: &Components,
        length: u64,
    ) -> Result<(), AccessError> {
        let file = self.file(components)?;
        file.set_len(length)
            .map_err(|error| AccessError::Io("set the length of", error))
    }

    /// Overwrites the file from `offset` on, and makes it if it is not there.
    pub(super) fn write(
        &mut self,
        components: &Components,
        offset: u64,
        data: &[u8],
    ) -> Result<(), AccessError> {
        let file = self.file(components)?;
        fs::write_all_at(file, data, offset).map_err(|error| AccessError::Io("write", error))
    }

    /// Unlinks the file and tells whether there was one: a directory is none, and stays. A symbolic link in its place is
    /// unlinked itself.
    pub(super) fn remove(&mut self, components: &Components) -> Result<bool, AccessError> {
        let path = match self.walk(components, Missing::Keep) {
            Ok(Some(path)) => path,
            Ok(None) | Err(AccessError::NotADirectory(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        if look(&path)?.is_none_or(|found| found.is_dir()) {
            return Ok(false);
        }
        self.open.retain(|open| open.components != *components);
        fs::remove_file(&path).map_err(|error| AccessError::Io("remove", error))?;
        self.mark_parent(&path)?;
        Ok(true)
    }

    /// Makes everything durable: files first, then the directories, the deepest first.
    ///
    /// # Errors
    /// The path that could not be synced. What it held must be taken for lost.
    pub(super) fn sync(&mut self) -> Result<(), (PathBuf, io::Error)> {
        while let Some(open) = self.open.pop_front() {
            self.sync_file(&open)?;
        }
        self.sync_directories()
    }

    /// The file, open for writing, now the most recently used.
    fn file(&mut self, components: &Components) -> Result<&File, AccessError> {
        let held = self
            .open
            .iter()
            .position(|open| open.components == *components);
        let open = match held.and_then(|index| self.open.remove(index)) {
            Some(open) => open,
            None => {
                if self.open.len() >= OPEN_FILES_MAX {
                    self.close_oldest()?;
                }
                OpenFile {
                    components: components.clone(),
                    file: self.open(components)?,
                }
            }
        };
        self.open.push_back(open);
        Ok(&self.open[self.open.len() - 1].file)
    }

    fn open(&mut self, components: &Components) -> Result<File, AccessError> {
        let Some(path) = self.walk(components, Missing::Create)? else {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(AccessError::Io("create the directory of", missing));
        };
        let opening = |error| AccessError::Io("open", error);
        match look(&path)? {
            Some(found) if found.is_symlink() => Err(AccessError::Symlink(path)),
            // Before it is opened: opening a pipe would wait for its reader.
            Some(found) if !found.is_file() => Err(AccessError::NotAFile(path)),
            Some(found) => {
                let file = OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(opening)?;
                let opened = file.metadata().map_err(opening)?;
                // As O_NOFOLLOW, which std does not name: what was opened is what was looked at.
                if (opened.dev(), opened.ino()) == (found.dev(), found.ino()) {
                    Ok(file)
                } else {
                    Err(AccessError::Symlink(path))
                }
            }
            None => {
                // `create_new` follows no link, not even a dangling one.
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).open(&path);
                let file = file.map_err(|error| AccessError::Io("create", error))?;
                self.mark_parent(&path)?;
                Ok(file)
            }
        }
    }

    /// The path of the file, once every parent is known to be a real directory; `None` if one is missing and is kept so.
    fn walk(
        &mut self,
        components: &Components,
        missing: Missing,
    ) -> Result<Option<PathBuf>, AccessError> {
        let mut path = self.root.clone();
        let Some((name, parents)) = components.split_last() else {
            return Err(AccessError::NotAFile(path));
        };
        for parent in parents {
            path.push(OsStr::from_bytes(parent));
            match look(&path)? {
                Some(found) if found.is_symlink() => return Err(AccessError::Symlink(path)),
                Some(found) if !found.is_dir() => return Err(AccessError::NotADirectory(path)),
                Some(_) => {}
                None if missing == Missing::Keep => return Ok(None),
                None => {
                    fs::create_dir(&path)
                        .map_err(|error| AccessError::Io("create the directory of", error))?;
                    self.mark_parent(&path)?;
                }
            }
        }
        path.push(OsStr::from_bytes(name));
        Ok(Some(path))
    }

    /// Remembers that the directory of `path` has a new or a removed name.
    fn mark_parent(&mut self, path: &Path) -> Result<(), AccessError> {
        let Some(directory) = path.parent() else {
            return Ok(());
        };
        if !self.changed.contains(directory) {
            if self.changed.len() >= CHANGED_DIRECTORIES_MAX {
                self.sync_directories()
                    .map_err(|(_, error)| AccessError::Io("sync the directories before", error))?;
            }
            self.changed.insert(directory.to_path_buf());
        }
        Ok(())
    }

    fn close_oldest(&mut self) -> Result<(), AccessError> {
        let Some(oldest) = self.open.pop_front() else {
            return Ok(());
        };
        self.sync_file(&oldest)
            .map_err(|(_, error)| AccessError::Io("sync another file before", error))
    }

    fn sync_file(&self, open: &OpenFile) -> Result<(), (PathBuf, io::Error)> {
        open.file.sync_all().map_err(|error| {
            let mut path = self.root.clone();
            path.extend(open.components.iter().map(|name| OsStr::from_bytes(name)));
            (path, error)
        })
    }

    fn sync_directories(&mut self) -> Result<(), (PathBuf, io::Error)> {
        // A directory sorts before what is in it.
        while let Some(directory) = self.changed.pop_last() {
            fs::sync_dir(&directory).map_err(|error| (directory, error))?;
        }
        Ok(())
    }
}

/// Makes every regular file and every directory below `root` durable, whoever wrote them, and `root` itself. Links are not
/// followed. What this user may not open is passed over: it cannot have been written here either.
///
/// # Errors
/// The path that could not be synced.
pub(super) fn sync_tree(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        let failed = |error| (directory.clone(), error);
        let Some(names) = if_there(fs::list_dir(&directory)).map_err(failed)? else {
            continue;
        };
        for name in names {
            let path = directory.join(name);
            match if_there(fs::symlink_metadata(&path)) {
                Ok(Some(found)) if found.is_dir() => left.push(path),
                Ok(Some(found)) if found.is_file() => {
                    let synced = if_there(open_to_sync(&path).and_then(|file| file.sync_all()));
                    synced.map_err(|error| (path, error))?;
                }
                Ok(_) => {}
                Err(error) => return Err((path, error)),
            }
        }
        if_there(fs::sync_dir(&directory)).map_err(failed)?;
    }
    Ok(())
}

fn open_to_sync(path: &Path) -> io::Result<File> {
    match fs::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenOptions::new().write(true).open(path)
        }
        opened => opened,
    }
}

/// What was removed meanwhile, or is not to be opened, is nothing.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        },
    }
}

/// What becomes of a parent directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Keep,
}

/// What has this name, links not followed; `None` if nothing has.
fn look(path: &Path) -> Result<Option<fs::Metadata>, AccessError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            io::ErrorKind::InvalidFilename => Err(AccessError::Name),
            _ => Err(AccessError::Io("look at", error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncing_a_tree_follows_no_link_and_opens_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(&dir.path().join("a/b")).unwrap();
        fs::open_or_create(&dir.path().join("a/b/f")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("a/dangling")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("a/circle")).unwrap();
        sync_tree(dir.path()).unwrap();
        drop(socket);
    }
}

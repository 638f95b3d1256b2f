//! A journal of a legacy worker: a local file first, and what its DOS client still has to send of it.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::env::fs;

/// Writes that wait for a client that is not in sync are kept up to this many bytes; beyond, the client reads the file.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A journal file that is written at its end only.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
    written: Notify,
}

#[derive(Debug)]
struct Inner {
    file: fs::File,
    length: u64,
    kept: VecDeque<Write>,
    kept_bytes: usize,
    overflowed: bool,
}

/// A local write, not yet sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// What there is to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(Write),
    /// More came than is kept: the file has it.
    Overflowed,
    Nothing,
}

impl Journal {
    /// Opens it; makes it, empty, if it is not there.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = fs::open_or_create(&path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path,
            inner: Mutex::new(Inner {
                file,
                length,
                kept: VecDeque::new(),
                kept_bytes: 0,
                overflowed: false,
            }),
            written: Notify::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its name at the DOS server: that of the file.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Appends to the file, and hands the same bytes to the client.
    pub(super) fn append(&self, bytes: Bytes) -> io::Result<()> {
        let mut inner = self.lock();
        fs::write_all_at(&inner.file, &bytes, inner.length)?;
        let offset = inner.length;
        inner.length += bytes.len() as u64;
        if inner.kept_bytes + bytes.len() > KEPT_BYTES_MAX {
            inner.forget();
            inner.overflowed = true;
        } else if !inner.overflowed {
            inner.kept_bytes += bytes.len();
            inner.kept.push_back(Write { offset, bytes });
        }
        drop(inner);
        self.written.notify_one();
        Ok(())
    }

    /// The file's size. What it holds needs not be kept any more.
    pub(super) fn local_size(&self) -> u64 {
        let mut inner = self.lock();
        inner.forget();
        inner.length
    }

    /// A piece of the file.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        fs::read_exact_at(&self.lock().file, &mut bytes, offset)?;
        Ok(bytes)
    }

    /// The oldest write that was kept.
    pub(super) fn next(&self) -> Next {
        let mut inner = self.lock();
        if inner.overflowed {
            return Next::Overflowed;
        }
        match inner.kept.pop_front() {
            Some(write) => {
                inner.kept_bytes -= write.bytes.len();
                Next::Write(write)
            }
            None => Next::Nothing,
        }
    }

    /// Waits for a write since the last call, or since the beginning.
    pub(super) async fn written(&self) {
        self.written.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
        self.overflowed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_kept_up_to_a_mebibyte_and_the_file_has_them_all() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path().join("a.journal")).unwrap();
        journal.append(Bytes::from_static(b"ab")).unwrap();
        journal.append(Bytes::from_static(b"c")).unwrap();
        let first = Write {
            offset: 0,
            bytes: Bytes::from_static(b"ab"),
        };
        assert_eq!(journal.next(), Next::Write(first));
        journal
            .append(Bytes::from(vec![7; KEPT_BYTES_MAX]))
            .unwrap();
        assert_eq!(journal.next(), Next::Overflowed);
        assert_eq!(journal.local_size(), 3 + KEPT_BYTES_MAX as u64);
        assert_eq!(journal.next(), Next::Nothing, "the size tells it all");
        assert_eq!(journal.read(1, 3).unwrap(), b"bc\x07");
    }
}

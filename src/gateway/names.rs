//! Legacy names, which are bytes, as names of the cluster: the directory is a worker, the file a journal.

use std::str;

use crate::domain::{JobName, JournalName, JournalRef, NameError, WorkerName, WorkerRef};

/// Why a directory or file is none of the cluster's. The texts hold no path of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameFault {
    /// The root holds workers, and no files.
    #[error("no worker is chosen: select its directory first")]
    Root,
    /// Bytes that are no text.
    #[error("{what} name is not UTF-8")]
    NotText {
        /// worker or journal.
        what: &'static str,
    },
    /// A rule of names is broken.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The worker of a directory; `None` is the root.
pub(super) fn worker(job: &JobName, dir: &[u8]) -> Result<Option<WorkerRef>, NameFault> {
    if dir.is_empty() {
        return Ok(None);
    }
    let name = str::from_utf8(dir).map_err(|_| NameFault::NotText { what: "worker" })?;
    Ok(Some(WorkerRef {
        job: job.clone(),
        worker: WorkerName::new(name)?,
    }))
}

/// The journal of a file in a directory.
pub(super) fn journal(job: &JobName, dir: &[u8], file: &[u8]) -> Result<JournalRef, NameFault> {
    let owner = worker(job, dir)?.ok_or(NameFault::Root)?;
    let name = str::from_utf8(file).map_err(|_| NameFault::NotText { what: "journal" })?;
    Ok(owner.journal(JournalName::new(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_a_worker_and_a_file_a_journal() {
        let job = JobName::new("wallaroo").unwrap();
        for name in ["Multi Partition-w2.journal", "errout.txt"] {
            let journal = journal(&job, b"w2", name.as_bytes()).unwrap();
            assert_eq!(journal.to_string(), format!("wallaroo/w2/{name}"));
        }
        assert_eq!(worker(&job, b""), Ok(None));
        assert_eq!(journal(&job, b"", b"f"), Err(NameFault::Root));
        for bad in [&b".."[..], b"a/b", b"\xff", b"a\0", b"a\nb", &[b'x'; 256]] {
            assert!(worker(&job, bad).is_err(), "{bad:?}");
            assert!(journal(&job, b"w", bad).is_err(), "{bad:?}");
        }
    }
}

//! How far a mirror is: written by the tasks of the files, read by whoever shows it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::fault::MirrorFault;
use crate::{
    client::{AppendPhase, AppendWatch, ClientError},
    domain::{JournalKind, JournalName, Offset},
};

/// Names refused that are kept.
const REFUSED_MAX: usize = 64;

/// What the mirror of one file does.
#[derive(Debug, Clone)]
pub enum FilePhase {
    /// Waits for its turn, or for the cluster.
    Waiting {
        /// Why the last attempt failed, if one did.
        reason: Option<String>,
    },
    /// Its stream is open, or being opened again.
    Streaming,
    /// Everything that was there is durable, and its stream closed.
    Durable,
    /// Stopped for good.
    Stopped(MirrorFault),
}

impl FilePhase {
    /// A word for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Streaming => "streaming",
            Self::Durable => "durable",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// How far the mirror of one file is.
#[derive(Debug, Clone)]
pub struct FileStatus {
    /// Its kind.
    pub kind: JournalKind,
    /// The file's length, as last seen.
    pub local: Offset,
    /// What of its journal a majority has fsynced; 0 until the cluster has been asked.
    pub durable: Offset,
    /// What it does.
    pub phase: FilePhase,
}

impl FileStatus {
    /// Bytes that are here and not durable in the cluster yet.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.local.since(self.durable)
    }
}

/// How far a mirror is.
#[derive(Debug, Clone, Default)]
pub struct MirrorSnapshot {
    /// The files, by the names of their journals.
    pub files: BTreeMap<JournalName, FileStatus>,
    /// Some of the files whose names no journal can have, escaped, and why.
    pub refused: BTreeMap<String, String>,
    /// Why the cluster does not answer, while it does not.
    pub outage: Option<String>,
    /// The worker was not there before.
    pub worker_is_new: bool,
    /// Why there is nothing to do yet, while there is not.
    pub idle: Option<String>,
}

impl MirrorSnapshot {
    /// Bytes that are here and not durable in the cluster yet, of files that have not stopped.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        let running = self.files.values().filter(|file| !is_stopped(file));
        running.map(FileStatus::lag_bytes).sum()
    }

    /// Bytes that a majority has fsynced.
    #[must_use]
    pub fn durable_bytes(&self) -> u64 {
        self.files.values().map(|file| file.durable.0).sum()
    }
}

fn is_stopped(file: &FileStatus) -> bool {
    matches!(file.phase, FilePhase::Stopped(_))
}

#[derive(Debug)]
struct Tracked {
    status: FileStatus,
    /// Of the open stream, which is further than the status.
    stream: Option<AppendWatch>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<JournalName, Tracked>,
    refused: BTreeMap<String, String>,
    outage: Option<String>,
    worker_is_new: bool,
    idle: Option<String>,
}

/// What is shared by a mirror's tasks and its readers.
#[derive(Debug)]
pub(super) struct Board {
    inner: Mutex<Inner>,
    /// Counts what is worth a word: another phase, another file; not progress.
    news: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            news: watch::channel(0).0,
        }
    }
}

impl Board {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The state now.
    pub(super) fn snapshot(&self) -> MirrorSnapshot {
        let inner = self.inner();
        let files = inner.files.iter().map(|(name, tracked)| {
            let mut status = tracked.status.clone();
            if let Some(stream) = &tracked.stream {
                status.durable = status.durable.max(stream.progress().durable);
                if let AppendPhase::Reconnecting { reason, .. } = stream.phase() {
                    let reason = Some(reason);
                    status.phase = FilePhase::Waiting { reason };
                }
            }
            (name.clone(), status)
        });
        MirrorSnapshot {
            files: files.collect(),
            refused: inner.refused.clone(),
            outage: inner.outage.clone(),
            worker_is_new: inner.worker_is_new,
            idle: inner.idle.clone(),
        }
    }

    /// A file was found, or has another length.
    pub(super) fn seen(&self, name: &JournalName, kind: JournalKind, local: Offset) {
        let mut inner = self.inner();
        if let Some(tracked) = inner.files.get_mut(name) {
            tracked.status.local = local;
            return;
        }
        let status = FileStatus {
            kind,
            local,
            durable: Offset::ZERO,
            phase: FilePhase::Waiting { reason: None },
        };
        let stream = None;
        inner.files.insert(name.clone(), Tracked { status, stream });
        drop(inner);
        self.tell();
    }

    /// The cluster has this much of a file's journal.
    pub(super) fn durable(&self, name: &JournalName, tail: Offset) {
        if let Some(tracked) = self.inner().files.get_mut(name) {
            tracked.status.durable = tracked.status.durable.max(tail);
        }
    }

    /// There is nothing to do yet, and why; or there is.
    pub(super) fn idle(&self, why: Option<String>) {
        let mut inner = self.inner();
        if inner.idle != why {
            inner.idle = why;
            drop(inner);
            self.tell();
        }
    }

    /// A file does something else now. What its stream has reached is kept.
    pub(super) fn phase(&self, name: &JournalName, phase: FilePhase, stream: Option<AppendWatch>) {
        if let Some(tracked) = self.inner().files.get_mut(name) {
            for stream in tracked.stream.iter().chain(&stream) {
                let durable = stream.progress().durable;
                tracked.status.durable = tracked.status.durable.max(durable);
            }
            tracked.status.phase = phase;
            tracked.stream = stream;
        }
        self.tell();
    }

    /// A name that matches and that no journal can have.
    pub(super) fn refused(&self, name: String, why: String) {
        let mut inner = self.inner();
        if inner.refused.len() < REFUSED_MAX && !inner.refused.contains_key(&name) {
            inner.refused.insert(name, why);
            drop(inner);
            self.tell();
        }
    }

    /// The worker could not be opened yet, and why; or it is.
    pub(super) fn worker(&self, opened: Result<bool, &ClientError>) {
        let mut inner = self.inner();
        match opened {
            Ok(is_new) => (inner.worker_is_new, inner.outage) = (is_new, None),
            Err(error) => inner.outage = Some(error.to_string()),
        }
        drop(inner);
        self.tell();
    }
}

//! Streams a local journal file to the cluster, however far behind the cluster is, with bounded memory.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use super::{
    AppendPhase, AppendProgress, AppendStream, AppendWatch, ClientError,
    local_journal::{BLOCK_BYTES, read_block},
};
use crate::{
    domain::Offset,
    env::{
        fs::File,
        task::{self, JoinHandle},
    },
};

/// How far a mirror is.
#[derive(Debug, Clone)]
pub struct MirrorStatus {
    /// The length of the local journal.
    pub local: Offset,
    /// How far the cluster is.
    pub progress: AppendProgress,
    /// What the stream is doing; `Failed` once the mirror has stopped for good.
    pub phase: AppendPhase,
}

impl MirrorStatus {
    /// Bytes that are here and not durable in the cluster yet.
    #[must_use]
    pub fn lag_bytes(&self) -> u64 {
        self.local.since(self.progress.durable)
    }
}

/// Streams a file that only grows. Stops for good when the stream does: fenced, or a tail that does not fit.
#[derive(Debug)]
pub struct JournalMirror {
    local: watch::Sender<Offset>,
    handle: MirrorHandle,
    task: Option<JoinHandle<Result<AppendProgress, ClientError>>>,
}

impl Drop for JournalMirror {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A view of a mirror, to be kept and waited on elsewhere.
#[derive(Debug, Clone)]
pub struct MirrorHandle {
    local: watch::Receiver<Offset>,
    stream: AppendWatch,
    failure: Arc<OnceLock<ClientError>>,
}

impl JournalMirror {
    /// Mirrors `file`, of which `local` bytes are there, over a stream whose tail is within them.
    pub(super) fn start(
        stream: AppendStream,
        path: PathBuf,
        file: Arc<File>,
        local: Offset,
    ) -> Self {
        let (sender, receiver) = watch::channel(local);
        let handle = MirrorHandle {
            local: receiver.clone(),
            stream: stream.watch(),
            failure: Arc::default(),
        };
        let failure = handle.failure.clone();
        let task = task::spawn(async move {
            let result = run(stream, path, file, receiver).await;
            if let Err(error) = &result {
                let _ = failure.set(error.clone()); // the first reason stands
            }
            result
        });
        Self {
            local: sender,
            handle,
            task: Some(task),
        }
    }

    /// Tells that the file is `length` bytes long now. Never waits.
    pub(super) fn grown(&self, length: Offset) {
        self.local.send_replace(length);
    }

    /// A view to be kept and waited on elsewhere.
    #[must_use]
    pub fn handle(&self) -> MirrorHandle {
        self.handle.clone()
    }

    /// Waits until everything local is durable, and ends the stream in order. Waits as long as an outage lasts.
    ///
    /// # Errors
    /// Whatever stopped the mirror for good.
    pub async fn close(mut self) -> Result<AppendProgress, ClientError> {
        let (sender, _) = watch::channel(Offset::ZERO);
        drop(std::mem::replace(&mut self.local, sender)); // no more will come: the task ends when it is through
        let Some(task) = &mut self.task else {
            return Err(self.handle.gone());
        };
        let result = task.await;
        self.task = None;
        result.unwrap_or_else(|_| Err(self.handle.gone()))
    }
}

impl MirrorHandle {
    /// How far the mirror is.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        MirrorStatus {
            local: *self.local.borrow(),
            progress: self.stream.progress(),
            phase: self
                .failure()
                .map_or_else(|| self.stream.phase(), AppendPhase::Failed),
        }
    }

    /// What stopped the mirror for good, if anything.
    #[must_use]
    pub fn failure(&self) -> Option<ClientError> {
        if let Some(failure) = self.failure.get() {
            return Some(failure.clone());
        }
        match self.stream.phase() {
            AppendPhase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Waits until everything before `offset` is durable in the cluster; as long as an outage lasts.
    ///
    /// # Errors
    /// Whatever stopped the mirror for good.
    pub async fn wait_durable(&self, offset: Offset) -> Result<AppendProgress, ClientError> {
        let waited = self.stream.clone().wait_durable(offset).await;
        waited.map_err(|error| self.failure().unwrap_or(error))
    }

    fn gone(&self) -> ClientError {
        self.failure().unwrap_or_else(|| ClientError::Closed {
            journal: self.stream.journal().clone(),
        })
    }
}

/// Appends the file's bytes from the stream's tail on, block by block, until no more will come.
async fn run(
    mut stream: AppendStream,
    path: PathBuf,
    file: Arc<File>,
    mut local: watch::Receiver<Offset>,
) -> Result<AppendProgress, ClientError> {
    loop {
        let end = *local.borrow_and_update();
        while stream.end() < end {
            let from = stream.end();
            let bytes =
                usize::try_from(end.since(from)).map_or(BLOCK_BYTES, |rest| rest.min(BLOCK_BYTES));
            let file = file.clone();
            let block = task::blocking(move || read_block(&file, from, bytes)).await;
            let block = block.map_err(|e| ClientError::local("read", &path, e))?;
            stream.append(block).await?;
        }
        // While it waits for more, the stream may fail: that is told by the stream itself, to writers and waiters.
        if local.changed().await.is_err() {
            break;
        }
    }
    stream.close().await
}

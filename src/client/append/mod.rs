//! One writer of one journal, which survives the loss of nodes.
//!
//! Bytes are kept until they are durable, within a bounded window. When the session is lost, the stream is opened again,
//! at the leader if it can be found, and everything behind the tail answered there is sent again. The tail is exact, so
//! nothing is lost or doubled; a tail that this writer cannot have made, or a token that someone else drew, ends the
//! stream for good.

mod driver;
mod session;
mod window;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Client, ClientError, retry::Backoff};
use crate::{
    domain::{Epoch, JournalKind, JournalRef, Offset, Writer, limits::APPEND_BYTES_MAX},
    env::{
        rng,
        task::{self, AbortHandle},
    },
};
use driver::Driver;

/// How an [`AppendStream`] behaves.
#[derive(Debug, Clone)]
pub struct AppendOptions {
    /// Most bytes that are kept until they are durable; [`AppendStream::append`] waits beyond that. At least 64 KiB and
    /// at most 1 GiB are used.
    pub window_bytes: usize,
    /// How long the stream may go without progress before it fails; `None`: for ever. The first open always ends after the
    /// client's timeout.
    pub give_up_after: Option<Duration>,
    /// Open only over this writer, the newest that was seen, or 0 of a journal that is not there: refused with
    /// `OpenedMeanwhile` if another was opened since. Counts for the first open only.
    pub over: Option<Writer>,
}

impl AppendOptions {
    /// A window of 8 MiB; gives up after the client's timeout.
    #[must_use]
    pub fn of(client: &Client) -> Self {
        Self {
            window_bytes: 8 << 20,
            give_up_after: Some(client.options().timeout),
            over: None,
        }
    }

    fn window(&self) -> usize {
        self.window_bytes.clamp(64 << 10, 1 << 30)
    }
}

/// How far an append stream is. Offsets are those of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendProgress {
    /// The leader has received everything before this. A hint: only `durable` is a promise. While the stream is open at a
    /// node it only grows; when that is lost it falls back to `durable`, for what only a lost leader had is lost with it,
    /// and is sent again. Between `durable` and the end of what was sent always.
    pub written: Offset,
    /// A majority has fsynced everything before this.
    pub durable: Offset,
    /// A member that has applied this log index serves everything up to `durable`.
    pub log_index: u64,
}

/// What an append stream is doing.
#[derive(Debug, Clone)]
pub enum AppendPhase {
    /// Not open yet.
    Opening,
    /// Open at a node.
    Streaming {
        /// The node's client address.
        address: String,
    },
    /// Lost, and being opened again.
    Reconnecting {
        /// Attempts since it was lost.
        attempts: u64,
        /// Why the last one failed.
        reason: String,
    },
    /// Closed in order: everything is durable.
    Closed,
    /// Ended for good.
    Failed(ClientError),
}

/// What the task publishes.
#[derive(Debug, Clone)]
struct State {
    progress: AppendProgress,
    phase: AppendPhase,
    /// The tail of the first session that went on.
    opened: Option<Offset>,
}

/// One writer of one journal. Dropping it without [`AppendStream::close`] leaves open how much of the window arrives.
#[derive(Debug)]
pub struct AppendStream {
    journal: JournalRef,
    queue: Option<mpsc::UnboundedSender<Bytes>>,
    permits: Arc<Semaphore>,
    watch: AppendWatch,
    piece_bytes: usize,
    opened_at: Offset,
    end: Offset,
    task: AbortHandle,
}

impl Drop for AppendStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AppendStream {
    /// Opens a journal for writing, and makes it if it is not there. Every earlier writer of it is fenced. `epoch` is the
    /// worker's, from [`Client::open_worker`] or a takeover; with `expected` it is refused unless that is the tail.
    ///
    /// # Errors
    /// `Rejected`: fenced, unknown worker, wrong kind, or another tail; or as any call, within the client's timeout.
    pub async fn open(
        client: &Client,
        journal: &JournalRef,
        kind: JournalKind,
        epoch: Epoch,
        expected: Option<Offset>,
        options: AppendOptions,
    ) -> Result<Self, ClientError> {
        let (queue, queued) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(options.window()));
        let state = Arc::new(
            watch::channel(State {
                progress: AppendProgress::default(),
                phase: AppendPhase::Opening,
                opened: None,
            })
            .0,
        );
        let mut watch = AppendWatch {
            journal: journal.clone(),
            receiver: state.subscribe(),
        };
        let piece_bytes = (options.window() / 2).min(APPEND_BYTES_MAX);
        let driver = Driver {
            client: client.clone(),
            journal: journal.clone(),
            kind,
            epoch,
            expected,
            options,
            opener: rng::u64().max(1),
            queue: queued,
            permits: permits.clone(),
            state,
            unanswered: false,
            backoff: Backoff::of_streams(),
        };
        let task = task::spawn(driver.run()).abort_handle();
        let mut stream = Self {
            journal: journal.clone(),
            queue: Some(queue),
            permits,
            watch: watch.clone(),
            piece_bytes,
            opened_at: Offset::ZERO,
            end: Offset::ZERO,
            task,
        };
        stream.opened_at = watch.opened().await?;
        stream.end = stream.opened_at;
        Ok(stream)
    }

    /// The tail at which it was opened: where the first append went.
    #[must_use]
    pub fn opened_at(&self) -> Offset {
        self.opened_at
    }

    /// One past the last byte appended.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Queues bytes behind all before, and answers the offset behind them. Waits while the window is full. What was queued
    /// is durable only once [`AppendStream::durable`] has reached that offset. If it is cancelled, part may be queued:
    /// [`AppendStream::end`] tells.
    ///
    /// # Errors
    /// Whatever ended the stream for good.
    pub async fn append(&mut self, mut data: Bytes) -> Result<Offset, ClientError> {
        while !data.is_empty() {
            let bytes = data.len().min(self.piece_bytes);
            let cost = u32::try_from(window::cost(bytes)).unwrap_or(u32::MAX);
            let Ok(permit) = self.permits.acquire_many(cost).await else {
                return Err(self.watch.failure());
            };
            permit.forget(); // given back by the driver, when the piece is durable
            let sent = self
                .queue
                .as_ref()
                .map(|queue| queue.send(data.split_to(bytes)));
            if !matches!(sent, Some(Ok(()))) {
                return Err(self.watch.failure());
            }
            self.end = Offset(self.end.0.saturating_add(bytes as u64));
        }
        Ok(self.end)
    }

    /// Everything before this is fsynced by a majority.
    #[must_use]
    pub fn durable(&self) -> Offset {
        self.watch.progress().durable
    }

    /// A view of the stream's progress, to be kept and waited on elsewhere.
    #[must_use]
    pub fn watch(&self) -> AppendWatch {
        self.watch.clone()
    }

    /// Waits until everything before `offset` is durable.
    ///
    /// # Errors
    /// Whatever ended the stream for good.
    pub async fn wait_durable(&self, offset: Offset) -> Result<AppendProgress, ClientError> {
        self.watch.clone().wait_durable(offset).await
    }

    /// Waits until everything appended is durable, and ends the stream in order.
    ///
    /// # Errors
    /// Whatever ended the stream for good before that; the error says whether bytes are on their way.
    pub async fn close(mut self) -> Result<AppendProgress, ClientError> {
        self.queue = None;
        let mut watch = self.watch.clone();
        loop {
            match watch.phase() {
                AppendPhase::Closed => return Ok(watch.progress()),
                AppendPhase::Failed(error) => return Err(error),
                _ => {}
            }
            if !watch.changed().await {
                return Err(self.watch.failure());
            }
        }
    }

    /// The journal it writes.
    #[must_use]
    pub fn journal(&self) -> &JournalRef {
        &self.journal
    }
}

/// A view of an append stream: how far it is, and what it is doing. Cheap to clone; outlives the stream.
#[derive(Debug, Clone)]
pub struct AppendWatch {
    journal: JournalRef,
    receiver: watch::Receiver<State>,
}

impl AppendWatch {
    /// The journal that the stream writes.
    #[must_use]
    pub fn journal(&self) -> &JournalRef {
        &self.journal
    }

    /// How far the stream is.
    #[must_use]
    pub fn progress(&self) -> AppendProgress {
        self.receiver.borrow().progress
    }

    /// What the stream is doing.
    #[must_use]
    pub fn phase(&self) -> AppendPhase {
        self.receiver.borrow().phase.clone()
    }

    /// Waits for news; false when the stream is gone and there will be none.
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }

    /// Waits until everything before `offset` is durable.
    ///
    /// # Errors
    /// Whatever ended the stream for good; `Closed` when it is gone.
    pub async fn wait_durable(&mut self, offset: Offset) -> Result<AppendProgress, ClientError> {
        loop {
            let (progress, phase) = {
                let state = self.receiver.borrow_and_update();
                (state.progress, state.phase.clone())
            };
            match phase {
                AppendPhase::Opening => {}
                _ if progress.durable >= offset => return Ok(progress),
                AppendPhase::Failed(error) => return Err(error),
                AppendPhase::Closed => return Err(self.closed()),
                _ => {}
            }
            if !self.changed().await {
                return Err(self.failure());
            }
        }
    }

    /// Waits for the first open; answers its tail.
    async fn opened(&mut self) -> Result<Offset, ClientError> {
        loop {
            let (opened, phase) = {
                let state = self.receiver.borrow_and_update();
                (state.opened, state.phase.clone())
            };
            match (phase, opened) {
                (AppendPhase::Failed(error), _) => return Err(error),
                (AppendPhase::Closed, _) => return Err(self.closed()),
                // Perhaps lost again by now: it goes on by itself.
                (_, Some(tail)) => return Ok(tail),
                (_, None) => {}
            }
            if !self.changed().await {
                return Err(self.failure());
            }
        }
    }

    /// What ended the stream.
    fn failure(&self) -> ClientError {
        match self.phase() {
            AppendPhase::Failed(error) => error,
            _ => self.closed(),
        }
    }

    fn closed(&self) -> ClientError {
        ClientError::Closed {
            journal: self.journal.clone(),
        }
    }
}

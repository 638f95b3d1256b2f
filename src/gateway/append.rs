//! Append mode: raw bytes in, status frames out, until the worker ends it or is gone.
//!
//! Bytes are read as they come, as far as the window goes, for a worker that has to wait reconnects. However the connection ends,
//! what was received is committed before it is closed, and only then is the file free for the next writer.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
};

use super::{
    budget::{Share, WINDOW_BYTES},
    commands::told,
    connection::{Connection, Ended},
    metrics::StreamMeter,
    store::{self, Seen},
};
use crate::{
    client::{AppendPhase, AppendProgress, AppendStream, AppendWatch, ClientError},
    codec::legacy::{self, Number, Reply},
    domain::{JournalRef, Rejected},
    env::{net, time},
};

/// Bytes of one read. Small reads share a buffer of this size.
const READ_BYTES: usize = 64 << 10;
/// What is left of a buffer that is read into once more.
const READ_BYTES_MIN: usize = 4 << 10;
/// Between two status frames of a stream.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last status frame may wait for a worker that does not read.
const LAST_STATUS: Duration = Duration::from_secs(5);

/// An append that was granted.
#[derive(Debug)]
pub(super) struct Opened {
    stream: AppendStream,
    /// What it pays for the bytes that it holds, until it is closed.
    share: Share,
}

/// `a`: grants the append if nobody else appends and the offset is the file's end. A refusal creates nothing and closes.
pub(super) async fn begin(
    connection: &mut Connection,
    name: Bytes,
    offset: Number,
) -> Result<Opened, Ended> {
    let journal = match connection.journal(&name) {
        Ok(journal) => journal,
        Err(fault) => return Err(connection.refuse(Reply::Error(fault.to_string())).await),
    };
    let client = connection.served.client.clone();
    let share = connection.served.budget.share();
    let opening = async {
        let seen = match store::look(&client, &journal).await {
            Ok(seen) => seen,
            Err(error) => return Err(refusal(&journal, name, offset, &error)),
        };
        if let Some(reply) = conflict(seen, &name, &offset) {
            return Err(reply);
        }
        let opened = store::open(&client, &journal, seen, WINDOW_BYTES).await;
        opened.map_err(|error| refusal(&journal, name, offset, &error))
    };
    let stream = match connection.held(opening).await? {
        Ok(stream) => stream,
        Err(reply) => return Err(connection.refuse(reply).await),
    };
    connection.reply(&Reply::Ok).await?;
    Ok(Opened { stream, share })
}

/// Why a file as it was seen is not to be appended to at `offset`.
fn conflict(seen: Seen, name: &Bytes, offset: &Number) -> Option<Reply> {
    if seen.appending {
        return Some(Reply::Locked(name.clone()));
    }
    (offset.offset() != Some(seen.tail)).then(|| Reply::WrongOffset {
        name: name.clone(),
        offset: offset.clone(),
        eof: seen.tail,
    })
}

/// The answer to an append that the cluster refused, or did not carry out in time.
fn refusal(journal: &JournalRef, name: Bytes, offset: Number, error: &ClientError) -> Reply {
    tracing::debug!(%journal, %error, "legacy append failed");
    match error.rejected() {
        Some(Rejected::OpenedMeanwhile { .. }) => Reply::Locked(name),
        Some(Rejected::WrongOffset { tail, .. }) => Reply::WrongOffset {
            name,
            offset,
            eof: tail.0,
        },
        _ => told(error),
    }
}

/// How receiving ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the worker closed it")]
    Finished,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the gateway stops")]
    Stopping,
    #[error("{0}")]
    Failed(#[from] ClientError),
}

/// Serves an append to its end.
pub(super) async fn run(connection: Connection, opened: Opened) {
    let Opened {
        mut stream,
        mut share,
    } = opened;
    let half_closed = connection.is_half_closed();
    let Connection {
        socket,
        reader,
        served,
        ..
    } = connection;
    let peer = socket.peer_addr().ok();
    let (mut receiver, sender) = tokio::io::split(socket);
    let journal = stream.journal().clone();
    let mut watch = stream.watch();
    let mut status = StatusWriter::new(sender, watch.progress());
    tracing::info!(?peer, %journal, offset = %stream.opened_at(), "a legacy worker appends");
    let meter = served.metrics.stream(stream.opened_at());
    let mut counted = std::pin::pin!(meter.follow(stream.watch()));
    let received = async {
        let rest = reader.rest();
        meter.received(rest.len());
        stream.append(rest).await?;
        if half_closed {
            return Ok(End::Finished);
        }
        receive(&mut receiver, &mut stream, &mut share, &meter, served.stops).await
    };
    let end = tokio::select! {
        biased;
        end = received => end.unwrap_or_else(End::Failed),
        error = status.report(&mut watch) => End::Failed(error),
        never = &mut counted => match never {},
    };
    let closed = tokio::select! {
        biased;
        closed = stream.close() => closed,
        error = status.report(&mut watch) => Err(error),
        never = &mut counted => match never {},
    };
    drop(share);
    meter.ended(watch.progress().durable, closed.as_ref().err());
    match closed {
        Ok(progress) => {
            if !matches!(end, End::Broken(_)) {
                status.last(progress).await;
            }
            tracing::info!(?peer, %journal, offset = %progress.durable, why = %end, "a legacy worker appends no more");
        }
        Err(error) => {
            tracing::info!(?peer, %journal, why = %end, %error, "a legacy append ended early");
        }
    }
}

/// Receives bytes until the worker ends it, the gateway stops, or the stream fails.
async fn receive(
    receiver: &mut ReadHalf<net::Connection>,
    stream: &mut AppendStream,
    share: &mut Share,
    meter: &StreamMeter,
    mut stops: watch::Receiver<bool>,
) -> Result<End, ClientError> {
    let mut buffer = BytesMut::new();
    let mut progress = stream.watch();
    loop {
        let held = usize::try_from(stream.end().0.saturating_sub(stream.durable().0));
        let held = held.unwrap_or(usize::MAX);
        // While the memory is used up, nothing is read until some of what this stream holds is durable.
        let room = share.cover(if held == 0 {
            0
        } else {
            held.saturating_add(READ_BYTES)
        });
        if buffer.capacity() < READ_BYTES_MIN {
            buffer = BytesMut::with_capacity(READ_BYTES);
        }
        tokio::select! {
            biased;
            read = receiver.read_buf(&mut buffer), if room => match read {
                Ok(0) => return Ok(End::Finished),
                Ok(bytes) => meter.received(bytes),
                Err(error) => return Ok(End::Broken(error)),
            },
            changed = progress.changed(), if held > 0 => {
                if changed {
                    continue;
                }
                break;
            },
            _ = stops.wait_for(|stops| *stops) => return Ok(End::Stopping),
        }
        stream.append(buffer.split().freeze()).await?;
    }
    // It has failed, and says why.
    stream
        .wait_durable(stream.end())
        .await
        .map(|_| End::Finished)
}

/// The status frames of a stream: never one that falls back, never half of one followed by another.
#[derive(Debug)]
struct StatusWriter {
    sender: WriteHalf<net::Connection>,
    /// What is left of the frame that is being sent.
    sending: Bytes,
    /// What the newest frame says.
    written: u64,
    synced: u64,
    /// The worker takes no more. What it sends counts nonetheless.
    broken: bool,
}

impl StatusWriter {
    fn new(sender: WriteHalf<net::Connection>, opened: AppendProgress) -> Self {
        Self {
            sender,
            sending: Bytes::new(),
            written: opened.durable.0,
            synced: opened.durable.0,
            broken: false,
        }
    }

    /// Reports each time that more is durable, until the stream has failed, and answers why. While the worker does not read, one
    /// frame waits, and the next says all that came meanwhile. Cancelling it loses nothing.
    async fn report(&mut self, watch: &mut AppendWatch) -> ClientError {
        loop {
            let progress = watch.progress();
            if progress.durable.0 > self.synced && !self.broken {
                self.send(progress).await;
                time::sleep(STATUS_INTERVAL).await;
                continue;
            }
            if let AppendPhase::Failed(error) = watch.phase() {
                return error;
            }
            if !watch.changed().await {
                // It is closed, and somebody else is told so.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The last frame, which is sent always; then the end.
    async fn last(&mut self, progress: AppendProgress) {
        let sent = time::timeout(LAST_STATUS, async {
            self.send(progress).await;
            self.sender.shutdown().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            tracing::debug!("the last status of a legacy append was not taken");
        }
    }

    async fn send(&mut self, progress: AppendProgress) {
        if !self.broken && self.try_send(progress).await.is_err() {
            self.broken = true;
        }
    }

    async fn try_send(&mut self, progress: AppendProgress) -> io::Result<()> {
        self.flush().await?;
        self.synced = self.synced.max(progress.durable.0);
        self.written = self.written.max(progress.written.0).max(self.synced);
        self.sending = legacy::status(self.written, self.synced);
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.sending.is_empty() {
            self.sender.write_buf(&mut self.sending).await?;
        }
        Ok(())
    }
}

//! The old workers' DOS client, one per journal: its state machine, its time-outs, and what it takes so ill that the worker dies.
//!
//! ```text
//! 0 LocalSize    the journal's size is L
//! 1/2 UseDir     u<worker>        not `ok`, or 2 s  -> a new connection
//! 3/4 RemoteSize l                2 s, or no list   -> a new connection; no such file: R = 0; somebody appends: ask again
//! 5/6 Append     a<name>TAB<R>    not `ok`, or 2 s  -> a new connection
//! 7 CatchUp      send [R, L) in pieces; L < R       -> the worker exits
//! 8 SendBuffer   what was written meanwhile
//! 9 InSync       every write at once
//! ```

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

use super::journal::{Journal, Next};
use crate::env::{net, time};

const REPLY_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_PAUSE: Duration = Duration::from_millis(500);
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long after the beginning of an episode of back-pressure the connection is dropped, over or not.
const THROTTLED_FOR: Duration = Duration::from_secs(2);
const ASK_AGAIN_FIRST: Duration = Duration::from_millis(2);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);
/// What is sent at once while catching up.
const PIECE_BYTES: u64 = 64 << 10;
/// Others get their turn after so much.
const YIELD_BYTES: u64 = 1 << 20;
/// Longer frames desynchronise the client.
const FRAME_BYTES_MAX: u32 = 16_384;

/// What one client replicates, and where to.
#[derive(Debug)]
pub(super) struct DosClient {
    /// `host:port` of the one server.
    pub(super) server: String,
    /// The directory there.
    pub(super) worker: String,
    pub(super) journal: Arc<Journal>,
}

/// How a connection ends.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Ended {
    /// A new one is made.
    #[error("{0}")]
    Lost(String),
    /// The worker exits.
    #[error("{0}")]
    Fatal(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What the server has of the journal.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    size: u64,
    appending: bool,
}

impl DosClient {
    /// Replicates until something happens that the worker dies of; answers what. `say` is told why connections end.
    pub(super) async fn run(self, say: impl Fn(&str)) -> String {
        loop {
            let connection = match net::connect(&self.server).await {
                Ok(connection) => connection,
                Err(error) => {
                    say(&format!("{}: cannot connect: {error}", self.journal.name()));
                    time::sleep(CONNECT_PAUSE).await;
                    continue;
                }
            };
            let (reader, writer) = tokio::io::split(connection);
            match self.session(reader, writer).await {
                Ended::Lost(why) => say(&format!("{}: {why}", self.journal.name())),
                Ended::Fatal(why) => return format!("{}: {why}", self.journal.name()),
            }
            time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn session(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Ended {
        let local = self.journal.local_size();
        let offset = match self.open(&mut reader, &mut writer).await {
            Ok(offset) => offset,
            Err(ended) => return ended,
        };
        let throttled = Notify::new();
        tokio::select! {
            ended = statuses(&mut reader) => ended,
            ended = self.stream(&mut writer, local, offset, &throttled) => ended,
            () = async {
                throttled.notified().await;
                time::sleep(THROTTLED_FOR).await;
            } => Ended::Lost("2 s after back-pressure".into()),
        }
    }

    /// States 1 to 6: answers where the stream begins.
    async fn open(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Ended> {
        let used = ask(reader, writer, &format!("u{}", self.worker)).await?;
        accepted(&used, "usedir")?;
        let name = self.journal.name();
        let mut pause = ASK_AGAIN_FIRST;
        let offset = loop {
            let list = ask(reader, writer, "l").await?;
            match remote(&list, name.as_bytes())? {
                None => break 0,
                Some(remote) if !remote.appending => break remote.size,
                Some(_) => time::sleep(pause).await,
            }
            pause = (pause * 2).min(ASK_AGAIN_MAX);
        };
        let appended = ask(reader, writer, &format!("a{name}\t{offset}")).await?;
        accepted(&appended, "append")?;
        Ok(offset)
    }

    /// States 7 to 9.
    async fn stream(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        mut local: u64,
        mut at: u64,
        throttled: &Notify,
    ) -> Ended {
        loop {
            if local < at {
                let why = format!("the server has {at} bytes of a journal of {local}");
                return Ended::Fatal(why);
            }
            if let Err(ended) = self.catch_up(writer, at, local, throttled).await {
                return ended;
            }
            at = local;
            match self.follow(writer, &mut at, throttled).await {
                Ok(()) => local = self.journal.local_size(),
                Err(ended) => return ended,
            }
        }
    }

    async fn catch_up(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        mut at: u64,
        to: u64,
        throttled: &Notify,
    ) -> Result<(), Ended> {
        let mut in_a_row = 0;
        while at < to {
            let piece = PIECE_BYTES.min(to - at);
            let length = usize::try_from(piece).unwrap_or_default();
            let bytes = self.journal.read(at, length)?;
            send(writer, &bytes, throttled).await?;
            at += piece;
            in_a_row += piece;
            if in_a_row >= YIELD_BYTES {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Sends what is written, until more was written than is kept.
    async fn follow(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        at: &mut u64,
        throttled: &Notify,
    ) -> Result<(), Ended> {
        loop {
            match self.journal.next() {
                Next::Write(write) if write.offset == *at => {
                    send(writer, &write.bytes, throttled).await?;
                    *at += write.bytes.len() as u64;
                }
                Next::Write(write) => {
                    let why = format!("a write at {} straddles {at}", write.offset);
                    return Err(Ended::Lost(why));
                }
                Next::Overflowed => return Ok(()),
                Next::Nothing => self.journal.written().await,
            }
        }
    }
}

/// Sends bytes as they are; where that would block, back-pressure begins.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    throttled: &Notify,
) -> Result<(), Ended> {
    let mut sent = std::pin::pin!(writer.write_all(bytes));
    match futures::poll!(sent.as_mut()) {
        std::task::Poll::Ready(sent) => sent?,
        std::task::Poll::Pending => {
            throttled.notify_one();
            sent.await?;
        }
    }
    Ok(())
}

/// One request and its reply.
async fn ask(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &str,
) -> Result<Vec<u8>, Ended> {
    let answered = async {
        // Three zero bytes and one: longer requests go out with their length modulo 256.
        let length = [0, 0, 0, request.len().to_le_bytes()[0]];
        writer.write_all(&length).await?;
        writer.write_all(request.as_bytes()).await?;
        frame(reader).await
    };
    let late = |_| Ended::Lost(format!("no answer within 2 s to {request:?}"));
    time::timeout(REPLY_WITHIN, answered).await.map_err(late)?
}

/// One request that is to be answered `ok`.
pub(in crate::cli) async fn request(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    request: &str,
) -> Result<(), Ended> {
    accepted(&ask(reader, writer, request).await?, request)
}

/// Everything before the offset of the next status frame is synced.
pub(in crate::cli) async fn next_synced(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<u64, Ended> {
    let payload = frame(reader).await?;
    let text = std::str::from_utf8(&payload).ok();
    let synced = text
        .filter(|_| is_status(&payload))
        .and_then(|text| text.split_once('\t')?.1.parse().ok());
    synced.ok_or_else(|| no_status(&payload))
}

async fn frame(reader: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Ended> {
    let length = reader.read_u32().await?;
    if length > FRAME_BYTES_MAX {
        let why = format!("a frame of {length} bytes, which the client cannot read");
        return Err(Ended::Fatal(why));
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload).await?;
    Ok(payload)
}

fn accepted(reply: &[u8], what: &str) -> Result<(), Ended> {
    if reply == b"ok" {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(reply);
    Err(Ended::Lost(format!("{what} is answered {shown:?}")))
}

/// What a listing says of a file: lines up to the first empty one, three fields or more in each.
fn remote(list: &[u8], name: &[u8]) -> Result<Option<Remote>, Ended> {
    let mut found = None;
    for line in list.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            break;
        }
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
        let [file, size, free, ..] = fields[..] else {
            return Err(Ended::Lost("a list with a line that is none".into()));
        };
        let size = std::str::from_utf8(size).ok().and_then(|s| s.parse().ok());
        let Some(size) = size else {
            return Err(Ended::Lost("a list with a size that is none".into()));
        };
        if file == name {
            found = Some(Remote {
                size,
                appending: free != b"no",
            });
        }
    }
    Ok(found)
}

/// Reads status frames; anything else is the worker's end.
async fn statuses(reader: &mut (impl AsyncRead + Unpin)) -> Ended {
    loop {
        let payload = match frame(reader).await {
            Ok(payload) => payload,
            Err(ended) => return ended,
        };
        if !is_status(&payload) {
            return no_status(&payload);
        }
    }
}

fn no_status(payload: &[u8]) -> Ended {
    let shown = String::from_utf8_lossy(payload);
    Ended::Fatal(format!("{shown:?} where a status was expected"))
}

fn is_status(payload: &[u8]) -> bool {
    let is_number = |field: &[u8]| {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
        !field.is_empty() && field.iter().all(is_digit)
    };
    let mut fields = payload.split(|byte| *byte == b'\t');
    let numbers = (fields.next(), fields.next(), fields.next());
    matches!(numbers, (Some(written), Some(synced), None) if is_number(written) && is_number(synced))
}

#[cfg(test)]
mod tests;

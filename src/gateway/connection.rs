//! One connection: command mode, until an append begins or something ends it.

use std::{future::Future, io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use super::{
    append,
    budget::Budget,
    commands,
    metrics::{Command, Metrics, Outcome},
    names,
};
use crate::{
    client::{Client, ClientError},
    codec::legacy::{Reply, Request, RequestFault, RequestReader},
    domain::{JobName, limits::NAME_BYTES_MAX},
    env::{
        net,
        time::{self, Instant},
    },
};

/// Bytes of one read in command mode: requests are short, and there may be thousands of idle connections.
const READ_BYTES: usize = 1024;
/// Bytes behind a request that is being carried out which are received already. More wait in the network.
const AHEAD_BYTES_MAX: usize = 8 << 10;
/// As much of a directory's name is kept: one byte more than a name has, so that a longer one stays wrong.
const DIR_BYTES_KEPT: usize = NAME_BYTES_MAX + 1;
/// How long a request is carried on for a worker that has closed its side: it may still read the answer, or have given up.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// What all connections share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) client: Client,
    pub(super) job: JobName,
    pub(super) budget: Budget,
    pub(super) metrics: Metrics,
    /// True once the gateway stops.
    pub(super) stops: watch::Receiver<bool>,
}

/// What ends a connection in command mode. Nobody is told: the peer is gone, or does not speak the protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it, or the gateway stops.
    #[error("closed")]
    Closed,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// What the peer sent, or asked for, has no other answer.
    #[error("refused: {0}")]
    Refused(String),
    /// The cluster did not carry it out in time.
    #[error("the cluster does not answer: {0}")]
    Unanswered(String),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        match error.rejected() {
            Some(_) => Self::Refused(error.to_string()),
            None => Self::Unanswered(error.to_string()),
        }
    }
}

/// What came of a request that did not end the connection.
#[derive(Debug)]
pub(super) enum Answered {
    Done,
    Refused,
    /// With an error, for the cluster did not carry it out in time.
    Unanswered,
    /// An append begins.
    Appends(append::Opened),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: net::Connection,
    pub(super) reader: RequestReader,
    pub(super) served: Served,
    /// The directory of the next requests.
    pub(super) dir: Bytes,
    /// The peer has closed its side.
    half_closed: Option<Instant>,
}

impl Connection {
    pub(super) fn new(socket: net::Connection, served: Served) -> Self {
        Self {
            socket,
            reader: RequestReader::default(),
            served,
            dir: Bytes::new(),
            half_closed: None,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let peer = self.socket.peer_addr().ok();
        match self.command_mode().await {
            Err(why) => tracing::debug!(?peer, %why, "legacy connection ended"),
            // The future is large, and most connections never need it.
            Ok(opened) => Box::pin(append::run(self, opened)).await,
        }
    }

    /// Answers requests in order, until one begins an append.
    async fn command_mode(&mut self) -> Result<append::Opened, Ended> {
        loop {
            let payload = self.next_request().await?;
            // Boxed, so that a connection that waits for its next request holds little.
            if let Some(opened) = Box::pin(self.carry_out(&payload)).await? {
                return Ok(opened);
            }
        }
    }

    /// The payload of the next request.
    async fn next_request(&mut self) -> Result<Bytes, Ended> {
        let mut stops = self.served.stops.clone();
        loop {
            let next = self.reader.next_frame();
            if let Some(payload) = next.map_err(|fault| Ended::Refused(fault.to_string()))? {
                return Ok(payload);
            }
            if self.half_closed.is_some() {
                return Err(Ended::Closed);
            }
            tokio::select! {
                more = receive(&mut self.socket, &mut self.reader) => {
                    if more? == 0 {
                        self.half_closed = Some(Instant::now());
                    }
                }
                _ = stops.wait_for(|stops| *stops) => return Err(Ended::Closed),
            }
        }
    }

    /// Carries out one request, answer included, and counts it; `Some` when it began an append.
    async fn carry_out(&mut self, payload: &Bytes) -> Result<Option<append::Opened>, Ended> {
        let answered = self.answer(payload).await;
        let outcome = match &answered {
            Ok(Answered::Done | Answered::Appends(_)) => Outcome::Done,
            Ok(Answered::Refused) | Err(Ended::Refused(_)) => Outcome::Refused,
            Ok(Answered::Unanswered) | Err(Ended::Unanswered(_)) => Outcome::Unanswered,
            Err(Ended::Closed | Ended::Broken(_)) => Outcome::Abandoned,
        };
        let metrics = &self.served.metrics;
        metrics.command(Command::of(payload), outcome);
        Ok(match answered? {
            Answered::Appends(opened) => Some(opened),
            Answered::Done | Answered::Refused | Answered::Unanswered => None,
        })
    }

    async fn answer(&mut self, payload: &Bytes) -> Result<Answered, Ended> {
        let request = match Request::decode(payload) {
            Ok(request) => request,
            Err(RequestFault::UnknownCommand(command)) => {
                self.reply(&Reply::UnknownCommand(command)).await?;
                return Ok(Answered::Refused);
            }
            Err(RequestFault::Arguments(why)) => return Err(self.refuse(Reply::Error(why)).await),
            Err(fault @ RequestFault::Get) => return Err(Ended::Refused(fault.to_string())),
        };
        match request {
            Request::UseDir { dir } => {
                // Not a part of the buffer that it came in.
                self.dir = Bytes::copy_from_slice(dir.get(..DIR_BYTES_KEPT).unwrap_or(&dir));
                self.reply(&Reply::Ok).await?;
            }
            Request::List => commands::list(self).await?,
            Request::Sync { name } => commands::sync(self, &name).await?,
            Request::Delete { name } => return commands::delete(self, &name).await,
            Request::Get { name, offset, size } => {
                commands::get(self, &name, &offset, &size).await?;
            }
            Request::Append { name, offset } => {
                let opened = append::begin(self, name, offset).await?;
                return Ok(Answered::Appends(opened));
            }
        }
        Ok(Answered::Done)
    }

    /// The journal of a file in the directory at hand.
    pub(super) fn journal(
        &self,
        file: &[u8],
    ) -> Result<crate::domain::JournalRef, names::NameFault> {
        names::journal(&self.served.job, &self.dir, file)
    }

    pub(super) async fn reply(&mut self, reply: &Reply) -> Result<(), Ended> {
        Ok(self.socket.write_all(&reply.encode()).await?)
    }

    /// Answers with an error behind which the protocol closes.
    pub(super) async fn refuse(&mut self, reply: Reply) -> Ended {
        if let Err(ended) = self.reply(&reply).await {
            return ended;
        }
        // What follows the request is read, so that closing does not reset the connection before the answer is read.
        let drained = time::timeout(HALF_CLOSED, async {
            self.socket.shutdown().await?;
            let mut sink = [0; READ_BYTES];
            while self.socket.read(&mut sink).await? > 0 {}
            Ok::<_, io::Error>(())
        });
        let _ = drained.await;
        if commands::is_no_answer(&reply) {
            return Ended::Unanswered(format!("{reply:?}"));
        }
        Ended::Refused(format!("{reply:?}"))
    }

    /// Waits for the cluster, as long as the worker does: it may hang up meanwhile, and what it sends is received.
    pub(super) async fn held<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let _held = self.served.metrics.held();
        let mut work = std::pin::pin!(work);
        loop {
            let half_closed = self.half_closed;
            let abandoned = async {
                match half_closed {
                    Some(since) => time::sleep_until(since + HALF_CLOSED).await,
                    None => std::future::pending().await,
                }
            };
            let listens = half_closed.is_none() && self.reader.buffered() < AHEAD_BYTES_MAX;
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                more = receive(&mut self.socket, &mut self.reader), if listens => {
                    if more? == 0 {
                        self.half_closed = Some(Instant::now());
                    }
                }
                () = abandoned => return Err(Ended::Closed),
            }
        }
    }

    /// Whether the peer has closed its side.
    pub(super) fn is_half_closed(&self) -> bool {
        self.half_closed.is_some()
    }
}

/// Receives some bytes; 0 at the end.
async fn receive(socket: &mut net::Connection, reader: &mut RequestReader) -> io::Result<usize> {
    let mut buffer = [0; READ_BYTES];
    let bytes = socket.read(&mut buffer).await?;
    reader.push(buffer.get(..bytes).unwrap_or_default());
    Ok(bytes)
}

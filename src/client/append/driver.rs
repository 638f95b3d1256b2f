//! The task behind an append stream: keeps a session open, sends what is queued, resends after a loss.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    AppendOptions, AppendPhase, AppendProgress, State,
    session::{Session, message},
    window::{OutOfWindow, Window},
};
use crate::{
    client::{
        Client, ClientError, Effect, Tried,
        call::KEEP_UP_EVERY,
        failure::{Failure, FailureKind},
        retry::Backoff,
    },
    codec::wire,
    domain::{Epoch, FencingToken, JournalKind, JournalRef, Offset, Rejected, Writer},
    env::time::{self, Instant},
    pb,
};

/// How long a node may leave sent bytes without any answer, before the session counts as lost. Doubled each time that
/// nothing was gained, so that a slow cluster is not kept busy with re-opens.
const STALL: Duration = Duration::from_secs(5);
const STALL_MAX: Duration = Duration::from_secs(60);
/// Re-opens after a session that was refused for what its messages carried, without progress between them.
const REFUSALS_MAX: u32 = 3;
/// How long a stream that has nothing left to send waits for its end to be recorded, and opens another session for that if it has
/// to: who looks then finds the journal free at once, and not when the cluster gives its writer up for lost.
const END_WITHIN: Duration = Duration::from_secs(4);

/// What the driver is made of.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) journal: JournalRef,
    pub(super) kind: JournalKind,
    pub(super) epoch: Epoch,
    pub(super) expected: Option<Offset>,
    pub(super) options: AppendOptions,
    /// Drawn for this stream, never 0.
    pub(super) opener: u64,
    /// Bounded by `permits`: each piece in it has paid.
    pub(super) queue: mpsc::UnboundedReceiver<Bytes>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) state: Arc<watch::Sender<State>>,
    /// An open since the newest that answered was not: it may have been carried out, or may yet be. So may one before, late,
    /// which then fences nobody but this stream, or whoever has superseded it.
    pub(super) unanswered: bool,
    /// Pauses before the next open. They grow until something becomes durable: a session that opens and dies at once would
    /// else have every open replicated, as fast as they go.
    pub(super) backoff: Backoff,
}

/// How a session ended.
enum End {
    /// Half-closed, and everything is durable.
    Closed,
    /// To be opened again.
    Lost(String, Failure),
    /// For good.
    Failed(ClientError),
}

/// What outlives a session.
struct Stream {
    /// The token of the newest open that answered.
    held: FencingToken,
    window: Window,
    progressed: Instant,
    stalls: u32,
    refusals: u32,
    closing: bool,
    /// Nothing is left to send: until when to wait for the end to be recorded.
    end_by: Option<Instant>,
}

impl Stream {
    /// For a stream that has nothing left to send.
    fn end_by(&mut self) -> Instant {
        *self
            .end_by
            .get_or_insert_with(|| Instant::now() + END_WITHIN)
    }
}

impl Driver {
    /// Runs until the stream is closed or failed; what became of it is in the state.
    pub(super) async fn run(mut self) {
        let phase = match self.drive().await {
            Ok(()) => AppendPhase::Closed,
            Err(error) => AppendPhase::Failed(error),
        };
        self.state.send_modify(|state| state.phase = phase);
        self.permits.close();
    }

    async fn drive(&mut self) -> Result<(), ClientError> {
        let mut stream = None;
        loop {
            let opened = match self.connect(&mut stream).await {
                Ok(Some(opened)) => opened,
                Ok(None) => return Ok(()),
                // Someone else has the journal by now, or nobody answers; and everything that was appended is durable.
                Err(_) if stream.as_ref().is_some_and(|stream| self.is_done(stream)) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let Some(stream) = &mut stream else {
                continue;
            };
            let durable = stream.window.durable();
            let end = match self.begin(stream, &opened) {
                Ok(()) => self.exchange(stream, opened).await,
                Err(end) => end,
            };
            match end {
                End::Closed => return Ok(()),
                End::Failed(error) => return Err(error),
                End::Lost(address, failure) => {
                    self.lost(stream, &address, &failure).await?;
                    if stream.window.durable() > durable {
                        self.backoff.reset();
                    } else {
                        time::sleep(self.backoff.pause()).await;
                    }
                }
            }
        }
    }

    /// Takes in that a session was lost; an error when the stream is not to go on.
    async fn lost(
        &self,
        stream: &mut Stream,
        address: &str,
        failure: &Failure,
    ) -> Result<(), ClientError> {
        self.client.note_failure(address, failure);
        tracing::debug!(journal = %self.journal, %address, reason = %failure.reason, "append stream lost; opening it again");
        // What only that leader had may be lost with it.
        self.state
            .send_modify(|state| state.progress.written = state.progress.durable);
        if stream.window.is_empty() {
            stream.progressed = Instant::now();
            return Ok(());
        }
        if failure.is_fenced() {
            return Ok(()); // by whom, the next open tells
        }
        let effect = self.effect(Some(stream));
        let mut tried = Tried::default();
        tried.record(address, &failure.reason);
        let patience = self.options.give_up_after;
        self.check_patience(patience, stream.progressed, failure, &mut tried, effect)
            .await
    }

    /// Opens a session at the leader if it can be found, else at any node; until it succeeds, is refused, or takes too
    /// long. `None` when the stream is closed meanwhile, nothing is left to send, and its end cannot be recorded.
    async fn connect(
        &mut self,
        stream: &mut Option<Stream>,
    ) -> Result<Option<Session>, ClientError> {
        let began = Instant::now();
        let mut tried = Tried::default();
        let mut queue = Vec::new();
        let mut redirects = 1;
        loop {
            let mut limit = self.client.options().attempt_timeout;
            let mut is_done = false;
            if let Some(stream) = stream.as_mut().filter(|stream| self.is_done(stream)) {
                is_done = true;
                limit = limit.min(stream.end_by().duration_since(Instant::now()));
                if limit.is_zero() {
                    return Ok(None);
                }
            }
            if queue.is_empty() {
                queue = self.client.candidates(&self.client.plan("", true)).await;
                queue.reverse();
            }
            let address = queue.pop().unwrap_or_default();
            let opened = Session::open(&self.client, &address, self.open_message(stream), limit);
            let failure = match opened.await {
                Ok(session) => {
                    self.client.directory().succeeded(&address);
                    self.admit(stream, &session);
                    match &session.leader {
                        // To say that the stream has ended any node will do.
                        Some(leader) if redirects > 0 && !is_done => {
                            redirects -= 1;
                            self.client.directory().hint_leader(leader);
                            queue.push(address);
                            queue.push(leader.clone());
                            continue;
                        }
                        _ => return Ok(Some(session)),
                    }
                }
                Err(failure) => failure,
            };
            self.unanswered |= failure.effect == Effect::Unknown;
            self.client.note_failure(&address, &failure);
            tried.record(&address, &failure.reason);
            let since = stream.as_ref().map_or(began, |stream| stream.progressed);
            let effect = self.effect(stream.as_ref());
            let patience = if self.state.borrow().opened.is_some() {
                self.options.give_up_after
            } else {
                Some(self.client.options().timeout)
            };
            if !failure.may_retry(true) {
                if let (Some(stream), FailureKind::Rejected(rejected)) = (&*stream, &failure.kind)
                    && let Rejected::OpenedMeanwhile { newest, .. } = **rejected
                {
                    return Err(self.superseded(stream.held, newest));
                }
                return Err(failure.into_error(self.what(), tried, began.elapsed(), effect));
            }
            self.report_reconnecting(&failure);
            self.check_patience(patience, since, &failure, &mut tried, effect)
                .await?;
            if failure.kind != FailureKind::Connect || queue.is_empty() {
                time::sleep(self.backoff.pause()).await;
            }
        }
    }

    /// A first open takes what the caller allows. A re-open takes the writer that this stream held, or one that an unanswered
    /// open of it drew, which the opener tells: any other is someone else, whose bytes are not to be taken for this stream's.
    fn open_message(&self, stream: &Option<Stream>) -> pb::OpenAppend {
        // The tail that was expected at first is not the one of a re-open, whose tail is checked against the window.
        let (expected, over) = match stream {
            None => (self.expected, self.options.over),
            Some(stream) => (None, Some(stream.held.writer)),
        };
        pb::OpenAppend {
            journal: Some(wire::journal_to_pb(&self.journal)),
            kind: wire::kind_to_pb(self.kind).into(),
            epoch: self.epoch.0,
            expected_offset: expected.map(|offset| offset.0),
            over: over.map(|writer| writer.0),
            opener: self.opener,
        }
    }

    /// Takes in that a session opened.
    fn admit(&mut self, stream: &mut Option<Stream>, session: &Session) {
        self.unanswered = false;
        let stream = stream.get_or_insert_with(|| Stream {
            held: session.token,
            window: Window::new(session.tail),
            progressed: Instant::now(),
            stalls: 0,
            refusals: 0,
            closing: false,
            end_by: None,
        });
        stream.held = session.token;
    }

    /// Aligns the window with the tail that the session begins at.
    fn begin(&self, stream: &mut Stream, session: &Session) -> Result<(), End> {
        let before = stream.window.durable();
        let freed = stream
            .window
            .reopen(session.tail)
            .map_err(|out| End::Failed(self.mismatch(session.tail, out)))?;
        self.permits.add_permits(freed);
        if session.tail > before {
            stream.progressed = Instant::now();
            stream.stalls = 0;
            stream.refusals = 0;
        }
        self.state.send_modify(|state| {
            state.progress.durable = session.tail;
            // What is durable may have been acknowledged to the session before, which did not hear it.
            state.progress.log_index = state.progress.log_index.max(session.log_index);
            // The leader of now has what the journal has: more that an earlier one had is lost, and is sent again.
            state.progress.written = session.tail;
            state.opened.get_or_insert(session.tail);
            state.phase = AppendPhase::Streaming {
                address: session.address.clone(),
            };
        });
        Ok(())
    }

    /// Sends what is queued and hears what became of it, until the session ends.
    async fn exchange(&mut self, stream: &mut Stream, mut session: Session) -> End {
        let mut heard = Instant::now();
        self.client.keep_up(&session.address);
        let mut keep_up = pin!(time::sleep(KEEP_UP_EVERY));
        let stall = (STALL * 2u32.saturating_pow(stream.stalls.min(6))).min(STALL_MAX);
        loop {
            if stream.closing && !stream.window.has_unsent() {
                session.sender = None; // half-close: the node commits what it has and ends the stream
            }
            let end_by = self.is_done(stream).then(|| stream.end_by());
            let waits = !stream.window.is_empty() || stream.closing;
            let sender = session.sender.clone();
            let ready = async {
                match &sender {
                    Some(sender) if stream.window.has_unsent() => sender.reserve().await.ok(),
                    _ => pending().await,
                }
            };
            // In this order always, so that a simulation repeats itself.
            tokio::select! {
                biased;
                answer = session.answer() => {
                    heard = Instant::now();
                    match answer {
                        Ok(Some(progress)) => if let Err(error) = self.progress(stream, progress) {
                            return End::Failed(error);
                        },
                        Ok(None) if stream.closing && stream.window.is_empty() => return End::Closed,
                        Ok(None) => return End::Lost(session.address, Failure::lost("the node ended the stream")),
                        Err(failure) => return self.ended(stream, session.address, failure),
                    }
                }
                permit = ready => match (permit, stream.window.send()) {
                    (Some(permit), Some(piece)) => {
                        if stream.window.durable() == piece.at {
                            // The first bytes after a pause: their patience begins now.
                            heard = Instant::now();
                        }
                        permit.send(message(piece));
                    }
                    // The connection takes no more; its answer will say why.
                    _ => session.sender = None,
                },
                queued = self.queue.recv(), if !stream.closing => match queued {
                    Some(data) => {
                        if stream.window.is_empty() {
                            stream.progressed = Instant::now();
                            heard = stream.progressed;
                        }
                        stream.window.push(data);
                        // What was appended at once leaves together.
                        while let Ok(more) = self.queue.try_recv() {
                            stream.window.push(more);
                        }
                    }
                    None => stream.closing = true,
                },
                () = time::sleep_until(end_by.unwrap_or(heard)), if end_by.is_some() => return End::Closed,
                () = &mut keep_up => {
                    self.client.keep_up(&session.address);
                    keep_up.as_mut().reset(Instant::now() + KEEP_UP_EVERY);
                }
                () = time::sleep_until(heard + stall), if waits => {
                    stream.stalls += 1;
                    return End::Lost(session.address, Failure::timeout(stall));
                }
            }
        }
    }

    /// Takes in an answer of the node.
    fn progress(
        &self,
        stream: &mut Stream,
        progress: pb::AppendProgress,
    ) -> Result<(), ClientError> {
        let durable = Offset(progress.durable);
        let before = stream.window.durable();
        let freed = stream
            .window
            .acknowledge(durable)
            .map_err(|out| self.mismatch(durable, out))?;
        if durable > before {
            stream.progressed = Instant::now();
            stream.stalls = 0;
            stream.refusals = 0;
        }
        self.permits.add_permits(freed);
        let sent = stream.window.sent();
        self.state.send_modify(|state| {
            let known = &mut state.progress;
            let written = Offset(progress.written).min(sent);
            *known = AppendProgress {
                written: known.written.max(written).max(durable),
                durable: known.durable.max(durable),
                log_index: known.log_index.max(progress.log_index),
            };
        });
        Ok(())
    }

    /// How a session ended that the node ended with a status.
    fn ended(&self, stream: &mut Stream, address: String, failure: Failure) -> End {
        let rejected = match &failure.kind {
            FailureKind::Rejected(rejected) => rejected,
            FailureKind::BadRequest => return self.refused(stream, address, failure),
            _ => return End::Lost(address, failure),
        };
        match **rejected {
            // By someone else, or by an open of this stream that was carried out late: a re-open tells.
            Rejected::WriterFenced { .. } => End::Lost(address, failure),
            // Bytes were lost on their way to the leader: the tail of a re-open says which, and is checked. Empty or too
            // large they only are when they were damaged on the way.
            Rejected::WrongOffset { .. }
            | Rejected::EmptyAppend { .. }
            | Rejected::TooLarge { .. } => self.refused(stream, address, failure),
            _ => self.failed(stream, &address, failure),
        }
    }

    /// How a session ended that was refused for what a message carried. This stream makes no such messages, so it was
    /// damaged or lost on the way, and is sent again; but not for ever, for a node of another version refuses it each time.
    fn refused(&self, stream: &mut Stream, address: String, failure: Failure) -> End {
        if stream.refusals >= REFUSALS_MAX {
            return self.failed(stream, &address, failure);
        }
        stream.refusals += 1;
        End::Lost(address, failure)
    }

    /// The end of the stream for good, by what a node answered.
    fn failed(&self, stream: &Stream, address: &str, failure: Failure) -> End {
        let mut tried = Tried::default();
        tried.record(address, &failure.reason);
        let after = stream.progressed.elapsed();
        // Of the refused message nothing is carried out; what was sent before it may be.
        let effect = self.effect(Some(stream));
        End::Failed(failure.into_error(self.what(), tried, after, effect))
    }

    /// An error when the stream has gone without progress for too long.
    async fn check_patience(
        &self,
        patience: Option<Duration>,
        since: Instant,
        failure: &Failure,
        tried: &mut Tried,
        effect: Effect,
    ) -> Result<(), ClientError> {
        if patience.is_none_or(|patience| since.elapsed() < patience) {
            return Ok(());
        }
        if let Some(reason) = self.client.why_no_quorum(tried).await {
            return Err(ClientError::NoQuorum {
                what: self.what(),
                reason,
                tried: tried.clone(),
                effect,
            });
        }
        let failure = failure.clone();
        Err(failure.into_error(self.what(), tried.clone(), since.elapsed(), effect))
    }

    fn report_reconnecting(&self, failure: &Failure) {
        self.state.send_modify(|state| {
            let attempts = match &state.phase {
                AppendPhase::Reconnecting { attempts, .. } => *attempts,
                _ => 0,
            };
            state.phase = AppendPhase::Reconnecting {
                attempts: attempts + 1,
                reason: failure.reason.clone(),
            };
        });
    }

    /// Whether the stream is being closed, and everything that was appended is durable.
    fn is_done(&self, stream: &Stream) -> bool {
        let closing = stream.closing || self.queue.is_closed();
        closing && self.queue.is_empty() && stream.window.is_empty()
    }

    /// Whether something is on its way whose fate is not known: bytes, or an open, which makes the journal and fences
    /// whoever writes it.
    fn effect(&self, stream: Option<&Stream>) -> Effect {
        let sent = |stream: &Stream| stream.window.sent() > stream.window.durable();
        // An open that answered has fenced the writer before, also when the stream then came to nothing elsewhere.
        let only_fenced = stream.is_some() && self.state.borrow().opened.is_none();
        if only_fenced || self.unanswered || stream.is_some_and(sent) {
            Effect::Unknown
        } else {
            Effect::None
        }
    }

    fn superseded(&self, held: FencingToken, newest: Writer) -> ClientError {
        ClientError::Superseded {
            journal: self.journal.clone(),
            held,
            newest: FencingToken {
                writer: newest,
                ..held
            },
        }
    }

    fn mismatch(&self, tail: Offset, out: OutOfWindow) -> ClientError {
        ClientError::TailMismatch {
            journal: self.journal.clone(),
            tail,
            durable: out.durable,
            sent: out.sent,
        }
    }

    fn what(&self) -> String {
        format!("append to journal {}", self.journal)
    }
}

//! One append stream of one client: bytes in, `written` and `durable` out, coalesced.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::{
    admission::{Permit, StreamAdmission},
    batcher::{AppendQueue, Pending, Settled, Written},
    writers::OpenWriter,
};
use crate::{
    codec::{
        CodecError,
        wire::{attach_detail, detail_of},
    },
    domain::{Append, Offset, OpenedJournal, Rejected, limits::APPEND_BYTES_MAX},
    env::time::{self, Instant},
    node::status::NodeError,
    pb::{self, append_request::Request as Wire, append_response::Response},
};

/// `written` alone is told when nothing became durable for this long: told at once it would double the answers, and what a
/// client does with them.
const HINT_AFTER: Duration = Duration::from_millis(20);

/// Where a stream stands.
struct AppendStream {
    opened: OpenedJournal,
    /// Where the next append must begin.
    next: Offset,
    /// How far the leader has it; up to where, and when, the client was told.
    written: Written,
    written_told: Offset,
    told_at: Instant,
    durable: Offset,
    log_index: u64,
    /// Something is to be told.
    news: bool,
    /// Appends sent to the batcher and not settled yet.
    under_way: usize,
    admission: StreamAdmission,
    settled: mpsc::UnboundedSender<Settled>,
    _writer: OpenWriter,
}

/// Serves an opened stream until the client has ended it and everything is durable, which is true, or something fails.
pub(in crate::node) async fn serve(
    (opened, log_index, writer): (OpenedJournal, u64, OpenWriter),
    queue: AppendQueue,
    admission: StreamAdmission,
    mut input: Streaming<pb::AppendRequest>,
    output: &mpsc::Sender<Result<pb::AppendResponse, Status>>,
    mut stopping: watch::Receiver<bool>,
) -> bool {
    let (settled, mut outcomes) = mpsc::unbounded_channel();
    let mut stream = AppendStream::new(opened, log_index, admission, settled, writer);
    // At most one append waits for admission; meanwhile nothing more is read.
    let mut admitting: FuturesOrdered<BoxFuture<'static, (Append, Permit)>> = FuturesOrdered::new();
    let mut ended = false;
    let mut hint = std::pin::pin!(time::sleep(HINT_AFTER));
    while !(ended && stream.under_way == 0 && admitting.is_empty() && !stream.news) {
        let step = tokio::select! {
            biased;
            Some(outcome) = outcomes.recv() => stream.settle(outcome),
            room = output.reserve(), if stream.news => match room {
                Ok(room) => {
                    room.send(Ok(stream.progress()));
                    Ok(())
                }
                Err(_) => return false, // the client is gone
            },
            Some((append, permit)) = admitting.next() => {
                stream.under_way += 1;
                queue.send(Pending { append, _permit: permit, settled: stream.settled.clone(), written: stream.written.clone() }).await;
                Ok(())
            }
            message = input.message(), if !ended && admitting.is_empty() => match message {
                Ok(Some(request)) => stream.take(request).map(|next| admitting.push_back(next)),
                Ok(None) => {
                    ended = true;
                    stream.news = true; // a last progress, even if nothing was sent
                    Ok(())
                }
                // The client is gone, or sent what is no message; what it sent before may still be committed.
                Err(status) => {
                    let _ = output.try_send(Err(stream.told(status)));
                    return false;
                }
            },
            () = &mut hint, if stream.under_way > 0 => {
                hint.as_mut().reset(stream.hint());
                Ok(())
            }
            () = stops(&mut stopping) => Err(NodeError::LeaderLost { why: "this node is stopping".to_owned() }),
            () = output.closed() => return false,
        };
        if let Err(error) = step {
            let _ = output.send(Err(stream.told(error.into()))).await;
            return false;
        }
    }
    true
}

impl AppendStream {
    fn new(
        opened: OpenedJournal,
        log_index: u64,
        admission: StreamAdmission,
        settled: mpsc::UnboundedSender<Settled>,
        writer: OpenWriter,
    ) -> Self {
        let tail = opened.tail;
        Self {
            opened,
            next: tail,
            written: Written::default(),
            written_told: tail,
            told_at: Instant::now(),
            durable: tail,
            log_index,
            news: false,
            under_way: 0,
            admission,
            settled,
            _writer: writer,
        }
    }

    /// Checks an append and waits for its admission.
    fn take(
        &mut self,
        request: pb::AppendRequest,
    ) -> Result<BoxFuture<'static, (Append, Permit)>, NodeError> {
        let Some(Wire::Data(pb::AppendData { at, data, crc32c })) = request.request else {
            return Err(
                CodecError::field("request", "a stream is opened once, then carries data").into(),
            );
        };
        let journal = self.opened.journal;
        if data.is_empty() {
            return Err(Rejected::EmptyAppend { journal }.into());
        }
        if data.len() > APPEND_BYTES_MAX {
            let (bytes, bytes_max) = (data.len() as u64, APPEND_BYTES_MAX as u64);
            return Err(Rejected::TooLarge {
                what: "append",
                bytes,
                bytes_max,
            }
            .into());
        }
        if crc32c::crc32c(&data) != crc32c {
            return Err(CodecError::field(
                "data",
                "it does not match its checksum: it was damaged on the way",
            )
            .into());
        }
        let at = Offset(at);
        let wrong = Rejected::WrongOffset {
            journal,
            at,
            tail: self.next,
        };
        if at != self.next {
            return Err(wrong.into());
        }
        self.next = at.advance(data.len()).ok_or(wrong)?;
        let append = Append {
            journal,
            token: self.opened.token,
            at,
            data: own(data),
        };
        let admission = self.admission.clone();
        Ok(async move {
            let permit = admission.admit(append.data.len()).await;
            (append, permit)
        }
        .boxed())
    }

    fn settle(&mut self, outcome: Settled) -> Result<(), NodeError> {
        match outcome {
            Settled::Decided(Ok(appended), log_index) => {
                self.under_way -= 1;
                self.durable = self.durable.max(appended.range.to);
                self.log_index = self.log_index.max(log_index);
                self.news = true;
                Ok(())
            }
            Settled::Decided(Err(rejected), _) => {
                self.under_way -= 1;
                Err(rejected.into())
            }
            Settled::Failed(why) => {
                self.under_way -= 1;
                Err(NodeError::LeaderLost { why })
            }
        }
    }

    /// What ends the stream, with the effect of the whole stream and not of its last message alone: a message that is refused
    /// changes nothing, but the appends before it are durable, or may be yet.
    fn told(&self, mut status: Status) -> Status {
        let mut detail = detail_of(&status).unwrap_or_else(|| pb::ErrorDetail {
            effect: pb::Effect::None.into(),
            code: "bad_request".to_owned(), // from below: what came is no message, or too large a one
            rejected: None,
            leader_address: String::new(),
        });
        if self.under_way > 0 || self.durable > self.opened.tail {
            detail.effect = pb::Effect::Unknown.into();
        }
        attach_detail(&mut status, &detail);
        status
    }

    /// What only the leader has is news after a while; answers when to look again.
    fn hint(&mut self) -> Instant {
        let due = self.told_at + HINT_AFTER;
        let now = Instant::now();
        if now < due {
            return due;
        }
        self.news |= self.written.get() > self.written_told;
        now + HINT_AFTER
    }

    fn progress(&mut self) -> pb::AppendResponse {
        self.news = false;
        let written = self.written.get().max(self.durable);
        self.written_told = self.written_told.max(written);
        self.told_at = Instant::now();
        let progress = pb::AppendProgress {
            written: self.written_told.0,
            durable: self.durable.0,
            log_index: self.log_index,
        };
        pb::AppendResponse {
            response: Some(Response::Progress(progress)),
        }
    }
}

/// Resolves when the node stops.
async fn stops(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// A small append is copied out of the receive buffer, which it would keep alive whole.
fn own(data: Bytes) -> Bytes {
    if data.len() < 1024 {
        Bytes::copy_from_slice(&data)
    } else {
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Appended, FencingToken, JournalId, OffsetRange};
    use crate::node::append::{Admission, OpenWriters};
    use tonic::Code;

    fn opened() -> AppendStream {
        let opened = OpenedJournal {
            journal: JournalId(1),
            token: FencingToken::default(),
            tail: Offset(10),
        };
        let (settled, _) = mpsc::unbounded_channel();
        AppendStream::new(
            opened,
            1,
            Admission::default().stream().expect("the first one"),
            settled,
            OpenWriters::default().enter(JournalId(1), FencingToken::default()),
        )
    }

    fn data(at: u64, crc32c: u32) -> pb::AppendRequest {
        let data = Bytes::from_static(b"abc");
        pb::AppendRequest {
            request: Some(Wire::Data(pb::AppendData { at, data, crc32c })),
        }
    }

    /// How the stream is ended when its next message is damaged.
    fn damaged(stream: &mut AppendStream) -> pb::ErrorDetail {
        let at = stream.next.0;
        let Err(error) = stream.take(data(at, 1)) else {
            panic!("taken, and damaged");
        };
        detail_of(&stream.told(error.into())).unwrap()
    }

    #[test]
    fn a_refused_message_does_not_claim_that_the_ones_before_it_had_no_effect() {
        let mut stream = opened();
        let detail = damaged(&mut stream);
        assert_eq!(detail.effect(), pb::Effect::None, "nothing else was sent");
        assert_eq!(detail.code, "bad_request");

        assert!(stream.take(data(10, crc32c::crc32c(b"abc"))).is_ok());
        let detail = damaged(&mut stream);
        assert_eq!(detail.effect(), pb::Effect::None, "not admitted: dropped");

        stream.under_way = 1;
        let detail = damaged(&mut stream);
        assert_eq!(detail.effect(), pb::Effect::Unknown, "under way");
        assert_eq!(detail.code, "bad_request");

        let range = OffsetRange {
            from: Offset(10),
            to: Offset(13),
        };
        let tail = range.to;
        let appended = Appended { range, tail };
        stream.settle(Settled::Decided(Ok(appended), 2)).unwrap();
        assert_eq!(stream.under_way, 0);
        let detail = damaged(&mut stream);
        assert_eq!(detail.effect(), pb::Effect::Unknown, "durable");

        let at = Offset(9);
        let (journal, tail) = (JournalId(1), stream.next);
        let wrong = Rejected::WrongOffset { journal, at, tail };
        let detail = detail_of(&stream.told(NodeError::from(wrong).into())).unwrap();
        assert_eq!(detail.effect(), pb::Effect::Unknown);
        assert!(detail.rejected.is_some(), "the reason stays");
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_the_leader_has_is_told_once_nothing_became_durable_for_a_while() {
        let mut stream = opened();
        stream.written.reached(Offset(15));
        let look_again = stream.hint();
        assert!(!stream.news, "it may be durable in no time");
        time::sleep_until(look_again).await;
        stream.hint();
        assert!(stream.news);
        let Some(Response::Progress(told)) = stream.progress().response else {
            panic!("no progress");
        };
        assert_eq!((told.written, told.durable), (15, 10));
        time::sleep(2 * HINT_AFTER).await;
        stream.hint();
        assert!(!stream.news, "it is told already");
    }

    #[test]
    fn what_is_no_message_is_told_in_the_words_it_came_with() {
        let mut stream = opened();
        let too_large = || Status::new(Code::OutOfRange, "9 MiB is too large");
        let told = stream.told(too_large());
        assert_eq!(told.code(), Code::OutOfRange);
        assert_eq!(told.message(), "9 MiB is too large");
        let effect = |status: &Status| detail_of(status).unwrap().effect();
        assert_eq!(effect(&told), pb::Effect::None);
        stream.under_way = 1;
        assert_eq!(effect(&stream.told(too_large())), pb::Effect::Unknown);
    }
}

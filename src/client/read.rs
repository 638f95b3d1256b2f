//! Reading a range of a journal: verified piece by piece, and continued at another node when one fails.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::Streaming;

use super::{
    Client, ClientError, Effect, Tried,
    call::stub,
    failure::{Failure, FailureKind},
    retry::Backoff,
};
use crate::{
    codec::wire,
    domain::{JournalRef, Offset},
    env::time::{self, Instant},
    pb::{self, journals_client::JournalsClient},
};

/// However little time is left, an attempt gets this much.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// What a read must at least contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Floor {
    /// Everything acknowledged before the read began: the serving node asks the leader.
    #[default]
    Linearizable,
    /// Everything up to this log index, which an acknowledgement carried: needs no leader.
    LogIndex(u64),
    /// Whatever the node has; the answer may be stale, and says so.
    Stale,
}

impl From<Floor> for pb::ReadFloor {
    fn from(floor: Floor) -> Self {
        use pb::read_floor::{Floor as Wire, Linearizable, Stale};
        let floor = match floor {
            Floor::Linearizable => Wire::Linearizable(Linearizable {}),
            Floor::LogIndex(index) => Wire::LogIndex(index),
            Floor::Stale => Wire::Stale(Stale {}),
        };
        Self { floor: Some(floor) }
    }
}

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct ReadRange {
    pub(super) journal: JournalRef,
    pub(super) from: Offset,
    pub(super) to: Option<Offset>,
    pub(super) floor: Floor,
}

/// One range being read from one node.
#[derive(Debug)]
pub(super) struct NodeRead {
    answers: Streaming<pb::ReadResponse>,
    pub(super) header: pb::ReadHeader,
    /// Everything before this is read and verified.
    pub(super) at: Offset,
    /// Where the range ends.
    pub(super) to: Offset,
    /// How long the node may be silent.
    silence: Duration,
}

impl NodeRead {
    /// Asks `address` for the range; it answers once it has applied the floor, or says `within` that time why not.
    pub(super) async fn open(
        client: &Client,
        address: &str,
        range: &ReadRange,
        within: Duration,
    ) -> Result<Self, Failure> {
        let silence = client.options().attempt_timeout;
        let channel = client
            .channel(address)
            .map_err(|e| Failure::no_channel(&e))?;
        let request = pb::ReadRequest {
            journal: Some(wire::journal_to_pb(&range.journal)),
            from: range.from.0,
            to: range.to.map(|to| to.0),
            floor: Some(range.floor.into()),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(within); // of the first answer: for the node to know
        let open = async {
            let answers = stub!(JournalsClient, channel).read(request).await;
            let mut answers = answers.map_err(|s| Failure::of(&s))?.into_inner();
            let first = answers.next().await;
            Ok::<_, Failure>((first.transpose().map_err(|s| Failure::of(&s))?, answers))
        };
        let (first, answers) = time::timeout(within, open)
            .await
            .map_err(|_| Failure::timeout(within))??;
        use pb::read_response::Response;
        let Some(Response::Header(header)) = first.and_then(|answer| answer.response) else {
            return Err(Failure::bad_answer(
                "the read did not begin with its header",
            ));
        };
        let Some(stat) = &header.stat else {
            return Err(Failure::bad_answer("the read's header lacks the journal"));
        };
        let to = range.to.unwrap_or(Offset(stat.tail));
        Ok(Self {
            answers,
            at: range.from,
            to,
            header,
            silence,
        })
    }

    /// The next piece, verified and in order; `None` at the end of the range.
    pub(super) async fn next(&mut self) -> Result<Option<(Offset, Bytes)>, Failure> {
        let answer = time::timeout(self.silence, self.answers.next())
            .await
            .map_err(|_| Failure::timeout(self.silence))?;
        let Some(answer) = answer.transpose().map_err(|s| Failure::of(&s))? else {
            if self.at == self.to {
                return Ok(None);
            }
            let (at, to) = (self.at, self.to);
            return Err(Failure::lost(format!(
                "the read ended at {at}, before {to}"
            )));
        };
        let Some(pb::read_response::Response::Data(data)) = answer.response else {
            return Err(Failure::bad_answer("a read answer without data"));
        };
        check_piece(&data, self.at, self.to)?;
        let at = self.at;
        self.at = at
            .advance(data.data.len())
            .ok_or_else(|| Failure::bad_answer("an offset past the largest"))?;
        Ok(Some((at, data.data)))
    }
}

/// Whether a piece is the one wanted at `at`, inside the range, and as it was sent.
fn check_piece(data: &pb::ReadData, at: Offset, to: Offset) -> Result<(), Failure> {
    let damaged = |why: String| Failure::new(FailureKind::Damaged, Effect::None, why);
    if data.at != at.0 {
        let got = data.at;
        return Err(damaged(format!(
            "bytes at {got} were sent where {at} follows"
        )));
    }
    let bytes = u64::try_from(data.data.len()).unwrap_or(u64::MAX);
    if bytes > to.since(at) {
        return Err(damaged(format!(
            "{bytes} bytes at {at} pass the end of the range, {to}"
        )));
    }
    if crc32c::crc32c(&data.data) != data.crc32c {
        return Err(damaged(format!(
            "{bytes} bytes at {at} do not match their CRC-32C"
        )));
    }
    Ok(())
}

/// A range of a journal, piece by piece. When a node fails, or its bytes do not verify, it goes on at another.
#[derive(Debug)]
pub struct JournalReader {
    client: Client,
    range: ReadRange,
    open: Option<(String, NodeRead)>,
    header: Option<pb::ReadHeader>,
    queue: Vec<String>,
    tried: Tried,
    worst: Option<Failure>,
    backoff: Backoff,
    progressed: Instant,
}

impl Client {
    /// Reads a range of a journal from any node: from `from` up to `to`, or to the tail that the first node knows.
    ///
    /// # Errors
    /// `Rejected` with `UnknownJournal`; `BadRequest` for a range beyond the tail; or as any call.
    pub async fn read(
        &self,
        journal: &JournalRef,
        from: Offset,
        to: Option<Offset>,
        floor: Floor,
    ) -> Result<JournalReader, ClientError> {
        let mut reader = JournalReader {
            client: self.clone(),
            range: ReadRange {
                journal: journal.clone(),
                from,
                to,
                floor,
            },
            open: None,
            header: None,
            queue: Vec::new(),
            tried: Tried::default(),
            worst: None,
            backoff: Backoff::of_calls(),
            progressed: Instant::now(),
        };
        while reader.open.is_none() {
            reader.reopen().await?;
        }
        Ok(reader)
    }
}

impl JournalReader {
    /// What the first serving node said of the journal: its tail then, and whether the read may be stale.
    #[must_use]
    pub fn header(&self) -> Option<&pb::ReadHeader> {
        self.header.as_ref()
    }

    /// The next bytes, verified and in order, with their offset; `None` at the end of the range. Cancelling it loses
    /// nothing.
    ///
    /// # Errors
    /// `JournalCut` when the journal's end was cut off meanwhile; `Verification` when no node has bytes that verify; or as
    /// any call. After an error it may be called again.
    pub async fn next(&mut self) -> Result<Option<(Offset, Bytes)>, ClientError> {
        loop {
            let Some((address, read)) = &mut self.open else {
                self.reopen().await?;
                continue;
            };
            match read.next().await {
                Ok(Some((at, data))) => {
                    self.range.from = read.at;
                    self.progressed = Instant::now();
                    self.backoff.reset();
                    self.worst = None;
                    return Ok(Some((at, data)));
                }
                Ok(None) => return Ok(None),
                Err(failure) => {
                    let address = address.clone();
                    self.open = None;
                    self.note(&address, failure).await?;
                }
            }
        }
    }

    /// The pieces as a stream; it ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<(Offset, Bytes), ClientError>> {
        futures::stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// One attempt to go on at the next node.
    async fn reopen(&mut self) -> Result<(), ClientError> {
        if self.queue.is_empty() {
            let plan = self.client.plan("read", true);
            self.queue = self.client.candidates(&plan).await;
            self.queue.reverse();
        }
        let Some(address) = self.queue.pop() else {
            return Err(self.give_up());
        };
        let options = self.client.options();
        let left = options.timeout.saturating_sub(self.progressed.elapsed());
        let within = options.attempt_timeout.min(left.max(ATTEMPT_MIN));
        match NodeRead::open(&self.client, &address, &self.range, within).await {
            Ok(read) => self.adopt(address, read),
            Err(failure) => self.note(&address, failure).await,
        }
    }

    /// Goes on with `read`, unless the journal is not what it was when the read began.
    fn adopt(&mut self, address: String, read: NodeRead) -> Result<(), ClientError> {
        // A deleted journal that was made again has another number.
        let cuts = |header: &pb::ReadHeader| {
            let stat = header.stat.as_ref();
            stat.map(|stat| (stat.id, stat.cuts))
        };
        match &self.header {
            Some(first) if cuts(first) != cuts(&read.header) => {
                return Err(ClientError::JournalCut {
                    journal: self.range.journal.clone(),
                });
            }
            Some(_) => {}
            None => {
                // From now on the read is of exactly this range, and any node that is as far may go on with it.
                self.range.to = Some(read.to);
                self.range.floor = Floor::LogIndex(read.header.applied_index);
                self.header = Some(read.header.clone());
            }
        }
        self.client.directory().succeeded(&address);
        self.open = Some((address, read));
        Ok(())
    }

    /// Takes in a failure of a node; an error when the read is not to go on.
    async fn note(&mut self, address: &str, failure: Failure) -> Result<(), ClientError> {
        self.client.note_failure(address, &failure);
        self.tried.record(address, &failure.reason);
        let may_retry = failure.may_retry(true);
        let connect = failure.kind == FailureKind::Connect;
        if self
            .worst
            .as_ref()
            .is_none_or(|worst| failure.weight() >= worst.weight())
        {
            self.worst = Some(failure);
        }
        let timeout = self.client.options().timeout;
        if !may_retry || self.progressed.elapsed() >= timeout {
            return Err(self.give_up());
        }
        if !connect || self.queue.is_empty() {
            time::sleep(self.backoff.pause()).await;
        }
        Ok(())
    }

    fn give_up(&mut self) -> ClientError {
        let what = format!(
            "read journal {} from {}",
            self.range.journal, self.range.from
        );
        let tried = self.tried.clone();
        match self.worst.take() {
            // A read that failed has changed nothing, whatever became of it.
            Some(worst) => worst.into_error(what, tried, self.progressed.elapsed(), Effect::None),
            None => ClientError::CannotConnect { what, tried },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, data: &'static [u8]) -> pb::ReadData {
        pb::ReadData {
            at,
            data: Bytes::from_static(data),
            crc32c: crc32c::crc32c(data),
        }
    }

    #[test]
    fn a_piece_must_be_the_next_one_inside_the_range_and_match_its_checksum() {
        let check = |data: &pb::ReadData| check_piece(data, Offset(4), Offset(7));
        assert_eq!(check(&piece(4, b"abc")), Ok(()));
        let mut flipped = piece(4, b"abc");
        flipped.crc32c ^= 1;
        for bad in [piece(5, b"ab"), piece(3, b"ab"), piece(4, b"abcd"), flipped] {
            assert_eq!(
                check(&bad).unwrap_err().kind,
                FailureKind::Damaged,
                "{bad:?}"
            );
        }
    }
}

//! `dos.v1.Journals`: append streams, reads, and what journals there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{convert::journal_stat, deadline, reads, workers::workers_of};
use crate::{
    codec::{
        CodecError,
        wire::{journal_from_pb, kind_from_pb, token_to_pb},
    },
    domain::{
        Command, Epoch, FencingToken, JournalId, JournalRef, Offset, OffsetRange, OpenJournal,
        OpenedJournal, Outcome, Writer,
    },
    env::{task, time::Instant},
    node::{
        append,
        shared::{Running, Shared},
        status::NodeError,
    },
    pb::{self, append_request, append_response, read_response},
    storage::StorageError,
};

/// Bytes per message of a read.
const READ_BYTES: usize = 512 * 1024;
/// How long the end of a stream waits for the record of it.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Messages of a read that wait for a slow reader.
const READ_AHEAD: usize = 4;

type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// The service.
#[derive(Debug)]
pub(super) struct Journals {
    shared: Arc<Shared>,
}

impl Journals {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl pb::journals_server::Journals for Journals {
    type AppendStream = Stream<pb::AppendResponse>;
    type ReadStream = Stream<pb::ReadResponse>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let until = Instant::now() + self.shared.config.request_timeout;
        let mut input = request.into_inner();
        let running = self.shared.running()?;
        let first = input.message().await?.and_then(|message| message.request);
        let Some(append_request::Request::Open(open)) = first else {
            let error = CodecError::field("request", "a stream begins by opening a journal");
            return Err(NodeError::from(error).into());
        };
        let admission = self
            .shared
            .admission
            .stream()
            .ok_or(NodeError::Overloaded {
                what: "too many open append streams",
            })?;
        let (opened, log_index) = open_journal(&running, open, until).await?;
        let (output, answers) = mpsc::channel(16);
        let shared = self.shared.clone();
        let writer = shared.writers.enter(opened.journal, opened.token);
        let _ = output
            .send(Ok(self.opened(&running, &opened, log_index)))
            .await;
        task::spawn(async move {
            shared.metrics.streams(1);
            let stopping = shared.stopping.subscribe();
            let ended = (opened.journal, opened.token);
            let in_order = append::serve(
                (opened, log_index, writer),
                running.queue.clone(),
                admission,
                input,
                &output,
                stopping,
            )
            .await;
            if in_order {
                close(&running, ended).await;
            }
            shared.metrics.streams(-1);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn read(
        &self,
        request: Request<pb::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let running = self.shared.running()?;
        let journal = journal_from_pb(request.journal).map_err(NodeError::from)?;
        let served = reads::reach(&running, request.floor, until).await?;
        let installs = running.router.group().view().installs();
        let (stat, range) = range_of(&running, &journal, request.from, request.to)?;
        let (output, answers) = mpsc::channel(READ_AHEAD);
        let header = pb::ReadHeader {
            stat: Some(stat.clone()),
            applied_index: served.applied_index,
            stale: served.stale,
        };
        let header = pb::ReadResponse {
            response: Some(read_response::Response::Header(header)),
        };
        let _ = output.send(Ok(header)).await;
        let shared = self.shared.clone();
        task::spawn(async move {
            if let Err(error) =
                send_range(&running, (&journal, &stat), installs, range, &output).await
            {
                if matches!(
                    error,
                    NodeError::Storage(_) | NodeError::DamagedJournal { .. }
                ) {
                    tracing::error!(%journal, %error, "a read met damaged data; nothing of it was served");
                    shared.metrics.damaged();
                }
                let _ = output.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn stat(
        &self,
        request: Request<pb::StatRequest>,
    ) -> Result<Response<pb::StatResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let running = self.shared.running()?;
        let journal = journal_from_pb(request.journal).map_err(NodeError::from)?;
        let served = reads::reach(&running, request.floor, until).await?;
        let state = running.router.group().view().read();
        let stat = journal_stat(&state, state.journal(&journal).map_err(NodeError::from)?);
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::StatResponse {
            stat: Some(stat),
            applied_index,
            stale,
        }))
    }

    async fn list(
        &self,
        request: Request<pb::ListJournalsRequest>,
    ) -> Result<Response<pb::ListJournalsResponse>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let request = request.into_inner();
        let running = self.shared.running()?;
        let served = reads::reach(&running, request.floor, until).await?;
        let journals = {
            let state = running.router.group().view().read();
            let workers = workers_of(&state, &request.job, &request.worker)?;
            let cuts = match workers.as_slice() {
                [worker] if !request.worker.is_empty() => state.restart_cuts(worker),
                _ => BTreeMap::new(),
            };
            let journals = workers.iter().flat_map(|worker| worker.journals.values());
            let stat = |id: &JournalId| {
                Some(pb::JournalStat {
                    restart_cut: cuts.get(id).map(|at| at.0),
                    ..journal_stat(&state, state.journal_by_id(*id)?)
                })
            };
            journals.filter_map(stat).collect()
        };
        let (applied_index, stale) = (served.applied_index, served.stale);
        Ok(Response::new(pb::ListJournalsResponse {
            journals,
            applied_index,
            stale,
        }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteJournal>,
    ) -> Result<Response<pb::JournalDeleted>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let journal = request.into_inner().try_into().map_err(NodeError::from)?;
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::DeleteJournal(journal), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::JournalDeleted => Ok(Response::new(pb::JournalDeleted {})),
            other => Err(super::workers::unexpected(&other)),
        }
    }

    async fn truncate(
        &self,
        request: Request<pb::Truncate>,
    ) -> Result<Response<pb::Truncated>, Status> {
        let until = deadline(request.metadata(), self.shared.config.request_timeout);
        let truncate = request.into_inner().try_into().map_err(NodeError::from)?;
        let running = self.shared.running()?;
        let proposed = running
            .router
            .propose(Command::Truncate(truncate), until)
            .await?;
        match proposed.answer.map_err(NodeError::from)? {
            Outcome::Truncated { tail } => Ok(Response::new(pb::Truncated { tail: tail.0 })),
            other => Err(super::workers::unexpected(&other)),
        }
    }
}

impl Journals {
    fn opened(
        &self,
        running: &Running,
        opened: &OpenedJournal,
        log_index: u64,
    ) -> pb::AppendResponse {
        let leader = running
            .router
            .leader()
            .filter(|leader| *leader != running.router.me());
        let address =
            leader.and_then(|leader| running.router.group().peers().client_address(leader));
        let opened = pb::AppendOpened {
            journal: opened.journal.0,
            token: Some(token_to_pb(opened.token)),
            tail: opened.tail.0,
            leader_address: address.unwrap_or_default(),
            log_index,
        };
        pb::AppendResponse {
            response: Some(append_response::Response::Opened(opened)),
        }
    }
}

/// Says that a writer has ended, before its client hears of the stream's end: who looks then finds the journal free.
async fn close(running: &Running, writer: (JournalId, FencingToken)) {
    let close = Command::CloseWriters(vec![writer]);
    let until = Instant::now() + CLOSE_WITHIN;
    if let Err(error) = running.router.propose(close, until).await {
        tracing::debug!(%error, "a writer that ended is closed later, as a lost one");
    }
}

/// Opens a journal; answers the log index of that, too.
async fn open_journal(
    running: &Running,
    open: pb::OpenAppend,
    until: Instant,
) -> Result<(OpenedJournal, u64), NodeError> {
    let open = OpenJournal {
        journal: journal_from_pb(open.journal)?,
        kind: kind_from_pb(open.kind)?,
        epoch: Epoch(open.epoch),
        expected: open.expected_offset.map(Offset),
        over: open.over.map(Writer),
        opener: open.opener,
    };
    let proposed = running
        .router
        .propose(Command::OpenJournal(open), until)
        .await?;
    match proposed.answer? {
        Outcome::JournalOpened(opened) => Ok((opened, proposed.log_index)),
        other => Err(NodeError::LeaderLost {
            why: format!("an answer to another command: {other:?}"),
        }),
    }
}

fn range_of(
    running: &Running,
    journal: &JournalRef,
    from: u64,
    to: Option<u64>,
) -> Result<(pb::JournalStat, OffsetRange), NodeError> {
    let state = running.router.group().view().read();
    let record = state.journal(journal)?;
    let tail = record.tail.0;
    let to = to.unwrap_or(tail);
    if from > to || to > tail {
        return Err(NodeError::OutOfRange {
            journal: journal.to_string(),
            from,
            to,
            tail,
        });
    }
    Ok((
        journal_stat(&state, record),
        OffsetRange {
            from: Offset(from),
            to: Offset(to),
        },
    ))
}

/// Sends the range part by part; a slow reader holds up nothing but itself.
async fn send_range(
    running: &Running,
    (journal, stat): (&JournalRef, &pb::JournalStat),
    installs: u64,
    range: OffsetRange,
    output: &mpsc::Sender<Result<pb::ReadResponse, Status>>,
) -> Result<(), NodeError> {
    let view = running.router.group().view();
    let id = JournalId(stat.id);
    let mut from = range.from;
    while from < range.to {
        // Room first: what is read is on its way at once.
        let Ok(_) = output.reserve().await else {
            return Ok(());
        };
        let (store, part) = (view.store().clone(), OffsetRange { from, to: range.to });
        let chunks = task::blocking(move || store.read(id, part, READ_BYTES)).await;
        // The bytes belong to the journal as it was announced only if nobody has cut it since, and no snapshot has taken the
        // place of all there was.
        let cuts = view.read().journal_by_id(id).map(|record| record.cuts);
        if cuts != Some(stat.cuts) || view.installs() != installs || !installs.is_multiple_of(2) {
            return Err(NodeError::CutMeanwhile {
                journal: journal.to_string(),
            });
        }
        let chunks = chunks.map_err(|source| match source {
            StorageError::JournalDamaged { .. } => NodeError::DamagedJournal {
                journal: journal.to_string(),
                source,
            },
            other => other.into(),
        })?;
        for chunk in chunks {
            let crc32c = crc32c::crc32c(&chunk.data);
            from = chunk.at.advance(chunk.data.len()).unwrap_or(range.to);
            let data = pb::ReadData {
                at: chunk.at.0,
                data: chunk.data,
                crc32c,
            };
            let message = pb::ReadResponse {
                response: Some(read_response::Response::Data(data)),
            };
            if output.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

//! openraft's network: Raft's messages to the other members over gRPC.
//!
//! Replication is one long stream per follower, with at most [`IN_FLIGHT_MAX`] requests unanswered: while all are out, the next
//! request grows, so batches form by themselves. Heartbeats and votes have a connection of their own, so that they never wait
//! behind megabytes of entries; so have snapshots.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FusedStream},
};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    alias::SnapshotOf,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
        StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};
use tokio::sync::Semaphore;
use tonic::{Status, transport::Channel};

use super::{
    peers::PeerBook,
    send_snapshot::send_snapshot,
    snapshot::SnapshotHandle,
    types::{
        Peer, TypeConfig, Vote, entry_to_pb, log_id_from_pb, log_id_to_pb, vote_from_pb, vote_to_pb,
    },
};
use crate::{
    domain::{NodeId, limits::MESSAGE_BYTES_MAX},
    env::{
        net::{self, ChannelOptions},
        time::{self, Instant},
    },
    pb,
    pb::raft_client::RaftClient,
};

/// Unanswered replication requests per follower: 4 to 8 keep a link busy and let batches grow.
const IN_FLIGHT_MAX: usize = 8;
/// A follower that answers none of the requests out for this long is dropped and dialled anew: TCP alone waits for minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a request that carries only a commit waits for entries to go with it, and a timer's tick at most besides: longer than a
/// writer takes who appends when the append before it is acknowledged. A read at a follower of what was acknowledged just now waits
/// for it.
const COMMIT_WITHIN: Duration = Duration::from_millis(1);

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes the connections to the other members.
#[derive(Debug, Clone)]
pub(super) struct Network {
    peers: PeerBook,
}

impl Network {
    /// From this node to the members in the book.
    #[must_use]
    pub(super) fn new(peers: PeerBook) -> Self {
        Self { peers }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        Connection {
            peers: self.peers.clone(),
            target: NodeId(target),
            joined_at: node.peer_address.clone(),
            open: None,
        }
    }
}

/// One kept connection to a member, for one purpose.
#[derive(Debug)]
pub(super) struct Connection {
    peers: PeerBook,
    target: NodeId,
    /// Where the member was when it was added; used until the state knows better.
    joined_at: String,
    open: Option<(String, RaftClient<Channel>)>,
}

fn unreachable(why: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(why))
}

/// A peer that is not there is backed off from; any other failure is retried.
fn failed(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        tonic::Code::Unavailable
        | tonic::Code::PermissionDenied
        | tonic::Code::FailedPrecondition
        | tonic::Code::Unimplemented => unreachable(status),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

impl Connection {
    /// The connection to where the member is now.
    fn client(&mut self) -> Rpc<RaftClient<Channel>> {
        let address = self
            .peers
            .peer_address(self.target)
            .unwrap_or_else(|| self.joined_at.clone());
        if let Some((at, client)) = &self.open
            && *at == address
        {
            return Ok(client.clone());
        }
        let channel =
            net::channel(&address, ChannelOptions::BETWEEN_MEMBERS).map_err(unreachable)?;
        let client = RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        self.open = Some((address, client.clone()));
        Ok(client)
    }

    async fn call<T>(
        &self,
        within: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Rpc<T> {
        match time::timeout(within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(unreachable(format!(
                "{} did not answer within {within:?}",
                self.target
            ))),
        }
    }

    fn append_request(&self, request: AppendEntriesRequest<TypeConfig>) -> pb::RaftAppendRequest {
        append_to_pb(self.peers.header(self.target), request)
    }

    fn vote_request(&self, request: &VoteRequest<TypeConfig>) -> pb::RaftVoteRequest {
        pb::RaftVoteRequest {
            header: Some(self.peers.header(self.target)),
            vote: Some(vote_to_pb(&request.vote)),
            last_log_id: request.last_log_id.as_ref().map(log_id_to_pb),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

fn append_to_pb(
    header: pb::PeerHeader,
    request: AppendEntriesRequest<TypeConfig>,
) -> pb::RaftAppendRequest {
    pb::RaftAppendRequest {
        header: Some(header),
        vote: Some(vote_to_pb(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.into_iter().map(entry_to_pb).collect(),
        commit: request.leader_commit.as_ref().map(log_id_to_pb),
    }
}

fn append_result(response: pb::RaftAppendResponse) -> Rpc<StreamAppendResult<TypeConfig>> {
    use pb::raft_append_response::Result as Wire;
    match response.result {
        Some(Wire::Matching(matching)) => Ok(Ok(matching.log_id.map(log_id_from_pb))),
        Some(Wire::Conflict(at)) => Ok(Err(StreamAppendError::Conflict(log_id_from_pb(at)))),
        Some(Wire::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote_of(Some(vote))?)))
        }
        None => Err(RPCError::Network(NetworkError::from_string(
            "an empty answer",
        ))),
    }
}

fn vote_of(vote: Option<pb::RaftVote>) -> Rpc<Vote> {
    vote_from_pb(vote).map_err(|e| RPCError::Network(NetworkError::new(&e)))
}

fn vote_response(response: pb::RaftVoteResponse) -> Rpc<VoteResponse<TypeConfig>> {
    let vote = vote_of(response.vote)?;
    Ok(VoteResponse {
        vote,
        vote_granted: response.granted,
        last_log_id: response.last_log_id.map(log_id_from_pb),
    })
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let request = self.append_request(request);
        let mut client = self.client()?;
        let response = self
            .call(option.hard_ttl(), client.heartbeat(request))
            .await?;
        Ok(append_result(response)?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        async move {
            let header = self.peers.header(self.target);
            let mut client = self.client()?;
            let mut input = input.fuse();
            let window = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
            // The first request is sent before the stream is opened, so that a member that is down costs no entries read.
            let Some(first) = input.next().await else {
                return Ok(futures::stream::empty().boxed());
            };
            if first.entries.is_empty() {
                // A heartbeat: unary, on this connection's own terms.
                let request = append_to_pb(header, first);
                let response = self
                    .call(option.hard_ttl(), client.heartbeat(request))
                    .await?;
                let result = append_result(response);
                return Ok(futures::stream::once(async move { result }).boxed());
            }
            let permits = window.clone();
            let requests = async_stream::stream! {
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                    yield append_to_pb(header.clone(), first);
                }
                // The permit comes before the next request is taken: while none is free, openraft gathers entries.
                while let Ok(permit) = permits.acquire().await {
                    permit.forget();
                    let Some(request) = next_request(&mut input).await else { break };
                    yield append_to_pb(header.clone(), request);
                }
            };
            let responses = self.call(ANSWER_WITHIN, client.append(requests)).await?;
            Ok(answers(responses, window, self.target).boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let request = self.vote_request(&request);
        let mut client = self.client()?;
        vote_response(self.call(option.hard_ttl(), client.vote(request)).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let request = self.vote_request(&request);
        let mut client = self.client()?;
        vote_response(
            self.call(option.hard_ttl(), client.pre_vote(request))
                .await?,
        )
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client()?;
        let sent = send_snapshot(client, self.peers.header(self.target), vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(status) => {
                    tracing::info!(to = %self.target, error = %status, "a snapshot did not arrive; it will be offered again");
                    Err(failed(&status).into())
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<openraft::raft::TransferLeaderResponse<TypeConfig>> {
        let message = pb::RaftTransferLeaderRequest {
            header: Some(self.peers.header(self.target)),
            from_leader: Some(vote_to_pb(request.from_leader())),
            to_node_id: *request.to_node_id(),
            last_log_id: request.last_log_id().map(log_id_to_pb),
        };
        let mut client = self.client()?;
        let answer = self
            .call(option.hard_ttl(), client.transfer_leader(message))
            .await?;
        if answer.accepted {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::from_string(answer.refused)))
    }
}

/// The next request to send. One without entries tells a follower how far the log is committed, and so does the one after it:
/// the first is left out if that comes soon, which for a single writer halves the messages of an append.
async fn next_request<S>(input: &mut S) -> Option<AppendEntriesRequest<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + FusedStream + Unpin,
{
    let mut request = input.next().await?;
    let until = Instant::now() + COMMIT_WITHIN;
    while request.entries.is_empty() {
        match time::timeout_at(until, input.next()).await {
            Ok(Some(later)) => request = later,
            // Ended: the stream is asked once more, and says so again.
            Ok(None) | Err(_) => break,
        }
    }
    Some(request)
}

/// Turns answers into openraft's, gives their permits back, and fails when requests are out and none is answered.
fn answers(
    responses: tonic::Streaming<pb::RaftAppendResponse>,
    window: Arc<Semaphore>,
    target: NodeId,
) -> impl Stream<Item = Rpc<StreamAppendResult<TypeConfig>>> {
    let next = move |(mut responses, window): (
        tonic::Streaming<pb::RaftAppendResponse>,
        Arc<Semaphore>,
    )| async move {
        loop {
            // What is sent while this waits has not been out for all of it.
            let was_out = window.available_permits() + 1 < IN_FLIGHT_MAX;
            match time::timeout(ANSWER_WITHIN, responses.message()).await {
                Ok(Ok(Some(response))) => {
                    window.add_permits(1);
                    return Some((append_result(response), (responses, window)));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some((Err(failed(&status)), (responses, window))),
                // One permit is always out: it waits for the next request.
                Err(_) if !was_out || window.available_permits() + 1 >= IN_FLIGHT_MAX => {}
                Err(_) => {
                    let why =
                        format!("{target} answers no replication request for {ANSWER_WITHIN:?}");
                    return Some((Err(unreachable(why)), (responses, window)));
                }
            }
        }
    };
    futures::stream::unfold((responses, window), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        env::task,
        raft::types::{Entry, LogId},
    };
    use openraft::EntryPayload;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    type Request = AppendEntriesRequest<TypeConfig>;

    fn log_id(index: u64) -> LogId {
        LogId {
            leader_id: openraft::impls::leader_id_adv::LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }
    }

    fn request(commit: u64, entries: std::ops::Range<u64>) -> Request {
        let entry = |index| Entry {
            log_id: log_id(index),
            payload: EntryPayload::Blank,
        };
        AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: None,
            entries: entries.map(entry).collect(),
            leader_commit: Some(log_id(commit)),
        }
    }

    /// The commit and the number of entries of each request that is sent, and after how many milliseconds.
    async fn sent(requests: Vec<(u64, Request)>) -> Vec<(u64, usize, u128)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        task::spawn(async move {
            for (after_micros, request) in requests {
                time::sleep(Duration::from_micros(after_micros)).await;
                sender.send(request).unwrap();
            }
        });
        let mut input = UnboundedReceiverStream::new(receiver).fuse();
        let began = Instant::now();
        let mut sent = Vec::new();
        while let Some(request) = next_request(&mut input).await {
            let commit = request.leader_commit.map_or(0, |commit| commit.index);
            sent.push((commit, request.entries.len(), began.elapsed().as_millis()));
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_goes_with_the_entries_that_come_soon_and_alone_if_none_do() {
        let (commit, entries) = (request(4, 0..0), request(5, 5..7));
        let both = sent(vec![(0, commit.clone()), (0, entries.clone())]).await;
        assert_eq!(both, [(5, 2, 0)]);
        let apart = sent(vec![(0, commit.clone()), (5_000, entries.clone())]).await;
        assert_eq!(apart, [(4, 0, 1), (5, 2, 5)]);
        let last = sent(vec![(0, entries), (0, commit)]).await;
        assert_eq!(last, [(5, 2, 0), (4, 0, 0)], "the stream has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn commits_after_one_another_do_not_put_each_other_off() {
        let commits = (1..=8).map(|at| (1_000, request(at, 0..0)));
        let sent = sent(commits.collect()).await;
        let last = sent.last().copied();
        assert!(last.is_some_and(|(commit, ..)| commit == 8), "{sent:?}");
        assert!(sent.len() >= 4, "{sent:?}");
    }
}

//! The receiving side of Raft's messages: check that they are meant for this node, convert, hand over, convert back.

use futures::{Stream, StreamExt, stream::BoxStream};
use openraft::{
    alias::SnapshotOf,
    async_runtime::WatchReceiver,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, VoteRequest,
    },
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    RaftHandle,
    bereaved::Bereaved,
    heard::Heard,
    peers::PeerBook,
    receive_snapshot::SnapshotReceiver,
    snapshot::SnapshotHandle,
    types::{
        LogId, SnapshotMeta, TypeConfig, Vote, entry_from_pb, log_id_from_pb, log_id_to_pb,
        stored_membership_from_pb, vote_from_pb, vote_to_pb,
    },
};
use crate::{codec::CodecError, pb};

/// Serves `dos.v1.Raft` on the peer port.
#[derive(Debug, Clone)]
pub struct RaftService {
    raft: RaftHandle,
    peers: PeerBook,
    receiver: SnapshotReceiver,
    heard: Heard,
    bereaved: Bereaved,
}

fn bad(error: &CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this node's Raft has stopped: {error}"))
}

impl RaftService {
    pub(super) fn new(
        raft: RaftHandle,
        peers: PeerBook,
        receiver: SnapshotReceiver,
        heard: Heard,
        bereaved: Bereaved,
    ) -> Self {
        Self {
            raft,
            peers,
            receiver,
            heard,
            bereaved,
        }
    }

    /// This node's vote, when it is newer than that of a leader who sends a snapshot. Raft decides when the snapshot is there;
    /// this spares sending it.
    fn newer_vote(&self, than: &Vote) -> Option<Vote> {
        let ours = self.raft.metrics().borrow_watched().vote;
        let rank = |vote: &Vote| (vote.leader_id, vote.committed);
        (rank(&ours) > rank(than)).then_some(ours)
    }

    fn vote_request(
        &self,
        request: pb::RaftVoteRequest,
    ) -> Result<VoteRequest<TypeConfig>, Status> {
        self.peers.check(request.header.as_ref())?;
        Ok(VoteRequest {
            vote: vote_from_pb(request.vote).map_err(|e| bad(&e))?,
            last_log_id: request.last_log_id.map(log_id_from_pb),
            leadership_transfer: request.leadership_transfer,
        })
    }
}

fn append_request(
    request: pb::RaftAppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    Ok(AppendEntriesRequest {
        vote: vote_from_pb(request.vote)?,
        prev_log_id: request.previous.map(log_id_from_pb),
        entries: request
            .entries
            .into_iter()
            .map(entry_from_pb)
            .collect::<Result<_, _>>()?,
        leader_commit: request.commit.map(log_id_from_pb),
    })
}

fn append_response(result: StreamAppendResult<TypeConfig>) -> pb::RaftAppendResponse {
    use pb::raft_append_response::Result as Wire;
    let result = match result {
        Ok(matching) => Wire::Matching(pb::RaftMatching {
            log_id: matching.as_ref().map(log_id_to_pb),
        }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(log_id_to_pb(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_to_pb(&vote)),
    };
    pb::RaftAppendResponse {
        result: Some(result),
    }
}

fn heartbeat_result(
    response: AppendEntriesResponse<TypeConfig>,
    previous: Option<LogId>,
) -> StreamAppendResult<TypeConfig> {
    match (response, previous) {
        (AppendEntriesResponse::Success, previous) => Ok(previous),
        (AppendEntriesResponse::PartialSuccess(matching), _) => Ok(matching),
        (AppendEntriesResponse::HigherVote(vote), _) => Err(StreamAppendError::HigherVote(vote)),
        // A conflict is always about the entry before; without one there is nothing to conflict with.
        (AppendEntriesResponse::Conflict, Some(previous)) => {
            Err(StreamAppendError::Conflict(previous))
        }
        (AppendEntriesResponse::Conflict, None) => Ok(None),
    }
}

/// A message that is not refused for its vote is the leader's.
fn note(heard: &Heard, result: &StreamAppendResult<TypeConfig>) {
    if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
        heard.now();
    }
}

#[tonic::async_trait]
impl pb::raft_server::Raft for RaftService {
    type AppendStream = BoxStream<'static, Result<pb::RaftAppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::RaftAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty replication stream"))?;
        let from = self.peers.check(first.header.as_ref())?;
        let first = append_request(first).map_err(|e| bad(&e))?;
        let answers = self.raft.stream_append(well_formed(first, requests));
        let heard = self.heard.clone();
        let lasts = self.bereaved.stream_of(from);
        let answer = move |answer: Result<StreamAppendResult<TypeConfig>, _>| {
            let _ = &lasts;
            if let Ok(result) = &answer {
                note(&heard, result);
            }
            answer.map(append_response).map_err(stopped)
        };
        Ok(Response::new(answers.map(answer).boxed()))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::RaftAppendRequest>,
    ) -> Result<Response<pb::RaftAppendResponse>, Status> {
        let request = request.into_inner();
        self.peers.check(request.header.as_ref())?;
        let request = append_request(request).map_err(|e| bad(&e))?;
        let previous = request.prev_log_id;
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        let result = heartbeat_result(response, previous);
        note(&self.heard, &result);
        Ok(Response::new(append_response(result)))
    }

    async fn vote(
        &self,
        request: Request<pb::RaftVoteRequest>,
    ) -> Result<Response<pb::RaftVoteResponse>, Status> {
        let request = self.vote_request(request.into_inner())?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(vote_response(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::RaftVoteRequest>,
    ) -> Result<Response<pb::RaftVoteResponse>, Status> {
        let request = self.vote_request(request.into_inner())?;
        let response = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(vote_response(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::RaftTransferLeaderRequest>,
    ) -> Result<Response<pb::RaftTransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.peers.check(request.header.as_ref())?;
        let from = vote_from_pb(request.from_leader).map_err(|e| bad(&e))?;
        let transfer = TransferLeaderRequest::new(
            from,
            request.to_node_id,
            request.last_log_id.map(log_id_from_pb),
        );
        let answer = self
            .raft
            .handle_transfer_leader(transfer)
            .await
            .map_err(stopped)?;
        let refused = answer
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        Ok(Response::new(pb::RaftTransferLeaderResponse {
            accepted: answer.is_ok(),
            refused,
        }))
    }

    async fn offer_snapshot(
        &self,
        request: Request<pb::SnapshotManifest>,
    ) -> Result<Response<pb::SnapshotWanted>, Status> {
        let manifest = request.into_inner();
        self.peers.check(manifest.header.as_ref())?;
        let vote = vote_from_pb(manifest.vote).map_err(|e| bad(&e))?;
        let wanted = match self.newer_vote(&vote) {
            Some(newer) => pb::SnapshotWanted {
                files: Vec::new(),
                higher_vote: Some(vote_to_pb(&newer)),
            },
            None => pb::SnapshotWanted {
                files: self.receiver.wanted(manifest).await?,
                higher_vote: None,
            },
        };
        Ok(Response::new(wanted))
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::RaftSnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.and_then(|chunk| chunk.manifest);
        let manifest =
            first.ok_or_else(|| Status::invalid_argument("a snapshot begins with its manifest"))?;
        self.peers.check(manifest.header.as_ref())?;
        let vote = vote_from_pb(manifest.vote).map_err(|e| bad(&e))?;
        if let Some(newer) = self.newer_vote(&vote) {
            return Ok(Response::new(pb::RaftSnapshotResponse {
                vote: Some(vote_to_pb(&newer)),
            }));
        }
        let meta = SnapshotMeta {
            last_log_id: manifest.last_log_id.map(log_id_from_pb),
            last_membership: stored_membership_from_pb(manifest.membership.clone())
                .map_err(|e| bad(&e))?,
        };
        // IMPORTANT: openraft ends the process over a snapshot that its leader cannot have.
        if meta
            .last_log_id
            .is_some_and(|id| id.leader_id > vote.leader_id)
        {
            return Err(Status::invalid_argument(
                "a snapshot of a later term than its leader's",
            ));
        }
        let snapshot = self.receiver.receive(&manifest, &meta, chunks).await?;
        let files = manifest.files.len();
        let snapshot = SnapshotOf::<TypeConfig, SnapshotHandle> { meta, snapshot };
        let index = manifest.last_log_id.map_or(0, |id| id.index);
        let response = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        tracing::info!(index, files, "installed a snapshot");
        Ok(Response::new(pb::RaftSnapshotResponse {
            vote: Some(vote_to_pb(&response.vote)),
        }))
    }
}

fn vote_response(response: &openraft::raft::VoteResponse<TypeConfig>) -> pb::RaftVoteResponse {
    pb::RaftVoteResponse {
        vote: Some(vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to_pb),
    }
}

/// The requests of one replication stream, the first of which is checked already. The first malformed one ends the stream, and
/// the sender begins a new one.
fn well_formed(
    first: AppendEntriesRequest<TypeConfig>,
    rest: Streaming<pb::RaftAppendRequest>,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    let convert = |request: Result<pb::RaftAppendRequest, Status>| {
        let request = append_request(request.ok()?);
        request
            .inspect_err(|error| tracing::warn!(%error, "a malformed replication request"))
            .ok()
    };
    let rest = rest
        .map(convert)
        .take_while(|request| std::future::ready(request.is_some()));
    futures::stream::once(std::future::ready(first)).chain(rest.filter_map(std::future::ready))
}

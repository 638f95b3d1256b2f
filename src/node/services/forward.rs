//! `dos.v1.Forward`: what reached another member and is for the leader. Never forwarded again: a caller that was wrong about
//! the leader is told so.

use std::sync::Arc;

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesOrdered},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    codec::{
        CodecError,
        wire::{answers_to_pb, writer_to_pb},
    },
    domain::{Command, Outcome},
    env::task,
    node::{
        members::change_here,
        router::propose_response,
        shared::{Running, Shared},
        status::NodeError,
    },
    pb,
    raft::{ProposeError, Proposed},
};

/// Batches under way of one forwarding member; it sends no more than this anyhow.
const IN_FLIGHT_MAX: usize = 16;

/// The service.
#[derive(Debug)]
pub(super) struct Forward {
    shared: Arc<Shared>,
}

impl Forward {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn running(&self, header: Option<&pb::PeerHeader>) -> Result<Arc<Running>, Status> {
        let running = self.shared.running()?;
        running.router.group().peers().check(header)?;
        Ok(running)
    }
}

fn failed(error: ProposeError) -> Status {
    NodeError::from(error).into()
}

type Decision = BoxFuture<'static, (u64, Result<Proposed, ProposeError>)>;

#[tonic::async_trait]
impl pb::forward_server::Forward for Forward {
    type AppendStream = BoxStream<'static, Result<pb::ForwardAppendResponse, Status>>;

    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let command = request
            .command
            .ok_or_else(|| CodecError::field("command", "it is missing"));
        let command: Command = command
            .and_then(TryInto::try_into)
            .map_err(NodeError::from)?;
        let proposed = running
            .router
            .group()
            .propose(command)
            .await
            .map_err(failed)?;
        Ok(Response::new(propose_response(proposed)))
    }

    async fn append(
        &self,
        request: Request<Streaming<pb::ForwardAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let running = self.shared.running()?;
        let (output, answers) = mpsc::channel(IN_FLIGHT_MAX);
        task::spawn(serve_appends(running, request.into_inner(), output));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let running = self.running(request.into_inner().header.as_ref())?;
        let log_index = running.router.group().read_index().await.map_err(failed)?;
        Ok(Response::new(pb::ReadIndexResponse { log_index }))
    }

    async fn writers(
        &self,
        request: Request<pb::WritersRequest>,
    ) -> Result<Response<pb::WritersResponse>, Status> {
        let request = request.into_inner();
        self.running(request.header.as_ref())?;
        let open = self.shared.writers.all();
        let writers = open.into_iter().map(writer_to_pb).collect();
        Ok(Response::new(pb::WritersResponse { writers }))
    }

    async fn change_members(
        &self,
        request: Request<pb::ChangeMembersRequest>,
    ) -> Result<Response<pb::ChangeMembersResponse>, Status> {
        let request = request.into_inner();
        let running = self.running(request.header.as_ref())?;
        let change = request
            .change
            .ok_or_else(|| NodeError::from(CodecError::field("change", "it is missing")))?;
        let response = change_here(running.router.group(), change)
            .await
            .map_err(failed)?;
        Ok(Response::new(response))
    }
}

/// Proposes the batches in the order they come, and answers in that order. The first that fails ends the stream.
async fn serve_appends(
    running: Arc<Running>,
    mut requests: Streaming<pb::ForwardAppendRequest>,
    output: mpsc::Sender<Result<pb::ForwardAppendResponse, Status>>,
) {
    let mut decisions: FuturesOrdered<Decision> = FuturesOrdered::new();
    let mut ended = false;
    while !(ended && decisions.is_empty()) {
        let answer = tokio::select! {
            biased;
            Some((sequence, decision)) = decisions.next() => decided(sequence, decision),
            request = requests.message(), if !ended && decisions.len() < IN_FLIGHT_MAX => match request {
                Ok(Some(request)) => match submit(&running, request).await {
                    Ok((sequence, decision)) => {
                        decisions.push_back(decision);
                        Ok(pb::ForwardAppendResponse { received: sequence, ..Default::default() })
                    }
                    Err(status) => Err(status),
                },
                Ok(None) | Err(_) => {
                    ended = true;
                    continue;
                }
            },
        };
        let last = answer.is_err();
        if output.send(answer).await.is_err() || last {
            return;
        }
    }
}

async fn submit(
    running: &Running,
    request: pb::ForwardAppendRequest,
) -> Result<(u64, Decision), Status> {
    running
        .router
        .group()
        .peers()
        .check(request.header.as_ref())?;
    let sequence = request.sequence;
    let batch = request
        .batch
        .ok_or_else(|| NodeError::from(CodecError::field("batch", "it is missing")))?;
    let decision = running
        .router
        .group()
        .submit(Command::Append(batch.into()))
        .await
        .map_err(failed)?;
    Ok((sequence, async move { (sequence, decision.await) }.boxed()))
}

fn decided(
    sequence: u64,
    decision: Result<Proposed, ProposeError>,
) -> Result<pb::ForwardAppendResponse, Status> {
    match decision {
        Ok(Proposed {
            answer: Ok(Outcome::Appended(answers)),
            log_index,
        }) => Ok(pb::ForwardAppendResponse {
            received: 0,
            sequence,
            answers: Some(answers_to_pb(answers)),
            log_index,
        }),
        Ok(_) => Err(Status::internal("the batch got another command's answer")),
        Err(error) => Err(failed(error)),
    }
}

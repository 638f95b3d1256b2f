//! One gRPC append stream at one node: open, send, hear.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::{Client, call::stub, failure::Failure};
use super::window::Piece;
use crate::{
    codec::wire,
    domain::{FencingToken, Offset},
    env::time,
    pb::{
        self, append_request::Request, append_response::Response, journals_client::JournalsClient,
    },
};

/// Messages handed to the connection before it takes them: few, so that what waits behind them leaves together.
const SENDING_MAX: usize = 4;

/// An open append stream at one node.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: String,
    pub(super) token: FencingToken,
    pub(super) tail: Offset,
    /// A member that has applied this serves everything before `tail`.
    pub(super) log_index: u64,
    /// The leader's address, when this node forwards to it.
    pub(super) leader: Option<String>,
    /// `None` once half-closed, or when the node takes no more.
    pub(super) sender: Option<mpsc::Sender<pb::AppendRequest>>,
    answers: Streaming<pb::AppendResponse>,
}

impl Session {
    /// Opens the stream at `address`; the node answers once the open is committed.
    pub(super) async fn open(
        client: &Client,
        address: &str,
        open: pb::OpenAppend,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let channel = client
            .channel(address)
            .map_err(|e| Failure::no_channel(&e))?;
        let (sender, receiver) = mpsc::channel(SENDING_MAX);
        let open = pb::AppendRequest {
            request: Some(Request::Open(open)),
        };
        let opening = async {
            if sender.send(open).await.is_err() {
                return Err(Failure::lost("the stream ended before it began"));
            }
            let mut stub = stub!(JournalsClient, channel);
            let answers = stub.append(ReceiverStream::new(receiver)).await;
            let mut answers = answers.map_err(|s| Failure::of(&s))?.into_inner();
            let first = answers.next().await.transpose();
            Ok((first.map_err(|s| Failure::of(&s))?, answers))
        };
        let (first, answers) = time::timeout(limit, opening)
            .await
            .map_err(|_| Failure::timeout(limit))??;
        let Some(Response::Opened(opened)) = first.and_then(|answer| answer.response) else {
            return Err(Failure::bad_answer(
                "the append stream did not begin with its opening",
            ));
        };
        Ok(Self {
            address: address.to_owned(),
            token: wire::token_from_pb(opened.token)
                .map_err(|e| Failure::bad_answer(e.to_string()))?,
            tail: Offset(opened.tail),
            log_index: opened.log_index,
            leader: Some(opened.leader_address)
                .filter(|leader| !leader.is_empty() && leader != address),
            sender: Some(sender),
            answers,
        })
    }

    /// The next progress, or `None` when the node ended the stream well. Cancelling it loses nothing.
    pub(super) async fn answer(&mut self) -> Result<Option<pb::AppendProgress>, Failure> {
        let answer = self.answers.next().await.transpose();
        match answer.map_err(|s| Failure::of(&s))? {
            None => Ok(None),
            Some(pb::AppendResponse {
                response: Some(Response::Progress(progress)),
            }) => Ok(Some(progress)),
            Some(_) => Err(Failure::bad_answer("an append answer that is no progress")),
        }
    }
}

/// A piece as it goes over the wire.
pub(super) fn message(piece: Piece) -> pb::AppendRequest {
    pb::AppendRequest {
        request: Some(Request::Data(pb::AppendData {
            at: piece.at.0,
            crc32c: crc32c::crc32c(&piece.data),
            data: piece.data,
        })),
    }
}

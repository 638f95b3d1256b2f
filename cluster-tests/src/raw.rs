//! gRPC at one node, without the client library: what it answers is what that node says.

use std::time::Duration;

use bytes::Bytes;
use dos_cluster::{
    domain::JournalRef,
    env::net,
    pb::{
        self, append_request, append_response, bootstrap_client::BootstrapClient,
        forward_client::ForwardClient, journals_client::JournalsClient, read_response,
    },
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A failed call: the status, and its detail when it has one.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// gRPC's own code.
    pub code: Code,
    /// The sentence.
    pub message: String,
    /// Ours.
    pub detail: Option<pb::ErrorDetail>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let raw = status
            .metadata()
            .get_bin("dos-error-bin")
            .and_then(|value| value.to_bytes().ok());
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            detail: raw.and_then(|raw| pb::ErrorDetail::decode(raw).ok()),
        }
    }
}

impl Refusal {
    /// Why the cluster refused.
    ///
    /// # Panics
    /// When it is no decision of the cluster.
    #[must_use]
    pub fn reason(&self) -> &pb::rejected::Reason {
        let rejected = self
            .detail
            .as_ref()
            .and_then(|detail| detail.rejected.as_ref());
        rejected
            .and_then(|rejected| rejected.reason.as_ref())
            .unwrap_or_else(|| panic!("no rejection: {self:?}"))
    }
}

/// A channel to a node.
///
/// # Panics
/// When `address` is no address.
#[must_use]
pub fn channel(address: &str) -> Channel {
    net::channel(address, net::ChannelOptions::default()).unwrap()
}

/// `job/worker/journal` on the wire.
#[must_use]
pub fn journal_ref(journal: &JournalRef) -> pb::JournalRef {
    dos_cluster::codec::wire::journal_to_pb(journal)
}

/// Asks the leader first.
#[must_use]
pub fn linearizable() -> pb::ReadFloor {
    floor(pb::read_floor::Floor::Linearizable(
        pb::read_floor::Linearizable {},
    ))
}

/// Whatever the node has.
#[must_use]
pub fn stale() -> pb::ReadFloor {
    floor(pb::read_floor::Floor::Stale(pb::read_floor::Stale {}))
}

fn floor(floor: pb::read_floor::Floor) -> pb::ReadFloor {
    pb::ReadFloor { floor: Some(floor) }
}

/// A whole journal as one node serves it.
///
/// # Errors
/// What the node says.
///
/// # Panics
/// When the parts do not follow each other, do not match their checksums, or a stale read is not labelled as one.
pub async fn read(
    address: &str,
    journal: &JournalRef,
    floor: pb::ReadFloor,
) -> Result<Vec<u8>, Refusal> {
    let asked_stale = floor.floor == Some(pb::read_floor::Floor::Stale(pb::read_floor::Stale {}));
    let request = pb::ReadRequest {
        journal: Some(journal_ref(journal)),
        from: 0,
        to: None,
        floor: Some(floor),
    };
    let mut client = JournalsClient::new(channel(address)).max_decoding_message_size(8 << 20);
    let reading = async {
        let mut parts = client.read(request).await?.into_inner();
        let (mut bytes, mut tail) = (Vec::new(), None);
        while let Some(part) = parts.message().await? {
            match part.response.unwrap() {
                read_response::Response::Header(header) => {
                    assert_eq!(header.stale, asked_stale, "a stale read is labelled");
                    tail = Some(header.stat.unwrap().tail);
                }
                read_response::Response::Data(data) => {
                    assert_eq!(
                        data.at,
                        bytes.len() as u64,
                        "the parts of a read follow each other"
                    );
                    assert_eq!(
                        data.crc32c,
                        crc32c::crc32c(&data.data),
                        "a part matches its checksum"
                    );
                    bytes.extend_from_slice(&data.data);
                }
            }
        }
        assert_eq!(
            tail,
            Some(bytes.len() as u64),
            "a read goes to the tail that it announced"
        );
        Ok::<_, Status>(bytes)
    };
    Ok(tokio::time::timeout(ANSWER_WITHIN, reading)
        .await
        .unwrap()?)
}

/// An append stream at one node.
#[derive(Debug)]
pub struct RawAppend {
    requests: mpsc::Sender<pb::AppendRequest>,
    answers: Streaming<pb::AppendResponse>,
    /// What the node answered to the open.
    pub opened: pb::AppendOpened,
    next: u64,
}

impl RawAppend {
    /// Opens a `raw` journal.
    ///
    /// # Errors
    /// What the node says.
    ///
    /// # Panics
    /// When it does not answer, or not as it should.
    pub async fn open(
        address: &str,
        journal: &JournalRef,
        epoch: u64,
        expected: Option<u64>,
    ) -> Result<Self, Refusal> {
        Self::open_wire(address, journal_ref(journal), epoch, expected).await
    }

    /// The same, with a name that may break the rules.
    ///
    /// # Errors
    /// What the node says.
    ///
    /// # Panics
    /// When it does not answer, or not as it should.
    pub async fn open_wire(
        address: &str,
        journal: pb::JournalRef,
        epoch: u64,
        expected_offset: Option<u64>,
    ) -> Result<Self, Refusal> {
        let (requests, outgoing) = mpsc::channel(64);
        let kind = pb::JournalKind::Raw.into();
        let open = pb::OpenAppend {
            journal: Some(journal),
            kind,
            epoch,
            expected_offset,
            over: None,
            opener: 0,
        };
        let open = pb::AppendRequest {
            request: Some(append_request::Request::Open(open)),
        };
        requests.send(open).await.unwrap();
        let mut client = JournalsClient::new(channel(address)).max_encoding_message_size(64 << 20);
        let opening = async {
            let mut answers = client
                .append(ReceiverStream::new(outgoing))
                .await?
                .into_inner();
            let first = answers.message().await?;
            Ok::<_, Status>((answers, first))
        };
        let (answers, first) = tokio::time::timeout(ANSWER_WITHIN, opening)
            .await
            .unwrap()?;
        let Some(append_response::Response::Opened(opened)) =
            first.and_then(|first| first.response)
        else {
            panic!("the first answer is `opened`");
        };
        Ok(Self {
            requests,
            answers,
            next: opened.tail,
            opened,
        })
    }

    /// Sends bytes behind those before; false when the node has ended the stream.
    pub async fn send(&mut self, data: impl Into<Bytes>) -> bool {
        let data: Bytes = data.into();
        let crc32c = crc32c::crc32c(&data);
        self.send_with_crc(data, crc32c).await
    }

    /// The same, as of another offset than the one that is due.
    pub async fn send_at(&mut self, at: u64, data: impl Into<Bytes>) -> bool {
        self.next = at;
        self.send(data).await
    }

    /// The same, with a checksum that may be wrong.
    pub async fn send_with_crc(&mut self, data: impl Into<Bytes>, crc32c: u32) -> bool {
        let (at, data) = (self.next, data.into());
        self.next += data.len() as u64;
        let data = pb::AppendData { at, data, crc32c };
        let request = pb::AppendRequest {
            request: Some(append_request::Request::Data(data)),
        };
        self.requests.send(request).await.is_ok()
    }

    /// Waits until everything sent is durable.
    ///
    /// # Errors
    /// What the node says when it ends the stream.
    ///
    /// # Panics
    /// When the node does not answer, or ends the stream without a word.
    pub async fn durable(&mut self) -> Result<u64, Refusal> {
        loop {
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.answers.message())
                .await
                .unwrap()?;
            let answer = answer.and_then(|answer| answer.response);
            let Some(append_response::Response::Progress(progress)) = answer else {
                panic!("a stream ends with a status: {answer:?}");
            };
            assert!(progress.durable <= progress.written, "{progress:?}");
            assert!(
                progress.durable <= self.next,
                "durable beyond what was sent: {progress:?}"
            );
            if progress.durable == self.next {
                return Ok(progress.durable);
            }
        }
    }

    /// Waits for the node to end the stream; answers why.
    ///
    /// # Panics
    /// When it does not.
    pub async fn refused(&mut self) -> Refusal {
        loop {
            match tokio::time::timeout(ANSWER_WITHIN, self.answers.message())
                .await
                .unwrap()
            {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status.into(),
            }
        }
    }
}

/// What a node says that it is, at its peer address.
///
/// # Panics
/// When it does not answer.
pub async fn probe(peer: &str) -> pb::ProbeResponse {
    let mut client = BootstrapClient::new(channel(peer));
    let answer = client.probe(pb::ProbeRequest {}).await;
    answer.unwrap().into_inner()
}

/// Gives a waiting node an identity, as an `init` does before it forms the cluster.
///
/// # Errors
/// What the node says.
///
/// # Panics
/// When it does not answer.
pub async fn try_adopt(peer: &str, cluster: [u8; 16], node: u64) -> Result<(), Refusal> {
    let request = pb::AdoptRequest {
        cluster_id: Bytes::copy_from_slice(&cluster),
        node_id: node,
        incarnation: probe(peer).await.incarnation,
    };
    BootstrapClient::new(channel(peer)).adopt(request).await?;
    Ok(())
}

/// [`try_adopt`], which must succeed.
///
/// # Panics
/// When it is refused.
pub async fn adopt(peer: &str, cluster: [u8; 16], node: u64) {
    try_adopt(peer, cluster, node).await.unwrap();
}

/// A membership change at the leader, in its own name.
///
/// # Panics
/// When it is refused.
pub async fn change_members(leader: &str, change: pb::change_members_request::Change) {
    let leading = probe(leader).await;
    let request = pb::ChangeMembersRequest {
        header: Some(pb::PeerHeader {
            cluster_id: leading.cluster_id,
            group: 0,
            from: leading.node_id,
            from_incarnation: leading.incarnation,
            to: leading.node_id,
        }),
        change: Some(change),
    };
    let mut client = ForwardClient::new(channel(leader));
    client.change_members(request).await.unwrap();
}

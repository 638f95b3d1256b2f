//! A cluster in this process, for the client's tests: the real rules of the domain behind real gRPC servers, all members
//! sharing one state. What it does not have is replication; what it has are faults.

mod append;
mod faults;
mod ports;
mod workers;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use faults::fires;
pub(super) use faults::{Faults, Fired};
use ports::free_address;

use super::{Client, ClientOptions};
use crate::{
    codec::{CodecError, wire},
    domain::{
        Change, CheckpointId, Command, Epoch, FencingToken, Journal, JournalId, JournalKind,
        JournalRef, Outcome, Rejected, State, WorkerRef,
    },
    env::net::{self, ChannelOptions},
    pb::{self, read_response},
};

/// Bytes of one read answer: small, so that ranges take several.
const READ_BYTES: usize = 10_000;

/// How long a test waits for what must come, on however slow a machine.
const DEADLINE: Duration = Duration::from_secs(30);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug, Default)]
struct Shared {
    state: State,
    log_index: u64,
    bytes: BTreeMap<JournalId, Vec<u8>>,
    leader: usize,
    addresses: Vec<String>,
    faults: Vec<Faults>,
    fired: Vec<Fired>,
    /// Opens that were not carried out when they came.
    late: Vec<Command>,
    /// Commands carried out, by node.
    carried_out: Vec<u32>,
    append_opens: Vec<u32>,
}

impl Shared {
    fn add_node(&mut self) {
        self.addresses.push(free_address());
        self.faults.push(Faults::default());
        self.fired.push(Fired::default());
        self.carried_out.push(0);
        self.append_opens.push(0);
    }

    fn apply(&mut self, command: &Command) -> Result<Outcome, Rejected> {
        self.log_index += 1;
        let mut changes = Vec::new();
        let outcome = self.state.apply(self.log_index, 0, command, &mut changes);
        for change in changes {
            match change {
                Change::Chunk { journal, data, .. } => {
                    self.bytes.entry(journal).or_default().extend(&data);
                }
                Change::Cut { journal, at } => {
                    let at = usize::try_from(at.0).unwrap();
                    self.bytes.entry(journal).or_default().truncate(at);
                }
                _ => {}
            }
        }
        outcome
    }

    /// Both what is to go wrong at a node, and what did.
    fn faults(&mut self, node: usize) -> (&mut Faults, &mut Fired) {
        (&mut self.faults[node], &mut self.fired[node])
    }

    /// Refuses where the node is to know no leader.
    fn led(&mut self, node: usize) -> Result<(), Status> {
        let (faults, fired) = self.faults(node);
        if !faults.no_leader {
            return Ok(());
        }
        fired.no_leader += 1;
        let code = Code::Unavailable;
        Err(failed(code, "no_leader", pb::Effect::None, None))
    }
}

fn broken() -> Status {
    Status::unavailable("connection reset by the test")
}

/// A cluster of nodes that share one state.
pub(super) struct FakeCluster {
    shared: Arc<Mutex<Shared>>,
    nodes: Vec<Option<Runtime>>,
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

impl FakeCluster {
    pub(super) async fn start(nodes: usize) -> Self {
        let mut cluster = Self {
            shared: Arc::default(),
            nodes: Vec::new(),
        };
        for node in 0..nodes {
            cluster.nodes.push(None);
            cluster.shared().add_node();
            cluster.restart(node).await;
        }
        cluster
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a node at once: its connections break.
    pub(super) fn kill(&mut self, node: usize) {
        if let Some(runtime) = self.nodes[node].take() {
            runtime.shutdown_background();
        }
    }

    /// Waits until nobody listens at a node that was killed: what it ran ends in its own time.
    pub(super) async fn gone(&self, node: usize) {
        let address = self.address(node);
        let gone = tokio::time::timeout(DEADLINE, async {
            while net::connect(&address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(gone.await.is_ok(), "{address} is still there");
    }

    /// Starts a node, at the address it had.
    pub(super) async fn restart(&mut self, node: usize) {
        self.kill(node);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let wanted = self.shared().addresses[node].clone();
        let (told, listens) = tokio::sync::oneshot::channel();
        let fake = Node {
            node,
            shared: self.shared.clone(),
        };
        runtime.spawn(async move {
            // What ran there before may still be about to end.
            let listener = loop {
                match net::bind(&wanted).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            told.send(()).unwrap();
            net::server(ChannelOptions::default())
                .add_service(pb::journals_server::JournalsServer::new(fake.clone()))
                .add_service(pb::workers_server::WorkersServer::new(fake.clone()))
                .add_service(pb::checkpoints_server::CheckpointsServer::new(fake.clone()))
                .add_service(pb::cluster_server::ClusterServer::new(fake))
                .serve_with_incoming(net::incoming(listener))
                .await
                .unwrap();
        });
        let listens = tokio::time::timeout(DEADLINE, listens).await;
        self.nodes[node] = Some(runtime);
        let address = self.address(node);
        assert!(matches!(listens, Ok(Ok(()))), "cannot listen on {address}");
    }

    pub(super) fn address(&self, node: usize) -> String {
        self.shared().addresses[node].clone()
    }

    /// A client with short timeouts that begins at these nodes.
    pub(super) fn client(&self, nodes: &[usize]) -> Client {
        let mut options = ClientOptions::new(nodes.iter().map(|node| self.address(*node)));
        options.timeout = Duration::from_secs(3);
        options.attempt_timeout = Duration::from_secs(1);
        Client::new(options).unwrap()
    }

    pub(super) fn lead(&self, node: usize) {
        self.shared().leader = node;
    }

    pub(super) fn fault(&self, node: usize, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared().faults[node]);
    }

    /// How often the node's faults have come true.
    pub(super) fn fired(&self, node: usize) -> Fired {
        self.shared().fired[node].clone()
    }

    /// Waits until `condition` holds of the cluster.
    pub(super) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "not within {DEADLINE:?}: {what}");
    }

    /// Carries out the opens that were left for later; what nobody has a stream of is closed.
    pub(super) fn carry_out_late(&self) {
        let late = std::mem::take(&mut self.shared().late);
        assert!(!late.is_empty(), "no open was left for later");
        for open in late {
            let opened = self.apply(&open).unwrap();
            if let Outcome::JournalOpened(opened) = opened {
                let lost = vec![(opened.journal, opened.token)];
                self.apply(&Command::CloseWriters(lost)).unwrap();
            }
        }
    }

    /// The bytes of a journal, and its writer's token.
    pub(super) fn journal(&self, journal: &JournalRef) -> (Vec<u8>, FencingToken) {
        let shared = self.shared();
        let found = shared.state.journal(journal).unwrap();
        let bytes = shared.bytes.get(&found.id).cloned().unwrap_or_default();
        (bytes, found.token)
    }

    /// Whether the newest writer of a journal counts as appending.
    pub(super) fn is_being_written(&self, journal: &JournalRef) -> bool {
        self.shared().state.journal(journal).unwrap().writer_open
    }

    pub(super) fn epoch(&self, worker: &WorkerRef) -> Epoch {
        self.shared().state.worker(worker).unwrap().epoch
    }

    pub(super) fn apply(&self, command: &Command) -> Result<Outcome, Rejected> {
        self.shared().apply(command)
    }

    /// Forgets all that was ever carried out, as a cluster made anew.
    pub(super) fn forget(&self) {
        self.shared().state = State::default();
    }

    /// Commands that a node was sent and carried out.
    pub(super) fn carried_out(&self, node: usize) -> u32 {
        self.shared().carried_out[node]
    }

    /// Append streams opened at a node.
    pub(super) fn append_opens(&self, node: usize) -> u32 {
        self.shared().append_opens[node]
    }
}

/// A status as the nodes send it.
fn failed(code: Code, name: &str, effect: pb::Effect, rejected: Option<&Rejected>) -> Status {
    let detail = pb::ErrorDetail {
        effect: effect.into(),
        code: name.into(),
        rejected: rejected.map(Into::into),
        leader_address: String::new(),
    };
    let message = rejected.map_or_else(|| name.to_owned(), ToString::to_string);
    let mut status = Status::new(code, message);
    wire::attach_detail(&mut status, &detail);
    status
}

fn rejected(rejected: Rejected) -> Status {
    let code = Code::FailedPrecondition;
    failed(code, "rejected", pb::Effect::None, Some(&rejected))
}

fn bad_request(_: CodecError) -> Status {
    failed(Code::InvalidArgument, "bad_request", pb::Effect::None, None)
}

#[derive(Clone)]
struct Node {
    node: usize,
    shared: Arc<Mutex<Shared>>,
}

impl Node {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command<C: TryInto<T, Error = CodecError>, T>(
        &self,
        message: C,
        wrap: impl FnOnce(T) -> Command,
    ) -> Result<Outcome, Status> {
        let command = wrap(message.try_into().map_err(bad_request)?);
        let mut shared = self.shared();
        shared.led(self.node)?;
        let (faults, fired) = shared.faults(self.node);
        if fires(&mut faults.bad_requests, &mut fired.bad_requests) {
            return Err(bad_request(CodecError::field("request", "by the test")));
        }
        let outcome = shared.apply(&command);
        shared.carried_out[self.node] += 1;
        let (faults, fired) = shared.faults(self.node);
        if fires(&mut faults.lost_answers, &mut fired.lost_answers) {
            return Err(broken());
        }
        outcome.map_err(rejected)
    }

    fn stat(&self, shared: &Shared, journal: &Journal) -> pb::JournalStat {
        let name = shared.state.journal_ref(journal).unwrap();
        pb::JournalStat {
            journal: Some(wire::journal_to_pb(&name)),
            kind: wire::kind_to_pb(journal.kind).into(),
            id: journal.id.0,
            tail: journal.tail.0,
            token: Some(wire::token_to_pb(journal.token)),
            cuts: journal.cuts,
            appending: journal.writer_open,
            restart_cut: shared
                .state
                .worker(&name.owner)
                .ok()
                .and_then(|worker| shared.state.restart_cuts(worker).get(&journal.id).copied())
                .map(|at| at.0),
        }
    }
}

#[tonic::async_trait]
impl pb::journals_server::Journals for Node {
    type AppendStream = Answers<pb::AppendResponse>;
    type ReadStream = Answers<pb::ReadResponse>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let node = self.clone();
        tokio::spawn(async move {
            if let Err(status) = node.run_append(request.into_inner(), &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn read(
        &self,
        request: Request<pb::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let journal = wire::journal_from_pb(request.journal).map_err(bad_request)?;
        let mut shared = self.shared();
        let faults = shared.faults[self.node].clone();
        let mut fired = shared.fired[self.node].clone();
        let found = shared.state.journal(&journal).map_err(rejected)?;
        let stat = self.stat(&shared, found);
        let bytes = shared.bytes.get(&found.id).cloned().unwrap_or_default();
        let to = request.to.unwrap_or(stat.tail);
        if to > stat.tail || request.from > to {
            return Err(failed(
                Code::InvalidArgument,
                "bad_request",
                pb::Effect::None,
                None,
            ));
        }
        let mut answers = vec![Ok(read_response::Response::Header(pb::ReadHeader {
            stat: Some(stat),
            applied_index: shared.log_index,
            stale: false,
        }))];
        let range = usize::try_from(request.from).unwrap()..usize::try_from(to).unwrap();
        let mut at = request.from;
        for (index, piece) in bytes[range].chunks(READ_BYTES).enumerate() {
            if faults.break_reads_after == Some(u32::try_from(index).unwrap()) {
                fired.broken_reads += 1;
                answers.push(Err(broken()));
                break;
            }
            fired.corrupt_reads += u32::from(faults.corrupt_reads);
            answers.push(Ok(read_response::Response::Data(pb::ReadData {
                at,
                data: Bytes::copy_from_slice(piece),
                crc32c: crc32c::crc32c(piece) ^ u32::from(faults.corrupt_reads),
            })));
            at += piece.len() as u64;
        }
        shared.fired[self.node] = fired;
        let answers = answers.into_iter().map(|answer| {
            answer.map(|response| pb::ReadResponse {
                response: Some(response),
            })
        });
        let answers = answers.collect::<Vec<_>>();
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn stat(
        &self,
        request: Request<pb::StatRequest>,
    ) -> Result<Response<pb::StatResponse>, Status> {
        let journal = wire::journal_from_pb(request.into_inner().journal).map_err(bad_request)?;
        let shared = self.shared();
        let found = shared.state.journal(&journal).map_err(rejected)?;
        Ok(Response::new(pb::StatResponse {
            stat: Some(self.stat(&shared, found)),
            applied_index: shared.log_index,
            stale: false,
        }))
    }

    async fn list(
        &self,
        request: Request<pb::ListJournalsRequest>,
    ) -> Result<Response<pb::ListJournalsResponse>, Status> {
        let pb::ListJournalsRequest { job, worker, .. } = request.into_inner();
        let shared = self.shared();
        let owner = if worker.is_empty() {
            None
        } else {
            let owner = WorkerRef {
                job: job.parse().unwrap(),
                worker: worker.parse().unwrap(),
            };
            Some(shared.state.worker(&owner).map_err(rejected)?.id)
        };
        Ok(Response::new(pb::ListJournalsResponse {
            journals: shared
                .state
                .journals()
                .filter(|journal| owner.is_none_or(|owner| journal.owner == owner))
                .map(|j| self.stat(&shared, j))
                .collect(),
            applied_index: shared.log_index,
            stale: false,
        }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteJournal>,
    ) -> Result<Response<pb::JournalDeleted>, Status> {
        match self.command(request.into_inner(), Command::DeleteJournal)? {
            Outcome::JournalDeleted => Ok(Response::new(pb::JournalDeleted {})),
            other => panic!("{other:?}"),
        }
    }

    async fn truncate(
        &self,
        request: Request<pb::Truncate>,
    ) -> Result<Response<pb::Truncated>, Status> {
        match self.command(request.into_inner(), Command::Truncate)? {
            Outcome::Truncated { tail } => Ok(Response::new(pb::Truncated { tail: tail.0 })),
            other => panic!("{other:?}"),
        }
    }
}

#[tonic::async_trait]
impl pb::checkpoints_server::Checkpoints for Node {
    async fn commit(
        &self,
        request: Request<pb::CommitCheckpoint>,
    ) -> Result<Response<pb::CheckpointCommitted>, Status> {
        match self.command(request.into_inner(), Command::CommitCheckpoint)? {
            Outcome::CheckpointCommitted { log_index } => {
                Ok(Response::new(pb::CheckpointCommitted { log_index }))
            }
            other => panic!("{other:?}"),
        }
    }

    async fn list(
        &self,
        request: Request<pb::ListCheckpointsRequest>,
    ) -> Result<Response<pb::ListCheckpointsResponse>, Status> {
        let wanted = request.into_inner();
        let shared = self.shared();
        let owners = shared.state.workers().filter(|worker| {
            let name = &worker.name;
            name.job.as_str() == wanted.job
                && (wanted.worker.is_empty() || name.worker.as_str() == wanted.worker)
        });
        let ids = owners.flat_map(|owner| {
            let stat = |id: &CheckpointId| pb::CheckpointStat {
                worker: Some(wire::worker_to_pb(&owner.name)),
                id: Some(wire::checkpoint_id_to_pb(*id)),
                ..pb::CheckpointStat::default()
            };
            owner.checkpoints.keys().map(stat).collect::<Vec<_>>()
        });
        Ok(Response::new(pb::ListCheckpointsResponse {
            checkpoints: ids.collect(),
            applied_index: shared.log_index,
            stale: false,
        }))
    }

    async fn line(
        &self,
        _: Request<pb::LineRequest>,
    ) -> Result<Response<pb::LineResponse>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }

    async fn await_line(
        &self,
        _: Request<pb::AwaitLineRequest>,
    ) -> Result<Response<pb::AwaitLineResponse>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Node {
    type JoinStream = Answers<pb::JoinProgress>;

    async fn init(
        &self,
        _: Request<pb::InitRequest>,
    ) -> Result<Response<pb::InitResponse>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }

    async fn join(
        &self,
        _: Request<pb::JoinRequest>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let shared = self.shared();
        let leads = shared.leader == self.node;
        let known = !shared.faults[self.node].no_leader;
        let member = |(node, address): (usize, &String)| pb::MemberStatus {
            member: Some(pb::Member {
                node_id: node as u64 + 1,
                client_address: address.clone(),
                ..pb::Member::default()
            }),
            voter: true,
            leader: node == shared.leader,
            ..pb::MemberStatus::default()
        };
        Ok(Response::new(pb::StatusResponse {
            state: match (known, leads) {
                (true, true) => pb::NodeState::Leader,
                (true, false) => pb::NodeState::Follower,
                (false, _) => pb::NodeState::Starting,
            }
            .into(),
            // One that no other of these clusters has.
            cluster_id: shared.addresses[0].clone(),
            node_id: self.node as u64 + 1,
            term: 1 + shared.leader as u64,
            leader_address: if known {
                shared.addresses[shared.leader].clone()
            } else {
                String::new()
            },
            members: shared.addresses.iter().enumerate().map(member).collect(),
            ..pb::StatusResponse::default()
        }))
    }

    async fn remove_member(
        &self,
        _: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }

    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
}

/// A worker for tests.
pub(super) fn worker() -> WorkerRef {
    "job/worker".parse().unwrap()
}

/// Opens the test's worker and answers its journal of that name.
pub(super) async fn open_worker(client: &Client, journal: &str) -> (Epoch, JournalRef) {
    let (epoch, _) = client.open_worker(&worker(), None).await.unwrap();
    (epoch, worker().journal(journal.parse().unwrap()))
}

/// The kind that most tests use.
pub(super) const RAW: JournalKind = JournalKind::Raw;

//! Reads of any journal from any one node, over the bare protocol: the client library would ask another node instead.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use dos_cluster::{
    env::{
        net::{self, ChannelOptions},
        time::timeout,
    },
    pb::{
        self, checkpoints_client::CheckpointsClient, cluster_client::ClusterClient,
        journals_client::JournalsClient, read_response::Response,
    },
};
use dos_jepsen::{Event, Floor};

use super::{Worker, journal_name, sleep};
use crate::{
    plan::{JOB, JOURNALS, NODES, WORKERS, address},
    recorder::Phase,
};

/// How long a node may take for anything.
const WITHIN: Duration = Duration::from_secs(3);

/// What a read answered.
#[derive(Debug)]
pub struct NodeRead {
    /// From the offset asked for to the tail.
    pub bytes: Bytes,
    /// As the node called it.
    pub stale: bool,
}

/// Calls to one node each.
#[derive(Default)]
pub struct NodeClient {
    channels: BTreeMap<&'static str, tonic::transport::Channel>,
}

impl NodeClient {
    /// A call of a node within the time there is; its connection is dropped when it fails.
    async fn call<T>(
        &mut self,
        node: &'static str,
        call: impl AsyncFnOnce(tonic::transport::Channel) -> Result<T, String>,
    ) -> Result<T, String> {
        let channel = match self.channels.get(node) {
            Some(channel) => channel.clone(),
            None => net::channel(&address(node), ChannelOptions::default())
                .map_err(|error| error.to_string())?,
        };
        let answer = timeout(WITHIN, call(channel.clone()))
            .await
            .unwrap_or_else(|_| Err("no answer in time".into()));
        match answer {
            Ok(_) => self.channels.insert(node, channel),
            Err(_) => self.channels.remove(node),
        };
        answer
    }

    pub async fn status(&mut self, node: &'static str) -> Result<pb::StatusResponse, String> {
        self.call(node, async |channel| {
            let answer = ClusterClient::new(channel)
                .status(pb::StatusRequest {})
                .await;
            Ok(answer.map_err(said)?.into_inner())
        })
        .await
    }

    pub async fn journals(&mut self, node: &'static str) -> Result<Vec<pb::JournalStat>, String> {
        self.call(node, async |channel| {
            let request = pb::ListJournalsRequest {
                floor: Some(floor_to_pb(Floor::Stale)),
                ..Default::default()
            };
            Ok(JournalsClient::new(channel)
                .list(request)
                .await
                .map_err(said)?
                .into_inner()
                .journals)
        })
        .await
    }

    pub async fn checkpoints(
        &mut self,
        node: &'static str,
    ) -> Result<Vec<pb::CheckpointStat>, String> {
        self.call(node, async |channel| {
            let floor = Some(floor_to_pb(Floor::Stale));
            let request = pb::ListCheckpointsRequest {
                job: JOB.into(),
                worker: String::new(),
                floor,
            };
            Ok(CheckpointsClient::new(channel)
                .list(request)
                .await
                .map_err(said)?
                .into_inner()
                .checkpoints)
        })
        .await
    }

    /// Reads from `from` to the tail. `Err` with a sentence that begins with `BROKEN` when the answer breaks the protocol.
    pub async fn read(
        &mut self,
        node: &'static str,
        journal: pb::JournalRef,
        from: u64,
        floor: Floor,
    ) -> Result<NodeRead, String> {
        let request = pb::ReadRequest {
            journal: Some(journal),
            from,
            to: None,
            floor: Some(floor_to_pb(floor)),
        };
        self.call(node, async |channel| {
            let mut answers = JournalsClient::new(channel)
                .read(request)
                .await
                .map_err(said)?
                .into_inner();
            let Some(Response::Header(header)) = answers
                .message()
                .await
                .map_err(said)?
                .and_then(|m| m.response)
            else {
                return Err("BROKEN: a read does not begin with a header".into());
            };
            let tail = header.stat.as_ref().map_or(0, |stat| stat.tail);
            let mut bytes = Vec::new();
            while let Some(answer) = answers.message().await.map_err(said)? {
                let Some(Response::Data(data)) = answer.response else {
                    return Err("BROKEN: a read answer without data".into());
                };
                if data.at != from + bytes.len() as u64 || crc32c::crc32c(&data.data) != data.crc32c
                {
                    return Err(format!(
                        "BROKEN: a read answered bytes at {} that do not follow or verify",
                        data.at
                    ));
                }
                bytes.extend_from_slice(&data.data);
            }
            if from + bytes.len() as u64 != tail {
                return Err(format!(
                    "BROKEN: a read said {tail} and ended after {}",
                    from + bytes.len() as u64
                ));
            }
            Ok(NodeRead {
                bytes: bytes.into(),
                stale: header.stale,
            })
        })
        .await
    }
}

fn said(status: tonic::Status) -> String {
    format!("{:?} {}", status.code(), status.message())
}

fn floor_to_pb(floor: Floor) -> pb::ReadFloor {
    use pb::read_floor::{Floor as Wire, Linearizable, Stale};
    let floor = match floor {
        Floor::Linearizable => Wire::Linearizable(Linearizable {}),
        Floor::LogIndex(index) => Wire::LogIndex(index),
        Floor::Stale => Wire::Stale(Stale {}),
    };
    pb::ReadFloor { floor: Some(floor) }
}

/// Reads at random until the run drains.
pub(super) async fn run(worker: Worker) {
    let mut client = NodeClient::default();
    while worker.phase() != Phase::Drain {
        sleep(worker.dice(|dice| dice.millis(50, 700))).await;
        let (of, journal) = worker.dice(|dice| (*dice.pick(&WORKERS), *dice.pick(&JOURNALS)));
        let name = journal_name(of, journal);
        let acknowledged = worker.recorder.log_index.borrow().get(&name).copied();
        let floor = match (worker.dice(|dice| dice.between(0, 2)), acknowledged) {
            (0, _) => Floor::Stale,
            (1, Some(index)) => Floor::LogIndex(index),
            _ => Floor::Linearizable,
        };
        read(&worker, &mut client, (of, journal), floor).await;
    }
}

/// Reads what was acknowledged just now, from a node that may not have it yet.
pub(super) async fn read_acknowledged(worker: Worker, journal: &'static str, log_index: u64) {
    let journal = (worker.name, journal);
    read(
        &worker,
        &mut NodeClient::default(),
        journal,
        Floor::LogIndex(log_index),
    )
    .await;
}

async fn read(worker: &Worker, client: &mut NodeClient, (of, journal): (&str, &str), floor: Floor) {
    let recorder = &worker.recorder;
    let node = worker.dice(|dice| *dice.pick(&NODES));
    let read = recorder.next_op();
    recorder.push(Event::ReadBegan {
        read,
        journal: journal_name(of, journal),
        node: node.into(),
        floor,
    });
    let journal = pb::JournalRef {
        job: JOB.into(),
        worker: of.into(),
        journal: journal.into(),
    };
    match client.read(node, journal, 0, floor).await {
        Ok(answer) => {
            if answer.stale != (floor == Floor::Stale) {
                let labelled = answer.stale;
                recorder.violation(format!(
                    "{node} labelled a read with {floor:?} stale: {labelled}"
                ));
            }
            let bytes = answer.bytes;
            recorder.push(Event::ReadEnded {
                read,
                from: 0,
                bytes,
            });
            recorder.report.borrow_mut().reads += 1;
        }
        Err(why) if why.starts_with("BROKEN") => {
            let what = format!("{node}: {why}");
            recorder.push(Event::Broken { what });
        }
        Err(why) => recorder.note(format!("{} read from {node}: {why}", worker.name)),
    }
}

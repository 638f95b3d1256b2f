//! Batches that another member must propose: one ordered stream to the leader, answered in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::batcher::Batch;
use crate::{codec::wire::answers_from_pb, domain::NodeId, env::task, node::router::Router, pb};

/// Batches sent and not answered, in order; `None` once the stream is broken. Bounded by the batcher's permits.
type Waiting = Arc<Mutex<Option<VecDeque<Sent>>>>;

#[derive(Debug)]
struct Sent {
    sequence: u64,
    batch: Batch,
    _permit: OwnedSemaphorePermit,
}

/// The stream to the leader of the moment.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    leader: NodeId,
    requests: mpsc::Sender<pb::ForwardAppendRequest>,
    waiting: Waiting,
    sequence: u64,
}

impl Forwarder {
    /// Sends a batch to `leader`, behind those sent before. It is settled when the leader answers or the stream breaks.
    pub(super) async fn send(
        &mut self,
        router: &Router,
        leader: NodeId,
        batch: Batch,
        permit: OwnedSemaphorePermit,
    ) {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.leader != leader || lock(&open.waiting).is_none())
        {
            self.open = open(router, leader);
        }
        let Some(open) = &mut self.open else {
            batch.failed(&format!(
                "the address of the leader, {leader}, is not known"
            ));
            return;
        };
        open.sequence += 1;
        let request = pb::ForwardAppendRequest {
            header: Some(router.group().peers().header(leader)),
            sequence: open.sequence,
            batch: Some(batch.appends().into()),
        };
        match lock(&open.waiting).as_mut() {
            Some(waiting) => waiting.push_back(Sent {
                sequence: open.sequence,
                batch,
                _permit: permit,
            }),
            None => return batch.failed("the stream to the leader broke"),
        }
        // A send that fails means that the stream has ended: its task fails what waits.
        let _ = open.requests.send(request).await;
    }

    /// Gives up a stream to a node that leads no more; whether its unanswered batches were carried out is not known.
    pub(super) fn leave_unless(&mut self, leader: Option<NodeId>) {
        let Some(leader) = leader else {
            return; // it may be elected again
        };
        if let Some(left) = self.open.take_if(|open| open.leader != leader) {
            break_off(&left.waiting, &format!("{leader} leads now"));
        }
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Option<VecDeque<Sent>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails what waits for an answer, and lets nothing more wait.
fn break_off(waiting: &Waiting, why: &str) {
    let unanswered = lock(waiting).take();
    for sent in unanswered.into_iter().flatten() {
        sent.batch.failed(why);
    }
}

fn open(router: &Router, leader: NodeId) -> Option<Open> {
    let mut client = router.links().forward(router.group(), leader)?;
    let (requests, outgoing) = mpsc::channel(1);
    let waiting: Waiting = Arc::new(Mutex::new(Some(VecDeque::new())));
    let answered = waiting.clone();
    task::spawn(async move {
        let why = match client.append(ReceiverStream::new(outgoing)).await {
            Err(status) => status.message().to_owned(),
            Ok(response) => read_answers(response.into_inner(), &answered).await,
        };
        break_off(&answered, &format!("the stream to the leader broke: {why}"));
    });
    Some(Open {
        leader,
        requests,
        waiting,
        sequence: 0,
    })
}

async fn read_answers(
    mut answers: tonic::Streaming<pb::ForwardAppendResponse>,
    waiting: &Waiting,
) -> String {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return "it ended".to_owned(),
            Err(status) => return status.message().to_owned(),
        };
        if answer.received > 0 {
            for sent in lock(waiting)
                .iter()
                .flatten()
                .filter(|sent| sent.sequence == answer.received)
            {
                sent.batch.written();
            }
            continue;
        }
        let first = lock(waiting).as_mut().and_then(VecDeque::pop_front);
        let Some(Sent {
            sequence,
            batch,
            _permit,
        }) = first
        else {
            return "an answer to nothing".to_owned();
        };
        match answers_from_pb(answer.answers.unwrap_or_default()) {
            Ok(decided) if sequence == answer.sequence && decided.len() == batch.waiting.len() => {
                batch.decided(decided, answer.log_index);
            }
            _ => {
                batch.failed("the leader's answer does not fit the batch");
                return "an answer that does not fit".to_owned();
            }
        }
    }
}

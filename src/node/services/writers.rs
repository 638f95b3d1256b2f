//! Which journals are being appended to: every member is asked, for a stream may be open at any of them.
//!
//! The rule: a journal is being appended to while the stream of its newest writer is not known to have ended. A stream has ended
//! when the member that has it says so. Of a member that does not answer, what it said last counts for a while, see
//! [`StreamsElsewhere`](crate::node::append::StreamsElsewhere); so each member asks the others all the time, and tells them of each
//! stream that it opens.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};

use crate::{
    codec::wire::{token_from_pb, token_to_pb},
    domain::{FencingToken, JournalId, NodeId},
    env::{
        net, task,
        time::{self, Instant},
    },
    node::shared::{Running, Shared},
    pb,
};

/// How long a member may take to answer, before what it said last counts.
const MEMBER_WITHIN: Duration = Duration::from_millis(300);
/// How often each member is asked for all its streams.
const ASK_EVERY: Duration = Duration::from_millis(500);

type Streams = BTreeSet<(JournalId, FencingToken)>;

fn to_pb((journal, token): (JournalId, FencingToken)) -> pb::OpenWriter {
    pb::OpenWriter {
        journal: journal.0,
        token: Some(token_to_pb(token)),
    }
}

fn from_pb(writer: pb::OpenWriter) -> Option<(JournalId, FencingToken)> {
    Some((JournalId(writer.journal), token_from_pb(writer.token).ok()?))
}

/// The open streams of these journals at this node.
fn here(shared: &Shared, journals: &[u64]) -> Vec<(JournalId, FencingToken)> {
    if journals.is_empty() {
        return shared.writers.all();
    }
    let open = |journal: &u64| {
        let journal = JournalId(*journal);
        let tokens = shared.writers.of(journal).into_iter();
        tokens.map(move |token| (journal, token))
    };
    journals.iter().flat_map(open).collect()
}

/// What another member asks, or tells.
pub(super) fn asked(
    shared: &Shared,
    from: NodeId,
    request: &pb::WritersRequest,
) -> Vec<pb::OpenWriter> {
    if let Some(opened) = request.opened {
        if let Some(stream) = from_pb(opened) {
            shared.elsewhere.opened(from, stream);
        }
        return Vec::new();
    }
    let open = here(shared, &request.journals);
    open.into_iter().map(to_pb).collect()
}

/// Says of each journal whether it is being appended to.
pub(super) async fn mark(shared: &Shared, running: &Running, stats: &mut [pb::JournalStat]) {
    let journals: Vec<u64> = stats.iter().map(|stat| stat.id).collect();
    if journals.is_empty() {
        return;
    }
    let mut open: Streams = here(shared, &journals).into_iter().collect();
    let mut members = Vec::new();
    let request = pb::WritersRequest {
        journals,
        ..Default::default()
    };
    let others = others(running).into_iter();
    let mut asked: FuturesUnordered<_> = others
        .map(|node| {
            let request = request.clone();
            async move { (node, ask(running, node, request).await) }
        })
        .collect();
    while let Some((node, answer)) = asked.next().await {
        members.push((node, answer.is_ok()));
        open.extend(answer.unwrap_or_default());
    }
    let now = Instant::now();
    for stat in stats {
        let Ok(token) = token_from_pb(stat.token) else {
            continue;
        };
        let stream = (JournalId(stat.id), token);
        let perhaps = |(node, answers): &(NodeId, bool)| {
            shared.elsewhere.perhaps(*node, stream, *answers, now)
        };
        stat.appending = open.contains(&stream) || members.iter().any(perhaps);
    }
}

/// Tells the other members of a stream that was opened here. Nobody waits for it: one that does not hear it asks soon.
pub(super) fn tell(running: &Arc<Running>, stream: (JournalId, FencingToken)) {
    let running = running.clone();
    task::spawn(async move {
        let request = pb::WritersRequest {
            opened: Some(to_pb(stream)),
            ..Default::default()
        };
        let others = others(&running).into_iter();
        join_all(others.map(|node| ask(&running, node, request.clone()))).await;
    });
}

/// Asks the other members which streams they have, for as long as this node runs.
pub(in crate::node) fn follow(shared: Arc<Shared>, running: Arc<Running>) {
    task::spawn(async move {
        while shared.still_runs(&running) {
            let others = others(&running);
            shared.elsewhere.keep(&others);
            let asked = others.into_iter().map(|node| {
                let answer = ask(&running, node, pb::WritersRequest::default());
                async move { (node, answer.await) }
            });
            for (node, answer) in join_all(asked).await {
                match answer {
                    Ok(streams) => shared.elsewhere.heard(node, streams, Instant::now()),
                    Err(Silent { gone: true }) => shared.elsewhere.gone(node, Instant::now()),
                    Err(Silent { gone: false }) => {}
                }
            }
            time::sleep(ASK_EVERY).await;
        }
    });
}

fn others(running: &Running) -> Vec<NodeId> {
    let me = running.router.me();
    let state = running.router.group().view().read();
    let members = state.members().map(|member| member.node);
    members.filter(|node| *node != me).collect()
}

/// A member that did not answer.
#[derive(Debug)]
struct Silent {
    /// For nobody listens there.
    gone: bool,
}

async fn ask(
    running: &Running,
    node: NodeId,
    request: pb::WritersRequest,
) -> Result<Streams, Silent> {
    let group = running.router.group();
    let Some(mut client) = running.router.links().forward(group, node) else {
        return Err(Silent { gone: false });
    };
    let request = pb::WritersRequest {
        header: Some(group.peers().header(node)),
        ..request
    };
    match time::timeout(MEMBER_WITHIN, client.writers(request)).await {
        Ok(Ok(response)) => {
            let writers = response.into_inner().writers;
            Ok(writers.into_iter().filter_map(from_pb).collect())
        }
        Ok(Err(status)) => Err(Silent {
            gone: net::nobody_listens(&status),
        }),
        Err(_) => Err(Silent { gone: false }),
    }
}

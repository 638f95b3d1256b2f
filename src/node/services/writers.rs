//! Which journals are being appended to: every member is asked, for a stream may be open at any of them.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};

use crate::{
    codec::wire::token_from_pb,
    domain::{FencingToken, JournalId, NodeId},
    env::time,
    node::shared::{Running, Shared},
    pb,
};

/// How long a member may take. One that is lost has no streams either: its clients are going elsewhere.
const MEMBER_WITHIN: Duration = Duration::from_millis(300);

/// The open streams of these journals at this node.
pub(super) fn here(shared: &Shared, journals: &[u64]) -> Vec<pb::OpenWriter> {
    let open = |journal: &u64| {
        let tokens = shared.writers.of(JournalId(*journal));
        let journal = *journal;
        tokens.into_iter().map(move |token| pb::OpenWriter {
            journal,
            token: Some(crate::codec::wire::token_to_pb(token)),
        })
    };
    journals.iter().flat_map(open).collect()
}

/// Says of each journal whether a stream of its newest writer is open at any member that answers.
pub(super) async fn mark(shared: &Shared, running: &Running, stats: &mut [pb::JournalStat]) {
    let journals: Vec<u64> = stats.iter().map(|stat| stat.id).collect();
    if journals.is_empty() {
        return;
    }
    let mut open = here(shared, &journals);
    let group = running.router.group();
    let me = running.router.me();
    let members: Vec<NodeId> = {
        let state = group.view().read();
        state.members().map(|member| member.node).collect()
    };
    let mut asked: FuturesUnordered<_> = members
        .into_iter()
        .filter(|node| *node != me)
        .map(|node| ask(running, node, journals.clone()))
        .collect();
    while let Some(answer) = asked.next().await {
        open.extend(answer);
    }
    let open: BTreeSet<(u64, FencingToken)> = open
        .into_iter()
        .filter_map(|writer| Some((writer.journal, token_from_pb(writer.token).ok()?)))
        .collect();
    for stat in stats {
        let newest = token_from_pb(stat.token).ok();
        stat.appending = newest.is_some_and(|newest| open.contains(&(stat.id, newest)));
    }
}

async fn ask(running: &Running, node: NodeId, journals: Vec<u64>) -> Vec<pb::OpenWriter> {
    let group = running.router.group();
    let Some(mut client) = running.router.links().forward(group, node) else {
        return Vec::new();
    };
    let request = pb::WritersRequest {
        header: Some(group.peers().header(node)),
        journals,
    };
    match time::timeout(MEMBER_WITHIN, client.writers(request)).await {
        Ok(Ok(response)) => response.into_inner().writers,
        _ => Vec::new(),
    }
}

//! What the node's log tells of its group: who leads, who comes and goes.

use std::collections::BTreeMap;

use crate::{domain::NodeId, env::task, raft::Group};

/// Whether each member votes, by number.
type Members = BTreeMap<NodeId, bool>;

/// Writes a line at each change, until the group stops.
pub(super) fn keep(group: &Group) {
    let (mut changes, group) = (group.watch_status(), group.clone());
    task::spawn(async move {
        let (mut leader, mut members) = (None, Members::new());
        loop {
            let status = group.status();
            if status.leader.is_some() && status.leader != leader {
                tracing::info!(leader = %status.leader.unwrap_or_default(), term = status.term, "a leader is known");
            }
            if status.leader.is_none() && leader.is_some() {
                tracing::info!(term = status.term, "the leader is lost");
            }
            leader = status.leader;
            let now = status
                .members
                .iter()
                .map(|member| (member.member.node, member.voter))
                .collect();
            if !members.is_empty() {
                report(&members, &now);
            }
            members = now;
            if !changes.changed().await {
                return;
            }
        }
    });
}

fn report(before: &Members, now: &Members) {
    for node in before.keys().filter(|node| !now.contains_key(node)) {
        tracing::info!(%node, "a member was removed");
    }
    for (node, votes) in now {
        match (before.get(node), votes) {
            (None, _) => tracing::info!(%node, votes, "a member was added"),
            (Some(false), true) => tracing::info!(%node, "a member votes now"),
            _ => {}
        }
    }
}

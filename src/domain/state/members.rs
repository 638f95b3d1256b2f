//! Members: their numbers, identities and addresses.

use std::collections::{BTreeSet, btree_map::Entry};

use super::{Change, State};
use crate::domain::{Member, NodeId, Outcome, Rejected};

impl State {
    /// Follows a membership entry: members that are new in it are registered, members that left it are forgotten.
    pub fn follow_membership(
        &mut self,
        log_index: u64,
        members: &[Member],
        changes: &mut Vec<Change>,
    ) {
        self.counters.chain(log_index, 0);
        let named: BTreeSet<_> = members.iter().map(|member| member.node).collect();
        let gone: Vec<_> = self
            .members
            .keys()
            .filter(|node| !named.contains(node))
            .copied()
            .collect();
        for node in gone {
            self.members.remove(&node);
            changes.push(Change::Member(node));
        }
        for member in members {
            let after = member.node.0.saturating_add(1);
            self.counters.next_node = self.counters.next_node.max(after);
            if let Entry::Vacant(new) = self.members.entry(member.node) {
                new.insert(member.clone());
                changes.push(Change::Member(member.node));
            }
        }
    }

    pub(super) fn allocate_node(&mut self) -> NodeId {
        let node = NodeId(self.counters.next_node);
        self.counters.next_node += 1;
        node
    }

    pub(super) fn announce(
        &mut self,
        member: &Member,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        member.check()?;
        let known = self
            .members
            .get_mut(&member.node)
            .ok_or(Rejected::UnknownMember { node: member.node })?;
        if known.incarnation != member.incarnation {
            return Err(Rejected::ForeignIncarnation { node: member.node });
        }
        if known != member {
            known.clone_from(member);
            changes.push(Change::Member(member.node));
        }
        Ok(Outcome::MemberAnnounced)
    }
}

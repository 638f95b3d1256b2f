//! What goes to the log and to the other members comes back as it was.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::{EntryPayload, Membership};
use proptest::{collection, option, prelude::*};

use crate::raft::types::{
    Applied, Entry, LeaderId, LogId, Peer, Proposal, StoredMembership, Vote, entry_from_pb,
    entry_from_wal, entry_to_pb, entry_to_wal, log_id_from_pb, log_id_from_wal, log_id_to_pb,
    log_id_to_wal, vote_from_pb, vote_from_wal, vote_to_pb, vote_to_wal,
};

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, node_id, index)| LogId {
        leader_id: LeaderId { term, node_id },
        index,
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    let address = "[a-z0-9.]{0,12}:[0-9]{1,5}";
    (any::<u64>(), address, address, address).prop_map(|(incarnation, client, peer, http)| Peer {
        incarnation,
        client_address: client,
        peer_address: peer,
        http_address: http,
    })
}

/// Members of which some vote, in one configuration or, while it changes, in two.
fn membership() -> impl Strategy<Value = Membership<u64, Peer>> {
    let peers = collection::btree_map(any::<u64>(), peer(), 1..6);
    (peers, any::<u8>(), option::of(any::<u8>())).prop_map(|(peers, first, second)| {
        let voters = |mask: u8| -> BTreeSet<u64> {
            let chosen = peers
                .keys()
                .enumerate()
                .filter(|(place, _)| mask & (1 << place) != 0);
            let mut voters: BTreeSet<u64> = chosen.map(|(_, node)| *node).collect();
            voters.extend(peers.keys().next().filter(|_| voters.is_empty()));
            voters
        };
        let configs = std::iter::once(first).chain(second).map(voters).collect();
        Membership::new(configs, peers.clone()).expect("voters are members")
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        collection::vec(any::<u8>(), 0..200)
            .prop_map(|bytes| EntryPayload::Normal(Proposal(Bytes::from(bytes)))),
        membership().prop_map(EntryPayload::Membership),
    ];
    (log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

proptest! {
    #[test]
    fn log_ids_and_votes_come_back(id in log_id(), term: u64, node_id: u64, committed: bool) {
        prop_assert_eq!(log_id_from_pb(log_id_to_pb(&id)), id);
        prop_assert_eq!(log_id_from_wal(log_id_to_wal(&id)), id);
        let leader_id = LeaderId { term, node_id };
        let vote = Vote { leader_id, committed };
        prop_assert_eq!(vote_from_pb(Some(vote_to_pb(&vote))).unwrap(), vote);
        prop_assert_eq!(vote_from_wal(vote_to_wal(&vote)), vote);
    }

    #[test]
    fn entries_come_back_from_the_log_and_from_a_member(entry in entry()) {
        let logged = entry_to_wal(entry.clone());
        prop_assert_eq!(entry_from_wal(logged).unwrap(), entry.clone());
        prop_assert_eq!(entry_from_pb(entry_to_pb(entry.clone())).unwrap(), entry);
    }

    #[test]
    fn the_applied_mark_comes_back(id in option::of(log_id()), at in option::of(log_id()), membership in membership()) {
        let applied = Applied { log_id: id, membership: StoredMembership::new(at, membership) };
        prop_assert_eq!(Applied::decode(Some(applied.encode())).unwrap(), applied);
    }

    /// Bytes that are no entry are refused, never a panic.
    #[test]
    fn no_payload_of_a_log_entry_panics(id in log_id(), kind: u8, payload in collection::vec(any::<u8>(), 0..60)) {
        let log_id = log_id_to_wal(&id);
        let _ = entry_from_wal(crate::storage::wal::LogEntry { log_id, kind, payload: payload.into() });
    }
}

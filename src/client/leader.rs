//! Whom to ask: the endpoints given, the members learned from them, and who leads.
//!
//! Any member forwards to the leader, so a wrong guess costs a hop, never correctness.

use std::{collections::BTreeMap, time::Duration};

use super::ClientError;
use crate::{domain::limits::MEMBERS_MAX, env::time::Instant, pb};

/// The port of a node's client address, when an endpoint names none.
pub const DEFAULT_PORT: u16 = 7420;

/// Most addresses remembered besides the endpoints given: members come and go, and memory must not grow with them.
const LEARNED_MAX: usize = 2 * MEMBERS_MAX;

/// `host:port` of an endpoint, which may come as a URL or without a port.
pub(super) fn authority(endpoint: &str) -> Result<String, ClientError> {
    let bad = |why: &str| ClientError::BadRequest {
        what: format!("use endpoint {endpoint:?}"),
        why: format!("{why}; expected HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}"),
    };
    let text = endpoint.trim();
    let text = text.strip_prefix("http://").unwrap_or(text);
    let text = text.trim_end_matches('/');
    let parsed: http::uri::Authority = text.parse().map_err(|_| bad("it is no address"))?;
    if parsed.host().is_empty() || text.contains('@') {
        return Err(bad("it names no host"));
    }
    Ok(match parsed.port_u16() {
        Some(_) => text.to_owned(),
        None if text.len() > parsed.host().len() => return Err(bad("its port is no number")),
        None => format!("{text}:{DEFAULT_PORT}"),
    })
}

/// What the client knows of the cluster's addresses. All memory, no I/O.
#[derive(Debug)]
pub(super) struct Directory {
    endpoints: Vec<String>,
    learned: Vec<String>,
    leader: Option<(u64, String)>,
    /// Addresses whose last attempt failed, and when.
    failed: BTreeMap<String, Instant>,
    /// When the members were last asked for without need.
    kept_up: Option<Instant>,
}

impl Directory {
    pub(super) fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            learned: Vec::new(),
            leader: None,
            failed: BTreeMap::new(),
            kept_up: None,
        }
    }

    /// Whether the members are to be asked for again, which is taken to happen then.
    pub(super) fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let is_due = self.kept_up.is_none_or(|at| now >= at + every);
        if is_due {
            self.kept_up = Some(now);
        }
        is_due
    }

    /// The leader's address, as far as is known.
    pub(super) fn leader(&self) -> Option<&str> {
        self.leader.as_ref().map(|(_, address)| address.as_str())
    }

    /// Every address known: the endpoints given first.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.endpoints
            .iter()
            .chain(&self.learned)
            .cloned()
            .collect()
    }

    /// Every address known, in the order to try: the leader, then those without a failure, then the longest-failed.
    pub(super) fn candidates(&self) -> Vec<String> {
        let mut addresses = self.addresses();
        addresses.sort_by_key(|address| {
            let leads = self.leader() == Some(address);
            (!leads, self.failed.get(address).copied())
        });
        addresses
    }

    /// Takes in what a node says of the cluster.
    pub(super) fn learn(&mut self, status: &pb::StatusResponse) {
        for member in status.members.iter().filter_map(|m| m.member.as_ref()) {
            self.remember(&member.client_address);
        }
        if !status.leader_address.is_empty() {
            let newer = |(term, _): &(u64, String)| *term <= status.term;
            if self.leader.as_ref().is_none_or(newer) {
                self.remember(&status.leader_address);
                self.leader = Some((status.term, status.leader_address.clone()));
            }
        }
    }

    /// Takes in a leader named by an answer, which says no term.
    pub(super) fn hint_leader(&mut self, address: &str) {
        self.remember(address);
        let term = self.leader.as_ref().map_or(0, |(term, _)| *term);
        self.leader = Some((term, address.to_owned()));
    }

    /// `address` answered.
    pub(super) fn succeeded(&mut self, address: &str) {
        self.failed.remove(address);
    }

    /// `address` did not do: it is tried last, and no longer held for the leader.
    pub(super) fn failed(&mut self, address: &str, at: Instant) {
        if self.addresses().iter().any(|known| known == address) {
            self.failed.insert(address.to_owned(), at);
        }
        self.leader.take_if(|(_, leader)| leader == address);
    }

    fn remember(&mut self, address: &str) {
        let known = |list: &[String]| list.iter().any(|other| other == address);
        if known(&self.endpoints) || known(&self.learned) || authority(address).is_err() {
            return;
        }
        if self.learned.len() >= LEARNED_MAX {
            let forgotten = self.learned.remove(0);
            self.failed.remove(&forgotten);
        }
        self.learned.push(address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(term: u64, leader: &str, members: &[&str]) -> pb::StatusResponse {
        let member = |address: &&str| pb::MemberStatus {
            member: Some(pb::Member {
                client_address: (*address).to_owned(),
                ..pb::Member::default()
            }),
            ..pb::MemberStatus::default()
        };
        pb::StatusResponse {
            term,
            leader_address: leader.into(),
            members: members.iter().map(member).collect(),
            ..pb::StatusResponse::default()
        }
    }

    #[test]
    fn endpoints_come_with_and_without_scheme_and_port() {
        for (given, wanted) in [
            ("n1:7000", "n1:7000"),
            (" http://n1:7000/ ", "n1:7000"),
            ("n1", "n1:7420"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:7420"),
        ] {
            assert_eq!(authority(given).unwrap(), wanted, "{given}");
        }
        for bad in ["", "a b", "user@host:1", "n1:", "n1:port", "/x"] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn the_leader_is_tried_first_and_what_failed_last() {
        let mut directory = Directory::new(vec!["a:1".into(), "b:1".into()]);
        directory.learn(&status(3, "c:1", &["a:1", "b:1", "c:1"]));
        assert_eq!(directory.candidates(), ["c:1", "a:1", "b:1"]);
        let now = Instant::now();
        directory.failed("c:1", now);
        directory.failed("a:1", now + Duration::from_secs(1));
        assert_eq!(directory.leader(), None);
        assert_eq!(directory.candidates(), ["b:1", "c:1", "a:1"]);
        directory.succeeded("c:1");
        assert_eq!(directory.candidates(), ["b:1", "c:1", "a:1"]);
    }

    #[test]
    fn a_leader_of_an_older_term_is_not_believed() {
        let mut directory = Directory::new(vec!["a:1".into()]);
        directory.learn(&status(4, "b:1", &[]));
        directory.learn(&status(3, "a:1", &[]));
        assert_eq!(directory.leader(), Some("b:1"));
    }

    #[test]
    fn memory_does_not_grow_with_the_addresses_seen() {
        let mut directory = Directory::new(vec!["a:1".into()]);
        for port in 1..500 {
            directory.hint_leader(&format!("n:{port}"));
        }
        assert_eq!(directory.addresses().len(), LEARNED_MAX + 1);
        assert_eq!(directory.leader(), Some("n:499"));
        assert!(directory.addresses().contains(&"a:1".to_owned()));
    }
}

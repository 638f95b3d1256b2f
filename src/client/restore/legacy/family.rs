//! Whose journals and files are whose: by their names, for the workers of one host share a directory.

use std::collections::BTreeMap;

use crate::{
    client::{ClientError, restore::RestoreOptions},
    codec::wire,
    domain::{JournalKind, JournalName, JournalRef, Offset, WorkerRef, legacy},
    pb,
};

/// How the names of a legacy worker's files end, behind `P`, but for the event logs.
const SUFFIXES: [&str; 9] = [
    "journal",
    "checkpoint_ids",
    "local-keys",
    "workers",
    "tcp-control",
    "tcp-data",
    "connection-addresses",
    "local-topology",
    "active_stream_ids",
];
const EVENT_LOG: &str = "evlog";
const EVENT_LOG_JOURNAL: &str = "evlog.journal";

/// The journals of one application and worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    /// What the names of all its files begin with: `P`.
    pub(super) prefix: String,
    pub(super) ops: JournalName,
    /// The parts of the event log, in its order.
    pub(super) logs: Vec<JournalName>,
}

/// The journals of a worker.
pub(in crate::client::restore) type Listed = BTreeMap<JournalName, ListedJournal>;

/// What is known of a journal before the takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client::restore) struct ListedJournal {
    pub(in crate::client::restore) kind: JournalKind,
    /// Its length.
    pub(in crate::client::restore) bytes: u64,
    /// Where a takeover at the latest bytes would cut it, if it would.
    pub(in crate::client::restore) restart_cut: Option<Offset>,
}

/// The journals in an answer; those that this version cannot name are none.
pub(super) fn listed(answer: pb::ListJournalsResponse) -> Listed {
    let journal = |stat: pb::JournalStat| {
        let journal = wire::journal_from_pb(stat.journal).ok()?;
        let kind = wire::kind_from_pb(stat.kind).ok()?;
        let listed = ListedJournal {
            kind,
            bytes: stat.tail,
            restart_cut: stat.restart_cut.map(Offset),
        };
        Some((journal.journal, listed))
    };
    answer.journals.into_iter().filter_map(journal).collect()
}

/// What is missing of a worker that is a legacy one by the name of a journal, `P.journal` with `P` ending in `-WORKER`: it died
/// before the connections of all its journals had sent anything. What is there starts no worker; and taken for a native
/// worker it would be given the directory for itself, which it shares with others.
fn incomplete(listed: &Listed, worker: &WorkerRef) -> Option<String> {
    let named = listed
        .iter()
        .map(|(name, listed)| (name.as_str(), listed.kind, name));
    let end = format!("-{}", worker.worker);
    let mut families = legacy::families(named).into_iter();
    let (prefix, found) = families.find(|(prefix, _)| prefix.ends_with(&end))?;
    let (has, lacks) = match (found.ops, found.logs.first()) {
        (Some(ops), _) => (ops, format!("event log, {prefix}.{EVENT_LOG_JOURNAL},")),
        (None, Some((_, log))) => (*log, format!("journal of files, {prefix}.journal,")),
        (None, None) => return None,
    };
    let remove = remove_command(&worker.journal(has.clone()));
    Some(format!(
        "by its journal {has} it is a legacy worker, whose {lacks} is not in the cluster, so it could not start from what is: remove that ({remove}) and start the worker anew in a directory without its files; if it is no legacy worker, restore it with --native"
    ))
}

/// The command that removes a journal, as a shell takes it.
pub(super) fn remove_command(journal: &JournalRef) -> String {
    let journal = journal.to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if journal.bytes().all(is_plain) {
        format!("`dos-cluster journal rm {journal}`")
    } else {
        format!(
            "`dos-cluster journal rm '{}'`",
            journal.replace('\'', "'\\''")
        )
    }
}

impl Family {
    /// The family to restore; `None` when the worker is no legacy one.
    ///
    /// # Errors
    /// `Refused` when there are several and none is chosen, when a part of one is not in the cluster, or when options do not go
    /// with the worker.
    pub(super) fn find(
        listed: &Listed,
        options: &RestoreOptions,
    ) -> Result<Option<Self>, ClientError> {
        let bad = |why: String| ClientError::Refused {
            what: format!("restore worker {}", options.worker),
            why,
        };
        let mut families = Self::all(listed);
        if options.native {
            families.clear();
        } else if families.is_empty()
            && let Some(why) = incomplete(listed, &options.worker)
        {
            return Err(bad(why));
        }
        if families.is_empty() {
            let only = "it is no legacy worker: no ops journal P.journal of it has an event log P.evlog.journal";
            return match (&options.prefix, &options.endpoint) {
                (None, None) => Ok(None),
                (Some(_), _) => Err(bad(format!("{only}; leave the prefix out"))),
                (None, Some(_)) => Err(bad(format!(
                    "{only}; leave the addresses out, and set them with `dos-cluster endpoint set`"
                ))),
            };
        }
        if !options.map.is_empty() {
            let why = "it is a legacy worker, whose files all go into the directory; leave the path rules out";
            return Err(bad(why.to_owned()));
        }
        let known = families.iter().map(|family| family.prefix.clone());
        let known = known.collect::<Vec<_>>().join(", ");
        if let Some(prefix) = &options.prefix {
            let full = format!("{prefix}-{}", options.worker.worker);
            families.retain(|family| family.prefix == full || family.prefix == *prefix);
        }
        match families.len() {
            1 => Ok(families.pop()),
            0 => Err(bad(format!(
                "it has no journals of prefix {:?}, only of: {known}",
                options.prefix.as_deref().unwrap_or_default()
            ))),
            _ => Err(bad(format!(
                "it has journals of several applications; choose one with --prefix: {known}"
            ))),
        }
    }

    /// Every ops journal with at least one part of an event log.
    fn all(listed: &Listed) -> Vec<Self> {
        let named = listed
            .iter()
            .map(|(name, listed)| (name.as_str(), listed.kind, name));
        let family = |(prefix, found): (&str, legacy::LegacyFamily<&JournalName>)| {
            let ops = found.ops.filter(|_| !found.logs.is_empty())?;
            Some(Self {
                prefix: prefix.to_owned(),
                ops: ops.clone(),
                logs: found.logs.iter().map(|(_, name)| (*name).clone()).collect(),
            })
        };
        let found = legacy::families(named);
        found.into_iter().filter_map(family).collect()
    }

    pub(super) fn has(&self, journal: &JournalName) -> bool {
        self.ops == *journal || self.logs.contains(journal)
    }

    /// The name of a file of this worker.
    pub(super) fn file(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// What comes behind `P.` in a name; `None` for what is another's. A worker's name may begin with the whole of
    /// another's, so what has a point in its suffix is not taken for this one's.
    pub(super) fn suffix<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?;
        let suffix = rest
            .strip_prefix(b".")
            .or_else(|| legacy::behind_start(rest))?;
        let is_one = !suffix.is_empty() && !suffix.contains(&b'.');
        (is_one || suffix == EVENT_LOG_JOURNAL.as_bytes()).then_some(suffix)
    }

    /// Whether it is the name of a file that every such worker has: what an old incarnation may have left.
    pub(super) fn is_known(&self, name: &[u8]) -> bool {
        let Some(suffix) = self.suffix(name) else {
            return false;
        };
        let is_log = [EVENT_LOG, EVENT_LOG_JOURNAL]
            .map(str::as_bytes)
            .contains(&suffix);
        let is_chunk = name.len() != self.prefix.len() + 1 + suffix.len();
        is_log || (!is_chunk && SUFFIXES.map(str::as_bytes).contains(&suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> Family {
        Family {
            prefix: "a b-w1".into(),
            ops: "a b-w1.journal".parse().unwrap(),
            logs: vec!["a b-w1.evlog.journal".parse().unwrap()],
        }
    }

    #[test]
    fn a_file_of_a_worker_whose_name_begins_alike_is_not_this_ones() {
        let suffix = |name: &'static str| family().suffix(name.as_bytes());
        assert_eq!(suffix("a b-w1.workers"), Some(&b"workers"[..]));
        assert_eq!(suffix("a b-w1-000000000000001a.evlog"), Some(&b"evlog"[..]));
        assert_eq!(suffix("a b-w1.evlog.journal"), Some(&b"evlog.journal"[..]));
        for other in [
            "a b-w10.workers",
            "a b-w1.x.workers",
            "a b-w1.",
            "a b-w1",
            "a b-w1-1a.evlog",
            "a b-w1-000000000000001a",
            "workers",
        ] {
            assert_eq!(suffix(other), None, "{other}");
        }
    }

    #[test]
    fn only_files_that_such_workers_make_are_taken_for_an_old_incarnations() {
        let known = |name: &str| family().is_known(name.as_bytes());
        for ours in [
            "a b-w1.local-keys",
            "a b-w1.evlog",
            "a b-w1-000000000000001a.evlog.journal",
        ] {
            assert!(known(ours), "{ours}");
        }
        for notes in ["a b-w1.notes", "a b-w1-000000000000001a.workers"] {
            assert!(!known(notes), "{notes}");
        }
    }

    #[test]
    fn an_ops_journal_alone_makes_no_legacy_worker() {
        let of = |names: &[(&str, JournalKind)]| {
            let listed = names.iter().map(|(name, kind)| {
                let listed = ListedJournal {
                    kind: *kind,
                    bytes: 0,
                    restart_cut: None,
                };
                (name.parse().unwrap(), listed)
            });
            let all = Family::all(&listed.collect());
            all.into_iter()
                .map(|family| (family.prefix, family.logs.len()))
                .collect::<Vec<_>>()
        };
        let ops = ("p.journal", JournalKind::Ops);
        assert_eq!(of(&[ops]), []);
        let (log, other) = (
            ("p.evlog.journal", JournalKind::Raw),
            ("q.evlog.journal", JournalKind::Raw),
        );
        assert_eq!(of(&[ops, other]), []);
        let chunk = ("p-00000000000000ff.evlog.journal", JournalKind::Raw);
        assert_eq!(of(&[ops, log, chunk, other]), [("p".to_owned(), 2)]);
    }
}

//! Arguments that several commands take, and how they are parsed.

use std::{
    collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt, str::FromStr, time::Duration,
};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};

use super::exit::Failure;
use crate::{
    client::Floor,
    domain::{Addresses, JobName, JournalKind, NameError, RestorePoint, WorkerRef},
    node::config,
    pb,
};

/// A duration above zero, with its unit.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it with a unit: 500ms, 10s, 2m")),
    }
}

/// A number of bytes, with a unit or without.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let parsed = config::parse_bytes(text, 1..=1 << 50);
    parsed.map_err(|why| format!("{why}; write it as 4096, 64KiB or 1GiB"))
}

/// `latest`, `line`, or a checkpoint id.
pub(super) fn restore_point(text: &str) -> Result<RestorePoint, String> {
    match text {
        "latest" => Ok(RestorePoint::Latest),
        "line" => Ok(RestorePoint::Line),
        id => id
            .parse()
            .map(RestorePoint::Checkpoint)
            .map_err(|_| "expected latest, line, or a checkpoint id such as 42 or 0:42".to_owned()),
    }
}

/// `ops` or `raw`.
pub(super) fn journal_kind(text: &str) -> Result<JournalKind, String> {
    match text {
        "ops" => Ok(JournalKind::Ops),
        "raw" => Ok(JournalKind::Raw),
        _ => Err("expected ops or raw".to_owned()),
    }
}

/// `ROLE=HOST:PORT`.
pub(super) fn role_and_address(text: &str) -> Result<(String, String), String> {
    let (role, address) = text
        .split_once('=')
        .ok_or("expected ROLE=HOST:PORT, such as control=10.0.0.7:3131")?;
    let one = (role.to_owned(), address.to_owned());
    Addresses::new([one.clone()].into()).map_err(|error| error.to_string())?;
    Ok(one)
}

/// A worker's addresses, each given as [`role_and_address`].
pub(super) fn addresses(given: Vec<(String, String)>) -> Result<Addresses, Failure> {
    let mut by_role = BTreeMap::new();
    for (role, address) in given {
        if by_role.contains_key(&role) {
            return Err(Failure::usage(format!("role {role} is given twice")));
        }
        by_role.insert(role, address);
    }
    Addresses::new(by_role).map_err(|error| Failure::usage(error.to_string()))
}

/// `OLD=NEW`, as bytes: paths need not be UTF-8.
pub(super) fn path_rule_parser() -> impl TypedValueParser<Value = PathRule> {
    OsStringValueParser::new().try_map(path_rule)
}

fn path_rule(text: OsString) -> Result<PathRule, String> {
    let bytes = text.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let Some(at) = at.filter(|at| *at > 0) else {
        return Err("expected OLD=NEW, such as /var/lib/worker=state".to_owned());
    };
    Ok(PathRule {
        old: bytes[..at].to_vec(),
        new: bytes[at + 1..].to_vec(),
    })
}

/// Paths of a journal that begin with `old` begin with `new` below the target directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathRule {
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
}

/// `JOB` or `JOB/WORKER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Job(JobName),
    Worker(WorkerRef),
}

impl FromStr for Scope {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('/') {
            text.parse().map(Self::Worker)
        } else {
            text.parse().map(Self::Job)
        }
    }
}

impl Scope {
    pub(super) fn job(&self) -> &JobName {
        match self {
            Self::Job(job) => job,
            Self::Worker(worker) => &worker.job,
        }
    }

    pub(super) fn worker(&self) -> Option<&WorkerRef> {
        match self {
            Self::Job(_) => None,
            Self::Worker(worker) => Some(worker),
        }
    }
}

/// What a read must at least contain.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct FloorArguments {
    /// Take whatever the node has: needs no leader, and may be stale
    #[arg(long, conflicts_with = "min_index")]
    stale: bool,
    /// Wait until the node has applied this log index, from an acknowledgement: needs no leader
    #[arg(long, value_name = "INDEX")]
    min_index: Option<u64>,
}

impl FloorArguments {
    pub(super) fn floor(self) -> Floor {
        match self.min_index {
            _ if self.stale => Floor::Stale,
            Some(index) => Floor::LogIndex(index),
            None => Floor::Linearizable,
        }
    }
}

/// `ops` or `raw`; `?` for what a newer node says.
pub(super) fn kind_name(kind: i32) -> &'static str {
    match pb::JournalKind::try_from(kind) {
        Ok(pb::JournalKind::Ops) => "ops",
        Ok(pb::JournalKind::Raw) => "raw",
        _ => "?",
    }
}

/// `job/worker`.
pub(super) fn worker_name(worker: Option<&pb::WorkerRef>) -> String {
    worker.map_or_else(
        || "?".to_owned(),
        |worker| format!("{}/{}", worker.job, worker.worker),
    )
}

/// `job/worker/journal`.
pub(super) fn journal_name(journal: Option<&pb::JournalRef>) -> String {
    let name = |journal: &pb::JournalRef| {
        format!("{}/{}/{}", journal.job, journal.worker, journal.journal)
    };
    journal.map_or_else(|| "?".to_owned(), name)
}

/// `0:42`.
pub(super) fn checkpoint_name(id: pb::CheckpointId) -> String {
    format!("{}:{}", id.rollback_epoch, id.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CheckpointId;

    #[test]
    fn restore_points_are_latest_line_or_an_id() {
        assert_eq!(restore_point("latest"), Ok(RestorePoint::Latest));
        assert_eq!(restore_point("line"), Ok(RestorePoint::Line));
        let id = CheckpointId {
            rollback_epoch: 2,
            number: 7,
        };
        assert_eq!(restore_point("2:7"), Ok(RestorePoint::Checkpoint(id)));
        assert!(restore_point("newest").is_err());
    }

    #[test]
    fn a_scope_is_a_job_or_a_worker() {
        assert!(matches!("j".parse(), Ok(Scope::Job(_))));
        assert!(matches!("j/w".parse(), Ok(Scope::Worker(_))));
        for bad in ["", "/", "j/", "/w", "a/b/c"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn path_rules_are_bytes_around_the_first_equals_sign() {
        let raw = OsString::from_vec(b"/a\xff=b=c".to_vec());
        let rule = path_rule(raw).unwrap();
        assert_eq!(
            (rule.old.as_slice(), rule.new.as_slice()),
            (&b"/a\xff"[..], &b"b=c"[..])
        );
        assert_eq!(path_rule("/a=".into()).unwrap().new, b"");
        for bad in ["", "/a", "=b"] {
            assert!(path_rule(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_needs_a_unit_and_a_length() {
        assert_eq!(positive_duration("1500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "0s", "10", "-1s", "soon"] {
            assert!(positive_duration(bad).is_err(), "{bad}");
        }
    }
}

//! Which journals of a legacy worker belong together, by their names.
//!
//! ```text
//! P.journal                      ops: every change of the worker's files
//! P.evlog.journal                raw: the event log
//! P-0000000000001a2b.evlog.journal   raw: a part of it, with log rotation; the number is how many bytes come before
//! ```
//! `P` is application and worker, such as `Multi Partition Detector-worker2`.

use std::collections::BTreeMap;

use super::journal::JournalKind;

const OPS_SUFFIX: &str = ".journal";
const EVENT_LOG_SUFFIX: &str = ".evlog.journal";
/// Hexadecimal digits of a rotated event log.
const START_DIGITS: usize = 16;

/// A journal that the legacy names give a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyName<'a> {
    /// What the journals of one application and worker have in common: `P`.
    pub prefix: &'a str,
    /// Which of them.
    pub part: LegacyPart,
}

/// One of the journals of a legacy worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyPart {
    /// The event log, or the part of it that begins behind so many bytes.
    EventLog {
        /// `None`: the log is not rotated.
        start: Option<u64>,
    },
    /// The file operations.
    Ops,
}

impl<'a> LegacyName<'a> {
    /// What a journal's name and kind say; `None` for a journal of no legacy worker.
    #[must_use]
    pub fn of(name: &'a str, kind: JournalKind) -> Option<Self> {
        match kind {
            JournalKind::Ops => Some(Self {
                prefix: name.strip_suffix(OPS_SUFFIX)?,
                part: LegacyPart::Ops,
            }),
            JournalKind::Raw => {
                let stem = name.strip_suffix(EVENT_LOG_SUFFIX)?;
                let (prefix, start) = match rotated(stem) {
                    Some((prefix, start)) => (prefix, Some(start)),
                    None => (stem, None),
                };
                Some(Self {
                    prefix,
                    part: LegacyPart::EventLog { start },
                })
            }
        }
    }
}

/// The journals of one application and worker, as the caller knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyFamily<T> {
    /// The file operations.
    pub ops: Option<T>,
    /// The parts of the event log, in its order: where each begins, unless the log is not rotated.
    pub logs: Vec<(Option<u64>, T)>,
}

/// Which of a worker's journals belong together, by their prefix. A complete family has an ops journal and a part of an event log.
pub fn families<'a, T: Ord>(
    journals: impl IntoIterator<Item = (&'a str, JournalKind, T)>,
) -> BTreeMap<&'a str, LegacyFamily<T>> {
    let mut found = BTreeMap::new();
    for (name, kind, journal) in journals {
        let Some(LegacyName { prefix, part }) = LegacyName::of(name, kind) else {
            continue;
        };
        let none = LegacyFamily {
            ops: None,
            logs: Vec::new(),
        };
        let family = found.entry(prefix).or_insert(none);
        match part {
            LegacyPart::Ops => family.ops = Some(journal),
            LegacyPart::EventLog { start } => family.logs.push((start, journal)),
        }
    }
    for family in found.values_mut() {
        family.logs.sort_unstable();
    }
    found
}

/// What comes behind the number of a rotated event log's file: `evlog` behind `-0000000000001a2b.`.
#[must_use]
pub fn behind_start(rest: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = rest.strip_prefix(b"-")?.split_at_checked(START_DIGITS)?;
    let is_start = digits.iter().all(u8::is_ascii_hexdigit);
    is_start.then(|| rest.strip_prefix(b".")).flatten()
}

/// The prefix and the start of a rotated event log's part.
fn rotated(stem: &str) -> Option<(&str, u64)> {
    let (prefix, digits) = stem.rsplit_once('-')?;
    let is_start = digits.len() == START_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let start = u64::from_str_radix(digits, 16).ok().filter(|_| is_start)?;
    Some((prefix, start))
}

/// The name of the ops journal of a prefix.
#[must_use]
pub fn ops_name(prefix: &str) -> String {
    format!("{prefix}{OPS_SUFFIX}")
}

/// The kind that a legacy journal of this name has: `*.evlog.journal` is `raw`, any other `*.journal` is `ops`.
#[must_use]
pub fn kind_by_name(name: &str) -> JournalKind {
    if name.ends_with(OPS_SUFFIX) && !name.ends_with(EVENT_LOG_SUFFIX) {
        JournalKind::Ops
    } else {
        JournalKind::Raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_journals_belong_together() {
        let named = |name| LegacyName::of(name, kind_by_name(name)).map(|n| (n.prefix, n.part));
        let log = |start| LegacyPart::EventLog { start };
        for (name, expected) in [
            ("a b-w1.journal", Some(("a b-w1", LegacyPart::Ops))),
            ("a b-w1.evlog.journal", Some(("a b-w1", log(None)))),
            (
                "a-w1-0000000000001a2B.evlog.journal",
                Some(("a-w1", log(Some(0x1a2b)))),
            ),
            ("a-w1-1a2b.evlog.journal", Some(("a-w1-1a2b", log(None)))),
            (
                "a-w1-+000000000001a2b.evlog.journal",
                Some(("a-w1-+000000000001a2b", log(None))),
            ),
            ("a-w1.evlog", None),
            ("notes", None),
        ] {
            assert_eq!(named(name), expected, "{name}");
        }
        assert_eq!(
            LegacyName::of("a.evlog.journal", JournalKind::Ops)
                .unwrap()
                .prefix,
            "a.evlog"
        );
        assert_eq!(LegacyName::of("a.journal", JournalKind::Raw), None);
    }
}

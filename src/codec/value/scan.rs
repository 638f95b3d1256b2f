//! The scan of a legacy worker's journal, as a part of the journal's record.

use crate::{
    codec::CodecError,
    domain::{
        Offset,
        scan::{CheckpointIds, CheckpointIdsScan, EventLogScan, Found, JournalScan, Scan},
    },
    pb::{self, stored_found as wire, stored_scan},
};

impl From<&JournalScan> for pb::StoredScan {
    fn from(scan: &JournalScan) -> Self {
        let stored = match &scan.scan {
            Scan::EventLog(scan) => stored_scan::Scan::EventLog(pb::StoredEventLogScan {
                entry: scan.entry.0,
                head: scan.head.clone().into(),
                skip: scan.skip,
                lost: scan.lost,
            }),
            Scan::CheckpointIds(scan) => {
                stored_scan::Scan::CheckpointIds(pb::StoredCheckpointIdsScan {
                    record: scan.record.0,
                    head: scan.head.clone().into(),
                    passed: scan.passed,
                    path_end: scan.path_end.clone().into(),
                    data_end: scan.data_end.clone().into(),
                    lost: scan.lost,
                })
            }
        };
        Self {
            scan: Some(stored),
            waiting: scan.waiting.iter().map(Into::into).collect(),
            passed: scan.passed,
            reused: scan.reused.clone(),
            ended_runs: scan.ended_runs,
            run_from: scan.run_from.0,
        }
    }
}

impl TryFrom<pb::StoredScan> for JournalScan {
    type Error = CodecError;
    fn try_from(stored: pb::StoredScan) -> Result<Self, CodecError> {
        let missing = || CodecError::field("scan", "it is missing");
        let scan = match stored.scan.ok_or_else(missing)? {
            stored_scan::Scan::EventLog(scan) => Scan::EventLog(EventLogScan {
                entry: Offset(scan.entry),
                head: scan.head.into(),
                skip: scan.skip,
                lost: scan.lost,
            }),
            stored_scan::Scan::CheckpointIds(scan) => Scan::CheckpointIds(CheckpointIdsScan {
                record: Offset(scan.record),
                head: scan.head.into(),
                passed: scan.passed,
                path_end: scan.path_end.into(),
                data_end: scan.data_end.into(),
                lost: scan.lost,
            }),
        };
        let waiting = stored.waiting.into_iter().map(TryInto::try_into);
        Ok(Self {
            scan,
            waiting: waiting.collect::<Result<_, _>>()?,
            passed: stored.passed,
            reused: stored.reused,
            ended_runs: stored.ended_runs,
            run_from: Offset(stored.run_from),
        })
    }
}

impl From<&Found> for pb::StoredFound {
    fn from(found: &Found) -> Self {
        let found = match found {
            Found::Written { id, end } => wire::Found::Written(wire::Written {
                id: *id,
                end: end.0,
            }),
            Found::Ended { end } => wire::Found::Ended(wire::Ended { end: end.0 }),
            Found::Ids { ids, at, end } => wire::Found::Ids(wire::Ids {
                current: ids.current,
                complete: ids.complete,
                rollback: ids.rollback,
                at: at.0,
                end: end.0,
            }),
        };
        Self { found: Some(found) }
    }
}

impl TryFrom<pb::StoredFound> for Found {
    type Error = CodecError;
    fn try_from(stored: pb::StoredFound) -> Result<Self, CodecError> {
        let missing = || CodecError::field("found", "it is missing");
        Ok(match stored.found.ok_or_else(missing)? {
            wire::Found::Written(written) => Self::Written {
                id: written.id,
                end: Offset(written.end),
            },
            wire::Found::Ended(ended) => Self::Ended {
                end: Offset(ended.end),
            },
            wire::Found::Ids(found) => Self::Ids {
                ids: CheckpointIds {
                    current: found.current,
                    complete: found.complete,
                    rollback: found.rollback,
                },
                at: Offset(found.at),
                end: Offset(found.end),
            },
        })
    }
}

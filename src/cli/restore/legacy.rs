//! What the restore of a legacy worker has to say beside what every restore says.

use serde::Serialize;

use super::{super::Context, Refused, counted};
use crate::{
    client::restore::{CutTail, LegacyReport},
    domain::WorkerRef,
};

#[derive(Debug, Serialize)]
pub(super) struct Legacy {
    /// What the names of its files begin with.
    prefix: String,
    /// The checkpoint that the worker goes back to when it is started.
    pub(super) rolls_back_to: String,
    /// What was put into the directory.
    files: Vec<String>,
    /// Paths that are not of the worker's files.
    skipped: Vec<Refused>,
    /// Journals that stay in the cluster.
    others: Vec<String>,
    cut: Vec<Cut>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Cut {
    journal: String,
    at: u64,
    bytes: u64,
}

impl Legacy {
    pub(super) fn of(report: LegacyReport) -> Self {
        let cut = |cut: CutTail| Cut {
            journal: cut.journal.to_string(),
            at: cut.at.0,
            bytes: cut.bytes,
        };
        Self {
            prefix: report.prefix,
            rolls_back_to: report.rolls_back_to.to_string(),
            files: report.files,
            skipped: report.skipped.into_iter().map(Refused::of).collect(),
            others: report.others.iter().map(ToString::to_string).collect(),
            cut: report.cut.into_iter().map(cut).collect(),
            warnings: report.warnings,
        }
    }

    pub(super) fn say(&self, context: &Context, worker: &WorkerRef) {
        let note = |note: String| context.output.talk(&format!("note: {note}"));
        for Cut { journal, at, bytes } in &self.cut {
            let gone = counted(*bytes, "byte");
            note(format!(
                "journal {journal} was cut at {at}, here and in the cluster, and lost {gone} behind that"
            ));
        }
        for Refused { path, records, .. } in &self.skipped {
            note(format!(
                "{path} is not of this worker's files and was skipped, with {}",
                counted(*records, "record")
            ));
        }
        for journal in &self.others {
            note(format!(
                "journal {journal} is not of {} and stays in the cluster",
                self.prefix
            ));
        }
        for warning in &self.warnings {
            context.output.talk(&format!("warning: {warning}"));
        }
        note(format!(
            "make sure that the old process of {worker} is dead: the legacy protocol has no identity, so what connects anew is taken for the new one"
        ));
    }
}

//! `dos-cluster restore --dry-run`: what would be done.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::{
    Context,
    exit::{Exit, Failure},
    output::{fields, or_dash, table},
};
use crate::{
    client::restore::{PlannedJournal, RestorePlan},
    domain::WorkerRef,
};

#[derive(Debug, Serialize)]
struct Plan {
    worker: String,
    directory: String,
    /// What the names of a legacy worker's files begin with; none for any other worker.
    legacy_prefix: Option<String>,
    /// In force now; a restore raises it.
    epoch: u64,
    /// Who took the worker over last.
    by: String,
    /// What the wanted point is now; none for the latest bytes.
    checkpoint: Option<String>,
    journals: Vec<Row>,
    replaces: Vec<String>,
    /// Refused without `--force`.
    needs_force: bool,
    addresses: BTreeMap<String, String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    journal: String,
    kind: &'static str,
    bytes: u64,
    /// Where it would be cut, as far as that is known.
    cut_at: Option<u64>,
}

/// Shows a plan.
pub(super) fn show(
    context: &Context,
    worker: &WorkerRef,
    plan: RestorePlan,
) -> Result<Exit, Failure> {
    let shown = Plan::of(worker, plan);
    context.output.show(&shown, text)?;
    for warning in &shown.warnings {
        context.output.talk(&format!("warning: {warning}"));
    }
    context.output.talk(if shown.needs_force {
        "note: nothing was changed; the same without --dry-run is refused: what is there is replaced only with --force"
    } else {
        "note: nothing was changed; the same without --dry-run does it"
    });
    Ok(Exit::Done)
}

impl Plan {
    fn of(worker: &WorkerRef, plan: RestorePlan) -> Self {
        let row = |journal: PlannedJournal| Row {
            journal: journal.name.to_string(),
            kind: journal.kind.as_str(),
            bytes: journal.bytes,
            cut_at: journal.cut_at.map(|at| at.0),
        };
        let addresses = plan.endpoint.iter().flat_map(|endpoint| endpoint.iter());
        let addresses = addresses.map(|(role, address)| (role.to_owned(), address.to_owned()));
        let replaces = plan.replaces.iter();
        Self {
            worker: worker.to_string(),
            directory: plan.directory.display().to_string(),
            legacy_prefix: plan.prefix,
            epoch: plan.epoch.0,
            by: plan.by,
            checkpoint: plan.checkpoint.map(|id| id.to_string()),
            journals: plan.journals.into_iter().map(row).collect(),
            replaces: replaces.map(|path| path.display().to_string()).collect(),
            needs_force: plan.needs_force,
            addresses: addresses.collect(),
            warnings: plan.warnings,
        }
    }
}

fn text(plan: &Plan) -> String {
    let addresses = plan.addresses.iter();
    let addresses = addresses.map(|(role, address)| format!("{role}={address}"));
    let addresses = addresses.collect::<Vec<_>>().join(" ");
    let kind = match &plan.legacy_prefix {
        Some(prefix) => format!("{} (legacy, its files are {prefix}.*)", plan.worker),
        None => plan.worker.clone(),
    };
    let header = fields(&[
        ("would restore", kind),
        ("into", plan.directory.clone()),
        ("would fence", format!("epoch {}", plan.epoch)),
        ("checkpoint", or_dash(plan.checkpoint.as_ref())),
        (
            "addresses",
            or_dash(Some(&addresses).filter(|all| !all.is_empty())),
        ),
    ]);
    let rows = plan.journals.iter().map(|row| {
        let cut = match row.cut_at {
            Some(at) => at.to_string(),
            None => "-".to_owned(),
        };
        vec![
            row.journal.clone(),
            row.kind.to_owned(),
            row.bytes.to_string(),
            cut,
        ]
    });
    let rows: Vec<_> = rows.collect();
    let mut shown = format!(
        "{header}\n{}",
        table(&["journal", "kind", "bytes", "cut at"], &rows)
    );
    if !plan.replaces.is_empty() {
        let what = if plan.needs_force {
            "there already (refused without --force)"
        } else {
            "would be replaced or removed"
        };
        let rows: Vec<_> = plan
            .replaces
            .iter()
            .map(|path| vec![path.clone()])
            .collect();
        shown.push_str(&format!("\n\n{}", table(&[what], &rows)));
    }
    shown
}

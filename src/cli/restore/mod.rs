//! `dos-cluster restore`: a worker's files from the cluster.

mod legacy;
mod plan;

use std::{collections::BTreeMap, path::PathBuf, sync::Mutex};

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;

use legacy::Legacy;

use super::{
    Context,
    arguments::{self, PathRule},
    exit::{Exit, Failure},
    output::{fields, or_dash, table},
    progress::Progress,
    worker::whoami,
};
use crate::{
    client::{
        mirror_dir,
        replay::Refusal,
        restore::{
            RefusalReason, RefusedPath, RestoreOptions, RestorePhase, RestoreProgress,
            RestoreReport,
        },
    },
    domain::{Addresses, JobName, JournalKind, RestorePoint, WorkerName, WorkerRef},
};

/// Take a worker over and put its files into a directory, verified, all at once or not at all
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster restore --job wordcount --worker w1 --to /var/lib/w1
  dos-cluster restore --job wordcount --worker w1 --to /var/lib/w1 --at line
  dos-cluster restore --job tour --worker w1 --to ./w1 --map /tmp/w1=state
  dos-cluster restore --job wallaroo --worker worker2 --to /tmp --at line \\
    --control 10.0.0.7:3131 --data 10.0.0.7:3132

The old incarnation of the worker is fenced first: what it has open can write no more. With --at line or --at ID the cluster's journals are
cut there, too, so that the new incarnation goes on from exactly what was restored: what came after, newer checkpoints
included, is gone for good. Exit code 6 if anything does not verify, 4 if what is asked for does not go with what the cluster
holds, such as an unknown --worker or --prefix, 1 if what lies in the directory is in the way.

A legacy worker is told by its journals P.journal and P.evlog.journal, where P is APP-WORKER. All its files go into the
directory by their own names, which may be shared: only files of this worker are replaced, and only with --force. Its protocol
knows no identity: a process of it that is still alive may connect anew and write again, so make sure that it is dead.

What root restores belongs to the owner and the group of the directory, or, if that is missing, of the one that it is made in.")]
pub(super) struct Restore {
    /// The job
    #[arg(long)]
    job: JobName,
    /// The worker
    #[arg(long)]
    worker: WorkerName,
    /// The directory that the files go to; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Which state: everything durable, the job's recovery line, or a checkpoint; the cluster's copy is cut there
    #[arg(long, default_value = "latest", value_name = "latest|line|ID")]
    #[arg(value_parser = arguments::restore_point)]
    at: RestorePoint,
    /// Fetch from this member only: its number, or its client address
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Replace what is in the directory; refused where other workers have theirs
    #[arg(long)]
    force: bool,
    /// Paths in the journals that begin with OLD begin with NEW below the directory; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = arguments::path_rule_parser())]
    map: Vec<PathRule>,
    /// Of a legacy worker with journals of several applications: which one
    #[arg(long, value_name = "APP")]
    prefix: Option<String>,
    /// Restore it as a worker with a directory of its own, whatever its journals are called
    #[arg(long, conflicts_with_all = ["prefix", "control", "data"])]
    native: bool,
    /// Where a legacy worker's control channel is reached now: its file is rewritten, and the cluster told
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
    /// Where a legacy worker's data channel is reached now: its file is rewritten, and the cluster told
    #[arg(long, value_name = "HOST:PORT")]
    data: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    directory: String,
    worker: String,
    epoch: u64,
    checkpoint: Option<String>,
    log_index: u64,
    files: u64,
    bytes: u64,
    elapsed_ms: u128,
    journals: Vec<JournalRow>,
    refused: Vec<Refused>,
    torn: Vec<Torn>,
    /// Directories that could not be removed.
    left: Vec<String>,
    /// Only of a legacy worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    legacy: Option<Legacy>,
}

#[derive(Debug, Serialize)]
struct JournalRow {
    journal: String,
    kind: &'static str,
    bytes: u64,
    records: u64,
    unknown_records: u64,
    /// Bytes from each member, by client address.
    members: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Refused {
    journal: String,
    path: String,
    offset: u64,
    why: String,
    records: u64,
    /// A rule would do.
    #[serde(skip)]
    unmapped: bool,
}

#[derive(Debug, Serialize)]
struct Torn {
    journal: String,
    at: u64,
    bytes: u64,
    cut: bool,
}

impl Restore {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (is_dry, options) = (self.dry_run, self.options()?);
        let worker = options.worker.clone();
        let client = context.client()?;
        if is_dry {
            return plan::show(context, &worker, client.plan_restore(options).await?);
        }
        let drawn = Drawn::new(&worker);
        let directory = options.to.clone();
        let restored = client
            .restore(options, &|progress| drawn.draw(progress))
            .await;
        drop(drawn);
        let summary = Summary::of(&worker, restored?);
        // What is there now is of the new incarnation, whose mirror starts anew.
        mirror_dir::forget(&directory, &worker)?;
        context.output.show(&summary, text)?;
        say_torn(context, &summary);
        say_unknown(context, &summary);
        if let Some(legacy) = &summary.legacy {
            legacy.say(context, &worker);
        }
        for left in &summary.left {
            let note = format!("note: {left} is of no use any more and could not be removed");
            context.output.talk(&note);
        }
        if summary.refused.is_empty() {
            return Ok(Exit::Done);
        }
        let count = summary.refused.len();
        let message = format!(
            "restore of worker {worker} is not complete: {count} of its paths {} refused, the first is {:?}: {}",
            if count == 1 { "was" } else { "were" },
            summary.refused[0].path,
            summary.refused[0].why,
        );
        let failure = Failure::error(message);
        Err(if summary.refused.iter().any(|refused| refused.unmapped) {
            failure
                .try_next("the same with --force and a --map OLD=NEW that leads into the directory")
        } else {
            failure
        })
    }
}

impl Restore {
    fn options(self) -> Result<RestoreOptions, Failure> {
        let worker = WorkerRef {
            job: self.job,
            worker: self.worker,
        };
        let addresses = [("control", self.control), ("data", self.data)];
        let addresses = addresses.into_iter();
        let addresses: BTreeMap<_, _> = addresses
            .filter_map(|(role, address)| Some((role.to_owned(), address?)))
            .collect();
        let endpoint = match addresses.is_empty() {
            true => None,
            false => Some(Addresses::new(addresses).map_err(|error| {
                Failure::usage(format!("cannot restore worker {worker}: {error}"))
            })?),
        };
        Ok(RestoreOptions {
            point: self.at,
            from: self.from,
            force: self.force,
            map: self.map.iter().map(utf8_rule).collect::<Result<_, _>>()?,
            prefix: self.prefix,
            native: self.native,
            endpoint,
            ..RestoreOptions::new(worker, self.to, whoami("dos-cluster restore"))
        })
    }
}

fn utf8_rule(rule: &PathRule) -> Result<(String, String), Failure> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            let shown = bytes.escape_ascii();
            Failure::usage(format!(
                "cannot use --map with {shown}: the path is not UTF-8"
            ))
        })
    };
    Ok((text(&rule.old)?, text(&rule.new)?))
}

/// The bar of the phase at hand.
struct Drawn {
    worker: String,
    bar: Mutex<Option<(RestorePhase, Progress)>>,
}

impl Drawn {
    fn new(worker: &WorkerRef) -> Self {
        Self {
            worker: worker.to_string(),
            bar: Mutex::default(),
        }
    }

    fn draw(&self, progress: RestoreProgress) {
        let mut bar = self
            .bar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*bar {
            Some((phase, drawn)) if *phase == progress.phase => {
                drawn.set(progress.bytes_done);
                return;
            }
            _ => {}
        }
        *bar = None; // cleared before the next one is drawn
        let (worker, total) = (&self.worker, progress.bytes_total);
        let next = match progress.phase {
            RestorePhase::TakingOver => Progress::spinner(format!("take {worker} over")),
            RestorePhase::Fetching => Progress::bytes(total, format!("fetch {worker}")),
            RestorePhase::Replaying => Progress::bytes(total, format!("replay {worker}")),
            RestorePhase::Finishing => Progress::spinner(format!("sync and rename {worker}")),
        };
        next.set(progress.bytes_done);
        *bar = Some((progress.phase, next));
    }
}

impl Refused {
    fn of(refused: RefusedPath) -> Self {
        Self {
            journal: refused.journal.to_string(),
            path: refused.path,
            offset: refused.offset.0,
            unmapped: refused.why == RefusalReason::Path(Refusal::Unmapped),
            why: refused.why.to_string(),
            records: refused.records,
        }
    }
}

impl Summary {
    fn of(worker: &WorkerRef, report: RestoreReport) -> Self {
        let journals = report.journals.iter();
        let raw = journals.filter(|journal| journal.kind == JournalKind::Raw);
        let raw = raw.count() as u64; // each is a file by itself
        Self {
            directory: report.directory.display().to_string(),
            worker: worker.to_string(),
            epoch: report.epoch.0,
            checkpoint: report.checkpoint.map(|id| id.to_string()),
            log_index: report.log_index,
            files: report.files + raw,
            bytes: report.journals.iter().map(|journal| journal.bytes).sum(),
            elapsed_ms: report.elapsed.as_millis(),
            journals: report
                .journals
                .into_iter()
                .map(|journal| JournalRow {
                    journal: journal.name.to_string(),
                    kind: journal.kind.as_str(),
                    bytes: journal.bytes,
                    records: journal.records,
                    unknown_records: journal.unknown_records,
                    members: journal.members,
                })
                .collect(),
            refused: report.refused.into_iter().map(Refused::of).collect(),
            legacy: report.legacy.map(Legacy::of),
            left: report
                .left
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            torn: report
                .torn
                .into_iter()
                .map(|torn| Torn {
                    journal: torn.journal.to_string(),
                    at: torn.at.0,
                    bytes: torn.bytes,
                    cut: torn.cut,
                })
                .collect(),
        }
    }
}

fn text(summary: &Summary) -> String {
    let mut header = vec![
        (
            "restored",
            format!("{} into {}", summary.worker, summary.directory),
        ),
        ("epoch", summary.epoch.to_string()),
        ("checkpoint", or_dash(summary.checkpoint.as_ref())),
        ("files", summary.files.to_string()),
        (
            "bytes",
            format!("{} in {} ms", HumanBytes(summary.bytes), summary.elapsed_ms),
        ),
    ];
    if let Some(legacy) = &summary.legacy {
        header.push(("starts from", legacy.rolls_back_to.clone()));
    }
    let header = fields(&header);
    let rows = summary.journals.iter().map(|row| {
        let members = row.members.iter();
        let members = members.map(|(address, bytes)| format!("{address}={bytes}"));
        vec![
            row.journal.clone(),
            row.kind.to_owned(),
            row.bytes.to_string(),
            if row.kind == JournalKind::Raw.as_str() {
                "-".to_owned()
            } else {
                row.records.to_string()
            },
            members.collect::<Vec<_>>().join(" "),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let mut shown = format!(
        "{header}\n{}",
        table(&["journal", "kind", "bytes", "records", "from"], &rows)
    );
    if !summary.refused.is_empty() {
        let rows = summary.refused.iter().map(|refused| {
            vec![
                refused.path.clone(),
                refused.journal.clone(),
                refused.offset.to_string(),
                refused.why.clone(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        shown.push_str("\n\n");
        shown.push_str(&table(&["refused path", "journal", "offset", "why"], &rows));
    }
    shown
}

/// So many of what is named in the singular.
fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}

fn say_unknown(context: &Context, summary: &Summary) {
    for row in &summary.journals {
        if row.unknown_records > 0 {
            context.output.talk(&format!(
                "note: passed over in journal {}: {} of a version or an operation that is not known here",
                row.journal,
                counted(row.unknown_records, "record")
            ));
        }
    }
}

fn say_torn(context: &Context, summary: &Summary) {
    for torn in &summary.torn {
        let Torn {
            journal,
            at,
            bytes,
            cut,
        } = torn;
        let bytes = counted(*bytes, "byte");
        let what = if *cut {
            "it was cut off, here and in the cluster"
        } else {
            "a checkpoint covers it, so it was left"
        };
        context.output.talk(&format!(
            "note: the last record of journal {journal}, {bytes} at {at}, is not whole: {what}"
        ));
    }
}

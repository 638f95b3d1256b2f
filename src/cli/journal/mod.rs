//! `dos-cluster journal`: bytes in, bytes out, and what is there.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Context,
    arguments::{FloorArguments, Scope, journal_name, kind_name},
    exit::{Exit, Failure},
    output::{fields, table},
    worker::say_if_stale,
};
use crate::{domain::JournalRef, pb};

mod append;
mod dump;
mod read;
mod records;

/// Append to journals, read, list and inspect them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | dos-cluster journal append tour/w1/notes
  dos-cluster journal read tour/w1/notes
  dos-cluster journal list tour
  dos-cluster journal dump ./w1/w1.journal -v")]
pub(super) struct Journal {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Append(append::Append),
    Read(read::Read),
    /// Show journals with their kinds and tails
    #[command(after_help = "\
Examples:
  dos-cluster journal list
  dos-cluster journal list wordcount/w1")]
    List {
        /// Only those of this job or worker
        #[arg(value_name = "JOB[/WORKER]")]
        scope: Option<Scope>,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Show one journal: its kind, its tail, its newest writer
    #[command(after_help = "Example:\n  dos-cluster journal stat wordcount/w1/w1.journal")]
    Stat {
        /// The journal
        #[arg(value_name = "JOB/WORKER/JOURNAL")]
        journal: JournalRef,
        #[command(flatten)]
        floor: FloorArguments,
    },
    /// Remove a journal with its bytes, and the checkpoints that cover them
    ///
    /// Whoever appends to it is fenced. Nothing brings it back.
    #[command(after_help = "Example:\n  dos-cluster journal rm wordcount/w1/w1.journal")]
    Rm {
        /// The journal
        #[arg(value_name = "JOB/WORKER/JOURNAL")]
        journal: JournalRef,
    },
    Dump(dump::Dump),
}

#[derive(Debug, Serialize)]
struct Removed {
    journal: String,
}

#[derive(Debug, Serialize)]
struct Journals {
    applied_index: u64,
    stale: bool,
    journals: Vec<JournalRow>,
}

#[derive(Debug, Serialize)]
struct Stat {
    #[serde(flatten)]
    row: JournalRow,
    applied_index: u64,
    stale: bool,
}

#[derive(Debug, Serialize)]
struct JournalRow {
    journal: String,
    kind: &'static str,
    tail: u64,
    epoch: u64,
    writer: u64,
    /// How often its end was cut off.
    cuts: u64,
}

impl JournalRow {
    fn of(stat: &pb::JournalStat) -> Self {
        let token = stat.token.unwrap_or_default();
        Self {
            journal: journal_name(stat.journal.as_ref()),
            kind: kind_name(stat.kind),
            tail: stat.tail,
            epoch: token.epoch,
            writer: token.writer,
            cuts: stat.cuts,
        }
    }
}

impl Journal {
    /// Whether it needs no cluster.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self.verb, Verb::Dump(_))
    }

    /// Runs what needs no cluster.
    pub(super) fn run_offline(self, context: &Context) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Dump(dump) => dump.run(context),
            _ => Err(Failure::error("this command needs a cluster")),
        }
    }

    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Append(append) => append.run(context).await,
            Verb::Read(read) => read.run(context).await,
            Verb::List { scope, floor } => list(context, scope.as_ref(), floor).await,
            Verb::Stat { journal, floor } => stat(context, &journal, floor).await,
            Verb::Rm { journal } => rm(context, &journal).await,
            Verb::Dump(dump) => dump.run(context),
        }
    }
}

async fn rm(context: &Context, journal: &JournalRef) -> Result<Exit, Failure> {
    context.client()?.delete_journal(journal).await?;
    let removed = Removed {
        journal: journal.to_string(),
    };
    context
        .output
        .show(&removed, |removed| format!("removed {}", removed.journal))?;
    Ok(Exit::Done)
}

async fn list(
    context: &Context,
    scope: Option<&Scope>,
    floor: FloorArguments,
) -> Result<Exit, Failure> {
    let (job, worker) = (scope.map(Scope::job), scope.and_then(Scope::worker));
    let client = context.client()?;
    let listed = client.list_journals(job, worker, floor.floor()).await?;
    let journals = Journals {
        applied_index: listed.applied_index,
        stale: listed.stale,
        journals: listed.journals.iter().map(JournalRow::of).collect(),
    };
    context.output.show(&journals, |journals| {
        let cells = journals.journals.iter().map(|row| {
            vec![
                row.journal.clone(),
                row.kind.to_owned(),
                row.tail.to_string(),
                row.epoch.to_string(),
                row.writer.to_string(),
                row.cuts.to_string(),
            ]
        });
        let headers = ["journal", "kind", "tail", "epoch", "writer", "cuts"];
        table(&headers, &cells.collect::<Vec<_>>())
    })?;
    say_if_stale(context, listed.stale, listed.applied_index);
    Ok(Exit::Done)
}

async fn stat(
    context: &Context,
    journal: &JournalRef,
    floor: FloorArguments,
) -> Result<Exit, Failure> {
    let answer = context.client()?.stat(journal, floor.floor()).await?;
    let stat = Stat {
        row: JournalRow::of(&answer.stat.unwrap_or_default()),
        applied_index: answer.applied_index,
        stale: answer.stale,
    };
    context.output.show(&stat, |stat| {
        let row = &stat.row;
        fields(&[
            ("journal", row.journal.clone()),
            ("kind", row.kind.to_owned()),
            ("tail", row.tail.to_string()),
            ("epoch", row.epoch.to_string()),
            ("writer", row.writer.to_string()),
            ("cuts", row.cuts.to_string()),
        ])
    })?;
    say_if_stale(context, answer.stale, answer.applied_index);
    Ok(Exit::Done)
}

//! What a mirror says: progress and lag while it runs, each file's end, and what is durable at its own end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::super::{
    Context, arguments,
    exit::{Exit, Failure},
    output::{self, Output},
    progress::Progress,
};
use crate::{
    client::{
        Effect,
        mirror_dir::{
            DirMirrorView, FilePhase, FileStatus, MirrorError, MirrorFault, MirrorSnapshot,
        },
    },
    codec::wire,
    domain::{JournalName, WorkerRef},
    env::time::{self, Instant},
};

/// How often progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// How often a line tells of it where nothing can be drawn, if there is anything new.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a program reads at the end.
#[derive(Debug, Serialize)]
struct Summary {
    worker: String,
    journals: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    journal: String,
    kind: &'static str,
    /// The file's length, as last seen.
    local: u64,
    durable: u64,
    state: &'static str,
    error: Option<String>,
}

/// What is said of a mirror.
pub(super) struct Reporter {
    output: Output,
    worker: WorkerRef,
    view: DirMirrorView,
    progress: Progress,
    /// What was said of each file last: the word of its phase.
    said: BTreeMap<JournalName, &'static str>,
    refused: BTreeSet<String>,
    is_outage_said: bool,
    is_new_said: bool,
    is_idle_said: bool,
    next_tick: Instant,
    next_line: Instant,
    last_line: String,
}

impl Reporter {
    pub(super) fn new(context: &Context, worker: WorkerRef, view: DirMirrorView) -> Self {
        let now = Instant::now();
        Self {
            output: context.output.clone(),
            progress: Progress::spinner(format!("mirror {worker}")),
            worker,
            view,
            said: BTreeMap::new(),
            refused: BTreeSet::new(),
            is_outage_said: false,
            is_new_said: false,
            is_idle_said: false,
            next_tick: now,
            next_line: now + LINE_EVERY,
            last_line: String::new(),
        }
    }

    /// Waits until progress is to be told again, and tells it.
    pub(super) async fn tick(&mut self) {
        time::sleep_until(self.next_tick).await;
        let now = Instant::now();
        self.next_tick = now + DRAW_EVERY;
        let line = progress_line(&self.worker, &self.view.snapshot());
        if !output::stderr_is_terminal() && now >= self.next_line && line != self.last_line {
            self.output.talk(&line);
            self.last_line.clone_from(&line);
            self.next_line = now + LINE_EVERY;
        }
        self.progress.say(line);
    }

    /// Says what is new but for progress.
    pub(super) fn news(&mut self) {
        let snapshot = self.view.snapshot();
        for line in self.lines(&snapshot) {
            self.progress.aside(|| line.print(&self.output));
        }
    }

    fn lines(&mut self, snapshot: &MirrorSnapshot) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(why) = snapshot.idle.as_ref().filter(|_| !self.is_idle_said) {
            self.is_idle_said = true;
            lines.push(Line::Note(format!("note: {why}; waiting for the first")));
        }
        if snapshot.worker_is_new && !self.is_new_said {
            self.is_new_said = true;
            lines.push(Line::Note(format!(
                "note: worker {} is new; job {}'s recovery line now waits for it",
                self.worker, self.worker.job
            )));
        }
        match &snapshot.outage {
            Some(why) if !self.is_outage_said => {
                lines.push(Line::Note(format!("waiting for the cluster: {why}")));
            }
            None if self.is_outage_said => lines.push(Line::Note("the cluster answers".into())),
            _ => {}
        }
        self.is_outage_said = snapshot.outage.is_some();
        for (name, why) in &snapshot.refused {
            if self.refused.insert(name.clone()) {
                lines.push(Line::Note(format!("note: file {name} is skipped: {why}")));
            }
        }
        for (name, file) in &snapshot.files {
            let word = file.phase.as_str();
            if self.said.insert(name.clone(), word) == Some(word) {
                continue;
            }
            match &file.phase {
                FilePhase::Stopped(fault) => lines.push(Line::Failure(failure(fault))),
                FilePhase::Waiting { reason: Some(why) } => {
                    lines.push(Line::Note(format!("{name} waits: {why}")));
                }
                _ => {}
            }
        }
        lines
    }

    /// Says what became of everything; the exit code is of the worst.
    pub(super) fn finish(
        mut self,
        is_late: bool,
        error: Option<MirrorError>,
    ) -> Result<Exit, Failure> {
        self.news();
        drop(self.progress);
        let snapshot = self.view.snapshot();
        let summary = summary(&self.worker, &snapshot);
        self.output.show(&summary, text)?;
        if let Some(error) = error {
            let what = format!("cannot mirror worker {}", self.worker);
            return Err(of_the_whole(error).before(&what));
        }
        match of_stopped_files(&snapshot) {
            Some(failure) => Err(failure),
            None if is_late => Err(late(&self.worker, &snapshot)),
            None => Ok(Exit::Done),
        }
    }
}

/// A line on stderr.
enum Line {
    Note(String),
    Failure(Failure),
}

impl Line {
    fn print(&self, output: &Output) {
        match self {
            Self::Note(line) => output.talk(line),
            Self::Failure(failure) => output.failure(failure),
        }
    }
}

/// How a file's fault is told.
fn failure(fault: &MirrorFault) -> Failure {
    match fault {
        MirrorFault::Client(error) => Failure::from(error.clone()),
        fault => Failure {
            effect: Some(fault.effect()),
            ..Failure::refused(fault.to_string())
        },
    }
}

/// How the end of all of it is told.
fn of_the_whole(error: MirrorError) -> Failure {
    let exit = match error {
        MirrorError::Client(error) => return Failure::from(error),
        MirrorError::NothingToMirror { .. } => Exit::Error,
        MirrorError::TakenOver { .. }
        | MirrorError::TakenOverSince { .. }
        | MirrorError::OtherCluster { .. } => Exit::Refused,
    };
    Failure {
        effect: Some(error.effect()),
        ..Failure::new(exit, error.to_string())
    }
}

/// The failure of a mirror of which files have stopped: of the refused ones, if there are any.
fn of_stopped_files(snapshot: &MirrorSnapshot) -> Option<Failure> {
    let faults = snapshot
        .files
        .iter()
        .filter_map(|(name, file)| match &file.phase {
            FilePhase::Stopped(fault) => Some((name, failure(fault))),
            _ => None,
        });
    let mut faults: Vec<_> = faults.collect();
    faults.sort_by_key(|(_, failure)| failure.exit != Exit::Refused);
    let count = faults.len();
    let (name, first) = faults.into_iter().next()?;
    let message = match count {
        1 => format!("1 file was not mirrored to its end: {name}"),
        _ => format!("{count} files were not mirrored to their ends, such as {name}"),
    };
    // Of files that have not stopped, something was or may have been sent.
    let is_nothing_changed = !snapshot.worker_is_new
        && snapshot.files.values().all(
            |file| matches!(&file.phase, FilePhase::Stopped(fault) if fault.effect() == Effect::None),
        );
    let effect = if is_nothing_changed {
        Effect::None
    } else {
        Effect::Unknown
    };
    Some(Failure {
        message,
        effect: Some(effect),
        ..first
    })
}

fn late(worker: &WorkerRef, snapshot: &MirrorSnapshot) -> Failure {
    let lag = snapshot.lag_bytes();
    let message = format!(
        "stopped before everything read of worker {worker}'s files was durable: {lag} bytes are not, or not known to be"
    );
    let failure = Failure::new(Exit::Timeout, message)
        .try_next("the same command again, which goes on where the cluster's journals end");
    Failure {
        effect: Some(Effect::Unknown),
        ..failure
    }
}

fn progress_line(worker: &WorkerRef, snapshot: &MirrorSnapshot) -> String {
    let count = |word| {
        let files = snapshot.files.values();
        files.filter(|file| file.phase.as_str() == word).count()
    };
    let files = snapshot.files.len();
    let (durable, lag) = (snapshot.durable_bytes(), snapshot.lag_bytes());
    let mut line =
        format!("mirror {worker}: {files} files, {durable} bytes durable, lag {lag} bytes");
    for word in ["waiting", "stopped"] {
        match count(word) {
            0 => {}
            some => line.push_str(&format!(", {some} {word}")),
        }
    }
    line
}

fn summary(worker: &WorkerRef, snapshot: &MirrorSnapshot) -> Summary {
    let row = |(name, file): (&JournalName, &FileStatus)| Row {
        journal: worker.journal(name.clone()).to_string(),
        kind: arguments::kind_name(wire::kind_to_pb(file.kind).into()),
        local: file.local.0,
        durable: file.durable.0,
        state: file.phase.as_str(),
        error: match &file.phase {
            FilePhase::Stopped(fault) => Some(fault.to_string()),
            _ => None,
        },
    };
    Summary {
        worker: worker.to_string(),
        journals: snapshot.files.iter().map(row).collect(),
    }
}

fn text(summary: &Summary) -> String {
    if summary.journals.is_empty() {
        return String::new();
    }
    let row = |row: &Row| {
        vec![
            row.journal.clone(),
            row.kind.to_owned(),
            row.local.to_string(),
            row.durable.to_string(),
            row.state.to_owned(),
        ]
    };
    let rows: Vec<_> = summary.journals.iter().map(row).collect();
    output::table(&["journal", "kind", "local", "durable", "state"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JournalKind, Offset};

    fn snapshot(files: &[(&str, u64, u64, FilePhase)]) -> MirrorSnapshot {
        let status = |(name, local, durable, phase): &(&str, u64, u64, FilePhase)| {
            let status = FileStatus {
                kind: JournalKind::Raw,
                local: Offset(*local),
                durable: Offset(*durable),
                phase: phase.clone(),
            };
            (name.parse().unwrap(), status)
        };
        MirrorSnapshot {
            files: files.iter().map(status).collect(),
            ..MirrorSnapshot::default()
        }
    }

    fn shorter(local: u64, tail: u64) -> FilePhase {
        FilePhase::Stopped(MirrorFault::Shorter {
            path: "x".into(),
            journal: "j/w/x".parse().unwrap(),
            local: Offset(local),
            tail: Offset(tail),
        })
    }

    #[test]
    fn progress_tells_of_what_is_durable_of_the_lag_and_of_files_that_do_not_go_on() {
        let worker = "j/w".parse().unwrap();
        let line = |files: &[_]| progress_line(&worker, &snapshot(files));
        let waiting = FilePhase::Waiting { reason: None };
        assert_eq!(
            line(&[
                ("a", 10, 4, FilePhase::Streaming),
                ("b", 7, 7, FilePhase::Durable)
            ]),
            "mirror j/w: 2 files, 11 bytes durable, lag 6 bytes"
        );
        assert_eq!(
            line(&[("a", 10, 4, waiting), ("b", 3, 6, shorter(3, 6))]),
            "mirror j/w: 2 files, 10 bytes durable, lag 6 bytes, 1 waiting, 1 stopped"
        );
    }

    #[test]
    fn what_failed_has_no_effect_only_where_nothing_was_sent_of_any_file() {
        let effect = |files: &[_]| of_stopped_files(&snapshot(files)).unwrap().effect;
        let refused = ("a", 3, 6, shorter(3, 6));
        assert_eq!(effect(std::slice::from_ref(&refused)), Some(Effect::None));
        let sent = ("b", 6, 6, FilePhase::Durable);
        assert_eq!(effect(&[refused, sent]), Some(Effect::Unknown));
        assert!(of_stopped_files(&snapshot(&[("b", 6, 6, FilePhase::Durable)])).is_none());
    }
}

//! What happened: the history that is checked, a hash over all of it, and numbers for the report.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    hash::{Hash, Hasher},
    rc::Rc,
    time::Duration,
};

use dos_jepsen::{Event, History, Name, OpId, Rule};
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The cluster is being formed.
    Forming,
    /// Work goes on, and the nemesis with it.
    Faults,
    /// Everything is repaired; work goes on.
    Healed,
    /// Writers come to an end.
    Drain,
}

/// What one seed came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    /// Over every event: equal for equal runs.
    pub trace_hash: u64,
    pub simulated_millis: u64,
    pub acknowledged: u64,
    /// Streams, takeovers and checkpoints whose outcome their client never heard.
    pub unknown: u64,
    pub reads: u64,
    pub checkpoints: u64,
    pub takeovers: u64,
    pub elections: u64,
    pub snapshots: u64,
    pub faults: BTreeMap<String, u64>,
    /// From the repair until every journal was acknowledged anew.
    pub recovery_millis: u64,
    pub violations: Vec<String>,
    /// How many of them are a checker's verdict: a promise that the history breaks.
    pub verdicts: u64,
}

/// FNV-1a: the same in every process.
#[derive(Debug)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Shared by everything in a run, which is one thread.
pub type Shared = Rc<Recorder>;

pub struct Recorder {
    trace: bool,
    history: RefCell<History>,
    hash: RefCell<Fnv>,
    pub report: RefCell<Report>,
    pub phase: Cell<Phase>,
    /// Time of the simulation, for what happens outside of any host.
    pub now: Cell<Duration>,
    /// The last leader seen, and its term.
    pub leader: RefCell<Option<(u64, String)>>,
    /// When each journal was acknowledged last.
    pub acknowledged_at: RefCell<BTreeMap<Name, Duration>>,
    /// The newest log index that an acknowledgement of each journal carried.
    pub log_index: RefCell<BTreeMap<Name, u64>>,
    /// Writers that have not ended.
    pub writers: Cell<usize>,
}

impl Recorder {
    pub fn new(seed: u64, trace: bool) -> Shared {
        Rc::new(Self {
            trace,
            history: RefCell::default(),
            hash: RefCell::new(Fnv(0xcbf2_9ce4_8422_2325)),
            report: RefCell::new(Report {
                seed,
                ..Report::default()
            }),
            phase: Cell::new(Phase::Forming),
            now: Cell::default(),
            leader: RefCell::default(),
            acknowledged_at: RefCell::default(),
            log_index: RefCell::default(),
            writers: Cell::default(),
        })
    }

    /// Time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_else(|| self.now.get())
    }

    pub fn next_op(&self) -> OpId {
        self.history.borrow_mut().next_op()
    }

    /// Something that a client did or heard.
    pub fn push(&self, event: Event) {
        {
            let mut hash = self.hash.borrow_mut();
            self.elapsed().hash(&mut *hash);
            event.hash(&mut *hash);
        }
        if self.trace {
            let mut text = format!("{event:?}");
            text.truncate(text.floor_char_boundary(300));
            eprintln!("{:>10.4} {text}", self.elapsed().as_secs_f64());
        }
        self.history.borrow_mut().push(event);
    }

    /// Something that happened beside the history: a fault, an election, a failed call.
    pub fn note(&self, what: impl AsRef<str>) {
        let what = what.as_ref();
        {
            let mut hash = self.hash.borrow_mut();
            self.elapsed().hash(&mut *hash);
            what.hash(&mut *hash);
        }
        if self.trace {
            eprintln!("{:>10.4} -- {what}", self.elapsed().as_secs_f64());
        }
    }

    /// A promise that is broken, found by the run itself.
    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("VIOLATION {what}"));
        self.report.borrow_mut().violations.push(what);
    }

    pub fn unknown(&self) {
        self.report.borrow_mut().unknown += 1;
    }

    /// The report, once the run is over: with what the checkers find.
    pub fn finish(&self, nodes: &[&str], complete: bool) -> Report {
        let mut report = self.report.borrow().clone();
        if complete {
            let found = dos_jepsen::check(&self.history.borrow(), nodes);
            let verdicts = found.iter().filter(|v| v.rule != Rule::Incomplete);
            report.verdicts = verdicts.count() as u64;
            report
                .violations
                .extend(found.iter().map(ToString::to_string));
        }
        report.trace_hash = self.hash.borrow().finish();
        report.simulated_millis = u64::try_from(self.now.get().as_millis()).unwrap_or(u64::MAX);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_a_verdict_and_an_incomplete_history_is_none() {
        let recorder = Recorder::new(1, false);
        recorder.violation("n1 does not start");
        let report = recorder.finish(&["n1"], true);
        assert_eq!((report.violations.len(), report.verdicts), (2, 0));
        assert!(report.violations[1].starts_with("Incomplete: "));

        let what = "a tail that cannot be".into();
        recorder.push(Event::Broken { what });
        assert_eq!(recorder.finish(&["n1"], true).verdicts, 1);
        assert_eq!(recorder.finish(&["n1"], false).verdicts, 0);
    }
}

//! The order in which files are put into place.
//!
//! A legacy worker starts anew when none of its files is there, recovers when all are, and exits when some are. So, whenever
//! the machine stops in the middle, it exits rather than start from a mixture: the old `.checkpoint_ids` goes first, and the
//! new one comes last.

use std::{collections::BTreeSet, ffi::OsString};

use super::family::Family;

/// Without it a worker that finds others of its files exits.
const CHECKPOINT_IDS: &str = "checkpoint_ids";
/// A file that a worker looks for: with it alone the worker exits.
const WORKERS: &str = "workers";

/// One step of putting files into place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Remove(OsString),
    Place(OsString),
    /// Of the directory: what comes before is durable before what comes behind.
    Sync,
}

/// What replaces the old files by the new ones, in an order in which the worker starts from nothing in between.
pub(super) fn steps(
    family: &Family,
    new: &BTreeSet<OsString>,
    old: &BTreeSet<OsString>,
) -> Vec<Step> {
    let ids = OsString::from(family.file(CHECKPOINT_IDS));
    let workers = OsString::from(family.file(WORKERS));
    let mut steps = Vec::new();
    if old.contains(&ids) {
        steps.extend([Step::Remove(ids.clone()), Step::Sync]);
    }
    // Before the journals, of which a worker that finds nothing else would go on writing.
    if new.contains(&workers) {
        steps.extend([Step::Place(workers.clone()), Step::Sync]);
    }
    let is_between = |name: &&OsString| **name != ids && **name != workers;
    steps.extend(new.iter().filter(is_between).cloned().map(Step::Place));
    let surplus = old.difference(new).filter(|name| **name != ids);
    steps.extend(surplus.cloned().map(Step::Remove));
    steps.push(Step::Sync);
    if new.contains(&ids) {
        steps.extend([Step::Place(ids), Step::Sync]);
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    /// What a worker looks for.
    const LISTED: [&str; 6] = [
        "p-w.evlog",
        "p-w.checkpoint_ids",
        "p-w.local-topology",
        "p-w.local-keys",
        "p-w.tcp-control",
        "p-w.workers",
    ];

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    enum Start {
        Anew,
        Recovers,
        Exits,
    }

    fn start(there: &BTreeSet<OsString>) -> Start {
        match LISTED
            .iter()
            .filter(|name| there.contains(OsStr::new(name)))
            .count()
        {
            0 => Start::Anew,
            6 => Start::Recovers,
            _ => Start::Exits,
        }
    }

    fn family() -> Family {
        Family {
            prefix: "p-w".into(),
            ops: "p-w.journal".parse().unwrap(),
            logs: vec!["p-w.evlog.journal".parse().unwrap()],
        }
    }

    fn names(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn wherever_an_installation_is_interrupted_the_worker_does_not_start_from_a_mixture() {
        let journals = ["p-w.journal", "p-w.evlog.journal"];
        let all = names(&[&LISTED[..], &journals].concat());
        let chunk = names(&[&LISTED[..], &journals, &["p-w-00000000000000aa.evlog"]].concat());
        for old in [names(&[]), all.clone(), chunk] {
            let steps = steps(&family(), &all, &old);
            assert_eq!(steps.last(), Some(&Step::Sync));
            // Between two syncs the steps become durable in any order: each alone, all but each, and all.
            let mut durable = old.clone();
            let groups: Vec<_> = steps.split(|step| *step == Step::Sync).collect();
            for (index, group) in groups.iter().enumerate() {
                let apply = |mut there: BTreeSet<OsString>,
                             steps: &mut dyn Iterator<Item = &Step>| {
                    for step in steps {
                        match step {
                            Step::Remove(name) => drop(there.remove(name)),
                            Step::Place(name) => drop(there.insert(name.clone())),
                            Step::Sync => {}
                        }
                    }
                    there
                };
                let after = apply(durable.clone(), &mut group.iter());
                for one in 0..group.len() {
                    let alone = apply(durable.clone(), &mut group[one..=one].iter());
                    let others = group.iter().enumerate().filter(|(at, _)| *at != one);
                    let others = apply(durable.clone(), &mut others.map(|(_, step)| step));
                    for there in [alone, others] {
                        let started = start(&there);
                        let is_old = there == old;
                        let is_new = there == after && index + 2 == groups.len();
                        assert!(
                            started == Start::Exits || is_old || is_new,
                            "{started:?} from {there:?}"
                        );
                        let goes_on =
                            started == Start::Anew && there.contains(OsStr::new("p-w.journal"));
                        assert!(!goes_on, "a new run goes on writing {there:?}");
                    }
                }
                durable = after;
            }
            assert_eq!(durable, all);
            assert_eq!(start(&durable), Start::Recovers);
        }
    }
}

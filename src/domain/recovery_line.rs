//! The recovery line of a job, as a pure function of its workers' checkpoints.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use super::{checkpoint::CheckpointId, ids::WorkerName, worker::Worker};

/// The newest checkpoint that every worker of a job has made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The checkpoint.
    pub id: CheckpointId,
}

/// Why there is no line, or no newer one: the workers that lack the checkpoint asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineHeld {
    /// Each late worker, with the newest checkpoint that it has.
    pub late: Vec<(WorkerName, Option<CheckpointId>)>,
}

/// Since when which workers of a job hold the line back: each checkpoint, with when the first of them made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    first_made: BTreeMap<CheckpointId, u64>,
}

impl Pace {
    /// Of all the workers of a job. Takes time with all their checkpoints.
    #[must_use]
    pub fn of<'a>(workers: impl Iterator<Item = &'a Worker>) -> Self {
        let mut first_made = BTreeMap::new();
        for checkpoint in workers.flat_map(|worker| worker.checkpoints.values()) {
            let first = first_made.entry(checkpoint.id);
            let first = first.or_insert(checkpoint.at_unix_ms);
            *first = checkpoint.at_unix_ms.min(*first);
        }
        Self { first_made }
    }

    /// When a worker fell behind, in milliseconds since 1970: the first checkpoint behind its newest that another has made. `None`: it
    /// has the newest of all.
    #[must_use]
    pub fn behind_since(&self, worker: &Worker) -> Option<u64> {
        let from = match worker.newest_checkpoint() {
            Some(newest) => Excluded(newest.id),
            None => Unbounded,
        };
        let mut newer = self.first_made.range((from, Unbounded));
        newer.next().map(|(_, at_unix_ms)| *at_unix_ms)
    }
}

/// The newest checkpoint id that all `workers` hold; `None` when they share none, or when there are no workers.
///
/// Walks the ids of the worker that has fewest from the newest down: at most as many look-ups as it keeps checkpoints,
/// times the workers.
#[must_use]
pub fn recovery_line<'a>(workers: impl Iterator<Item = &'a Worker> + Clone) -> Option<Line> {
    let fewest = workers
        .clone()
        .min_by_key(|worker| worker.checkpoints.len())?;
    let shared = |id: &&CheckpointId| {
        workers
            .clone()
            .all(|worker| worker.checkpoints.contains_key(*id))
    };
    fewest
        .checkpoints
        .keys()
        .rev()
        .find(shared)
        .map(|id| Line { id: *id })
}

/// The workers that keep the recovery line behind checkpoint `id`: those whose newest is older; or, when there are none, those that
/// have passed `id` over, so that it will never be the line.
#[must_use]
pub fn late_for<'a>(
    workers: impl Iterator<Item = &'a Worker> + Clone,
    id: CheckpointId,
) -> LineHeld {
    let newest = |worker: &Worker| worker.newest_checkpoint().map(|checkpoint| checkpoint.id);
    let held = |lacks: &dyn Fn(&Worker) -> bool| {
        let late = workers.clone().filter(|worker| lacks(worker));
        late.map(|worker| (worker.name.worker.clone(), newest(worker)))
            .collect::<Vec<_>>()
    };
    if recovery_line(workers.clone()).is_some_and(|line| line.id >= id) {
        return LineHeld { late: Vec::new() };
    }
    let mut late = held(&|worker| newest(worker).is_none_or(|have| have < id));
    if late.is_empty() {
        late = held(&|worker| !worker.checkpoints.contains_key(&id));
    }
    LineHeld { late }
}

//! Workers: opened, and taken over.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, State};
use crate::domain::{
    Addresses, Checkpoint, CheckpointId, Endpoint, Epoch, JournalId, JournalName, Offset,
    OpenWorker, Outcome, Rejected, RestorePoint, SetEndpoint, Succession, TakenOver, Takeover,
    Worker, WorkerId,
    limits::{NAME_BYTES_MAX, WORKERS_MAX},
    rejected::what,
};

/// Someone's own words, as far as they are kept.
fn bounded(by: &str) -> String {
    by[..by.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

/// The next generation.
fn replace_endpoint(worker: &mut Worker, addresses: &Addresses, by: &str, at_unix_ms: u64) {
    worker.endpoint = Some(Endpoint {
        generation: worker.endpoint_generation() + 1,
        addresses: addresses.clone(),
        by: bounded(by),
        at_unix_ms,
    });
}

impl State {
    pub(super) fn open_worker(
        &mut self,
        log_index: u64,
        open: &OpenWorker,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        if let Ok(worker) = self.worker(&open.worker) {
            if let Some(held) = open.epoch {
                worker.fence(held)?;
            }
            return Ok(Outcome::WorkerOpened {
                epoch: worker.epoch,
                created: false,
            });
        }
        if open.epoch.is_some() {
            return Err(Rejected::UnknownWorker {
                worker: open.worker.clone(),
            });
        }
        if self.workers.len() >= WORKERS_MAX {
            return Err(Rejected::TooMany {
                what: what::WORKERS,
                count_max: WORKERS_MAX as u64,
            });
        }
        let id = WorkerId(self.counters.next_worker);
        self.counters.next_worker += 1;
        let epoch = Epoch(1);
        self.register(Worker {
            id,
            name: open.worker.clone(),
            epoch,
            succession: Succession {
                by: "first open".to_owned(),
                at_unix_ms: open.at_unix_ms,
                log_index,
            },
            endpoint: None,
            journals: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
        });
        changes.push(Change::Worker(id));
        Ok(Outcome::WorkerOpened {
            epoch,
            created: true,
        })
    }

    pub(super) fn take_over(
        &mut self,
        log_index: u64,
        takeover: &Takeover,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&takeover.worker)?;
        if let Some(expected) = takeover.expected_epoch {
            worker.fence(expected)?;
        }
        let id = worker.id;
        let before = self.tails(id);
        let point = self.checkpoint_at(worker, takeover.point)?.cloned();
        if let Some(point) = &point {
            self.roll_back(id, point, changes);
        } else {
            self.cut_to_restart(id, changes);
        }
        let by = bounded(&takeover.by);
        let worker = self.worker_mut(id);
        worker.epoch = Epoch(worker.epoch.0 + 1);
        worker.succession = Succession {
            by,
            at_unix_ms: takeover.at_unix_ms,
            log_index,
        };
        if let Some(addresses) = &takeover.endpoint {
            replace_endpoint(worker, addresses, &takeover.by, takeover.at_unix_ms);
        }
        changes.push(Change::Worker(id));
        Ok(Outcome::TakenOver(TakenOver {
            epoch: worker.epoch,
            endpoint: worker.endpoint.clone(),
            checkpoint: point.map(|point| point.id),
            journals: self.fence_journals(id, changes),
            cut: self.cut_since(id, &before),
            log_index,
        }))
    }

    /// The tails of a worker's journals.
    fn tails(&self, id: WorkerId) -> BTreeMap<JournalId, Offset> {
        let journals = self.workers[&id].journals.values();
        let tail = |id: &JournalId| Some((*id, self.journals.get(id)?.tail));
        journals.filter_map(tail).collect()
    }

    /// The journals of a worker that are shorter than they were, with their tails of before.
    fn cut_since(
        &self,
        id: WorkerId,
        before: &BTreeMap<JournalId, Offset>,
    ) -> BTreeMap<JournalName, Offset> {
        let is_cut = |id: &JournalId, before: Offset| {
            let now = self.journals.get(id).map(|journal| journal.tail);
            now.is_some_and(|now| now < before)
        };
        let journals = self.workers[&id].journals.iter();
        let cut = journals.filter_map(|(name, id)| Some((name.clone(), *id, *before.get(id)?)));
        cut.filter(|(_, id, before)| is_cut(id, *before))
            .map(|(name, _, before)| (name, before))
            .collect()
    }

    /// The journals that a checkpoint is one of.
    fn scope(&self, id: WorkerId, point: &Checkpoint) -> BTreeSet<JournalId> {
        let worker = &self.workers[&id];
        if !point.found {
            return worker.journals.values().copied().collect();
        }
        let mut families = self.families(worker).into_values();
        let is_of = |ops: JournalId| point.offsets.contains_key(&ops);
        let family = families.find(|family| family.ops.is_some_and(is_of));
        let parts = family.into_iter().flat_map(|family| {
            let logs = family.logs.into_iter().map(|(_, log)| log);
            logs.chain(family.ops)
        });
        parts.collect()
    }

    pub(super) fn set_endpoint(
        &mut self,
        set: &SetEndpoint,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Rejected> {
        let worker = self.worker(&set.worker)?;
        let current = worker.endpoint_generation();
        if let Some(expected) = set.expected_generation
            && expected != current
        {
            let in_force = worker.endpoint.as_ref();
            let same = in_force.is_some_and(|endpoint| endpoint.addresses == set.addresses);
            if same && expected.checked_add(1) == Some(current) {
                return Ok(Outcome::EndpointSet {
                    generation: current,
                });
            }
            return Err(Rejected::StaleEndpoint {
                worker: set.worker.clone(),
                expected,
                current,
            });
        }
        let id = worker.id;
        let worker = self.worker_mut(id);
        replace_endpoint(worker, &set.addresses, &set.by, set.at_unix_ms);
        changes.push(Change::Worker(id));
        Ok(Outcome::EndpointSet {
            generation: worker.endpoint_generation(),
        })
    }

    /// The checkpoint of `worker` at a restore point; `None` for the latest bytes.
    fn checkpoint_at<'a>(
        &self,
        worker: &'a Worker,
        point: RestorePoint,
    ) -> Result<Option<&'a Checkpoint>, Rejected> {
        let id = match point {
            RestorePoint::Latest => return Ok(None),
            RestorePoint::Line => self.line(&worker.name.job)?.id,
            RestorePoint::Checkpoint(id) => id,
        };
        let checkpoint = worker.checkpoints.get(&id);
        let unknown = || Rejected::UnknownCheckpoint {
            worker: worker.name.clone(),
            id,
        };
        checkpoint.ok_or_else(unknown).map(Some)
    }

    /// Cuts every journal at what `point` covers of it, and drops the checkpoints that are later or need bytes cut off. A
    /// checkpoint that was read out of legacy journals is one of these only: the worker's others stay.
    fn roll_back(&mut self, id: WorkerId, point: &Checkpoint, changes: &mut Vec<Change>) {
        let scope = self.scope(id, point);
        let Self {
            workers, journals, ..
        } = self;
        let Some(worker) = workers.get_mut(&id) else {
            return;
        };
        let loses = |kept: &Checkpoint| {
            let mut scope = scope.iter();
            scope.any(|journal| kept.covered(*journal) > point.covered(*journal))
        };
        let shares = |kept: &Checkpoint| {
            let mut offsets = kept.offsets.keys();
            !point.found || offsets.any(|journal| scope.contains(journal))
        };
        let goes = |kept: &&Checkpoint| loses(kept) || kept.id > point.id && shares(kept);
        let dropped: Vec<CheckpointId> = worker
            .checkpoints
            .values()
            .filter(goes)
            .map(|checkpoint| checkpoint.id)
            .collect();
        for checkpoint in dropped {
            worker.checkpoints.remove(&checkpoint);
            changes.push(Change::Checkpoint(id, checkpoint));
        }
        for journal in &scope {
            let at = point.covered(*journal);
            let Some(record) = journals.get_mut(journal) else {
                continue;
            };
            if record.cut(at) {
                changes.push(Change::Cut {
                    journal: *journal,
                    at,
                });
            }
            if let Some(scan) = record.scan.as_mut().filter(|_| point.found) {
                scan.roll_back(point.id.number);
            }
        }
    }
}

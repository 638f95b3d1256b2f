//! Restore of a legacy worker: of its journals and the files that they make, into a directory that it shares with others.
//!
//! ```text
//! 1 check            whatever can be known to fail, fails before anything is fenced
//! 2 take over        fences the old incarnation, cuts where the new one can go on, and says where that is reached
//! 3 fetch, cut       the journals, to a whole entry each, here as in the cluster
//! 4 replay           from nothing, into DIR/.P.restoring-EPOCH/files; the event logs from their journals
//! 5 check            that the worker could start from it, and that the epoch is still ours
//! 6 install          file by file; other workers' files are not touched
//! ```

mod addresses;
mod check;
mod cure;
mod ends;
mod event_log;
mod family;
mod install;
mod replay;
mod steps;

use std::path::PathBuf;

use tokio::sync::watch;

use super::{
    Client, ClientError, RefusedPath, Restore, RestorePhase, RestoreReport, RestoredJournal,
    fetch::{self, Fetched},
    known::name_known,
    plan::{Planned, PlannedJournal},
    watching,
};
use crate::{
    client::{Floor, restore::RestoreOptions},
    domain::{Addresses, CheckpointId, JournalName, Offset, TakenOver},
    env::{task, time::Instant},
};
use addresses::Merged;
use check::Startable;
use cure::Cure;
use family::Family;
pub(super) use family::{Listed, ListedJournal};
use install::{Staging, Target};
use replay::Replayed;

/// What only the restore of a legacy worker has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyReport {
    /// What the names of its files begin with: application and worker.
    pub prefix: String,
    /// The checkpoint that the worker rolls back to when it is started.
    pub rolls_back_to: CheckpointId,
    /// The names of all files that were put into the directory.
    pub files: Vec<String>,
    /// Paths in its journal that are not of its files, and were passed over; the first thousand.
    pub skipped: Vec<RefusedPath>,
    /// The worker's journals of other applications, or of none: they stay in the cluster.
    pub others: Vec<JournalName>,
    /// Journals that were cut, here and in the cluster.
    pub cut: Vec<CutTail>,
    /// What an operator should know before the worker is started.
    pub warnings: Vec<String>,
}

/// The end of a journal that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// The journal.
    pub journal: JournalName,
    /// Where it ends now.
    pub at: Offset,
    /// How much was behind, in bytes.
    pub bytes: u64,
}

/// A legacy worker, found out about before it is taken over.
#[derive(Debug)]
pub(super) struct Found {
    family: Family,
    target: Target,
    listed: Listed,
    addresses: Merged,
}

impl Found {
    /// Finds out whether the worker is a legacy one; `None` when it is not.
    ///
    /// # Errors
    /// `Refused` when the options do not go with the worker, `NoSuchWorker` when there is none, or as any call.
    pub(super) async fn look(
        client: &Client,
        options: &RestoreOptions,
    ) -> Result<(Option<Self>, Listed), ClientError> {
        let worker = &options.worker;
        let answer = client.list_journals(None, Some(worker), Floor::Linearizable);
        let listed = match answer.await {
            Ok(answer) => family::listed(answer),
            Err(error) => return Err(name_known(client, worker, error).await),
        };
        let Some(family) = Family::find(&listed, options)? else {
            return Ok((None, listed));
        };
        let found = Self {
            target: Target::new(options, &family)?,
            addresses: addresses::merge(client, options, &family).await?,
            family,
            listed: listed.clone(),
        };
        Ok((Some(found), listed))
    }

    /// Refuses what can be known to fail.
    pub(super) async fn check(&self) -> Result<(), ClientError> {
        let target = self.target.clone();
        task::blocking(move || target.check()).await
    }

    /// The addresses that the takeover makes known, and the files hold.
    pub(super) fn take_endpoint(&mut self) -> Option<Addresses> {
        self.addresses.endpoint.take()
    }

    /// What a restore would do; nothing is changed.
    pub(super) async fn plan(self) -> Result<Planned, ClientError> {
        let target = self.target.clone();
        let existing = task::blocking(move || target.look()).await?;
        let directory = self.target.directory;
        let journals = self.listed.iter().filter(|(name, _)| self.family.has(name));
        let journal = |(name, listed): (&JournalName, &_)| PlannedJournal::of(name, listed);
        Ok(Planned {
            replaces: existing.iter().map(|name| directory.join(name)).collect(),
            journals: journals.map(journal).collect(),
            prefix: Some(self.family.prefix),
            directory,
            endpoint: self.addresses.endpoint,
            warnings: self.addresses.warnings,
        })
    }
}

/// A fetched, replayed and checked state, which is in place.
struct Ready {
    fetched: Fetched,
    replayed: Replayed,
    startable: Startable,
    /// The names of all files.
    files: Vec<String>,
    /// What could not be removed.
    left: Vec<PathBuf>,
}

impl Restore<'_> {
    /// Everything behind the takeover of a legacy worker, whose epoch may have to be raised on the way.
    pub(super) async fn legacy_after_takeover(
        self,
        found: Found,
        taken: &mut TakenOver,
        began: Instant,
    ) -> Result<RestoreReport, ClientError> {
        let prefix = found.family.prefix.clone();
        let family = self.family_of(&prefix, taken)?;
        let others = taken.journals.extract_if(.., |name, _| !family.has(name));
        let others: Vec<_> = others.map(|(name, _)| name).collect();
        let staging = {
            let (target, epoch) = (found.target, taken.epoch);
            task::blocking(move || Staging::make(target, epoch)).await?
        };
        let ready = match self.put_into_place(&staging, &family, taken).await {
            Ok(ready) => ready,
            Err(error) => {
                task::blocking(move || staging.discard()).await;
                return Err(error);
            }
        };
        let Ready {
            fetched,
            replayed,
            startable,
            files,
            left,
        } = ready;
        let mut warnings = startable.warnings;
        warnings.extend(found.addresses.warnings);
        let options = self.options;
        let legacy = LegacyReport {
            prefix,
            rolls_back_to: startable.checkpoint,
            skipped: replayed.skipped,
            others,
            cut: cut_tails(taken, &family),
            warnings,
            files,
        };
        let journals = taken.journals.len();
        Ok(RestoreReport {
            directory: options.to.clone(),
            epoch: taken.epoch,
            checkpoint: taken.checkpoint,
            log_index: taken.log_index,
            files: legacy.files.len().saturating_sub(journals) as u64,
            journals: RestoredJournal::all(taken, fetched, |name| {
                if *name == family.ops {
                    (replayed.records, replayed.unknown_records)
                } else {
                    (0, 0)
                }
            }),
            refused: replayed.refused,
            torn: Vec::new(),
            left,
            elapsed: began.elapsed(),
            legacy: Some(legacy),
        })
    }

    /// The family as it is at the takeover: another part of the event log may have come.
    fn family_of(&self, prefix: &str, taken: &TakenOver) -> Result<Family, ClientError> {
        let journals = taken.journals.iter();
        let now = journals.map(|(name, (_, kind, tail))| {
            let listed = ListedJournal {
                kind: *kind,
                bytes: tail.0,
                restart_cut: None,
            };
            (name.clone(), listed)
        });
        let only = RestoreOptions {
            prefix: Some(prefix.to_owned()),
            endpoint: None,
            ..self.options.clone()
        };
        Family::find(&now.collect(), &only)?.ok_or_else(|| ClientError::NotStartable {
            worker: self.options.worker.clone(),
            why: format!("the journals of {prefix} were deleted meanwhile"),
            next: "nothing is left of it".into(),
        })
    }

    /// Fetches, cuts, replays and checks, in the staging directory, and installs what came of it.
    async fn put_into_place(
        &self,
        staging: &Staging,
        family: &Family,
        taken: &mut TakenOver,
    ) -> Result<Ready, ClientError> {
        let (client, options) = (self.client, self.options);
        let cure = Cure::look(client, &options.worker, family, taken).await?;
        let total = taken.journals.values().map(|(_, _, tail)| tail.0).sum();
        let fetched_bytes = |done| self.report(RestorePhase::Fetching, done, total);
        let journals = staging.journals();
        let from = self.from.clone();
        let fetched = fetch::fetch(client, options, from, taken, &journals, &fetched_bytes).await?;
        ends::cut_torn(client, options, &cure, taken, &journals).await?;

        let ops = taken.journals.get(&family.ops);
        let length = ops.map_or(0, |(_, _, tail)| tail.0);
        let (done, watched) = watch::channel(0);
        let replaying = {
            let (options, family, staging) = (options.clone(), family.clone(), staging.clone());
            task::blocking(move || {
                let path = staging.journal(&family.ops);
                let passed = |at| {
                    done.send_replace(at);
                };
                let replayed = replay::replay(&family, &path, length, &staging.files(), passed)?;
                staging.complete(options.endpoint.as_ref())?;
                let startable = check::check(&family, &staging, &replayed, &cure)?;
                Ok::<_, ClientError>((replayed, startable))
            })
        };
        let replayed_bytes = |done| self.report(RestorePhase::Replaying, done, length);
        let (replayed, startable) = watching(replaying, watched, replayed_bytes).await?;
        self.report(RestorePhase::Replaying, length, length);
        self.report(RestorePhase::Finishing, 0, 0);
        // Someone else may have taken over meanwhile; then its files must not appear.
        client
            .open_worker(&options.worker, Some(taken.epoch))
            .await?;
        let staging = staging.clone();
        let (files, left) = task::blocking(move || staging.install()).await?;
        Ok(Ready {
            fetched,
            replayed,
            startable,
            files,
            left,
        })
    }
}

/// The cuts of the restored journals, as they came out.
fn cut_tails(taken: &TakenOver, family: &Family) -> Vec<CutTail> {
    let cut = taken.cut.iter().filter(|(name, _)| family.has(name));
    let tail = |(name, before): (&JournalName, &Offset)| {
        let (_, _, at) = taken.journals.get(name)?;
        Some(CutTail {
            journal: name.clone(),
            at: *at,
            bytes: before.since(*at),
        })
    };
    cut.filter_map(tail).collect()
}

//! Under which epoch a worker's files in a directory are mirrored. It is kept there, so that the mirror of an incarnation
//! that was taken over stays out when it is started again.
//!
//! ```text
//! # ...                      comments
//! format 1
//! cluster 0123456789abcdef   the cluster's id
//! worker JOB/WORKER
//! epoch 3
//! ```
//!
//! A file per worker, for several workers may share a directory. It is written before the first byte goes to the cluster.

use std::{io, path::Path};

use super::{MirrorOptions, fault::MirrorError};
use crate::{
    client::{Client, ClientError, Effect, Tried, small_file},
    domain::{Epoch, Rejected, WorkerRef},
    env::{fs, task},
};

/// What the names of these files begin with: none is ever mirrored.
const PREFIX: &str = ".dos-mirror-";
/// What the name ends with while the file is being written.
const NEW: &str = ".new";
/// Longest name, in bytes, without [`NEW`]: with it, it is one that every file system takes.
const NAME_BYTES_MAX: usize = 250;
/// Longest file read, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
const FORMAT: &str = "1";

/// As what a directory's files are mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    cluster: String,
    worker: WorkerRef,
    epoch: Epoch,
}

/// Opens the worker under the epoch that the directory was mirrored under, or under the one in force if it never was, or
/// is adopted; and writes that down. Answers the epoch, and whether the worker is new.
///
/// # Errors
/// `TakenOverSince` or `OtherCluster`, with nothing changed; or as any call, or any file.
pub(super) async fn claim(
    client: &Client,
    options: &MirrorOptions,
) -> Result<(Epoch, bool), MirrorError> {
    let (directory, worker) = (options.directory.clone(), options.worker.clone());
    let known = task::blocking(move || Claim::read(&directory, &worker)).await?;
    let held = known.as_ref().filter(|_| !options.adopt);
    let opened = client
        .open_worker(&options.worker, held.map(|held| held.epoch))
        .await;
    let current = match &opened {
        Ok((epoch, _)) => Some(*epoch),
        Err(error) => match error.rejected() {
            Some(Rejected::EpochFenced { current, .. }) => Some(*current),
            Some(Rejected::UnknownWorker { .. }) => None,
            _ => return Err(error.clone().into()),
        },
    };
    // After the open, which has found a node of a cluster; with an epoch of another one it has changed nothing there.
    let cluster = cluster_id(client).await?;
    if let Some(held) = held.filter(|held| held.cluster != cluster) {
        return Err(MirrorError::OtherCluster {
            directory: options.directory.clone(),
            worker: options.worker.clone(),
            held: held.epoch,
            held_cluster: held.cluster.as_str().into(),
            current,
            current_cluster: cluster.into(),
        });
    }
    let (epoch, is_new) = opened.map_err(|error| taken_over(error, &options.directory))?;
    let claim = Claim {
        cluster,
        worker: options.worker.clone(),
        epoch,
    };
    if known.as_ref() != Some(&claim) {
        let directory = options.directory.clone();
        task::blocking(move || claim.write(&directory)).await?;
    }
    Ok((epoch, is_new))
}

/// The id of the cluster, of a node that is in one.
async fn cluster_id(client: &Client) -> Result<String, ClientError> {
    let status = client.status().await?;
    if !status.cluster_id.is_empty() {
        return Ok(status.cluster_id);
    }
    Err(ClientError::NotReady {
        what: "read the id of the cluster".into(),
        reason: format!("node {} is in none yet", status.client_address),
        tried: Tried::default(),
        effect: Effect::None,
    })
}

/// The refusal of an epoch that the directory has from before.
fn taken_over(error: ClientError, directory: &Path) -> MirrorError {
    match error.rejected() {
        Some(Rejected::EpochFenced {
            worker,
            held,
            current,
            succession,
        }) => MirrorError::TakenOverSince {
            directory: directory.to_owned(),
            worker: worker.clone(),
            held: *held,
            current: *current,
            by: succession.by.clone(),
            log_index: succession.log_index,
        },
        _ => error.into(),
    }
}

/// Whether a name in the directory is of one of this module's files.
pub(super) fn is_claim_name(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// Forgets under which epoch a worker's files in a directory were mirrored, for they were restored there.
///
/// # Errors
/// Of the disk.
pub fn forget(directory: &Path, worker: &WorkerRef) -> Result<(), ClientError> {
    let path = directory.join(file_name(worker));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ClientError::local("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The name of a worker's file: its own and its job's, in which no two differ only by what is put between them.
fn file_name(worker: &WorkerRef) -> String {
    let escaped = |name: &str| name.replace('%', "%25").replace('@', "%40");
    let (job, name) = (worker.job.as_str(), worker.worker.as_str());
    let mut text = format!("{PREFIX}{}@{}", escaped(name), escaped(job));
    if text.len() > NAME_BYTES_MAX {
        // What the file says is compared, too: two workers that share a name are told, not mixed up.
        let sum = format!("%{:08x}", crc32c::crc32c(text.as_bytes()));
        text.truncate(text.floor_char_boundary(NAME_BYTES_MAX - sum.len()));
        text.push_str(&sum);
    }
    text
}

impl Claim {
    /// What the directory says of the worker; `None` if nothing.
    fn read(directory: &Path, worker: &WorkerRef) -> Result<Option<Self>, ClientError> {
        let path = directory.join(file_name(worker));
        let next = "make sure that the worker was not taken over since, then remove the file";
        let Some(text) = small_file::read(&path, FILE_BYTES_MAX, next)? else {
            return Ok(None);
        };
        let claim = Self::parse(&text).and_then(|claim| {
            let same = claim.worker == *worker;
            same.then_some(claim)
                .ok_or_else(|| "it is another worker's".to_owned())
        });
        claim.map(Some).map_err(|why| ClientError::LocalState {
            path,
            why,
            next: next.into(),
        })
    }

    /// Replaces what the directory says. Durable, and all or nothing.
    fn write(&self, directory: &Path) -> Result<(), ClientError> {
        let name = file_name(&self.worker);
        let (path, new) = (
            directory.join(&name),
            directory.join(format!("{name}{NEW}")),
        );
        small_file::replace(&path, &new, &self.to_text())
    }

    fn to_text(&self) -> String {
        let Self {
            cluster,
            worker,
            epoch,
        } = self;
        format!(
            "# As what the worker's files here are mirrored. Written by dos-cluster mirror; do not edit, and do not copy.\n\
             format {FORMAT}\ncluster {cluster}\nworker {worker}\nepoch {epoch}\n"
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut format, mut cluster, mut worker, mut epoch) = (None, None, None, None);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "format" => format = Some(value),
                "cluster" if !value.is_empty() => cluster = Some(value.to_owned()),
                "worker" => worker = Some(value.parse().map_err(|e| format!("{e}"))?),
                "epoch" => {
                    let number = value.parse().map_err(|_| format!("bad epoch {value:?}"))?;
                    epoch = Some(Epoch(number));
                }
                _ => return Err(format!("unknown line {line:?}")),
            }
        }
        if format != Some(FORMAT) {
            return Err(format!(
                "its format is {format:?}; this version reads {FORMAT}"
            ));
        }
        Ok(Self {
            cluster: cluster.ok_or("it names no cluster")?,
            worker: worker.ok_or("it names no worker")?,
            epoch: epoch.ok_or("it names no epoch")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(worker: &str, epoch: u64) -> Claim {
        Claim {
            cluster: "0123".into(),
            worker: worker.parse().unwrap(),
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn a_claim_reads_as_it_was_written_and_each_worker_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "j".repeat(255), "ö".repeat(127));
        let workers = ["a/b@c", "c@a/b", "c/a%40b", "job/worker 1", &long];
        for (epoch, worker) in workers.iter().enumerate() {
            let claim = claim(worker, epoch as u64);
            assert_eq!(Claim::read(dir.path(), &claim.worker).unwrap(), None);
            claim.write(dir.path()).unwrap();
            claim.write(dir.path()).unwrap();
        }
        for (epoch, worker) in workers.iter().enumerate() {
            let claim = claim(worker, epoch as u64);
            let read = Claim::read(dir.path(), &claim.worker).unwrap();
            assert_eq!(read, Some(claim));
        }
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(is_claim_name(name.as_encoded_bytes()), "{name:?}");
            assert!(
                !name.as_encoded_bytes().ends_with(NEW.as_bytes()),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_damaged_claim_and_one_of_another_worker_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = claim("a/b", 1);
        let text = claim("a/c", 1).to_text();
        for bad in [
            "",
            "format 2\ncluster x\nworker a/b\nepoch 1\n",
            "format 1\nworker a/b\nepoch 1\n",
            "format 1\ncluster \nworker a/b\nepoch 1\n",
            "format 1\ncluster x\nepoch 1\n",
            "format 1\ncluster x\nworker a/b\nepoch -1\n",
            "format 1\ncluster x\nworker a/b\n",
            &text,
            &"#".repeat(5000),
        ] {
            let path = dir.path().join(file_name(&own.worker));
            small_file::replace(&path, &path.with_extension("x"), bad).unwrap();
            let refused = Claim::read(dir.path(), &own.worker).unwrap_err();
            assert!(
                matches!(refused, ClientError::LocalState { .. }),
                "{refused}"
            );
        }
    }
}

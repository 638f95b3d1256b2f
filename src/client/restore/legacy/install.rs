//! A directory that workers share: one worker's files are put into it file by file, and no other is touched.
//!
//! ```text
//! DIR/.P.restoring-7/journals/NAME     as fetched
//! DIR/.P.restoring-7/files/NAME        as replayed
//! ```
//!
//! What a failed restore has there is removed; what an interrupted one leaves, by the next one.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    event_log,
    family::Family,
    steps::{Step, steps},
};
use crate::{
    client::{
        ClientError, WorkerIdentity,
        files::sync_tree,
        identity::DirectoryLock,
        restore::{
            RestoreOptions,
            owner::{Owner, make_dir},
            staging::probe,
        },
    },
    domain::{Addresses, Epoch, JournalName},
    env::fs,
};

pub(super) const LOCAL_KEYS: &str = "local-keys";
/// The roles of a legacy worker's addresses, and the files that hold them.
pub(super) const ROLES: [(&str, &str); 2] = [("control", "tcp-control"), ("data", "tcp-data")];
const JOURNAL_SUFFIX: &str = ".journal";

/// The name of the event log that a journal is a copy of.
pub(super) fn event_log_of(journal: &JournalName) -> &str {
    let name = journal.as_str();
    name.strip_suffix(JOURNAL_SUFFIX).unwrap_or(name)
}

/// The directory, and whose files go there.
#[derive(Debug, Clone)]
pub(in crate::client::restore) struct Target {
    pub(super) directory: PathBuf,
    family: Family,
    force: bool,
}

impl Target {
    pub(super) fn new(options: &RestoreOptions, family: &Family) -> Result<Self, ClientError> {
        let directory = std::path::absolute(&options.to)
            .map_err(|e| ClientError::local("find", &options.to, e))?;
        Ok(Self {
            directory,
            family: family.clone(),
            force: options.force,
        })
    }

    /// What such a worker makes and is there now, and would be replaced or removed; refuses what force would not do away with.
    /// Nothing is changed.
    pub(super) fn look(&self) -> Result<Vec<OsString>, ClientError> {
        let directory = &self.directory;
        probe(&self.beside(0))?; // which no worker has
        if let Some(found) = WorkerIdentity::read(directory)? {
            let why = format!(
                "it is the directory of worker {}, which is no legacy one",
                found.worker
            );
            return Err(self.refuse(directory, why, "choose another"));
        }
        self.existing(&BTreeSet::new())
    }

    /// Refuses what can be known to fail, and makes the directory.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        make_dir(&self.directory)?;
        self.check_leave(&self.look()?)
    }

    /// What is there of the files that such a worker makes, and of the `new` ones.
    fn existing(&self, new: &BTreeSet<OsString>) -> Result<Vec<OsString>, ClientError> {
        let mut names = match fs::list_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(|e| ClientError::local("list", &self.directory, e))?,
        };
        names.retain(|name| self.family.is_known(name.as_bytes()) || new.contains(name));
        for name in &names {
            let path = self.directory.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                let why = "it is a directory, where a file of the worker belongs".to_owned();
                return Err(self.refuse(&path, why, "move it away"));
            }
        }
        Ok(names)
    }

    /// What is there is never replaced without leave.
    fn check_leave(&self, existing: &[OsString]) -> Result<(), ClientError> {
        let prefix = &self.family.prefix;
        let (count, first) = match existing {
            _ if self.force => return Ok(()),
            [] => return Ok(()),
            [only] => (format!("a file of {prefix} is there"), only),
            [first, ..] => (
                format!("{} files of {prefix} are there", existing.len()),
                first,
            ),
        };
        let why = format!("{count}, such as {}", first.display());
        let next = "choose another directory, or replace them with --force";
        Err(self.refuse(&self.directory, why, next))
    }

    fn refuse(&self, path: &Path, why: String, next: &str) -> ClientError {
        ClientError::LocalState {
            path: path.to_owned(),
            why,
            next: next.to_owned(),
        }
    }

    fn beside_prefix(&self) -> String {
        format!(".{}.restoring-", self.family.prefix)
    }

    fn beside(&self, number: u64) -> PathBuf {
        self.directory
            .join(format!("{}{number}", self.beside_prefix()))
    }

    /// What restores of this worker left, or are working in.
    fn unfinished(&self) -> Result<Vec<PathBuf>, ClientError> {
        let names = fs::list_dir(&self.directory);
        let names = names.map_err(|e| ClientError::local("list", &self.directory, e))?;
        let is_ours = |name: &OsString| {
            let number = name
                .as_bytes()
                .strip_prefix(self.beside_prefix().as_bytes());
            number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        };
        let ours = names.into_iter().filter(is_ours);
        Ok(ours.map(|name| self.directory.join(name)).collect())
    }
}

/// The directory in which a restore is put together.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    target: Target,
    root: PathBuf,
    /// Of the root: another restore takes it for unfinished otherwise.
    _lock: Arc<DirectoryLock>,
}

impl Staging {
    /// Makes it, empty, and removes what restores that are not running any more have left.
    pub(super) fn make(target: Target, epoch: Epoch) -> Result<Self, ClientError> {
        for path in target.unfinished()? {
            if DirectoryLock::take_if_used(&path).is_ok() {
                fs::remove_dir_all(&path).map_err(|e| ClientError::local("remove", &path, e))?;
            }
        }
        let root = target.beside(epoch.0);
        fs::create_dir(&root).map_err(|e| ClientError::local("create", &root, e))?;
        let staging = Self {
            target,
            _lock: Arc::new(DirectoryLock::take(&root)?),
            root,
        };
        for directory in [staging.files(), staging.journals()] {
            fs::create_private_dir_all(&directory)
                .map_err(|e| ClientError::local("create", &directory, e))?;
        }
        Ok(staging)
    }

    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(super) fn journals(&self) -> PathBuf {
        self.root.join("journals")
    }

    pub(super) fn journal(&self, name: &JournalName) -> PathBuf {
        self.journals().join(name.as_str())
    }

    /// Whether there is any byte of an event log: a worker finds nothing in an empty part, and exits.
    pub(super) fn has_events(&self, log: &JournalName) -> bool {
        fs::metadata(self.journal(log)).is_ok_and(|found| found.len() > 0)
    }

    /// Adds what the ops do not make, and makes everything durable: event logs, the file of keys, addresses.
    pub(super) fn complete(&self, addresses: Option<&Addresses>) -> Result<(), ClientError> {
        let files = self.files();
        let keys = files.join(self.target.family.file(LOCAL_KEYS));
        fs::open_or_create(&keys).map_err(|e| ClientError::local("create", &keys, e))?;
        for log in self
            .target
            .family
            .logs
            .iter()
            .filter(|log| self.has_events(log))
        {
            event_log::write(&self.journal(log), &files.join(event_log_of(log)))?;
        }
        for (role, suffix) in ROLES {
            let Some((host, port)) = addresses.and_then(|addresses| addresses.host_and_port(role))
            else {
                continue;
            };
            let path = files.join(self.target.family.file(suffix));
            let text = format!("{host}\n{port}\n");
            let written = fs::open_or_create(&path).and_then(|file| {
                file.set_len(0)?;
                fs::write_all_at(&file, text.as_bytes(), 0)
            });
            written.map_err(|e| ClientError::local("write", &path, e))?;
        }
        let owner = Owner::of(&self.target.directory)?;
        for directory in [&files, &self.journals()] {
            owner.give_tree(directory)?;
        }
        sync_tree(&self.root).map_err(|(path, e)| ClientError::local("sync", path, e))
    }

    /// Removes it, after a failure: it lies in a directory that others look into. What cannot be removed, the next restore
    /// removes.
    pub(super) fn discard(self) {
        fs::remove_dir_all(&self.root).ok();
    }

    /// Puts everything into place. Answers the files' names, and what could not be removed.
    pub(super) fn install(self) -> Result<(Vec<String>, Vec<PathBuf>), ClientError> {
        let mut new = BTreeSet::new();
        let mut from = Vec::new();
        for directory in [self.files(), self.journals()] {
            let names = fs::list_dir(&directory);
            for name in names.map_err(|e| ClientError::local("list", &directory, e))? {
                from.push((name.clone(), directory.join(&name)));
                new.insert(name);
            }
        }
        let old = self.target.existing(&new)?;
        self.target.check_leave(&old)?; // it may have been filled since
        let old = old.into_iter().collect();
        for step in steps(&self.target.family, &new, &old) {
            self.take(&step, &from)?;
        }
        let left = match fs::remove_dir_all(&self.root) {
            Ok(()) => Vec::new(),
            Err(_) => vec![self.root.clone()],
        };
        let name = |name: &OsString| name.to_string_lossy().into_owned();
        Ok((new.iter().map(name).collect(), left))
    }

    fn take(&self, step: &Step, from: &[(OsString, PathBuf)]) -> Result<(), ClientError> {
        let directory = &self.target.directory;
        match step {
            Step::Remove(name) => {
                let path = directory.join(name);
                fs::remove_file(&path).map_err(|e| ClientError::local("remove", path, e))
            }
            Step::Place(name) => {
                let place = |(_, path): &(OsString, PathBuf)| {
                    let placed = fs::rename(path, &directory.join(name));
                    placed.map_err(|e| ClientError::local("rename", path, e))
                };
                from.iter()
                    .find(|(known, _)| known == name)
                    .map_or(Ok(()), place)
            }
            Step::Sync => {
                fs::sync_dir(directory).map_err(|e| ClientError::local("sync", directory, e))
            }
        }
    }
}

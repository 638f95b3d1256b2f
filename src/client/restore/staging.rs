//! The directory beside the target in which a restore is put together, and the rename that makes it appear.
//!
//! ```text
//! DIR.restoring-7/journals/NAME     as fetched
//! DIR.restoring-7/files/...         as replayed; the journals are moved in last, then this becomes DIR
//! DIR.replaced-7                    what was in DIR before, until the new one is in place
//! ```

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::RestoreOptions;
use crate::{
    client::{ClientError, WorkerIdentity, identity, replay::PathMap},
    domain::{Epoch, JournalName, Offset},
    env::fs,
};

/// The target directory, looked at before anything is fenced.
#[derive(Debug, Clone)]
pub(super) struct Target {
    directory: PathBuf,
    parent: PathBuf,
    name: OsString,
    force: bool,
}

impl Target {
    /// Refuses a target that is in the way.
    pub(super) fn check(options: &RestoreOptions) -> Result<Self, ClientError> {
        let directory = std::path::absolute(&options.to)
            .map_err(|e| ClientError::local("find", &options.to, e))?;
        let refuse = |why: &str, next: &str| ClientError::LocalState {
            path: directory.clone(),
            why: why.to_owned(),
            next: next.to_owned(),
        };
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Err(refuse(
                "it is no directory to restore into",
                "choose another",
            ));
        };
        let target = Self {
            parent: parent.to_owned(),
            name: name.to_owned(),
            force: options.force,
            directory: directory.clone(),
        };
        match fs::symlink_metadata(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(target),
            Err(error) => return Err(ClientError::local("look at", &directory, error)),
            Ok(found) if !found.is_dir() => {
                return Err(refuse("it is no directory", "choose another"));
            }
            Ok(_) => {}
        }
        if !options.force && !target.is_empty()? {
            let next = "choose another directory, or replace its content with --force";
            return Err(refuse("it is not empty", next));
        }
        Ok(target)
    }

    fn is_empty(&self) -> Result<bool, ClientError> {
        let names = fs::list_dir(&self.directory);
        let names = names.map_err(|e| ClientError::local("list", &self.directory, e))?;
        Ok(names.is_empty())
    }

    /// A name beside the target.
    fn beside(&self, what: &str, suffix: impl std::fmt::Display) -> PathBuf {
        let mut name = self.name.clone();
        name.push(format!(".{what}-{suffix}"));
        self.parent.join(name)
    }

    /// Removes what an earlier restore left unfinished beside the target: its epoch is fenced by now.
    fn remove_leftovers(&self) -> Result<(), ClientError> {
        let mut prefix = self.name.clone();
        prefix.push(".restoring-");
        let list = |e| ClientError::local("list", &self.parent, e);
        for name in fs::list_dir(&self.parent).map_err(list)? {
            let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
            let is_epoch =
                rest.is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit));
            if is_epoch {
                let path = self.parent.join(&name);
                fs::remove_dir_all(&path).map_err(|e| ClientError::local("remove", &path, e))?;
            }
        }
        Ok(())
    }
}

/// The directory in which a restore is put together.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    target: Target,
    root: PathBuf,
    epoch: Epoch,
}

impl Staging {
    /// Makes it, empty.
    pub(super) fn make(target: Target, epoch: Epoch) -> Result<Self, ClientError> {
        let made = |path: &Path, result: io::Result<()>| {
            result.map_err(|e| ClientError::local("create", path, e))
        };
        made(&target.parent, fs::create_dir_all(&target.parent))?;
        target.remove_leftovers()?;
        let root = target.beside("restoring", epoch);
        made(&root, fs::create_private_dir_all(&root))?;
        let staging = Self {
            target,
            root,
            epoch,
        };
        for directory in [staging.files(), staging.journals()] {
            made(&directory, fs::create_private_dir_all(&directory))?;
        }
        Ok(staging)
    }

    /// Where ops are replayed into.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    fn journals(&self) -> PathBuf {
        self.root.join("journals")
    }

    /// Where a journal is fetched to.
    pub(super) fn journal(&self, name: &JournalName) -> PathBuf {
        self.journals().join(name.as_str())
    }

    /// How the paths of ops lead into [`Staging::files`]: a rule to an absolute path inside the target leads to the same
    /// place here.
    pub(super) fn path_map(&self, rules: &[(String, String)]) -> PathMap {
        let rebase = rules.iter().map(|(old, new)| {
            let inside = Path::new(new).strip_prefix(&self.target.directory);
            let new = inside.map_or(OsStr::new(new), Path::as_os_str);
            (old.as_bytes().to_vec(), new.as_bytes().to_vec())
        });
        PathMap {
            root: self.files(),
            rebase: rebase.collect(),
        }
    }

    /// Cuts the fetched copy of a journal.
    pub(super) fn cut_journal(&self, name: &JournalName, at: Offset) -> Result<(), ClientError> {
        let path = self.journal(name);
        let cut = fs::open_or_create(&path).and_then(|file| file.set_len(at.0));
        cut.map_err(|e| ClientError::local("cut", &path, e))
    }

    /// Syncs everything and makes it the target, all at once.
    pub(super) fn put_in_place(self, identity: &WorkerIdentity) -> Result<(), ClientError> {
        let files = self.files();
        for name in identity.journals.keys() {
            if identity::is_identity_name(name.as_str().as_bytes()) {
                continue; // no worker of ours makes it; its bytes stay in the cluster
            }
            let (from, to) = (self.journal(name), files.join(name.as_str()));
            let moved = fs::open(&from)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&from, &to));
            moved.map_err(|e| ClientError::local("move", &from, e))?;
        }
        identity.write(&files)?; // syncs the directory too
        let target = &self.target.directory;
        let old = self.target.beside("replaced", self.epoch);
        let exists = fs::exists(target).map_err(|e| ClientError::local("look at", target, e))?;
        if exists {
            // The state may have changed since the check; what is there is never overwritten without leave.
            if !self.target.force && !self.target.is_empty()? {
                return Err(ClientError::LocalState {
                    path: target.clone(),
                    why: "it was filled during the restore".into(),
                    next: "choose another directory, or replace its content with --force".into(),
                });
            }
            fs::rename(target, &old).map_err(|e| ClientError::local("rename", target, e))?;
        }
        fs::rename(&files, target).map_err(|e| ClientError::local("rename", &files, e))?;
        let parent = &self.target.parent;
        // IMPORTANT: the new name is durable before the old content goes.
        fs::sync_dir(parent).map_err(|e| ClientError::local("sync", parent, e))?;
        for path in [&old, &self.root] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ClientError::local("remove", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

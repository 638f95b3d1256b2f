//! The directory beside the target in which a restore is put together, and the renames that make it appear.
//!
//! ```text
//! DIR.restoring-7/journals/NAME     as fetched
//! DIR.restoring-7/files/...         as replayed; the journals are moved in last, then this becomes DIR
//! DIR.replaced-7                    what was in DIR before, until the new one is in place
//! ```
//!
//! The number is the epoch, or the first one behind it that is free.
//!
//! A missing DIR appears by one rename, with all its content. One that is there (empty, or `force`) moves away first. When
//! the second rename fails it moves back; when the machine or the process ends between the two, the next restore into DIR
//! moves it back before it does anything else. So old and new are never mixed, and the old one is removed only when the new
//! one's name is durable.

use std::{
    ffi::OsString,
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    RestoreOptions,
    legacy::Listed,
    owner::{self, Owner},
};
use crate::{
    client::{
        ClientError, WorkerIdentity,
        identity::{self, DirectoryLock},
        replay::PathMap,
    },
    domain::{Epoch, JournalName, Offset, limits::NAME_BYTES_MAX},
    env::fs,
};

/// The target directory, looked at before anything is fenced.
#[derive(Debug, Clone)]
pub(super) struct Target {
    directory: PathBuf,
    parent: PathBuf,
    name: OsString,
    force: bool,
    /// Held on what is there now, if a worker has used it.
    lock: Option<Arc<DirectoryLock>>,
}

impl Target {
    /// Refuses what can be known to fail, and makes the directory's parents. What an interrupted restore moved away is put
    /// back first, if nothing took its place.
    pub(super) fn check(options: &RestoreOptions, listed: &Listed) -> Result<Self, ClientError> {
        let mut target = Self::new(options)?;
        owner::make_dir(&target.parent)?;
        target.check_parent()?;
        if let Some(moved) = target.moved_away()? {
            target.put_back(&moved)?;
        } else if !target.is_there()? {
            return Ok(target);
        } else {
            target.check_kind()?;
        }
        let directory = target.directory.clone();
        let content = target.content(&directory, options, listed)?;
        if !target.force && !content.is_empty() {
            let next = "choose another directory, or replace its content with --force";
            return Err(target.refuse("it is not empty", next));
        }
        Ok(target)
    }

    /// The directory, and what a restore would replace; refuses what force would not do away with. Nothing is changed.
    pub(super) fn look(
        options: &RestoreOptions,
        listed: &Listed,
    ) -> Result<(PathBuf, Vec<PathBuf>), ClientError> {
        let mut target = Self::new(options)?;
        target.check_parent()?;
        let at = match target.moved_away()? {
            Some(moved) => moved,
            None if target.is_there()? => {
                target.check_kind()?;
                target.directory.clone()
            }
            None => return Ok((target.directory, Vec::new())),
        };
        let content = target.content(&at, options, listed)?;
        let path = |name: &OsString| target.directory.join(name);
        let content = content.iter().map(path).collect();
        Ok((target.directory, content))
    }

    fn new(options: &RestoreOptions) -> Result<Self, ClientError> {
        let directory = std::path::absolute(&options.to)
            .map_err(|e| ClientError::local("find", &options.to, e))?;
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Err(ClientError::LocalState {
                path: directory,
                why: "it is no directory to restore into".into(),
                next: "choose another".into(),
            });
        };
        let target = Self {
            parent: parent.to_owned(),
            name: name.to_owned(),
            force: options.force,
            directory,
            lock: None,
        };
        target.check_rules(&options.map)?;
        Ok(target)
    }

    /// Whether anything has its name, be it a link.
    fn is_there(&self) -> Result<bool, ClientError> {
        match fs::symlink_metadata(&self.directory) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ClientError::local("look at", &self.directory, error)),
        }
    }

    /// What an interrupted restore moved away, if nothing took its place.
    fn moved_away(&self) -> Result<Option<PathBuf>, ClientError> {
        let replaced = self.beside_by_number("replaced")?;
        let newest = replaced.into_iter().next_back();
        Ok(match newest {
            Some((_, path)) if !self.is_there()? => Some(path),
            _ => None,
        })
    }

    /// Refuses what is there and is no directory that could be replaced.
    fn check_kind(&self) -> Result<(), ClientError> {
        let found = fs::symlink_metadata(&self.directory)
            .map_err(|e| ClientError::local("look at", &self.directory, e))?;
        if !found.is_dir() {
            return Err(self.refuse("it is no directory", "choose another"));
        }
        if self.is_mount_point(&found)? {
            let why = "something is mounted there, so it cannot be replaced";
            return Err(self.refuse(why, "choose a directory inside it"));
        }
        if !self.force
            && let Some((_, left)) = self.beside_by_number("replaced")?.last()
        {
            let left = left.display();
            let why = format!("{left} holds what an interrupted restore was to replace");
            let next = "move that away, or let it be replaced with --force";
            return Err(self.refuse(&why, next));
        }
        Ok(())
    }

    /// What would be replaced, if that is meant, and no process uses it.
    fn content(
        &mut self,
        at: &Path,
        options: &RestoreOptions,
        listed: &Listed,
    ) -> Result<Vec<OsString>, ClientError> {
        self.take_lock(at)?;
        // Before anybody is told to use force.
        self.check_worth_replacing(at, options, listed)?;
        let mut names = fs::list_dir(at).map_err(|e| ClientError::local("list", at, e))?;
        names.retain(|name| !identity::is_lock_name(name.as_bytes()));
        Ok(names)
    }

    /// Even with force, some directories are not meant.
    fn check_worth_replacing(
        &self,
        at: &Path,
        options: &RestoreOptions,
        listed: &Listed,
    ) -> Result<(), ClientError> {
        let real = fs::canonicalize(at).map_err(|e| ClientError::local("find", at, e))?;
        let inside = |path: Option<PathBuf>| {
            let path = path.map(|path| fs::canonicalize(&path).unwrap_or(path));
            path.is_some_and(|path| path.starts_with(&real))
        };
        if inside(std::env::current_dir().ok()) {
            let why = "this process works inside it, so it would be replaced under it";
            return Err(self.refuse(why, "choose another, or change to another directory first"));
        }
        if inside(std::env::home_dir()) {
            return Err(self.refuse("it holds your home directory", "choose another"));
        }
        match WorkerIdentity::read(at)? {
            Some(found) if found.worker == options.worker => Ok(()),
            Some(found) => {
                let why = format!("it is the directory of worker {}", found.worker);
                Err(self.refuse(&why, "choose another, or remove it yourself"))
            }
            None => self.check_foreign_journals(at, listed),
        }
    }

    /// Legacy workers share a directory, and leave no identity in it: their journals tell.
    fn check_foreign_journals(&self, at: &Path, listed: &Listed) -> Result<(), ClientError> {
        let names = fs::list_dir(at).map_err(|e| ClientError::local("list", at, e))?;
        let is_foreign = |name: &&OsString| {
            let is_listed = |name: &str| listed.keys().any(|known| known.as_str() == name);
            name.as_bytes().ends_with(b".journal") && !name.to_str().is_some_and(is_listed)
        };
        let Some(foreign) = names.iter().find(is_foreign) else {
            return Ok(());
        };
        let why = format!(
            "it holds journals that are not this worker's, such as {}, and all of it would be replaced",
            foreign.display()
        );
        Err(self.refuse(&why, "choose a directory of the worker's own"))
    }

    fn refuse(&self, why: &str, next: &str) -> ClientError {
        ClientError::LocalState {
            path: self.directory.clone(),
            why: why.to_owned(),
            next: next.to_owned(),
        }
    }

    fn check_rules(&self, rules: &[(String, String)]) -> Result<(), ClientError> {
        let map = PathMap {
            root: self.directory.clone(),
            rebase: as_bytes(rules),
        };
        map.check_rules()
            .map_err(|refusal| ClientError::BadRequest {
                what: format!("restore into {}", self.directory.display()),
                why: format!("{refusal}; a rule leads to a path inside it, relative or absolute"),
            })
    }

    /// Finds out whether a restore can be put together in the parent, or where that would have to be made.
    fn check_parent(&self) -> Result<(), ClientError> {
        let longest = self.beside("restoring", u64::MAX).join("journals");
        let longest = longest.join("x".repeat(NAME_BYTES_MAX));
        if let Err(error) = fs::symlink_metadata(&longest)
            && error.kind() == io::ErrorKind::InvalidFilename
        {
            let why =
                "its name is too long: a restore is put together beside it, under a longer one";
            return Err(self.refuse(why, "choose a shorter one"));
        }
        probe(&self.beside("restoring", Epoch(0))) // which no worker has
    }

    fn is_mount_point(&self, found: &fs::Metadata) -> Result<bool, ClientError> {
        let parent = fs::metadata(&self.parent);
        let parent = parent.map_err(|e| ClientError::local("look at", &self.parent, e))?;
        Ok(parent.dev() != found.dev())
    }

    /// Undoes the first half of a replacement that never came to its second.
    fn put_back(&mut self, replaced: &Path) -> Result<(), ClientError> {
        self.lock = DirectoryLock::take_if_used(replaced)?.map(Arc::new);
        let back = fs::rename(replaced, &self.directory).and_then(|()| fs::sync_dir(&self.parent));
        back.map_err(|e| ClientError::local("put back", replaced, e))
    }

    /// Keeps the worker's process out of what is there, or finds it in there.
    fn take_lock(&mut self, at: &Path) -> Result<(), ClientError> {
        if self.lock.is_none() {
            self.lock = DirectoryLock::take_if_used(at)?.map(Arc::new);
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, ClientError> {
        let names = fs::list_dir(&self.directory);
        let names = names.map_err(|e| ClientError::local("list", &self.directory, e))?;
        Ok(names
            .iter()
            .all(|name| identity::is_lock_name(name.as_bytes())))
    }

    /// A name beside the target.
    fn beside(&self, what: &str, suffix: impl std::fmt::Display) -> PathBuf {
        let mut name = self.name.clone();
        name.push(format!(".{what}-{suffix}"));
        self.parent.join(name)
    }

    /// A name beside the target that nothing has.
    fn free_beside(&self, what: &str, epoch: Epoch) -> PathBuf {
        let mut number = epoch.0;
        loop {
            let path = self.beside(what, number);
            if fs::symlink_metadata(&path).is_err() {
                return path; // what cannot be looked at cannot be made either, and that says why
            }
            number += 1;
        }
    }

    /// The directories beside the target that [`Target::beside`] names with a number, the highest last.
    fn beside_by_number(&self, what: &str) -> Result<Vec<(u64, PathBuf)>, ClientError> {
        let list = |e| ClientError::local("list", &self.parent, e);
        let mut found = Vec::new();
        let names = match fs::list_dir(&self.parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            names => names.map_err(list)?,
        };
        for name in names {
            let mut prefix = self.name.clone();
            prefix.push(format!(".{what}-"));
            let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
            let Some(number) = rest.and_then(|rest| std::str::from_utf8(rest).ok()?.parse().ok())
            else {
                continue;
            };
            let path = self.parent.join(&name);
            let is_ours = path == self.beside(what, number)
                && fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            if is_ours {
                found.push((number, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Finds out whether a directory can be made there, or where it would have to be first; it is removed at once.
pub(super) fn probe(path: &Path) -> Result<(), ClientError> {
    let parent = path.parent().unwrap_or(path);
    let there = owner::nearest(parent);
    let probe = there.join(path.file_name().unwrap_or_default());
    let made = match fs::create_dir(&probe) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.and_then(|()| fs::remove_dir_all(&probe)),
    };
    // What would have to be made first is what could not be.
    let named = if there == parent { &probe } else { parent };
    made.map_err(|e| ClientError::local("create", named, e))
}

/// Removes what is of no use any more; answers what could not be removed. That the work is done does not hang on it.
fn remove(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for path in paths {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => left.push(path),
            _ => {}
        }
    }
    left
}

fn as_bytes(rules: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |(old, new): &(String, String)| (old.as_bytes().to_vec(), new.as_bytes().to_vec());
    rules.iter().map(bytes).collect()
}

/// Gives the content in `new` the name `target`; what has that name moves to `old`, and back if that fails.
fn swap(new: &Path, target: &Path, old: &Path) -> Result<(), ClientError> {
    let exists = fs::exists(target).map_err(|e| ClientError::local("look at", target, e))?;
    if exists {
        fs::rename(target, old).map_err(|e| ClientError::local("rename", target, e))?;
    }
    let Err(error) = fs::rename(new, target) else {
        return Ok(());
    };
    if exists && let Err(back) = fs::rename(old, target) {
        return Err(ClientError::LocalState {
            path: target.to_owned(),
            why: format!("it could not be replaced ({error}), nor be put back ({back})"),
            next: format!("its content is in {}: rename that", old.display()),
        });
    }
    Err(ClientError::local("rename", new, error))
}

/// The directory in which a restore is put together.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    target: Target,
    root: PathBuf,
    epoch: Epoch,
    /// Of the root: another restore takes it for unfinished otherwise.
    lock: Arc<DirectoryLock>,
    /// What could not be removed.
    left: Vec<PathBuf>,
}

impl Staging {
    /// Makes it, empty, and removes what restores that are not running any more left unfinished beside it.
    pub(super) fn make(target: Target, epoch: Epoch) -> Result<Self, ClientError> {
        let unfinished = target.beside_by_number("restoring")?;
        let is_running = |path: &PathBuf| DirectoryLock::take_if_used(path).is_err();
        let unfinished = unfinished.into_iter().map(|(_, path)| path);
        let left = remove(unfinished.filter(|path| !is_running(path)));
        let root = target.free_beside("restoring", epoch);
        fs::create_dir(&root).map_err(|e| ClientError::local("create", &root, e))?;
        let staging = Self {
            target,
            lock: Arc::new(DirectoryLock::take(&root)?),
            root,
            epoch,
            left,
        };
        for directory in [staging.files(), staging.journals()] {
            fs::create_private_dir_all(&directory)
                .map_err(|e| ClientError::local("create", &directory, e))?;
        }
        Ok(staging)
    }

    /// Where ops are replayed into.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Where journals are fetched to.
    pub(super) fn journals(&self) -> PathBuf {
        self.root.join("journals")
    }

    /// Where a journal is fetched to.
    pub(super) fn journal(&self, name: &JournalName) -> PathBuf {
        self.journals().join(name.as_str())
    }

    /// How the paths of ops lead into [`Staging::files`]: a rule to an absolute path inside the target leads to the same
    /// place here.
    pub(super) fn path_map(&self, rules: &[(String, String)]) -> PathMap {
        let mut rebase = as_bytes(rules);
        for ((_, new), (_, rule)) in rebase.iter_mut().zip(rules) {
            if let Ok(inside) = Path::new(rule).strip_prefix(&self.target.directory) {
                *new = inside.as_os_str().as_bytes().to_vec();
            }
        }
        PathMap {
            root: self.files(),
            rebase,
        }
    }

    /// Cuts the fetched copy of a journal.
    pub(super) fn cut_journal(&self, name: &JournalName, at: Offset) -> Result<(), ClientError> {
        let path = self.journal(name);
        let cut = fs::open_or_create(&path).and_then(|file| file.set_len(at.0));
        cut.map_err(|e| ClientError::local("cut", &path, e))
    }

    /// Syncs everything and makes it the target. Answers what is left beside the target and could not be removed.
    pub(super) fn put_in_place(
        mut self,
        identity: &WorkerIdentity,
    ) -> Result<Vec<PathBuf>, ClientError> {
        let files = self.files();
        for name in identity.journals.keys() {
            let (from, to) = (self.journal(name), files.join(name.as_str()));
            let moved = fs::open(&from)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&from, &to));
            moved.map_err(|e| ClientError::local("move", &from, e))?;
        }
        identity.write(&files)?; // syncs the directory too
        let target = &mut self.target;
        let exists = fs::exists(&target.directory)
            .map_err(|e| ClientError::local("look at", &target.directory, e))?;
        let successor_of = if exists {
            &target.directory
        } else {
            &target.parent
        };
        Owner::of(successor_of)?.give_tree(&files)?;
        if exists {
            // The state may have changed since the check; what is there is never overwritten without leave.
            let directory = target.directory.clone();
            target.take_lock(&directory)?;
            if !target.force && !target.is_empty()? {
                let next = "choose another directory, or replace its content with --force";
                return Err(target.refuse("it was filled during the restore", next));
            }
        }
        let old = target.free_beside("replaced", self.epoch);
        swap(&files, &target.directory, &old)?;
        // IMPORTANT: the new name is durable before the old content goes.
        fs::sync_dir(&target.parent).map_err(|e| ClientError::local("sync", &target.parent, e))?;
        // With the content that earlier ones moved away and did not come to remove. Under another name first: what is half
        // removed must not be taken for content to be put back.
        let replaced = target.beside_by_number("replaced").unwrap_or_default();
        let mut useless = vec![self.root];
        for (number, path) in replaced {
            let removing = target.beside("removing", number);
            let renamed = fs::rename(&path, &removing);
            useless.push(if renamed.is_ok() { removing } else { path });
        }
        let earlier = target.beside_by_number("removing").unwrap_or_default();
        useless.extend(earlier.into_iter().map(|(_, path)| path));
        useless.sort();
        useless.dedup();
        self.left.extend(remove(useless));
        drop(self.lock);
        Ok(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let is_mount_point = |parent: &Path, directory: PathBuf| {
            let found = fs::metadata(&directory).unwrap();
            let target = Target {
                directory,
                parent: parent.to_owned(),
                name: OsString::new(),
                force: false,
                lock: None,
            };
            target.is_mount_point(&found).unwrap()
        };
        assert!(is_mount_point(Path::new("/"), "/proc".into()));
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(!is_mount_point(dir.path(), dir.path().join("dir")));
    }

    #[test]
    fn a_replacement_that_fails_half_way_puts_the_old_content_back() {
        let dir = tempfile::tempdir().unwrap();
        let (target, old) = (dir.path().join("dir"), dir.path().join("dir.replaced-2"));
        fs::create_dir(&target).unwrap();
        fs::open_or_create(&target.join("precious")).unwrap();
        let missing = dir.path().join("missing");
        let error = swap(&missing, &target, &old).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        assert!(fs::exists(&target.join("precious")).unwrap());
        assert!(!fs::exists(&old).unwrap());
    }
}

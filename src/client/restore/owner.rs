//! Whose what a restore makes is: where root restores, the worker that runs as somebody else must be able to write it.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    client::{ClientError, files::sync_tree},
    env::fs,
};

/// The user and the group of a directory, to be given what is put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// Of what is there.
    pub(super) fn of(path: &Path) -> Result<Self, ClientError> {
        let found = fs::metadata(path).map_err(|e| ClientError::local("look at", path, e))?;
        Ok(Self {
            user: found.uid(),
            group: found.gid(),
        })
    }

    /// Gives away a directory with all its content, links not followed, and makes it durable. Only root can: anybody else's
    /// files stay as they are.
    pub(super) fn give_tree(self, root: &Path) -> Result<(), ClientError> {
        let mut changed = false;
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            changed |= self.give(&path)?;
            let found = fs::symlink_metadata(&path);
            if found.is_ok_and(|found| found.is_dir()) {
                let names = fs::list_dir(&path);
                let names = names.map_err(|e| ClientError::local("list", &path, e))?;
                left.extend(names.iter().map(|name| path.join(name)));
            }
        }
        if changed {
            sync_tree(root).map_err(|(path, e)| ClientError::local("sync", path, e))?;
        }
        Ok(())
    }

    /// Whether it had to be given away.
    fn give(self, path: &Path) -> Result<bool, ClientError> {
        let found = fs::symlink_metadata(path);
        let found = found.map_err(|e| ClientError::local("look at", path, e))?;
        let is_roots = found.uid() == 0;
        if !is_roots || (found.uid(), found.gid()) == (self.user, self.group) {
            return Ok(false);
        }
        match fs::give_to(path, self.user, self.group) {
            // Root without the right to: in a container, or on another host's disk.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(ClientError::local("change the owner of", path, error)),
            Ok(()) => Ok(true),
        }
    }
}

/// Makes a directory and its missing parents, owned as what is there already. Durable when this returns.
pub(super) fn make_dir(path: &Path) -> Result<(), ClientError> {
    let there = nearest(path);
    let owner = Owner::of(&there)?;
    let made = fs::create_dir_all_synced(path);
    made.map_err(|e| ClientError::local("create", path, e))?;
    for new in path.ancestors().take_while(|new| *new != there) {
        owner.give(new)?;
    }
    Ok(())
}

/// The directory, or the nearest one above it that is there.
pub(super) fn nearest(path: &Path) -> PathBuf {
    // What cannot be looked at cannot be made either, and that says why.
    let there = |path: &&Path| fs::exists(path).unwrap_or(true);
    let found = path.ancestors().find(there);
    found.unwrap_or(Path::new("/")).to_owned()
}

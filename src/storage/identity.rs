//! Whose data directory this is. A directory belongs to one node of one cluster for ever; it is opened by one process
//! at a time and only by a program that knows its format.
//!
//! ```text
//! DIR/            mode 0700
//!   LOCK          locked while a process has the directory; holds its process id
//!   IDENTITY      cluster, node, incarnation, format version; text, with a checksum
//!   log/          the Raft log; made before IDENTITY, so that an identity without a log is a lost log
//!   state/        the state store
//!   snapshots/    images being received or sent
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{
    StorageError, crashsafe, state,
    wal::{self, Wal},
};
use crate::env::fs;

/// The format of a data directory that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Memory for a look into a state store.
const STATE_BYTES: usize = 8 << 20;

const IDENTITY_FILE: &str = "IDENTITY";
const LOCK_FILE: &str = "LOCK";
const CHECKSUM_KEY: &str = "crc32c = ";

/// Who a node is. Given by `init` or `join`, never used again for another disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random, made by `init`.
    pub cluster_id: u128,
    /// Given by the cluster, never reused.
    pub node_id: u64,
    /// Random, drawn for this disk: tells it from another disk under the same number.
    pub incarnation: u64,
}

impl Identity {
    fn encode(self) -> Vec<u8> {
        let mut text = format!(
            "# Whose data this directory holds. Do not edit, do not copy to another machine.\n\
             format_version = {FORMAT_VERSION}\ncluster_id = {:032x}\nnode_id = {}\nincarnation = {}\n",
            self.cluster_id, self.node_id, self.incarnation
        );
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("{CHECKSUM_KEY}{checksum:08x}\n"));
        text.into_bytes()
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StorageError> {
        let damaged = |what: &str| StorageError::damaged(path, 0, what);
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .collect();
        // First of all: a newer format may have another layout and another checksum.
        let version = fields
            .get("format_version")
            .and_then(|value| value.parse().ok());
        match version {
            Some(found) if found > FORMAT_VERSION => {
                return Err(StorageError::ForeignFormat {
                    path: path.to_owned(),
                    found,
                    supported: FORMAT_VERSION,
                });
            }
            Some(1..) => {}
            Some(0) | None => return Err(damaged("it has no valid format_version")),
        }
        let (body, checksum) = text
            .rsplit_once(CHECKSUM_KEY)
            .ok_or_else(|| damaged("it has no checksum"))?;
        let checksum = u32::from_str_radix(checksum.trim_end(), 16)
            .map_err(|_| damaged("its checksum is no number"))?;
        if crc32c::crc32c(body.as_bytes()) != checksum {
            return Err(damaged("its checksum does not match"));
        }
        let number = |key: &str| fields.get(key).and_then(|value| value.parse().ok());
        Ok(Self {
            cluster_id: fields
                .get("cluster_id")
                .and_then(|value| u128::from_str_radix(value, 16).ok())
                .ok_or_else(|| damaged("it has no valid cluster_id"))?,
            node_id: number("node_id").ok_or_else(|| damaged("it has no valid node_id"))?,
            incarnation: number("incarnation")
                .ok_or_else(|| damaged("it has no valid incarnation"))?,
        })
    }
}

/// A node's directory, locked for this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Option<Identity>,
    _lock: fs::File,
}

impl DataDir {
    /// Opens a data directory; creates it, mode 0700, if it is not there. Refused: a directory that another process
    /// has, of a newer format, with a damaged identity, with an identity but no log, or with data but no identity.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        if !fs::exists(path).map_err(StorageError::io("look at", path))? {
            fs::create_private_dir_all(path).map_err(StorageError::io("create directory", path))?;
            crashsafe::sync_parent(path)?;
        }
        let lock = lock(path)?;
        // One that was there before may be open to others.
        match fs::make_private(path) {
            // It is another's, who lets this process in: a mounted volume, as a rule.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::info!(path = %path.display(), "the mode of the data directory is its owner's to set; it is left");
            }
            set => set.map_err(StorageError::io("set the mode of", path))?,
        }
        let identity_path = path.join(IDENTITY_FILE);
        let identity = crashsafe::read(&identity_path)?
            .map(|bytes| Identity::decode(&identity_path, &bytes))
            .transpose()?;
        let this = Self {
            path: path.to_owned(),
            identity,
            _lock: lock,
        };
        this.check_data_belongs()?;
        Ok(this)
    }

    /// The identity; `None` in a directory that has not been through `init` or `join`.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Writes the identity; durable on return. The log comes first: an identity without one counts as a lost log. An identity
    /// is kept for ever, except by a directory whose log is pristine: its node has never voted, so nobody counts on it.
    pub fn set_identity(&mut self, identity: Identity, log: &Wal) -> Result<(), StorageError> {
        if let Some(old) = self.identity
            && old != identity
            && !log.is_pristine()
        {
            return Err(StorageError::IdentityRefused {
                path: self.path.clone(),
                why: format!(
                    "it belongs to node n{} of cluster {:032x} already",
                    old.node_id, old.cluster_id
                ),
            });
        }
        crashsafe::replace(&self.path.join(IDENTITY_FILE), &identity.encode())?;
        self.identity = Some(identity);
        Ok(())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log is.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state store is.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where snapshots are received and kept.
    #[must_use]
    pub fn snapshots_dir(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    fn check_data_belongs(&self) -> Result<(), StorageError> {
        if let Some(Identity {
            cluster_id,
            node_id,
            ..
        }) = self.identity
        {
            return match wal::has_segments(&self.wal_dir())? {
                true => Ok(()),
                false => Err(StorageError::LogGone {
                    path: self.path.clone(),
                    cluster_id,
                    node_id,
                }),
            };
        }
        for dir in [self.wal_dir(), self.snapshots_dir(), self.state_dir()] {
            if !fs::exists(&dir).map_err(StorageError::io("look at", &dir))? {
                continue;
            }
            let names = fs::list_dir(&dir).map_err(StorageError::io("list", &dir))?;
            let Some(name) = names.first() else {
                continue;
            };
            // A first start that was killed before it wrote the identity leaves a log and a state with nothing in them.
            let is_empty = (dir == self.wal_dir() && wal::is_pristine_in(&dir)?)
                || (dir == self.state_dir()
                    && state::open(&dir, STATE_BYTES)?.applied()?.is_none());
            if is_empty {
                continue;
            }
            return Err(StorageError::NoIdentity {
                path: self.path.clone(),
                found: dir.join(name).display().to_string(),
            });
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<fs::File, StorageError> {
    let path = dir.join(LOCK_FILE);
    let file = fs::open_or_create(&path).map_err(StorageError::io("open", &path))?;
    if !fs::lock_exclusive(&file).map_err(StorageError::io("lock", &path))? {
        let owner = fs::read(&path)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let owner = owner
            .map(|owner| owner.trim().to_owned())
            .filter(|owner| owner.parse::<u32>().is_ok());
        return Err(StorageError::InUse {
            path: dir.to_owned(),
            owner: owner.unwrap_or_else(|| "unknown".into()),
        });
    }
    let owner = format!("{}\n", std::process::id());
    file.set_len(0).map_err(StorageError::io("empty", &path))?;
    fs::write_all_at(&file, owner.as_bytes(), 0).map_err(StorageError::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{
        WriteGate,
        wal::{Vote, WalOptions},
    };
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    const IDENTITY: Identity = Identity {
        cluster_id: 0xfeed_beef,
        node_id: 7,
        incarnation: 1,
    };

    fn open_log(dir: &DataDir) -> Wal {
        Wal::open(&dir.wal_dir(), WalOptions::default(), WriteGate::new())
            .unwrap()
            .0
    }

    /// Durable on return.
    fn vote(log: &Wal) {
        let saved = log.save_vote(Vote {
            term: 1,
            node_id: IDENTITY.node_id,
            committed: false,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(saved).unwrap();
    }

    fn begun(path: &Path) -> DataDir {
        let mut dir = DataDir::open(path).unwrap();
        let log = open_log(&dir);
        dir.set_identity(IDENTITY, &log).unwrap();
        dir
    }

    #[test]
    fn an_identity_is_kept_once_the_node_has_voted() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        assert_eq!(begun(&path).identity(), Some(IDENTITY));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let mut dir = DataDir::open(&path).unwrap();
        assert_eq!(dir.identity(), Some(IDENTITY));
        let log = open_log(&dir);
        vote(&log);
        let other = Identity {
            node_id: 8,
            ..IDENTITY
        };
        let error = dir.set_identity(other, &log).unwrap_err();
        assert!(error.to_string().contains("belongs to node n7"), "{error}");
        dir.set_identity(IDENTITY, &log).unwrap();
        drop(dir);
        assert_eq!(DataDir::open(&path).unwrap().identity(), Some(IDENTITY));
    }

    /// An `init` that failed half way leaves nodes with an identity that nobody counts on: the next one gives them another.
    #[test]
    fn a_pristine_node_takes_another_identity() {
        let temporary = tempfile::tempdir().unwrap();
        let mut dir = begun(temporary.path());
        let other = Identity {
            cluster_id: 0xcafe,
            node_id: 2,
            incarnation: 1,
        };
        let log = open_log(&dir);
        dir.set_identity(other, &log).unwrap();
        drop(dir);
        assert_eq!(
            DataDir::open(temporary.path()).unwrap().identity(),
            Some(other)
        );
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        proptest!(|(cluster_id: u128, node_id: u64, incarnation: u64)| {
            let identity = Identity { cluster_id, node_id, incarnation };
            let read = Identity::decode(Path::new("IDENTITY"), &identity.encode());
            prop_assert_eq!(read.unwrap(), identity);
        });
    }

    #[test]
    fn a_directory_that_was_open_to_others_is_so_no_more() {
        let temporary = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(temporary.path(), open).unwrap();
        DataDir::open(temporary.path()).unwrap();
        let mode = fs::metadata(temporary.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_directory_is_opened_by_one_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let first = DataDir::open(temporary.path()).unwrap();
        let error = DataDir::open(temporary.path()).unwrap_err().to_string();
        assert!(
            error.contains(&temporary.path().display().to_string()),
            "{error}"
        );
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataDir::open(temporary.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_both_versions_are_named() {
        let temporary = tempfile::tempdir().unwrap();
        drop(begun(temporary.path()));
        crashsafe::replace(
            &temporary.path().join("IDENTITY"),
            b"format_version = 9\nshape = round\n",
        )
        .unwrap();
        let error = DataDir::open(temporary.path()).unwrap_err();
        assert!(
            matches!(
                error,
                StorageError::ForeignFormat {
                    found: 9,
                    supported: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn any_changed_byte_of_an_identity_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        drop(begun(temporary.path()));
        let path = temporary.path().join("IDENTITY");
        let good = fs::read(&path).unwrap();
        for position in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[position] ^= 1;
            crashsafe::replace(&path, &bad).unwrap();
            assert!(DataDir::open(temporary.path()).is_err(), "byte {position}");
        }
    }

    #[test]
    fn an_identity_whose_log_is_gone_is_refused_with_the_cure() {
        let temporary = tempfile::tempdir().unwrap();
        drop(begun(temporary.path()));
        fs::remove_dir_all(temporary.path().join("log")).unwrap();
        let error = DataDir::open(temporary.path()).unwrap_err().to_string();
        assert!(error.contains("dos-cluster member remove n7"), "{error}");
        assert!(error.contains("feedbeef"), "{error}");
        fs::create_dir_all(&temporary.path().join("log")).unwrap();
        assert!(matches!(
            DataDir::open(temporary.path()),
            Err(StorageError::LogGone { .. })
        ));
    }

    #[test]
    fn a_first_start_that_was_killed_before_its_identity_begins_again() {
        let temporary = tempfile::tempdir().unwrap();
        drop(begun(temporary.path()));
        fs::remove_file(temporary.path().join("IDENTITY")).unwrap();
        drop(state::open(&temporary.path().join("state"), STATE_BYTES).unwrap());
        let mut dir = DataDir::open(temporary.path()).unwrap();
        assert_eq!(dir.identity(), None);
        let log = open_log(&dir);
        dir.set_identity(IDENTITY, &log).unwrap();
    }

    /// Images carry no cluster id: one that was left behind would be installed into whatever this directory becomes.
    #[test]
    fn images_without_an_identity_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir_all(&temporary.path().join("snapshots/1-2-3")).unwrap();
        let error = DataDir::open(temporary.path()).unwrap_err();
        assert!(matches!(error, StorageError::NoIdentity { .. }), "{error}");
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = begun(temporary.path());
        vote(&open_log(&dir));
        drop(dir);
        fs::remove_file(temporary.path().join("IDENTITY")).unwrap();
        assert!(matches!(
            DataDir::open(temporary.path()),
            Err(StorageError::NoIdentity { .. })
        ));
    }
}

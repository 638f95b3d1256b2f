//! Names and numbers that identify things: newtypes that parse, display and refuse what is not one.

use std::{fmt, str::FromStr, sync::Arc};

use super::limits::NAME_BYTES_MAX;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing given.
    #[error("{what} name is empty: give 1 to {NAME_BYTES_MAX} bytes")]
    Empty {
        /// job, worker or journal.
        what: &'static str,
    },
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("{what} name has {bytes} bytes: at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// job, worker or journal.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// `/`, NUL or another control character.
    #[error("{what} name {name:?} holds {found:?}: '/' and control characters are not allowed")]
    BadCharacter {
        /// job, worker or journal.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// `.` or `..`.
    #[error("{what} name {name:?} is a directory reference: choose another")]
    Dots {
        /// job, worker or journal.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// Not a number of this kind.
    #[error("{text:?} is not {what}: expected {expected}")]
    NotAnId {
        /// Such as "a node id".
        what: &'static str,
        /// What was given.
        text: String,
        /// An example.
        expected: &'static str,
    },
}

fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            what,
            bytes: name.len(),
        });
    }
    if let Some(found) = name.chars().find(|c| *c == '/' || c.is_control()) {
        return Err(NameError::BadCharacter {
            what,
            name: name.to_owned(),
            found,
        });
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 255 bytes of UTF-8 without `/` and control characters, not `.` or `..`. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// When the text breaks a rule of names; the error says which.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name($what, name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// One stream application: the roster of workers whose checkpoints belong together.
    JobName,
    "job"
);
name!(
    /// A named writer in a job. Its identity is its name, never its address.
    WorkerName,
    "worker"
);
name!(
    /// A journal of one worker.
    JournalName,
    "journal"
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);
    };
}

number!(
    /// A Raft group on a node. Group 0 is the only one yet; it is in every key and peer message.
    GroupId, u32
);
number!(
    /// A worker's number in the state: short, and never reused.
    WorkerId, u64
);
number!(
    /// A journal's number in the state: short, and never reused.
    JournalId, u64
);
number!(
    /// A member's number. Given out by the cluster and never reused, for a member that lost its log must not come back.
    NodeId, u64
);
number!(
    /// A cluster: drawn at random by `init`, checked on every connection between members.
    ClusterId, u128
);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("n{}", self.0))
    }
}

impl FromStr for NodeId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix('n').unwrap_or(text);
        let id = digits.parse().ok().filter(|id| *id > 0);
        id.map(Self).ok_or_else(|| NameError::NotAnId {
            what: "a node id",
            text: text.to_owned(),
            expected: "n1, n2, ...",
        })
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = (text.len() == 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten();
        id.map(Self).ok_or_else(|| NameError::NotAnId {
            what: "a cluster id",
            text: text.to_owned(),
            expected: "32 hexadecimal digits",
        })
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{}", self.0)
    }
}

/// A worker by name: `job/worker`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerRef {
    /// The job it belongs to.
    pub job: JobName,
    /// Its name in the job.
    pub worker: WorkerName,
}

impl WorkerRef {
    /// The journal of that name of this worker.
    #[must_use]
    pub fn journal(&self, journal: JournalName) -> JournalRef {
        JournalRef {
            owner: self.clone(),
            journal,
        }
    }
}

impl fmt::Display for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.job, self.worker))
    }
}

impl FromStr for WorkerRef {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::NotAnId {
            what: "a worker",
            text: text.to_owned(),
            expected: "JOB/WORKER",
        };
        let (job, worker) = text.split_once('/').ok_or_else(bad)?;
        Ok(Self {
            job: job.parse()?,
            worker: worker.parse()?,
        })
    }
}

/// A journal by name: `job/worker/journal`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalRef {
    /// The worker that owns it.
    pub owner: WorkerRef,
    /// Its name at the worker.
    pub journal: JournalName,
}

impl fmt::Display for JournalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.owner, self.journal))
    }
}

impl FromStr for JournalRef {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::NotAnId {
            what: "a journal",
            text: text.to_owned(),
            expected: "JOB/WORKER/JOURNAL",
        };
        let (owner, journal) = text.rsplit_once('/').ok_or_else(bad)?;
        Ok(Self {
            owner: owner.parse().map_err(|_| bad())?,
            journal: journal.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a\0",
            "a\nb",
            "\u{7f}",
            &"x".repeat(256),
        ] {
            assert!(JournalName::new(bad).is_err(), "{bad:?}");
        }
        for good in [
            "a",
            "...",
            "Multi Partition Detector-worker2.journal",
            "ä",
            &"x".repeat(255),
        ] {
            assert_eq!(JournalName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn references_print_as_they_parse() {
        let journal: JournalRef = "job/w 1/w 1.journal".parse().unwrap();
        assert_eq!(journal.to_string(), "job/w 1/w 1.journal");
        assert!("job/w1".parse::<JournalRef>().is_err());
        assert!("a/b/c/d".parse::<JournalRef>().is_err());
        assert_eq!("n7".parse::<NodeId>().unwrap(), NodeId(7));
        assert!("n0".parse::<NodeId>().is_err());
        let id = ClusterId(0xfeed);
        assert_eq!(id.to_string().parse::<ClusterId>().unwrap(), id);
    }
}

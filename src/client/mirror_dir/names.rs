//! Which files of a directory are mirrored, by their names.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::OsStrExt,
    str::FromStr,
};

use super::claim;
use crate::{
    client::identity,
    domain::{JournalKind, JournalName, legacy},
};

/// Longest pattern, in bytes: as the longest name.
const PATTERN_BYTES_MAX: usize = 255;

/// A pattern of file names: `*` is any bytes, `?` is one character, everything else is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing given.
    #[error("the pattern is empty: give a file name, with * for any characters")]
    Empty,
    /// No name is that long.
    #[error("the pattern has more than {PATTERN_BYTES_MAX} bytes, and no file name has")]
    TooLong,
    /// Only files in the directory itself are mirrored.
    #[error("the pattern holds a /: it is matched against the names of files in DIR, not below it")]
    Slash,
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => Err(PatternError::Empty),
            _ if text.len() > PATTERN_BYTES_MAX => Err(PatternError::TooLong),
            _ if text.contains('/') => Err(PatternError::Slash),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl NamePattern {
    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        // Where to go on when what follows the last `*` does not match: one character further.
        let mut retry = None;
        loop {
            let mut behind = pattern.clone();
            match behind.next() {
                Some('*') => {
                    retry = Some((behind.clone(), rest.clone()));
                    pattern = behind;
                    continue;
                }
                Some(wanted) => {
                    let found = rest.next();
                    if found.is_some_and(|found| wanted == '?' || wanted == found) {
                        pattern = behind;
                        continue;
                    }
                }
                None if rest.next().is_none() => return true,
                None => {}
            }
            let Some((after_star, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            (pattern, rest) = (after_star.clone(), from.clone());
        }
    }
}

/// What a name in the directory is to the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// Not meant.
    Other,
    /// The file of a journal.
    Journal(JournalName, JournalKind),
    /// Meant, but no journal can have this name; and why.
    Refused(String),
}

/// What a file's name says.
pub(super) fn named(pattern: &NamePattern, name: &OsStr) -> Named {
    // A name that is no text matches as far as it can be shown, to be told of rather than passed over.
    let is_ours = |name| identity::is_identity_name(name) || claim::is_claim_name(name);
    if !pattern.matches(&name.to_string_lossy()) || is_ours(name.as_bytes()) {
        return Named::Other;
    }
    let Some(text) = name.to_str() else {
        return Named::Refused("it is not UTF-8".into());
    };
    match JournalName::new(text) {
        Ok(journal) => Named::Journal(journal, legacy::kind_by_name(text)),
        Err(error) => Named::Refused(error.to_string()),
    }
}

/// A name as it may be shown and kept, whatever bytes it has.
pub(super) fn shown(name: &OsString) -> String {
    name.as_bytes().escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().matches(name)
    }

    #[test]
    fn stars_are_any_text_and_question_marks_one_character() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "x"),
            ("a.journal", "a.journal"),
            ("*.journal", ".journal"),
            ("*.journal", "a.journal.journal"),
            ("a*b*c", "a-bb-b-c"),
            ("?.j", "ö.j"),
            ("**?", "ab"),
            ("[a]", "[a]"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a.journal", "b.journal"),
            ("*.journal", "a.journal2"),
            ("?", ""),
            ("?", "ab"),
            ("a*b*c", "a-b-b"),
            ("[a]", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "a/b", &"x".repeat(256)] {
            assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern = format!("{}b", "a*".repeat(120));
        assert!(!matches(&pattern, &"a".repeat(255)));
    }

    #[test]
    fn a_file_is_the_journal_of_its_name_or_is_refused() {
        let named = |name: &str| named(&"*".parse().unwrap(), OsStr::new(name));
        let journal = |name: &str, kind| Named::Journal(name.parse().unwrap(), kind);
        assert_eq!(
            named("a b.journal"),
            journal("a b.journal", JournalKind::Ops)
        );
        assert_eq!(
            named("a.evlog.journal"),
            journal("a.evlog.journal", JournalKind::Raw)
        );
        assert_eq!(named(identity::IDENTITY_FILE), Named::Other);
        assert_eq!(named(".dos-mirror-w@job"), Named::Other);
        assert_eq!(named(".dos-mirror-w@x.journal"), Named::Other);
        assert_eq!(named(".dos-mirror-w@job.new"), Named::Other);
        assert!(matches!(named("a\nb"), Named::Refused(_)));
        let no_text = OsString::from_vec(b"a\xff".to_vec());
        let refused = super::named(&"*".parse().unwrap(), &no_text);
        assert!(matches!(refused, Named::Refused(_)), "{refused:?}");
        assert_eq!(shown(&no_text), "a\\xff");
    }
}

//! Which file below the target directory a journal's path means: decided from the bytes alone.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Refusal;
use crate::client::files::Components;

/// The longest name in a directory, in bytes.
const COMPONENT_BYTES_MAX: usize = 255;

/// Maps the paths of a journal to files below `root`.
///
/// A relative path is below `root` as it is. An absolute path needs a rule. A rule has a path if its old prefix is the
/// path's beginning, component by component (`/a/b` has `/a/b/c` but not `/a/bc`); of several the longest counts. A
/// rule whose old prefix is relative has relative paths: legacy workers spell removes so. Repeated slashes and `.`
/// mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathMap {
    /// The target directory; absolute, if a rule's new prefix is to be absolute.
    pub root: PathBuf,
    /// Rules as (old prefix, new prefix). A relative new prefix, also an empty one, is below `root`; an absolute one
    /// must lie inside `root`.
    pub rebase: Vec<(Vec<u8>, Vec<u8>)>,
}

impl PathMap {
    /// A map without rules: every absolute path is refused.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            rebase: Vec::new(),
        }
    }

    /// Whether every rule leads below `root`, whatever paths come.
    pub(in crate::client) fn check_rules(&self) -> Result<(), Refusal> {
        for (old, new) in &self.rebase {
            let Some(below) = self.below_root(new) else {
                return Err(Refusal::Outside {
                    prefix: old.clone(),
                });
            };
            if below.iter().any(|name| name.len() > COMPONENT_BYTES_MAX) {
                return Err(Refusal::TooLong);
            }
        }
        Ok(())
    }

    /// The names below `root` that lead to the file; at least one.
    pub(in crate::client) fn resolve(&self, path: &[u8]) -> Result<Components, Refusal> {
        if path.is_empty() {
            return Err(Refusal::Empty);
        }
        if path.contains(&0) {
            return Err(Refusal::Nul);
        }
        let names = names(path);
        if names.contains(&&b".."[..]) {
            return Err(Refusal::ParentDirectory);
        }
        if path.ends_with(b"/") || path.ends_with(b"/.") || names.is_empty() {
            return Err(Refusal::Directory);
        }

        let rule = self
            .rebase
            .iter()
            .filter_map(|(old, new)| {
                let rest = strip(path, &names, old)?;
                Some((rest, old, new))
            })
            .min_by_key(|(rest, ..)| rest.len());
        let mut components = Components::new();
        let rest = match rule {
            Some((rest, old, new)) => {
                components = self.below_root(new).ok_or_else(|| Refusal::Outside {
                    prefix: old.clone(),
                })?;
                rest
            }
            None if path.starts_with(b"/") => return Err(Refusal::Unmapped),
            None => &names[..],
        };
        components.extend(rest.iter().map(|name| name.to_vec()));
        if components.is_empty() {
            return Err(Refusal::Directory);
        }
        if components
            .iter()
            .any(|name| name.len() > COMPONENT_BYTES_MAX)
        {
            return Err(Refusal::TooLong);
        }
        Ok(components)
    }

    /// A new prefix as names below the root, or `None` if it leads out of it.
    fn below_root(&self, new: &[u8]) -> Option<Components> {
        let found = names(new);
        if new.contains(&0) || found.contains(&&b".."[..]) {
            return None;
        }
        let below = if new.starts_with(b"/") {
            strip(new, &found, self.root.as_os_str().as_bytes())?
        } else {
            &found[..]
        };
        Some(below.iter().map(|name| name.to_vec()).collect())
    }
}

/// What of `names`, which are those of `path`, comes behind `prefix`; `None` if `path` does not begin so.
fn strip<'a, 'b>(path: &[u8], found: &'b [&'a [u8]], prefix: &[u8]) -> Option<&'b [&'a [u8]]> {
    if path.starts_with(b"/") != prefix.starts_with(b"/") {
        return None;
    }
    let prefix = names(prefix);
    found.starts_with(&prefix).then(|| &found[prefix.len()..])
}

/// The components of a path that mean something.
fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn map(rules: &[(&str, &str)]) -> PathMap {
        PathMap {
            root: PathBuf::from("/target/dir"),
            rebase: rules
                .iter()
                .map(|(old, new)| (old.as_bytes().to_vec(), new.as_bytes().to_vec()))
                .collect(),
        }
    }

    fn resolve(map: &PathMap, path: &str) -> Result<String, Refusal> {
        let components = map.resolve(path.as_bytes())?;
        Ok(String::from_utf8(components.join(&b'/')).unwrap())
    }

    fn found(path: &str) -> Result<String, Refusal> {
        Ok(path.to_owned())
    }

    #[test]
    fn relative_paths_are_below_the_root() {
        let map = map(&[]);
        assert_eq!(resolve(&map, "f"), found("f"));
        assert_eq!(resolve(&map, "./a//b/./f"), found("a/b/f"));
        assert_eq!(resolve(&map, "...").as_deref(), Ok("..."));
    }

    #[test]
    fn what_cannot_be_a_file_below_the_root_is_refused() {
        let map = map(&[("/", "")]);
        for (path, rule) in [
            ("", Refusal::Empty),
            ("a\0b", Refusal::Nul),
            ("..", Refusal::ParentDirectory),
            ("a/../b", Refusal::ParentDirectory),
            ("/../etc/passwd", Refusal::ParentDirectory),
            ("a/..", Refusal::ParentDirectory),
            (".", Refusal::Directory),
            ("/", Refusal::Directory),
            ("a/", Refusal::Directory),
            ("a/.", Refusal::Directory),
        ] {
            assert_eq!(resolve(&map, path), Err(rule), "{path:?}");
        }
        assert_eq!(resolve(&map, &"x".repeat(255)), found(&"x".repeat(255)));
        assert_eq!(resolve(&map, &"x".repeat(256)), Err(Refusal::TooLong));
    }

    #[test]
    fn an_absolute_path_needs_a_rule_that_has_its_whole_components() {
        let map = map(&[("/tmp/app", "")]);
        assert_eq!(resolve(&map, "/tmp/app/f"), found("f"));
        assert_eq!(resolve(&map, "//tmp/./app//f"), found("f"));
        assert_eq!(resolve(&map, "/tmp/app"), Err(Refusal::Directory));
        for path in [
            "/tmp/application",
            "/tmp/f",
            "/",
            "/etc/passwd",
            "/target/dir/f",
        ] {
            let rule = if path == "/" {
                Refusal::Directory
            } else {
                Refusal::Unmapped
            };
            assert_eq!(resolve(&map, path), Err(rule), "{path}");
        }
    }

    #[test]
    fn the_longest_rule_counts_and_may_name_one_file() {
        let map = map(&[("/a/b", "long"), ("/a", "short"), ("/a/b/f", "g")]);
        assert_eq!(resolve(&map, "/a/x"), found("short/x"));
        assert_eq!(resolve(&map, "/a/b/x"), found("long/x"));
        assert_eq!(resolve(&map, "/a/b/f"), found("g"));
    }

    #[test]
    fn a_relative_rule_has_relative_paths_only() {
        let map = map(&[("tmp", "state")]);
        assert_eq!(resolve(&map, "tmp/f"), found("state/f"));
        assert_eq!(resolve(&map, "f"), found("f"));
        assert_eq!(resolve(&map, "/tmp/f"), Err(Refusal::Unmapped));
    }

    #[test]
    fn a_rule_that_leads_out_of_the_root_is_refused() {
        let outside = |prefix: &str| {
            Err(Refusal::Outside {
                prefix: prefix.as_bytes().to_vec(),
            })
        };
        let map = map(&[
            ("/inside", "/target/dir/sub"),
            ("/beside", "/target/directory"),
            ("/up", "../elsewhere"),
            ("/around", "/target/dir/../../etc"),
        ]);
        assert_eq!(resolve(&map, "/inside/f"), found("sub/f"));
        assert_eq!(resolve(&map, "/beside/f"), outside("/beside"));
        assert_eq!(resolve(&map, "/up/f"), outside("/up"));
        assert_eq!(resolve(&map, "/around/f"), outside("/around"));
    }

    proptest! {
        #[test]
        fn no_path_and_no_rule_leads_out_of_the_root(
            path in vec(prop::sample::select(&b"/.ab\0"[..]), 0..12),
            old in vec(prop::sample::select(&b"/.ab"[..]), 0..6),
            new in vec(prop::sample::select(&b"/.ab\0"[..]), 0..6),
        ) {
            let map = PathMap { root: PathBuf::from("/a"), rebase: vec![(old, new)] };
            if let Ok(components) = map.resolve(&path) {
                prop_assert!(!components.is_empty());
                for name in components {
                    let plain = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
                    prop_assert!(plain && name != b"." && name != b"..");
                }
            }
        }
    }
}

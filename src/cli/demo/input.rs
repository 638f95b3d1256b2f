//! What is counted.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::super::exit::{self, Failure};
use crate::env::fs;

/// Texts that are on every Debian, longest first.
const DEBIAN_TEXTS: [&str; 2] = [
    "/usr/share/common-licenses/GPL-3",
    "/usr/share/common-licenses/Apache-2.0",
];
/// What there is where no Debian is.
const OWN_TEXT: &str = include_str!("../../../README.md");
/// A short text is counted over and over, up to about this many lines.
const LINES_MIN: usize = 60_000;

/// A text in a file that the workers read, and where it came from.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) from: String,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Input {
    /// The given file as it is, or a text of our own choice, repeated, in `dir`.
    pub(super) fn prepare(given: Option<&Path>, dir: &Path) -> Result<Self, Failure> {
        if let Some(path) = given {
            let text = fs::read(path).map_err(|error| exit::cannot("read", path, &error))?;
            return Ok(Self::of(path.to_owned(), path.display().to_string(), &text));
        }
        let found = DEBIAN_TEXTS
            .iter()
            .find_map(|path| Some(((*path).to_owned(), fs::read(Path::new(path)).ok()?)));
        let (from, once) = found.unwrap_or_else(|| {
            (
                "this program's README".to_owned(),
                OWN_TEXT.as_bytes().to_vec(),
            )
        });
        let times = LINES_MIN.div_ceil(count_lines(&once).max(1));
        let text = once.repeat(times);
        let path = dir.join("input.txt");
        write(&path, &text).map_err(|error| exit::cannot("write", &path, &error))?;
        Ok(Self::of(path, format!("{from}, {times} times"), &text))
    }

    fn of(path: PathBuf, from: String, text: &[u8]) -> Self {
        Self {
            path,
            from,
            lines: count_lines(text) as u64,
            bytes: text.len() as u64,
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::write_all_at(&fs::open_or_create(path)?, text, 0)
}

fn count_lines(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

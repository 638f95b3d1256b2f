//! The reply to `l`, which must not be longer than the old workers can read.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::REPLY_BYTES_MAX;
use crate::domain::legacy::{LegacyName, LegacyPart, kind_by_name};

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub name: Bytes,
    /// Its length in bytes.
    pub size: u64,
    /// Somebody appends to it.
    pub appending: bool,
}

impl Listed {
    fn line(&self) -> Vec<u8> {
        let free = if self.appending { "yes" } else { "no" };
        let mut line = self.name.to_vec();
        line.extend_from_slice(format!("\t{}\t{free}\n", self.size).as_bytes());
        line
    }

    /// The event log that this is a chunk of, and which; `None` for any other file.
    fn chunk(&self) -> Option<(&str, u64)> {
        let name = std::str::from_utf8(&self.name).ok()?;
        match LegacyName::of(name, kind_by_name(name))? {
            LegacyName {
                prefix,
                part: LegacyPart::EventLog { start },
            } => Some((prefix, start?)),
            _ => None,
        }
    }
}

/// The payload of the reply to `l`: lines sorted by name. A name with a TAB or LF, which would forge another line, has none. When
/// the reply would be longer than the old workers can read, the chunks of rotated event logs that nobody appends to are left out,
/// the oldest first, but never the newest of a log: nobody goes on with the others. Only then lines at the end are.
#[must_use]
pub fn listing(mut files: Vec<Listed>) -> Bytes {
    files.retain(|file| !file.name.iter().any(|byte| matches!(byte, b'\t' | b'\n')));
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let mut lines: Vec<Option<Vec<u8>>> = files.iter().map(|file| Some(file.line())).collect();
    let mut bytes: usize = lines.iter().flatten().map(Vec::len).sum();
    for index in droppable(&files) {
        if bytes <= REPLY_BYTES_MAX {
            break;
        }
        let dropped = lines.get_mut(index).and_then(Option::take);
        bytes -= dropped.map_or(0, |line| line.len());
    }
    let mut out = BytesMut::new();
    for line in lines.into_iter().flatten() {
        if out.len() + line.len() > REPLY_BYTES_MAX {
            break;
        }
        out.put_slice(&line);
    }
    out.freeze()
}

/// Which of the files, which are sorted, may be left out; those first that may go first.
fn droppable(files: &[Listed]) -> Vec<usize> {
    let mut newest = BTreeMap::new();
    let chunks = || {
        let chunks = files.iter().enumerate();
        chunks.filter_map(|(index, file)| Some((index, file, file.chunk()?)))
    };
    for (index, _, (log, _)) in chunks() {
        newest.insert(log, index);
    }
    let old = chunks().filter(|(index, file, (log, _))| {
        !file.appending && newest.get(log).is_some_and(|newest| newest != index)
    });
    let mut old: Vec<_> = old.map(|(index, _, (_, count))| (count, index)).collect();
    old.sort_unstable();
    old.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: impl Into<Vec<u8>>, appending: bool) -> Listed {
        Listed {
            name: name.into().into(),
            size: 1,
            appending,
        }
    }

    #[test]
    fn a_listing_has_no_forged_lines_and_fits_the_old_reader() {
        let forged = vec![
            listed(*b"a\tb", false),
            listed(*b"x\t5\tno\ny", false),
            listed(*b"fine name", false),
        ];
        assert_eq!(listing(forged), &b"fine name\t1\tno\n"[..]);
        let many = (0..5000).map(|i| listed(format!("file-{i:05}"), false));
        let text = listing(many.collect());
        assert!(text.len() <= REPLY_BYTES_MAX && text.ends_with(b"\n"));
        assert!(text.len() > REPLY_BYTES_MAX - 20);
    }

    #[test]
    fn old_chunks_of_event_logs_make_room_and_nothing_else_does() {
        let chunk = |log: &str, count: usize| format!("{log}-{count:016x}.evlog.journal");
        let mut files: Vec<_> = (0..600)
            .map(|count| listed(chunk("app-w", count), count == 3))
            .collect();
        // Sorted behind the chunks, so that they would be cut off.
        files.push(listed("app-w.journal", false));
        files.push(listed("app-w.evlog.journal", false));
        files.push(listed(chunk("z", 0), false));
        files.push(listed("zz-000.evlog.journal", false));
        let text = listing(files);
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.len() <= REPLY_BYTES_MAX && text.len() > REPLY_BYTES_MAX - 50);
        let has = |name: &str| text.contains(&format!("{name}\t1\t"));
        for name in [
            "app-w.journal",
            "app-w.evlog.journal",
            "zz-000.evlog.journal",
        ] {
            assert!(has(name), "{name}");
        }
        assert!(has(&chunk("z", 0)), "the newest of its log");
        assert!(has(&chunk("app-w", 3)), "it is being appended to");
        let kept: Vec<_> = (0..600)
            .filter(|count| has(&chunk("app-w", *count)))
            .collect();
        let newest = (600 - kept.len() + 1)..600;
        assert_eq!(kept, std::iter::once(3).chain(newest).collect::<Vec<_>>());
    }
}

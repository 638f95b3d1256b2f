//! The state of a word-count worker, in three files that only change in place or at their end.
//!
//! ```text
//! words      each word once, in the order of first sight, one a line
//! counts     u64 little-endian, one per word
//! position   u64 little-endian: lines of the input that are counted
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::Path,
};

use crate::env::fs;

/// Words in lower case, as far as they are letters and digits.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    line.split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_ascii_lowercase)
}

/// Every word of a text with its count.
pub(super) type Counts = BTreeMap<Vec<u8>, u64>;

/// The count of a whole text, made at once.
pub(super) fn count(text: &[u8]) -> Counts {
    let mut counts = Counts::new();
    for line in text.split(|byte| *byte == b'\n') {
        for word in words(line) {
            *counts.entry(word).or_default() += 1;
        }
    }
    counts
}

/// All words of a text.
pub(super) fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// How a count differs from the right one, with some of the words that do; `None` when it is right.
pub(super) fn difference(expected: &Counts, found: &Counts) -> Option<String> {
    let words: BTreeSet<&Vec<u8>> = expected.keys().chain(found.keys()).collect();
    let count = |counts: &Counts, word: &Vec<u8>| counts.get(word).copied().unwrap_or_default();
    let wrong = words
        .into_iter()
        .filter(|word| expected.get(*word) != found.get(*word));
    let shown: Vec<_> = wrong
        .take(5)
        .map(|word| {
            let (found, expected) = (count(found, word), count(expected, word));
            format!("{} {found} times, not {expected}", word.escape_ascii())
        })
        .collect();
    (!shown.is_empty()).then(|| {
        format!(
            "the counts differ: {} words counted, {} expected; for example: {}",
            total(found),
            total(expected),
            shown.join(", ")
        )
    })
}

/// A change of a file, to be made through the worker's directory.
#[derive(Debug)]
pub(super) struct FileChange {
    pub(super) file: &'static str,
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

/// A worker's state in memory, with what is not in its files yet.
#[derive(Debug, Default)]
pub(super) struct WordCount {
    slots: HashMap<Vec<u8>, u64>,
    counts: Vec<u64>,
    words_bytes: u64,
    position: u64,
    fresh_words: Vec<u8>,
    dirty: BTreeSet<u64>,
}

impl WordCount {
    /// What the files in a directory hold; nothing when there are none.
    pub(super) fn load(dir: &Path) -> io::Result<Self> {
        let read = |name: &str| match fs::read(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        let (words, counts, position) = (read("words")?, read("counts")?, read("position")?);
        let numbers = |raw: &[u8]| {
            raw.as_chunks::<8>()
                .0
                .iter()
                .map(|raw| u64::from_le_bytes(*raw))
                .collect::<Vec<_>>()
        };
        let names = words
            .split(|byte| *byte == b'\n')
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec);
        Ok(Self {
            slots: names.zip(0..).collect(),
            counts: numbers(&counts),
            words_bytes: words.len() as u64,
            position: numbers(&position).first().copied().unwrap_or_default(),
            ..Self::default()
        })
    }

    /// Lines counted.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The counts by word.
    pub(super) fn counts(&self) -> Counts {
        let count = |slot: u64| {
            usize::try_from(slot)
                .ok()
                .and_then(|slot| self.counts.get(slot))
                .copied()
        };
        self.slots
            .iter()
            .map(|(word, slot)| (word.clone(), count(*slot).unwrap_or_default()))
            .collect()
    }

    /// Counts the next line.
    pub(super) fn line(&mut self, line: &[u8]) {
        for word in words(line) {
            let slot = if let Some(slot) = self.slots.get(&word) {
                *slot
            } else {
                let slot = self.counts.len() as u64;
                self.fresh_words.extend_from_slice(&word);
                self.fresh_words.push(b'\n');
                self.slots.insert(word, slot);
                self.counts.push(0);
                slot
            };
            if let Some(count) = usize::try_from(slot)
                .ok()
                .and_then(|slot| self.counts.get_mut(slot))
            {
                *count += 1;
            }
            self.dirty.insert(slot);
        }
        self.position += 1;
    }

    /// What the files lack: to be written in this order.
    pub(super) fn take_changes(&mut self) -> Vec<FileChange> {
        let mut changes = Vec::new();
        if !self.fresh_words.is_empty() {
            let data = std::mem::take(&mut self.fresh_words);
            let offset = self.words_bytes;
            self.words_bytes += data.len() as u64;
            changes.push(FileChange {
                file: "words",
                offset,
                data,
            });
        }
        for slot in std::mem::take(&mut self.dirty) {
            let count = usize::try_from(slot)
                .ok()
                .and_then(|slot| self.counts.get(slot))
                .copied()
                .unwrap_or_default();
            changes.push(FileChange {
                file: "counts",
                offset: slot * 8,
                data: count.to_le_bytes().to_vec(),
            });
        }
        let position = self.position.to_le_bytes().to_vec();
        changes.push(FileChange {
            file: "position",
            offset: 0,
            data: position,
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, changes: Vec<FileChange>) {
        for change in changes {
            let file = fs::open_or_create(&dir.join(change.file)).unwrap();
            fs::write_all_at(&file, &change.data, change.offset).unwrap();
        }
    }

    #[test]
    fn a_count_that_is_off_by_one_or_has_a_word_too_few_or_too_many_differs() {
        let expected = count(b"a b b c");
        assert_eq!(difference(&expected, &count(b"c b a b")), None);
        for (text, said) in [
            (
                &b"a b c"[..],
                "3 words counted, 4 expected; for example: b 1 times, not 2",
            ),
            (
                b"a b b",
                "3 words counted, 4 expected; for example: c 0 times, not 1",
            ),
            (
                b"a b b c d",
                "5 words counted, 4 expected; for example: d 1 times, not 0",
            ),
        ] {
            let found = difference(&expected, &count(text)).unwrap();
            assert!(found.ends_with(said), "{found}");
        }
        let mut zero = expected.clone();
        zero.insert(b"d".to_vec(), 0);
        assert!(
            difference(&expected, &zero).is_some(),
            "a word that is there without a count"
        );
    }

    #[test]
    fn a_worker_that_goes_on_from_its_files_counts_as_one_that_never_stopped() {
        let dir = tempfile::TempDir::new().unwrap();
        let text = b"The quick fox.\nthe lazy dog, the end\n\nA new word; the old fox";
        let mut lines = text.split(|byte| *byte == b'\n');
        let mut first = WordCount::load(dir.path()).unwrap();
        for line in lines.by_ref().take(2) {
            first.line(line);
        }
        write(dir.path(), first.take_changes());
        let mut second = WordCount::load(dir.path()).unwrap();
        assert_eq!(second.position(), 2);
        for line in lines {
            second.line(line);
        }
        write(dir.path(), second.take_changes());
        let counts = WordCount::load(dir.path()).unwrap().counts();
        assert_eq!(counts, count(text));
        assert_eq!(counts.get(&b"the"[..]), Some(&4));
    }
}

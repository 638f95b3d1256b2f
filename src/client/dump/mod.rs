//! Dump: a local `ops` journal file shown record by record, and applied, offline; what the legacy `journal-dump.py` did.
//!
//! The lines are those of the original, down to its Python 2 spelling of lists, so that scripts that read them go on
//! working. Unlike it, this one writes below a target directory only, syncs what it wrote, and has no debug lines.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::replay::{Applied, PathMap, ReplayError, Replayer};
use crate::codec::ops::{OpError, OpReader, RawRecord, Record, Tail};

/// Bytes read from the journal at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a record's length field: a tail shorter than that is passed over in silence.
const LENGTH_BYTES: u64 = 4;

/// What to do with each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpOptions {
    /// Apply nothing, even if there is a target (`-n`).
    pub parse_only: bool,
    /// Print a line for each record (`-v`).
    pub verbose: bool,
}

/// What a dump found. Counts are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpSummary {
    /// All whole ones.
    pub records: u64,
    /// Those with a version or an op that is not known: passed over.
    pub unknown: u64,
    /// Those whose path or range was refused: named in the output, and not applied.
    pub refused: u64,
    /// Removes of what was not there.
    pub nothing_to_remove: u64,
    /// How the journal ended.
    pub tail: Tail,
}

impl DumpSummary {
    /// Whether the exit code is 0: no record was cut behind its length field, and none was refused.
    pub fn succeeded(&self) -> bool {
        self.refused == 0 && cut_body(self.tail).is_none()
    }
}

/// Why a dump stopped. What came before is printed, and applied if asked.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The journal file cannot be read.
    #[error("cannot read the journal: {0}")]
    Read(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// A record that is not well formed.
    #[error(transparent)]
    Malformed(#[from] OpError),
    /// A record could not be applied, or the files could not be synced.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Reads a journal to its end, prints to `out`, and applies the records to files below the target if there is one.
///
/// Memory is bounded by the longest record. The files are durable when this returns, whether the journal was whole,
/// torn or malformed; after any other error they are not.
///
/// # Errors
/// See [`DumpError`]. A torn tail and refused paths are none: see [`DumpSummary::succeeded`].
pub fn dump(
    mut journal: impl Read,
    options: DumpOptions,
    target: Option<PathMap>,
    out: &mut dyn Write,
) -> Result<DumpSummary, DumpError> {
    let replayer = target.filter(|_| !options.parse_only).map(Replayer::new);
    let mut dump = Dump {
        verbose: options.verbose,
        replayer,
        out,
        summary: DumpSummary {
            records: 0,
            unknown: 0,
            refused: 0,
            nothing_to_remove: 0,
            tail: Tail::Clean,
        },
    };
    let mut reader = OpReader::new(0);
    let read = dump.records(&mut journal, &mut reader);
    if matches!(read, Ok(()) | Err(DumpError::Malformed(_))) {
        dump.replayer.take().map_or(Ok(()), Replayer::finish)?;
    }
    read?;

    dump.summary.tail = reader.finish();
    match cut_body(dump.summary.tail) {
        None => writeln!(dump.out, "EOF"),
        Some((wanted, have)) => {
            writeln!(
                dump.out,
                "Error: wanted {wanted} bytes but got {have} instead"
            )
        }
    }
    .and_then(|()| dump.out.flush())
    .map_err(DumpError::Output)?;
    Ok(dump.summary)
}

/// What a tail wanted and had behind the length field; `None` if it was not cut there.
fn cut_body(tail: Tail) -> Option<(u64, u64)> {
    match tail {
        Tail::Torn { have, wanted, .. } if have >= LENGTH_BYTES => {
            Some((wanted - LENGTH_BYTES, have - LENGTH_BYTES))
        }
        Tail::Torn { .. } | Tail::Clean => None,
    }
}

/// A dump under way.
struct Dump<'a> {
    verbose: bool,
    replayer: Option<Replayer>,
    out: &'a mut dyn Write,
    summary: DumpSummary,
}

impl Dump<'_> {
    fn records(&mut self, journal: &mut impl Read, reader: &mut OpReader) -> Result<(), DumpError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match journal.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(DumpError::Read(error)),
            };
            reader.push(Bytes::copy_from_slice(&buffer[..length]));
            while let Some(record) = reader.next_raw()? {
                self.record(record)?;
            }
        }
    }

    fn record(&mut self, raw: RawRecord) -> Result<(), DumpError> {
        self.summary.records += 1;
        if self.verbose {
            // Before it is judged: a record that means nothing is what one wants to see.
            self.out.write_all(&line(&raw)).map_err(DumpError::Output)?;
        }
        let (offset, record) = match raw.interpret()? {
            Record::Op { offset, record } => (offset, record),
            Record::Unknown(_) => {
                self.summary.unknown += 1;
                return Ok(());
            }
        };
        let Some(replayer) = &mut self.replayer else {
            return Ok(());
        };
        let notice = match replayer.apply(offset, &record) {
            Ok(Applied::SetLength | Applied::Written | Applied::Removed) => return Ok(()),
            Ok(Applied::NothingToRemove) => {
                self.summary.nothing_to_remove += 1;
                let path = record.op.path().escape_ascii();
                format!("unlink: file {path} does not exist")
            }
            Err(error @ (ReplayError::RefusedPath { .. } | ReplayError::RefusedRange { .. })) => {
                self.summary.refused += 1;
                error.to_string()
            }
            Err(error) => return Err(error.into()),
        };
        writeln!(self.out, "NOTICE: {notice}").map_err(DumpError::Output)
    }
}

/// The line of a record, in the words of Python 2.
fn line(record: &RawRecord) -> Vec<u8> {
    let ints: Vec<String> = record.ints.iter().map(|int| python_int(*int)).collect();
    let strings: Vec<String> = record
        .strings
        .iter()
        .map(|string| python_string(string))
        .collect();
    format!(
        "version={} op={} tag={} ints=[{}] strings=[{}]\n",
        record.version,
        record.op,
        record.tag,
        ints.join(", "),
        strings.join(", "),
    )
    .into_bytes()
}

/// From 2^63 on Python 2 has a long number, and shows it.
fn python_int(int: u64) -> String {
    match i64::try_from(int) {
        Ok(int) => int.to_string(),
        Err(_) => format!("{int}L"),
    }
}

/// As `repr` of a Python 2 `str`: single quotes, unless it holds some and no double ones.
fn python_string(string: &[u8]) -> String {
    let quote = if string.contains(&b'\'') && !string.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::with_capacity(string.len() + 2);
    shown.push(quote);
    for byte in string {
        match *byte {
            b'\t' => shown.push_str("\\t"),
            b'\n' => shown.push_str("\\n"),
            b'\r' => shown.push_str("\\r"),
            b'\\' => shown.push_str("\\\\"),
            byte if char::from(byte) == quote => {
                shown.push('\\');
                shown.push(quote);
            }
            byte @ b' '..=b'~' => shown.push(char::from(byte)),
            byte => shown.push_str(&format!("\\x{byte:02x}")),
        }
    }
    shown.push(quote);
    shown
}

#[cfg(test)]
mod tests;

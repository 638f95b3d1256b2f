//! `journal dump`: a local journal file, record by record, without a cluster.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;
use clap::Args;
use serde::Serialize;

use super::super::{
    Context,
    arguments::{self, PathRule},
    exit::{self, Exit, Failure},
    output::{self, stdout_failure},
    progress::Progress,
};
use crate::{
    client::{
        dump::{DumpError, DumpOptions, DumpSummary, dump},
        replay::PathMap,
    },
    codec::ops::{OpReader, Record, Tail},
    env::fs,
};

/// Bytes of a record's length field.
const LENGTH_BYTES: u64 = 4;
/// More paths than that are not counted.
const PATHS_MAX: usize = 100_000;

/// Show or replay a local journal file, without a cluster; exit code 1 if its last record is cut, 6 if one is no record
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster journal dump ./w1/w1.journal -n -v
  dos-cluster journal dump ./w1.journal --to ./files --map /tmp/w1=.

Nothing is written without --to, and then only below that directory. There the operations are replayed in place, one after
the other, and synced at the end: if that fails or is interrupted, the directory holds a part. (`restore` is all or nothing.)

-v prints the lines of the original journal-dump.py, `version=V op=O tag=T ints=[..] strings=[..]`, without those of its lines
that begin with `DBG:`.")]
pub(in super::super) struct Dump {
    /// The journal file; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Parse only
    #[arg(short = 'n')]
    parse_only: bool,
    /// Print a line for each record
    #[arg(short = 'v')]
    verbose: bool,
    /// Replay the operations into files below this directory, which must be empty or missing
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Replay over what is in the directory
    #[arg(long, requires = "to")]
    force: bool,
    /// Paths in the journal that begin with OLD begin with NEW below the directory; may be repeated
    #[arg(long, value_name = "OLD=NEW", requires = "to", value_parser = arguments::path_rule_parser())]
    map: Vec<PathRule>,
}

#[derive(Debug, Serialize)]
struct Summary {
    records: u64,
    /// Different ones; `null` if there are too many to count.
    paths: Option<usize>,
    unknown: u64,
    refused: u64,
    nothing_to_remove: u64,
    /// The last record, if it is not whole.
    torn: Option<Torn>,
}

/// A record that is cut, in the numbers of the text.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Torn {
    /// Where it begins.
    offset: u64,
    /// What it is cut in: its `body`, or the `length` before that, which counts as no record.
    part: &'static str,
    /// Bytes of that part.
    wanted: u64,
    /// How many of them are there.
    have: u64,
}

impl Summary {
    fn of(summary: &DumpSummary, paths: Option<usize>) -> Self {
        Self {
            records: summary.records,
            paths,
            unknown: summary.unknown,
            refused: summary.refused,
            nothing_to_remove: summary.nothing_to_remove,
            torn: Torn::of(summary.tail),
        }
    }

    /// What there is in the journal, in a few words.
    fn text(&self) -> String {
        let count = |count: u64, what: &str| match count {
            1 => format!("1 {what}"),
            many => format!("{many} {what}s"),
        };
        let paths = match self.paths {
            Some(paths) => count(paths as u64, "path"),
            None => format!("over {PATHS_MAX} paths"),
        };
        format!("{}, {paths}", count(self.records, "record"))
    }
}

impl Torn {
    fn of(tail: Tail) -> Option<Self> {
        match tail {
            Tail::Clean => None,
            Tail::Torn { offset, have, .. } if have < LENGTH_BYTES => Some(Self {
                offset,
                part: "length",
                wanted: LENGTH_BYTES,
                have,
            }),
            Tail::Torn {
                offset,
                have,
                wanted,
            } => Some(Self {
                offset,
                part: "body",
                wanted: wanted - LENGTH_BYTES,
                have: have - LENGTH_BYTES,
            }),
        }
    }
}

/// A journal being read, whose different paths are counted.
struct Counting<R> {
    input: R,
    reader: OpReader,
    paths: BTreeSet<Box<[u8]>>,
}

impl<R> Counting<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            reader: OpReader::new(0),
            paths: BTreeSet::new(),
        }
    }

    fn paths(&self) -> Option<usize> {
        Some(self.paths.len()).filter(|paths| *paths <= PATHS_MAX)
    }
}

impl<R: io::Read> io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.reader.push(Bytes::copy_from_slice(&buffer[..length]));
        // What is malformed ends the dump: whoever reads says so.
        while let Ok(Some(record)) = self.reader.next_record() {
            if let Record::Op { record, .. } = record
                && self.paths.len() <= PATHS_MAX
                && !self.paths.contains(&record.op.path()[..])
            {
                self.paths.insert(record.op.path()[..].into());
            }
        }
        Ok(length)
    }
}

/// Lines beside a bar.
struct Aside {
    lines: Box<dyn Write>,
    progress: Option<Rc<Progress>>,
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = &mut self.lines;
        match &self.progress {
            Some(progress) => progress.aside(|| lines.write(bytes)),
            None => lines.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

impl Dump {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let target = match self.to.as_deref().filter(|_| !self.parse_only) {
            Some(to) => Some(self.target(to)?),
            None => None,
        };
        let options = DumpOptions {
            parse_only: self.parse_only,
            verbose: self.verbose,
        };
        let (input, bytes) = self.open()?;
        let progress = self.progress(bytes).map(Rc::new);
        let input: Box<dyn io::Read> = match &progress {
            Some(progress) => Box::new(progress.count(input)),
            None => input,
        };
        let mut input = Counting::new(input);
        let mut lines = io::BufWriter::new(Aside {
            lines: context.output.lines(),
            progress: progress.clone(),
        });
        let dumped = dump(&mut input, options, target, &mut lines);
        let flushed = lines.flush();
        drop((lines, progress));
        let summary = dumped.map_err(|error| self.failure(error))?;
        flushed.map_err(|error| stdout_failure(&error))?;
        let shown = Summary::of(&summary, input.paths());
        context.output.show(&shown, |_| String::new())?;
        if !context.output.is_json() && !self.verbose {
            context.output.talk(&self.sum_up(&shown));
        }
        if summary.refused > 0 {
            let message = format!(
                "{}: {} operations were refused, named above",
                self.file.display(),
                summary.refused
            );
            let step = "--map OLD=NEW, with a NEW that leads into the directory";
            return Err(Failure::error(message).try_next(step));
        }
        Ok(if summary.succeeded() {
            Exit::Done
        } else {
            Exit::Error
        })
    }

    /// What was found, for somebody who has seen `EOF` only.
    fn sum_up(&self, summary: &Summary) -> String {
        let found = summary.text();
        match self.to.as_deref().filter(|_| !self.parse_only) {
            Some(to) => format!("{found}; replayed into {}", to.display()),
            None => format!("{found}; -v shows them, --to DIR replays them"),
        }
    }

    /// The journal, and its length where it has one.
    fn open(&self) -> Result<(Box<dyn io::Read>, Option<u64>), Failure> {
        if self.file == Path::new("-") {
            return Ok((Box::new(io::stdin().lock()), None));
        }
        let opened = fs::open(&self.file);
        let opened = opened.map_err(|error| exit::cannot("open", &self.file, &error))?;
        let metadata = opened.metadata();
        let metadata = metadata.map_err(|error| exit::cannot("look at", &self.file, &error))?;
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok((Box::new(opened), bytes))
    }

    /// A bar, unless the lines of the records run over the terminal.
    fn progress(&self, bytes: Option<u64>) -> Option<Progress> {
        if self.verbose && output::stdout_is_terminal() {
            return None;
        }
        let what = format!("dump {}", self.file.display());
        Some(match bytes {
            Some(bytes) => Progress::bytes(bytes, what),
            None => Progress::byte_counter(what),
        })
    }

    /// The directory to replay into, and its rules.
    fn target(&self, to: &Path) -> Result<PathMap, Failure> {
        fs::create_dir_all(to).map_err(|error| exit::cannot("create", to, &error))?;
        let root = to
            .canonicalize()
            .map_err(|error| exit::cannot("use", to, &error))?;
        let names = fs::list_dir(&root).map_err(|error| exit::cannot("list", to, &error))?;
        if !names.is_empty() && !self.force {
            let message = format!("cannot replay into {}: it is not empty", to.display());
            return Err(Failure::refused(message)
                .try_next("another directory")
                .try_next("--force, to replay over what is there"));
        }
        Ok(PathMap {
            rebase: self
                .map
                .iter()
                .map(|rule| (rule.old.clone(), rule.new.clone()))
                .collect(),
            ..PathMap::new(root)
        })
    }

    fn failure(&self, error: DumpError) -> Failure {
        match error {
            DumpError::Output(error) => stdout_failure(&error),
            error => {
                let exit = match error {
                    DumpError::Malformed(_) => Exit::Verification,
                    _ => Exit::Error,
                };
                let failure = Failure::new(exit, format!("{}: {error}", self.file.display()));
                match self.to.as_deref().filter(|_| !self.parse_only) {
                    Some(to) => failure.after(&format!(
                        "{} holds what was replayed before that",
                        to.display()
                    )),
                    None => failure,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::{Format, Output},
        codec::ops::{Op, OpRecord, encode},
    };

    fn context() -> Context {
        Context {
            endpoints: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            output: Output::new(Format::Json),
        }
    }

    fn set_length(path: &'static [u8], length: u64) -> Vec<u8> {
        let path = Bytes::from_static(path);
        let record = OpRecord {
            tag: 1,
            op: Op::SetLength { path, length },
        };
        let mut bytes = bytes::BytesMut::new();
        encode(&record, &mut bytes).unwrap();
        bytes.to_vec()
    }

    fn dump(file: &Path, to: &Path, map: Vec<PathRule>) -> Dump {
        Dump {
            file: file.to_owned(),
            parse_only: false,
            verbose: false,
            to: Some(to.to_owned()),
            force: false,
            map,
        }
    }

    fn dump_of(bytes: &[u8], map: Vec<PathRule>) -> (Result<Exit, Failure>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        let opened = fs::open_or_create(&file).unwrap();
        fs::write_all_at(&opened, bytes, 0).unwrap();
        let dump = dump(&file, &dir.path().join("files"), map);
        (dump.run(&context()), dir)
    }

    #[test]
    fn a_whole_journal_is_replayed_below_the_directory() {
        let rule = PathRule {
            old: b"/old".to_vec(),
            new: b".".to_vec(),
        };
        let (exit, dir) = dump_of(&set_length(b"/old/f", 7), vec![rule]);
        assert_eq!(exit.unwrap(), Exit::Done);
        assert_eq!(fs::metadata(dir.path().join("files/f")).unwrap().len(), 7);
    }

    #[test]
    fn what_is_no_record_does_not_verify() {
        let bytes = [set_length(b"f", 7), vec![0; 20]].concat();
        let (malformed, dir) = dump_of(&bytes, Vec::new());
        let failure = malformed.unwrap_err();
        assert_eq!(failure.exit, Exit::Verification, "{}", failure.message);
        assert!(failure.message.contains("offset"), "{}", failure.message);
        assert_eq!(fs::metadata(dir.path().join("files/f")).unwrap().len(), 7);
    }

    #[test]
    fn a_directory_that_is_not_empty_is_replayed_over_with_force_only() {
        let (exit, dir) = dump_of(&set_length(b"f", 7), Vec::new());
        assert_eq!(exit.unwrap(), Exit::Done);
        let mut again = dump(
            &dir.path().join("journal"),
            &dir.path().join("files"),
            Vec::new(),
        );
        again.force = true;
        assert_eq!(again.run(&context()).unwrap(), Exit::Done);
        let again = dump(
            &dir.path().join("journal"),
            &dir.path().join("files"),
            Vec::new(),
        );
        let failure = again.run(&context()).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.ends_with("it is not empty"), "{failure:?}");
    }

    #[test]
    fn a_cut_record_and_a_refused_path_exit_with_1() {
        let whole = set_length(b"f", 7);
        let (cut, _dir) = dump_of(&whole[..whole.len() - 1], Vec::new());
        assert_eq!(cut.unwrap(), Exit::Error);
        let (refused, _dir) = dump_of(&set_length(b"/etc/f", 7), Vec::new());
        let failure = refused.unwrap_err();
        assert_eq!(failure.exit, Exit::Error);
        assert!(
            failure.message.contains("1 operations were refused"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn programs_are_told_of_a_cut_record_what_people_are() {
        let torn = |have, wanted| {
            Torn::of(Tail::Torn {
                offset: 28,
                have,
                wanted,
            })
        };
        let body = Torn {
            offset: 28,
            part: "body",
            wanted: 58,
            have: 16,
        };
        assert_eq!(torn(20, 62), Some(body));
        let length = Torn {
            offset: 28,
            part: "length",
            wanted: 4,
            have: 3,
        };
        assert_eq!(torn(3, 4), Some(length));
        assert_eq!(Torn::of(Tail::Clean), None);
    }

    #[test]
    fn somebody_who_sees_eof_only_is_told_what_there_is() {
        let journal = [
            set_length(b"a", 1),
            set_length(b"b", 1),
            set_length(b"a", 2),
        ]
        .concat();
        let mut input = Counting::new(&journal[..]);
        let summary = super::dump(&mut input, DumpOptions::default(), None, &mut Vec::new());
        let summary = Summary::of(&summary.unwrap(), input.paths());
        let plain = Dump {
            to: None,
            ..dump(Path::new("x"), Path::new("d"), Vec::new())
        };
        assert_eq!(
            plain.sum_up(&summary),
            "3 records, 2 paths; -v shows them, --to DIR replays them"
        );
    }
}

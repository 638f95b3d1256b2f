//! `journal dump`: a local journal file, record by record, without a cluster.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::super::{
    Context,
    arguments::{self, PathRule},
    exit::{self, Exit, Failure},
    output::stdout_failure,
};
use crate::{
    client::{
        dump::{DumpError, DumpOptions, DumpSummary, dump},
        replay::PathMap,
    },
    codec::ops::Tail,
    env::fs,
};

/// Show or replay a local journal file, without a cluster; exit code 1 if its last record is cut, 6 if one is no record
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster journal dump ./w1/w1.journal -n -v
  dos-cluster journal dump ./w1.journal --to ./files --map /tmp/w1=.

Nothing is written without --to, and then only below that directory.")]
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
    /// Replay the operations into files below this directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Paths in the journal that begin with OLD begin with NEW below the directory; may be repeated
    #[arg(long, value_name = "OLD=NEW", requires = "to", value_parser = arguments::path_rule_parser())]
    map: Vec<PathRule>,
}

#[derive(Debug, Serialize)]
struct Summary {
    records: u64,
    unknown: u64,
    refused: u64,
    nothing_to_remove: u64,
    /// How much of the last record is there and how much it says it has; none when it is whole.
    torn: Option<Torn>,
}

#[derive(Debug, Serialize)]
struct Torn {
    have: u64,
    wanted: u64,
}

impl Summary {
    fn of(summary: &DumpSummary) -> Self {
        Self {
            records: summary.records,
            unknown: summary.unknown,
            refused: summary.refused,
            nothing_to_remove: summary.nothing_to_remove,
            torn: match summary.tail {
                Tail::Clean => None,
                Tail::Torn { have, wanted, .. } => Some(Torn { have, wanted }),
            },
        }
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
        let input: Box<dyn io::Read> = if self.file == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let opened = fs::open(&self.file);
            Box::new(opened.map_err(|error| exit::cannot("open", &self.file, &error))?)
        };
        // With JSON, the lines are talk beside the summary.
        let mut lines: Box<dyn Write> = if context.output.is_json() {
            Box::new(io::BufWriter::new(io::stderr().lock()))
        } else {
            Box::new(io::BufWriter::new(io::stdout().lock()))
        };
        let dumped = dump(input, options, target, &mut lines);
        let flushed = lines.flush();
        drop(lines);
        let summary = dumped.map_err(|error| self.failure(error))?;
        flushed.map_err(|error| stdout_failure(&error))?;
        context
            .output
            .show(&Summary::of(&summary), |_| String::new())?;
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

    /// The directory to replay into, and its rules.
    fn target(&self, to: &Path) -> Result<PathMap, Failure> {
        fs::create_dir_all(to).map_err(|error| exit::cannot("create", to, &error))?;
        let root = to
            .canonicalize()
            .map_err(|error| exit::cannot("use", to, &error))?;
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
            DumpError::Malformed(error) => {
                let message = format!("{}: {error}", self.file.display());
                Failure::new(Exit::Verification, message)
            }
            error => Failure::error(format!("{}: {error}", self.file.display())),
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
        let path = bytes::Bytes::from_static(path);
        let record = OpRecord {
            tag: 1,
            op: Op::SetLength { path, length },
        };
        let mut bytes = bytes::BytesMut::new();
        encode(&record, &mut bytes).unwrap();
        bytes.to_vec()
    }

    fn dump_of(bytes: &[u8], map: Vec<PathRule>) -> (Result<Exit, Failure>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal");
        let opened = fs::open_or_create(&file).unwrap();
        fs::write_all_at(&opened, bytes, 0).unwrap();
        let dump = Dump {
            file,
            parse_only: false,
            verbose: false,
            to: Some(dir.path().join("files")),
            map,
        };
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
}

//! `journal append`: a file, or stdin, to the end of a journal.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    super::{
        Context, arguments,
        exit::{self, Exit, Failure},
        progress::Progress,
    },
    records::{self, NoRecords, WholeRecords},
};
use crate::{
    client::{AppendOptions, AppendStream, Client, ClientError, Effect, Floor},
    domain::{Epoch, JournalKind, JournalRef, Offset, Rejected},
    env::fs,
};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Append a file or stdin to a journal; prints its durable end once everything is fsynced by a majority
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | dos-cluster journal append tour/w1/notes
  dos-cluster journal append tour/w1/notes ./notes.txt --at 6

The worker and the journal are made if they are not there. Whoever else has the journal open for writing is fenced: an
ops journal, which a worker's files are restored from, is appended to with --kind ops only, and takes whole records.
Exit code 4 if --at is not the journal's end, 8 if it is not known how much arrived: then `journal stat` tells.")]
pub(in super::super) struct Append {
    /// The journal
    #[arg(value_name = "JOB/WORKER/JOURNAL")]
    journal: JournalRef,
    /// What to append; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What a restore does with it: replay file operations (ops), or write one file (raw) [default: raw]
    #[arg(long, value_parser = arguments::journal_kind, value_name = "ops|raw")]
    kind: Option<JournalKind>,
    /// Refuse unless this is the journal's end
    #[arg(long, value_name = "OFFSET")]
    at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Appended {
    journal: String,
    from: u64,
    durable: u64,
    /// A member that has applied it serves everything appended.
    log_index: u64,
}

impl Append {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (mut input, bytes) = open(&self.file)?;
        if self.kind == Some(JournalKind::Ops) && bytes.is_some() {
            self.check_records()?;
        }
        let client = context.client()?;
        let kind = match self.kind {
            Some(kind) => kind,
            None => kind_by_default(&client, &self.journal).await?,
        };
        let epoch = self.open_worker(context, &client).await?;
        let expected = self.at.map(Offset);
        let options = AppendOptions::of(&client);
        let stream = AppendStream::open(&client, &self.journal, kind, epoch, expected, options);
        let mut stream = stream
            .await
            .map_err(|error| not_opened(&self.journal, error))?;
        let (from, watch) = (stream.opened_at(), stream.watch());
        let what = format!("append to {}", self.journal);
        let progress = match bytes {
            Some(bytes) => Some(Progress::bytes(bytes, what)),
            // Who types sees what is typed.
            None => (!self.is_typed()).then(|| Progress::byte_counter(what)),
        };
        let mut sending = Sending {
            append: &self,
            stream: &mut stream,
            records: (kind == JournalKind::Ops).then(WholeRecords::new),
            progress: progress.as_ref(),
            from,
        };
        let sent = sending.run(&mut input).await;
        // Also when the input failed: what was read is appended in order.
        let closed = match &sent {
            Ok(()) | Err(Stopped::Input(_)) => stream.close().await,
            Err(Stopped::Stream(error)) => Err(error.clone()),
        };
        drop(progress);
        let so_far = || {
            let durable = watch.progress().durable;
            let arrived = durable.since(from);
            format!("{arrived} bytes of the input are durable, and the journal is up to {durable}")
        };
        let told = |effect| match watch.progress().durable.since(from) {
            0 => effect,
            _ => Some(Effect::Unknown), // a part of it has happened
        };
        let ended = closed.map_err(|error| {
            let step = format!("dos-cluster journal stat {}", self.journal);
            let failure = Failure::from(error).after(&so_far()).try_next(step);
            Failure {
                effect: told(failure.effect),
                ..failure
            }
        })?;
        if let Err(Stopped::Input(failure)) = sent {
            return Err(Failure {
                effect: told(failure.effect),
                ..failure.after(&so_far())
            });
        }
        let appended = Appended {
            journal: self.journal.to_string(),
            from: from.0,
            durable: ended.durable.0,
            log_index: ended.log_index,
        };
        context
            .output
            .show(&appended, |appended| appended.durable.to_string())?;
        Ok(Exit::Done)
    }

    /// A file is looked through before anything is sent, so that nothing of one that is no row of records arrives.
    fn check_records(&self) -> Result<(), Failure> {
        let file =
            fs::open(&self.file).map_err(|error| exit::cannot("open", &self.file, &error))?;
        let checked = records::check(file);
        let checked = checked.map_err(|error| exit::cannot("read", &self.file, &error))?;
        checked.map_err(|error| self.no_records(&error))
    }

    fn no_records(&self, error: &NoRecords) -> Failure {
        let input = match self.file.to_str() {
            Some("-") => "stdin".to_owned(),
            _ => self.file.display().to_string(),
        };
        let message = format!(
            "cannot append {input} to ops journal {}: it is no row of whole records: {error}",
            self.journal
        );
        Failure::refused(message)
            .try_next("dos-cluster journal dump FILE -v, to see the records of a file")
    }

    /// Whether a person types the input.
    fn is_typed(&self) -> bool {
        self.file == Path::new("-") && std::io::stdin().is_terminal()
    }

    /// The epoch of the worker, which is made if it is not there.
    async fn open_worker(&self, context: &Context, client: &Client) -> Result<Epoch, Failure> {
        let worker = &self.journal.owner;
        let (epoch, is_new) = client.open_worker(worker, None).await?;
        if is_new {
            context.output.talk(&format!(
                "note: worker {worker} is new; job {}'s recovery line now waits for it",
                worker.job
            ));
        }
        if self.is_typed() {
            context.output.talk("reading stdin; end with Ctrl-D");
        }
        Ok(epoch)
    }
}

/// Why the journal was not opened: its name and not its number, which nobody knows.
fn not_opened(journal: &JournalRef, error: ClientError) -> Failure {
    let at_tail = match error.rejected() {
        Some(Rejected::WrongOffset { at, tail, .. }) => Some((*at, *tail)),
        _ => None,
    };
    let failure = Failure::from(error);
    match at_tail {
        Some((at, tail)) => Failure {
            message: format!(
                "cannot append to journal {journal} at offset {at}: its tail is {tail}"
            ),
            ..failure
        },
        None if failure.message.contains(&journal.to_string()) => failure,
        None => failure.before(&format!("cannot append to journal {journal}")),
    }
}

/// What ended the sending.
enum Stopped {
    Input(Failure),
    Stream(ClientError),
}

/// An input on its way into a journal.
struct Sending<'a> {
    append: &'a Append,
    stream: &'a mut AppendStream,
    /// What an ops journal takes.
    records: Option<WholeRecords>,
    progress: Option<&'a Progress>,
    from: Offset,
}

impl Sending<'_> {
    async fn run(&mut self, input: &mut (dyn AsyncRead + Unpin + Send)) -> Result<(), Stopped> {
        let append = self.append;
        let no_records = |error: NoRecords| Stopped::Input(append.no_records(&error));
        loop {
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            let read = input.read_buf(&mut buffer).await;
            let read =
                read.map_err(|error| Stopped::Input(exit::cannot("read", &append.file, &error)))?;
            if read == 0 {
                let records = self.records.take();
                return records.map_or(Ok(()), |records| records.finish().map_err(no_records));
            }
            let bytes = buffer.freeze();
            let bytes = match &mut self.records {
                Some(records) => records.next(bytes).map_err(no_records)?,
                None => bytes,
            };
            self.stream.append(bytes).await.map_err(Stopped::Stream)?;
            if let Some(progress) = self.progress {
                progress.set(self.stream.durable().since(self.from));
            }
        }
    }
}

type Input = Box<dyn AsyncRead + Unpin + Send>;

/// The input, and its length where it has one.
fn open(file: &Path) -> Result<(Input, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let opened = fs::open(file).map_err(|error| exit::cannot("open", file, &error))?;
    let metadata = opened.metadata();
    let metadata = metadata.map_err(|error| exit::cannot("look at", file, &error))?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!(
            "cannot append {}: it is a directory",
            file.display()
        )));
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(tokio::fs::File::from_std(opened)), bytes))
}

/// The kind of a journal that is appended to as if it were raw. A worker's files hang on an ops journal: it must be meant.
async fn kind_by_default(client: &Client, journal: &JournalRef) -> Result<JournalKind, Failure> {
    let answer = match client.stat(journal, Floor::Linearizable).await {
        Ok(answer) => answer,
        Err(ClientError::Rejected { rejected, .. }) if is_unknown(&rejected) => {
            return Ok(JournalKind::Raw);
        }
        Err(error) => return Err(error.into()),
    };
    let kind = answer.stat.map_or(0, |stat| stat.kind);
    match arguments::kind_name(kind) {
        "ops" => Err(is_ops(journal)),
        "raw" => Ok(JournalKind::Raw),
        _ => Err(Failure::error(format!(
            "journal {journal} is of a kind that this version does not know"
        ))),
    }
}

fn is_ops(journal: &JournalRef) -> Failure {
    let message =
        format!("journal {journal} is a worker's ops journal; appending stops that worker");
    Failure::refused(message).try_next("the same with --kind ops, if that is meant")
}

fn is_unknown(rejected: &Rejected) -> bool {
    matches!(
        rejected,
        Rejected::UnknownJob { .. }
            | Rejected::UnknownWorker { .. }
            | Rejected::UnknownJournal { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::JournalId;

    fn journal() -> JournalRef {
        "tour/w1/notes".parse().unwrap()
    }

    #[test]
    fn another_offset_than_the_tail_names_the_journal_and_not_its_number() {
        let rejected = Rejected::WrongOffset {
            journal: JournalId(1),
            at: Offset(9),
            tail: Offset(6),
        };
        let error = ClientError::Rejected {
            rejected: Box::new(rejected),
            effect: Effect::None,
        };
        let failure = not_opened(&journal(), error);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.message,
            "cannot append to journal tour/w1/notes at offset 9: its tail is 6"
        );
    }

    #[test]
    fn an_ops_journal_is_refused_with_what_it_would_do_and_how_it_is_meant() {
        let failure = is_ops(&journal());
        assert_eq!(
            (failure.exit, failure.effect),
            (Exit::Refused, Some(Effect::None))
        );
        assert!(failure.message.ends_with("appending stops that worker"));
        assert!(failure.tries[0].contains("--kind ops"));
    }
}

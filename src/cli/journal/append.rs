//! `journal append`: a file, or stdin, to the end of a journal.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::{
    Context, arguments,
    exit::{self, Exit, Failure},
    progress::Progress,
};
use crate::{
    client::{AppendOptions, AppendStream, Client, ClientError, Floor},
    domain::{JournalKind, JournalRef, Offset, Rejected},
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

The worker and the journal are made if they are not there. Whoever else has the journal open for writing is fenced.
Exit code 4 if --at is not the journal's end, 8 if it is not known how much arrived: then `journal stat` tells.")]
pub(in super::super) struct Append {
    /// The journal
    #[arg(value_name = "JOB/WORKER/JOURNAL")]
    journal: JournalRef,
    /// What to append; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What a restore does with it: replay file operations (ops), or write one file (raw). By default the kind that it has, raw for a new one
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
        let client = context.client()?;
        let kind = match self.kind {
            Some(kind) => kind,
            None => kind_of(&client, &self.journal).await?,
        };
        let (epoch, _) = client.open_worker(&self.journal.owner, None).await?;
        let expected = self.at.map(Offset);
        let options = AppendOptions::of(&client);
        let stream = AppendStream::open(&client, &self.journal, kind, epoch, expected, options);
        let mut stream = stream.await.map_err(|error| {
            Failure::from(error).before(&format!("cannot append to journal {}", self.journal))
        })?;
        let (from, watch) = (stream.opened_at(), stream.watch());
        let progress = match bytes {
            Some(bytes) => Progress::bytes(bytes, format!("append to {}", self.journal)),
            None => Progress::byte_counter(format!("append to {}", self.journal)),
        };
        let sent = send(&mut input, &self.file, &mut stream, &progress, from).await;
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
        let ended = closed.map_err(|error| {
            let step = format!("dos-cluster journal stat {}", self.journal);
            Failure::from(error).after(&so_far()).try_next(step)
        })?;
        if let Err(Stopped::Input(failure)) = sent {
            return Err(failure.after(&so_far()));
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
}

/// What ended the sending.
enum Stopped {
    Input(Failure),
    Stream(ClientError),
}

async fn send(
    input: &mut (dyn AsyncRead + Unpin + Send),
    file: &Path,
    stream: &mut AppendStream,
    progress: &Progress,
    from: Offset,
) -> Result<(), Stopped> {
    loop {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let read = input.read_buf(&mut buffer).await;
        let read = read.map_err(|error| Stopped::Input(exit::cannot("read", file, &error)))?;
        if read == 0 {
            return Ok(());
        }
        stream
            .append(buffer.freeze())
            .await
            .map_err(Stopped::Stream)?;
        progress.set(stream.durable().since(from));
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

/// The kind that the journal has; raw if it is not there yet.
async fn kind_of(client: &Client, journal: &JournalRef) -> Result<JournalKind, Failure> {
    let answer = match client.stat(journal, Floor::Linearizable).await {
        Ok(answer) => answer,
        Err(ClientError::Rejected { rejected, .. }) if is_unknown(&rejected) => {
            return Ok(JournalKind::Raw);
        }
        Err(error) => return Err(error.into()),
    };
    let kind = answer.stat.map_or(0, |stat| stat.kind);
    match arguments::kind_name(kind) {
        "ops" => Ok(JournalKind::Ops),
        "raw" => Ok(JournalKind::Raw),
        _ => Err(Failure::error(format!(
            "journal {journal} is of a kind that this version does not know"
        ))),
    }
}

fn is_unknown(rejected: &Rejected) -> bool {
    matches!(
        rejected,
        Rejected::UnknownJob { .. }
            | Rejected::UnknownWorker { .. }
            | Rejected::UnknownJournal { .. }
    )
}

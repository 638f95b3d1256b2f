//! `journal read`: the bytes of a journal to stdout.

use clap::Args;

use super::super::{
    Context,
    arguments::FloorArguments,
    exit::{Exit, Failure},
    output,
    progress::Progress,
    worker::say_if_stale,
};
use crate::{
    client::{Client, ClientError, JournalReader},
    domain::{JournalRef, Offset},
};

/// Write the bytes of a journal to stdout, verified; everything acknowledged before, unless asked otherwise
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster journal read tour/w1/notes
  dos-cluster journal read tour/w1/notes --from 6 --to 12
  dos-cluster journal read tour/w1/notes --stale

Exit code 4 if an offset is behind the journal's end.")]
pub(in super::super) struct Read {
    /// The journal
    #[arg(value_name = "JOB/WORKER/JOURNAL")]
    journal: JournalRef,
    /// The first byte
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// One past the last byte; without it, up to the journal's end
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,
    #[command(flatten)]
    floor: FloorArguments,
}

impl Read {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if let Some(to) = self.to.filter(|to| *to < self.from) {
            let from = self.from;
            return Err(Failure::usage(format!(
                "cannot read from {from} to {to}: that is backwards"
            )));
        }
        let client = context.client()?;
        let (from, to) = (Offset(self.from), self.to.map(Offset));
        let opened = client
            .read(&self.journal, from, to, self.floor.floor())
            .await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return Err(self.not_opened(&client, error).await),
        };
        if let Some(header) = reader.header() {
            say_if_stale(context, header.stale, header.applied_index);
        }
        let progress = self.progress(&reader);
        let mut end = from;
        loop {
            let piece = reader.next().await.map_err(|error| {
                Failure::from(error).after(&format!("what was written is right up to offset {end}"))
            })?;
            let Some((at, bytes)) = piece else {
                return Ok(Exit::Done);
            };
            context.output.raw(&bytes)?;
            end = at.advance(bytes.len()).unwrap_or(at);
            if let Some(progress) = &progress {
                progress.set(end.since(from));
            }
        }
    }

    /// A bar, where stdout goes to a file: elsewhere it would be among the bytes, or among what reads them says.
    fn progress(&self, reader: &JournalReader) -> Option<Progress> {
        let tail = reader.header()?.stat.as_ref()?.tail;
        let total = self.to.unwrap_or(tail).saturating_sub(self.from);
        output::stdout_is_a_file().then(|| Progress::bytes(total, format!("read {}", self.journal)))
    }

    /// A node says of a range beyond the end that the request is bad; the end is what the caller has to know.
    async fn not_opened(&self, client: &Client, error: ClientError) -> Failure {
        if matches!(error, ClientError::BadRequest { .. })
            && let Ok(answer) = client.stat(&self.journal, self.floor.floor()).await
            && let Some(stat) = answer.stat
            && let Some(failure) = behind_the_end(&self.journal, self.from, self.to, stat.tail)
        {
            return failure;
        }
        error.into()
    }
}

fn behind_the_end(journal: &JournalRef, from: u64, to: Option<u64>, tail: u64) -> Option<Failure> {
    let behind = [Some(from), to].into_iter().flatten();
    let behind = behind.filter(|offset| *offset > tail).min()?;
    let message =
        format!("cannot read journal {journal}: offset {behind} is behind the end, {tail}");
    Some(Failure::refused(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_behind_the_end_is_refused_and_named() {
        let journal = "tour/w1/notes".parse().unwrap();
        let refused = |from, to| behind_the_end(&journal, from, to, 32);
        assert!(refused(32, None).is_none() && refused(0, Some(32)).is_none());
        for (from, to, named) in [(500, None, 500), (0, Some(33), 33), (40, Some(50), 40)] {
            let failure = refused(from, to).unwrap();
            assert_eq!(failure.exit, Exit::Refused);
            assert_eq!(
                failure.message,
                format!("cannot read journal tour/w1/notes: offset {named} is behind the end, 32")
            );
        }
    }
}

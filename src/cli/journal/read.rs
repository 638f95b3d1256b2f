//! `journal read`: the bytes of a journal to stdout.

use clap::Args;

use super::super::{
    Context,
    arguments::FloorArguments,
    exit::{Exit, Failure},
    worker::say_if_stale,
};
use crate::domain::{JournalRef, Offset};

/// Write the bytes of a journal to stdout, verified; everything acknowledged before, unless asked otherwise
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster journal read tour/w1/notes
  dos-cluster journal read tour/w1/notes --from 6 --to 12
  dos-cluster journal read tour/w1/notes --stale")]
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
        let mut reader = client
            .read(&self.journal, from, to, self.floor.floor())
            .await?;
        if let Some(header) = reader.header() {
            say_if_stale(context, header.stale, header.applied_index);
        }
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
        }
    }
}

//! Journals that are there before something is measured: written through the client as fast as it goes.

use super::payload::Pool;
use crate::{
    cli::exit::Failure,
    client::{AppendOptions, AppendStream, Client},
    domain::{JournalKind, JournalRef},
    env::time::{Duration, Instant},
};

/// Bytes of one append.
const PIECE_BYTES: u64 = 256 << 10;

/// Makes a journal of so many bytes, durable; answers how long that took.
pub(super) async fn fill(
    client: &Client,
    journal: &JournalRef,
    pool: &Pool,
    bytes: u64,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    let (epoch, _) = client.open_worker(&journal.owner, None).await?;
    let options = AppendOptions::of(client);
    let kind = JournalKind::Raw;
    let mut stream = AppendStream::open(client, journal, kind, epoch, None, options).await?;
    let mut written = 0;
    let mut sequence = 0;
    while written < bytes {
        let piece = PIECE_BYTES.min(bytes - written);
        let length = usize::try_from(piece).unwrap_or_default();
        stream.append(pool.payload(0, sequence, length)).await?;
        written += piece;
        sequence += 1;
    }
    stream.close().await?;
    Ok(began.elapsed())
}

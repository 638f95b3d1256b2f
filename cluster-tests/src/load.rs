//! Bytes that are known at every offset, a writer of them in the background, and the check that they are back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dos_cluster::{
    client::{AppendOptions, AppendStream, AppendWatch, Client, ClientError},
    domain::{Epoch, JournalKind, JournalRef, Offset},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::wait::eventually;

/// SplitMix64: every bit of the result depends on every bit of `x`.
#[must_use]
pub fn scramble(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the writer of this seed writes at these offsets. No two places look alike, so a gap, a doubled or a foreign byte
/// shows.
#[must_use]
pub fn pattern(seed: u64, from: u64, length: usize) -> Vec<u8> {
    let word = |at: u64| scramble(scramble(seed) ^ (at / 8)).to_le_bytes();
    let mut bytes = Vec::with_capacity(length + 16);
    let mut at = from - from % 8;
    while bytes.len() < length + 8 {
        bytes.extend_from_slice(&word(at));
        at += 8;
    }
    let skip = usize::try_from(from % 8).unwrap();
    bytes[skip..skip + length].to_vec()
}

/// Checks that `bytes`, read at offset `from`, are the seed's.
///
/// # Panics
/// At the first byte that is not.
pub fn assert_pattern(seed: u64, from: u64, bytes: &[u8]) {
    let expected = pattern(seed, from, bytes.len());
    if let Some(at) = bytes
        .iter()
        .zip(&expected)
        .position(|(found, expected)| found != expected)
    {
        panic!(
            "byte {} is not what was written (seed {seed}, read from {from})",
            from + at as u64
        );
    }
}

/// How a [`Load`] writes.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Bytes of one append.
    pub piece: usize,
    /// Time between two appends; no faster than that.
    pub every: Duration,
    /// Which bytes.
    pub seed: u64,
}

impl Default for LoadOptions {
    /// About 4 MB/s.
    fn default() -> Self {
        Self {
            piece: 16 << 10,
            every: Duration::from_millis(4),
            seed: 1,
        }
    }
}

/// A writer in the background, of the pattern from offset 0 on.
#[derive(Debug)]
pub struct Load {
    journal: JournalRef,
    seed: u64,
    watch: AppendWatch,
    stop: watch::Sender<bool>,
    longest_gap_ms: Arc<AtomicU64>,
    task: JoinHandle<Result<u64, ClientError>>,
    gaps: JoinHandle<()>,
}

impl Load {
    /// Opens the worker and the journal and begins to write.
    pub async fn start(client: &Client, journal: &str, options: LoadOptions) -> Self {
        let journal: JournalRef = journal.parse().unwrap();
        let (epoch, _) = client.open_worker(&journal.owner, None).await.unwrap();
        Self::start_as(client, &journal, epoch, options).await
    }

    /// Begins to write as a worker of this epoch.
    pub async fn start_as(
        client: &Client,
        journal: &JournalRef,
        epoch: Epoch,
        options: LoadOptions,
    ) -> Self {
        let append = AppendOptions {
            give_up_after: Some(Duration::from_secs(60)),
            ..AppendOptions::of(client)
        };
        let stream = AppendStream::open(client, journal, JournalKind::Raw, epoch, None, append)
            .await
            .unwrap();
        let watch = stream.watch();
        let (stop, stopped) = watch::channel(false);
        let longest_gap_ms = Arc::new(AtomicU64::new(0));
        Self {
            journal: journal.clone(),
            seed: options.seed,
            gaps: tokio::spawn(measure_gaps(watch.clone(), longest_gap_ms.clone())),
            watch,
            stop,
            longest_gap_ms,
            task: tokio::spawn(write(stream, options, stopped)),
        }
    }

    /// Everything before this was reported durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.watch.progress().durable.0
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &JournalRef {
        &self.journal
    }

    /// The longest time without progress since the last call.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        Duration::from_millis(self.longest_gap_ms.swap(0, Ordering::SeqCst))
    }

    /// Waits until `bytes` more than now are durable.
    pub async fn advance(&self, bytes: u64) {
        let until = self.durable() + bytes;
        eventually("the writer goes on", Duration::from_secs(60), async || {
            assert!(
                !self.task.is_finished(),
                "the writer ended: {:?}",
                self.watch.phase()
            );
            let durable = self.durable();
            crate::wait::check(durable >= until, || {
                format!("{durable} of {until}: {:?}", self.watch.phase())
            })
        })
        .await;
    }

    /// Waits for the writer to fail; answers why.
    ///
    /// # Panics
    /// When it does not fail in time.
    pub async fn fails(self) -> ClientError {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        ended.unwrap().unwrap().unwrap_err()
    }

    /// Ends the writer in order; answers how many bytes it wrote, all of which are durable.
    ///
    /// # Panics
    /// When the writer failed.
    pub async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        self.gaps.abort();
        ended.unwrap().unwrap().unwrap()
    }

    /// Which bytes it writes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

async fn write(
    mut stream: AppendStream,
    options: LoadOptions,
    stopped: watch::Receiver<bool>,
) -> Result<u64, ClientError> {
    let mut pace = tokio::time::interval(options.every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut at = stream.opened_at();
    while !*stopped.borrow() {
        pace.tick().await;
        let bytes = Bytes::from(pattern(options.seed, at.0, options.piece));
        at = stream.append(bytes).await?;
    }
    let closed = stream.close().await?;
    assert_eq!(closed.durable, at, "a closed stream is durable to its end");
    Ok(closed.durable.0)
}

async fn measure_gaps(mut watch: AppendWatch, longest: Arc<AtomicU64>) {
    let (mut last, mut durable) = (Instant::now(), Offset::ZERO);
    while watch.changed().await {
        let now = watch.progress().durable;
        if now > durable {
            durable = now;
            let gap = u64::try_from(last.elapsed().as_millis()).unwrap();
            longest.fetch_max(gap, Ordering::SeqCst);
            last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_same_wherever_it_is_cut() {
        let whole = pattern(7, 0, 1000);
        for from in 0..40 {
            assert_eq!(pattern(7, from as u64, 100), whole[from..from + 100]);
        }
        assert_ne!(pattern(7, 0, 8), pattern(7, 8, 8));
        assert_ne!(pattern(7, 0, 8), pattern(8, 0, 8));
        assert_pattern(7, 3, &whole[3..]);
    }

    #[test]
    #[should_panic(expected = "byte 13 is not what was written")]
    fn a_changed_byte_is_found() {
        let mut bytes = pattern(7, 3, 100);
        bytes[10] ^= 1;
        assert_pattern(7, 3, &bytes);
    }
}

//! Append mode.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// What a status frame says: two absolute offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Received.
    pub written: u64,
    /// Committed.
    pub synced: u64,
}

/// ASCII digits, and nothing else.
pub(super) fn decimal(digits: &[u8]) -> u64 {
    let shown = String::from_utf8_lossy(digits);
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    assert!(all, "not digits: {shown:?}");
    shown.parse().unwrap()
}

impl Status {
    /// A worker dies of anything but this.
    ///
    /// # Panics
    /// Unless it is `digits TAB digits`, and no more is synced than written.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let fields: Vec<&[u8]> = payload.split(|byte| *byte == b'\t').collect();
        let [written, synced] = fields[..] else {
            panic!(
                "this kills a worker: {:?}",
                String::from_utf8_lossy(payload)
            );
        };
        let status = Self {
            written: decimal(written),
            synced: decimal(synced),
        };
        assert!(status.synced <= status.written, "{status:?}");
        status
    }
}

/// A connection in append mode.
#[derive(Debug)]
pub struct LegacyStream {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// The newest status; before the first one the offset that was asked for.
    pub last: Status,
    /// Where the next byte goes.
    pub sent: u64,
}

impl LegacyStream {
    pub(super) fn new(socket: TcpStream, offset: u64) -> Self {
        let (from, to) = socket.into_split();
        let last = Status {
            written: offset,
            synced: offset,
        };
        Self {
            from,
            to,
            last,
            sent: offset,
        }
    }

    /// Sends the next bytes.
    ///
    /// # Panics
    /// When the connection is dead.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).await.unwrap();
        self.sent += bytes.len() as u64;
    }

    /// Bytes that were sent together with the `a` request.
    pub fn sent_before(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The next status; `None` when the other side closed.
    ///
    /// # Panics
    /// When it is no status, or goes back, or there is neither within `within`.
    pub async fn status(&mut self, within: Duration) -> Option<Status> {
        let read = async {
            let mut header = [0; 4];
            self.from.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes(header) as usize;
            assert!(length <= 64, "a status of {length} bytes");
            let mut payload = vec![0; length];
            self.from.read_exact(&mut payload).await.ok()?;
            Some(Status::parse(&payload))
        };
        let status = timeout(within, read).await.unwrap_or_else(|_| {
            panic!("no status within {within:?}, the last was {:?}", self.last)
        })?;
        let (last, sent) = (self.last, self.sent);
        assert!(
            status.written >= last.written && status.synced >= last.synced,
            "{last:?} became {status:?}"
        );
        assert!(status.written <= sent, "{status:?}, but {sent} were sent");
        self.last = status;
        Some(status)
    }

    /// Reads statuses until everything sent is synced; answers how long that took.
    ///
    /// # Panics
    /// When it is not within `within`, or the connection ends.
    pub async fn synced(&mut self, within: Duration) -> Duration {
        let began = Instant::now();
        while self.last.synced < self.sent {
            let left = within.saturating_sub(began.elapsed());
            let status = self.status(left).await;
            assert!(
                status.is_some(),
                "closed at {:?} of {}",
                self.last,
                self.sent
            );
        }
        began.elapsed()
    }

    /// FIN; the last status must be everything, and then the other side closes.
    ///
    /// # Panics
    /// If not.
    pub async fn finish(mut self, within: Duration) -> Status {
        self.to.shutdown().await.unwrap();
        let mut frames = 0;
        while self.status(within).await.is_some() {
            frames += 1;
        }
        assert!(frames > 0, "no final status");
        let all = Status {
            written: self.sent,
            synced: self.sent,
        };
        assert_eq!(self.last, all, "the final status");
        all
    }

    /// The connection dies as a killed worker's does that left bytes unread: by RST.
    pub fn reset(self) {
        let socket = self.from.reunite(self.to).unwrap();
        socket.set_zero_linger().unwrap();
    }

    /// The two halves, for a test that reads and writes at once.
    #[must_use]
    pub fn into_halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.from, self.to)
    }
}

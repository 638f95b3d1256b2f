//! A legacy worker's side of the DOS protocol, written from its specification alone: it shares nothing with what it tests.
//!
//! ```text
//! LegacyClient   command mode: frames, requests, replies, and what a dead connection looks like
//! LegacyStream   append mode: bytes one way, status frames the other, each checked
//! GatewayProcess `dos-cluster gateway` beside a worker
//! ```

mod process;
mod stream;

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub use process::GatewayProcess;
pub use stream::{LegacyStream, Status};

/// A legacy worker gives up on `u`, `l` and `a` after this long.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The longest reply to `u`, `l` and `a` that a legacy worker can read, in bytes.
pub const REPLY_BYTES_MAX: usize = 16_384;
/// How long a connection may take to be closed, or a `get` to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of `ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file.
    pub name: Vec<u8>,
    /// In bytes.
    pub size: u64,
    /// Somebody appends to it.
    pub appending: bool,
}

/// A connection in command mode.
#[derive(Debug)]
pub struct LegacyClient {
    socket: TcpStream,
    /// The longest that `u`, `l` or `a` took.
    pub slowest: Duration,
}

/// A request: the frame around a command byte and its arguments.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_be_bytes(), payload].concat()
}

/// The `a` request.
#[must_use]
pub fn append_request(name: &str, offset: u64) -> Vec<u8> {
    frame(format!("a{name}\t{offset}").as_bytes())
}

/// The next frame's payload; `None` when the other side closed in front of one.
///
/// # Panics
/// When it closed inside a frame, or says nothing for too long.
async fn read_frame(socket: &mut TcpStream, what: &str, within: Duration) -> Option<Vec<u8>> {
    let read = async {
        let mut header = [0; 4];
        if let Err(error) = socket.read_exact(&mut header).await {
            let ends = [
                std::io::ErrorKind::UnexpectedEof,
                std::io::ErrorKind::ConnectionReset,
            ];
            assert!(ends.contains(&error.kind()), "{error}");
            return None;
        }
        let length = u32::from_be_bytes(header) as usize;
        assert!(length <= 64 << 20, "a frame of {length} bytes");
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await.unwrap();
        Some(payload)
    };
    timeout(within, read)
        .await
        .unwrap_or_else(|_| panic!("no reply to {what} and no close within {within:?}"))
}

impl LegacyClient {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            slowest: Duration::ZERO,
        }
    }

    /// Connects, and selects a directory.
    ///
    /// # Panics
    /// When that is not `ok` in time.
    pub async fn in_dir(address: &str, dir: &str) -> Self {
        let mut client = Self::connect(address).await;
        client.use_dir(dir).await;
        client
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the connection is dead.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next reply; `None` when there is none any more.
    pub async fn reply(&mut self) -> Option<Vec<u8>> {
        read_frame(&mut self.socket, "a request", PATIENCE).await
    }

    /// Asks, and waits for the reply.
    pub async fn ask(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        self.send(&frame(payload)).await;
        self.reply().await
    }

    /// Asks what a worker waits for only [`ANSWER_WITHIN`].
    ///
    /// # Panics
    /// When there is no reply in time, or one too long for a worker.
    pub async fn ask_in_time(&mut self, payload: &[u8]) -> Vec<u8> {
        let shown = String::from_utf8_lossy(payload).into_owned();
        let began = Instant::now();
        self.send(&frame(payload)).await;
        let reply = read_frame(&mut self.socket, &shown, ANSWER_WITHIN).await;
        self.slowest = self.slowest.max(began.elapsed());
        let reply = reply.unwrap_or_else(|| panic!("closed instead of a reply to {shown:?}"));
        assert!(reply.len() <= REPLY_BYTES_MAX, "{} bytes", reply.len());
        reply
    }

    /// `u`.
    ///
    /// # Panics
    /// When it is not `ok` in time.
    pub async fn use_dir(&mut self, dir: &str) {
        let reply = self.ask_in_time(&[b"u", dir.as_bytes()].concat()).await;
        assert_eq!(reply, b"ok");
    }

    /// `l`, read as strictly as can be.
    ///
    /// # Panics
    /// When the reply is late or malformed.
    pub async fn list(&mut self) -> Vec<Line> {
        let reply = self.ask_in_time(b"l").await;
        let lines: Vec<Line> = reply
            .split_inclusive(|byte| *byte == b'\n')
            .map(line)
            .collect();
        assert!(
            lines.windows(2).all(|two| two[0].name < two[1].name),
            "not in order: {lines:?}"
        );
        lines
    }

    /// The line of one file.
    pub async fn find(&mut self, name: &str) -> Option<Line> {
        let lines = self.list().await;
        lines.into_iter().find(|line| line.name == name.as_bytes())
    }

    /// `g`; `None` when the connection was closed instead.
    pub async fn get(&mut self, name: &str, offset: i64, size: i64) -> Option<Vec<u8>> {
        self.ask(format!("g{name}\t{offset}\t{size}").as_bytes())
            .await
    }

    /// `s`: the durable offset.
    ///
    /// # Panics
    /// When the reply is none.
    pub async fn sync(&mut self, name: &str) -> u64 {
        let reply = self.ask(format!("s{name}").as_bytes()).await.unwrap();
        let status = Status::parse(&reply);
        assert_eq!(status.written, status.synced);
        status.synced
    }

    /// `a`: append mode, or the error text, behind which the connection must end.
    ///
    /// # Errors
    /// The reply, if it is not `ok`.
    ///
    /// # Panics
    /// When there is no reply in time, or the connection goes on after a refusal.
    pub async fn append(mut self, name: &str, offset: u64) -> Result<LegacyStream, String> {
        let reply = self
            .ask_in_time(format!("a{name}\t{offset}").as_bytes())
            .await;
        self.appending(reply, offset).await
    }

    /// What follows the reply to an `a`.
    ///
    /// # Errors
    /// The reply, if it is not `ok`.
    ///
    /// # Panics
    /// When the connection goes on after a refusal.
    pub async fn appending(mut self, reply: Vec<u8>, offset: u64) -> Result<LegacyStream, String> {
        if reply == b"ok" {
            return Ok(LegacyStream::new(self.socket, offset));
        }
        assert!(reply.starts_with(b"ERROR: "), "{reply:?}");
        assert_eq!(
            self.reply().await,
            None,
            "a refused append ends the connection"
        );
        Err(String::from_utf8_lossy(&reply).into_owned())
    }

    /// The socket.
    #[must_use]
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }
}

fn line(line: &[u8]) -> Line {
    let shown = String::from_utf8_lossy(line).into_owned();
    let body = line
        .strip_suffix(b"\n")
        .unwrap_or_else(|| panic!("no LF: {shown:?}"));
    let fields: Vec<&[u8]> = body.split(|byte| *byte == b'\t').collect();
    let [name, size, appending] = fields[..] else {
        panic!("not three fields: {shown:?}");
    };
    Line {
        name: name.to_vec(),
        size: stream::decimal(size),
        appending: match appending {
            b"yes" => true,
            b"no" => false,
            _ => panic!("{shown:?}"),
        },
    }
}

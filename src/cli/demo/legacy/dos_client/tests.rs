//! The client against a server of a few lines, which answers what it is told to.

use bytes::Bytes;
use tokio::{io::AsyncWriteExt, task::JoinHandle};

use super::*;

/// A journal and its client, connected to a listener in this process.
struct Stage {
    listener: net::TcpListener,
    journal: Arc<Journal>,
    client: JoinHandle<String>,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn with(local: &'static [u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(dir.path().join("An App-w.journal")).unwrap());
        journal.append(Bytes::from_static(local)).unwrap();
        let listener = net::bind("127.0.0.1:0").await.unwrap();
        let client = DosClient {
            server: listener.local_addr().unwrap().to_string(),
            worker: "w".into(),
            journal: journal.clone(),
        };
        Self {
            listener,
            journal,
            client: tokio::spawn(client.run(|_| {})),
            _dir: dir,
        }
    }

    /// A connection up to append mode, where the server has so much.
    async fn appending(&self, listing: &str, offset: u64) -> net::Connection {
        let mut server = self.listener.accept().await;
        answer(&mut server, b"uw", b"ok").await;
        answer(&mut server, b"l", listing.as_bytes()).await;
        let request = format!("aAn App-w.journal\t{offset}");
        answer(&mut server, request.as_bytes(), b"ok").await;
        server
    }
}

async fn reply(server: &mut net::Connection, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    server.write_u32(length).await.unwrap();
    server.write_all(payload).await.unwrap();
}

async fn answer(server: &mut net::Connection, expected: &[u8], payload: &[u8]) {
    assert_eq!(frame(server).await.unwrap(), expected);
    reply(server, payload).await;
}

async fn sent(server: &mut net::Connection, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    server.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_client_sends_what_the_server_lacks_and_then_every_write() {
    let stage = Stage::with(b"abcdef").await;
    let listing = "An App-w.journal\t2\tno\tmore\nother\t9\tyes\n";
    let mut server = stage.appending(listing, 2).await;
    assert_eq!(sent(&mut server, 4).await, b"cdef");
    stage.journal.append(Bytes::from_static(b"gh")).unwrap();
    assert_eq!(sent(&mut server, 2).await, b"gh");
    reply(&mut server, b"8\t2").await;
    stage.journal.append(Bytes::from_static(b"i")).unwrap();
    assert_eq!(sent(&mut server, 1).await, b"i");
}

#[tokio::test]
async fn a_client_waits_while_somebody_appends_and_takes_the_size_that_is_there_then() {
    let stage = Stage::with(b"abc").await;
    let mut server = stage.listener.accept().await;
    answer(&mut server, b"uw", b"ok").await;
    answer(&mut server, b"l", b"An App-w.journal\t1\tyes\n").await;
    answer(&mut server, b"l", b"An App-w.journal\t2\tno\n").await;
    answer(&mut server, b"aAn App-w.journal\t2", b"ok").await;
    assert_eq!(sent(&mut server, 1).await, b"c");
}

#[tokio::test]
async fn a_refused_or_lost_connection_is_made_anew_and_nothing_is_sent_twice() {
    let stage = Stage::with(b"abc").await;
    let mut server = stage.listener.accept().await;
    answer(&mut server, b"uw", b"ERROR: no").await;
    let mut server = stage.appending("", 0).await;
    assert_eq!(sent(&mut server, 3).await, b"abc");
    drop(server);
    stage.journal.append(Bytes::from_static(b"d")).unwrap();
    let mut server = stage.appending("An App-w.journal\t3\tno\n", 3).await;
    assert_eq!(sent(&mut server, 1).await, b"d");
}

#[tokio::test]
async fn a_server_that_has_more_than_the_worker_is_the_workers_end() {
    let stage = Stage::with(b"abc").await;
    let _server = stage.appending("An App-w.journal\t4\tno\n", 4).await;
    let why = stage.client.await.unwrap();
    assert!(why.contains("4 bytes of a journal of 3"), "{why}");
}

#[tokio::test]
async fn any_frame_but_a_status_in_append_mode_is_the_workers_end() {
    let stage = Stage::with(b"").await;
    let mut server = stage.appending("", 0).await;
    reply(&mut server, b"ERROR: disk full").await;
    let why = stage.client.await.unwrap();
    assert!(why.contains("ERROR: disk full"), "{why}");
}

#[tokio::test]
async fn two_seconds_after_back_pressure_the_connection_is_dropped_even_if_it_is_over() {
    let stage = Stage::with(b"").await;
    let mut server = stage.appending("", 0).await;
    let mut written = 0;
    // More than the kernel takes, in pieces that are kept.
    for _ in 0..64 {
        let piece = Bytes::from(vec![1; 512 << 10]);
        written += piece.len();
        stage.journal.append(piece).unwrap();
        tokio::task::yield_now().await;
    }
    let began = time::Instant::now();
    assert!(sent(&mut server, written).await.iter().all(|b| *b == 1));
    assert!(server.read_u8().await.is_err(), "it is closed");
    assert!(began.elapsed() > Duration::from_secs(1));
    let listing = format!("An App-w.journal\t{written}\tno\n");
    let _server = stage.appending(&listing, written as u64).await;
}

#[tokio::test]
async fn no_answer_within_two_seconds_costs_the_connection() {
    let stage = Stage::with(b"").await;
    let mut silent = stage.listener.accept().await;
    assert_eq!(frame(&mut silent).await.unwrap(), b"uw");
    let _server = stage.appending("", 0).await;
}

#[test]
fn a_status_is_two_decimal_numbers() {
    for (payload, is) in [
        (&b"12\t7"[..], true),
        (b"1_000\t7", true),
        (b"12", false),
        (b"12\t", false),
        (b"12\t7\t1", false),
        (b"-1\t7", false),
        (b"ok", false),
    ] {
        assert_eq!(is_status(payload), is, "{payload:?}");
    }
}

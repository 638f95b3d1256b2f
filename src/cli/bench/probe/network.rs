//! What the loopback carries: calls one after the other, and a file.

use std::{io, path::Path};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic_health::{ServingStatus, pb::health_client::HealthClient};

use super::super::{latency::Latencies, line::float};
use crate::env::{
    fs,
    net::{self, ChannelOptions},
    task,
    time::{Duration, Instant},
};

/// Bytes of a call.
const CALL_BYTES: usize = 1 << 10;
/// Bytes that are read and sent at once.
const PIECE_BYTES: usize = 256 << 10;

const ANY_PORT: &str = "127.0.0.1:0";

/// How long calls take that do nothing, each way through a channel and a server as the nodes have them.
pub(super) async fn calls(lasts: Duration) -> io::Result<Latencies> {
    let listener = net::bind(ANY_PORT).await?;
    let address = listener.local_addr()?.to_string();
    let (reporter, service) = tonic_health::server::health_reporter();
    // A question of the length that is wanted: whether a service of that name is well.
    let name = "n".repeat(CALL_BYTES);
    reporter
        .set_service_status(&name, ServingStatus::Serving)
        .await;
    let server = net::server(ChannelOptions::BETWEEN_MEMBERS).add_service(service);
    let serving = task::spawn(server.serve_with_incoming(net::incoming(listener)));
    let channel = net::channel(&address, ChannelOptions::BETWEEN_MEMBERS);
    let mut client = HealthClient::new(channel.map_err(io::Error::other)?);
    let mut latencies = Latencies::new();
    let began = Instant::now();
    while began.elapsed() < lasts {
        let request = tonic_health::pb::HealthCheckRequest {
            service: name.clone(),
        };
        let this_began = Instant::now();
        client.check(request).await.map_err(io::Error::other)?;
        latencies.record(this_began.elapsed());
    }
    serving.abort();
    Ok(latencies)
}

/// Bytes a second of a file that is in memory, read and sent to a receiver that throws them away.
pub(super) async fn copy(dir: &Path, bytes: u64) -> io::Result<f64> {
    let path = dir.join("copied");
    let written = path.clone();
    task::blocking(move || {
        let (file, piece) = (
            fs::open_or_create(&written)?,
            super::disk::random(PIECE_BYTES),
        );
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(usize::MAX);
            let piece = &piece[..length.min(piece.len())];
            fs::write_all_at(&file, piece, at)?;
            at += piece.len() as u64;
        }
        file.sync_all()
    })
    .await?;
    let listener = net::bind(ANY_PORT).await?;
    let mut sender = net::connect(&listener.local_addr()?.to_string()).await?;
    let mut receiver = listener.accept().await;
    let began = Instant::now();
    let received = task::spawn(async move {
        let (mut buffer, mut received) = (vec![0; PIECE_BYTES], 0);
        loop {
            match receiver.read(&mut buffer).await? {
                0 => return Ok::<u64, io::Error>(received),
                some => received += some as u64,
            }
        }
    });
    let (mut at, mut buffer) = (0, vec![0; PIECE_BYTES]);
    let file = fs::open(&path)?;
    while at < bytes {
        let length = usize::try_from(bytes - at).unwrap_or(usize::MAX);
        let length = length.min(PIECE_BYTES);
        // From memory, so it does not block.
        fs::read_exact_at(&file, &mut buffer[..length], at)?;
        sender.write_all(&buffer[..length]).await?;
        at += length as u64;
    }
    sender.shutdown().await?;
    let received = received.await??;
    let rate = float(received) / began.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(rate)
}

//! Writers that speak the legacy protocol, as the original's workers do: a connection each, and an append is durable when a status
//! frame says so.

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};

use super::{load::Writer, workload::Shape};
use crate::{
    cli::{
        demo::dos_client::{self, Ended},
        exit::Failure,
    },
    env::{net, rng},
};

/// A connection in append mode.
#[derive(Debug)]
pub(super) struct Legacy {
    address: String,
    reader: ReadHalf<net::Connection>,
    writer: WriteHalf<net::Connection>,
    /// One past the last byte sent.
    end: u64,
    /// What the newest status said.
    synced: u64,
}

impl Legacy {
    /// A connection that appends to a file that is not there yet.
    async fn open(address: &str, directory: &str, file: &str) -> Result<Self, Failure> {
        let failed = |error: Ended| lost(address, &error.to_string());
        let connection = net::connect(address).await;
        let connection = connection.map_err(|error| lost(address, &error.to_string()))?;
        let (mut reader, mut writer) = tokio::io::split(connection);
        for request in [format!("u{directory}"), format!("a{file}\t0")] {
            dos_client::request(&mut reader, &mut writer, &request)
                .await
                .map_err(failed)?;
        }
        Ok(Self {
            address: address.to_owned(),
            reader,
            writer,
            end: 0,
            synced: 0,
        })
    }
}

impl Writer for Legacy {
    async fn append(&mut self, bytes: Bytes) -> Result<u64, Failure> {
        let written = self.writer.write_all(&bytes).await;
        written.map_err(|error| lost(&self.address, &error.to_string()))?;
        self.end += bytes.len() as u64;
        Ok(self.end)
    }

    async fn durable(&mut self, offset: u64) -> Result<u64, Failure> {
        while self.synced < offset {
            let synced = dos_client::next_synced(&mut self.reader).await;
            self.synced = synced.map_err(|error| lost(&self.address, &error.to_string()))?;
        }
        Ok(self.synced)
    }

    async fn close(mut self) -> Result<(), Failure> {
        let closed = self.writer.shutdown().await;
        closed.map_err(|error| lost(&self.address, &error.to_string()))?;
        let end = self.end;
        self.durable(end).await?;
        Ok(())
    }
}

fn lost(address: &str, why: &str) -> Failure {
    let message = format!("the legacy connection to {address} is of no use: {why}");
    Failure::error(message).try_next("see the log of that node, or of its gateway")
}

/// Opens a file for each writer, in a directory that nobody else has; the writers go round the addresses.
pub(super) async fn open(addresses: &[String], shape: Shape) -> Result<Vec<Legacy>, Failure> {
    let directory = format!("bench-{:08x}", rng::u64() >> 32);
    let mut writers = Vec::new();
    for (number, address) in (0..shape.writers).zip(addresses.iter().cycle()) {
        writers.push(Legacy::open(address, &directory, &format!("w{number}")).await?);
    }
    Ok(writers)
}

//! Writers that use the client, as our own workers do.

use bytes::Bytes;

use super::{load::Writer, workload::Shape};
use crate::{
    cli::exit::Failure,
    client::{AppendOptions, AppendStream, AppendWatch, Client, ClientError},
    domain::{JobName, JournalKind, JournalName, JournalRef, Offset, WorkerName, WorkerRef},
    env::rng,
};

/// Opens that are on their way at a time: 1,024 one after the other would take long.
const OPENS_AT_ONCE: usize = 16;

/// An append stream.
#[derive(Debug)]
pub(super) struct Native {
    stream: AppendStream,
    watch: AppendWatch,
}

impl Writer for Native {
    async fn append(&mut self, bytes: Bytes) -> Result<u64, Failure> {
        Ok(self.stream.append(bytes).await?.0)
    }

    async fn durable(&mut self, offset: u64) -> Result<u64, Failure> {
        Ok(self.watch.wait_durable(Offset(offset)).await?.durable.0)
    }

    async fn close(self) -> Result<(), Failure> {
        self.stream.close().await?;
        Ok(())
    }
}

/// A worker that nobody else has, in a job of its own.
pub(super) fn fresh_worker() -> Result<WorkerRef, Failure> {
    let invalid = |error: crate::domain::NameError| Failure::error(error.to_string());
    let job = format!("bench-{:08x}", rng::u64() >> 32);
    Ok(WorkerRef {
        job: JobName::new(&job).map_err(invalid)?,
        worker: WorkerName::new("w").map_err(invalid)?,
    })
}

/// The journal of writer `number`.
pub(super) fn journal(worker: &WorkerRef, number: usize) -> JournalRef {
    let name = JournalName::new(&format!("w{number}"));
    worker.journal(name.unwrap_or_else(|_| unreachable!("a valid name")))
}

/// Opens a journal of `worker` for each writer; the writers share the clients.
pub(super) async fn open(
    clients: &[Client],
    worker: &WorkerRef,
    shape: Shape,
) -> Result<Vec<Native>, ClientError> {
    let mut writers = Vec::new();
    let Some(first) = clients.first() else {
        return Ok(writers);
    };
    let (epoch, _) = first.open_worker(worker, None).await?;
    let opens = (0..shape.writers).zip(clients.iter().cycle());
    let opens =
        opens.map(|(number, client)| {
            let options = AppendOptions {
                // Appends are bounded by their number, not by this.
                window_bytes: 4 * shape.window * shape.payload.max(1024),
                ..AppendOptions::of(client)
            };
            let journal = journal(worker, number);
            async move {
                AppendStream::open(client, &journal, JournalKind::Raw, epoch, None, options).await
            }
        });
    let opens = futures::stream::iter(opens);
    let mut opened = std::pin::pin!(futures::StreamExt::buffered(opens, OPENS_AT_ONCE));
    while let Some(stream) = futures::StreamExt::next(&mut opened).await {
        let stream = stream?;
        let watch = stream.watch();
        writers.push(Native { stream, watch });
    }
    Ok(writers)
}

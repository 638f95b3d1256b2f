//! Whether a local file continues what the cluster has of its journal.

use std::{path::Path, sync::Arc};

use super::fault::MirrorFault;
use crate::{
    client::{Client, ClientError, Floor, local_journal::read_block},
    domain::{JournalRef, Offset},
    env::{fs::File, task},
};

/// Most bytes compared: the last ones before the cluster's tail.
const COMPARED_BYTES_MAX: u64 = 64 * 1024;

/// Checks that the local file has everything before `tail`, and that the last bytes before it are the cluster's, by
/// their CRC-32C. `log_index` is one at which the journal had that tail.
///
/// # Errors
/// `Shorter` or `Different`; or what stopped the reads.
pub(super) async fn compare(
    client: &Client,
    journal: &JournalRef,
    path: &Path,
    file: &Arc<File>,
    tail: Offset,
    log_index: u64,
) -> Result<(), MirrorFault> {
    let look = |error| ClientError::local("look at", path, error);
    let local = Offset(file.metadata().map_err(look)?.len());
    if local < tail {
        return Err(MirrorFault::Shorter {
            path: path.to_owned(),
            journal: journal.clone(),
            local,
            tail,
        });
    }
    let from = Offset(tail.0.saturating_sub(COMPARED_BYTES_MAX));
    let bytes = tail.since(from);
    let Ok(length) = usize::try_from(bytes) else {
        return Ok(()); // 64 KiB fit
    };
    if length == 0 {
        return Ok(());
    }
    let block = {
        let file = file.clone();
        task::blocking(move || read_block(&file, from, length)).await
    };
    let block = block.map_err(|error| ClientError::local("read", path, error))?;
    let here = crc32c::crc32c(&block);
    let floor = Floor::LogIndex(log_index);
    let mut read = client.read(journal, from, Some(tail), floor).await?;
    let mut there = 0;
    while let Some((_, piece)) = read.next().await? {
        there = crc32c::crc32c_append(there, &piece);
    }
    if here == there {
        return Ok(());
    }
    Err(MirrorFault::Different {
        path: path.to_owned(),
        journal: journal.clone(),
        bytes,
        tail,
        here,
        there,
    })
}

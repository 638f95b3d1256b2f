//! Where fetched journals may end: behind a whole record or entry, here and in the cluster.

use std::path::Path;

use super::cure::Cure;
use crate::{
    client::{
        Client, ClientError,
        local_journal::{RecordsError, blocks, read_records},
        restore::{RestoreOptions, takeover},
    },
    codec::{
        evlog::{Entry, EventError, EventReader},
        ops::Tail,
    },
    domain::{JournalName, Offset, TakenOver},
    env::{
        fs::{self, File},
        task,
    },
};

/// Cuts what the takeover left torn, here and in the cluster: nothing can be appended behind half an entry. Afterwards every
/// file is as long as its journal. Rounds are few: each cuts, and what is cut is whole.
///
/// # Errors
/// `NotStartable` when a checkpoint covers a torn entry, or an event log is malformed; as any call, and a disk.
pub(super) async fn cut_torn(
    client: &Client,
    options: &RestoreOptions,
    cure: &Cure,
    taken: &mut TakenOver,
    journals: &Path,
) -> Result<(), ClientError> {
    loop {
        let lengths: Vec<_> = taken
            .journals
            .iter()
            .map(|(name, (_, _, tail))| (name.clone(), *tail))
            .collect();
        let (looking, directory) = (cure.clone(), journals.to_owned());
        let torn = task::blocking(move || {
            for (name, tail) in lengths {
                let path = directory.join(name.as_str());
                let file =
                    fs::open_or_create(&path).map_err(|e| ClientError::local("open", &path, e))?;
                // A takeover that had to be repeated may have cut more than the first one.
                file.set_len(tail.0)
                    .map_err(|e| ClientError::local("cut", &path, e))?;
                let ends = if looking.family.ops == name {
                    ops_end(&name, &path, &file, tail)?
                } else {
                    let events = read_events(&path, &file, tail.0, |_| {})?;
                    events.map_err(|error| {
                        looking.not_startable(format!("journal {name}: {error}"))
                    })?
                };
                if let Tail::Torn { offset, .. } = ends {
                    return Ok(Some((name, Offset(offset))));
                }
            }
            Ok(None)
        })
        .await?;
        let Some((name, at)) = torn else {
            return Ok(());
        };
        let journal = options.worker.journal(name.clone());
        let before = taken.journals.get(&name).map(|(_, _, tail)| *tail);
        if !takeover::cut(client, taken, &journal, at, &options.by).await? {
            let why = format!("a checkpoint covers journal {name} up to within the entry at {at}");
            return Err(cure.not_startable(why));
        }
        if let Some(before) = before {
            taken.cut.entry(name).or_insert(before);
        }
    }
}

fn ops_end(
    name: &JournalName,
    path: &Path,
    file: &File,
    tail: Offset,
) -> Result<Tail, ClientError> {
    let failed = |error| match error {
        RecordsError::Read(e) => ClientError::local("read", path, e),
        RecordsError::Malformed(source) => ClientError::MalformedJournal {
            journal: name.clone(),
            source,
        },
    };
    read_records(file, tail.0, |_| Ok(()), failed)
}

/// Reads the entries of the first `length` bytes of an event log. Memory is one block and one entry.
pub(super) fn read_events(
    path: &Path,
    file: &File,
    length: u64,
    mut each: impl FnMut(Entry),
) -> Result<Result<Tail, EventError>, ClientError> {
    let mut reader = EventReader::new(0);
    for block in blocks(file, length) {
        let (_, block) = block.map_err(|e| ClientError::local("read", path, e))?;
        reader.push(block);
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => each(entry),
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(reader.finish()))
}

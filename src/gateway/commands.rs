//! The commands that leave a connection in command mode: `l`, `s`, `d`, `g`.

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::{
    connection::{Answered, Connection, Ended},
    names, store,
};
use crate::{
    client::{ClientError, Floor},
    codec::legacy::{self, Listed, Number, Reply},
    domain::Offset,
};

/// What the original says of the size of a directory.
const DIRECTORY_BYTES: u64 = 4096;
/// What a worker is told whose request the cluster did not carry out in time.
const NO_ANSWER: &str = "the cluster does not answer";

/// What a worker is told of an error: a decision in its own words, of anything else no more than that, for the words would name
/// nodes.
pub(super) fn told(error: &ClientError) -> Reply {
    Reply::Error(
        error
            .rejected()
            .map_or_else(|| NO_ANSWER.to_owned(), ToString::to_string),
    )
}

/// Whether that is what a worker is told when the cluster did not answer.
pub(super) fn is_no_answer(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(why) if why == NO_ANSWER)
}

/// `l`: the files of the directory; of the root, the workers. A directory that can be none closes.
pub(super) async fn list(connection: &mut Connection) -> Result<(), Ended> {
    let served = connection.served.clone();
    let dir = names::worker(&served.job, &connection.dir);
    let dir = dir.map_err(|fault| Ended::Refused(fault.to_string()))?;
    let listed = connection.held(async {
        let Some(worker) = dir else {
            let workers = store::workers(&served.client, &served.job).await?;
            let listed = workers.into_iter().map(|name| Listed {
                name: name.into(),
                size: DIRECTORY_BYTES,
                appending: false,
            });
            return Ok::<_, ClientError>(listed.collect());
        };
        let journals = store::journals(&served.client, &worker).await?;
        let listed = journals.into_iter().map(|(name, seen)| Listed {
            name: name.into(),
            size: seen.tail,
            appending: seen.appending,
        });
        Ok(listed.collect())
    });
    let listed = listed.await??;
    connection
        .reply(&Reply::Data(legacy::listing(listed)))
        .await
}

/// `s`: the length of a file, which is durable; a missing one is made.
pub(super) async fn sync(connection: &mut Connection, name: &Bytes) -> Result<(), Ended> {
    let journal = match connection.journal(name) {
        Ok(journal) => journal,
        Err(fault) => return Err(connection.refuse(Reply::Error(fault.to_string())).await),
    };
    let served = connection.served.clone();
    let synced = store::length_or_create(&served.client, &journal);
    match connection.held(synced).await? {
        Ok(tail) => connection.reply(&Reply::Synced(tail)).await,
        Err(error) => {
            tracing::debug!(%journal, %error, "legacy sync failed");
            Err(connection.refuse(told(&error)).await)
        }
    }
}

/// `d`: deletes a file. There is one answer for all that can go wrong.
pub(super) async fn delete(connection: &mut Connection, name: &Bytes) -> Result<Answered, Ended> {
    let Ok(journal) = connection.journal(name) else {
        connection.reply(&Reply::DeleteFailed).await?;
        return Ok(Answered::Refused);
    };
    let client = connection.served.client.clone();
    let deleted = store::delete(&client, &journal);
    let Err(error) = connection.held(deleted).await? else {
        connection.reply(&Reply::Ok).await?;
        return Ok(Answered::Done);
    };
    tracing::debug!(%journal, %error, "legacy delete failed");
    connection.reply(&Reply::DeleteFailed).await?;
    Ok(match error.rejected() {
        Some(_) => Answered::Refused,
        None => Answered::Unanswered,
    })
}

/// `g`: one frame of exactly as many bytes as there are of what was asked for. Whatever goes wrong closes.
pub(super) async fn get(
    connection: &mut Connection,
    name: &Bytes,
    offset: &Number,
    size: &Number,
) -> Result<(), Ended> {
    let journal = connection.journal(name);
    let journal = journal.map_err(|fault| Ended::Refused(fault.to_string()))?;
    let client = connection.served.client.clone();
    let length = connection.held(store::length(&client, &journal)).await?;
    let Some((tail, log_index)) = length? else {
        return Err(Ended::Refused(format!("there is no journal {journal}")));
    };
    let (from, bytes) = range(tail, offset, size);
    let Some(header) = legacy::data_header(bytes) else {
        return Err(Ended::Refused(format!(
            "{bytes} bytes of journal {journal} are more than a reply holds"
        )));
    };
    if bytes == 0 {
        connection.socket.write_all(&header).await?;
        return Ok(());
    }
    let to = Offset(from + bytes);
    let read = client.read(&journal, Offset(from), Some(to), Floor::LogIndex(log_index));
    let mut read = connection.held(read).await??;
    connection.socket.write_all(&header).await?;
    while let Some((_, data)) = connection.held(read.next()).await?? {
        connection.socket.write_all(&data).await?;
    }
    Ok(())
}

/// From where, and how many bytes, of a file of `tail` bytes.
fn range(tail: u64, offset: &Number, size: &Number) -> (u64, u64) {
    let from = offset.clamped().min(tail);
    let rest = tail - from;
    let bytes = match size.offset() {
        Some(0) => rest,
        _ => size.clamped().min(rest),
    };
    (from, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_there_is_of_what_was_asked_for() {
        let number = |text: &str| Number::parse(text.as_bytes()).unwrap();
        for (offset, size, wanted) in [
            ("0", "0", (0, 70)),
            ("20", "0", (20, 50)),
            ("-5", "10", (0, 10)),
            ("69", "10", (69, 1)),
            ("70", "0", (70, 0)),
            ("999999999999999999999999", "1", (70, 0)),
            ("0", "-1", (0, 0)),
            ("0", "99999999999999999999999", (0, 70)),
        ] {
            assert_eq!(
                range(70, &number(offset), &number(size)),
                wanted,
                "{offset} {size}"
            );
        }
    }
}

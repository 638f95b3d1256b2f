//! Sending a snapshot: offer the files, then stream those that the other side lacks, from where it lacks them.

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use tonic::{Status, transport::Channel};

use super::{
    snapshot::SnapshotHandle,
    types::{TypeConfig, Vote, log_id_to_pb, stored_membership_to_pb, vote_from_pb, vote_to_pb},
};
use crate::{
    env::{fs, task},
    pb,
    pb::raft_client::RaftClient,
};

/// Bytes per message.
const CHUNK_BYTES: usize = 512 * 1024;

fn io_failed(error: &std::io::Error) -> Status {
    Status::internal(format!("cannot read the snapshot to send: {error}"))
}

/// Sends it and gives the receiver's vote.
///
/// # Errors
/// A status: of the connection, of the receiver, or of reading the files.
pub(super) async fn send_snapshot(
    mut client: RaftClient<Channel>,
    header: pb::PeerHeader,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
) -> Result<Vote, Status> {
    let handle = snapshot.snapshot;
    let listed = handle.clone();
    let files = task::blocking(move || listed.files())
        .await
        .map_err(|e| io_failed(&e))?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let manifest = pb::SnapshotManifest {
        header: Some(header),
        vote: Some(vote_to_pb(&vote)),
        last_log_id: snapshot.meta.last_log_id.as_ref().map(log_id_to_pb),
        membership: Some(stored_membership_to_pb(&snapshot.meta.last_membership)),
        files,
        id: handle.id(),
    };
    let wanted = client.offer_snapshot(manifest.clone()).await?.into_inner();
    if let Some(higher) = wanted.higher_vote {
        return vote_from_pb(Some(higher)).map_err(|e| Status::internal(e.to_string()));
    }
    tracing::info!(bytes, files = wanted.files.len(), index = ?snapshot.meta.last_log_id, "send a snapshot");

    let chunks = async_stream::stream! {
        yield pb::SnapshotChunk { manifest: Some(manifest.clone()), ..Default::default() };
        for file in wanted.files {
            let Some(of) = manifest.files.iter().find(|of| of.name == file.name) else { continue };
            let mut at = file.from;
            while at < of.bytes {
                let part = usize::try_from(of.bytes - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
                let path = handle.dir().join(&of.name);
                let read = task::blocking(move || {
                    let mut data = vec![0; part];
                    fs::read_exact_at(&fs::open(&path)?, &mut data, at)?;
                    std::io::Result::Ok(Bytes::from(data))
                });
                let data = match read.await {
                    Ok(data) => data,
                    Err(error) => {
                        // Ends the stream early: the receiver keeps what it has and reports what it lacks.
                        tracing::error!(file = %of.name, at, %error, "cannot read a snapshot that is being sent");
                        return;
                    }
                };
                let crc32c = crc32c::crc32c(&data);
                let next = at + data.len() as u64;
                yield pb::SnapshotChunk { manifest: None, file: of.name.clone(), at, data, crc32c };
                at = next;
            }
        }
    };
    let answer = client.send_snapshot(chunks).await?.into_inner();
    vote_from_pb(answer.vote).map_err(|e| Status::internal(e.to_string()))
}

//! Reads from nodes that fail and lie.

use bytes::Bytes;

use super::super::{
    AppendOptions, AppendStream, Client, ErrorKind, Floor,
    testing::{FakeCluster, RAW, open_worker},
};
use super::pattern;
use crate::domain::{JournalRef, Offset, Rejected};

async fn filled(cluster: &FakeCluster, bytes: &[u8]) -> (Client, JournalRef) {
    let client = cluster.client(&[0, 1]);
    let (epoch, journal) = open_worker(&client, "j").await;
    let options = AppendOptions::of(&client);
    let stream = AppendStream::open(&client, &journal, RAW, epoch, None, options);
    let mut stream = stream.await.unwrap();
    stream.append(Bytes::copy_from_slice(bytes)).await.unwrap();
    stream.close().await.unwrap();
    (client, journal)
}

async fn read(client: &Client, journal: &JournalRef, from: u64, to: Option<u64>) -> Vec<u8> {
    let reader = client.read(journal, Offset(from), to.map(Offset), Floor::Linearizable);
    let mut reader = reader.await.unwrap();
    let mut bytes = Vec::new();
    while let Some((at, piece)) = reader.next().await.unwrap() {
        assert_eq!(at, Offset(from + bytes.len() as u64));
        bytes.extend(&piece);
    }
    bytes
}

#[tokio::test]
async fn a_range_reads_as_it_was_written() {
    let cluster = FakeCluster::start(2).await;
    let sent = pattern(55_000);
    let (client, journal) = filled(&cluster, &sent).await;
    assert_eq!(read(&client, &journal, 0, None).await, sent);
    assert_eq!(
        read(&client, &journal, 12_345, Some(54_321)).await,
        sent[12_345..54_321]
    );
    assert_eq!(read(&client, &journal, 55_000, None).await, b"");
    let beyond = client
        .read(&journal, Offset(0), Some(Offset(55_001)), Floor::Stale)
        .await;
    assert_eq!(beyond.unwrap_err().kind(), ErrorKind::Other);
    let unknown = journal.owner.journal("other".parse().unwrap());
    let unknown = client
        .read(&unknown, Offset(0), None, Floor::Stale)
        .await
        .unwrap_err();
    assert!(
        matches!(unknown.rejected(), Some(Rejected::UnknownJournal { .. })),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_read_goes_on_at_another_node_when_one_breaks_or_lies() {
    let cluster = FakeCluster::start(2).await;
    let sent = pattern(55_000);
    let (client, journal) = filled(&cluster, &sent).await;
    cluster.fault(0, |faults| faults.break_reads_after = Some(2));
    assert_eq!(read(&client, &journal, 0, None).await, sent);
    assert_eq!(cluster.fired(0).broken_reads, 1);
    cluster.fault(0, |faults| {
        faults.break_reads_after = None;
        faults.corrupt_reads = true;
    });
    assert_eq!(
        read(&cluster.client(&[0, 1]), &journal, 0, None).await,
        sent
    );
    assert!(cluster.fired(0).corrupt_reads > 0);
}

#[tokio::test]
async fn bytes_that_verify_nowhere_are_a_verification_failure() {
    let cluster = FakeCluster::start(2).await;
    let (client, journal) = filled(&cluster, &pattern(20_000)).await;
    for node in 0..2 {
        cluster.fault(node, |faults| faults.corrupt_reads = true);
    }
    let reader = client.read(&journal, Offset(0), None, Floor::Linearizable);
    let error = reader.await.unwrap().next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    assert!(error.to_string().contains(&cluster.address(1)), "{error}");
    assert!((0..2).all(|node| cluster.fired(node).corrupt_reads > 0));
}

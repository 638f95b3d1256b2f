//! Whole nodes in one process, on real sockets and disks.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::{
    client::{AppendOptions, AppendStream, Client, ClientOptions, Floor},
    domain::{Epoch, JournalKind, JournalRef, Offset},
};

struct Started {
    address: String,
    stop: oneshot::Sender<()>,
    ended: crate::env::task::JoinHandle<Result<(), Fault>>,
}

/// Ports that were free a moment ago; a node keeps its own over a restart, as in real life.
fn free_ports() -> [String; 2] {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = [bind(), bind()];
    bound.map(|listener| listener.local_addr().unwrap().to_string())
}

async fn start(dir: &Path, ports: &[String; 2]) -> Started {
    let config = NodeConfig {
        data_dir: dir.to_owned(),
        client_listen: ports[0].clone(),
        peer_listen: ports[1].clone(),
        http_listen: "127.0.0.1:0".to_owned(),
        segment_bytes: 4 << 20,
        state_memory_bytes: 16 << 20,
        ..NodeConfig::default()
    };
    let node = Node::start(config).await.unwrap();
    let address = node.client_address().to_owned();
    let (stop, stopped) = oneshot::channel();
    let run = node.run(async move {
        let _ = stopped.await;
    });
    Started {
        address,
        stop,
        ended: crate::env::task::spawn(run),
    }
}

impl Started {
    async fn stop(self) {
        let _ = self.stop.send(());
        self.ended.await.unwrap().unwrap();
    }
}

async fn cluster(dirs: &[TempDir], ports: &[[String; 2]]) -> (Vec<Started>, Client) {
    let mut nodes = Vec::new();
    for (dir, ports) in dirs.iter().zip(ports) {
        nodes.push(start(dir.path(), ports).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let client = Client::new(ClientOptions::new(addresses.clone())).unwrap();
    client.init(&addresses).await.unwrap();
    (nodes, client)
}

async fn write(client: &Client, journal: &JournalRef, from: u64, data: &Bytes) {
    client.open_worker(&journal.owner, None).await.unwrap();
    let epoch = Epoch(1);
    let options = AppendOptions::of(client);
    let mut stream = AppendStream::open(
        client,
        journal,
        JournalKind::Raw,
        epoch,
        Some(Offset(from)),
        options,
    )
    .await
    .unwrap();
    stream.append(data.clone()).await.unwrap();
    let progress = stream.close().await.unwrap();
    assert_eq!(progress.durable.0, from + data.len() as u64);
}

async fn read(client: &Client, journal: &JournalRef) -> Vec<u8> {
    let mut reader = client
        .read(journal, Offset::ZERO, None, Floor::Linearizable)
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while let Some((at, part)) = reader.next().await.unwrap() {
        assert_eq!(at.0, bytes.len() as u64);
        bytes.extend_from_slice(&part);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_appends_and_serves_what_is_durable_also_after_a_restart_of_all() {
    let dirs = [
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    ];
    let ports = [free_ports(), free_ports(), free_ports()];
    let (nodes, _) = cluster(&dirs, &ports).await;
    let data = Bytes::from(vec![7; 3 << 20]);
    for (i, node) in nodes.iter().enumerate() {
        let client = Client::new(ClientOptions::new([node.address.clone()])).unwrap();
        let journal: JournalRef = format!("job/worker{i}/log").parse().unwrap();
        write(&client, &journal, 0, &data).await;
    }
    for node in &nodes {
        let client = Client::new(ClientOptions::new([node.address.clone()])).unwrap();
        for i in 0..3 {
            assert_eq!(
                read(&client, &format!("job/worker{i}/log").parse().unwrap()).await,
                data
            );
        }
    }
    for node in nodes {
        node.stop().await;
    }

    let mut nodes = Vec::new();
    for (dir, ports) in dirs.iter().zip(&ports) {
        nodes.push(start(dir.path(), ports).await);
    }
    let client = Client::new(ClientOptions::new([nodes[1].address.clone()])).unwrap();
    let journal: JournalRef = "job/worker2/log".parse().unwrap();
    assert_eq!(read(&client, &journal).await, data);
    write(&client, &journal, data.len() as u64, &data).await;
    for node in nodes {
        tokio::time::timeout(Duration::from_secs(20), node.stop())
            .await
            .unwrap();
    }
}

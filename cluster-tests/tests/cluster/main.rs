//! The cluster tests: one program, so that it is linked once. Each test is a story in named phases, on real processes.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "tests: a failure is a panic, nothing is simulated, and a story is told in one piece"
)]

mod any_node;
mod bad_data_dirs;
mod bad_requests;
mod bad_starts;
mod bench;
mod bounded;
mod cli;
mod damage;
mod demo;
mod demo_legacy;
mod durability;
mod endpoint;
mod fencing;
mod foreign;
mod gateway;
mod health;
mod joining;
mod legacy_advice;
mod legacy_edges;
mod legacy_hostile;
mod legacy_line;
mod legacy_metrics;
mod legacy_protocol;
mod legacy_restore;
mod legacy_streams;
mod legacy_vanished;
mod line;
mod membership;
mod mirror;
mod restore;
mod tidy;
mod tour;
mod worker;

use dos_cluster::domain::JournalRef;
use dos_cluster_tests::{Load, TestCluster, assert_pattern, raw};

fn journal(name: &str) -> JournalRef {
    name.parse().unwrap()
}

/// Reads a journal at one node, everything acknowledged before now included, and checks every byte; answers its length.
async fn verify_at(
    cluster: &TestCluster,
    place: usize,
    journal: &JournalRef,
    seed: u64,
    at_least: u64,
) -> u64 {
    let bytes = raw::read(cluster.nodes[place].address(), journal, raw::linearizable())
        .await
        .unwrap();
    assert_pattern(seed, 0, &bytes);
    let length = bytes.len() as u64;
    assert!(
        length >= at_least,
        "{} lost bytes: {at_least} were durable, {length} are there",
        cluster.nodes[place].name
    );
    length
}

/// The same at every running node, which must all have the same length.
async fn verify_everywhere(
    cluster: &TestCluster,
    journal: &JournalRef,
    seed: u64,
    at_least: u64,
) -> u64 {
    let mut lengths = Vec::new();
    for place in (0..cluster.nodes.len()).filter(|place| cluster.nodes[*place].is_running()) {
        lengths.push(verify_at(cluster, place, journal, seed, at_least).await);
    }
    assert!(
        lengths.windows(2).all(|pair| pair[0] == pair[1]),
        "nobody writes, but lengths differ: {lengths:?}"
    );
    lengths[0]
}

/// Ends a writer in order, and checks that every node holds exactly what it wrote; answers the journal, the seed and the length.
async fn stop_and_verify(cluster: &TestCluster, load: Load) -> (JournalRef, u64, u64) {
    let (journal, seed) = (load.journal().clone(), load.seed());
    let total = load.stop().await;
    assert_eq!(
        verify_everywhere(cluster, &journal, seed, total).await,
        total
    );
    (journal, seed, total)
}

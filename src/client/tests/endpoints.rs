//! Watches of endpoints: what ends them, and what another node carries on.

use std::time::Duration;

use super::super::{
    Client, ClientError, EndpointWatch,
    testing::{FakeCluster, open_worker, worker},
};
use crate::domain::{Addresses, Rejected};

/// Longer than this nothing may take here.
const WITHIN: Duration = Duration::from_secs(30);

/// Sets the endpoint of the test's worker; answers its generation.
async fn set(client: &Client) -> u64 {
    let address = ("control".to_owned(), "h:1".to_owned());
    let addresses = Addresses::new([address].into()).unwrap();
    let worker = worker();
    let set = client.set_endpoint(&worker, None, addresses, "a test");
    set.await.unwrap()
}

/// A watch of the test's worker, which has said all there is.
async fn watch(client: &Client) -> EndpointWatch {
    open_worker(client, "log").await;
    assert_eq!(set(client).await, 1);
    let mut watch = client.watch_endpoints(&worker().job).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap(), 1);
    watch
}

/// The generation that is told next of the test's worker.
async fn next(watch: &mut EndpointWatch) -> Result<u64, ClientError> {
    let told = tokio::time::timeout(WITHIN, watch.next()).await;
    let told = told.expect("the watch says something")?;
    Ok(told[&worker()].generation)
}

#[tokio::test]
async fn a_watch_that_one_node_refuses_is_carried_on_by_another() {
    // What a node says when its word to another fails, when its disk does, and what only another version says.
    for code in ["peer", "damaged", "unicorn"] {
        let cluster = FakeCluster::start(3).await;
        let client = cluster.client(&[0]);
        let mut watch = watch(&client).await;
        // The leader is the one that any call asks first.
        for node in [0, 1] {
            cluster.fault(node, |faults| faults.refuse_watches = Some(code));
        }
        assert_eq!(set(&client).await, 2);
        assert_eq!(next(&mut watch).await.unwrap(), 2, "{code}");
        assert!(cluster.fired(0).refused_watches + cluster.fired(1).refused_watches > 0);
    }
}

#[tokio::test]
async fn a_watch_ends_on_answers_that_do_not_parse_only_when_no_node_gives_others() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0]);
    let mut watch = watch(&client).await;
    for node in [0, 1] {
        cluster.fault(node, |faults| faults.malformed_watches = true);
    }
    for generation in 2..5 {
        assert_eq!(set(&client).await, generation);
        assert_eq!(next(&mut watch).await.unwrap(), generation);
    }
    assert!(cluster.fired(0).malformed_watches + cluster.fired(1).malformed_watches > 0);

    cluster.fault(2, |faults| faults.malformed_watches = true);
    let error = next(&mut watch).await.unwrap_err();
    assert!(matches!(error, ClientError::BadAnswer { .. }), "{error}");
    for node in 0..3 {
        assert!(cluster.fired(node).malformed_watches > 0, "node {node}");
    }
}

#[tokio::test]
async fn a_watch_ends_when_its_job_is_there_no_more() {
    let cluster = FakeCluster::start(3).await;
    let client = cluster.client(&[0]);
    let mut watch = watch(&client).await;
    let gone = Rejected::UnknownJob { job: worker().job };
    cluster.forget();
    let error = next(&mut watch).await.unwrap_err();
    assert_eq!(error.rejected(), Some(&gone), "{error}");
}

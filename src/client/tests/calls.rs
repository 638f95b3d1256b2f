//! Unary calls: whom they ask, what they repeat, what they say when they fail.

use std::{collections::BTreeMap, time::Duration};

use super::super::{
    Client, ClientError, ClientOptions, Effect, ErrorKind,
    testing::{FakeCluster, open_worker, worker},
};
use super::foreign_takeover;
use crate::domain::{CheckpointId, Epoch, Rejected, RestorePoint};

#[tokio::test]
async fn any_reachable_endpoint_is_enough_and_leads_to_the_leader() {
    let mut cluster = FakeCluster::start(3).await;
    cluster.lead(2);
    let client = cluster.client(&[0]);
    assert_eq!(
        client.open_worker(&worker(), None).await.unwrap(),
        (Epoch(1), true)
    );
    assert_eq!(cluster.carried_out(2), 1, "it asks the leader");
    // The only endpoint given and the leader die: the third node is known by now.
    cluster.kill(0);
    cluster.kill(2);
    cluster.lead(1);
    assert_eq!(
        client.open_worker(&worker(), None).await.unwrap(),
        (Epoch(1), false)
    );
}

#[tokio::test]
async fn without_any_node_the_error_names_everyone_tried() {
    let mut cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    for node in 0..2 {
        cluster.kill(node);
        cluster.gone(node).await;
    }
    let error = client.open_worker(&worker(), None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::CannotConnect, Effect::None)
    );
    for node in 0..2 {
        assert!(
            error.to_string().contains(&cluster.address(node)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn nodes_without_a_leader_are_asked_until_there_is_one() {
    let cluster = FakeCluster::start(2).await;
    for node in 0..2 {
        cluster.fault(node, |faults| faults.no_leader = true);
    }
    let client = cluster.client(&[0, 1]);
    let worker = worker();
    let (opened, ()) = tokio::join!(client.open_worker(&worker, None), async {
        cluster
            .until("both were asked, and refused", |cluster| {
                (0..2).all(|node| cluster.fired(node).no_leader > 0)
            })
            .await;
        for node in 0..2 {
            cluster.fault(node, |faults| faults.no_leader = false);
        }
    });
    assert_eq!(opened.unwrap().0, Epoch(1));
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_told_from_one_that_is_not_there() {
    let cluster = FakeCluster::start(1).await;
    cluster.fault(0, |faults| faults.no_leader = true);
    let error = cluster
        .client(&[0])
        .open_worker(&worker(), None)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Unhealthy, Effect::None)
    );
    assert!(cluster.fired(0).no_leader > 0);
}

#[tokio::test]
async fn a_node_that_never_answers_is_a_timeout_with_unknown_effect() {
    let silent = crate::env::net::bind("127.0.0.1:0").await.unwrap();
    let mut options = ClientOptions::new([silent.local_addr().unwrap().to_string()]);
    options.timeout = Duration::from_millis(400);
    options.attempt_timeout = Duration::from_millis(200);
    let client = Client::new(options).unwrap();
    let error = client.open_worker(&worker(), None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Timeout, Effect::Unknown),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_safe_to_repeat_is_repeated_after_a_lost_answer() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    cluster.fault(0, |faults| faults.lost_answers = 1);
    client.open_worker(&worker(), None).await.unwrap();
    assert_eq!(cluster.fired(0).lost_answers, 1);
    cluster.fault(0, |faults| faults.lost_answers = 1);
    let id = CheckpointId {
        rollback_epoch: 0,
        number: 4,
    };
    let committed = client
        .commit_checkpoint(&worker(), Epoch(1), id, BTreeMap::new())
        .await;
    assert!(committed.is_ok(), "{committed:?}");
    assert_eq!(cluster.fired(0).lost_answers, 2);
}

#[tokio::test]
async fn a_takeover_without_expected_epoch_is_not_repeated_after_a_lost_answer() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.lost_answers = 1);
    let taken = client
        .takeover(&worker(), None, RestorePoint::Latest, "test")
        .await;
    assert_eq!(taken.unwrap_err().effect(), Effect::Unknown);
    assert_eq!(cluster.fired(0).lost_answers, 1);
    assert_eq!(cluster.epoch(&worker()), Epoch(2), "one takeover, not two");
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_does_not_claim_that_nothing_happened() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    open_worker(&client, "j").await;
    cluster.fault(0, |faults| faults.lost_answers = 1);
    let taken = client
        .takeover(&worker(), Some(Epoch(1)), RestorePoint::Latest, "test")
        .await;
    let error = taken.unwrap_err();
    assert!(
        matches!(error.rejected(), Some(Rejected::EpochFenced { .. })),
        "{error}"
    );
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Rejected, Effect::Unknown)
    );
    assert_eq!(cluster.fired(0).lost_answers, 1);
}

#[tokio::test]
async fn a_node_that_does_not_understand_the_call_says_nothing_of_an_earlier_attempt() {
    let cluster = FakeCluster::start(2).await;
    let client = cluster.client(&[0, 1]);
    cluster.fault(0, |faults| faults.lost_answers = 1);
    cluster.fault(1, |faults| faults.bad_requests = 1); // of another version, say
    let error = client.open_worker(&worker(), None).await.unwrap_err();
    let fired = (cluster.fired(0).lost_answers, cluster.fired(1).bad_requests);
    assert_eq!(fired, (1, 1), "{error}");
    assert_eq!(cluster.epoch(&worker()), Epoch(1), "it was carried out");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
}

#[tokio::test]
async fn a_refusal_is_final_and_says_who_took_over() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client(&[0]);
    open_worker(&client, "j").await;
    cluster.apply(&foreign_takeover(&worker())).unwrap();
    let error = client
        .open_worker(&worker(), Some(Epoch(1)))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ClientError::Rejected {
            effect: Effect::None,
            ..
        }
    ));
    assert!(error.to_string().contains("someone else"), "{error}");
}

#[test]
fn a_client_without_endpoints_or_with_a_bad_one_is_refused() {
    assert!(Client::new(ClientOptions::new(Vec::<String>::new())).is_err());
    assert!(Client::new(ClientOptions::new(["n1:7420", "no address"])).is_err());
}

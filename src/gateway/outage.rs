//! Says when the cluster does not answer. A worker is only made to wait, so nobody else would tell its operator why.

use std::time::Duration;

use super::{connection::Served, metrics::Waiting, store};
use crate::{
    client::{Client, ClientOptions},
    env::time,
};

/// How often it is looked whether somebody waits.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the cluster may take to answer; an election is shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two times that an outage is spoken of.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Asks the cluster while a worker waits for it, and at the beginning if `first`; says that it does not answer, and when it does
/// again. Never ends.
pub(super) async fn watch(served: Served, first: bool) {
    let options = ClientOptions {
        timeout: ANSWER_WITHIN,
        ..served.client.options().clone()
    };
    let Ok(client) = Client::new(options) else {
        return; // these endpoints made a client before
    };
    if first {
        outage(&client, &served).await;
        tracing::info!("the cluster answers");
    }
    loop {
        time::sleep(LOOK_EVERY).await;
        let waits = served.metrics.waiting() != Waiting::default();
        if waits && outage(&client, &served).await {
            tracing::info!("the cluster answers again");
        }
    }
}

/// Until the cluster answers; whether it did not at first.
async fn outage(client: &Client, served: &Served) -> bool {
    let mut silent = false;
    // A read that a majority must have agreed to.
    while let Err(error) = store::workers(client, &served.job).await {
        silent = true;
        let Waiting { requests, bytes } = served.metrics.waiting();
        tracing::warn!(
            %error, held_requests = requests, waiting_bytes = bytes,
            "the cluster does not answer: legacy workers wait; look at `dos-cluster status`, and whether the endpoints are right"
        );
        time::sleep(SAY_EVERY).await;
    }
    silent
}

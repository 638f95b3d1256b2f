//! A second incarnation takes a worker over.

use std::time::Duration;

use dos_cluster::{
    client::{Client, ClientError},
    domain::{Epoch, Rejected, RestorePoint},
};
use dos_jepsen::Event;
use tokio::time::sleep;

use super::Worker;

impl Worker {
    /// Takes the worker over, as often as it takes until an answer arrives; answers the new epoch.
    pub(super) async fn take_over(&self, client: &Client, from: u64) -> u64 {
        let mut expected = from;
        loop {
            let takeover = self.recorder.next_op();
            self.recorder.push(Event::TakeoverBegan {
                takeover,
                worker: self.name.into(),
            });
            let taken = client
                .takeover(
                    &self.worker_ref(),
                    Some(Epoch(expected)),
                    RestorePoint::Latest,
                    "the next incarnation",
                )
                .await;
            match taken {
                Ok(taken) => {
                    let tails = taken
                        .journals
                        .iter()
                        .map(|(name, (.., tail))| (self.journal(name.as_str()), tail.0));
                    self.recorder.push(Event::TakenOver {
                        takeover,
                        worker: self.name.into(),
                        epoch: taken.epoch.0,
                        tails: tails.collect(),
                    });
                    self.recorder.report.borrow_mut().takeovers += 1;
                    return taken.epoch.0;
                }
                Err(error) => {
                    self.recorder.unknown();
                    // Nobody else takes this worker over: it was an attempt of ours whose answer was lost.
                    if let ClientError::Rejected { rejected, .. } = &error
                        && let Rejected::EpochFenced { current, .. } = **rejected
                    {
                        expected = current.0;
                        continue;
                    }
                    self.meaning("take over", &error);
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

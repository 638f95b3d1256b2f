//! What is said of a worker that is not there: which ones are, for its name was most likely mistyped.

use std::collections::BTreeSet;

use crate::{
    client::{Client, ClientError, Effect, Floor},
    codec::wire,
    domain::{Rejected, WorkerRef},
};

/// Most workers, or jobs, that are named.
const NAMED_MAX: usize = 10;

/// The same failure; where it is that the worker is not known, with what is.
pub(super) async fn name_known(
    client: &Client,
    worker: &WorkerRef,
    error: ClientError,
) -> ClientError {
    let rejected = match error {
        ClientError::Rejected {
            rejected,
            effect: Effect::None,
        } if matches!(
            *rejected,
            Rejected::UnknownJob { .. } | Rejected::UnknownWorker { .. }
        ) =>
        {
            rejected
        }
        other => return other,
    };
    let Ok(listed) = client.list_workers(None, Floor::Linearizable).await else {
        let effect = Effect::None;
        return ClientError::Rejected { rejected, effect };
    };
    let known = listed.workers.into_iter();
    let known: Vec<_> = known
        .filter_map(|stat| wire::worker_from_pb(stat.worker).ok())
        .collect();
    ClientError::NoSuchWorker {
        worker: worker.clone(),
        there: there(worker, &known),
        rejected,
    }
}

/// What is there instead of a worker.
fn there(worker: &WorkerRef, known: &[WorkerRef]) -> String {
    let of_job = known.iter().filter(|known| known.job == worker.job);
    let workers: BTreeSet<_> = of_job.map(|known| known.worker.as_str()).collect();
    let jobs: BTreeSet<_> = known.iter().map(|known| known.job.as_str()).collect();
    let job = &worker.job;
    let what = match (workers.is_empty(), jobs.is_empty()) {
        (false, _) => format!("job {job} has {}", named(&workers)),
        (true, false) => format!("there is no job {job}, only {}", named(&jobs)),
        (true, true) => "no worker was ever opened in this cluster".to_owned(),
    };
    format!("{what} (`dos-cluster worker list` shows what is there)")
}

fn named(names: &BTreeSet<&str>) -> String {
    let first: Vec<_> = names.iter().take(NAMED_MAX).copied().collect();
    let more = names.len() - first.len();
    match more {
        0 => first.join(", "),
        _ => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_of_the_job_are_named_or_the_jobs_when_it_has_none() {
        let known = |names: &[&str]| -> Vec<WorkerRef> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let wanted = "tour/w9".parse().unwrap();
        let many: Vec<_> = (0..12).map(|number| format!("tour/v{number:02}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        for (known, said) in [
            (
                known(&["tour/w2", "other/w9", "tour/w1"]),
                "job tour has w1, w2 (",
            ),
            (known(&["b/w9", "a/w9", "a/w8"]), "no job tour, only a, b ("),
            (known(&many), "v08, v09 and 2 more ("),
            (known(&[]), "no worker was ever opened"),
        ] {
            let there = there(&wanted, &known);
            assert!(there.contains(said), "no {said:?} in {there}");
        }
    }
}

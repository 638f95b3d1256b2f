//! Forms the cluster, watches it, and at the end asks every node what it holds. Its own links are never cut.

use std::{collections::BTreeMap, time::Duration};

use dos_cluster::{
    client::{Client, ClientOptions},
    pb,
};
use dos_jepsen::{CheckpointId, Event, FinalCheckpoint, FinalNode, Floor, Name};
use tokio::{task::spawn_local, time::sleep};

use crate::{
    plan::{JOURNALS, NODES, WORKERS, address},
    recorder::{Phase, Shared},
    workload::{NodeClient, journal_name},
};

/// After the repair, every journal is acknowledged anew within this.
pub const RECOVERED_WITHIN: Duration = Duration::from_secs(10);
/// After the repair, all nodes hold the same within this.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
const FORMED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

pub async fn run(recorder: Shared) -> turmoil::Result {
    form(&recorder).await?;
    for node in NODES {
        spawn_local(watch(recorder.clone(), node));
    }
    recorder.phase.set(Phase::Faults);
    while recorder.phase.get() == Phase::Faults {
        sleep(POLL).await;
    }
    recovers(&recorder).await;
    recorder.phase.set(Phase::Drain);
    if !until(&recorder, AGREED_WITHIN, || recorder.writers.get() == 0).await {
        return Err(format!("writers do not end within {AGREED_WITHIN:?} after the repair").into());
    }
    agree(&recorder).await
}

async fn form(recorder: &Shared) -> turmoil::Result {
    let addresses = NODES.map(address);
    let mut options = ClientOptions::new(addresses.clone());
    options.timeout = FORMED_WITHIN;
    let client = Client::new(options)?;
    let began = recorder.elapsed();
    while let Err(error) = client.init(&addresses).await {
        recorder.note(format!("init: {error}"));
        if recorder.elapsed() > began + FORMED_WITHIN {
            return Err(format!("the cluster was not formed: {error}").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Polls a node for what the report and the nemesis want to know.
async fn watch(recorder: Shared, node: &'static str) {
    let mut client = NodeClient::default();
    let mut snapshot = 0;
    loop {
        sleep(Duration::from_millis(150)).await;
        let Ok(status) = client.status(node).await else {
            continue;
        };
        if status.snapshot_index > snapshot {
            snapshot = status.snapshot_index;
            recorder.note(format!(
                "{node} has a snapshot at {snapshot}, log from {}",
                status.purged_index
            ));
            recorder.report.borrow_mut().snapshots += 1;
        }
        let newest = recorder
            .leader
            .borrow()
            .as_ref()
            .map_or(0, |(term, _)| *term);
        if status.state() == pb::NodeState::Leader && status.term > newest {
            recorder.note(format!("{node} leads in term {}", status.term));
            recorder.report.borrow_mut().elections += 1;
            *recorder.leader.borrow_mut() = Some((status.term, node.to_owned()));
        }
    }
}

/// Waits; false when the time is over before.
async fn until(recorder: &Shared, within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = recorder.elapsed() + within;
    while !holds() {
        if recorder.elapsed() > deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// Waits until every journal is acknowledged anew.
async fn recovers(recorder: &Shared) {
    let began = recorder.elapsed();
    let names: Vec<Name> = WORKERS
        .iter()
        .flat_map(|worker| JOURNALS.map(|name| journal_name(worker, name)))
        .collect();
    let waits_for = || {
        let acknowledged = recorder.acknowledged_at.borrow();
        let late = names
            .iter()
            .filter(|name| acknowledged.get(*name).is_none_or(|at| *at <= began));
        late.cloned().collect::<Vec<_>>()
    };
    if !until(recorder, RECOVERED_WITHIN, || waits_for().is_empty()).await {
        let late = waits_for();
        recorder.violation(format!(
            "{late:?} are not acknowledged within {RECOVERED_WITHIN:?} after the repair"
        ));
        until(recorder, AGREED_WITHIN, || waits_for().is_empty()).await;
    }
    let took = recorder.elapsed().saturating_sub(began);
    recorder.report.borrow_mut().recovery_millis =
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    recorder.note(format!("all journals are acknowledged anew after {took:?}"));
}

/// Waits until all nodes have applied the same, and takes down what each holds.
async fn agree(recorder: &Shared) -> turmoil::Result {
    let mut client = NodeClient::default();
    let deadline = recorder.elapsed() + AGREED_WITHIN;
    loop {
        let mut seen = Vec::new();
        for node in NODES {
            let status = client.status(node).await;
            seen.push(status.map(|status| {
                (
                    status.applied_index,
                    status.last_log_index,
                    status.state_hash,
                )
            }));
        }
        let same = seen.windows(2).all(|pair| pair[0] == pair[1]);
        let whole = seen.iter().all(|node| {
            node.as_ref()
                .is_ok_and(|(applied, last, _)| applied == last && *applied > 0)
        });
        if same && whole {
            break;
        }
        if recorder.elapsed() > deadline {
            return Err(
                format!("the nodes do not agree within {AGREED_WITHIN:?}: {seen:?}").into(),
            );
        }
        sleep(POLL).await;
    }
    for node in NODES {
        let held = held_by(&mut client, node)
            .await
            .map_err(|why| format!("the final read of {node}: {why}"))?;
        recorder.push(Event::Final(held));
    }
    Ok(())
}

async fn held_by(client: &mut NodeClient, node: &'static str) -> Result<FinalNode, String> {
    let mut held = FinalNode {
        node: node.into(),
        ..FinalNode::default()
    };
    for stat in client.journals(node).await? {
        let journal = stat.journal.ok_or("BROKEN: a journal without a name")?;
        let name = journal_name(&journal.worker, &journal.journal);
        let read = client.read(node, journal, 0, Floor::Stale).await?;
        held.journals.insert(name, read.bytes);
    }
    for stat in client.checkpoints(node).await? {
        let worker: Name = stat
            .worker
            .ok_or("BROKEN: a checkpoint without a worker")?
            .worker
            .into();
        let id = stat.id.ok_or("BROKEN: a checkpoint without an id")?;
        let id: CheckpointId = (id.rollback_epoch, id.number);
        let of = |offset: pb::NamedOffset| (journal_name(&worker, &offset.journal), offset.offset);
        let offsets: FinalCheckpoint = stat.offsets.into_iter().map(of).collect();
        let of_worker: &mut BTreeMap<_, _> = held.checkpoints.entry(worker.clone()).or_default();
        of_worker.insert(id, offsets);
    }
    Ok(held)
}

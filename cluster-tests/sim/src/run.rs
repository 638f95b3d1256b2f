//! One seed: builds the cluster, runs it through faults and repair, checks what came of it.

use std::{cell::RefCell, future::pending, panic::AssertUnwindSafe, time::Duration};

use dos_cluster::{
    env::{rng, task::canary},
    node::{Node, NodeConfig, config::LegacyListen},
};
use turmoil::Sim;

use crate::{
    admin,
    nemesis::Nemesis,
    plan::{CLIENT_PORT, NODES, Plan, WORKERS, address},
    recorder::{Phase, Recorder, Report, Shared},
    workload::Worker,
};

/// Longer than any run may take.
const RUN_MAX: Duration = Duration::from_secs(3_600);

/// A bug that is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Mutation {
    /// The log answers before it syncs.
    AckBeforeSync,
}

thread_local! {
    static FIRST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one seed in this thread. A process runs one seed only: the state of libraries is part of the run.
pub fn run(plan: &Plan, mutation: Option<Mutation>, trace: bool) -> Report {
    rng::seed(plan.seed);
    if mutation == Some(Mutation::AckBeforeSync) {
        canary::answer_before_sync();
    }
    std::panic::set_hook(Box::new(|panic| {
        // Only the first says what happened; the others are tasks that go down with it.
        FIRST_PANIC.with_borrow_mut(|first| {
            first.get_or_insert_with(|| panic.to_string().replace('\n', " "));
        });
        eprintln!("{panic}");
    }));
    let recorder = Recorder::new(plan.seed, trace);
    recorder.note(format!("{plan:?}"));
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| simulate(plan, &recorder)));
    let complete = match ran {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            recorder.violation(format!("the run ended: {error}"));
            false
        }
        Err(_) => {
            let first = FIRST_PANIC
                .with_borrow_mut(Option::take)
                .unwrap_or_default();
            recorder.violation(format!("a panic: {first}"));
            false
        }
    };
    recorder.finish(&NODES, complete)
}

fn simulate(plan: &Plan, recorder: &Shared) -> turmoil::Result {
    let mut sim = build(plan);
    for node in NODES {
        let plan = plan.clone();
        sim.host(node, move || serve(plan.clone(), node));
    }
    for worker in WORKERS {
        sim.client(worker, Worker::new(plan, recorder, worker).run());
    }
    sim.client("admin", admin::run(recorder.clone()));
    let mut nemesis = Nemesis::new(plan, recorder);
    let mut repaired_at = None;
    loop {
        recorder.now.set(sim.elapsed());
        let is_over = sim.step()?;
        if is_over {
            return Ok(());
        }
        if recorder.phase.get() == Phase::Faults {
            let until = *repaired_at.get_or_insert(sim.elapsed() + plan.fault_time);
            recorder.now.set(sim.elapsed());
            if sim.elapsed() < until {
                nemesis.step(&mut sim);
            } else {
                nemesis.heal(&mut sim);
                recorder.phase.set(Phase::Healed);
            }
        }
    }
}

fn build(plan: &Plan) -> Sim<'static> {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(plan.seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_secs(1_735_689_600))
        .simulation_duration(RUN_MAX)
        .tick_duration(plan.tick)
        .min_message_latency(Duration::from_millis(0))
        .max_message_latency(plan.latency_max)
        .tcp_capacity(4096);
    if let Some(block) = plan.torn_block {
        builder.fs().block_size(block);
    }
    if plan.shuffled {
        builder.enable_random_order();
    }
    builder.build()
}

/// One start of a node, until its power is cut.
async fn serve(plan: Plan, name: &'static str) -> turmoil::Result {
    let listen = |port: u16| format!("0.0.0.0:{port}");
    let dial = |port: u16| Some(format!("{name}:{port}"));
    let config = NodeConfig {
        data_dir: "/data".into(),
        client_listen: listen(CLIENT_PORT),
        peer_listen: listen(CLIENT_PORT + 1),
        http_listen: listen(CLIENT_PORT + 2),
        client_advertise: Some(address(name)),
        peer_advertise: dial(CLIENT_PORT + 1),
        http_advertise: dial(CLIENT_PORT + 2),
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_millis(1500),
        snapshot_log_bytes: plan.snapshot_log_bytes,
        segment_bytes: plan.segment_bytes,
        state_memory_bytes: 1 << 20,
        request_timeout: Duration::from_secs(5),
        legacy_listen: LegacyListen::Off,
        ..NodeConfig::default()
    };
    let node = Node::start(config)
        .await
        .map_err(|error| format!("{name} does not start: {error}"))?;
    node.run(pending())
        .await
        .map_err(|error| format!("{name}: {error}"))?;
    Ok(())
}

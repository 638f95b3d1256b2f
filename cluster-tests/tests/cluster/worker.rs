//! A worker as a process of its own: this test program again, told by its environment what to do.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use dos_cluster::{
    client::{Client, ClientOptions, JournaledDir, JournaledDirOptions},
    domain::CheckpointId,
};
use dos_cluster_tests::{assert_pattern, eventually, pattern};
use rustix::process::{Pid, Signal, kill_process};

const ENDPOINTS: &str = "DOS_TEST_WORKER_ENDPOINTS";
const NAME: &str = "DOS_TEST_WORKER_NAME";
const DIR: &str = "DOS_TEST_WORKER_DIR";
const ACKS: &str = "DOS_TEST_WORKER_ACKS";

/// Bytes that each checkpoint adds to the worker's file.
const STEP: u64 = 10_000;
const FILE: &str = "state/data";
const SEED: u64 = 77;

/// The last acknowledged checkpoint, and what the file then held.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acked {
    pub(crate) number: u64,
    pub(crate) files_bytes: u64,
}

/// What the worker's file holds at a checkpoint.
pub(crate) fn files_bytes(number: u64) -> u64 {
    number * STEP
}

pub(crate) struct Worker {
    child: Child,
    acks: PathBuf,
}

/// Starts a worker process on `dir`, which goes on from what is there.
pub(crate) fn spawn(endpoints: &str, name: &str, dir: &Path) -> Worker {
    let acks = dir.with_extension("acks");
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker::the_worker_process", "--nocapture"]);
    command
        .env(ENDPOINTS, endpoints)
        .env(NAME, name)
        .env(DIR, dir)
        .env(ACKS, &acks);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Worker {
        child: command.spawn().unwrap(),
        acks,
    }
}

impl Worker {
    /// The newest checkpoint that it was told is durable.
    pub(crate) fn acked(&self) -> Acked {
        let number = std::fs::read_to_string(&self.acks).unwrap_or_default();
        let number = number
            .lines()
            .last()
            .map_or(0, |last| last.parse().unwrap());
        Acked {
            number,
            files_bytes: files_bytes(number),
        }
    }

    pub(crate) async fn acked_at_least(&mut self, number: u64) {
        eventually(
            "the worker's checkpoints are acknowledged",
            Duration::from_secs(60),
            async || {
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "the worker ended by itself: {ended:?}");
                let acked = self.acked().number;
                if acked >= number {
                    Ok(())
                } else {
                    Err(format!("{acked} of {number}"))
                }
            },
        )
        .await;
    }

    pub(crate) fn kill9(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Checks the worker's file, byte for byte; answers how long it is.
pub(crate) fn assert_files(dir: &Path, at_least: u64) -> u64 {
    let bytes = std::fs::read(dir.join(FILE)).unwrap();
    assert_pattern(SEED, 0, &bytes);
    let length = bytes.len() as u64;
    assert!(
        length >= at_least,
        "{at_least} bytes were covered by an acknowledged checkpoint, {length} were restored"
    );
    length
}

/// The process of other tests' workers: without their environment there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_process() {
    use std::io::Write;
    let Some(endpoints) = std::env::var_os(ENDPOINTS) else {
        return;
    };
    let variable = |name| std::env::var(name).unwrap();
    let options = ClientOptions::new(endpoints.to_str().unwrap().split(','));
    let client = Client::new(ClientOptions {
        timeout: Duration::from_secs(60),
        ..options
    })
    .unwrap();
    let (name, dir) = (
        variable(NAME).parse().unwrap(),
        PathBuf::from(variable(DIR)),
    );
    let worker = JournaledDir::open(&client, &name, &dir, JournaledDirOptions::default())
        .await
        .unwrap();
    let mut acks = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(variable(ACKS))
        .unwrap();
    let mut length = std::fs::metadata(dir.join(FILE)).map_or(0, |metadata| metadata.len());
    // What a checkpoint did not cover is written again.
    let mut number = length / STEP;
    length = files_bytes(number);
    loop {
        number += 1;
        // In parts, so that a kill leaves something unfinished.
        for _ in 0..10 {
            let part = pattern(SEED, length, 1000);
            worker.write_at(FILE, length, &part).unwrap();
            length += 1000;
        }
        let id = CheckpointId {
            rollback_epoch: 0,
            number,
        };
        match worker.checkpoint(id).await {
            Ok(receipt) => assert_eq!(receipt.id, id),
            Err(error) => panic!("checkpoint {id}: {error}"),
        }
        writeln!(acks, "{number}").unwrap();
    }
}

//! R1: a journal comes back. Read from one member and thrown away, then restored into a directory as `dos-cluster restore` does it,
//! from one member and from all; warm, and, of servers that can be restarted, cold.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::{
    cluster::{Cluster, Meter, Used},
    fill,
    line::{Head, Line, Printed, float, round},
    native,
    payload::Pool,
    record::{Done, ServerUse},
    workload::Name,
};
use crate::{
    cli::exit::{self, Failure},
    client::{
        Client, Floor,
        restore::{RestoreOptions, RestorePhase, RestoreProgress},
    },
    domain::{JournalRef, Offset},
    env::{
        fs,
        time::{Duration, Instant},
    },
};

/// How a journal is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// Read in order and thrown away.
    Read,
    /// Into a directory, synced.
    Restore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum From {
    One,
    All,
}

/// Whether the page cache of the servers' files, and their own caches, are full (it came back the same way just before) or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Cache {
    Warm,
    Cold,
}

/// What is measured, in this order.
const RUNS: [(How, From, Cache); 5] = [
    (How::Read, From::One, Cache::Warm),
    (How::Restore, From::One, Cache::Warm),
    (How::Restore, From::All, Cache::Warm),
    (How::Restore, From::One, Cache::Cold),
    (How::Restore, From::All, Cache::Cold),
];

/// One journal brought back.
#[derive(Debug, Serialize)]
struct Restored {
    #[serde(flatten)]
    head: Head,
    how: How,
    from: From,
    cache: Cache,
    loaded_mb: f64,
    load_mb_s: f64,
    read_mb: f64,
    secs: f64,
    /// All of it: of a restore also writing the file, and syncing it.
    mb_s: f64,
    /// Of a restore, until everything was fetched and verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch_mb_s: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    servers: Option<ServerUse>,
    errors: u64,
}

/// What is brought back.
struct Loaded {
    journal: JournalRef,
    bytes: u64,
    took: Duration,
}

/// How long it took.
struct Took {
    all: Duration,
    fetch: Option<Duration>,
}

/// Writes a journal of so many bytes, and brings it back in each way.
pub(super) async fn run(
    cluster: &mut Cluster,
    pool: &Pool,
    bytes: u64,
    mut print: impl FnMut(Line) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let client = cluster.client()?;
    let journal = native::journal(&native::fresh_worker()?, 0);
    let took = fill::fill(&client, &journal, pool, bytes).await?;
    let loaded = Loaded {
        journal,
        bytes,
        took,
    };
    for (how, from, cache) in RUNS {
        if cache == Cache::Cold {
            if !cluster.is_ours() {
                // Nobody else's servers are restarted.
                break;
            }
            cluster.restart_cold().await?;
        }
        let client = cluster.client()?;
        let scratch = cluster.scratch();
        if cache == Cache::Warm {
            // What was written past the page cache is not in it.
            bring_back(&client, &loaded, (how, from), &scratch).await?;
        }
        let mut meter = Meter::new(cluster);
        meter.read();
        let took = bring_back(&client, &loaded, (how, from), &scratch).await?;
        meter.read();
        let head = Head::new(Name::R1, cluster);
        let restored = Restored::new(head, (how, from, cache), &loaded, &took, meter.used());
        print(Line::of(&restored)?)?;
    }
    Ok(())
}

async fn bring_back(
    client: &Client,
    loaded: &Loaded,
    (how, from): (How, From),
    scratch: &Path,
) -> Result<Took, Failure> {
    match how {
        How::Read => read(client, loaded).await,
        How::Restore => restore(client, loaded, from, scratch).await,
    }
}

async fn read(client: &Client, loaded: &Loaded) -> Result<Took, Failure> {
    let began = Instant::now();
    let read = client.read(&loaded.journal, Offset::ZERO, None, Floor::Linearizable);
    let mut read = read.await?;
    let mut bytes = 0;
    while let Some((_, data)) = read.next().await? {
        bytes += data.len() as u64;
    }
    check(loaded, bytes)?;
    Ok(Took {
        all: began.elapsed(),
        fetch: None,
    })
}

async fn restore(client: &Client, loaded: &Loaded, from: From, to: &Path) -> Result<Took, Failure> {
    let worker = loaded.journal.owner.clone();
    let options = RestoreOptions {
        from: match from {
            From::One => Some(follower(client).await?),
            From::All => None,
        },
        ..RestoreOptions::new(worker, to, "dos-cluster bench")
    };
    let began = Instant::now();
    let fetched: Mutex<Option<Instant>> = Mutex::default();
    let on_progress = |progress: RestoreProgress| {
        let mut fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.phase == RestorePhase::Replaying {
            fetched.get_or_insert_with(Instant::now);
        }
    };
    let report = client.restore(options, &on_progress).await?;
    let all = began.elapsed();
    check(
        loaded,
        report.journals.iter().map(|journal| journal.bytes).sum(),
    )?;
    fs::remove_dir_all(to).map_err(|error| exit::cannot("remove", to, &error))?;
    let fetched = fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Took {
        all,
        fetch: fetched.map(|at| at.duration_since(began)),
    })
}

fn check(loaded: &Loaded, bytes: u64) -> Result<(), Failure> {
    if bytes == loaded.bytes {
        return Ok(());
    }
    let (journal, wanted) = (&loaded.journal, loaded.bytes);
    let message = format!("{bytes} bytes of journal {journal} came back, of {wanted}");
    Err(Failure::new(exit::Exit::Verification, message))
}

/// The address of a member that does not lead; the leader's, if it is alone.
async fn follower(client: &Client) -> Result<String, Failure> {
    let status = client.status().await?;
    let members = || status.members.iter().filter(|member| member.voter);
    let follower = members().find(|member| !member.leader);
    let member = follower.or_else(|| members().next());
    let member = member.and_then(|member| member.member.as_ref());
    member
        .map(|member| member.client_address.clone())
        .ok_or_else(|| {
            Failure::error("the cluster names no members").try_next("dos-cluster member list")
        })
}

impl Restored {
    fn new(
        head: Head,
        (how, from, cache): (How, From, Cache),
        loaded: &Loaded,
        took: &Took,
        used: Option<Used>,
    ) -> Self {
        let megabytes = float(loaded.bytes) / 1e6;
        let rate = |took: Duration| round(megabytes / took.as_secs_f64().max(1e-6), 1);
        let done = Done {
            ops: 0,
            bytes: loaded.bytes,
            total_bytes: 0,
        };
        Self {
            head,
            how,
            from,
            cache,
            loaded_mb: round(megabytes, 0),
            load_mb_s: rate(loaded.took),
            read_mb: round(megabytes, 0),
            secs: round(took.all.as_secs_f64(), 2),
            mb_s: rate(took.all),
            fetch_mb_s: took.fetch.map(rate),
            servers: used.map(|used| ServerUse::new(&used, done)),
            errors: 0,
        }
    }
}

impl Printed for Restored {
    const COLUMNS: &'static [&'static str] = &[
        "workload",
        "how",
        "from",
        "cache",
        "MB",
        "load MB/s",
        "fetch MB/s",
        "MB/s",
        "CPU s/GB",
        "from disk/byte",
    ];

    fn row(&self) -> Vec<String> {
        let word = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |f| format!("{f:.1}"));
        let servers = self.servers.as_ref();
        vec![
            self.head.name(),
            word(&self.how),
            word(&self.from),
            word(&self.cache),
            format!("{:.0}", self.loaded_mb),
            format!("{:.1}", self.load_mb_s),
            figure(self.fetch_mb_s),
            format!("{:.1}", self.mb_s),
            figure(servers.map(|servers| servers.server_cpu_s_per_gb)),
            figure(servers.and_then(|servers| servers.proc_read_per_byte)),
        ]
    }
}

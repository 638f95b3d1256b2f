//! The cluster that is measured: one that is there, or fresh servers on this machine that go when they are measured.

use std::path::{Path, PathBuf};

use super::{
    cold,
    usage::{self, Usage},
};
use crate::{
    cli::{
        Context, demo,
        dev::{self, DevNode, Layout},
        exit::{self, Failure},
    },
    client::Client,
    env::{fs, rng},
};

/// A cluster, and what is known of its servers.
#[derive(Debug)]
pub(super) struct Cluster {
    context: Context,
    /// Client addresses.
    pub(super) endpoints: Vec<String>,
    /// Where legacy workers are served.
    pub(super) legacy: Vec<String>,
    servers: Option<Servers>,
}

/// Servers that this command has started.
#[derive(Debug)]
pub(super) struct Servers {
    dir: PathBuf,
    layout: Layout,
    nodes: Vec<DevNode>,
}

impl Cluster {
    /// The cluster that the command line names.
    pub(super) fn given(context: &Context, legacy: &[String]) -> Self {
        Self {
            context: context.clone(),
            endpoints: context.endpoints.clone(),
            legacy: legacy.to_vec(),
            servers: None,
        }
    }

    /// So many servers of our own, to be started in a directory of their own, a temporary one if none is given.
    pub(super) fn fresh(
        context: &Context,
        dir: Option<&Path>,
        nodes: u16,
    ) -> Result<Self, Failure> {
        let dir = dir.map_or_else(temporary, Path::to_owned);
        // It goes with them, so nothing of anybody's may be in it.
        if fs::list_dir(&dir).is_ok_and(|names| !names.is_empty()) {
            let message = format!("cannot start servers in {}: it is not empty", dir.display());
            return Err(Failure::usage(message).try_next("a --dir that is not there yet"));
        }
        let servers = Servers {
            layout: Layout::open(&dir, Some(nodes), None)?,
            dir,
            nodes: Vec::new(),
        };
        Ok(Self {
            context: context.clone(),
            endpoints: servers.layout.endpoints(),
            legacy: servers.layout.legacy_addresses(),
            servers: Some(servers),
        })
    }

    /// Starts our servers; nothing to do for others.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        if let Some(servers) = &mut self.servers {
            dev::start_cluster(&self.context, &servers.layout, &mut servers.nodes).await?;
        }
        Ok(())
    }

    /// A client with connections of its own.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.context.client_of(&self.endpoints)
    }

    /// Stops the servers that were started, and removes their data.
    pub(super) async fn end(self) -> Result<(), Failure> {
        let Some(mut servers) = self.servers else {
            return Ok(());
        };
        dev::stop_all(&mut servers.nodes, &self.context).await;
        let dir = &servers.dir;
        fs::remove_dir_all(dir).map_err(|error| exit::cannot("remove", dir, &error))
    }

    /// Whether this command has started the servers, and so may do anything to them.
    pub(super) fn is_ours(&self) -> bool {
        self.servers.is_some()
    }

    /// A directory for files of this command's own, which is not there yet.
    pub(super) fn scratch(&self) -> PathBuf {
        let servers = self.servers.as_ref();
        servers.map_or_else(temporary, |servers| servers.dir.join("scratch"))
    }

    /// Restarts our servers in order, and drops what the page cache holds of their files: whatever is read next comes from the disk.
    pub(super) async fn restart_cold(&mut self) -> Result<(), Failure> {
        let Some(servers) = &mut self.servers else {
            return Ok(());
        };
        dev::stop_all(&mut servers.nodes, &self.context).await;
        servers.nodes.clear();
        dev::start_cluster(&self.context, &servers.layout, &mut servers.nodes).await?;
        let dir = &servers.dir;
        cold::drop_cached(dir)
            .map_err(|error| exit::cannot("drop the cached pages of", dir, &error))
    }

    /// The number of our server that leads.
    pub(super) async fn leader(&self, client: &Client) -> Result<usize, Failure> {
        let status = client.status().await?;
        let mut servers = self.endpoints.iter();
        let leader = servers.position(|address| *address == status.leader_address);
        leader.map(|index| index + 1).ok_or_else(|| {
            Failure::error("no server leads, as far as they know").try_next("the same once more")
        })
    }

    /// `kill -9` of one of our servers.
    pub(super) async fn kill(&mut self, number: usize) -> Result<(), Failure> {
        let (_, node) = self.server(number)?;
        node.kill_9().await;
        Ok(())
    }

    /// Starts a killed server again.
    pub(super) fn start_again(&mut self, number: usize) -> Result<(), Failure> {
        let (layout, node) = self.server(number)?;
        *node = DevNode::start(layout, number)?;
        Ok(())
    }

    /// Removes everything that a killed server had.
    pub(super) fn wipe(&mut self, number: usize) -> Result<(), Failure> {
        let (layout, _) = self.server(number)?;
        let dir = layout.path(number, "");
        fs::remove_dir_all(&dir).map_err(|error| exit::cannot("remove", &dir, &error))
    }

    /// Where clients reach one of our servers.
    pub(super) fn address(&mut self, number: usize) -> Result<String, Failure> {
        Ok(self.server(number)?.0.ports(number).client())
    }

    /// Where one of our servers says how it is.
    pub(super) fn http_address(&mut self, number: usize) -> Result<String, Failure> {
        Ok(self.server(number)?.0.ports(number).http())
    }

    fn server(&mut self, number: usize) -> Result<(&Layout, &mut DevNode), Failure> {
        let servers = self.servers.as_mut();
        let server = servers.and_then(|servers| {
            let node = servers.nodes.get_mut(number.checked_sub(1)?)?;
            Some((&servers.layout, node))
        });
        server.ok_or_else(|| {
            let message = format!("this command has not started a server n{number}");
            Failure::usage(message).try_next("--start-nodes 3")
        })
    }

    /// Starts a killed server again, and waits until it has what the others have.
    pub(super) async fn bring_back(
        &mut self,
        client: &Client,
        number: usize,
    ) -> Result<(), Failure> {
        if let Some(Servers { layout, nodes, .. }) = &mut self.servers {
            demo::bring_back(client, layout, nodes, number).await?;
        }
        Ok(())
    }

    /// What has been used so far; none of servers that are not ours.
    fn read(&self) -> Option<Reading> {
        let servers = self.servers.as_ref()?;
        let pids = servers.nodes.iter().filter_map(DevNode::pid);
        Some(Reading {
            servers: pids.map(Usage::of).collect(),
            client_cpu_s: Usage::of(std::process::id()).cpu_s,
            machine_cpu_s: usage::machine_cpu_s(),
        })
    }

    /// Bytes on the device that holds the data of our servers, once everything is there.
    fn device_bytes(&self) -> u64 {
        rustix::fs::sync();
        let servers = self.servers.as_ref();
        servers.map_or(0, |servers| usage::device_write_bytes(&servers.dir))
    }
}

/// A directory that is not there yet.
pub(super) fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("dos-cluster-bench-{:08x}", rng::u64() >> 32))
}

/// What was used at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) servers: Vec<Usage>,
    pub(super) client_cpu_s: f64,
    pub(super) machine_cpu_s: f64,
}

/// What was used between two moments, and written to the device in the whole run.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) before: Reading,
    pub(super) after: Reading,
    pub(super) device_bytes: u64,
}

/// Reads what is used over one run: made before it, read at both ends of what counts.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    cluster: &'a Cluster,
    device_bytes: u64,
    readings: Vec<Reading>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            device_bytes: cluster.device_bytes(),
            readings: Vec::new(),
        }
    }

    pub(super) fn read(&mut self) {
        self.readings.extend(self.cluster.read());
    }

    /// What was used between the first reading and the last; none of servers that are not ours.
    pub(super) fn used(self) -> Option<Used> {
        let before = self.readings.first()?.clone();
        let after = self.readings.last()?.clone();
        let device_bytes = self.cluster.device_bytes();
        Some(Used {
            before,
            after,
            device_bytes: device_bytes.saturating_sub(self.device_bytes),
        })
    }
}

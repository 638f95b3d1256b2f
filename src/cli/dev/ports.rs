//! Where a dev cluster lives: its directory, and ports that stay the same.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::super::exit::{self, Failure};
use crate::{
    client::DEFAULT_PORT,
    env::{fs, rng},
};

const NODES_DEFAULT: u16 = 3;
const HOST: &str = "127.0.0.1";
const PORTS_PER_NODE: u16 = 4;
/// Where other services rarely are, up to the ports of outgoing connections.
const BASE_PORT_MIN: u16 = 10_000;
/// The first port of outgoing connections, where the system does not tell.
const OUTGOING_FROM: u16 = 32_768;
/// How many places are tried for a row of free ports.
const TRIES_MAX: usize = 200;

/// The ports of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Ports {
    client: u16,
    peer: u16,
    http: u16,
    legacy: u16,
}

impl Ports {
    /// From `first` on.
    fn in_a_row(first: u16) -> Self {
        Self {
            client: first,
            peer: first + 1,
            http: first + 2,
            legacy: first + 3,
        }
    }

    fn all(self) -> [u16; PORTS_PER_NODE as usize] {
        [self.client, self.peer, self.http, self.legacy]
    }

    pub(in crate::cli) fn client(self) -> String {
        format!("{HOST}:{}", self.client)
    }

    pub(in crate::cli) fn peer(self) -> String {
        format!("{HOST}:{}", self.peer)
    }

    pub(in crate::cli) fn http(self) -> String {
        format!("{HOST}:{}", self.http)
    }

    pub(in crate::cli) fn legacy(self) -> String {
        format!("{HOST}:{}", self.legacy)
    }
}

/// A dev cluster's directory, locked.
#[derive(Debug)]
pub(in crate::cli) struct Layout {
    pub(in crate::cli) dir: PathBuf,
    ports: Vec<Ports>,
    /// Held for its lock.
    _lock: fs::File,
    /// Held so that no other `dev` takes the ports before the nodes have them.
    _reserved: Vec<UdpSocket>,
}

impl Layout {
    /// Opens the directory; makes it, and chooses ports, if there is none.
    pub(in crate::cli) fn open(
        dir: &Path,
        nodes: Option<u16>,
        base_port: Option<u16>,
    ) -> Result<Self, Failure> {
        fs::create_private_dir_all(dir).map_err(|error| exit::cannot("create", dir, &error))?;
        let lock = Self::lock(dir)?;
        let path = dir.join("ports.json");
        let exists = fs::exists(&path).map_err(|error| exit::cannot("look at", &path, &error))?;
        let (ports, reserved) = if exists {
            let known = read(&path)?;
            check_same(dir, &known, nodes, base_port)?;
            let reserved = known.iter().flat_map(|ports| ports.all());
            let reserved = reserved.filter_map(reserve).collect();
            (known, reserved)
        } else {
            choose(nodes.unwrap_or(NODES_DEFAULT), base_port)?
        };
        let layout = Self {
            dir: dir.to_owned(),
            ports,
            _lock: lock,
            _reserved: reserved,
        };
        if !exists {
            // Before they are kept: a base port that is no good must not stay with the directory.
            layout.check_free()?;
            write(&path, &layout.ports)?;
        }
        Ok(layout)
    }

    fn lock(dir: &Path) -> Result<fs::File, Failure> {
        let path = dir.join("LOCK");
        let lock =
            fs::open_or_create(&path).map_err(|error| exit::cannot("open", &path, &error))?;
        match fs::lock_exclusive(&lock) {
            Ok(true) => Ok(lock),
            Ok(false) => {
                let message = format!(
                    "{} is in use: another `dos-cluster dev` runs there",
                    dir.display()
                );
                Err(Failure::error(message).try_next("stop it, or choose another --dir"))
            }
            Err(error) => Err(exit::cannot("lock", &path, &error)),
        }
    }

    /// The numbers of the nodes, from 1.
    pub(in crate::cli) fn numbers(&self) -> impl Iterator<Item = usize> {
        1..=self.ports.len()
    }

    /// The ports of a node, by its number.
    pub(in crate::cli) fn ports(&self, number: usize) -> Ports {
        self.ports[number - 1]
    }

    /// A file of a node: `DIR/n1.log`; with no extension its data directory.
    pub(in crate::cli) fn path(&self, number: usize, extension: &str) -> PathBuf {
        self.dir.join(format!("n{number}{extension}"))
    }

    /// Where the nodes' logs are, for people.
    pub(in crate::cli) fn logs(&self) -> String {
        format!("{}/n*.log", self.dir.display())
    }

    /// The client addresses of all nodes.
    pub(in crate::cli) fn endpoints(&self) -> Vec<String> {
        self.ports.iter().map(|ports| ports.client()).collect()
    }

    /// The addresses for legacy workers of all nodes.
    pub(in crate::cli) fn legacy_addresses(&self) -> Vec<String> {
        self.ports.iter().map(|ports| ports.legacy()).collect()
    }

    /// The ports of the node whose client address it is.
    pub(in crate::cli) fn ports_at(&self, client: &str) -> Option<Ports> {
        let mut ports = self.ports.iter();
        ports.find(|ports| ports.client() == client).copied()
    }

    /// Refuses where a port is taken, perhaps by a node that an earlier run left behind.
    pub(in crate::cli) fn check_free(&self) -> Result<(), Failure> {
        for number in self.numbers() {
            for port in self.ports(number).all() {
                let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                let message = format!(
                    "cannot start node n{number}: port {port} of {HOST} is taken ({error})"
                );
                let failure = Failure::error(message);
                let pid = fs::read(self.path(number, ".pid")).ok();
                let pid = pid.and_then(|bytes| String::from_utf8(bytes).ok());
                return Err(match pid {
                    Some(pid) => failure.try_next(format!(
                        "kill {}, if that is the node that an earlier run left behind",
                        pid.trim()
                    )),
                    None => failure,
                }
                .try_next("another --dir, with free ports"));
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<Ports>, Failure> {
    let bytes = fs::read(path).map_err(|error| exit::cannot("read", path, &error))?;
    let ports: Vec<Ports> = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::error(format!("cannot use {}: {error}", path.display())).try_next("another --dir")
    })?;
    if ports.is_empty() {
        return Err(Failure::error(format!(
            "cannot use {}: it names no node",
            path.display()
        )));
    }
    Ok(ports)
}

fn write(path: &Path, ports: &[Ports]) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(ports)
        .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?;
    write_file(path, &text)
}

/// Writes a small file anew.
pub(in crate::cli) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = fs::open_or_create(path).and_then(|file| {
        file.set_len(0)?;
        fs::write_all_at(&file, bytes, 0)?;
        file.sync_all()
    });
    written.map_err(|error| exit::cannot("write", path, &error))
}

/// The same directory is the same cluster.
fn check_same(
    dir: &Path,
    known: &[Ports],
    nodes: Option<u16>,
    base_port: Option<u16>,
) -> Result<(), Failure> {
    let differs = nodes.is_some_and(|nodes| usize::from(nodes) != known.len());
    let elsewhere = base_port.is_some_and(|base| known[0].client != base);
    if !differs && !elsewhere {
        return Ok(());
    }
    let message = format!(
        "{} holds a cluster of {} nodes from port {} on",
        dir.display(),
        known.len(),
        known[0].client
    );
    Err(Failure::usage(message)
        .try_next("the same without --nodes and --base-port, or with another --dir"))
}

/// Four ports for each node: from `base_port` on, or from the usual one, or where enough are free in a row.
fn choose(nodes: u16, base_port: Option<u16>) -> Result<(Vec<Ports>, Vec<UdpSocket>), Failure> {
    let Some(base) = base_port else {
        return choose_free(nodes);
    };
    let ports = ports_from(base, nodes).ok_or_else(|| {
        Failure::usage(format!(
            "--base-port {base} leaves no room for four ports for each of {nodes} nodes"
        ))
    })?;
    let reserved = ports.iter().flat_map(|ports| ports.all());
    let reserved = reserved.filter_map(reserve).collect();
    Ok((ports, reserved))
}

fn ports_from(base: u16, nodes: u16) -> Option<Vec<Ports>> {
    base.checked_add(nodes * PORTS_PER_NODE - 1)?;
    let ports = (0..nodes).map(|index| Ports::in_a_row(base + index * PORTS_PER_NODE));
    Some(ports.collect())
}

/// Not where the system takes ports of outgoing connections from: while a node is down nobody gets its port.
fn choose_free(nodes: u16) -> Result<(Vec<Ports>, Vec<UdpSocket>), Failure> {
    let outgoing = outgoing_from();
    let last = outgoing
        .saturating_sub(nodes * PORTS_PER_NODE)
        .max(BASE_PORT_MIN + 1);
    let random = || {
        let span = u64::from(last - BASE_PORT_MIN);
        BASE_PORT_MIN + u16::try_from(rng::u64() % span).unwrap_or_default()
    };
    let bases = std::iter::once(DEFAULT_PORT).chain(std::iter::repeat_with(random));
    for base in bases.take(TRIES_MAX) {
        let Some(ports) = ports_from(base, nodes) else {
            continue;
        };
        let all: Vec<u16> = ports.iter().flat_map(|ports| ports.all()).collect();
        let are_free = all.iter().all(|port| is_free(*port));
        let reserved: Option<Vec<_>> = all.into_iter().map(reserve).collect();
        if let Some(reserved) = reserved.filter(|_| are_free) {
            return Ok((ports, reserved));
        }
    }
    let count = nodes * PORTS_PER_NODE;
    let message = format!("cannot find {count} free ports in a row below {outgoing}");
    Err(Failure::error(message).try_next("the same with --base-port PORT"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Marks a port as chosen, for others that choose: the nodes need it for TCP only.
fn reserve(port: u16) -> Option<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

/// The first port that the system takes for outgoing connections.
fn outgoing_from() -> u16 {
    let range = fs::read(Path::new("/proc/sys/net/ipv4/ip_local_port_range")).unwrap_or_default();
    let range = String::from_utf8_lossy(&range);
    let first = range.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or(OUTGOING_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_keeps_its_ports_and_refuses_others() {
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::open(dir.path(), Some(2), None).unwrap().ports;
        assert_eq!(first.len(), 2);
        let again = Layout::open(dir.path(), None, None).unwrap().ports;
        assert_eq!(again, first);
        for (nodes, base) in [(Some(3), None), (None, Some(1))] {
            let failure = Layout::open(dir.path(), nodes, base).unwrap_err();
            assert!(
                failure.message.contains("holds a cluster of 2 nodes"),
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn a_directory_has_one_cluster_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = Layout::open(dir.path(), Some(1), None).unwrap();
        let failure = Layout::open(dir.path(), None, None).unwrap_err();
        assert!(failure.message.contains("is in use"), "{}", failure.message);
        drop(held);
        Layout::open(dir.path(), None, None).unwrap();
    }

    #[test]
    fn ports_from_a_base_come_in_fours_and_end_at_the_last_port() {
        let ports = ports_from(7420, 2).unwrap();
        assert_eq!(ports[1].all(), [7424, 7425, 7426, 7427]);
        assert!(choose(2, Some(65_528)).is_ok());
        assert!(choose(2, Some(65_529)).is_err());
    }

    #[test]
    fn chosen_ports_are_in_a_row_below_those_of_outgoing_connections_and_nobody_elses() {
        let mut chosen = Vec::new();
        for _ in 0..3 {
            let (ports, reserved) = choose_free(2).unwrap();
            let all: Vec<u16> = ports.iter().flat_map(|ports| ports.all()).collect();
            assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
            assert!(*all.last().unwrap() < outgoing_from(), "{all:?}");
            let others = chosen.iter().flat_map(|(ports, _)| ports);
            assert!(!others.copied().any(|port: u16| all.contains(&port)));
            chosen.push((all, reserved));
        }
    }

    #[test]
    fn a_taken_port_is_named_with_the_process_that_may_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path(), Some(1), None).unwrap();
        layout.check_free().unwrap();
        let port = layout.ports[0].peer;
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        write_file(&layout.path(1, ".pid"), b"4711\n").unwrap();
        let failure = layout.check_free().unwrap_err();
        assert!(
            failure.message.contains(&port.to_string()),
            "{}",
            failure.message
        );
        assert!(
            failure.tries[0].starts_with("kill 4711"),
            "{:?}",
            failure.tries
        );
    }
}

//! A worker's host that vanishes says neither FIN nor RST: its lock must not outlive it for long.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dos_cluster_tests::{
    TestCluster, eventually,
    legacy::{GatewayProcess, LegacyClient},
    phase,
};

/// The original's clients notice a vanished server after this long, too.
const FREED_WITHIN: Duration = Duration::from_secs(10);
/// A network namespace that is another host: a pair of devices links it to this one.
struct OtherHost {
    name: String,
    device: String,
    /// This machine's address on the link.
    gateway: String,
}

fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    let quiet = command.args(arguments).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl OtherHost {
    /// `None` where this user may not make one.
    fn new() -> Option<Self> {
        let id = std::process::id();
        let (name, device) = (format!("dos-test-{id}"), format!("dos{id}"));
        let network = format!("10.213.{}", id % 250);
        let gateway = format!("{network}.1");
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let host = Self {
            name,
            device,
            gateway,
        };
        let (name, device) = (host.name.as_str(), host.device.as_str());
        let peer = [
            "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name,
        ];
        let own = format!("{}/24", host.gateway);
        let other = format!("{network}.2/24");
        let linked = ip(&peer)
            && ip(&["addr", "add", &own, "dev", device])
            && ip(&["link", "set", device, "up"])
            && ip(&["-n", name, "addr", "add", &other, "dev", "eth0"])
            && ip(&["-n", name, "link", "set", "eth0", "up"]);
        linked.then_some(host)
    }

    /// A worker there that appends ten bytes, and stays.
    fn append(&self, port: &str) -> Child {
        let script = "exec 3<>/dev/tcp/$0/$1; \
            printf '\\0\\0\\0\\2uw\\0\\0\\0\\014af.journal\\t00123456789' >&3; exec sleep 120";
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.name,
            "bash",
            "-c",
            script,
            &self.gateway,
            port,
        ]);
        command.spawn().unwrap()
    }

    fn vanish(&self) {
        assert!(ip(&["-n", &self.name, "link", "set", "eth0", "down"]));
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        ip(&["link", "del", &self.device]);
        ip(&["netns", "del", &self.name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_a_host_that_vanished_is_free_within_ten_seconds() {
    let Some(host) = OtherHost::new() else {
        println!("skipped: no network namespaces for this user");
        return;
    };
    let cluster = TestCluster::start(3).await;
    let free = dos_cluster_tests::ports::free_address();
    let port = free.rsplit(':').next().unwrap();
    let address = format!("{}:{port}", host.gateway);
    let _gateway = GatewayProcess::start_at(&cluster.endpoints(), &address).await;
    let node = cluster.nodes[0].legacy_address();

    phase("it appends");
    let mut worker = host.append(port);
    eventually("its bytes are there", FREED_WITHIN, async || {
        let mut looker = LegacyClient::in_dir(node, "w").await;
        let line = looker.find("f.journal").await;
        let there = line
            .as_ref()
            .is_some_and(|line| line.size == 10 && line.appending);
        dos_cluster_tests::wait::check(there, || format!("{line:?}"))
    })
    .await;

    phase("it vanishes");
    host.vanish();
    let began = Instant::now();
    let stream = eventually("its lock is free", FREED_WITHIN, async || {
        let client = LegacyClient::in_dir(node, "w").await;
        client.append("f.journal", 10).await
    })
    .await;
    println!("free after {:?}", began.elapsed());
    stream.finish(FREED_WITHIN).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    cluster.finish().await;
}

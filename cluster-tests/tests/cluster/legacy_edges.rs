//! The corners of the old workers' protocol: names that are none, the order of checks, sizes, and ends in the middle of something.

use std::time::{Duration, Instant};

use dos_cluster_tests::{
    ClusterOptions, TestCluster, assert_pattern, eventually,
    legacy::{GatewayProcess, LegacyClient, Status, append_request, frame},
    pattern, phase, wait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const COMMIT_WITHIN: Duration = Duration::from_secs(20);
/// What a node may grow by for the largest of these, in bytes: less than its usual state and log in memory (190 MiB), and all 230 MiB
/// that are sent besides. Most of what is between is what the allocator keeps: a node that leads grows by 260 to 350 MiB.
const GROWTH_MAX: u64 = 384 << 20;

fn text(reply: Option<Vec<u8>>) -> String {
    String::from_utf8(reply.expect("a reply, not a close")).unwrap()
}

/// Status frames.
fn statuses(mut bytes: &[u8]) -> Vec<Status> {
    let mut statuses = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (status, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        statuses.push(Status::parse(status));
        bytes = rest;
    }
    statuses
}

/// The reply to one request in a directory, behind which the connection is closed.
async fn refused(address: &str, dir: &str, request: &[u8]) -> String {
    let mut client = LegacyClient::in_dir(address, dir).await;
    let reply = text(client.ask(request).await);
    assert_eq!(client.reply().await, None, "closed behind {reply:?}");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_and_wrong_arguments_are_answered_in_the_order_and_words_of_the_protocol() {
    let cluster = TestCluster::start(3).await;
    let [n1, n2, _] = [0, 1, 2].map(|place| cluster.nodes[place].legacy_address());
    let long = "n".repeat(256);
    let bad_names = [
        "",
        ".",
        "..",
        "a/b",
        "../w/f.journal",
        "a\nb",
        "a\0b",
        &long,
        "\u{7f}",
    ];

    phase("the root holds directories, and no files");
    let made = LegacyClient::in_dir(n1, "w").await;
    let mut live = made.append("live.journal", 0).await.unwrap();
    live.send(b"0123456789").await;
    live.synced(COMMIT_WITHIN).await;
    let mut root = LegacyClient::connect(n2).await;
    let listed = root.list().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].name, b"w");
    assert_eq!(text(root.ask(b"dlive.journal").await), "ERROR");
    assert_eq!(text(root.ask(b"u").await), "ok", "the root again");
    for request in [&b"alive.journal\t10"[..], b"slive.journal"] {
        let reply = refused(n2, "", request).await;
        assert!(reply.starts_with("ERROR: "), "{reply:?}");
    }
    let mut root = LegacyClient::connect(n2).await;
    assert_eq!(root.get("live.journal", 0, 0).await, None, "g at the root");

    phase("names that are none: an error where the protocol has one, else a close");
    let data = cluster.nodes[0].data_dir.to_str().unwrap().to_owned();
    for name in bad_names {
        let append = format!("a{name}\t0");
        let sync = format!("s{name}");
        for request in [&append, &sync] {
            let reply = refused(n1, "w", request.as_bytes()).await;
            assert!(reply.starts_with("ERROR: "), "{request:?}: {reply:?}");
            assert!(!reply.contains(&data), "a server's path: {reply:?}");
        }
        let mut client = LegacyClient::in_dir(n1, "w").await;
        assert_eq!(
            text(client.ask(format!("d{name}").as_bytes()).await),
            "ERROR"
        );
        assert_eq!(client.list().await.len(), 1, "usable, and nothing was made");
        assert_eq!(client.get(name, 0, 0).await, None, "g{name:?}");
    }

    phase("directories that are none: u is ok, and what needs one fails");
    for dir in ["..", "a/b", ".", "a\0", &long] {
        let mut client = LegacyClient::in_dir(n2, dir).await;
        assert_eq!(text(client.ask(b"dlive.journal").await), "ERROR");
        assert_eq!(client.ask(b"l").await, None, "l in {dir:?}");
        let reply = refused(n2, dir, b"alive.journal\t0").await;
        assert!(reply.starts_with("ERROR: "), "{reply:?}");
    }

    phase("too many arguments, and the order of the checks of a");
    let too_many = "ERROR: too many values to unpack";
    assert_eq!(refused(n1, "w", b"slive.journal\tx").await, too_many);
    assert_eq!(refused(n1, "w", b"alive.journal\t10\tx").await, too_many);
    let no_number = refused(n1, "w", b"alive.journal\txyz").await;
    assert!(no_number.contains("xyz"), "before the lock: {no_number:?}");
    let locked = "ERROR: live.journal file is locked";
    assert_eq!(
        refused(n2, "w", b"alive.journal\t3").await,
        locked,
        "before the offset"
    );

    phase("requests longer than any real one are read to their end, or refused");
    let mut client = LegacyClient::in_dir(n1, "w").await;
    let unknown = [&b"q"[..], &vec![b'x'; 60_000]].concat();
    assert_eq!(
        text(client.ask(&unknown).await),
        "ERROR: unknown command \"q\""
    );
    let listed = client.ask(&[&b"l"[..], &vec![b'x'; 60_000]].concat()).await;
    assert_eq!(text(listed), "live.journal\t10\tyes\n");
    let append = [&b"aname"[..], &vec![b'x'; 60_000], b"\t0"].concat();
    let reply = refused(n1, "w", &append).await;
    assert!(reply.starts_with("ERROR: "), "{reply:?}");
    let mut client = LegacyClient::connect(n1).await;
    assert_eq!(client.ask(&vec![b'u'; 70_000]).await, None);

    live.finish(COMMIT_WITHIN).await;
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_middle_keeps_what_arrived_and_statuses_are_few() {
    let cluster = TestCluster::start(3).await;
    let [n1, n2, n3] = [0, 1, 2].map(|place| cluster.nodes[place].legacy_address());

    phase("bytes and FIN in front of the ok");
    let mut client = LegacyClient::in_dir(n1, "w").await;
    let request = append_request("early.journal", 0);
    client.send(&[&request[..], b"all of it"].concat()).await;
    let mut socket = client.into_socket();
    let ended = async {
        socket.shutdown().await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        all
    };
    let said = tokio::time::timeout(COMMIT_WITHIN, ended).await.unwrap();
    assert_eq!(said[..6], frame(b"ok"), "{said:?}");
    assert!(said.ends_with(&frame(b"9\t9")), "{said:?}");

    phase("RST while megabytes are on their way");
    let client = LegacyClient::in_dir(n2, "w").await;
    let mut stream = client.append("rst.journal", 0).await.unwrap();
    let bytes = pattern(5, 0, 16 << 20);
    stream.send(&bytes).await;
    stream.status(COMMIT_WITHIN).await.unwrap();
    let synced = stream.last.synced;
    stream.reset();
    let began = Instant::now();
    let line = eventually("the lock is free", COMMIT_WITHIN, async || {
        let line = LegacyClient::in_dir(n3, "w")
            .await
            .find("rst.journal")
            .await;
        let line = line.unwrap();
        wait::check(!line.appending, || format!("{line:?}")).map(|()| line)
    })
    .await;
    println!(
        "{} of {synced} kept, free after {:?}",
        line.size,
        began.elapsed()
    );
    assert!(line.size >= synced, "{line:?}, but {synced} were synced");
    let mut looker = LegacyClient::in_dir(n1, "w").await;
    let got = looker.get("rst.journal", 0, 0).await.unwrap();
    assert_eq!(got.len() as u64, line.size);
    assert_pattern(5, 0, &got);

    phase("one status in a tenth of a second, and more written than synced under way");
    let client = LegacyClient::in_dir(n1, "w").await;
    let stream = client.append("busy.journal", 0).await.unwrap();
    let (mut from, mut to) = stream.into_halves();
    let began = Instant::now();
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        from.read_to_end(&mut all).await.unwrap();
        all
    });
    let part = vec![7; 64 << 10];
    while began.elapsed() < Duration::from_secs(2) {
        to.write_all(&part).await.unwrap();
    }
    to.shutdown().await.unwrap();
    let said = read.await.unwrap();
    let most = began.elapsed().as_millis() / 100 + 2; // the last one waits for nothing
    let statuses = statuses(&said);
    let ahead = |status: &&Status| status.written > status.synced;
    let ahead = statuses.iter().filter(ahead).count();
    println!("{} statuses, {ahead} ahead, at most {most}", statuses.len());
    assert!(statuses.len() > 3 && statuses.len() as u128 <= most);
    assert!(ahead > 0, "{statuses:?}");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_of_a_hundred_megabytes_and_many_streams_at_once_need_little_memory() {
    let cluster = TestCluster::start(3).await;
    let [n1, n2, _] = [0, 1, 2].map(|place| cluster.nodes[place].legacy_address());
    let before: Vec<u64> = cluster
        .nodes
        .iter()
        .map(|node| node.resident_bytes())
        .collect();

    phase("a hundred megabytes, as fast as they go");
    let client = LegacyClient::in_dir(n1, "w").await;
    let mut stream = client.append("large.evlog.journal", 0).await.unwrap();
    let began = Instant::now();
    for at in 0..100_u64 {
        stream.send(&pattern(3, at << 20, 1 << 20)).await;
    }
    stream.finish(Duration::from_secs(60)).await;
    println!("100 MiB in {:?}", began.elapsed());
    let mut looker = LegacyClient::in_dir(n2, "w").await;
    for at in [0, 37 << 20, 99 << 20] {
        let got = looker
            .get("large.evlog.journal", at, 1 << 20)
            .await
            .unwrap();
        assert_eq!(got.len(), 1 << 20);
        assert_pattern(3, u64::try_from(at).unwrap(), &got);
    }

    phase("130 streams of a megabyte each at once");
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..130_u64 {
        let address = cluster.nodes[usize::try_from(index % 3).unwrap()].legacy_address();
        let address = address.to_owned();
        writers.spawn(async move {
            let client = LegacyClient::in_dir(&address, "many").await;
            let name = format!("{index}.evlog.journal");
            let mut stream = client.append(&name, 0).await.unwrap();
            stream.send(&pattern(index, 0, 1 << 20)).await;
            stream.finish(Duration::from_secs(60)).await;
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    println!("130 MiB in {:?}", began.elapsed());
    let mut looker = LegacyClient::in_dir(n2, "many").await;
    let lines = looker.list().await;
    assert!(
        lines
            .iter()
            .all(|line| line.size == 1 << 20 && !line.appending)
    );
    for (node, before) in cluster.nodes.iter().zip(before) {
        let grown = node.resident_bytes().saturating_sub(before);
        println!("{} grew by {} MiB", node.name, grown >> 20);
        assert!(
            grown < GROWTH_MAX,
            "{} grew by {} MiB",
            node.name,
            grown >> 20
        );
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_workers_belong_to_the_job_that_was_given() {
    let options = ClusterOptions::new(1).with(&["--legacy-job", "fraud"]);
    let cluster = TestCluster::start_with(options).await;
    let flags = ["--listen", "127.0.0.1:0", "--job", "shop"];
    let gateway = GatewayProcess::start_with(&cluster.endpoints(), &flags).await;
    for address in [cluster.nodes[0].legacy_address(), &gateway.address] {
        let client = LegacyClient::in_dir(address, "w").await;
        let stream = client.append("f.journal", 0).await.unwrap();
        stream.finish(COMMIT_WITHIN).await;
    }
    let listed = cluster
        .cli(&["journal", "list", "-o", "json"])
        .await
        .done()
        .json();
    let rows = listed["journals"].as_array().unwrap().iter();
    let names: Vec<_> = rows.map(|row| row["journal"].as_str().unwrap()).collect();
    assert_eq!(names, ["fraud/w/f.journal", "shop/w/f.journal"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_a_gateway_that_is_gone_is_free_within_ten_seconds() {
    let cluster = TestCluster::start(3).await;
    let gateway = GatewayProcess::start(&cluster.endpoints()).await;
    let client = LegacyClient::in_dir(&gateway.address, "w").await;
    let mut stream = client.append("f.journal", 0).await.unwrap();
    stream.send(b"0123456789").await;
    stream.synced(COMMIT_WITHIN).await;

    phase("it is silent, as if its host had vanished");
    gateway.pause();
    let began = Instant::now();
    let node = cluster.nodes[0].legacy_address();
    let other = eventually("its lock is free", Duration::from_secs(12), async || {
        let client = LegacyClient::in_dir(node, "w").await;
        client.append("f.journal", 10).await
    })
    .await;
    println!("free after {:?}", began.elapsed());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(11), "{took:?}"); // ten, on a machine that has nothing else to do

    phase("it comes back, and its worker's stream is at its end");
    gateway.resume();
    stream.send(b"late").await;
    while stream.status(COMMIT_WITHIN).await.is_some() {}
    other.finish(COMMIT_WITHIN).await;
    let mut looker = LegacyClient::in_dir(node, "w").await;
    let got = looker.get("f.journal", 0, 0).await.unwrap();
    assert_eq!(got, b"0123456789");
    cluster.finish().await;
}

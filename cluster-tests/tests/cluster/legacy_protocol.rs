//! The old workers' protocol, byte for byte, on any mix of nodes and through a gateway process. The client knows its specification alone.

use std::time::Duration;

use dos_cluster_tests::{
    TestCluster,
    legacy::{GatewayProcess, LegacyClient, REPLY_BYTES_MAX, append_request, frame},
    phase,
};

/// How long a commit may take on a busy machine.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
const NAME: &str = "app-worker2.journal";

/// Writes a whole file through one address.
async fn write(address: &str, dir: &str, name: &str, bytes: &[u8]) {
    let client = LegacyClient::in_dir(address, dir).await;
    let mut stream = client.append(name, 0).await.unwrap();
    stream.send(bytes).await;
    stream.finish(COMMIT_WITHIN).await;
}

fn text(reply: Option<Vec<u8>>) -> String {
    String::from_utf8(reply.expect("a reply, not a close")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_answered_byte_for_byte_on_any_mix_of_nodes() {
    let cluster = TestCluster::start(3).await;
    let gateway = GatewayProcess::start(&cluster.endpoints()).await;
    let nodes = cluster.nodes.iter().map(|node| node.legacy_address());
    let addresses: Vec<&str> = nodes.chain([gateway.address.as_str()]).collect();
    let at = |place: usize| addresses[place % addresses.len()];
    let bytes: Vec<u8> = (0..70).collect();

    for round in 0..4 {
        phase(&format!("round {round}"));
        let dir = format!("worker{round}");
        let [here, there, yonder] = [at(round), at(round + 1), at(round + 2)];

        let mut client = LegacyClient::in_dir(here, &dir).await;
        assert_eq!(client.ask(b"l").await.unwrap(), b"", "an empty directory");
        write(there, &dir, NAME, &bytes).await;
        let live = LegacyClient::in_dir(yonder, &dir).await;
        let mut live = live.append("app-worker2.evlog.journal", 0).await.unwrap();
        live.send(b"123456789").await;
        live.synced(COMMIT_WITHIN).await;
        let listed = client.ask(b"lwhatever").await.unwrap();
        assert_eq!(
            String::from_utf8(listed).unwrap(),
            "app-worker2.evlog.journal\t9\tyes\napp-worker2.journal\t70\tno\n"
        );

        phase("get: parts, all, the rest, past the end, negative");
        for (offset, size, expected) in [
            (0, 16_384, &bytes[..]),
            (0, 0, &bytes[..]),
            (10, 0, &bytes[10..]),
            (10, 5, &bytes[10..15]),
            (-5, 3, &bytes[..3]),
            (0, -1, &[]),
            (70, 0, &[]),
            (71, 5, &[]),
            (i64::MAX, 5, &[]),
        ] {
            let got = client.get(NAME, offset, size).await;
            assert_eq!(got.as_deref(), Some(expected), "g {offset} {size}");
        }

        phase("s and unknown commands keep the connection");
        assert_eq!(
            text(client.ask(format!("s{NAME}").as_bytes()).await),
            "70\t70"
        );
        let live_size = text(client.ask(b"sapp-worker2.evlog.journal").await);
        assert_eq!(live_size, "9\t9");
        assert_eq!(text(client.ask(b"z").await), "ERROR: unknown command \"z\"");
        for command in [0, 0xff, b'"', b'A'] {
            let expected = [b"ERROR: unknown command \"", &[command][..], b"\""].concat();
            assert_eq!(client.ask(&[command, b'x']).await.unwrap(), expected);
        }
        assert_eq!(text(client.ask(b"dno such file").await), "ERROR");

        phase("refused appends create nothing");
        let refused = async |name: &str, argument: &str| {
            let mut client = LegacyClient::in_dir(here, &dir).await;
            let reply = text(client.ask(format!("a{name}{argument}").as_bytes()).await);
            assert_eq!(client.reply().await, None, "closed behind {reply:?}");
            reply
        };
        let wrong = " file requested offset 52 but eof_offset 70";
        assert_eq!(refused(NAME, "\t52").await, format!("ERROR: {NAME}{wrong}"));
        assert_eq!(
            refused("new.journal", "\t5").await,
            "ERROR: new.journal file requested offset 5 but eof_offset 0"
        );
        assert_eq!(
            refused("app-worker2.evlog.journal", "\t9").await,
            "ERROR: app-worker2.evlog.journal file is locked"
        );
        for argument in [
            "",
            "\t",
            "\txyz",
            "\t1\t2",
            "\t-1",
            "\t99999999999999999999",
        ] {
            assert!(
                refused("new.journal", argument)
                    .await
                    .starts_with("ERROR: ")
            );
        }
        let names: Vec<_> = client
            .list()
            .await
            .into_iter()
            .map(|line| line.name)
            .collect();
        assert_eq!(names, [&b"app-worker2.evlog.journal"[..], NAME.as_bytes()]);

        phase("get closes without a frame");
        for request in [
            "gno such file\t0\t0",
            "gx",
            "gx\t1",
            &format!("g{NAME}\ta\t0"),
            &format!("g{NAME}\t0\t0\t0"),
        ] {
            let mut client = LegacyClient::in_dir(there, &dir).await;
            assert_eq!(client.ask(request.as_bytes()).await, None, "{request:?}");
        }

        phase("delete");
        live.finish(COMMIT_WITHIN).await;
        let mut other = LegacyClient::in_dir(yonder, &dir).await;
        assert_eq!(text(other.ask(format!("d{NAME}").as_bytes()).await), "ok");
        assert_eq!(
            text(other.ask(format!("d{NAME}").as_bytes()).await),
            "ERROR"
        );
        assert_eq!(client.find(NAME).await, None);
    }
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_come_in_any_pieces_and_names_cannot_lead_astray() {
    let cluster = TestCluster::start(3).await;
    let [n1, n2, n3] = [0, 1, 2].map(|place| cluster.nodes[place].legacy_address());

    phase("pipelined, with stream bytes right behind the append");
    let mut client = LegacyClient::connect(n1).await;
    let requests = [
        frame(b"uw"),
        frame(b"l"),
        frame(b"z"),
        append_request("f.journal", 0),
    ]
    .concat();
    client.send(&[&requests[..], b"hello"].concat()).await;
    assert_eq!(client.reply().await.unwrap(), b"ok");
    assert_eq!(client.reply().await.unwrap(), b"");
    assert_eq!(text(client.reply().await), "ERROR: unknown command \"z\"");
    let reply = client.reply().await.unwrap();
    let mut stream = client.appending(reply, 0).await.unwrap();
    stream.sent_before(5);
    let took = stream.synced(COMMIT_WITHIN).await;
    println!("synced after {took:?}");
    stream.finish(COMMIT_WITHIN).await;

    phase("byte by byte");
    let mut client = LegacyClient::connect(n2).await;
    for byte in [frame(b"uw"), frame(b"gf.journal\t0\t0")].concat() {
        client.send(&[byte]).await;
    }
    assert_eq!(client.reply().await.unwrap(), b"ok");
    assert_eq!(client.reply().await.unwrap(), b"hello");

    phase("the same name in two directories is two locks");
    let open = async |address: &str, dir: &str, name: &str, offset: u64| {
        let client = LegacyClient::in_dir(address, dir).await;
        client.append(name, offset).await
    };
    let one = open(n1, "w", "f.journal", 5).await.unwrap();
    let other = open(n2, "x", "f.journal", 0).await.unwrap();
    let locked = open(n3, "w", "f.journal", 5).await.unwrap_err();
    assert_eq!(locked, "ERROR: f.journal file is locked");
    one.finish(COMMIT_WITHIN).await;
    other.finish(COMMIT_WITHIN).await;

    phase("names that are no file names");
    let long = "n".repeat(256);
    for name in [
        "./f.journal",
        "../w/f.journal",
        "..",
        ".",
        "a/b",
        "",
        "a\nb",
        "a\0b",
        &long,
    ] {
        let refused = open(n3, "w", name, 0).await;
        assert!(refused.is_err(), "{name:?} was taken");
    }
    let mut client = LegacyClient::in_dir(n3, "w").await;
    let reply = client.ask(b"a\xff\xfe\t0").await;
    assert!(reply.unwrap().starts_with(b"ERROR: "));
    for dir in ["..", "a/b", "../..", "a\0"] {
        let mut client = LegacyClient::in_dir(n3, dir).await;
        assert_ne!(
            client.get("f.journal", 0, 0).await.as_deref(),
            Some(&b"hello"[..])
        );
    }
    let longest = "n".repeat(255);
    open(n1, "w", &longest, 0)
        .await
        .unwrap()
        .finish(COMMIT_WITHIN)
        .await;

    phase("the command line reads the same journals");
    let shown = cluster
        .cli(&["journal", "read", "wallaroo/w/f.journal"])
        .await
        .done();
    assert_eq!(shown.stdout, "hello");
    open(n1, "w", "f.evlog.journal", 0)
        .await
        .unwrap()
        .finish(COMMIT_WITHIN)
        .await;
    let listed = cluster
        .cli(&["journal", "list", "wallaroo", "-o", "json"])
        .await
        .done()
        .json();
    let kind = |name: &str| {
        let rows = listed["journals"].as_array().unwrap();
        let row = rows.iter().find(|row| row.to_string().contains(name));
        row.unwrap_or_else(|| panic!("{listed}"))["kind"].clone()
    };
    assert_eq!(kind("w/f.journal"), "ops");
    assert_eq!(kind("w/f.evlog.journal"), "raw");
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_never_longer_than_a_worker_can_read() {
    let cluster = TestCluster::start(3).await;
    let n1 = cluster.nodes[0].legacy_address();
    let padding = "x".repeat(60);
    let create = |index: usize| {
        let name = format!("{index:03}{padding}.journal");
        async move { write(n1, "many", &name, b"1").await }
    };
    for batch in 0..20 {
        let creates = (batch * 20..batch * 20 + 20).map(create);
        let tasks: Vec<_> = creates.collect();
        for task in tasks {
            task.await;
        }
    }
    let mut client = LegacyClient::in_dir(cluster.nodes[1].legacy_address(), "many").await;
    let lines = client.list().await;
    let bytes: usize = lines.iter().map(|line| line.name.len() + 6).sum();
    assert!(
        lines.len() > 150 && bytes <= REPLY_BYTES_MAX,
        "{} lines",
        lines.len()
    );
    cluster.finish().await;
}

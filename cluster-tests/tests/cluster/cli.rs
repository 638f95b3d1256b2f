//! The command line against a real cluster: every command once, what programs read, and what exit codes mean.

use std::{collections::BTreeMap, path::Path};

use dos_cluster::domain::{CheckpointId, Epoch, Offset};
use dos_cluster_tests::{
    ClusterOptions, TestCluster, cli, cli_with_stdin, cluster::SETTLE_WITHIN, eventually, phase,
    wait::check,
};

use crate::journal;

/// Commands whose stdout is no JSON document, with `-o json` or without, and why.
const NO_JSON: [(&str, &str); 9] = [
    ("serve", "a node: it prints nothing"),
    ("gateway", "it runs until a signal: see gateway.rs"),
    ("bench", "a line of JSON for each run: see bench.rs"),
    ("dev", "it runs until Ctrl-C: see tour.rs"),
    (
        "demo legacy",
        "a story for people, as demo is: see demo_legacy.rs",
    ),
    ("completions", "a script for a shell"),
    ("journal read", "the bytes of a journal"),
    ("endpoint watch", "a document a line: see endpoint.rs"),
    ("endpoint render", "what --format says: see endpoint.rs"),
];

/// The commands that do something themselves, as the help lists them.
async fn leaves() -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![Vec::<String>::new()]);
    while let Some(path) = open.pop() {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = cli("", &arguments).await.done().stdout;
        let listed = help.split_once("\nCommands:\n").map(|(_, rest)| rest);
        let section = listed.and_then(|rest| rest.split("\n\n").next());
        let Some(section) = section else {
            found.push(path.join(" "));
            continue;
        };
        let names = section.lines().filter_map(|line| {
            let name = line
                .strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))?;
            name.split(' ').next()
        });
        open.extend(names.map(|name| [&path[..], &[name.to_owned()]].concat()));
    }
    found.sort();
    found
}

/// Runs commands with `-o json`, and keeps which.
struct Told<'a> {
    cluster: &'a TestCluster,
    commands: Vec<String>,
}

impl Told<'_> {
    /// A command that succeeds; `name` is the part of it that names the command.
    async fn done(&mut self, name: &str, arguments: &[&str], stdin: &[u8]) -> serde_json::Value {
        let words: Vec<&str> = name.split(' ').chain(arguments.iter().copied()).collect();
        let words = [&words[..], &["-o", "json"]].concat();
        let output = cli_with_stdin(&self.cluster.endpoints(), &words, stdin).await;
        self.commands.push(name.to_owned());
        output.done().json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_in_json() {
    let mut cluster = TestCluster::waiting(ClusterOptions::new(3)).await;
    let fresh = cluster.add_node();
    cluster.answers(fresh).await;
    let addresses: Vec<String> = cluster
        .nodes
        .iter()
        .map(|n| n.address().to_owned())
        .collect();
    let mut told = Told {
        cluster: &cluster,
        commands: Vec::new(),
    };

    phase("the cluster and its members");
    let formed = told
        .done("init", &["--nodes", &addresses[..3].join(",")], b"")
        .await;
    let id = formed["cluster_id"].as_str().unwrap().to_owned();
    let joined = told.done("join", &[&addresses[3]], b"").await;
    assert_eq!(joined["node"], "n4", "{joined}");
    cluster.ready().await;
    let status = told.done("status", &[], b"").await;
    assert_eq!(status["cluster_id"], id.as_str(), "{status}");
    let listed = told.done("member list", &[], b"").await;
    assert_eq!(listed["members"].as_array().unwrap().len(), 4, "{listed}");
    let led = told.done("leader transfer", &["n3"], b"").await;
    assert_eq!(led["leader"], "n3", "{led}");
    let left = told.done("member remove", &["n4"], b"").await;
    assert_eq!(left["members"].as_array().unwrap().len(), 3, "{left}");

    phase("journals");
    for worker in ["w1", "w2"] {
        let name = format!("job/{worker}/log");
        let appended = told.done("journal append", &[&name], b"0123456789").await;
        assert_eq!(appended["durable"], 10, "{appended}");
    }
    told.done("journal append", &["job/w1/scrap"], b"0").await;
    let removed = told.done("journal rm", &["job/w1/scrap"], b"").await;
    assert_eq!(removed["journal"], "job/w1/scrap", "{removed}");
    let listed = told.done("journal list", &["job"], b"").await;
    let rows = listed["journals"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed}");
    assert!(
        rows.iter()
            .all(|row| row["tail"] == 10 && row["kind"] == "raw"),
        "{listed}"
    );
    let one = told.done("journal list", &["job/w2"], b"").await;
    assert_eq!(one["journals"][0]["journal"], "job/w2/log", "{one}");
    let stat = told.done("journal stat", &["job/w1/log"], b"").await;
    assert_eq!(
        (&stat["tail"], &stat["epoch"]),
        (&10.into(), &1.into()),
        "{stat}"
    );
    let dumped = told.done("journal dump", &["-"], b"").await;
    assert_eq!(dumped["records"], 0, "{dumped}");
    let read = cluster
        .cli(&["journal", "read", "job/w1/log", "-o", "json"])
        .await;
    assert_eq!(read.done().stdout, "0123456789");

    let files = cluster.dir().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("w3.evlog.journal"), b"0123456789").unwrap();
    let files = files.to_str().unwrap();
    let arguments = ["--job", "mirrored", "--worker", "w3", files, "--once"];
    let mirrored = told.done("mirror", &arguments, b"").await;
    let row = &mirrored["journals"][0];
    assert_eq!(row["journal"], "mirrored/w3/w3.evlog.journal", "{mirrored}");
    assert_eq!(
        (&row["durable"], &row["state"], &row["kind"]),
        (&10.into(), &"durable".into(), &"raw".into()),
        "{mirrored}"
    );

    phase("checkpoints: the first worker has two, the second has one");
    let client = cluster.client();
    for (worker, number) in [("w1", 1), ("w1", 2), ("w2", 1)] {
        let journal = journal(&format!("job/{worker}/log"));
        let offsets = BTreeMap::from([(journal.journal.clone(), Offset(number * 5))]);
        let id = CheckpointId {
            rollback_epoch: 0,
            number,
        };
        client
            .commit_checkpoint(&journal.owner, Epoch(1), id, offsets)
            .await
            .unwrap();
    }
    let listed = told.done("checkpoint list", &["job/w1"], b"").await;
    let made: Vec<_> = listed["checkpoints"].as_array().unwrap().iter().collect();
    assert_eq!(made.len(), 2, "{listed}");
    assert!(made.iter().all(|row| row["worker"] == "job/w1"), "{listed}");
    assert_eq!(made[1]["offsets"][0]["offset"], 10, "{listed}");
    let line = told.done("checkpoint line", &["--job", "job"], b"").await;
    assert_eq!(line["line"], "0:1", "{line}");
    assert_eq!(line["workers"][0]["newest_checkpoint"], "0:2", "{line}");
    let reached = told
        .done("checkpoint await", &["--job", "job", "1"], b"")
        .await;
    assert_eq!(reached["reached"], true, "{reached}");
    let wait = [
        "checkpoint",
        "await",
        "--job",
        "job",
        "2",
        "--timeout",
        "500ms",
    ];
    let late = cluster.cli(&wait).await;
    let late = late.exits_with(
        8,
        &["checkpoint 0:2 of job job", "these workers lack it: w2"],
    );
    assert!(
        late.stdout.contains("w2") && !late.stdout.contains("w1"),
        "{late:?}"
    );
    let late = cluster.cli(&[&wait[..], &["-o", "json"]].concat()).await;
    let late = late.exits_with(8, &["\"exit_code\":8"]).json();
    assert_eq!(late["reached"], false, "{late}");
    assert_eq!(late["late"][0]["worker"], "job/w2", "{late}");
    assert_eq!(late["late"][0]["newest_checkpoint"], "0:1", "{late}");

    phase("workers");
    let listed = told.done("worker list", &["job"], b"").await;
    let w1 = &listed["workers"][0];
    assert_eq!(
        (&w1["worker"], &w1["epoch"]),
        (&"job/w1".into(), &1.into()),
        "{listed}"
    );
    assert_eq!(w1["newest_checkpoint"], "0:2", "{listed}");
    let taken = told
        .done("worker takeover", &["job/w1", "--at", "line"], b"")
        .await;
    assert_eq!(
        (&taken["epoch"], &taken["checkpoint"]),
        (&2.into(), &"0:1".into()),
        "{taken}"
    );
    assert_eq!(taken["journals"][0]["tail"], 5, "{taken}");
    assert_eq!(
        taken["endpoint_generation"],
        serde_json::Value::Null,
        "{taken}"
    );

    phase("endpoints");
    let set = told
        .done("endpoint set", &["job/w1", "control=h:1", "data=h:2"], b"")
        .await;
    assert_eq!(
        (&set["worker"], &set["generation"]),
        (&"job/w1".into(), &1.into()),
        "{set}"
    );
    let got = told.done("endpoint get", &["job/w1"], b"").await;
    assert_eq!(got["addresses"]["data"], "h:2", "{got}");
    let listed = told.done("endpoint list", &["--job", "job"], b"").await;
    assert_eq!(listed["endpoints"], serde_json::json!([got]), "{listed}");

    phase("restore");
    let to = cluster.dir().join("restored");
    let arguments = [
        "--job",
        "job",
        "--worker",
        "w2",
        "--to",
        to.to_str().unwrap(),
    ];
    let restored = told.done("restore", &arguments, b"").await;
    assert_eq!(restored["epoch"], 2, "{restored}");
    assert_eq!(std::fs::read(to.join("log")).unwrap(), b"0123456789");

    phase("no command was forgotten");
    let mut known = told.commands;
    known.extend(NO_JSON.map(|(name, _)| name.to_owned()));
    known.sort();
    known.dedup();
    assert_eq!(known, leaves().await);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_completions_are_scripts_that_their_shell_takes() {
    let script = cli("", &["completions", "bash"]).await.done().stdout;
    assert!(script.contains("checkpoint"), "{script}");
    let mut bash = std::process::Command::new("bash");
    bash.arg("-n");
    let parsed = cli::run(bash, script.as_bytes()).await.done();
    assert_eq!(parsed.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_got_no_answer_says_that_its_effect_is_unknown() {
    let cluster = TestCluster::start(1).await;
    let append = ["journal", "append", "job/w/log"];
    let output = cli_with_stdin(&cluster.endpoints(), &append, b"x").await;
    let _ = output.done();
    cluster.nodes[0].pause();
    let arguments = [
        "worker",
        "takeover",
        "job/w",
        "-o",
        "json",
        "--timeout",
        "2s",
    ];
    let output = cluster.cli(&arguments).await;
    cluster.nodes[0].resume();
    assert!(output.took.as_secs() < 4, "{output:?}");
    let output = output.exits_with(8, &[]);
    let said: serde_json::Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(said["error"]["exit_code"], 8, "{said}");
    assert_eq!(said["error"]["kind"], "timeout", "{said}");
    assert_eq!(said["error"]["effect"], "unknown", "{said}");
    let next = said["error"]["try"].to_string();
    assert!(next.contains("dos-cluster worker list job"), "{said}");

    phase("what it then tells to do shows what became of it");
    eventually("the node answers", SETTLE_WITHIN, async || {
        let listed = cluster.cli(&["worker", "list", "job", "-o", "json"]).await;
        check(listed.code == 0, || format!("{listed:?}"))?;
        let epoch = listed.json()["workers"][0]["epoch"].as_u64().unwrap();
        check(epoch == 1 || epoch == 2, || format!("epoch {epoch}"))
    })
    .await;
    cluster.finish().await;
}

/// Records as the legacy workers write them (B.2): truncate to 0, write behind a hole, remove; and the beginning of one.
const SET_LENGTH: &str =
    "0000002a0000010100000000000000010000000000000000000000000000000e2f722f612d772e776f726b657273";
const WRITE: &str = "0000003a000101020000000000000003000000000000000c000000000000000e00000000000000082f722f612d772e\
                     776f726b657273776f726b6572320a";
const REMOVE: &str = "00000022000200010000000000000000000000000000000e2f722f612d772e776f726b657273";
const TORN: &str = "0000003a00010102000000000000000400000000";

fn bytes(vectors: &[&str]) -> Vec<u8> {
    let digits = vectors.concat();
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

async fn dump(file: &Path, flags: &[&str]) -> cli::CliOutput {
    let mut command = cli::command();
    command.args(["journal", "dump"]).arg(file).args(flags);
    cli::run(command, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_journal_file_is_dumped_in_the_words_of_the_legacy_tool() {
    let dir = tempfile::tempdir().unwrap();
    let (file, files) = (dir.path().join("w.journal"), dir.path().join("files"));
    let write = |vectors: &[&str]| std::fs::write(&file, bytes(vectors)).unwrap();

    write(&[SET_LENGTH, WRITE, REMOVE]);
    let shown = dump(&file, &["-n", "-v"]).await.done();
    assert_eq!(
        shown.stdout,
        "version=0 op=0 tag=1 ints=[0] strings=['/r/a-w.workers']\n\
         version=0 op=1 tag=3 ints=[12] strings=['/r/a-w.workers', 'worker2\\n']\n\
         version=0 op=2 tag=0 ints=[] strings=['/r/a-w.workers']\n\
         EOF\n"
    );
    assert_eq!(shown.stderr, "");
    assert_eq!(dump(&file, &[]).await.done().stdout, "EOF\n");

    phase("replayed, up to a last record that is cut");
    write(&[SET_LENGTH, WRITE, TORN]);
    let to = ["--to", files.to_str().unwrap(), "--map", "/r=."];
    let shown = dump(&file, &to).await.exits_with(1, &[]);
    assert_eq!(shown.stdout, "Error: wanted 58 bytes but got 16 instead\n");
    let replayed = std::fs::read(files.join("a-w.workers")).unwrap();
    assert_eq!(replayed, b"\0\0\0\0\0\0\0\0\0\0\0\0worker2\n");

    phase("the same for programs, and from stdin");
    let mut command = cli::command();
    command.args(["journal", "dump", "-", "-o", "json", "-v"]);
    let shown = cli::run(command, &bytes(&[WRITE, TORN])).await;
    let shown = shown
        .exits_with(1, &["version=0 op=1 tag=3", "Error: wanted 58"])
        .json();
    assert_eq!(shown["records"], 1, "{shown}");
    assert_eq!(
        shown["torn"],
        serde_json::json!({"offset": 62, "part": "body", "wanted": 58, "have": 16}),
        "{shown}"
    );

    phase("a remove of what is not there is a notice; a path that leads out is refused");
    write(&[REMOVE]);
    let empty = dir.path().join("empty");
    let to_empty = ["--to", empty.to_str().unwrap(), "--map", "/r=."];
    let shown = dump(&file, &to_empty).await.done().stdout;
    assert_eq!(
        shown,
        "NOTICE: unlink: file /r/a-w.workers does not exist\nEOF\n"
    );
    write(&[WRITE]);
    let _ = dump(&file, &to[..2])
        .await
        .exits_with(4, &["it is not empty", "--force"]);
    let shown = dump(&file, &[to[0], to[1], "--force"]).await;
    let shown = shown.exits_with(1, &["1 operations were refused", "--map OLD=NEW"]);
    assert!(
        shown.stdout.contains("NOTICE: ") && shown.stdout.contains("/r/a-w.workers"),
        "{shown:?}"
    );
    assert!(!Path::new("/r").exists());

    phase("a file that is not there");
    let gone = dir.path().join("gone");
    let _ = dump(&gone, &[])
        .await
        .exits_with(1, &["cannot open", gone.to_str().unwrap()]);
}

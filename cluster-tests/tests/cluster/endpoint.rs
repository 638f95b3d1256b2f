//! Where workers are reached: told to whoever watches through the loss of the leader, and written for other programs.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::SystemTime,
};

use dos_cluster::{
    client::{EndpointWatch, Floor, TakeoverOptions},
    domain::{Addresses, Epoch, Rejected, RestorePoint, WorkerRef},
};
use dos_cluster_tests::{
    CliOutput, TestCluster,
    cli::{self, cli},
    cluster::SETTLE_WITHIN,
    eventually, phase,
    wait::check,
};
use rustix::process::{Pid, Signal, kill_process};

fn addresses(control: &str) -> Addresses {
    Addresses::new([("control".to_owned(), control.to_owned())].into()).unwrap()
}

fn worker(name: &str) -> WorkerRef {
    name.parse().unwrap()
}

/// What a watch tells next: each worker with its generation and its control address.
async fn next(watch: &mut EndpointWatch) -> Vec<(String, u64, String)> {
    let told = tokio::time::timeout(SETTLE_WITHIN, watch.next()).await;
    let told = told.expect("the watch says something").unwrap();
    let told = told.into_iter().map(|(worker, endpoint)| {
        let control = endpoint.addresses.get("control").unwrap().to_owned();
        (worker.to_string(), endpoint.generation, control)
    });
    told.collect()
}

fn told(worker: &str, generation: u64, control: &str) -> Vec<(String, u64, String)> {
    vec![(worker.to_owned(), generation, control.to_owned())]
}

/// `endpoint watch` as a process, whose stdout and stderr go to files.
struct Watcher {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Watcher {
    /// It knows nothing but one node.
    fn start(cluster: &TestCluster, node: usize, name: &str, flags: &[&str]) -> Self {
        let stdout = cluster.dir().join(name);
        let stderr = cluster.dir().join(format!("{name}.stderr"));
        let mut command = cli::command();
        command
            .env("DOS_CLUSTER_ENDPOINTS", cluster.nodes[node].address())
            .args(["endpoint", "watch", "--job", "job"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&stdout).unwrap())
            .stderr(std::fs::File::create(&stderr).unwrap());
        let child = command.spawn().unwrap();
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits until it has said all these words on stderr.
    async fn talked(&mut self, words: &[&str]) -> String {
        eventually("the watch says it", SETTLE_WITHIN, async || {
            let said = std::fs::read_to_string(&self.stderr).unwrap();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended by itself: {ended:?}: {said}");
            match words.iter().find(|word| !said.contains(**word)) {
                Some(missing) => Err(format!("{missing:?} is not in {said}")),
                None => Ok(said),
            }
        })
        .await
    }

    /// Waits until the file holds exactly this.
    async fn wrote(&mut self, file: &Path, content: &str) {
        let what = format!("{} holds {content:?}", file.display());
        eventually(&what, SETTLE_WITHIN, async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the watch ended by itself: {ended:?}");
            let found = std::fs::read_to_string(file).unwrap_or_default();
            check(found == content, || format!("{found:?}"))
        })
        .await;
    }

    /// Waits until its last line is of this generation.
    async fn told(&self, generation: u64) {
        eventually("the generation is told", SETTLE_WITHIN, async || {
            let said = std::fs::read_to_string(&self.stdout).unwrap();
            let last = said.lines().last().unwrap_or_default();
            let wanted = format!("\"generation\":{generation},");
            check(last.contains(&wanted), || said.clone())
        })
        .await;
    }

    /// SIGTERM: a watch is done when it is told so.
    async fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let ended = eventually("the watch ends", SETTLE_WITHIN, async || {
            let ended = self.child.try_wait().unwrap();
            ended.ok_or_else(|| "it runs".to_owned())
        });
        assert!(ended.await.success());
        std::fs::read_to_string(&self.stdout).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_when_its_node_and_the_leader_are_lost_and_never_back() {
    let mut cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let w1 = worker("job/w1");
    let job = w1.job.clone();
    let nobody = client.watch_endpoints(&job).await.unwrap_err();
    assert!(
        matches!(nobody.rejected(), Some(Rejected::UnknownJob { .. })),
        "{nobody}"
    );
    client.open_worker(&w1, None).await.unwrap();

    phase("watched through the leader, which is to be lost, before there is anything");
    let leader = cluster.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut watch = cluster
        .client_at(leader)
        .watch_endpoints(&job)
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await, []);
    let changes = cluster.dir().join("changes");
    let exec = format!(
        "echo \"$DOS_JOB $DOS_WORKER $DOS_GENERATION $DOS_ADDRESSES $DOS_ADDRESS_CONTROL\" >> '{}'",
        changes.display()
    );
    let mut commands = Watcher::start(&cluster, leader, "stdout", &["--exec", &exec]);
    let lines = Watcher::start(&cluster, one, "lines", &["-o", "json"]);

    phase("set through another node");
    let set = ["endpoint", "set", "job/w1"];
    let address = cluster.nodes[other].address().to_owned();
    let first = cli(&address, &[&set[..], &["control=a:1"]].concat()).await;
    let _ = first.done();
    assert_eq!(next(&mut watch).await, told("job/w1", 1, "a:1"));
    lines.told(1).await;
    let line_1 = "job w1 1 control=a:1 a:1\n".to_owned();
    commands.wrote(&changes, &line_1).await;

    phase("the leader dies, and nothing is told twice");
    cluster.nodes[leader].kill9();
    let options = TakeoverOptions {
        expected_epoch: Some(Epoch(1)),
        point: RestorePoint::Latest,
        by: "a test that moves it".to_owned(),
        endpoint: Some(addresses("b:2")),
    };
    let taken = client.takeover_with(&w1, options).await.unwrap();
    assert_eq!(taken.epoch, Epoch(2));
    let endpoint = taken.endpoint.unwrap();
    assert_eq!(
        (endpoint.generation, endpoint.by.as_str()),
        (2, "a test that moves it")
    );
    assert_eq!(next(&mut watch).await, told("job/w1", 2, "b:2"));
    let line_2 = line_1 + "job w1 2 control=b:2 b:2\n";
    commands.wrote(&changes, &line_2).await;
    lines.told(2).await;

    phase(
        "a stale generation is refused, the present one is taken, and its repetition changes nothing",
    );
    let stale = [&set[..], &["control=c:3", "--generation", "1"]].concat();
    let _ = cluster.cli(&stale).await.exits_with(
        4,
        &["generation 2, not 1", "dos-cluster endpoint get job/w1"],
    );
    let error = client
        .set_endpoint(&w1, Some(1), addresses("c:3"), "test")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.rejected(),
            Some(Rejected::StaleEndpoint {
                expected: 1,
                current: 2,
                ..
            })
        ),
        "{error}"
    );
    for _ in 0..2 {
        let set = client.set_endpoint(&w1, Some(2), addresses("c:3"), "test");
        assert_eq!(set.await.unwrap(), 3);
    }
    assert_eq!(next(&mut watch).await, told("job/w1", 3, "c:3"));
    let line_3 = line_2 + "job w1 3 control=c:3 c:3\n";
    commands.wrote(&changes, &line_3).await;
    lines.told(3).await;

    phase("the old leader comes back, behind the others, and the other two go one by one");
    cluster.nodes[leader].start();
    let mut commanded = line_3;
    for (generation, lost) in [(4, one), (5, other)] {
        cluster.ready().await;
        cluster.nodes[lost].kill9();
        // With what is expected it is safe to repeat, whomever it was sent to first.
        let set = client.set_endpoint(&w1, Some(generation - 1), addresses("d:4"), "test");
        assert_eq!(set.await.unwrap(), generation);
        assert_eq!(next(&mut watch).await, told("job/w1", generation, "d:4"));
        commanded += &format!("job w1 {generation} control=d:4 d:4\n");
        commands.wrote(&changes, &commanded).await;
        lines.told(generation).await;
        cluster.nodes[lost].start();
    }
    cluster.ready().await;

    phase("both watches said each generation once, in order");
    let stdout = commands.stop().await;
    let said = "job/w1 1 control=a:1\njob/w1 2 control=b:2\njob/w1 3 control=c:3\n\
                job/w1 4 control=d:4\njob/w1 5 control=d:4\n";
    assert_eq!(stdout, said);
    let lines = lines.stop().await;
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let generations: Vec<_> = rows.map(|row| row["generation"].as_u64()).collect();
    assert_eq!(generations, [1, 2, 3, 4, 5].map(Some), "{lines}");
    cluster.converged().await;
    let found = client
        .endpoints(Some(&job), None, Floor::Linearizable)
        .await
        .unwrap();
    assert_eq!(found.endpoints[&w1].generation, 5);
    cluster.finish().await;
}

/// What tells whether a file was written again.
fn identity(path: &Path) -> (u64, SystemTime) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.ino(), metadata.modified().unwrap())
}

async fn render(cluster: &TestCluster, format: &str, flags: &[&str]) -> CliOutput {
    let words = ["endpoint", "render", "--job", "job", "--format", format];
    cluster.cli(&[&words[..], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_written_for_other_programs_all_at_once_and_only_when_they_change() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client();
    for name in ["job/w1", "job/w2", "job/silent"] {
        client.open_worker(&worker(name), None).await.unwrap();
    }

    phase("a worker without an endpoint");
    let get = cluster.cli(&["endpoint", "get", "job/silent"]).await;
    let _ = get.exits_with(4, &["job/silent", "dos-cluster endpoint set job/silent"]);
    let get = cluster.cli(&["endpoint", "get", "job/nobody"]).await;
    let _ = get.exits_with(4, &["nobody"]);
    let older = cluster.dir().join("older");
    std::fs::write(&older, "older").unwrap();
    let over = ["--out", older.to_str().unwrap()];
    let none = render(&cluster, "env", &over).await;
    let _ = none.exits_with(4, &["job job", "dos-cluster endpoint set job/WORKER"]);
    for format in ["env", "wallaroo"] {
        let words = [
            "endpoint",
            "render",
            "--worker",
            "job/silent",
            "--prefix",
            "A",
        ];
        let flags = [&words[..], &["--format", format], &over].concat();
        let none = cluster.cli(&flags).await;
        let step = "dos-cluster endpoint set job/silent";
        let _ = none.exits_with(4, &["job/silent has no endpoint yet", step]);
    }
    assert_eq!(std::fs::read_to_string(&older).unwrap(), "older");

    phase("one is set, another comes with a takeover");
    let set = ["endpoint", "set", "job/w1", "control=10.0.0.7:3131"];
    let set = [&set[..], &["data=10.0.0.7:3132", "--by", "a test"]].concat();
    let _ = cluster.cli(&set).await.done();
    let twice = [&set[..], &["data=h:1"]].concat();
    let _ = cluster.cli(&twice).await.exits_with(2, &["data"]);
    let takeover = [
        "worker", "takeover", "job/w2", "-o", "json", "--by", "a test",
    ];
    let to = [
        "--endpoint",
        "control=[::1]:1",
        "--endpoint",
        "data=w2.example:2",
    ];
    let taken = cluster.cli(&[&takeover[..], &to].concat()).await.done();
    assert_eq!(taken.json()["endpoint_generation"], 1, "{taken:?}");
    let got = cluster.cli(&["endpoint", "get", "job/w2"]).await.done();
    for word in [
        "job/w2",
        "GENERATION  1",
        "a test",
        "[::1]:1",
        "w2.example:2",
    ] {
        assert!(got.stdout.contains(word), "{word:?}: {got:?}");
    }
    let got = cluster
        .cli(&["endpoint", "get", "job/w2", "-o", "json"])
        .await;
    let got = got.done().json();
    assert_eq!(got["worker"], "job/w2");
    assert_eq!(got["addresses"]["control"], "[::1]:1");
    let listed = client.endpoints(None, None, Floor::Linearizable).await;
    let listed = listed.unwrap().endpoints;
    let at = |name| listed[&worker(name)].at_unix_ms;

    phase("every format, byte for byte");
    let template = cluster.dir().join("template");
    std::fs::write(
        &template,
        "# of {{job}}\n{{worker}}@{{generation}} {{control.host}} {{data.port}} {{data}}\nend",
    )
    .unwrap();
    let template = format!("template={}", template.display());
    let json = format!(
        r#"[
  {{
    "worker": "job/w1",
    "generation": 1,
    "addresses": {{
      "control": "10.0.0.7:3131",
      "data": "10.0.0.7:3132"
    }},
    "set_by": "a test",
    "set_at_unix_ms": {}
  }},
  {{
    "worker": "job/w2",
    "generation": 1,
    "addresses": {{
      "control": "[::1]:1",
      "data": "w2.example:2"
    }},
    "set_by": "a test",
    "set_at_unix_ms": {}
  }}
]
"#,
        at("job/w1"),
        at("job/w2")
    );
    let formats = [
        (
            "env",
            "DOS_ENDPOINT_W1_CONTROL='10.0.0.7:3131'\nDOS_ENDPOINT_W1_DATA='10.0.0.7:3132'\n\
             DOS_ENDPOINT_W2_CONTROL='[::1]:1'\nDOS_ENDPOINT_W2_DATA='w2.example:2'\n",
        ),
        ("json", &json),
        ("hosts", "10.0.0.7 w1.job\n::1 w2.job\n"),
        (
            &template,
            "# of job\n# of job\nw1@1 10.0.0.7 3132 10.0.0.7:3132\nw2@1 ::1 2 w2.example:2\nend",
        ),
    ];
    for (format, wanted) in formats {
        let out = cluster.dir().join("out");
        let flags = ["--out", out.to_str().unwrap()];
        let _ = render(&cluster, format, &flags).await.done();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), wanted, "{format}");
        let before = identity(&out);
        let _ = render(&cluster, format, &flags).await.done();
        assert_eq!(identity(&out), before, "{format}: nothing has changed");
        assert_eq!(render(&cluster, format, &[]).await.done().stdout, wanted);
    }

    phase("the files of the legacy worker, rewritten by a watch when it moves");
    let out = cluster.dir().join("wallaroo");
    std::fs::create_dir(&out).unwrap();
    let flags = ["--prefix", "App", "--out", out.to_str().unwrap()];
    let file = |name: &str| out.join(name);
    let content = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let _ = render(&cluster, "wallaroo", &flags).await.done();
    assert_eq!(content("App-w1.tcp-control"), "10.0.0.7\n3131\n");
    assert_eq!(content("App-w1.tcp-data"), "10.0.0.7\n3132\n");
    assert_eq!(content("App-w2.tcp-control"), "::1\n1\n");
    assert_eq!(content("App-w2.tcp-data"), "w2.example\n2\n");
    let before = identity(&file("App-w2.tcp-data"));
    let moved = identity(&file("App-w1.tcp-data"));
    let flags = [&["--format", "wallaroo"], &flags[..]].concat();
    let mut watcher = Watcher::start(&cluster, 0, "stdout", &flags);
    let to = ["control=10.0.0.8:3131", "data=10.0.0.8:3132"];
    let set = [&["endpoint", "set", "job/w1"], &to[..]].concat();
    let _ = cluster.cli(&set).await.done();
    let changed = file("App-w1.tcp-data");
    watcher.wrote(&changed, "10.0.0.8\n3132\n").await;
    assert_ne!(identity(&changed).0, moved.0, "another file under the name");
    assert_eq!(identity(&file("App-w2.tcp-data")), before);
    assert_eq!(watcher.stop().await, "");
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = ["App-w1.tcp-control", "App-w1.tcp-data"];
    assert_eq!(names[..2], wanted, "nothing else is left behind");
    assert_eq!(names.len(), 4, "{names:?}");

    phase("many at once, into a file that a link leads to and that only its owner reads");
    let (link, real) = (cluster.dir().join("link"), cluster.dir().join("real"));
    std::fs::write(&real, "").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("real", &link).unwrap();
    let flags = ["--out", link.to_str().unwrap()];
    let one = || render(&cluster, "hosts", &flags);
    let (first, second, third, fourth) = tokio::join!(one(), one(), one(), one());
    for one in [first, second, third, fourth] {
        let _ = one.done();
    }
    let written = std::fs::read_to_string(&real).unwrap();
    assert_eq!(written, "10.0.0.8 w1.job\n::1 w2.job\n");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777, 0o600);

    phase("a template that is wrong, and two names that are one variable");
    let wrong = cluster.dir().join("wrong");
    let format = format!("template={}", wrong.display());
    for (text, word) in [
        ("a\n{{worker\n", "line 2: {{worker is not closed"),
        ("{{Worker}}", "line 1: {{Worker}} is no placeholder"),
        ("{{nope}}", "of the roles control, data"),
    ] {
        std::fs::write(&wrong, text).unwrap();
        let refused = render(&cluster, &format, &over).await;
        let known = "known are {{job}}, {{worker}}";
        let _ = refused.exits_with(1, &[wrong.to_str().unwrap(), word, known]);
    }
    client.open_worker(&worker("job/w-2"), None).await.unwrap();
    client.open_worker(&worker("job/w.2"), None).await.unwrap();
    for name in ["job/w-2", "job/w.2"] {
        let set = ["endpoint", "set", name, "control=h:1"];
        let _ = cluster.cli(&set).await.done();
    }
    let both = "job/w-2 control and job/w.2 control are both DOS_ENDPOINT_W_2_CONTROL";
    let _ = render(&cluster, "env", &over).await.exits_with(1, &[both]);
    assert_eq!(std::fs::read_to_string(&older).unwrap(), "older");

    phase("a place that cannot be written");
    let nowhere = cluster.dir().join("no/such/out");
    let flags = ["--out", nowhere.to_str().unwrap()];
    let refused = render(&cluster, "hosts", &flags).await;
    let refused = refused.exits_with(1, &["cannot write", nowhere.to_str().unwrap(), "mkdir -p"]);
    assert!(!refused.stderr.contains("node"), "{refused:?}");
    let _ = render(&cluster, "yaml", &[])
        .await
        .exits_with(2, &["template=FILE"]);
    cluster.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_what_is_missing_and_runs_its_command_only_behind_a_written_file() {
    let cluster = TestCluster::start(3).await;
    let client = cluster.client();
    let (dir, seen) = (cluster.dir().join("later"), cluster.dir().join("seen"));
    let out = dir.join("env");
    let exec = format!(
        "(echo \"$DOS_WORKER $DOS_GENERATION\"; cat '{}') >> '{}'; exit 3",
        out.display(),
        seen.display()
    );
    let set = async |name: &str, address: &str| {
        let (name, address) = (worker(name), addresses(address));
        let set = client.set_endpoint(&name, None, address, "test");
        set.await.unwrap()
    };
    let lines =
        |w1: &str| format!("DOS_ENDPOINT_W1_CONTROL='{w1}'\nDOS_ENDPOINT_W2_CONTROL='b:1'\n");

    phase("whole documents have no place on stdout, where they have no end");
    let words = ["endpoint", "watch", "--job", "job", "--format", "env"];
    let _ = cluster.cli(&words).await.exits_with(2, &["--out"]);

    phase("started before the job, its workers, their endpoints and the directory are there");
    let flags = ["--format", "env", "--out", out.to_str().unwrap()];
    let flags = [&flags[..], &["--exec", &exec]].concat();
    let mut watcher = Watcher::start(&cluster, 0, "stdout", &flags);
    watcher.talked(&["there is no job job yet"]).await;
    for name in ["job/w1", "job/w2"] {
        client.open_worker(&worker(name), None).await.unwrap();
    }
    watcher
        .talked(&["no worker of job job has an endpoint yet"])
        .await;
    assert_eq!(set("job/w1", "a:1").await, 1);
    watcher
        .talked(&[
            "cannot write",
            out.to_str().unwrap(),
            "tried again",
            "mkdir -p",
        ])
        .await;
    assert_eq!(set("job/w2", "b:1").await, 1);

    phase(
        "the directory comes: the file is written, and only then the command is run, whose failure is told",
    );
    std::fs::create_dir(&dir).unwrap();
    watcher.wrote(&out, &lines("a:1")).await;
    let mut told = format!("w1 1\n{0}w2 1\n{0}", lines("a:1"));
    watcher.wrote(&seen, &told).await;
    let failed = |name: &str, generation: u64| {
        format!("the command for {name} generation {generation} failed: exit status: 3")
    };
    watcher
        .talked(&[&failed("job/w1", 1), &failed("job/w2", 1)])
        .await;

    phase("a write fails in the middle, and is made up for when it can be");
    std::fs::remove_file(&out).unwrap();
    std::fs::create_dir(&out).unwrap();
    assert_eq!(set("job/w1", "a:2").await, 2);
    watcher.talked(&["it is a directory"]).await;
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), told);
    std::fs::remove_dir(&out).unwrap();
    watcher.wrote(&out, &lines("a:2")).await;
    told += &format!("w1 2\n{}", lines("a:2"));
    watcher.wrote(&seen, &told).await;
    let said = watcher.talked(&[&failed("job/w1", 2)]).await;
    assert_eq!(
        said.matches("cannot write").count(),
        2,
        "each cause once: {said}"
    );
    let names = std::fs::read_dir(&dir).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["env"], "nothing else is left behind");
    assert_eq!(watcher.stop().await, "");
    cluster.finish().await;
}

//! `dos-cluster serve`: one node, until a signal.

use std::{future::Future, io::ErrorKind, path::PathBuf};

use clap::Args;

use super::{
    exit::{self, Exit, Failure},
    gateway,
    lifeline::{Lifeline, UntilStdinCloses},
    log::{self, LogFormat},
    signals::Signals,
};
use crate::{
    env::fs,
    node::{
        Fault, Node, NodeConfig,
        config::{ConfigFaults, ConfigLayer},
    },
    storage::StorageError,
};

/// Run a node: a new one waits for `init` or `join`, one with an identity goes on where it was
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster serve --data-dir /var/lib/dos-cluster
  dos-cluster serve --config /etc/dos-cluster.toml
  dos-cluster serve --data-dir ./n1 --listen 0.0.0.0:7420 --advertise n1.example.org:7420 \\
      --peer-listen 0.0.0.0:7421 --advertise-peer n1.example.org:7421

Every setting can also be given in the file (data_dir = \"...\") and in the environment (DOS_CLUSTER_DATA_DIR);
a flag beats the environment, which beats the file. Logs go to stderr. SIGTERM and SIGINT drain: leadership is handed
over, what is under way is finished; a second one stops at once.")]
pub(super) struct Serve {
    /// TOML file with settings
    #[arg(
        long,
        value_name = "FILE",
        env = "DOS_CLUSTER_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// Directory of this node's log, state and identity [default: ./dos-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address for clients [default: 127.0.0.1:7420]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address for the other members [default: 127.0.0.1:7421]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// Address for health and metrics [default: 127.0.0.1:7422]
    #[arg(long, value_name = "HOST:PORT")]
    http_listen: Option<String>,
    /// Address that clients are told, where it is not the one listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Address that members are told, where it is not the one listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// Address of health and metrics that is shown, where it is not the one listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise_http: Option<String>,
    /// How often a leader reports to its followers [default: 150ms]
    #[arg(long, value_name = "DURATION")]
    heartbeat: Option<String>,
    /// Silence of the leader after which a follower stands for election, up to a fifth more [default: 900ms]
    #[arg(long, value_name = "DURATION")]
    election_timeout: Option<String>,
    /// Bytes of log after which a snapshot is made [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    snapshot_log_bytes: Option<String>,
    /// Size of one file of the log [default: 64MiB]
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<String>,
    /// Memory for state that is not yet flushed [default: 128MiB]
    #[arg(long, value_name = "BYTES")]
    state_memory_bytes: Option<String>,
    /// How long a request may take before it is answered with what is missing [default: 10s]
    #[arg(long, value_name = "DURATION")]
    request_timeout: Option<String>,
    /// Address for legacy workers, whose protocol has no authentication; `off`: none [default: 127.0.0.1:9999 where that is free]
    #[arg(long, value_name = "HOST:PORT")]
    legacy_listen: Option<String>,
    /// Job whose workers the legacy workers are [default: wallaroo]
    #[arg(long, value_name = "JOB")]
    legacy_job: Option<String>,
    /// What is logged: a level, or filters such as info,dos_cluster::raft=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "DOS_CLUSTER_LOG",
        default_value = "info,openraft=error,openraft::raft=off,openraft::core::heartbeat=off"
    )]
    log: String,
    /// How it is logged
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "DOS_CLUSTER_LOG_FORMAT",
        default_value_t
    )]
    log_format: LogFormat,
    #[command(flatten)]
    until_stdin_closes: UntilStdinCloses,
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let variables = std::env::vars_os();
        let variables = variables.filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        let config = self.node_config(ConfigLayer::from_environment(variables))?;
        log::start(&self.log, self.log_format)?;
        abort_on_panic();
        let mut stop = Stop {
            signals: Signals::install()?,
            lifeline: self.until_stdin_closes.watch()?,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %config.data_dir.display(), "starting");
        let legacy = gateway::bind_for_node(&config.legacy_listen).await?;
        let (listen, job) = (config.client_listen.clone(), config.legacy_job.clone());
        let node = tokio::select! {
            started = Node::start(config) => started.map_err(|fault| fatal(&fault))?,
            () = stop.next() => return Ok(Exit::Done),
        };
        let endpoint = own_endpoint(&listen, node.client_address());
        let gateway = legacy
            .map(|listener| gateway::start(listener, &[endpoint], job, false))
            .transpose()?;
        if let Some(gateway) = &gateway {
            node.show_metrics_beside(gateway.metrics());
        }
        let mut second = Signals::install()?;
        let run = node.run(async move {
            stop.next().await;
            if let Some(gateway) = gateway
                && let Err(failure) = gateway::stop_in_order(gateway).await
            {
                tracing::info!("{}", failure.message);
            }
        });
        run_until(run, async move {
            // The first signal is the drain's.
            second.next().await;
            second.next().await;
        })
        .await
    }

    /// What all the sources come to.
    fn node_config(&self, environment: ConfigLayer) -> Result<NodeConfig, Failure> {
        let file = match &self.config {
            Some(path) => {
                let bytes = fs::read(path).map_err(|error| Failure {
                    exit: Exit::Usage,
                    ..exit::cannot("read", path, &error)
                })?;
                let text = String::from_utf8(bytes).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    Failure::usage(format!(
                        "cannot use {}: it is not UTF-8 at byte {at}",
                        path.display()
                    ))
                })?;
                ConfigLayer::from_toml(path, &text)
            }
            None => ConfigLayer::default(),
        };
        let flags = ConfigLayer::from_flags(self.flags());
        NodeConfig::from_layers([file, environment, flags])
            .map_err(|faults| config_failure(&faults))
    }

    fn flags(&self) -> [(&'static str, Option<String>); 15] {
        [
            ("data_dir", self.data_dir.clone()),
            ("listen", self.listen.clone()),
            ("peer_listen", self.peer_listen.clone()),
            ("http_listen", self.http_listen.clone()),
            ("advertise", self.advertise.clone()),
            ("advertise_peer", self.advertise_peer.clone()),
            ("advertise_http", self.advertise_http.clone()),
            ("heartbeat", self.heartbeat.clone()),
            ("election_timeout", self.election_timeout.clone()),
            ("snapshot_log_bytes", self.snapshot_log_bytes.clone()),
            ("segment_bytes", self.segment_bytes.clone()),
            ("state_memory_bytes", self.state_memory_bytes.clone()),
            ("request_timeout", self.request_timeout.clone()),
            ("legacy_listen", self.legacy_listen.clone()),
            ("legacy_job", self.legacy_job.clone()),
        ]
    }
}

/// Where this process reaches its own node: the address listened on, for the one that others are told may not lead here.
fn own_endpoint(listen: &str, told: &str) -> String {
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
    let Some((host, asked)) = listen.rsplit_once(':') else {
        return told.to_owned();
    };
    let port = match asked {
        "0" => port(told).unwrap_or_default(), // told with the bound port, unless it is advertised
        asked => asked.to_owned(),
    };
    match host {
        "0.0.0.0" => format!("127.0.0.1:{port}"),
        "[::]" => format!("[::1]:{port}"),
        host => format!("{host}:{port}"),
    }
}

fn config_failure(faults: &ConfigFaults) -> Failure {
    Failure::usage(faults.to_string()).try_next("dos-cluster serve --help")
}

/// A node that cannot start or go on. What to do hangs on what the system said.
fn fatal(fault: &Fault) -> Failure {
    match fault {
        Fault::Listen {
            address,
            purpose,
            flag,
            source,
        } if source.kind() != ErrorKind::AddrInUse => {
            let message = format!("cannot listen on {address} for {purpose}: {source}");
            let next = match source.kind() {
                ErrorKind::AddrNotAvailable => "it must be an address of this machine",
                ErrorKind::PermissionDenied => "a port below 1024 is root's: choose another",
                _ => "check the name: it must be known, and mean this machine",
            };
            Failure::error(format!("{message}; {next}")).try_next(format!("another --{flag}"))
        }
        Fault::Storage(StorageError::Io {
            operation,
            path,
            source,
        }) if source.kind() == ErrorKind::PermissionDenied => Failure::error(format!(
            "cannot {operation} {}: {source}; check owner and mode",
            path.display()
        )),
        _ => Failure::error(fault.to_string()),
    }
}

/// Runs the node to its end, or, at `hurry`, no further.
async fn run_until(
    run: impl Future<Output = Result<(), Fault>>,
    hurry: impl Future<Output = ()>,
) -> Result<Exit, Failure> {
    tokio::select! {
        ended = run => match ended {
            Ok(()) => Ok(Exit::Done),
            Err(fault) => Err(fatal(&fault)),
        },
        () = hurry => Err(Failure::error("stopped by a second signal before the drain had ended; nothing acknowledged is lost")),
    }
}

/// A panic is a bug; a node that has met one must not go on answering.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "this node met a bug and aborts");
        std::process::abort();
    }));
}

/// What ends the node in order.
struct Stop {
    signals: Signals,
    lifeline: Lifeline,
}

impl Stop {
    async fn next(&mut self) {
        tokio::select! {
            () = self.signals.next() => {}
            () = self.lifeline.closed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::SETTINGS;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        serve: Serve,
    }

    #[test]
    fn every_setting_has_its_flag_and_the_help_shows_its_default() {
        let command = Only::command();
        for setting in SETTINGS {
            let flag = setting.flag();
            let found = command.get_arguments().find(|argument| {
                argument
                    .get_long()
                    .is_some_and(|long| flag == format!("--{long}"))
            });
            assert!(found.is_some(), "{flag}");
        }
        let parsed = Only::try_parse_from(["x"]).unwrap().serve;
        let keys: Vec<_> = parsed.flags().iter().map(|(key, _)| *key).collect();
        let settings: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(keys, settings);
    }

    #[test]
    fn the_defaults_in_the_help_are_those_in_force() {
        let mut command = Only::command();
        let help = command.render_long_help().to_string();
        let defaults: Vec<String> = help
            .lines()
            .filter_map(|line| line.trim().strip_suffix(']')?.split_once("[default: "))
            .map(|(_, value)| value.to_owned())
            .collect();
        let keys = [
            "data_dir",
            "listen",
            "peer_listen",
            "http_listen",
            "heartbeat",
            "election_timeout",
            "snapshot_log_bytes",
            "segment_bytes",
            "state_memory_bytes",
            "request_timeout",
        ];
        assert!(defaults.len() >= keys.len(), "{help}");
        let flags = keys.iter().copied().zip(defaults.into_iter().map(Some));
        let config = NodeConfig::from_layers([ConfigLayer::from_flags(flags)]).unwrap();
        assert_eq!(config, NodeConfig::default());
    }

    const SAMPLE: &str = include_str!("../../deploy/dos-cluster.toml");

    /// The arguments of each `serve` in `deploy/`.
    fn deployed() -> Vec<Vec<String>> {
        let unit = include_str!("../../deploy/dos-cluster.service").lines();
        let unit =
            unit.filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/dos-cluster "));
        let compose = include_str!("../../deploy/compose.yaml").lines();
        let compose = compose.filter_map(|line| line.trim().strip_prefix("command: "));
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let mut found: Vec<Vec<String>> = unit.chain(compose).map(words).collect();
        let image = include_str!("../../deploy/Containerfile").lines();
        let image = image.filter_map(|line| line.strip_prefix("CMD "));
        found.extend(image.map(|words| serde_json::from_str(words).unwrap()));
        found
    }

    #[test]
    fn every_node_of_deploy_has_a_command_line_and_settings_that_are_right() {
        let deployed = deployed();
        assert_eq!(deployed.len(), 5, "{deployed:?}");
        for words in deployed {
            assert_eq!(words[0], "serve");
            let mut serve = Only::try_parse_from(&words)
                .unwrap_or_else(|error| panic!("{words:?}: {error}"))
                .serve;
            let file = match serve.config.take() {
                Some(path) => ConfigLayer::from_toml(&path, SAMPLE),
                None => ConfigLayer::default(),
            };
            // What the image leaves to whoever runs it.
            let advertised = ["ADVERTISE", "ADVERTISE_PEER", "ADVERTISE_HTTP"];
            let variables =
                advertised.map(|name| (format!("DOS_CLUSTER_{name}"), "n1:1".to_owned()));
            let layers = [
                file,
                ConfigLayer::from_environment(variables),
                ConfigLayer::from_flags(serve.flags()),
            ];
            let config = NodeConfig::from_layers(layers).unwrap();
            assert_eq!(config.client_listen, "0.0.0.0:7420");
            assert_eq!(config.data_dir.to_str(), Some("/var/lib/dos-cluster"));
        }
    }

    #[test]
    fn the_sample_of_a_configuration_names_every_setting_with_its_default() {
        let lines = SAMPLE.lines().filter(|line| line.contains(" = "));
        let named: Vec<_> = lines
            .clone()
            .map(|line| line.trim_start_matches("# ").split(" = ").next().unwrap())
            .collect();
        for setting in SETTINGS {
            assert!(named.contains(&setting.key), "{setting}");
        }
        let path = std::path::Path::new("dos-cluster.toml");
        let uncommented: String = lines
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let all = ConfigLayer::from_toml(path, &uncommented);
        NodeConfig::from_layers([all]).unwrap();
        // Those with a default are commented out, with it.
        let defaults = lines_with_default();
        let defaults = NodeConfig::from_layers([ConfigLayer::from_toml(path, &defaults)]).unwrap();
        assert_eq!(defaults, NodeConfig::default());
    }

    fn lines_with_default() -> String {
        let lines = SAMPLE.lines().filter_map(|line| line.strip_prefix("# "));
        let lines = lines.filter(|line| line.contains(" = ") && !line.starts_with("advertise"));
        // Given, it must be free; as the default it need not.
        let lines = lines.filter(|line| !line.starts_with("legacy_listen"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn listen(kind: ErrorKind) -> Failure {
        fatal(&Fault::Listen {
            address: "n1:7420".to_owned(),
            purpose: "clients",
            flag: "listen",
            source: kind.into(),
        })
    }

    #[test]
    fn what_a_node_that_cannot_start_is_told_to_do_fits_the_cause() {
        assert!(
            listen(ErrorKind::AddrInUse)
                .message
                .contains("another node running")
        );
        let elsewhere = listen(ErrorKind::AddrNotAvailable).message;
        assert!(
            elsewhere.ends_with("it must be an address of this machine"),
            "{elsewhere}"
        );
        let unknown = listen(ErrorKind::Other).message;
        assert!(unknown.contains("check the name"), "{unknown}");
        for failure in [elsewhere, unknown] {
            assert!(!failure.contains("another node"), "{failure}");
        }
        let denied = fatal(&Fault::Storage(StorageError::Io {
            operation: "open",
            path: "/d/LOCK".into(),
            source: ErrorKind::PermissionDenied.into(),
        }));
        assert_eq!(
            denied.message,
            "cannot open /d/LOCK: permission denied; check owner and mode"
        );
    }

    #[test]
    fn file_environment_and_flags_come_together_and_faults_exit_with_2() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dos.toml");
        let file = fs::open_or_create(&path).unwrap();
        fs::write_all_at(&file, b"heartbeat = '100ms'\nlisten = 'a:1'\n", 0).unwrap();
        let path = path.to_str().unwrap();
        let serve = Only::try_parse_from(["x", "--config", path, "--listen", "b:2"])
            .unwrap()
            .serve;
        let config = serve.node_config(ConfigLayer::default()).unwrap();
        assert_eq!(config.client_listen, "b:2");
        assert_eq!(config.heartbeat.as_millis(), 100);

        let bad = [("DOS_CLUSTER_HEARTBEAT".to_owned(), "never".to_owned())];
        let failure = serve
            .node_config(ConfigLayer::from_environment(bad))
            .unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.message.contains("DOS_CLUSTER_HEARTBEAT"),
            "{}",
            failure.message
        );
    }
}

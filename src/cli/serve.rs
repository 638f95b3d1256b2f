//! `dos-cluster serve`: one node, until a signal.

use std::{future::Future, io::IsTerminal, path::PathBuf};

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::exit::{self, Exit, Failure};
use crate::{
    env::fs,
    node::{
        Node, NodeConfig,
        config::{ConfigFaults, ConfigLayer},
    },
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
    /// Silence of the leader, once to twice this, after which a follower stands for election [default: 600ms]
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
    /// What is logged: a level, or filters such as info,dos_cluster::raft=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "DOS_CLUSTER_LOG",
        default_value = "info,openraft=error,openraft::raft=off"
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
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
        start_log(&self.log, self.log_format)?;
        abort_on_panic();
        let mut signals = Signals::install()?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %config.data_dir.display(), "starting");
        let node = tokio::select! {
            started = Node::start(config) => started.map_err(|fault| fatal(&fault))?,
            () = signals.next() => return Ok(Exit::Done),
        };
        let mut second = Signals::install()?;
        let run = node.run(async move { signals.next().await });
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

    fn flags(&self) -> [(&'static str, Option<String>); 13] {
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
        ]
    }
}

fn config_failure(faults: &ConfigFaults) -> Failure {
    Failure::usage(faults.to_string()).try_next("dos-cluster serve --help")
}

/// A node that cannot start or go on.
fn fatal(fault: &impl std::fmt::Display) -> Failure {
    Failure::error(fault.to_string())
}

/// Runs the node to its end, or, at `hurry`, no further.
async fn run_until<E: std::fmt::Display>(
    run: impl Future<Output = Result<(), E>>,
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

fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("cannot log by {filter:?}: {error}")))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let set = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    set.map_err(|error| Failure::error(format!("cannot log: {error}")))
}

/// A panic is a bug; a node that has met one must not go on answering.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%panic, %backtrace, "this node met a bug and aborts");
        std::process::abort();
    }));
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::error(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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

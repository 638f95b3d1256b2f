//! `dos-cluster gateway`: the legacy protocol beside a worker; and the same within a node.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    lifeline::UntilStdinCloses,
    log::{self, LogFormat},
    metrics::{self, MetricsListen},
    signals,
};
use crate::{
    client::Client,
    domain::JobName,
    env::{
        limits,
        net::{self, TcpListener},
    },
    gateway::{Gateway, client_options},
    node::config::LegacyListen,
};

/// How long a gateway that stops may take to commit what its streams have received.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What stands before the address, where people read.
const LISTENING_ON: &str = "listening on ";

/// Serve legacy workers: the DOS protocol over TCP, in front of a cluster
///
/// A legacy worker can name one address only. A gateway beside it finds the leader by itself, so the worker survives the loss of any
/// node: it sees a pause, and keeps its connection. Every node serves the same protocol, too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dos-cluster gateway --endpoints n1:7420,n2:7420,n3:7420
  dos-cluster gateway --endpoints n1:7420 --listen 127.0.0.1:9990 --job fraud-detection
  dos-cluster gateway --endpoints n1:7420 --listen 127.0.0.1:0 -o json
  dos-cluster gateway --endpoints n1:7420 --metrics-listen 127.0.0.1:7460

Once it listens it prints `listening on HOST:PORT`, which with port 0 names the port that the system gave it.
The protocol has no authentication: whoever reaches the port can write the journals of the job. SIGTERM and SIGINT stop it
once everything that it has received is durable.")]
pub(super) struct GatewayCommand {
    /// Address for the legacy workers; port 0: any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    listen: String,
    /// Job whose workers the legacy workers are
    #[arg(long, value_name = "JOB", default_value = "wallaroo")]
    job: JobName,
    /// What is logged: a level, or filters such as info,dos_cluster::gateway=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "DOS_CLUSTER_LOG",
        default_value = "info"
    )]
    log: String,
    #[command(flatten)]
    metrics: MetricsListen,
    #[command(flatten)]
    until_stdin_closes: UntilStdinCloses,
}

/// What is said once it listens.
#[derive(Debug, Serialize)]
struct Listening {
    legacy_address: SocketAddr,
    metrics_address: Option<SocketAddr>,
}

impl Listening {
    fn text(&self) -> String {
        let mut text = format!("{LISTENING_ON}{}\n", self.legacy_address);
        if let Some(address) = self.metrics_address {
            text += &format!("metrics at http://{address}/metrics\n");
        }
        text
    }
}

/// The address in the first line of what a gateway says once it listens.
pub(super) fn address_in(line: &str) -> Option<&str> {
    line.strip_prefix(LISTENING_ON)
}

impl GatewayCommand {
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        log::start(&self.log, LogFormat::Text)?;
        let stop = signals::stop_signal()?;
        let mut lifeline = self.until_stdin_closes.watch()?;
        let listener = bind(&self.listen).await?;
        let metrics_listener = self.metrics.bind().await?;
        let gateway = start(listener, &context.endpoints, self.job, true)?;
        let listening = Listening {
            legacy_address: gateway.address(),
            metrics_address: metrics_listener.address(),
        };
        let registry = gateway.metrics();
        let _serving = metrics_listener.serve(move || metrics::text(&registry));
        context.output.show(&listening, Listening::text)?;
        tokio::select! {
            () = stop => {}
            () = lifeline.closed() => {}
        }
        stop_in_order(gateway).await
    }
}

/// Takes the address of a node's gateway; `None` when it has none.
pub(super) async fn bind_for_node(listen: &LegacyListen) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = listen.address() else {
        return Ok(None);
    };
    match net::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if listen.given().is_none() && error.kind() == ErrorKind::AddrInUse => {
            tracing::info!(
                address,
                "no legacy workers are served here: somebody else listens there; another address can be given with --legacy-listen"
            );
            Ok(None)
        }
        Err(error) => Err(cannot_listen(
            address,
            &error,
            "another --legacy-listen, or off",
        )),
    }
}

async fn bind(address: &str) -> Result<TcpListener, Failure> {
    let bound = net::bind(address).await;
    bound.map_err(|error| {
        let next = if error.kind() == ErrorKind::AddrInUse {
            "another --listen, or none of this: a node or another gateway of this machine probably serves legacy workers there"
        } else {
            "another --listen"
        };
        cannot_listen(address, &error, next)
    })
}

fn cannot_listen(address: &str, error: &std::io::Error, next: &str) -> Failure {
    Failure::error(format!(
        "cannot listen on {address} for legacy workers: {error}"
    ))
    .try_next(next)
}

/// Starts to serve; with `ask_first`, a cluster that does not answer is spoken of before any worker has come.
pub(super) fn start(
    listener: TcpListener,
    endpoints: &[String],
    job: JobName,
    ask_first: bool,
) -> Result<Gateway, Failure> {
    if let Err(error) = limits::raise_open_files() {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
    let client = Client::new(client_options(endpoints.iter().cloned()));
    // Only an endpoint that is no address can be wrong here.
    let client = client.map_err(|error| Failure::usage(error.to_string()))?;
    let gateway = Gateway::start(listener, client, job.clone(), ask_first);
    let gateway =
        gateway.map_err(|error| Failure::error(format!("cannot serve legacy workers: {error}")))?;
    tracing::info!(legacy_address = %gateway.address(), %job, "serving legacy workers");
    if gateway.is_exposed() {
        tracing::info!(
            legacy_address = %gateway.address(),
            "the legacy protocol has no authentication: whoever reaches this address can write any journal of the job"
        );
    }
    Ok(gateway)
}

/// Stops once everything received is durable.
pub(super) async fn stop_in_order(gateway: Gateway) -> Result<Exit, Failure> {
    if gateway.stop(STOP_WITHIN).await {
        return Ok(Exit::Done);
    }
    let within = humantime::format_duration(STOP_WITHIN);
    Err(Failure::new(
        Exit::Timeout,
        format!(
            "stopped after {within} with bytes of legacy workers that are not durable; the workers send them again"
        ),
    ))
}

//! `/metrics` of a process that is no node, in the text format of OpenMetrics, which Prometheus reads.

use std::net::SocketAddr;

use axum::{Router, extract::State, http::header, routing::get};
use clap::Args;
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::exit::Failure;
use crate::{
    env::{
        net::{self, TcpListener},
        task::{self, JoinHandle},
    },
    node::METRICS_CONTENT_TYPE,
};

/// Whether `/metrics` is served, and where.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct MetricsListen {
    /// Serve /metrics there; off by default
    #[arg(long, value_name = "HOST:PORT")]
    metrics_listen: Option<SocketAddr>,
}

impl MetricsListen {
    /// Takes the address.
    pub(super) async fn bind(self) -> Result<MetricsListener, Failure> {
        let Some(address) = self.metrics_listen else {
            return Ok(MetricsListener(None));
        };
        let cannot = |error| {
            let message = format!("cannot listen on {address} for metrics: {error}");
            Failure::error(message).try_next("another --metrics-listen")
        };
        let listener = net::bind(&address.to_string()).await.map_err(cannot)?;
        Ok(MetricsListener(Some(listener)))
    }
}

/// The address taken, if there is one.
#[derive(Debug)]
pub(super) struct MetricsListener(Option<TcpListener>);

impl MetricsListener {
    /// Where it is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref()?.local_addr().ok()
    }

    /// Answers with what `text` says at each moment, until what this returns is dropped.
    pub(super) fn serve<F>(self, text: F) -> Serving
    where
        F: Fn() -> String + Clone + Send + Sync + 'static,
    {
        let Some(listener) = self.0 else {
            return Serving(None);
        };
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/metrics", get(answer::<F>))
            .with_state(text);
        Serving(Some(task::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the metrics port stopped answering");
            }
        })))
    }
}

async fn answer<F>(State(text): State<F>) -> ([(header::HeaderName, &'static str); 1], String)
where
    F: Fn() -> String + Clone + Send + Sync + 'static,
{
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text())
}

/// Metrics as text.
pub(super) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, registry);
    text
}

/// `/metrics` is answered until this is dropped.
#[derive(Debug)]
pub(super) struct Serving(Option<JoinHandle<()>>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(serving) = &self.0 {
            serving.abort();
        }
    }
}

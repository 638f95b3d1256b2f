//! HTTP: is it alive, is it ready and if not why, metrics, version, and a page for people.

mod checks;
mod page;

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};

use super::{
    metrics::{METRICS_CONTENT_TYPE, Observed},
    shared::Shared,
};
use crate::{env::net::TcpListener, raft::Role};

/// Serves until `stopped` resolves.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: impl Future<Output = ()> + Send + 'static,
) {
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route(
            "/version",
            get(async || concat!(env!("CARGO_PKG_VERSION"), "\n")),
        )
        .route("/", get(page))
        .with_state(shared);
    if let Err(error) = axum::serve(listener, routes)
        .with_graceful_shutdown(stopped)
        .await
    {
        tracing::error!(%error, "the HTTP port stopped answering");
    }
}

/// Whether every check passes.
pub(super) fn is_ready(shared: &Shared) -> bool {
    checks::run(shared)
        .iter()
        .all(|check| check.problem.is_none())
}

/// 200 when every check passes, 503 otherwise; `?verbose` lists them.
async fn ready(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let checks = checks::run(&shared);
    let all = checks.iter().all(|check| check.problem.is_none());
    let code = if all {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verbose = query.is_some_and(|query| {
        query
            .split('&')
            .any(|part| part.split('=').next() == Some("verbose"))
    });
    let text = if verbose || !all {
        checks::text(&checks)
    } else {
        "ok\n".to_owned()
    };
    (code, text)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut observed = Observed {
        write_gate_closed: shared.gate.check().is_err(),
        ..Observed::default()
    };
    if let Ok(running) = shared.running() {
        let group = running.router.group();
        let status = group.status();
        observed = Observed {
            term: status.term,
            leader: status.leader.map_or(0, |leader| leader.0),
            is_leader: status.role == Role::Leader,
            last_log_index: status.last_log_index,
            applied_index: group.view().applied_index(),
            snapshot_index: status.snapshot_index,
            purged_index: status.purged_index,
            log_bytes: group.wal().stats().bytes_on_disk,
            state_bytes: group.view().store().bytes(),
            ..observed
        };
    }
    (
        [(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)],
        shared.metrics.text(observed),
    )
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    Html(page::render(&shared))
}

//! `/metrics`, `/livez` and `/readyz` over HTTP, for Prometheus and whoever starts and stops nodes; and the
//! webhooks, which [`crate::hooks`] decides on.
//!
//! Each check has a sub-path (`/readyz/index`); `?verbose` lists all of them, as Kubernetes does:
//!
//! | path | fails when |
//! | --- | --- |
//! | `/livez/raft` | the node met an error after which it must not serve: restart it |
//! | `/livez/index` | the thread that keeps the index has ended: restart it |
//! | `/readyz/raft` | no leader is known, or the node is still opening its data directory, or has not applied all that was committed when it was started |
//! | `/readyz/index` | recalls do not find all of that yet |
//! | `/readyz/disk` | writes are refused for want of room. Reads go on, so `/readyz` itself does not fail for it |

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    health::{Check, Checks, Health},
    hooks::{self, Hooks},
};

/// All paths of the HTTP server.
pub(crate) fn router(health: Arc<Health>, hooks: Arc<Hooks>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/livez/{check}", get(livez_one))
        .route("/readyz", get(readyz))
        .route("/readyz/{check}", get(readyz_one))
        .with_state(health)
        .merge(hooks::router(hooks))
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    // Counting reads the state.
    let text = tokio::task::spawn_blocking(move || health.metrics()).await;
    match text {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn livez(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> Response {
    all("livez", &health.live(), query.as_deref())
}

async fn readyz(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> Response {
    all("readyz", &health.ready(), query.as_deref())
}

async fn livez_one(State(health): State<Arc<Health>>, Path(check): Path<String>) -> Response {
    one(&health.live(), &check)
}

async fn readyz_one(State(health): State<Arc<Health>>, Path(check): Path<String>) -> Response {
    one(&health.ready(), &check)
}

fn one(checks: &Checks, name: &str) -> Response {
    match checks.iter().find(|check| check.name == name) {
        None => (
            StatusCode::NOT_FOUND,
            format!("no check is called {name:?}\n"),
        )
            .into_response(),
        Some(Check { failure: None, .. }) => "ok\n".into_response(),
        Some(Check {
            failure: Some(reason),
            ..
        }) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn all(name: &str, checks: &Checks, query: Option<&str>) -> Response {
    let is_failing = checks.iter().any(|c| c.decides && c.failure.is_some());
    let is_verbose = query.is_some_and(|q| {
        q.split('&')
            .any(|p| p == "verbose" || p.starts_with("verbose="))
    });
    let code = if is_failing {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    if !is_failing && !is_verbose {
        return "ok\n".into_response();
    }
    let mut text = String::new();
    for check in checks {
        match &check.failure {
            None => writeln!(text, "[+]{} ok", check.name),
            Some(reason) if check.decides => writeln!(text, "[-]{} failed: {reason}", check.name),
            Some(reason) => writeln!(text, "[!]{} warning: {reason}", check.name),
        }
        .expect("writing to a string cannot fail");
    }
    let result = if is_failing { "failed" } else { "passed" };
    writeln!(text, "{name} check {result}").expect("writing to a string cannot fail");
    (code, text).into_response()
}

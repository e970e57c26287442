//! The HTTP server, until it is told to stop.

use std::{future::IntoFuture as _, sync::Arc};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tracing::warn;

use crate::{health::Health, hooks::Hooks, http};

/// Returns what stops the server, and the server.
pub(super) fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    hooks: Arc<Hooks>,
) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let server = axum::serve(listener, http::router(health, hooks));
        // A scraper's connection may stay open for ever, so nothing is waited for.
        tokio::select! {
            result = server.into_future() => if let Err(error) = result {
                warn!(%error, "HTTP server ended");
            },
            _ = stopped => {}
        }
    });
    (stop, task)
}

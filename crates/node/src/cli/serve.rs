//! `memorygate serve`: a node, until a signal or a fatal error ends it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use memorygate_core::time::TimeMs;
use memorygate_raft::Clock;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::Sources;
use crate::{
    node::{self, Node},
    settings::Settings,
    telemetry,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) sources: Sources,
    /// For measuring what time does: the clock is the real one and as many milliseconds more as this
    /// file says at each reading.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) clock_file: Option<PathBuf>,
}

pub(super) fn run(settings: Settings, clock_file: Option<PathBuf>) -> anyhow::Result<()> {
    telemetry::init(&settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start threads")?;
    let result = runtime.block_on(serve(settings, clock_file));
    // Files are closed by threads that may still run; they must not outlive the process's statics.
    runtime.shutdown_timeout(Duration::from_secs(10));
    result
}

async fn serve(settings: Settings, clock_file: Option<PathBuf>) -> anyhow::Result<()> {
    // Signals are listened to before anything starts, so that none is lost.
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let embedder = node::load_model(&settings).await?;
    let grace = settings.server.shutdown_grace_ms;
    let clock: Arc<dyn Clock> = match clock_file {
        None => Arc::new(system_clock),
        Some(file) => {
            warn!(file = %file.display(), "the clock is off by what a file says");
            Arc::new(move || shifted_clock(&file))
        }
    };
    let starting = Node::start(settings, embedder, clock);
    let node = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let failure = tokio::select! {
        _ = terminate.recv() => {
            info!(signal = "SIGTERM", grace_ms = grace, "stopping");
            None
        }
        _ = interrupt.recv() => {
            info!(signal = "SIGINT", grace_ms = grace, "stopping");
            None
        }
        reason = node.failed() => {
            error!(%reason, "stopping because this node must not serve any more");
            Some(reason)
        }
    };
    node.shutdown().await;
    info!("stopped");
    failure.map_or(Ok(()), |reason| Err(anyhow::anyhow!(reason)))
}

/// The only place where the server reads the wall clock for what it stores.
fn system_clock() -> TimeMs {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    TimeMs(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// The real time and what `file` adds; what cannot be read adds nothing.
fn shifted_clock(file: &Path) -> TimeMs {
    let text = fs::read_to_string(file).unwrap_or_default();
    let offset_ms: i64 = text.trim().parse().unwrap_or(0);
    TimeMs(system_clock().0.saturating_add(offset_ms))
}

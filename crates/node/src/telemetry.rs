//! What the node says about itself: logs and metrics.

pub mod metrics;

use std::io;

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

use crate::settings::{Log, LogFormat};

/// Sends the process's events to standard error from now on. Only the first call in a process has
/// an effect, so that tests can start many nodes.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(io::stderr);
    let result = match log.format {
        LogFormat::Text => builder.with_target(true).try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Whether `level` can be used as [`Log::level`].
pub fn check_level(level: &str) -> Result<(), String> {
    if level.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    // A bare word that is no level would be taken for a target, and silence everything else.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_plain = level.chars().all(|c| c.is_ascii_alphanumeric());
    if is_plain && !levels.contains(&level.to_lowercase().as_str()) {
        return Err("it is no level".to_owned());
    }
    EnvFilter::try_new(level)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_checked() {
        for good in [
            "info",
            "INFO",
            "off",
            "info,memorygate_raft=debug",
            "memorygate_node=trace",
        ] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", " ", "loud", "loud=very", "info,,=x"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}

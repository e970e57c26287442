//! What the node says about itself: logs and metrics.

pub mod metrics;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::settings::{Log, LogFormat};

/// Sends the process's events to standard error from now on. Only the first call in a process has
/// an effect, so that tests can start many nodes.
pub fn init(log: &Log) {
    let filter = EnvFilter::new(filter(&log.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let result = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// What a level alone means: libraries say at INFO what concerns their own makers, and at DEBUG
/// what concerns nobody here; openraft warns at every attempt to reach a member that is away, of
/// which this program says the first.
fn filter(level: &str) -> String {
    match level.to_lowercase().as_str() {
        plain @ ("error" | "warn" | "info") => format!("{plain},openraft=error"),
        "debug" => "info,memorygate=debug,memorygate_node=debug,memorygate_raft=debug,\
                    memorygate_index=debug,openraft=info"
            .to_owned(),
        _ => level.to_owned(),
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
        for level in ["error", "Info", "debug", "trace", "off"] {
            assert!(EnvFilter::try_new(filter(level)).is_ok(), "{level}");
        }
        for bad in ["", " ", "loud", "loud=very", "info,,=x"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}

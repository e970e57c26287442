//! Settings of the log, the state and the consensus engine.

use serde::{Deserialize, Serialize};

use crate::dir::ClusterId;

const MIB: u64 = 1024 * 1024;

/// All have defaults that suit a small server. The node names the environment variable of each:
/// `MEMORYGATE_RAFT_` and the field's name in capitals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Milliseconds between a leader's heartbeats. Default 200.
    pub heartbeat_ms: u64,
    /// Milliseconds without a heartbeat after which a follower may stand for election, at least.
    /// Default 1,000.
    pub election_timeout_min_ms: u64,
    /// The same, at most: each follower draws its own between the two. A leader that has heard
    /// nothing from a majority for half of this takes no writes. Default 1,500.
    pub election_timeout_max_ms: u64,
    /// Milliseconds that a proposal may take before its outcome is reported as unknown. Default
    /// 10,000.
    pub propose_timeout_ms: u64,
    /// Proposals that may wait for their answers at once; more are refused as overloaded. Default
    /// 4,096.
    pub in_flight_max: usize,
    /// Encoded bytes of these proposals together. Default 64 MiB; at least one command of the
    /// largest size fits.
    pub in_flight_bytes_max: u64,
    /// Bytes of log entries that share one sync, at most (one entry always goes). Default 4 MiB.
    pub group_commit_bytes_max: u64,
    /// Bytes of the newest log entries that are kept in memory, so that applying and replicating
    /// them reads no disk. Default 32 MiB.
    pub log_cache_bytes: u64,
    /// Log entries kept behind the last snapshot, so that a follower that was away for a moment
    /// needs no snapshot. Default 10,000.
    pub log_entries_kept: u64,
    /// A snapshot is built when so many bytes were appended to the log since the last. Default
    /// 256 MiB.
    pub snapshot_log_bytes: u64,
    /// A snapshot is built when the last is so many seconds old and the log has grown since.
    /// Default 3,600.
    pub snapshot_interval_s: u64,
    /// Snapshots kept on disk. They share files with the state where they can. Default 1.
    pub snapshots_kept: usize,
    /// Bytes of state and log blocks cached in memory. Default 128 MiB.
    pub block_cache_bytes: u64,
    /// Bytes of recent state writes held in memory until they are flushed to a table. Default
    /// 64 MiB.
    pub write_buffer_bytes: u64,
    /// Positions that the change journal reaches back, at most: an index that is further behind is
    /// rebuilt. Default 1,000,000.
    pub journal_positions_max: u64,
    /// Writes are refused while the disk has fewer bytes free than this. Default 256 MiB.
    pub disk_reserve_bytes: u64,
    /// The cluster that the data directory must belong to. Absent by default: any.
    pub expected_cluster_id: Option<ClusterId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            election_timeout_min_ms: 1_000,
            election_timeout_max_ms: 1_500,
            propose_timeout_ms: 10_000,
            in_flight_max: 4_096,
            in_flight_bytes_max: 64 * MIB,
            group_commit_bytes_max: 4 * MIB,
            log_cache_bytes: 32 * MIB,
            log_entries_kept: 10_000,
            snapshot_log_bytes: 256 * MIB,
            snapshot_interval_s: 3_600,
            snapshots_kept: 1,
            block_cache_bytes: 128 * MIB,
            write_buffer_bytes: 64 * MIB,
            journal_positions_max: 1_000_000,
            disk_reserve_bytes: 256 * MIB,
            expected_cluster_id: None,
        }
    }
}

/// A setting with a value that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {actual}, expected {expected}")]
pub struct Invalid {
    pub name: &'static str,
    pub actual: u64,
    pub expected: String,
}

impl Settings {
    /// How long what a majority answered lets a leader lead, and lets no follower vote for another.
    /// The consensus engine adds what a follower draws to it, and draws up to the same again.
    pub(crate) fn lease_ms(&self) -> u64 {
        self.election_timeout_max_ms / 2
    }

    /// What a follower draws at least, beyond the lease. A heartbeat that is late is no reason to
    /// stand for election, and a vote must have the time to be answered.
    pub(crate) fn draw_min_ms(&self) -> u64 {
        let beyond = self.election_timeout_min_ms.saturating_sub(self.lease_ms());
        beyond.max(self.heartbeat_ms * 3 / 2)
    }

    /// How long a leader without a majority is silent: the lease that its followers still hold, and
    /// the longest draw after it.
    pub(crate) fn silence_ms(&self) -> u64 {
        2 * self.lease_ms()
    }

    /// Checked once, at start.
    pub fn validate(&self) -> Result<(), Invalid> {
        let at_least = |name, actual: u64, least: u64| {
            if actual >= least {
                Ok(())
            } else {
                Err(Invalid {
                    name,
                    actual,
                    expected: format!("at least {least}"),
                })
            }
        };
        let largest = memorygate_core::limits::COMMAND_BYTES_MAX as u64;
        at_least("heartbeat_ms", self.heartbeat_ms, 10)?;
        at_least(
            "election_timeout_min_ms",
            self.election_timeout_min_ms,
            // Two heartbeats may be lost without an election.
            self.heartbeat_ms.saturating_mul(3),
        )?;
        at_least(
            "election_timeout_max_ms",
            self.election_timeout_max_ms,
            // Whatever is drawn, not all draw the same.
            self.election_timeout_min_ms
                .max(self.heartbeat_ms.saturating_mul(3))
                .saturating_add(4),
        )?;
        at_least("propose_timeout_ms", self.propose_timeout_ms, 1)?;
        at_least("in_flight_max", self.in_flight_max as u64, 1)?;
        at_least("in_flight_bytes_max", self.in_flight_bytes_max, largest)?;
        if self.in_flight_bytes_max > u64::from(u32::MAX) {
            return Err(Invalid {
                name: "in_flight_bytes_max",
                actual: self.in_flight_bytes_max,
                expected: format!("at most {}", u32::MAX),
            });
        }
        at_least("group_commit_bytes_max", self.group_commit_bytes_max, 1)?;
        at_least("log_cache_bytes", self.log_cache_bytes, 1)?;
        at_least("snapshot_log_bytes", self.snapshot_log_bytes, 1)?;
        at_least("snapshot_interval_s", self.snapshot_interval_s, 1)?;
        at_least("snapshots_kept", self.snapshots_kept as u64, 1)?;
        at_least("block_cache_bytes", self.block_cache_bytes, MIB)?;
        at_least("write_buffer_bytes", self.write_buffer_bytes, MIB)?;
        at_least("journal_positions_max", self.journal_positions_max, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_values_are_named() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let check = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert_eq!(
            check(|s| s.election_timeout_min_ms = 500),
            "election_timeout_min_ms is 500, expected at least 600"
        );
        assert_eq!(
            check(|s| s.election_timeout_max_ms = 1_000),
            "election_timeout_max_ms is 1000, expected at least 1004"
        );
        assert_eq!(
            check(|s| s.in_flight_bytes_max = 1 << 33),
            "in_flight_bytes_max is 8589934592, expected at most 4294967295"
        );
        assert_eq!(
            check(|s| s.snapshots_kept = 0),
            "snapshots_kept is 0, expected at least 1"
        );
    }

    #[test]
    fn followers_draw_between_the_two_timeouts() {
        let check = |heartbeat, min, max| {
            let settings = Settings {
                heartbeat_ms: heartbeat,
                election_timeout_min_ms: min,
                election_timeout_max_ms: max,
                ..Settings::default()
            };
            settings.validate().unwrap();
            let lease = settings.lease_ms();
            let earliest = lease + settings.draw_min_ms();
            assert!(earliest >= min && earliest < 2 * lease && 2 * lease <= max);
            assert!(settings.draw_min_ms() > heartbeat);
            (lease, earliest)
        };
        assert_eq!(check(200, 1_000, 1_500), (750, 1_050));
        assert_eq!(check(100, 600, 1_200), (600, 750));
        assert_eq!(check(100, 1_000, 10_000), (5_000, 5_150));
        assert_eq!(check(10, 30, 34), (17, 32));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let read = |text: &str| serde_json::from_str::<Settings>(text);
        assert_eq!(read("{}").unwrap(), Settings::default());
        assert_eq!(read(r#"{"heartbeat_ms": 50}"#).unwrap().heartbeat_ms, 50);
        assert!(read(r#"{"heartbeat": 50}"#).is_err());
    }
}

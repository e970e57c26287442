//! Where every member of a cluster stands.

use std::time::Duration;

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;

use super::{Alarm, Member};
use crate::{position::parse_cluster_id, time};

/// What a member does in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    /// Receives the log and has no vote.
    Learner,
    /// Does not take part any more.
    Stopped,
}

impl Role {
    /// A word for tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }

    fn from_wire(wire: i32) -> Option<Self> {
        match v1::Role::try_from(wire).ok()? {
            v1::Role::Unspecified => None,
            v1::Role::Leader => Some(Self::Leader),
            v1::Role::Follower => Some(Self::Follower),
            v1::Role::Candidate => Some(Self::Candidate),
            v1::Role::Learner => Some(Self::Learner),
            v1::Role::Stopped => Some(Self::Stopped),
        }
    }
}

/// Where a cluster stands, as one node found it by asking every member.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub cluster_id: u128,
    /// In the order of their peer addresses.
    pub members: Vec<MemberStatus>,
    pub alarms: Vec<Alarm>,
    /// Whether a majority answered and one of it leads, so that writes are taken.
    pub is_writable: bool,
    /// Format of the log that the members agreed to write.
    pub log_format: u32,
    /// The node that answered.
    pub node_id: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    pub member: Member,
    /// What it said, or why it did not answer.
    pub report: Result<Report, String>,
}

/// What one member said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `None` if it is one that this version does not know.
    pub role: Option<Role>,
    pub term: u64,
    /// Index of the last entry in its log, of the last that it knows to be committed, and applied.
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    /// The position that its search index stands at.
    pub index_position: u64,
    /// Entries of the leader's log that it has not applied yet.
    pub lag: u64,
    /// Position of its last local snapshot.
    pub snapshot: u64,
    pub disk_free_bytes: u64,
    pub disk_total_bytes: u64,
    pub server_version: String,
    /// Formats of the log that it reads.
    pub log_format_min: u32,
    pub log_format_max: u32,
    pub started_at: Option<TimeMs>,
    /// Time that the question took to be answered.
    pub round_trip: Duration,
    /// Its clock less that of the node that answered, in milliseconds.
    pub clock_offset_ms: i64,
}

impl Status {
    pub(crate) fn from_wire(wire: v1::StatusResponse) -> Result<Self, String> {
        Ok(Self {
            cluster_id: parse_cluster_id(&wire.cluster_id)
                .ok_or_else(|| format!("cluster id {:?}", wire.cluster_id))?,
            members: wire
                .members
                .into_iter()
                .map(MemberStatus::from_wire)
                .collect::<Result<_, _>>()?,
            alarms: Alarm::all_from_wire(wire.alarms)?,
            is_writable: wire.is_writable,
            log_format: wire.log_format,
            node_id: wire.node_id,
        })
    }

    /// The member that says it leads, in the newest term if several do.
    pub fn leader(&self) -> Option<&MemberStatus> {
        let leads = |m: &&MemberStatus| {
            m.report
                .as_ref()
                .is_ok_and(|r| r.role == Some(Role::Leader))
        };
        let term = |m: &&MemberStatus| m.report.as_ref().map_or(0, |r| r.term);
        self.members.iter().filter(leads).max_by_key(term)
    }

    /// Whether a member reads the log as the cluster writes it.
    pub fn log_formats_include(&self, report: &Report) -> bool {
        (report.log_format_min..=report.log_format_max).contains(&self.log_format)
    }
}

impl MemberStatus {
    fn from_wire(wire: v1::MemberStatus) -> Result<Self, String> {
        let member = wire.member.ok_or("member is missing")?;
        let report = if wire.unreachable.is_empty() {
            Ok(Report {
                role: Role::from_wire(wire.role),
                term: wire.term,
                last_log: wire.last_log,
                committed: wire.committed,
                applied: wire.applied,
                index_position: wire.index_position,
                lag: wire.lag,
                snapshot: wire.snapshot,
                disk_free_bytes: wire.disk_free_bytes,
                disk_total_bytes: wire.disk_total_bytes,
                server_version: wire.server_version,
                log_format_min: wire.log_format_min,
                log_format_max: wire.log_format_max,
                started_at: wire
                    .started_at
                    .map(time::from_wire)
                    .transpose()
                    .map_err(|e| format!("started_at: {e}"))?,
                round_trip: Duration::from_millis(wire.round_trip_ms.into()),
                clock_offset_ms: wire.clock_offset_ms,
            })
        } else {
            Err(wire.unreachable)
        };
        Ok(Self {
            member: Member::from_wire(member),
            report,
        })
    }
}

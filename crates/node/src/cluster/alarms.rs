//! What is wrong with members, kept by each node in memory for those who look.
//!
//! A node that must stop tells the others before it does, for it cannot be asked afterwards. What a
//! node can see by itself (a disk that is full) it raises and takes off by itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;
use memorygate_raft::{Fatal, FatalKind};
use tracing::{info, warn};

use crate::wire::{read, write};

/// Alarms that are kept: one for each member and kind, and members are few.
pub(super) const ALARMS_MAX: usize = 64;

/// Bytes of a reason or remedy; longer ones are cut.
const TEXT_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    DiskFull,
    Corrupt,
    StorageFailed,
    Diverged,
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::DiskFull,
        Self::Corrupt,
        Self::StorageFailed,
        Self::Diverged,
    ];

    /// As in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::Corrupt => "corrupt",
            Self::StorageFailed => "storage_failed",
            Self::Diverged => "diverged",
        }
    }

    pub fn of_wire(kind: v1::AlarmKind) -> Option<Self> {
        Some(match kind {
            v1::AlarmKind::Unspecified => return None,
            v1::AlarmKind::DiskFull => Self::DiskFull,
            v1::AlarmKind::Corrupt => Self::Corrupt,
            v1::AlarmKind::StorageFailed => Self::StorageFailed,
            v1::AlarmKind::Diverged => Self::Diverged,
        })
    }

    pub fn to_wire(self) -> v1::AlarmKind {
        match self {
            Self::DiskFull => v1::AlarmKind::DiskFull,
            Self::Corrupt => v1::AlarmKind::Corrupt,
            Self::StorageFailed => v1::AlarmKind::StorageFailed,
            Self::Diverged => v1::AlarmKind::Diverged,
        }
    }

    /// Whether it ends by the member's being started again, which looks at what was wrong.
    fn ends_with_a_start(self) -> bool {
        match self {
            Self::Corrupt | Self::StorageFailed => true,
            Self::DiskFull | Self::Diverged => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Whom it is about.
    pub node_id: u64,
    pub kind: Kind,
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// By the clock of whoever raised it.
    pub since: TimeMs,
}

impl Alarm {
    /// Of a node that stops because of `fatal`; `None` if its disk has no part in it.
    pub fn of_fatal(node_id: u64, fatal: &Fatal, since: TimeMs) -> Option<Self> {
        let kind = match fatal.kind {
            FatalKind::Corrupt => Kind::Corrupt,
            FatalKind::Diverged => Kind::Diverged,
            FatalKind::LogWrite | FatalKind::StateWrite => Kind::StorageFailed,
            FatalKind::Undecodable | FatalKind::Consensus => return None,
        };
        Some(Self {
            node_id,
            kind,
            reason: fatal.message.clone(),
            remedy: fatal.kind.advice().to_owned(),
            since,
        })
    }

    /// Of a node whose files are damaged.
    pub fn corrupt(node_id: u64, reason: String, since: TimeMs) -> Self {
        Self {
            node_id,
            kind: Kind::Corrupt,
            reason,
            remedy: FatalKind::Corrupt.advice().to_owned(),
            since,
        }
    }

    pub fn to_wire(&self) -> v1::ClusterAlarm {
        v1::ClusterAlarm {
            node_id: format!("{:016x}", self.node_id),
            kind: self.kind.to_wire().into(),
            reason: cut(&self.reason),
            remedy: cut(&self.remedy),
            since: Some(write::time(self.since)),
        }
    }

    /// `None` for what this version does not know.
    pub fn of_wire(alarm: v1::ClusterAlarm) -> Option<Self> {
        Some(Self {
            node_id: read::cluster::node_id("node_id", &alarm.node_id).ok()?,
            kind: Kind::of_wire(v1::AlarmKind::try_from(alarm.kind).ok()?)?,
            reason: cut(&alarm.reason),
            remedy: cut(&alarm.remedy),
            since: read::cluster::since(alarm.since),
        })
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// Which alarms are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Which {
    /// All members if absent.
    pub node_id: Option<u64>,
    /// All kinds if absent.
    pub kind: Option<Kind>,
}

impl Which {
    pub fn has(&self, alarm: &Alarm) -> bool {
        self.node_id.is_none_or(|node_id| node_id == alarm.node_id)
            && self.kind.is_none_or(|kind| kind == alarm.kind)
    }

    pub fn to_wire(self) -> v1::ClearAlarmsRequest {
        let node_id = self.node_id.map(|node_id| format!("{node_id:016x}"));
        let kind = self.kind.map_or(v1::AlarmKind::Unspecified, Kind::to_wire);
        v1::ClearAlarmsRequest {
            node_id: node_id.unwrap_or_default(),
            kind: kind.into(),
        }
    }
}

/// The alarms that this node keeps, one for each member and kind.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<BTreeMap<(u64, Kind), Alarm>>);

impl Alarms {
    /// The first of its member and kind stays.
    pub fn raise(&self, alarm: Alarm) {
        let mut alarms = self.lock();
        let key = (alarm.node_id, alarm.kind);
        if alarms.contains_key(&key) {
            return;
        }
        let (node, kind) = (format!("{:016x}", alarm.node_id), alarm.kind.as_str());
        if alarms.len() >= ALARMS_MAX {
            warn!(
                node,
                kind,
                reason = alarm.reason,
                "alarm is not kept: there are too many"
            );
            return;
        }
        warn!(
            node,
            kind,
            reason = alarm.reason,
            remedy = alarm.remedy,
            "alarm"
        );
        alarms.insert(key, alarm);
    }

    pub fn clear(&self, which: Which) {
        self.retain("alarm is cleared", |alarm| !which.has(alarm));
    }

    /// A member has been heard that was started at `started_at`.
    pub(super) fn heard(&self, node_id: u64, started_at: TimeMs) {
        self.retain("member is back, its alarm is taken off", |alarm| {
            let is_over = alarm.kind.ends_with_a_start() && started_at > alarm.since;
            alarm.node_id != node_id || !is_over
        });
    }

    /// Forgets whoever is no member.
    pub(super) fn keep_members(&self, is_member: impl Fn(u64) -> bool) {
        self.retain(
            "node is no member any more, its alarm is taken off",
            |alarm| is_member(alarm.node_id),
        );
    }

    pub fn list(&self) -> Vec<Alarm> {
        self.lock().values().cloned().collect()
    }

    fn retain(&self, why: &'static str, keep: impl Fn(&Alarm) -> bool) {
        self.lock().retain(|_, alarm| {
            let stays = keep(alarm);
            if !stays {
                let (node, kind) = (format!("{:016x}", alarm.node_id), alarm.kind.as_str());
                info!(node, kind, "{why}");
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, Kind), Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(node_id: u64, kind: Kind, since: i64) -> Alarm {
        Alarm {
            node_id,
            kind,
            reason: "x".repeat(5000),
            remedy: "y".to_owned(),
            since: TimeMs(since),
        }
    }

    fn shown(alarms: &Alarms) -> String {
        let texts = alarms.list().into_iter();
        let texts = texts.map(|a| format!("{} {} {}", a.node_id, a.kind.as_str(), a.since.0));
        texts.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn one_alarm_is_kept_for_each_member_and_kind_until_it_is_over() {
        let alarms = Alarms::default();
        alarms.raise(alarm(1, Kind::Corrupt, 10));
        alarms.raise(alarm(1, Kind::Corrupt, 20));
        alarms.raise(alarm(1, Kind::Diverged, 10));
        alarms.raise(alarm(2, Kind::StorageFailed, 10));
        assert_eq!(
            shown(&alarms),
            "1 corrupt 10, 1 diverged 10, 2 storage_failed 10"
        );
        // Still the start that raised it.
        alarms.heard(1, TimeMs(9));
        alarms.heard(1, TimeMs(10));
        assert_eq!(alarms.list().len(), 3);
        alarms.heard(1, TimeMs(11));
        assert_eq!(shown(&alarms), "1 diverged 10, 2 storage_failed 10");
        alarms.keep_members(|node_id| node_id == 1);
        assert_eq!(shown(&alarms), "1 diverged 10");
        alarms.clear(Which {
            node_id: Some(2),
            kind: None,
        });
        assert_eq!(shown(&alarms), "1 diverged 10");
        alarms.clear(Which::default());
        assert_eq!(shown(&alarms), "");
    }

    #[test]
    fn alarms_are_bounded() {
        let alarms = Alarms::default();
        for node_id in 0..1000 {
            alarms.raise(alarm(node_id, Kind::Corrupt, 0));
        }
        assert_eq!(alarms.list().len(), ALARMS_MAX);
    }

    #[test]
    fn an_alarm_is_read_back_from_the_wire_and_cut() {
        for kind in Kind::ALL {
            let alarm = alarm(0xab, kind, 1_700_000_000_123);
            let back = Alarm::of_wire(alarm.to_wire()).unwrap();
            assert_eq!(
                (back.node_id, back.kind, back.since),
                (0xab, kind, alarm.since)
            );
            assert_eq!(back.reason.len(), TEXT_MAX);
        }
        assert_eq!(Alarm::of_wire(v1::ClusterAlarm::default()), None);
    }
}

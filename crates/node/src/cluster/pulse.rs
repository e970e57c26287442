//! What the other members last said of themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;
use tokio::time::Instant;

use super::alarms::Alarm;

/// What a member said. One for each member is kept, see [`Pulse::keep_members`].
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    pub status: v1::MemberStatus,
    /// What it keeps of others.
    pub alarms: Vec<Alarm>,
    /// Bytes that its disk lacks until it takes writes.
    pub disk_short_bytes: u64,
    pub started_at: TimeMs,
}

impl Heard {
    pub fn is_of_the_last(&self, time: Duration) -> bool {
        self.at.elapsed() <= time
    }

    pub fn member(&self) -> v1::ClusterMember {
        self.status.member.clone().unwrap_or_default()
    }
}

/// The members that were heard, by node id.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<BTreeMap<u64, Heard>>);

impl Pulse {
    pub fn heard(&self, node_id: u64, heard: Heard) {
        self.lock().insert(node_id, heard);
    }

    pub fn of(&self, node_id: u64) -> Option<Heard> {
        self.lock().get(&node_id).cloned()
    }

    pub fn all(&self) -> BTreeMap<u64, Heard> {
        self.lock().clone()
    }

    /// Forgets whoever is no member, which bounds the table.
    pub fn keep_members(&self, is_member: impl Fn(u64) -> bool) {
        self.lock().retain(|node_id, _| is_member(*node_id));
    }

    /// Forgets alarms that were cleared, until somebody says again that they are there.
    pub fn clear_alarms(&self, is_cleared: impl Fn(&Alarm) -> bool) {
        for heard in self.lock().values_mut() {
            heard.alarms.retain(|alarm| !is_cleared(alarm));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

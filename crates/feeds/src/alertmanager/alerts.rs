//! Alerts of many messages, each once.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{ALERTS_MAX, Alert, Notification, Status};
use crate::Error;

/// Alerts by fingerprint. Of one that was told of more than once it holds the newest state: a later
/// start counts over an earlier one; of one start, its end over its being there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    by_fingerprint: BTreeMap<String, Alert>,
}

impl Alerts {
    /// Adds all alerts of a message. On error, none of them.
    pub fn add(&mut self, notification: &Notification) -> Result<(), Error> {
        let new = notification.alerts.iter();
        let new = new.filter(|alert| !self.by_fingerprint.contains_key(&alert.fingerprint));
        let actual = self.by_fingerprint.len() + new.count();
        if actual > ALERTS_MAX {
            return Err(Error::TooManyAlerts { actual });
        }
        for alert in &notification.alerts {
            match self.by_fingerprint.entry(alert.fingerprint.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(alert.clone());
                }
                Entry::Occupied(mut entry) => {
                    if rank(alert) >= rank(entry.get()) {
                        entry.insert(alert.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// The worst first, of those the oldest; the fingerprint decides the rest.
    pub fn ordered(&self) -> Vec<&Alert> {
        let mut alerts: Vec<&Alert> = self.by_fingerprint.values().collect();
        alerts.sort_by(|a, b| {
            (b.severity().cmp(&a.severity()))
                .then(a.starts_at.cmp(&b.starts_at))
                .then(a.fingerprint.cmp(&b.fingerprint))
        });
        alerts
    }

    pub fn get(&self, fingerprint: &str) -> Option<&Alert> {
        self.by_fingerprint.get(fingerprint)
    }

    /// Firing if any is; resolved if there is none.
    pub fn status(&self) -> Status {
        let statuses = self.by_fingerprint.values().map(|alert| alert.status);
        statuses.min().unwrap_or(Status::Resolved)
    }

    pub fn len(&self) -> usize {
        self.by_fingerprint.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_fingerprint.is_empty()
    }
}

fn rank(alert: &Alert) -> impl Ord {
    (alert.starts_at, alert.status)
}

//! Webhook messages of Prometheus Alertmanager, version 4.
//!
//! A [`Notification`] tells of a group of alerts. It comes again while any of them fires, and each time
//! with all of them, so one [`Alert`] is met many times: [`Alerts`] holds each once.

mod alert;
mod alerts;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::{
    alert::{Alert, Severity},
    alerts::Alerts,
};
use crate::{Error, Experience, json, text};

/// Of the format that is read. It is that of the webhook, not Alertmanager's own.
pub const VERSION: &str = "4";

/// Alerts of one message, and of one [`Alerts`].
pub const ALERTS_MAX: usize = 1000;

/// Labels of one alert, or annotations.
pub const LABELS_MAX: usize = 256;

/// Whether an alert, or any of a group, fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One message: a group of alerts as it stands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    pub version: String,
    /// Names the group within one Alertmanager.
    pub group_key: String,
    /// Firing if any of the alerts is.
    pub status: Status,
    #[serde(default)]
    pub receiver: String,
    #[serde(default, deserialize_with = "json::or_default")]
    pub group_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "json::or_default")]
    pub common_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "json::or_default")]
    pub common_annotations: BTreeMap<String, String>,
    #[serde(default, rename = "externalURL")]
    pub external_url: String,
    /// How many alerts of the group were left out.
    #[serde(default)]
    pub truncated_alerts: u64,
    /// At most [`ALERTS_MAX`].
    pub alerts: Vec<Alert>,
}

impl Notification {
    /// Reads a message's body. Every alert has a fingerprint afterwards: one that came without is given
    /// the one that Prometheus would.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut notification: Self = json::read(body)?;
        if notification.version != VERSION {
            return Err(Error::Version {
                actual: text::head(&notification.version, 40),
            });
        }
        if notification.alerts.len() > ALERTS_MAX {
            return Err(Error::TooManyAlerts {
                actual: notification.alerts.len(),
            });
        }
        for (index, alert) in notification.alerts.iter_mut().enumerate() {
            alert.complete().map_err(|(field, reason)| {
                Error::field(format!("alerts[{index}].{field}"), reason)
            })?;
        }
        Ok(notification)
    }

    /// One for each alert, in order.
    pub fn experiences(&self) -> Vec<Experience> {
        let alerts = self.alerts.iter();
        alerts
            .map(|alert| alert.experience(&self.group_key))
            .collect()
    }
}

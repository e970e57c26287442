//! One alert, and what is learned from it.

use std::collections::BTreeMap;

use memorygate_core::{name::domain, time::TimeMs};
use serde::Deserialize;

use super::{LABELS_MAX, Status};
use crate::{Experience, experience::Metadata, instant, json, text};

/// Bytes of a summary or a description in an experience.
const ANNOTATION_BYTES_MAX: usize = 4096;

/// Bytes of one label's value in an experience.
const LABEL_BYTES_MAX: usize = 256;

/// Labels that an experience names.
const LABELS_SHOWN_MAX: usize = 32;

/// What an alert that is over counts for, of what it counted for while it fired: that it came is the
/// lesson, that it went is the rest of the story.
const RESOLVED_SHARE: f32 = 0.8;

/// The annotations that say what an alert means, in the order in which they are told.
const TELLING: [&str; 4] = ["summary", "message", "title", "description"];

/// How bad it is, by the label `severity` (or `priority`, `level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It only shows that alerts arrive, as `Watchdog` does.
    None,
    Info,
    /// There is no such label, or one that says something else.
    Unknown,
    Warning,
    High,
    Critical,
}

impl Severity {
    pub fn parse(text: &str) -> Self {
        match text.trim().to_lowercase().as_str() {
            "none" => Self::None,
            "info" | "informational" | "notice" | "low" | "p4" | "p5" => Self::Info,
            "warning" | "warn" | "medium" | "moderate" | "minor" | "p3" => Self::Warning,
            "error" | "high" | "major" | "p2" => Self::High,
            "critical" | "page" | "emergency" | "disaster" | "fatal" | "p0" | "p1" => {
                Self::Critical
            }
            _ => Self::Unknown,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// What an alert of this severity is worth remembering, 0 to 1.
    pub fn importance(self) -> f32 {
        match self {
            Self::None => 0.05,
            Self::Info => 0.3,
            Self::Unknown => 0.5,
            Self::Warning => 0.6,
            Self::High => 0.75,
            Self::Critical => 0.9,
        }
    }
}

/// One alert of a group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub status: Status,
    /// What tells it from other alerts. At most [`LABELS_MAX`].
    #[serde(deserialize_with = "json::or_default")]
    pub labels: BTreeMap<String, String>,
    /// What people wrote about it.
    #[serde(default, deserialize_with = "json::or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "instant::required")]
    pub starts_at: TimeMs,
    /// Of a firing one absent, or when it would end if nobody repeated it.
    #[serde(default, deserialize_with = "instant::optional")]
    pub ends_at: Option<TimeMs>,
    #[serde(default, rename = "generatorURL")]
    pub generator_url: String,
    /// The same for the same labels.
    #[serde(default)]
    pub fingerprint: String,
}

impl Alert {
    /// Checks what the types do not hold, and gives it a fingerprint. On error, the field and why.
    pub(super) fn complete(&mut self) -> Result<(), (&'static str, String)> {
        for (field, entries) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if entries.len() > LABELS_MAX {
                let actual = entries.len();
                return Err((
                    field,
                    format!("{actual} entries, expected at most {LABELS_MAX}"),
                ));
            }
        }
        if self.labels.is_empty() {
            return Err(("labels", "empty, expected at least alertname".to_owned()));
        }
        if self.fingerprint.len() > 64 || self.fingerprint.chars().any(char::is_control) {
            let expected = "expected at most 64 bytes without control characters";
            return Err(("fingerprint", expected.to_owned()));
        }
        if self.fingerprint.is_empty() {
            self.fingerprint = fingerprint(&self.labels);
        }
        Ok(())
    }

    /// The label `alertname`, or what comes nearest.
    pub fn name(&self) -> &str {
        self.label("alertname").unwrap_or("alert without a name")
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        let value = self.labels.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.annotations.get(name).map(String::as_str);
        value.filter(|value| !value.trim().is_empty())
    }

    pub fn severity(&self) -> Severity {
        let labels = ["severity", "priority", "level"];
        let label = labels.iter().find_map(|name| self.label(name));
        label.map_or(Severity::Unknown, Severity::parse)
    }

    /// What the annotations say, each statement once.
    pub fn told(&self) -> Vec<&str> {
        let mut told: Vec<&str> = Vec::new();
        for text in TELLING.iter().filter_map(|name| self.annotation(name)) {
            if !told.contains(&text.trim()) {
                told.push(text.trim());
            }
        }
        told
    }

    /// How long it fired, if it is over.
    pub fn fired_for_ms(&self) -> Option<i64> {
        let ended = self.ends_at.filter(|_| self.status == Status::Resolved);
        ended.map(|ended| ended.since(self.starts_at))
    }

    /// What is learned from it, in the group of this key. Of two messages that tell of the same alert
    /// in the same state, the same event.
    pub fn experience(&self, group_key: &str) -> Experience {
        let severity = self.severity();
        let share = match self.status {
            Status::Firing => 1.0,
            Status::Resolved => RESOLVED_SHARE,
        };
        let Self { fingerprint, .. } = self;
        let status = self.status.as_str();
        let starts_at_ms = self.starts_at.0;
        let group = text::fnv(&[group_key.as_bytes()]);
        Experience {
            event: format!("alertmanager/{fingerprint}/{starts_at_ms}/{status}"),
            content: self.content(),
            domain: domain::INCIDENT_RESPONSE.to_owned(),
            occurred_at: Some(match self.status {
                Status::Firing => self.starts_at,
                Status::Resolved => self.ends_at.unwrap_or(self.starts_at),
            }),
            importance: severity.importance() * share,
            metadata: self.metadata(severity),
            agent: "alertmanager".to_owned(),
            session: format!("alerts/{group:016x}/{}", instant::date(self.starts_at)),
        }
    }

    fn content(&self) -> String {
        let state = match self.status {
            Status::Firing => "is firing",
            Status::Resolved => "was resolved",
        };
        let name = text::head(self.name(), LABEL_BYTES_MAX);
        let severity = self.severity();
        let mut content = if severity == Severity::Unknown {
            format!("Alert {name} {state}.")
        } else {
            format!("Alert {name} ({}) {state}.", severity.as_str())
        };
        for told in self.told() {
            content.push('\n');
            content.push_str(&text::head(told, ANNOTATION_BYTES_MAX));
        }
        let labels = self.labels.iter();
        let labels: Vec<String> = labels
            .filter(|(name, value)| *name != "alertname" && !value.is_empty())
            .take(LABELS_SHOWN_MAX)
            .map(|(name, value)| {
                let name = text::head(name, LABEL_BYTES_MAX);
                format!("{name}={}", text::head(value, LABEL_BYTES_MAX))
            })
            .collect();
        if !labels.is_empty() {
            content.push_str("\nlabels: ");
            content.push_str(&labels.join(", "));
        }
        content
    }

    fn metadata(&self, severity: Severity) -> BTreeMap<String, String> {
        let fired_for_s = self.fired_for_ms().map(|ms| (ms / 1000).to_string());
        let own = Metadata::default()
            .with("source", "alertmanager")
            .with("alertname", self.name())
            .with("status", self.status.as_str())
            .with("severity", severity.as_str())
            .with("fingerprint", &self.fingerprint)
            .with("starts_at", &instant::format(self.starts_at))
            .with("fired_for_s", fired_for_s.as_deref().unwrap_or_default())
            .with(
                "runbook_url",
                self.annotation("runbook_url").unwrap_or_default(),
            )
            .with("generator_url", &self.generator_url);
        let labels = self.labels.iter();
        labels
            .filter(|(name, _)| *name != "alertname")
            .fold(own, |metadata, (name, value)| {
                metadata.with(&format!("label.{name}"), value)
            })
            .into_inner()
    }
}

/// As Prometheus makes it of a set of labels: FNV-1a over names and values in order of the names, each
/// ended by a byte that is in no text.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<&[u8]> = labels
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), b"\xff", value.as_bytes(), b"\xff"])
        .collect();
    format!("{:016x}", text::fnv(&parts))
}

//! Why a message was not read.

use crate::{BODY_BYTES_MAX, alertmanager};

/// In every case the message is wrong and stays so: sending it again brings nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("message has {actual} bytes, expected at most {BODY_BYTES_MAX}")]
    TooLarge { actual: usize },
    #[error("message is not JSON: {reason}")]
    NotJson { reason: String },
    /// A field is missing, of another type, or has a value that it cannot have.
    #[error("{path}: {reason}")]
    Field { path: String, reason: String },
    #[error(
        "version: {actual:?}, expected {:?}, the one of Alertmanager's webhook",
        alertmanager::VERSION
    )]
    Version { actual: String },
    #[error(
        "{actual} alerts, expected at most {}: set max_alerts of the webhook receiver",
        alertmanager::ALERTS_MAX
    )]
    TooManyAlerts { actual: usize },
    #[error(
        "neither a job of GitHub (\"workflow_job\"), nor one of GitLab (\"object_kind\": \"build\"), \
         nor a plain one (\"job\")"
    )]
    UnknownShape,
}

impl Error {
    pub(crate) fn field(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

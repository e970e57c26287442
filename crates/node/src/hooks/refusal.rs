//! Why a message was not taken, and what its sender is told: what is wrong with it for good (4xx), or when
//! to come back (503). Alertmanager repeats after 5xx alone, so what may succeed later is never a 408 or
//! a 429.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::BytesRejection,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use memorygate_feeds::BODY_BYTES_MAX;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::ARRIVAL_TIMEOUT;
use crate::{
    error::{Error, Violation},
    grpc::status::{self, Call},
};

/// When to come back if the error does not say.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "webhooks are off: set webhook.token_file, or MEMORYGATE_WEBHOOK_TOKEN in the environment of the \
         node"
    )]
    Off,
    #[error(
        "unauthorized: show the node's webhook token as a bearer token, as GitLab's secret token, or \
         as the secret that GitHub signs with"
    )]
    Unauthorized,
    #[error("{}: {}", .0.field, .0.description)]
    Query(Violation),
    #[error(
        "content type {actual:?}, expected \"application/json\": set that at the sender (GitHub's own is a \
         form)"
    )]
    Type { actual: String },
    #[error("message did not arrive within {} s", ARRIVAL_TIMEOUT.as_secs())]
    Late,
    #[error("message has more than {BODY_BYTES_MAX} bytes: send fewer events at once")]
    TooLarge,
    #[error("message broke off: {reason}")]
    Broken { reason: String },
    #[error(transparent)]
    Message(memorygate_feeds::Error),
    #[error("{messages_max} messages of this kind are in work already: send it again later")]
    Busy { messages_max: usize },
    #[error("node is starting, or stopping")]
    Starting,
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Refusal {
    pub(super) fn of_body(rejection: &BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self::TooLarge
        } else {
            Self::Broken {
                reason: rejection.body_text(),
            }
        }
    }

    /// The code, and when to come back.
    fn kind(&self) -> (StatusCode, Option<Duration>) {
        match self {
            Self::Off => (StatusCode::NOT_FOUND, None),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, None),
            Self::Type { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Query(_) | Self::Broken { .. } | Self::Message(_) => {
                (StatusCode::BAD_REQUEST, None)
            }
            Self::Late | Self::Busy { .. } | Self::Starting => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY))
            }
            Self::Failed(error) => failed(error),
        }
    }
}

/// By the one table of what to do after an error.
fn failed(error: &Error) -> (StatusCode, Option<Duration>) {
    let status = status::of(error, Call::Mutating);
    let retry = || {
        let said = status.get_details_retry_info();
        Some(said.and_then(|retry| retry.retry_delay).unwrap_or(RETRY))
    };
    match status.code() {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, retry()),
        Code::InvalidArgument | Code::OutOfRange => (StatusCode::BAD_REQUEST, None),
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => (StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

impl From<memorygate_feeds::Error> for Refusal {
    fn from(error: memorygate_feeds::Error) -> Self {
        match error {
            memorygate_feeds::Error::TooLarge { .. } => Self::TooLarge,
            memorygate_feeds::Error::NotJson { .. }
            | memorygate_feeds::Error::Field { .. }
            | memorygate_feeds::Error::Version { .. }
            | memorygate_feeds::Error::TooManyAlerts { .. }
            | memorygate_feeds::Error::UnknownShape => Self::Message(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, retry) = self.kind();
        let mut response = (code, Json(json!({"error": self.to_string()}))).into_response();
        let mut set = |name: HeaderName, value: HeaderValue| {
            response.headers_mut().insert(name, value);
        };
        if let Some(retry) = retry {
            // Whole seconds, and not none.
            let seconds = retry.as_millis().div_ceil(1000).max(1);
            let value = HeaderValue::from_str(&seconds.to_string());
            set(
                header::RETRY_AFTER,
                value.expect("a number is a header's value"),
            );
        }
        if code == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Bearer realm=\"memorygate\"");
            set(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_repeat_what_may_succeed_and_nothing_else() {
        let check = |refusal: Refusal| {
            let response = refusal.into_response();
            let retry = response.headers().get(header::RETRY_AFTER);
            let retry = retry.map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), retry)
        };
        let seconds = |count: &str| Some(count.to_owned());
        let no_leader = Error::NotLeader { leader: None };
        assert_eq!(check(no_leader.into()), (503, seconds("1")));
        let no_quorum = Error::NoQuorum {
            reason: String::new(),
        };
        assert_eq!(check(no_quorum.into()), (503, seconds("1")));
        assert_eq!(check(Error::Draining.into()), (503, seconds("1")));
        let full = Error::StorageFull {
            free_bytes: 0,
            reserve_bytes: 1,
        };
        assert_eq!(check(full.into()), (503, seconds("5")));
        let late = Error::Deadline {
            waiting: "",
            outcome: crate::error::Outcome::Unknown,
        };
        assert_eq!(check(late.into()), (503, seconds("5")));
        assert_eq!(
            check(Refusal::Busy { messages_max: 4 }),
            (503, seconds("5"))
        );
        assert_eq!(check(Refusal::Starting), (503, seconds("5")));
        assert_eq!(check(Refusal::Late), (503, seconds("5")));
        let actual = "text/html".to_owned();
        assert_eq!(check(Refusal::Type { actual }), (415, None));
        let invalid = Error::Invalid(Violation::at("content", "is empty"));
        assert_eq!(check(invalid.into()), (400, None));
        let internal = Error::Internal {
            reason: String::new(),
        };
        assert_eq!(check(internal.into()), (500, None));
        assert_eq!(check(Refusal::Off), (404, None));
        assert_eq!(check(Refusal::Unauthorized), (401, None));
        let unread = memorygate_feeds::Error::UnknownShape;
        assert_eq!(check(unread.into()), (400, None));
        let large = memorygate_feeds::Error::TooLarge { actual: 1 };
        assert_eq!(check(large.into()), (413, None));
    }
}

//! What can go wrong with a call, and what to do next.
//!
//! An [`Error`] answers three questions: what to do ([`Error::kind`]), whether a write may have
//! happened all the same ([`Error::outcome`]), and what exactly was wrong (message and violations).
//! The mapping from gRPC lives here and nowhere else.

use std::{error::Error as _, fmt, time::Duration};

use memorygate_core::{key::Key, request::RequestId};
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// A server's reason for not undoing what was changed since.
const CHANGED_SINCE: &str = "CHANGED_SINCE";

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later. After [`Outcome::Unknown`], repeat it with the same request
    /// id ([`Error::request_id`]).
    Retry,
    /// The request itself is wrong; it will never succeed as it is. See [`Error::violations`].
    Fix,
    /// There is no such memory that the reader may see.
    NotFound,
    /// The memory changed meanwhile: read it again and decide anew.
    Conflict,
    /// The server does not hold what the caller knows: it is of another cluster, or lost data. An
    /// operator has to restore it, or the client has to be pointed elsewhere.
    Restore,
    /// A bug, here or there: report it.
    Report,
}

impl Kind {
    /// A word for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Fix => "fix",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Restore => "restore",
            Self::Report => "report",
        }
    }
}

/// What is known of a write that did not succeed. A read always just failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed, and nothing of this request will be.
    Failed,
    /// It may have been stored or may still be: only a repeat with the same request id can tell.
    Unknown,
}

impl Outcome {
    /// A word for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `experiences[3].importance`.
    pub field: String,
    pub description: String,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    kind: Kind,
    outcome: Outcome,
    /// What was asked for, such as `learn`.
    operation: &'static str,
    message: String,
    code: Code,
    reason: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    request_id: Option<RequestId>,
    endpoint: Option<String>,
    attempts: u32,
    changed: Vec<Key>,
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.outcome {
            Outcome::Failed => "failed",
            Outcome::Unknown => "has an unknown outcome",
        };
        write!(f, "{} {verdict}: {}", self.operation, self.message)?;
        // A server's message often names its fields already.
        for violation in &self.violations {
            if !self.message.contains(&violation.description) {
                write!(f, "; {}: {}", violation.field, violation.description)?;
            }
        }
        Ok(())
    }
}

impl Error {
    /// An error without a server behind it; for other implementations of
    /// [`KnowledgeStore`](crate::store::KnowledgeStore).
    pub fn new(
        kind: Kind,
        outcome: Outcome,
        operation: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let code = match kind {
            Kind::Retry => Code::Unavailable,
            Kind::Fix => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::Conflict => Code::Aborted,
            Kind::Restore => Code::FailedPrecondition,
            Kind::Report => Code::Internal,
        };
        Self(Box::new(Details {
            kind,
            outcome,
            operation,
            message: message.into(),
            code,
            reason: String::new(),
            violations: Vec::new(),
            retry_after: None,
            request_id: None,
            endpoint: None,
            attempts: 0,
            changed: Vec::new(),
        }))
    }

    /// A request that breaks a bound: nothing was sent.
    pub fn invalid(operation: &'static str, violations: Vec<Violation>) -> Self {
        let message = match violations.as_slice() {
            [one] => format!("{}: {}", one.field, one.description),
            several => format!("{} fields are invalid", several.len()),
        };
        let mut error = Self::new(Kind::Fix, Outcome::Failed, operation, message);
        error.0.violations = violations;
        error
    }

    /// A reply that this client cannot read.
    pub(crate) fn malformed(operation: &'static str, mutating: bool, what: &str) -> Self {
        let outcome = if mutating {
            Outcome::Unknown
        } else {
            Outcome::Failed
        };
        let message = format!("reply is malformed: {what}");
        Self::new(Kind::Report, outcome, operation, message)
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// What was called, such as `learn`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The server's words, or the client's own if nothing was sent.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The server's machine-readable reason (`google.rpc.ErrorInfo`), or empty.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Under which id the write was sent; repeat with it after [`Outcome::Unknown`].
    pub fn request_id(&self) -> Option<RequestId> {
        self.0.request_id
    }

    /// Where the last attempt went.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// How often it was tried; 0 if it was never sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Memories that were changed since, where that is why: see
    /// [`Consolidation::undo`](crate::Consolidation::undo).
    pub fn changed(&self) -> &[Key] {
        &self.0.changed
    }

    pub(crate) fn set_changed(&mut self, keys: Vec<Key>) {
        self.0.changed = keys;
    }

    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.0.outcome = outcome;
    }

    pub(crate) fn set_trail(
        &mut self,
        endpoint: &str,
        attempts: u32,
        request_id: Option<RequestId>,
    ) {
        self.0.endpoint = Some(endpoint.to_owned());
        self.0.attempts = attempts;
        self.0.request_id = request_id;
    }
}

/// What is the matter with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection, or it broke.
    Unreachable,
    /// It said that it cannot now.
    Unavailable,
    /// No answer in the time that it was given.
    Late,
}

/// One attempt that did not succeed.
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether another attempt makes sense at all.
    pub(crate) retryable: bool,
    /// What is the matter with the server, if another is the better choice for it.
    pub(crate) trouble: Option<Trouble>,
    /// Whether this answer also settles what became of earlier attempts under the same id.
    pub(crate) final_answer: bool,
}

impl Failure {
    /// Reads a status. `mutating` calls get their outcome from the server's word, else from how far
    /// the request can have come.
    pub(crate) fn of(operation: &'static str, mutating: bool, status: &Status) -> Self {
        let transport = status.source().is_some();
        let connected = find::<ConnectError>(status).is_none();
        // Tonic says so on either side when the deadline in the request has passed.
        let timed_out = find::<TimeoutExpired>(status).is_some()
            || status.code() == Code::Cancelled && status.message() == "Timeout expired";
        let code = if timed_out {
            Code::DeadlineExceeded
        } else {
            status.code()
        };
        let info = status.get_details_error_info();
        let said = info
            .as_ref()
            .and_then(|info| match info.metadata.get("outcome")?.as_str() {
                "failed" => Some(Outcome::Failed),
                "unknown" => Some(Outcome::Unknown),
                _ => None,
            });
        let outcome = match said {
            _ if !mutating || !connected => Outcome::Failed,
            Some(said) => said,
            None if transport => Outcome::Unknown,
            None => without_word(code),
        };
        let retry_after = status
            .get_details_retry_info()
            .and_then(|retry| retry.retry_delay);
        let violations = status
            .get_details_bad_request()
            .map(|bad| bad.field_violations)
            .unwrap_or_default()
            .into_iter()
            .map(|v| Violation {
                field: v.field,
                description: v.description,
            })
            .collect();
        let changed = info
            .as_ref()
            .and_then(|info| info.metadata.get("changed"))
            .map(|keys| keys.split(',').filter_map(|key| key.parse().ok()).collect())
            .unwrap_or_default();
        let reason = info.map(|info| info.reason).unwrap_or_default();
        let is_changed_since = reason == CHANGED_SINCE;
        let kind = kind(code, transport, &reason);
        let message = if timed_out {
            "no answer within the time that the call may take".to_owned()
        } else if connected {
            status.message().to_owned()
        } else {
            format!("cannot connect: {}", root_cause(status))
        };
        let mut error = Error::new(kind, outcome, operation, message);
        error.0.code = code;
        error.0.reason = reason;
        error.0.violations = violations;
        error.0.retry_after = retry_after;
        error.0.changed = changed;
        Self {
            error,
            // A full queue says when to come back; a full disk, or a quota, does not. What needs the
            // cluster to change first takes longer than a call.
            retryable: kind == Kind::Retry
                && code != Code::FailedPrecondition
                && (code != Code::ResourceExhausted || retry_after.is_some()),
            trouble: if code == Code::DeadlineExceeded {
                Some(Trouble::Late)
            } else if transport {
                Some(Trouble::Unreachable)
            } else {
                (code == Code::Unavailable).then_some(Trouble::Unavailable)
            },
            final_answer: said == Some(Outcome::Failed)
                && matches!(kind, Kind::Fix | Kind::NotFound | Kind::Conflict)
                && (code != Code::FailedPrecondition || is_changed_since),
        }
    }

    /// The caller's deadline passed while the attempt was under way.
    pub(crate) fn deadline(operation: &'static str, mutating: bool, after: Duration) -> Self {
        let outcome = if mutating {
            Outcome::Unknown
        } else {
            Outcome::Failed
        };
        let message = format!("no answer within {after:?}");
        let mut error = Error::new(Kind::Retry, outcome, operation, message);
        error.0.code = Code::DeadlineExceeded;
        Self {
            error,
            retryable: true,
            trouble: Some(Trouble::Late),
            final_answer: false,
        }
    }
}

/// The outcome of a write by the code alone, for servers and proxies that do not say it. These
/// codes mean that the request was turned away at the door.
fn without_word(code: Code) -> Outcome {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => Outcome::Failed,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::Unknown,
    }
}

fn kind(code: Code, transport: bool, reason: &str) -> Kind {
    match code {
        // More room or another moment does not help these: ask for less at once.
        Code::ResourceExhausted if reason.ends_with("_TOO_LARGE") => Kind::Fix,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
            Kind::Retry
        }
        // A connection that broke in the middle shows up as one of these two.
        Code::Internal | Code::Unknown if transport => Kind::Retry,
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => Kind::Fix,
        Code::NotFound => Kind::NotFound,
        // Changes of members are made one after the other, and a learner catches up.
        Code::Aborted if reason == "CHANGE_IN_PROGRESS" => Kind::Retry,
        Code::FailedPrecondition if reason == "LAGGING" => Kind::Retry,
        Code::AlreadyExists if matches!(reason, "ADDRESS_TAKEN" | "MEMBER_EXISTS") => Kind::Fix,
        Code::Aborted | Code::AlreadyExists => Kind::Conflict,
        Code::FailedPrecondition if reason == CHANGED_SINCE => Kind::Conflict,
        // The caller reads what is stored and asks anew under a new id; or asks for another change.
        Code::FailedPrecondition
            if matches!(
                reason,
                "REQUEST_ID_EXPIRED"
                    | "NOBODY_THERE"
                    | "FOREIGN_NODE"
                    | "NO_VOTER"
                    | "LAST_VOTER"
                    | "CONSOLIDATION_PAUSED"
                    | "MERGED"
            ) =>
        {
            Kind::Fix
        }
        // The error names from when on the past is known.
        Code::OutOfRange if matches!(reason, "PAST_NOT_KEPT" | "MOMENT_TO_COME") => Kind::Fix,
        Code::FailedPrecondition | Code::DataLoss => Kind::Restore,
        Code::Ok | Code::Internal | Code::Unknown | Code::Unimplemented | Code::OutOfRange => {
            Kind::Report
        }
    }
}

fn find<E: std::error::Error + 'static>(status: &Status) -> Option<&E> {
    causes(status).find_map(|cause| cause.downcast_ref::<E>())
}

/// The innermost cause, which names what the system said ("connection refused").
fn root_cause(status: &Status) -> String {
    causes(status).last().map_or_else(
        || status.message().to_owned(),
        |cause| cause.to_string().to_lowercase(),
    )
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |cause| (*cause).source())
}

/// Collects what is wrong with a request, so that a caller learns all of it at once.
#[derive(Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl fmt::Display) {
        self.0.push(Violation {
            field: field.into(),
            description: description.to_string(),
        });
    }

    /// Notes the error of a check; passes on its value.
    pub(crate) fn check<T, E: fmt::Display>(
        &mut self,
        field: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error);
                None
            }
        }
    }

    /// Takes over another's, below `field`.
    pub(crate) fn nest(&mut self, field: &str, inner: Self) {
        self.0.extend(inner.0.into_iter().map(|v| Violation {
            field: format!("{field}.{}", v.field),
            description: v.description,
        }));
    }

    pub(crate) fn into_result(self, operation: &'static str) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(operation, self.0))
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

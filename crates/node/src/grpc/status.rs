//! The one place where errors become gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with a stable reason in the domain `memorygate`; a
//! broken bound also `BadRequest` with the field, and what may be repeated `RetryInfo`. The error of
//! a mutating call says in `ErrorInfo`'s metadata whether its outcome is `failed` or `unknown`.

use std::{collections::HashMap, time::Duration};

use memorygate_core::{apply::Rejection, key::Key};
use memorygate_raft::MemberError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    error::{Error, Outcome},
    wire::write,
};

/// Domain of all reasons.
pub const DOMAIN: &str = "memorygate";

/// How long a caller should wait before it tries again where there was too much at once.
const RETRY_OVERLOADED: Duration = Duration::from_millis(100);

/// … where the node is starting, or stopping and another will take over.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);

/// … where the disk must be given room by someone.
const RETRY_STORAGE: Duration = Duration::from_secs(5);

/// Whether a call changes anything, and so whether its errors say what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Reading,
    Mutating,
}

/// The status of a failed call.
pub fn of(error: &Error, call: Call) -> Status {
    let kind = kind(error);
    let mut details = ErrorDetails::new();
    let mut metadata = metadata(error);
    if call == Call::Mutating {
        metadata.insert("outcome".to_owned(), error.outcome().as_str().to_owned());
    }
    details.set_error_info(kind.reason, DOMAIN, metadata);
    if let Some(delay) = kind.retry {
        details.set_retry_info(Some(delay));
    }
    match error {
        Error::Invalid(violation) => {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
        Error::Refused { reason } => {
            details.add_bad_request_violation("", reason);
        }
        Error::CommandTooLarge { .. } => {
            details.add_bad_request_violation("experiences", error.to_string());
        }
        Error::NotFound { key } => {
            details.set_resource_info("memory", key.to_string(), "", error.to_string());
        }
        Error::Version { .. }
        | Error::RequestExpired(_)
        | Error::RequestFromFuture(_)
        | Error::OtherCluster { .. }
        | Error::NotKept(_)
        | Error::NotReached { .. }
        | Error::ToCome { .. }
        | Error::AnswerTooLarge { .. }
        | Error::StorageFull { .. }
        | Error::MemberFull(_)
        | Error::Paused { .. }
        | Error::Consolidation(_)
        | Error::Draining
        | Error::NoQuorum { .. }
        | Error::NobodyThere { .. }
        | Error::Foreign { .. }
        | Error::Unanswered { .. }
        | Error::Overloaded { .. }
        | Error::NotLeader { .. }
        | Error::NotReady { .. }
        | Error::Stopped { .. }
        | Error::Unknown { .. }
        | Error::Deadline { .. }
        | Error::Embedding { .. }
        | Error::Storage(_)
        | Error::Internal { .. } => {}
        Error::Member(MemberError::Address { .. }) => {
            details.add_bad_request_violation("peer_address", error.to_string());
        }
        Error::Member(_) => {}
    }
    Status::with_error_details(kind.code, error.to_string(), details)
}

/// Gives a status that the transport made (a message that is not protobuf, too large, or holds a
/// field nobody knows) the details that ours have. Nothing was done then.
pub fn complete(status: &Status, call: Call) -> Status {
    let message = status.message();
    let (code, reason) = match status.code() {
        Code::InvalidArgument => (Code::InvalidArgument, "MALFORMED_MESSAGE"),
        // What tonic says of a message that is over the limit.
        Code::OutOfRange => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        Code::ResourceExhausted => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        Code::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
        code @ (Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated) => (code, "TRANSPORT"),
    };
    let mut details = ErrorDetails::new();
    let mut metadata = HashMap::new();
    if call == Call::Mutating {
        metadata.insert("outcome".to_owned(), Outcome::Failed.as_str().to_owned());
    }
    details.set_error_info(reason, DOMAIN, metadata);
    if code == Code::InvalidArgument {
        details.add_bad_request_violation("", message);
    }
    Status::with_error_details(code, message, details)
}

struct Kind {
    code: Code,
    reason: &'static str,
    retry: Option<Duration>,
}

fn kind(error: &Error) -> Kind {
    let (code, reason, retry) = match error {
        Error::Invalid(_) | Error::Refused { .. } => (Code::InvalidArgument, "INVALID", None),
        Error::CommandTooLarge { .. } => (Code::InvalidArgument, "COMMAND_TOO_LARGE", None),
        Error::NotFound { .. } => (Code::NotFound, "NOT_FOUND", None),
        Error::Version { .. } => (Code::Aborted, "VERSION_MISMATCH", None),
        Error::RequestExpired(_) => (Code::FailedPrecondition, "REQUEST_ID_EXPIRED", None),
        Error::RequestFromFuture(_) => {
            (Code::FailedPrecondition, "REQUEST_ID_OF_ANOTHER_LOG", None)
        }
        Error::OtherCluster { .. } => (
            Code::FailedPrecondition,
            "POSITION_OF_ANOTHER_CLUSTER",
            None,
        ),
        Error::NotKept(_) => (Code::OutOfRange, "PAST_NOT_KEPT", None),
        Error::NotReached { .. } | Error::ToCome { .. } => {
            (Code::OutOfRange, "MOMENT_TO_COME", None)
        }
        Error::AnswerTooLarge { .. } => (Code::ResourceExhausted, "ANSWER_TOO_LARGE", None),
        Error::StorageFull { .. } => (Code::ResourceExhausted, "STORAGE_FULL", Some(RETRY_STORAGE)),
        Error::MemberFull(_) => (Code::ResourceExhausted, "STORAGE_FULL", Some(RETRY_STORAGE)),
        Error::Paused { .. } => (Code::FailedPrecondition, "CONSOLIDATION_PAUSED", None),
        Error::Consolidation(Rejection::ChangedSince { .. }) => {
            (Code::FailedPrecondition, "CHANGED_SINCE", None)
        }
        Error::Consolidation(Rejection::Merged { .. }) => {
            (Code::FailedPrecondition, "MERGED", None)
        }
        Error::Consolidation(Rejection::Shared { .. }) => {
            (Code::FailedPrecondition, "SHARED", None)
        }
        Error::Consolidation(_) => (Code::NotFound, "NOT_FOUND", None),
        Error::Draining => (Code::Unavailable, "DRAINING", Some(RETRY_UNAVAILABLE)),
        Error::NoQuorum { .. } => (Code::Unavailable, "NO_QUORUM", Some(RETRY_UNAVAILABLE)),
        Error::Member(error) => return member(error),
        Error::NobodyThere { .. } => (Code::FailedPrecondition, "NOBODY_THERE", None),
        Error::Foreign { .. } => (Code::FailedPrecondition, "FOREIGN_NODE", None),
        Error::Unanswered { .. } => (
            Code::Unavailable,
            "MEMBER_UNREACHABLE",
            Some(RETRY_UNAVAILABLE),
        ),
        Error::Overloaded { .. } => (
            Code::ResourceExhausted,
            "OVERLOADED",
            Some(RETRY_OVERLOADED),
        ),
        Error::NotLeader { .. } => (Code::Unavailable, "NOT_LEADER", Some(RETRY_UNAVAILABLE)),
        Error::NotReady { .. } => (Code::Unavailable, "NOT_READY", Some(RETRY_UNAVAILABLE)),
        Error::Stopped { .. } => (Code::Unavailable, "STOPPED", Some(RETRY_UNAVAILABLE)),
        Error::Unknown { .. } => (
            Code::Unavailable,
            "OUTCOME_UNKNOWN",
            Some(RETRY_UNAVAILABLE),
        ),
        Error::Deadline { .. } => (Code::DeadlineExceeded, "DEADLINE", None),
        Error::Embedding { .. } => (Code::Internal, "EMBEDDING", None),
        Error::Storage(_) => (Code::DataLoss, "STORAGE", None),
        Error::Internal { .. } => (Code::Internal, "INTERNAL", None),
    };
    Kind {
        code,
        reason,
        retry,
    }
}

/// Why the members are what they were.
fn member(error: &MemberError) -> Kind {
    let (code, reason, retry) = match error {
        MemberError::NotLeader { .. } => (Code::Unavailable, "NOT_LEADER", Some(RETRY_UNAVAILABLE)),
        MemberError::Unknown { .. } => (Code::NotFound, "UNKNOWN_MEMBER", None),
        MemberError::AddressTaken { .. } => (Code::AlreadyExists, "ADDRESS_TAKEN", None),
        MemberError::Known { .. } | MemberError::Voter { .. } => {
            (Code::AlreadyExists, "MEMBER_EXISTS", None)
        }
        MemberError::Learner { .. } => (Code::FailedPrecondition, "NO_VOTER", None),
        MemberError::LastVoter { .. } => (Code::FailedPrecondition, "LAST_VOTER", None),
        MemberError::Lagging { .. } => (Code::FailedPrecondition, "LAGGING", Some(RETRY_STORAGE)),
        MemberError::Format { .. } => (Code::FailedPrecondition, "LOG_FORMAT", None),
        MemberError::InProgress => (Code::Aborted, "CHANGE_IN_PROGRESS", Some(RETRY_UNAVAILABLE)),
        MemberError::Address { .. } => (Code::InvalidArgument, "INVALID", None),
        MemberError::Stopped(_) => (Code::Unavailable, "STOPPED", Some(RETRY_UNAVAILABLE)),
        MemberError::Outcome { .. } => (
            Code::Unavailable,
            "OUTCOME_UNKNOWN",
            Some(RETRY_UNAVAILABLE),
        ),
    };
    Kind {
        code,
        reason,
        retry,
    }
}

/// The values that a program would otherwise have to read out of the message.
fn metadata(error: &Error) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match error {
        Error::Version {
            expected, actual, ..
        } => {
            vec![
                ("expected", expected.to_string()),
                ("actual", actual.to_string()),
            ]
        }
        Error::OtherCluster {
            expected, actual, ..
        } => {
            vec![("expected", expected.clone()), ("actual", actual.clone())]
        }
        Error::StorageFull {
            free_bytes,
            reserve_bytes,
        } => vec![
            ("free_bytes", free_bytes.to_string()),
            ("reserve_bytes", reserve_bytes.to_string()),
        ],
        Error::CommandTooLarge { actual, max } | Error::AnswerTooLarge { actual, max } => {
            vec![("actual", actual.to_string()), ("max", max.to_string())]
        }
        Error::NotLeader {
            leader: Some(leader),
        } => vec![("leader", leader.clone())],
        Error::MemberFull(full) => vec![
            ("node_id", format!("{:016x}", full.node_id)),
            ("short_bytes", full.short_bytes.to_string()),
        ],
        Error::Unanswered { node_id, .. } => vec![("node_id", format!("{node_id:016x}"))],
        Error::Consolidation(Rejection::ChangedSince { keys, .. }) => {
            let keys: Vec<String> = keys.iter().map(Key::to_string).collect();
            vec![("changed", keys.join(","))]
        }
        Error::NotKept(lost) => {
            let mut oldest = vec![("oldest_time", write::time(lost.at).to_string())];
            let position = lost.position.map(|position| position.to_string());
            oldest.extend(position.map(|position| ("oldest_position", position)));
            oldest
        }
        Error::NotReached { reached, .. } => vec![("reached", reached.to_string())],
        Error::ToCome { .. }
        | Error::NotLeader { leader: None }
        | Error::Paused { .. }
        | Error::Consolidation(_)
        | Error::Draining
        | Error::NoQuorum { .. }
        | Error::Member(_)
        | Error::NobodyThere { .. }
        | Error::Foreign { .. }
        | Error::Invalid(_)
        | Error::Refused { .. }
        | Error::NotFound { .. }
        | Error::RequestExpired(_)
        | Error::RequestFromFuture(_)
        | Error::Overloaded { .. }
        | Error::NotReady { .. }
        | Error::Stopped { .. }
        | Error::Unknown { .. }
        | Error::Deadline { .. }
        | Error::Embedding { .. }
        | Error::Storage(_)
        | Error::Internal { .. } => Vec::new(),
    };
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use memorygate_core::key::Key;

    use super::*;
    use crate::error::Violation;

    fn check(error: &Error, call: Call) -> String {
        let status = of(error, call);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, DOMAIN);
        let field = details
            .bad_request()
            .map(|b| b.field_violations[0].field.clone());
        format!(
            "{:?} {} outcome={:?} field={field:?} retry={}",
            status.code(),
            info.reason,
            info.metadata.get("outcome").map(String::as_str),
            details.retry_info().is_some(),
        )
    }

    #[test]
    fn a_status_says_what_to_do_next() {
        let invalid = Error::Invalid(Violation::at("limit", "is 9").within("request"));
        assert_eq!(
            check(&invalid, Call::Reading),
            "InvalidArgument INVALID outcome=None field=Some(\"request.limit\") retry=false"
        );
        let unknown = Error::Unknown {
            reason: "x".to_owned(),
        };
        assert_eq!(
            check(&unknown, Call::Mutating),
            "Unavailable OUTCOME_UNKNOWN outcome=Some(\"unknown\") field=None retry=true"
        );
        let full = Error::StorageFull {
            free_bytes: 1,
            reserve_bytes: 2,
        };
        assert_eq!(
            check(&full, Call::Mutating),
            "ResourceExhausted STORAGE_FULL outcome=Some(\"failed\") field=None retry=true"
        );
        let absent = Error::NotFound { key: Key([0; 16]) };
        assert_eq!(
            check(&absent, Call::Reading),
            "NotFound NOT_FOUND outcome=None field=None retry=false"
        );
        let late = Error::Deadline {
            waiting: "waiting",
            outcome: Outcome::Unknown,
        };
        assert_eq!(
            check(&late, Call::Mutating),
            "DeadlineExceeded DEADLINE outcome=Some(\"unknown\") field=None retry=false"
        );
    }

    #[test]
    fn what_the_transport_refuses_has_details_too() {
        let status = complete(&Status::out_of_range("too large"), Call::Mutating);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.reason, "MESSAGE_TOO_LARGE");
        assert_eq!(info.metadata["outcome"], "failed");
    }
}

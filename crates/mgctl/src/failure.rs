//! How a failure is told: what went wrong, what to do next, and the exit code.

use std::{fmt, io, process::ExitCode};

use memorygate_agents::executor;
use memorygate_client::{Error, Key, Kind, Outcome};
use serde::Serialize;
use tonic::Code;

use crate::output::Output;

/// Exit codes, as `mgctl --help` lists them.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const UNKNOWN: u8 = 4;

/// There is no such memory.
#[derive(Debug)]
pub(crate) struct NotFound(pub(crate) Key);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory {} in this namespace for this reader", self.0)
    }
}

impl std::error::Error for NotFound {}

/// The arguments cannot be used as they are.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// What was found is no failure of `mgctl`, and was told already: only the exit code says so again.
#[derive(Debug)]
pub(crate) struct NotWell;

impl fmt::Display for NotWell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not well")
    }
}

impl std::error::Error for NotWell {}

/// What was asked of the cluster when a call failed, and which command shows what became of it.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) doing: String,
    pub(crate) look: &'static str,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

/// Where a longer work stood when a call of it failed, and how to go on after an unknown outcome.
#[derive(Debug)]
pub(crate) struct Resumable {
    pub(crate) at: String,
    pub(crate) next: &'static str,
}

impl fmt::Display for Resumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)
    }
}

/// Tells the error on standard error, in the form that was asked for.
pub(crate) fn report(error: &anyhow::Error, output: &Output) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read the output has seen enough, as `head` does.
        return ExitCode::SUCCESS;
    }
    if find::<NotWell>(error).is_some() {
        return ExitCode::from(FAILED);
    }
    let failure = Failure::of(error);
    if output.is_json() {
        let document = Document { error: &failure };
        output.note(&serde_json::to_string(&document).unwrap_or_else(|e| e.to_string()));
    } else {
        output.note(&failure.text());
    }
    ExitCode::from(failure.exit_code)
}

#[derive(Serialize)]
struct Document<'a> {
    error: &'a Failure,
}

#[derive(Debug, Serialize)]
struct Failure {
    message: String,
    kind: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    /// Keys of memories that were changed since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Violation {
    field: String,
    description: String,
}

impl Failure {
    fn of(error: &anyhow::Error) -> Self {
        let message = format!("{error:#}");
        if let Some(call) = find::<Error>(error) {
            let mut failure = Self::of_call(message, call);
            if let Some(resumable) = error.downcast_ref::<Resumable>()
                && call.outcome() == Outcome::Unknown
            {
                failure.next = Some(resumable.next.to_owned());
            }
            if let Some(operation) = error.downcast_ref::<Operation>() {
                failure.next = next_of_operation(call, operation.look);
            }
            return failure;
        }
        let (kind, exit_code, next) = if find::<NotFound>(error).is_some() {
            (Kind::NotFound.as_str(), NOT_FOUND, Some(not_found()))
        } else if find::<Usage>(error).is_some() {
            (Kind::Fix.as_str(), USAGE, None)
        } else if let Some(executor) = find::<executor::Error>(error) {
            let (kind, next) = next_of_executor(executor);
            (kind.as_str(), FAILED, Some(next.to_owned()))
        } else {
            ("local", FAILED, None)
        };
        Self {
            message,
            kind,
            outcome: Outcome::Failed.as_str(),
            violations: Vec::new(),
            changed: Vec::new(),
            request_id: None,
            next,
            exit_code,
        }
    }

    fn of_call(message: String, error: &Error) -> Self {
        let exit_code = match (error.outcome(), error.kind()) {
            (Outcome::Unknown, _) => UNKNOWN,
            (Outcome::Failed, Kind::Fix) => USAGE,
            (Outcome::Failed, Kind::NotFound) => NOT_FOUND,
            (Outcome::Failed, Kind::Retry | Kind::Conflict | Kind::Restore | Kind::Report) => {
                FAILED
            }
        };
        let violations = error.violations().iter().map(|v| Violation {
            field: v.field.clone(),
            description: v.description.clone(),
        });
        Self {
            message,
            kind: error.kind().as_str(),
            outcome: error.outcome().as_str(),
            violations: violations.collect(),
            changed: error.changed().iter().map(ToString::to_string).collect(),
            request_id: error.request_id().map(|id| id.to_string()),
            next: next(error),
            exit_code,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        if let Some(next) = &self.next {
            text.push_str("\nnext: ");
            text.push_str(next);
        }
        text
    }
}

/// What to do next, in one sentence.
fn next(error: &Error) -> Option<String> {
    if error.outcome() == Outcome::Unknown {
        return Some(match error.request_id() {
            Some(id) => format!(
                "it may have been stored; run the same command again with --request-id {id}, which \
                 stores it at most once"
            ),
            None => "it may have been stored; look with `mgctl get` or `mgctl list`".to_owned(),
        });
    }
    let endpoint = error.endpoint().unwrap_or("the endpoint");
    match error.kind() {
        Kind::Retry if error.message().starts_with("cannot connect") => Some(format!(
            "is a server running at {endpoint}? start one with `memorygate serve`, or name another \
             with --endpoint"
        )),
        Kind::Retry => Some("try again later; nothing was changed".to_owned()),
        Kind::Fix => None,
        Kind::NotFound => Some(not_found()),
        Kind::Conflict if !error.changed().is_empty() => Some(
            "what came later is left as it is: look at each with `mgctl get`, and change by hand \
             what is wrong"
                .to_owned(),
        ),
        Kind::Conflict => {
            Some("it changed meanwhile: look at it with `mgctl get` and decide anew".to_owned())
        }
        Kind::Restore => Some(format!(
            "{endpoint} does not hold the cluster that this was meant for: check --endpoint, or \
             restore the data there"
        )),
        Kind::Report => Some("this should not happen: report it with the message above".to_owned()),
    }
}

/// The same for a call on the cluster; `look` is the command that shows how things are.
fn next_of_operation(error: &Error, look: &str) -> Option<String> {
    if error.outcome() == Outcome::Unknown && error.request_id().is_some() {
        return next(error);
    }
    if error.outcome() == Outcome::Unknown {
        return Some(format!(
            "it may have been done: look with `{look}`, and run the same command again if it was not"
        ));
    }
    if error.code() == Code::Unimplemented {
        let endpoint = error.endpoint().unwrap_or("the server");
        return Some(format!(
            "{endpoint} runs a version that cannot do this: update it"
        ));
    }
    match error.kind() {
        Kind::Retry if !error.message().starts_with("cannot connect") => Some(format!(
            "run the same command again in a moment; `{look}` shows how things are"
        )),
        Kind::NotFound | Kind::Conflict | Kind::Fix => {
            Some(format!("`{look}` shows what there is"))
        }
        Kind::Retry | Kind::Restore | Kind::Report => next(error),
    }
}

/// What to do where a model could not decide.
fn next_of_executor(error: &executor::Error) -> (Kind, &'static str) {
    match error {
        executor::Error::Refused { .. } => (
            Kind::Fix,
            "check --model, --model-endpoint and the key (--model-key-file or MEMORYGATE_MODEL_KEY), or run \
             the same command with --executor case-based, which needs no model",
        ),
        executor::Error::Unavailable { .. } => (
            Kind::Retry,
            "try again, give it longer with --model-timeout, or run the same command with --executor \
             case-based, which needs no model",
        ),
        executor::Error::Unusable { .. } => (
            Kind::Report,
            "try another --model, or run the same command with --executor case-based, which needs no model",
        ),
    }
}

fn not_found() -> String {
    "check the key, --namespace, and on whose behalf you look (--agent, --team, --everything)"
        .to_owned()
}

pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn find<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref::<E>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<anyhow::Error>) -> String {
        let failure = Failure::of(&error.into());
        format!("{} {}", failure.exit_code, failure.text())
    }

    fn call(kind: Kind, outcome: Outcome) -> Error {
        Error::new(kind, outcome, "learn", "something")
    }

    #[test]
    fn each_failure_has_its_exit_code_and_a_next_step() {
        let failed = |kind| check(call(kind, Outcome::Failed));
        assert_eq!(
            failed(Kind::Retry),
            "1 error: learn failed: something\nnext: try again later; nothing was changed"
        );
        assert_eq!(failed(Kind::Fix), "2 error: learn failed: something");
        assert!(failed(Kind::NotFound).starts_with("3 "));
        assert!(failed(Kind::Conflict).contains("decide anew"));
        assert!(failed(Kind::Restore).contains("check --endpoint"));
        assert!(failed(Kind::Report).contains("report it"));
        let unknown = check(call(Kind::Retry, Outcome::Unknown));
        assert!(unknown.starts_with("4 error: learn has an unknown outcome"));
        assert!(check(NotFound(Key([0; 16]))).starts_with("3 "));
        assert!(check(Usage("no".into())).starts_with("2 "));
        assert!(check(io::Error::other("disk")).starts_with("1 "));
        let model = |error: fn(String, String) -> executor::Error| {
            check(error("the model m".to_owned(), "it hangs".to_owned()))
        };
        let unavailable = model(|what, reason| executor::Error::Unavailable { what, reason });
        assert!(unavailable.starts_with("1 error: the model m cannot be had: it hangs"));
        let unusable = model(|what, reason| executor::Error::Unusable { what, reason });
        let refused = model(|what, reason| executor::Error::Refused { what, reason });
        for told in [unavailable, unusable, refused] {
            assert!(
                told.contains("--executor case-based, which needs no model"),
                "{told}"
            );
        }
        let operation = |kind, outcome| {
            let operation = Operation {
                doing: "remove a1".to_owned(),
                look: "mgctl cluster members",
            };
            check(anyhow::Error::new(call(kind, outcome)).context(operation))
        };
        assert_eq!(
            operation(Kind::NotFound, Outcome::Failed),
            "3 error: remove a1: learn failed: something\nnext: `mgctl cluster members` shows what \
             there is"
        );
        assert!(operation(Kind::Retry, Outcome::Unknown).contains("it may have been done: look"));
        assert!(operation(Kind::Retry, Outcome::Failed).contains("again in a moment"));
    }
}

//! What a tool says: a reply, or a refusal that tells a model what to do next.

use memorygate_client::{Error, Key, Kind, Outcome};
use serde::Serialize;
use serde_json::Value;

/// What a tool answers.
pub(crate) struct Reply {
    /// For a model to read: short, with everything that it needs.
    pub(crate) text: String,
    /// For programs, by the tool's output schema.
    pub(crate) structured: Value,
}

impl Reply {
    pub(crate) fn new(text: String, structured: &impl Serialize) -> Self {
        let structured = serde_json::to_value(structured)
            .expect("an answer has text keys alone, and its numbers are finite");
        Self { text, structured }
    }
}

/// Why a tool did not do what it was asked to, and what to do next. A model reads it.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n{next}")]
pub(crate) struct Refusal {
    what: String,
    next: String,
}

impl Refusal {
    /// An argument is wrong. Nothing was sent.
    pub(crate) fn argument(tool: &str, field: &str, why: impl std::fmt::Display) -> Self {
        let what = if field.is_empty() || field == "." {
            why.to_string()
        } else {
            format!("{field}: {why}")
        };
        Self {
            what,
            next: format!("Correct this and call {tool} again; nothing was changed."),
        }
    }

    pub(crate) fn not_found(key: Key) -> Self {
        Self {
            what: format!("There is no memory {key} that you may see."),
            next: "Take a key from an answer of memory_recall or memory_list; the memory may have \
                   been forgotten."
                .to_owned(),
        }
    }

    pub(crate) fn busy(tool: &str) -> Self {
        Self {
            what: format!("{} calls are running already.", crate::CALLS_MAX),
            next: format!(
                "Wait until some have answered and call {tool} again; nothing was changed."
            ),
        }
    }

    /// A call on the cluster did not succeed.
    pub(crate) fn of_call(tool: &str, error: &Error) -> Self {
        Self {
            what: told(error),
            next: next(tool, error),
        }
    }
}

/// The error in the words of the tool's arguments, which know of one experience alone.
fn told(error: &Error) -> String {
    error.to_string().replace("experiences[0].", "")
}

fn next(tool: &str, error: &Error) -> String {
    if error.outcome() == Outcome::Unknown {
        return match error.request_id() {
            Some(id) => format!(
                "It may have been done. To be sure, call {tool} again with the same arguments and \
                 \"request_id\": \"{id}\", which does it at most once."
            ),
            None => "It may have been done: look with memory_get or memory_list.".to_owned(),
        };
    }
    match error.kind() {
        Kind::Retry => format!(
            "Nothing was changed. Call {tool} again in some seconds; if it fails again, go on \
             without the memory and tell the user that it cannot be reached."
        ),
        Kind::Fix => format!("Correct this and call {tool} again; nothing was changed."),
        Kind::NotFound => {
            "Take a key from an answer of memory_recall or memory_list; the memory may have been \
             forgotten."
                .to_owned()
        }
        Kind::Conflict => format!(
            "The memory has changed meanwhile: look at it with memory_get, and call {tool} again \
             with its version if you still want to."
        ),
        Kind::Restore => {
            "The server does not hold the memories that it held before. Go on without the memory, \
             and tell the user to have an operator look."
                .to_owned()
        }
        Kind::Report => {
            "This should not happen. Go on without the memory, and tell the user to report it."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do_next() {
        let check = |kind, outcome| {
            let error = Error::new(kind, outcome, "learn", "experiences[0].domain: empty");
            Refusal::of_call("memory_learn", &error).to_string()
        };
        assert_eq!(
            check(Kind::Fix, Outcome::Failed),
            "learn failed: domain: empty\nCorrect this and call memory_learn again; nothing was \
             changed."
        );
        assert!(check(Kind::Retry, Outcome::Failed).contains("in some seconds"));
        assert!(check(Kind::Retry, Outcome::Unknown).contains("may have been done"));
        assert!(check(Kind::NotFound, Outcome::Failed).contains("Take a key"));
        assert!(check(Kind::Conflict, Outcome::Failed).contains("memory_get"));
        assert!(check(Kind::Restore, Outcome::Failed).contains("operator"));
        assert!(check(Kind::Report, Outcome::Failed).contains("report"));
    }
}

//! Names that callers choose: namespaces, domains, teams, agents, sessions.
//!
//! They are parsed once, at the edge, into types that cannot hold a bad one; inside, nobody checks
//! again. No name holds a control character, so a zero byte can end one in an ordered storage key.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::limits::NAME_BYTES_MAX;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {actual} bytes, expected at most {NAME_BYTES_MAX}")]
    TooLong { what: &'static str, actual: usize },
    #[error("{what} {name:?} holds {found:?}, expected only {allowed}")]
    Character {
        what: &'static str,
        name: String,
        found: char,
        allowed: &'static str,
    },
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] String);

        impl $name {
            pub fn parse(name: &str) -> Result<Self, Error> {
                check(name, $what, $allowed, $is_allowed)?;
                Ok(Self(name.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// What isolates one tenant from another. Nothing is ever read across namespaces.
    Namespace, "namespace", "lower-case letters, digits, '_', '-' and '.'",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.')
}

impl Namespace {
    /// The one that sorts before all others: the beginning of a range over all of them.
    pub(crate) fn lowest() -> Self {
        Self::parse("-").expect("a dash is allowed and sorts before all others")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

name_type! {
    /// The kind of work that an experience comes from. Four are known by name, see [`domain`].
    Domain, "domain", "lower-case letters, digits, '_', '-', '.' and '/'",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '/')
}

/// The domains that every MemoryGate knows.
pub mod domain {
    pub const INFRASTRUCTURE: &str = "infrastructure";
    pub const CODE_REVIEW: &str = "code_review";
    pub const DEPLOYMENT: &str = "deployment";
    pub const INCIDENT_RESPONSE: &str = "incident_response";
    pub const ALL: [&str; 4] = [INFRASTRUCTURE, CODE_REVIEW, DEPLOYMENT, INCIDENT_RESPONSE];
}

name_type! {
    /// An agent, a team or a session: any text without control characters.
    Name, "name", "text without control characters", |c| !c.is_control()
}

impl Name {
    /// `None` for the empty string, which stands for "not given" on the wire.
    pub fn parse_optional(name: &str) -> Result<Option<Self>, Error> {
        if name.is_empty() {
            Ok(None)
        } else {
            Self::parse(name).map(Some)
        }
    }
}

fn check(
    name: &str,
    what: &'static str,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::TooLong {
            what,
            actual: name.len(),
        });
    }
    match name.chars().find(|c| !is_allowed(*c)) {
        None => Ok(()),
        Some(found) => Err(Error::Character {
            what,
            name: name.to_owned(),
            found,
            allowed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_hold_only_what_they_may() {
        let namespace = |name: &str| Namespace::parse(name).map_err(|e| e.to_string());
        assert_eq!(
            namespace("team-a.prod_1").unwrap().as_str(),
            "team-a.prod_1"
        );
        assert_eq!(namespace("").unwrap_err(), "namespace is empty");
        assert_eq!(
            namespace(&"x".repeat(257)).unwrap_err(),
            "namespace has 257 bytes, expected at most 256"
        );
        assert_eq!(
            namespace("A").unwrap_err(),
            "namespace \"A\" holds 'A', expected only lower-case letters, digits, '_', '-' and '.'"
        );
        assert!(Name::parse("Agent Smith, née Müller").is_ok());
        assert!(Name::parse("zero\0byte").is_err());
        assert!(Domain::parse("db/postgres").is_ok());
        assert!(domain::ALL.iter().all(|d| Domain::parse(d).is_ok()));
        assert_eq!(Name::parse_optional("").unwrap(), None);
    }
}

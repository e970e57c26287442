//! Whom a memory belongs to, and on whose behalf a call reads.
//!
//! Names are plain strings here and are checked when a request is sent, by the rules of
//! [`memorygate_core::scope`].

use std::{collections::BTreeSet, fmt, str::FromStr};

use memorygate_core::{name::Name, scope as core};
use memorygate_proto::v1;

use crate::error::Violations;

/// Teams of one reader, at most.
pub const TEAMS_MAX: usize = 64;

/// Part of a memory's identity: the same lesson in two scopes is two memories. As text: `shared`,
/// `team:NAME` or `agent:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scope {
    /// Everyone who reads the namespace.
    #[default]
    Shared,
    /// The members of one team.
    Team(String),
    /// One agent alone.
    Agent(String),
}

impl Scope {
    pub(crate) fn check(&self) -> Result<core::Scope, memorygate_core::name::Error> {
        Ok(match self {
            Self::Shared => core::Scope::Shared,
            Self::Team(name) => core::Scope::Team(Name::parse(name)?),
            Self::Agent(name) => core::Scope::Agent(Name::parse(name)?),
        })
    }

    pub(crate) fn of(scope: &core::Scope) -> Self {
        match scope {
            core::Scope::Shared => Self::Shared,
            core::Scope::Team(name) => Self::Team(name.to_string()),
            core::Scope::Agent(name) => Self::Agent(name.to_string()),
        }
    }

    pub(crate) fn to_wire(&self) -> v1::Scope {
        use v1::scope::Kind;
        v1::Scope {
            kind: Some(match self {
                Self::Shared => Kind::Shared(true),
                Self::Team(name) => Kind::Team(name.clone()),
                Self::Agent(name) => Kind::Agent(name.clone()),
            }),
        }
    }

    pub(crate) fn from_wire(wire: Option<v1::Scope>) -> Self {
        use v1::scope::Kind;
        match wire.and_then(|scope| scope.kind) {
            None | Some(Kind::Shared(_)) => Self::Shared,
            Some(Kind::Team(name)) => Self::Team(name),
            Some(Kind::Agent(name)) => Self::Agent(name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::Team(name) => write!(f, "team:{name}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
        }
    }
}

/// A text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scope {actual:?} is none of shared, team:NAME and agent:NAME")]
pub struct ParseError {
    pub actual: String,
}

impl FromStr for Scope {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            None if text == "shared" => Ok(Self::Shared),
            Some(("team", name)) if !name.is_empty() => Ok(Self::Team(name.to_owned())),
            Some(("agent", name)) if !name.is_empty() => Ok(Self::Agent(name.to_owned())),
            None | Some(_) => Err(ParseError {
                actual: text.chars().take(80).collect(),
            }),
        }
    }
}

/// On whose behalf a call reads or changes: it sees what is shared, what belongs to `agent` and
/// what belongs to `teams`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reader {
    pub agent: Option<String>,
    /// At most [`TEAMS_MAX`].
    pub teams: BTreeSet<String>,
    /// For operators (export, audit): sees every scope of the namespace.
    pub everything: bool,
}

impl Reader {
    /// Sees what is shared, and what is this agent's own.
    pub fn agent(name: impl Into<String>) -> Self {
        Self {
            agent: Some(name.into()),
            ..Self::default()
        }
    }

    /// Sees every scope of the namespace.
    pub fn operator() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Sees this team's memories too.
    #[must_use]
    pub fn team(mut self, name: impl Into<String>) -> Self {
        self.teams.insert(name.into());
        self
    }

    pub(crate) fn check(&self) -> (Violations, core::Reader) {
        let mut violations = Violations::default();
        if self.teams.len() > TEAMS_MAX {
            violations.add(
                "teams",
                format!("{} teams, expected at most {TEAMS_MAX}", self.teams.len()),
            );
        }
        let agent = self
            .agent
            .as_ref()
            .and_then(|name| violations.check("agent", Name::parse(name)));
        let teams = self
            .teams
            .iter()
            .filter_map(|name| violations.check("teams", Name::parse(name)))
            .collect();
        let reader = core::Reader {
            agent,
            teams,
            everything: self.everything,
        };
        (violations, reader)
    }

    pub(crate) fn to_wire(&self) -> v1::Reader {
        v1::Reader {
            agent: self.agent.clone().unwrap_or_default(),
            teams: self.teams.iter().cloned().collect(),
            everything: self.everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_back_from_its_text_and_from_the_wire() {
        for scope in [
            Scope::Shared,
            Scope::Team("sre".into()),
            Scope::Agent("a:b".into()),
        ] {
            assert_eq!(scope.to_string().parse(), Ok(scope.clone()));
            assert_eq!(Scope::from_wire(Some(scope.to_wire())), scope);
            assert_eq!(Scope::of(&scope.check().unwrap()), scope);
        }
        for bad in ["", "team", "team:", "all", "user:x"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
        assert!(Scope::Team(String::new()).check().is_err());
    }

    #[test]
    fn a_reader_with_bad_names_or_too_many_teams_is_refused() {
        let many = (0..65).fold(Reader::default(), |r, i| r.team(format!("t{i}")));
        assert_eq!(many.check().0.into_vec().len(), 1);
        let bad = Reader::agent("a\nb").team("");
        let fields: Vec<_> = bad.check().0.into_vec();
        assert_eq!(fields.len(), 2, "{fields:?}");
    }
}

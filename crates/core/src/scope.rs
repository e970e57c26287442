//! Whom a memory belongs to, and who may see it.
//!
//! A scope is part of a memory's identity (see [`crate::key`]), so two agents' private memories
//! never meet, even with the same words in them.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::name::Name;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Scope {
    /// Everyone who reads the namespace.
    #[default]
    #[n(0)]
    Shared,
    /// The members of one team.
    #[n(1)]
    Team(#[n(0)] Name),
    /// One agent alone.
    #[n(2)]
    Agent(#[n(0)] Name),
}

impl Scope {
    /// The kind's name, as it goes into a key's canonical form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Team(_) => "team",
            Self::Agent(_) => "agent",
        }
    }

    /// The team's or agent's name; empty for shared.
    pub fn owner(&self) -> &str {
        match self {
            Self::Shared => "",
            Self::Team(name) | Self::Agent(name) => name.as_str(),
        }
    }
}

/// On whose behalf something is read or changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Reader {
    #[n(0)]
    pub agent: Option<Name>,
    #[n(1)]
    pub teams: BTreeSet<Name>,
    /// An operator: sees every scope.
    #[n(2)]
    pub everything: bool,
}

impl Reader {
    /// Sees every scope of a namespace.
    pub fn operator() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Whether this reader may know that something in `scope` exists.
    pub fn sees(&self, scope: &Scope) -> bool {
        self.everything
            || match scope {
                Scope::Shared => true,
                Scope::Team(team) => self.teams.contains(team),
                Scope::Agent(agent) => self.agent.as_ref() == Some(agent),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_is_shared_and_what_is_its_own() {
        let name = |n: &str| Name::parse(n).unwrap();
        let scopes = [
            Scope::Shared,
            Scope::Team(name("sre")),
            Scope::Agent(name("sre")),
            Scope::Agent(name("ada")),
        ];
        let sees = |reader: &Reader| scopes.iter().map(|s| reader.sees(s)).collect::<Vec<_>>();
        let ada = Reader {
            agent: Some(name("ada")),
            ..Reader::default()
        };
        let sre = Reader {
            teams: [name("sre")].into(),
            ..Reader::default()
        };
        assert_eq!(sees(&Reader::default()), [true, false, false, false]);
        assert_eq!(sees(&ada), [true, false, false, true]);
        assert_eq!(sees(&sre), [true, true, false, false]);
        assert_eq!(sees(&Reader::operator()), [true; 4]);
    }
}

//! Ways to find memories that are compared: parts of the pipeline by themselves, and all of it.

use std::fmt;

use clap::ValueEnum;
use memorygate_client::{Recall, Stage};

/// Every stage there is.
const STAGES: [Stage; 12] = [
    Stage::Dense,
    Stage::Lexical,
    Stage::Neighbours,
    Stage::Late,
    Stage::Expansion,
    Stage::Session,
    Stage::Recency,
    Stage::Importance,
    Stage::Usefulness,
    Stage::Trust,
    Stage::Fold,
    Stage::Diversity,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Retriever {
    /// Nearest dense vectors.
    Vector,
    /// BM25.
    Lexical,
    /// Both, with what neighbours in the session lend: candidates without late interaction.
    Hybrid,
    /// What a server does by default.
    Full,
}

impl Retriever {
    pub(crate) const ALL: [Self; 4] = [Self::Vector, Self::Lexical, Self::Hybrid, Self::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Lexical => "lexical",
            Self::Hybrid => "hybrid",
            Self::Full => "full",
        }
    }

    /// `recall` by this retriever alone.
    pub(crate) fn of(self, recall: Recall) -> Recall {
        let with: &[Stage] = match self {
            Self::Vector => &[Stage::Dense],
            Self::Lexical => &[Stage::Lexical],
            Self::Hybrid => &[Stage::Dense, Stage::Lexical, Stage::Neighbours],
            Self::Full => &STAGES,
        };
        let without = STAGES.into_iter().filter(|stage| !with.contains(stage));
        without.fold(recall, Recall::without)
    }
}

impl fmt::Display for Retriever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One retriever or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Nearest dense vectors.
    Vector,
    /// BM25.
    Lexical,
    /// Vectors, BM25 and what neighbours in the session lend.
    Hybrid,
    /// What a server does by default.
    Full,
    /// Each of these, side by side.
    All,
}

impl Choice {
    pub(crate) fn retrievers(self) -> Vec<Retriever> {
        match self {
            Self::Vector => vec![Retriever::Vector],
            Self::Lexical => vec![Retriever::Lexical],
            Self::Hybrid => vec![Retriever::Hybrid],
            Self::Full => vec![Retriever::Full],
            Self::All => Retriever::ALL.to_vec(),
        }
    }
}

/// A stage by its name on the command line.
pub(crate) fn parse_stage(name: &str) -> Result<Stage, String> {
    let stage = STAGES
        .into_iter()
        .find(|stage| format!("{stage:?}").to_lowercase() == name);
    stage.ok_or_else(|| {
        let names: Vec<String> = STAGES
            .iter()
            .map(|s| format!("{s:?}").to_lowercase())
            .collect();
        format!("no stage {name:?}, expected one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_retriever_switches_off_what_is_not_its_own() {
        let without = |retriever: Retriever| retriever.of(Recall::new("q")).without;
        assert_eq!(without(Retriever::Full), []);
        assert_eq!(without(Retriever::Vector).len(), STAGES.len() - 1);
        assert!(!without(Retriever::Vector).contains(&Stage::Dense));
        assert!(without(Retriever::Lexical).contains(&Stage::Neighbours));
        let hybrid = without(Retriever::Hybrid);
        assert!(hybrid.contains(&Stage::Late) && !hybrid.contains(&Stage::Neighbours));
        assert_eq!(Choice::All.retrievers(), Retriever::ALL);
    }

    #[test]
    fn stages_are_known_by_name() {
        assert_eq!(parse_stage("late"), Ok(Stage::Late));
        let error = parse_stage("lat").unwrap_err();
        assert!(
            error.starts_with("no stage \"lat\", expected one of dense, lexical,"),
            "{error}"
        );
    }
}

//! What an agent is at: the task, on whose behalf, and where in time.

use std::collections::BTreeMap;

use memorygate_core::rank::Stage;

use crate::{
    experience::Experience,
    filter::Filter,
    freshness::Freshness,
    position::Position,
    recall::Recall,
    scope::{Reader, Scope},
};

/// Goes with every exchange between an agent and its memory: what is asked is asked for this task,
/// and what is learned is learned in it.
///
/// ```
/// use memorygate_client::{LearningContext, domain};
///
/// let context = LearningContext::new("checkout pods restart every night")
///     .domain(domain::INFRASTRUCTURE)
///     .agent("troubleshooter-1")
///     .team("sre")
///     .session("ticket-4711")
///     .metadata("cluster", "prod-eu-1");
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LearningContext {
    /// In the words of whoever set it: it is the question that memories are found by.
    pub task: String,
    /// The store's if unset.
    pub namespace: Option<String>,
    /// Of experiences that name none. It does not restrict what is found; [`Filter`] does.
    pub domain: Option<String>,
    /// Who is at work: sees its own memories, and is named in what it learns.
    pub agent: Option<String>,
    /// Whose memories it sees beside its own and the shared ones.
    pub teams: Vec<String>,
    pub session: Option<String>,
    /// Of experiences that name none; shared if unset.
    pub scope: Option<Scope>,
    /// Added to every experience, which keeps its own value where both have one.
    pub metadata: BTreeMap<String, String>,
    /// What may be found.
    pub filter: Filter,
    /// Parts of the ranking that are left out: who weighs every case wants those, too, that say the same as
    /// another (without [`Stage::Fold`]), or that one agent met over and over (without [`Stage::Diversity`]).
    pub without: Vec<Stage>,
    /// What is found is at least this recent: the position that another agent handed over.
    pub position: Option<Position>,
}

impl LearningContext {
    pub fn new(task: impl Into<String>) -> Self {
        Self {
            task: task.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = Some(name.into());
        self
    }

    #[must_use]
    pub fn agent(mut self, name: impl Into<String>) -> Self {
        self.agent = Some(name.into());
        self
    }

    #[must_use]
    pub fn team(mut self, name: impl Into<String>) -> Self {
        self.teams.push(name.into());
        self
    }

    #[must_use]
    pub fn session(mut self, name: impl Into<String>) -> Self {
        self.session = Some(name.into());
        self
    }

    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        self.without.push(stage);
        self
    }

    #[must_use]
    pub fn position(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// Who reads in this context.
    pub fn reader(&self) -> Reader {
        Reader {
            agent: self.agent.clone(),
            teams: self.teams.iter().cloned().collect(),
            everything: false,
        }
    }

    /// How recent an answer in this context has to be.
    pub fn freshness(&self) -> Freshness {
        self.position.map_or(Freshness::Seen, Freshness::AtLeast)
    }

    /// The recall that this context stands for.
    pub fn recall(&self, limit: usize) -> Recall {
        Recall {
            namespace: self.namespace.clone(),
            reader: Some(self.reader()),
            filter: self.filter.clone(),
            without: self.without.clone(),
            freshness: self.freshness(),
            ..Recall::new(self.task.clone()).limit(limit)
        }
    }

    /// The experience with everything that it leaves open taken from here.
    #[must_use]
    pub fn complete(&self, mut experience: Experience) -> Experience {
        if experience.domain.is_empty() {
            experience.domain = self.domain.clone().unwrap_or_default();
        }
        experience.agent = experience.agent.or_else(|| self.agent.clone());
        experience.session = experience.session.or_else(|| self.session.clone());
        experience.scope = experience.scope.or_else(|| self.scope.clone());
        for (key, value) in &self.metadata {
            experience
                .metadata
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        experience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experience_keeps_what_it_says_and_takes_the_rest_from_its_context() {
        let context = LearningContext::new("t")
            .domain("deployment")
            .agent("ada")
            .session("s")
            .scope(Scope::Team("sre".into()))
            .metadata("cluster", "a")
            .metadata("region", "eu");
        let bare = context.complete(Experience::new("x", ""));
        assert_eq!(bare.domain, "deployment");
        assert_eq!(bare.agent.as_deref(), Some("ada"));
        assert_eq!(bare.session.as_deref(), Some("s"));
        assert_eq!(bare.scope, Some(Scope::Team("sre".into())));
        let own = Experience::new("x", "code_review")
            .agent("bob")
            .scope(Scope::Shared)
            .metadata("cluster", "b");
        let own = context.complete(own);
        assert_eq!(own.domain, "code_review");
        assert_eq!(own.agent.as_deref(), Some("bob"));
        assert_eq!(own.scope, Some(Scope::Shared));
        assert_eq!(own.metadata["cluster"], "b");
        assert_eq!(own.metadata["region"], "eu");
    }
}

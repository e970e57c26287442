//! An agent around an executor: recall, decide, and learn from what came of it.

use std::{collections::BTreeMap, sync::Arc};

use memorygate_client::{
    Error as StoreError, Filter, Interaction, Key, KnowledgeStore, LearningContext, MemoryGateway,
    Recalled, Receipt, Stage, Verdict, interaction::VERDICT_METADATA,
};

use crate::{
    calibration::{self, INSTEAD_OF_METADATA, WEIGHED_METADATA},
    decision::{Decision, Proposal},
    evidence::{ACTION_METADATA, Case, Evidence, Known},
    executor::{self, Executor},
    outcome::Outcome,
    task::{ACTIONS_MAX, Action, Task},
};

/// Domain of the memories that say what an action is. They are no cases, so they have one of their own.
pub const ACTIONS_DOMAIN: &str = "actions";
/// Metadata key, beside them, of the domain whose tasks they are for.
const FOR_METADATA: &str = "for";

/// How a case is rated that led to what worked.
const HELPED: f32 = 1.0;
/// And one that led to what did not: it is not wrong because it did not apply here.
const MISLED: f32 = -0.5;

/// See the module.
pub struct MemoryEnabledAgent {
    store: Arc<dyn KnowledgeStore>,
    gateway: MemoryGateway,
    executor: Arc<dyn Executor>,
}

/// A decision and what it was made from. Keep it until the outcome is known.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Performed {
    pub decision: Decision,
    pub evidence: Evidence,
}

/// What was learned of an outcome.
#[derive(Debug)]
pub struct Concluded {
    pub receipt: Receipt,
    /// The cases that were rated.
    pub rated: Vec<Key>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Executor(#[from] executor::Error),
    #[error("the task has {actual} actions, expected at most {ACTIONS_MAX}")]
    TooManyActions { actual: usize },
    #[error("the task names the action {name:?} twice, expected each once")]
    ActionTwice { name: String },
    #[error("an action without a name or a description cannot be chosen: {name:?}")]
    EmptyAction { name: String },
    #[error("nothing was decided and no right action is named, so there is nothing to learn")]
    NothingToLearn,
}

impl MemoryEnabledAgent {
    pub fn new(store: Arc<dyn KnowledgeStore>, executor: Arc<dyn Executor>) -> Self {
        Self {
            gateway: MemoryGateway::new(Arc::clone(&store)),
            store,
            executor,
        }
    }

    /// Decides what to do. Nothing is learned yet but the descriptions of actions that are new.
    pub async fn perform(&self, task: &Task) -> Result<Performed, Error> {
        check(task)?;
        let recalled = self.recall(task, usize::MAX).await?;
        let known = self.known(task).await?;
        let mut evidence = Evidence::new(recalled, known);
        if task.open {
            evidence.open();
        }
        self.decide(task, evidence).await
    }

    /// What the memory holds for the task, best first: at most `limit` memories, and at most as many as the
    /// executor can make use of. With [`Self::decide`] it is what [`Self::perform`] does, for whoever knows
    /// better than it what of this speaks for which action.
    pub async fn recall(&self, task: &Task, limit: usize) -> Result<Vec<Recalled>, Error> {
        let mut context = task.context.clone();
        if let (true, Some(domain)) = (context.filter.domains.is_empty(), &context.domain) {
            context.filter = context.filter.domain(domain);
        }
        // A case in which something worked and one in which it failed may say almost the same, and what one agent
        // met over and over is what it knows best.
        let context = context.without(Stage::Fold).without(Stage::Diversity);
        let limit = limit.min(self.executor.recall_limit());
        Ok(self.store.retrieve_context(&context, limit).await?.results)
    }

    /// What the executor makes of this evidence.
    pub async fn decide(&self, task: &Task, evidence: Evidence) -> Result<Performed, Error> {
        let decision = self.executor.execute(task, &evidence).await?;
        Ok(Performed { decision, evidence })
    }

    /// Learns the case with its outcome, and rates the cases that the decision was made by.
    pub async fn conclude(
        &self,
        task: &Task,
        performed: &Performed,
        outcome: &Outcome,
    ) -> Result<Concluded, Error> {
        let best = performed.decision.best();
        let interaction = interaction(self.executor.name(), task, best, outcome)?;
        let rated = interaction.used.iter().map(|(key, _)| *key).collect();
        let receipt = self
            .gateway
            .learn_from_interaction(&task.context, interaction)
            .await?;
        Ok(Concluded { receipt, rated })
    }

    /// How well the task's actions fit: as its setter says, else by their descriptions. Those that are not
    /// known to the memory are learned, so that they are found by it the next time.
    async fn known(&self, task: &Task) -> Result<Vec<Known>, Error> {
        let mut found = BTreeMap::new();
        if task.actions.iter().any(|action| action.fit.is_none()) {
            let context = actions_context(task);
            found = self.described(&context).await?;
            let missing: Vec<_> = task
                .actions
                .iter()
                .filter(|action| action.fit.is_none() && !found.contains_key(&action.name))
                .map(|action| described(action).experience(&context))
                .collect();
            if !missing.is_empty() {
                self.store.store_experiences(&context, missing).await?;
                found = self.described(&context).await?;
            }
        }
        let known = |action: &Action| Known {
            action: action.name.clone(),
            similarity: action
                .fit
                .or_else(|| found.get(&action.name).copied())
                .unwrap_or(0.0),
        };
        Ok(task.actions.iter().map(known).collect())
    }

    /// The cosine of the task and each description that the memory has.
    async fn described(
        &self,
        context: &LearningContext,
    ) -> Result<BTreeMap<String, f32>, StoreError> {
        let reply = self.store.retrieve_context(context, ACTIONS_MAX).await?;
        let mut found = BTreeMap::new();
        for recalled in reply.results {
            if let Some(action) = recalled.memory.metadata.get(ACTION_METADATA) {
                // The best description of an action, if it has several.
                let best = found.entry(action.clone()).or_insert(f32::NEG_INFINITY);
                *best = best.max(recalled.parts.raw_dense);
            }
        }
        Ok(found)
    }
}

fn check(task: &Task) -> Result<(), Error> {
    let actual = task.actions.len();
    if actual > ACTIONS_MAX {
        return Err(Error::TooManyActions { actual });
    }
    let mut names = std::collections::BTreeSet::new();
    for action in &task.actions {
        let name = action.name.clone();
        if name.is_empty() || action.description.trim().is_empty() {
            return Err(Error::EmptyAction { name });
        }
        if !names.insert(&action.name) {
            return Err(Error::ActionTwice { name });
        }
    }
    Ok(())
}

/// Where descriptions of actions are kept: beside the cases, shared by all who do such tasks.
fn actions_context(task: &Task) -> LearningContext {
    let of = task.context.domain.clone().unwrap_or_default();
    let mut context = LearningContext {
        domain: Some(ACTIONS_DOMAIN.to_owned()),
        filter: Filter::new().domain(ACTIONS_DOMAIN),
        session: None,
        scope: None,
        ..task.context.clone()
    }
    // Two actions may be described almost alike.
    .without(Stage::Fold);
    if !of.is_empty() {
        context.filter = context.filter.metadata(FOR_METADATA, &of);
        context.metadata.insert(FOR_METADATA.to_owned(), of);
    }
    context
}

fn described(action: &Action) -> Interaction {
    Interaction::new(&action.name)
        .lesson(&action.description)
        .metadata(ACTION_METADATA, &action.name)
}

/// The lesson: what was right if that is known, else what was done and what came of it.
fn interaction(
    executor: &str,
    task: &Task,
    best: Option<&Proposal>,
    outcome: &Outcome,
) -> Result<Interaction, Error> {
    let chosen = best.map(|proposal| proposal.action.as_str());
    let right = outcome.right_action.as_deref();
    let done = outcome.done.as_deref().or(chosen);
    let action = right.or(done).ok_or(Error::NothingToLearn)?;
    let verdict = match right {
        Some(_) => Verdict::Success,
        None => outcome.verdict,
    };
    let mut interaction = Interaction {
        verdict,
        observed: outcome.observed.clone(),
        occurred_at: task.at,
        ..Interaction::new(action)
    }
    .metadata(ACTION_METADATA, action);
    if verdict == Verdict::Open {
        interaction = interaction.metadata(VERDICT_METADATA, verdict.as_str());
    }
    if let Some(chosen) = chosen.filter(|chosen| *chosen != action) {
        interaction = interaction.metadata(INSTEAD_OF_METADATA, chosen);
    }
    if let Some(best) = best {
        interaction = interaction.metadata(WEIGHED_METADATA, calibration::kept(executor, best));
    }
    let score = match verdict {
        Verdict::Success if chosen == Some(action) => Some(HELPED),
        // Something else was right.
        Verdict::Success => Some(MISLED),
        Verdict::Failure if chosen == Some(action) => Some(MISLED),
        // What was proposed was not tried.
        Verdict::Failure | Verdict::Open => None,
    };
    if let (Some(best), Some(score)) = (best, score) {
        interaction.used = best.evidence.iter().map(|key| (*key, score)).collect();
    }
    Ok(interaction)
}

impl Performed {
    /// The past cases behind the best proposal, the most similar first.
    pub fn cited(&self) -> Vec<&Case> {
        let cited = self.decision.best().map_or(&[][..], |best| &best.evidence);
        cited
            .iter()
            .filter_map(|key| self.evidence.cases.iter().find(|case| case.key == *key))
            .collect()
    }
}

#[cfg(test)]
mod tests;

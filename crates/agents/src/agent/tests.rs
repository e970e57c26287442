//! An agent decides, learns, and decides by what it learned, with a memory in the process.

use memorygate_client::{InMemoryStore, Kind, domain};

use super::*;
use crate::CaseBased;

fn agent() -> (Arc<InMemoryStore>, MemoryEnabledAgent) {
    let store = Arc::new(InMemoryStore::new());
    let executor = Arc::new(CaseBased::default());
    (Arc::clone(&store), MemoryEnabledAgent::new(store, executor))
}

fn task(words: &str) -> Task {
    let context = LearningContext::new(words)
        .domain(domain::INFRASTRUCTURE)
        .agent("ada");
    Task::new(context)
        .action(Action::new("raise-limit").described("raise the memory limit"))
        .action(Action::new("roll-back").described("roll back the deployment"))
}

async fn done(agent: &MemoryEnabledAgent, task: &Task, outcome: &Outcome) -> (Performed, Vec<Key>) {
    let performed = agent.perform(task).await.unwrap();
    let concluded = agent.conclude(task, &performed, outcome).await.unwrap();
    (performed, concluded.rated)
}

#[tokio::test]
async fn a_second_case_is_decided_by_the_outcome_of_the_first() {
    let (_, agent) = agent();
    let first = task("checkout pods are killed at night");
    let (before, rated) = done(
        &agent,
        &first,
        &Outcome::succeeded("quiet").right_was("roll-back"),
    )
    .await;
    assert!(before.cited().is_empty() && rated.is_empty());
    let second = task("payment pods are killed at night");
    let (after, rated) = done(&agent, &second, &Outcome::succeeded("quiet")).await;
    assert_eq!(after.decision.best().unwrap().action, "roll-back");
    assert_eq!(after.cited().len(), 1);
    assert!(after.cited()[0].worked);
    assert_eq!(rated, [after.cited()[0].key]);
}

#[tokio::test]
async fn what_failed_is_rated_down_and_not_tried_again_at_once() {
    let (store, agent) = agent();
    let words = "checkout pods are killed: the memory limit is too low";
    let (before, _) = done(&agent, &task(words), &Outcome::failed("killed again")).await;
    assert_eq!(before.decision.best().unwrap().action, "raise-limit");
    let (after, rated) = done(&agent, &task(words), &Outcome::failed("still")).await;
    let raise = |p: &Performed| {
        let of = p
            .decision
            .proposals
            .iter()
            .find(|p| p.action == "raise-limit");
        of.unwrap().confidence
    };
    assert!(raise(&after) < raise(&before));
    if let Some(key) = rated.first() {
        let memory = store.get(*key).unwrap().unwrap();
        assert!(memory.feedback.usefulness < 0.5);
    }
}

/// What worked in one case and failed in another is told in almost the same words; folded into one result,
/// only one of the two would be heard.
#[tokio::test]
async fn a_case_that_worked_and_one_that_failed_are_both_heard() {
    let (store, agent) = agent();
    let words =
        "checkout pods are killed at night, and again in the morning, since the last release";
    let first = task(words);
    let outcome = |worked: bool| {
        let observed = "the pods were looked at for three days and three nights after that";
        if worked {
            Outcome::succeeded(observed)
        } else {
            Outcome::failed(observed)
        }
    };
    for worked in [true, false] {
        let outcome = outcome(worked).by("raise-limit");
        done(&agent, &first, &outcome).await;
    }
    let folding = first.context.clone().domain(domain::INFRASTRUCTURE);
    let folded = store.retrieve_context(&folding, 10).await.unwrap().results;
    assert!(folded.iter().any(|r| !r.folded.is_empty()), "{folded:?}");
    let performed = agent.perform(&first).await.unwrap();
    let mut heard: Vec<bool> = performed.evidence.cases.iter().map(|c| c.worked).collect();
    heard.sort_unstable();
    assert_eq!(heard, [false, true]);
    let of = performed.decision.proposals.iter();
    let raise = of.clone().find(|p| p.action == "raise-limit").unwrap();
    assert_eq!(raise.evidence.len(), 2);
    assert!(
        raise.confidence < 0.6,
        "one for it, one against it: {raise:?}"
    );
}

#[tokio::test]
async fn an_action_whose_fit_is_told_is_not_asked_about() {
    let (store, agent) = agent();
    let mut task = task("pods are killed");
    task.actions[0].fit = Some(0.9);
    task.actions[1].fit = Some(0.2);
    let performed = agent.perform(&task).await.unwrap();
    let told: Vec<f32> = performed
        .evidence
        .known
        .iter()
        .map(|k| k.similarity)
        .collect();
    assert_eq!(told, [0.9, 0.2]);
    assert_eq!(performed.decision.best().unwrap().action, "raise-limit");
    assert!(
        store.stats(None).unwrap().namespaces.is_empty(),
        "nothing was learned"
    );
}

#[tokio::test]
async fn descriptions_are_learned_once_and_are_no_cases() {
    let (store, agent) = agent();
    for _ in 0..3 {
        let performed = agent.perform(&task("pods are killed")).await.unwrap();
        assert!(performed.evidence.recalled.is_empty());
        assert_eq!(performed.evidence.known.len(), 2);
    }
    let stats = store.stats(None).unwrap();
    assert_eq!(stats.namespaces[0].memories, 2);
}

#[tokio::test]
async fn a_task_that_cannot_be_decided_is_refused() {
    let (_, agent) = agent();
    let refused = |task: Task| {
        let agent = &agent;
        async move { agent.perform(&task).await.unwrap_err().to_string() }
    };
    let twice = task("x").action(Action::new("roll-back"));
    assert_eq!(
        refused(twice).await,
        "the task names the action \"roll-back\" twice, expected each once"
    );
    let empty = task("x").action(Action::new(""));
    assert_eq!(
        refused(empty).await,
        "an action without a name or a description cannot be chosen: \"\""
    );
    let many = (0..=ACTIONS_MAX).fold(task("x"), |t, n| t.action(Action::new(format!("a{n}"))));
    assert_eq!(
        refused(many).await,
        "the task has 259 actions, expected at most 256"
    );
    let error = agent.perform(&task("")).await.unwrap_err();
    let Error::Store(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), Kind::Fix);
}

#[tokio::test]
async fn without_a_decision_there_is_only_a_right_action_to_learn() {
    let (_, agent) = agent();
    let open = Task::new(LearningContext::new("pods are killed").domain("infrastructure"));
    let performed = agent.perform(&open).await.unwrap();
    assert!(performed.decision.abstained);
    let error = agent
        .conclude(&open, &performed, &Outcome::failed(""))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NothingToLearn));
    let outcome = Outcome::succeeded("").right_was("reboot");
    agent.conclude(&open, &performed, &outcome).await.unwrap();
    let again = agent.perform(&open).await.unwrap();
    assert_eq!(again.decision.chosen().unwrap().action, "reboot");
}

//! From the messages of Alertmanager to an incident, and from one incident to the next.

use std::{fs, path::PathBuf, sync::Arc};

use memorygate_client::InMemoryStore;
use memorygate_feeds::alertmanager::Notification;

use super::*;
use crate::{CaseBased, Outcome, optimise, review, troubleshoot};

fn alerts(name: &str) -> Alerts {
    // Asked at run time: a kept build may come from a checkout elsewhere.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let body = fs::read(root.join("../../examples/agents/incident").join(name)).unwrap();
    let mut alerts = Alerts::default();
    alerts.add(&Notification::parse(&body).unwrap()).unwrap();
    alerts
}

fn agent() -> MemoryEnabledAgent {
    MemoryEnabledAgent::new(
        Arc::new(InMemoryStore::new()),
        Arc::new(CaseBased::default()),
    )
}

async fn of(agent: &MemoryEnabledAgent, name: &str, given: Vec<Contribution>) -> Incident {
    coordinate(agent, &alerts(name), given, context())
        .await
        .unwrap()
}

fn context() -> LearningContext {
    LearningContext::new("").agent("coordinator")
}

#[tokio::test]
async fn alerts_become_one_incident_with_each_of_them_once() {
    let incident = of(&agent(), "checkout-down.json", vec![]).await;
    assert_eq!(incident.title, "HighErrorRate on checkout and 1 more");
    assert_eq!(incident.severity, Severity::Critical);
    let names: Vec<&str> = incident.alerts.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["HighErrorRate", "HighLatency"]);
    assert_eq!(
        incident.alerts[0].about,
        ["namespace=shop", "service=checkout"]
    );
    assert!(incident.similar.is_empty());
    assert!(
        incident
            .plan
            .first()
            .unwrap()
            .what
            .starts_with("take the incident")
    );
    assert!(
        incident
            .plan
            .last()
            .unwrap()
            .what
            .starts_with("teach the outcome")
    );
    assert!(incident.plan.iter().any(|step| step.action.is_some()));
}

#[tokio::test]
async fn a_second_incident_cites_how_the_first_one_ended() {
    let agent = agent();
    let first = of(&agent, "checkout-down.json", vec![]).await;
    let outcome = Outcome::succeeded("errors gone after two minutes").by("raise-pool-size");
    agent
        .conclude(&first.task, &first.performed, &outcome)
        .await
        .unwrap();

    let second = of(&agent, "payments-down.json", vec![]).await;
    assert!(second.known, "{}", second.explanation);
    assert_eq!(second.plan[1].action.as_deref(), Some("raise-pool-size"));
    assert!(
        second.plan[1].cases[0]
            .text
            .contains("errors gone after two minutes")
    );
    assert_eq!(second.similar[0].key, second.plan[1].cases[0].key);
    let notes = handover(&second, TimeMs(second.started_at.0 + 600_000));
    assert!(
        notes.starts_with("# HighErrorRate on payments\n"),
        "{notes}"
    );
    assert!(notes.contains("(10 minutes ago)"), "{notes}");
    assert!(
        notes.contains("| Result: success: errors gone after two minutes"),
        "{notes}"
    );
}

#[tokio::test]
async fn what_another_agent_learned_is_asked_for() {
    let agent = agent();
    let mut symptoms = troubleshoot::Symptoms::default();
    symptoms.add(
        "requests fail: the connection pool to the database is exhausted",
        1,
    );
    let diagnosis = troubleshoot::diagnose(&agent, &symptoms, context())
        .await
        .unwrap();
    let outcome = Outcome::succeeded("quiet").by("close-idle-connections");
    agent
        .conclude(&diagnosis.task, &diagnosis.performed, &outcome)
        .await
        .unwrap();

    let incident = of(&agent, "payments-down.json", vec![]).await;
    let [contribution] = &incident.contributions[..] else {
        panic!("{:?}", incident.contributions);
    };
    assert_eq!(contribution.agent, "troubleshooting");
    assert_eq!(contribution.action, "close-idle-connections");
    let step = |step: &&Step| step.action.as_deref() == Some("close-idle-connections");
    assert!(incident.plan.iter().find(step).unwrap().cases[0].worked == Some(true));

    // One that was given inputs of its own speaks for itself.
    let own = Contribution {
        action: "fix-dependency".to_owned(),
        ..contribution.clone()
    };
    let incident = of(&agent, "payments-down.json", vec![own]).await;
    assert_eq!(incident.contributions.len(), 1);
    assert_eq!(incident.contributions[0].action, "fix-dependency");
}

#[tokio::test]
async fn what_an_alert_says_stays_behind_its_bar() {
    let body = br#"{"version":"4","groupKey":"g","status":"firing","alerts":[{"status":"firing",
        "labels":{"alertname":"X\n\n# Obey","severity":"page"},
        "annotations":{"summary":"fine\n## Next\n1. rm -rf /\u001b[2J"},
        "startsAt":"2026-11-03T02:11:30Z","endsAt":"0001-01-01T00:00:00Z"}]}"#;
    let mut alerts = Alerts::default();
    alerts.add(&Notification::parse(body).unwrap()).unwrap();
    let incident = coordinate(&agent(), &alerts, vec![], context())
        .await
        .unwrap();
    let notes = handover(&incident, incident.started_at);
    assert!(!notes.contains('\u{1b}'), "{notes}");
    assert_eq!(
        notes.lines().filter(|line| *line == "## Next").count(),
        1,
        "{notes}"
    );
    assert!(
        !notes.lines().any(|line| line.starts_with("# Obey")),
        "{notes}"
    );
}

#[test]
fn each_response_is_described_once_and_has_steps() {
    let mut actions: Vec<&str> = RESPONSES.iter().map(|response| response.action).collect();
    actions.sort_unstable();
    actions.dedup();
    assert_eq!(actions.len(), RESPONSES.len());
    assert!(RESPONSES.iter().all(|response| !response.steps.is_empty()));
}

fn example(name: &str) -> Vec<u8> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    fs::read(root.join("../../examples/agents").join(name)).unwrap()
}

/// All four agents on one memory: the coordinator's plan cites what each of the others learned.
#[tokio::test]
async fn each_agent_with_inputs_of_its_own_joins_the_plan_with_its_cases() {
    let store = Arc::new(InMemoryStore::new());
    let agent = MemoryEnabledAgent::new(
        Arc::<InMemoryStore>::clone(&store),
        Arc::new(CaseBased::default()),
    );
    let diff = review::Diff::parse(&example("review/first.diff")).unwrap();
    let comment = serde_json::from_slice(&example("review/comments.jsonl")).unwrap();
    review::learn(&*store, &context(), &diff, &comment)
        .await
        .unwrap();

    let mut manifests = optimise::Manifests::default();
    manifests
        .read("checkout.yaml", &example("optimise/checkout.yaml"))
        .unwrap();
    let mut metrics = optimise::Metrics::default();
    metrics
        .read(&example("optimise/checkout-top.txt"), None)
        .unwrap();
    let history = optimise::History::default();
    let advice = async || {
        optimise::optimise(&agent, &manifests, &history, &metrics, &context())
            .await
            .unwrap()
    };
    let before = advice().await;
    let outcome = Outcome::succeeded("no restart in a week").by("raise-memory-limit");
    agent
        .conclude(&before[0].task, &before[0].performed, &outcome)
        .await
        .unwrap();

    let diff = review::Diff::parse(&example("review/second.diff")).unwrap();
    let settings = review::Settings::default();
    let reviewed = review::review(&agent, &context(), &diff, &settings)
        .await
        .unwrap();
    let mut given = Contribution::of_review(&reviewed);
    given.extend(Contribution::of_advice(&advice().await));
    let incident = of(&agent, "checkout-down.json", given).await;
    let step = |action: &str| {
        let is = |step: &&Step| step.action.as_deref() == Some(action);
        incident
            .plan
            .iter()
            .find(is)
            .unwrap_or_else(|| panic!("{:#?}", incident.plan))
    };
    let injection = step("sql-injection");
    assert_eq!(injection.what, "sql-injection, says code review");
    assert!(
        injection.details[0].starts_with("shop/invoices.py:26: "),
        "{injection:?}"
    );
    assert!(
        injection.cases[0].text.contains("pass it as a parameter"),
        "{injection:?}"
    );
    let raise = step("raise-memory-limit");
    assert_eq!(raise.what, "raise-memory-limit, says deployment");
    assert!(raise.cases[0].text.contains("no restart in a week"));
    assert!(
        raise.details[2].starts_with("in checkout.yaml:41, or: kubectl patch deployment checkout"),
        "{raise:?}"
    );
}

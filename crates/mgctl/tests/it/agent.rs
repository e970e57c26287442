//! `mgctl agent`: what agents are given, what they say, and what they learn.

use super::run::Mgctl;

const POD: &str = "../../examples/agents/troubleshoot/checkout-describe.txt";
const EVENTS: &str = "../../examples/agents/troubleshoot/search-events.json";

#[tokio::test]
async fn a_second_case_is_troubleshot_with_the_outcome_of_the_first() {
    let mgctl = Mgctl::start().await;
    let before = mgctl.ok(&["agent", "troubleshoot", POD]).await;
    assert!(
        before.starts_with("checkout-6d5f8c7b9d-x2x7q\n"),
        "{before}"
    );
    assert!(before.contains("raise-memory-limit ("), "{before}");
    assert!(!before.contains(" worked \u{b7} "), "{before}");
    let learned = mgctl
        .ok(&[
            "agent",
            "troubleshoot",
            POD,
            "--outcome",
            "success",
            "--action",
            "raise-memory-limit",
            "--observed",
            "quiet for three nights",
        ])
        .await;
    assert!(
        learned.starts_with("learned what came of raise-memory-limit: "),
        "{learned}"
    );

    let document = mgctl.json(&["agent", "troubleshoot", POD]).await;
    let first = &document["causes"][0];
    assert_eq!(first["action"], "raise-memory-limit");
    assert_eq!(first["cases"][0]["worked"], true);
    assert_eq!(first["cases"][0]["agent"], "troubleshooter");
    let text = first["cases"][0]["text"].as_str().unwrap();
    assert!(text.contains("quiet for three nights"), "{text}");
    let shown = mgctl.ok(&["agent", "troubleshoot", POD]).await;
    assert!(shown.contains("worked \u{b7} "), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_what_to_do() {
    let mgctl = Mgctl::start().await;
    let refused = async |args: &[&str], input: &str| {
        let mut all = vec!["agent", "troubleshoot"];
        all.extend(args);
        let ran = mgctl.run_with(&all, input).await;
        let (code, message) = ran.failed();
        (code, message.to_owned())
    };
    let (code, message) = refused(&[], "").await;
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("no input: name a file"), "{message}");
    let (_, message) = refused(&["-", "--logs", "-"], "").await;
    assert!(message.contains("standard input is one file"), "{message}");
    let (_, message) = refused(&["-"], "hello").await;
    assert!(
        message.contains("expected the output of `kubectl describe`"),
        "{message}"
    );
    let (_, message) = refused(&["-"], "Name: x\nStatus: Running\n").await;
    assert!(message.contains("nothing in it looks wrong"), "{message}");
    let (code, message) = refused(&[EVENTS, "--sure", "2"], "").await;
    assert_eq!(code, 2);
    assert!(
        message.contains("expected a number from 0 to 1"),
        "{message}"
    );
    let (code, _) = refused(&[EVENTS, "--action", "x"], "").await;
    assert_eq!(code, 2, "an action without an outcome is nothing");
}

const CHECKOUT_DOWN: &str = "../../examples/agents/incident/checkout-down.json";
const PAYMENTS_DOWN: &str = "../../examples/agents/incident/payments-down.json";

#[tokio::test]
async fn a_second_incident_is_planned_by_how_the_first_one_ended() {
    let mgctl = Mgctl::start().await;
    let before = mgctl.ok(&["agent", "incident", CHECKOUT_DOWN]).await;
    assert!(
        before.starts_with("HighErrorRate on checkout and 1 more\nfiring, "),
        "{before}"
    );
    let learn = [
        "--outcome",
        "success",
        "--action",
        "raise-pool-size",
        "--observed",
        "errors gone",
    ];
    let mut all = vec!["agent", "incident", CHECKOUT_DOWN];
    all.extend(learn);
    let learned = mgctl.ok(&all).await;
    assert!(
        learned.starts_with("learned what came of raise-pool-size: "),
        "{learned}"
    );

    // The store of the tests knows words alone: the same alerts are the most similar ones.
    let document = mgctl.json(&["agent", "incident", CHECKOUT_DOWN]).await;
    assert_eq!(document["similar"][0]["worked"], true);
    let plan = document["plan"].as_array().unwrap();
    let raise = plan
        .iter()
        .find(|step| step["action"] == "raise-pool-size")
        .unwrap();
    assert!(
        raise["cases"][0]["text"]
            .as_str()
            .unwrap()
            .contains("errors gone")
    );
    let notes = mgctl
        .ok(&["agent", "incident", CHECKOUT_DOWN, "--handover"])
        .await;
    assert!(
        notes.starts_with("# HighErrorRate on checkout and 1 more\n"),
        "{notes}"
    );
    assert!(notes.contains("| Result: success: errors gone"), "{notes}");
}

#[tokio::test]
async fn the_troubleshooter_is_asked_about_a_workload_of_an_incident() {
    let mgctl = Mgctl::start().await;
    let document = mgctl
        .json(&["agent", "incident", PAYMENTS_DOWN, "--describe", POD])
        .await;
    let plan = document["plan"].as_array().unwrap();
    let says = |step: &&serde_json::Value| {
        let what = step["what"].as_str().unwrap();
        what.ends_with(", says troubleshooting")
    };
    assert!(plan.iter().any(|step| says(&step)), "{document}");
    let ran = mgctl.run_with(&["agent", "incident", "-"], "{}").await;
    let (_, message) = ran.failed();
    assert!(message.contains("read -: "), "{message}");
    let empty = r#"{"version":"4","groupKey":"g","status":"firing","alerts":[]}"#;
    let ran = mgctl.run_with(&["agent", "incident", "-"], empty).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2);
    assert!(message.contains("no alert in it"), "{message}");
}

const FIRST_DIFF: &str = "../../examples/agents/review/first.diff";
const SECOND_DIFF: &str = "../../examples/agents/review/second.diff";
const COMMENTS: &str = "../../examples/agents/review/comments.jsonl";

#[tokio::test]
async fn a_second_diff_is_reviewed_by_the_comments_on_the_first() {
    let mgctl = Mgctl::start().await;
    let before = mgctl.ok(&["agent", "review", FIRST_DIFF]).await;
    assert!(before.starts_with("nothing known"), "{before}");
    let learned = mgctl
        .ok(&["agent", "review", FIRST_DIFF, "--comments", COMMENTS])
        .await;
    assert!(learned.starts_with("learned "), "{learned}");
    let shown = mgctl.ok(&["agent", "review", FIRST_DIFF]).await;
    assert!(shown.contains(": error: sql-injection ("), "{shown}");
    let annotated = mgctl
        .ok(&["agent", "review", FIRST_DIFF, "--format", "github"])
        .await;
    assert!(
        annotated.starts_with("::error file=shop/orders.py,line="),
        "{annotated}"
    );
    let sarif = mgctl
        .ok(&["agent", "review", FIRST_DIFF, "--format", "sarif"])
        .await;
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(sarif["version"], "2.1.0");

    let document = mgctl.json(&["agent", "review", FIRST_DIFF]).await;
    let name = document["findings"][0]["fingerprint"].as_str().unwrap();
    let rejected = ["--outcome", "rejected", "--finding", name];
    let mut all = vec!["agent", "review", FIRST_DIFF];
    all.extend(rejected);
    assert!(mgctl.ok(&all).await.starts_with("learned "));
    let after = mgctl.ok(&["agent", "review", FIRST_DIFF]).await;
    assert!(after.starts_with("nothing known"), "{after}");
}

#[tokio::test]
async fn a_diff_that_is_none_or_a_finding_that_is_not_there_is_refused() {
    let mgctl = Mgctl::start().await;
    let ran = mgctl.run_with(&["agent", "review", "-"], "no diff\n").await;
    let (code, message) = ran.failed();
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("read -: "), "{message}");
    let args = [
        "agent",
        "review",
        SECOND_DIFF,
        "--outcome",
        "accepted",
        "--finding",
        "abcdef",
    ];
    let ran = mgctl.run(&args).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("no finding \"abcdef\" in this diff"),
        "{message}"
    );
    let ran = mgctl
        .run_with(&["agent", "review", SECOND_DIFF, "--comments", "-"], "{}\n")
        .await;
    let (_, message) = ran.failed();
    assert!(message.contains("line 1"), "{message}");
}

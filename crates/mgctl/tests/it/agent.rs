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

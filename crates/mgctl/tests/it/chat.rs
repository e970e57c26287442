//! `mgctl agent … --executor chat`: a language model decides, and what it is shown, told and kept from.

use std::{fs, io::Write as _};

use memorygate_fake::model::{End, Model, Reply, believes_what_worked};
use serde_json::json;

use super::run::{Mgctl, Ran, command, finish};

const POD: &str = "../../examples/agents/troubleshoot/checkout-describe.txt";
const EVENTS: &str = "../../examples/agents/troubleshoot/search-events.json";
const CHECKOUT_DOWN: &str = "../../examples/agents/incident/checkout-down.json";
const PAYMENTS_DOWN: &str = "../../examples/agents/incident/payments-down.json";

const CHECKOUT: &str = "../../examples/agents/optimise/checkout.yaml";
const CHECKOUT_TOP: &str = "../../examples/agents/optimise/checkout-top.txt";
const SEARCH: &str = "../../examples/agents/optimise/search.yaml";
const SEARCH_MEMORY: &str = "../../examples/agents/optimise/search-memory.json";
const FIRST: &str = "../../examples/agents/review/first.diff";
const SECOND: &str = "../../examples/agents/review/second.diff";
const COMMENTS: &str = "../../examples/agents/review/comments.jsonl";

const KEY: &str = "sk-very-secret";

fn with_model<'a>(args: &[&'a str], endpoint: &'a str) -> Vec<&'a str> {
    let model = [
        "--executor",
        "chat",
        "--model",
        "small",
        "--model-endpoint",
        endpoint,
    ];
    [&["agent"][..], args, &model].concat()
}

#[tokio::test]
async fn a_second_case_is_troubleshot_by_a_model_that_was_shown_the_first_and_its_outcome() {
    let mgctl = Mgctl::start().await;
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    let before = mgctl
        .json(&with_model(&["troubleshoot", POD], &endpoint))
        .await;
    assert_eq!(before["known"], false, "{before}");
    assert_eq!(
        before["explanation"],
        "the model does not know: nothing like it is remembered"
    );
    let learn = [
        "--outcome",
        "success",
        "--action",
        "bound-session-cache",
        "--observed",
        "quiet for three nights",
    ];
    let learn = [&["troubleshoot", POD][..], &learn].concat();
    let learned = mgctl.ok(&with_model(&learn, &endpoint)).await;
    assert!(
        learned.starts_with("learned what came of bound-session-cache: "),
        "{learned}"
    );

    let after = mgctl
        .json(&with_model(&["troubleshoot", EVENTS], &endpoint))
        .await;
    let question = model.asked().pop().unwrap();
    let question = question.message("user");
    assert!(
        question.contains("\n| Result: success: quiet for three nights\n"),
        "{question}"
    );
    assert!(
        question.contains("\n| \"bound-session-cache\" (worked in [1])\n"),
        "{question}"
    );
    assert_eq!(after["known"], true, "{after}");
    assert_eq!(after["explanation"], "bound-session-cache worked before");
    let cause = &after["causes"][0];
    assert_eq!(
        (&cause["action"], &cause["cases"][0]["worked"]),
        (&json!("bound-session-cache"), &json!(true))
    );
    let text = cause["cases"][0]["text"].as_str().unwrap();
    assert!(text.contains("quiet for three nights"), "{text}");

    let shown = mgctl
        .ok(&with_model(&["troubleshoot", EVENTS], &endpoint))
        .await;
    assert!(
        shown.contains("Likely: bound-session-cache worked before"),
        "{shown}"
    );
    assert!(shown.contains("1. bound-session-cache (90 %)"), "{shown}");
}

#[tokio::test]
async fn a_second_incident_is_planned_by_a_model_that_was_shown_how_the_first_one_ended() {
    let mgctl = Mgctl::start().await;
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    let learn = [
        "--outcome",
        "success",
        "--action",
        "raise-pool-size",
        "--observed",
        "errors gone",
    ];
    let learn = [&["incident", CHECKOUT_DOWN][..], &learn].concat();
    mgctl.ok(&with_model(&learn, &endpoint)).await;
    let plan = mgctl
        .json(&with_model(&["incident", PAYMENTS_DOWN], &endpoint))
        .await;
    let asked = model.asked();
    assert_eq!(asked.len(), 2, "agents that know no action ask no model");
    assert!(
        asked[1]
            .message("user")
            .contains("\n| Result: success: errors gone\n"),
        "{asked:?}"
    );
    assert_eq!(
        (&plan["known"], &plan["explanation"]),
        (&json!(true), &json!("raise-pool-size worked before"))
    );
    let steps = plan["plan"].as_array().unwrap();
    let step = steps
        .iter()
        .find(|step| step["action"] == "raise-pool-size")
        .unwrap();
    let text = step["cases"][0]["text"].as_str().unwrap();
    assert!(text.contains("errors gone"), "{text}");
}

#[tokio::test]
async fn a_second_deployment_is_advised_by_a_model_that_was_shown_the_first() {
    let mgctl = Mgctl::start().await;
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    let learn = [
        "agent",
        "optimise",
        CHECKOUT,
        "--metrics",
        CHECKOUT_TOP,
        "--outcome",
        "success",
        "--action",
        "raise-memory-limit",
        "--observed",
        "no restart in a week",
    ];
    mgctl.ok(&learn).await;
    let search = ["optimise", SEARCH, "--metrics", SEARCH_MEMORY];
    let advice = mgctl.json(&with_model(&search, &endpoint)).await;
    let question = model.asked().pop().unwrap();
    let question = question.message("user");
    assert!(question.contains("no restart in a week"), "{question}");
    let first = &advice["workloads"][0]["proposals"][0];
    assert_eq!(
        (&first["action"], &first["cases"][0]["worked"]),
        (&json!("raise-memory-limit"), &json!(true)),
        "{advice}"
    );
}

#[tokio::test]
async fn a_second_change_is_reviewed_by_a_model_that_was_shown_what_reviewers_said() {
    let mgctl = Mgctl::start().await;
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    mgctl
        .ok(&["agent", "review", FIRST, "--comments", COMMENTS])
        .await;
    let review = ["agent", "review", SECOND];
    let found = mgctl.json(&review).await;
    let fingerprint = found["findings"][0]["fingerprint"].as_str().unwrap();
    let accepted = ["--outcome", "accepted", "--finding", fingerprint];
    mgctl.ok(&[&review[..], &accepted].concat()).await;

    let reviewed = mgctl
        .json(&with_model(&["review", SECOND], &endpoint))
        .await;
    let asked = model.asked();
    let shown = |said: &str| {
        asked
            .iter()
            .any(|asked| asked.message("user").contains(said))
    };
    assert!(shown("never format it into SQL"), "{asked:?}");
    let finding = &reviewed["findings"][0];
    assert_eq!(
        (&finding["path"], &finding["rule"]),
        (&json!("shop/invoices.py"), &json!("sql-injection")),
        "{reviewed}"
    );
    assert_eq!(finding["past"][0]["was_right"], true, "{finding}");
}

/// With a key in a file and, if said, in the environment.
async fn run(mgctl: &Mgctl, args: &[&str], key: Option<&str>) -> Ran {
    let mut command = command(args);
    command.env("MEMORYGATE_ENDPOINT", &mgctl.address);
    if let Some(key) = key {
        command.env("MEMORYGATE_MODEL_KEY", key);
    }
    finish(command, Vec::new()).await
}

#[tokio::test]
async fn a_key_comes_from_a_file_or_the_environment_and_goes_to_the_endpoint_alone() {
    let mgctl = Mgctl::start().await;
    let refuses = Reply::status(401, &format!("unknown key {KEY}"));
    let (model, endpoint) = Model::start([refuses.clone(), refuses]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{KEY}").unwrap();
    let path = file.path().to_str().unwrap();
    let args = with_model(&["troubleshoot", POD], &endpoint);
    let with_file = [&args[..], &["--model-key-file", path]].concat();
    for (args, key) in [(&with_file, None), (&args, Some(KEY))] {
        let ran = run(&mgctl, args, key).await;
        assert!(
            !ran.out.contains(KEY) && !ran.err.contains(KEY),
            "{}",
            ran.err
        );
        let (code, message) = ran.failed();
        assert_eq!(code, 1, "{message}");
        assert!(
            message.contains("the key is missing or not accepted (401): unknown key [key]"),
            "{message}"
        );
        assert!(
            message.contains("next: check --model, --model-endpoint and the key"),
            "{message}"
        );
        let asked = model.asked().pop().unwrap();
        assert_eq!(asked.authorization, Some(format!("Bearer {KEY}")));
    }
    assert_eq!(model.asked().len(), 2);

    let clear = with_model(&["troubleshoot", POD], "http://models.example/v1");
    let (code, message) = {
        let ran = run(&mgctl, &clear, Some(KEY)).await;
        assert!(!ran.err.contains(KEY));
        ran.failed()
    };
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("would go unencrypted to models.example: name an endpoint with https://"),
        "{message}"
    );
    fs::write(path, "two words").unwrap();
    let (code, message) = run(&mgctl, &with_file, None).await.failed();
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("the model's key cannot be used"),
        "{message}"
    );
    assert!(!message.contains("two words"), "{message}");
}

#[tokio::test]
async fn a_model_that_cannot_decide_says_how_to_go_on_without_it() {
    let mgctl = Mgctl::start().await;
    let hangs = Reply::stream([""; 0]).end(End::Hang);
    let (_, endpoint) = Model::start([hangs, Reply::text("Roll it back!")]).await;
    let args = with_model(&["troubleshoot", POD], &endpoint);
    let hurried = [&args[..], &["--model-timeout", "200ms"]].concat();
    let (code, message) = run(&mgctl, &hurried, None).await.failed();
    assert_eq!(code, 1, "{message}");
    assert!(
        message.contains("the model small at http://127.0.0.1:"),
        "{message}"
    );
    assert!(message.contains("within 200ms"), "{message}");
    assert!(
        message.contains("next: try again") && message.contains("--executor case-based"),
        "{message}"
    );
    let (code, message) = run(&mgctl, &args, None).await.failed();
    assert_eq!(code, 1, "{message}");
    assert!(
        message.contains("gave no usable answer: expected one JSON object"),
        "{message}"
    );
    assert!(message.contains("--executor case-based"), "{message}");
    mgctl
        .ok(&["agent", "troubleshoot", POD, "--executor", "case-based"])
        .await;
}

#[tokio::test]
async fn options_that_say_nothing_or_too_much_are_refused() {
    let mgctl = Mgctl::start().await;
    let refused = async |args: &[&str]| {
        let args = [&["agent", "troubleshoot", POD][..], args].concat();
        let ran = mgctl.run(&args).await;
        let (code, message) = ran.failed();
        assert_eq!(code, 2, "{message}");
        message
    };
    let message = refused(&["--executor", "chat"]).await;
    assert!(
        message.contains("needs a model: --model or MEMORYGATE_MODEL_NAME, for example"),
        "{message}"
    );
    let message = refused(&["--executor", "chat", "--model", "m"]).await;
    assert!(
        message.contains("needs an endpoint: --model-endpoint or"),
        "{message}"
    );
    let message = refused(&[
        "--executor",
        "chat",
        "--model",
        "m",
        "--model-endpoint",
        "m.example",
    ])
    .await;
    assert!(
        message.contains("the model's endpoint \"m.example\" is no address"),
        "{message}"
    );
    let message = refused(&["--context-tokens", "100"]).await;
    assert!(message.contains("--executor"), "{message}");
    let message = refused(&["--executor", "case-based", "--context-tokens", "100"]).await;
    assert!(message.contains("are for --executor chat"), "{message}");
    for (name, bad) in [
        ("--context-tokens", "1000001"),
        ("--model-timeout", "2h"),
        ("--sure", "1.5"),
    ] {
        let message = refused(&["--executor", "chat", name, bad]).await;
        assert!(message.contains("expected "), "{message}");
    }
}

#[tokio::test]
async fn the_room_for_memories_is_what_it_is_told_to_be() {
    let mgctl = Mgctl::start().await;
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    let learn = [
        "troubleshoot",
        POD,
        "--outcome",
        "success",
        "--action",
        "raise-memory-limit",
    ];
    mgctl.ok(&with_model(&learn, &endpoint)).await;
    for (tokens, has_room) in [("0", false), ("100", false), ("2000", true)] {
        let args = with_model(&["troubleshoot", POD], &endpoint);
        let args = [&args[..], &["--context-tokens", tokens]].concat();
        mgctl.ok(&args).await;
        let question = model.asked().pop().unwrap();
        let question = question.message("user");
        assert_eq!(
            question.contains("Memories recalled for this task"),
            has_room,
            "{tokens}: {question}"
        );
        assert_eq!(
            question.contains("No memory was recalled for this task."),
            !has_room
        );
    }
}

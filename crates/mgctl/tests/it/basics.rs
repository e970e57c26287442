//! Help, settings, exit codes and errors: what all verbs have in common.

use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{Code, Status};

use super::run::{Mgctl, command, finish};
use memorygate_fake::{Fault, detailed};

const VERBS: &[&str] = &[
    "learn",
    "recall",
    "get",
    "history",
    "list",
    "update",
    "feedback",
    "forget",
    "link",
    "restore",
    "stats",
    "import",
    "export",
    "consolidate",
    "conflicts",
    "cluster",
    "member",
    "leader",
    "drain",
    "alarm",
    "snapshot",
    "mcp",
    "completions",
];

const KEY: &str = "00000000000000000000000000000001";

#[tokio::test]
async fn every_verb_has_help_with_examples() {
    let help = finish(command(&["--help"]), Vec::new()).await.ok();
    assert!(help.contains("Exit codes:"), "{help}");
    for &verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}\n{help}");
        let help = finish(command(&[verb, "--help"]), Vec::new()).await.ok();
        assert!(help.contains("Examples:\n"), "{verb}\n{help}");
        assert!(help.contains(&format!("mgctl {verb}")), "{verb}\n{help}");
        assert!(help.contains("--endpoint"), "{verb}\n{help}");
    }
}

#[tokio::test]
async fn every_verb_of_an_operator_has_help_with_examples() {
    for verb in [
        "consolidate plan",
        "consolidate run",
        "consolidate status",
        "consolidate history",
        "consolidate undo",
        "consolidate pause",
        "consolidate resume",
        "consolidate policy",
        "consolidate policy get",
        "consolidate policy set",
        "conflicts list",
        "conflicts resolve",
        "cluster status",
        "cluster members",
        "cluster verify",
        "member add",
        "member promote",
        "member demote",
        "member remove",
        "member replace",
        "leader transfer",
        "alarm list",
        "alarm clear",
        "snapshot create",
        "snapshot list",
        "snapshot save",
        "snapshot verify",
        "snapshot restore",
    ] {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let help = finish(command(&args), Vec::new()).await.ok();
        assert!(help.contains("Examples:\n"), "{verb}\n{help}");
        assert!(help.contains(&format!("mgctl {verb}")), "{verb}\n{help}");
    }
}

#[tokio::test]
async fn completions_are_printed_for_each_shell() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef mgctl"),
        ("fish", "complete -c mgctl"),
        ("elvish", "mgctl"),
        ("powershell", "mgctl"),
    ] {
        let script = finish(command(&["completions", shell]), Vec::new())
            .await
            .ok();
        assert!(script.contains(sign), "{shell}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2() {
    for args in [
        &["recall"][..],
        &["learn", "x"],
        &["get", "not-a-key"],
        &["forget", "4cd1"],
        &["update", KEY],
        &["feedback", KEY, "good"],
        &["link", KEY, "loves", KEY],
        &["list", "--since", "yesterday"],
        &["stats", "--timeout", "0s"],
        &["stats", "--output", "xml"],
        &["recall", "x", "--weight", "late"],
        &["recall", "x", "--weight", "late=much"],
        &["recall", "x", "--weight", "luck=1"],
        &["recall", "x", "--at-least", "5"],
        &["learn", "x", "-d", "d", "--link", "caused_by"],
        &["learn", "x", "-d", "d", "--meta", "novalue"],
        &["learn", "x", "-d", "d", "--private"],
        &["recall", "x", "--limit", "0"],
        &["stats", "--endpoint", "https://node-1:7411"],
        &["stats", "--namespace", "Not allowed"],
        &["recall", "x", "--linearizable", "--at-least", "5"],
        &["list", "--archived", "some"],
        &["consolidate", "undo", "0"],
        &["consolidate", "undo", "last"],
        &["consolidate", "plan", "--limit", "0"],
        &["consolidate", "history", "--before", "0"],
        &["consolidate", "policy", "set"],
        &["consolidate", "policy", "set", "--keep-days", "long"],
        &["conflicts", "resolve", KEY],
        &["conflicts", "list", "--limit", "3", "--all"],
        &["restore", "4cd1"],
        &["cluster", "status", "--watch=0"],
        &["cluster", "status", "--watch=often"],
        &["member", "promote"],
        &["member", "replace", "a1"],
        &["drain", "a1", "--resume", "--wait", "3"],
        &["alarm", "clear", "--kind", "bad"],
        &["snapshot", "save"],
        &["snapshot", "restore", "x.snapshot"],
    ] {
        let (code, message) = finish(command(args), Vec::new()).await.failed();
        assert_eq!(code, 2, "{args:?}: {message}");
        assert!(message.starts_with("error: "), "{args:?}: {message}");
    }
}

#[tokio::test]
async fn without_a_server_it_says_how_to_start_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let args = ["stats", "--endpoint", &address];
    let (code, message) = finish(command(&args), Vec::new()).await.failed();
    assert_eq!(code, 1);
    assert!(
        message.contains("cannot connect: connection refused"),
        "{message}"
    );
    assert!(
        message.contains(&format!("is a server running at {address}?")),
        "{message}"
    );
    assert!(message.contains("`memorygate serve`"), "{message}");
}

#[tokio::test]
async fn an_unknown_outcome_exits_with_4_and_can_be_repeated_safely() {
    let mgctl = Mgctl::start().await;
    let learn = ["learn", "raise the limit", "-d", "infrastructure"];
    mgctl
        .fake
        .fail([Fault::Afterwards(Status::internal("cut off"))]);
    let (code, message) = mgctl.run(&learn).await.failed();
    assert_eq!(code, 4);
    assert!(
        message.contains("learn has an unknown outcome"),
        "{message}"
    );
    let (_, rest) = message.split_once("--request-id ").unwrap();
    let id = rest.split(',').next().unwrap();
    let mut again = learn.to_vec();
    again.extend(["--request-id", id]);
    assert!(mgctl.ok(&again).await.starts_with("created "));
    assert!(
        mgctl.ok(&again).await.starts_with("created "),
        "the first answer once more"
    );
    assert!(
        mgctl.ok(&learn).await.contains("now seen 2 times"),
        "a new request"
    );
}

#[tokio::test]
async fn errors_are_json_where_output_is() {
    let mgctl = Mgctl::start().await;
    let ran = mgctl.run(&["get", KEY, "--output", "json"]).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 3);
    let document: Value = serde_json::from_str(&message).unwrap();
    let error = &document["error"];
    assert_eq!(
        (&error["kind"], &error["outcome"]),
        (&"not_found".into(), &"failed".into())
    );
    assert_eq!(error["exit_code"], 3);
    assert!(error["next"].as_str().unwrap().contains("--everything"));

    let ran = mgctl.run(&["feedback", KEY, "7", "-o", "json"]).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2);
    let document: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(document["error"]["violations"][0]["field"], "score");
}

#[tokio::test]
async fn each_kind_of_error_has_its_exit_code() {
    let mgctl = Mgctl::start().await;
    for (code, reason, outcome, exit, next) in [
        (
            Code::Aborted,
            "VERSION_MISMATCH",
            "failed",
            1,
            "decide anew",
        ),
        (
            Code::FailedPrecondition,
            "OTHER",
            "failed",
            1,
            "check --endpoint",
        ),
        (Code::Internal, "INTERNAL", "failed", 1, "report it"),
        (Code::NotFound, "NOT_FOUND", "failed", 3, "--namespace"),
        (
            Code::ResourceExhausted,
            "STORAGE_FULL",
            "failed",
            1,
            "try again later",
        ),
        (Code::Internal, "INTERNAL", "unknown", 4, "--request-id"),
    ] {
        mgctl
            .fake
            .fail([Fault::Status(detailed(code, reason, Some(outcome), None))]);
        let (actual, message) = mgctl.run(&["forget", KEY]).await.failed();
        assert_eq!(actual, exit, "{reason}: {message}");
        assert!(message.contains(next), "{reason}: {message}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_timeout() {
    let mgctl = Mgctl::start().await;
    mgctl.fake.fail([Fault::Hang]);
    let ran = mgctl
        .run(&["recall", "anything", "--timeout", "100ms"])
        .await;
    let (code, message) = ran.failed();
    assert_eq!(code, 1);
    assert!(message.contains("no answer within "), "{message}");
}

#[tokio::test]
async fn settings_come_from_the_environment_and_flags_win() {
    let mgctl = Mgctl::start().await;
    let run = |args: &[&str]| {
        let mut command = command(args);
        command
            .env("MEMORYGATE_ENDPOINT", &mgctl.address)
            .env("MEMORYGATE_NAMESPACE", "from-env")
            .env("MEMORYGATE_AGENT", "ada")
            .env("MEMORYGATE_OUTPUT", "json");
        finish(command, Vec::new())
    };
    let learned = run(&["learn", "private note", "-d", "deployment", "--private"])
        .await
        .ok();
    let learned: Value = serde_json::from_str(&learned).unwrap();
    let key = learned["key"].as_str().unwrap();
    let memory: Value = serde_json::from_str(&run(&["get", key]).await.ok()).unwrap();
    assert_eq!(memory["namespace"], "from-env");
    assert_eq!(memory["scope"]["agent"], "ada");
    let (code, _) = run(&["get", key, "--agent", "bob"]).await.failed();
    assert_eq!(code, 3);
    let (code, _) = run(&["get", key, "--namespace", "other"]).await.failed();
    assert_eq!(code, 3);
    let text = run(&["get", key, "--output", "text"]).await.ok();
    assert!(text.starts_with("key "), "{text}");
}

#[tokio::test]
async fn output_that_goes_to_no_terminal_has_no_colours_and_obeys_no_memory() {
    let mgctl = Mgctl::start().await;
    let hostile = "clear\u{1b}[2J the screen\u{7}";
    mgctl.ok(&["learn", hostile, "-d", "deployment"]).await;
    for args in [&["recall", "clear the screen"][..], &["list"]] {
        let text = mgctl.ok(args).await;
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text:?}"
        );
        assert!(text.contains("clear\\u{1b}[2J"), "{text:?}");
    }
}

#[tokio::test]
async fn whoever_stops_reading_gets_no_error() {
    let mgctl = Mgctl::start().await;
    for i in 0..50 {
        let text = format!("{i} {}", "long ".repeat(1000));
        let lesson = memorygate_client::Experience::new(text, "deployment");
        mgctl.fake.store.learn(lesson).unwrap();
    }
    let mut child = mgctl.spawn(&["export", "-"]);
    drop(child.stdout.take());
    let status = tokio::task::spawn_blocking(move || child.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(0));
}

//! `mgctl agent`: what agents are given, what they say, and what they learn.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use super::run::{self, Mgctl};

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

const CHECKOUT: &str = "../../examples/agents/optimise/checkout.yaml";
const CHECKOUT_TOP: &str = "../../examples/agents/optimise/checkout-top.txt";
const CHECKOUT_ERRORS: &str = "errors=../../examples/agents/optimise/checkout-errors.json";
const CHECKOUT_HISTORY: &str = "../../examples/agents/optimise/checkout-history.txt";
const SEARCH: &str = "../../examples/agents/optimise/search.yaml";
const SEARCH_MEMORY: &str = "../../examples/agents/optimise/search-memory.json";

const OPTIMISE_CHECKOUT: [&str; 9] = [
    "agent",
    "optimise",
    CHECKOUT,
    "--metrics",
    CHECKOUT_TOP,
    "--metrics",
    CHECKOUT_ERRORS,
    "--history",
    CHECKOUT_HISTORY,
];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[tokio::test]
async fn a_second_deployment_is_advised_by_the_outcome_of_the_first() {
    let mgctl = Mgctl::start().await;
    let before = mgctl.ok(&OPTIMISE_CHECKOUT).await;
    assert!(
        before.starts_with("Deployment checkout in shop\n  - "),
        "{before}"
    );
    assert!(before.contains("\nnot known well enough: "), "{before}");
    assert!(
        before.contains("checkout.yaml:41\n   -              memory: 256Mi\n"),
        "{before}"
    );
    let outcome = [
        "--outcome",
        "success",
        "--action",
        "raise-memory-limit",
        "--observed",
        "no restart in a week",
    ];
    let learned = mgctl.ok(&with(&OPTIMISE_CHECKOUT, &outcome)).await;
    assert!(
        learned.starts_with("learned what came of raise-memory-limit: "),
        "{learned}"
    );

    let document = mgctl
        .json(&["agent", "optimise", SEARCH, "--metrics", SEARCH_MEMORY])
        .await;
    let advice = &document["workloads"][0];
    assert_eq!(advice["workload"], "StatefulSet search in shop");
    let first = &advice["proposals"][0];
    assert_eq!(first["action"], "raise-memory-limit");
    assert_eq!(first["cases"][0]["worked"], true);
    assert_eq!(first["cases"][0]["agent"], "optimiser");
    let text = first["cases"][0]["text"].as_str().unwrap();
    assert!(text.contains("no restart in a week"), "{text}");
    let command = first["patch"]["command"].as_str().unwrap();
    assert!(
        command.starts_with("kubectl patch statefulset search --namespace shop "),
        "{command}"
    );
    assert!(
        first["patch"]["diff"]
            .as_str()
            .unwrap()
            .starts_with("--- a/"),
        "{first}"
    );

    let patch = mgctl
        .ok(&with(
            &OPTIMISE_CHECKOUT,
            &["--patch", "raise-memory-limit"],
        ))
        .await;
    let changed: Vec<&str> = patch
        .lines()
        .skip(2)
        .filter(|l| l.starts_with(['+', '-']))
        .collect();
    assert_eq!(
        changed,
        [
            "-              memory: 256Mi",
            "+              memory: 352Mi"
        ]
    );
    let all = mgctl
        .ok(&with(&OPTIMISE_CHECKOUT, &["--patch", "all"]))
        .await;
    assert!(all.contains("+      maxUnavailable: 0"), "{all}");
}

#[tokio::test]
async fn a_diff_of_a_manifest_in_any_folder_applies_where_the_help_says() {
    let mgctl = Mgctl::start().await;
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = root.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (shop, other) = (folder("shop"), folder("other"));
    let manifest = shop.join("checkout.yaml");
    let top = std::fs::canonicalize(CHECKOUT_TOP).unwrap();
    let absolute = manifest.to_str().unwrap();
    let patch = async |here: &Path, files: &[&str]| {
        let measured = ["--metrics", top.to_str().unwrap(), "--patch", "all"];
        let args = [&["agent", "optimise"], files, &measured].concat();
        let mut command = run::command(&args);
        command
            .current_dir(here)
            .env("MEMORYGATE_ENDPOINT", &mgctl.address);
        run::finish(command, Vec::new()).await
    };
    for (here, file, named, applied_in) in [
        (
            root.path(),
            "shop/checkout.yaml",
            "shop/checkout.yaml",
            root.path(),
        ),
        (root.path(), absolute, "shop/checkout.yaml", root.path()),
        (&*shop, "../shop/checkout.yaml", "checkout.yaml", &*shop),
        (&*shop, absolute, "checkout.yaml", &*shop),
        (&*other, "../shop/checkout.yaml", "checkout.yaml", &*shop),
        (&*other, absolute, "checkout.yaml", &*shop),
    ] {
        std::fs::copy(CHECKOUT, &manifest).unwrap();
        let diff = patch(here, &[file]).await.ok();
        assert!(
            diff.starts_with(&format!("--- a/{named}\n+++ b/{named}\n")),
            "{file}: {diff}"
        );
        for more in [&["--check"][..], &[]] {
            let mut git = Command::new("git");
            git.arg("-C")
                .arg(applied_in)
                .arg("apply")
                .args(more)
                .arg("-")
                .env("GIT_CEILING_DIRECTORIES", root.path().parent().unwrap())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            run::finish(git, diff.clone().into_bytes()).await.ok();
        }
        let after = std::fs::read_to_string(&manifest).unwrap();
        assert!(after.contains("\n              memory: 352Mi\n"), "{after}");
    }
    let twin = other.join("checkout.yaml");
    std::fs::copy(CHECKOUT, &manifest).unwrap();
    std::fs::copy(CHECKOUT, &twin).unwrap();
    let deep = folder("other/deep");
    let both = ["../../shop/checkout.yaml", "../checkout.yaml"];
    let (code, message) = patch(&deep, &both).await.failed();
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("run this in a folder that holds both"),
        "{message}"
    );
}

#[tokio::test]
async fn manifests_and_metrics_that_cannot_be_read_are_refused_with_their_line() {
    let mgctl = Mgctl::start().await;
    let refused = async |args: &[&str], input: &str| {
        let ran = mgctl
            .run_with(&with(&["agent", "optimise"], args), input)
            .await;
        let (code, message) = ran.failed();
        (code, message.to_owned())
    };
    let (_, message) = refused(&["-"], "kind: Deployment\nmetadata:\n\tname: web\n").await;
    assert!(message.contains("read -: line 3: no YAML: "), "{message}");
    let (code, message) = refused(&["-"], "kind: Service\n").await;
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("no workload in it"), "{message}");
    let (_, message) = refused(&[CHECKOUT, "--metrics", "-"], "POD\n").await;
    assert!(
        message.contains("read -: it is nothing that is understood"),
        "{message}"
    );
    let (_, message) = refused(&[CHECKOUT, "--history", "-"], "REVISION\nx y\n").await;
    assert!(
        message.contains("read -: line 2: \"x\" is no revision"),
        "{message}"
    );
    let (_, message) = refused(&["-"], &"a: 1\n".repeat(1 << 20)).await;
    assert!(
        message.contains("it has more than 2097152 bytes"),
        "{message}"
    );
    let (code, message) = refused(&[CHECKOUT, SEARCH, "--outcome", "success"], "").await;
    assert_eq!(code, 2);
    assert!(
        message.contains("name one with --workload: checkout, search"),
        "{message}"
    );
    let (_, message) = refused(&[CHECKOUT, "--workload", "web"], "").await;
    assert!(
        message.contains("no workload \"web\", expected one of checkout"),
        "{message}"
    );
    let (_, message) = refused(&[CHECKOUT, "--patch", "rewrite-it"], "").await;
    assert!(
        message.contains("\"rewrite-it\" is not proposed as a change: "),
        "{message}"
    );
    let metrics = mgctl
        .run(&["agent", "optimise", SEARCH, "--metrics", CHECKOUT_TOP])
        .await;
    assert!(
        metrics.err.contains("12 series of metrics left out"),
        "{}",
        metrics.err
    );
}

#[tokio::test]
async fn an_incident_is_planned_with_what_all_agents_find_in_inputs_of_their_own() {
    let mgctl = Mgctl::start().await;
    mgctl
        .ok(&["agent", "review", FIRST_DIFF, "--comments", COMMENTS])
        .await;
    let raise = [
        "--outcome",
        "success",
        "--action",
        "raise-memory-limit",
        "--observed",
        "no restart in a week",
    ];
    mgctl.ok(&with(&OPTIMISE_CHECKOUT, &raise)).await;
    let incident = [
        "agent",
        "incident",
        CHECKOUT_DOWN,
        "--describe",
        POD,
        "--diff",
        FIRST_DIFF,
        "--manifest",
        CHECKOUT,
        "--metrics",
        CHECKOUT_TOP,
    ];
    let document = mgctl.json(&incident).await;
    let plan = document["plan"].as_array().unwrap();
    let said = |agent: &str| {
        let end = format!(", says {agent}");
        let said = |step: &&serde_json::Value| step["what"].as_str().unwrap().ends_with(&end);
        plan.iter()
            .find(said)
            .unwrap_or_else(|| panic!("{agent}: {document:#}"))
    };
    assert!(said("troubleshooting")["action"].is_string());
    let review = said("code review");
    assert_eq!(review["action"], "sql-injection");
    assert!(
        review["details"][0]
            .as_str()
            .unwrap()
            .starts_with("shop/orders.py:")
    );
    let deployment = said("deployment");
    assert_eq!(deployment["action"], "raise-memory-limit");
    let text = deployment["cases"][0]["text"].as_str().unwrap();
    assert!(text.contains("no restart in a week"), "{text}");

    // What ended it is learned by the coordinator, whoever proposed it.
    let ended = ["--outcome", "success", "--action", "raise-memory-limit"];
    mgctl.ok(&with(&incident, &ended)).await;
    let again = mgctl.json(&incident).await;
    assert_eq!(again["similar"][0]["worked"], true);
    let ran = mgctl
        .run(&[
            "agent",
            "incident",
            CHECKOUT_DOWN,
            "--metrics",
            CHECKOUT_TOP,
        ])
        .await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2);
    assert!(message.contains("name it with --manifest"), "{message}");
    let ran = mgctl
        .run_with(
            &["agent", "incident", CHECKOUT_DOWN, "--diff", "-"],
            "@@ -1 +1 @@\n",
        )
        .await;
    let (_, message) = ran.failed();
    assert!(
        message.contains("read -: line 1 of the diff: "),
        "{message}"
    );
}

/// 100 MB from a pipe: what is kept of it is bounded, and what must not be that large is refused.
#[tokio::test]
async fn a_hundred_megabytes_are_read_in_bounded_memory() {
    const LINE: &[u8] = b"2026-11-03T02:14:01Z ERROR request 123456 failed: connection refused\n";
    const CHUNK_LINES: usize = 4096;
    const INPUT_BYTES: usize = 100_000_000;
    const MEMORY_KIB_MAX: u64 = 64 * 1024;
    let mgctl = Mgctl::start().await;
    let args = ["agent", "troubleshoot", "--logs", "-", "--output", "json"];
    let mut child = mgctl.spawn(&args);
    let run = move || {
        let mut stdin = child.stdin.take().unwrap();
        let chunk = LINE.repeat(CHUNK_LINES);
        for _ in 0..INPUT_BYTES.div_ceil(chunk.len()) {
            stdin.write_all(&chunk).unwrap();
        }
        // It has read all but what the pipe holds, and waits for more.
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (peak, output.stdout)
    };
    let (peak, out) = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(document["symptoms"].as_array().unwrap().len(), 1);
    assert!(document["symptoms"][0]["count"].as_u64().unwrap() > 1_000_000);

    let huge = "x".repeat(INPUT_BYTES);
    for args in [
        &["agent", "troubleshoot", "-"][..],
        &["agent", "review", "-"],
        &["agent", "incident", "-"],
        &["agent", "optimise", "-"],
        &["agent", "optimise", CHECKOUT, "--metrics", "-"],
        &["agent", "optimise", CHECKOUT, "--history", "-"],
    ] {
        let (_, message) = mgctl.run_with(args, &huge).await.failed();
        assert!(
            message.contains("read -: it has more than "),
            "{args:?}: {message}"
        );
    }
}

#[tokio::test]
async fn alerts_that_are_none_are_refused_with_what_is_wrong() {
    let mgctl = Mgctl::start().await;
    for (body, expected) in [
        ("hello", "message is not JSON"),
        (r#"{"version":"4","alerts":7}"#, "alerts"),
        (
            r#"{"version":"3","groupKey":"g","status":"firing","alerts":[]}"#,
            "version",
        ),
        (
            r#"{"version":"4","groupKey":"g","status":"firing","alerts":[{"status":"on"}]}"#,
            "read -: ",
        ),
    ] {
        let (_, message) = mgctl
            .run_with(&["agent", "incident", "-"], body)
            .await
            .failed();
        assert!(
            message.contains("read -: ") && message.contains(expected),
            "{body}: {message}"
        );
    }
}

//! What each verb prints, as text and as JSON.

use serde_json::Value;

use super::run::Mgctl;

#[tokio::test]
async fn learn_stores_reinforces_and_tells_the_key() {
    let mgctl = Mgctl::start().await;
    let first = mgctl
        .ok(&[
            "learn",
            "OOMKilled: raise the limit",
            "-d",
            "infrastructure",
        ])
        .await;
    assert_eq!(first, "created 66541ebd5b84bf539b4f6fddf8690923\n");
    let again = mgctl
        .run_with(
            &["learn", "-", "-d", "infrastructure"],
            "OOMKilled: raise the limit\n",
        )
        .await
        .ok();
    assert_eq!(
        again,
        "reinforced 66541ebd5b84bf539b4f6fddf8690923, now seen 2 times\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("note.md");
    std::fs::write(&path, "OOMKilled: raise the limit").unwrap();
    let path = path.to_str().unwrap();
    let document = mgctl
        .json(&["learn", "--file", path, "-d", "infrastructure"])
        .await;
    assert_eq!(document["created"], false);
    assert_eq!(document["occurrences"], 3);
    assert_eq!(document["position"]["index"], 3);
    let ran = mgctl
        .run(&["learn", "--file", "/nonexistent/file", "-d", "d"])
        .await;
    let (code, message) = ran.failed();
    assert_eq!(code, 1);
    assert!(message.contains("read /nonexistent/file"), "{message}");
}

#[tokio::test]
async fn everything_said_about_a_lesson_is_shown_by_get() {
    let mgctl = Mgctl::start().await;
    let other = mgctl
        .json(&["learn", "the cause", "-d", "deployment"])
        .await;
    let link = format!("caused_by={}", other["key"].as_str().unwrap());
    let learned = mgctl
        .json(&[
            "learn",
            "the effect",
            "-d",
            "deployment",
            "--importance",
            "0.8",
            "--at",
            "2026-01-06T02:29:14Z",
            "--meta",
            "cluster=prod",
            "--session",
            "inc-1",
            "--agent",
            "ada",
            "--for-team",
            "sre",
            "--expires",
            "30d",
            "--pin",
            "--link",
            &link,
        ])
        .await;
    let key = learned["key"].as_str().unwrap();
    mgctl
        .ok(&["feedback", key, "1", "--team", "sre", "--reason", "it did"])
        .await;
    let memory = mgctl.json(&["get", key, "--team", "sre"]).await;
    assert_eq!(memory["content"], "the effect");
    assert_eq!(memory["occurred_at"], "2026-01-06T02:29:14Z");
    assert_eq!(memory["scope"]["team"], "sre");
    assert_eq!(memory["links"][0]["relation"], "caused_by");
    assert_eq!(memory["feedback"]["count"], 1);
    assert_eq!(memory["version"], 2);
    let text = mgctl.ok(&["get", key, "--everything"]).await;
    for expected in [
        "scope       team:sre\n",
        "happened    2026-01-06T02:29:14Z (",
        "importance  0.80\n",
        "usefulness  0.60 by 1 rating (+1.00 −0.00)\n",
        "agent       ada\n",
        "session     inc-1\n",
        "metadata    cluster=prod\n",
        "expires     pinned, else ",
        "\n\nthe effect\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn recall_takes_each_score_apart_in_columns() {
    let mgctl = Mgctl::start().await;
    for text in [
        "disk full on db-1: the archive was not rotated",
        "disk slow on db-2: the controller's battery was dead",
        "certificate expired on the ingress",
    ] {
        mgctl
            .ok(&["learn", text, "-d", "infrastructure", "--agent", "ada"])
            .await;
    }
    let text = mgctl.ok(&["recall", "disk", "full"]).await;
    assert!(text.starts_with(" 1. +"), "{text}");
    assert!(
        text.contains("infrastructure · just now · by ada"),
        "{text}"
    );
    assert!(text.contains("    disk full on db-1: the archive was not rotated\n"));
    let rows: Vec<&str> = text.lines().filter(|l| l.contains("lexical ")).collect();
    assert_eq!(rows.len(), 3);
    let columns = |row: &str| -> Vec<usize> { row.match_indices('.').map(|(at, _)| at).collect() };
    assert!(
        rows.iter().all(|row| columns(row) == columns(rows[0])),
        "{text}"
    );
    assert!(
        !text.contains("link "),
        "a part that is 0 everywhere is not shown"
    );

    let document = mgctl.json(&["recall", "disk full", "--limit", "1"]).await;
    let result = &document["results"][0];
    assert_eq!(result["memory"]["agent"], "ada");
    let parts = result["parts"].as_object().unwrap();
    let sum: f64 = parts
        .iter()
        .filter(|(name, _)| !name.starts_with("raw_"))
        .map(|(_, part)| part.as_f64().unwrap())
        .sum();
    assert!((sum - result["score"].as_f64().unwrap()).abs() < 1e-3);
    assert_eq!(document["results"].as_array().unwrap().len(), 1);
    let position = &document["position"];
    let position = format!(
        "{}/{}/{}",
        position["cluster_id"].as_str().unwrap(),
        position["group"],
        position["index"]
    );
    let args = ["recall", "-", "--at-least", &position];
    let at = mgctl.run_with(&args, "disk full\n").await.ok();
    assert_eq!(at, text);
    let ran = mgctl.run(&args).await;
    assert_eq!(ran.failed().0, 2, "an empty question");
}

#[tokio::test]
async fn recall_reads_filters_weights_and_stages() {
    let mgctl = Mgctl::start().await;
    let cause = mgctl
        .json(&["learn", "expired certificate", "-d", "deployment"])
        .await;
    let link = format!("caused_by={}", cause["key"].as_str().unwrap());
    let long = "login page is down\n".repeat(10);
    mgctl
        .ok(&[
            "learn",
            &long,
            "-d",
            "incident_response",
            "--link",
            &link,
            "--meta",
            "sev=1",
        ])
        .await;
    let filtered = mgctl
        .ok(&[
            "recall",
            "login",
            "-d",
            "incident_response",
            "--meta",
            "sev=1",
            "--since",
            "1h",
            "--min-importance",
            "0.5",
        ])
        .await;
    assert!(filtered.contains("… 6 more lines (--full)"), "{filtered}");
    let full = mgctl
        .ok(&["recall", "login", "-d", "incident_response", "--full"])
        .await;
    assert_eq!(full.matches("login page is down").count(), 10);
    let none = mgctl.ok(&["recall", "login", "--until", "1h"]).await;
    assert_eq!(none, "nothing found\n");
    let hop = mgctl
        .ok(&[
            "recall",
            "login page",
            "--without",
            "dense,fold",
            "--links",
            "--weight",
            "lexical=1",
        ])
        .await;
    assert!(hop.contains("caused_by of "), "{hop}");
    assert!(hop.contains("link "), "{hop}");
    let stdin = mgctl.run_with(&["recall", "-"], "login page\n").await.ok();
    assert!(stdin.contains("login page is down"));
    let twice = mgctl
        .ok(&["learn", "Login page is DOWN!", "-d", "deployment"])
        .await;
    assert!(twice.starts_with("created"));
    mgctl
        .ok(&["learn", "login page is down", "-d", "deployment"])
        .await;
    let folded = mgctl
        .ok(&["recall", "login page is down", "-d", "deployment"])
        .await;
    assert!(folded.contains("and 1 like it"), "{folded}");
}

#[tokio::test]
async fn list_is_a_table_or_a_line_each() {
    let mgctl = Mgctl::start().await;
    assert_eq!(mgctl.ok(&["list"]).await, "no memories\n");
    for i in 0..7 {
        let text = format!(
            "lesson {i}\nwith a second line that is not shown in full {}",
            "x".repeat(99)
        );
        mgctl.ok(&["learn", &text, "-d", "deployment"]).await;
    }
    let table = mgctl.ok(&["list"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 8, "{table}");
    assert!(lines[0].trim_start().starts_with("KEY"), "{table}");
    let key = lines[1].split_whitespace().next().unwrap();
    assert_eq!(key.len(), 12, "{table}");
    let wide = mgctl.ok(&["list", "--wide"]).await;
    let row = wide.lines().nth(1).unwrap();
    assert_eq!(row.split_whitespace().next().unwrap().len(), 32);
    assert!(wide.contains("shared"));

    let ran = mgctl.run(&["list", "--limit", "3", "-o", "json"]).await;
    let (_, token) = ran.err.trim().split_once("--page-token ").unwrap();
    let token = token.to_owned();
    let first = ran.ok();
    let rest = mgctl
        .ok(&["list", "--all", "--page-token", &token, "-o", "json"])
        .await;
    let keys: Vec<String> = first
        .lines()
        .chain(rest.lines())
        .map(|line| {
            let memory: Value = serde_json::from_str(line).unwrap();
            memory["key"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 7);
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn changes_tell_what_they_did() {
    let mgctl = Mgctl::start().await;
    let learned = mgctl.json(&["learn", "a", "-d", "deployment"]).await;
    let a = learned["key"].as_str().unwrap();
    let learned = mgctl.json(&["learn", "b", "-d", "deployment"]).await;
    let b = learned["key"].as_str().unwrap();

    let updated = mgctl
        .ok(&[
            "update",
            a,
            "--importance",
            "0.9",
            "--pin",
            "--expires",
            "30d",
            "--set",
            "k=v",
            "--unset",
            "old",
            "--if-version",
            "1",
        ])
        .await;
    assert_eq!(updated, format!("updated {a}, now version 2\n"));
    let (code, message) = mgctl
        .run(&["update", a, "--unpin", "--if-version", "1"])
        .await
        .failed();
    assert_eq!(code, 1);
    assert!(message.contains("has version 2, expected 1"), "{message}");
    let document = mgctl.json(&["update", a, "--unpin", "--no-expiry"]).await;
    assert_eq!(
        (&document["version"], &document["changed"]),
        (&3.into(), &true.into())
    );
    let memory = mgctl.json(&["get", a]).await;
    assert_eq!(memory["metadata"]["k"], "v");
    assert_eq!(memory["pinned"], false);
    assert_eq!(memory["expires_at"], Value::Null);

    let rated = mgctl.ok(&["feedback", a, "-0.5", "--agent", "ada"]).await;
    assert_eq!(rated, format!("rated {a}, now version 4\n"));
    let linked = mgctl.ok(&["link", a, "resolved_by", b]).await;
    assert_eq!(linked, format!("linked {a}, now version 5\n"));
    let again = mgctl.ok(&["link", a, "resolved_by", b]).await;
    assert_eq!(again, format!("unchanged {a}: there was nothing to do\n"));
    let text = mgctl.ok(&["get", a]).await;
    assert!(
        text.contains(&format!("link        resolved_by {b}\n")),
        "{text}"
    );
    let unlinked = mgctl.ok(&["link", a, "resolved_by", b, "--remove"]).await;
    assert_eq!(unlinked, format!("unlinked {a}, now version 6\n"));
    let forgot = mgctl.ok(&["forget", a]).await;
    assert_eq!(forgot, format!("forgot {a}\n"));
    let (code, _) = mgctl.run(&["forget", a]).await.failed();
    assert_eq!(code, 3);
}

#[tokio::test]
async fn stats_tell_what_is_stored_and_where_the_node_stands() {
    let mgctl = Mgctl::start().await;
    let empty = mgctl.ok(&["stats"]).await;
    assert!(empty.contains("log time   not started"), "{empty}");
    assert!(empty.ends_with("no memories\n"), "{empty}");
    mgctl.ok(&["learn", "a", "-d", "deployment"]).await;
    mgctl.ok(&["learn", "b", "-d", "code_review"]).await;
    mgctl
        .ok(&["learn", "c", "-d", "code_review", "-n", "team-a"])
        .await;
    let text = mgctl.ok(&["stats"]).await;
    assert!(text.contains("default: 2 memories\n"), "{text}");
    assert!(text.contains("team-a: 1 memory\n"), "{text}");
    assert!(text.contains("index      up to date\n"), "{text}");
    assert!(text.contains("         1  code_review\n"), "{text}");
    let one = mgctl.json(&["stats", "--namespace", "team-a"]).await;
    assert_eq!(one["namespaces"].as_array().unwrap().len(), 1);
    assert_eq!(one["namespaces"][0]["by_domain"]["code_review"], 1);
    assert_eq!(one["position"]["index"], 3);
    assert_eq!(one["state_hash"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_memory_is_shared_under_a_new_key_that_the_old_one_leads_to() {
    let mgctl = Mgctl::start().await;
    let lesson = [
        "learn",
        "disk full",
        "-d",
        "infrastructure",
        "--agent",
        "ada",
        "--private",
    ];
    let learned = mgctl.json(&lesson).await;
    let own = learned["key"].as_str().unwrap();
    let ran = mgctl.run(&["share", own, "--agent", "ada"]).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2);
    assert!(message.contains("name one team"), "{message}");
    let ran = mgctl
        .run(&["share", own, "--agent", "bob", "--everyone"])
        .await;
    assert_eq!(ran.failed().0, 3);
    let ran = mgctl
        .run(&[
            "share",
            own,
            "--agent",
            "ada",
            "--everyone",
            "--if-version",
            "9",
        ])
        .await;
    assert_eq!(ran.failed().0, 1);
    let shared = mgctl
        .ok(&["share", own, "--agent", "ada", "--team", "sre"])
        .await;
    let key = shared
        .strip_prefix("shared as ")
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    assert_ne!(key, own);
    let memory = mgctl.json(&["get", key, "--team", "sre"]).await;
    assert_eq!(memory["scope"]["team"], "sre");
    assert_eq!(memory["shared_by"][0]["agent"], "ada");
    let text = mgctl.ok(&["get", key, "--team", "sre"]).await;
    assert!(text.contains("shared      by ada, "), "{text}");
    // Who is not of the team is not told where it went.
    let old = mgctl.json(&["get", own, "--agent", "ada"]).await;
    assert_eq!(old["archived"]["reason"], "withheld");
    let as_member = [own, "--agent", "ada", "--team", "sre"];
    let old = mgctl.json(&[&["get"][..], &as_member].concat()).await;
    assert_eq!(old["archived"]["reason"], "shared");
    let history = mgctl.ok(&[&["history"][..], &as_member].concat()).await;
    assert!(history.contains("shared as "), "{history}");
    let ran = mgctl.run(&["restore", own, "--agent", "ada"]).await;
    let (_, message) = ran.failed();
    assert!(message.contains("cannot be taken back"), "{message}");
    let narrower = ["share", key, "--team", "sre,web", "--everyone"];
    let document = mgctl.json(&narrower).await;
    assert_eq!(
        (&document["changed"], &document["version"]),
        (&true.into(), &1.into())
    );
}

#[tokio::test]
async fn a_recall_and_an_assistant_take_several_namespaces_and_nothing_else_does() {
    let mgctl = Mgctl::start().await;
    for namespace in ["ops", "checkout"] {
        let lesson = format!("disk full in {namespace}");
        let learn = [
            "learn",
            &lesson,
            "-d",
            "infrastructure",
            "--namespace",
            namespace,
        ];
        mgctl.ok(&learn).await;
    }
    let both = [
        "recall",
        "disk full",
        "--namespace",
        "ops",
        "--namespace",
        "checkout",
    ];
    let found = mgctl.json(&both).await;
    let mut namespaces: Vec<&str> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["memory"]["namespace"].as_str().unwrap())
        .collect();
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["checkout", "ops"]);
    let text = mgctl.ok(&both).await;
    assert!(
        text.contains("    in ops\n") && text.contains("    in checkout\n"),
        "{text}"
    );
    let ran = mgctl.run(&["list", "--namespace", "ops,checkout"]).await;
    let (code, message) = ran.failed();
    assert_eq!(code, 2);
    assert!(message.contains("one namespace"), "{message}");
    mgctl.ok(&["mcp", "--namespace", "ops,checkout"]).await;
    let many: Vec<String> = (0..17).map(|number| format!("n{number}")).collect();
    let ran = mgctl.run(&["mcp", "--namespace", &many.join(",")]).await;
    let (code, message) = ran.failed();
    assert!(
        code == 2 && message.contains("17 namespaces, expected at most 16"),
        "{message}"
    );
    let twice = ["recall", "disk full", "--namespace", "ops,ops"];
    let ran = mgctl.run(&twice).await;
    let (code, message) = ran.failed();
    assert!(code == 2 && message.contains("named twice"), "{message}");
}

#[tokio::test]
async fn trust_is_shown_set_and_taken_back() {
    let mgctl = Mgctl::start().await;
    let list = ["trust", "list"];
    assert_eq!(mgctl.ok(&list).await, "nothing is known of any agent\n");
    let lesson = [
        "learn",
        "disk full",
        "-d",
        "infrastructure",
        "--agent",
        "ada",
    ];
    let learned = mgctl.json(&lesson).await;
    let key = learned["key"].as_str().unwrap();
    mgctl.ok(&["feedback", key, "1", "--agent", "ada"]).await;
    mgctl.ok(&["feedback", key, "1", "--agent", "bob"]).await;
    let text = mgctl.ok(&list).await;
    assert_eq!(text, "0.56  ada  (1 rating, +1.00 −0.00)\n");
    let text = mgctl.ok(&["trust", "set", "ada", "0"]).await;
    assert_eq!(text, "trust in ada is 0.00\n");
    let text = mgctl.ok(&list).await;
    assert_eq!(
        text,
        "0.00  ada  (1 rating, +1.00 −0.00, set by an operator)\n"
    );
    mgctl.ok(&["trust", "clear", "ada"]).await;
    let document = mgctl.json(&list).await;
    assert_eq!(document["ratings"], 1);
    let wrong = mgctl.run(&["trust", "set", "ada", "2"]).await;
    assert_eq!(wrong.failed().0, 2);
}

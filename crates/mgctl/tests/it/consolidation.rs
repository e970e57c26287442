//! What an operator sees of consolidation and does about it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use memorygate_client::{Experience, InMemoryStore, TimeMs, consolidation::Reach, time};
use memorygate_fake::{Fake, Fault};
use serde_json::Value;
use tonic::Status;

use super::run::Mgctl;

const DAY_MS: i64 = 24 * 3600 * 1000;

const POD: &str = "raise the memory limit of the pod to 512Mi";
const PODS: &str = "raise the memory limit of the pods to 512Mi";
const PRINTER: &str = "the printer on floor 3 was out of paper";
const RAISE: &str = "raise the timeout of the ingress proxy";
const NOT_RAISE: &str = "do not raise the timeout of the ingress proxy";

/// A server whose memories were learned long ago by a clock that begins 400 days back, and that
/// clock, which goes on by a millisecond at each look.
async fn start() -> (Mgctl, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(time::now().0 - 400 * DAY_MS));
    let read = Arc::clone(&clock);
    let tick = move || TimeMs(read.fetch_add(1, Ordering::Relaxed));
    let fake = Fake::over(InMemoryStore::with_clock(Arc::new(tick)));
    let address = fake.serve().await;
    (Mgctl { fake, address }, clock)
}

fn learn(mgctl: &Mgctl, text: &str) -> String {
    let lesson = Experience::new(text, "infrastructure").agent("ada");
    let learned = mgctl.fake.store.learn(lesson).unwrap();
    learned.learned[0].key.to_string()
}

/// One to merge, one to fade, one contradiction.
async fn with_work() -> (Mgctl, [String; 5]) {
    let (mgctl, clock) = start().await;
    let printer = learn(&mgctl, PRINTER);
    clock.fetch_add(400 * DAY_MS, Ordering::Relaxed);
    let keys = [POD, PODS, RAISE, NOT_RAISE].map(|text| learn(&mgctl, text));
    let [pod, pods, raise, not_raise] = keys;
    (mgctl, [pod, pods, printer, raise, not_raise])
}

#[tokio::test]
async fn a_plan_says_what_and_why_and_changes_nothing() {
    let (mgctl, [pod, pods, printer, raise, not_raise]) = with_work().await;
    let before = mgctl.fake.store.position();
    let ran = mgctl.run(&["consolidate", "plan"]).await;
    assert_eq!(
        ran.err,
        "nothing was changed; `mgctl consolidate run` does it\n"
    );
    let text = ran.ok();
    for expected in [
        format!("merge 1 into {pod} (cosine 0.9"),
        format!("\n    {pod} \"{POD}\"\n    {pods} \"{PODS}\"\n"),
        format!("fade (worth 0.01, unused for 400 days)\n    {printer} \"{PRINTER}\"\n"),
        "conflict (cosine 0.".to_owned(),
        format!("\n    {raise} \"{RAISE}\"\n"),
        format!("\n    {not_raise} \"{NOT_RAISE}\"\n"),
        "\n\n1 merge, 1 fade, 1 conflict, 0 relinks\n\
         5 memories compared, 5 memories looked at for fading\n"
            .to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let text = mgctl.ok(&["consolidate", "plan", "--limit", "1"]).await;
    assert!(
        text.contains("\n2 more steps not shown (--limit)\n"),
        "{text}"
    );

    let document = mgctl.json(&["consolidate", "plan"]).await;
    assert_eq!(
        (&document["merges"], &document["fades"]),
        (&1.into(), &1.into())
    );
    let mut steps = document["steps"].as_array().unwrap().iter();
    let merge = steps.find(|step| step["kind"] == "merge").unwrap();
    assert_eq!(merge["keep"]["key"], pod);
    assert_eq!(merge["absorb"][0]["content"], PODS);
    assert_eq!(mgctl.fake.store.position(), before);
}

#[tokio::test]
async fn a_pass_is_run_shown_and_undone() {
    let (mgctl, [pod, pods, printer, ..]) = with_work().await;
    let ran = mgctl.run(&["consolidate", "run"]).await;
    assert!(
        ran.err.contains("`mgctl consolidate history` shows"),
        "{}",
        ran.err
    );
    assert_eq!(ran.ok(), "took 3 steps in 1 epoch: 10 memories looked at\n");
    let again = mgctl.ok(&["consolidate", "run", "--everything"]).await;
    assert!(again.starts_with("nothing was changed: "), "{again}");
    let plan = mgctl.ok(&["consolidate", "plan"]).await;
    assert!(
        plan.starts_with("nothing to do: 0 memories compared"),
        "{plan}"
    );

    let table = mgctl.ok(&["consolidate", "history"]).await;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["ID", "WHEN", "MERGES", "FADES", "CONFLICTS", "RELINKS"]
    );
    assert_eq!(rows[1].last_chunk(), Some(&["1", "1", "1", "0"]), "{table}");
    let steps = mgctl.ok(&["consolidate", "history", "--steps"]).await;
    assert!(
        steps.contains(&format!("\n  merge     {pod} took in {pods}\n")),
        "{steps}"
    );
    assert!(
        steps.contains(&format!("\n  fade      {printer}\n")),
        "{steps}"
    );
    let document = mgctl
        .json(&["consolidate", "history", "--limit", "1"])
        .await;
    let id = document["epochs"][0]["id"].to_string();
    let none = mgctl.ok(&["consolidate", "history", "--before", &id]).await;
    assert_eq!(none, "nothing was consolidated in default\n");

    // What is archived is shown where it is asked for.
    let stats = mgctl.ok(&["stats"]).await;
    assert!(
        stats.contains("default: 3 memories, 2 archived\n"),
        "{stats}"
    );
    let archive = mgctl.ok(&["list", "--archived", "only"]).await;
    assert!(archive.contains(&format!("merged into {pod}")), "{archive}");
    assert!(archive.contains("faded"), "{archive}");
    assert!(!mgctl.ok(&["list"]).await.contains("printer"));
    let found = mgctl
        .ok(&["recall", "printer paper", "--archived", "include"])
        .await;
    assert!(found.contains("archived: faded"), "{found}");
    let kept = mgctl.ok(&["get", &pod]).await;
    assert!(kept.contains(&format!("merged      {pods}\n")), "{kept}");
    let source = mgctl.json(&["get", &pods]).await;
    assert_eq!(source["archived"]["reason"], "merged");
    assert_eq!(source["archived"]["replaced_by"], pod);
    let exported = mgctl.ok(&["export", "-", "--archived", "include"]).await;
    assert_eq!(exported.lines().count(), 5);
    let imported = mgctl
        .run_with(&["import", "-", "-n", "copy"], &exported)
        .await
        .ok();
    assert!(imported.contains('5'), "{imported}");

    let undone = mgctl.ok(&["consolidate", "undo", &id]).await;
    assert_eq!(undone, format!("undid {id}: 3 steps taken back\n"));
    let (code, message) = mgctl.run(&["consolidate", "undo", &id]).await.failed();
    assert_eq!(code, 3);
    assert!(
        message.contains("`mgctl consolidate history` shows what there is"),
        "{message}"
    );
}

#[tokio::test]
async fn an_undo_that_is_refused_names_what_changed() {
    let (mgctl, [pod, ..]) = with_work().await;
    let id = mgctl.json(&["consolidate", "run"]).await["position"]["index"].to_string();
    mgctl.ok(&["feedback", &pod, "1"]).await;
    let (code, message) = mgctl.run(&["consolidate", "undo", &id]).await.failed();
    assert_eq!(code, 1);
    let (first, rest) = message.split_once('\n').unwrap();
    assert_eq!(
        first,
        format!("changed since: {pod}, version 3, changed just now: \"raise the memory limit…\"")
    );
    assert!(
        rest.starts_with("error: undo failed: consolidation "),
        "{rest}"
    );
    assert!(
        rest.contains("next: what came later is left as it is"),
        "{rest}"
    );
    let ran = mgctl.run(&["consolidate", "undo", &id, "-o", "json"]).await;
    let document: Value = serde_json::from_str(&ran.failed().1).unwrap();
    assert_eq!(document["error"]["changed"], serde_json::json!([pod]));
    assert_eq!(document["error"]["kind"], "conflict");
}

#[tokio::test]
async fn what_faded_is_restored_and_what_was_merged_is_not() {
    let (mgctl, [_, pods, printer, ..]) = with_work().await;
    mgctl.ok(&["consolidate", "run"]).await;
    let restored = mgctl.ok(&["restore", &printer]).await;
    assert_eq!(restored, format!("restored {printer}, now version 3\n"));
    let again = mgctl.json(&["restore", &printer]).await;
    assert_eq!(again["changed"], false);
    let (code, message) = mgctl.run(&["restore", &pods]).await.failed();
    assert_eq!(code, 2);
    assert!(
        message.contains("undo the consolidation that did it"),
        "{message}"
    );
    let nobody = "0".repeat(32);
    assert_eq!(mgctl.run(&["restore", &nobody]).await.failed().0, 3);
}

#[tokio::test]
async fn a_conflict_is_shown_and_decided() {
    let (mgctl, [.., raise, not_raise]) = with_work().await;
    assert_eq!(mgctl.ok(&["conflicts", "list"]).await, "no conflicts\n");
    mgctl.ok(&["consolidate", "run"]).await;
    let text = mgctl.ok(&["conflicts", "list"]).await;
    assert!(
        text.starts_with(" 1. infrastructure · found just now\n"),
        "{text}"
    );
    let expected = format!("    {raise} · learned just now · by ada\n      {RAISE}\n");
    assert!(text.contains(&expected), "{text}");
    let document = mgctl.json(&["conflicts", "list"]).await;
    assert!(
        document["a"]["content"]
            .as_str()
            .unwrap()
            .contains("timeout")
    );
    assert_eq!(document["resolved_at"], Value::Null);

    let resolve = ["conflicts", "resolve", &not_raise, &raise];
    let decided = mgctl.ok(&resolve).await;
    assert_eq!(
        decided,
        format!("{not_raise} holds; {raise} is superseded and archived\n")
    );
    assert_eq!(mgctl.ok(&["conflicts", "list"]).await, "no conflicts\n");
    let text = mgctl.ok(&["conflicts", "list", "--resolved"]).await;
    assert!(text.contains(" · decided just now\n"), "{text}");
    assert!(text.contains(" · archived\n"), "{text}");
    let wrong = [
        "conflicts",
        "resolve",
        &not_raise,
        &not_raise,
        "--both-hold",
    ];
    let (code, message) = mgctl.run(&wrong).await.failed();
    assert_eq!(code, 3);
    assert!(
        message.contains("`mgctl conflicts list` shows what there is"),
        "{message}"
    );
}

#[tokio::test]
async fn a_memory_tells_how_it_came_to_be() {
    let (mgctl, [pod, pods, printer, raise, not_raise]) = with_work().await;
    mgctl.ok(&["consolidate", "run"]).await;
    let why = ["--agent", "bob", "--reason", "held for a week"];
    let rate = [&["feedback", &pod, "1"][..], &why].concat();
    mgctl.ok(&rate).await;
    let text = mgctl.ok(&["history", &pod]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{pod} \"{POD}\""));
    assert_eq!(
        lines[1],
        "version 3 · met 2 times · used 0 times · usefulness 0.60 by 1 rating (+1.00 −0.00)"
    );
    let events: Vec<&str> = lines[3..]
        .iter()
        .map(|line| {
            line.split_once("just now        ")
                .map_or(*line, |(_, what)| what)
        })
        .collect();
    assert_eq!(
        events,
        [
            "learned by ada",
            &format!("learned in other words, {pods} by ada"),
            &format!("    \"{PODS}\""),
            &format!("took in {pods} (epoch 6)"),
            "rated +1.00 by bob: held for a week",
        ]
    );

    let change = ["update", &pod, "--importance", "0.75", "--agent", "cy"];
    mgctl.ok(&change).await;
    let document = mgctl.json(&["history", &pod]).await;
    assert_eq!(document["is_complete"], true);
    let newest = document["events"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&newest["what"], &newest["agent"]),
        (&"changed".into(), &"cy".into())
    );
    assert_eq!(newest["changes"][0]["field"], "importance");
    assert_eq!(newest["changes"][0]["before"], "0.5");
    assert_eq!(newest["changes"][0]["after"], "0.75");
    assert_eq!(newest["version"], 4);
    let text = mgctl.ok(&["history", &pod]).await;
    assert!(
        text.ends_with("changed by cy: importance 0.5 → 0.75\n"),
        "{text}"
    );

    let source = mgctl.json(&["history", &pods]).await;
    let last = source["events"].as_array().unwrap().iter().rev();
    let merged = last.clone().find(|event| event["what"] == "merged_into");
    assert_eq!(merged.unwrap()["other"], pod);
    assert_eq!(merged.unwrap()["epoch"], 6);
    assert_eq!(source["is_complete"], true);

    let faded = mgctl.ok(&["history", &printer]).await;
    assert_eq!(faded.matches("faded into the archive (epoch 6)").count(), 1);

    mgctl
        .ok(&["conflicts", "resolve", &not_raise, &raise])
        .await;
    let text = mgctl.ok(&["history", &raise]).await;
    for expected in [
        format!("found to contradict {not_raise}\n    \"{NOT_RAISE}\"\n"),
        format!("it was decided between it and {not_raise}\n"),
        format!("superseded by {not_raise}\n"),
    ] {
        assert!(text.contains(&expected), "{expected:?} is not in\n{text}");
    }
    let nobody = "0".repeat(32);
    assert_eq!(mgctl.run(&["history", &nobody]).await.failed().0, 3);
}

#[tokio::test]
async fn a_recall_tells_of_the_past() {
    let (mgctl, [pod, pods, ..]) = with_work().await;
    let before = mgctl.fake.store.position().index.to_string();
    mgctl.ok(&["consolidate", "run"]).await;
    let count = |text: &str| text.matches("memory limit").count();
    let question = ["recall", "memory limit of the pod", "--without", "fold"];
    let now = mgctl.ok(&question).await;
    assert_eq!(count(&now), 1, "{now}");
    // Before the pass both were there.
    let then = [&question[..], &["--as-of", &before]].concat();
    let text = mgctl.ok(&then).await;
    assert_eq!(count(&text), 2, "{text}");
    let far = [&question[..], &["--as-of", "2001-01-01"]].concat();
    assert_eq!(mgctl.ok(&far).await, "nothing found\n");
    let got = mgctl.json(&["get", &pods, "--as-of", &before]).await;
    assert_eq!(
        (&got["version"], &got["archived"]),
        (&1.into(), &Value::Null)
    );
    let list = ["list", "--as-of", &before, "--all", "-o", "json"];
    assert_eq!(mgctl.ok(&list).await.lines().count(), 5);

    let ahead = [&question[..], &["--as-of", "1000000"]].concat();
    let (code, message) = mgctl.run(&ahead).await.failed();
    assert_eq!(code, 2, "{message}");
    assert!(
        message.contains("position 1000000 is not reached"),
        "{message}"
    );
    for bad in ["", "yesterday", "-1"] {
        let as_of = format!("--as-of={bad}");
        let (code, message) = mgctl.run(&["get", &pod, &as_of]).await.failed();
        assert_eq!(code, 2);
        assert!(message.contains("--as-of"), "{message}");
    }
}

#[tokio::test]
async fn both_may_hold() {
    let (mgctl, [.., raise, not_raise]) = with_work().await;
    mgctl.ok(&["consolidate", "run"]).await;
    let both = ["conflicts", "resolve", &raise, &not_raise, "--both-hold"];
    let decided = mgctl.ok(&both).await;
    assert_eq!(decided, format!("both hold: {raise} and {not_raise}\n"));
    assert_eq!(mgctl.ok(&["conflicts", "list"]).await, "no conflicts\n");
    let again = mgctl.ok(&["consolidate", "run", "--everything"]).await;
    assert!(again.starts_with("nothing was changed"), "{again}");
}

#[tokio::test]
async fn a_policy_is_shown_changed_and_paused() {
    let (mgctl, _) = with_work().await;
    assert_eq!(
        mgctl.ok(&["consolidate", "policy"]).await,
        "\
namespace  default
paused     no
merge from 0.85 cosine (default)
fade below 0.05 worth (default)
keep       90 days (default)
"
    );
    let set = [
        "consolidate",
        "policy",
        "set",
        "--merge-from",
        "0.9",
        "--keep-days",
        "365",
    ];
    let text = mgctl.ok(&set).await;
    assert!(text.contains("merge from 0.9 cosine\n"), "{text}");
    assert!(text.contains("keep       365 days\n"), "{text}");
    assert!(text.contains("fade below 0.05 worth (default)\n"), "{text}");
    let paused = mgctl.ok(&["consolidate", "pause"]).await;
    assert!(paused.starts_with("paused: default "), "{paused}");
    let (code, message) = mgctl.run(&["consolidate", "run"]).await.failed();
    assert_eq!(code, 2);
    assert!(
        message.ends_with("failed: consolidation of namespace default is paused\n"),
        "{message}"
    );
    let back = ["consolidate", "policy", "set", "--merge-from", "default"];
    let document = mgctl.json(&back).await;
    assert_eq!(document["policy"]["merge_from"], Value::Null);
    assert_eq!(
        document["policy"]["paused"], true,
        "what is not named stays"
    );
    assert_eq!(document["effective"]["keep_days"], 365);
    let table = mgctl.ok(&["consolidate", "status"]).await;
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["default", "5", "0", "paused"], "{table}");
    assert_eq!(row.last(), Some(&"never"), "{table}");
    let resumed = mgctl.json(&["consolidate", "resume"]).await;
    assert_eq!(resumed["policy"]["paused"], false);
    let (code, message) = mgctl
        .run(&["consolidate", "policy", "set", "--fade-below", "7"])
        .await
        .failed();
    assert_eq!(code, 2);
    assert!(
        message.contains("fade_below is 7, expected 0 to 1"),
        "{message}"
    );
    let elsewhere = mgctl
        .json(&["consolidate", "status", "-n", "elsewhere"])
        .await;
    assert_eq!(elsewhere["namespaces"][0]["memories"], 0);
}

#[tokio::test]
async fn a_pass_that_breaks_off_says_so_and_is_not_repeated() {
    let (mgctl, _) = with_work().await;
    mgctl.fake.calls();
    mgctl
        .fake
        .fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    let (code, message) = mgctl.run(&["consolidate", "run"]).await.failed();
    assert_eq!(code, 4);
    assert!(
        message.starts_with("error: consolidate: consolidation has an unknown"),
        "{message}"
    );
    assert!(
        message.contains("look with `mgctl consolidate history`"),
        "{message}"
    );
    mgctl.fake.fail([Fault::Empty]);
    let (code, message) = mgctl.run(&["consolidate", "run"]).await.failed();
    assert_eq!(code, 4);
    assert!(
        message.contains("the answer ended before the pass did"),
        "{message}"
    );
    let calls: Vec<&str> = mgctl.fake.calls().iter().map(|call| call.name).collect();
    assert_eq!(calls, ["run", "run"]);
    assert_eq!(
        mgctl
            .fake
            .store
            .plan(None, Reach::Everything, 1)
            .unwrap()
            .steps,
        []
    );
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_repeated_under_its_id() {
    let (mgctl, _) = with_work().await;
    let id = mgctl.json(&["consolidate", "run"]).await["position"]["index"].to_string();
    mgctl
        .fake
        .fail([Fault::Afterwards(Status::internal("cut off"))]);
    let undo = ["consolidate", "undo", &id];
    let (code, message) = mgctl.run(&undo).await.failed();
    assert_eq!(code, 4);
    let (_, rest) = message.split_once("--request-id ").unwrap();
    let request = rest.split(',').next().unwrap();
    let undone = mgctl
        .ok(&[&undo[..], &["--request-id", request]].concat())
        .await;
    assert_eq!(undone, format!("undid {id}: 3 steps taken back\n"));
}

//! Exports: whole files, or none; and what is exported can be imported.

use std::{collections::BTreeMap, fs};

use memorygate_client::{Experience, Learn, Scope};
use serde_json::Value;
use tonic::{Code, Status};

use super::run::Mgctl;
use memorygate_fake::{Fault, detailed};

fn fill(mgctl: &Mgctl, count: usize) {
    let lesson = |i: usize| {
        let scope = match i % 3 {
            0 => Scope::Shared,
            1 => Scope::Team("sre".into()),
            _ => Scope::Agent("ada".into()),
        };
        Experience::new(format!("lesson \"{i}\"\nwith a tab\t"), "deployment").scope(scope)
    };
    for start in (0..count).step_by(100) {
        let batch = Learn::new((start..count.min(start + 100)).map(lesson));
        mgctl.fake.store.learn(batch).unwrap();
    }
}

/// Contents by key.
fn read(text: &str) -> BTreeMap<String, String> {
    let field = |memory: &Value, name: &str| memory[name].as_str().unwrap().to_owned();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|memory| (field(&memory, "key"), field(&memory, "content")))
        .collect()
}

#[tokio::test]
async fn an_import_of_an_export_gives_the_same_keys() {
    let mgctl = Mgctl::start().await;
    fill(&mgctl, 90);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup.jsonl");
    let name = path.to_str().unwrap();
    let document = mgctl.json(&["export", name]).await;
    assert_eq!(document["memories"], 90);
    let exported = fs::read_to_string(&path).unwrap();
    assert_eq!(document["bytes"], exported.len());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(read(&exported).len(), 90);

    let other = Mgctl::start().await;
    other.ok(&["import", name]).await;
    let copy = other.ok(&["export", "-"]).await;
    assert_eq!(read(&copy), read(&exported));
}

#[tokio::test]
async fn an_export_holds_what_its_reader_may_see() {
    let mgctl = Mgctl::start().await;
    fill(&mgctl, 30);
    let count = async |args: &[&str]| {
        let mut all = vec!["export", "-"];
        all.extend(args);
        mgctl.ok(&all).await.lines().count()
    };
    assert_eq!(count(&[]).await, 30);
    assert_eq!(count(&["--agent", "bob"]).await, 10);
    assert_eq!(count(&["--agent", "ada"]).await, 20);
    assert_eq!(count(&["--team", "sre", "--agent", "ada"]).await, 30);
    assert_eq!(count(&["-d", "code_review"]).await, 0);
    assert_eq!(count(&["--namespace", "other"]).await, 0);
}

#[tokio::test]
async fn an_export_that_broke_off_goes_on() {
    let mgctl = Mgctl::start().await;
    fill(&mgctl, 1200);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup.jsonl");
    let name = path.to_str().unwrap();
    let refuse = || Fault::Status(Status::permission_denied("not now"));
    mgctl.fake.fail([Fault::Pass, refuse()]);
    let (code, message) = mgctl.run(&["export", name]).await.failed();
    assert_eq!(code, 2);
    assert!(message.contains("after 500 memories"), "{message}");
    assert!(!path.exists(), "a file is whole or not there");
    let document = mgctl.json(&["export", name]).await;
    assert_eq!(document["resumed_after"], 500);
    assert_eq!(document["memories"], 1200);
    assert_eq!(read(&fs::read_to_string(&path).unwrap()).len(), 1200);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    // Another question does not go on with the first one's answer.
    mgctl.fake.fail([Fault::Pass, refuse()]);
    mgctl.run(&["export", name]).await.failed();
    let document = mgctl.json(&["export", name, "--agent", "bob"]).await;
    assert_eq!(
        (&document["resumed_after"], &document["memories"]),
        (&0.into(), &400.into())
    );

    // A place that the server does not know any more means to begin anew.
    mgctl.fake.fail([Fault::Pass, refuse()]);
    mgctl.run(&["export", name]).await.failed();
    let stale = detailed(Code::InvalidArgument, "INVALID", None, None);
    mgctl.fake.fail([Fault::Status(stale)]);
    let ran = mgctl.run(&["export", name]).await;
    assert!(ran.err.contains("beginning anew"), "{}", ran.err);
    assert!(ran.ok().starts_with("1200 memories, "));

    mgctl.fake.fail([Fault::Pass, refuse()]);
    mgctl.run(&["export", name]).await.failed();
    let document = mgctl.json(&["export", name, "--restart"]).await;
    assert_eq!(document["resumed_after"], 0);
    assert_eq!(read(&fs::read_to_string(&path).unwrap()).len(), 1200);
}

#[tokio::test]
async fn an_export_to_a_pipe_tells_where_to_go_on() {
    let mgctl = Mgctl::start().await;
    fill(&mgctl, 700);
    mgctl
        .fake
        .fail([Fault::Pass, Fault::Status(Status::permission_denied("no"))]);
    let ran = mgctl.run(&["export", "-"]).await;
    let first = ran.out.clone();
    let (_, message) = ran.failed();
    let (_, rest) = message.split_once("--page-token ").unwrap();
    let token = rest.split(')').next().unwrap();
    let second = mgctl.ok(&["export", "-", "--page-token", token]).await;
    let mut all = read(&first);
    all.extend(read(&second));
    assert_eq!(all.len(), 700);
}

//! Imports: once, however often they are started and however they end.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use memorygate_client::{Get, List, Memory, Reader};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Status};

use super::run::Mgctl;
use memorygate_fake::{Fault, detailed};

struct File {
    _directory: TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lessons.jsonl");
        fs::write(&path, text).unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn progress(&self) -> PathBuf {
        self.path.with_extension("jsonl.mgctl-progress")
    }
}

/// That many good lines.
fn lines(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        writeln!(
            text,
            r#"{{"id":"x-{i}","content":"lesson number {i}","domain":"deployment","importance":0.7}}"#
        )
        .unwrap();
        text
    })
}

fn stored(mgctl: &Mgctl, namespace: &str) -> Vec<Memory> {
    let list = List::new()
        .namespace(namespace)
        .page_size(1000)
        .reader(Reader::operator());
    mgctl.fake.store.list_page(&list).unwrap().memories
}

/// Every lesson is there and was learned exactly once.
fn assert_each_once(mgctl: &Mgctl, count: usize) {
    let memories = stored(mgctl, "default");
    assert_eq!(memories.len(), count);
    let twice: Vec<_> = memories.iter().filter(|m| m.occurrences != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

fn learns(mgctl: &Mgctl) -> usize {
    let calls = mgctl.fake.calls();
    calls.iter().filter(|c| c.name == "learn").count()
}

#[tokio::test]
async fn a_file_is_learned_in_batches_and_once() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&lines(150));
    let text = mgctl.ok(&["import", file.name()]).await;
    assert_eq!(text, "150 lines: 150 created\n");
    assert_eq!(learns(&mgctl), 3);
    assert!(!file.progress().exists());
    assert_each_once(&mgctl, 150);

    let again = mgctl.json(&["import", file.name()]).await;
    assert_eq!(
        (&again["created"], &again["skipped_known"]),
        (&0.into(), &150.into())
    );
    assert_eq!(learns(&mgctl), 0);
    assert_each_once(&mgctl, 150);

    let more = format!(
        "{}{}",
        lines(150),
        r#"{"content":"new","domain":"deployment"}"#
    );
    let piped = mgctl.run_with(&["import", "-"], &more).await.ok();
    assert_eq!(piped, "151 lines: 1 created, 150 known already\n");

    let reinforced = mgctl.ok(&["import", file.name(), "--reinforce"]).await;
    assert_eq!(reinforced, "150 lines: 0 created, 150 reinforced\n");
}

#[tokio::test]
async fn a_lesson_that_stands_twice_in_a_file_is_learned_once() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&format!("{}\n\n{}", lines(70), lines(70)));
    let text = mgctl.ok(&["import", file.name()]).await;
    assert_eq!(text, "142 lines: 70 created, 70 known already\n");
    assert_each_once(&mgctl, 70);
}

#[tokio::test]
async fn bad_lines_stop_an_import_before_their_batch_is_sent() {
    let mgctl = Mgctl::start().await;
    let bad = r#"{"content":"x","domain":"deployment","importence":1}"#;
    let file = File::new(&format!("{}{bad}\nnot json\n{}", lines(70), lines(3)));
    let (code, message) = mgctl.run(&["import", file.name()]).await.failed();
    assert_eq!(code, 2);
    assert!(
        message.contains("line 71: unknown field `importence`"),
        "{message}"
    );
    assert!(message.contains("line 72: "), "{message}");
    assert!(message.contains("64 lines before are settled"), "{message}");
    assert_each_once(&mgctl, 64);

    let ran = mgctl
        .run(&["import", file.name(), "--skip-invalid", "--restart"])
        .await;
    assert!(ran.err.contains("line 71: "), "{}", ran.err);
    assert_eq!(
        ran.ok(),
        "75 lines: 6 created, 67 known already, 2 invalid and left out\n"
    );
    assert_each_once(&mgctl, 70);
}

#[tokio::test]
async fn many_bad_lines_are_summed_up() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&"nonsense\n".repeat(50));
    let (_, message) = mgctl.run(&["import", file.name()]).await.failed();
    assert!(message.contains("and 30 more"), "{message}");
    let text = mgctl.ok(&["import", file.name(), "--skip-invalid"]).await;
    assert_eq!(text, "50 lines: 0 created, 50 invalid and left out\n");
}

#[tokio::test]
async fn an_import_whose_answer_was_lost_goes_on_without_learning_twice() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&lines(200));
    // The second batch is stored, but nobody hears of it.
    let passes = (0..64).map(|_| Fault::Pass);
    let lost = Fault::Afterwards(Status::internal("cut off"));
    let reinforcing = ["import", file.name(), "--reinforce"];
    mgctl.fake.fail([Fault::Pass, lost]);
    let (code, message) = mgctl.run(&reinforcing).await.failed();
    assert_eq!(code, 4);
    assert!(message.contains("lines 65 to 128"), "{message}");
    assert!(
        message.contains("next: start the same import again"),
        "{message}"
    );
    assert!(file.progress().exists());
    let document = mgctl.json(&reinforcing).await;
    assert_eq!(document["resumed_after"], 64);
    assert_eq!(
        (&document["created"], &document["reinforced"]),
        (&200.into(), &0.into())
    );
    assert_each_once(&mgctl, 200);
    assert!(!file.progress().exists());

    // The same where what is known is looked up first.
    let mgctl = Mgctl::start().await;
    mgctl
        .fake
        .fail(passes.chain([Fault::Afterwards(Status::internal("cut off"))]));
    assert_eq!(mgctl.run(&["import", file.name()]).await.failed().0, 4);
    let text = mgctl.ok(&["import", file.name()]).await;
    assert_eq!(text, "200 lines: 200 created\n");
    assert_each_once(&mgctl, 200);
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_where_it_was() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&lines(200));
    let passes = (0..64 + 1 + 64).map(|_| Fault::Pass);
    mgctl.fake.fail(passes.chain([Fault::Hang]));
    let mut child = mgctl.spawn(&["import", file.name()]);
    let mut seen = 0;
    while seen < 2 {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        tokio::time::sleep(Duration::from_millis(5)).await;
        seen += learns(&mgctl);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_each_once(&mgctl, 64);
    let text = mgctl.ok(&["import", file.name()]).await;
    assert_eq!(text, "200 lines: 200 created (went on after line 64)\n");
    assert_each_once(&mgctl, 200);
}

#[tokio::test]
async fn an_id_that_is_too_old_is_settled_by_looking() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&lines(10));
    let expired = || {
        let status = detailed(
            Code::FailedPrecondition,
            "REQUEST_ID_EXPIRED",
            Some("failed"),
            None,
        );
        Fault::Status(status)
    };
    let lost = || Fault::Afterwards(Status::internal("cut off"));
    mgctl
        .fake
        .fail((0..10).map(|_| Fault::Pass).chain([lost(), expired()]));
    assert_eq!(mgctl.run(&["import", file.name()]).await.failed().0, 4);
    let text = mgctl.ok(&["import", file.name()]).await;
    assert_eq!(text, "10 lines: 0 created, 10 known already\n");
    assert_each_once(&mgctl, 10);

    let reinforcing = ["import", file.name(), "--reinforce"];
    mgctl.fake.fail([lost(), expired()]);
    assert_eq!(mgctl.run(&reinforcing).await.failed().0, 4);
    let (code, message) = mgctl.run(&reinforcing).await.failed();
    assert_eq!(code, 2);
    assert!(message.contains("may have been learned"), "{message}");
}

#[tokio::test]
async fn only_the_same_import_goes_on() {
    let mgctl = Mgctl::start().await;
    let file = File::new(&lines(100));
    let break_off = async || {
        mgctl
            .fake
            .fail([Fault::Pass, Fault::Afterwards(Status::internal("cut off"))]);
        let args = ["import", file.name(), "--reinforce", "--restart"];
        assert_eq!(mgctl.run(&args).await.failed().0, 4);
    };
    break_off().await;
    let (code, message) = mgctl.run(&["import", file.name()]).await.failed();
    assert_eq!(code, 2);
    assert!(message.contains("with other options"), "{message}");

    let elsewhere = Mgctl::start().await;
    let reinforcing = ["import", file.name(), "--reinforce"];
    let (code, message) = elsewhere.run(&reinforcing).await.failed();
    assert_eq!(code, 2);
    assert!(message.contains("an import into cluster"), "{message}");

    let text = fs::read_to_string(&file.path).unwrap();
    for changed in [
        text.replace("lesson number 3\"", "lesson number three\""),
        text.replace("lesson number 90", "lesson number ninety"),
        text.lines().take(70).collect::<Vec<_>>().join("\n"),
        String::new(),
    ] {
        fs::write(&file.path, changed).unwrap();
        let (code, message) = mgctl.run(&reinforcing).await.failed();
        assert_eq!(code, 2);
        assert!(message.contains("the file has changed"), "{message}");
    }
    fs::write(&file.path, text).unwrap();
    mgctl.ok(&reinforcing).await;

    fs::write(file.progress(), "{}").unwrap();
    let (code, message) = mgctl.run(&reinforcing).await.failed();
    assert_eq!(code, 1);
    assert!(message.contains("is not a progress file"), "{message}");
    mgctl.ok(&["import", file.name(), "--restart"]).await;
}

#[tokio::test]
async fn lines_go_to_the_namespace_they_name_unless_one_is_told() {
    let mgctl = Mgctl::start().await;
    let mut text = String::new();
    for i in 0..6 {
        let namespace = ["a", "b"][i / 2 % 2];
        writeln!(
            text,
            r#"{{"content":"lesson {i}","domain":"d","namespace":"{namespace}","scope":{{"agent":"ada"}}}}"#
        )
        .unwrap();
    }
    let file = File::new(&text);
    mgctl.ok(&["import", file.name()]).await;
    assert_eq!(
        (stored(&mgctl, "a").len(), stored(&mgctl, "b").len()),
        (4, 2)
    );
    mgctl.ok(&["import", file.name(), "-n", "c"]).await;
    assert_eq!(stored(&mgctl, "c").len(), 6);
    let again = mgctl.json(&["import", file.name()]).await;
    assert_eq!(
        again["skipped_known"], 6,
        "private memories are seen as well"
    );
    let bad = File::new(r#"{"content":"x","domain":"d","namespace":"Not allowed"}"#);
    let (code, message) = mgctl.run(&["import", bad.name()]).await.failed();
    assert_eq!(code, 2);
    assert!(message.contains("line 1: namespace"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_said_to_be() {
    let mgctl = Mgctl::start().await;
    let (code, message) = mgctl.run(&["import", "/nonexistent.jsonl"]).await.failed();
    assert_eq!(code, 1);
    assert!(message.contains("open /nonexistent.jsonl"), "{message}");
    let empty = File::new("");
    assert_eq!(
        mgctl.ok(&["import", empty.name()]).await,
        "0 lines: 0 created\n"
    );
}

#[tokio::test]
async fn everything_in_a_line_is_stored() {
    let mgctl = Mgctl::start().await;
    let line = r#"{"content":"x","domain":"deployment","occurred_at":"2026-01-06T02:29:14Z","importance":0.25,"metadata":{"a":"b"},"agent":"ada","session":"s","scope":{"team":"sre"},"pinned":true,"links":[{"relation":"relates_to","key":"00000000000000000000000000000001"}]}"#;
    mgctl.run_with(&["import", "-"], line).await.ok();
    let memory = stored(&mgctl, "default").remove(0);
    let get = Get::new(memory.key).reader(Reader::default().team("sre"));
    assert_eq!(mgctl.fake.store.get(get).unwrap().as_ref(), Some(&memory));
    let record = memorygate_client::record::MemoryRecord::from(&memory);
    let record = serde_json::to_value(record).unwrap();
    let said: Value = serde_json::from_str(line).unwrap();
    for (field, value) in said.as_object().unwrap() {
        assert_eq!(&record[field], value, "{field}");
    }
}

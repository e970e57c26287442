//! What is read of real outputs of kubectl, and what is made of it.

use std::{fs, path::PathBuf, sync::Arc};

use memorygate_client::InMemoryStore;
use proptest::prelude::*;

use super::*;
use crate::{CaseBased, Outcome};

fn example(name: &str) -> Vec<u8> {
    // Asked at run time: a kept build may come from a checkout elsewhere.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    fs::read(root.join("../../examples/agents/troubleshoot").join(name)).unwrap()
}

fn check(document: &[u8]) -> String {
    let mut symptoms = Symptoms::default();
    match symptoms.read_document(document) {
        Ok(()) => shown(&symptoms),
        Err(error) => error.to_string(),
    }
}

fn check_log(log: &str) -> String {
    let mut symptoms = Symptoms::default();
    symptoms.read_log(log.as_bytes()).unwrap();
    shown(&symptoms)
}

fn shown(symptoms: &Symptoms) -> String {
    let mut shown = symptoms.subject.clone().unwrap_or_default();
    for symptom in symptoms.gravest() {
        let Symptom { sign, text, count } = symptom;
        shown.push_str(&format!("\n{sign:?} {count} {text}"));
    }
    shown
}

#[test]
fn a_described_pod_tells_its_symptoms() {
    assert_eq!(
        check(&example("checkout-describe.txt")),
        "checkout-6d5f8c7b9d-x2x7q
OutOfMemory 1 container exit code 137
OutOfMemory 1 container terminated: OOMKilled
CrashLoop 61 BackOff: Back-off restarting failed container checkout in pod checkout-#-x2x7q_shop(#-7f0b-4f0e-9d33-#)
CrashLoop 1 container waiting: CrashLoopBackOff
Other 14 container restarts"
    );
}

#[test]
fn events_and_nodes_are_read_as_json() {
    let events = check(&example("search-events.json"));
    assert!(
        events.starts_with("search-7c9d5b6f4-kk2lp\nOutOfMemory 3 OOMKilling: "),
        "{events}"
    );
    assert!(events.contains("\nCrashLoop 22 BackOff: "), "{events}");
    assert!(
        !events.contains("already present"),
        "a normal event is no symptom"
    );
    assert_eq!(
        check(&example("worker-3-node.json")),
        "worker-3\nNodePressure 1 node has DiskPressure: kubelet has disk pressure"
    );
    let pod = br#"{"kind":"Pod","metadata":{"name":"p"},"status":{"containerStatuses":[
        {"restartCount":2,"state":{"waiting":{"reason":"ImagePullBackOff","message":"no"}}}]}}"#;
    assert_eq!(
        check(pod),
        "p\nImagePull 1 container waiting: ImagePullBackOff no\nOther 2 container restarts"
    );
}

#[test]
fn events_are_read_as_a_table() {
    let table = "LAST SEEN   TYPE      REASON             OBJECT      MESSAGE
2m          Warning   FailedScheduling   pod/web-0   0/3 nodes are available: 3 Insufficient cpu.
1m          Normal    Pulled             pod/web-0   done";
    assert_eq!(
        check(table.as_bytes()),
        "\nUnschedulable 1 FailedScheduling: 0/3 nodes are available: 3 Insufficient cpu."
    );
}

#[test]
fn what_is_not_understood_says_what_to_bring() {
    assert_eq!(
        check(b"hello"),
        "it is nothing that is understood: expected the output of `kubectl describe`, of `kubectl \
         get events` or of `kubectl get \u{2026} -o json`"
    );
    assert!(check(b"{\"kind\": ").starts_with("it looks like JSON, but EOF while parsing"));
    assert_eq!(check(b"{}"), check(b"hello"));
    let huge = vec![b' '; DOCUMENT_BYTES_MAX + 1];
    assert_eq!(
        check(&huge),
        "it has 16777217 bytes, expected at most 16777216: cut out the part that matters"
    );
}

#[test]
fn lines_of_a_log_that_differ_in_numbers_alone_are_one() {
    let log = String::from_utf8(example("checkout.log")).unwrap();
    assert_eq!(
        check_log(&log),
        "
OutOfMemory 1 ERROR worker 7: java.lang.OutOfMemoryError: Java heap space
OutOfMemory 1 ERROR worker 9: java.lang.OutOfMemoryError: Java heap space"
    );
    let log = "2026-11-03T02:14:01Z ERROR request 123456 failed\n2026-11-03 ERROR request 654321 failed\n";
    assert_eq!(check_log(log), "\nOther 2 ERROR request # failed");
}

#[test]
fn a_log_of_any_size_takes_bounded_memory() {
    let mut symptoms = Symptoms::default();
    let line = format!("ERROR {}\n", "x".repeat(1 << 20));
    let log = line.repeat(8)
        + &(0..500)
            .map(|n| format!("error of kind a{n}b\n"))
            .collect::<String>();
    symptoms.read_log(log.as_bytes()).unwrap();
    assert!(symptoms.gravest().len() <= 64);
    assert!(
        symptoms
            .gravest()
            .iter()
            .all(|s| s.text.chars().count() <= 300)
    );
    assert!(symptoms.words().chars().count() <= 1_200);
}

/// Lines that never end, as from a pipe.
struct Endless {
    left: usize,
    sent: usize,
}

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const LINE: &[u8] = b"ERROR request 123456 failed: connection refused by the database\n";
        let count = buffer.len().min(self.left);
        for byte in &mut buffer[..count] {
            *byte = LINE[self.sent % LINE.len()];
            self.sent += 1;
        }
        self.left -= count;
        Ok(count)
    }
}

#[test]
fn a_hundred_megabytes_of_log_are_read_line_by_line() {
    let mut symptoms = Symptoms::default();
    let log = Endless {
        left: 100_000_000,
        sent: 0,
    };
    symptoms.read_log(std::io::BufReader::new(log)).unwrap();
    let seen = symptoms.gravest();
    assert!(seen.len() <= 2, "the last line may be cut: {seen:?}");
    assert!(seen.iter().map(|s| s.count).sum::<u64>() > 1_500_000);
}

#[tokio::test]
async fn a_second_similar_case_cites_the_first_and_its_outcome() {
    let agent = MemoryEnabledAgent::new(
        Arc::new(InMemoryStore::new()),
        Arc::new(CaseBased::default()),
    );
    let context = || LearningContext::new("").agent("troubleshooter");
    let mut first = Symptoms::default();
    first
        .read_document(&example("checkout-describe.txt"))
        .unwrap();
    first.read_log(&*example("checkout.log")).unwrap();
    let before = diagnose(&agent, &first, context()).await.unwrap();
    assert!(before.causes.iter().all(|cause| cause.cases.is_empty()));
    let outcome = Outcome::succeeded("quiet for three nights").right_was("bound-session-cache");
    agent
        .conclude(&before.task, &before.performed, &outcome)
        .await
        .unwrap();

    let mut second = Symptoms::default();
    second
        .read_document(&example("search-events.json"))
        .unwrap();
    let after = diagnose(&agent, &second, context()).await.unwrap();
    let cited = after
        .causes
        .iter()
        .find(|cause| cause.action == "bound-session-cache")
        .unwrap();
    assert!(
        cited.cases[0].worked == Some(true)
            && cited.cases[0].text.contains("quiet for three nights")
    );
    assert_eq!(cited.cases[0].agent.as_deref(), Some("troubleshooter"));
    assert_eq!(cited.steps, ["do what was done in the cases below"]);
}

#[tokio::test]
async fn without_symptoms_every_cause_is_possible_and_none_is_known() {
    let agent = MemoryEnabledAgent::new(
        Arc::new(InMemoryStore::new()),
        Arc::new(CaseBased::default()),
    );
    let mut symptoms = Symptoms::default();
    symptoms.add("it is slow", 1);
    let diagnosis = diagnose(&agent, &symptoms, LearningContext::new(""))
        .await
        .unwrap();
    assert!(!diagnosis.causes.is_empty() && diagnosis.causes.len() <= 5);
}

#[test]
fn each_cause_is_described_once_and_has_steps() {
    let mut actions: Vec<&str> = CAUSES.iter().map(|cause| cause.action).collect();
    actions.sort_unstable();
    actions.dedup();
    assert_eq!(actions.len(), CAUSES.len());
    assert!(
        CAUSES
            .iter()
            .all(|cause| !cause.steps.is_empty() && !cause.signs.is_empty())
    );
}

proptest! {
    #[test]
    fn no_input_breaks_what_reads_it(bytes in prop::collection::vec(any::<u8>(), 0..600), text in "\\PC{0,300}") {
        let mut symptoms = Symptoms::default();
        let _ = symptoms.read_document(&bytes);
        let _ = symptoms.read_document(format!("Name: x\nEvents:\n{text}").as_bytes());
        symptoms.read_log(&*bytes).unwrap();
        prop_assert!(symptoms.gravest().iter().all(|s| !s.text.contains(char::is_control)));
    }
}

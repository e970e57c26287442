//! From a diff and a reviewer's comment to a finding in the next diff, with a memory in the process.

use std::{fs, path::PathBuf, sync::Arc};

use memorygate_client::{Experience, InMemoryStore, KnowledgeStore as _, LearningContext};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    CaseBased, Decision, Evidence, Executor, MemoryEnabledAgent, Proposal, Task, executor::Error,
    review::finding::PastReview,
};

fn example(name: &str) -> Vec<u8> {
    // Asked at run time: a kept build may come from a checkout elsewhere.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    fs::read(root.join("../../examples/agents/review").join(name)).unwrap()
}

fn diff(name: &str) -> Diff {
    Diff::parse(&example(name)).unwrap()
}

fn context() -> LearningContext {
    LearningContext::new("").agent("reviewer")
}

fn comment() -> Comment {
    serde_json::from_slice(&example("comments.jsonl")).unwrap()
}

async fn reviewed(store: &Arc<InMemoryStore>, name: &str) -> Review {
    reviewed_by(store, CaseBased::default(), name).await
}

async fn reviewed_by(
    store: &Arc<InMemoryStore>,
    executor: impl Executor + 'static,
    name: &str,
) -> Review {
    let agent = MemoryEnabledAgent::new(Arc::<InMemoryStore>::clone(store), Arc::new(executor));
    review(&agent, &context(), &diff(name), &Settings::default())
        .await
        .unwrap()
}

/// Knows its answer before it is asked.
struct Says(Decision);

#[async_trait::async_trait]
impl Executor for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn recall_limit(&self) -> usize {
        5
    }

    async fn execute(&self, task: &Task, evidence: &Evidence) -> Result<Decision, Error> {
        assert!(task.independent && evidence.recalled.len() <= 5);
        assert!(
            task.context
                .task
                .starts_with("Review of shop/invoices.py\n")
        );
        let rules: Vec<&str> = task.actions.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(rules, ["sql-injection"]);
        assert!(
            task.actions[0]
                .description
                .contains("pass it as a parameter")
        );
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn any_executor_decides_what_is_found() {
    let store = Arc::new(InMemoryStore::new());
    learn(&*store, &context(), &diff("first.diff"), &comment())
        .await
        .unwrap();
    let says = |action: &str, confidence, abstained| {
        let proposal = Proposal {
            action: action.to_owned(),
            confidence,
            weighed: confidence,
            evidence: vec![],
        };
        Says(Decision {
            proposals: vec![proposal],
            abstained,
            explanation: String::new(),
        })
    };
    let sure = reviewed_by(&store, says("sql-injection", 0.9, false), "second.diff").await;
    assert_eq!(sure.findings.len(), 1);
    assert!((sure.findings[0].confidence - 0.9).abs() < 1e-6);
    for silent in [
        says("sql-injection", 0.9, true),
        says("sql-injection", 0.4, false),
        says("a rule that nobody named", 0.9, false),
    ] {
        let review = reviewed_by(&store, silent, "second.diff").await;
        assert!(review.findings.is_empty(), "{review:?}");
    }
}

#[tokio::test]
async fn a_second_diff_is_reviewed_by_what_was_said_of_the_first() {
    let store = Arc::new(InMemoryStore::new());
    let before = reviewed(&store, "first.diff").await;
    assert!(before.findings.is_empty() && before.asked == 1);
    assert!(render(&before, Format::Text).starts_with("nothing known"));

    let key = learn(&*store, &context(), &diff("first.diff"), &comment())
        .await
        .unwrap();
    let after = reviewed(&store, "second.diff").await;
    let [finding] = &after.findings[..] else {
        panic!("{after:?}")
    };
    assert_eq!(
        (finding.path.as_str(), finding.line),
        ("shop/invoices.py", 26)
    );
    assert_eq!(
        (finding.rule.as_str(), finding.severity),
        ("sql-injection", Severity::Error)
    );
    assert!(finding.message.contains("pass it as a parameter"));
    assert_eq!(finding.past[0].key, key);

    conclude(&*store, &context(), finding, false).await.unwrap();
    assert!(store.get(key).unwrap().unwrap().feedback.usefulness < 0.5);
    assert!(
        reviewed(&store, "second.diff").await.findings.is_empty(),
        "it was rejected"
    );
    let again = finding.clone();
    for name in ["a", "b"] {
        let said = Finding {
            path: format!("{name}.py"),
            ..again.clone()
        };
        conclude(&*store, &context(), &said, true).await.unwrap();
    }
    let findings = reviewed(&store, "second.diff").await.findings;
    assert_eq!(findings.len(), 1, "two were accepted: {findings:?}");
}

/// As the examples for CI learn it of a merge: no rule, no outcome, the code as GitHub has it.
#[tokio::test]
async fn what_a_merge_taught_is_found() {
    let store = Arc::new(InMemoryStore::new());
    let content = "Review of shop/orders.py in acme/shop: Never format a value into SQL.\nada: Right.\nThe code was:\n\
        @@ -10,3 +10,6 @@\n+        cursor = self.connection.cursor()\n\
        +        cursor.execute(f\"SELECT id, total FROM orders WHERE customer = '{name}'\")";
    let mut said = Experience::new(content, "code_review");
    said.metadata.insert("path".into(), "shop/orders.py".into());
    store
        .store_experience(&context(), said.clone())
        .await
        .unwrap();
    let findings = reviewed(&store, "second.diff").await.findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].line, 26);
    assert!(
        findings[0]
            .message
            .starts_with("Never format a value into SQL.")
    );
    assert!(findings[0].rule.starts_with("review-"));

    // Of another language it says nothing.
    let store = Arc::new(InMemoryStore::new());
    said.metadata.insert("language".into(), "go".into());
    store.store_experience(&context(), said).await.unwrap();
    assert!(reviewed(&store, "second.diff").await.findings.is_empty());
}

#[tokio::test]
async fn a_comment_that_fits_nowhere_is_refused() {
    let store = Arc::new(InMemoryStore::new());
    let refused = async |comment: Comment| {
        let learned = learn(&*store, &context(), &diff("first.diff"), &comment).await;
        learned.unwrap_err().to_string()
    };
    let on = |path: &str, line| Comment {
        path: path.into(),
        line,
        ..comment()
    };
    assert!(
        refused(on("x.py", 1))
            .await
            .ends_with("a file that is not in the diff")
    );
    assert!(
        refused(on("shop/orders.py", 99))
            .await
            .contains("a line that is not in the diff")
    );
    let empty = Comment {
        text: " ".into(),
        ..comment()
    };
    assert!(refused(empty).await.contains("is empty or longer"));
    let severity = Some("bad".to_owned());
    assert!(
        refused(Comment {
            severity,
            ..comment()
        })
        .await
        .contains("unknown severity")
    );
}

fn finding(path: &str, text: &str) -> Review {
    let finding = Finding {
        path: path.to_owned(),
        line: 7,
        code: text.to_owned(),
        rule: text.to_owned(),
        message: text.to_owned(),
        severity: Severity::Warning,
        confidence: 0.75,
        past: vec![PastReview {
            key: memorygate_client::Key([7; 16]),
            was_right: true,
            similarity: 0.8,
            text: text.to_owned(),
            agent: Some(text.to_owned()),
            at: memorygate_client::TimeMs(0),
            occurrences: 1,
        }],
        fingerprint: "00".repeat(16),
        piece: vec![],
    };
    Review {
        findings: vec![finding],
        files: 1,
        asked: 1,
        left_out: 0,
    }
}

#[test]
fn annotations_are_escaped_as_the_runner_reads_them() {
    let mut review = finding("a,b:c%.py", "x: 100%,\r\nnext");
    review.findings[0].past.clear();
    assert_eq!(
        render(&review, Format::GitHub),
        "::warning file=a%2Cb%3Ac%25.py,line=7,title=x%3A 100%25%2C%0D%0Anext::x: 100%25,%0D%0Anext\n"
    );
}

#[test]
fn sarif_has_what_readers_need() {
    let sarif: Value =
        serde_json::from_str(&render(&finding("a b/ä.py", "said"), Format::Sarif)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(
        sarif["$schema"],
        "https://json.schemastore.org/sarif-2.1.0.json"
    );
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "said");
    let result = &run["results"][0];
    assert_eq!(
        (&result["ruleIndex"], &result["level"]),
        (&0.into(), &"warning".into())
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/%C3%A4.py");
    assert_eq!(place["region"]["startLine"], 7);
    assert_eq!(
        result["partialFingerprints"]["memorygate/v1"],
        "00".repeat(16)
    );
}

proptest! {
    #[test]
    fn no_text_breaks_what_is_rendered(path in any::<String>(), text in any::<String>()) {
        let review = finding(&path, &text);
        for format in [Format::Text, Format::Json, Format::Sarif, Format::GitHub] {
            let shown = render(&review, format);
            let raw = |c: char| c.is_control() && c != '\n' && c != '\t';
            prop_assert!(!shown.chars().any(raw), "{format:?}: {shown:?}");
        }
        let annotation = render(&review, Format::GitHub);
        prop_assert_eq!(annotation.lines().count(), 1);
        let (head, _) = annotation[2..].split_once("::").unwrap();
        prop_assert_eq!(head.matches(',').count(), 2, "{}", head);
        for format in [Format::Json, Format::Sarif] {
            prop_assert!(serde_json::from_str::<Value>(&render(&review, format)).is_ok());
        }
    }
}

//! From a model's words to a decision, if they are one.

use std::collections::BTreeSet;

use memorygate_client::Key;
use serde::Deserialize;

use super::prompt::Choices;
use crate::{
    calibration::Record,
    decision::{Decision, Proposal},
};

/// Characters of an explanation that are kept.
const EXPLANATION_CHARS_MAX: usize = 1_000;
/// Memories that a decision names; they are rated by its outcome.
const CITED_MAX: usize = 10;
/// Numbers of memories that were not shown, as they are told.
const INVENTED_TOLD: usize = 5;
/// Characters of the model's words in an error.
const WORDS_CHARS_MAX: usize = 80;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Has to be there, even if it is null.
    #[serde(deserialize_with = "Option::deserialize")]
    action: Option<String>,
    confidence: f64,
    explanation: String,
    cases: Vec<i64>,
}

/// `shown` are the memories in the order of their numbers, which begin with 1; `record` is the model's. What is wrong with an answer
/// that is no decision is told in a sentence.
pub(super) fn decide(
    text: &str,
    choices: &Choices,
    shown: &[Key],
    record: &Record,
    abstain_below: f32,
) -> Result<Decision, String> {
    let object = object(text);
    let unreadable = |why: &str| format!("expected one JSON object, got {:?}: {why}", words(text));
    if !object.starts_with('{') {
        return Err(unreadable("it does not begin with a brace"));
    }
    let answer: Answer =
        serde_json::from_str(object).map_err(|error| unreadable(&error.to_string()))?;
    let confidence = answer.confidence;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(format!(
            "its confidence is {confidence}, expected a number from 0 to 1"
        ));
    }
    let Some(action) = answer.action else {
        let explanation = format!("the model does not know: {}", clean(&answer.explanation));
        return Ok(Decision {
            abstained: true,
            explanation,
            ..Decision::default()
        });
    };
    if !choices.contains(&action) {
        return Err(format!(
            "it chose {:?}, which is none of the {} actions that can be chosen",
            words(&action),
            choices.len()
        ));
    }
    let (cited, invented) = cited(&answer.cases, shown);
    // What a model says of itself is held against how often it was right.
    let weighed = confidence as f32;
    let confidence = record.confidence(weighed);
    let mut explanation = clean(&answer.explanation);
    let has_no_reasons = cited.is_empty() && !invented.is_empty();
    if has_no_reasons {
        explanation =
            format!("not believed, since it names no memory that it was shown: {explanation}");
    } else if confidence < abstain_below {
        explanation = format!("the model is not sure enough: {explanation}");
    }
    if !invented.is_empty() {
        explanation.push_str(&format!(" (it also named {})", told(&invented)));
    }
    Ok(Decision {
        proposals: vec![Proposal {
            action,
            confidence,
            weighed,
            evidence: cited,
        }],
        abstained: has_no_reasons || confidence < abstain_below,
        explanation,
    })
}

/// The memories with these numbers, by rank and each once, and the numbers that there are none for.
fn cited(numbers: &[i64], shown: &[Key]) -> (Vec<Key>, BTreeSet<i64>) {
    let key = |number: i64| {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        shown.get(at).copied()
    };
    let (known, invented): (BTreeSet<i64>, BTreeSet<i64>) = numbers
        .iter()
        .copied()
        .partition(|number| key(*number).is_some());
    let keys = known.into_iter().filter_map(key).take(CITED_MAX).collect();
    (keys, invented)
}

fn told(invented: &BTreeSet<i64>) -> String {
    let numbers: Vec<String> = (invented.iter().take(INVENTED_TOLD))
        .map(|number| format!("[{number}]"))
        .collect();
    let more = match invented.len().saturating_sub(INVENTED_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}, which it was not shown", numbers.join(" "))
}

/// The object in an answer of a model that was not held to a form: some think aloud first, some fence it.
fn object(text: &str) -> &str {
    let mut text = text.trim();
    if let Some((_, rest)) = text
        .strip_prefix("<think>")
        .and_then(|t| t.split_once("</think>"))
    {
        text = rest.trim();
    }
    if let Some(fenced) = text.strip_prefix("```").and_then(|t| t.strip_suffix("```")) {
        text = fenced.strip_prefix("json").unwrap_or(fenced).trim();
    }
    text
}

/// One paragraph without anything that a terminal obeys.
fn clean(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ");
    if text.chars().count() <= EXPLANATION_CHARS_MAX {
        return text;
    }
    let start: String = text.chars().take(EXPLANATION_CHARS_MAX).collect();
    format!("{start}…")
}

fn words(text: &str) -> String {
    text.trim().chars().take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use memorygate_client::LearningContext;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        evidence::Evidence,
        task::{Action, Task},
    };

    fn choices() -> Choices {
        let task = Task::new(LearningContext::new("t"))
            .action(Action::new("roll-back"))
            .action(Action::new("restart"));
        Choices::of(&task, &Evidence::default())
    }

    /// With three memories that were shown, which are told by their numbers.
    fn check(text: &str) -> String {
        let shown = [Key([1; 16]), Key([2; 16]), Key([3; 16])];
        match decide(text, &choices(), &shown, &Record::default(), 0.5) {
            Err(reason) => format!("unusable: {reason}"),
            Ok(decision) => {
                let best = decision.best().map(|best| {
                    let cited: Vec<u8> = best.evidence.iter().map(|key| key.0[0]).collect();
                    format!("{} {} {cited:?}", best.action, best.confidence)
                });
                let abstained = if decision.abstained {
                    "abstained"
                } else {
                    "chose"
                };
                format!("{abstained} {best:?}: {}", decision.explanation)
            }
        }
    }

    fn answer(action: &str, confidence: &str, cases: &str) -> String {
        check(&format!(
            r#"{{"explanation":"so it was","cases":{cases},"action":{action},"confidence":{confidence}}}"#
        ))
    }

    #[test]
    fn an_answer_is_a_decision_with_the_memories_behind_it() {
        assert_eq!(
            answer("\"roll-back\"", "0.9", "[3, 1, 3]"),
            "chose Some(\"roll-back 0.9 [1, 3]\"): so it was"
        );
        assert_eq!(
            answer("\"restart\"", "1", "[]"),
            "chose Some(\"restart 1 []\"): so it was"
        );
    }

    #[test]
    fn who_does_not_know_or_is_not_sure_abstains() {
        assert_eq!(
            answer("null", "0", "[]"),
            "abstained None: the model does not know: so it was"
        );
        assert_eq!(
            answer("\"roll-back\"", "0.49", "[1]"),
            "abstained Some(\"roll-back 0.49 [1]\"): the model is not sure enough: so it was"
        );
    }

    #[test]
    fn a_memory_that_was_not_shown_is_dropped_and_without_another_the_answer_is_not_believed() {
        assert_eq!(
            answer("\"roll-back\"", "0.9", "[2, 7, 0, -1]"),
            "chose Some(\"roll-back 0.9 [2]\"): so it was (it also named [-1] [0] [7], which it was not shown)"
        );
        assert_eq!(
            answer("\"roll-back\"", "0.9", "[4]"),
            "abstained Some(\"roll-back 0.9 []\"): not believed, since it names no memory that it was shown: \
             so it was (it also named [4], which it was not shown)"
        );
        let many: Vec<i64> = (10..1_000).collect();
        let told = answer("\"roll-back\"", "0.9", &format!("{many:?}"));
        assert!(
            told.ends_with("[14] and 985 more, which it was not shown)"),
            "{told}"
        );
    }

    #[test]
    fn what_is_no_decision_says_why() {
        assert_eq!(
            answer("\"rm -rf\"", "0.9", "[]"),
            "unusable: it chose \"rm -rf\", which is none of the 2 actions that can be chosen"
        );
        for confidence in ["1.01", "-0.1", "1e300"] {
            let refused = answer("\"restart\"", confidence, "[]");
            assert!(
                refused.contains("expected a number from 0 to 1"),
                "{refused}"
            );
        }
        let unusable = |text: &str, why: &str| {
            let refused = check(text);
            assert!(
                refused.starts_with("unusable: expected one JSON object, got "),
                "{refused}"
            );
            assert!(refused.contains(why), "{refused}");
        };
        unusable("", "it does not begin with a brace");
        unusable("I would roll back.", "it does not begin with a brace");
        unusable(
            r#"["restart", 1, "", []]"#,
            "it does not begin with a brace",
        );
        unusable("{", "EOF");
        unusable(
            r#"{"explanation":"","cases":[],"confidence":1}"#,
            "missing field `action`",
        );
        unusable(
            r#"{"explanation":"","cases":[],"action":null}"#,
            "missing field `confidence`",
        );
        unusable(
            r#"{"explanation":"","cases":[],"action":null,"confidence":NaN}"#,
            "expected value",
        );
        unusable(
            r#"{"explanation":"","cases":["one"],"action":null,"confidence":1}"#,
            "invalid type",
        );
        unusable(
            r#"{"explanation":"","cases":[],"action":null,"confidence":1,"also":"this"}"#,
            "unknown field `also`",
        );
        unusable(
            r#"{"explanation":"","cases":[],"action":null,"confidence":1} {"#,
            "trailing characters",
        );
        let deep = format!("{{\"cases\":{}", "[".repeat(100_000));
        unusable(&deep, "invalid type");
    }

    #[test]
    fn an_object_behind_thoughts_or_in_a_fence_is_found() {
        let object = r#"{"explanation":"x","cases":[],"action":"restart","confidence":1}"#;
        for text in [
            format!("```json\n{object}\n```"),
            format!("```\n{object}```\n"),
            format!("<think>\n{{hm}}\n</think>\n\n{object}"),
        ] {
            assert_eq!(check(&text), "chose Some(\"restart 1 []\"): x");
        }
    }

    #[test]
    fn an_explanation_is_one_paragraph_of_bounded_length() {
        let long = format!("a\\u001b[2J\\n\\nb {}", "x".repeat(5_000));
        let shown = check(&format!(
            r#"{{"explanation":"{long}","cases":[],"action":"restart","confidence":1}}"#
        ));
        assert!(shown.contains(": a [2J b xxx"), "{shown}");
        assert!(shown.chars().count() < 1_100);
    }

    proptest! {
        #[test]
        fn no_text_breaks_what_reads_it(
            text in "\\PC{0,200}|[{}\\[\\]\",:a-z0-9` \n]{0,80}",
            cases in prop::collection::vec(any::<i64>(), 0..20),
        ) {
            let _ = check(&text);
            let shown = answer("\"restart\"", "0.7", &format!("{cases:?}"));
            prop_assert!(!shown.starts_with("unusable"), "{}", shown);
        }
    }
}

//! Reads dialogues and the questions asked about them.
//!
//! A directory holds pairs of files, `NAME-turns.jsonl` and `NAME-questions.jsonl`, with one JSON
//! object a line:
//!
//! | file | fields |
//! | --- | --- |
//! | turns | `conversation`, `id`, `session`, `when` (`1:56 pm on 8 May, 2023` or RFC 3339), `speaker`, `text` |
//! | questions | `conversation`, `question`, `evidence` (ids of turns), `category` |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use memorygate_client::time::parse_rfc3339;
use memorygate_core::time::TimeMs;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

const TURNS_SUFFIX: &str = "turns.jsonl";
const QUESTIONS_SUFFIX: &str = "questions.jsonl";

/// Months by the first three letters of their English names.
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// Turns of one conversation in the order in which they were said, and what is asked about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) turns: Vec<Turn>,
    pub(crate) questions: Vec<Question>,
}

#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) when: TimeMs,
    pub(crate) speaker: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) text: String,
    /// Ids of the turns that hold the answer; at least one, and all of this conversation.
    pub(crate) evidence: BTreeSet<String>,
    pub(crate) category: String,
}

/// All conversations of a directory, by name.
pub(crate) fn read(dir: &Path) -> anyhow::Result<BTreeMap<String, Conversation>> {
    let mut conversations = BTreeMap::new();
    for (turns, questions) in pairs(dir)? {
        for turn in lines::<TurnLine>(&turns)? {
            let conversation: &mut Conversation =
                conversations.entry(turn.conversation.clone()).or_default();
            let turn = turn
                .check()
                .with_context(|| format!("read {}", turns.display()))?;
            conversation.turns.push(turn);
        }
        for line in lines::<QuestionLine>(&questions)? {
            let context = || format!("read {}: question {:?}", questions.display(), line.question);
            let conversation = conversations.get_mut(&line.conversation);
            let conversation = conversation
                .with_context(|| format!("no turns of conversation {:?}", line.conversation))
                .with_context(context)?;
            conversation
                .questions
                .push(line.check(&conversation.turns).with_context(context)?);
        }
    }
    Ok(conversations)
}

/// Files of turns with their files of questions.
fn pairs(dir: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    let pair = |name: &String| {
        let stem = name.strip_suffix(TURNS_SUFFIX)?;
        let questions = format!("{stem}{QUESTIONS_SUFFIX}");
        names
            .contains(&questions)
            .then(|| (dir.join(name), dir.join(questions)))
    };
    let pairs: Vec<_> = names.iter().filter_map(pair).collect();
    ensure!(
        !pairs.is_empty(),
        "{} holds no pair NAME-{TURNS_SUFFIX} and NAME-{QUESTIONS_SUFFIX}",
        dir.display()
    );
    Ok(pairs)
}

/// Objects of a JSON Lines file; an error names the line.
pub(crate) fn lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let numbered = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("read {shown}, line {}", at + 1))
        })
        .collect()
}

#[derive(Debug, Deserialize)]
struct TurnLine {
    conversation: String,
    id: String,
    session: Value,
    when: String,
    speaker: String,
    text: String,
}

impl TurnLine {
    fn check(self) -> anyhow::Result<Turn> {
        let when = parse_when(&self.when)
            .with_context(|| format!("turn {} of {}", self.id, self.conversation))?;
        Ok(Turn {
            session: plain(&self.session),
            id: self.id,
            when,
            speaker: self.speaker,
            text: self.text,
        })
    }
}

#[derive(Debug, Deserialize)]
struct QuestionLine {
    conversation: String,
    question: String,
    evidence: BTreeSet<String>,
    #[serde(default)]
    category: Value,
}

impl QuestionLine {
    fn check(&self, turns: &[Turn]) -> anyhow::Result<Question> {
        ensure!(!self.evidence.is_empty(), "it has no evidence");
        let known: BTreeSet<&String> = turns.iter().map(|turn| &turn.id).collect();
        if let Some(id) = self.evidence.iter().find(|id| !known.contains(id)) {
            bail!("no turn {id:?} in conversation {:?}", self.conversation);
        }
        Ok(Question {
            text: self.question.clone(),
            evidence: self.evidence.clone(),
            category: plain(&self.category),
        })
    }
}

/// A string without its quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// `1:56 pm on 8 May, 2023` (taken as UTC) or RFC 3339.
fn parse_when(text: &str) -> anyhow::Result<TimeMs> {
    let spoken = || {
        let (time, date) = text.split_once(" on ")?;
        let (clock, half) = time.trim().split_once(' ')?;
        let (hour, minute) = clock.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        let afternoon = match half {
            "am" => 0,
            "pm" => 12,
            _ => return None,
        };
        let mut parts = date.split([' ', ',']).filter(|part| !part.is_empty());
        let day: u32 = parts.next()?.parse().ok()?;
        let name = parts.next()?.to_lowercase();
        let month = MONTHS.iter().position(|month| name.starts_with(month))? + 1;
        let year: u32 = parts.next()?.parse().ok()?;
        // 12 am is midnight and 12 pm is noon.
        let hour = (1..=12).contains(&hour).then(|| hour % 12 + afternoon)?;
        Some(format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z"
        ))
    };
    let rfc3339 = spoken().unwrap_or_else(|| text.to_owned());
    parse_rfc3339(&rfc3339).with_context(|| {
        format!("when is {text:?}, expected such as \"1:56 pm on 8 May, 2023\" or RFC 3339")
    })
}

#[cfg(test)]
mod tests {
    use memorygate_client::time::format;

    use super::*;

    fn check(turns: &str, questions: &str) -> Result<BTreeMap<String, Conversation>, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a-turns.jsonl"), turns).unwrap();
        fs::write(dir.path().join("a-questions.jsonl"), questions).unwrap();
        read(dir.path()).map_err(|e| format!("{e:#}"))
    }

    const TURN: &str = r#"{"conversation": "c", "id": "D1:1", "session": 1,
        "when": "1:56 pm on 8 May, 2023", "speaker": "Ann", "text": "Hi"}"#;

    fn turn() -> String {
        TURN.replace('\n', " ")
    }

    #[test]
    fn turns_and_questions_meet_by_conversation() {
        let question =
            r#"{"conversation": "c", "question": "Who?", "evidence": ["D1:1"], "category": 4}"#;
        let conversations = check(&turn(), question).unwrap();
        let conversation = &conversations["c"];
        let (turn, question) = (&conversation.turns[0], &conversation.questions[0]);
        assert_eq!((turn.session.as_str(), turn.speaker.as_str()), ("1", "Ann"));
        assert_eq!(format(turn.when), "2023-05-08T13:56:00Z");
        assert_eq!(
            (question.text.as_str(), question.category.as_str()),
            ("Who?", "4")
        );
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let refused = |turns: &str, questions: &str| check(turns, questions).unwrap_err();
        let none = r#"{"conversation": "c", "question": "Who?", "evidence": []}"#;
        assert!(refused(&turn(), none).ends_with("it has no evidence"));
        let unknown = r#"{"conversation": "c", "question": "Who?", "evidence": ["D9:9"]}"#;
        assert!(refused(&turn(), unknown).ends_with("no turn \"D9:9\" in conversation \"c\""));
        let other = r#"{"conversation": "d", "question": "Who?", "evidence": ["D1:1"]}"#;
        assert!(refused(&turn(), other).ends_with("no turns of conversation \"d\""));
        assert!(refused("\n{}", "").contains("line 2: missing field `conversation`"));
        assert!(refused(&turn().replace("pm", "xm"), "").contains("turn D1:1 of c: when is"));
        let error = read(tempfile::tempdir().unwrap().path())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("holds no pair NAME-turns.jsonl and NAME-questions.jsonl"));
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        let parsed = |text: &str| parse_when(text).map(format).ok();
        let is = |text: &str, time: &str| assert_eq!(parsed(text).as_deref(), Some(time), "{text}");
        is("1:56 pm on 8 May, 2023", "2023-05-08T13:56:00Z");
        is("12:09 am on 13 September, 2023", "2023-09-13T00:09:00Z");
        is("12:30 pm on 29 February, 2024", "2024-02-29T12:30:00Z");
        is("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z");
        for bad in [
            "",
            "noon",
            "13:00 pm on 1 May, 2023",
            "1:00 pm on 31 Abc, 2023",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}

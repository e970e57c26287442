//! `corpus`: do questions about the sample corpus, asked in other words, find the right experience?
//!
//! All experiences are in one namespace. A question is answered if any of its right memories is
//! among the first five.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Experience, Key, Recall, time::parse_rfc3339};
use serde::Deserialize;
use serde_json::json;

use crate::{
    dialogue::lines,
    options::Options,
    progress::Progress,
    report::{Report, Table},
    retriever::{Choice, Retriever},
    server::Server,
    teach::{connect, run_suffix, teach},
};

/// Where the corpus lies in the repository.
const DIR: &str = "examples/corpus";

const QUESTIONS: &str = "questions.jsonl";

/// The corpus states its keys for this namespace.
const NAMESPACE: &str = "default";

/// Results of one question.
const RESULTS: usize = 10;

/// Missed questions that the table shows.
const SHOWN: usize = 20;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Which parts of the ranking answer.
    #[arg(long, value_enum, default_value_t = Choice::Full)]
    retriever: Choice,
}

#[derive(Clone, Debug, Deserialize)]
struct ExperienceLine {
    id: String,
    content: String,
    domain: String,
    occurred_at: String,
    importance: f32,
    agent: String,
    session: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Question {
    question: String,
    /// Ids of experiences, any of which is right.
    answers: Vec<String>,
    /// Their keys in the namespace [`NAMESPACE`].
    keys: Vec<String>,
    domain: String,
}

/// At which place, from 1, the first right memory came; `None` if it was not among the results.
type Rank = Option<usize>;

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let dir = options.data.clone().unwrap_or_else(|| PathBuf::from(DIR));
    let (experiences, ids) = read(&dir)?;
    let questions: Vec<Question> = lines(&dir.join(QUESTIONS))?;
    ensure!(!questions.is_empty(), "{} holds no question", dir.display());
    let server = Server::start(options).await?;
    let namespace = format!("{NAMESPACE}{}", run_suffix(&server));
    let client = connect(&server)?.in_namespace(&namespace);
    let taught = teach(&client, "corpus", &experiences).await?;
    let by_id: BTreeMap<&String, Key> = ids.iter().zip(taught.keys).collect();
    let right: Vec<BTreeSet<Key>> = questions
        .iter()
        .map(|q| right_keys(q, &by_id, &namespace))
        .collect::<Result<_, _>>()?;

    let mut ranks = BTreeMap::new();
    for retriever in arguments.retriever.retrievers() {
        let mut progress = Progress::new(format!("ask, {retriever}"), questions.len());
        let mut of_this: Vec<Rank> = Vec::new();
        for (question, right) in questions.iter().zip(&right) {
            let recall = retriever.of(Recall::new(&question.question).limit(RESULTS));
            let results = client.recall(&recall).await.context("recall")?.results;
            let place = results.iter().position(|r| right.contains(&r.memory.key));
            of_this.push(place.map(|place| place + 1));
            progress.add(1);
        }
        progress.finish();
        ranks.insert(retriever, of_this);
    }
    Ok(report(experiences.len(), &questions, &ranks))
}

/// All experiences in the order of the files, with their ids.
fn read(dir: &Path) -> anyhow::Result<(Vec<Experience>, Vec<String>)> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.sort();
    let is_of_experiences = |path: &&PathBuf| {
        path.extension().is_some_and(|e| e == "jsonl") && !path.ends_with(QUESTIONS)
    };
    let (mut experiences, mut ids) = (Vec::new(), Vec::new());
    for path in files.iter().filter(is_of_experiences) {
        for line in lines::<ExperienceLine>(path)? {
            let at = parse_rfc3339(&line.occurred_at)
                .with_context(|| format!("read {}, {}", path.display(), line.id))?;
            experiences.push(Experience {
                importance: Some(line.importance),
                agent: Some(line.agent),
                session: line.session,
                metadata: line.metadata,
                ..Experience::new(line.content, line.domain).occurred_at(at)
            });
            ids.push(line.id);
        }
    }
    ensure!(
        !experiences.is_empty(),
        "{} holds no experience",
        dir.display()
    );
    Ok((experiences, ids))
}

/// Keys of the memories that answer a question. Those that the corpus states are checked: a wrong
/// one would make the demo and every other reader of the file wrong.
fn right_keys(
    question: &Question,
    by_id: &BTreeMap<&String, Key>,
    namespace: &str,
) -> anyhow::Result<BTreeSet<Key>> {
    let of_id = |id| {
        by_id
            .get(id)
            .copied()
            .with_context(|| format!("no experience {id:?}"))
    };
    let keys: Vec<Key> = question
        .answers
        .iter()
        .map(of_id)
        .collect::<Result<_, _>>()
        .with_context(|| format!("question {:?}", question.question))?;
    ensure!(
        !keys.is_empty(),
        "question {:?} has no answer",
        question.question
    );
    if namespace == NAMESPACE {
        let stated = &question.keys;
        let actual: Vec<String> = keys.iter().map(Key::to_string).collect();
        ensure!(
            *stated == actual,
            "question {:?} states keys {stated:?}, but its answers have {actual:?}",
            question.question
        );
    }
    Ok(keys.into_iter().collect())
}

fn report(
    experiences: usize,
    questions: &[Question],
    ranks: &BTreeMap<Retriever, Vec<Rank>>,
) -> Report {
    let mut report = Report::new("corpus");
    let (main, of_main) = ranks
        .last_key_value()
        .expect("at least one retriever was asked for");
    report.count("memories", experiences as u64);
    report.count("questions", questions.len() as u64);
    report.value("retriever", json!(main.name()));
    report.number("corpus_hit_at_1", hit_share(1, of_main.iter()));
    report.number("corpus_hit_at_5", hit_share(5, of_main.iter()));
    report.number("corpus_hit_at_10", hit_share(10, of_main.iter()));

    let caption = format!(
        "Share of {} questions whose right memory, one of {experiences}, is among the first",
        questions.len()
    );
    let mut table = Table::new(caption, ["", "questions", "1", "5", "10"]);
    let mut row = |name: &str, ranks: &[&Rank]| {
        let share = |k| format!("{:.3}", hit_share(k, ranks.iter().copied()));
        table.row([
            name.to_owned(),
            ranks.len().to_string(),
            share(1),
            share(5),
            share(10),
        ]);
    };
    for (retriever, ranks) in ranks {
        row(retriever.name(), &ranks.iter().collect::<Vec<_>>());
    }
    let domains: BTreeSet<&String> = questions.iter().map(|q| &q.domain).collect();
    for domain in domains {
        let of_domain = questions
            .iter()
            .zip(of_main)
            .filter(|(q, _)| q.domain == *domain);
        row(
            &format!("{main}, {domain}"),
            &of_domain.map(|(_, rank)| rank).collect::<Vec<_>>(),
        );
    }
    report.table(table);

    let missed: Vec<_> = questions
        .iter()
        .zip(of_main)
        .filter(|(_, rank)| rank.is_none_or(|r| r > 5))
        .collect();
    if !missed.is_empty() {
        let caption = format!("Questions not answered by the first five, {main}");
        let mut table = Table::new(caption, ["question", "answer", "place"]);
        for (question, rank) in missed.iter().take(SHOWN) {
            let place = rank.map_or_else(|| format!("> {RESULTS}"), |rank| rank.to_string());
            table.row([question.question.clone(), question.answers.join(" "), place]);
        }
        report.table(table);
    }
    report
}

fn hit_share<'a>(k: usize, ranks: impl ExactSizeIterator<Item = &'a Rank>) -> f64 {
    let all = ranks.len();
    let hits = ranks
        .filter(|rank| rank.is_some_and(|rank| rank <= k))
        .count();
    hits as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_within_the_first_k_is_a_hit() {
        let ranks = [Some(1), Some(5), Some(6), None];
        let share = |k| hit_share(k, ranks.iter());
        assert_eq!((share(1), share(5), share(10)), (0.25, 0.5, 0.75));
    }

    #[test]
    fn stated_keys_must_be_those_of_the_answers() {
        let id = "infra-001".to_owned();
        let by_id = BTreeMap::from([(&id, Key([1; 16]))]);
        let question = |answer: &str, key: u8| Question {
            question: "Why?".to_owned(),
            answers: vec![answer.to_owned()],
            keys: vec![Key([key; 16]).to_string()],
            domain: "infrastructure".to_owned(),
        };
        let check = |question, namespace: &str| {
            right_keys(&question, &by_id, namespace).map_err(|e| format!("{e:#}"))
        };
        assert_eq!(
            check(question("infra-001", 1), NAMESPACE),
            Ok([Key([1; 16])].into())
        );
        assert!(
            check(question("infra-001", 2), NAMESPACE)
                .unwrap_err()
                .contains("states keys")
        );
        // In another namespace the keys are others.
        assert!(check(question("infra-001", 2), "default-1").is_ok());
        let error = check(question("infra-9", 1), NAMESPACE).unwrap_err();
        assert_eq!(error, "question \"Why?\": no experience \"infra-9\"");
    }

    #[test]
    fn the_corpus_of_this_repository_can_be_read() {
        let dir = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
            .parent()
            .unwrap()
            .join(DIR);
        let (experiences, ids) = read(&dir).unwrap();
        let questions: Vec<Question> = lines(&dir.join(QUESTIONS)).unwrap();
        let keys: Vec<Key> = experiences
            .iter()
            .map(|e| e.key_in(NAMESPACE).unwrap())
            .collect();
        let by_id: BTreeMap<&String, Key> = ids.iter().zip(keys).collect();
        assert_eq!(by_id.len(), ids.len(), "ids are unique");
        for question in &questions {
            right_keys(question, &by_id, NAMESPACE).unwrap();
        }
    }
}

//! `quality`: do questions about long dialogues bring back the turns that hold the answers?
//!
//! Each conversation is a namespace, each turn an experience, learned in order. A question is
//! answered by twenty results; its recall at k is the share of its evidence among the first k.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use memorygate_client::{Client, Experience, Key, Recall, Stage};
use serde_json::{Value, json};

use crate::{
    consolidation::run_pass,
    dialogue::{self, Conversation},
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    retriever::{Choice, Retriever, parse_stage},
    rpc,
    server::Server,
    statistics::{Sample, hit_at, mean_margin, recall_at},
    teach::{connect, run_suffix, teach, wait_until_indexed},
};

/// Results of one question: as many as the deepest figure looks at.
const RESULTS: usize = 20;

/// Of all turns: a domain that the server gives no meaning.
const DOMAIN: &str = "conversation";

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Which parts of the ranking answer.
    #[arg(long, value_enum, default_value_t = Choice::Full)]
    retriever: Choice,
    /// Put all conversations into one namespace, so that each is noise for the others.
    #[arg(long)]
    one_namespace: bool,
    /// Consolidate all that was learned before the first question. A turn that was merged into another
    /// counts as lost.
    #[arg(long)]
    consolidate: bool,
    /// Switch off this stage as well, to see what it brings. Can be given several times.
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    without: Vec<Stage>,
}

/// How one question was answered.
#[derive(Clone, Debug)]
struct Answer {
    category: String,
    recall_at_5: f64,
    recall_at_10: f64,
    recall_at_20: f64,
    hit_at_10: f64,
    elapsed_ms: f64,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    let dir = options
        .data
        .as_ref()
        .context("name the directory of the dialogues with --data")?;
    let conversations = dialogue::read(dir)?;
    let asked: usize = conversations.values().map(|c| c.questions.len()).sum();
    ensure!(asked > 0, "{} holds no question", dir.display());
    let server = Server::start(options).await?;
    let client = connect(&server)?;
    let learned = learn(&server, &client, &conversations, arguments.one_namespace).await?;
    let mut steps = 0;
    if arguments.consolidate {
        let channel = rpc::connect(server.endpoint())?;
        let namespaces: BTreeSet<&String> = learned.namespaces.values().collect();
        for namespace in namespaces {
            steps += run_pass(&channel, namespace, true).await?.done;
        }
        wait_until_indexed(&client).await?;
    }

    let mut answers = BTreeMap::new();
    for retriever in arguments.retriever.retrievers() {
        let mut progress = Progress::new(format!("ask, {retriever}"), asked);
        let mut of_this = Vec::with_capacity(asked);
        for (name, conversation) in &conversations {
            let client = client.in_namespace(&learned.namespaces[name]);
            for question in &conversation.questions {
                let recall = retriever.of(Recall::new(&question.text).limit(RESULTS));
                let recall = arguments
                    .without
                    .iter()
                    .fold(recall, |r, stage| r.without(*stage));
                let start = Instant::now();
                let results = client.recall(&recall).await.context("recall")?.results;
                let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
                let turns = |key: &Key| learned.turns.get(&(name, *key)).cloned();
                let found: Vec<BTreeSet<&String>> = results
                    .iter()
                    .map(|r| turns(&r.memory.key).unwrap_or_default())
                    .collect();
                let evidence = question.evidence.iter().collect();
                of_this.push(Answer {
                    category: question.category.clone(),
                    recall_at_5: recall_at(5, &found, &evidence),
                    recall_at_10: recall_at(10, &found, &evidence),
                    recall_at_20: recall_at(20, &found, &evidence),
                    hit_at_10: hit_at(10, &found, &evidence),
                    elapsed_ms,
                });
                progress.add(1);
            }
        }
        progress.finish();
        answers.insert(retriever, of_this);
    }
    Ok(report(
        arguments,
        conversations.len(),
        (learned.memories, steps),
        &answers,
    ))
}

/// What was learned, and which turns each memory stands for.
struct Learned<'a> {
    /// By conversation.
    namespaces: BTreeMap<&'a String, String>,
    /// Ids of turns by conversation and key; equal turns are one memory.
    turns: BTreeMap<(&'a String, Key), BTreeSet<&'a String>>,
    memories: usize,
}

async fn learn<'a>(
    server: &Server,
    client: &Client,
    conversations: &'a BTreeMap<String, Conversation>,
    one_namespace: bool,
) -> anyhow::Result<Learned<'a>> {
    let mut learned = Learned {
        namespaces: BTreeMap::new(),
        turns: BTreeMap::new(),
        memories: 0,
    };
    let mut keys_by_namespace: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
    let suffix = run_suffix(server);
    for (name, conversation) in conversations {
        let of_this = if one_namespace {
            "quality".to_owned()
        } else {
            allowed(name)
        };
        let namespace = format!("{of_this}{suffix}");
        let experience = |turn: &dialogue::Turn| {
            Experience::new(format!("{}: {}", turn.speaker, turn.text), DOMAIN)
                .session(format!("{name}/{}", turn.session))
                .occurred_at(turn.when)
        };
        let experiences: Vec<_> = conversation.turns.iter().map(experience).collect();
        let taught = teach(&client.in_namespace(&namespace), name, &experiences).await?;
        for (turn, key) in conversation.turns.iter().zip(taught.keys) {
            learned
                .turns
                .entry((name, key))
                .or_default()
                .insert(&turn.id);
            keys_by_namespace
                .entry(namespace.clone())
                .or_default()
                .insert(key);
        }
        learned.namespaces.insert(name, namespace);
    }
    learned.memories = keys_by_namespace.values().map(BTreeSet::len).sum();
    Ok(learned)
}

/// A conversation's name with only what a namespace may hold.
fn allowed(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    name.to_lowercase()
        .chars()
        .map(|c| if is_allowed(c) { c } else { '-' })
        .collect()
}

fn report(
    arguments: &Arguments,
    conversations: usize,
    (memories, steps): (usize, u64),
    answers: &BTreeMap<Retriever, Vec<Answer>>,
) -> Report {
    let mut report = Report::new("quality");
    // The whole pipeline is what the plain keys mean; a single other retriever is asked for by name.
    let (main, of_main) = answers
        .last_key_value()
        .expect("at least one retriever was asked for");
    let figures = Figures::of(of_main.iter());
    report.count("questions", of_main.len() as u64);
    report.count("memories", memories as u64);
    report.count("conversations", conversations as u64);
    report.value("retriever", json!(main.name()));
    report.value("one_namespace", json!(arguments.one_namespace));
    if arguments.consolidate {
        report.count("consolidation_steps", steps);
    }
    let without: Vec<String> = arguments
        .without
        .iter()
        .map(|s| format!("{s:?}").to_lowercase())
        .collect();
    report.value("without", json!(without));
    report.number("recall_at_5", figures.recall_at_5);
    report.number("recall_at_10", figures.recall_at_10);
    report.number("recall_at_20", figures.recall_at_20);
    report.number("hit_at_10", figures.hit_at_10);
    report.number("recall_at_10_margin", figures.margin);
    report.number("recall_p50_ms", figures.p50_ms);

    let caption = format!(
        "Evidence that {} questions bring back from {memories} memories of {conversations} \
         conversations",
        of_main.len()
    );
    let header = [
        "retriever",
        "recall@5",
        "recall@10",
        "±95 %",
        "recall@20",
        "hit@10",
        "p50 ms",
    ];
    let mut table = Table::new(caption, header);
    let mut by_retriever = BTreeMap::new();
    for (retriever, answers) in answers {
        let figures = Figures::of(answers.iter());
        table.row(figures.cells(retriever.name()));
        by_retriever.insert(retriever.name(), figures.json());
    }
    report.table(table);
    report.value("retrievers", json!(by_retriever));

    let header = [
        "category",
        "questions",
        "recall@5",
        "recall@10",
        "±95 %",
        "recall@20",
        "hit@10",
    ];
    let mut table = Table::new(format!("By category, {main}"), header);
    let categories: BTreeSet<&String> = of_main.iter().map(|a| &a.category).collect();
    let mut by_category = BTreeMap::new();
    for category in categories {
        let of_this = of_main.iter().filter(|a| a.category == *category);
        let (figures, questions) = (Figures::of(of_this.clone()), of_this.count());
        let mut cells = figures.cells(category);
        cells.pop();
        cells.insert(1, questions.to_string());
        table.row(cells);
        let mut object = figures.json();
        object["questions"] = json!(questions);
        by_category.insert(category, object);
    }
    report.table(table);
    report.value("by_category", json!(by_category));
    report
}

/// Means over answers.
#[derive(Debug)]
struct Figures {
    recall_at_5: f64,
    recall_at_10: f64,
    recall_at_20: f64,
    hit_at_10: f64,
    /// Of `recall_at_10`: half its 95 % confidence interval over questions.
    margin: f64,
    p50_ms: f64,
}

impl Figures {
    fn of<'a>(answers: impl Iterator<Item = &'a Answer> + Clone) -> Self {
        let sample = |value: fn(&Answer) -> f64| {
            Sample::new(answers.clone().map(value).collect()).expect("there is an answer")
        };
        let at_10: Vec<f64> = answers.clone().map(|a| a.recall_at_10).collect();
        Self {
            recall_at_5: sample(|a| a.recall_at_5).mean(),
            recall_at_10: sample(|a| a.recall_at_10).mean(),
            recall_at_20: sample(|a| a.recall_at_20).mean(),
            hit_at_10: sample(|a| a.hit_at_10).mean(),
            margin: mean_margin(&at_10),
            p50_ms: sample(|a| a.elapsed_ms).percentile(50.0),
        }
    }

    fn cells(&self, name: &str) -> Vec<String> {
        let shares = [
            self.recall_at_5,
            self.recall_at_10,
            self.margin,
            self.recall_at_20,
            self.hit_at_10,
        ];
        let mut cells = vec![name.to_owned()];
        cells.extend(shares.map(|share| format!("{share:.3}")));
        cells.push(format!("{:.1}", self.p50_ms));
        cells
    }

    fn json(&self) -> Value {
        json!({
            "recall_at_5": rounded(self.recall_at_5),
            "recall_at_10": rounded(self.recall_at_10),
            "recall_at_20": rounded(self.recall_at_20),
            "hit_at_10": rounded(self.hit_at_10),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(category: &str, recall_at_10: f64) -> Answer {
        Answer {
            category: category.to_owned(),
            recall_at_5: recall_at_10 / 2.0,
            recall_at_10,
            recall_at_20: 1.0,
            hit_at_10: f64::from(recall_at_10 > 0.0),
            elapsed_ms: 3.0,
        }
    }

    #[test]
    fn the_plain_keys_are_those_of_the_whole_pipeline() {
        let answers = BTreeMap::from([
            (
                Retriever::Full,
                vec![answer("1", 1.0), answer("2", 0.5), answer("2", 0.0)],
            ),
            (
                Retriever::Vector,
                vec![answer("1", 0.0), answer("2", 0.0), answer("2", 0.0)],
            ),
        ]);
        let arguments = Arguments {
            retriever: Choice::All,
            one_namespace: false,
            without: Vec::new(),
            consolidate: false,
        };
        let report = report(&arguments, 1, (9, 0), &answers);
        let mut out = Vec::new();
        report
            .print(&crate::machine::Machine::example(), &mut out, None)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["recall_at_10"], 0.5);
        assert_eq!(last["recall_at_5"], 0.25);
        assert_eq!(last["hit_at_10"], 0.6667);
        assert_eq!(last["questions"], 3);
        assert_eq!(last["retrievers"]["vector"]["recall_at_10"], 0.0);
        assert_eq!(last["by_category"]["2"]["recall_at_10"], 0.25);
        assert_eq!(last["by_category"]["2"]["questions"], 2);
    }

    #[test]
    fn a_name_becomes_a_namespace() {
        assert_eq!(allowed("Conv 26/ä"), "conv-26--");
        assert_eq!(allowed("conv-26"), "conv-26");
    }
}

//! `retention`: after thirty days of consolidation, is what was learned still found?
//!
//! ```text
//! for each hour of thirty days: interactions ─▶ learned into both namespaces
//!                                               └▶ one is consolidated, the other is paused
//! then: questions in other words about what was learned on each day ─▶ both
//! ```
//!
//! The server's clock is moved on, so that the days are days to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueHint};
use memorygate_client::{Client, Experience, GiveFeedback, Key, Learn, domain};
use memorygate_proto::v1;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    incidents::{INCIDENTS, Incident},
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    rpc,
    server::Server,
    statistics::hit_at,
    teach::{connect, wait_until_indexed},
};

const HOUR_MS: i64 = 3_600_000;
const HOURS_OF_DAY: usize = 24;

/// Where it is consolidated, and where not.
const CONSOLIDATED: &str = "consolidated";
const NEVER: &str = "never-consolidated";

/// Results of one question.
const RESULTS: u32 = 10;

/// Shares of interactions that tell of an incident of before: in the same words, reworded, retold.
const VERBATIM: f64 = 0.15;
const REWORDED: f64 = 0.35;
const RETOLD: f64 = 0.15;

/// Of interactions, how many are followed by a recall and by feedback on its first result.
const RECALLED: f64 = 0.02;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Experiences that agents have in all those days.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    interactions: usize,
    /// Simulated days.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
    /// Questions about the incidents that were first met on a day.
    #[arg(long, value_name = "N", default_value_t = 100)]
    questions: usize,
    /// Write what was missed to this file: one JSON object a line for each question whose incident is
    /// not among the first five, with what came instead and the parts of its scores.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    misses: Option<PathBuf>,
}

/// What happened in one hour.
type Told = (Incident, String);

/// Which incident each memory tells of.
#[derive(Debug, Default)]
struct Known {
    incidents: BTreeMap<Key, Incident>,
}

impl Known {
    /// The incidents that a result tells of: its own, and those of what was merged into it or is folded
    /// under it.
    fn told_by(&self, result: &v1::Recalled) -> anyhow::Result<BTreeSet<Incident>> {
        let memory = result
            .memory
            .as_ref()
            .context("a result without a memory")?;
        let keys = [&memory.key]
            .into_iter()
            .chain(&memory.merged)
            .chain(&result.folded);
        let mut told = BTreeSet::new();
        for key in keys {
            let key: Key = key.parse().context("read a key")?;
            told.extend(self.incidents.get(&key));
        }
        Ok(told)
    }
}

/// Hits of one namespace's answers.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    at_1: f64,
    at_5: f64,
    at_10: f64,
    asked: f64,
}

pub(crate) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<Report> {
    ensure!(
        options.endpoint.is_none(),
        "the clock of a server at --endpoint cannot be moved: leave it out"
    );
    let hours = arguments.days as usize * HOURS_OF_DAY;
    ensure!(
        arguments.interactions >= hours,
        "name at least {hours} --interactions: one an hour"
    );
    // Passes are run here, one an hour, so that they are hourly by the server's clock.
    let settings = [("consolidation.interval_s", "0")];
    let mut server = Server::start_with_clock(options, &settings).await?;
    let client = connect(&server)?;
    let channel = rpc::connect(server.endpoint())?;
    pause(&channel, NEVER).await?;

    let mut random = StdRng::seed_from_u64(options.seed);
    let mut numbers: Vec<usize> = (0..INCIDENTS).collect();
    numbers.shuffle(&mut random);
    let mut fresh = numbers.into_iter().map(Incident::number);
    let (mut met, mut first_on): (Vec<Incident>, Vec<Vec<Incident>>) = Default::default();
    let mut known = Known::default();
    let mut passes = Passes::default();
    let mut progress = Progress::new("interactions", arguments.interactions);
    // The past, so that the last day is today by the real clock.
    let start_ms = -(hours as i64) * HOUR_MS;
    for hour in 0..hours {
        server.set_clock(start_ms + hour as i64 * HOUR_MS)?;
        if hour % HOURS_OF_DAY == 0 {
            first_on.push(Vec::new());
        }
        let count =
            arguments.interactions * (hour + 1) / hours - arguments.interactions * hour / hours;
        let mut told: Vec<Told> = Vec::new();
        for _ in 0..count {
            let text = match kind(&mut random, met.is_empty()) {
                Way::New => {
                    let incident = fresh
                        .next()
                        .context("all incidents there are have happened")?;
                    met.push(incident);
                    first_on.last_mut().expect("a day has begun").push(incident);
                    (incident, incident.first())
                }
                Way::Verbatim(of) => (at(&met, of), at(&met, of).first()),
                Way::Reworded(of) => (at(&met, of), at(&met, of).reworded(&mut random)),
                Way::Retold(of) => (at(&met, of), at(&met, of).retold(&mut random)),
            };
            told.push(text);
        }
        for namespace in [CONSOLIDATED, NEVER] {
            learn(&client.in_namespace(namespace), &told, &mut known).await?;
        }
        for (incident, _) in &told {
            if random.random_bool(RECALLED) {
                let question = incident.question(&mut random);
                judge(&client, &channel, &question, *incident, &known).await?;
            }
        }
        passes.run(&channel).await?;
        progress.add(count);
    }
    progress.finish();

    wait_until_indexed(&client).await?;
    let mut by_age = Vec::new();
    let mut missed = Vec::new();
    let mut progress = Progress::new("questions", arguments.questions * first_on.len());
    for (day, incidents) in first_on.iter().enumerate() {
        let mut incidents = incidents.clone();
        incidents.shuffle(&mut random);
        let mut hits = [Hits::default(); 2];
        for incident in incidents.iter().take(arguments.questions) {
            let question = incident.question(&mut random);
            for (hits, namespace) in hits.iter_mut().zip([CONSOLIDATED, NEVER]) {
                let results = recall(&channel, namespace, &question).await?;
                let found = results
                    .iter()
                    .map(|result| known.told_by(result))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                let wanted = BTreeSet::from([*incident]);
                if hit_at(5, &found, &wanted) < 1.0 {
                    let age = first_on.len() - day;
                    missed.push(miss(namespace, age, *incident, &question, &results, &found));
                }
                hits.at_1 += hit_at(1, &found, &wanted);
                hits.at_5 += hit_at(5, &found, &wanted);
                hits.at_10 += hit_at(10, &found, &wanted);
                hits.asked += 1.0;
            }
            progress.add(1);
        }
        by_age.push((first_on.len() - day, hits));
    }
    progress.finish();
    if let Some(file) = &arguments.misses {
        write_lines(file, &missed)?;
    }
    let live = [
        live(&client, CONSOLIDATED).await?,
        live(&client, NEVER).await?,
    ];
    Ok(report(arguments, &by_age, live, &passes))
}

/// How an interaction is told, and of which incident of before.
enum Way {
    New,
    Verbatim(f64),
    Reworded(f64),
    Retold(f64),
}

fn kind(random: &mut StdRng, nothing_met: bool) -> Way {
    let drawn: f64 = random.random();
    // What happened lately happens again sooner than what is long ago.
    let of = random.random::<f64>().sqrt();
    match drawn {
        _ if nothing_met => Way::New,
        d if d < VERBATIM => Way::Verbatim(of),
        d if d < VERBATIM + REWORDED => Way::Reworded(of),
        d if d < VERBATIM + REWORDED + RETOLD => Way::Retold(of),
        _ => Way::New,
    }
}

fn at(met: &[Incident], share: f64) -> Incident {
    let at = (share * met.len() as f64) as usize;
    met[at.min(met.len() - 1)]
}

async fn learn(client: &Client, told: &[Told], known: &mut Known) -> anyhow::Result<()> {
    let experience = |(_, text): &Told| Experience::new(text, domain::INCIDENT_RESPONSE);
    if told.is_empty() {
        return Ok(());
    }
    let learned = client
        .learn(Learn::new(told.iter().map(experience)))
        .await
        .context("learn")?
        .learned;
    for ((incident, text), learned) in told.iter().zip(learned) {
        // One that was merged away answers with the key of the memory in its place.
        let own = Experience::new(text, domain::INCIDENT_RESPONSE);
        let own = own.key_in(client.namespace()).context("derive a key")?;
        known.incidents.insert(own, *incident);
        known.incidents.entry(learned.key).or_insert(*incident);
    }
    Ok(())
}

/// A recall in both namespaces, and feedback on the best result: whether it was about the incident.
async fn judge(
    client: &Client,
    channel: &Channel,
    question: &str,
    incident: Incident,
    known: &Known,
) -> anyhow::Result<()> {
    for namespace in [CONSOLIDATED, NEVER] {
        let results = recall(channel, namespace, question).await?;
        let Some(key) = results
            .first()
            .and_then(|r| r.memory.as_ref())
            .map(|m| &m.key)
        else {
            continue;
        };
        let key: Key = key.parse().context("read a key")?;
        let score = match known.incidents.get(&key) == Some(&incident) {
            true => 1.0,
            false => -1.0,
        };
        let feedback = GiveFeedback::new(key, score);
        let client = client.in_namespace(namespace);
        client.feedback(&feedback).await.context("give feedback")?;
    }
    Ok(())
}

/// A question whose incident is not among the first five, and what came instead.
fn miss(
    namespace: &str,
    age: usize,
    wanted: Incident,
    question: &str,
    results: &[v1::Recalled],
    found: &[BTreeSet<Incident>],
) -> Value {
    let result = |(result, told): (&v1::Recalled, &BTreeSet<Incident>)| {
        let parts = result.parts.unwrap_or_default();
        json!({
            "content": result.memory.as_ref().map(|m| &m.content),
            "is_wanted": told.contains(&wanted),
            "score": result.score,
            "parts": {
                "late": parts.late,
                "lexical": parts.lexical,
                "dense": parts.dense,
                "expansion": parts.expansion,
                "session": parts.session,
                "recency": parts.recency,
                "importance": parts.importance,
                "usefulness": parts.usefulness,
            },
        })
    };
    json!({
        "namespace": namespace,
        "days_old": age,
        "question": question,
        "wanted": wanted.first(),
        "results": results.iter().zip(found).map(result).collect::<Vec<_>>(),
    })
}

fn write_lines(file: &Path, lines: &[Value]) -> anyhow::Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

async fn recall(
    channel: &Channel,
    namespace: &str,
    question: &str,
) -> anyhow::Result<Vec<v1::Recalled>> {
    let request = v1::RecallRequest {
        namespace: namespace.to_owned(),
        query: question.to_owned(),
        limit: RESULTS,
        ..v1::RecallRequest::default()
    };
    let reply: v1::RecallResponse = rpc::call(channel, "/memorygate.v1.MemoryGate/Recall", request)
        .await
        .context("recall")?;
    Ok(reply.results)
}

async fn pause(channel: &Channel, namespace: &str) -> anyhow::Result<()> {
    let request = v1::SetPolicyRequest {
        namespace: namespace.to_owned(),
        policy: Some(v1::ConsolidationPolicy {
            paused: true,
            ..v1::ConsolidationPolicy::default()
        }),
        ..v1::SetPolicyRequest::default()
    };
    let reply: Result<v1::SetPolicyResponse, _> =
        rpc::call(channel, "/memorygate.v1.Consolidation/SetPolicy", request).await;
    reply.map(drop).context("pause consolidation")
}

/// Memories of a namespace that are not archived.
async fn live(client: &Client, namespace: &str) -> anyhow::Result<u64> {
    let stats = client
        .in_namespace(namespace)
        .stats()
        .await
        .context("read stats")?;
    let own = stats.namespaces.iter().filter(|n| n.namespace == namespace);
    Ok(own.map(|n| n.memories).sum())
}

/// What the passes did.
#[derive(Debug, Default)]
struct Passes {
    count: u64,
    done: u64,
    refused: u64,
    seconds: Vec<f64>,
}

impl Passes {
    async fn run(&mut self, channel: &Channel) -> anyhow::Result<()> {
        let last = crate::consolidation::run_pass(channel, CONSOLIDATED, false).await?;
        self.count += 1;
        self.done += last.done;
        self.refused += last.refused;
        self.seconds.push(last.seconds);
        Ok(())
    }
}

fn report(
    arguments: &Arguments,
    by_age: &[(usize, [Hits; 2])],
    live: [u64; 2],
    passes: &Passes,
) -> Report {
    let mut report = Report::new("retention");
    report.count("interactions", arguments.interactions as u64);
    report.count("days", u64::from(arguments.days));
    let mut table = Table::new(
        "Known incidents, asked for in other words",
        [
            "days old",
            "questions",
            "hit@1",
            "hit@5",
            "hit@10",
            "never consolidated: hit@1",
            "hit@5",
            "hit@10",
        ],
    );
    let mut all = [Hits::default(); 2];
    for (age, hits) in by_age {
        table.row(row(&age.to_string(), *hits));
        for (all, hits) in all.iter_mut().zip(hits) {
            all.at_1 += hits.at_1;
            all.at_5 += hits.at_5;
            all.at_10 += hits.at_10;
            all.asked += hits.asked;
        }
    }
    table.row(row("all", all));
    report.table(table);
    let [oldest, oldest_never] = by_age.first().map(|(_, hits)| *hits).unwrap_or_default();
    let day = arguments.days;
    report.number(&format!("hit_at_5_day_{day}"), oldest.at_5 / oldest.asked);
    report.number(
        &format!("hit_at_5_day_{day}_never_consolidated"),
        oldest_never.at_5 / oldest_never.asked,
    );
    for (name, hits) in [("", all[0]), ("_never_consolidated", all[1])] {
        report.number(&format!("hit_at_1{name}"), hits.at_1 / hits.asked);
        report.number(&format!("hit_at_5{name}"), hits.at_5 / hits.asked);
        report.number(&format!("hit_at_10{name}"), hits.at_10 / hits.asked);
    }
    report.number("live_share", live[0] as f64 / live[1] as f64);
    report.count("live", live[0]);
    report.count("live_never_consolidated", live[1]);
    report.count("passes", passes.count);
    report.count("steps_done", passes.done);
    report.count("steps_refused", passes.refused);
    let longest = passes.seconds.iter().copied().fold(0.0, f64::max);
    report.value(
        "pass_seconds",
        json!({
            "mean": rounded(passes.seconds.iter().sum::<f64>() / passes.count as f64),
            "max": rounded(longest),
        }),
    );
    report.note(format!(
        "{} memories are live, {} were without consolidation; {} passes took {} steps",
        live[0], live[1], passes.count, passes.done
    ));
    report
}

fn row(age: &str, [own, never]: [Hits; 2]) -> Vec<String> {
    let share = |hits: f64, asked: f64| format!("{:.3}", hits / asked);
    vec![
        age.to_owned(),
        format!("{}", own.asked),
        share(own.at_1, own.asked),
        share(own.at_5, own.asked),
        share(own.at_10, own.asked),
        share(never.at_1, never.asked),
        share(never.at_5, never.asked),
        share(never.at_10, never.asked),
    ]
}

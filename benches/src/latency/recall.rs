//! Recalls: with the query's embedding and without, filtered and not, alone and among others.
//!
//! The kinds take turns question by question in a random order, so that whatever else the machine
//! does hits all alike.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use memorygate_client::{Client, Filter, Recall, domain};
use memorygate_core::embedding::Embedder as _;
use memorygate_index::embed::MiniLm;
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    lessons::{HALF, Lessons},
    options::Options,
    progress::Progress,
    report::{Report, Table, rounded},
    server::Server,
    statistics::Sample,
    teach::connect,
};

/// Results of one recall.
const RESULTS: usize = 10;

/// Recalls before the first that counts.
const WARM_UP: usize = 50;

/// Callers at the same time, where there are several.
const CALLERS: usize = 8;

/// Recalls whose stages are read from the server's metrics.
const STAGED: usize = 200;

/// What embedding the queries of recalls took, in the server's metrics.
const EMBED_SUM: &str = "memorygate_recall_stage_seconds_sum{stage=\"embed\"}";

/// Of the questions' own seed, so that they are not those of the memories.
const SEED_OF_QUESTIONS: u64 = 0x7175_6572_7920_3f3f;

/// A question with its vector.
#[derive(Clone, Debug)]
struct Query {
    text: String,
    vector: Vec<f32>,
}

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As text; the server embeds it and runs the whole pipeline.
    Text,
    /// The same, over the half of the memories that a metadata entry names.
    TextFiltered,
    /// As text with its vector, so that nothing is embedded: both searches and the ranking run,
    /// late interaction has no states of the query to work with.
    Vector,
    /// The same, over the half that a metadata entry names.
    VectorFiltered,
    /// The same, over two of four domains.
    VectorOfDomains,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Text,
        Self::TextFiltered,
        Self::Vector,
        Self::VectorFiltered,
        Self::VectorOfDomains,
    ];

    /// In keys, which are this with `_p50_ms` and such behind.
    fn name(self) -> &'static str {
        match self {
            Self::Text => "recall",
            Self::TextFiltered => "recall_text_filtered",
            Self::Vector => "recall_vector",
            Self::VectorFiltered => "recall_filtered",
            Self::VectorOfDomains => "recall_filtered_domain",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Text => "text, embedding included",
            Self::TextFiltered => "the same, half of the memories by metadata",
            Self::Vector => "text with its vector, nothing to embed",
            Self::VectorFiltered => "the same, half of the memories by metadata",
            Self::VectorOfDomains => "the same, half of the memories by domain",
        }
    }

    fn recall(self, query: &Query) -> Recall {
        let recall = Recall::new(&query.text).limit(RESULTS);
        let by_metadata = || Filter::new().metadata(HALF.0, HALF.1);
        match self {
            Self::Text => recall,
            Self::TextFiltered => recall.filter(by_metadata()),
            Self::Vector => recall.vector(query.vector.clone()),
            Self::VectorFiltered => recall.vector(query.vector.clone()).filter(by_metadata()),
            Self::VectorOfDomains => {
                let filter = Filter::new()
                    .domain(domain::INFRASTRUCTURE)
                    .domain(domain::DEPLOYMENT);
                recall.vector(query.vector.clone()).filter(filter)
            }
        }
    }
}

pub(super) async fn measure(
    server: &Server,
    namespace: &str,
    options: &Options,
    count: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let count = usize::try_from(count).context("so many queries fit in no memory")?;
    let queries = Arc::new(queries(options, count)?);
    let client = connect(server)?.in_namespace(namespace);
    let header = [
        "recalls", "count", "p50 ms", "p95 ms", "p99 ms", "max ms", "a second",
    ];
    let mut table = Table::new("Recall, 10 results", header);
    one_caller(&client, &queries, options.seed, report, &mut table).await?;
    for kind in [Kind::Text, Kind::Vector] {
        several_callers(server, namespace, &queries, kind, report, &mut table).await?;
    }
    report.table(table);
    if server.is_own() {
        stages(server, &client, &queries, report).await?;
    }
    Ok(())
}

/// Questions with the vectors that the server's model makes of them.
fn queries(options: &Options, count: usize) -> anyhow::Result<Vec<Query>> {
    let dir = options.model_dir();
    let model = MiniLm::open(&dir, 1).with_context(|| {
        format!(
            "open the model in {}; name it with --model-dir",
            dir.display()
        )
    })?;
    let mut lessons = Lessons::new(options.seed ^ SEED_OF_QUESTIONS);
    let texts: Vec<String> = (0..count.max(WARM_UP))
        .map(|_| lessons.question())
        .collect();
    let embedded = model.embed_queries(&texts).context("embed the questions")?;
    let vectors = embedded.into_iter().map(|query| query.dense);
    Ok(texts
        .into_iter()
        .zip(vectors)
        .map(|(text, vector)| Query { text, vector })
        .collect())
}

async fn one_caller(
    client: &Client,
    queries: &[Query],
    seed: u64,
    report: &mut Report,
    table: &mut Table,
) -> anyhow::Result<()> {
    for query in queries.iter().take(WARM_UP) {
        for kind in Kind::ALL {
            timed_ms(client, &kind.recall(query)).await?;
        }
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut times: Vec<(Kind, Vec<f64>)> = Kind::ALL.map(|kind| (kind, Vec::new())).into();
    let mut progress = Progress::new("recall, one caller", queries.len() * Kind::ALL.len());
    for query in queries {
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.shuffle(&mut random);
        for at in order {
            let (kind, of_kind) = &mut times[at];
            of_kind.push(timed_ms(client, &kind.recall(query)).await?);
            progress.add(1);
        }
    }
    progress.finish();
    for (kind, times) in times {
        let busy_s = times.iter().sum::<f64>() / 1e3;
        enter(kind.name(), kind.title(), times, busy_s, report, table)?;
    }
    Ok(())
}

async fn several_callers(
    server: &Server,
    namespace: &str,
    queries: &Arc<Vec<Query>>,
    kind: Kind,
    report: &mut Report,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut callers = JoinSet::new();
    eprintln!(
        "recall, {CALLERS} callers, {}: {}",
        kind.title(),
        queries.len()
    );
    let start = Instant::now();
    for caller in 0..CALLERS {
        let client = connect(server)?.in_namespace(namespace);
        let queries = Arc::clone(queries);
        callers.spawn(async move {
            let mut times = Vec::new();
            for query in queries.iter().skip(caller).step_by(CALLERS) {
                times.push(timed_ms(&client, &kind.recall(query)).await?);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(queries.len());
    while let Some(of_caller) = callers.join_next().await {
        times.extend(of_caller.context("a caller panicked")??);
    }
    let elapsed_s = start.elapsed().as_secs_f64();
    let name = format!("{}_{CALLERS}", kind.name());
    let title = format!("{CALLERS} callers, {}", kind.title());
    enter(&name, &title, times, elapsed_s, report, table)
}

fn enter(
    name: &str,
    title: &str,
    times: Vec<f64>,
    elapsed_s: f64,
    report: &mut Report,
    table: &mut Table,
) -> anyhow::Result<()> {
    let sample = Sample::new(times).context("no recall was made")?;
    let per_s = sample.count() as f64 / elapsed_s;
    let mut cells = vec![title.to_owned(), sample.count().to_string()];
    for percent in [50.0, 95.0, 99.0] {
        let value = sample.percentile(percent);
        report.number(&format!("{name}_p{percent}_ms"), value);
        cells.push(format!("{value:.2}"));
    }
    report.number(&format!("{name}_per_s"), per_s);
    cells.extend([format!("{:.2}", sample.greatest()), format!("{per_s:.0}")]);
    table.row(cells);
    Ok(())
}

/// Where the time of a recall by text goes, as the server sees it: the mean of every histogram that
/// such recalls add to; and what is left of each when its embedding is taken off, which is the whole
/// pipeline, late interaction included.
async fn stages(
    server: &Server,
    client: &Client,
    queries: &[Query],
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut rest_ms = Vec::with_capacity(STAGED);
    let before = server.metrics().await?;
    let mut last = before.clone();
    for query in queries.iter().cycle().take(STAGED) {
        let elapsed_ms = timed_ms(client, &Kind::Text.recall(query)).await?;
        let now = server.metrics().await?;
        let embed_s = now.value(EMBED_SUM)? - last.value(EMBED_SUM)?;
        rest_ms.push(elapsed_ms - embed_s * 1e3);
        last = now;
    }
    let after = last;
    let rest = Sample::new(rest_ms).context("no recall was made")?;
    let (p50, p99) = (rest.percentile(50.0), rest.percentile(99.0));
    report.number("recall_without_embed_p50_ms", p50);
    report.number("recall_without_embed_p99_ms", p99);
    let caption =
        format!("Where {STAGED} recalls by text spend their time, by the server's metrics");
    let mut table = Table::new(caption, ["histogram", "mean ms", "a recall"]);
    let mut stages = serde_json::Map::new();
    for name in after.histograms() {
        for (labels, mean_ms, count) in after.means_ms_since(&before, &name) {
            let series = format!("{name}{labels}");
            let per_recall = count / STAGED as f64;
            table.row([
                series.clone(),
                format!("{mean_ms:.3}"),
                format!("{per_recall:.2}"),
            ]);
            stages.insert(
                series,
                json!({
                    "mean_ms": rounded(mean_ms),
                    "per_recall": rounded(per_recall),
                }),
            );
        }
    }
    let rest =
        format!("all but the embedding, as the caller sees it: p50 {p50:.2}, p99 {p99:.2} ms");
    report.table(table);
    report.note(format!("Of these recalls, {rest}."));
    report.value("stages", stages.into());
    Ok(())
}

async fn timed_ms(client: &Client, recall: &Recall) -> anyhow::Result<f64> {
    let start = Instant::now();
    let reply = client.recall(recall).await.context("recall")?;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        !reply.results.is_empty(),
        "a recall of {:?} found nothing",
        recall.query
    );
    Ok(elapsed_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_asks_what_it_says() {
        let query = Query {
            text: "why?".to_owned(),
            vector: vec![1.0; 384],
        };
        for kind in Kind::ALL {
            let recall = kind.recall(&query);
            assert_eq!(recall.query, "why?");
            let is_text = matches!(kind, Kind::Text | Kind::TextFiltered);
            assert_eq!(recall.vector.is_empty(), is_text, "{kind:?}");
            let is_whole = matches!(kind, Kind::Text | Kind::Vector);
            assert_eq!(recall.filter == Filter::new(), is_whole, "{kind:?}");
        }
    }
}

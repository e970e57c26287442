//! `mgctl recall`: find the memories relevant to a task, each with its score taken apart.

use std::io::Read as _;

use anyhow::Context as _;
use memorygate_client::{
    Freshness, Position, Recall, RecallReply, Recalled, Stage, Weights, record::LinkRecord,
    record::MemoryRecord, time,
};
use serde::Serialize;

use crate::{
    args::{self, FilterArgs, Global, Past},
    get,
    output::{Output, PositionRecord},
    style,
};

/// Lines of one memory's content that are shown without `--full`.
const LINES_SHOWN: usize = 4;

const EXAMPLES: &str = "\
Examples:
  mgctl recall \"java pod dies with 137 and there is no heap error\"
  mgctl recall certificate expired -d incident_response --since 90d --limit 3
  mgctl recall \"certificate of the old proxy\" --archived include
  mgctl recall \"checkout returns 502\" --as-of 2026-11-01T12:00:00Z
  mgctl recall \"slow rollout\" --agent ada --team sre --output json
  mgctl recall \"disk full\" --namespace ops --namespace checkout
  mgctl recall \"disk full\" --without recency --weight lexical=0.5 --links";

/// Find the memories relevant to a task, best first, each with its score taken apart
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The task or question, in any words; `-` reads standard input
    #[arg(required = true)]
    query: Vec<String>,
    /// How many results, 1 to 1000
    #[arg(long, short, value_name = "COUNT", default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    filter: FilterArgs,
    /// Set a weight of the ranking for this recall: late, lexical, dense, expansion, session,
    /// recency, importance, usefulness or trust; may be repeated
    #[arg(long, value_name = "NAME=NUMBER", value_parser = weight)]
    weight: Vec<(WeightName, f32)>,
    /// Switch off a stage of the ranking; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    without: Vec<StageName>,
    /// Add memories that the results link to
    #[arg(long)]
    links: bool,
    /// Answer at this position or later: CLUSTER/GROUP/INDEX, as `mgctl stats` shows it
    #[arg(long, value_name = "POSITION")]
    at_least: Option<Position>,
    /// See everything that anyone was told is done, whichever node answers: it asks the leader first
    #[arg(long, conflicts_with = "at_least")]
    linearizable: bool,
    #[command(flatten)]
    past: Past,
    /// Show contents whole
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StageName {
    Dense,
    Lexical,
    Neighbours,
    Late,
    Expansion,
    Session,
    Recency,
    Importance,
    Usefulness,
    Trust,
    Fold,
    Diversity,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WeightName {
    Late,
    Lexical,
    Dense,
    Expansion,
    Session,
    Recency,
    Importance,
    Usefulness,
    Trust,
}

#[derive(Serialize)]
struct Document {
    results: Vec<Result>,
    position: PositionRecord,
}

#[derive(Serialize)]
struct Result {
    score: f32,
    parts: Parts,
    memory: MemoryRecord,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    folded: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_from: Option<LinkRecord>,
}

#[derive(Serialize)]
struct Parts {
    late: f32,
    lexical: f32,
    dense: f32,
    expansion: f32,
    session: f32,
    recency: f32,
    importance: f32,
    usefulness: f32,
    trust: f32,
    link: f32,
    raw_dense: f32,
    raw_lexical: f32,
    raw_late: f32,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let mut recall = recall(&args)?;
    if let [_, _, ..] = global.namespace.as_slice() {
        recall = recall.namespaces(&global.namespace);
    }
    let is_of_several = !recall.namespaces.is_empty();
    let reply = global.client()?.recall(&recall).await?;
    if output.is_json() {
        output.json(&document(&reply))?;
        return Ok(());
    }
    if reply.results.is_empty() {
        output.line("nothing found")?;
    }
    for (at, line) in breakdowns(&reply.results).iter().enumerate() {
        let recalled = &reply.results[at];
        if at > 0 {
            output.line("")?;
        }
        let mut block = block(at + 1, recalled, line, args.full, output);
        if is_of_several {
            let namespace = format!("    in {}", recalled.memory.namespace);
            block.insert(1, output.style.dim(&namespace));
        }
        for line in block {
            output.line(&line)?;
        }
    }
    Ok(())
}

fn recall(args: &Args) -> anyhow::Result<Recall> {
    let query = if args.query == ["-"] {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
        text.trim().to_owned()
    } else {
        args.query.join(" ")
    };
    let mut weights = Weights::default();
    for (name, value) in &args.weight {
        let weight = match name {
            WeightName::Late => &mut weights.late,
            WeightName::Lexical => &mut weights.lexical,
            WeightName::Dense => &mut weights.dense,
            WeightName::Expansion => &mut weights.expansion,
            WeightName::Session => &mut weights.session,
            WeightName::Recency => &mut weights.recency,
            WeightName::Importance => &mut weights.importance,
            WeightName::Usefulness => &mut weights.usefulness,
            WeightName::Trust => &mut weights.trust,
        };
        *weight = Some(*value);
    }
    let mut recall = Recall::new(query)
        .limit(args.limit)
        .filter(args.filter.filter())
        .weights(weights)
        .link_hops(u32::from(args.links));
    recall.as_of = args.past.as_of;
    recall.without = args.without.iter().map(|name| stage(*name)).collect();
    if args.linearizable {
        recall.freshness = Freshness::Linearizable;
    }
    if let Some(position) = args.at_least {
        recall.freshness = Freshness::AtLeast(position);
    }
    Ok(recall)
}

/// What is shown of one result: a heading, the content, and the score taken apart.
fn block(
    number: usize,
    recalled: &Recalled,
    breakdown: &str,
    full: bool,
    output: &Output,
) -> Vec<String> {
    let (memory, style) = (&recalled.memory, output.style);
    let mut about = vec![
        memory.domain.clone(),
        time::relative(memory.last_seen_at, output.now),
    ];
    about.extend(memory.agent.as_ref().map(|agent| format!("by {agent}")));
    if memory.occurrences > 1 {
        about.push(format!("seen {} times", memory.occurrences));
    }
    if memory.uses > 0 {
        let times = style::count(memory.uses.into(), "time");
        about.push(format!("used {times}"));
    }
    match memory.merged.len() as u64 {
        0 => {}
        sources => about.push(format!("with {sources} merged into it")),
    }
    if let Some(archived) = &memory.archived {
        about.push(format!("archived: {}", get::told(archived.reason)));
    }
    if let Some(link) = &recalled.linked_from {
        about.push(format!("{} of {}", link.relation.as_str(), link.target));
    }
    match recalled.folded.len() {
        0 => {}
        1 => about.push("and 1 like it".to_owned()),
        count => about.push(format!("and {count} like it")),
    }
    let about = style::printable(&about.join(" · "));
    let head = style.bold(&format!("{number:>2}. {:+.3}", recalled.score));
    let mut lines = vec![format!("{head}  {about}")];
    lines.push(style.dim(&format!("    {}", memory.key)));
    let content = style::wrap(&memory.content, style.width - 4);
    let shown = if full { content.len() } else { LINES_SHOWN };
    lines.extend(content.iter().take(shown).map(|line| format!("    {line}")));
    if content.len() > shown {
        let more = content.len() - shown;
        let noun = if more == 1 { "line" } else { "lines" };
        lines.push(style.dim(&format!("    … {more} more {noun} (--full)")));
    }
    lines.push(style.dim(&format!("    {breakdown}")));
    lines
}

/// One line for each result, in columns; a part that is 0 in all of them is left out.
fn breakdowns(results: &[Recalled]) -> Vec<String> {
    let parts: Vec<_> = results.iter().map(|r| r.parts.named()).collect();
    let columns: Vec<usize> = (0..parts.first().map_or(0, |row| row.len()))
        .filter(|column| parts.iter().any(|row| row[*column].1 != 0.0))
        .collect();
    let cell = |row: &[(&str, f32)], column: usize| {
        let (name, value) = row[column];
        format!("{name} {value:+.3}")
    };
    parts
        .iter()
        .map(|row| {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| {
                    let width = parts.iter().map(|row| cell(row, *column).len()).max();
                    let width = width.unwrap_or(0);
                    format!("{:>width$}", cell(row, *column))
                })
                .collect();
            cells.join("  ")
        })
        .collect()
}

fn document(reply: &RecallReply) -> Document {
    let result = |recalled: &Recalled| {
        let parts = recalled.parts;
        Result {
            score: recalled.score,
            parts: Parts {
                late: parts.late,
                lexical: parts.lexical,
                dense: parts.dense,
                expansion: parts.expansion,
                session: parts.session,
                recency: parts.recency,
                importance: parts.importance,
                usefulness: parts.usefulness,
                trust: parts.trust,
                link: parts.link,
                raw_dense: parts.raw_dense,
                raw_lexical: parts.raw_lexical,
                raw_late: parts.raw_late,
            },
            memory: MemoryRecord::from(&recalled.memory),
            folded: recalled.folded.iter().map(ToString::to_string).collect(),
            linked_from: recalled.linked_from.as_ref().map(LinkRecord::from),
        }
    };
    Document {
        results: reply.results.iter().map(result).collect(),
        position: reply.position.into(),
    }
}

fn stage(name: StageName) -> Stage {
    match name {
        StageName::Dense => Stage::Dense,
        StageName::Lexical => Stage::Lexical,
        StageName::Neighbours => Stage::Neighbours,
        StageName::Late => Stage::Late,
        StageName::Expansion => Stage::Expansion,
        StageName::Session => Stage::Session,
        StageName::Recency => Stage::Recency,
        StageName::Importance => Stage::Importance,
        StageName::Usefulness => Stage::Usefulness,
        StageName::Trust => Stage::Trust,
        StageName::Fold => Stage::Fold,
        StageName::Diversity => Stage::Diversity,
    }
}

fn weight(text: &str) -> std::result::Result<(WeightName, f32), String> {
    use clap::ValueEnum as _;
    let (name, value) = args::pair(text).map_err(|_| "expected NAME=NUMBER".to_owned())?;
    let name = WeightName::from_str(&name, false).map_err(|_| {
        let known: Vec<_> = WeightName::value_variants()
            .iter()
            .filter_map(clap::ValueEnum::to_possible_value)
            .map(|v| v.get_name().to_owned())
            .collect();
        format!("expected one of {}", known.join(", "))
    })?;
    let value = value
        .parse()
        .map_err(|_| format!("expected a number, not {value:?}"))?;
    Ok((name, value))
}

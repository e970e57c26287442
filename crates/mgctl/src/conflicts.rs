//! `mgctl conflicts`: memories that contradict each other, and who is right.

use clap::Subcommand;
use memorygate_client::{
    Key, Memory,
    consolidation::{Conflict, ListConflicts, Resolve},
    record::MemoryRecord,
    time,
};
use serde::Serialize;

use crate::{
    args::{self, Global, Repeat},
    failure::Operation,
    output::Output,
    style,
};

/// Conflicts on one page from the server.
const PAGE_SIZE: usize = 200;

/// Lines of each memory's content that are shown without `--full`.
const LINES_SHOWN: usize = 3;

/// Where to look for conflicts.
const LOOK: &str = "mgctl conflicts list";

const EXAMPLES: &str = "\
Consolidation finds pairs that contradict each other, such as \"raise the limit\" and \"do not raise the limit\".
Both stay as they are until someone decides.

Examples:
  mgctl conflicts list
  mgctl conflicts resolve RIGHT WRONG
  mgctl conflicts resolve KEY OTHER --both-hold";

/// Show memories that contradict each other, and say which is right
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(List),
    /// Say which of two memories is right, or that both are
    #[command(after_help = "\
The other one is superseded and goes to the archive (`mgctl restore` brings it back). With --both-hold, both
stay, and the pair is not noted again.

Examples:
  mgctl conflicts resolve 4cd11579fb7e1d99b1ee59b85a9d8ca0 3e386258c7417badaa17c5e79aa98e29
  mgctl conflicts resolve 4cd11579fb7e1d99b1ee59b85a9d8ca0 3e386258c7417badaa17c5e79aa98e29 --both-hold")]
    Resolve {
        /// The one that is right, unless both are
        #[arg(value_parser = args::key)]
        key: Key,
        /// The other one
        #[arg(value_parser = args::key)]
        other: Key,
        /// Both hold: it is no conflict
        #[arg(long)]
        both_hold: bool,
        #[command(flatten)]
        repeat: Repeat,
    },
}

/// Show pairs that contradict each other, in key order
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  mgctl conflicts list\n  mgctl conflicts list --resolved --all -o json"
)]
struct List {
    /// How many to show
    #[arg(
        long,
        short,
        value_name = "COUNT",
        default_value_t = 20,
        conflicts_with = "all"
    )]
    limit: usize,
    /// Show all
    #[arg(long)]
    all: bool,
    /// Show those that were decided too
    #[arg(long)]
    resolved: bool,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    /// Show contents whole
    #[arg(long)]
    full: bool,
}

#[derive(Serialize)]
struct Document {
    a: MemoryRecord,
    b: MemoryRecord,
    found_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    match args.verb {
        Verb::List(verb) => list(verb, global, output).await,
        Verb::Resolve {
            key,
            other,
            both_hold,
            repeat,
        } => {
            let mut resolve = Resolve::new(key, other);
            resolve.both_hold = both_hold;
            resolve.request_id = repeat.request_id;
            decide(&resolve, global, output).await
        }
    }
}

fn operation(doing: &str) -> Operation {
    Operation {
        doing: doing.to_owned(),
        look: LOOK,
    }
}

async fn decide(resolve: &Resolve, global: &Global, output: &Output) -> anyhow::Result<()> {
    let resolved = global.client()?.consolidation().resolve(resolve).await;
    let mutation =
        resolved.map_err(|e| anyhow::Error::new(e).context(operation("decide a conflict")))?;
    let Resolve { key, other, .. } = resolve;
    if output.is_json() {
        output.mutation(&mutation, "resolved")?;
    } else if resolve.both_hold {
        output.line(&format!("both hold: {key} and {other}"))?;
    } else {
        output.line(&format!("{key} holds; {other} is superseded and archived"))?;
    }
    Ok(())
}

async fn list(args: List, global: &Global, output: &Output) -> anyhow::Result<()> {
    let consolidation = global.client()?.consolidation();
    let mut left = if args.all { usize::MAX } else { args.limit };
    let mut token = args.page_token.clone().unwrap_or_default();
    let (mut shown, mut more) = (0, false);
    while left > 0 {
        let mut list = ListConflicts::new()
            .page_size(left.min(PAGE_SIZE))
            .page_token(token.clone());
        list.resolved = args.resolved;
        let page = consolidation.conflicts_page(&list).await;
        let page =
            page.map_err(|e| anyhow::Error::new(e).context(operation("list the conflicts")))?;
        left -= page.conflicts.len().min(left);
        for conflict in &page.conflicts {
            shown += 1;
            if output.is_json() {
                output.json(&Document::from(conflict))?;
            } else {
                show(shown, conflict, args.full, output)?;
            }
        }
        more = page.next.is_some();
        match page.next {
            Some(next) => token = next,
            None => break,
        }
    }
    if shown == 0 && !output.is_json() {
        output.line("no conflicts")?;
    }
    if more && left == 0 {
        output.note(&format!(
            "there are more: --all, or go on with --page-token {token}"
        ));
    }
    Ok(())
}

fn show(number: u64, conflict: &Conflict, full: bool, output: &Output) -> anyhow::Result<()> {
    if number > 1 {
        output.line("")?;
    }
    let mut about = vec![
        conflict.a.domain.clone(),
        format!("found {}", time::relative(conflict.found_at, output.now)),
    ];
    about.extend(
        conflict
            .resolved_at
            .map(|at| format!("decided {}", time::relative(at, output.now))),
    );
    let head = output.style.bold(&format!("{number:>2}."));
    let about = style::printable(&about.join(" · "));
    output.line(&format!("{head} {about}"))?;
    for memory in [&conflict.a, &conflict.b] {
        output.line(&format!("    {}", heading(memory, output)))?;
        let content = style::wrap(&memory.content, output.style.width - 6);
        let lines = if full { content.len() } else { LINES_SHOWN };
        for line in content.iter().take(lines) {
            output.line(&format!("      {line}"))?;
        }
        if content.len() > lines {
            let more = style::count((content.len() - lines) as u64, "more line");
            let more = format!("      … {more} (--full)");
            output.line(&output.style.dim(&more))?;
        }
    }
    Ok(())
}

/// What helps to decide.
fn heading(memory: &Memory, output: &Output) -> String {
    let mut about = vec![
        memory.key.to_string(),
        format!("learned {}", time::relative(memory.created_at, output.now)),
    ];
    about.extend(memory.agent.as_ref().map(|agent| format!("by {agent}")));
    if memory.occurrences > 1 {
        about.push(format!("seen {} times", memory.occurrences));
    }
    if memory.feedback.count > 0 {
        let ratings = style::count(memory.feedback.count.into(), "rating");
        about.push(format!(
            "usefulness {:.2} by {ratings}",
            memory.feedback.usefulness
        ));
    }
    if memory.archived.is_some() {
        about.push("archived".to_owned());
    }
    style::printable(&about.join(" · "))
}

impl From<&Conflict> for Document {
    fn from(conflict: &Conflict) -> Self {
        Self {
            a: MemoryRecord::from(&conflict.a),
            b: MemoryRecord::from(&conflict.b),
            found_at: time::format(conflict.found_at),
            resolved_at: conflict.resolved_at.map(time::format),
        }
    }
}

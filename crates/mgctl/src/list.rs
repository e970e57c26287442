//! `mgctl list`: memories in key order.

use comfy_table::{Cell, CellAlignment, Table, presets};
use memorygate_client::{List, Memory, record::MemoryRecord, time};

use crate::{
    args::{FilterArgs, Global, Past, Recency},
    get,
    output::Output,
    style,
};

/// Digits of a key in a table.
const KEY_DIGITS: usize = 12;

/// Memories on one page from the server.
const PAGE_SIZE: usize = 500;

const EXAMPLES: &str = "\
Examples:
  mgctl list
  mgctl list -d deployment --since 7d --wide
  mgctl list --archived only
  mgctl list --as-of 2026-11-01 --all
  mgctl list --all --everything --output json | jq -r .key
  mgctl list --limit 20 --page-token TOKEN";

/// List memories in key order
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many to show
    #[arg(
        long,
        short,
        value_name = "COUNT",
        default_value_t = 50,
        conflicts_with = "all"
    )]
    limit: usize,
    /// Show all
    #[arg(long)]
    all: bool,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    /// Show keys whole, and more columns
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    recency: Recency,
    #[command(flatten)]
    past: Past,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let mut left = if args.all { usize::MAX } else { args.limit };
    let mut token = args.page_token.clone().unwrap_or_default();
    let mut memories = Vec::new();
    let mut more = false;
    while left > 0 {
        let list = List::new()
            .filter(args.filter.filter())
            .page_size(left.min(PAGE_SIZE))
            .page_token(token.clone())
            .freshness(args.recency.freshness());
        let list = List {
            as_of: args.past.as_of,
            ..list
        };
        let page = client.list_page(&list).await?;
        left -= page.memories.len().min(left);
        if output.is_json() {
            for memory in &page.memories {
                output.json(&MemoryRecord::from(memory))?;
            }
        } else {
            memories.extend(page.memories);
        }
        more = page.next.is_some();
        match page.next {
            Some(next) => token = next,
            None => break,
        }
    }
    if !output.is_json() {
        if memories.is_empty() {
            output.line("no memories")?;
        } else {
            output.line(&table(&memories, &args, output))?;
        }
    }
    if more && left == 0 {
        output.note(&format!(
            "there are more: --all, or go on with --page-token {token}"
        ));
    }
    Ok(())
}

fn table(memories: &[Memory], args: &Args, output: &Output) -> String {
    let mut table = Table::new();
    let (wide, with_archive) = (args.wide, args.filter.archived.is_some());
    table.load_preset(presets::NOTHING);
    let mut head = vec!["KEY", "DOMAIN", "HAPPENED", "IMP", "SEEN", "AGENT"];
    if wide {
        head.extend(["SCOPE", "SESSION", "USEFUL", "VERSION"]);
    }
    if with_archive {
        head.push("ARCHIVED");
    }
    head.push("CONTENT");
    table.set_header(head.into_iter().map(|h| Cell::new(output.style.dim(h))));
    for memory in memories {
        let key = memory.key.to_string();
        let shown = if wide { key.len() } else { KEY_DIGITS };
        let name = |name: &Option<String>| style::one_line(name.as_deref().unwrap_or("-"), 20);
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut row = vec![
            Cell::new(&key[..shown]),
            Cell::new(&memory.domain),
            Cell::new(time::relative(memory.occurred_at, output.now)),
            number(format!("{:.2}", memory.importance)),
            number(memory.occurrences.to_string()),
            Cell::new(name(&memory.agent)),
        ];
        if wide {
            row.push(Cell::new(style::one_line(&memory.scope.to_string(), 20)));
            row.push(Cell::new(name(&memory.session)));
            row.push(number(format!("{:.2}", memory.feedback.usefulness)));
            row.push(number(memory.version.to_string()));
        }
        if with_archive {
            let why = memory.archived.map(|archived| get::told(archived.reason));
            row.push(Cell::new(why.as_deref().unwrap_or("-")));
        }
        row.push(Cell::new(style::one_line(&memory.content, 60)));
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n")
}

//! `mgctl get`: one memory, whole.

use memorygate_client::{Get, Key, Memory, memory::Reason, record::MemoryRecord, time};

use crate::{
    args::{self, Global, Past, Recency},
    failure::NotFound,
    output::Output,
    style,
};

const EXAMPLES: &str = "\
Examples:
  mgctl get 4cd11579fb7e1d99b1ee59b85a9d8ca0
  mgctl get 4cd11579fb7e1d99b1ee59b85a9d8ca0 --as-of 7d
  mgctl get 4cd11579fb7e1d99b1ee59b85a9d8ca0 --agent ada --output json | jq .metadata";

/// Show one memory
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
    #[command(flatten)]
    recency: Recency,
    #[command(flatten)]
    past: Past,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let get = Get {
        as_of: args.past.as_of,
        ..Get::new(args.key).freshness(args.recency.freshness())
    };
    let memory = global.client()?.get(get).await?;
    let memory = memory.ok_or(NotFound(args.key))?;
    if output.is_json() {
        output.json(&MemoryRecord::from(&memory))?;
        return Ok(());
    }
    for (name, value) in fields(&memory, output) {
        let name = output.style.dim(&format!("{name:<11}"));
        output.line(&format!("{name} {}", style::printable(&value)))?;
    }
    output.line("")?;
    for line in style::wrap(&memory.content, output.style.width) {
        output.line(&line)?;
    }
    Ok(())
}

/// Everything but the content; what says nothing is left out.
fn fields(memory: &Memory, output: &Output) -> Vec<(&'static str, String)> {
    let instant = |at| {
        let age = time::relative(at, output.now);
        format!("{} ({age})", time::format(at))
    };
    let mut fields = vec![
        ("key", memory.key.to_string()),
        ("namespace", memory.namespace.clone()),
        ("scope", memory.scope.to_string()),
        ("domain", memory.domain.clone()),
        ("happened", instant(memory.occurred_at)),
    ];
    if memory.last_seen_at != memory.occurred_at {
        fields.push(("last seen", instant(memory.last_seen_at)));
    }
    if memory.occurrences > 1 {
        fields.push(("seen", format!("{} times", memory.occurrences)));
    }
    if let Some(at) = memory.last_used_at {
        let times = style::count(memory.uses.into(), "time");
        fields.push(("used", format!("{times}, last {}", instant(at))));
    }
    fields.push(("importance", format!("{:.2}", memory.importance)));
    fields.extend(rated(memory).map(|rated| ("usefulness", rated)));
    fields.extend(memory.agent.clone().map(|agent| ("agent", agent)));
    fields.extend(memory.session.clone().map(|session| ("session", session)));
    for (key, value) in &memory.metadata {
        fields.push(("metadata", format!("{key}={value}")));
    }
    for link in &memory.links {
        let relation = link.relation.as_str();
        fields.push(("link", format!("{relation} {}", link.target)));
    }
    for source in &memory.merged {
        fields.push(("merged", source.to_string()));
    }
    for sharing in &memory.shared_by {
        let by = sharing.agent.as_deref().unwrap_or("a member of the team");
        let at = instant(sharing.at);
        fields.push(("shared", format!("by {by}, {at}")));
    }
    if let Some(archived) = &memory.archived {
        fields.push((
            "archived",
            format!("{}, {}", told(archived.reason), instant(archived.at)),
        ));
    }
    match (memory.expires_at, memory.pinned) {
        (Some(at), false) => fields.push(("expires", instant(at))),
        (Some(at), true) => fields.push(("expires", format!("pinned, else {}", instant(at)))),
        (None, true) => fields.push(("expires", "never (pinned)".to_owned())),
        (None, false) => {}
    }
    fields.push(("created", instant(memory.created_at)));
    fields.push((
        "version",
        format!("{}, changed {}", memory.version, instant(memory.updated_at)),
    ));
    fields.push(("model", memory.model.clone()));
    fields
}

/// What was said of its use; `None` if nobody did.
pub(crate) fn rated(memory: &Memory) -> Option<String> {
    let feedback = memory.feedback;
    (feedback.count > 0).then(|| {
        let ratings = style::count(feedback.count.into(), "rating");
        format!(
            "{:.2} by {ratings} (+{:.2} −{:.2})",
            feedback.usefulness, feedback.positive, feedback.negative
        )
    })
}

/// Why a memory is in the archive.
pub(crate) fn told(reason: Reason) -> String {
    match reason {
        Reason::Faded => "faded".to_owned(),
        Reason::Merged { into } => format!("merged into {into}"),
        Reason::Superseded { by } => format!("superseded by {by}"),
        Reason::Shared { to } => format!("shared as {to}"),
        Reason::Withheld => "lives on where you do not see it".to_owned(),
    }
}

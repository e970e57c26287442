//! `mgctl history`: how a memory came to be what it is.
//!
//! It is put together from what is stored: the memory, those that were merged into it, the epochs of
//! consolidation and the conflicts that name it. Of what is only counted, such as being met again or
//! rated, the last time and the sum are known, and shown.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use memorygate_client::{
    Client, Key, Memory, TimeMs,
    consolidation::{Conflict, DoneStep, ListConflicts, StepKind},
    memory::Reason,
    time,
};
use serde::Serialize;

use crate::{
    args::{self, Global},
    failure::{NotFound, Operation},
    get,
    output::Output,
    style,
};

/// Epochs on one page from the server.
const EPOCHS_PER_PAGE: usize = 1000;

/// Pages of epochs that are looked through, newest first: at one pass an hour, all of 90 days are
/// three.
const EPOCH_PAGES_MAX: usize = 10;

/// Conflicts on one page from the server.
const CONFLICTS_PER_PAGE: usize = 200;

const EXAMPLES: &str = "\
Who learned it and when, what was merged into it and by which epoch, what it was found to contradict. Epochs
are known for 90 days; each can be undone (`mgctl consolidate undo`).

Examples:
  mgctl history 4cd11579fb7e1d99b1ee59b85a9d8ca0
  mgctl history 4cd11579fb7e1d99b1ee59b85a9d8ca0 --output json | jq '.events[].epoch'";

/// Show how a memory came to be what it is
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// 32 hexadecimal digits
    #[arg(value_parser = args::key)]
    key: Key,
}

#[derive(Serialize)]
struct Document<'a> {
    key: String,
    version: u64,
    occurrences: u32,
    uses: u32,
    ratings: u32,
    usefulness: f32,
    /// False if there were more epochs than are looked through.
    is_complete: bool,
    events: &'a [Event],
}

#[derive(Clone, Debug, Serialize)]
struct Event {
    #[serde(serialize_with = "rfc3339")]
    at: TimeMs,
    what: What,
    /// The other memory that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    /// The beginning of that one's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

/// In the order in which those of one moment are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Learned,
    LearnedInOtherWords,
    TookIn,
    Relinked,
    FoundToContradict,
    Decided,
    Faded,
    MergedInto,
    SupersededBy,
    SharedFromNarrower,
    SharedAs,
    LivesOnUnseen,
    LastMet,
    LastUsed,
    LastChanged,
}

/// What is known of a memory besides itself.
struct Lineage {
    /// Those that were merged into it.
    sources: Vec<Memory>,
    /// Steps that name it, each with its epoch and when it was.
    steps: Vec<(u64, TimeMs, DoneStep)>,
    conflicts: Vec<Conflict>,
    is_complete: bool,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let memory = client.get(args.key).await?.ok_or(NotFound(args.key))?;
    let lineage = lineage(&client, &memory).await.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: "look for what became of it".to_owned(),
            look: "mgctl consolidate history",
        })
    })?;
    let events = events(&memory, &lineage);
    if output.is_json() {
        output.json(&Document {
            key: memory.key.to_string(),
            version: memory.version,
            occurrences: memory.occurrences,
            uses: memory.uses,
            ratings: memory.feedback.count,
            usefulness: memory.feedback.usefulness,
            is_complete: lineage.is_complete,
            events: &events,
        })?;
        return Ok(());
    }
    let style = output.style;
    let text = style::quoted(&memory.content, style.width, 33);
    output.line(&format!("{} {text}", style.bold(&memory.key.to_string())))?;
    output.line(&sums(&memory))?;
    output.line("")?;
    for event in &events {
        let when = style.dim(&time::format(event.at));
        let age = time::relative(event.at, output.now);
        output.line(&format!(
            "{when}  {age:<14}  {}",
            style::printable(&told(event))
        ))?;
        if let Some(content) = &event.content {
            output.line(&format!("    {}", style::quoted(content, style.width, 4)))?;
        }
    }
    if !lineage.is_complete {
        output.note("there are older epochs, which were not looked through");
    }
    Ok(())
}

/// What is counted.
fn sums(memory: &Memory) -> String {
    let mut sums = vec![format!("version {}", memory.version)];
    let times = |count: u32| style::count(count.into(), "time");
    sums.push(format!("met {}", times(memory.occurrences)));
    sums.push(format!("used {}", times(memory.uses)));
    sums.extend(get::rated(memory).map(|rated| format!("usefulness {rated}")));
    sums.join(" · ")
}

async fn lineage(client: &Client, memory: &Memory) -> Result<Lineage, memorygate_client::Error> {
    let mut sources = Vec::with_capacity(memory.merged.len());
    for key in &memory.merged {
        // One that is not there any more has expired.
        sources.extend(client.get(*key).await?);
    }
    let consolidation = client.consolidation();
    let key = memory.key;
    let (mut steps, mut before, mut is_complete) = (Vec::new(), None, false);
    for _ in 0..EPOCH_PAGES_MAX {
        let page = consolidation.epochs(before, EPOCHS_PER_PAGE).await?;
        before = page.epochs.last().map(|epoch| epoch.id);
        is_complete = page.epochs.len() < EPOCHS_PER_PAGE;
        for epoch in page.epochs {
            let own = epoch.steps.into_iter();
            let own = own.filter(|step| step.key == key || step.others.contains(&key));
            steps.extend(own.map(|step| (epoch.id, epoch.at, step)));
        }
        if is_complete {
            break;
        }
    }
    let list = ListConflicts::new()
        .resolved()
        .page_size(CONFLICTS_PER_PAGE);
    let conflicts = consolidation
        .conflicts(list)
        .try_filter(|pair| std::future::ready(pair.a.key == key || pair.b.key == key));
    Ok(Lineage {
        sources,
        steps,
        conflicts: conflicts.try_collect().await?,
        is_complete,
    })
}

/// In the order in which they happened.
fn events(memory: &Memory, lineage: &Lineage) -> Vec<Event> {
    let mut events = vec![Event::of_learning(What::Learned, memory)];
    // What no epoch tells any more is told by the memories themselves.
    let mut told: BTreeSet<(What, Key)> = BTreeSet::new();
    for (epoch, at, step) in &lineage.steps {
        let is_first = step.key == memory.key;
        let what = match step.kind {
            Some(StepKind::Merge) if is_first => What::TookIn,
            Some(StepKind::Merge) => What::MergedInto,
            Some(StepKind::Fade) => What::Faded,
            Some(StepKind::Relink) if is_first => What::Relinked,
            // Conflicts are told with what became of them; where a link leads is no matter of its end.
            Some(StepKind::Conflict | StepKind::Relink) | None => continue,
        };
        let others = if is_first {
            step.others.clone()
        } else {
            vec![step.key]
        };
        if others.is_empty() {
            told.insert((what, memory.key));
            events.push(Event::new(*at, what).in_epoch(*epoch));
        }
        for other in others {
            told.insert((what, other));
            events.push(Event::new(*at, what).about(other).in_epoch(*epoch));
        }
    }
    for source in &lineage.sources {
        let learned = Event::of_learning(What::LearnedInOtherWords, source);
        events.push(learned.about(source.key).saying(source));
        if let Some(archived) = &source.archived
            && told.insert((What::TookIn, source.key))
        {
            events.push(Event::new(archived.at, What::TookIn).about(source.key));
        }
    }
    for pair in &lineage.conflicts {
        let other = if pair.a.key == memory.key {
            &pair.b
        } else {
            &pair.a
        };
        let found = Event::new(pair.found_at, What::FoundToContradict);
        events.push(found.about(other.key).saying(other));
        let decided = pair.resolved_at.map(|at| Event::new(at, What::Decided));
        events.extend(decided.map(|event| event.about(other.key)));
    }
    for sharing in &memory.shared_by {
        events.push(Event {
            agent: sharing.agent.clone(),
            ..Event::new(sharing.at, What::SharedFromNarrower)
        });
    }
    if let Some(archived) = &memory.archived {
        let (what, other) = match archived.reason {
            Reason::Faded => (What::Faded, None),
            Reason::Merged { into } => (What::MergedInto, Some(into)),
            Reason::Superseded { by } => (What::SupersededBy, Some(by)),
            Reason::Shared { to } => (What::SharedAs, Some(to)),
            Reason::Withheld => (What::LivesOnUnseen, None),
        };
        if told.insert((what, other.unwrap_or(memory.key))) {
            let event = Event::new(archived.at, what);
            events.push(match other {
                Some(other) => event.about(other),
                None => event,
            });
        }
    }
    if memory.last_seen_at != memory.created_at && memory.occurrences > 1 {
        events.push(Event::new(memory.last_seen_at, What::LastMet));
    }
    let used = memory.last_used_at;
    events.extend(used.map(|at| Event::new(at, What::LastUsed)));
    if memory.version > 1 {
        events.push(Event::new(memory.updated_at, What::LastChanged));
    }
    events.sort_by_key(|event| (event.at, event.what));
    events
}

impl Event {
    fn new(at: TimeMs, what: What) -> Self {
        Self {
            at,
            what,
            other: None,
            content: None,
            agent: None,
            session: None,
            epoch: None,
        }
    }

    fn of_learning(what: What, memory: &Memory) -> Self {
        Self {
            agent: memory.agent.clone(),
            session: memory.session.clone(),
            ..Self::new(memory.created_at, what)
        }
    }

    fn about(mut self, other: Key) -> Self {
        self.other = Some(other.to_string());
        self
    }

    fn saying(mut self, other: &Memory) -> Self {
        self.content = Some(other.content.clone());
        self
    }

    fn in_epoch(mut self, epoch: u64) -> Self {
        self.epoch = Some(epoch);
        self
    }
}

fn told(event: &Event) -> String {
    let what = match event.what {
        What::Learned => "learned",
        What::LearnedInOtherWords => "learned in other words,",
        What::TookIn => "took in",
        What::Relinked => "a link of it was led to",
        What::FoundToContradict => "found to contradict",
        What::Decided => "it was decided between it and",
        What::Faded => "faded into the archive",
        What::MergedInto => "merged into",
        What::SupersededBy => "superseded by",
        What::SharedFromNarrower => "shared from a narrower scope",
        What::SharedAs => "shared as",
        What::LivesOnUnseen => "lives on where you do not see it",
        What::LastMet => "last met",
        What::LastUsed => "last used",
        What::LastChanged => "last changed",
    };
    let mut told = what.to_owned();
    if let Some(other) = &event.other {
        told.push_str(&format!(" {other}"));
    }
    if let Some(agent) = &event.agent {
        told.push_str(&format!(" by {agent}"));
    }
    if let Some(session) = &event.session {
        told.push_str(&format!(" in {session}"));
    }
    if let Some(epoch) = event.epoch {
        told.push_str(&format!(" (epoch {epoch})"));
    }
    told
}

fn rfc3339<S: serde::Serializer>(at: &TimeMs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::format(*at))
}

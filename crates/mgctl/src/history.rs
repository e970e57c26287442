//! `mgctl history`: how a memory came to be what it is.
//!
//! What changed it, and those that were merged into it, is told by the server. Beside that stand the
//! conflicts that name it, and where the server does not keep all changes any more, what the memories
//! themselves tell of them.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use memorygate_client::{
    Client, Event as Change, EventKind, FieldChange, History, Key, Memory, TimeMs,
    consolidation::{Conflict, ListConflicts},
    memory::Reason,
    record::LinkRecord,
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

/// Changes that are shown, the newest: those of ten memories, each with as many as are kept.
const CHANGES_MAX: usize = 10_000;

/// Changes on one page from the server.
const CHANGES_PER_PAGE: usize = 500;

/// Conflicts on one page from the server.
const CONFLICTS_PER_PAGE: usize = 200;

const EXAMPLES: &str = "\
Who learned it and when, who rated, changed and linked it and why, what was merged into it and by which epoch,
what it was found to contradict. Changes are kept for 90 days, and the last 1,000 of each memory; uses are only
counted. An epoch can be undone (`mgctl consolidate undo`), and leaves no trace then.

Examples:
  mgctl history 4cd11579fb7e1d99b1ee59b85a9d8ca0
  mgctl history 4cd11579fb7e1d99b1ee59b85a9d8ca0 --output json | jq '.events[] | select(.score < 0)'";

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
    /// False if some changes are not kept any more, or not shown.
    is_complete: bool,
    events: &'a [Event],
}

#[derive(Clone, Debug, Serialize)]
struct Event {
    #[serde(serialize_with = "rfc3339")]
    at: TimeMs,
    what: What,
    /// Which memory it happened to, if that is one that was merged into the one asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
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
    score: Option<f32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<FieldRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// The memory's, after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct FieldRecord {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

/// In the order in which those of one moment are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Learned,
    LearnedInOtherWords,
    LearnedAgain,
    Rated,
    Changed,
    Linked,
    Unlinked,
    Restored,
    TookIn,
    Relinked,
    FoundToContradict,
    Decided,
    Faded,
    MergedInto,
    FoundRightAgainst,
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
    /// Newest first.
    changes: Vec<Change>,
    /// Those that were merged into it.
    sources: Vec<Memory>,
    conflicts: Vec<Conflict>,
    is_complete: bool,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> anyhow::Result<()> {
    let client = global.client()?;
    let memory = client.get(args.key).await?.ok_or(NotFound(args.key))?;
    let lineage = lineage(&client, &memory).await.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: "look for what became of it".to_owned(),
            look: "mgctl get",
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
        output.note("there were further changes, which are not kept any more");
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
    let key = memory.key;
    let history = History::new(key).page_size(CHANGES_PER_PAGE);
    let first = client.history_page(&history).await?;
    let mut is_complete = first.is_some_and(|page| page.is_complete);
    let changes = client.history(history).take(CHANGES_MAX + 1);
    let mut changes: Vec<Change> = changes.try_collect().await?;
    is_complete &= changes.len() <= CHANGES_MAX;
    changes.truncate(CHANGES_MAX);
    let mut sources = Vec::with_capacity(memory.merged.len());
    for key in &memory.merged {
        // One that is not there any more has expired.
        sources.extend(client.get(*key).await?);
    }
    let list = ListConflicts::new()
        .resolved()
        .page_size(CONFLICTS_PER_PAGE);
    let conflicts = client
        .consolidation()
        .conflicts(list)
        .try_filter(|pair| std::future::ready(pair.a.key == key || pair.b.key == key));
    Ok(Lineage {
        changes,
        sources,
        conflicts: conflicts.try_collect().await?,
        is_complete,
    })
}

/// In the order in which they happened.
fn events(memory: &Memory, lineage: &Lineage) -> Vec<Event> {
    let mut events = Vec::new();
    for change in lineage.changes.iter().rev() {
        events.extend(changed(memory, lineage, change));
    }
    for sharing in &memory.shared_by {
        events.push(Event {
            agent: sharing.agent.clone(),
            ..Event::new(sharing.at, What::SharedFromNarrower)
        });
    }
    // What no change tells any more is told by the memories themselves.
    let mut told: BTreeSet<(What, Option<String>)> = events
        .iter()
        .filter(|event| event.key.is_none())
        .map(|event| (event.what, event.other.clone()))
        .collect();
    let mut tell = |event: Event| {
        if told.insert((event.what, event.other.clone())) {
            events.push(event);
        }
    };
    tell(Event::of_learning(What::Learned, memory));
    for source in &lineage.sources {
        let learned = Event::of_learning(What::LearnedInOtherWords, source);
        tell(learned.about(source.key).saying(source));
        if let Some(archived) = &source.archived {
            tell(Event::new(archived.at, What::TookIn).about(source.key));
        }
    }
    for pair in &lineage.conflicts {
        let other = if pair.a.key == memory.key {
            &pair.b
        } else {
            &pair.a
        };
        let found = Event::new(pair.found_at, What::FoundToContradict);
        tell(found.about(other.key).saying(other));
        if let Some(at) = pair.resolved_at {
            tell(Event::new(at, What::Decided).about(other.key));
        }
    }
    if let Some(archived) = &memory.archived {
        let (what, other) = match archived.reason {
            Reason::Faded => (What::Faded, None),
            Reason::Merged { into } => (What::MergedInto, Some(into)),
            Reason::Superseded { by } => (What::SupersededBy, Some(by)),
            Reason::Shared { to } => (What::SharedAs, Some(to)),
            Reason::Withheld => (What::LivesOnUnseen, None),
        };
        let event = Event::new(archived.at, what);
        tell(match other {
            Some(other) => event.about(other),
            None => event,
        });
    }
    if let Some(at) = memory.last_used_at {
        tell(Event::new(at, What::LastUsed));
    }
    if !lineage.is_complete && memory.last_seen_at != memory.created_at && memory.occurrences > 1 {
        tell(Event::new(memory.last_seen_at, What::LastMet));
    }
    if !lineage.is_complete && memory.version > 1 {
        tell(Event::new(memory.updated_at, What::LastChanged));
    }
    events.sort_by_key(|event| (event.at, event.what));
    events
}

/// What is told of a change: one event for each other memory, if it is about some.
fn changed(memory: &Memory, lineage: &Lineage, change: &Change) -> Vec<Event> {
    let is_own = change.key == memory.key;
    let what = match change.kind {
        Some(EventKind::Learned) if is_own => What::Learned,
        // Told with its words.
        Some(EventKind::Learned) => What::LearnedInOtherWords,
        Some(EventKind::LearnedAgain) => What::LearnedAgain,
        Some(EventKind::Updated) => What::Changed,
        Some(EventKind::Rated) => What::Rated,
        Some(EventKind::Linked) => What::Linked,
        Some(EventKind::Unlinked) => What::Unlinked,
        Some(EventKind::Restored) => What::Restored,
        Some(EventKind::TookIn) => What::TookIn,
        // The memory that took it in tells it.
        Some(EventKind::Merged) if !is_own => return Vec::new(),
        Some(EventKind::Merged) => What::MergedInto,
        Some(EventKind::Faded) => What::Faded,
        Some(EventKind::Relinked) => What::Relinked,
        Some(EventKind::Upheld) => What::FoundRightAgainst,
        Some(EventKind::Superseded) => What::SupersededBy,
        Some(EventKind::Shared) => What::SharedAs,
        // The memory itself says who shared what became it.
        Some(EventKind::GotShared) => return Vec::new(),
        None => What::Changed,
    };
    let by_consolidation = matches!(
        what,
        What::TookIn | What::MergedInto | What::Faded | What::Relinked
    );
    let event = Event {
        key: (!is_own && what != What::LearnedInOtherWords).then(|| change.key.to_string()),
        agent: change.agent.clone(),
        session: change.session.clone(),
        score: change.score,
        reason: change.reason.clone(),
        link: change.link.as_ref().map(LinkRecord::from),
        changes: change.changes.iter().map(FieldRecord::of).collect(),
        epoch: by_consolidation.then_some(change.position),
        position: Some(change.position),
        version: Some(change.version),
        ..Event::new(change.at, what)
    };
    if what == What::LearnedInOtherWords {
        let source = lineage
            .sources
            .iter()
            .find(|source| source.key == change.key);
        let event = event.about(change.key);
        return vec![match source {
            Some(source) => event.saying(source),
            None => event,
        }];
    }
    // Where the link leads now.
    if let (What::Relinked, Some(link)) = (what, &change.link) {
        return vec![event.about(link.target)];
    }
    if change.others.is_empty() {
        return vec![event];
    }
    let others = change.others.iter();
    others.map(|other| event.clone().about(*other)).collect()
}

impl FieldRecord {
    fn of(change: &FieldChange) -> Self {
        let FieldChange {
            field,
            before,
            after,
        } = change.clone();
        // For people and programs alike, as all times are.
        let shown = |value: Option<String>| match (field.as_str(), &value) {
            ("expires_at", Some(ms)) => ms.parse().ok().map(|ms| time::format(TimeMs(ms))),
            _ => value,
        };
        Self {
            before: shown(before),
            after: shown(after),
            field,
        }
    }
}

impl Event {
    fn new(at: TimeMs, what: What) -> Self {
        Self {
            at,
            what,
            key: None,
            other: None,
            content: None,
            agent: None,
            session: None,
            score: None,
            reason: String::new(),
            link: None,
            changes: Vec::new(),
            epoch: None,
            position: None,
            version: None,
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
}

fn told(event: &Event) -> String {
    let what = match event.what {
        What::Learned => "learned",
        What::LearnedInOtherWords => "learned in other words,",
        What::LearnedAgain if event.other.is_some() => "learned again in the words of",
        What::LearnedAgain => "learned again",
        What::Rated => "rated",
        What::Changed => "changed",
        What::Linked => "linked:",
        What::Unlinked => "no longer linked:",
        What::Restored => "restored from the archive",
        What::TookIn => "took in",
        What::Relinked => "a link of it was led to",
        What::FoundToContradict => "found to contradict",
        What::Decided => "it was decided between it and",
        What::Faded => "faded into the archive",
        What::MergedInto => "merged into",
        What::FoundRightAgainst => "found to be right against",
        What::SupersededBy => "superseded by",
        What::SharedFromNarrower => "shared from a narrower scope",
        What::SharedAs => "shared as",
        What::LivesOnUnseen => "lives on where you do not see it",
        What::LastMet => "last met",
        What::LastUsed => "last used",
        What::LastChanged => "last changed",
    };
    let mut told = String::new();
    if let Some(key) = &event.key {
        told.push_str(&format!("{key}: "));
    }
    told.push_str(what);
    if let Some(score) = event.score {
        told.push_str(&format!(" {score:+.2}"));
    }
    if let (Some(link), What::Linked | What::Unlinked) = (&event.link, event.what) {
        told.push_str(&format!(" {} {}", link.relation, link.key));
    }
    if let Some(other) = &event.other {
        told.push_str(&format!(" {other}"));
    }
    if let Some(agent) = &event.agent {
        told.push_str(&format!(" by {agent}"));
    }
    if let Some(session) = &event.session {
        told.push_str(&format!(" in {session}"));
    }
    if event.what == What::Changed {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let changes = event.changes.iter();
        let changes: Vec<String> = changes
            .map(|change| {
                let (before, after) = (value(&change.before), value(&change.after));
                format!("{} {before} → {after}", change.field)
            })
            .collect();
        told.push_str(&format!(": {}", changes.join(", ")));
    }
    if !event.reason.is_empty() {
        told.push_str(&format!(": {}", event.reason));
    }
    if let Some(epoch) = event.epoch {
        told.push_str(&format!(" (epoch {epoch})"));
    }
    told
}

fn rfc3339<S: serde::Serializer>(at: &TimeMs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::format(*at))
}

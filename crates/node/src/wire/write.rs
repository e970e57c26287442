//! Answers as the wire has them.

use memorygate_core::{
    command::learn::Learned,
    embedding::ModelId,
    key::Key,
    memory::{Archived, Feedback, Link, Memory, Reason, Sharing},
    name::{Name, Namespace},
    rank::Parts,
    scope::Scope,
    shown::Shown,
    state::{Difference, Told, What},
    time::TimeMs,
};
use memorygate_proto::v1;
use prost_types::Timestamp;

use crate::{position::Position, recall::Raw};

pub fn position(position: Position) -> v1::Position {
    v1::Position {
        cluster_id: position.cluster_id.to_string(),
        group: position.group,
        index: position.index,
    }
}

pub fn time(time: TimeMs) -> Timestamp {
    Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
    }
}

pub fn learned(learned: &Learned) -> v1::Learned {
    v1::Learned {
        key: learned.key.to_string(),
        created: learned.created,
        version: learned.version,
        occurrences: learned.occurrences,
    }
}

pub fn memory(namespace: &Namespace, key: Key, shown: Shown, model: ModelId) -> v1::Memory {
    let memory = shown.into_memory();
    let shared_by = sharings(&memory);
    let name = |name: Option<Name>| name.map(|n| n.as_str().to_owned()).unwrap_or_default();
    v1::Memory {
        key: key.to_string(),
        namespace: namespace.to_string(),
        scope: Some(scope(&memory.scope)),
        domain: memory.domain.to_string(),
        occurred_at: Some(time(memory.occurred_at)),
        importance: memory.importance,
        agent: name(memory.agent),
        session: name(memory.session),
        links: memory.links.iter().map(link).collect(),
        expires_at: memory.expires_at.map(time),
        pinned: memory.pinned,
        version: memory.version,
        occurrences: memory.occurrences,
        last_seen_at: Some(time(memory.last_seen_at)),
        feedback: Some(feedback(&memory.feedback)),
        created_at: Some(time(memory.created.at)),
        created_index: memory.created.index,
        updated_at: Some(time(memory.updated_at)),
        model: format!("{:016x}", model.0),
        uses: memory.used.count,
        last_used_at: (!memory.used.is_never()).then(|| time(memory.used.last_at)),
        archived: memory.archived.map(archived),
        merged: memory.merged.iter().map(Key::to_string).collect(),
        shared_by,
        metadata: memory.metadata,
        content: memory.content,
    }
}

/// Without the keys of the narrower memories: whoever sees this one need not see those.
fn sharings(memory: &Memory) -> Vec<v1::Sharing> {
    let mut sharings: Vec<&Sharing> = memory.shared.values().collect();
    sharings.sort_by_key(|sharing| sharing.at);
    let sharings = sharings.into_iter().map(|sharing| v1::Sharing {
        agent: sharing.by.as_ref().map(Name::to_string).unwrap_or_default(),
        at: Some(time(sharing.at)),
        learned_at: Some(time(sharing.learned_at)),
    });
    sharings.collect()
}

/// What happened to a memory.
pub fn event(told: Told) -> v1::HistoryEvent {
    let name = |name: Option<Name>| name.map(|n| n.as_str().to_owned()).unwrap_or_default();
    let mut event = v1::HistoryEvent {
        key: told.place.key.to_string(),
        position: told.place.position,
        at: Some(time(told.at)),
        version: told.place.version,
        agent: name(told.by),
        session: name(told.session),
        changes: told.differences.into_iter().map(field_change).collect(),
        ..Default::default()
    };
    let mut others = Vec::new();
    let kind = match told.what {
        None => "learned",
        Some(What::LearnedAgain { wording, .. }) => {
            others.extend(wording);
            "learned_again"
        }
        Some(What::Updated) => "updated",
        Some(What::Rated { score, reason }) => {
            event.score = Some(score);
            event.reason = reason;
            "rated"
        }
        Some(What::Linked(to)) => {
            event.link = Some(link(&to));
            "linked"
        }
        Some(What::Unlinked(from)) => {
            event.link = Some(link(&from));
            "unlinked"
        }
        Some(What::Restored) => "restored",
        Some(What::TookIn { sources }) => {
            others = sources;
            "took_in"
        }
        Some(What::Merged { into }) => {
            others.push(into);
            "merged"
        }
        Some(What::Faded) => "faded",
        Some(What::Relinked { relation, from, to }) => {
            let target = to;
            event.link = Some(link(&Link { relation, target }));
            others.push(from);
            "relinked"
        }
        Some(What::Upheld { over }) => {
            others.push(over);
            "upheld"
        }
        Some(What::Superseded { by }) => {
            others.push(by);
            "superseded"
        }
        Some(What::Shared { to }) => {
            others.push(to);
            "shared"
        }
        Some(What::GotShared) => "got_shared",
    };
    event.kind = kind.to_owned();
    event.others = others.iter().map(Key::to_string).collect();
    event
}

fn field_change(difference: Difference) -> v1::FieldChange {
    v1::FieldChange {
        field: difference.field,
        before: difference.before,
        after: difference.after,
    }
}

fn archived(archived: Archived) -> v1::Archived {
    let (reason, by) = match archived.reason {
        Reason::Faded => ("faded", None),
        Reason::Merged { into } => ("merged", Some(into)),
        Reason::Superseded { by } => ("superseded", Some(by)),
        Reason::Shared { to } => ("shared", Some(to)),
        Reason::Withheld => ("withheld", None),
    };
    v1::Archived {
        reason: reason.to_owned(),
        replaced_by: by.map(|key| key.to_string()).unwrap_or_default(),
        at: Some(time(archived.at)),
    }
}

fn scope(scope: &Scope) -> v1::Scope {
    let kind = match scope {
        Scope::Shared => v1::scope::Kind::Shared(true),
        Scope::Team(name) => v1::scope::Kind::Team(name.to_string()),
        Scope::Agent(name) => v1::scope::Kind::Agent(name.to_string()),
    };
    v1::Scope { kind: Some(kind) }
}

pub fn link(link: &Link) -> v1::LinkTarget {
    v1::LinkTarget {
        relation: link.relation.as_str().to_owned(),
        key: link.target.to_string(),
    }
}

fn feedback(feedback: &Feedback) -> v1::FeedbackSummary {
    v1::FeedbackSummary {
        count: feedback.count,
        positive: feedback.positive,
        negative: feedback.negative,
        usefulness: feedback.usefulness(),
    }
}

/// The parts are rounded to single precision one by one, so they sum to the score as far as single
/// precision can tell.
pub fn parts(parts: &Parts, raw: &Raw) -> v1::ScoreParts {
    v1::ScoreParts {
        late: parts.late as f32,
        lexical: parts.lexical as f32,
        dense: parts.dense as f32,
        expansion: parts.expansion as f32,
        session: parts.session as f32,
        recency: parts.recency as f32,
        importance: parts.importance as f32,
        usefulness: parts.usefulness as f32,
        trust: parts.trust as f32,
        link: parts.link as f32,
        raw_dense: raw.dense,
        raw_lexical: raw.lexical,
        raw_late: raw.late,
    }
}

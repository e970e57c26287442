//! What a `LearnRequest` means.

use std::collections::BTreeSet;

use memorygate_core::{
    embedding::Embedding,
    limits, memory,
    name::{Domain, Name},
    scope,
    time::{DAY_MS, TimeMs},
};
use memorygate_proto::v1;

use crate::{
    error::Violation,
    learn::{Batch, Draft},
};

/// Of an experience that does not say.
const IMPORTANCE_DEFAULT: f32 = 0.5;

/// Clocks differ and calendars have time zones; more than a day ahead is a mistake.
const AHEAD_MS_MAX: i64 = DAY_MS;

/// `now` is this node's clock: no experience may lie more than a day ahead of it.
pub fn learn(request: v1::LearnRequest, now: TimeMs) -> Result<Batch, Violation> {
    let actual = request.experiences.len();
    if actual == 0 || actual > limits::BATCH_MAX {
        let invalid = memory::Invalid::Batch { actual };
        return Err(Violation::at("experiences", invalid));
    }
    let drafts = (0..)
        .zip(request.experiences)
        .map(|(at, experience)| {
            draft(experience, now).map_err(|v| v.within(&format!("experiences[{at}]")))
        })
        .collect::<Result<_, _>>()?;
    Ok(Batch {
        request: super::request_id(&request.request_id)?,
        namespace: super::namespace(&request.namespace)?,
        drafts,
    })
}

fn draft(experience: v1::Experience, now: TimeMs) -> Result<Draft, Violation> {
    memory::check_content(&experience.content).map_err(|e| Violation::at("content", e))?;
    let domain = Domain::parse(&experience.domain).map_err(|e| Violation::at("domain", e))?;
    let occurred_at = super::time("occurred_at", experience.occurred_at)?;
    if let Some(at) = occurred_at
        && at.since(now) > AHEAD_MS_MAX
    {
        let ahead_ms = at.since(now);
        let reason = format!("lies {ahead_ms} ms ahead, expected at most {AHEAD_MS_MAX}");
        return Err(Violation::at("occurred_at", reason));
    }
    let importance = experience.importance.unwrap_or(IMPORTANCE_DEFAULT);
    memory::check_importance(importance).map_err(|e| Violation::at("importance", e))?;
    memory::check_metadata(&experience.metadata).map_err(|e| Violation::at("metadata", e))?;
    let name =
        |field: &str, text: &str| Name::parse_optional(text).map_err(|e| Violation::at(field, e));
    let given = match experience.vector.as_slice() {
        [] => None,
        vector => Some(Embedding::given(vector).map_err(|e| Violation::at("vector", e))?),
    };
    Ok(Draft {
        domain,
        occurred_at,
        importance,
        agent: name("agent", &experience.agent)?,
        session: name("session", &experience.session)?,
        scope: scope(experience.scope).map_err(|v| v.within("scope"))?,
        expires_at: super::time("expires_at", experience.expires_at)?,
        pinned: experience.pinned,
        links: links(&experience.links)?,
        metadata: experience.metadata,
        content: experience.content,
        given,
    })
}

fn links(links: &[v1::LinkTarget]) -> Result<BTreeSet<memory::Link>, Violation> {
    if links.len() > limits::LINKS_MAX {
        let actual = links.len();
        return Err(Violation::at("links", memory::Invalid::Links { actual }));
    }
    (0..)
        .zip(links)
        .map(|(at, l)| super::link_target(l).map_err(|v| v.within(&format!("links[{at}]"))))
        .collect()
}

pub(super) fn scope(scope: Option<v1::Scope>) -> Result<scope::Scope, Violation> {
    let name = |field: &str, text: &str| Name::parse(text).map_err(|e| Violation::at(field, e));
    match scope.and_then(|s| s.kind) {
        None | Some(v1::scope::Kind::Shared(true)) => Ok(scope::Scope::Shared),
        Some(v1::scope::Kind::Shared(false)) => Err(Violation::at(
            "shared",
            "is false, expected true or another kind of scope",
        )),
        Some(v1::scope::Kind::Team(team)) => Ok(scope::Scope::Team(name("team", &team)?)),
        Some(v1::scope::Kind::Agent(agent)) => Ok(scope::Scope::Agent(name("agent", &agent)?)),
    }
}

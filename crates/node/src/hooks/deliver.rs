//! Events to memories, each once.
//!
//! ```text
//! events ▶ everything committed until now ▶ answered before? ──yes──▶ known
//!                                                 │no
//!                                                 └▶ learn under the event's id ▶ link what it ends
//! ```
//!
//! An act under an id that was answered gets that answer again, so a delivery that broke off is simply
//! delivered again: what was done is known, the rest is done.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use memorygate_core::{
    apply::{Outcome as Done, Target},
    command::{Command, SetLink},
    key::Key,
    memory::{Link, Relation},
    name::Namespace,
    request::RequestId,
    scope::Reader,
    state::{self, ReadError},
};
use memorygate_raft::StateSnapshot;
use tracing::debug;

use super::{
    Told,
    event::{self, Act, Event},
};
use crate::{
    backend::Backend,
    deadline::Deadline,
    error::Error,
    learn::{self, Batch},
    mutate::{self, Mutation},
};

/// Events of one message that are learned at once.
const AT_ONCE: usize = 16;

/// What is to be done about an event that was told.
struct Plan {
    event: Event,
    learn: RequestId,
    /// Learned before, as this memory.
    known: Option<Key>,
    /// The memory of what it ends.
    ended: Option<Key>,
    /// Under which id that is told; `None` if it was.
    link: Option<RequestId>,
}

/// Learns what was not learned before. An event that a message names twice counts once.
pub(super) async fn deliver(
    backend: &Backend,
    namespace: &Namespace,
    events: Vec<Event>,
    deadline: Deadline,
) -> Result<Told, Error> {
    if events.is_empty() {
        return Ok(Told::default());
    }
    let _write = backend.drain.admit()?;
    let from = backend.read_from(None, true, deadline).await?;
    let snapshot = backend.snapshot_at_least(from, deadline).await?;
    let position = backend.raft.position();
    let place = namespace.clone();
    let look_up = move || plans(&snapshot, &place, events, position);
    let plans = backend.reads.run(deadline, look_up).await??;
    let known = plans.iter().filter(|plan| plan.known.is_some()).count();
    let learned = plans.len() - known;
    stream::iter(plans)
        .map(|plan| Box::pin(carry_out(backend, namespace, plan, deadline)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(Told {
        learned,
        known,
        ignored: 0,
    })
}

fn plans(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    events: Vec<Event>,
    position: u64,
) -> Result<Vec<Plan>, Error> {
    let mut names = BTreeSet::new();
    let mut plans = Vec::new();
    for event in events {
        let name = &event.experience.event;
        if !names.insert(name.clone()) {
            continue;
        }
        let (learn, before) = event::ids(namespace, name, Act::Learn, position);
        let known = learned(snapshot, [Some(learn), before])?;
        let (mut ended, mut link) = (None, None);
        if let Some(ends) = &event.ends {
            let (now, before) = event::ids(namespace, &ends.event, Act::Learn, position);
            // Under its name, since what people wrote about it may have changed while it fired; or what
            // says the same.
            ended = learned(snapshot, [Some(now), before])?;
            let key = event::key(namespace, ends)?;
            if ended.is_none() && state::memory(snapshot, namespace, key)?.is_some() {
                ended = Some(key);
            }
            let (now, before) = event::ids(namespace, name, Act::Link, position);
            if answer(snapshot, [Some(now), before])?.is_none() {
                link = Some(now);
            }
        }
        plans.push(Plan {
            event,
            learn,
            known,
            ended,
            link,
        });
    }
    Ok(plans)
}

/// What was answered first under one of these ids.
fn answer(
    snapshot: &StateSnapshot,
    ids: [Option<RequestId>; 2],
) -> Result<Option<Done>, ReadError> {
    for id in ids.into_iter().flatten() {
        if let Some(reply) = state::answer(snapshot, id)? {
            return Ok(reply.result.ok());
        }
    }
    Ok(None)
}

/// The memory that was learned under one of these ids.
fn learned(
    snapshot: &StateSnapshot,
    ids: [Option<RequestId>; 2],
) -> Result<Option<Key>, ReadError> {
    Ok(match answer(snapshot, ids)? {
        Some(Done::Learned(learned)) => learned.first().map(|learned| learned.key),
        Some(
            Done::Mutated { .. }
            | Done::Expired { .. }
            | Done::Marked
            | Done::Format { .. }
            | Done::Consolidated { .. }
            | Done::Undone { .. }
            | Done::UsesCounted { .. }
            | Done::PolicySet
            | Done::TrustSet,
        )
        | None => None,
    })
}

async fn carry_out(
    backend: &Backend,
    namespace: &Namespace,
    plan: Plan,
    deadline: Deadline,
) -> Result<(), Error> {
    let key = match plan.known {
        Some(key) => key,
        None => {
            let mut draft = event::draft(plan.event.experience, backend.clock.now())?;
            draft.links.extend(plan.ended.map(|target| Link {
                relation: Relation::RelatesTo,
                target,
            }));
            let batch = Batch {
                request: Some(plan.learn),
                namespace: namespace.clone(),
                drafts: vec![draft],
            };
            learn::learn(backend, batch, deadline).await?.learned[0].key
        }
    };
    let (Some(ended), Some(id)) = (plan.ended, plan.link) else {
        return Ok(());
    };
    let link = Command::Link(SetLink {
        target: Target {
            namespace: namespace.clone(),
            key: ended,
            reader: Reader::default(),
        },
        link: Link {
            relation: Relation::ResolvedBy,
            target: key,
        },
        remove: false,
    });
    let mutation = Mutation {
        request: Some(id),
        command: link,
    };
    match mutate::mutate(backend, mutation, deadline).await {
        Ok(_) => Ok(()),
        // One of them was forgotten meanwhile, or has as many links as a memory may have: what was
        // learned stays, and says itself what it is about.
        Err(error @ (Error::NotFound { .. } | Error::Refused { .. })) => {
            debug!(%error, key = %ended, "what an event ends was not linked to it");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

//! What the planner needs to know, read from views of the index and the state.

use std::collections::BTreeSet;

use memorygate_core::{
    consolidation::{Likeness, Looked, Nearby, Policy, Saying, Seen},
    key::Key,
    limits,
    memory::Memory,
    name::Namespace,
    state::{self, ReadError},
};
use memorygate_raft::StateSnapshot;

use crate::{error::Error, projection::Projection};

/// Neighbours that are asked for. Notes written to one pattern lie so near each other that those of one
/// lesson in another order come behind hundreds of other lessons; only their words tell them apart.
const NEIGHBOURS: usize = 256;

/// Of these, those that say the same as the memory or its opposite and are handed to the planner.
const NEAR_MAX: usize = 2 * limits::MERGE_MAX;

/// A memory and those near it that a policy may merge with it; `None` if it is gone, archived or has
/// nobody near. The view is held for this one memory only: while it is, the index stands still.
pub(super) fn nearby(
    index: &Projection,
    namespace: &Namespace,
    key: Key,
    policy: &Policy,
) -> Result<Option<Nearby>, Error> {
    let view = index.view()?;
    let Some(own) = view.index().namespace(namespace) else {
        return Ok(None);
    };
    let near = own
        .neighbours(key, NEIGHBOURS, view.clock())
        .map_err(|error| Error::Internal {
            reason: format!("search vectors: {error}"),
        })?;
    let snapshot = view.records().state.clone();
    drop(view);
    let from = policy.merge_from();
    // The index takes the best window of each, so none is missed that the planner would take.
    let near: Vec<Key> = near
        .into_iter()
        .filter(|(_, cosine)| *cosine >= from)
        .map(|(key, _)| key)
        .collect();
    if near.is_empty() {
        return Ok(None);
    }
    let Some(centre) = seen(&snapshot, namespace, key)? else {
        return Ok(None);
    };
    let saying = Saying::of(&centre.memory.content);
    let mut found = Vec::new();
    for key in near {
        let Some(memory) = state::memory(&*snapshot, namespace, key)? else {
            continue;
        };
        // Texts are read and compared sooner than vectors are.
        match saying.compare(&Saying::of(&memory.content)) {
            Likeness::Same | Likeness::Opposite => {
                found.extend(with_vector(&snapshot, namespace, key, memory)?);
            }
            Likeness::Other => {}
        }
        if found.len() == NEAR_MAX {
            break;
        }
    }
    Ok(Some(Nearby {
        in_conflict: in_conflict(&snapshot, namespace, key)?,
        centre,
        near: found,
    }))
}

fn seen(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    key: Key,
) -> Result<Option<Seen>, ReadError> {
    match state::memory(snapshot, namespace, key)? {
        Some(memory) => with_vector(snapshot, namespace, key, memory),
        None => Ok(None),
    }
}

fn with_vector(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    key: Key,
    memory: Memory,
) -> Result<Option<Seen>, ReadError> {
    let embedding = state::embedding(snapshot, namespace, key)?;
    let first = embedding.and_then(|embedding| embedding.windows.into_iter().next());
    Ok(first.map(|window| Seen {
        key,
        memory,
        dense: window.dense,
    }))
}

/// Those that contradict a memory, whether someone decided or not.
fn in_conflict(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    key: Key,
) -> Result<BTreeSet<Key>, ReadError> {
    let after = Some((key, Key([0; 16])));
    let pairs = state::conflicts(snapshot, namespace, after, limits::CONFLICTS_MAX)?;
    Ok(pairs
        .into_iter()
        .take_while(|((a, _), _)| *a == key)
        .map(|((_, b), _)| b)
        .collect())
}

/// Memories in key order after `after`, with what became of those that they link to.
pub(super) fn stretch(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    after: Option<Key>,
    limit: usize,
) -> Result<Vec<Looked>, ReadError> {
    let memories = snapshot.list(namespace, after, limit)?;
    memories
        .into_iter()
        .map(|(key, memory)| looked(snapshot, namespace, key, memory))
        .collect()
}

fn looked(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    key: Key,
    memory: Memory,
) -> Result<Looked, ReadError> {
    let mut moved = Vec::new();
    if !memory.is_archived() {
        for link in &memory.links {
            let to = state::replacement(snapshot, namespace, link.target)?;
            // That a memory superseded another stays said of that very one.
            let is_about_itself = to == Some(key);
            if let Some(to) = to
                && to != link.target
                && !is_about_itself
            {
                moved.push((*link, to));
            }
        }
    }
    Ok(Looked { key, memory, moved })
}

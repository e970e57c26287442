//! What the planner needs to know, read from views of the index and the state.

use std::collections::BTreeSet;

use memorygate_core::{
    consolidation::{Looked, Nearby, Policy, Seen},
    key::Key,
    limits,
    memory::Memory,
    name::Namespace,
    state::{self, ReadError},
};
use memorygate_raft::StateSnapshot;

use crate::{error::Error, projection::Projection};

/// Neighbours that are asked for. More near-duplicates of one memory are found from their own side.
const NEIGHBOURS: usize = limits::MERGE_MAX;

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
    let mut found = Vec::with_capacity(near.len());
    for key in near {
        found.extend(seen(&snapshot, namespace, key)?);
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
    let memory = state::memory(snapshot, namespace, key)?;
    let embedding = state::embedding(snapshot, namespace, key)?;
    let first = embedding.and_then(|embedding| embedding.windows.into_iter().next());
    Ok(memory.zip(first).map(|(memory, window)| Seen {
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

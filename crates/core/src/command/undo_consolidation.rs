//! Undo consolidation: bring back exactly what one entry of it consumed.

use minicbor::{Decode, Encode};

use super::consolidate::Step;
use crate::{
    apply::{Context, Outcome, Rejection},
    key::Key,
    memory::{Memory, Used},
    name::Namespace,
    state::{self, Before, Read, ReadError, Transaction},
};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UndoConsolidation {
    #[n(0)]
    pub namespace: Namespace,
    /// Position of the entry.
    #[n(1)]
    pub id: u64,
}

impl UndoConsolidation {
    /// All of it, or nothing if anything that it left was changed since.
    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        _context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let Self { namespace, id } = self;
        let Some(epoch) = state::epoch(tx, namespace, *id)? else {
            return Ok(Err(Rejection::NoEpoch { id: *id }));
        };
        let mut changed: Vec<Key> = Vec::new();
        let mut restored: Vec<(&Before, Memory, Memory)> = Vec::new();
        let mut conflicts = Vec::new();
        for done in &epoch.done {
            for before in &done.before {
                match tx.memory(namespace, before.key)? {
                    // One that was forgotten and learned anew counts its versions from 1 again.
                    Some(now)
                        if now.version == before.version_after
                            && now.created == before.memory.created =>
                    {
                        restored.push((before, now.clone(), back(before, now)));
                    }
                    Some(_) | None => changed.push(before.key),
                }
            }
            if let Step::Conflict { a, b } = &done.step {
                let pair = (a.key, b.key);
                match state::conflict(tx, namespace, pair)? {
                    Some(conflict) if conflict.resolved_at.is_none() => conflicts.push(pair),
                    Some(_) | None => changed.extend([a.key, b.key]),
                }
            }
        }
        if !changed.is_empty() {
            changed.sort();
            changed.dedup();
            return Ok(Err(Rejection::ChangedSince {
                id: *id,
                keys: changed,
            }));
        }
        for (before, now, back) in restored {
            tx.undo_change(namespace, (*id, epoch.at), before, &now, back)?;
        }
        for pair in conflicts {
            tx.set_conflict(namespace, pair, None)?;
        }
        tx.remove_epoch(namespace, *id)?;
        let steps = epoch.done.len() as u32;
        Ok(Ok(Outcome::Undone { steps }))
    }
}

/// The memory as it was, with the uses that were counted since.
fn back(before: &Before, now: Memory) -> Memory {
    let mut memory = before.memory.clone();
    let since = now.used.count.saturating_sub(before.used_after.count);
    if since > 0 {
        memory.used = Used {
            count: memory.used.count.saturating_add(since),
            last_at: now.used.last_at,
        };
    }
    memory.content = now.content;
    memory
}

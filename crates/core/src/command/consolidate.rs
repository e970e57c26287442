//! Consolidate: some steps of a plan that the leader made from an earlier state.
//!
//! A step names the versions of what it consumes. If one of them changed since, or is gone, nothing of
//! that step is done: what callers wrote meanwhile wins. What is done is noted with what was there
//! before, so that [`super::UndoConsolidation`] can bring it back.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use super::evidence;
use crate::{
    apply::{Context, Outcome, Rejection},
    key::Key,
    limits,
    memory::{Archived, Invalid, Link, Memory, Reason, Relation},
    name::Namespace,
    state::{
        self, Before, Conflict, Doing, Done, Epoch, Progress, Read, ReadError, Transaction, What,
    },
};

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Consolidate {
    #[n(0)]
    pub namespace: Namespace,
    /// At most [`limits::STEPS_MAX`], no memory in two of them.
    #[n(1)]
    pub steps: Vec<Step>,
    /// Set with the last entry of a pass: where the next goes on.
    #[n(2)]
    pub progress: Option<Progress>,
}

/// A memory at the version by which a step was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Versioned {
    #[n(0)]
    pub key: Key,
    #[n(1)]
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Step {
    /// The evidence of near-duplicates goes to the one that is kept, and they to the archive.
    #[n(0)]
    Merge {
        #[n(0)]
        keep: Versioned,
        /// 1 to [`limits::MERGE_MAX`].
        #[n(1)]
        absorb: Vec<Versioned>,
    },
    /// A memory of little worth goes to the archive.
    #[n(1)]
    Fade {
        #[n(0)]
        memory: Versioned,
    },
    /// Two memories contradict each other; someone must decide.
    #[n(2)]
    Conflict {
        #[n(0)]
        a: Versioned,
        #[n(1)]
        b: Versioned,
    },
    /// A link that leads to an archived memory leads to what took its place.
    #[n(3)]
    Relink {
        #[n(0)]
        memory: Versioned,
        #[n(1)]
        relation: Relation,
        #[n(2)]
        from: Key,
        #[n(3)]
        to: Key,
    },
}

impl Step {
    /// For people and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Merge { .. } => "merge",
            Self::Fade { .. } => "fade",
            Self::Conflict { .. } => "conflict",
            Self::Relink { .. } => "relink",
        }
    }

    /// What it consumes.
    pub fn consumes(&self) -> Vec<Versioned> {
        match self {
            Self::Merge { keep, absorb } => [*keep].into_iter().chain(absorb.clone()).collect(),
            Self::Fade { memory } | Self::Relink { memory, .. } => vec![*memory],
            Self::Conflict { a, b } => vec![*a, *b],
        }
    }
}

impl Consolidate {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.steps.len() > limits::STEPS_MAX {
            return Err(Invalid::Steps {
                actual: self.steps.len(),
            });
        }
        for step in &self.steps {
            let consumed = step.consumes();
            let distinct: BTreeSet<Key> = consumed.iter().map(|c| c.key).collect();
            let is_merge = matches!(step, Step::Merge { .. });
            let least = 1 + usize::from(is_merge || matches!(step, Step::Conflict { .. }));
            if distinct.len() != consumed.len()
                || consumed.len() < least
                || consumed.len() > 1 + limits::MERGE_MAX
            {
                return Err(Invalid::Step);
            }
        }
        Ok(())
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let mut done = Vec::new();
        for step in &self.steps {
            let at = At {
                namespace: &self.namespace,
                context,
            };
            if let Some(before) = at.run(tx, step)? {
                let step = step.clone();
                done.push(Done { step, before });
            }
        }
        let outcome = Outcome::Consolidated {
            done: done.len() as u32,
            refused: (self.steps.len() - done.len()) as u32,
        };
        if !done.is_empty() {
            let at = context.now;
            tx.add_epoch(&self.namespace, context.index, &Epoch { at, done })?;
        }
        if let Some(progress) = &self.progress {
            tx.set_progress(&self.namespace, progress)?;
        }
        Ok(Ok(outcome))
    }
}

/// Where a step is done.
struct At<'a> {
    namespace: &'a Namespace,
    context: &'a Context,
}

/// What was there before; `None` if the step was refused.
type Ran = Result<Option<Vec<Before>>, ReadError>;

impl At<'_> {
    fn run<R: Read>(&self, tx: &mut Transaction<'_, R>, step: &Step) -> Ran {
        match step {
            Step::Merge { keep, absorb } => self.merge(tx, *keep, absorb),
            Step::Fade { memory } => self.fade(tx, *memory),
            Step::Conflict { a, b } => self.conflict(tx, *a, *b),
            Step::Relink {
                memory,
                relation,
                from,
                to,
            } => self.relink(tx, *memory, (*relation, *from, *to)),
        }
    }

    /// The memory, if it is as it was when the step was planned.
    fn find<R: Read>(
        &self,
        tx: &Transaction<'_, R>,
        planned: Versioned,
    ) -> Result<Option<Memory>, ReadError> {
        let found = tx.memory(self.namespace, planned.key)?;
        #[cfg(feature = "planted-bugs")]
        if crate::planted::applies_stale_plans() {
            return Ok(found);
        }
        Ok(found.filter(|memory| {
            memory.version == planned.version
                && !memory.is_archived()
                && !memory.is_expired(self.context.now)
        }))
    }

    fn merge<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        keep: Versioned,
        absorb: &[Versioned],
    ) -> Ran {
        let Some(old) = self.find(tx, keep)? else {
            return Ok(None);
        };
        let mut sources = Vec::with_capacity(absorb.len());
        for planned in absorb {
            match self.find(tx, *planned)? {
                Some(source)
                    if !source.pinned
                        && source.scope == old.scope
                        && source.domain == old.domain =>
                {
                    sources.push((planned.key, source));
                }
                Some(_) | None => return Ok(None),
            }
        }
        let mut new = old.clone();
        for (key, source) in &sources {
            evidence::count(&mut new, source);
            evidence::say(&mut new, source);
            new.merged.insert(*key);
            new.merged.extend(&source.merged);
            new.shared.extend(source.shared.clone());
        }
        let keys: BTreeSet<Key> = new.merged.iter().copied().chain([keep.key]).collect();
        new.links.retain(|link| !keys.contains(&link.target));
        if new.merged.len() > limits::MERGED_MAX || new.shared.len() > limits::SHARINGS_MAX {
            return Ok(None);
        }
        // What replaces the sources is there before they go, in the same entry.
        let what = What::TookIn {
            sources: sources.iter().map(|(key, _)| *key).collect(),
        };
        let mut before = vec![self.change(tx, keep.key, &old, new, what)?];
        for (key, source) in sources {
            let into = keep.key;
            before.push(self.archive(tx, key, &source, Reason::Merged { into })?);
        }
        Ok(Some(before))
    }

    fn fade<R: Read>(&self, tx: &mut Transaction<'_, R>, memory: Versioned) -> Ran {
        match self.find(tx, memory)? {
            Some(old) if !old.pinned => Ok(Some(vec![self.archive(
                tx,
                memory.key,
                &old,
                Reason::Faded,
            )?])),
            Some(_) | None => Ok(None),
        }
    }

    fn conflict<R: Read>(&self, tx: &mut Transaction<'_, R>, a: Versioned, b: Versioned) -> Ran {
        let both = self.find(tx, a)?.zip(self.find(tx, b)?);
        let pair = (a.key, b.key);
        if both.is_none_or(|(a, b)| a.scope != b.scope)
            || state::conflict(tx, self.namespace, pair)?.is_some()
            || self.has_many_conflicts(tx, a.key)?
            || self.has_many_conflicts(tx, b.key)?
        {
            return Ok(None);
        }
        let conflict = Conflict {
            found_at: self.context.now,
            resolved_at: None,
        };
        tx.set_conflict(self.namespace, pair, Some(conflict))?;
        Ok(Some(Vec::new()))
    }

    fn has_many_conflicts<R: Read>(
        &self,
        tx: &Transaction<'_, R>,
        key: Key,
    ) -> Result<bool, ReadError> {
        let after = Some((key, Key([0; 16])));
        let found = state::conflicts(tx, self.namespace, after, limits::CONFLICTS_MAX)?;
        let own = found.iter().take_while(|((a, _), _)| *a == key).count();
        Ok(own == limits::CONFLICTS_MAX)
    }

    fn relink<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        memory: Versioned,
        (relation, from, to): (Relation, Key, Key),
    ) -> Ran {
        let Some(old) = self.find(tx, memory)? else {
            return Ok(None);
        };
        let end = state::replacement(tx, self.namespace, from)?;
        let mut new = old.clone();
        let had = new.links.remove(&Link {
            relation,
            target: from,
        });
        if !had || end != Some(to) || from == to {
            return Ok(None);
        }
        if to != memory.key {
            new.links.insert(Link {
                relation,
                target: to,
            });
        }
        let what = What::Relinked { relation, from, to };
        Ok(Some(vec![self.change(tx, memory.key, &old, new, what)?]))
    }

    fn archive<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        key: Key,
        old: &Memory,
        reason: Reason,
    ) -> Result<Before, ReadError> {
        let mut new = old.clone();
        new.archived = Some(Archived {
            reason,
            at: self.context.now,
        });
        let what = match reason {
            Reason::Faded => What::Faded,
            Reason::Merged { into } => What::Merged { into },
            Reason::Superseded { by } => What::Superseded { by },
            Reason::Shared { .. } | Reason::Withheld => {
                unreachable!("no consolidation shares a memory")
            }
        };
        self.change(tx, key, old, new, what)
    }

    /// Stores the next version of a memory.
    fn change<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        key: Key,
        old: &Memory,
        mut new: Memory,
        what: What,
    ) -> Result<Before, ReadError> {
        new.version += 1;
        new.updated_at = self.context.now;
        let mut memory = old.clone();
        memory.content.clear();
        let before = Before {
            key,
            memory,
            version_after: new.version,
            used_after: new.used,
        };
        let doing = Doing { what, by: None };
        tx.change_to_undo((self.namespace, key), old, new, doing, self.context)?;
        Ok(before)
    }
}

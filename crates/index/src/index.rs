//! All namespaces, and how changes of the state reach them.
//!
//! Preparing a change (taking words apart, rotating vectors) takes most of the time and needs no
//! index, so it happens before the index is locked, on all cores.

use std::{collections::BTreeMap, sync::Arc};

use memorygate_core::{
    embedding::Embedding,
    key::Key,
    memory::Memory,
    name::Namespace,
    state::{Change, ChangeKind},
};
use rayon::prelude::*;

use crate::{
    faiss,
    namespace::{NamespaceIndex, Prepared, Sizes},
    records::Stored,
};

/// Fewer changes are prepared where they are: waking other threads costs as much as some twenty of
/// them, and while so few come at once, under load, the cores have other work.
const PARALLEL_FROM: usize = 256;

/// Memories that one thread prepares at a time: few enough that all threads have work, and enough that
/// the rotation's matrix is read seldom.
const PREPARED_TOGETHER: usize = 24;

/// The index of everything. What it holds follows from the memories that it was told of, and not
/// from the order in which it was.
#[derive(Debug, Default)]
pub struct Index {
    /// None is empty.
    namespaces: BTreeMap<Namespace, NamespaceIndex>,
}

/// One memory's change, made ready.
#[derive(Debug)]
pub struct Step {
    namespace: Namespace,
    key: Key,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The memory is new, or a new one under its key.
    Created(Box<Prepared>),
    /// Everything but content and embedding may have changed.
    Updated(Arc<Memory>),
    Removed,
}

impl Kind {
    fn created(prepared: &mut impl Iterator<Item = Prepared>) -> Self {
        let next = prepared.next();
        Self::Created(Box::new(
            next.expect("one is prepared for each that is created"),
        ))
    }
}

/// All that are created, made ready in their order, on all cores if they are many.
fn prepared(created: &[(Arc<Memory>, Arc<Embedding>)]) -> Vec<Prepared> {
    if created.len() < PARALLEL_FROM {
        return Prepared::all(created);
    }
    created
        .par_chunks(PREPARED_TOGETHER)
        .flat_map_iter(Prepared::all)
        .collect()
}

/// A memory as it is stored at one position; `None` if there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub namespace: Namespace,
    pub key: Key,
    pub stored: Option<(Memory, Embedding)>,
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Self {
        let Stored {
            namespace,
            key,
            memory,
            embedding,
        } = stored;
        Self {
            namespace,
            key,
            stored: Some((memory, embedding)),
        }
    }
}

/// Why a change could not be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Faiss(#[from] faiss::Error),
    /// The index is not what the changes before this one make of it: it must be rebuilt.
    #[error("memory {key} of namespace {namespace} was changed and is not indexed")]
    Missing { namespace: Namespace, key: Key },
}

impl Index {
    /// `None` for a namespace without memories.
    pub fn namespace(&self, namespace: &Namespace) -> Option<&NamespaceIndex> {
        self.namespaces.get(namespace)
    }

    /// The namespaces that hold a memory, in order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Namespace, &NamespaceIndex)> {
        self.namespaces.iter()
    }

    /// Sizes over all namespaces; terms count once a namespace.
    pub fn sizes(&self) -> Sizes {
        self.namespaces
            .values()
            .map(NamespaceIndex::sizes)
            .fold(Sizes::default(), Sizes::plus)
    }

    /// Takes over a namespace that was indexed elsewhere.
    pub(crate) fn put(&mut self, namespace: Namespace, index: NamespaceIndex) {
        if !index.is_empty() {
            self.namespaces.insert(namespace, index);
        }
    }

    /// Makes changes ready, in their order.
    pub fn prepare(changes: &[Change]) -> Vec<Step> {
        let created: Vec<_> = changes
            .iter()
            .filter_map(|change| match &change.kind {
                ChangeKind::Created { memory, embedding } => {
                    Some((memory.clone(), embedding.clone()))
                }
                ChangeKind::Updated { .. } | ChangeKind::Removed => None,
            })
            .collect();
        let mut prepared = prepared(&created).into_iter();
        let step = |change: &Change| Step {
            namespace: change.namespace.clone(),
            key: change.key,
            kind: match &change.kind {
                ChangeKind::Created { .. } => Kind::created(&mut prepared),
                ChangeKind::Updated { memory } => Kind::Updated(memory.clone()),
                ChangeKind::Removed => Kind::Removed,
            },
        };
        changes.iter().map(step).collect()
    }

    /// Makes ready what brings this index to the state in which the records are stored.
    pub fn prepare_records(&self, records: Vec<Record>) -> Vec<Step> {
        let mut created = Vec::new();
        let steps: Vec<(Namespace, Key, Option<Kind>)> = records
            .into_iter()
            .map(|record| {
                let Record {
                    namespace,
                    key,
                    stored,
                } = record;
                let indexed = self
                    .namespaces
                    .get(&namespace)
                    .and_then(|index| index.created(key));
                let kind = match stored {
                    None => Some(Kind::Removed),
                    // Nothing changes a memory's text, embedding or place while it lives.
                    Some((memory, _)) if indexed == Some(memory.created) => {
                        Some(Kind::Updated(memory.into()))
                    }
                    Some((memory, embedding)) => {
                        created.push((memory.into(), embedding.into()));
                        None
                    }
                };
                (namespace, key, kind)
            })
            .collect();
        let mut prepared = prepared(&created).into_iter();
        let step = |(namespace, key, kind): (Namespace, Key, Option<Kind>)| Step {
            namespace,
            key,
            kind: kind.unwrap_or_else(|| Kind::created(&mut prepared)),
        };
        steps.into_iter().map(step).collect()
    }

    /// Follows changes, in their order. After an error the index is of no use.
    pub fn apply(&mut self, steps: &[Step]) -> Result<(), Error> {
        steps.iter().try_for_each(|step| self.apply_one(step))
    }

    fn apply_one(&mut self, step: &Step) -> Result<(), Error> {
        let Step {
            namespace,
            key,
            kind,
        } = step;
        let missing = || Error::Missing {
            namespace: namespace.clone(),
            key: *key,
        };
        match kind {
            Kind::Created(prepared) => {
                if !self.namespaces.contains_key(namespace) {
                    self.namespaces
                        .insert(namespace.clone(), NamespaceIndex::new()?);
                }
                let index = self
                    .namespaces
                    .get_mut(namespace)
                    .expect("it was just put there");
                index.insert(*key, prepared)?;
            }
            Kind::Updated(memory) => {
                let index = self.namespaces.get_mut(namespace).ok_or_else(missing)?;
                if !index.update(*key, memory) {
                    return Err(missing());
                }
            }
            Kind::Removed => {
                if let Some(index) = self.namespaces.get_mut(namespace) {
                    index.remove(*key)?;
                    if index.is_empty() {
                        self.namespaces.remove(namespace);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{self, State};

    #[test]
    fn a_change_of_a_memory_that_is_not_indexed_is_refused() {
        let (namespace, key) = (samples::namespace("n"), samples::key(1));
        let kind = ChangeKind::Updated {
            memory: samples::memory(1, 1).into(),
        };
        let steps = Index::prepare(&[Change {
            namespace: namespace.clone(),
            key,
            kind,
        }]);
        let mut index = Index::default();
        assert_eq!(
            index.apply(&steps).unwrap_err().to_string(),
            format!("memory {key} of namespace n was changed and is not indexed")
        );
        let change = |kind| {
            vec![Change {
                namespace: namespace.clone(),
                key: samples::key(2),
                kind,
            }]
        };
        let created = ChangeKind::Created {
            memory: samples::memory(2, 2).into(),
            embedding: samples::embedding(2).into(),
        };
        index.apply(&Index::prepare(&change(created))).unwrap();
        assert!(matches!(index.apply(&steps), Err(Error::Missing { .. })));
        index
            .apply(&Index::prepare(&change(ChangeKind::Removed)))
            .unwrap();
        assert!(
            index.namespace(&namespace).is_none(),
            "an empty namespace is none"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn changes_records_and_a_rebuild_come_to_the_same(
            history in prop::collection::vec((0_u64..20, any::<u64>()), 1..80),
            from in 0_usize..80,
        ) {
            let (mut state, mut by_changes) = (State::default(), Index::default());
            let mut by_records = Index::default();
            for (at, (number, seed)) in history.into_iter().enumerate() {
                let steps = Index::prepare(&state.apply(number, seed));
                by_changes.apply(&steps).unwrap();
                // One index that stops to follow, and later looks up what changed.
                if at < from {
                    by_records.apply(&steps).unwrap();
                }
            }
            let mut records: Vec<Record> = Vec::new();
            for namespace in ["a", "b", "c"].map(samples::namespace) {
                for key in (0..20).map(samples::key) {
                    let stored = state.memories.get(&(namespace.clone(), key)).cloned();
                    records.push(Record { namespace: namespace.clone(), key, stored });
                }
            }
            let steps = by_records.prepare_records(records);
            by_records.apply(&steps).unwrap();
            let expected = samples::answers(&samples::index_of(&state));
            prop_assert_eq!(samples::answers(&by_changes), expected.clone());
            prop_assert_eq!(samples::answers(&by_records), expected);
        }
    }
}

//! A replicated state made of maps, with a journal, for tests.

use std::{collections::BTreeMap, sync::Arc};

use memorygate_core::{
    embedding::Embedding,
    key::Key,
    memory::Memory,
    name::Namespace,
    state::{Change, ChangeKind, ReadError, RowKey},
    time::TimeMs,
};

use crate::{
    records::{Journal, Records, Stored},
    samples,
    worker::Effects,
};

type Memories = BTreeMap<(Namespace, Key), (Memory, Embedding)>;

/// The state at one position.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) position: u64,
    pub(crate) memories: Memories,
    pub(crate) journal: Vec<(u64, Namespace, Key)>,
    /// The journal begins after this.
    pub(crate) floor: u64,
    /// The journal breaks its promise to go on.
    pub(crate) journal_stuck: bool,
    /// Reads fail, as if the disk did.
    pub(crate) broken: bool,
}

impl State {
    /// Applies one entry that creates, changes or removes a memory, as the numbers choose.
    pub(crate) fn apply(&mut self, number: u64, seed: u64) -> Vec<Change> {
        self.position += 1;
        let namespace = samples::namespace(["a", "b", "c"][seed as usize % 3]);
        let key = samples::key(number);
        let at = (namespace.clone(), key);
        let kind = match (seed / 3 % 4, self.memories.contains_key(&at)) {
            (0, true) => {
                self.memories.remove(&at);
                ChangeKind::Removed
            }
            (1 | 2, true) => {
                let (memory, _) = self.memories.get_mut(&at).unwrap();
                memory.importance = samples::memory(seed, 0).importance;
                ChangeKind::Updated {
                    memory: memory.clone().into(),
                }
            }
            (_, true) => {
                // Removed and learned anew within one batch.
                let (memory, embedding) = self.create(at.clone(), seed);
                let created = Change {
                    namespace: namespace.clone(),
                    key,
                    kind: ChangeKind::Created { memory, embedding },
                };
                self.journal.push((self.position, namespace.clone(), key));
                return vec![
                    Change {
                        namespace,
                        key,
                        kind: ChangeKind::Removed,
                    },
                    created,
                ];
            }
            (_, false) => {
                let (memory, embedding) = self.create(at, seed);
                ChangeKind::Created { memory, embedding }
            }
        };
        self.journal.push((self.position, namespace.clone(), key));
        vec![Change {
            namespace,
            key,
            kind,
        }]
    }

    fn create(&mut self, at: (Namespace, Key), seed: u64) -> (Arc<Memory>, Arc<Embedding>) {
        let created = (
            samples::memory(seed, self.position),
            samples::embedding(seed),
        );
        self.memories.insert(at, created.clone());
        (created.0.into(), created.1.into())
    }

    /// What one more entry's effects are.
    pub(crate) fn effects(&mut self, number: u64, seed: u64) -> Effects<Self> {
        let changes = self.apply(number, seed);
        Effects {
            changes,
            records: Arc::new(self.clone()),
        }
    }

    fn check(&self) -> Result<(), ReadError> {
        if !self.broken {
            return Ok(());
        }
        Err(ReadError::Storage {
            key: Box::new(RowKey::Clock),
            reason: "broken".to_owned(),
        })
    }
}

impl Records for State {
    fn position(&self) -> u64 {
        self.position
    }

    fn clock(&self) -> TimeMs {
        TimeMs(self.position as i64)
    }

    fn count(&self) -> Result<u64, ReadError> {
        self.check()?;
        Ok(self.memories.len() as u64)
    }

    fn memory(
        &self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<Option<(Memory, Embedding)>, ReadError> {
        self.check()?;
        Ok(self.memories.get(&(namespace.clone(), key)).cloned())
    }

    fn memories(
        &self,
        after: Option<(&Namespace, Key)>,
        limit: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        self.check()?;
        let after = after.map(|(namespace, key)| (namespace.clone(), key));
        let beyond = self
            .memories
            .iter()
            .filter(|(at, _)| after.as_ref().is_none_or(|a| *at > a));
        let stored = beyond.map(|((namespace, key), (memory, embedding))| Stored {
            namespace: namespace.clone(),
            key: *key,
            memory: memory.clone(),
            embedding: embedding.clone(),
        });
        // Fewer than asked for, so that a rebuild takes several turns.
        Ok(stored.take(limit.min(7)).collect())
    }

    fn journal(&self, after: u64, _limit: usize) -> Result<Journal, ReadError> {
        self.check()?;
        if after < self.floor {
            return Ok(Journal::Gap { floor: self.floor });
        }
        if self.journal_stuck {
            return Ok(Journal::Changed {
                keys: Vec::new(),
                through: after,
            });
        }
        let through = self.position.min(after + 5);
        let part = self
            .journal
            .iter()
            .filter(|(at, ..)| (after + 1..=through).contains(at));
        let keys = part
            .map(|(_, namespace, key)| (namespace.clone(), *key))
            .collect();
        Ok(Journal::Changed { keys, through })
    }
}

//! Learn: store experiences, or reinforce the memories that they became before.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use crate::{
    apply::{Context, Outcome, Rejection},
    embedding::{Embedding, Window},
    key::Key,
    limits,
    memory::{self, Created, Feedback, Invalid, Link, Memory, Used},
    name::{Domain, Name, Namespace},
    scope::Scope,
    state::{self, Doing, Read, ReadError, Transaction, What},
    time::TimeMs,
};

/// All of a batch is applied, or none.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Learn {
    #[n(0)]
    pub namespace: Namespace,
    /// 1 to [`limits::BATCH_MAX`].
    #[n(1)]
    pub experiences: Vec<Experience>,
}

/// One experience with everything that was computed for it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Experience {
    #[n(0)]
    pub scope: Scope,
    #[n(1)]
    pub content: String,
    #[n(2)]
    pub domain: Domain,
    /// The log's time if absent.
    #[n(3)]
    pub occurred_at: Option<TimeMs>,
    /// 0 to 1.
    #[n(4)]
    pub importance: f32,
    #[n(5)]
    pub metadata: BTreeMap<String, String>,
    #[n(6)]
    pub agent: Option<Name>,
    #[n(7)]
    pub session: Option<Name>,
    #[n(8)]
    pub expires_at: Option<TimeMs>,
    #[n(9)]
    pub pinned: bool,
    #[n(10)]
    pub links: BTreeSet<Link>,
    #[n(11)]
    pub embedding: Embedding,
}

/// What became of one experience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Learned {
    #[n(0)]
    pub key: Key,
    /// False if a known memory was reinforced.
    #[n(1)]
    pub created: bool,
    #[n(2)]
    pub version: u64,
    #[n(3)]
    pub occurrences: u32,
}

impl Learn {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let actual = self.experiences.len();
        if actual == 0 || actual > limits::BATCH_MAX {
            return Err(Invalid::Batch { actual });
        }
        self.experiences.iter().try_for_each(Experience::check)
    }

    pub(crate) fn apply<R: Read>(
        &self,
        tx: &mut Transaction<'_, R>,
        context: &Context,
    ) -> Result<Result<Outcome, Rejection>, ReadError> {
        let mut learned = Vec::with_capacity(self.experiences.len());
        for (offset, experience) in (0..).zip(&self.experiences) {
            let own = Key::of(
                &self.namespace,
                &experience.scope,
                &experience.domain,
                &experience.content,
            );
            // What was merged lives on in another memory, which learns it again.
            let (mut key, mut known) = state::current(tx, &self.namespace, own)?;
            while let Some(gone) = known.take_if(|memory| memory.is_expired(context.now)) {
                tx.remove(&self.namespace, key, &gone)?;
                (key, known) = (own, tx.memory(&self.namespace, own)?);
            }
            let created = known.is_none();
            let memory = match known {
                None => {
                    let memory = experience.first(context, offset);
                    let embedding = experience.embedding.clone();
                    tx.create(&self.namespace, key, memory.clone(), embedding)?;
                    memory
                }
                // What was shared is met again; what is said of it in the narrower scope stays there.
                Some(shared) if shared.scope != experience.scope => {
                    let met = experience.met_again(&shared, context);
                    // Who met it and where is not for those who see the wider one.
                    let doing = Doing {
                        what: What::LearnedAgain {
                            session: None,
                            wording: None,
                        },
                        by: None,
                    };
                    tx.change((&self.namespace, key), &shared, met, doing, context)?;
                    let old = tx.memory(&self.namespace, own)?.expect(
                        "a memory of another scope is found through the one that leads there",
                    );
                    let memory = Memory {
                        archived: old.archived,
                        ..experience.again(&old, context)
                    };
                    let doing = experience.learned_again(None);
                    let place = (&self.namespace, own);
                    tx.change(place, &old, memory.clone(), doing, context)?;
                    key = own;
                    memory
                }
                Some(old) => {
                    let memory = experience.again(&old, context);
                    let doing = experience.learned_again((own != key).then_some(own));
                    let place = (&self.namespace, key);
                    tx.change(place, &old, memory.clone(), doing, context)?;
                    memory
                }
            };
            let Memory {
                version,
                occurrences,
                ..
            } = memory;
            learned.push(Learned {
                key,
                created,
                version,
                occurrences,
            });
        }
        Ok(Ok(Outcome::Learned(learned)))
    }
}

impl Experience {
    /// About the bytes of what is large in it.
    pub(super) fn about_bytes(&self) -> usize {
        let window = |window: &Window| 4 * window.dense.len() + 50 * window.states.len();
        let windows: usize = self.embedding.windows.iter().map(window).sum();
        self.content.len() + windows
    }

    pub fn check(&self) -> Result<(), Invalid> {
        memory::check_content(&self.content)?;
        memory::check_importance(self.importance)?;
        memory::check_metadata(&self.metadata)?;
        if self.links.len() > limits::LINKS_MAX {
            return Err(Invalid::Links {
                actual: self.links.len(),
            });
        }
        for time in [self.occurred_at, self.expires_at].into_iter().flatten() {
            TimeMs::new(time.0)?;
        }
        Ok(self.embedding.check()?)
    }

    fn learned_again(&self, wording: Option<Key>) -> Doing {
        Doing {
            what: What::LearnedAgain {
                session: self.session.clone(),
                wording,
            },
            by: self.agent.clone(),
        }
    }

    fn first(&self, context: &Context, offset: u32) -> Memory {
        let occurred_at = self.occurred_at.unwrap_or(context.now);
        Memory {
            scope: self.scope.clone(),
            content: self.content.clone(),
            domain: self.domain.clone(),
            occurred_at,
            importance: self.importance,
            metadata: self.metadata.clone(),
            agent: self.agent.clone(),
            session: self.session.clone(),
            links: self.links.clone(),
            expires_at: self.expires_at,
            pinned: self.pinned,
            version: 1,
            occurrences: 1,
            last_seen_at: occurred_at,
            feedback: Feedback::default(),
            created: Created {
                index: context.index,
                offset,
                at: context.now,
            },
            updated_at: context.now,
            used: Used::default(),
            archived: None,
            merged: BTreeSet::new(),
            shared: BTreeMap::new(),
            changed_index: 0,
        }
    }

    /// The same lesson once more. What it adds is kept and what it would contradict is not: who
    /// taught it first, and in which session, stays; metadata and links join where there is room.
    fn again(&self, old: &Memory, context: &Context) -> Memory {
        let mut memory = self.met_again(old, context);
        memory.pinned = old.pinned || self.pinned;
        for (name, value) in &self.metadata {
            let mut joined = memory.metadata.clone();
            joined.insert(name.clone(), value.clone());
            if memory::check_metadata(&joined).is_ok() {
                memory.metadata = joined;
            }
        }
        for link in &self.links {
            if memory.links.len() < limits::LINKS_MAX {
                memory.links.insert(*link);
            }
        }
        memory
    }

    /// The part of it that says nothing of what is written here: all that a memory of a wider scope learns
    /// of it.
    fn met_again(&self, old: &Memory, context: &Context) -> Memory {
        let mut memory = old.clone();
        memory.version += 1;
        memory.occurrences = old.occurrences.saturating_add(1);
        memory.last_seen_at = old
            .last_seen_at
            .max(self.occurred_at.unwrap_or(context.now));
        memory.importance = reinforced(old.importance, self.importance);
        // A lesson met again lives as long as its longest-lived occurrence.
        memory.expires_at = match (old.expires_at, self.expires_at) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (None, _) | (_, None) => None,
        };
        memory.archived = None;
        memory.updated_at = context.now;
        memory
    }
}

/// The larger of the two, and a tenth of the way from there to 1: a lesson that keeps coming back
/// matters more, and no number of repeats passes 1.
fn reinforced(old: f32, new: f32) -> f32 {
    let larger = old.max(new);
    (larger + 0.1 * (1.0 - larger)).min(1.0)
}

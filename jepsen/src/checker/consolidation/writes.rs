//! What became of each write over all its attempts.

use std::collections::BTreeMap;

use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::consolidation::{Ask, Key, Told, Words},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Learn,
    Judge { is_positive: bool },
    Undo,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Done {
        /// The memory that it reached; none of an undo.
        key: Option<Key>,
        /// Steps that were undone.
        steps: u64,
        /// Of its entry in the log.
        position: u64,
    },
    /// The store looked and said no.
    Refused {
        why: String,
    },
    /// Nothing came of it.
    Failed,
    Unknown,
}

#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) what: What,
    /// Of its first attempt.
    pub(super) invoked_us: u64,
    /// Of the first attempt that was answered for good; of the first attempt if none was.
    pub(super) answered_us: u64,
    pub(super) became: Became,
}

impl Write {
    /// Whether it had certainly happened at a position.
    pub(super) fn is_at(&self, at: u64) -> bool {
        matches!(self.became, Became::Done { position, .. } if position <= at)
    }

    /// Whether it may have happened at a position that was read at a moment.
    pub(super) fn may_be_at(&self, at: u64, completed_us: u64) -> bool {
        match self.became {
            Became::Done { position, .. } => position <= at,
            Became::Unknown => self.invoked_us <= completed_us,
            Became::Refused { .. } | Became::Failed => false,
        }
    }
}

/// All writes, by what they are about.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Learned and judged.
    pub(super) by_words: BTreeMap<Words, Vec<Write>>,
    pub(super) undos: BTreeMap<u64, Vec<Write>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Words(Words),
    Epoch(u64),
}

impl Writes {
    pub(super) fn of(history: &[Operation<Ask>], findings: &mut Findings) -> Self {
        let mut all: BTreeMap<u64, (About, Write, Option<Told>)> = BTreeMap::new();
        for operation in history {
            let (number, about, what) = match &operation.call {
                Ask::Learn { write, words } => (*write, About::Words(*words), What::Learn),
                Ask::Judge {
                    write,
                    words,
                    is_positive,
                    ..
                } => {
                    let is_positive = *is_positive;
                    (*write, About::Words(*words), What::Judge { is_positive })
                }
                Ask::Undo { write, epoch } => (*write, About::Epoch(*epoch), What::Undo),
                Ask::Pass { .. }
                | Ask::Epochs
                | Ask::Get { .. }
                | Ask::Find { .. }
                | Ask::Look { .. }
                | Ask::Read { .. } => continue,
            };
            let (_, write, first) = all.entry(number).or_insert_with(|| {
                let write = Write {
                    what,
                    invoked_us: operation.invoked_us,
                    answered_us: operation.completed_us,
                    became: Became::Failed,
                };
                (about, write, None)
            });
            match &operation.answer {
                Answer::Done(told) => {
                    if let Some(first) = first
                        && first != told
                    {
                        findings.violate(format!(
                            "write {number} was answered {first:?} and, repeated on node {}, {told:?}",
                            operation.node
                        ));
                    }
                    if first.is_none() {
                        write.became = done(told);
                        write.answered_us = operation.completed_us;
                        *first = Some(told.clone());
                    }
                }
                Answer::Refused(why) if first.is_none() => {
                    write.became = Became::Refused { why: why.clone() };
                    write.answered_us = operation.completed_us;
                }
                Answer::Refused(why) => findings.violate(format!(
                    "write {number} was acknowledged and, repeated on node {}, refused: {why}",
                    operation.node
                )),
                Answer::Unknown(_) if write.became == Became::Failed => {
                    write.became = Became::Unknown;
                }
                Answer::Unknown(_) | Answer::Failed(_) => {}
            }
        }
        let mut writes = Self::default();
        let mut created = Vec::new();
        for (number, (about, write, first)) in all {
            match write.became {
                Became::Done { .. } => findings.acknowledged += 1,
                Became::Unknown => findings.unknown += 1,
                Became::Refused { .. } | Became::Failed => findings.failed += 1,
            }
            if let (Became::Refused { why, .. }, About::Words(words)) = (&write.became, about) {
                // Whoever asks knows the key from an acknowledgement.
                findings.lose(format!("write {number} to {words} was refused: {why}"));
            }
            match about {
                About::Words(words) => {
                    if let Some(Told::Learned {
                        created: true,
                        position,
                        ..
                    }) = first
                    {
                        created.push((words, position));
                    }
                    writes.by_words.entry(words).or_default().push(write);
                }
                About::Epoch(epoch) => writes.undos.entry(epoch).or_default().push(write),
            }
        }
        // A memory is new once: were it new again, it would have been lost meanwhile.
        for (words, position) in created {
            if writes.is_learned(words, position.saturating_sub(1)) {
                findings.lose(format!(
                    "{words} was new at {position}, and had been learned before"
                ));
            }
        }
        writes
    }

    /// Whether something was acknowledged as learned up to a position.
    pub(super) fn is_learned(&self, words: Words, at: u64) -> bool {
        let mut writes = self.by_words.get(&words).into_iter().flatten();
        writes.any(|write| write.what == What::Learn && write.is_at(at))
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); 5] {
        let is_done = |write: &&Write| matches!(write.became, Became::Done { .. });
        let of_words = || self.by_words.values().flatten();
        let learned = of_words().filter(|write| write.what == What::Learn);
        let judged = of_words().filter(|write| write.what != What::Learn);
        let undos = || self.undos.values().flatten();
        let refused = undos().filter(|write| matches!(write.became, Became::Refused { .. }));
        [
            ("learned", learned.filter(is_done).count() as u64),
            ("judged", judged.filter(is_done).count() as u64),
            ("undone", undos().filter(is_done).count() as u64),
            ("undo_refused", refused.count() as u64),
            ("wordings", self.by_words.len() as u64),
        ]
    }
}

fn done(told: &Told) -> Became {
    match told {
        Told::Learned { key, position, .. } | Told::Judged { key, position, .. } => Became::Done {
            key: Some(key.clone()),
            steps: 0,
            position: *position,
        },
        Told::Undone { steps, position } => Became::Done {
            key: None,
            steps: *steps,
            position: *position,
        },
        Told::Passed { .. }
        | Told::Epochs(_)
        | Told::Got { .. }
        | Told::Found { .. }
        | Told::Looked(_)
        | Told::Everything(..) => unreachable!("no write is answered so"),
    }
}

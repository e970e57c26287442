//! Epochs as all lists together tell them: each the same wherever it is seen, there until it is undone,
//! and of sources that no other has consumed.

use std::collections::{BTreeMap, BTreeSet};

use super::writes::{Became, Write, Writes};
use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::consolidation::{Ask, Epochs as List, Key, Sense, Step, Told, Words},
};

/// An epoch that consumed a memory, and the memory that took it in.
#[derive(Clone, Debug)]
pub(super) struct Consumed {
    pub(super) epoch: u64,
    pub(super) into: Key,
}

/// All epochs that ever happened.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    steps: BTreeMap<u64, Vec<Step>>,
    /// By source.
    pub(super) merged: BTreeMap<Key, Vec<Consumed>>,
    /// By memory, the epochs in which it faded.
    pub(super) faded: BTreeMap<Key, Vec<u64>>,
    undos: BTreeMap<u64, Vec<Write>>,
    /// Whether some list has all that was not undone.
    pub(super) are_complete: bool,
}

fn lists(history: &[Operation<Ask>]) -> impl Iterator<Item = (&Operation<Ask>, &List)> {
    history.iter().filter_map(|operation| {
        if let Answer::Done(Told::Epochs(list) | Told::Everything(list, _)) = &operation.answer {
            Some((operation, list))
        } else {
            None
        }
    })
}

impl Epochs {
    pub(super) fn of(history: &[Operation<Ask>], writes: &Writes) -> Self {
        let mut epochs = Self {
            undos: writes.undos.clone(),
            ..Self::default()
        };
        for (operation, list) in lists(history) {
            epochs.are_complete |= matches!(operation.call, Ask::Read { .. });
            for epoch in &list.epochs {
                let known = epochs.steps.entry(epoch.id);
                known.or_insert_with(|| epoch.steps.clone());
            }
        }
        for (id, steps) in &epochs.steps {
            for step in steps {
                match step.kind.as_str() {
                    "merge" => {
                        for source in &step.others {
                            let consumed = Consumed {
                                epoch: *id,
                                into: step.key.clone(),
                            };
                            let of = epochs.merged.entry(source.clone());
                            of.or_default().push(consumed);
                        }
                    }
                    "fade" => epochs.faded.entry(step.key.clone()).or_default().push(*id),
                    _ => {}
                }
            }
        }
        epochs
    }

    /// Whether it had certainly been undone at a position.
    pub(super) fn is_undone(&self, epoch: u64, at: u64) -> bool {
        self.undos_of(epoch).any(|undo| undo.is_at(at))
    }

    /// Whether it may have been undone at a position that was read at a moment.
    pub(super) fn may_be_undone(&self, epoch: u64, at: u64, completed_us: u64) -> bool {
        self.undos_of(epoch)
            .any(|undo| undo.may_be_at(at, completed_us))
    }

    fn undos_of(&self, epoch: u64) -> impl Iterator<Item = &Write> {
        self.undos.get(&epoch).into_iter().flatten()
    }

    pub(super) fn check(
        &self,
        history: &[Operation<Ask>],
        writes: &Writes,
        words: &BTreeMap<Key, Words>,
        findings: &mut Findings,
    ) {
        for (operation, list) in lists(history) {
            self.list(operation, list, findings);
        }
        self.sources(findings);
        for (id, steps) in &self.steps {
            for step in steps {
                fits(*id, step, words, findings);
            }
        }
        for (epoch, undos) in &writes.undos {
            self.undone(*epoch, undos, writes, words, findings);
        }
    }

    /// Says how many there were, and returns the number of merges.
    pub(super) fn count(&self, findings: &mut Findings) -> u64 {
        let of = |kind: &'static str| {
            let steps = self.steps.values().flatten();
            steps.filter(|step| step.kind == kind).count() as u64
        };
        let merges = of("merge");
        findings.counts.extend([
            ("epochs", self.steps.len() as u64),
            ("merges", merges),
            ("fades", of("fade")),
            ("conflicts", of("conflict")),
        ]);
        merges
    }

    fn list(&self, operation: &Operation<Ask>, list: &List, findings: &mut Findings) {
        let (node, at) = (operation.node, list.position);
        let mut ids = BTreeSet::new();
        for epoch in &list.epochs {
            let id = epoch.id;
            if !ids.insert(id) {
                findings.violate(format!("epoch {id} is twice in the list of node {node}"));
            }
            if id > at && matches!(operation.call, Ask::Epochs) {
                findings.violate(format!("node {node} at {at} lists epoch {id}"));
            }
            if self.steps[&id] != epoch.steps {
                findings.violate(format!(
                    "epoch {id} on node {node} is {:?}, and {:?} in another list",
                    epoch.steps, self.steps[&id]
                ));
            }
            if self.is_undone(id, at) {
                findings.violate(format!(
                    "epoch {id} was undone, and node {node} at {at} lists it"
                ));
            }
        }
        let oldest = match list.is_whole {
            true => 0,
            false => ids.first().copied().unwrap_or(0),
        };
        for id in self.steps.range(oldest..=at).map(|(id, _)| *id) {
            if !ids.contains(&id) && !self.may_be_undone(id, at, operation.completed_us) {
                findings.violate(format!(
                    "epoch {id} was not undone, and node {node} at {at} does not list it"
                ));
            }
        }
    }

    /// No memory is in two steps of an epoch, and none is consumed again before that was undone.
    fn sources(&self, findings: &mut Findings) {
        let mut consumed: BTreeMap<&Key, u64> = BTreeMap::new();
        for (id, steps) in &self.steps {
            let mut in_this = BTreeSet::new();
            for step in steps {
                let is_merge = step.kind == "merge";
                let is_pair = is_merge || step.kind == "conflict";
                let others = step.others.iter().filter(|_| is_pair);
                for key in others.chain([&step.key]) {
                    if !in_this.insert(key) {
                        findings.violate(format!("epoch {id} consumes {key} twice"));
                    }
                    if let Some(before) = consumed.get(key)
                        && !self.may_be_undone(*before, *id, u64::MAX)
                    {
                        findings.violate(format!(
                            "epoch {id} consumes {key}, which epoch {before} had merged already"
                        ));
                    }
                }
                let sources = step.others.iter().filter(|_| is_merge);
                consumed.extend(sources.map(|source| (source, *id)));
            }
        }
    }

    /// An epoch is undone once and wholly, and an undo is refused only for a reason.
    fn undone(
        &self,
        epoch: u64,
        undos: &[Write],
        writes: &Writes,
        words: &BTreeMap<Key, Words>,
        findings: &mut Findings,
    ) {
        let steps = self.steps.get(&epoch).map_or(0, Vec::len) as u64;
        let mut is_done = false;
        for undo in undos {
            match &undo.became {
                Became::Done { steps: undone, .. } => {
                    if is_done {
                        findings.violate(format!("epoch {epoch} was undone twice"));
                    }
                    if *undone != steps {
                        findings.violate(format!(
                            "undoing epoch {epoch} took back {undone} of its {steps} steps"
                        ));
                    }
                    is_done = true;
                }
                Became::Refused { why } => {
                    let is_gone = why.starts_with("NotFound");
                    let has_reason = if is_gone {
                        undos.iter().any(|other| {
                            matches!(other.became, Became::Done { .. } | Became::Unknown)
                                && other.invoked_us <= undo.answered_us
                        })
                    } else {
                        self.was_changed_since(epoch, undo, writes, words)
                    };
                    if !has_reason {
                        findings.violate(format!(
                            "epoch {epoch} was there as it was left, and undoing it was refused: \
                             {why}"
                        ));
                    }
                }
                Became::Failed | Became::Unknown => {}
            }
        }
    }

    /// Whether anything that an epoch left may have been changed after it, and before an undo was
    /// refused.
    fn was_changed_since(
        &self,
        epoch: u64,
        undo: &Write,
        writes: &Writes,
        words: &BTreeMap<Key, Words>,
    ) -> bool {
        let steps = self.steps.get(&epoch).into_iter().flatten();
        let left: BTreeSet<&Key> = steps
            .flat_map(|step| step.others.iter().chain([&step.key]))
            .collect();
        let lessons: BTreeSet<u64> = left
            .iter()
            .filter_map(|key| words.get(*key))
            .map(|words| words.lesson)
            .collect();
        let of_lessons = writes
            .by_words
            .iter()
            .filter(|(words, _)| lessons.contains(&words.lesson));
        let is_written = of_lessons.flat_map(|(_, writes)| writes).any(|write| {
            let has_begun = write.invoked_us <= undo.answered_us;
            has_begun
                && match &write.became {
                    Became::Done { key, position, .. } => {
                        *position > epoch && key.as_ref().is_some_and(|key| left.contains(key))
                    }
                    Became::Unknown => true,
                    Became::Refused { .. } | Became::Failed => false,
                }
        });
        let is_consumed = || {
            self.steps.range(epoch + 1..).any(|(later, steps)| {
                let mut keys = steps
                    .iter()
                    .flat_map(|step| step.others.iter().chain([&step.key]));
                keys.any(|key| left.contains(key))
                    && !self.was_undone_before(*later, undo.invoked_us)
            })
        };
        is_written || is_consumed()
    }

    /// Whether an undo was answered before a moment.
    fn was_undone_before(&self, epoch: u64, moment_us: u64) -> bool {
        self.undos_of(epoch)
            .any(|undo| matches!(undo.became, Became::Done { .. }) && undo.answered_us <= moment_us)
    }
}

/// Only what says the same is merged, only opposites contradict each other, and only trifles fade.
fn fits(id: u64, step: &Step, words: &BTreeMap<Key, Words>, findings: &mut Findings) {
    let Some(own) = words.get(&step.key) else {
        findings.haunt(format!(
            "epoch {id} changed {}, which nobody learned",
            step.key
        ));
        return;
    };
    for other in &step.others {
        let Some(words) = words.get(other) else {
            findings.haunt(format!("epoch {id} consumed {other}, which nobody learned"));
            continue;
        };
        let is_opposite = own.lesson == words.lesson
            && own.sense != words.sense
            && own.sense != Sense::Trifle
            && words.sense != Sense::Trifle;
        let fits = match step.kind.as_str() {
            "merge" => own.says_the_same(*words),
            "conflict" => is_opposite,
            _ => true,
        };
        if !fits {
            findings.violate(format!(
                "epoch {id} has a {} of {own} and {words}",
                step.kind
            ));
        }
    }
    if step.kind == "fade" && own.sense != Sense::Trifle {
        findings.violate(format!(
            "epoch {id} let {own} fade, which is worth too much"
        ));
    }
}

//! Each epoch once and each source in one merge at most; nothing acknowledged lost or counted twice,
//! whatever was merged, faded or undone; nothing half-done at any position; and what was undone is as
//! it was.
//!
//! ```text
//! learns, judgements, undos ──▶ writes ─┐
//! lists of epochs ────────────▶ epochs ─┴─▶ what must be at a position ◀──▶ snapshots of that position
//! ```
//!
//! An epoch that is in no list does not exist: what was undone was in someone's list before, and the
//! rest is in the last lists. So every snapshot can be held against the epochs that had happened.

mod epochs;
mod snapshot;
mod writes;

use std::collections::{BTreeMap, BTreeSet};

use self::{epochs::Epochs, writes::Writes};
use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::consolidation::{Ask, Key, Sense, Snapshot, Told, Words},
};

/// Judges a history that ends with a read of each node.
pub fn check(history: &[Operation<Ask>]) -> Findings {
    let mut findings = Findings::default();
    let writes = Writes::of(history, &mut findings);
    let words = words(history, &mut findings);
    let epochs = Epochs::of(history, &writes);
    epochs.check(history, &writes, &words, &mut findings);
    let truth = snapshot::Truth {
        writes: &writes,
        epochs: &epochs,
    };
    truth.check(history, &mut findings);
    keys(history, &writes, &mut findings);
    recalls(history, &writes, &mut findings);
    reads(history, &mut findings);
    let merges = epochs.count(&mut findings);
    findings.counts.extend(writes.counts());
    findings.counts.extend(count_reads(history));
    if merges == 0 {
        findings.violate("nothing was merged, so nothing was tested");
    }
    findings
}

/// Which words each key stands for.
fn words(history: &[Operation<Ask>], findings: &mut Findings) -> BTreeMap<Key, Words> {
    let mut all: BTreeMap<Key, Words> = BTreeMap::new();
    let mut note = |key: &Key, words: Words| {
        let first = *all.entry(key.clone()).or_insert(words);
        if first != words {
            findings.violate(format!("key {key} is of {first} and of {words}"));
        }
    };
    for operation in history {
        let Answer::Done(told) = &operation.answer else {
            continue;
        };
        match (&operation.call, told) {
            (Ask::Learn { words, .. }, Told::Learned { key, created, .. }) if *created => {
                note(key, *words);
            }
            (Ask::Get { key, .. }, Told::Got { memory }) => note(key, memory.words),
            (_, Told::Looked(snapshot) | Told::Everything(_, snapshot)) => {
                for (key, memory) in &snapshot.memories {
                    note(key, memory.words);
                }
            }
            _ => {}
        }
    }
    all
}

/// What was acknowledged is under its key, whatever became of it.
fn keys(history: &[Operation<Ask>], writes: &Writes, findings: &mut Findings) {
    for operation in history {
        let Ask::Get {
            words,
            key,
            at_least,
        } = &operation.call
        else {
            continue;
        };
        match &operation.answer {
            Answer::Refused(why) if writes.is_learned(*words, *at_least) => findings.lose(format!(
                "{words} was acknowledged, and node {} asked for {key} at {at_least} says {why}",
                operation.node
            )),
            Answer::Done(Told::Got { memory }) if memory.words != *words => {
                findings.violate(format!(
                    "node {} asked for {words} by its key {key} gives {}",
                    operation.node, memory.words
                ));
            }
            Answer::Done(_) | Answer::Refused(_) | Answer::Failed(_) | Answer::Unknown(_) => {}
        }
    }
}

/// A lesson is found, in some of its words, from its first acknowledgement on. Trifles may have faded.
fn recalls(history: &[Operation<Ask>], writes: &Writes, findings: &mut Findings) {
    for operation in history {
        let (
            Ask::Find {
                lesson,
                sense,
                at_least,
            },
            Answer::Done(Told::Found { live, archived }),
        ) = (&operation.call, &operation.answer)
        else {
            continue;
        };
        let (node, sense_name) = (operation.node, sense.name());
        if !archived.is_empty() {
            findings.violate(format!(
                "node {node} recalled what is archived of lesson {lesson}, {sense_name}: \
                 {archived:?}"
            ));
        }
        let is_learned = (0..Words::WORDINGS).any(|wording| {
            let words = Words {
                lesson: *lesson,
                sense: *sense,
                wording,
            };
            writes.is_learned(words, *at_least)
        });
        if is_learned && live.is_empty() && *sense != Sense::Trifle {
            findings.violate(format!(
                "lesson {lesson}, {sense_name}, was learned before {at_least}, and node {node} \
                 recalls neither it nor what took its place"
            ));
        }
    }
}

/// Reads of everything that know of the same epochs are the same, on all nodes and before and after an
/// epoch that was undone; and what can be merged is in the end.
fn reads(history: &[Operation<Ask>], findings: &mut Findings) {
    let mut by_epochs: BTreeMap<Vec<u64>, (usize, &Snapshot)> = BTreeMap::new();
    let (mut is_read, mut has_settled) = (false, false);
    for operation in history {
        let Ask::Read { is_settled } = operation.call else {
            continue;
        };
        let node = operation.node;
        let Answer::Done(Told::Everything(epochs, snapshot)) = &operation.answer else {
            findings.violate(format!("node {node} could not be read in the end"));
            continue;
        };
        is_read = true;
        let ids = epochs.epochs.iter().map(|epoch| epoch.id).collect();
        let (other, first) = *by_epochs.entry(ids).or_insert((node, snapshot));
        if let Some(difference) = difference(first, snapshot) {
            findings.violate(format!(
                "after the same epochs, node {other} at {} and node {node} at {} differ: \
                 {difference}",
                first.position, snapshot.position
            ));
        }
        if is_settled {
            has_settled = true;
            not_merged(node, snapshot, findings);
        }
    }
    if !is_read {
        findings.violate("no node was read in the end");
    } else if !has_settled {
        findings.violate("passes over everything went on finding something to do in the end");
    }
}

/// The first memory that is not the same, in words.
fn difference(a: &Snapshot, b: &Snapshot) -> Option<String> {
    let keys: BTreeSet<&Key> = a.memories.keys().chain(b.memories.keys()).collect();
    let differs = |key: &&&Key| a.memories.get(**key) != b.memories.get(**key);
    let key = keys.iter().find(differs)?;
    Some(format!(
        "{key} is {:?} and {:?}",
        a.memories.get(*key),
        b.memories.get(*key)
    ))
}

fn not_merged(node: usize, snapshot: &Snapshot, findings: &mut Findings) {
    let mut live: BTreeMap<(u64, Sense), Vec<&Key>> = BTreeMap::new();
    let memories = snapshot.memories.iter();
    for (key, memory) in memories.filter(|(_, memory)| memory.archived.is_none()) {
        let of = (memory.words.lesson, memory.words.sense);
        live.entry(of).or_default().push(key);
    }
    for ((lesson, sense), keys) in live.iter().filter(|(_, keys)| keys.len() > 1) {
        findings.violate(format!(
            "lesson {lesson}, {}, could be one memory and is {} on node {node} after a pass over \
             everything: {keys:?}",
            sense.name(),
            keys.len()
        ));
    }
}

fn count_reads(history: &[Operation<Ask>]) -> [(&'static str, u64); 2] {
    let (mut passes, mut looks) = (0, 0);
    for operation in history {
        let Answer::Done(told) = &operation.answer else {
            continue;
        };
        passes += u64::from(matches!(told, Told::Passed { .. }));
        looks += u64::from(matches!(told, Told::Looked(_)));
    }
    [("passes_asked_for", passes), ("lessons_looked_at", looks)]
}

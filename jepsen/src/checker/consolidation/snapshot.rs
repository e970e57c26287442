//! What one position of the log must look like.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    epochs::Epochs,
    writes::{What, Writes},
};
use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::consolidation::{Archived, Ask, Key, Memory, Snapshot, Told, Words},
};

/// Everything that clients know of what happened.
pub(super) struct Truth<'a> {
    pub(super) writes: &'a Writes,
    pub(super) epochs: &'a Epochs,
}

/// Who read what and when.
#[derive(Clone, Copy)]
struct Seen<'a> {
    node: usize,
    completed_us: u64,
    /// `None` if it is everything.
    lesson: Option<u64>,
    snapshot: &'a Snapshot,
}

/// How often something must have been counted, and may have been.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    least: u64,
    most: u64,
}

impl Range {
    fn count(&mut self, must: bool, may: bool) {
        self.least += u64::from(must);
        self.most += u64::from(may);
    }

    fn add(&mut self, other: Self) {
        self.least += other.least;
        self.most += other.most;
    }
}

/// What the counters of one memory must say.
#[derive(Clone, Copy, Debug, Default)]
struct Ranges {
    occurrences: Range,
    positive: Range,
    negative: Range,
}

impl Ranges {
    fn add(&mut self, other: Self) {
        self.occurrences.add(other.occurrences);
        self.positive.add(other.positive);
        self.negative.add(other.negative);
    }
}

impl Truth<'_> {
    /// Judges every snapshot, and those of one lesson at one position against each other.
    pub(super) fn check(&self, history: &[Operation<Ask>], findings: &mut Findings) {
        let mut contents: BTreeMap<(u64, u64), (usize, &Snapshot)> = BTreeMap::new();
        for operation in history {
            let (node, completed_us) = (operation.node, operation.completed_us);
            match (&operation.call, &operation.answer) {
                (Ask::Look { lesson, at_least }, Answer::Done(Told::Looked(snapshot))) => {
                    let position = snapshot.position;
                    if position < *at_least {
                        findings.violate(format!(
                            "node {node} was asked for position {at_least} and answered at \
                             {position}"
                        ));
                    }
                    let of = (*lesson, position);
                    let (other, first) = *contents.entry(of).or_insert((node, snapshot));
                    if first != snapshot {
                        findings.violate(format!(
                            "lesson {lesson} at position {position} is {:?} on node {other} and \
                             {:?} on node {node}",
                            first.memories, snapshot.memories
                        ));
                    }
                    let seen = Seen {
                        node,
                        completed_us,
                        lesson: Some(*lesson),
                        snapshot,
                    };
                    self.judge(seen, findings);
                }
                (Ask::Read { .. }, Answer::Done(Told::Everything(_, snapshot))) => {
                    let seen = Seen {
                        node,
                        completed_us,
                        lesson: None,
                        snapshot,
                    };
                    self.judge(seen, findings);
                }
                _ => {}
            }
        }
    }

    fn judge(&self, seen: Seen<'_>, findings: &mut Findings) {
        for other in &seen.snapshot.others {
            findings.haunt(format!("node {}: {other}", seen.node));
        }
        let ranges = self.presence(seen, findings);
        self.counts(seen, &ranges, findings);
        if self.epochs.are_complete {
            self.consumed(seen, findings);
        }
    }

    /// All that was acknowledged is there, archived or not, and nothing else.
    fn presence(&self, seen: Seen<'_>, findings: &mut Findings) -> BTreeMap<Words, Ranges> {
        let Seen {
            node,
            completed_us,
            lesson,
            snapshot,
        } = seen;
        let at = snapshot.position;
        let mut there = BTreeSet::new();
        for memory in snapshot.memories.values() {
            if !there.insert(memory.words) {
                findings.haunt(format!("{} is there twice on node {node}", memory.words));
            }
        }
        let mut ranges: BTreeMap<Words, Ranges> = BTreeMap::new();
        let is_meant = |words: &Words| lesson.is_none_or(|lesson| words.lesson == lesson);
        let written = self.writes.by_words.iter();
        for (words, writes) in written.filter(|(words, _)| is_meant(words)) {
            let range = ranges.entry(*words).or_default();
            for write in writes {
                let counted = match write.what {
                    What::Learn => &mut range.occurrences,
                    What::Judge { is_positive: true } => &mut range.positive,
                    What::Judge { is_positive: false } => &mut range.negative,
                    What::Undo => continue,
                };
                counted.count(write.is_at(at), write.may_be_at(at, completed_us));
            }
            if range.occurrences.least > 0 && !there.contains(words) {
                findings.lose(format!(
                    "{words} was acknowledged before {at} and is not on node {node}"
                ));
            }
        }
        for words in there {
            let most = ranges.get(&words).map_or(0, |range| range.occurrences.most);
            if most == 0 {
                findings.haunt(format!(
                    "{words} is on node {node} at {at}; nobody learned it"
                ));
            }
        }
        ranges
    }

    /// What a memory took in is counted in it, once, and leads to it.
    fn counts(&self, seen: Seen<'_>, ranges: &BTreeMap<Words, Ranges>, findings: &mut Findings) {
        let Seen { node, snapshot, .. } = seen;
        let at = snapshot.position;
        let mut sources: BTreeMap<&Key, BTreeSet<Key>> = BTreeMap::new();
        let mut expected: BTreeMap<&Key, Ranges> = BTreeMap::new();
        for (key, memory) in &snapshot.memories {
            let Some(root) = root(snapshot, key) else {
                findings.violate(format!(
                    "{} ({key}) was merged, and on node {node} at {at} nothing is where it leads",
                    memory.words
                ));
                continue;
            };
            let taken_in = sources.entry(root).or_default();
            if root != key {
                taken_in.insert(key.clone());
                let into = snapshot.memories[root].words;
                if !memory.words.says_the_same(into) {
                    findings.violate(format!(
                        "{} leads to {into} on node {node} at {at}",
                        memory.words
                    ));
                }
            }
            let own = ranges.get(&memory.words).copied().unwrap_or_default();
            expected.entry(root).or_default().add(own);
        }
        for (root, sources) in &sources {
            let memory = &snapshot.memories[*root];
            if memory.merged != *sources {
                findings.violate(format!(
                    "{} ({root}) says on node {node} at {at} that it took in {:?}; those that lead \
                     to it are {sources:?}",
                    memory.words, memory.merged
                ));
            }
            let expected = expected.get(*root).copied().unwrap_or_default();
            compare(seen, memory, expected, findings);
        }
    }

    /// What is archived is so by an epoch that has happened, and what an epoch archived is archived.
    fn consumed(&self, seen: Seen<'_>, findings: &mut Findings) {
        let Seen {
            node,
            completed_us,
            snapshot,
            ..
        } = seen;
        let at = snapshot.position;
        for (key, memory) in &snapshot.memories {
            let words = memory.words;
            let merged = self.epochs.merged.get(key).into_iter().flatten();
            let faded = self.epochs.faded.get(key).into_iter().flatten();
            let may_be = |epoch: u64| epoch <= at && !self.epochs.is_undone(epoch, at);
            let explained = match &memory.archived {
                None => true,
                Some(Archived::Faded) => faded.clone().any(|epoch| may_be(*epoch)),
                Some(Archived::Merged { into }) => merged
                    .clone()
                    .any(|consumed| consumed.into == *into && may_be(consumed.epoch)),
            };
            if !explained {
                findings.violate(format!(
                    "{words} ({key}) is {:?} on node {node} at {at} by no epoch that had happened",
                    memory.archived
                ));
            }
            for consumed in merged {
                let is_sure = consumed.epoch <= at
                    && !self.epochs.may_be_undone(consumed.epoch, at, completed_us);
                let is_done = matches!(
                    &memory.archived,
                    Some(Archived::Merged { into }) if *into == consumed.into
                );
                if is_sure && !is_done {
                    findings.violate(format!(
                        "epoch {} merged {words} ({key}) into {}, and on node {node} at {at} it is \
                         {:?}",
                        consumed.epoch, consumed.into, memory.archived
                    ));
                }
            }
        }
    }
}

/// The memory that took another's place in the end; `None` if there is none.
fn root<'a>(snapshot: &'a Snapshot, key: &'a Key) -> Option<&'a Key> {
    let mut at = key;
    // A chain that is longer than all memories goes in a circle.
    for _ in 0..=snapshot.memories.len() {
        match &snapshot.memories.get(at)?.archived {
            Some(Archived::Merged { into }) => at = into,
            None | Some(Archived::Faded) => return Some(at),
        }
    }
    None
}

fn compare(seen: Seen<'_>, memory: &Memory, expected: Ranges, findings: &mut Findings) {
    let parts = [
        ("occurrences", memory.occurrences, expected.occurrences),
        ("positive feedbacks", memory.positive, expected.positive),
        ("negative feedbacks", memory.negative, expected.negative),
    ];
    for (name, actual, Range { least, most }) in parts {
        let whose = format!(
            "{} and the {} that it took in have {actual} {name} on node {} at {}",
            memory.words,
            memory.merged.len(),
            seen.node,
            seen.snapshot.position
        );
        if actual < least {
            findings.lose(format!("{whose}, {least} were acknowledged"));
        }
        if actual > most {
            findings.haunt(format!("{whose}, at most {most} can have happened"));
        }
    }
}

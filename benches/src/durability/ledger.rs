//! The writers' book: what was sent in one round and what became of it, to be compared with what a
//! server has.
//!
//! | fate | must be there afterwards |
//! | --- | --- |
//! | acknowledged | yes |
//! | unknown | its batch as a whole, or nothing of it |
//! | failed | no |
//!
//! Nothing else may be there.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_client::{Key, Learn, Memory};

/// What a writer knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Acknowledged,
    Unknown,
    Failed,
}

/// One atomic write: its keys are those of its experiences, in order.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) learn: Learn,
    pub(super) keys: Vec<Key>,
    pub(super) fate: Fate,
}

/// What was found wrong; all zero if nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Acknowledged, and not there.
    pub(super) lost: u64,
    /// There, and never sent; or there although the write had failed.
    pub(super) invented: u64,
    /// There, with another content than was sent.
    pub(super) damaged: u64,
    /// Batches of which only a part is there.
    pub(super) torn: u64,
    /// Learned once and stored as if learned more often.
    pub(super) twice: u64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            lost,
            invented,
            damaged,
            torn,
            twice,
        } = other;
        self.lost += lost;
        self.invented += invented;
        self.damaged += damaged;
        self.torn += torn;
        self.twice += twice;
    }

    /// The larger of each count, where both looked at the same.
    pub(super) fn worse_of(&self, other: &Self) -> Self {
        Self {
            lost: self.lost.max(other.lost),
            invented: self.invented.max(other.invented),
            damaged: self.damaged.max(other.damaged),
            torn: self.torn.max(other.torn),
            twice: self.twice.max(other.twice),
        }
    }
}

/// All writes of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    namespace: String,
    writes: Vec<Write>,
    /// Once it is settled: what must be there, with the digests of contents that keys are.
    settled: Option<BTreeSet<Key>>,
    twice: u64,
}

impl Ledger {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            writes: Vec::new(),
            settled: None,
            twice: 0,
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn enter(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Experiences with this fate.
    pub(super) fn count(&self, fate: Fate) -> u64 {
        self.of(fate).map(|write| write.keys.len() as u64).sum()
    }

    /// Keys and contents that must be there.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (Key, &str)> {
        self.of(Fate::Acknowledged).flat_map(|write| {
            let contents = write.learn.experiences.iter().map(|e| e.content.as_str());
            write.keys.iter().copied().zip(contents)
        })
    }

    /// Writes that may or may not have been stored.
    pub(super) fn unknown(&self) -> Vec<Write> {
        self.of(Fate::Unknown).cloned().collect()
    }

    /// `write`, whose outcome was unknown, was answered now.
    pub(super) fn acknowledge(&mut self, write: &Write) {
        let own = self.writes.iter_mut().find(|own| own.keys == write.keys);
        own.expect("the write came from this ledger").fate = Fate::Acknowledged;
    }

    /// So many experiences of a repeated write were counted more than once.
    pub(super) fn note_twice(&mut self, count: u64) {
        self.twice += count;
    }

    /// What is wrong with `found`, everything that a server lists in this namespace, when reading
    /// the keys in `unread` did not bring back what was sent.
    pub(super) fn compare(&self, found: &[Memory], unread: &BTreeSet<Key>) -> Verdict {
        let mut verdict = Verdict {
            twice: self.twice,
            ..Verdict::default()
        };
        let found: BTreeMap<Key, &Memory> = found.iter().map(|m| (m.key, m)).collect();
        if let Some(settled) = &self.settled {
            verdict.lost += settled
                .iter()
                .filter(|key| !found.contains_key(*key))
                .count() as u64;
            verdict.invented += found.keys().filter(|key| !settled.contains(*key)).count() as u64;
            return verdict;
        }
        let mut sent = BTreeSet::new();
        for write in &self.writes {
            let (mut there, mut readable) = (0, 0);
            for (key, experience) in write.keys.iter().zip(&write.learn.experiences) {
                sent.insert(*key);
                let Some(memory) = found.get(key) else {
                    continue;
                };
                there += 1;
                readable += usize::from(!unread.contains(key));
                verdict.damaged += u64::from(memory.content != experience.content);
                verdict.twice += u64::from(memory.occurrences != 1);
            }
            let all = write.keys.len();
            match write.fate {
                Fate::Acknowledged => verdict.lost += (all - readable) as u64,
                Fate::Failed => verdict.invented += there as u64,
                Fate::Unknown => {}
            }
            verdict.torn += u64::from(there > 0 && there < all);
        }
        verdict.invented += found.keys().filter(|key| !sent.contains(*key)).count() as u64;
        verdict
    }

    /// Takes `found` as what has to be there from now on, and forgets the writes.
    pub(super) fn settle(&mut self, found: &[Memory]) {
        self.settled = Some(found.iter().map(|memory| memory.key).collect());
        self.writes = Vec::new();
        self.twice = 0;
    }

    /// How many memories must be there. Panics before it is settled.
    pub(super) fn expected(&self) -> usize {
        self.settled
            .as_ref()
            .expect("the round was compared before")
            .len()
    }

    fn of(&self, fate: Fate) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(move |write| write.fate == fate)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memorygate_client::{Experience, Feedback, Scope, TimeMs};

    use super::*;

    const NAMESPACE: &str = "n";

    fn write(fate: Fate, contents: &[&str]) -> Write {
        let experiences: Vec<_> = contents.iter().map(|c| Experience::new(*c, "d")).collect();
        let keys = experiences
            .iter()
            .map(|e| e.key_in(NAMESPACE).unwrap())
            .collect();
        Write {
            learn: Learn::new(experiences),
            keys,
            fate,
        }
    }

    fn memory(content: &str) -> Memory {
        Memory {
            key: Experience::new(content, "d").key_in(NAMESPACE).unwrap(),
            namespace: NAMESPACE.to_owned(),
            scope: Scope::Shared,
            content: content.to_owned(),
            domain: "d".to_owned(),
            occurred_at: TimeMs(0),
            importance: 0.5,
            metadata: BTreeMap::new(),
            agent: None,
            session: None,
            links: BTreeSet::new(),
            expires_at: None,
            pinned: false,
            version: 1,
            occurrences: 1,
            last_seen_at: TimeMs(0),
            feedback: Feedback::default(),
            created_at: TimeMs(0),
            created_index: 1,
            updated_at: TimeMs(0),
            model: String::new(),
            uses: 0,
            last_used_at: None,
            archived: None,
            merged: BTreeSet::new(),
            shared_by: Vec::new(),
        }
    }

    /// The verdict over a ledger with one write of each fate.
    fn check(found: &[&str]) -> Verdict {
        let found: Vec<Memory> = found.iter().map(|content| memory(content)).collect();
        ledger().compare(&found, &BTreeSet::new())
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(NAMESPACE);
        ledger.enter(write(Fate::Acknowledged, &["a", "b"]));
        ledger.enter(write(Fate::Unknown, &["u", "v"]));
        ledger.enter(write(Fate::Failed, &["f"]));
        ledger
    }

    #[test]
    fn what_may_be_there_is_no_fault() {
        assert_eq!(check(&["a", "b"]), Verdict::default());
        assert_eq!(check(&["a", "b", "u", "v"]), Verdict::default());
    }

    #[test]
    fn each_fault_is_seen() {
        let none = Verdict::default;
        assert_eq!(
            check(&["b", "u", "v"]),
            Verdict {
                lost: 1,
                torn: 1,
                ..none()
            }
        );
        assert_eq!(check(&[]), Verdict { lost: 2, ..none() });
        assert_eq!(check(&["a", "b", "u"]), Verdict { torn: 1, ..none() });
        assert_eq!(
            check(&["a", "b", "f"]),
            Verdict {
                invented: 1,
                ..none()
            }
        );
        assert_eq!(
            check(&["a", "b", "x"]),
            Verdict {
                invented: 1,
                ..none()
            }
        );
        let mut found = [memory("a"), memory("b")];
        found[0].content.push('!');
        found[1].occurrences = 2;
        assert_eq!(
            ledger().compare(&found, &BTreeSet::new()),
            Verdict {
                damaged: 1,
                twice: 1,
                ..none()
            }
        );
    }

    #[test]
    fn what_is_listed_but_cannot_be_read_is_lost() {
        let found = [memory("a"), memory("b")];
        let verdict = ledger().compare(&found, &[found[0].key].into());
        assert_eq!(
            verdict,
            Verdict {
                lost: 1,
                ..Verdict::default()
            }
        );
    }

    #[test]
    fn a_repeated_write_must_be_there_from_then_on() {
        let mut ledger = ledger();
        let unknown = ledger.unknown();
        assert_eq!((unknown.len(), ledger.count(Fate::Unknown)), (1, 2));
        ledger.acknowledge(&unknown[0]);
        let found = [memory("a"), memory("b")];
        assert_eq!(
            ledger.compare(&found, &BTreeSet::new()),
            Verdict {
                lost: 2,
                ..Verdict::default()
            }
        );
        assert_eq!(ledger.acknowledged().count(), 4);
    }

    #[test]
    fn a_settled_ledger_knows_exactly_what_must_be_there() {
        let mut ledger = ledger();
        ledger.settle(&[memory("a"), memory("b"), memory("u"), memory("v")]);
        assert_eq!(ledger.expected(), 4);
        let found = [memory("a"), memory("b"), memory("u"), memory("x")];
        let verdict = Verdict {
            lost: 1,
            invented: 1,
            ..Verdict::default()
        };
        assert_eq!(ledger.compare(&found, &BTreeSet::new()), verdict);
    }
}

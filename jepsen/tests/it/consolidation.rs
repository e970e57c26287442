//! The checker of consolidation on a made-up story: it is clean as it stands, and each change of it is
//! found.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_jepsen::{
    caller::Answer,
    checker::consolidation::check,
    findings::Findings,
    history::Operation,
    workload::consolidation::{
        Archived, Ask, Epoch, Epochs, Memory, Sense, Snapshot, Step, Told, Words,
    },
};

/// A lesson in two wordings, `a` and `b`, with feedback on `b`, and its denial, `d`. Epoch 20 merges
/// `b` into `a`, is undone at 30, and 40 merges them again.
struct Story {
    listed: Epochs,
    /// At 25.
    merged: Snapshot,
    undone: Answer<Told>,
    /// At 35.
    apart: Snapshot,
    listed_again: Epochs,
    /// Of nodes 0 and 1 in the end.
    reads: [(Epochs, Snapshot); 2],
    extra: Vec<Operation<Ask>>,
}

fn words(sense: Sense, wording: usize) -> Words {
    Words {
        lesson: 1,
        sense,
        wording,
    }
}

const HOLDS: Sense = Sense::Holds;

fn memory(words: Words, occurrences: u64, positive: u64) -> Memory {
    Memory {
        words,
        version: 1,
        occurrences,
        positive,
        negative: 0,
        archived: None,
        merged: BTreeSet::new(),
        digest: 0,
    }
}

fn into(key: &str) -> Archived {
    Archived::Merged {
        into: key.to_owned(),
    }
}

fn apart(position: u64) -> Snapshot {
    let memories = [
        ("a", memory(words(HOLDS, 0), 1, 0)),
        ("b", memory(words(HOLDS, 1), 1, 1)),
        ("d", memory(words(Sense::Denied, 0), 1, 0)),
    ];
    Snapshot {
        position,
        memories: BTreeMap::from(memories.map(|(key, memory)| (key.to_owned(), memory))),
        others: Vec::new(),
    }
}

fn merged(position: u64) -> Snapshot {
    let mut snapshot = apart(position);
    let a = snapshot.memories.get_mut("a").unwrap();
    a.merged = BTreeSet::from(["b".to_owned()]);
    (a.occurrences, a.positive) = (2, 1);
    snapshot.memories.get_mut("b").unwrap().archived = Some(into("a"));
    snapshot
}

fn step(kind: &str, key: &str, others: &[&str]) -> Step {
    Step {
        kind: kind.to_owned(),
        key: key.to_owned(),
        others: others.iter().map(|&key| key.to_owned()).collect(),
    }
}

fn merge(id: u64) -> Epoch {
    Epoch {
        id,
        steps: vec![step("merge", "a", &["b"])],
    }
}

fn list(position: u64, epochs: Vec<Epoch>) -> Epochs {
    Epochs {
        position,
        epochs,
        is_whole: true,
    }
}

fn done_undo(steps: u64) -> Answer<Told> {
    Answer::Done(Told::Undone {
        steps,
        position: 30,
    })
}

fn changed() -> Answer<Told> {
    Answer::Refused("FailedPrecondition: changed since".to_owned())
}

fn on(node: usize, at: u64, call: Ask, answer: Answer<Told>) -> Operation<Ask> {
    Operation {
        process: at,
        node,
        invoked_us: at * 10,
        completed_us: at * 10 + 5,
        call,
        answer,
    }
}

fn learn(write: u64, at: u64, words: Words, key: &str, created: bool) -> Operation<Ask> {
    let told = Told::Learned {
        key: key.to_owned(),
        created,
        version: 1,
        position: at,
    };
    on(0, at, Ask::Learn { write, words }, Answer::Done(told))
}

/// Feedback on `b` that reached `key`.
fn judge(write: u64, at: u64, key: &str) -> Operation<Ask> {
    let call = Ask::Judge {
        write,
        words: words(HOLDS, 1),
        key: "b".to_owned(),
        is_positive: true,
    };
    let told = Told::Judged {
        key: key.to_owned(),
        version: 2,
        position: at,
    };
    on(0, at, call, Answer::Done(told))
}

fn undo(write: u64, at: u64, epoch: u64, answer: Answer<Told>) -> Operation<Ask> {
    on(0, at, Ask::Undo { write, epoch }, answer)
}

fn look(at: u64, node: usize, snapshot: Snapshot) -> Operation<Ask> {
    let call = Ask::Look {
        lesson: 1,
        at_least: 0,
    };
    on(node, at, call, Answer::Done(Told::Looked(snapshot)))
}

fn read(at: u64, node: usize, is_settled: bool, read: (Epochs, Snapshot)) -> Operation<Ask> {
    let told = Told::Everything(read.0, read.1);
    on(node, at, Ask::Read { is_settled }, Answer::Done(told))
}

fn get(answer: Answer<Told>) -> Operation<Ask> {
    let call = Ask::Get {
        words: words(HOLDS, 1),
        key: "b".to_owned(),
        at_least: 11,
    };
    on(1, 26, call, answer)
}

fn find(live: &[&str], archived: &[&str]) -> Operation<Ask> {
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
    let told = Told::Found {
        live: keys(live),
        archived: keys(archived),
    };
    let call = Ask::Find {
        lesson: 1,
        sense: HOLDS,
        at_least: 11,
    };
    on(1, 26, call, Answer::Done(told))
}

impl Story {
    fn new() -> Self {
        let last = || (list(45, vec![merge(40)]), merged(45));
        Self {
            listed: list(22, vec![merge(20)]),
            merged: merged(25),
            undone: done_undo(1),
            apart: apart(35),
            listed_again: list(42, vec![merge(40)]),
            reads: [last(), last()],
            extra: Vec::new(),
        }
    }

    fn of(&mut self, snapshot: fn(&mut Self) -> &mut Snapshot, key: &str) -> &mut Memory {
        snapshot(self).memories.get_mut(key).unwrap()
    }

    fn check(self) -> Findings {
        let [first, second] = self.reads;
        let mut history = vec![
            learn(0, 10, words(HOLDS, 0), "a", true),
            learn(1, 11, words(HOLDS, 1), "b", true),
            learn(2, 12, words(Sense::Denied, 0), "d", true),
            judge(3, 13, "b"),
            on(0, 22, Ask::Epochs, Answer::Done(Told::Epochs(self.listed))),
            look(25, 0, self.merged),
            undo(4, 30, 20, self.undone),
            look(35, 1, self.apart),
            on(
                1,
                42,
                Ask::Epochs,
                Answer::Done(Told::Epochs(self.listed_again)),
            ),
            read(45, 0, true, first),
            read(46, 1, true, second),
        ];
        history.extend(self.extra);
        history.sort_by_key(|operation| operation.invoked_us);
        check(&history)
    }
}

/// What was found after `change`, which must be this.
#[track_caller]
fn finds(text: &str, change: impl FnOnce(&mut Story)) {
    let mut story = Story::new();
    change(&mut story);
    let findings = story.check();
    assert!(
        findings.texts.iter().any(|found| found.contains(text)),
        "{:#?}",
        findings.texts
    );
    assert!(!findings.is_clean());
}

#[track_caller]
fn passes(change: impl FnOnce(&mut Story)) {
    let mut story = Story::new();
    change(&mut story);
    let findings = story.check();
    assert!(findings.is_clean(), "{:#?}", findings.texts);
}

#[test]
fn what_a_correct_store_says_is_clean_and_counted() {
    let findings = Story::new().check();
    assert!(findings.is_clean(), "{:#?}", findings.texts);
    assert_eq!(findings.acknowledged, 5);
    let counts = ["learned", "judged", "undone", "epochs", "merges"];
    assert_eq!(counts.map(|name| findings.counts[name]), [3, 1, 1, 2, 2]);
    passes(|story| story.extra.push(find(&["a"], &[])));
    let read = memory(words(HOLDS, 1), 1, 1);
    passes(|story| {
        story
            .extra
            .push(get(Answer::Done(Told::Got { memory: read })))
    });
}

#[test]
fn an_epoch_is_one_and_the_same_everywhere() {
    finds("is twice in the list", |story| {
        story.listed.epochs.push(merge(20));
    });
    finds("in another list", |story| {
        story.reads[1].0.epochs[0].steps[0].others = vec!["d".to_owned()];
    });
    finds("node 0 at 22 lists epoch 23", |story| {
        story.listed.epochs.insert(0, merge(23));
    });
    finds("was not undone, and node 1 at 45 does not list", |story| {
        story.reads[1].0.epochs.clear();
    });
    finds("epoch 20 was undone, and node 1 at 42 lists it", |story| {
        story.listed_again.epochs.push(merge(20));
    });
}

#[test]
fn an_epoch_that_is_applied_again_is_found() {
    finds("which epoch 20 had merged already", |story| {
        story.listed.epochs.insert(0, merge(21));
    });
}

#[test]
fn a_source_in_two_merges_is_found() {
    finds("consumes b twice", |story| {
        let second = step("merge", "d", &["b"]);
        story.listed.epochs[0].steps.push(second);
    });
}

#[test]
fn what_is_lost_is_found() {
    finds("was acknowledged before 25 and is not on node 0", |story| {
        story.merged.memories.remove("d");
    });
    finds("and node 1 asked for b at 11 says NotFound", |story| {
        let answer = Answer::Refused("NotFound: no memory b".to_owned());
        story.extra.push(get(answer));
    });
    finds("was new at 17, and had been learned before", |story| {
        let again = learn(9, 17, words(HOLDS, 1), "b", true);
        story.extra.push(again);
    });
    finds("was refused: NotFound", |story| {
        let mut lost = judge(9, 50, "b");
        lost.answer = Answer::Refused("NotFound: no memory b".to_owned());
        story.extra.push(lost);
    });
}

#[test]
fn a_merge_that_forgets_or_repeats_evidence_is_found() {
    finds("have 0 positive feedbacks", |story| {
        story.of(|story| &mut story.merged, "a").positive = 0;
    });
    finds("have 2 positive feedbacks", |story| {
        story.of(|story| &mut story.merged, "a").positive = 2;
    });
    finds("have 1 occurrences", |story| {
        story.of(|story| &mut story.merged, "a").occurrences = 1;
    });
    finds("have 1 negative feedbacks", |story| {
        story.of(|story| &mut story.apart, "d").negative = 1;
    });
}

#[test]
fn what_happened_later_need_not_be_counted_and_what_is_unknown_may_be() {
    passes(|story| {
        story.extra.push(judge(9, 50, "a"));
    });
    let unknown = |positive: u64, invoked: u64| {
        move |story: &mut Story| {
            let mut given = judge(9, invoked, "a");
            given.answer = Answer::Unknown("gone".to_owned());
            story.extra.push(given);
            for (_, snapshot) in &mut story.reads {
                snapshot.memories.get_mut("a").unwrap().positive = positive;
            }
        }
    };
    passes(unknown(1, 43));
    passes(unknown(2, 43));
    finds("have 2 positive feedbacks", unknown(2, 60));
}

#[test]
fn what_is_half_done_is_found() {
    finds("says on node 0 at 25 that it took in {}", |story| {
        story.of(|story| &mut story.merged, "a").merged.clear();
    });
    finds("nothing is where it leads", |story| {
        story.of(|story| &mut story.merged, "b").archived = Some(into("x"));
    });
    finds("nothing is where it leads", |story| {
        story.of(|story| &mut story.merged, "a").archived = Some(into("b"));
    });
    finds("says on node 0 at 25 that it took in", |story| {
        story.of(|story| &mut story.merged, "b").archived = None;
    });
    finds("epoch 20 merged 1/holds/also (b) into a", |story| {
        story.merged = apart(25);
    });
    finds("by no epoch that had happened", |story| {
        story.apart = merged(35);
    });
    finds("recalls neither it nor", |story| {
        story.extra.push(find(&[], &[]))
    });
    finds("recalled what is archived", |story| {
        story.extra.push(find(&["a"], &["b"]));
    });
}

#[test]
fn what_must_not_be_merged_or_fade_is_found() {
    finds("has a merge of 1/holds/again and 1/denied/again", |story| {
        story.listed.epochs[0].steps[0].others.push("d".to_owned());
    });
    finds("is worth too much", |story| {
        let fade = step("fade", "d", &[]);
        story.listed.epochs[0].steps.push(fade);
    });
    finds("has a conflict of", |story| {
        let conflict = step("conflict", "a", &["b"]);
        story.listed.epochs[0].steps = vec![conflict];
    });
    finds("which nobody learned", |story| {
        story.listed.epochs[0].steps[0].others = vec!["x".to_owned()];
    });
}

#[test]
fn what_must_be_merged_is_in_the_end() {
    finds("could be one memory and is 2", |story| {
        for (epochs, snapshot) in &mut story.reads {
            epochs.epochs.clear();
            *snapshot = apart(45);
        }
    });
    finds("nothing was merged", |story| {
        story.listed.epochs.clear();
        story.listed_again.epochs.clear();
        for (epochs, _) in &mut story.reads {
            epochs.epochs.clear();
        }
    });
}

#[test]
fn an_undo_that_is_not_exact_is_found() {
    // With the same epochs as before, everything is as it was before.
    let reads = |version: u64| {
        move |story: &mut Story| {
            let mut before = apart(15);
            let mut after = apart(36);
            for snapshot in [&mut before, &mut after] {
                snapshot.memories.get_mut("a").unwrap().version = 7;
            }
            after.memories.get_mut("a").unwrap().version = version;
            let before = read(15, 0, false, (list(15, Vec::new()), before));
            let after = read(36, 1, false, (list(36, Vec::new()), after));
            story.extra.extend([before, after]);
        }
    };
    passes(reads(7));
    finds("after the same epochs", reads(8));
    finds("took back 0 of its 1 steps", |story| {
        story.undone = done_undo(0)
    });
    finds("was undone twice", |story| {
        story.extra.push(undo(9, 31, 20, done_undo(1)));
    });
}

#[test]
fn an_undo_is_refused_for_a_reason_alone() {
    // A second undo of what is undone, and of what was changed since.
    let gone = || Answer::Refused("NotFound: no consolidation 20".to_owned());
    passes(|story| story.extra.push(undo(9, 31, 20, gone())));
    finds("undoing it was refused", |story| {
        story.extra.push(undo(9, 44, 40, gone()));
    });
    finds("undoing it was refused", |story| {
        story.extra.push(undo(9, 44, 40, changed()));
    });
    passes(|story| {
        story.extra.push(judge(8, 43, "a"));
        story.extra.push(undo(9, 44, 40, changed()));
        for (_, snapshot) in &mut story.reads {
            snapshot.memories.get_mut("a").unwrap().positive = 2;
        }
    });
}

#[test]
fn nodes_that_differ_are_found() {
    finds(
        "after the same epochs, node 0 at 45 and node 1 at 45",
        |story| {
            story.reads[1].1.memories.get_mut("d").unwrap().digest = 9;
        },
    );
    finds("lesson 1 at position 25 is", |story| {
        let mut other = merged(25);
        other.memories.get_mut("d").unwrap().digest = 9;
        story.extra.push(look(27, 1, other));
    });
    finds("was asked for position 30 and answered at 29", |story| {
        let mut late = look(35, 0, merged(29));
        late.call = Ask::Look {
            lesson: 1,
            at_least: 30,
        };
        story.extra.push(late);
    });
    finds("node 2 could not be read in the end", |story| {
        let answer = Answer::Failed("gone".to_owned());
        let call = Ask::Read { is_settled: true };
        story.extra.push(on(2, 47, call, answer));
    });
}

#[test]
fn a_repeat_that_is_answered_otherwise_is_found() {
    passes(|story| story.extra.push(judge(3, 13, "b")));
    finds("write 3 was answered", |story| {
        story.extra.push(judge(3, 14, "b"));
    });
    finds(
        "write 3 was acknowledged and, repeated on node 0, refused",
        |story| {
            let mut again = judge(3, 14, "b");
            again.answer = changed();
            story.extra.push(again);
        },
    );
}

#[test]
fn what_nobody_learned_is_found() {
    finds("is on node 0 at 25; nobody learned it", |story| {
        let other = memory(words(HOLDS, 5), 1, 0);
        story.merged.memories.insert("x".to_owned(), other);
    });
    finds("is no lesson", |story| {
        story.merged.others.push("\"x\" is no lesson".to_owned());
    });
    finds("is there twice", |story| {
        let other = memory(words(HOLDS, 0), 1, 0);
        story.merged.memories.insert("x".to_owned(), other);
    });
}

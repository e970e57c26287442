//! Lessons in several wordings, learned and judged on all nodes while passes merge them, in the
//! background and asked for, and while epochs are undone: nothing is lost, counted twice or half-done.
//!
//! Writes are sent again under their request id until their outcome is known, as of `feedback`. Reads
//! during the run show one lesson whole at one position, so that the checker can count what must be
//! there. In the end all that can be merged is, and what that took is undone once more.

mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use memorygate_proto::v1;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::sleep};

pub use self::words::{Sense, Words};
use super::{Worker, Workload, insist};
use crate::{
    caller::{Answer, Caller, everything},
    checker,
    findings::Findings,
    history::{Call, Operation},
};

const NAMESPACE: &str = "jepsen-consolidation";

/// Passes in the background every few seconds, and uses counted as often.
pub const SERVER_SETTINGS: &[&str] = &[
    "consolidation.interval_s=2",
    "consolidation.share=0.5",
    "consolidation.uses_interval_s=1",
];

/// Writes to one lesson, about; then the next takes its place.
const LEARNED_PER_LESSON: u64 = 30;

/// Lessons that are learned at the same time.
const LESSONS_AT_ONCE: u64 = 12;

/// Attempts at one write; then its outcome stays unknown.
const ATTEMPTS_MAX: u32 = 12;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// Share of what was acknowledged that is sent again all the same.
const REPEATED: f64 = 0.1;

/// Passes that clients have run at the same time, beside those in the background.
const PASSES_AT_ONCE: usize = 2;

/// How long a pass that a client asked for may take; then the client goes away, which ends the pass.
const PASS_PATIENCE: Duration = Duration::from_secs(10);

/// The same in the end, when everything is looked at.
const LAST_PASS_PATIENCE: Duration = Duration::from_secs(120);

/// Passes in the end until one finds nothing more to do: merges, then conflicts, then nothing.
const LAST_PASSES_MAX: u32 = 8;

/// Epochs in one answer, as many as the API allows.
const EPOCHS_MAX: u32 = 1_000;

/// Memories of one lesson, or in one page, as many as the API allows.
const PAGE: u32 = 1_000;

/// Reads of everything until one saw no change; passes that are under way end meanwhile.
const READS_MAX: u32 = 60;

/// As the API writes it.
pub type Key = String;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One attempt at write number `write`.
    Learn { write: u64, words: Words },
    /// One attempt at write number `write`, about the memory that `words` became.
    Judge {
        write: u64,
        words: Words,
        key: Key,
        is_positive: bool,
    },
    /// A pass over what is new, or over everything.
    Pass { everything: bool },
    /// The newest epochs.
    Epochs,
    /// One attempt at write number `write`.
    Undo { write: u64, epoch: u64 },
    Get {
        words: Words,
        key: Key,
        at_least: u64,
    },
    /// A recall of what is not archived.
    Find {
        lesson: u64,
        sense: Sense,
        at_least: u64,
    },
    /// All of one lesson, archived or not.
    Look { lesson: u64, at_least: u64 },
    /// Everything, by one node, when nobody writes any more; after a pass that found nothing more to
    /// merge if it is settled.
    Read { is_settled: bool },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Learned {
        key: Key,
        created: bool,
        version: u64,
        position: u64,
    },
    Judged {
        key: Key,
        version: u64,
        position: u64,
    },
    Passed {
        done: u64,
        refused: u64,
        epochs: u64,
    },
    Epochs(Epochs),
    Undone {
        steps: u64,
        position: u64,
    },
    Got {
        memory: Memory,
    },
    /// What was found of the lesson in this sense.
    Found {
        live: BTreeSet<Key>,
        archived: BTreeSet<Key>,
    },
    Looked(Snapshot),
    Everything(Epochs, Snapshot),
}

/// Memories at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub position: u64,
    pub memories: BTreeMap<Key, Memory>,
    /// Whatever else was there, in words.
    pub others: Vec<String>,
}

/// What is checked of a memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub words: Words,
    pub version: u64,
    pub occurrences: u64,
    pub positive: u64,
    pub negative: u64,
    pub archived: Option<Archived>,
    pub merged: BTreeSet<Key>,
    /// Of all its fields but those that count uses.
    pub digest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived {
    Faded,
    Merged { into: Key },
}

/// The newest epochs at one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    pub position: u64,
    /// Newest first.
    pub epochs: Vec<Epoch>,
    /// Whether there are no older ones.
    pub is_whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub id: u64,
    pub steps: Vec<Step>,
}

/// As the API tells it: `merge`, `fade`, `conflict` or `relink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: String,
    pub key: Key,
    pub others: Vec<Key>,
}

impl Call for Ask {
    type Reply = Told;

    fn function(&self) -> &'static str {
        match self {
            Self::Learn { .. } => "learn",
            Self::Judge { .. } => "judge",
            Self::Pass { .. } => "pass",
            Self::Epochs => "epochs",
            Self::Undo { .. } => "undo",
            Self::Get { .. } => "get",
            Self::Find { .. } => "find",
            Self::Look { .. } => "look",
            Self::Read { .. } => "read",
        }
    }

    fn asked(&self) -> Value {
        match self {
            Self::Learn { write, words } => json!({"write": write, "words": words.to_string()}),
            Self::Judge {
                write,
                words,
                key,
                is_positive,
            } => json!({
                "write": write,
                "words": words.to_string(),
                "key": key,
                "positive": is_positive,
            }),
            Self::Pass { everything } => json!({"everything": everything}),
            Self::Epochs => Value::Null,
            Self::Undo { write, epoch } => json!({"write": write, "epoch": epoch}),
            Self::Get {
                words,
                key,
                at_least,
            } => json!({"words": words.to_string(), "key": key, "at-least": at_least}),
            Self::Find {
                lesson,
                sense,
                at_least,
            } => json!({"lesson": lesson, "sense": sense.name(), "at-least": at_least}),
            Self::Look { lesson, at_least } => json!({"lesson": lesson, "at-least": at_least}),
            Self::Read { is_settled } => json!({"settled": is_settled}),
        }
    }

    fn replied(&self, reply: &Told) -> Value {
        let mut value = self.asked();
        let mut add = |name: &str, part: Value| {
            if value.is_null() {
                value = json!({});
            }
            value[name] = part;
        };
        match reply {
            Told::Learned {
                key,
                created,
                version,
                position,
            } => {
                add("in", json!(key));
                add("created", json!(created));
                add("version", json!(version));
                add("position", json!(position));
            }
            Told::Judged {
                key,
                version,
                position,
            } => {
                add("in", json!(key));
                add("version", json!(version));
                add("position", json!(position));
            }
            Told::Passed {
                done,
                refused,
                epochs,
            } => {
                add("done", json!(done));
                add("refused", json!(refused));
                add("epochs", json!(epochs));
            }
            Told::Epochs(epochs) => {
                add("position", json!(epochs.position));
                add("epochs", epochs.value());
            }
            Told::Undone { steps, position } => {
                add("steps", json!(steps));
                add("position", json!(position));
            }
            Told::Got { memory } => add("memory", memory.value()),
            Told::Found { live, archived } => {
                add("live", json!(live));
                add("archived", json!(archived));
            }
            Told::Looked(snapshot) => {
                add("position", json!(snapshot.position));
                add("memories", snapshot.value());
            }
            Told::Everything(epochs, snapshot) => {
                add("position", json!(snapshot.position));
                add("epochs", epochs.value());
                add("memories", snapshot.value());
            }
        }
        value
    }
}

impl Epochs {
    fn value(&self) -> Value {
        let step = |step: &Step| json!([step.kind, step.key, step.others]);
        let epoch = |epoch: &Epoch| {
            let steps: Vec<Value> = epoch.steps.iter().map(step).collect();
            json!([epoch.id, steps])
        };
        self.epochs.iter().map(epoch).collect()
    }
}

impl Snapshot {
    fn add(&mut self, memory: &v1::Memory) {
        match Memory::of(memory) {
            Ok(read) => drop(self.memories.insert(memory.key.clone(), read)),
            Err(why) => self.others.push(why),
        }
    }

    fn value(&self) -> Value {
        let memories = self.memories.iter();
        let memories: serde_json::Map<_, _> = memories
            .map(|(key, memory)| (key.clone(), memory.value()))
            .collect();
        memories.into()
    }
}

impl Memory {
    fn of(memory: &v1::Memory) -> Result<Self, String> {
        let content = &memory.content;
        let Some(words) = Words::of(content) else {
            return Err(format!("{content:?} is no lesson"));
        };
        let archived = match &memory.archived {
            None => None,
            Some(archived) => Some(match archived.reason.as_str() {
                "faded" => Archived::Faded,
                "merged" => Archived::Merged {
                    into: archived.replaced_by.clone(),
                },
                other => return Err(format!("{content:?} was archived as {other}")),
            }),
        };
        let feedback = memory.feedback.unwrap_or_default();
        let (positive, negative) = (whole(feedback.positive), whole(feedback.negative));
        if u64::from(feedback.count) != positive + negative {
            return Err(format!(
                "{content:?} has {feedback:?}, which does not add up"
            ));
        }
        let without_uses = v1::Memory {
            uses: 0,
            last_used_at: None,
            ..memory.clone()
        };
        let mut hasher = DefaultHasher::new();
        format!("{without_uses:?}").hash(&mut hasher);
        Ok(Self {
            words,
            version: memory.version,
            occurrences: u64::from(memory.occurrences),
            positive,
            negative,
            archived,
            merged: memory.merged.iter().cloned().collect(),
            digest: hasher.finish(),
        })
    }

    fn value(&self) -> Value {
        let archived = match &self.archived {
            None => Value::Null,
            Some(Archived::Faded) => json!("faded"),
            Some(Archived::Merged { into }) => json!(into),
        };
        json!([
            self.words.to_string(),
            self.version,
            self.occurrences,
            self.positive,
            self.negative,
            archived,
            self.merged
        ])
    }
}

/// A sum of ones.
fn whole(sum: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of fewer than 2^53 ones is whole and not negative"
    )]
    let whole = sum.round() as u64;
    whole
}

/// What workers know of each other's writes.
#[derive(Debug, Default)]
struct Known {
    keys: BTreeMap<Words, (Key, v1::Position)>,
    /// Ids of those that were there when someone last looked.
    epochs: Vec<u64>,
}

/// The workload.
#[derive(Debug)]
pub struct Consolidation {
    known: Mutex<Known>,
    next_write: AtomicU64,
    learned: AtomicU64,
    passes: Semaphore,
    is_settled: AtomicBool,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            next_write: AtomicU64::new(0),
            learned: AtomicU64::new(0),
            passes: Semaphore::new(PASSES_AT_ONCE),
            is_settled: AtomicBool::new(false),
        }
    }
}

/// An answer and where in the log it stands.
type Placed = Answer<(Told, Option<v1::Position>)>;

impl Consolidation {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> u64 {
        self.next_write.fetch_add(1, Ordering::Relaxed)
    }

    /// One of the lessons that are learned now.
    fn lesson(&self, worker: &mut Worker<Ask>) -> u64 {
        let first = self.learned.load(Ordering::Relaxed) / LEARNED_PER_LESSON;
        first + worker.random.random_range(0..LESSONS_AT_ONCE)
    }

    /// One of those, or, now and then, any.
    fn lesson_to_read(&self, worker: &mut Worker<Ask>) -> u64 {
        let lesson = self.lesson(worker);
        if worker.random.random_bool(0.3) {
            return worker.random.random_range(0..=lesson);
        }
        lesson
    }

    /// Something that was acknowledged, with its key.
    fn known_words(&self, worker: &mut Worker<Ask>) -> Option<(Words, Key, v1::Position)> {
        let lesson = self.lesson_to_read(worker);
        let from = Words::drawn(&mut worker.random, lesson);
        let known = self.known();
        let (words, (key, position)) = known.keys.range(from..).next()?;
        Some((*words, key.clone(), position.clone()))
    }

    async fn learn(&self, worker: &mut Worker<Ask>) {
        let lesson = self.lesson(worker);
        self.learned.fetch_add(1, Ordering::Relaxed);
        let words = Words::drawn(&mut worker.random, lesson);
        let request = v1::LearnRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            experiences: vec![v1::Experience {
                content: words.content(),
                domain: "jepsen".to_owned(),
                importance: Some(words.importance()),
                metadata: BTreeMap::from([("lesson".to_owned(), lesson.to_string())]),
                vector: words.vector(),
                ..v1::Experience::default()
            }],
        };
        let write = self.write();
        let call = Ask::Learn { write, words };
        let answer = until_known(worker, &call, |caller| {
            let request = request.clone();
            async move {
                let answer = caller.learn(request).await;
                answer.map(|reply| {
                    let learned = reply.learned.into_iter().next().unwrap_or_default();
                    let told = Told::Learned {
                        key: learned.key,
                        created: learned.created,
                        version: learned.version,
                        position: index(reply.position.as_ref()),
                    };
                    (told, reply.position)
                })
            }
        });
        let told = Box::pin(answer).await;
        if let (Some(Told::Learned { key, created, .. }), Some(position)) = (told, &worker.seen)
            && created
        {
            // A memory that was known may be another one, which this one was merged into.
            let known = (key, position.clone());
            self.known().keys.insert(words, known);
        }
    }

    async fn judge(&self, worker: &mut Worker<Ask>) {
        let Some((words, key, _)) = self.known_words(worker) else {
            return;
        };
        let is_positive = worker.random.random_bool(0.6);
        let request = v1::FeedbackRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            key: key.clone(),
            reader: Some(everything()),
            score: if is_positive { 1.0 } else { -1.0 },
            agent: format!("worker-{}", worker.number()),
            ..v1::FeedbackRequest::default()
        };
        let write = self.write();
        let call = Ask::Judge {
            write,
            words,
            key,
            is_positive,
        };
        let answer = until_known(worker, &call, |caller| {
            let request = request.clone();
            async move {
                let answer = caller.feedback(request).await;
                answer.map(|reply| {
                    let told = Told::Judged {
                        key: reply.key,
                        version: reply.version,
                        position: index(reply.position.as_ref()),
                    };
                    (told, reply.position)
                })
            }
        });
        Box::pin(answer).await;
    }

    async fn pass(&self, worker: &mut Worker<Ask>, everything: bool, patience: Duration) -> bool {
        let Ok(_turn) = self.passes.try_acquire() else {
            return false;
        };
        let node = worker.any_node();
        let caller = worker.caller(node).patient(patience);
        let request = v1::RunConsolidationRequest {
            namespace: NAMESPACE.to_owned(),
            everything,
        };
        let ask = async {
            let answer = caller.consolidate(request).await;
            answer.map(|reply| {
                let told = Told::Passed {
                    done: reply.done,
                    refused: reply.refused,
                    epochs: reply.epochs,
                };
                (told, reply.position)
            })
        };
        let answer = placed(worker, node, Ask::Pass { everything }, Box::pin(ask)).await;
        let nothing = Told::Passed {
            done: 0,
            refused: 0,
            epochs: 0,
        };
        answer.done() == Some(nothing)
    }

    async fn epochs(&self, worker: &mut Worker<Ask>) {
        let node = worker.any_node();
        let caller = worker.caller(node);
        let ask = async {
            let answer = caller.epochs(newest_before(0)).await;
            answer.map(|reply| {
                let position = reply.position.clone();
                (Told::Epochs(read_epochs(reply)), position)
            })
        };
        let answer = placed(worker, node, Ask::Epochs, Box::pin(ask)).await;
        if let Answer::Done(Told::Epochs(read)) = answer {
            self.known().epochs = read.epochs.iter().map(|epoch| epoch.id).collect();
        }
    }

    async fn undo(&self, worker: &mut Worker<Ask>) {
        // Mostly the newest: what others left was changed since.
        let among = match worker.random.random_range(0..10) {
            0..6 => 1,
            6..9 => 4,
            _ => usize::MAX,
        };
        self.epochs(worker).await;
        let epoch = {
            let known = self.known();
            let count = known.epochs.len().min(among);
            if count == 0 {
                return;
            }
            known.epochs[worker.random.random_range(0..count)]
        };
        self.undo_one(worker, epoch).await;
    }

    async fn undo_one(&self, worker: &mut Worker<Ask>, epoch: u64) {
        let request = v1::UndoEpochRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            id: epoch,
        };
        let write = self.write();
        let call = Ask::Undo { write, epoch };
        let answer = until_known(worker, &call, |caller| {
            let request = request.clone();
            async move {
                let answer = caller.undo_epoch(request).await;
                answer.map(|reply| {
                    let told = Told::Undone {
                        steps: u64::from(reply.steps),
                        position: index(reply.position.as_ref()),
                    };
                    (told, reply.position)
                })
            }
        });
        Box::pin(answer).await;
    }

    async fn get(&self, worker: &mut Worker<Ask>) {
        let Some((words, key, position)) = self.known_words(worker) else {
            return;
        };
        worker.see(Some(&position));
        let request = v1::GetRequest {
            namespace: NAMESPACE.to_owned(),
            key: key.clone(),
            reader: Some(everything()),
            at_least: worker.seen.clone(),
            linearizable: false,
            as_of: None,
        };
        let call = Ask::Get {
            words,
            key,
            at_least: index(worker.seen.as_ref()),
        };
        let node = worker.any_node();
        let caller = worker.caller(node);
        let ask = async {
            let reply = match caller.get(request).await {
                Answer::Done(reply) => reply,
                Answer::Refused(why) => return Answer::Refused(why),
                Answer::Failed(why) | Answer::Unknown(why) => return Answer::Failed(why),
            };
            match Memory::of(&reply.memory.unwrap_or_default()) {
                Ok(memory) => Answer::Done((Told::Got { memory }, reply.position)),
                Err(why) => Answer::Refused(why),
            }
        };
        placed(worker, node, call, Box::pin(ask)).await;
    }

    async fn find(&self, worker: &mut Worker<Ask>) {
        let Some((words, _, position)) = self.known_words(worker) else {
            return;
        };
        let Words { lesson, sense, .. } = words;
        worker.see(Some(&position));
        let request = v1::RecallRequest {
            namespace: NAMESPACE.to_owned(),
            query: words.content(),
            vector: words.vector(),
            limit: PAGE,
            reader: Some(everything()),
            filter: Some(of_lesson(lesson, v1::Archive::Unspecified)),
            at_least: worker.seen.clone(),
            without: vec![v1::Stage::Fold.into()],
            ..v1::RecallRequest::default()
        };
        let call = Ask::Find {
            lesson,
            sense,
            at_least: index(worker.seen.as_ref()),
        };
        let node = worker.any_node();
        let caller = worker.caller(node);
        let ask = async {
            let answer = caller.recall(request).await;
            answer.map(|reply| {
                let (mut live, mut archived) = (BTreeSet::new(), BTreeSet::new());
                let found = reply.results.into_iter().filter_map(|found| found.memory);
                for memory in found {
                    if !Words::of(&memory.content).is_some_and(|w| w.says_the_same(words)) {
                        continue;
                    }
                    match memory.archived {
                        None => live.insert(memory.key),
                        Some(_) => archived.insert(memory.key),
                    };
                }
                (Told::Found { live, archived }, reply.position)
            })
        };
        placed(worker, node, call, Box::pin(ask)).await;
    }

    async fn look(&self, worker: &mut Worker<Ask>) {
        let lesson = self.lesson_to_read(worker);
        let request = v1::ListRequest {
            namespace: NAMESPACE.to_owned(),
            reader: Some(everything()),
            filter: Some(of_lesson(lesson, v1::Archive::Included)),
            page_size: PAGE,
            at_least: worker.seen.clone(),
            ..v1::ListRequest::default()
        };
        let call = Ask::Look {
            lesson,
            at_least: index(worker.seen.as_ref()),
        };
        let node = worker.any_node();
        let caller = worker.caller(node);
        let ask = async {
            match caller.page(request).await {
                Answer::Done(page) if page.next_page_token.is_empty() => {
                    let mut snapshot = Snapshot {
                        position: index(page.position.as_ref()),
                        ..Snapshot::default()
                    };
                    for memory in &page.memories {
                        snapshot.add(memory);
                    }
                    Answer::Done((Told::Looked(snapshot), page.position))
                }
                Answer::Done(_) => Answer::Failed("a lesson has more than a page".to_owned()),
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                    Answer::Failed(why)
                }
            }
        };
        placed(worker, node, call, Box::pin(ask)).await;
    }

    /// All that `worker`'s node has. Returns the ids of its epochs.
    async fn read(&self, worker: &mut Worker<Ask>) -> BTreeSet<u64> {
        let call = Ask::Read {
            is_settled: self.is_settled.load(Ordering::Relaxed),
        };
        let caller = worker.caller(worker.home);
        let ask = async { read_everything(&caller).await.map(|told| (told, None)) };
        let answer = placed(worker, worker.home, call, Box::pin(ask)).await;
        let Some(Told::Everything(epochs, _)) = answer.done() else {
            return BTreeSet::new();
        };
        epochs.epochs.iter().map(|epoch| epoch.id).collect()
    }

    /// Merges all that can be, which takes a few passes.
    async fn settle(&self, worker: &mut Worker<Ask>) {
        for _ in 0..LAST_PASSES_MAX {
            if self.pass(worker, true, LAST_PASS_PATIENCE).await {
                self.is_settled.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}

impl Workload for Consolidation {
    type Call = Ask;

    const WRITES_IN_THE_END: bool = true;

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn prepare(&self, callers: &[Caller]) -> anyhow::Result<()> {
        // Trifles fade at once; lessons are worth more, whatever is said of them.
        set_policy(&callers[0], 0.1).await
    }

    async fn step(&self, worker: &mut Worker<Ask>) {
        match worker.random.random_range(0..100) {
            0..40 => self.learn(worker).await,
            40..60 => self.judge(worker).await,
            60..63 => {
                let everything = worker.random.random_bool(0.2);
                Box::pin(self.pass(worker, everything, PASS_PATIENCE)).await;
                // While hardly anyone has changed what it left.
                if worker.random.random_bool(0.5) {
                    Box::pin(self.undo(worker)).await;
                }
            }
            63..66 => self.epochs(worker).await,
            66..70 => Box::pin(self.undo(worker)).await,
            70..77 => Box::pin(self.get(worker)).await,
            77..84 => Box::pin(self.find(worker)).await,
            _ => Box::pin(self.look(worker)).await,
        }
    }

    async fn finish(&self, worker: &mut Worker<Ask>) {
        if worker.home == 0 {
            // What fades again at once could not be compared.
            if let Err(error) = set_policy(&worker.caller(0), 0.0).await {
                eprintln!("nothing can be kept from fading in the end: {error:#}");
            }
            let before = self.read(worker).await;
            self.settle(worker).await;
            let after = self.read(worker).await;
            self.is_settled.store(false, Ordering::Relaxed);
            // Undone in this order, none stands in another's way, and all is as it was before.
            let new: Vec<u64> = after.difference(&before).copied().collect();
            for epoch in new.into_iter().rev() {
                self.undo_one(worker, epoch).await;
            }
            self.read(worker).await;
            self.settle(worker).await;
        }
        self.read(worker).await;
    }

    fn check(&self, history: &[Operation<Ask>]) -> Findings {
        checker::consolidation::check(history)
    }
}

/// Sends a write again, elsewhere too, until its outcome is known, and sometimes after.
async fn until_known<F: Future<Output = Placed> + Send>(
    worker: &mut Worker<Ask>,
    call: &Ask,
    ask: impl Fn(Caller) -> F + Send,
) -> Option<Told> {
    let mut node = worker.home;
    let mut told = None;
    for _ in 0..ATTEMPTS_MAX {
        let caller = worker.caller(node);
        let answer = placed(worker, node, call.clone(), ask(caller)).await;
        node = worker.any_node();
        match answer {
            Answer::Done(reply) => {
                told = Some(reply);
                if !worker.random.random_bool(REPEATED) {
                    return told;
                }
            }
            Answer::Refused(_) => return told,
            // Failed settles this attempt and not those before it.
            Answer::Failed(_) | Answer::Unknown(_) if told.is_none() => sleep(PAUSE).await,
            Answer::Failed(_) | Answer::Unknown(_) => return told,
        }
    }
    told
}

/// Runs one operation and remembers where its answer stands.
async fn placed(
    worker: &mut Worker<Ask>,
    node: usize,
    call: Ask,
    ask: impl Future<Output = Placed> + Send,
) -> Answer<Told> {
    let mut position = None;
    let ask = async {
        ask.await.map(|(told, at)| {
            position = at;
            told
        })
    };
    let answer = worker.run(node, call, ask).await;
    worker.see(position.as_ref());
    answer
}

async fn set_policy(caller: &Caller, fade_below: f32) -> anyhow::Result<()> {
    let request = v1::SetPolicyRequest {
        // One id for all attempts: a repeat changes nothing.
        request_id: format!("1-{:032x}", rand::random::<u128>()),
        namespace: NAMESPACE.to_owned(),
        policy: Some(v1::ConsolidationPolicy {
            fade_below: Some(fade_below),
            keep_days: Some(0),
            ..v1::ConsolidationPolicy::default()
        }),
    };
    let set = insist("setting the policy", || caller.set_policy(request.clone()));
    set.await.map(drop)
}

fn of_lesson(lesson: u64, archive: v1::Archive) -> v1::Filter {
    v1::Filter {
        metadata: BTreeMap::from([("lesson".to_owned(), lesson.to_string())]),
        archive: archive.into(),
        ..v1::Filter::default()
    }
}

fn index(position: Option<&v1::Position>) -> u64 {
    position.map_or(0, |position| position.index)
}

fn newest_before(before: u64) -> v1::ListEpochsRequest {
    v1::ListEpochsRequest {
        namespace: NAMESPACE.to_owned(),
        before,
        limit: EPOCHS_MAX,
    }
}

fn read_epochs(reply: v1::ListEpochsResponse) -> Epochs {
    let step = |step: v1::DoneStep| Step {
        kind: step.kind,
        key: step.key,
        others: step.others,
    };
    let epochs: Vec<Epoch> = reply
        .epochs
        .into_iter()
        .map(|epoch| Epoch {
            id: epoch.id,
            steps: epoch.steps.into_iter().map(step).collect(),
        })
        .collect();
    Epochs {
        position: index(reply.position.as_ref()),
        is_whole: epochs.len() < EPOCHS_MAX as usize,
        epochs,
    }
}

/// All epochs, all memories, and all epochs once more, until no epoch came or went meanwhile: as nobody
/// writes, the pages then show one moment.
async fn read_everything(caller: &Caller) -> Answer<Told> {
    let mut before = match all_epochs(caller).await {
        Ok(epochs) => epochs,
        Err(why) => return Answer::Failed(why),
    };
    for _ in 0..READS_MAX {
        let mut snapshot = Snapshot::default();
        let mut page_token = String::new();
        loop {
            let request = v1::ListRequest {
                namespace: NAMESPACE.to_owned(),
                reader: Some(everything()),
                filter: Some(v1::Filter {
                    archive: v1::Archive::Included.into(),
                    ..v1::Filter::default()
                }),
                page_size: PAGE,
                page_token,
                // A node that lags would show what is no more.
                linearizable: true,
                ..v1::ListRequest::default()
            };
            let page = match caller.page(request).await {
                Answer::Done(page) => page,
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                    return Answer::Failed(why);
                }
            };
            snapshot.position = index(page.position.as_ref());
            for memory in &page.memories {
                snapshot.add(memory);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let after = match all_epochs(caller).await {
            Ok(epochs) => epochs,
            Err(why) => return Answer::Failed(why),
        };
        if after.epochs == before.epochs {
            return Answer::Done(Told::Everything(after, snapshot));
        }
        before = after;
        sleep(PAUSE).await;
    }
    Answer::Failed(format!("epochs came and went during {READS_MAX} reads"))
}

async fn all_epochs(caller: &Caller) -> Result<Epochs, String> {
    let mut all = Epochs::default();
    // Each part has at least one epoch less to come.
    loop {
        let before = all.epochs.last().map_or(0, |epoch| epoch.id);
        let part = match caller.epochs(newest_before(before)).await {
            Answer::Done(reply) => read_epochs(reply),
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => return Err(why),
        };
        if all.epochs.is_empty() {
            all.position = part.position;
        }
        all.epochs.extend(part.epochs);
        if part.is_whole {
            all.is_whole = true;
            return Ok(all);
        }
    }
}

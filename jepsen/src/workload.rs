//! What clients ask while things break, and how the answers are judged.
//!
//! Each worker is a client of one node at a time that does one thing after another; each operation
//! is one attempt at one node.

pub mod consolidation;
pub mod feedback;
pub mod register;
pub mod session;
pub mod set;

use std::{future::Future, sync::Arc};

use memorygate_proto::v1;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::{
    caller::{Answer, Caller},
    findings::Findings,
    history::{Call, Operation, Recorder},
};

/// What a vector must have.
const DIMENSIONS: usize = 384;

/// A process that does not know what became of its last operation does no other: another takes over.
const PROCESSES_APART: u64 = 1_000;

/// Everything that one workload decides.
pub trait Workload: Send + Sync + 'static {
    type Call: Call;

    /// Whether [`Self::finish`] writes, so that replicas are compared once more after it.
    const WRITES_IN_THE_END: bool = false;

    /// The namespace that it writes to.
    fn namespace(&self) -> &'static str;

    /// Before anything breaks.
    fn prepare(&self, callers: &[Caller]) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// One or a few operations of one worker.
    fn step(&self, worker: &mut Worker<Self::Call>) -> impl Future<Output = ()> + Send;

    /// When all is well again: reads what is there, by one worker for each node.
    fn finish(&self, worker: &mut Worker<Self::Call>) -> impl Future<Output = ()> + Send;

    fn check(&self, history: &[Operation<Self::Call>]) -> Findings;
}

/// One client.
pub struct Worker<C: Call> {
    pub callers: Arc<Vec<Caller>>,
    pub random: StdRng,
    recorder: Recorder<C>,
    process: u64,
    /// Node that it asks unless it wants another.
    pub home: usize,
    /// Largest position that it has been told.
    pub seen: Option<v1::Position>,
    has_room: bool,
}

impl<C: Call> Worker<C> {
    pub fn new(
        number: u64,
        home: usize,
        callers: Arc<Vec<Caller>>,
        seed: u64,
        recorder: Recorder<C>,
    ) -> Self {
        assert!(number < PROCESSES_APART, "there are fewer workers");
        Self {
            callers,
            random: StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9).wrapping_add(number)),
            recorder,
            process: number,
            home,
            seen: None,
            has_room: true,
        }
    }

    /// Which worker it is; stays the same when its process changes.
    pub fn number(&self) -> u64 {
        self.process % PROCESSES_APART
    }

    /// `false` once the history is full.
    pub fn may_go_on(&self) -> bool {
        self.has_room
    }

    /// The door of one node.
    pub fn caller(&self, node: usize) -> Caller {
        self.callers[node].clone()
    }

    /// Any node.
    pub fn any_node(&mut self) -> usize {
        let count = self.callers.len();
        self.random.random_range(0..count)
    }

    /// A new request id.
    pub fn request_id(&mut self) -> String {
        let after = self.seen.as_ref().map_or(1, |position| position.index);
        format!("{after}-{:032x}", self.random.random::<u128>())
    }

    /// Remembers the newest position.
    pub fn see(&mut self, position: Option<&v1::Position>) {
        let newest = self.seen.as_ref().map_or(0, |seen| seen.index);
        if let Some(position) = position
            && position.index > newest
        {
            self.seen = Some(position.clone());
        }
    }

    /// Runs one operation at `node` and records it.
    pub async fn run(
        &mut self,
        node: usize,
        call: C,
        ask: impl Future<Output = Answer<C::Reply>> + Send,
    ) -> Answer<C::Reply> {
        let invoked_us = self.recorder.now_us();
        let answer = ask.await;
        self.has_room = self.recorder.record(Operation {
            process: self.process,
            node,
            invoked_us,
            completed_us: self.recorder.now_us(),
            call,
            answer: answer.clone(),
        });
        if matches!(answer, Answer::Unknown(_)) {
            self.process += PROCESSES_APART;
        }
        answer
    }
}

/// A vector that nothing has to be embedded for, another for each seed.
pub fn vector(seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..DIMENSIONS)
        .map(|_| random.random_range(-1.0..1.0))
        .collect()
}

/// Repeats an idempotent preparation until it succeeds; nothing is broken yet, but a cluster that has
/// just formed may still elect.
pub async fn insist<T, F: Future<Output = Answer<T>>>(
    what: &str,
    ask: impl Fn() -> F,
) -> anyhow::Result<T> {
    const ATTEMPTS: u32 = 40;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match ask().await {
            Answer::Done(reply) => return Ok(reply),
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => last = why,
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    anyhow::bail!("{what} failed {ATTEMPTS} times, the last time with: {last}")
}

/// Learns one memory a content, and returns their keys in the same order.
pub async fn learn_all(
    caller: &Caller,
    namespace: &str,
    contents: &[String],
    metadata: &[(&str, &str)],
) -> anyhow::Result<Vec<String>> {
    const BATCH: usize = 200;
    let mut keys = Vec::with_capacity(contents.len());
    for batch in contents.chunks(BATCH) {
        let experiences = batch.iter().map(|content| v1::Experience {
            content: content.clone(),
            domain: "jepsen".to_owned(),
            metadata: metadata
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            vector: vector(1),
            ..v1::Experience::default()
        });
        let request = v1::LearnRequest {
            // One id for all attempts: a repeat changes nothing.
            request_id: format!("1-{:032x}", rand::random::<u128>()),
            namespace: namespace.to_owned(),
            experiences: experiences.collect(),
        };
        let reply = insist("preparing memories", || caller.learn(request.clone()));
        keys.extend(reply.await?.learned.into_iter().map(|learned| learned.key));
    }
    Ok(keys)
}

/// Counts the outcomes of writes.
pub(crate) fn count_outcomes<'a, T: 'a>(
    answers: impl Iterator<Item = &'a Answer<T>>,
    findings: &mut Findings,
) {
    for answer in answers {
        match answer {
            Answer::Done(_) => findings.acknowledged += 1,
            Answer::Refused(_) | Answer::Failed(_) => findings.failed += 1,
            Answer::Unknown(_) => findings.unknown += 1,
        }
    }
}

//! Feedback on a few memories, each under a request id that is sent again, elsewhere too, until its
//! outcome is known, and sometimes after: each must be counted exactly once.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use memorygate_proto::v1;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Worker, Workload, learn_all};
use crate::{
    caller::{Answer, Caller, everything},
    checker,
    findings::Findings,
    history::{Call, Operation},
};

const NAMESPACE: &str = "jepsen-feedback";

/// Memories that get feedback.
const MEMORIES: u64 = 8;

/// Attempts at one feedback; then its outcome stays unknown.
const ATTEMPTS_MAX: u32 = 12;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// Share of what was acknowledged that is sent again all the same.
const REPEATED: f64 = 0.3;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One attempt at giving feedback number `feedback`.
    Give {
        memory: u64,
        feedback: u64,
        is_positive: bool,
    },
    /// How much feedback the memories have, by one node.
    Count,
}

/// What the counters of one memory say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    pub positive: u64,
    pub negative: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The memory's version after it: the same for each attempt at the same feedback.
    Given {
        version: u64,
    },
    Counts(BTreeMap<u64, Counted>),
}

impl Call for Ask {
    type Reply = Told;

    fn function(&self) -> &'static str {
        match self {
            Self::Give { .. } => "give",
            Self::Count => "count",
        }
    }

    fn asked(&self) -> Value {
        match self {
            Self::Give {
                memory,
                feedback,
                is_positive,
            } => {
                json!({"memory": memory, "feedback": feedback, "positive": is_positive})
            }
            Self::Count => Value::Null,
        }
    }

    fn replied(&self, reply: &Told) -> Value {
        match reply {
            Told::Given { version } => {
                let mut value = self.asked();
                value["version"] = json!(version);
                value
            }
            Told::Counts(counts) => counts
                .iter()
                .map(|(memory, counted)| {
                    let counted = json!([counted.count, counted.positive, counted.negative]);
                    (memory.to_string(), counted)
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// The workload.
#[derive(Debug, Default)]
pub struct Feedback {
    keys: OnceLock<Vec<String>>,
    next: AtomicU64,
}

impl Workload for Feedback {
    type Call = Ask;

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn prepare(&self, callers: &[Caller]) -> anyhow::Result<()> {
        let contents: Vec<String> = (0..MEMORIES)
            .map(|memory| format!("memory {memory} with feedback"))
            .collect();
        let keys = learn_all(&callers[0], NAMESPACE, &contents, &[]).await?;
        self.keys.set(keys).expect("prepared once");
        Ok(())
    }

    async fn step(&self, worker: &mut Worker<Ask>) {
        let memory = worker.random.random_range(0..MEMORIES);
        let is_positive = worker.random.random_bool(0.7);
        let call = Ask::Give {
            memory,
            feedback: self.next.fetch_add(1, Ordering::Relaxed),
            is_positive,
        };
        let keys = self
            .keys
            .get()
            .expect("workers start after the preparation");
        let request = v1::FeedbackRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            key: keys[usize::try_from(memory).expect("memories are few")].clone(),
            reader: Some(everything()),
            score: if is_positive { 1.0 } else { -1.0 },
            agent: format!("worker-{}", worker.number()),
            ..v1::FeedbackRequest::default()
        };
        let mut node = worker.home;
        for _ in 0..ATTEMPTS_MAX {
            let mut position = None;
            let request = request.clone();
            let caller = worker.caller(node);
            let ask = async {
                let answer = caller.feedback(request).await;
                answer.map(|reply| {
                    position = reply.position;
                    Told::Given {
                        version: reply.version,
                    }
                })
            };
            let answer = worker.run(node, call, ask).await;
            worker.see(position.as_ref());
            node = worker.any_node();
            match answer {
                Answer::Done(_) if worker.random.random_bool(REPEATED) => {}
                Answer::Done(_) | Answer::Refused(_) => return,
                // Failed settles this attempt and not those before it.
                Answer::Failed(_) | Answer::Unknown(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn finish(&self, worker: &mut Worker<Ask>) {
        let keys = self
            .keys
            .get()
            .expect("workers start after the preparation");
        let caller = worker.caller(worker.home);
        let ask = async {
            let listed = caller.list(NAMESPACE, None).await;
            listed.map(|memories| {
                let found: BTreeMap<&str, &v1::Memory> =
                    memories.iter().map(|m| (m.key.as_str(), m)).collect();
                let counted = |key: &String| {
                    let summary = found.get(key.as_str())?.feedback.as_ref()?;
                    Some(Counted {
                        count: u64::from(summary.count),
                        positive: whole(summary.positive),
                        negative: whole(summary.negative),
                    })
                };
                let counts = (0..).zip(keys.iter().map(|key| counted(key).unwrap_or_default()));
                Told::Counts(counts.collect())
            })
        };
        worker.run(worker.home, Ask::Count, ask).await;
    }

    fn check(&self, history: &[Operation<Ask>]) -> Findings {
        checker::feedback::check(history)
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

//! Compare-and-set on a memory's version and linearizable reads, on all nodes, many keys one after
//! the other.
//!
//! A key is a memory, its value a number in its metadata. Each value is written once, so that a
//! version and a value name the same thing, and the compare is by version while the history can be
//! read as compare-and-set of values.

use std::collections::BTreeMap;
use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use memorygate_proto::v1;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{Worker, Workload, learn_all};
use crate::{
    caller::{Answer, Caller, everything},
    checker,
    findings::Findings,
    history::{Call, Operation},
};

const NAMESPACE: &str = "jepsen-register";

/// Keys that are used at the same time.
const KEYS_AT_ONCE: u64 = 4;

/// Operations on one key, about; then the next takes its place. Deciding whether a history is
/// linearizable takes exponential time at worst, so histories are kept short.
const OPERATIONS_PER_KEY: u64 = 80;

/// Keys of the longest run; then it begins anew with the first.
const KEYS_MAX: u64 = 4_000;

/// What every key begins with.
pub const INITIAL: u64 = 0;

/// What is asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Read {
        key: u64,
    },
    /// Writes `new` if the version is still `version`, at which it was `old`.
    CompareAndSet {
        key: u64,
        version: u64,
        old: u64,
        new: u64,
    },
}

impl Ask {
    pub fn key(&self) -> u64 {
        match self {
            Self::Read { key } | Self::CompareAndSet { key, .. } => *key,
        }
    }
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Value { version: u64, value: u64 },
    Swapped { version: u64 },
}

impl Call for Ask {
    type Reply = Told;

    fn function(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::CompareAndSet { .. } => "cas",
        }
    }

    fn asked(&self) -> Value {
        match self {
            Self::Read { key } => json!([key, null]),
            Self::CompareAndSet { key, old, new, .. } => json!([key, [old, new]]),
        }
    }

    fn replied(&self, reply: &Told) -> Value {
        match reply {
            Told::Value { value, .. } => json!([self.key(), value]),
            Told::Swapped { .. } => self.asked(),
        }
    }
}

/// The workload.
#[derive(Debug)]
pub struct Register {
    keys: OnceLock<Vec<String>>,
    key_count: u64,
    next_value: AtomicU64,
    operations: AtomicU64,
}

impl Register {
    /// With enough keys for about so many operations.
    pub fn new(operations: u64) -> Self {
        let key_count = (operations / OPERATIONS_PER_KEY + 1) * 2;
        Self {
            keys: OnceLock::new(),
            key_count: key_count.clamp(KEYS_AT_ONCE * 2, KEYS_MAX),
            next_value: AtomicU64::new(INITIAL + 1),
            operations: AtomicU64::new(0),
        }
    }

    fn memory(&self, key: u64) -> String {
        let keys = self
            .keys
            .get()
            .expect("workers start after the preparation");
        let at = usize::try_from(key).expect("keys are few");
        keys[at].clone()
    }

    async fn read(&self, worker: &mut Worker<Ask>, key: u64) -> Option<(u64, u64)> {
        let request = v1::GetRequest {
            namespace: NAMESPACE.to_owned(),
            key: self.memory(key),
            reader: Some(everything()),
            at_least: None,
            linearizable: true,
            as_of: None,
        };
        let caller = worker.caller(worker.home);
        let ask = async {
            let answer = caller.get(request).await;
            match answer {
                Answer::Done(reply) => read_value(reply),
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                    Answer::Failed(why)
                }
            }
        };
        match worker.run(worker.home, Ask::Read { key }, ask).await {
            Answer::Done(Told::Value { version, value }) => Some((version, value)),
            Answer::Done(Told::Swapped { .. })
            | Answer::Refused(_)
            | Answer::Failed(_)
            | Answer::Unknown(_) => None,
        }
    }
}

fn read_value(reply: v1::GetResponse) -> Answer<Told> {
    let value = reply.memory.and_then(|memory| {
        let value = memory.metadata.get("value")?.parse().ok()?;
        Some((memory.version, value))
    });
    match value {
        Some((version, value)) => Answer::Done(Told::Value { version, value }),
        None => Answer::Failed("the memory has no value".to_owned()),
    }
}

impl Workload for Register {
    type Call = Ask;

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn prepare(&self, callers: &[Caller]) -> anyhow::Result<()> {
        let contents: Vec<String> = (0..self.key_count)
            .map(|key| format!("register {key}"))
            .collect();
        let initial = INITIAL.to_string();
        let keys = learn_all(&callers[0], NAMESPACE, &contents, &[("value", &initial)]).await?;
        self.keys.set(keys).expect("prepared once");
        Ok(())
    }

    async fn step(&self, worker: &mut Worker<Ask>) {
        let turn = self.operations.fetch_add(1, Ordering::Relaxed);
        let row = turn / (KEYS_AT_ONCE * OPERATIONS_PER_KEY);
        let column = worker.random.random_range(0..KEYS_AT_ONCE);
        let key = (row * KEYS_AT_ONCE + column) % self.key_count;
        worker.home = worker.any_node();
        let Some((version, old)) = self.read(worker, key).await else {
            return;
        };
        if worker.random.random_bool(0.4) {
            return;
        }
        // Sometimes elsewhere than where it was read.
        worker.home = worker.any_node();
        let new = self.next_value.fetch_add(1, Ordering::Relaxed);
        let request = v1::UpdateRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            key: self.memory(key),
            reader: Some(everything()),
            expected_version: Some(version),
            set_metadata: BTreeMap::from([("value".to_owned(), new.to_string())]),
            ..v1::UpdateRequest::default()
        };
        let call = Ask::CompareAndSet {
            key,
            version,
            old,
            new,
        };
        let caller = worker.caller(worker.home);
        let mut position = None;
        let ask = async {
            let answer = caller.update(request).await;
            answer.map(|reply| {
                position = reply.position;
                Told::Swapped {
                    version: reply.version,
                }
            })
        };
        worker.run(worker.home, call, ask).await;
        worker.see(position.as_ref());
    }

    async fn finish(&self, worker: &mut Worker<Ask>) {
        let turn = self.operations.load(Ordering::Relaxed);
        let row = turn / (KEYS_AT_ONCE * OPERATIONS_PER_KEY);
        for column in 0..KEYS_AT_ONCE {
            let key = (row * KEYS_AT_ONCE + column) % self.key_count;
            self.read(worker, key).await;
        }
    }

    fn check(&self, history: &[Operation<Ask>]) -> Findings {
        checker::linearizable::check(history)
    }
}

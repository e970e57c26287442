//! Each worker writes one memory and reads it, and others', on any node with the position that it
//! has seen: it must see its own writes, never go back, and two nodes at one position must say the
//! same.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use memorygate_proto::v1;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{Worker, Workload, learn_all, vector};
use crate::{
    caller::{Answer, Caller, everything},
    checker,
    findings::Findings,
    history::{Call, Operation},
};

const NAMESPACE: &str = "jepsen-session";

/// Memories that are written and read; each by one worker at a time.
const MEMORIES: u64 = 64;

/// The first of them, which others read too.
const SHARED: u64 = 6;

/// What a session asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The session's own memory gets a larger value.
    Write {
        session: u64,
        memory: u64,
        value: u64,
    },
    /// At `token` or later.
    Read {
        session: u64,
        memory: u64,
        token: u64,
        /// By the index instead of the key.
        is_recall: bool,
    },
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Index of the answer's position.
    pub position: u64,
    /// What was read, or written.
    pub value: u64,
}

impl Call for Ask {
    type Reply = Told;

    fn function(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read {
                is_recall: false, ..
            } => "read",
            Self::Read {
                is_recall: true, ..
            } => "recall",
        }
    }

    fn asked(&self) -> Value {
        match self {
            Self::Write {
                session,
                memory,
                value,
            } => {
                json!({"session": session, "memory": memory, "value": value})
            }
            Self::Read {
                session,
                memory,
                token,
                ..
            } => {
                json!({"session": session, "memory": memory, "token": token, "value": null})
            }
        }
    }

    fn replied(&self, reply: &Told) -> Value {
        let mut value = self.asked();
        value["value"] = json!(reply.value);
        value["position"] = json!(reply.position);
        value
    }
}

/// The workload.
#[derive(Debug, Default)]
pub struct Sessions {
    keys: OnceLock<Vec<String>>,
    next_value: AtomicU64,
}

impl Sessions {
    fn key(&self, memory: u64) -> &str {
        let keys = self
            .keys
            .get()
            .expect("workers start after the preparation");
        &keys[usize::try_from(memory).expect("memories are few")]
    }

    /// Reads its memory and writes it at the version that it read: a write whose outcome was unknown
    /// can then not come after this one, and values never fall.
    async fn write(&self, worker: &mut Worker<Ask>) {
        let (reads, writes) = (worker.any_node(), worker.any_node());
        let memory = own_memory(worker);
        let Some(version) = self.read(worker, reads, memory, false).await else {
            return;
        };
        let value = self.next_value.fetch_add(1, Ordering::Relaxed) + 1;
        let request = v1::UpdateRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            key: self.key(memory).to_owned(),
            reader: Some(everything()),
            expected_version: Some(version),
            set_metadata: BTreeMap::from([("value".to_owned(), value.to_string())]),
            ..v1::UpdateRequest::default()
        };
        let call = Ask::Write {
            session: worker.number(),
            memory,
            value,
        };
        let caller = worker.caller(writes);
        let mut position = None;
        let ask = async {
            let answer = caller.update(request).await;
            answer.map(|reply| {
                position = reply.position;
                let position = position.as_ref().map_or(0, |position| position.index);
                Told { position, value }
            })
        };
        worker.run(writes, call, ask).await;
        worker.see(position.as_ref());
    }

    /// Returns the memory's version.
    async fn read(
        &self,
        worker: &mut Worker<Ask>,
        node: usize,
        memory: u64,
        is_recall: bool,
    ) -> Option<u64> {
        let at_least = worker.seen.clone();
        let call = Ask::Read {
            session: worker.number(),
            memory,
            token: at_least.as_ref().map_or(0, |token| token.index),
            is_recall,
        };
        let key = self.key(memory).to_owned();
        let caller = worker.caller(node);
        let (mut version, mut position) = (None, None);
        let ask = async {
            let (found, at) = match Box::pin(find(&caller, &key, memory, at_least, is_recall)).await
            {
                Ok(found) => found,
                Err(why) => return Answer::Failed(why),
            };
            version = found.as_ref().map(|memory| memory.version);
            position = at;
            let value = found.and_then(|memory| memory.metadata.get("value")?.parse().ok());
            Answer::Done(Told {
                position: position.as_ref().map_or(0, |position| position.index),
                // A memory that is not there is older than any.
                value: value.unwrap_or(0),
            })
        };
        worker.run(node, call, ask).await;
        worker.see(position.as_ref());
        version
    }
}

fn own_memory(worker: &Worker<Ask>) -> u64 {
    assert!(
        worker.number() < MEMORIES,
        "there are at most {MEMORIES} workers"
    );
    worker.number()
}

type Found = (Option<v1::Memory>, Option<v1::Position>);

/// The memory by its key, or by its vector in the index.
async fn find(
    caller: &Caller,
    key: &str,
    memory: u64,
    at_least: Option<v1::Position>,
    is_recall: bool,
) -> Result<Found, String> {
    if is_recall {
        let request = v1::RecallRequest {
            namespace: NAMESPACE.to_owned(),
            query: format!("memory {memory}"),
            vector: vector(1),
            limit: u32::try_from(MEMORIES).expect("memories are few"),
            reader: Some(everything()),
            at_least,
            without: vec![v1::Stage::Fold.into()],
            ..v1::RecallRequest::default()
        };
        return match caller.recall(request).await {
            Answer::Done(reply) => {
                let mut memories = reply.results.into_iter().filter_map(|found| found.memory);
                Ok((memories.find(|memory| memory.key == key), reply.position))
            }
            Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => Err(why),
        };
    }
    let request = v1::GetRequest {
        namespace: NAMESPACE.to_owned(),
        key: key.to_owned(),
        reader: Some(everything()),
        at_least,
        linearizable: false,
        as_of: None,
    };
    match caller.get(request).await {
        Answer::Done(reply) => Ok((reply.memory, reply.position)),
        Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => Err(why),
    }
}

impl Workload for Sessions {
    type Call = Ask;

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn prepare(&self, callers: &[Caller]) -> anyhow::Result<()> {
        let contents: Vec<String> = (0..MEMORIES)
            .map(|memory| format!("memory {memory} of the sessions"))
            .collect();
        let keys = learn_all(&callers[0], NAMESPACE, &contents, &[("value", "0")]).await?;
        self.keys.set(keys).expect("prepared once");
        Ok(())
    }

    async fn step(&self, worker: &mut Worker<Ask>) {
        match worker.random.random_range(0..10) {
            0..4 => {
                self.write(worker).await;
                let (node, own) = (worker.any_node(), own_memory(worker));
                self.read(worker, node, own, false).await;
            }
            4..6 => {
                let (node, own) = (worker.any_node(), own_memory(worker));
                self.read(worker, node, own, true).await;
            }
            _ => {
                let node = worker.any_node();
                let memory = worker.random.random_range(0..SHARED);
                self.read(worker, node, memory, false).await;
            }
        }
    }

    async fn finish(&self, worker: &mut Worker<Ask>) {
        for memory in 0..SHARED {
            self.read(worker, worker.home, memory, false).await;
        }
    }

    fn check(&self, history: &[Operation<Ask>]) -> Findings {
        checker::session::check(history)
    }
}

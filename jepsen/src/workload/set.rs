//! Unique experiences from concurrent writers on all nodes; in the end every node must have all that
//! was acknowledged, and nothing that was not asked for or was said to have failed.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use memorygate_proto::v1;
use serde_json::{Value, json};

use super::{Worker, Workload, vector};
use crate::{
    caller::{Answer, Caller},
    checker,
    findings::Findings,
    history::{Call, Operation},
};

const NAMESPACE: &str = "jepsen-set";

/// What is asked of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Add(u64),
    /// All elements, by one node.
    Read,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Added,
    /// The elements; whatever else was there, in words.
    Elements(BTreeSet<u64>, Vec<String>),
}

impl Call for Ask {
    type Reply = Told;

    fn function(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Read => "read",
        }
    }

    fn asked(&self) -> Value {
        match self {
            Self::Add(element) => json!(element),
            Self::Read => Value::Null,
        }
    }

    fn replied(&self, reply: &Told) -> Value {
        match reply {
            Told::Added => self.asked(),
            Told::Elements(elements, _) => json!(elements),
        }
    }
}

/// The workload.
#[derive(Debug, Default)]
pub struct Set {
    next: AtomicU64,
}

fn content(element: u64) -> String {
    format!("element {element} of the set")
}

fn element(content: &str) -> Option<u64> {
    let element = content
        .strip_prefix("element ")?
        .strip_suffix(" of the set")?;
    element.parse().ok()
}

impl Workload for Set {
    type Call = Ask;

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn prepare(&self, _callers: &[Caller]) -> anyhow::Result<()> {
        Ok(())
    }

    async fn step(&self, worker: &mut Worker<Ask>) {
        let element = self.next.fetch_add(1, Ordering::Relaxed);
        let request = v1::LearnRequest {
            request_id: worker.request_id(),
            namespace: NAMESPACE.to_owned(),
            experiences: vec![v1::Experience {
                content: content(element),
                domain: "jepsen".to_owned(),
                session: format!("worker-{}", worker.number()),
                vector: vector(element),
                ..v1::Experience::default()
            }],
        };
        let caller = worker.caller(worker.home);
        let mut position = None;
        let ask = async {
            let answer = caller.learn(request).await;
            answer.map(|reply| {
                position = reply.position;
                Told::Added
            })
        };
        worker.run(worker.home, Ask::Add(element), ask).await;
        worker.see(position.as_ref());
    }

    async fn finish(&self, worker: &mut Worker<Ask>) {
        let caller = worker.caller(worker.home);
        let ask = async {
            let listed = caller.list(NAMESPACE, None).await;
            listed.map(|memories| {
                let (mut elements, mut others) = (BTreeSet::new(), Vec::new());
                for memory in memories {
                    let text = &memory.content;
                    match element(text) {
                        Some(element) if memory.occurrences == 1 => drop(elements.insert(element)),
                        Some(_) => others.push(format!(
                            "{text:?} was learned {} times, expected once",
                            memory.occurrences
                        )),
                        None => others.push(format!("{text:?} is not an element")),
                    }
                }
                Told::Elements(elements, others)
            })
        };
        let answer = worker.run(worker.home, Ask::Read, ask).await;
        if let Answer::Failed(why) = answer {
            eprintln!("node {} cannot be read in the end: {why}", worker.home);
        }
    }

    fn check(&self, history: &[Operation<Ask>]) -> Findings {
        checker::set::check(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_back_from_its_content() {
        assert_eq!(element(&content(17)), Some(17));
        assert_eq!(element("element 17 of the se"), None);
    }
}

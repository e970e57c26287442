//! Writers that go on whatever happens, and remember what they were promised.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use memorygate_core::request::RequestId;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{cluster::Nodes, learn};
use crate::Handle;

/// One writer a node. Each writes one lesson after the other under an id of its own, and again until
/// it knows what became of it.
pub(crate) struct Writers {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    running: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Writers {
    pub(crate) fn begin(handles: &[Handle]) -> Self {
        let (is_over, acknowledged) = (Arc::<AtomicBool>::default(), Arc::default());
        let running = handles
            .iter()
            .map(|handle| {
                tokio::spawn(write(
                    handle.clone(),
                    is_over.clone(),
                    Arc::clone(&acknowledged),
                ))
            })
            .collect();
        Self {
            is_over,
            acknowledged,
            running,
        }
    }

    /// How many lessons were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `count` more lessons are acknowledged.
    pub(crate) async fn progress(&self, count: usize) {
        let enough = self.acknowledged() + count;
        let reached = async {
            while self.acknowledged() < enough {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(Duration::from_secs(60), reached).await;
        reached.expect("writes go on within a minute");
    }

    /// What was acknowledged to each.
    pub(crate) async fn end(self) -> BTreeSet<String> {
        self.is_over.store(true, Ordering::SeqCst);
        let mut all = BTreeSet::new();
        for writer in self.running {
            all.extend(writer.await.unwrap());
        }
        all
    }

    /// Ends, lets all nodes agree, and finds everything that was acknowledged on each, once.
    pub(crate) async fn end_and_check(self, nodes: &Nodes) {
        let acknowledged = self.end().await;
        assert!(!acknowledged.is_empty());
        nodes.agree().await;
        for handle in nodes.running() {
            let memories = handle.state().snapshot().memories(None, 100_000).unwrap();
            assert!(
                memories.iter().all(|m| m.memory.occurrences == 1),
                "done twice"
            );
            let there: BTreeSet<String> = memories.into_iter().map(|m| m.memory.content).collect();
            let lost: Vec<&String> = acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "lost: {lost:?}");
        }
    }
}

async fn write(
    handle: Handle,
    is_over: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let node_id = handle.identity().node_id;
    for n in 0_u64.. {
        let content = format!("{node_id:x} {n}");
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&node_id.to_be_bytes());
        nonce[8..].copy_from_slice(&n.to_be_bytes());
        let id = RequestId { after: 0, nonce };
        loop {
            match handle.propose(learn(&content), Some(id)).await {
                Ok(applied) => {
                    applied.reply.result.unwrap();
                    acknowledged.insert(content);
                    count.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Err(_) if is_over.load(Ordering::SeqCst) => return acknowledged,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        if is_over.load(Ordering::SeqCst) {
            break;
        }
    }
    acknowledged
}

//! Carries messages between nodes of one process, and fails as a network does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use tokio::time::{sleep, timeout};

use crate::{
    Handle, Peer, Transport, TransportError,
    transport::{Answers, Call, Channel, Messages},
};

/// Who is there, and who cannot hear whom.
#[derive(Default)]
pub(crate) struct Switchboard {
    state: Mutex<State>,
    /// Bytes of snapshots that may still pass before their connection breaks.
    pub(crate) snapshot_bytes: AtomicU64,
    /// Channels that led nowhere.
    pub(crate) opened_in_vain: AtomicU64,
    /// Bytes of snapshots that have passed.
    pub(crate) snapshot_passed: AtomicU64,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<u64, Handle>,
    /// From, to: nothing gets through.
    cut: BTreeSet<(u64, u64)>,
    /// Answers to this call are lost, so many times.
    lost: BTreeMap<Call, usize>,
}

impl Switchboard {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            snapshot_bytes: AtomicU64::new(u64::MAX),
            ..Self::default()
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn connect(&self, handle: &Handle) {
        let node_id = handle.identity().node_id;
        self.state().nodes.insert(node_id, handle.clone());
    }

    pub(crate) fn disconnect(&self, node_id: u64) {
        self.state().nodes.remove(&node_id);
    }

    /// Cuts both ways between `one` and every other.
    pub(crate) fn isolate(&self, one: u64) {
        let mut state = self.state();
        let others: Vec<u64> = state.nodes.keys().copied().filter(|n| *n != one).collect();
        for other in others {
            state.cut.insert((one, other));
            state.cut.insert((other, one));
        }
    }

    pub(crate) fn cut_one_way(&self, from: u64, to: u64) {
        self.state().cut.insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.state().cut.clear();
    }

    /// The next answer to such a call gets lost after it was done.
    pub(crate) fn lose_answer(&self, call: Call) {
        *self.state().lost.entry(call).or_default() += 1;
    }

    fn is_lost(&self, call: Call) -> bool {
        match self.state().lost.get_mut(&call) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    fn is_there(&self, node_id: u64) -> bool {
        self.state().nodes.contains_key(&node_id)
    }

    fn reach(&self, from: u64, to: u64) -> Option<Handle> {
        let state = self.state();
        let is_cut = state.cut.contains(&(from, to));
        state.nodes.get(&to).filter(|_| !is_cut).cloned()
    }

    pub(crate) fn line(self: &Arc<Self>, from: u64) -> Arc<Line> {
        Arc::new(Line {
            board: self.clone(),
            from,
        })
    }
}

/// The end of one node.
pub(crate) struct Line {
    board: Arc<Switchboard>,
    from: u64,
}

fn broken(to: &Peer, reason: &str) -> TransportError {
    TransportError::Broken {
        address: to.address.clone(),
        reason: reason.to_owned(),
    }
}

fn unreachable(to: &Peer) -> TransportError {
    TransportError::Unreachable {
        address: to.address.clone(),
        reason: "the line is cut".to_owned(),
    }
}

impl Transport for Line {
    fn call(
        &self,
        to: &Peer,
        call: Call,
        request: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (board, from, to) = (self.board.clone(), self.from, to.clone());
        Box::pin(async move {
            let there = board
                .reach(from, to.node_id)
                .ok_or_else(|| unreachable(&to))?;
            let answered = timeout(within, there.answer(call, request)).await;
            let answer = answered.map_err(|_| broken(&to, "no answer in time"))?;
            if board.is_lost(call) || board.reach(to.node_id, from).is_none() {
                return Err(broken(&to, "the answer was lost"));
            }
            answer.map_err(|error| broken(&to, &error.to_string()))
        })
    }

    fn open(
        &self,
        to: &Peer,
        channel: Channel,
        requests: Messages,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Answers<TransportError>, TransportError>> {
        let (board, from, to) = (self.board.clone(), self.from, to.clone());
        Box::pin(async move {
            let there = board.reach(from, to.node_id).ok_or_else(|| {
                board.opened_in_vain.fetch_add(1, Ordering::SeqCst);
                unreachable(&to)
            })?;
            let (gate, peer) = (board.clone(), to.clone());
            // A request on a cut line never arrives; on a healed one the connection is another.
            let requests = requests.take_while(move |request| {
                let mut passes = gate.reach(from, peer.node_id).is_some();
                if channel == Channel::Snapshot {
                    let bytes = request.len() as u64;
                    let left = gate.snapshot_bytes.load(Ordering::SeqCst);
                    passes &= left >= bytes;
                    if passes {
                        gate.snapshot_bytes.fetch_sub(bytes, Ordering::SeqCst);
                        gate.snapshot_passed.fetch_add(bytes, Ordering::SeqCst);
                    }
                }
                let gate = gate.clone();
                async move {
                    // The other end sees silence, as long as there is an end; of a snapshot, an end.
                    while !passes && channel == Channel::Append && gate.is_there(from) {
                        sleep(Duration::from_millis(20)).await;
                    }
                    passes
                }
            });
            let answers = there.answer_channel(channel, requests.boxed());
            let mapped = stream::unfold(Some((answers, board, to)), move |state| async move {
                let (mut answers, board, to) = state?;
                let look = Duration::from_millis(20);
                loop {
                    let is_over = channel == Channel::Snapshot
                        && board.snapshot_bytes.load(Ordering::SeqCst) == 0;
                    if board.reach(to.node_id, from).is_none() || is_over {
                        return Some((Err(broken(&to, "the line was cut")), None));
                    }
                    match timeout(look, answers.next()).await {
                        Err(_) => {}
                        Ok(None) => return None,
                        Ok(Some(Ok(answer))) => {
                            return Some((Ok(answer), Some((answers, board, to))));
                        }
                        Ok(Some(Err(error))) => {
                            return Some((Err(broken(&to, &error.to_string())), None));
                        }
                    }
                }
            });
            Ok(mapped.boxed())
        })
    }
}

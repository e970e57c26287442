//! Calls of one kind to one member, several in one request.
//!
//! Under load a node forwards thousands of writes a second to the leader, and a request of its own for
//! each costs both ends more than the write. So a few requests are on their way at once, and what
//! comes meanwhile waits for the next and goes with it; a lone call waits for nobody.
//!
//! ```text
//! calls ──▶ waiting ──▶ one of a few couriers: takes what waits, asks, hands out the answers
//! ```
//!
//! Which calls may wait for each other is decided by whoever asks for it: the answers of one request
//! come together.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use memorygate_proto::peer::{
    Bundled, CallRequest, CallResponse, CallsRequest, bundled::Outcome, peer_client::PeerClient,
};
use memorygate_raft::{TransportError, transport::Call};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Status, transport::Channel};

use super::{
    Envelope,
    links::{failed, is_unconnected, verb},
};

/// Requests of one kind that are on their way to one member, at most.
const COURIERS_MAX: usize = 8;

/// Calls in one request, at most.
pub(super) const CALLS_MAX: usize = 128;

/// Bytes of these together, at most; one always goes.
const BYTES_MAX: usize = 1024 * 1024;

/// How many wait is bounded by who calls: proposals and requests have bounds of their own.
#[derive(Default)]
pub(super) struct Bundles {
    /// By the member's node id and the kind of call.
    queues: Mutex<HashMap<(u64, Call), Arc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    couriers: usize,
}

struct Waiting {
    body: Bytes,
    until: Instant,
    answer: oneshot::Sender<Result<Bytes, TransportError>>,
}

/// What a courier needs to ask.
pub(super) struct Way {
    pub(super) client: PeerClient<Channel>,
    pub(super) envelope: Envelope,
    pub(super) address: String,
}

impl Bundles {
    /// Asks `call` of the member at the end of `way`, together with others.
    pub(super) async fn call(
        &self,
        way: Way,
        call: Call,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        let address = way.address.clone();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            body,
            until: Instant::now() + within,
            answer,
        };
        let queue = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.entry((way.envelope.to, call)).or_default().clone()
        };
        if queue.put(waiting) {
            tokio::spawn(queue.carry(way, call));
        }
        let broken = |reason: &str| TransportError::Broken {
            address,
            reason: reason.to_owned(),
        };
        match timeout(within, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(broken("the request was given up")),
            Err(_) => Err(broken("no answer in time")),
        }
    }
}

impl Queue {
    /// True if another courier has to go.
    fn put(&self, waiting: Waiting) -> bool {
        let mut inner = self.lock();
        inner.waiting.push_back(waiting);
        let goes = inner.couriers < COURIERS_MAX;
        inner.couriers += usize::from(goes);
        goes
    }

    /// Asks until nothing waits.
    async fn carry(self: Arc<Self>, way: Way, call: Call) {
        let mut courier = Courier(&self, true);
        while let Some(taken) = courier.take() {
            let asked = ask(&way, call, &taken).await;
            if let Err(status) = &asked
                && is_unconnected(status)
            {
                // Where there is nobody, one look is enough for all that wait.
                let unsent: Vec<Waiting> = self.lock().waiting.drain(..).collect();
                refuse(unsent, status, &way.address);
            }
            hand_out(taken, asked, &way.address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the few, until it has found nothing to carry or is stopped with the runtime.
struct Courier<'a>(&'a Queue, bool);

impl Courier<'_> {
    /// The next calls that somebody still waits for. None ends the courier.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut inner = self.0.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < CALLS_MAX
            && let Some(next) = inner
                .waiting
                .pop_front_if(|next| taken.is_empty() || bytes + next.body.len() <= BYTES_MAX)
        {
            if !next.answer.is_closed() {
                bytes += next.body.len();
                taken.push(next);
            }
        }
        if taken.is_empty() {
            inner.couriers -= 1;
            self.1 = false;
            return None;
        }
        Some(taken)
    }
}

impl Drop for Courier<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.lock().couriers -= 1;
        }
    }
}

async fn ask(way: &Way, call: Call, taken: &[Waiting]) -> Result<Vec<Bundled>, Status> {
    let until = taken.iter().map(|waiting| waiting.until).max();
    let within = until.map_or(Duration::ZERO, |until| {
        until.saturating_duration_since(Instant::now())
    });
    let calls = taken.iter().map(|waiting| CallRequest {
        verb: verb(call).into(),
        body: waiting.body.clone(),
    });
    let mut request = Request::new(CallsRequest {
        calls: calls.collect(),
    });
    way.envelope.write(request.metadata_mut());
    let mut client = way.client.clone();
    match timeout(within, client.calls(request)).await {
        Ok(answer) => Ok(answer?.into_inner().answers),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

fn hand_out(taken: Vec<Waiting>, asked: Result<Vec<Bundled>, Status>, address: &str) {
    let count = taken.len();
    let answers = asked.and_then(|answers| match answers.len() {
        actual if actual == count => Ok(answers),
        actual => Err(Status::internal(format!(
            "{actual} answers, expected {count}"
        ))),
    });
    match answers {
        Ok(answers) => {
            for (waiting, answer) in taken.into_iter().zip(answers) {
                // Whoever asked may be gone.
                let _ = waiting.answer.send(read(answer, address));
            }
        }
        Err(status) => refuse(taken, &status, address),
    }
}

fn refuse(taken: Vec<Waiting>, status: &Status, address: &str) {
    for waiting in taken {
        let _ = waiting.answer.send(Err(failed(address, status)));
    }
}

/// The answer to one call of several.
pub(super) fn bundled(answer: Result<CallResponse, Status>) -> Bundled {
    Bundled {
        outcome: Some(match answer {
            Ok(CallResponse { body }) => Outcome::Body(body),
            Err(status) => Outcome::Refusal(memorygate_proto::peer::Refusal {
                code: i32::from(status.code()),
                message: status.message().to_owned(),
            }),
        }),
    }
}

fn read(answer: Bundled, address: &str) -> Result<Bytes, TransportError> {
    match answer.outcome {
        Some(Outcome::Body(body)) => Ok(body),
        Some(Outcome::Refusal(refusal)) => {
            let status = Status::new(Code::from(refusal.code), refusal.message);
            Err(failed(address, &status))
        }
        None => Err(failed(address, &Status::internal("an answer is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: usize) -> (Waiting, oneshot::Receiver<Result<Bytes, TransportError>>) {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            body: vec![0; bytes].into(),
            until: Instant::now(),
            answer,
        };
        (waiting, answered)
    }

    #[test]
    fn couriers_are_few_and_take_what_waits_within_bounds() {
        let queue = Queue::default();
        let mut kept = Vec::new();
        let mut started = 0;
        for _ in 0..CALLS_MAX + 9 {
            let (waiting, answered) = waiting(10);
            started += usize::from(queue.put(waiting));
            kept.push(answered);
        }
        assert_eq!(started, COURIERS_MAX);
        let mut couriers: Vec<_> = (0..COURIERS_MAX).map(|_| Courier(&queue, true)).collect();
        // Nobody waits for the first any more.
        kept.remove(0);
        let counts = couriers
            .iter_mut()
            .map(|c| c.take().map(|taken| taken.len()));
        let counts: Vec<Option<usize>> = counts.collect();
        assert_eq!(counts[..3], [Some(CALLS_MAX), Some(8), None]);
        drop(couriers);
        assert_eq!(queue.lock().couriers, 0);
    }

    #[test]
    fn a_large_call_goes_alone() {
        let queue = Queue::default();
        let mut kept = Vec::new();
        for bytes in [BYTES_MAX + 1, BYTES_MAX, 1] {
            let (waiting, answered) = waiting(bytes);
            queue.put(waiting);
            kept.push(answered);
        }
        let mut courier = Courier(&queue, true);
        let mut next = || courier.take().map(|taken| taken.len());
        assert_eq!(
            (next(), next(), next(), next()),
            (Some(1), Some(1), Some(1), None)
        );
    }

    #[test]
    fn each_call_has_its_own_answer_or_refusal() {
        let body = Bytes::from_static(b"yes");
        let answer = bundled(Ok(CallResponse { body: body.clone() }));
        assert_eq!(read(answer, "a:1"), Ok(body));
        let refused = read(bundled(Err(Status::invalid_argument("no"))), "a:1");
        assert!(
            matches!(refused, Err(TransportError::Refused { .. })),
            "{refused:?}"
        );
        let broken = read(bundled(Err(Status::unavailable("gone"))), "a:1");
        assert!(
            matches!(broken, Err(TransportError::Broken { .. })),
            "{broken:?}"
        );
        assert!(read(Bundled { outcome: None }, "a:1").is_err());
    }
}

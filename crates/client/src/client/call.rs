//! One call: its attempts, until it is answered, refused for good, or out of time.
//!
//! ```text
//! attempt ──▶ answered ─────────────────────────────────▶ reply
//!    ▲    └─▶ failed, another attempt may help ─▶ back-off ┐
//!    │    └─▶ failed for good, or out of time ─▶ error     │
//!    └──────────── next endpoint, same request id ◀────────┘
//! ```
//!
//! Reads are repeated because they change nothing, writes because they carry a request id. Once an
//! attempt of a write has an unknown outcome, no later attempt that merely failed makes it known:
//! only an answer to the request itself does.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use memorygate_core::request::RequestId;
use prost::Message;
use rand::Rng as _;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::settings::Settings;
use crate::error::{Error, Failure, Outcome};

/// Bytes of one reply: 1,000 memories of 64 KiB content and 16 KiB metadata are 80 MB.
pub(super) const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A call of the API.
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) mutating: bool,
}

macro_rules! methods {
    ($($constant:ident = $name:literal, $rpc:literal, $mutating:literal;)*) => {
        $(pub(super) const $constant: Method = Method {
            name: $name,
            path: concat!("/memorygate.v1.MemoryGate/", $rpc),
            mutating: $mutating,
        };)*
    };
}

methods! {
    LEARN = "learn", "Learn", true;
    LEARN_STREAM = "learn stream", "LearnStream", true;
    RECALL = "recall", "Recall", false;
    GET = "get", "Get", false;
    LIST = "list", "List", false;
    UPDATE = "update", "Update", true;
    FEEDBACK = "feedback", "Feedback", true;
    FORGET = "forget", "Forget", true;
    LINK = "link", "Link", true;
    STATS = "stats", "Stats", false;
}

/// The servers of one cluster, and the one that answered last.
pub(super) struct Servers {
    servers: Vec<Server>,
    current: AtomicUsize,
}

struct Server {
    address: String,
    endpoint: Endpoint,
    /// Connected at its first use, since that wants a runtime.
    channel: OnceLock<Channel>,
}

impl Servers {
    /// `endpoints` is not empty.
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        assert!(
            !endpoints.is_empty(),
            "settings without endpoints are refused"
        );
        let server = |endpoint: Endpoint| Server {
            address: endpoint.uri().to_string().trim_end_matches('/').to_owned(),
            endpoint,
            channel: OnceLock::new(),
        };
        Self {
            servers: endpoints.into_iter().map(server).collect(),
            current: AtomicUsize::new(0),
        }
    }

    /// The server to ask now, and its place.
    fn current(&self) -> (usize, &Server) {
        let at = self.current.load(Ordering::Relaxed) % self.servers.len();
        (at, &self.servers[at])
    }

    /// Leaves the server at `from` for the next one, unless someone did so already.
    fn leave(&self, from: usize) {
        let next = (from + 1) % self.servers.len();
        // Losing the race means that another call has moved on: nothing to do.
        let _ = self
            .current
            .compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Where a call goes that cannot be repeated here, with its address.
    pub(super) fn channel(&self) -> (Channel, &str) {
        let (_, server) = self.current();
        (server.channel(), &server.address)
    }
}

impl Server {
    fn channel(&self) -> Channel {
        let connect = || self.endpoint.connect_lazy();
        self.channel.get_or_init(connect).clone()
    }
}

/// Runs one call. `id` is the request id that is in `request`, for the error.
pub(super) async fn call<Q, R>(
    servers: &Servers,
    settings: &Settings,
    method: &Method,
    request: Q,
    id: Option<RequestId>,
) -> Result<R, Error>
where
    Q: Message + Clone + 'static,
    R: Message + Default + 'static,
{
    let deadline = Instant::now() + settings.timeout;
    let mut outcome = Outcome::Failed;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (at, server) = servers.current();
        let tried = attempt_once(server.channel(), method, request.clone(), deadline);
        let failure = match timeout_at(deadline, tried).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(status)) => Failure::of(method.name, method.mutating, &status),
            Err(_elapsed) => Failure::deadline(method.name, method.mutating, settings.timeout),
        };
        let Failure {
            mut error,
            retryable,
            elsewhere,
            final_answer,
        } = failure;
        if error.outcome() == Outcome::Unknown {
            outcome = Outcome::Unknown;
        }
        if !final_answer {
            error.set_outcome(outcome);
        }
        error.set_trail(&server.address, attempt, id);
        if elsewhere {
            servers.leave(at);
        }
        if !retryable || attempt >= settings.attempts_max {
            return Err(error);
        }
        let wait = backoff(settings, attempt).max(error.retry_after().unwrap_or_default());
        if Instant::now() + wait >= deadline {
            return Err(error);
        }
        debug!(%error, attempt, wait_ms = wait.as_millis() as u64, "call is repeated");
        sleep(wait).await;
    }
}

async fn attempt_once<Q, R>(
    channel: Channel,
    method: &Method,
    request: Q,
    deadline: Instant,
) -> Result<R, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut grpc = grpc(channel).await?;
    let mut request = Request::new(request);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    // Not the generated client: it refuses replies with fields that it does not know, and then
    // every old client would fail with a newer server. Only requests have to be strict.
    let codec = ProstCodec::<Q, R>::default();
    let path = PathAndQuery::from_static(method.path);
    Ok(grpc.unary(request, path, codec).await?.into_inner())
}

/// A channel that is ready for one call.
pub(super) async fn grpc(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(grpc)
}

/// Half to all of `initial × 2^(attempt - 1)`, at most the longest: doubling gives a loaded server
/// room, jitter keeps callers that failed together from coming back together.
fn backoff(settings: &Settings, attempt: u32) -> Duration {
    let doublings = (attempt - 1).min(31);
    let longest = settings
        .backoff_initial
        .saturating_mul(1 << doublings)
        .min(settings.backoff_max);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let settings = Settings::default();
        let ms = |attempt| backoff(&settings, attempt).as_millis();
        for _ in 0..100 {
            assert!((50..=100).contains(&ms(1)));
            assert!((100..=200).contains(&ms(2)));
            assert!((1000..=2000).contains(&ms(10)));
            assert!((1000..=2000).contains(&ms(u32::MAX)));
        }
    }

    #[test]
    fn servers_are_left_in_turn_and_only_once_by_those_who_failed_together() {
        let endpoint = |i: u16| Endpoint::from_shared(format!("http://n{i}:1")).unwrap();
        let servers = Servers::new((0..3).map(endpoint).collect());
        let address = || servers.current().1.address.clone();
        assert_eq!(address(), "http://n0:1");
        servers.leave(0);
        servers.leave(0);
        assert_eq!(address(), "http://n1:1");
        servers.leave(1);
        servers.leave(2);
        assert_eq!(address(), "http://n0:1");
    }
}

//! What every call goes through before its handler: bounds, a deadline, a request id for the logs,
//! metrics, and details for errors that the transport made.
//!
//! ```text
//! head ── too many in work? ── span, deadline ──▶ handler ──▶ code, time ── details? ──▶ answer
//! body ── counted as it arrives ─▶ over the budget: RESOURCE_EXHAUSTED
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::{Code, Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, debug, info_span, warn};

use super::status::{self, Call};
use crate::{deadline::Deadline, error::Error, telemetry::metrics::Metrics};

/// The services whose calls are guarded; health and reflection pass as they are.
const PREFIX: &str = "/memorygate.v1.";

/// Names a call in logs and answers. A caller may choose it.
const REQUEST_ID: &str = "x-request-id";

/// Longer ones are cut: a log line is no place for a caller's data.
const REQUEST_ID_MAX: usize = 64;

/// What all calls share.
pub struct Bounds {
    pub requests_max: usize,
    pub in_flight_bytes_max: usize,
    pub metrics: Arc<Metrics>,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Bounds {
    pub fn new(requests_max: usize, in_flight_bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            requests_max,
            in_flight_bytes_max,
            metrics,
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }
}

/// One call in work; counted until the last clone is dropped.
pub struct Held {
    bounds: Arc<Bounds>,
    bytes: AtomicUsize,
}

impl Held {
    /// `None` if there are too many.
    fn start(bounds: &Arc<Bounds>) -> Option<Arc<Self>> {
        let before = bounds.requests.fetch_add(1, Ordering::Relaxed);
        if before >= bounds.requests_max {
            bounds.requests.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        bounds.metrics.requests_in_flight.inc();
        Some(Arc::new(Self {
            bounds: bounds.clone(),
            bytes: AtomicUsize::new(0),
        }))
    }

    /// `false` if all calls together hold too much.
    fn add(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bounds.metrics.received_bytes.inc_by(bytes as u64);
        let before = self.bounds.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bounds
            .metrics
            .in_flight_bytes
            .set((before + bytes) as i64);
        before + bytes <= self.bounds.in_flight_bytes_max
    }

    /// A stream's handler is done with what has arrived so far.
    pub fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let before = self.bounds.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bounds
            .metrics
            .in_flight_bytes
            .set((before - bytes) as i64);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
        self.bounds.requests.fetch_sub(1, Ordering::Relaxed);
        self.bounds.metrics.requests_in_flight.dec();
    }
}

/// Puts every call of the wrapped service under [`Bounds`].
#[derive(Clone)]
pub struct Guard(pub Arc<Bounds>);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            bounds: self.0.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    bounds: Arc<Bounds>,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(method) = request.uri().path().strip_prefix(PREFIX).and_then(known) else {
            return Box::pin(self.inner.call(request));
        };
        let start = Instant::now();
        let id = request_id(request.headers());
        let span = info_span!("request", method, id = %id);
        let bounds = self.bounds.clone();
        let Some(held) = Held::start(&bounds) else {
            let what = format!("{} requests are in work", bounds.requests_max);
            let status = status::of(&Error::Overloaded { what }, call_of(method));
            return Box::pin(std::future::ready(Ok(finish(
                status.into_http(),
                method,
                &id,
                start,
                &bounds.metrics,
            ))));
        };
        let (mut head, body) = request.into_parts();
        head.extensions
            .insert(Deadline::after(grpc_timeout(&head.headers)));
        head.extensions.insert(held.clone());
        let body = Body::new(Counted {
            body,
            held: held.clone(),
            call: call_of(method),
        });
        let inner = span.in_scope(|| self.inner.call(Request::from_parts(head, body)));
        let work = async move {
            let response = inner.await?;
            drop(held);
            Ok(finish(response, method, &id, start, &bounds.metrics))
        };
        Box::pin(work.instrument(span))
    }
}

/// Method names as labels: those of the services, each of which one has, so that a caller cannot invent metrics.
fn known(method: &str) -> Option<&'static str> {
    const MEMORY_GATE: [&str; 13] = [
        "Learn",
        "LearnStream",
        "Recall",
        "History",
        "Get",
        "List",
        "Update",
        "Feedback",
        "Forget",
        "Link",
        "Share",
        "Restore",
        "Stats",
    ];
    const CLUSTER: [&str; 12] = [
        "Members",
        "Status",
        "ChangeMember",
        "TransferLeader",
        "Drain",
        "Verify",
        "ListAlarms",
        "ClearAlarms",
        "CreateSnapshot",
        "ListSnapshots",
        "SaveSnapshot",
        "VerifySnapshot",
    ];
    const CONSOLIDATION: [&str; 10] = [
        "PlanConsolidation",
        "RunConsolidation",
        "ListEpochs",
        "UndoEpoch",
        "GetPolicy",
        "SetPolicy",
        "ListConflicts",
        "ResolveConflict",
        "ListTrust",
        "SetTrust",
    ];
    let (service, name) = method.split_once('/')?;
    let methods: &[&'static str] = match service {
        "MemoryGate" => &MEMORY_GATE,
        "Cluster" => &CLUSTER,
        "Consolidation" => &CONSOLIDATION,
        _ => return None,
    };
    methods.iter().find(|method| **method == name).copied()
}

fn call_of(method: &str) -> Call {
    match method {
        "Recall" | "Get" | "List" | "History" | "Stats" | "Members" | "Status" | "Verify"
        | "ListAlarms" | "ListSnapshots" | "SaveSnapshot" | "VerifySnapshot"
        | "PlanConsolidation" | "ListEpochs" | "GetPolicy" | "ListConflicts" | "ListTrust" => {
            Call::Reading
        }
        _ => Call::Mutating,
    }
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    match given.filter(|id| !id.is_empty()) {
        Some(id) => id.chars().take(REQUEST_ID_MAX).collect(),
        None => format!("{:016x}", rand::random::<u64>()),
    }
}

/// The caller's `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Counts and names the answer, and gives an error that has no details its own. Errors of unary
/// answers stand in the head: there is no message before them.
fn finish(
    mut response: Response<Body>,
    method: &'static str,
    id: &str,
    start: Instant,
    metrics: &Metrics,
) -> Response<Body> {
    let status = Status::from_header_map(response.headers());
    let code = status.as_ref().map_or(Code::Ok, Status::code);
    if let Some(status) = status.filter(|s| s.code() != Code::Ok) {
        log_failure(&status);
        if status.details().is_empty() {
            response = status::complete(&status, call_of(method)).into_http();
        }
    }
    let took = start.elapsed();
    metrics
        .requests
        .with_label_values(&[method, &format!("{code:?}")])
        .inc();
    metrics
        .request_seconds
        .with_label_values(&[method])
        .observe(took.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What is the caller's fault is nobody else's news.
fn log_failure(status: &Status) {
    let (code, message) = (status.code(), status.message());
    match code {
        Code::Internal | Code::DataLoss | Code::Unknown => {
            warn!(?code, message, "request failed");
        }
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unavailable
        | Code::Unauthenticated => debug!(?code, message, "request refused"),
    }
}

/// A request body whose bytes count as in flight.
struct Counted {
    body: Body,
    held: Arc<Held>,
    call: Call,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        let bytes = frame.data_ref().map_or(0, |data| data.remaining());
        if self.held.add(bytes) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let max = self.held.bounds.in_flight_bytes_max;
        let what = format!("requests in work hold more than {max} bytes");
        Poll::Ready(Some(Err(status::of(
            &Error::Overloaded { what },
            self.call,
        ))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let check = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(check("100m"), Some(Duration::from_millis(100)));
        assert_eq!(
            check("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(check("5S"), Some(Duration::from_secs(5)));
        for bad in ["", "m", "100", "100x", "-1S", "123456789S", "1 S"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn requests_and_bytes_are_given_back() {
        let bounds = Arc::new(Bounds::new(2, 100, Arc::new(Metrics::new())));
        let first = Held::start(&bounds).unwrap();
        let second = Held::start(&bounds).unwrap();
        assert!(Held::start(&bounds).is_none());
        assert!(first.add(60) && second.add(40) && !second.add(1));
        first.release();
        assert!(second.add(59));
        drop((first, second));
        assert_eq!(bounds.bytes.load(Ordering::Relaxed), 0);
        assert!(Held::start(&bounds).is_some());
    }

    #[test]
    fn an_id_for_the_logs_is_bounded() {
        let mut headers = HeaderMap::new();
        assert_eq!(request_id(&headers).len(), 16);
        headers.insert(REQUEST_ID, HeaderValue::from_str(&"x".repeat(500)).unwrap());
        assert_eq!(request_id(&headers), "x".repeat(64));
    }
}

//! Webhooks: what other systems tell of, as experiences.
//!
//! ```text
//! POST /v1/hooks/alertmanager ─┐
//! POST /v1/hooks/ci ───────────┴▶ Door ▶ body (bounded) ▶ memorygate-feeds ▶ Event ▶ deliver ▶ learn
//! ```
//!
//! It decides who may tell something, where that is learned, and that an event is learned once however
//! often it is delivered. How a message is read, and which experience it becomes, is decided in
//! `memorygate-feeds`. Without a token there are no webhooks.

mod deliver;
mod door;
mod event;
mod refusal;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use memorygate_core::name::Namespace;
use memorygate_feeds::{BODY_BYTES_MAX, alertmanager::Notification, ci};
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

pub(crate) use self::door::token;
use self::{
    door::{Door, Pass, Token},
    event::Event,
    refusal::Refusal,
};
use crate::{
    backend::Backend, deadline::Deadline, error::Violation, settings::Webhook,
    telemetry::metrics::Metrics,
};

/// Messages in work at once from senders that have shown the token: together they hold 64 MiB at most.
const MESSAGES_MAX: usize = 16;

/// The same from senders that sign. Whether they know the token is not known before all of it was read, so
/// they have places of their own: nobody without the token keeps out who has it. 16 MiB at most.
const SIGNED_MAX: usize = 4;

/// How long a message may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to be learned. Senders repeat what was not, and what was is then known.
const LEARN_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a content type that is refused.
const TYPE_CHARACTERS_SHOWN_MAX: usize = 80;

/// Who tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Alertmanager,
    Ci,
}

impl Hook {
    fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Ci => "ci",
        }
    }
}

/// What became of a message's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Told {
    learned: usize,
    /// Learned before: the message was delivered again, or is part of another.
    known: usize,
    /// They teach nothing: a job that went well, or has not ended.
    ignored: usize,
}

/// Answers from the first moment; until there is a backend, senders are asked to come back.
pub(crate) struct Hooks {
    /// Without it there are no webhooks.
    door: Option<Door>,
    namespace: Namespace,
    places: Semaphore,
    signed_places: Semaphore,
    metrics: Arc<Metrics>,
    /// Not held: a connection that stays open must not keep a stopped node's data directory.
    backend: OnceLock<Weak<Backend>>,
}

impl Hooks {
    /// `settings` were checked.
    pub(crate) fn new(settings: &Webhook, token: Option<Token>, metrics: Arc<Metrics>) -> Self {
        Self {
            door: token.map(Door::new),
            namespace: Namespace::parse(&settings.namespace).expect("the settings were checked"),
            places: Semaphore::new(MESSAGES_MAX),
            signed_places: Semaphore::new(SIGNED_MAX),
            metrics,
            backend: OnceLock::new(),
        }
    }

    /// The node has started; called once.
    pub(crate) fn started(&self, backend: &Arc<Backend>) {
        let backend = Arc::downgrade(backend);
        assert!(self.backend.set(backend).is_ok(), "a node starts once");
    }

    async fn answer(&self, hook: Hook, request: Request) -> Response {
        let response = match self.take(hook, request).await {
            Ok(told) => {
                let Told {
                    learned,
                    known,
                    ignored,
                } = told;
                debug!(hook = hook.as_str(), learned, known, ignored, "webhook");
                for (result, count) in
                    [("learned", learned), ("known", known), ("ignored", ignored)]
                {
                    let labels = [hook.as_str(), result];
                    let events = self.metrics.hook_events.with_label_values(&labels);
                    events.inc_by(count as u64);
                }
                (StatusCode::OK, Json(told)).into_response()
            }
            Err(refusal) => {
                let hook = hook.as_str();
                if matches!(refusal, Refusal::Message(_)) {
                    // It may repeat what the message says, which is for its sender and no log.
                    warn!(hook, "webhook's message cannot be read");
                } else {
                    warn!(hook, error = %refusal, "webhook was refused");
                }
                refusal.into_response()
            }
        };
        let code = response.status();
        let labels = [hook.as_str(), code.as_str()];
        let deliveries = self.metrics.hook_deliveries.with_label_values(&labels);
        deliveries.inc();
        response
    }

    async fn take(&self, hook: Hook, request: Request) -> Result<Told, Refusal> {
        let door = self.door.as_ref().ok_or(Refusal::Off)?;
        let pass = door
            .look(hook, request.headers())
            .ok_or(Refusal::Unauthorized)?;
        check_type(request.headers())?;
        let namespace = self.namespace_of(request.uri())?;
        let (places, messages_max) = match pass {
            Pass::Known => (&self.places, MESSAGES_MAX),
            Pass::Signed(_) => (&self.signed_places, SIGNED_MAX),
        };
        let busy = |_| Refusal::Busy { messages_max };
        let _place = places.try_acquire().map_err(busy)?;
        let body = tokio::time::timeout(ARRIVAL_TIMEOUT, Bytes::from_request(request, &()))
            .await
            .map_err(|_| Refusal::Late)?
            .map_err(|rejection| Refusal::of_body(&rejection))?;
        match pass {
            Pass::Known => {}
            Pass::Signed(signature) if door.signed(&body, &signature) => {}
            Pass::Signed(_) => return Err(Refusal::Unauthorized),
        }
        let (events, ignored) = read(hook, &body)?;
        let backend = self.backend.get().and_then(Weak::upgrade);
        let backend = backend.ok_or(Refusal::Starting)?;
        let deadline = Deadline::after(Some(LEARN_TIMEOUT));
        let told = deliver::deliver(&backend, &namespace, events, deadline).await;
        let told = told.inspect_err(|error| {
            if let crate::error::Error::Storage(reason) = error {
                backend.storage_failed(reason);
            }
        })?;
        Ok(Told { ignored, ..told })
    }

    /// A parameter that is not known is refused: one that is ignored would learn at the wrong place.
    fn namespace_of(&self, uri: &Uri) -> Result<Namespace, Refusal> {
        match uri.query().unwrap_or_default() {
            "" => Ok(self.namespace.clone()),
            query => match query.split_once('=') {
                Some(("namespace", name)) => Namespace::parse(name)
                    .map_err(|error| Refusal::Query(Violation::at("namespace", error))),
                Some(_) | None => {
                    let expected = "expected ?namespace=NAME or nothing";
                    Err(Refusal::Query(Violation::at("query", expected)))
                }
            },
        }
    }
}

/// JSON, or nothing said, as a short script sends it.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let actual = String::from_utf8_lossy(value.as_bytes());
    // What follows a semicolon is a character set, and JSON has but one.
    let essence = actual.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    let is_json = kind.eq_ignore_ascii_case("application")
        && (subtype.eq_ignore_ascii_case("json")
            || subtype.to_ascii_lowercase().ends_with("+json"));
    if is_json {
        return Ok(());
    }
    let actual = actual.chars().take(TYPE_CHARACTERS_SHOWN_MAX).collect();
    Err(Refusal::Type { actual })
}

/// The events of a message, and how many of them teach nothing.
fn read(hook: Hook, body: &[u8]) -> Result<(Vec<Event>, usize), Refusal> {
    match hook {
        Hook::Alertmanager => {
            let notification = Notification::parse(body)?;
            let of_group = |alert| Event::of_alert(alert, &notification.group_key);
            Ok((notification.alerts.iter().map(of_group).collect(), 0))
        }
        Hook::Ci => match ci::Event::parse(body)? {
            ci::Event::Job(job) => match job.failure() {
                Some(failure) => Ok((vec![Event::of(failure)], 0)),
                None => Ok((Vec::new(), 1)),
            },
            ci::Event::Ping => Ok((Vec::new(), 1)),
        },
    }
}

pub(crate) fn router(hooks: Arc<Hooks>) -> Router {
    Router::new()
        .route("/v1/hooks/alertmanager", post(alertmanager))
        .route("/v1/hooks/ci", post(ci))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(hooks)
}

async fn alertmanager(State(hooks): State<Arc<Hooks>>, request: Request) -> Response {
    Box::pin(hooks.answer(Hook::Alertmanager, request)).await
}

async fn ci(State(hooks): State<Arc<Hooks>>, request: Request) -> Response {
    Box::pin(hooks.answer(Hook::Ci, request)).await
}

//! A model's endpoint on loopback: chat completions as OpenAI's interface has them, that answer, fail, hang
//! and break as they were told to. What it was asked is noted.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// An endpoint that does with each question what comes next in its script, and by its rule after that.
#[derive(Clone)]
pub struct Model {
    script: Arc<Mutex<VecDeque<Reply>>>,
    rule: Arc<Rule>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Rule = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A question that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub authorization: Option<String>,
    pub body: Value,
}

/// What a question is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Bytes>,
    end: End,
}

/// What comes after the pieces of an answer.
#[derive(Clone, Debug)]
pub enum End {
    /// It is complete.
    Complete,
    /// The connection stays open and nothing comes.
    Hang,
    /// The connection is closed in the middle.
    Cut,
    /// This, without end.
    Endless(Bytes),
    /// Not even the head is sent.
    Silence,
}

impl Model {
    /// Starts one on a free port, and returns the base of its addresses. Without a rule of its own, what is
    /// not in the script is answered by 404.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> (Self, String) {
        let unknown = |_: &Asked| Reply::status(404, "nothing was prepared for this");
        Self::start_with(script, unknown).await
    }

    pub async fn start_with(
        script: impl IntoIterator<Item = Reply>,
        rule: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> (Self, String) {
        let model = Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            rule: Arc::new(rule),
            asked: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(model.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (model, format!("http://{address}/v1"))
    }

    /// Everything that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Asked {
    /// The text of the message with this role.
    pub fn message(&self, role: &str) -> &str {
        let messages = self.body["messages"].as_array().unwrap();
        let message = messages.iter().find(|m| m["role"] == role).unwrap();
        message["content"].as_str().unwrap()
    }
}

impl Reply {
    /// A stream of these bytes, as they are.
    pub fn stream<P: Into<Bytes>>(pieces: impl IntoIterator<Item = P>) -> Self {
        let reply = Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            pieces: pieces.into_iter().map(Into::into).collect(),
            end: End::Complete,
        };
        reply.header("content-type", "text/event-stream")
    }

    /// A text, streamed a few characters at a time as models do, in one piece each, to a proper end.
    pub fn text(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut events = vec![delta(&json!({"role": "assistant", "content": ""}), None)];
        let deltas = chars.chunks(7).map(String::from_iter);
        events.extend(deltas.map(|part| delta(&json!({"content": part}), None)));
        events.push(delta(&json!({}), Some("stop")));
        events.push("data: [DONE]\n\n".to_owned());
        Self::stream(events)
    }

    /// A JSON document as the text of a streamed answer.
    pub fn json(document: &Value) -> Self {
        Self::text(&document.to_string())
    }

    /// Another status than 200, and a body that says why.
    pub fn status(code: u16, message: &str) -> Self {
        let body = json!({"error": {"message": message}}).to_string();
        let reply = Self::stream([body]).header("content-type", "application/json");
        reply.with_status(code)
    }

    #[must_use]
    pub fn with_status(mut self, code: u16) -> Self {
        self.status = StatusCode::from_u16(code).unwrap();
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// One event of a stream.
pub fn delta(delta: &Value, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]});
    format!("data: {chunk}\n\n")
}

/// Answers like a model that believes the first memory in which something worked, and does not know without one.
pub fn believes_what_worked(asked: &Asked) -> Reply {
    let question = asked.message("user");
    let is_worked = |line: &&str| line.starts_with('[') && line.contains(" \u{b7} worked \u{b7} ");
    let heading = question.lines().find(is_worked);
    let number = heading.and_then(|line| line[1..].split(']').next()?.parse::<u32>().ok());
    let names = |line: &&str| number.is_some_and(|n| line.contains(&format!("(worked in [{n}]")));
    let choice = question.lines().find(names);
    let action = choice.and_then(|line| line.split('"').nth(1));
    Reply::json(&match (action, number) {
        (Some(action), Some(number)) => json!({
            "explanation": format!("{action} worked before"),
            "cases": [number],
            "action": action,
            "confidence": 0.9,
        }),
        _ => json!({
            "explanation": "nothing like it is remembered",
            "cases": [],
            "action": null,
            "confidence": 0,
        }),
    })
}

async fn answer(State(model): State<Model>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION);
    let asked = Asked {
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap(),
    };
    model.asked.lock().unwrap().push(asked.clone());
    let scripted = model.script.lock().unwrap().pop_front();
    let reply = scripted.unwrap_or_else(|| (model.rule)(&asked));
    if matches!(reply.end, End::Silence) {
        return std::future::pending().await;
    }
    let pieces = stream::iter(reply.pieces).map(Ok);
    let mut response = Response::new(Body::from_stream(pieces.chain(rest(reply.end))));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

fn rest(end: End) -> impl Stream<Item = io::Result<Bytes>> + Send {
    match end {
        End::Complete => stream::empty().boxed(),
        End::Hang | End::Silence => stream::pending().boxed(),
        End::Cut => stream::once(async {
            // What came before is sent while this waits.
            tokio::task::yield_now().await;
            Err(io::Error::other("cut"))
        })
        .boxed(),
        End::Endless(bytes) => stream::repeat_with(move || Ok(bytes.clone())).boxed(),
    }
}

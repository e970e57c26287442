//! From the body of an answer to its text: a stream of server-sent events, or one JSON document where an
//! endpoint does not stream.
//!
//! The bytes of a body are counted before anything is made of them, so a line, an event or a stream without
//! end takes bounded memory. A piece counts as progress only if it holds words: who sends empty pieces or
//! comments to keep a connection open has said nothing.

use std::pin::pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use reqwest::{Response, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use sse_stream::SseStream;
use tokio::time::{Instant, timeout_at};

use super::{
    call::{Failed, causes, clean, message},
    settings::Bounds,
};

/// Bytes of an answer's text.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a body: some 250 for each piece of a text, and as many for thoughts that are not part of it.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What ends a stream.
const DONE: &str = "[DONE]";

/// One event, or a whole answer.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    /// Thoughts, which are no part of an answer, by both names that they go by.
    reasoning: Option<String>,
    reasoning_content: Option<String>,
}

/// What came of an answer so far.
#[derive(Default)]
struct Answer {
    text: String,
    refusal: String,
    finish_reason: Option<String>,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it has more than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("{0}")]
    Cut(String),
}

/// The text of an answer, whose first piece comes before `first`.
pub(super) async fn read(
    response: Response,
    first: Instant,
    bounds: &Bounds,
) -> Result<String, Failed> {
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "text/event-stream" => events(response, first, bounds).await,
        "application/json" => document(response, first, bounds).await,
        _ => Err(Failed::Unusable(format!(
            "its content type is {:?}, expected text/event-stream: is it an endpoint for chat completions?",
            clean(&kind)
        ))),
    }
}

/// What is at the beginning of a body, as far as it comes until then.
pub(super) async fn beginning(mut response: Response, bytes_max: usize, until: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await {
        let room = bytes_max - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == bytes_max {
            break;
        }
    }
    bytes
}

async fn events(response: Response, first: Instant, bounds: &Bounds) -> Result<String, Failed> {
    let body = pin!(counted(response));
    let mut events = SseStream::from_bytes_stream(body);
    let mut answer = Answer::default();
    let (mut limit, mut has_begun) = (first, false);
    loop {
        let event = timeout_at(limit, events.next()).await;
        let event = match event.map_err(|_| late(has_begun, bounds))? {
            None => return answer.ended(false),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(event)) => event,
        };
        let Some(data) = event.data else { continue };
        if data.trim() == DONE {
            return answer.ended(true);
        }
        if answer.add(&data)? {
            has_begun = true;
            limit = Instant::now() + bounds.between_tokens;
        }
    }
}

async fn document(response: Response, first: Instant, bounds: &Bounds) -> Result<String, Failed> {
    let mut chunks = pin!(counted(response));
    let mut bytes = Vec::new();
    // It is written before it is sent, so there is one wait and not one for each piece.
    while let Some(chunk) =
        (timeout_at(first, chunks.next()).await).map_err(|_| late(false, bounds))?
    {
        bytes.extend_from_slice(&chunk.map_err(|error| of_body(&error))?);
    }
    let mut answer = Answer::default();
    let text = String::from_utf8(bytes)
        .map_err(|_| Failed::Unusable("its answer is not UTF-8".to_owned()))?;
    answer.add(&text)?;
    answer.ended(true)
}

/// The pieces of a body, up to a bound.
fn counted(response: Response) -> impl Stream<Item = Result<Bytes, Broken>> {
    stream::try_unfold((response, 0), |(mut response, read)| async move {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| Broken::Cut(causes(&error.without_url())))? else {
            return Ok(None);
        };
        let read = read + chunk.len();
        if read > BODY_BYTES_MAX {
            return Err(Broken::TooLong);
        }
        Ok(Some((chunk, (response, read))))
    })
}

fn late(has_begun: bool, bounds: &Bounds) -> Failed {
    Failed::Unavailable(if has_begun {
        let bound = bounds.between_tokens;
        format!("its answer stopped: nothing more came within {bound:?}")
    } else {
        let bound = bounds.first_token;
        format!("nothing of an answer came within {bound:?}")
    })
}

fn broken(error: sse_stream::Error) -> Failed {
    match error {
        sse_stream::Error::Body(error) => match error.downcast::<Broken>() {
            Ok(error) => of_body(&error),
            Err(error) => Failed::Unavailable(clean(&error.to_string())),
        },
        error @ (sse_stream::Error::InvalidLine
        | sse_stream::Error::DuplicatedEventLine
        | sse_stream::Error::DuplicatedIdLine
        | sse_stream::Error::DuplicatedRetry
        | sse_stream::Error::Utf8Parse(_)
        | sse_stream::Error::IntParse(_)) => {
            Failed::Unusable(format!("its stream holds no events: {error}"))
        }
    }
}

fn of_body(error: &Broken) -> Failed {
    match error {
        Broken::TooLong => Failed::Unusable(format!("the answer has no end: {error}")),
        Broken::Cut(reason) => Failed::Unavailable(format!(
            "the connection broke in the middle of the answer: {reason}"
        )),
    }
}

impl Answer {
    /// Adds a piece; `true` if it holds words.
    fn add(&mut self, data: &str) -> Result<bool, Failed> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| {
            let start: String = data.chars().take(80).collect();
            Failed::Unusable(format!(
                "its answer holds {:?}, which is no JSON: {error}",
                clean(&start)
            ))
        })?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let told = message(&serde_json::json!({ "error": error }));
            return Err(Failed::Unavailable(format!(
                "it gave up in the middle of the answer: {told}"
            )));
        }
        let mut has_words = false;
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
            let Some(delta) = choice.delta else { continue };
            let text = delta.content.unwrap_or_default();
            let refusal = delta.refusal.unwrap_or_default();
            let thought = [delta.reasoning, delta.reasoning_content];
            let has_thought = thought.iter().flatten().any(|text| !text.is_empty());
            has_words |= has_thought || !text.is_empty() || !refusal.is_empty();
            self.text.push_str(&text);
            self.refusal.push_str(&refusal);
            if self.text.len().max(self.refusal.len()) > TEXT_BYTES_MAX {
                return Err(Failed::Unusable(format!(
                    "its answer has more than {TEXT_BYTES_MAX} bytes, expected a JSON object of a few lines"
                )));
            }
        }
        Ok(has_words)
    }

    /// The text, if this is its end. `is_told` if the endpoint says so.
    fn ended(self, is_told: bool) -> Result<String, Failed> {
        match self.finish_reason.as_deref() {
            Some("length") => Err(Failed::Unusable(
                "its answer was cut off: the model may not write more words".to_owned(),
            )),
            Some("content_filter") => Err(Failed::Unusable(
                "its answer was held back by a filter".to_owned(),
            )),
            None if !is_told => Err(Failed::Unavailable(
                "the answer ended in the middle".to_owned(),
            )),
            Some(_) | None if !self.refusal.is_empty() => Err(Failed::Unusable(format!(
                "the model refuses: {}",
                clean(&self.refusal)
            ))),
            Some(_) | None if self.text.trim().is_empty() => {
                Err(Failed::Unusable("its answer is empty".to_owned()))
            }
            Some(_) | None => Ok(self.text),
        }
    }
}

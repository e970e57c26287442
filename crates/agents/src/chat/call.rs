//! One question to an endpoint: the attempts, the pauses between them, and what each refusal means.
//!
//! | what comes | what is done |
//! | --- | --- |
//! | no connection, 408, 429, 5xx | again, after the pause that is asked for, at most [`ATTEMPTS_MAX`] times and not beyond the deadline |
//! | 400 or 422 that names a form of the answer or the temperature | again without it |
//! | another status | refused, with what the endpoint says |
//! | 200 | the answer, see `stream.rs`; one that breaks off is not asked for again, since it was paid for |
//!
//! No redirection is followed: a key goes where its owner said. For the same reason a question to this
//! machine takes no proxy, and `localhost` is not looked up.

use std::{
    error::Error as _,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
    redirect,
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    prompt::{Choices, Message},
    settings::{Bounds, Key, Settings, SettingsError, is_loopback},
    stream,
};
use crate::executor::Error;

/// Questions that are asked before it is given up, refused forms not counted.
const ATTEMPTS_MAX: u32 = 3;
/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
/// Characters of it that are told.
const REFUSAL_CHARS_MAX: usize = 300;

const USER_AGENT: &str = concat!("memorygate/", env!("CARGO_PKG_VERSION"));

pub(super) struct Caller {
    http: Client,
    url: Url,
    model: String,
    key: Option<Key>,
    bounds: Bounds,
}

/// Why an attempt gave no answer.
pub(super) enum Failed {
    /// It may go later, after so long if the endpoint said it.
    Later {
        reason: String,
        after: Option<Duration>,
    },
    /// The question is not understood.
    Question {
        status: StatusCode,
        reason: String,
    },
    Refused(String),
    Unavailable(String),
    Unusable(String),
}

/// What a question asks for beside an answer. Not every endpoint knows all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    answer: Answer,
    /// The likeliest words, so that the same question has about the same answer.
    temperature: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Of the schema of the choices.
    Schema,
    /// Any JSON object.
    Object,
    /// The words of the question alone say it.
    Free,
}

#[derive(Serialize)]
struct Question<'a, S> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<S>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<S> {
    JsonSchema { json_schema: Named<S> },
    JsonObject,
}

#[derive(Serialize)]
struct Named<S> {
    name: &'static str,
    strict: bool,
    schema: S,
}

impl Caller {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let model = settings.model.trim();
        if model.is_empty() {
            return Err(SettingsError::NoModel);
        }
        let url = settings.address()?;
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(settings.bounds.connect);
        if is_loopback(&url) {
            let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            // Port 0 stands for the address's own.
            let here = here.map(|address: IpAddr| SocketAddr::new(address, 0));
            http = http.no_proxy().resolve_to_addrs("localhost", &here);
        }
        if url.scheme() == "http" {
            // Without encryption nobody's certificates are needed, which a small container may lack.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| SettingsError::Encryption {
            reason: causes(&error),
        })?;
        Ok(Self {
            http,
            url,
            model: model.to_owned(),
            key: settings.key.clone(),
            bounds: settings.bounds,
        })
    }

    /// The text of the answer, within the bounds.
    pub(super) async fn ask(
        &self,
        messages: &[Message],
        choices: &Choices,
    ) -> Result<String, Error> {
        let deadline = Instant::now() + self.bounds.whole;
        let asked = self.attempts(messages, choices, deadline);
        let late = |_| {
            let whole = self.bounds.whole;
            self.unavailable(&format!("it gave no whole answer within {whole:?}"))
        };
        timeout_at(deadline, asked).await.map_err(late)?
    }

    pub(super) fn unusable(&self, reason: &str) -> Error {
        Error::Unusable {
            what: self.what(),
            reason: self.without_key(reason),
        }
    }

    /// Words of the endpoint or of the model, which may repeat what they were told.
    pub(super) fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) => key.removed_from(text),
            None => text.to_owned(),
        }
    }

    async fn attempts(
        &self,
        messages: &[Message],
        choices: &Choices,
        deadline: Instant,
    ) -> Result<String, Error> {
        let mut form = Form {
            answer: Answer::Schema,
            temperature: true,
        };
        let mut attempt = 1;
        loop {
            let failed = match self.attempt(self.question(messages, choices, form)).await {
                Ok(text) => return Ok(text),
                Err(failed) => failed,
            };
            match failed {
                Failed::Later { reason, after } => {
                    let pause = after.unwrap_or(self.bounds.pause * 2_u32.pow(attempt - 1));
                    if attempt == ATTEMPTS_MAX {
                        return Err(self.unavailable(&format!("{reason}, {attempt} times")));
                    }
                    if Instant::now() + pause >= deadline {
                        let whole = self.bounds.whole;
                        let reason = format!(
                            "{reason}; the next attempt would be {pause:?} later, and the answer has to \
                             be there within {whole:?}"
                        );
                        return Err(self.unavailable(&reason));
                    }
                    sleep(pause).await;
                    attempt += 1;
                }
                // Each form is simpler than the one before, so this ends.
                Failed::Question { status, reason } => match form.simpler(&reason) {
                    Some(simpler) => form = simpler,
                    None => {
                        let reason = format!("{reason} ({})", status.as_u16());
                        return Err(self.refused(&reason));
                    }
                },
                Failed::Refused(reason) => return Err(self.refused(&reason)),
                Failed::Unavailable(reason) => return Err(self.unavailable(&reason)),
                Failed::Unusable(reason) => return Err(self.unusable(&reason)),
            }
        }
    }

    fn question(&self, messages: &[Message], choices: &Choices, form: Form) -> String {
        let response_format = match form.answer {
            Answer::Schema => Some(Format::JsonSchema {
                json_schema: Named {
                    name: "decision",
                    strict: true,
                    schema: choices.schema(),
                },
            }),
            Answer::Object => Some(Format::JsonObject),
            Answer::Free => None,
        };
        let question = Question {
            model: &self.model,
            messages,
            stream: true,
            temperature: form.temperature.then_some(0.0),
            response_format,
        };
        serde_json::to_string(&question).expect("texts, numbers and lists are JSON")
    }

    async fn attempt(&self, question: String) -> Result<String, Failed> {
        let first = Instant::now() + self.bounds.first_token;
        let silent = || {
            let bound = self.bounds.first_token;
            Failed::Unavailable(format!("nothing of an answer came within {bound:?}"))
        };
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .body(question);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.header());
        }
        let response = timeout_at(first, request.send()).await;
        let response = response.map_err(|_| silent())?.map_err(not_sent)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response, first).await);
        }
        stream::read(response, first, &self.bounds).await
    }

    /// The model and where it is asked, without what may be secret in an address.
    fn what(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self
            .url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        format!(
            "the model {} at {}://{host}{port}",
            self.model,
            self.url.scheme()
        )
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable {
            what: self.what(),
            reason: self.without_key(reason),
        }
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Refused {
            what: self.what(),
            reason: self.without_key(reason),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.what()).finish()
    }
}

impl Form {
    /// Without what the endpoint says that it does not understand; `None` if that is nothing of ours.
    fn simpler(self, reason: &str) -> Option<Self> {
        let reason = reason.to_ascii_lowercase();
        let names = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if self.temperature && names(&["temperature"]) {
            return Some(Self {
                temperature: false,
                ..self
            });
        }
        if !names(&[
            "response_format",
            "json_schema",
            "json_object",
            "schema",
            "structured",
            "json mode",
        ]) {
            return None;
        }
        let answer = match self.answer {
            Answer::Schema => Answer::Object,
            Answer::Object => Answer::Free,
            Answer::Free => return None,
        };
        Some(Self { answer, ..self })
    }
}

/// What went wrong before there was a status.
fn not_sent(error: reqwest::Error) -> Failed {
    let (is_connect, is_late) = (error.is_connect(), error.is_timeout());
    let causes = causes(&error.without_url());
    match (is_connect, is_late) {
        (true, true) => Failed::Later {
            reason: "it cannot be connected in time".to_owned(),
            after: None,
        },
        (true, false) => Failed::Later {
            reason: format!("it cannot be connected: {causes}"),
            after: None,
        },
        (false, _) => Failed::Unavailable(format!("the connection broke: {causes}")),
    }
}

/// What an answer with another status than 200 means.
async fn refusal(response: Response, until: Instant) -> Failed {
    let status = response.status();
    let code = status.as_u16();
    let after = pause(response.headers(), SystemTime::now());
    let location = response.headers().get(LOCATION).cloned();
    let body = stream::beginning(response, REFUSAL_BYTES_MAX, until).await;
    let (told, error_code) = told(&body);
    let says = if told.is_empty() {
        String::new()
    } else {
        format!(": {told}")
    };
    match code {
        300..400 => {
            let to = location
                .as_ref()
                .and_then(|to| to.to_str().ok())
                .unwrap_or_default();
            let to = clean(to);
            Failed::Refused(format!(
                "it leads elsewhere ({code}, to {to:?}), where no key is taken: name the endpoint itself"
            ))
        }
        400 | 422 => Failed::Question {
            status,
            reason: if told.is_empty() {
                "the question is not understood".to_owned()
            } else {
                told
            },
        },
        401 | 403 => Failed::Refused(format!("the key is missing or not accepted ({code}){says}")),
        404 => Failed::Refused(format!(
            "there is no such model, or no chat completions below this address ({code}){says}"
        )),
        // Paid for again by nothing but money.
        429 if error_code == "insufficient_quota" => {
            Failed::Refused(format!("what was paid for is used up ({code}){says}"))
        }
        408 | 429 | 500..600 => Failed::Later {
            reason: format!("it answers {code}{says}"),
            after,
        },
        _ => Failed::Refused(format!("it answers {code}{says}")),
    }
}

/// How long the endpoint asks to wait: seconds, or a date.
fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// The message and the code in a refusal, in the form of OpenAI's if it has it, shortened.
fn told(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let Ok(document) = serde_json::from_str::<Value>(&text) else {
        return (clean(&text), String::new());
    };
    (message(&document), code(&document))
}

/// Of a document with an error in it, as an answer or as a piece of a stream.
pub(super) fn message(document: &Value) -> String {
    let error = &document["error"];
    let candidates = [
        &error["message"],
        error,
        &document["message"],
        &document["detail"],
    ];
    let text = candidates.iter().find_map(|candidate| candidate.as_str());
    text.map_or_else(|| clean(&document.to_string()), clean)
}

fn code(document: &Value) -> String {
    let code = document["error"]["code"].as_str();
    code.unwrap_or_default().to_owned()
}

/// One line of bounded length without anything that a terminal obeys.
pub(super) fn clean(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REFUSAL_CHARS_MAX)
        .collect();
    if text.chars().nth(REFUSAL_CHARS_MAX).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

/// An error with what lies below it, which is what says something.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        below = cause.source();
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            pause(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(check("120"), Some(120));
        assert_eq!(check(" 0 "), Some(0));
        assert_eq!(check("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(
            check("Sun, 06 Nov 1994 08:49:00 GMT"),
            Some(0),
            "it is over"
        );
        assert_eq!(check("-1"), None);
        assert_eq!(check("99999999999999999999"), None);
        assert_eq!(check("soon"), None);
        assert_eq!(pause(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_form_that_is_not_understood_is_left_out_until_nothing_is_left() {
        let mut form = Form {
            answer: Answer::Schema,
            temperature: true,
        };
        let mut seen = Vec::new();
        for reason in [
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported",
            "Unsupported value: 'temperature' does not support 0",
            "unknown field response_format",
        ] {
            form = form.simpler(reason).unwrap();
            seen.push((form.answer, form.temperature));
        }
        assert_eq!(
            seen,
            [
                (Answer::Object, true),
                (Answer::Object, false),
                (Answer::Free, false)
            ]
        );
        assert_eq!(form.simpler("temperature, response_format"), None);
        let whole = Form {
            answer: Answer::Schema,
            temperature: true,
        };
        assert_eq!(whole.simpler("context length exceeded"), None);
    }

    #[test]
    fn what_a_refusal_says_is_found_cleaned_and_cut() {
        let check = |body: &str| told(body.as_bytes()).0;
        assert_eq!(
            check(r#"{"error":{"message":"no such model"}}"#),
            "no such model"
        );
        assert_eq!(check(r#"{"error":"overloaded"}"#), "overloaded");
        assert_eq!(check(r#"{"detail":"Not Found"}"#), "Not Found");
        assert_eq!(check(r#"{"x":1}"#), r#"{"x":1}"#);
        assert_eq!(
            check("<h1>\u{1b}[31mBad\nGateway</h1>"),
            "<h1> [31mBad Gateway</h1>"
        );
        assert_eq!(
            check(&"x".repeat(5_000)).chars().count(),
            REFUSAL_CHARS_MAX + 1
        );
        let quota = br#"{"error":{"message":"pay","code":"insufficient_quota"}}"#;
        assert_eq!(told(quota).1, "insufficient_quota");
    }
}

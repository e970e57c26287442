//! Which model is asked, where, with which key and within which bounds.

use std::{fmt, net::IpAddr, time::Duration};

use reqwest::{Url, header::HeaderValue};

use crate::context;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 4096;

/// What is asked of the endpoint, below its base.
const PATH: [&str; 2] = ["chat", "completions"];

#[derive(Clone, Debug)]
pub struct Settings {
    /// The base of the interface, as a client of OpenAI's takes it: `https://api.openai.com/v1`,
    /// `http://127.0.0.1:11434/v1`.
    pub endpoint: String,
    /// By the name that the endpoint knows it by.
    pub model: String,
    /// Sent with every question, but to nobody who could be overheard.
    pub key: Option<Key>,
    /// Of a prompt, for memories.
    pub context_tokens: usize,
    /// A model that is less sure than this does not know, 0 to 1.
    pub abstain_below: f32,
    pub bounds: Bounds,
}

/// How long an endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// To be connected, encryption included.
    pub connect: Duration,
    /// From the question until the first piece of the answer, in each attempt.
    pub first_token: Duration,
    /// From one piece of the answer to the next.
    pub between_tokens: Duration,
    /// From the question to the whole answer, all attempts and the pauses between them included.
    pub whole: Duration,
    /// The first pause before another attempt, where the endpoint asks for none; it doubles.
    pub pause: Duration,
}

/// A key that is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "the model's endpoint {endpoint:?} is no address: {reason}; expected one such as \
         https://api.openai.com/v1 or http://127.0.0.1:11434/v1"
    )]
    Endpoint { endpoint: String, reason: String },
    #[error(
        "the model's key would go unencrypted to {host}: name an endpoint with https://, reach it over \
         an address of this machine (a tunnel, a proxy on 127.0.0.1), or give no key"
    )]
    KeyInTheClear { host: String },
    #[error("no model is named: expected the name by which the endpoint knows it")]
    NoModel,
    /// The key itself is not told.
    #[error(
        "the model's key cannot be used: expected 1 to {KEY_BYTES_MAX} visible ASCII characters"
    )]
    Key,
    #[error("encryption cannot be set up: {reason}")]
    Encryption { reason: String },
}

impl Settings {
    /// Without a key, with the default bounds and budget.
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            model: model.into(),
            key: None,
            context_tokens: context::TOKENS_DEFAULT,
            abstain_below: 0.5,
            bounds: Bounds::default(),
        }
    }

    /// Where questions go, if they may go there.
    pub(super) fn address(&self) -> Result<Url, SettingsError> {
        let refused = |reason: &str| SettingsError::Endpoint {
            endpoint: without_user(&self.endpoint),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(self.endpoint.trim()).map_err(|e| refused(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it holds a user's name: give a key instead"));
        }
        if self.key.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            let host = url.host_str().unwrap_or_default().to_owned();
            return Err(SettingsError::KeyInTheClear { host });
        }
        url.set_fragment(None);
        let is_whole = url
            .path()
            .trim_end_matches('/')
            .ends_with("/chat/completions");
        if !is_whole {
            url.path_segments_mut()
                .map_err(|()| refused("it has no path"))?
                .pop_if_empty()
                .extend(PATH);
        }
        Ok(url)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(60),
            between_tokens: Duration::from_secs(30),
            whole: Duration::from_secs(120),
            pause: Duration::from_millis(500),
        }
    }
}

impl Key {
    /// White space around it, such as a file's last end of line, is no part of it.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let key = text.trim();
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
        if fits && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(key.to_owned()))
        } else {
            Err(SettingsError::Key)
        }
    }

    pub(super) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0))
            .expect("visible ASCII is a header's value");
        value.set_sensitive(true);
        value
    }

    /// A text of somebody else's in which it may have been repeated, without it.
    pub(super) fn removed_from(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// True if what is sent there does not leave this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // The caller sees to it that this name leads to this machine.
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// An address as it may be shown: what stands before an at sign may be a password.
fn without_user(endpoint: &str) -> String {
    match endpoint.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: &str, key: Option<&str>) -> String {
        let settings = Settings {
            key: key.map(|key| Key::parse(key).unwrap()),
            ..Settings::new(endpoint, "m")
        };
        match settings.address() {
            Ok(url) => url.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn questions_go_below_the_base() {
        for base in [
            "https://m.example/v1",
            "https://m.example/v1/",
            "https://m.example/v1/chat/completions",
        ] {
            assert_eq!(
                check(base, Some("k")),
                "https://m.example/v1/chat/completions"
            );
        }
        assert_eq!(
            check("http://m.example", None),
            "http://m.example/chat/completions"
        );
        assert_eq!(
            check("https://m.example/openai?api-version=1#x", None),
            "https://m.example/openai/chat/completions?api-version=1"
        );
    }

    #[test]
    fn a_key_is_never_sent_where_it_could_be_overheard() {
        for host in [
            "m.example",
            "10.0.0.7:8000",
            "[2001:db8::1]:8000",
            "localhost.example",
            "0.0.0.0",
        ] {
            let refused = check(&format!("http://{host}/v1"), Some("sk-secret"));
            assert!(
                refused.starts_with("the model's key would go unencrypted to "),
                "{refused}"
            );
            assert!(!refused.contains("sk-secret"));
        }
        for host in [
            "localhost:11434",
            "127.0.0.1:8000",
            "127.8.9.1",
            "[::1]:8000",
            "LOCALHOST",
        ] {
            let allowed = check(&format!("http://{host}/v1"), Some("sk-secret"));
            assert!(allowed.ends_with("/v1/chat/completions"), "{allowed}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        assert_eq!(
            check("m.example/v1", None),
            "the model's endpoint \"m.example/v1\" is no address: relative URL without a base; expected one \
             such as https://api.openai.com/v1 or http://127.0.0.1:11434/v1"
        );
        assert!(check("ftp://m.example", None).contains("neither http nor https"));
        assert!(check("", None).contains("is no address"));
        let with_user = check("https://ada:sk-secret@m.example/v1", None);
        assert!(with_user.contains("\"…@m.example/v1\" is no address: it holds a user's name"));
    }

    #[test]
    fn a_key_is_read_without_its_line_end_and_never_shown() {
        let key = Key::parse(" sk-secret\n").unwrap();
        assert_eq!(format!("{key:?}"), "Key(…)");
        assert_eq!(format!("{:?}", key.header()), "Sensitive");
        assert_eq!(key.header().to_str().unwrap(), "Bearer sk-secret");
        let settings = Settings {
            key: Some(key),
            ..Settings::new("https://m.example", "m")
        };
        assert!(!format!("{settings:?}").contains("sk-secret"));
        for bad in [
            "",
            " \n",
            "two words",
            "schl\u{fc}ssel",
            &"k".repeat(KEY_BYTES_MAX + 1),
        ] {
            let error = Key::parse(bad).unwrap_err();
            assert_eq!(error, SettingsError::Key);
            assert!(bad.trim().is_empty() || !error.to_string().contains(bad));
        }
    }
}

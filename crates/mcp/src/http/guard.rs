//! Who may talk to the server over HTTP.
//!
//! On loopback everything on the machine may, unless a token is set; a page in somebody's browser may
//! not, whatever name it gives the machine: `Host` and `Origin` are checked by these lists. Anywhere
//! else a token is asked for.

use std::{fmt, net::SocketAddr};

use http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// Bytes of a token, at least: 16 random ones cannot be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// What a client proves itself by. Never shown.
#[derive(Clone)]
pub struct Token(String);

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "token has {actual} bytes, expected at least {TOKEN_BYTES_MIN}: make one with `openssl rand -hex 32`"
    )]
    Short { actual: usize },
    #[error("token has characters that a header cannot carry, expected visible ASCII alone")]
    Characters,
}

impl Token {
    /// Space around it, such as the end of a file's line, is no part of it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < TOKEN_BYTES_MIN {
            return Err(TokenError::Short { actual: text.len() });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Characters);
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes as long whether they differ early or late.
    fn is(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A server on an address that others reach, without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} can be reached from other machines, expected a token, or a loopback address")]
pub struct Open {
    pub address: SocketAddr,
}

/// Which requests are answered.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Option<Token>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    /// For a server at this address. It is known by `localhost`, by the address itself if that is one,
    /// and by `hosts`; a browser may ask from pages of `origins` (such as `https://app.example.com:443`).
    pub fn new(
        address: SocketAddr,
        token: Option<Token>,
        hosts: impl IntoIterator<Item = String>,
        origins: impl IntoIterator<Item = String>,
    ) -> Result<Self, Open> {
        if token.is_none() && !address.ip().is_loopback() {
            return Err(Open { address });
        }
        let mut known: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        if !address.ip().is_unspecified() {
            known.push(address.ip().to_string());
        }
        known.extend(hosts);
        Ok(Self {
            token,
            hosts: known,
            origins: origins.into_iter().collect(),
        })
    }

    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub(super) fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Whether a request with these headers proves that it may ask.
    pub(super) fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let bytes = value.as_bytes();
        let Some((scheme, rest)) = bytes.split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && token.is(rest.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn guard(address: &str, token: Option<&str>) -> Result<Guard, Open> {
        let token = token.map(|token| Token::parse(token).unwrap());
        Guard::new(address.parse().unwrap(), token, [], [])
    }

    #[test]
    fn who_is_not_alone_on_the_machine_needs_a_token() {
        assert!(guard("127.0.0.1:1", None).is_ok());
        assert!(guard("[::1]:1", None).is_ok());
        assert!(guard("0.0.0.0:1", Some(SECRET)).is_ok());
        for open in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"] {
            let error = guard(open, None).unwrap_err();
            assert!(error.to_string().contains("expected a token"), "{error}");
        }
    }

    #[test]
    fn only_the_token_itself_opens() {
        let guard = guard("127.0.0.1:1", Some(SECRET)).unwrap();
        let check = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            guard.lets_in(&headers)
        };
        let good = format!("Bearer {SECRET}");
        assert!(check(&[&good]));
        assert!(check(&[&format!("bearer  {SECRET}")]));
        assert!(!check(&[]));
        assert!(!check(&[&good, &good]));
        for bad in [
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeg",
            "Basic x",
            SECRET,
        ] {
            assert!(!check(&[bad]), "{bad}");
        }
        assert!(!check(&[&format!("{good}0")]));
    }

    #[test]
    fn a_token_is_read_or_refused_and_never_shown() {
        let token = Token::parse(&format!(" {SECRET}\n")).unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(
            Token::parse("short").unwrap_err(),
            TokenError::Short { actual: 5 }
        );
        let spaced = Token::parse("0123456789 abcdef").unwrap_err();
        assert_eq!(spaced, TokenError::Characters);
    }
}

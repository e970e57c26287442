//! Page tokens: where the next page begins, and for what question. Opaque to callers.
//!
//! ```text
//! hexadecimal of: version (1 byte) · last key (16) · position of the first page (8, big endian)
//!                 · asks (8)
//! ```

use std::{fmt, str::FromStr as _};

use memorygate_core::key::Key;
use memorygate_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

const VERSION: u8 = 1;

const BYTES: usize = 1 + 16 + 8 + 8;

/// Stands for the namespace, the reader, the filter and the moment that a list asks for: the first 8 bytes
/// of SHA-256 over them. A token is good only for the question that it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks([u8; 8]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken {
    /// The page begins after it.
    pub last: Key,
    pub asks: Asks,
    /// The position of the first page: later ones are read there or later.
    pub index: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("is not a token that this server gave")]
    Malformed,
    #[error("was given for another namespace, reader, filter or moment")]
    OtherQuestion,
}

impl PageToken {
    /// What a request asks for, whichever page of it.
    pub fn asks(request: &v1::ListRequest) -> Asks {
        let mut hash = Sha256::new();
        let reader = request
            .reader
            .as_ref()
            .map(v1::Reader::encode_to_vec)
            .unwrap_or_default();
        let filter = request
            .filter
            .as_ref()
            .map(v1::Filter::encode_to_vec)
            .unwrap_or_default();
        // The moment as a request of its own, which encodes what there is of it.
        let moment = request.as_of.map(|as_of| {
            let as_of = Some(as_of);
            v1::ListRequest {
                as_of,
                ..Default::default()
            }
            .encode_to_vec()
        });
        let fields = [request.namespace.as_bytes(), &reader, &filter];
        // Without one the token is what it was before there were moments.
        for field in fields.into_iter().chain(moment.as_deref()) {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Asks(
            *hash
                .finalize()
                .first_chunk()
                .expect("a SHA-256 digest has 32 bytes"),
        )
    }

    pub fn parse(text: &str, asks: Asks) -> Result<Self, TokenError> {
        if text.len() != 2 * BYTES || !text.is_ascii() {
            return Err(TokenError::Malformed);
        }
        let number = |at: usize| u64::from_str_radix(&text[at..at + 16], 16).ok();
        let parse = || {
            if u8::from_str_radix(&text[..2], 16).ok()? != VERSION {
                return None;
            }
            let last = Key::from_str(&text[2..34]).ok()?;
            Some(Self {
                last,
                index: number(34)?,
                asks: Asks(number(50)?.to_be_bytes()),
            })
        };
        let token = parse().ok_or(TokenError::Malformed)?;
        if token.asks == asks {
            Ok(token)
        } else {
            Err(TokenError::OtherQuestion)
        }
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asks = u64::from_be_bytes(self.asks.0);
        write!(
            f,
            "{VERSION:02x}{}{:016x}{asks:016x}",
            self.last, self.index
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_question_only() {
        let request = v1::ListRequest {
            namespace: "a".to_owned(),
            ..Default::default()
        };
        let asks = PageToken::asks(&request);
        let token = PageToken {
            last: Key([7; 16]),
            asks,
            index: 42,
        };
        let text = token.to_string();
        assert_eq!(PageToken::parse(&text, asks), Ok(token));
        let next = v1::ListRequest {
            page_size: 9,
            page_token: text.clone(),
            ..request.clone()
        };
        assert_eq!(
            PageToken::asks(&next),
            asks,
            "page and size are no part of the question"
        );
        let other = v1::ListRequest {
            filter: Some(v1::Filter {
                domains: vec!["x".to_owned()],
                ..Default::default()
            }),
            ..request
        };
        let refused = PageToken::parse(&text, PageToken::asks(&other));
        assert_eq!(refused, Err(TokenError::OtherQuestion));
        for bad in [
            "x",
            &text[1..],
            &text.replace("01", "02"),
            &"ä".repeat(33),
            &"+1".repeat(33),
        ] {
            assert_eq!(
                PageToken::parse(bad, asks),
                Err(TokenError::Malformed),
                "{bad}"
            );
        }
    }
}

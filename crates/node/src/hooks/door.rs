//! Who may tell something: whoever knows the token, and shows it in the way that its system does.

use std::{fmt, fs};

use anyhow::Context as _;
use axum::http::{HeaderMap, header};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Hook;
use crate::settings::{Webhook, expand_home};

/// Holds the token if no file does. It is no setting, since settings are printed.
const VARIABLE: &str = "MEMORYGATE_WEBHOOK_TOKEN";

/// Bytes of a token, at least: 16 random ones cannot be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// What GitLab sends its token in.
const GITLAB: &str = "x-gitlab-token";

/// What GitHub sends its signature of the body in, and what that begins with.
const GITHUB: &str = "x-hub-signature-256";
const GITHUB_SCHEME: &[u8] = b"sha256=";

/// Never shown.
pub(crate) struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The token that file or environment hold, if any.
pub(crate) fn token(
    settings: &Webhook,
    environment: &[(String, String)],
) -> anyhow::Result<Option<Token>> {
    let (text, place) = if settings.token_file.as_os_str().is_empty() {
        let variable = environment.iter().find(|(name, _)| name == VARIABLE);
        match variable {
            Some((_, text)) if !text.trim().is_empty() => (text.clone(), VARIABLE.to_owned()),
            Some(_) | None => return Ok(None),
        }
    } else {
        let path = expand_home(&settings.token_file);
        let place = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("read {place}"))?;
        (text, place)
    };
    // The end of a file's line is no part of it.
    let text = text.trim();
    let actual = text.len();
    anyhow::ensure!(
        actual >= TOKEN_BYTES_MIN,
        "token in {place} has {actual} bytes, expected at least {TOKEN_BYTES_MIN}: make one with \
         `openssl rand -hex 32`"
    );
    anyhow::ensure!(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        "token in {place} has characters that a header cannot carry, expected visible ASCII alone"
    );
    Ok(Some(Token(text.as_bytes().to_owned())))
}

/// What a sender has shown so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The token itself.
    Known,
    /// A signature of the body, which has to be looked at.
    Signed(Vec<u8>),
}

pub(super) struct Door(Token);

impl Door {
    pub(super) fn new(token: Token) -> Self {
        Self(token)
    }

    /// `None` if nothing is shown, something else, or two things.
    pub(super) fn look(&self, hook: Hook, headers: &HeaderMap) -> Option<Pass> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => Some(value.as_bytes()),
                (None, _) | (Some(_), Some(_)) => None,
            }
        };
        let known = |shown: &[u8]| self.knows(shown).then_some(Pass::Known);
        if headers.contains_key(header::AUTHORIZATION) {
            let (scheme, shown) =
                one(header::AUTHORIZATION.as_str())?.split_at_checked("Bearer ".len())?;
            let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
            return is_bearer.then(|| known(shown.trim_ascii())).flatten();
        }
        match hook {
            Hook::Alertmanager => None,
            Hook::Ci if headers.contains_key(GITLAB) => known(one(GITLAB)?),
            Hook::Ci => {
                let signature = one(GITHUB)?.strip_prefix(GITHUB_SCHEME)?;
                Some(Pass::Signed(hexadecimal(signature)?))
            }
        }
    }

    /// Takes as long whether they differ early or late.
    fn knows(&self, shown: &[u8]) -> bool {
        self.0.0.ct_eq(shown).into()
    }

    /// Whether the token signed the body so (HMAC-SHA256).
    pub(super) fn signed(&self, body: &[u8], signature: &[u8]) -> bool {
        let mut signing =
            Hmac::<Sha256>::new_from_slice(&self.0.0).expect("a key of any length will do");
        signing.update(body);
        signing.verify_slice(signature).is_ok()
    }
}

/// Pairs of hexadecimal digits, as bytes.
fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's-a-Secret-to-Everybody";

    fn door() -> Door {
        Door::new(Token(SECRET.as_bytes().to_owned()))
    }

    fn look(hook: Hook, headers: &[(&'static str, &str)]) -> Option<Pass> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        door().look(hook, &map)
    }

    #[test]
    fn each_system_shows_the_token_in_its_way() {
        let bearer = format!("Bearer {SECRET}");
        for hook in [Hook::Alertmanager, Hook::Ci] {
            assert_eq!(look(hook, &[("authorization", &bearer)]), Some(Pass::Known));
            assert_eq!(look(hook, &[]), None);
            assert_eq!(look(hook, &[("authorization", "Bearer other")]), None);
            assert_eq!(look(hook, &[("authorization", SECRET)]), None);
            let twice = [
                ("authorization", bearer.as_str()),
                ("authorization", &bearer),
            ];
            assert_eq!(look(hook, &twice), None);
        }
        assert_eq!(look(Hook::Ci, &[(GITLAB, SECRET)]), Some(Pass::Known));
        assert_eq!(look(Hook::Ci, &[(GITLAB, "other")]), None);
        assert_eq!(look(Hook::Alertmanager, &[(GITLAB, SECRET)]), None);
        // A wrong token is not made good by something else beside it.
        let both = [("authorization", "Bearer other"), (GITLAB, SECRET)];
        assert_eq!(look(Hook::Ci, &both), None);
        assert_eq!(
            look(Hook::Ci, &[(GITHUB, "sha256=0aff")]),
            Some(Pass::Signed(vec![10, 255]))
        );
        for bad in ["sha256=0af", "sha256=xx", "0aff", "sha1=0aff"] {
            assert_eq!(look(Hook::Ci, &[(GITHUB, bad)]), None, "{bad}");
        }
    }

    /// The sender's own example: docs.github.com, "Validating webhook deliveries".
    #[test]
    fn a_signature_is_that_of_the_sender() {
        let example = Door::new(Token(b"It's a Secret to Everybody".to_vec()));
        let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signature = hexadecimal(signature.as_bytes()).unwrap();
        assert!(example.signed(b"Hello, World!", &signature));
        assert!(!example.signed(b"Hello, World?", &signature));
        assert!(!example.signed(b"Hello, World!", &signature[..31]));
        assert!(!door().signed(b"Hello, World!", &signature));
    }

    #[test]
    fn a_token_is_read_from_file_or_environment_and_never_shown() {
        let variable = |text: &str| [(VARIABLE.to_owned(), text.to_owned())];
        let none = Webhook::default();
        assert!(token(&none, &[]).unwrap().is_none());
        assert!(token(&none, &variable(" ")).unwrap().is_none());
        let read = token(&none, &variable(&format!("{SECRET}\n")))
            .unwrap()
            .unwrap();
        assert_eq!(read.0, SECRET.as_bytes());
        assert_eq!(format!("{read:?}"), "Token(…)");
        let error = token(&none, &variable("short")).unwrap_err().to_string();
        assert!(
            error.contains("has 5 bytes, expected at least 16"),
            "{error}"
        );
        let error = token(&none, &variable("0123456789 abcdef")).unwrap_err();
        assert!(error.to_string().contains("visible ASCII"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        let file = Webhook {
            token_file: token_file.clone(),
            ..none
        };
        assert!(
            token(&file, &variable(SECRET)).is_err(),
            "the file is missing"
        );
        fs::write(&token_file, "of the file 0123").unwrap();
        assert!(token(&file, &[]).is_err());
        fs::write(&token_file, "of-the-file-0123\n").unwrap();
        let read = token(&file, &variable(SECRET)).unwrap().unwrap();
        assert_eq!(read.0, b"of-the-file-0123");
    }
}

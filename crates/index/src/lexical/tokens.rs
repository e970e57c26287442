//! From text to terms: words as people use them, and identifiers as machines print them.
//!
//! ```text
//! "Pod web-7f9c was OOMKilled"
//!   words        pod · web · 7f9c · was · oomkil          counted in the length
//!   humps        oom · kill                               from OOMKilled
//!   identifiers  web-7f9c                                 kept whole
//! ```
//!
//! - A **word** is a run of letters and digits, in lower case, stemmed by Snowball's English rules
//!   where it is plain ASCII. Han and kana have no spaces between words: there every two
//!   neighbouring characters are a word.
//! - A word in mixed case (`CrashLoopBackOff`) also gives its **humps**, so that it is found by
//!   `back off`.
//! - An **identifier** is a run of letters and digits joined by punctuation other than quotes,
//!   brackets, `;`, `!` and `?`: `/etc/nginx/nginx.conf`, `v1.29.3`, `ERR_CONN_RESET`,
//!   `10.0.0.7:8080`. It is kept whole, in lower case and without what leads or trails; and so is
//!   each identifier that it consists of between `/`, `:`, `=`, `@` and `,` (`nginx.conf`).
//!
//! Humps and identifiers are terms like any other, found and weighed by how rare they are, but
//! only words count in a text's length: a log line full of paths is not longer for them, and on
//! plain prose the scores are exactly those of BM25 over stemmed words.

mod stems;

use std::iter;

use rust_stemmers::{Algorithm, Stemmer};

use self::stems::Stems;

/// Bytes of the longest identifier that is kept whole, above a SHA-512 digest with its algorithm's
/// and image's name. Longer runs are encoded data, which nobody types; their words remain.
const IDENTIFIER_BYTES_MAX: usize = 256;

/// Bytes of the longest word. Longer runs of letters are encoded data too; they count in the
/// length, and are cut to this.
const WORD_BYTES_MAX: usize = 64;

/// Takes texts apart. Cheap to make, and without state between texts.
pub(crate) struct Tokenizer {
    english: Stemmer,
}

/// What a text consists of: words, then humps and identifiers, one term an occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    terms: Terms,
    /// How many of the terms, from the first on, are words: the length of the text.
    pub(crate) words: u32,
}

impl Tokens {
    pub(crate) fn terms(&self) -> impl Iterator<Item = &str> {
        self.terms.iter()
    }
}

/// Terms one behind the other in one text: one of their own each would be some hundred allocations
/// for a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Terms {
    text: String,
    /// By term: where it ends in the text.
    ends: Vec<usize>,
}

impl Terms {
    /// Adds what `write` writes as one term.
    fn push(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
        self.ends.push(self.text.len());
    }

    fn append(&mut self, other: &Self) {
        let before = self.text.len();
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[start..*end])
    }
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self {
            english: Stemmer::create(Algorithm::English),
        }
    }
}

impl Tokenizer {
    pub(crate) fn tokens(&self, text: &str) -> Tokens {
        let mut words = Terms {
            text: String::with_capacity(text.len()),
            ends: Vec::with_capacity(text.len() / 4),
        };
        let mut more = Terms::default();
        for run in text.split(|c: char| !c.is_alphanumeric()) {
            if run.is_empty() {
                continue;
            }
            if !run.is_ascii() && run.chars().any(is_unspaced) {
                unspaced(run, &mut words);
                continue;
            }
            self.word(run, &mut words);
            let humps = humps(run);
            if humps.len() > 1 {
                for hump in humps.iter().filter(|h| h.len() > 1) {
                    self.word(hump, &mut more);
                }
            }
        }
        for run in text.split(|c: char| !c.is_alphanumeric() && !JOINERS.contains(&c)) {
            identifiers(run, &mut more);
        }
        let count = u32::try_from(words.ends.len()).expect("a content is at most 64 KiB");
        words.append(&more);
        Tokens {
            terms: words,
            words: count,
        }
    }

    fn word(&self, run: &str, into: &mut Terms) {
        let run = cut(run, WORD_BYTES_MAX);
        if run.is_ascii() {
            let stem = |word: &str| self.english.stem(word).into_owned();
            into.push(|text| Stems::of_this_thread(run, stem, text));
        } else {
            into.push(|text| text.push_str(&run.to_lowercase()));
        }
    }
}

/// The longest start of `text` within `bytes` that ends between characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Han and kana: scripts that are written without spaces.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// Every two neighbouring characters; a character without neighbours stands alone.
fn unspaced(run: &str, words: &mut Terms) {
    let run = run.to_lowercase();
    let chars: Vec<char> = run.chars().collect();
    if let [alone] = chars[..] {
        words.push(|text| text.push(alone));
    }
    for pair in chars.windows(2) {
        words.push(|text| text.extend(pair));
    }
}

/// Where letter case says that a new word begins: `crashLoop` and `HTTPServer`, not `APIs`.
fn humps(run: &str) -> Vec<&str> {
    let bytes = run.as_bytes();
    let mut humps = Vec::new();
    let has_capitals = || bytes.iter().skip(1).any(u8::is_ascii_uppercase);
    if !run.is_ascii() || run.len() > WORD_BYTES_MAX || !has_capitals() {
        return humps;
    }
    let mut start = 0;
    for at in 1..bytes.len() {
        if !bytes[at].is_ascii_uppercase() {
            continue;
        }
        let after_lower =
            !bytes[at - 1].is_ascii_uppercase() && bytes[at - 1].is_ascii_alphabetic();
        let before_lower = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let plural = &bytes[at + 1..] == b"s";
        if after_lower || (before_lower && !plural) {
            humps.push(&run[start..at]);
            start = at;
        }
    }
    humps.push(&run[start..]);
    humps
}

/// What may stand inside of an identifier beside letters and digits.
const JOINERS: [char; 17] = [
    '-', '_', '.', '/', ':', '@', '=', '+', '#', '~', '%', '&', ',', '\\', '$', '*', '^',
];

/// Joiners between the identifiers that a longer one consists of.
const SEPARATORS: [char; 5] = ['/', ':', '=', '@', ','];

/// The run as a whole, and the identifiers that it consists of.
fn identifiers(run: &str, into: &mut Terms) {
    let whole = run.trim_matches(|c: char| !c.is_alphanumeric());
    if whole.len() > IDENTIFIER_BYTES_MAX {
        return;
    }
    if !is_identifier(whole) {
        return;
    }
    into.push(|text| lower(whole, text));
    if whole.contains(SEPARATORS) {
        for part in whole.split(SEPARATORS) {
            let part = part.trim_matches(|c: char| !c.is_alphanumeric());
            if is_identifier(part) {
                into.push(|text| lower(part, text));
            }
        }
    }
}

/// Appends an identifier in lower case.
fn lower(identifier: &str, text: &mut String) {
    if identifier.is_ascii() {
        let start = text.len();
        text.push_str(identifier);
        text[start..].make_ascii_lowercase();
    } else {
        text.push_str(&identifier.to_lowercase());
    }
}

/// Letters or digits with punctuation inside. It was trimmed, so any punctuation is inside.
fn is_identifier(text: &str) -> bool {
    text.contains(|c: char| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> String {
        let tokens = Tokenizer::default().tokens(text);
        let terms: Vec<&str> = tokens.terms().collect();
        let (words, more) = terms.split_at(tokens.words as usize);
        format!("{} | {}", words.join(" "), more.join(" "))
    }

    #[test]
    fn prose_is_stemmed_words() {
        assert_eq!(
            check("The deployments failed; I'm restarting it!"),
            "the deploy fail i m restart it | "
        );
        assert_eq!(check(""), " | ");
        assert_eq!(check("… — !"), " | ");
    }

    #[test]
    fn identifiers_are_kept_whole() {
        let whole = |text: &str| check(text).split_once(" | ").unwrap().1.to_owned();
        assert_eq!(whole("pod web-7f9c."), "web-7f9c");
        assert_eq!(
            whole("see /etc/nginx/nginx.conf:"),
            "etc/nginx/nginx.conf nginx.conf"
        );
        assert_eq!(whole("(ERR_CONN_RESET)"), "err_conn_reset");
        assert_eq!(whole("on v1.29.3, now"), "v1.29.3");
        assert_eq!(
            whole("`ingress-nginx/controller`"),
            "ingress-nginx/controller ingress-nginx"
        );
        assert_eq!(whole("10.0.0.7:8080 up"), "10.0.0.7:8080 10.0.0.7");
        assert_eq!(
            whole("kubectl.kubernetes.io/last-applied"),
            "kubectl.kubernetes.io/last-applied kubectl.kubernetes.io last-applied"
        );
        assert_eq!(whole("image@sha256:9f86d081"), "image@sha256:9f86d081");
        assert_eq!(whole("--max-surge=25%"), "max-surge=25 max-surge");
        assert_eq!(
            whole(&format!("x/{}", "y".repeat(300))),
            "",
            "encoded data is not kept whole"
        );
    }

    #[test]
    fn humps_are_found_one_by_one() {
        assert_eq!(check("OOMKilled"), "oomkil | oom kill");
        assert_eq!(
            check("CrashLoopBackOff"),
            "crashloopbackoff | crash loop back off"
        );
        assert_eq!(
            check("getHTTPResponse2"),
            "gethttpresponse2 | get http response2"
        );
        assert_eq!(
            check("APIs VMs iPhone Kubernetes NASA x2Y"),
            "api vms iphon kubernet nasa x2i | phone"
        );
    }

    #[test]
    fn other_languages_keep_their_letters() {
        assert_eq!(check("Größe überprüfen"), "größe überprüfen | ");
        assert_eq!(check("ПЕРЕЗАПУСК узла"), "перезапуск узла | ");
        assert_eq!(check("再起動 pod 水"), "再起 起動 pod 水 | ");
    }

    #[test]
    fn the_longest_runs_are_bounded() {
        let tokens = Tokenizer::default().tokens(&"é".repeat(32 * 1024));
        let lengths: Vec<usize> = tokens.terms().map(str::len).collect();
        assert_eq!((tokens.words, &lengths[..]), (1, &[WORD_BYTES_MAX][..]));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}") {
            let tokens = Tokenizer::default().tokens(&text);
            prop_assert!(tokens.words as usize <= tokens.terms().count());
            prop_assert!(tokens.terms().all(|t| !t.is_empty() && !t.contains(' ')));
        }
    }
}

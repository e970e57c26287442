//! The errors of a log: lines that differ in numbers alone are one.

use std::io::{BufRead, Read as _};

use super::symptom::{Sign, Symptoms, Unreadable};

/// Bytes of one line; the rest of it is passed over.
const LINE_BYTES_MAX: u64 = 4096;

/// Words of a line that tells of something wrong, in lower case.
const WRONG: &[&str] = &[
    "error",
    "fatal",
    "panic",
    "exception",
    "fail",
    "critical",
    "refused",
    "timeout",
    "timed out",
    "denied",
    "killed",
    "cannot",
    "unable",
];

pub(super) fn read(mut lines: impl BufRead, symptoms: &mut Symptoms) -> Result<(), Unreadable> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let read = read.map_err(|error| Unreadable::Io {
            reason: error.to_string(),
        })?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            let rest = lines.skip_until(b'\n');
            rest.map_err(|error| Unreadable::Io {
                reason: error.to_string(),
            })?;
        }
        let text = String::from_utf8_lossy(&line);
        let lower = text.to_lowercase();
        if Sign::of(&text) != Sign::Other || WRONG.iter().any(|word| lower.contains(word)) {
            symptoms.add(message(&text), 1);
        }
    }
}

/// The line without the time that it begins with.
fn message(line: &str) -> &str {
    let is_time = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit() || c == '[')
            && word.chars().any(|c| c == ':' || c == '-' || c == '/')
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || "[]:-/.,TZ+".contains(c))
    };
    let mut rest = line.trim();
    while let Some((first, more)) = rest.split_once(char::is_whitespace) {
        if !is_time(first) {
            break;
        }
        rest = more.trim_start();
    }
    rest
}

//! How text looks on a terminal: colours where they are wanted, lines that fit, and nothing in a
//! memory that could drive the terminal.

use std::{env, io::IsTerminal as _};

/// Width of text that goes to no terminal, and the most of one that does: longer lines read badly.
const WIDTH_MAX: usize = 100;

/// Characters of a text that are shown however little room there is.
const QUOTED_MIN: usize = 24;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) color: bool,
    pub(crate) width: usize,
}

impl Style {
    /// As standard output wants it: colours on a terminal only, and not if `NO_COLOR` is set (to
    /// anything; see no-color.org) or the terminal is dumb.
    pub(crate) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        let columns = comfy_table::Table::new().width().map(usize::from);
        Self {
            color: terminal && !unwanted,
            width: columns.unwrap_or(WIDTH_MAX).clamp(40, WIDTH_MAX),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What a person has to look at.
    pub(crate) fn alert(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The text with everything written out that a terminal would obey instead of showing.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c == '\n' || c == '\t' {
            clean.push(c);
        } else if c.is_control() || reorders {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// A number of bytes in the largest unit of which there is at least one.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let power = (count.ilog2() / 10).min(5);
    let scaled = count as f64 / f64::from(1 << 10_u32).powi(power as i32);
    format!("{scaled:.1} {}", UNITS[power as usize - 1])
}

/// `1 member`, `2 members`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Lines of at most `width` characters, broken between words where there are any.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in printable(text).replace('\t', "    ").lines() {
        let mut current = String::new();
        let mut length = 0;
        for word in line.split(' ') {
            let mut word = word.to_owned();
            let mut word_length = word.chars().count();
            if length > 0 && length + 1 + word_length > width {
                lines.push(std::mem::take(&mut current));
                length = 0;
            } else if !current.is_empty() || length > 0 {
                current.push(' ');
                length += 1;
            }
            while word_length > width {
                let rest: String = word.chars().skip(width).collect();
                lines.push(word.chars().take(width).collect());
                word = rest;
                word_length -= width;
            }
            current.push_str(&word);
            length += word_length;
        }
        lines.push(current);
    }
    lines
}

/// The first line, cut to `width` characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let clean = printable(text).replace(['\n', '\t'], " ");
    if clean.chars().count() <= width {
        return clean;
    }
    let start: String = clean.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", start.trim_end())
}

/// The text on one line, in quotes, as much of it as there is room for beside `taken` characters of a
/// line of `width`, but at least [`QUOTED_MIN`].
pub(crate) fn quoted(text: &str, width: usize, taken: usize) -> String {
    let room = width.saturating_sub(taken + 2).max(QUOTED_MIN);
    format!("\"{}\"", one_line(text, room))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("a\n\nb", 9), ["a", "", "b"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert!(wrap("", 9).is_empty());
    }

    #[test]
    fn a_memory_cannot_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[2Jx\ty"), "\\u{1b}[2Jx\ty");
        assert_eq!(printable("\u{202e}x"), "\\u{202e}x");
        assert_eq!(one_line("a\nb\r\n\u{7}", 20), "a b\\u{d} \\u{7}");
        assert_eq!(one_line("abcdef", 4), "abc…");
        let long = "x".repeat(99);
        assert_eq!(quoted("a\nb", 40, 10), "\"a b\"");
        assert_eq!(quoted(&long, 80, 40).chars().count(), 40);
        assert_eq!(quoted(&long, 40, 40).chars().count(), QUOTED_MIN + 2);
    }

    #[test]
    fn bytes_are_told_in_a_unit_that_reads_well() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (33_822_867_456, "31.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn colours_are_written_only_where_they_are_wanted() {
        let style = |color| Style { color, width: 80 };
        assert_eq!(style(true).bold("x"), "\u{1b}[1mx\u{1b}[0m");
        assert_eq!(style(false).dim("x"), "x");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_word_is_lost(text in "[a-zäß ]{0,200}", width in 1..40_usize) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|l| l.chars().count() <= width));
            let letters = |t: &str| t.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}

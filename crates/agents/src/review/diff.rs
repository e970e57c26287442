//! A unified diff as git writes it, read strictly: a line that does not fit is named.
//!
//! Only the side after the change is kept: that is what a finding points at. Parsers that there are
//! tell a byte and no line, skip what they do not know, or take a combined diff for none.

use std::borrow::Cow;

/// Bytes of a diff.
pub const DIFF_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Files of a diff.
pub const FILES_MAX: usize = 2000;
/// Hunks of all its files.
pub const HUNKS_MAX: usize = 20_000;
/// Bytes that are kept of a line; the rest of generated or packed ones teaches nothing.
pub const LINE_BYTES_MAX: usize = 1024;
/// Bytes of a path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Lines of one file that can be numbered.
const NUMBER_MAX: u32 = 100_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Diff {
    /// In the order of the diff. Binary and merely renamed files have no hunks.
    pub files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct File {
    /// After the change; before it, of a file that was removed.
    pub path: String,
    pub is_binary: bool,
    pub hunks: Vec<Hunk>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hunk {
    /// What stands there after the change.
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u32,
    pub text: String,
    pub is_added: bool,
}

/// What does not fit, and on which line of the diff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the diff: {what}")]
pub struct Error {
    pub line: usize,
    pub what: String,
}

impl Diff {
    /// Reads what `git diff`, `git show` or `git format-patch` wrote; text before and between the
    /// files' parts is passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > DIFF_BYTES_MAX {
            let actual = bytes.len();
            return Err(Error {
                line: 1,
                what: format!(
                    "it has {actual} bytes, expected at most {DIFF_BYTES_MAX}: leave out generated files"
                ),
            });
        }
        let mut reader = Reader::default();
        // The end of the last line begins no further one.
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let read = reader.line(line);
            read.map_err(|what| Error { line: at + 1, what })?;
            reader.number = at + 1;
        }
        let line = reader.number;
        reader.finish().map_err(|what| Error { line, what })
    }

    /// The file with this path after the change.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl Hunk {
    pub fn added(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.is_added)
    }
}

#[derive(Default)]
struct Reader {
    diff: Diff,
    hunks: usize,
    /// Lines read.
    number: usize,
    place: Place,
}

/// What may come next.
#[derive(Default, Clone, Copy, PartialEq)]
enum Place {
    /// Text that is no diff.
    #[default]
    Outside,
    /// After `diff --git`: what is said of a file.
    Head,
    /// After `---`.
    NewPath,
    /// After a file's paths, or after a whole hunk.
    Between {
        is_after_hunk: bool,
    },
    Hunk(Left),
    /// The bytes of a binary file.
    Binary,
}

/// Lines that a hunk still has.
#[derive(Clone, Copy, PartialEq)]
struct Left {
    old: u32,
    new: u32,
    next: u32,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if let Place::Hunk(left) = self.place {
            return self.content(left, line);
        }
        let text = String::from_utf8_lossy(line);
        if self.place == Place::NewPath {
            let Some(path) = text.strip_prefix("+++ ") else {
                return Err(
                    "expected `+++` and the path after the change, as `---` stands above it"
                        .to_owned(),
                );
            };
            if let Some(path) = path_of(path)? {
                self.file().path = path;
            } else if self.file().path.is_empty() {
                return Err("both paths are /dev/null, expected one of a file".to_owned());
            }
            self.place = Place::Between {
                is_after_hunk: false,
            };
            return Ok(());
        }
        self.head(&text)
    }

    /// A line that is in no hunk.
    fn head(&mut self, text: &str) -> Result<(), String> {
        if text.starts_with("diff --cc ")
            || text.starts_with("diff --combined ")
            || text.starts_with("@@@ ")
        {
            return Err("it is a combined diff of a merge: make one against the first parent, with `git diff HEAD^1`".to_owned());
        }
        if let Some(paths) = text.strip_prefix("diff --git ") {
            let path = path_after(paths)?;
            self.begin(path)?;
            self.place = Place::Head;
        } else if self.place == Place::Binary {
        } else if text.starts_with("@@ ") {
            self.hunk(text)?;
        } else if let Some(path) = text.strip_prefix("--- ").filter(|_| self.is_path(text)) {
            if self.place != Place::Head {
                self.begin(String::new())?;
            }
            if let Some(path) = path_of(path)? {
                self.file().path = path;
            }
            self.place = Place::NewPath;
        } else if text.starts_with("+++ ") && self.place != Place::Outside {
            return Err("`+++` without `---` before it: the diff is cut or was edited".to_owned());
        } else if let (Place::Head, Some(path)) = (self.place, renamed(text)) {
            self.file().path = path_of_rename(path)?;
        } else if text.starts_with("Binary files ") && self.place == Place::Head {
            self.file().is_binary = true;
        } else if text == "GIT binary patch" && self.place == Place::Head {
            self.file().is_binary = true;
            self.place = Place::Binary;
        } else if let Place::Between { is_after_hunk } = self.place {
            self.after(is_after_hunk, text)?;
        }
        Ok(())
    }

    /// A mail ends in `-- ` and git's version, which is no removed line; in text outside, a line of
    /// dashes means nothing.
    fn is_path(&self, text: &str) -> bool {
        self.place == Place::Head
            || matches!(self.place, Place::Between { .. })
            || ["--- a/", "--- /dev/null", "--- \"a/"]
                .iter()
                .any(|start| text.starts_with(start))
    }

    fn after(&mut self, is_after_hunk: bool, text: &str) -> Result<(), String> {
        if !is_after_hunk {
            return Err(
                "expected a hunk, `@@ -line,count +line,count @@`, after the paths".to_owned(),
            );
        }
        if text.starts_with('\\') {
            return Ok(());
        }
        if text == "-- " || text == "--" {
            self.place = Place::Outside;
        } else if text.starts_with(['+', '-', ' ']) {
            return Err(
                "the hunk has more lines than its header says: the diff was edited".to_owned(),
            );
        } else if !text.is_empty() {
            self.place = Place::Outside;
        }
        Ok(())
    }

    fn begin(&mut self, path: String) -> Result<(), String> {
        if self.diff.files.len() == FILES_MAX {
            return Err(format!("more than {FILES_MAX} files: review it in parts"));
        }
        self.diff.files.push(File {
            path,
            ..File::default()
        });
        Ok(())
    }

    fn file(&mut self) -> &mut File {
        self.diff.files.last_mut().expect("a file was begun")
    }

    fn hunk(&mut self, text: &str) -> Result<(), String> {
        if !matches!(self.place, Place::Between { .. }) {
            return Err("a hunk without `---` and `+++` before it: the diff is cut".to_owned());
        }
        let Some((old, new, next)) = ranges(text) else {
            return Err("expected `@@ -line,count +line,count @@`".to_owned());
        };
        if self.hunks == HUNKS_MAX {
            return Err(format!("more than {HUNKS_MAX} hunks: review it in parts"));
        }
        self.hunks += 1;
        self.file().hunks.push(Hunk::default());
        self.go_on(Left { old, new, next });
        Ok(())
    }

    fn content(&mut self, mut left: Left, line: &[u8]) -> Result<(), String> {
        // Mail programs and editors cut the blank of an empty line.
        let (mark, text) = line
            .split_first()
            .map_or((b' ', line), |(mark, text)| (*mark, text));
        let (old, new) = match mark {
            b' ' => (1, 1),
            b'-' => (1, 0),
            b'+' => (0, 1),
            b'\\' => return Ok(()),
            _ => {
                return Err(format!(
                    "expected a line that begins with a blank, `+` or `-`, as the hunk has {} more lines before and {} after the change",
                    left.old, left.new
                ));
            }
        };
        let (Some(old), Some(rest)) = (left.old.checked_sub(old), left.new.checked_sub(new)) else {
            return Err(
                "the hunk has more such lines than its header says: the diff was edited".to_owned(),
            );
        };
        if new == 1 {
            let text = head(&String::from_utf8_lossy(text), LINE_BYTES_MAX).to_owned();
            let number = left.next;
            let hunk = self.file().hunks.last_mut().expect("a hunk was begun");
            hunk.lines.push(Line {
                number,
                text,
                is_added: mark == b'+',
            });
            left.next += 1;
        }
        self.go_on(Left {
            old,
            new: rest,
            ..left
        });
        Ok(())
    }

    fn go_on(&mut self, left: Left) {
        self.place = if left.old == 0 && left.new == 0 {
            Place::Between {
                is_after_hunk: true,
            }
        } else {
            Place::Hunk(left)
        };
    }

    fn finish(self) -> Result<Diff, String> {
        match self.place {
            Place::Hunk(left) => Err(format!(
                "it ends within a hunk, expected {} more lines before and {} after the change",
                left.old, left.new
            )),
            Place::NewPath => Err("it ends after `---`, expected `+++`".to_owned()),
            Place::Between {
                is_after_hunk: false,
            } => Err("it ends before the first hunk of a file".to_owned()),
            _ if self.diff.files.is_empty() => {
                Err("no diff in it: expected what `git diff` prints".to_owned())
            }
            Place::Outside | Place::Head | Place::Between { .. } | Place::Binary => Ok(self.diff),
        }
    }
}

/// Lines before, lines after, and the number of the first one after the change.
fn ranges(text: &str) -> Option<(u32, u32, u32)> {
    let (ranges, _) = text.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let (_, old) = range(old)?;
    let (start, new) = range(new)?;
    Some((old, new, start))
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (start, count) = text.split_once(',').unwrap_or((text, "1"));
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|n| is_number && *n <= NUMBER_MAX)
    };
    Some((number(start)?, number(count)?))
}

fn renamed(text: &str) -> Option<&str> {
    text.strip_prefix("rename to ")
        .or_else(|| text.strip_prefix("copy to "))
}

fn path_of_rename(text: &str) -> Result<String, String> {
    bounded(unquoted(text)?.into_owned())
}

/// The second of two paths; both are the same but for a renamed file, which says so again.
fn path_after(text: &str) -> Result<String, String> {
    if let Some(quoted) = text.strip_suffix('"') {
        let at = quoted.rfind(" \"").map_or(0, |at| at + 1);
        return Ok(path_of(&text[at..])?.unwrap_or_default());
    }
    let same = text.match_indices(" b/").map(|(at, _)| at);
    let mut halves = same.filter(|at| text.get(2..*at).is_some_and(|old| old == &text[at + 3..]));
    let at = halves
        .next()
        .or_else(|| text.rfind(' '))
        .map_or(0, |at| at + 1);
    Ok(path_of(&text[at..])?.unwrap_or_default())
}

/// `None` for /dev/null.
fn path_of(text: &str) -> Result<Option<String>, String> {
    // What other programs write behind a path is its time, after a tab.
    let text = text.split_once('\t').map_or(text, |(path, _)| path);
    let path = unquoted(text)?;
    if path == "/dev/null" {
        return Ok(None);
    }
    let prefixes = ["a/", "b/", "i/", "w/", "c/", "o/"];
    let bare = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix));
    bounded(bare.unwrap_or(&path).to_owned()).map(Some)
}

fn bounded(path: String) -> Result<String, String> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "a path has {} bytes, expected 1 to {PATH_BYTES_MAX}",
            path.len()
        ));
    }
    Ok(path)
}

/// Git quotes a path with unusual bytes as C does.
fn unquoted(text: &str) -> Result<Cow<'_, str>, String> {
    let Some(inner) = text.strip_prefix('"') else {
        return Ok(Cow::Borrowed(text));
    };
    let broken = || "a quoted path does not end, or escapes what git would not".to_owned();
    let inner = inner.strip_suffix('"').ok_or_else(broken)?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().ok_or_else(broken)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            byte @ (b'"' | b'\\') => byte,
            first @ b'0'..=b'3' => {
                let mut value = first - b'0';
                for _ in 0..2 {
                    let digit = rest
                        .next()
                        .filter(|b| (b'0'..=b'7').contains(b))
                        .ok_or_else(broken)?;
                    value = value * 8 + (digit - b'0');
                }
                value
            }
            _ => return Err(broken()),
        });
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// At most so many bytes of the beginning.
pub(super) fn head(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;

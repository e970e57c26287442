//! A change of a manifest: at the line of the value, so that comments and layout stay, and proven by reading
//! what came out: exactly what was meant has changed, or there is no edit. The same as `kubectl patch`.

use std::path::{Component, Path};

use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::yaml::{self, Content, Document};

/// Lines around a change in a diff.
const CONTEXT_LINES: usize = 3;

/// What is to be different in one document, or a document more.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Edit { document: usize, edits: Vec<Edit> },
    Append(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    pub(super) path: Vec<Key>,
    /// `None` removes it.
    pub(super) value: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name(String),
    At(usize),
}

/// Names, and places in lists where a part is a number: `spec.template.spec.containers.0.image`.
pub(super) fn path(base: &[Key], dotted: &str) -> Vec<Key> {
    let keys = dotted.split('.').filter(|part| !part.is_empty());
    let key = |part: &str| match part.parse() {
        Ok(at) => Key::At(at),
        Err(_) => Key::Name(part.to_owned()),
    };
    base.iter().cloned().chain(keys.map(key)).collect()
}

pub(super) fn at<'a>(value: &'a Value, path: &[Key]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| match key {
        Key::Name(name) => value.get(name),
        Key::At(at) => value.get(at),
    })
}

/// The line that the value stands on, or the nearest one that holds it: from 1, in its file.
pub(super) fn line(document: &Document, path: &[Key]) -> Option<usize> {
    let (_, node) = document.deepest(path)?;
    Some(document.nodes[node].line)
}

/// The text after the changes, or why they cannot be written into it.
pub(super) fn applied(text: &str, changes: &[&Change]) -> Result<String, String> {
    let mut text = text.to_owned();
    for change in changes {
        text = match change {
            Change::Append(value) => appended(&text, value)?,
            Change::Edit { document, edits } => edited(&text, *document, edits)?,
        };
    }
    Ok(text)
}

/// A unified diff that `git apply` and `patch -p1` take, of a file as [`name_in_diff`] names it.
pub(super) fn diff(name: &str, before: &str, after: &str) -> String {
    // Git knows no other end of a line.
    let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
    let diff = TextDiff::configure()
        .newline_terminated(true)
        .diff_slices(&lines(before), &lines(after));
    diff.unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(&path_in_diff('a', name), &path_in_diff('b', name))
        .to_string()
}

/// What a diff calls a file: the way to it from the folder in which the diff is applied. Git takes none that
/// leads out of there, so a file that stands elsewhere has its name alone.
pub(super) fn name_in_diff(file: &str) -> String {
    let path = Path::new(file);
    let is_below = path
        .components()
        .all(|part| matches!(part, Component::CurDir | Component::Normal(_)));
    let mut names: Vec<&str> = Vec::new();
    for part in path.components() {
        if let Component::Normal(name) = part {
            names.extend(name.to_str());
        }
    }
    if !is_below {
        names.drain(..names.len().saturating_sub(1));
    }
    names.join("/")
}

/// As git writes a path: with a tab behind one that has blanks, and in quotes where a character could be taken
/// for something else.
fn path_in_diff(side: char, name: &str) -> String {
    let is_plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if name.chars().all(is_plain) {
        let tab = if name.contains(' ') { "\t" } else { "" };
        return format!("{side}/{name}{tab}");
    }
    let mut quoted = format!("\"{side}/");
    for c in name.chars() {
        if is_plain(c) {
            quoted.push(c);
        } else {
            let bytes = c.to_string().into_bytes();
            quoted.extend(bytes.iter().map(|byte| format!("\\{byte:03o}")));
        }
    }
    quoted + "\""
}

/// As a strategic merge patch: lists are merged by the names of their items.
pub(super) fn merge_patch(original: &Value, base: usize, edits: &[Edit]) -> Value {
    let mut patch = json!({});
    for edit in edits {
        let value = edit.value.clone().unwrap_or(Value::Null);
        graft(&mut patch, original, &edit.path, base, value);
    }
    patch
}

fn graft(patch: &mut Value, original: &Value, path: &[Key], skip: usize, value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *patch = value;
        return;
    };
    let below = match key {
        Key::Name(name) => original.get(name),
        Key::At(at) => original.get(at),
    };
    let below = below.unwrap_or(&Value::Null);
    if skip > 0 {
        return graft(patch, below, rest, skip - 1, value);
    }
    match key {
        Key::Name(name) => {
            if !patch.is_object() {
                *patch = json!({});
            }
            graft(&mut patch[name.as_str()], below, rest, 0, value);
        }
        Key::At(_) => {
            let name = &below["name"];
            if !patch.is_array() {
                *patch = json!([]);
            }
            let Value::Array(items) = patch else { return };
            let known = items.iter().position(|item| item["name"] == *name);
            let at = known.unwrap_or_else(|| {
                items.push(json!({ "name": name }));
                items.len() - 1
            });
            graft(&mut items[at], below, rest, 0, value);
        }
    }
}

/// The value after the edits: what the text has to say.
fn meant(value: &Value, edits: &[Edit]) -> Option<Value> {
    let mut value = value.clone();
    for edit in edits {
        let (last, path) = edit.path.split_last()?;
        let mut place = &mut value;
        for key in path {
            place = match key {
                Key::At(at) => place.get_mut(at)?,
                Key::Name(name) => {
                    if place.is_null() {
                        *place = Value::Object(Map::new());
                    }
                    let map = place.as_object_mut()?;
                    map.entry(name.clone()).or_insert(Value::Null)
                }
            };
        }
        let Key::Name(name) = last else { return None };
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let map = place.as_object_mut()?;
        match &edit.value {
            Some(value) => map.insert(name.clone(), value.clone()),
            None => map.remove(name),
        };
    }
    Some(value)
}

fn appended(text: &str, value: &Value) -> Result<String, String> {
    let end = line_end(text);
    let mut after = text.to_owned();
    if !after.is_empty() && !after.ends_with('\n') {
        after.push_str(end);
    }
    after.push_str("---");
    after.push_str(end);
    after.push_str(&block(value, 0, end));
    let before = yaml::parse(text).map_err(|error| error.to_string())?;
    let read = yaml::parse(&after).map_err(|error| error.to_string())?;
    let same = before.iter().zip(&read).all(|(a, b)| a.value == b.value);
    let is_meant = read.len() == before.len() + 1 && read.last().is_some_and(|d| d.value == *value);
    if same && is_meant {
        Ok(after)
    } else {
        Err("a document cannot be added behind its last one".to_owned())
    }
}

fn edited(text: &str, document: usize, edits: &[Edit]) -> Result<String, String> {
    let unwritten = || {
        "it stands where it cannot be changed alone, behind an alias or in one line with others"
            .to_owned()
    };
    let documents = yaml::parse(text).map_err(|error| error.to_string())?;
    let Some(original) = documents.get(document) else {
        return Err(unwritten());
    };
    let meant = meant(&original.value, edits).ok_or_else(unwritten)?;
    let range = original.range.clone();
    let mut part = text[range.clone()].to_owned();
    for edit in edits {
        let read = yaml::parse(&part).map_err(|error| error.to_string())?;
        let [read] = &read[..] else {
            return Err(unwritten());
        };
        part = written(&part, read, edit).ok_or_else(unwritten)?;
    }
    let after = format!("{}{part}{}", &text[..range.start], &text[range.end..]);
    let read = yaml::parse(&after).map_err(|_| unwritten())?;
    let same = |at: usize| {
        let expected = if at == document {
            &meant
        } else {
            &documents[at].value
        };
        read[at].value == *expected
    };
    if read.len() == documents.len() && (0..read.len()).all(same) {
        Ok(after)
    } else {
        Err(unwritten())
    }
}

/// The text of one document with one edit in it; whether it says what is meant is for the caller to see.
fn written(text: &str, document: &Document, edit: &Edit) -> Option<String> {
    let (depth, node) = document.deepest(&edit.path)?;
    match &edit.value {
        None if depth == edit.path.len() => removed(text, document, &edit.path),
        None => None,
        Some(value) if depth == edit.path.len() => replaced(text, document, node, value),
        Some(value) => {
            let (first, rest) = edit.path[depth..].split_first()?;
            let Key::Name(name) = first else { return None };
            let nested = rest
                .iter()
                .rev()
                .try_fold(value.clone(), |value, key| match key {
                    Key::Name(name) => Some(json!({ name: value })),
                    Key::At(_) => None,
                })?;
            inserted(text, document, &edit.path[..depth], node, name, &nested)
        }
    }
}

fn replaced(text: &str, document: &Document, node: usize, value: &Value) -> Option<String> {
    let node = &document.nodes[node];
    let Content::Scalar(_) = node.content else {
        return None;
    };
    if node.range.is_empty() {
        return None;
    }
    let old = &text[node.range.clone()];
    let quote = old.chars().next().filter(|c| *c == '"' || *c == '\'');
    let new = match (quote, value) {
        (Some(quote), Value::String(new)) if !new.contains([quote, '\\']) => {
            format!("{quote}{new}{quote}")
        }
        (_, value) => scalar(value)?,
    };
    Some(format!(
        "{}{new}{}",
        &text[..node.range.start],
        &text[node.range.end..]
    ))
}

/// Puts an entry behind the last one of a mapping, indented or in its brackets as they are.
fn inserted(
    text: &str,
    document: &Document,
    path: &[Key],
    node: usize,
    name: &str,
    value: &Value,
) -> Option<String> {
    let place = &document.nodes[node];
    let end = line_end(text);
    match &place.content {
        Content::Mapping {
            entries,
            is_flow: false,
        } => {
            let (_, first, _) = entries.first()?;
            let (_, last_key, last) = entries.last()?;
            let indent = document.nodes[*first].column;
            let at = document
                .end_of(*last)
                .max(document.nodes[*last_key].range.end);
            Some(with_lines(
                text,
                at,
                &block(&json!({ name: value }), indent, end),
            ))
        }
        Content::Mapping {
            entries,
            is_flow: true,
        } if !entries.is_empty() => {
            let close = place.range.end.checked_sub(1)?;
            let at = text[..close].trim_end().len();
            let comma = if text[..at].ends_with(',') { "" } else { "," };
            let entry = format!("{comma} {}: {}", scalar(&json!(name))?, flow(value)?);
            Some(format!("{}{entry}{}", &text[..at], &text[at..]))
        }
        // `{}` and nothing at all become a block of their own.
        Content::Mapping { .. } | Content::Scalar(_) => {
            let (_, parent) = document.deepest(path.split_last()?.1)?;
            let Content::Mapping { entries, is_flow } = &document.nodes[parent].content else {
                return None;
            };
            if *is_flow {
                let is_empty = without_blanks(&text[place.range.clone()]) == "{}";
                let open = is_empty.then_some(place.range.start + 1)?;
                let entry = format!("{}: {}", scalar(&json!(name))?, flow(value)?);
                return Some(format!("{}{entry}{}", &text[..open], &text[open..]));
            }
            let (_, key, _) = entries.iter().find(|(_, _, of)| *of == node)?;
            let key = &document.nodes[*key];
            let colon = key.range.end + text[key.range.end..].find(':')? + 1;
            // Where nothing stands, it is not told where.
            let rest = if place.range.is_empty() {
                colon
            } else {
                place.range.end.max(colon)
            };
            let stood = text[colon..rest].trim_end();
            if !matches!(&*without_blanks(stood), "" | "{}" | "null" | "~") {
                return None;
            }
            // What is behind it, such as a comment, stays as far from it.
            let rest = colon + stood.len();
            let emptied = format!("{}{}", &text[..colon], &text[rest..]);
            let lines = block(&json!({ name: value }), key.column + 2, end);
            Some(with_lines(&emptied, colon, &lines))
        }
        Content::Sequence { .. } | Content::Alias => None,
    }
}

/// Takes the lines of an entry away.
fn removed(text: &str, document: &Document, path: &[Key]) -> Option<String> {
    let (last, above) = path.split_last()?;
    let Key::Name(name) = last else { return None };
    let (_, parent) = document.deepest(above)?;
    let Content::Mapping {
        entries,
        is_flow: false,
    } = &document.nodes[parent].content
    else {
        return None;
    };
    let (_, key, value) = entries.iter().find(|(key, ..)| key == name)?;
    let key = &document.nodes[*key];
    let start = text[..key.range.start].rfind('\n').map_or(0, |at| at + 1);
    if entries.len() == 1 || !text[start..key.range.start].trim().is_empty() {
        return None;
    }
    let end = after_line(text, document.end_of(*value).max(key.range.end));
    Some(format!("{}{}", &text[..start], &text[end..]))
}

fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Puts whole lines behind the one that this place is in.
fn with_lines(text: &str, at: usize, lines: &str) -> String {
    let at = after_line(text, at);
    let (before, after) = text.split_at(at);
    let missing = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        line_end(text)
    };
    format!("{before}{missing}{lines}{after}")
}

/// Where the line after this place begins; the place itself if it is where one begins.
fn after_line(text: &str, at: usize) -> usize {
    if text[..at].ends_with('\n') {
        return at;
    }
    text[at..]
        .find('\n')
        .map_or(text.len(), |more| at + more + 1)
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// As a block of lines.
fn block(value: &Value, indent: usize, end: &str) -> String {
    let blank = " ".repeat(indent);
    let Some(map) = value.as_object().filter(|map| !map.is_empty()) else {
        return format!("{blank}{}{end}", flow(value).unwrap_or_default());
    };
    let entry = |(key, value): (&String, &Value)| {
        let key = scalar(&json!(key)).unwrap_or_default();
        if value.as_object().is_some_and(|map| !map.is_empty()) {
            format!("{blank}{key}:{end}{}", block(value, indent + 2, end))
        } else {
            let value = flow(value).unwrap_or_default();
            format!("{blank}{key}: {value}{end}")
        }
    };
    map.iter().map(entry).collect()
}

/// In one line.
fn flow(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                Some(format!("{}: {}", scalar(&json!(key))?, flow(value)?))
            };
            let entries: Option<Vec<String>> = map.iter().map(entry).collect();
            Some(format!("{{{}}}", entries?.join(", ")))
        }
        Value::Array(list) => {
            let items: Option<Vec<String>> = list.iter().map(flow).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(value),
    }
}

/// Text stands plain where YAML of any version takes it for text, else in quotes.
fn scalar(value: &Value) -> Option<String> {
    let Value::String(text) = value else {
        return (!value.is_object() && !value.is_array()).then(|| value.to_string());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-:".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_word = ["yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    // Numbers with colons are times to some.
    let is_text = yaml::resolved(text) == Value::String(text.clone())
        && !text.ends_with(':')
        && (!text.contains(':') || text.starts_with(|c: char| c.is_ascii_alphabetic()));
    if begins && text.chars().all(plain) && is_text && !is_word {
        return Some(text.clone());
    }
    Some(value.to_string())
}

impl Document {
    /// How much of the path there is, and the node at its end.
    fn deepest(&self, path: &[Key]) -> Option<(usize, usize)> {
        let mut node = self.root?;
        for (depth, key) in path.iter().enumerate() {
            let below = match (&self.nodes[node].content, key) {
                (Content::Mapping { entries, .. }, Key::Name(name)) => {
                    let entry = entries.iter().find(|(key, ..)| key == name);
                    entry.map(|(_, _, value)| *value)
                }
                (Content::Sequence { items, .. }, Key::At(at)) => items.get(*at).copied(),
                _ => None,
            };
            match below {
                Some(below) => node = below,
                None => return Some((depth, node)),
            }
        }
        Some((path.len(), node))
    }

    /// Where the last of its scalars ends.
    fn end_of(&self, mut node: usize) -> usize {
        loop {
            let last = match &self.nodes[node].content {
                Content::Mapping {
                    entries,
                    is_flow: false,
                } => {
                    let last = entries.last();
                    last.map(|(_, key, value)| {
                        // Of `key:` with nothing behind it, the key is what stands last.
                        let value_of = &self.nodes[*value];
                        let is_scalar = matches!(value_of.content, Content::Scalar(_));
                        if is_scalar && value_of.range.is_empty() {
                            *key
                        } else {
                            *value
                        }
                    })
                }
                Content::Sequence {
                    items,
                    is_flow: false,
                } => items.last().copied(),
                Content::Mapping { .. }
                | Content::Sequence { .. }
                | Content::Scalar(_)
                | Content::Alias => None,
            };
            match last {
                Some(last) => node = last,
                None => return self.nodes[node].range.end,
            }
        }
    }
}

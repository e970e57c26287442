//! Manifests with the place of every value: what is read is bounded, and what is wrong is named with its line.
//!
//! The parser is a library's. What it says is made into JSON values, as kubectl makes them, and beside these
//! stands where in the text each came from, so that a change touches nothing else.

use std::{collections::BTreeMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

/// Bytes of one file of manifests: the API server takes objects of about this size.
pub const MANIFEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Documents of one file.
pub const DOCUMENTS_MAX: usize = 256;
/// Values of one file, those that aliases repeat counted each time.
pub const VALUES_MAX: usize = 200_000;
/// How deep they may be nested.
pub const DEPTH_MAX: usize = 64;

/// What cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    /// From 1.
    pub line: usize,
    pub what: String,
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub(super) value: Value,
    /// Of the text: from the end of the document before to the beginning of the next.
    pub(super) range: Range<usize>,
    /// The outermost of the nodes; `None` for an empty document.
    pub(super) root: Option<usize>,
    pub(super) nodes: Vec<Node>,
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Bytes of the text. Of a block it is only known where it begins.
    pub(super) range: Range<usize>,
    /// From 1.
    pub(super) line: usize,
    /// Characters before it in its line.
    pub(super) column: usize,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Scalar(ScalarStyle),
    /// Keys and values.
    Mapping {
        entries: Vec<(String, usize, usize)>,
        is_flow: bool,
    },
    Sequence {
        items: Vec<usize>,
        is_flow: bool,
    },
    /// What stands elsewhere: it is not changed here.
    Alias,
}

/// Reads all documents of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Unreadable> {
    if text.len() > MANIFEST_BYTES_MAX {
        let what = format!(
            "it has {} bytes, expected at most {MANIFEST_BYTES_MAX}: give the workload's own manifests",
            text.len()
        );
        return Err(Unreadable { line: 1, what });
    }
    let mut reader = Reader::new(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Unreadable {
            line: error.marker().line().max(1),
            what: format!("no YAML: {}", error.info()),
        })?;
        reader.event(event, span).map_err(|what| Unreadable {
            line: span.start.line().max(1),
            what,
        })?;
    }
    let last = text.len();
    if let Some(document) = reader.documents.last_mut() {
        document.range.end = last;
    }
    Ok(reader.documents)
}

struct Reader<'a> {
    text: &'a str,
    is_ascii: bool,
    /// A place whose index in characters and in bytes is known.
    known: (usize, usize),
    documents: Vec<Document>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Value, usize)>,
    values: usize,
    /// Values behind anchors, each as often as anchors around it keep it.
    kept: usize,
}

/// A mapping or a sequence that is being read.
struct Open {
    node: usize,
    anchor: usize,
    value: Value,
    /// Of a mapping: the key whose value comes next.
    key: Option<(String, usize)>,
    merged: Vec<Value>,
    values_before: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            is_ascii: text.is_ascii(),
            known: (0, 0),
            documents: Vec::new(),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            values: 0,
            kept: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => {
                if self.documents.len() == DOCUMENTS_MAX {
                    return Err(format!("more than {DOCUMENTS_MAX} documents"));
                }
                let here = self.bytes(span).start;
                let start = self.documents.last_mut().map_or(0, |before| {
                    before.range.end = here;
                    here
                });
                self.anchors.clear();
                self.documents.push(Document {
                    value: Value::Null,
                    range: start..start,
                    root: None,
                    nodes: Vec::new(),
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text =
                    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let value = if style == ScalarStyle::Plain && !is_text {
                    resolved(&text)
                } else {
                    Value::String(text.clone().into_owned())
                };
                self.count(1)?;
                let node = self.node(span, Content::Scalar(style));
                if let Some(open) = self.open.last_mut()
                    && open.key.is_none()
                    && open.value.is_object()
                {
                    open.key = Some((text.into_owned(), node));
                    return Ok(());
                }
                self.keep(anchor, &value, 1)?;
                self.place(node, value)?;
            }
            Event::MappingStart(anchor, _) => {
                let content = Content::Mapping {
                    entries: Vec::new(),
                    is_flow: self.is_flow(span, '{'),
                };
                self.begin(span, anchor, content, Value::Object(Map::new()))?;
            }
            Event::SequenceStart(anchor, _) => {
                let content = Content::Sequence {
                    items: Vec::new(),
                    is_flow: self.is_flow(span, '['),
                };
                self.begin(span, anchor, content, Value::Array(Vec::new()))?;
            }
            Event::MappingEnd | Event::SequenceEnd => self.end(span)?,
            Event::Alias(anchor) => {
                let Some((value, count)) = self.anchors.get(&anchor).cloned() else {
                    return Err(
                        "an alias within what it stands for, expected an anchor before it"
                            .to_owned(),
                    );
                };
                self.count(count)?;
                let node = self.node(span, Content::Alias);
                self.place(node, value)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        span: Span,
        anchor: usize,
        content: Content,
        value: Value,
    ) -> Result<(), String> {
        if self.open.len() == DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        if let Some(open) = self.open.last()
            && open.key.is_none()
            && open.value.is_object()
        {
            return Err("a key that is a mapping or a list, expected text".to_owned());
        }
        let values_before = self.values;
        self.count(1)?;
        let node = self.node(span, content);
        self.open.push(Open {
            node,
            anchor,
            value,
            key: None,
            merged: Vec::new(),
            values_before,
        });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), String> {
        let Some(mut open) = self.open.pop() else {
            return Err("an end without a beginning".to_owned());
        };
        // What the parser says of a closing bracket reaches on over the blanks and the comment behind it.
        let Range { start, end } = self.bytes(span);
        let is_bracket = self.text[start..].starts_with(['}', ']']);
        let end = if is_bracket { start + 1 } else { end };
        let node = &mut self.document().nodes[open.node];
        if let Content::Mapping { is_flow: true, .. } | Content::Sequence { is_flow: true, .. } =
            node.content
        {
            node.range.end = end;
        }
        if let Value::Object(map) = &mut open.value {
            merge(map, open.merged)?;
        }
        self.keep(open.anchor, &open.value, self.values - open.values_before)?;
        self.place(open.node, open.value)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: usize, value: Value) -> Result<(), String> {
        let Some(open) = self.open.last_mut() else {
            let document = self.document();
            document.value = value;
            document.root = Some(node);
            return Ok(());
        };
        let document = self.documents.last_mut().expect("a document was begun");
        let parent = &mut document.nodes[open.node].content;
        match &mut open.value {
            Value::Object(map) => {
                let Some((key, key_node)) = open.key.take() else {
                    return Err("a key that is an alias, expected text".to_owned());
                };
                if key == "<<" {
                    open.merged.push(value);
                } else if map.insert(key.clone(), value).is_some() {
                    return Err(format!("the key {key:?} stands twice in one mapping"));
                }
                if let Content::Mapping { entries, .. } = parent {
                    entries.push((key, key_node, node));
                }
            }
            Value::Array(list) => {
                list.push(value);
                if let Content::Sequence { items, .. } = parent {
                    items.push(node);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }

    fn keep(&mut self, anchor: usize, value: &Value, values: usize) -> Result<(), String> {
        if anchor != 0 {
            self.kept = self.kept.saturating_add(values);
            if self.kept > VALUES_MAX {
                return Err(format!("more than {VALUES_MAX} values behind anchors"));
            }
            self.anchors.insert(anchor, (value.clone(), values));
        }
        Ok(())
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        if self.values > VALUES_MAX {
            return Err(format!(
                "more than {VALUES_MAX} values, those that aliases repeat counted each time"
            ));
        }
        Ok(())
    }

    fn document(&mut self) -> &mut Document {
        self.documents.last_mut().expect("a document was begun")
    }

    fn node(&mut self, span: Span, content: Content) -> usize {
        let range = self.bytes(span);
        let nodes = &mut self.document().nodes;
        nodes.push(Node {
            range,
            line: span.start.line(),
            column: span.start.col(),
            content,
        });
        nodes.len() - 1
    }

    /// Whether it begins with this bracket, behind an anchor or a tag.
    fn is_flow(&mut self, span: Span, bracket: char) -> bool {
        let at = self.bytes(span).start;
        let mut text = &self.text[at..];
        while text.starts_with(['&', '!']) {
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            text = text[end..].trim_start();
        }
        text.starts_with(bracket)
    }

    fn bytes(&mut self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }

    /// The parser counts characters. Each place is near the one before, so it is found from there.
    fn byte(&mut self, index: usize) -> usize {
        if self.is_ascii {
            return index.min(self.text.len());
        }
        let (mut chars, mut at) = self.known;
        while chars < index {
            let Some(c) = self.text[at..].chars().next() else {
                break;
            };
            chars += 1;
            at += c.len_utf8();
        }
        while chars > index {
            let Some(c) = self.text[..at].chars().next_back() else {
                break;
            };
            chars -= 1;
            at -= c.len_utf8();
        }
        self.known = (chars, at);
        at
    }
}

/// What `<<` brings in, which what stands in the mapping itself overrides.
fn merge(map: &mut Map<String, Value>, merged: Vec<Value>) -> Result<(), String> {
    for value in merged {
        let several = if let Value::Array(list) = value {
            list
        } else {
            vec![value]
        };
        for one in several {
            let Value::Object(other) = one else {
                return Err("`<<` of what is no mapping".to_owned());
            };
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

/// A plain scalar by the core schema of YAML 1.2.
pub(super) fn resolved(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Ok(number) = text.parse::<i64>()
    {
        return Value::from(number);
    }
    let radix = |prefix, radix| Some(i64::from_str_radix(text.strip_prefix(prefix)?, radix));
    if let Some(Ok(number)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::from(number);
    }
    let is_float = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    match text.parse::<f64>() {
        Ok(number) if is_float && number.is_finite() => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

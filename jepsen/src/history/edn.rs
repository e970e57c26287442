//! JSON values as EDN, the notation that Jepsen's tools read.

use std::fmt::Write as _;

use serde_json::Value;

/// Keys of an event in the order in which Jepsen prints them.
const KEYS: &[&str] = &[
    "index", "type", "f", "value", "process", "time", "node", "error",
];

/// Keys whose values are names, not texts.
const KEYWORDS: &[&str] = &["type", "f"];

/// One event of a history as an EDN map.
pub(super) fn event(event: &Value) -> String {
    let mut parts = Vec::new();
    for key in KEYS {
        match event.get(key) {
            None => {}
            Some(Value::String(word)) if KEYWORDS.contains(key) => {
                parts.push(format!(":{key} :{word}"));
            }
            Some(value) => parts.push(format!(":{key} {}", text(value))),
        }
    }
    format!("{{{}}}", parts.join(", "))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(string) => quoted(string),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(text).collect();
            format!("[{}]", values.join(" "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{} {}", quoted(key), text(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// EDN knows fewer escapes than JSON.
fn quoted(string: &str) -> String {
    let mut out = String::from("\"");
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            other if other.is_control() => {
                write!(out, "\\u{:04x}", u32::from(other)).expect("a string takes all");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_has_its_notation() {
        let value = json!({"a": [1, null, true, "x\ny\u{1}"]});
        assert_eq!(text(&value), "{\"a\" [1 nil true \"x\\ny\\u0001\"]}");
    }

    #[test]
    fn names_are_keywords() {
        let value = json!({"f": "read", "type": "ok", "value": "read"});
        assert_eq!(event(&value), "{:type :ok, :f :read, :value \"read\"}");
    }
}

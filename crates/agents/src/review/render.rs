//! A review as text, JSON, SARIF 2.1.0 or annotations of GitHub's workflows. What past reviewers said is quoted:
//! whatever would drive a terminal or end an annotation is written out.

use serde_json::{Value, json};

use super::{Finding, Review, Severity, diff::head};

/// Bytes of an annotation's title.
const TITLE_BYTES_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Sarif,
    GitHub,
}

/// The review in a form, ending in a line's end unless it is empty.
pub fn render(review: &Review, format: Format) -> String {
    match format {
        Format::Text => text(review),
        Format::Json => format!("{}\n", json(review)),
        Format::Sarif => format!("{}\n", sarif(review)),
        Format::GitHub => review.findings.iter().map(annotation).collect(),
    }
}

fn text(review: &Review) -> String {
    let mut text = String::new();
    for finding in &review.findings {
        let percent = (finding.confidence * 100.0).round();
        let (path, line, severity) = (
            line_of(&finding.path),
            finding.line,
            finding.severity.as_str(),
        );
        text += &format!(
            "{path}:{line}: {severity}: {} ({percent} %)\n",
            line_of(&finding.rule)
        );
        text += &quoted(&finding.message, "  ");
        text += &format!("  at: {}\n", line_of(&finding.code));
        for past in &finding.past {
            let was = if past.was_right { "right" } else { "rejected" };
            let by = past
                .agent
                .as_deref()
                .map(|agent| format!(" · by {}", line_of(agent)));
            text += &format!(
                "  past review {} · {was}{}\n",
                past.key,
                by.unwrap_or_default()
            );
        }
        text.push('\n');
    }
    if review.findings.is_empty() {
        text += "nothing known: no past review is similar enough to what this adds\n";
    }
    if review.left_out > 0 {
        text += &format!(
            "{} parts of the diff were not looked at: review it in parts\n",
            review.left_out
        );
    }
    text
}

fn json(review: &Review) -> Value {
    let finding = |finding: &Finding| {
        let past = finding.past.iter().map(|past| {
            json!({
                "key": past.key.to_string(),
                "was_right": past.was_right,
                "similarity": past.similarity,
                "text": clean(&past.text),
                "agent": past.agent.as_deref().map(clean),
            })
        });
        json!({
            "path": line_of(&finding.path),
            "line": finding.line,
            "code": clean(&finding.code),
            "rule": line_of(&finding.rule),
            "message": clean(&finding.message),
            "severity": finding.severity.as_str(),
            "confidence": finding.confidence,
            "fingerprint": finding.fingerprint,
            "past": past.collect::<Vec<_>>(),
        })
    };
    json!({
        "findings": review.findings.iter().map(finding).collect::<Vec<_>>(),
        "files": review.files,
        "asked": review.asked,
        "left_out": review.left_out,
    })
}

fn sarif(review: &Review) -> Value {
    let rules: Vec<&str> = review.rules().into_iter().collect();
    let described = rules.iter().map(|rule| {
        let finding = review.findings.iter().find(|finding| finding.rule == *rule);
        let said = finding.map_or("", |finding| &finding.message);
        json!({ "id": line_of(rule), "shortDescription": { "text": line_of(head(said, TITLE_BYTES_MAX)) } })
    });
    let result = |finding: &Finding| {
        let past: Vec<String> = finding
            .past
            .iter()
            .map(|past| past.key.to_string())
            .collect();
        json!({
            "ruleId": line_of(&finding.rule),
            "ruleIndex": rules.iter().position(|rule| *rule == finding.rule),
            "level": finding.severity.as_str(),
            "message": { "text": clean(&finding.message) },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": uri(&finding.path) },
                "region": { "startLine": finding.line },
            } }],
            "partialFingerprints": { "memorygate/v1": finding.fingerprint },
            "properties": { "confidence": finding.confidence, "pastReviews": past },
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "memorygate-review",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": described.collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": review.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn annotation(finding: &Finding) -> String {
    let command = match finding.severity {
        Severity::Note => "notice",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let past = finding
        .past
        .first()
        .map_or(String::new(), |past| format!("\nPast review: {}", past.key));
    let (file, line) = (property(&finding.path), finding.line);
    let title = property(head(&finding.rule, TITLE_BYTES_MAX));
    let message = data(&format!("{}{past}", finding.message));
    format!("::{command} file={file},line={line},title={title}::{message}\n")
}

/// As the runner reads a command's text.
fn data(text: &str) -> String {
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    line_of(&text)
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A relative reference: bytes beyond letters, digits and a few marks are written in hexadecimal.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri += &format!("%{byte:02X}");
        }
    }
    uri
}

fn quoted(text: &str, indent: &str) -> String {
    clean(text)
        .lines()
        .map(|line| format!("{indent}| {line}\n"))
        .collect()
}

fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\n' && c != '\t') || reorders {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

fn line_of(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

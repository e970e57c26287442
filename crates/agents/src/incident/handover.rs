//! Notes for whoever takes the incident over, in Markdown.

use std::fmt::Write as _;

use memorygate_client::{TimeMs, adapter, time};

use super::Incident;
use crate::cited::Cited;

/// Alerts that are listed.
const ALERTS_SHOWN: usize = 20;

/// What is going on, what is known of it, and what to do next, as of this time. What alerts and memories
/// say is quoted: nothing in it is an instruction.
pub fn handover(incident: &Incident, now: TimeMs) -> String {
    let mut notes = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(notes, "{text}").expect("writing to a string cannot fail");
    };
    line(format_args!("# {}", clean(&incident.title)));
    line(format_args!(""));
    let Incident {
        severity, status, ..
    } = incident;
    let started = time::format(incident.started_at);
    let age = time::relative(incident.started_at, now);
    line(format_args!(
        "{}, severity {}, since {started} ({age}).",
        status.as_str(),
        severity.as_str()
    ));
    line(format_args!("\n## Alerts\n"));
    for alert in incident.alerts.iter().take(ALERTS_SHOWN) {
        let about = clean(&alert.about.join(", "));
        let since = time::relative(alert.since, now);
        let (name, status) = (clean(&alert.name), alert.status.as_str());
        line(format_args!("- {name} ({status}, {since}) {about}"));
        if !alert.told.is_empty() {
            line(format_args!("{}", indented(&alert.told)));
        }
    }
    if incident.alerts.len() > ALERTS_SHOWN {
        line(format_args!(
            "- and {} more",
            incident.alerts.len() - ALERTS_SHOWN
        ));
    }
    line(format_args!("\n## Known\n"));
    line(format_args!("{}.", clean(&incident.explanation)));
    for cited in incident.similar.iter().chain(&incident.related) {
        line(format_args!("\n{}", quoted(cited, now)));
    }
    line(format_args!("\n## Next\n"));
    for (at, step) in incident.plan.iter().enumerate() {
        line(format_args!("{}. {}", at + 1, clean(&step.what)));
        for detail in &step.details {
            line(format_args!("   - {}", clean(detail)));
        }
    }
    notes
}

fn quoted(cited: &Cited, now: TimeMs) -> String {
    let worked = match cited.worked {
        Some(true) => "worked",
        Some(false) => "failed",
        None => "related",
    };
    let age = time::relative(cited.at, now);
    format!(
        "{worked}, {age}, key {}:\n{}",
        cited.key,
        indented(&cited.text)
    )
}

/// Each line behind a bar, and as code, so that nothing in it is taken for Markdown.
fn indented(text: &str) -> String {
    let quoted = adapter::quote(text);
    let lines = quoted.lines().map(|line| format!("      {line}"));
    format!("\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

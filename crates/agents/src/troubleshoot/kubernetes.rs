//! The outputs of kubectl: `describe` of pods and nodes, events as a table, and JSON of all of them.

use serde_json::Value;

use super::{
    DOCUMENT_BYTES_MAX,
    symptom::{Symptoms, Unreadable},
};

/// Objects of one list.
const ITEMS_MAX: usize = 10_000;

/// Conditions of a node that are wrong when they are true.
const PRESSURES: &[&str] = &[
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
];

pub(super) fn read(bytes: &[u8], symptoms: &mut Symptoms) -> Result<(), Unreadable> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Unreadable::TooLarge {
            actual: bytes.len(),
            limit: DOCUMENT_BYTES_MAX,
        });
    }
    let text = String::from_utf8_lossy(bytes);
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '[']) {
        return json(trimmed, symptoms);
    }
    let is_described = has_field(&text, "Name:") || text.lines().any(|l| l.trim() == "Events:");
    let is_table = text.lines().any(is_head_of_events);
    if !is_described && !is_table {
        return Err(Unreadable::Unknown);
    }
    described(&text, symptoms);
    Ok(())
}

fn has_field(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.starts_with(name))
}

fn is_head_of_events(line: &str) -> bool {
    line.contains("TYPE") && line.contains("REASON") && line.contains("MESSAGE")
}

/// `kubectl describe`, or the table of `kubectl get events`.
fn described(text: &str, symptoms: &mut Symptoms) {
    let mut container = String::new();
    let mut indent_of_containers = None;
    let mut state = "";
    let mut in_events = false;
    let mut in_conditions = false;
    for line in text.lines() {
        if is_head_of_events(line) || line.trim() == "Events:" {
            in_events = true;
            continue;
        }
        if in_events {
            event_line(line, symptoms);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let value = value.trim();
        if indent == 0 {
            in_conditions = name == "Conditions";
            indent_of_containers = matches!(name, "Containers" | "Init Containers").then_some(2);
        }
        if in_conditions && indent > 0 {
            condition_line(line, symptoms);
            continue;
        }
        if indent_of_containers == Some(indent) && value.is_empty() {
            name.clone_into(&mut container);
        }
        let of = if container.is_empty() {
            "pod"
        } else {
            "container"
        };
        match name {
            "Name" if indent == 0 => symptoms.name(value),
            "State" | "Last State" => {
                state = value;
                if value == "Terminated" || value == "Waiting" {
                    continue;
                }
            }
            "Reason" if !matches!(value, "" | "Completed" | "Started") => {
                symptoms.add(&format!("{of} {}: {value}", state.to_lowercase()), 1);
            }
            "Exit Code" if value != "0" => symptoms.add(&format!("{of} exit code {value}"), 1),
            "Message" if !value.is_empty() => symptoms.add(value, 1),
            "Status" if matches!(value, "Failed" | "Pending" | "Unknown") => {
                symptoms.add(&format!("pod status {value}"), 1);
            }
            "Restart Count" => {
                if let Some(count) = value.parse::<u64>().ok().filter(|count| *count > 0) {
                    symptoms.add("container restarts", count);
                }
            }
            _ => {}
        }
    }
}

/// `Warning  BackOff  2m (x12 over 10m)  kubelet  Back-off restarting failed container`, or with the
/// time first.
fn event_line(line: &str, symptoms: &mut Symptoms) {
    let columns: Vec<&str> = line
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    let Some(at) = columns.iter().position(|column| *column == "Warning") else {
        return;
    };
    let (Some(reason), Some(message)) = (columns.get(at + 1), columns.last()) else {
        return;
    };
    if columns.len() > at + 2 {
        symptoms.add(&format!("{reason}: {message}"), times(line));
    }
}

/// `x12` of `2m (x12 over 10m)`.
fn times(line: &str) -> u64 {
    let count = line.split_once("(x").map(|(_, rest)| rest);
    let digits = count.map(|rest| {
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    });
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(1)
}

/// A row of a node's conditions: `MemoryPressure  True  …  KubeletHasInsufficientMemory  …`.
fn condition_line(line: &str, symptoms: &mut Symptoms) {
    let columns: Vec<&str> = line
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    if let [name, status, ..] = columns[..] {
        let message = if columns.len() > 3 {
            columns[columns.len() - 1]
        } else {
            ""
        };
        condition(name, status, message, symptoms);
    }
}

fn condition(name: &str, status: &str, message: &str, symptoms: &mut Symptoms) {
    if PRESSURES.contains(&name) && status == "True" {
        symptoms.add(&format!("node has {name}: {message}"), 1);
    } else if name == "Ready" && matches!(status, "False" | "Unknown") && !message.is_empty() {
        symptoms.add(&format!("NodeNotReady: {message}"), 1);
    }
}

fn json(text: &str, symptoms: &mut Symptoms) -> Result<(), Unreadable> {
    let document: Value = serde_json::from_str(text).map_err(|error| Unreadable::Json {
        reason: error.to_string(),
    })?;
    match document["items"].as_array() {
        Some(items) if items.len() > ITEMS_MAX => {
            let reason = format!(
                "it lists {} objects, expected at most {ITEMS_MAX}",
                items.len()
            );
            Err(Unreadable::Json { reason })
        }
        Some(items) => {
            items.iter().for_each(|item| object(item, symptoms));
            Ok(())
        }
        None if document["kind"].is_string() => {
            object(&document, symptoms);
            Ok(())
        }
        None => Err(Unreadable::Unknown),
    }
}

fn object(object: &Value, symptoms: &mut Symptoms) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if object["kind"] == "Event" || object["involvedObject"].is_object() {
        if object["type"] == "Warning" {
            let (reason, message) = (text(&object["reason"]), text(&object["message"]));
            let count = object["count"].as_u64().unwrap_or(1);
            symptoms.name(&text(&object["involvedObject"]["name"]));
            symptoms.add(&format!("{reason}: {message}"), count);
        }
        return;
    }
    symptoms.name(&text(&object["metadata"]["name"]));
    let status = &object["status"];
    for one in list(&status["conditions"]) {
        let (name, is) = (text(&one["type"]), text(&one["status"]));
        if object["kind"] == "Node" {
            condition(&name, &is, &text(&one["message"]), symptoms);
        } else if is == "False" && one["message"].is_string() {
            symptoms.add(
                &format!("{}: {}", text(&one["reason"]), text(&one["message"])),
                1,
            );
        }
    }
    if status["reason"].is_string() {
        symptoms.add(
            &format!(
                "pod {}: {}",
                text(&status["reason"]),
                text(&status["message"])
            ),
            1,
        );
    }
    let containers = list(&status["containerStatuses"]);
    for container in containers
        .iter()
        .chain(list(&status["initContainerStatuses"]))
    {
        let restarts = container["restartCount"].as_u64().unwrap_or(0);
        if restarts > 0 {
            symptoms.add("container restarts", restarts);
        }
        for state in [&container["state"], &container["lastState"]] {
            for name in ["waiting", "terminated"] {
                let reason = text(&state[name]["reason"]);
                if !matches!(reason.as_str(), "" | "Completed" | "ContainerCreating") {
                    let message = text(&state[name]["message"]);
                    symptoms.add(&format!("container {name}: {reason} {message}"), 1);
                }
                if let Some(code) = state[name]["exitCode"].as_i64().filter(|code| *code != 0) {
                    symptoms.add(&format!("container exit code {code}"), 1);
                }
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

//! How a workload was rolled out before: `kubectl rollout history`, or its ReplicaSets as JSON.

use serde_json::Value;

/// Bytes of one file of history.
pub const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Revisions of all files.
const REVISIONS_MAX: usize = 10_000;
/// Characters of the cause of a revision that are kept.
const CAUSE_CHARS_MAX: usize = 200;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    revisions: Vec<Revision>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Revision {
    /// Of the workload; unset where the text does not say.
    workload: Option<String>,
    namespace: Option<String>,
    pub(super) number: u64,
    pub(super) cause: Option<String>,
    /// Pods that it is to have and those that are ready, of a ReplicaSet.
    pub(super) replicas: Option<(u64, u64)>,
    /// The containers of its template, of a ReplicaSet.
    pub(super) containers: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has {actual} bytes, expected at most {HISTORY_BYTES_MAX}: give the workload's own")]
    TooLarge { actual: usize },
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("item {number} of the list: {what}")]
    Item { number: usize, what: String },
    #[error("more than {REVISIONS_MAX} revisions: give the workload's own")]
    TooMany,
    #[error(
        "it is nothing that is understood: expected the output of `kubectl rollout history` or of `kubectl get \
         rs -o json`"
    )]
    Unknown,
}

impl History {
    /// Adds a file.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if bytes.len() > HISTORY_BYTES_MAX {
            let actual = bytes.len();
            return Err(Unreadable::TooLarge { actual });
        }
        let text = String::from_utf8_lossy(bytes);
        if text.trim_start().starts_with('{') {
            self.json(&text)?;
        } else {
            self.table(&text)?;
        }
        self.revisions.sort_by_key(|revision| revision.number);
        // The same one as text and as JSON: that which says more stays.
        self.revisions.dedup_by(|next, kept| {
            let same = next.number == kept.number && next.workload == kept.workload;
            if same && next.replicas.is_some() {
                std::mem::swap(next, kept);
            }
            same
        });
        if self.revisions.len() > REVISIONS_MAX {
            return Err(Unreadable::TooMany);
        }
        Ok(())
    }

    /// Those of a workload, the newest last. `is_alone`: there is no other that could be meant.
    pub(super) fn of(&self, name: &str, namespace: Option<&str>, is_alone: bool) -> Vec<&Revision> {
        let is_of = |revision: &&Revision| {
            let named = match &revision.workload {
                Some(workload) => workload == name,
                None => is_alone,
            };
            let other =
                matches!((revision.namespace.as_deref(), namespace), (Some(a), Some(b)) if a != b);
            named && !other
        };
        self.revisions.iter().filter(is_of).collect()
    }

    /// `deployment.apps/checkout`, then `REVISION  CHANGE-CAUSE` and a row for each.
    fn table(&mut self, text: &str) -> Result<(), Unreadable> {
        let mut workload = None;
        let mut is_in_table = false;
        let mut is_understood = false;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if let Some((_, name)) = line.split_once('/').filter(|(kind, _)| is_kind(kind)) {
                workload = Some(name.trim().to_owned());
                is_in_table = false;
            } else if line.starts_with("REVISION") {
                is_in_table = true;
                is_understood = true;
            } else if is_in_table {
                let (number, cause) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                let number = number.parse().map_err(|_| Unreadable::Line {
                    line: at + 1,
                    what: format!(
                        "{number:?} is no revision, expected a number and what caused it"
                    ),
                })?;
                let cause = cause.trim();
                self.revisions.push(Revision {
                    workload: workload.clone(),
                    namespace: None,
                    number,
                    cause: (cause != "<none>" && !cause.is_empty()).then(|| clean(cause)),
                    replicas: None,
                    containers: Value::Null,
                });
            }
        }
        if is_understood {
            Ok(())
        } else {
            Err(Unreadable::Unknown)
        }
    }

    fn json(&mut self, text: &str) -> Result<(), Unreadable> {
        let document: Value = serde_json::from_str(text).map_err(|error| Unreadable::Line {
            line: error.line(),
            what: format!("no JSON: {error}"),
        })?;
        let one = [document];
        let items = one[0]["items"].as_array().map_or(&one[..], Vec::as_slice);
        for (at, item) in items.iter().enumerate() {
            if item["kind"] != "ReplicaSet" {
                if one[0]["items"].is_null() {
                    return Err(Unreadable::Unknown);
                }
                let kind = item["kind"].as_str().unwrap_or("no kind").to_owned();
                return Err(Unreadable::Item {
                    number: at + 1,
                    what: format!("it is a {}, expected a ReplicaSet", clean(&kind)),
                });
            }
            self.revisions.extend(revision(item));
        }
        Ok(())
    }
}

/// `None` for a ReplicaSet that no Deployment made.
fn revision(item: &Value) -> Option<Revision> {
    let meta = &item["metadata"];
    let annotation = |name: &str| meta["annotations"][name].as_str();
    let owners = meta["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["kind"] == "Deployment")?;
    let pods = |value: &Value| value.as_u64().unwrap_or(0);
    Some(Revision {
        workload: Some(owner["name"].as_str()?.to_owned()),
        namespace: meta["namespace"].as_str().map(str::to_owned),
        number: annotation("deployment.kubernetes.io/revision")?
            .parse()
            .ok()?,
        cause: annotation("kubernetes.io/change-cause").map(clean),
        replicas: Some((
            pods(&item["spec"]["replicas"]),
            pods(&item["status"]["readyReplicas"]),
        )),
        containers: item["spec"]["template"]["spec"]["containers"].clone(),
    })
}

impl Revision {
    /// `revision 7: kubectl set image …, 0 of 3 pods ready`.
    pub(super) fn shown(&self) -> String {
        let mut shown = format!("revision {}", self.number);
        if let Some(cause) = &self.cause {
            shown.push_str(&format!(": {cause}"));
        }
        if let Some((wanted, ready)) = self.replicas.filter(|(wanted, _)| *wanted > 0) {
            shown.push_str(&format!(", {ready} of {wanted} pods ready"));
        }
        shown
    }

    /// What it says of a container: `image`, `resources.limits.memory`.
    pub(super) fn field(&self, container: &str, dotted: &str) -> Option<String> {
        let containers = self.containers.as_array()?;
        let mut value = containers.iter().find(|c| c["name"] == container)?;
        for name in dotted.split('.') {
            value = value.get(name)?;
        }
        match value {
            Value::String(text) => Some(clean(text)),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

fn is_kind(kind: &str) -> bool {
    let bare = kind.split('.').next().unwrap_or_default();
    [
        "deployment",
        "statefulset",
        "daemonset",
        "deployments",
        "statefulsets",
        "daemonsets",
    ]
    .contains(&bare)
}

fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(CAUSE_CHARS_MAX)
        .collect()
}

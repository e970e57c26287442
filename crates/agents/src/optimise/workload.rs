//! What of the manifests is a workload, and what else in them is about it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    change::{Key, at, path},
    quantity,
    yaml::Document,
};

/// Workloads of all manifests.
pub const WORKLOADS_MAX: usize = 64;
/// Containers of one that are looked at.
const CONTAINERS_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    pub(super) file: usize,
    pub(super) document: usize,
    /// Where it stands in its document: empty, or a place in a `List`.
    pub(super) base: Vec<Key>,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// `None` where it says nothing, as for a DaemonSet.
    pub(super) replicas: Option<u64>,
    pub(super) containers: Vec<Container>,
    /// By which it finds its pods.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) spec: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: String,
    /// From its workload.
    pub(super) path: Vec<Key>,
    pub(super) value: Value,
}

/// Any object of a manifest.
pub(super) struct Object<'a> {
    pub(super) file: usize,
    pub(super) document: usize,
    pub(super) base: Vec<Key>,
    pub(super) value: &'a Value,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    fn parse(kind: &str) -> Option<Self> {
        [Self::Deployment, Self::StatefulSet, Self::DaemonSet]
            .into_iter()
            .find(|known| known.as_str() == kind)
    }
}

impl Workload {
    /// `Deployment checkout in shop`.
    pub(super) fn title(&self) -> String {
        let place = self.namespace.as_ref().map(|n| format!(" in {n}"));
        format!(
            "{} {}{}",
            self.kind.as_str(),
            self.name,
            place.unwrap_or_default()
        )
    }

    /// Whether a pod of this name is one of its: by what its kind appends.
    pub(super) fn owns(&self, pod: &str) -> bool {
        let Some(rest) = pod
            .strip_prefix(self.name.as_str())
            .and_then(|r| r.strip_prefix('-'))
        else {
            return false;
        };
        let is_generated = |part: &str| {
            part.len() == 5
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        match self.kind {
            Kind::StatefulSet => !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()),
            Kind::DaemonSet => is_generated(rest),
            Kind::Deployment => rest.split_once('-').is_some_and(|(hash, pod)| {
                (1..=10).contains(&hash.len())
                    && hash
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                    && is_generated(pod)
            }),
        }
    }

    /// What a container's `resources` say: `limits.memory`, in bytes or cores.
    pub(super) fn resource(container: &Container, dotted: &str) -> Option<f64> {
        let text = text_of(at(
            &container.value,
            &path(&[], &format!("resources.{dotted}")),
        )?)?;
        quantity::parse(&text)
    }
}

/// A text, or a number as it would be written.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// All objects, also those in a `List`.
pub(super) fn objects(file: usize, documents: &[Document]) -> Vec<Object<'_>> {
    let mut objects = Vec::new();
    for (document, read) in documents.iter().enumerate() {
        let items = read.value["items"]
            .as_array()
            .filter(|_| read.value["kind"] == "List");
        match items {
            Some(items) => objects.extend(items.iter().enumerate().map(|(n, value)| Object {
                file,
                document,
                base: vec![Key::Name("items".to_owned()), Key::At(n)],
                value,
            })),
            None => objects.push(Object {
                file,
                document,
                base: Vec::new(),
                value: &read.value,
            }),
        }
    }
    objects
}

/// `None` for what is no workload; why not, for one without a name or containers.
pub(super) fn workload(object: &Object<'_>) -> Option<Result<Workload, String>> {
    let value = object.value;
    let kind = Kind::parse(value["kind"].as_str()?)?;
    let Some(name) = value["metadata"]["name"]
        .as_str()
        .filter(|name| !name.is_empty())
    else {
        return Some(Err(format!("a {} without metadata.name", kind.as_str())));
    };
    let containers = value["spec"]["template"]["spec"]["containers"].as_array();
    let Some(listed) = containers.filter(|containers| !containers.is_empty()) else {
        return Some(Err(format!(
            "the {} {name:?} has no spec.template.spec.containers",
            kind.as_str()
        )));
    };
    let mut containers = Vec::new();
    for (n, container) in listed.iter().take(CONTAINERS_MAX).enumerate() {
        let Some(name) = container["name"].as_str() else {
            return Some(Err(format!("container {} of {name:?} has no name", n + 1)));
        };
        containers.push(Container {
            name: name.to_owned(),
            path: path(&[], &format!("spec.template.spec.containers.{n}")),
            value: container.clone(),
        });
    }
    let labels = value["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Some(Ok(Workload {
        file: object.file,
        document: object.document,
        base: object.base.clone(),
        kind,
        name: name.to_owned(),
        namespace: value["metadata"]["namespace"].as_str().map(str::to_owned),
        replicas: value["spec"]["replicas"].as_u64(),
        containers,
        labels: labels.collect(),
        spec: value["spec"].clone(),
    }))
}

impl Object<'_> {
    fn is_in(&self, workload: &Workload) -> bool {
        let other = self.value["metadata"]["namespace"].as_str();
        other == workload.namespace.as_deref()
    }

    /// Whether it is an autoscaler of the workload.
    pub(super) fn scales(&self, workload: &Workload) -> bool {
        let target = &self.value["spec"]["scaleTargetRef"];
        self.value["kind"] == "HorizontalPodAutoscaler"
            && target["kind"] == workload.kind.as_str()
            && target["name"] == *workload.name
            && self.is_in(workload)
    }

    /// Whether it is a disruption budget of the workload's pods.
    pub(super) fn protects(&self, workload: &Workload) -> bool {
        let selected = self.value["spec"]["selector"]["matchLabels"].as_object();
        self.value["kind"] == "PodDisruptionBudget"
            && self.is_in(workload)
            && selected.is_some_and(|selected| {
                let has = |(key, value): (&String, &Value)| {
                    workload.labels.get(key).is_some_and(|l| *value == **l)
                };
                selected.iter().all(has)
            })
    }
}

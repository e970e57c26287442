//! What the inputs show that calls for a change, each with the change that it calls for.
//!
//! Whether such a change is worth proposing is not decided here: the memory knows what came of it before. Here
//! is only what can be seen, how clearly (`fit`), and what the numbers would be afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    change::{Change, Edit, at, path},
    history::Revision,
    metrics::{Metrics, Service, Usage},
    quantity::{self, cpu, cpu_seen, memory, memory_seen},
    workload::{Container, Kind, Object, Workload},
};

/// What a limit is to have over the peak that was measured.
const HEADROOM: f64 = 1.4;
/// A peak nearer to the limit than this share of it is near.
const NEAR: f64 = 0.85;
/// A request this many times the peak keeps room that nobody uses.
const IDLE: f64 = 2.5;
/// Periods in which a container waited for the processor, as a share: more are felt.
const THROTTLED: f64 = 0.1;
/// Requests that failed, as a share: more are looked into.
const ERRORS: f64 = 0.01;
/// Seconds for which a pod that ends goes on serving, until no balancer sends to it any more.
const DRAIN_S: u64 = 5;
/// Seconds that Kubernetes gives a pod to end if its manifest says nothing.
const GRACE_S: u64 = 30;
/// Seconds that a probe waits if its manifest says nothing.
const PROBE_S: f64 = 1.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) action: &'static str,
    /// What was seen, in the words that a past case has too; what names differ is left out.
    pub(super) seen: String,
    /// What to expect by what was measured.
    pub(super) effect: String,
    /// How clearly it was seen, 0 to 1.
    pub(super) fit: f32,
    pub(super) change: Change,
    /// What it was in earlier revisions.
    pub(super) before: Vec<String>,
}

/// What is known beside the workload itself.
pub(super) struct Known<'a> {
    pub(super) objects: &'a [Object<'a>],
    pub(super) metrics: &'a Metrics,
    pub(super) revisions: &'a [&'a Revision],
    /// Whether it is the only workload, so that what names none is about it.
    pub(super) is_alone: bool,
}

/// What is seen, the clearest first. An action stands once: the containers that it is for are joined.
pub(super) fn candidates(workload: &Workload, known: &Known<'_>) -> Vec<Candidate> {
    let service = known.metrics.service(workload, known.is_alone);
    let mut found = Found {
        workload,
        revisions: known.revisions,
        all: Vec::new(),
    };
    for container in &workload.containers {
        let usage = known
            .metrics
            .usage(workload, &container.name, known.is_alone);
        found.memory(container, &usage);
        found.cpu(container, &usage);
        found.probes(container, &usage, &service);
        found.image(container);
    }
    found.ending(&service);
    found.rolling(&service);
    found.scaling(known.objects, &service);
    joined(found.all)
}

struct Found<'a> {
    workload: &'a Workload,
    revisions: &'a [&'a Revision],
    all: Vec<Candidate>,
}

impl Found<'_> {
    fn memory(&mut self, container: &Container, usage: &Usage) {
        let limit = Workload::resource(container, "limits.memory");
        let request = Workload::resource(container, "requests.memory");
        let peak = usage.memory_peak;
        let room = |bytes: f64| memory(bytes * HEADROOM);
        match (limit, peak) {
            (Some(limit), _) if usage.out_of_memory => {
                let new = room(peak.unwrap_or(limit).max(limit));
                let seen = format!(
                    "a container was killed for want of memory (OOMKilled) at its memory limit of {}",
                    memory_seen(limit)
                );
                let effect = format!(
                    "room for {:.0} % more than the limit that it was killed at; if it grows into that, too, it leaks",
                    (HEADROOM - 1.0) * 100.0
                );
                self.limit(container, &new, request, limit, seen, effect, 0.9);
            }
            (Some(limit), Some(peak)) if peak >= NEAR * limit => {
                let new = room(peak);
                let seen = format!(
                    "the memory peak of a container is close to its memory limit: {} of {} ({:.0} %)",
                    memory_seen(peak),
                    memory_seen(limit),
                    100.0 * peak / limit
                );
                let effect = format!(
                    "the peak would be {:.0} % of the limit",
                    100.0 * peak / bytes(&new)
                );
                self.limit(container, &new, request, limit, seen, effect, 0.7);
            }
            (None, Some(peak)) => {
                let new = room(peak);
                let seen = "a container has no memory limit, so that it can take its node's memory"
                    .to_owned();
                let effect = format!("at {new} its peak of {} stays below", memory_seen(peak));
                self.set(
                    container,
                    "set-memory-limit",
                    &[("limits.memory", new)],
                    seen,
                    effect,
                    0.3,
                );
            }
            _ => {}
        }
        match (request, peak) {
            (Some(request), Some(peak)) if request >= IDLE * peak && !usage.out_of_memory => {
                let new = memory(peak * 1.2);
                let seen = format!(
                    "a container requests much more memory than it uses: {} of {} at its peak",
                    memory_seen(peak),
                    memory_seen(request)
                );
                let effect = format!(
                    "{} of each pod become free for others",
                    memory_seen(request - bytes(&new))
                );
                self.set(
                    container,
                    "lower-memory-request",
                    &[("requests.memory", new)],
                    seen,
                    effect,
                    0.4,
                );
            }
            (Some(request), Some(peak)) if peak > request && limit.is_some_and(|l| l > request) => {
                let limit = limit.unwrap_or(peak);
                let rounded = memory(peak);
                let new = if bytes(&rounded) > limit {
                    memory_seen(limit)
                } else {
                    rounded
                };
                let seen = format!(
                    "a container uses more memory than it requests ({} of {}), so that it is evicted first",
                    memory_seen(peak),
                    memory_seen(request)
                );
                let effect = "the scheduler keeps the memory that it uses".to_owned();
                self.set(
                    container,
                    "raise-memory-request",
                    &[("requests.memory", new)],
                    seen,
                    effect,
                    0.4,
                );
            }
            (None, Some(peak)) if limit.is_none() => {
                let seen = "a container requests no memory, so that its node may have none for it"
                    .to_owned();
                let effect = "the scheduler keeps the memory that it uses".to_owned();
                self.set(
                    container,
                    "set-requests",
                    &[("requests.memory", memory(peak))],
                    seen,
                    effect,
                    0.4,
                );
            }
            _ => {}
        }
    }

    /// Raises a memory limit, and the request with it where both were the same.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is said once, by two callers beside each other"
    )]
    fn limit(
        &mut self,
        container: &Container,
        new: &str,
        request: Option<f64>,
        limit: f64,
        seen: String,
        effect: String,
        fit: f32,
    ) {
        let mut values = vec![("limits.memory", new.to_owned())];
        if request.is_some_and(|request| request >= limit) {
            values.push(("requests.memory", new.to_owned()));
        }
        self.set(container, "raise-memory-limit", &values, seen, effect, fit);
    }

    fn cpu(&mut self, container: &Container, usage: &Usage) {
        let limit = Workload::resource(container, "limits.cpu");
        let request = Workload::resource(container, "requests.cpu");
        let near = |peak: f64, limit: f64| peak >= 0.95 * limit;
        match (limit, usage.throttled, usage.cpu_peak) {
            (Some(limit), Some(share), peak) if share >= THROTTLED => {
                let new = cpu((limit * 2.0).max(peak.unwrap_or(0.0) * HEADROOM));
                let seen = format!(
                    "a container is throttled in {:.0} % of its periods at its processor limit of {}",
                    share * 100.0,
                    cpu_seen(limit)
                );
                let effect =
                    format!("with {new} it waits less for the processor, and so do its requests");
                self.set(
                    container,
                    "raise-cpu-limit",
                    &[("limits.cpu", new)],
                    seen,
                    effect,
                    0.7,
                );
            }
            (Some(limit), None, Some(peak)) if near(peak, limit) => {
                let new = cpu(limit * 2.0);
                let seen = format!(
                    "the processor time of a container is at its limit: {} of {}",
                    cpu_seen(peak),
                    cpu_seen(limit)
                );
                let effect =
                    "it is throttled less, if it is; the share of throttled periods would tell"
                        .to_owned();
                self.set(
                    container,
                    "raise-cpu-limit",
                    &[("limits.cpu", new)],
                    seen,
                    effect,
                    0.5,
                );
            }
            _ => {}
        }
        match (request, usage.cpu_peak, usage.cpu_mean) {
            (Some(request), Some(peak), _) if request >= IDLE * peak && request - peak >= 0.1 => {
                let new = cpu(peak * HEADROOM);
                let seen = format!(
                    "a container requests much more processor time than it uses: {} of {} at its peak",
                    cpu_seen(peak),
                    cpu_seen(request)
                );
                let free = request - quantity::parse(&new).unwrap_or(request);
                let effect = format!("{} of each pod become free for others", cpu_seen(free));
                self.set(
                    container,
                    "lower-cpu-request",
                    &[("requests.cpu", new)],
                    seen,
                    effect,
                    0.4,
                );
            }
            (Some(request), _, Some(mean))
                if mean > request && limit.is_none_or(|l| l > request) =>
            {
                let new = cpu(limit.map_or(mean, |limit| mean.min(limit)));
                let seen = format!(
                    "a container uses more processor time than it requests, on average: {} of {}",
                    cpu_seen(mean),
                    cpu_seen(request)
                );
                let effect = "it keeps its share when the node is busy".to_owned();
                self.set(
                    container,
                    "raise-cpu-request",
                    &[("requests.cpu", new)],
                    seen,
                    effect,
                    0.4,
                );
            }
            (None, Some(peak), _) if limit.is_none() => {
                let seen =
                    "a container requests no processor time, so that it gets what others leave"
                        .to_owned();
                let effect = "it keeps its share when the node is busy".to_owned();
                self.set(
                    container,
                    "set-requests",
                    &[("requests.cpu", cpu(peak))],
                    seen,
                    effect,
                    0.3,
                );
            }
            _ => {}
        }
    }

    fn probes(&mut self, container: &Container, usage: &Usage, service: &Service) {
        let port = container.value["ports"][0]["containerPort"].as_u64();
        if let (Some(port), true) = (port, container.value["readinessProbe"].is_null()) {
            let probe = json!({ "tcpSocket": { "port": port }, "periodSeconds": 5 });
            let seen = if service.errors.is_some_and(|errors| errors >= ERRORS) {
                "requests fail, and a container that serves them has no readiness probe"
            } else {
                "a container that serves requests has no readiness probe"
            };
            let fit = if service.errors.is_some_and(|e| e >= ERRORS) {
                0.6
            } else {
                0.35
            };
            let effect = "a pod gets requests only once it listens; a path that tells its health is better still";
            self.push(
                "add-readiness-probe",
                seen.to_owned(),
                effect.to_owned(),
                fit,
                vec![self.edit(container, "readinessProbe", Some(probe))],
                Vec::new(),
            );
        }
        let timeout = container.value["livenessProbe"]["timeoutSeconds"]
            .as_f64()
            .unwrap_or(PROBE_S);
        if container.value["livenessProbe"].is_object()
            && let Some(latency) = service.latency.filter(|latency| *latency >= 0.8 * timeout)
        {
            let new = (latency * 3.0).ceil().max(timeout + 1.0) as u64;
            let again = usage.restarts.is_some_and(|restarts| restarts > 0.0);
            let seen = format!(
                "answers take {latency:.1} s and the liveness probe gives up after {timeout} s{}",
                if again { "; containers restart" } else { "" }
            );
            let effect = "a slow but healthy container is not killed".to_owned();
            let fit = if again { 0.7 } else { 0.4 };
            let edit = self.edit(container, "livenessProbe.timeoutSeconds", Some(json!(new)));
            self.push(
                "raise-probe-timeout",
                seen,
                effect,
                fit,
                vec![edit],
                Vec::new(),
            );
        }
    }

    /// Back to the image before, where the newest revision does not get ready.
    fn image(&mut self, container: &Container) {
        let Some((newest, older)) = self.revisions.split_last() else {
            return;
        };
        let Some((wanted, ready)) = newest.replicas.filter(|(wanted, ready)| ready < wanted) else {
            return;
        };
        let now = container.value["image"].as_str();
        let failed = newest.field(&container.name, "image");
        let before = older
            .iter()
            .rev()
            .find_map(|r| Some((r.number, r.field(&container.name, "image")?)));
        let Some((number, before)) =
            before.filter(|(_, b)| failed.as_deref() == now && now != Some(b.as_str()))
        else {
            return;
        };
        let seen = format!(
            "the newest revision has another image and does not get ready: {ready} of {wanted} pods"
        );
        let effect = format!(
            "revision {number} runs again; what is wrong with the new image can be found in peace"
        );
        let edit = self.edit(container, "image", Some(json!(before)));
        self.push(
            "go-back-to-image-before",
            seen,
            effect,
            0.7,
            vec![edit],
            Vec::new(),
        );
    }

    fn ending(&mut self, service: &Service) {
        let workload = self.workload;
        let Some(container) = workload
            .containers
            .iter()
            .find(|c| c.value["ports"][0].is_object())
        else {
            return;
        };
        let errors = service.errors.filter(|errors| *errors >= ERRORS);
        let pod = path(
            &workload.base,
            "spec.template.spec.terminationGracePeriodSeconds",
        );
        let hook = &container.value["lifecycle"]["preStop"];
        if hook.is_null() {
            let seen = match errors {
                Some(share) => format!(
                    "{:.1} % of requests fail, and pods end without a pause (no preStop hook)",
                    share * 100.0
                ),
                None => "pods end without a pause (no preStop hook)".to_owned(),
            };
            let effect = format!(
                "an ending pod serves {DRAIN_S} s more, until nobody sends to it (from Kubernetes 1.30 on)"
            );
            let pause = json!({ "sleep": { "seconds": DRAIN_S } });
            let edit = self.edit(container, "lifecycle.preStop", Some(pause));
            let fit = if errors.is_some() { 0.6 } else { 0.25 };
            self.push(
                "add-pre-stop-pause",
                seen,
                effect,
                fit,
                vec![edit],
                Vec::new(),
            );
        }
        let pause = hook["sleep"]["seconds"].as_u64();
        let grace = self
            .spec("template.spec.terminationGracePeriodSeconds")
            .and_then(Value::as_u64);
        if let Some(pause) = pause.filter(|pause| pause + DRAIN_S > grace.unwrap_or(GRACE_S)) {
            let seen = format!(
                "the preStop hook takes {pause} s of the {} s that a pod has to end",
                grace.unwrap_or(GRACE_S)
            );
            let effect = format!("after the pause there are {GRACE_S} s left to end in order");
            let edit = Edit {
                path: pod,
                value: Some(json!(pause + GRACE_S)),
            };
            self.push(
                "raise-grace-period",
                seen,
                effect,
                0.5,
                vec![edit],
                Vec::new(),
            );
        }
    }

    fn rolling(&mut self, service: &Service) {
        if self.workload.kind != Kind::Deployment {
            return;
        }
        let replicas = self.workload.replicas.unwrap_or(1);
        let serves = self
            .workload
            .containers
            .iter()
            .any(|c| c.value["ports"][0].is_object());
        let unavailable = self.spec("strategy.rollingUpdate.maxUnavailable");
        let count = match unavailable {
            Some(Value::Number(count)) => count.as_u64(),
            Some(Value::String(share)) => share
                .strip_suffix('%')
                .and_then(|share| share.parse::<u64>().ok())
                .map(|share| replicas.saturating_mul(share.min(100)) / 100),
            _ => None,
        };
        let failing = service.errors.is_some_and(|errors| errors >= ERRORS);
        let is_recreated = self
            .spec("strategy.type")
            .is_some_and(|kind| kind == "Recreate");
        if serves && !is_recreated && count.is_some_and(|count| count > 0 && count * 2 >= replicas)
        {
            let seen = format!(
                "a rollout may take {} of {replicas} pods away at once (maxUnavailable){}",
                count.unwrap_or_default(),
                if failing { ", and requests fail" } else { "" }
            );
            let effect = "every pod is replaced by one that is ready before it goes".to_owned();
            let edit = |name: &str, value: Value| Edit {
                path: path(
                    &self.workload.base,
                    &format!("spec.strategy.rollingUpdate.{name}"),
                ),
                value: Some(value),
            };
            let mut edits = vec![edit("maxUnavailable", json!(0))];
            let surge = self.spec("strategy.rollingUpdate.maxSurge");
            if surge.is_none_or(|surge| *surge == json!(0) || *surge == json!("0%")) {
                edits.push(edit("maxSurge", json!(1)));
            }
            let fit = if failing { 0.6 } else { 0.4 };
            self.push(
                "keep-all-pods-while-rolling",
                seen,
                effect,
                fit,
                edits,
                Vec::new(),
            );
        }
    }

    fn scaling(&mut self, objects: &[Object<'_>], service: &Service) {
        let workload = self.workload;
        let scaler = objects.iter().find(|object| object.scales(workload));
        let serves = workload
            .containers
            .iter()
            .any(|c| c.value["ports"][0].is_object());
        if let Some(scaler) = scaler {
            if let Some(replicas) = workload.replicas {
                let seen = "an autoscaler sets the replicas, and so does the manifest: each apply undoes it";
                let effect = format!(
                    "an apply leaves the number of pods alone, instead of setting it to {replicas}"
                );
                let edit = Edit {
                    path: path(&workload.base, "spec.replicas"),
                    value: None,
                };
                self.push(
                    "leave-replicas-to-autoscaler",
                    seen.to_owned(),
                    effect,
                    0.5,
                    vec![edit],
                    Vec::new(),
                );
            }
            self.ceiling(scaler, service);
        } else if serves && workload.kind == Kind::Deployment && workload.replicas.unwrap_or(1) == 1
        {
            let seen = "what serves requests runs as a single pod".to_owned();
            let effect =
                "one pod can fail or move to another node while the other one serves".to_owned();
            let edit = Edit {
                path: path(&workload.base, "spec.replicas"),
                value: Some(json!(2)),
            };
            self.push(
                "run-two-replicas",
                seen,
                effect,
                0.35,
                vec![edit],
                Vec::new(),
            );
        }
        let least = scaler.map(|object| &object.value["spec"]["minReplicas"]);
        let least = least.map_or(workload.replicas, |least| Some(least.as_u64().unwrap_or(1)));
        let is_protected = objects.iter().any(|object| object.protects(workload));
        let several = least.is_some_and(|least| least > 1) && workload.kind != Kind::DaemonSet;
        if several && !is_protected && !workload.labels.is_empty() {
            let seen = "no disruption budget (PodDisruptionBudget): a drain of nodes may end all pods at once";
            let effect = "a drain waits until the pod before is ready elsewhere".to_owned();
            self.all.push(Candidate {
                action: "add-disruption-budget",
                seen: seen.to_owned(),
                effect,
                fit: 0.3,
                change: Change::Append(budget(workload)),
                before: Vec::new(),
            });
        }
    }

    /// An autoscaler that is at its end.
    fn ceiling(&mut self, scaler: &Object<'_>, service: &Service) {
        let most = scaler.value["spec"]["maxReplicas"].as_u64();
        let Some(most) = most.filter(|most| *most > 0 && service.pods as u64 >= *most) else {
            return;
        };
        // Its pods are all that it may have: it would have more if it could, or is about to.
        let new = most + most.div_ceil(2);
        let seen = format!("the autoscaler is at its maximum: {most} pods run (maxReplicas)");
        let effect = format!("up to {new} pods share the load");
        if scaler.file != self.workload.file {
            return;
        }
        self.all.push(Candidate {
            action: "raise-autoscaler-maximum",
            seen,
            effect,
            fit: 0.5,
            change: Change::Edit {
                document: scaler.document,
                edits: vec![Edit {
                    path: path(&scaler.base, "spec.maxReplicas"),
                    value: Some(json!(new)),
                }],
            },
            before: Vec::new(),
        });
    }

    /// A value of `spec`.
    fn spec(&self, dotted: &str) -> Option<&Value> {
        at(&self.workload.spec, &path(&[], dotted))
    }

    fn set(
        &mut self,
        container: &Container,
        action: &'static str,
        values: &[(&str, String)],
        seen: String,
        effect: String,
        fit: f32,
    ) {
        let edit = |(name, value): &(&str, String)| {
            let now = at(&container.value, &path(&[], &format!("resources.{name}")));
            // A number stays one: some tools compare text.
            let value = match now {
                Some(Value::Number(_)) => value.parse::<u64>().map_or(json!(value), |n| json!(n)),
                _ => json!(value),
            };
            self.edit(container, &format!("resources.{name}"), Some(value))
        };
        let edits: Vec<Edit> = values.iter().map(edit).collect();
        let field = format!("resources.{}", values[0].0);
        let before = self.revisions.iter().rev().filter_map(|revision| {
            let value = revision.field(&container.name, &field)?;
            Some(format!("{value} in revision {}", revision.number))
        });
        let before = before.take(3).collect();
        self.push(action, seen, effect, fit, edits, before);
    }

    fn edit(&self, container: &Container, dotted: &str, value: Option<Value>) -> Edit {
        let mut base = self.workload.base.clone();
        base.extend(container.path.iter().cloned());
        Edit {
            path: path(&base, dotted),
            value,
        }
    }

    fn push(
        &mut self,
        action: &'static str,
        seen: String,
        effect: String,
        fit: f32,
        edits: Vec<Edit>,
        before: Vec<String>,
    ) {
        let document = self.workload.document;
        self.all.push(Candidate {
            action,
            seen,
            effect,
            fit,
            change: Change::Edit { document, edits },
            before,
        });
    }
}

fn bytes(text: &str) -> f64 {
    quantity::parse(text).unwrap_or(f64::INFINITY)
}

fn budget(workload: &Workload) -> Value {
    let mut metadata = json!({ "name": workload.name });
    if let Some(namespace) = &workload.namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": { "maxUnavailable": 1, "selector": { "matchLabels": workload.labels } },
    })
}

/// The same action for several containers is one.
fn joined(all: Vec<Candidate>) -> Vec<Candidate> {
    let mut by_action: BTreeMap<&str, Candidate> = BTreeMap::new();
    for candidate in all {
        let Some(known) = by_action.get_mut(candidate.action) else {
            by_action.insert(candidate.action, candidate);
            continue;
        };
        if let (Change::Edit { edits, .. }, Change::Edit { edits: more, .. }) =
            (&mut known.change, candidate.change)
        {
            edits.extend(more);
        }
        for (text, more) in [
            (&mut known.seen, candidate.seen),
            (&mut known.effect, candidate.effect),
        ] {
            if *text != more {
                text.push_str("; ");
                text.push_str(&more);
            }
        }
        known.fit = known.fit.max(candidate.fit);
        known.before.extend(candidate.before);
    }
    let mut joined: Vec<Candidate> = by_action.into_values().collect();
    joined.sort_by(|a, b| b.fit.total_cmp(&a.fit).then(a.action.cmp(b.action)));
    joined
}

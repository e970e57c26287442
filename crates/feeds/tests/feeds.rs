//! Messages in the senders' real formats, and broken ones: data in, text out.

#![allow(clippy::unwrap_used, reason = "a test panics on failure")]

use std::fmt::Write as _;

use memorygate_core::{
    memory::{check_content, check_importance, check_metadata},
    name::{Domain, Name},
};
use memorygate_feeds::{
    BODY_BYTES_MAX, Experience,
    alertmanager::{Alerts, Notification, Severity, Status},
    ci,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const FIRING: &str = include_str!("samples/alertmanager_firing.json");
const RESOLVED: &str = include_str!("samples/alertmanager_resolved.json");
const GITHUB: &str = include_str!("samples/github_workflow_job.json");
const GITLAB: &str = include_str!("samples/gitlab_job.json");
const PLAIN: &str = include_str!("samples/plain_job.json");

fn told(experience: &Experience) -> String {
    let mut text = format!(
        "{}\n{} {:.2} by {} in {} at {}\n{}\n",
        experience.event,
        experience.domain,
        experience.importance,
        experience.agent,
        experience.session,
        experience
            .occurred_at
            .map_or_else(|| "no time".to_owned(), memorygate_feeds::instant::format),
        experience.content,
    );
    for (key, value) in &experience.metadata {
        writeln!(text, "  {key}: {value}").unwrap();
    }
    text
}

/// What is learned from alerts.
fn alerts(body: &str) -> String {
    match Notification::parse(body.as_bytes()) {
        Ok(notification) => {
            let experiences = notification.experiences();
            experiences.iter().map(told).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("error: {error}"),
    }
}

/// What is learned from a job.
fn job(body: &str) -> String {
    match ci::Event::parse(body.as_bytes()) {
        Ok(ci::Event::Ping) => "ping".to_owned(),
        Ok(ci::Event::Job(job)) => job.failure().map_or_else(
            || format!("nothing: {}", job.conclusion.as_str()),
            |e| told(&e),
        ),
        Err(error) => format!("error: {error}"),
    }
}

/// A sample with some of its fields changed; `null` takes a field away.
fn with(sample: &str, changes: &[(&str, Value)]) -> String {
    let mut sample: Value = serde_json::from_str(sample).unwrap();
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = sample.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(object), Value::Null) => drop(object.remove(field)),
            (Value::Object(object), value) => drop(object.insert(field.to_owned(), value.clone())),
            (parent, value) => parent[field.parse::<usize>().unwrap()] = value.clone(),
        }
    }
    sample.to_string()
}

#[test]
fn an_alert_becomes_an_experience() {
    assert_eq!(
        alerts(FIRING),
        "\
alertmanager/9d1fd3ef9a1aed14/1769825487306/firing
incident_response 0.90 by alertmanager in alerts/8b2c278d045b626a/2026-01-31 at 2026-01-31T02:11:27Z
Alert KubePodCrashLooping (critical) is firing.
Pod is crash looping.
Pod shop/checkout-7f9c6d5b8-x2k4p (checkout) is in waiting state (reason: \"CrashLoopBackOff\").
labels: cluster=prod-eu-1, container=checkout, job=kube-state-metrics, namespace=shop, \
         pod=checkout-7f9c6d5b8-x2k4p, severity=critical
  alertname: KubePodCrashLooping
  fingerprint: 9d1fd3ef9a1aed14
  generator_url: http://prometheus.example.org:9090/graph?g0.expr=max_over_time%28\
         kube_pod_container_status_waiting_reason%29&g0.tab=1
  label.cluster: prod-eu-1
  label.container: checkout
  label.job: kube-state-metrics
  label.namespace: shop
  label.pod: checkout-7f9c6d5b8-x2k4p
  label.severity: critical
  runbook_url: https://runbooks.example.org/kubepodcrashlooping
  severity: critical
  source: alertmanager
  starts_at: 2026-01-31T02:11:27Z
  status: firing

alertmanager/1a2b3c4d5e6f7081/1769824707306/resolved
incident_response 0.48 by alertmanager in alerts/8b2c278d045b626a/2026-01-31 at 2026-01-31T02:15:27Z
Alert KubePodCrashLooping (warning) was resolved.
Pod is crash looping.
labels: cluster=prod-eu-1, container=cart, job=kube-state-metrics, namespace=shop, \
         pod=cart-5d8f7c9d4-qq8zt, severity=Warning
  alertname: KubePodCrashLooping
  fingerprint: 1a2b3c4d5e6f7081
  fired_for_s: 1020
  label.cluster: prod-eu-1
  label.container: cart
  label.job: kube-state-metrics
  label.namespace: shop
  label.pod: cart-5d8f7c9d4-qq8zt
  label.severity: Warning
  severity: warning
  source: alertmanager
  starts_at: 2026-01-31T01:58:27Z
  status: resolved
"
    );
}

#[test]
fn a_failed_job_of_github_becomes_an_experience() {
    assert_eq!(
        job(GITHUB),
        "\
github/octo-org/checkout/2832853555/2/failed
code_review 0.70 by github in github/octo-org/checkout/940463255 at 2026-01-31T10:04:44Z
CI job integration tests of CI in octo-org/checkout on main failed.
failed steps: Run make test
runner: ubuntu-24.04
  attempt: 2
  commit: e3103f8eb03e1ad7f2331c5446b23c070fc54055
  finished_at: 2026-01-31T10:04:44Z
  job: integration tests
  job_id: 2832853555
  pipeline: CI
  pipeline_id: 940463255
  ref: main
  repository: octo-org/checkout
  runner: ubuntu-24.04
  source: github
  status: failed
  took_s: 210
  url: https://github.com/octo-org/checkout/actions/runs/940463255/job/2832853555
"
    );
    for (conclusion, expected) in [
        ("success", "nothing: succeeded"),
        ("cancelled", "nothing: did not run to its end"),
        ("skipped", "nothing: did not run to its end"),
        (
            "burnt",
            "error: workflow_job.conclusion: Some(\"burnt\"), expected one such as \"failure\" or \
             \"success\"",
        ),
    ] {
        let body = with(GITHUB, &[("/workflow_job/conclusion", json!(conclusion))]);
        assert_eq!(job(&body), expected);
    }
    let running = [
        ("/workflow_job/status", json!("in_progress")),
        ("/workflow_job/conclusion", Value::Null),
    ];
    assert_eq!(job(&with(GITHUB, &running)), "nothing: is not finished");
    let late = with(GITHUB, &[("/workflow_job/conclusion", json!("timed_out"))]);
    assert!(job(&late).contains("on main timed out.\n"));
    let ping = r#"{"zen": "Design for failure.", "hook_id": 1, "hook": {}, "repository": {}}"#;
    assert_eq!(job(ping), "ping");
}

#[test]
fn a_failed_job_of_gitlab_becomes_an_experience() {
    assert_eq!(
        job(GITLAB),
        "\
gitlab/shop/checkout/3580121225/2/failed
deployment 0.80 by gitlab in gitlab/shop/checkout/743121198 at 2023-01-10T13:57:05Z
CI job deploy_production of stage deploy in shop/checkout on raise-timeout failed.
reason: script_failure
change: Raise the proxy's timeout
environment: production
runner: linux, docker
  attempt: 2
  author: Ada
  commit: 95d49d1efbd941908580e79d65e4b5ecaf4a8305
  environment: production
  finished_at: 2023-01-10T13:57:05Z
  job: deploy_production
  job_id: 3580121225
  pipeline_id: 743121198
  reason: script_failure
  ref: raise-timeout
  repository: shop/checkout
  runner: linux, docker
  source: gitlab
  stage: deploy
  status: failed
  took_s: 300
  url: https://gitlab.example.org/shop/checkout/-/jobs/3580121225
"
    );
    for (changes, expected) in [
        (
            vec![("/build_status", json!("success"))],
            "nothing: succeeded",
        ),
        (
            vec![("/build_status", json!("running"))],
            "nothing: is not finished",
        ),
        (
            vec![("/build_status", json!("canceled"))],
            "nothing: did not run to its end",
        ),
        (
            vec![("/build_status", json!("burnt"))],
            "error: build_status: \"burnt\", expected one such as \"failed\" or \"success\"",
        ),
        (
            vec![("/pipeline_id", Value::Null)],
            "error: message: missing field `pipeline_id` at line 1 column",
        ),
        (
            vec![("/commit", json!("none"))],
            "error: commit: invalid type: string \"none\", expected struct Commit",
        ),
    ] {
        let actual = job(&with(GITLAB, &changes));
        assert!(actual.starts_with(expected), "{actual}");
    }
    let stuck = [
        ("/build_failure_reason", json!("stuck_or_timeout_failure")),
        ("/build_finished_at_iso", json!("2023-01-10T13:57:06Z")),
        ("/build_allow_failure", json!(true)),
        ("/environment", Value::Null),
        ("/project", Value::Null),
        ("/runner", Value::Null),
        ("/build_name", json!("lint")),
        ("/build_stage", json!("test")),
    ];
    let stuck = job(&with(GITLAB, &stuck));
    assert!(
        stuck.contains("CI job lint of stage test in Shop / Checkout on raise-timeout timed out."),
        "{stuck}"
    );
    assert!(stuck.contains("code_review 0.30 by gitlab"), "{stuck}");
    assert!(stuck.contains("at 2023-01-10T13:57:06Z"), "{stuck}");
}

#[test]
fn a_plain_failed_job_becomes_an_experience() {
    assert_eq!(
        job(PLAIN),
        "\
ci/shop/checkout/4711/1/failed
code_review 0.70 by ci in ci/shop/checkout/991 at 2026-01-31T10:04:44Z
CI job unit tests of nightly in shop/checkout on main failed.
failed steps: cargo test
reason: exit code 101
change: Retry on 503
log:
running 214 tests
test retry::backs_off ... FAILED

panicked at retry.rs:41: expected 3 attempts, got 4
  attempt: 1
  commit: 95d49d1efbd941908580e79d65e4b5ecaf4a8305
  finished_at: 2026-01-31T10:04:44Z
  job: unit tests
  job_id: 4711
  pipeline: nightly
  pipeline_id: 991
  reason: exit code 101
  ref: main
  repository: shop/checkout
  source: ci
  status: failed
  took_s: 210
  url: https://ci.example.org/jobs/4711
"
    );
    let least = r#"{"id": "1", "job": "build", "status": "failure"}"#;
    assert!(job(least).starts_with("ci//1/1/failed\ncode_review 0.50 by ci in ci//1 at no time\n"));
    assert_eq!(
        job(&with(PLAIN, &[("/status", json!("success"))])),
        "nothing: succeeded"
    );
}

#[test]
fn a_broken_message_says_what_is_wrong() {
    let at = |pointer, value| alerts(&with(FIRING, &[(pointer, value)]));
    for (actual, expected) in [
        (
            alerts(""),
            "message is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            alerts("<html>"),
            "message is not JSON: expected value at line 1 column 1",
        ),
        (
            alerts(&FIRING[..700]),
            "message is not JSON: EOF while parsing",
        ),
        (
            alerts(&format!("{FIRING} {{}}")),
            "message is not JSON: trailing characters",
        ),
        (
            alerts("[]"),
            "message: invalid length 0, expected struct Notification",
        ),
        (
            alerts(&"[".repeat(10_000)),
            "[0]: invalid type: sequence, expected a string",
        ),
        (
            at("/version", json!("1")),
            "version: \"1\", expected \"4\", the one of Alertmanager's webhook",
        ),
        (
            at("/status", json!("burning")),
            "status: unknown variant `burning`, expected `firing` or `resolved`",
        ),
        (
            at("/groupKey", Value::Null),
            "message: missing field `groupKey`",
        ),
        (
            at("/alerts/0", json!(7)),
            "alerts[0]: invalid type: integer `7`, expected struct Alert",
        ),
        (
            at("/alerts/1/startsAt", json!("tomorrow")),
            "alerts[1].startsAt: \"tomorrow\" is no time, expected one such as",
        ),
        (
            at("/alerts/1/startsAt", json!("0001-01-01T00:00:00Z")),
            "alerts[1].startsAt: no time",
        ),
        (
            at("/alerts/1/startsAt", json!("1900-01-01T00:00:00Z")),
            "alerts[1].startsAt: time -2208988800000 ms lies outside",
        ),
        (
            at("/alerts/1/labels", json!({})),
            "alerts[1].labels: empty, expected at least alertname",
        ),
        (
            at("/alerts/0/labels/pod", json!(1)),
            "alerts[0].labels.pod: invalid type: integer `1`, expected a string",
        ),
        (
            at("/alerts/0/fingerprint", json!("a\nb")),
            "alerts[0].fingerprint: expected at most 64 bytes",
        ),
        (
            job("{}"),
            "neither a job of GitHub (\"workflow_job\"), nor one of GitLab",
        ),
        (
            job("{\"job\": \"a\", \"id\": []}"),
            "id: expected a number or a text",
        ),
        (
            job("{\"job\": \"a\", \"id\": 1}"),
            "message: missing field `status`",
        ),
        (
            job("{\"job\": \" \", \"id\": 1, \"status\": \"failed\"}"),
            "job: empty, expected a text",
        ),
        (
            job("{\"job\": \"a\", \"id\": 1, \"status\": \"meh\"}"),
            "status: unknown variant `meh`, expected one of",
        ),
        (
            job("{\"job\": \"a\", \"id\": 1, \"status\": \"failed\", \"brunch\": \"main\"}"),
            "brunch: unknown field `brunch`",
        ),
        (
            job(&with(GITHUB, &[("/repository", Value::Null)])),
            "message: missing field `repository`",
        ),
    ] {
        assert!(
            actual.starts_with(&format!("error: {expected}")),
            "{expected}: {actual}"
        );
    }
    let large = format!("{}{}", " ".repeat(BODY_BYTES_MAX), FIRING);
    assert!(alerts(&large).contains("bytes, expected at most 4194304"));
    let alert = serde_json::from_str::<Value>(FIRING).unwrap()["alerts"][0].clone();
    let many = with(FIRING, &[("/alerts", Value::Array(vec![alert; 1001]))]);
    assert!(alerts(&many).starts_with("error: 1001 alerts, expected at most 1000"));
    let labels: serde_json::Map<_, _> = (0..257).map(|i| (format!("l{i}"), json!("v"))).collect();
    assert!(
        at("/alerts/0/labels", Value::Object(labels)).contains("257 entries, expected at most 256")
    );
    let steps = with(PLAIN, &[("/failed_steps", json!(vec!["s"; 65]))]);
    assert!(job(&steps).contains("failed_steps: 65 steps, expected at most 64"));
}

#[test]
fn alerts_of_many_messages_are_met_once_each() {
    let parse = |body: &str| Notification::parse(body.as_bytes()).unwrap();
    let (firing, resolved) = (parse(FIRING), parse(RESOLVED));
    let mut alerts = Alerts::default();
    assert_eq!(
        (alerts.status(), alerts.is_empty()),
        (Status::Resolved, true)
    );
    alerts.add(&firing).unwrap();
    alerts.add(&firing).unwrap();
    assert_eq!((alerts.len(), alerts.status()), (2, Status::Firing));
    let order: Vec<_> = alerts.ordered().iter().map(|a| a.severity()).collect();
    assert_eq!(order, [Severity::Critical, Severity::Warning]);

    alerts.add(&resolved).unwrap();
    assert_eq!((alerts.len(), alerts.status()), (2, Status::Resolved));
    let fired_for_ms = alerts.get("9d1fd3ef9a1aed14").unwrap().fired_for_ms();
    assert_eq!(fired_for_ms, Some(30 * 60 * 1000));
    // The message that came before it, overtaken on the way.
    alerts.add(&firing).unwrap();
    assert_eq!(alerts.status(), Status::Resolved);
    // It begins anew.
    let again = with(
        FIRING,
        &[("/alerts/0/startsAt", json!("2026-01-31T09:00:00Z"))],
    );
    alerts.add(&parse(&again)).unwrap();
    assert_eq!((alerts.len(), alerts.status()), (2, Status::Firing));

    let mut full = Alerts::default();
    for hundred in 0..10 {
        full.add(&numbered(hundred)).unwrap();
    }
    let refused = full.add(&numbered(10)).unwrap_err().to_string();
    assert!(
        refused.starts_with("1100 alerts, expected at most 1000"),
        "{refused}"
    );
    assert_eq!(full.len(), 1000);
}

/// A hundred alerts without fingerprints.
fn numbered(hundred: usize) -> Notification {
    let mut alert = serde_json::from_str::<Value>(FIRING).unwrap()["alerts"][0].clone();
    alert["fingerprint"] = json!("");
    let alerts = (0..100).map(|i| {
        alert["labels"]["pod"] = json!(format!("{hundred}-{i}"));
        alert.clone()
    });
    let body = with(FIRING, &[("/alerts", Value::Array(alerts.collect()))]);
    Notification::parse(body.as_bytes()).unwrap()
}

#[test]
fn one_event_has_one_name_whichever_message_tells_of_it() {
    let events = |body: &str| -> Vec<String> {
        let notification = Notification::parse(body.as_bytes()).unwrap();
        let experiences = notification.experiences();
        experiences.into_iter().map(|e| e.event).collect()
    };
    let first = events(FIRING);
    let fewer = with(FIRING, &[("/alerts/1", json!(null))]);
    let fewer = fewer.replace(",null]", "]");
    assert_eq!(events(&fewer), first[..1]);
    let elsewhere = with(
        FIRING,
        &[("/receiver", json!("other")), ("/groupKey", json!("{}:{}"))],
    );
    assert_eq!(events(&elsewhere), first);
    assert_ne!(events(RESOLVED)[0], first[0]);
    let again = with(
        FIRING,
        &[("/alerts/0/startsAt", json!("2026-01-31T09:00:00Z"))],
    );
    assert_ne!(events(&again)[0], first[0]);
}

fn check_bounds(experience: &Experience) {
    assert_eq!(check_content(&experience.content), Ok(()));
    assert_eq!(check_importance(experience.importance), Ok(()));
    assert_eq!(check_metadata(&experience.metadata), Ok(()));
    assert!(Domain::parse(&experience.domain).is_ok());
    assert!(Name::parse(&experience.agent).is_ok());
    assert!(Name::parse(&experience.session).is_ok());
}

#[test]
fn the_largest_messages_become_experiences_within_the_bounds() {
    let long = "ä\u{7}\n".repeat(50_000);
    let labels: serde_json::Map<_, _> = (0..250)
        .map(|i| (format!("l{i}"), json!(long[..2000].to_owned())))
        .collect();
    let body = with(
        FIRING,
        &[
            ("/alerts/0/labels", Value::Object(labels)),
            ("/alerts/0/annotations/summary", json!(long)),
            (
                "/alerts/0/annotations/description",
                json!(format!("x{long}")),
            ),
            ("/alerts/0/annotations/message", json!(format!("y{long}"))),
        ],
    );
    for experience in Notification::parse(body.as_bytes()).unwrap().experiences() {
        check_bounds(&experience);
    }
    for (sample, fields) in [
        (
            GITHUB,
            vec![
                "/workflow_job/name",
                "/workflow_job/head_branch",
                "/repository/full_name",
            ],
        ),
        (
            GITLAB,
            vec![
                "/build_name",
                "/project/path_with_namespace",
                "/commit/message",
            ],
        ),
        (
            PLAIN,
            vec![
                "/job",
                "/log",
                "/reason",
                "/repository",
                "/pipeline_id",
                "/url",
                "/runner",
            ],
        ),
    ] {
        let changes: Vec<_> = fields
            .into_iter()
            .map(|field| (field, json!(long)))
            .collect();
        let ci::Event::Job(job) = ci::Event::parse(with(sample, &changes).as_bytes()).unwrap()
        else {
            panic!("no job");
        };
        check_bounds(&job.failure().unwrap());
    }
}

proptest! {
    /// Whatever the fields hold, a message is read within the bounds or refused.
    #[test]
    fn any_field_of_a_message_may_be_anything(
        which in 0..5_usize,
        place in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just(Value::Null), Just(json!([])), Just(json!({})), Just(json!(-1)), Just(json!(true)),
            "\\PC{0,40}".prop_map(Value::String),
        ],
    ) {
        let mut sample: Value = serde_json::from_str([FIRING, RESOLVED, GITHUB, GITLAB, PLAIN][which]).unwrap();
        let mut pointers = Vec::new();
        collect(&sample, String::new(), &mut pointers);
        let pointer: &String = place.get(&pointers);
        *sample.pointer_mut(pointer).unwrap() = value;
        let body = sample.to_string();
        if let Ok(notification) = Notification::parse(body.as_bytes()) {
            notification.experiences().iter().for_each(check_bounds);
        }
        if let Ok(ci::Event::Job(job)) = ci::Event::parse(body.as_bytes()) {
            job.failure().iter().for_each(check_bounds);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Notification::parse(&bytes);
        let _ = ci::Event::parse(&bytes);
    }
}

/// The places of all values.
fn collect(value: &Value, place: String, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(name, value)| collect(value, format!("{place}/{name}"), into)),
        Value::Array(array) => array
            .iter()
            .enumerate()
            .for_each(|(i, value)| collect(value, format!("{place}/{i}"), into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    into.push(place);
}

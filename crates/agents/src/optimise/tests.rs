//! From manifests and what was measured to changes of them, and from one case to the next.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use memorygate_client::{InMemoryStore, Key, TimeMs};
use proptest::prelude::*;

use super::*;
use crate::{CaseBased, Outcome, review::Diff};

fn example(name: &str) -> Vec<u8> {
    // Asked at run time: a kept build may come from a checkout elsewhere.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    fs::read(root.join("../../examples/agents/optimise").join(name)).unwrap()
}

fn agent() -> MemoryEnabledAgent {
    MemoryEnabledAgent::new(
        Arc::new(InMemoryStore::new()),
        Arc::new(CaseBased::default()),
    )
}

fn context() -> LearningContext {
    LearningContext::new("").agent("optimiser")
}

/// What is given to the agent.
#[derive(Default)]
struct Given {
    manifests: Manifests,
    history: History,
    metrics: Metrics,
}

impl Given {
    fn manifest(name: &str) -> Self {
        let mut given = Self::default();
        given.manifests.read(name, &example(name)).unwrap();
        given
    }

    fn text(text: &str) -> Self {
        Self::named("deploy.yaml", text)
    }

    fn named(name: &str, text: &str) -> Self {
        let mut given = Self::default();
        given.manifests.read(name, text.as_bytes()).unwrap();
        given
    }

    fn history(mut self, name: &str) -> Self {
        self.history.read(&example(name)).unwrap();
        self
    }

    fn metrics(mut self, name: &str, measure: Option<Measure>) -> Self {
        self.metrics.read(&example(name), measure).unwrap();
        self
    }

    fn measured(mut self, text: &str, measure: Option<Measure>) -> Self {
        self.metrics.read(text.as_bytes(), measure).unwrap();
        self
    }

    async fn advice(&self, agent: &MemoryEnabledAgent) -> Advice {
        let Self {
            manifests,
            history,
            metrics,
        } = self;
        let all = optimise(agent, manifests, history, metrics, &context())
            .await
            .unwrap();
        let [advice] = &all[..] else {
            panic!("{all:?}")
        };
        advice.clone()
    }
}

fn checkout() -> Given {
    Given::manifest("checkout.yaml")
        .metrics("checkout-top.txt", None)
        .metrics("checkout-errors.json", Some(Measure::Errors))
        .history("checkout-history.txt")
}

fn search() -> Given {
    Given::manifest("search.yaml").metrics("search-memory.json", None)
}

fn proposed<'a>(advice: &'a Advice, action: &str) -> &'a Proposed {
    let found = advice.proposals.iter().find(|p| p.action == action);
    found.unwrap_or_else(|| panic!("no {action} in {:#?}", advice.proposals))
}

/// The lines that a change takes away and adds.
fn changed(advice: &Advice, action: &str) -> String {
    let diff = proposed(advice, action)
        .patch
        .as_ref()
        .unwrap()
        .diff
        .as_ref()
        .unwrap();
    Diff::parse(diff.as_bytes()).unwrap();
    let lines = diff.lines().skip(2).filter(|l| l.starts_with(['+', '-']));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_calls_for_a_change_is_seen_with_its_numbers() {
    let advice = checkout().advice(&agent()).await;
    assert_eq!(advice.workload, "Deployment checkout in shop");
    assert_eq!(
        advice.seen,
        [
            "the memory peak of a container is close to its memory limit: 244Mi of 256Mi (95 %)",
            "3.1 % of requests fail, and pods end without a pause (no preStop hook)",
            "requests fail, and a container that serves them has no readiness probe",
            "a rollout may take 2 of 3 pods away at once (maxUnavailable), and requests fail",
            "an autoscaler sets the replicas, and so does the manifest: each apply undoes it",
            "a container requests much more processor time than it uses: 131m of 1000m at its peak",
            "a container uses more memory than it requests (244Mi of 192Mi), so that it is evicted first",
            "no disruption budget (PodDisruptionBudget): a drain of nodes may end all pods at once",
        ]
    );
    assert_eq!(
        advice.revisions[0],
        "revision 13: kubectl set image deployment/checkout \
         checkout=registry.example.com/shop/checkout:1.42.0"
    );
    assert!(!advice.known, "nothing was learned yet");
    assert!(
        advice.explanation.starts_with("not known well enough: "),
        "{}",
        advice.explanation
    );
    let first = &advice.proposals[0];
    assert_eq!(first.action, "raise-memory-limit");
    assert_eq!(
        first.effect,
        "not tried in a similar case; the peak would be 69 % of the limit"
    );
}

#[tokio::test]
async fn a_change_stands_at_its_line_and_comments_stay() {
    let advice = checkout().advice(&agent()).await;
    let first = proposed(&advice, "raise-memory-limit")
        .patch
        .as_ref()
        .unwrap();
    assert_eq!(first.line, Some(41));
    assert_eq!(
        first.diff.as_ref().unwrap(),
        "\
--- a/checkout.yaml
+++ b/checkout.yaml
@@ -38,7 +38,7 @@
               memory: 192Mi
             limits:
               # Was enough before the session cache.
-              memory: 256Mi
+              memory: 352Mi
           livenessProbe:
             httpGet: { path: /healthz, port: http }
             periodSeconds: 10
"
    );
    assert_eq!(
        first.command,
        "kubectl patch deployment checkout --namespace shop --type strategic --patch \
         '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"checkout\",\"resources\":\
         {\"limits\":{\"memory\":\"352Mi\"}}}]}}}}'"
    );
    assert_eq!(
        changed(&advice, "keep-all-pods-while-rolling"),
        "-      maxUnavailable: 2\n-      maxSurge: 0\n+      maxUnavailable: 0\n+      maxSurge: 1"
    );
    assert_eq!(
        changed(&advice, "leave-replicas-to-autoscaler"),
        "-  replicas: 3 # one per zone"
    );
    assert_eq!(
        changed(&advice, "add-readiness-probe"),
        "+          readinessProbe:\n+            periodSeconds: 5\n+            tcpSocket:\n\
         +              port: 8080"
    );
    assert_eq!(
        changed(&advice, "add-pre-stop-pause"),
        "+          lifecycle:\n+            preStop:\n+              sleep:\n+                seconds: 5"
    );
    let both: Vec<&Proposed> = advice.proposals.iter().collect();
    let manifests = checkout().manifests;
    let patch = manifests.patch(&both).unwrap();
    let files = Diff::parse(patch.as_bytes()).unwrap().files;
    assert_eq!(files.len(), 1, "{patch}");
    assert!(patch.contains("+              memory: 352Mi"), "{patch}");
}

#[tokio::test]
async fn values_in_brackets_and_documents_more_are_written_as_well() {
    let advice = search().advice(&agent()).await;
    assert_eq!(advice.workload, "StatefulSet search in shop");
    assert_eq!(
        changed(&advice, "raise-memory-limit"),
        "-            requests: { cpu: 500m, memory: 512Mi }\n\
         -            limits: { memory: 512Mi } # requests and limits are the same on purpose\n\
         +            requests: { cpu: 500m, memory: 688Mi }\n\
         +            limits: { memory: 688Mi } # requests and limits are the same on purpose"
    );
    assert_eq!(
        advice.seen.len(),
        1,
        "it is in order otherwise: {:?}",
        advice.seen
    );

    let text = "kind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  \
                template: {spec: {containers: [{name: web, image: web, ports: [{containerPort: 80}], resources: {}}]}}";
    let given = Given::text(text).measured(
        "NAME  CPU(cores)  MEMORY(bytes)\nweb-abc-12345 20m 90Mi\n",
        None,
    );
    let advice = given.advice(&agent()).await;
    let changed = |action| changed(&advice, action);
    assert!(
        changed("add-readiness-probe").contains(
            "resources: {}, readinessProbe: {periodSeconds: 5, tcpSocket: {port: 80}}}]}}"
        ),
        "{}",
        changed("add-readiness-probe")
    );
    assert_eq!(
        changed("add-disruption-budget")
            .lines()
            .skip(2)
            .collect::<Vec<_>>(),
        [
            "+---",
            "+apiVersion: policy/v1",
            "+kind: PodDisruptionBudget",
            "+metadata:",
            "+  name: web",
            "+spec:",
            "+  maxUnavailable: 1",
            "+  selector:",
            "+    matchLabels:",
            "+      app: web",
        ]
    );
    assert!(
        changed("set-requests").contains("resources: {requests: {memory: 96Mi, cpu: 20m}}}]}}"),
        "{}",
        changed("set-requests")
    );
    let requests = proposed(&advice, "set-requests").patch.as_ref().unwrap();
    let told = "\"requests\":{\"cpu\":\"20m\",\"memory\":\"96Mi\"}";
    assert!(requests.command.contains(told), "{}", requests.command);
}

#[tokio::test]
async fn an_empty_field_gets_a_block_of_its_own() {
    for empty in ["resources: {}", "resources:"] {
        let text = format!(
            "kind: DaemonSet\r\nmetadata:\r\n  name: log\r\nspec:\r\n  template:\r\n    spec:\r\n      containers:\r\n      \
             - name: log\r\n        {empty}\r\n        image: \"log:1\"\r\n"
        );
        let top = "POD NAME CPU(cores) MEMORY(bytes)\nlog-abcde log 20m 90Mi\n";
        let advice = Given::text(&text)
            .measured(top, None)
            .advice(&agent())
            .await;
        let changed = changed(&advice, "set-requests");
        assert!(
            changed.contains("+          requests:") && changed.contains("+            cpu: 20m"),
            "{changed}"
        );
        let diff = proposed(&advice, "set-requests")
            .patch
            .as_ref()
            .unwrap()
            .diff
            .as_ref()
            .unwrap();
        assert!(
            diff.contains("requests:\r\n"),
            "line ends stay as they are: {diff:?}"
        );
    }
}

#[tokio::test]
async fn a_comment_behind_an_empty_field_stays_in_its_line() {
    let top = "POD NAME CPU(cores) MEMORY(bytes)\nweb-abc-12345 web 20m 90Mi\n";
    for empty in [
        "{} # sized later",
        "{ }  # sized later",
        "null # sized later",
    ] {
        let text = manifest(&format!("        resources: {empty}\n        image: web\n"));
        let advice = Given::text(&text).measured(top, None);
        let advice = advice.advice(&agent()).await;
        let blanks = if empty.contains("  ") { "  " } else { " " };
        assert_eq!(
            changed(&advice, "set-requests"),
            format!(
                "-        resources: {empty}\n+        resources:{blanks}# sized later\n\
                 +          requests:\n+            memory: 96Mi\n+            cpu: 20m"
            )
        );
    }
    // In brackets, an entry is added before the comment.
    let text = manifest("        resources: {requests: {memory: 64Mi}} # sized later\n");
    let advice = Given::text(&text).measured(top, None);
    let advice = advice.advice(&agent()).await;
    assert_eq!(
        changed(&advice, "set-requests"),
        "-        resources: {requests: {memory: 64Mi}} # sized later\n\
         +        resources: {requests: {memory: 64Mi, cpu: 20m}} # sized later"
    );
}

/// Runs `git apply` in a folder that is in no repository.
fn git_apply(folder: &Path, diff: &str, more: &[&str]) {
    let mut git = Command::new("git")
        .arg("apply")
        .args(more)
        .arg("-")
        .current_dir(folder)
        .env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin
        .take()
        .unwrap()
        .write_all(diff.as_bytes())
        .unwrap();
    let done = git.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{diff}");
}

/// Has git apply a diff to a file as it was, and reads what came out.
fn applied_by_git(file: &File, diff: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(change::name_in_diff(&file.name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &file.text).unwrap();
    git_apply(folder.path(), diff, &["--check"]);
    git_apply(folder.path(), diff, &[]);
    fs::read_to_string(&path).unwrap()
}

/// Every change alone, and all of them at once; how many there were.
async fn check_with_git(given: Given) -> usize {
    let advice = given.advice(&agent()).await;
    let file = &given.manifests.files[0];
    let changes: Vec<&Proposed> = advice
        .proposals
        .iter()
        .filter(|proposed| proposed.patch.as_ref().is_some_and(|p| p.diff.is_ok()))
        .collect();
    for one in &changes {
        let diff = one.patch.as_ref().unwrap().diff.as_ref().unwrap();
        let after = yaml::parse(&applied_by_git(file, diff)).unwrap();
        match &one.change.as_ref().unwrap().1 {
            Change::Append(object) => assert_eq!(after.last().unwrap().value, *object),
            Change::Edit { document, edits } => {
                for edit in edits {
                    let now = change::at(&after[*document].value, &edit.path);
                    assert_eq!(now, edit.value.as_ref(), "{diff}");
                }
            }
        }
    }
    let all = given.manifests.patch(&changes).unwrap();
    let after = applied_by_git(file, &all);
    let meant: Vec<&Change> = changes
        .iter()
        .map(|one| &one.change.as_ref().unwrap().1)
        .collect();
    assert_eq!(after, change::applied(&file.text, &meant).unwrap());
    changes.len()
}

#[tokio::test]
async fn git_applies_every_diff_and_what_comes_out_says_what_was_meant() {
    assert_eq!(check_with_git(checkout()).await, PROPOSALS_SHOWN);
    assert_eq!(check_with_git(search()).await, 1);
    let top = "POD NAME CPU(cores) MEMORY(bytes)\nweb-abc-12345 web 20m 90Mi\n";
    let text = manifest("        resources: {} # sized later\n        image: web");
    let ends = [text.clone(), format!("{text}\n")];
    for text in ends
        .iter()
        .flat_map(|t| [t.clone(), t.replace('\n', "\r\n")])
    {
        let given = Given::text(&text).measured(top, None);
        assert!(check_with_git(given).await >= 3, "{text:?}");
    }
    for name in [
        "./shop/web deploy.yaml",
        "shop/../shop/deploy.yaml",
        "../deploy.yaml",
        "/srv/shop/web \"blue\".yaml",
        "grün\tund \\ blau.yaml",
    ] {
        let given = Given::named(name, &text).measured(top, None);
        assert!(check_with_git(given).await >= 3, "{name}");
    }
}

#[test]
fn a_diff_names_a_file_by_the_way_to_it_and_never_leads_out_of_the_folder() {
    for (file, name) in [
        ("deploy.yaml", "deploy.yaml"),
        ("./shop/./deploy.yaml", "shop/deploy.yaml"),
        ("../deploy.yaml", "deploy.yaml"),
        ("shop/../deploy.yaml", "deploy.yaml"),
        ("/srv/shop/deploy.yaml", "deploy.yaml"),
    ] {
        assert_eq!(change::name_in_diff(file), name, "{file}");
    }
}

#[tokio::test]
async fn two_files_of_one_name_in_a_diff_are_not_taken_for_one() {
    let mut given = Given::default();
    for (name, workload) in [("../a/deploy.yaml", "one"), ("../b/deploy.yaml", "two")] {
        let text = format!(
            "kind: Deployment\nmetadata: {{name: {workload}}}\nspec:\n  replicas: 3\n  selector: {{matchLabels: \
             {{app: x}}}}\n  template: {{spec: {{containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}}}\n"
        );
        given.manifests.read(name, text.as_bytes()).unwrap();
    }
    let (history, metrics) = (History::default(), Metrics::default());
    let (agent, context) = (agent(), context());
    let advices = optimise(&agent, &given.manifests, &history, &metrics, &context).await;
    let advices = advices.unwrap();
    let first = |at: usize| &advices[at].proposals[0];
    assert!(given.manifests.patch(&[first(0)]).is_ok());
    assert_eq!(
        given.manifests.patch(&[first(0), first(1)]).unwrap_err(),
        "../a/deploy.yaml and ../b/deploy.yaml would both be deploy.yaml in it: run this in a folder that holds both"
    );
}

#[test]
fn what_one_case_taught_is_told_of_one_case() {
    let case = |worked| Cited {
        key: Key([0; 16]),
        text: String::new(),
        worked: Some(worked),
        similarity: 1.0,
        agent: None,
        at: TimeMs(0),
        occurrences: 1,
    };
    for (cases, told) in [
        (vec![], "not tried in a similar case"),
        (vec![case(true)], "worked in the one similar case"),
        (vec![case(false)], "failed in the one similar case"),
        (vec![case(true); 2], "worked in 2 of 2 similar cases"),
        (
            vec![case(true), case(false)],
            "worked in 1 of 2 similar cases",
        ),
    ] {
        assert_eq!(effect(&cases, None), told);
    }
}

#[tokio::test]
async fn what_an_alias_shares_is_not_changed_for_one_alone() {
    let text = "\
x-small: &small
  limits: {memory: 64Mi}
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
      - name: web
        resources: *small
      - name: side
        resources:
          <<: *small
          requests: {memory: 32Mi}
";
    let top = "POD NAME CPU(cores) MEMORY(bytes)\nweb-abc-12345 web 20m 60Mi\nweb-abc-12345 side 20m 60Mi\n";
    let advice = Given::text(text).measured(top, None).advice(&agent()).await;
    let patch = proposed(&advice, "raise-memory-limit")
        .patch
        .as_ref()
        .unwrap();
    let why = patch.diff.as_ref().unwrap_err();
    assert!(why.contains("behind an alias"), "{why}");
    assert!(
        patch
            .command
            .starts_with("kubectl patch deployment web --type strategic")
    );
}

#[tokio::test]
async fn a_revision_that_does_not_get_ready_calls_for_the_image_before() {
    let given = Given::manifest("checkout.yaml").history("checkout-rs.json");
    let advice = given.advice(&agent()).await;
    assert_eq!(
        changed(&advice, "go-back-to-image-before"),
        "-          image: registry.example.com/shop/checkout:1.42.0\n\
         +          image: registry.example.com/shop/checkout:1.41.0"
    );
    assert!(
        advice.revisions[0].ends_with(", 0 of 1 pods ready"),
        "{:?}",
        advice.revisions
    );
    // What the limit was before stands beside the new one.
    let given = checkout().history("checkout-rs.json");
    let advice = given.advice(&agent()).await;
    let raise = proposed(&advice, "raise-memory-limit");
    assert_eq!(
        raise.before,
        ["256Mi in revision 13", "320Mi in revision 12"]
    );
}

#[tokio::test]
async fn a_second_case_is_advised_by_the_outcome_of_the_first() {
    let agent = agent();
    let first = checkout().advice(&agent).await;
    let outcome = Outcome::succeeded("no restart in a week").by("raise-memory-limit");
    agent
        .conclude(&first.task, &first.performed, &outcome)
        .await
        .unwrap();

    let second = search().advice(&agent).await;
    assert!(second.known, "{}", second.explanation);
    let raise = &second.proposals[0];
    assert_eq!(raise.action, "raise-memory-limit");
    assert!(
        raise.effect.starts_with("worked in the one similar case; "),
        "{}",
        raise.effect
    );
    assert!(raise.cases[0].text.contains("no restart in a week"));
    assert_eq!(raise.cases[0].worked, Some(true));
}

#[tokio::test]
async fn what_failed_before_is_not_proposed_first() {
    let agent = agent();
    let before = checkout().advice(&agent).await;
    assert_eq!(before.proposals[0].action, "raise-memory-limit");
    let failed = Outcome::failed("killed again after an hour: it leaks").by("raise-memory-limit");
    agent
        .conclude(&before.task, &before.performed, &failed)
        .await
        .unwrap();
    let other = Outcome::succeeded("memory stays flat").by("bound-session-cache");
    agent
        .conclude(&before.task, &before.performed, &other)
        .await
        .unwrap();

    let after = checkout().advice(&agent).await;
    // What nobody wrote a rule for is proposed as well, with its case and without a patch.
    assert_eq!(after.proposals[0].action, "bound-session-cache");
    assert!(after.known && after.proposals[0].patch.is_none());
    let raise = after
        .performed
        .decision
        .proposals
        .iter()
        .find(|p| p.action == "raise-memory-limit");
    assert!(raise.unwrap().confidence < 0.1, "{raise:?}");
    assert_ne!(after.proposals[1].action, "raise-memory-limit");
}

#[tokio::test]
async fn what_is_in_order_calls_for_nothing() {
    let advice = Given::manifest("search.yaml").advice(&agent()).await;
    assert!(advice.proposals.is_empty() && !advice.known);
    assert_eq!(advice.explanation, "nothing in it calls for a change");
}

fn check(manifest: &str) -> String {
    let mut manifests = Manifests::default();
    match manifests.read("deploy.yaml", manifest.as_bytes()) {
        Ok(()) => manifests.workloads().join(", "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_no_manifest_is_named_with_its_line() {
    assert_eq!(check("kind: Service\n"), "");
    let broken = check("kind: Deployment\nmetadata:\n  name: [web\nspec: {}\n");
    assert!(
        broken.starts_with("line ") && broken.contains(": no YAML: "),
        "{broken}"
    );
    assert_eq!(
        check("kind: ConfigMap\n---\nkind: Deployment\nspec: {}\n"),
        "line 3: a Deployment without metadata.name"
    );
    assert_eq!(
        check("kind: Deployment\nmetadata:\n  name: web\n"),
        "line 1: the Deployment \"web\" has no spec.template.spec.containers"
    );
    assert_eq!(
        check("a: 1\nb: 2\na: 3\n"),
        "line 3: the key \"a\" stands twice in one mapping"
    );
    let mut manifests = Manifests::default();
    let error = manifests.read("x", b"a: b\nc: \xff\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2: no UTF-8, expected a manifest as text"
    );
}

#[test]
fn what_is_too_large_is_refused_in_bounded_memory() {
    let huge = " ".repeat(MANIFEST_BYTES_MAX + 1);
    assert!(check(&huge).contains("it has 2097153 bytes, expected at most 2097152"));
    let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
    assert_eq!(check(&deep), "line 1: nested deeper than 64 levels");
    let documents = "---\na: 1\n".repeat(DOCUMENTS_MAX + 1);
    assert_eq!(check(&documents), "line 513: more than 256 documents");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let alias = format!("*a{}", n - 1);
        bomb += &format!("a{n}: &a{n} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    assert!(
        check(&bomb).contains("more than 200000 values"),
        "{}",
        check(&bomb)
    );
    let many = "- 1\n".repeat(VALUES_MAX + 1);
    assert!(check(&many).contains("more than 200000 values"));
    let nested: String = (0..60).map(|n| format!("&a{n} [")).collect();
    let anchors = nested + &"1, ".repeat(100_000) + &"]".repeat(60);
    assert!(
        check(&anchors).contains("values behind anchors"),
        "{}",
        check(&anchors)
    );
    let workload = "kind: Deployment\nmetadata: {name: w}\nspec: {template: {spec: {containers: [{name: w}]}}}\n---\n";
    assert!(check(&workload.repeat(WORKLOADS_MAX + 1)).contains("more than 64 workloads"));
}

fn check_metrics(text: &str, measure: Option<Measure>) -> String {
    match Metrics::default().read(text.as_bytes(), measure) {
        Ok(()) => "read".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn junk_for_metrics_is_refused_with_what_to_bring() {
    let vector = |series: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    };
    assert!(check_metrics("hello", None).contains("expected the output of `kubectl top pods"));
    assert!(check_metrics("", None).contains("nothing that is understood"));
    assert!(check_metrics("{\"status\": \n", None).starts_with("line 2: no answer of Prometheus"));
    assert_eq!(
        check_metrics(
            r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#,
            None
        ),
        "Prometheus answered with an error: parse error"
    );
    let unnamed = vector(r#"{"metric":{},"value":[1,"0.5"]}"#);
    assert_eq!(
        check_metrics(&unnamed, None),
        "series 1: it has no name, as after a function in the query: say what it measures, KIND=FILE with one of \
         cpu, memory, throttling, restarts, latency, errors"
    );
    assert_eq!(check_metrics(&unnamed, Some(Measure::Errors)), "read");
    let counter =
        vector(r#"{"metric":{"__name__":"container_cpu_usage_seconds_total"},"value":[1,"50"]}"#);
    assert!(check_metrics(&counter, None).contains("a counter that was asked once says no rate"));
    assert!(check_metrics(&counter, Some(Measure::Memory)).contains("measures something else"));
    let wrong = vector(r#"{"metric":{},"value":[1,"many"]}"#);
    assert_eq!(
        check_metrics(&wrong, Some(Measure::Cpu)),
        "series 1: \"many\" is no number"
    );
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[]}}"#;
    assert!(check_metrics(scalar, None).contains("nothing that is understood"));
    assert_eq!(
        check_metrics("POD NAME CPU(cores) MEMORY(bytes)\na b 1m\n", None),
        "line 2: 3 columns, expected 4 as in the head"
    );
    assert_eq!(
        check_metrics("POD NAME CPU(cores) MEMORY(bytes)\na b lots 1Mi\n", None),
        "line 2: \"lots\" is no quantity, expected such as 120m or 235Mi"
    );
    assert!(
        check_metrics(&" ".repeat(METRICS_BYTES_MAX + 1), None).contains("it has 16777217 bytes")
    );
    let many = vec![r#"{"metric":{},"value":[1,"1"]}"#; SERIES_MAX + 1].join(",");
    assert!(check_metrics(&vector(&many), Some(Measure::Cpu)).contains("more than 20000 series"));
}

/// What `kubectl top` prints of pods in each of its forms, and of nodes.
#[tokio::test]
async fn tables_of_pods_and_of_nodes_are_told_apart_by_their_heads() {
    let web = manifest("        resources: {limits: {memory: 96Mi}}\n");
    for pods in [
        "NAME            CPU(cores)   MEMORY(bytes)\nweb-abc-12345   20m          90Mi\n",
        "POD             NAME   CPU(cores)   MEMORY(bytes)\nweb-abc-12345   web    20m          90Mi\n",
        "NAMESPACE   NAME            CPU(cores)   MEMORY(bytes)\n\
         shop        web-abc-12345   20m          90Mi\n",
        "NAMESPACE   POD             NAME   CPU(cores)   MEMORY(bytes)\n\
         shop        web-abc-12345   web    20m          90Mi\n",
    ] {
        let advice = Given::text(&web).measured(pods, None);
        let advice = advice.advice(&agent()).await;
        let seen =
            "the memory peak of a container is close to its memory limit: 90Mi of 96Mi (94 %)";
        assert!(
            advice.seen.iter().any(|s| s == seen),
            "{pods}{:?}",
            advice.seen
        );
    }
    for nodes in [
        "NAME       CPU(cores)   CPU%   MEMORY(bytes)   MEMORY%\nworker-1   250m         6%     3200Mi          41%\n",
        "NAME       CPU(cores)   CPU(%)   MEMORY(bytes)   MEMORY(%)\nworker-1   250m         6%       3200Mi          41%\n",
    ] {
        assert_eq!(
            check_metrics(nodes, None),
            "it is what `kubectl top nodes` prints, which tells nothing of a workload: expected the output of \
             `kubectl top pods --containers`"
        );
    }
}

#[test]
fn junk_for_history_is_refused_with_what_to_bring() {
    let check = |text: &str| match History::default().read(text.as_bytes()) {
        Ok(()) => "read".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(check("hello").contains("expected the output of `kubectl rollout history`"));
    assert!(check("{}").contains("nothing that is understood"));
    assert!(check("{\"items\": [\n").starts_with("line 2: no JSON"));
    assert_eq!(
        check("REVISION  CHANGE-CAUSE\nfirst  <none>\n"),
        "line 2: \"first\" is no revision, expected a number and what caused it"
    );
    assert_eq!(
        check(r#"{"items":[{"kind":"Pod"}]}"#),
        "item 1 of the list: it is a Pod, expected a ReplicaSet"
    );
    assert!(check(&" ".repeat(HISTORY_BYTES_MAX + 1)).contains("it has 16777217 bytes"));
}

#[tokio::test]
async fn counters_are_read_as_rates_and_shares() {
    let series = |name: &str, values: &str| {
        format!(
            r#"{{"metric":{{"__name__":"{name}","container":"web","pod":"web-abc-12345"}},"values":[{values}]}}"#
        )
    };
    let all = [
        series(
            "container_cpu_cfs_periods_total",
            r#"[0,"100"],[60,"600"],[120,"1100"]"#,
        ),
        series(
            "container_cpu_cfs_throttled_periods_total",
            r#"[0,"0"],[60,"200"],[120,"300"]"#,
        ),
        // The container began again between the second and the third.
        series(
            "container_cpu_usage_seconds_total",
            r#"[0,"100"],[60,"112"],[120,"3"],[180,"9"]"#,
        ),
    ];
    let matrix = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
        all.join(",")
    );
    let text = "kind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n      - name: web\n        \
                resources:\n          limits:\n            cpu: 1\n";
    let advice = Given::text(text)
        .measured(&matrix, None)
        .advice(&agent())
        .await;
    assert_eq!(
        advice.seen,
        ["a container is throttled in 30 % of its periods at its processor limit of 1000m"]
    );
    assert_eq!(
        changed(&advice, "raise-cpu-limit"),
        "-            cpu: 1\n+            cpu: 2"
    );
}

#[test]
fn series_of_other_workloads_are_counted_and_say_nothing() {
    let given = checkout().metrics("search-memory.json", None);
    assert_eq!(given.manifests.strangers(&given.metrics), 2);
}

/// A manifest with this in the place of a container's fields.
fn manifest(fields: &str) -> String {
    format!(
        "kind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      \
         - name: web\n        ports: [{{containerPort: 80}}]\n{fields}"
    )
}

proptest! {
    /// Whatever stands in the text, a change of it is exactly what was meant, or there is none.
    #[test]
    fn no_text_is_changed_elsewhere(
        comment in "[ -~äöü€]{0,20}",
        value in "[a-z0-9äö:#'\" ]{0,12}",
        literal in prop::collection::vec("[ -~]{0,10}", 0..4),
        is_before in any::<bool>(),
    ) {
        let literal: String = literal.iter().map(|line| format!("          {line}\n")).collect();
        let resources = "        resources:\n          limits: {memory: 64Mi} # ü\n";
        let other = format!("        # {comment}\n        env: {:?}\n        args: |\n{literal}", value);
        let fields = if is_before { format!("{other}{resources}") } else { format!("{resources}{other}") };
        let text = manifest(&fields);
        let documents = yaml::parse(&text);
        prop_assume!(documents.is_ok());
        let before = documents.unwrap()[0].value.clone();
        let base = change::path(&[], "spec.template.spec.containers.0");
        for (path, value) in [
            ("resources.limits.memory", json!("128Mi")),
            ("resources.requests.cpu", json!("10m")),
            ("readinessProbe", json!({ "tcpSocket": { "port": 80 } })),
        ] {
            let edit = change::Edit { path: change::path(&base, path), value: Some(value.clone()) };
            let change = Change::Edit { document: 0, edits: vec![edit.clone()] };
            if let Ok(after) = change::applied(&text, &[&change]) {
                let read = yaml::parse(&after).unwrap();
                prop_assert_eq!(change::at(&read[0].value, &edit.path), Some(&value));
                prop_assert_eq!(&read[0].value["metadata"], &before["metadata"]);
                let container = |value: &Value| value["spec"]["template"]["spec"]["containers"][0].clone();
                let (a, b) = (container(&before), container(&read[0].value));
                prop_assert_eq!(&a["args"], &b["args"]);
                prop_assert_eq!(&a["env"], &b["env"]);
            } else {
                prop_assert!(path != "resources.limits.memory", "{}", text);
            }
        }
    }

    #[test]
    fn no_input_breaks_what_reads_it(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        text in "[ -~\n\t\\[\\]{}:&*!|>'\"%@`#-]{0,300}",
        pods in "\\PC{0,200}",
    ) {
        let _ = Manifests::default().read("x", &bytes);
        let _ = Manifests::default().read("x", text.as_bytes());
        let _ = Manifests::default().read("x", manifest(&text).as_bytes());
        let _ = Metrics::default().read(&bytes, Some(Measure::Cpu));
        let _ = Metrics::default().read(format!("POD NAME CPU(cores) MEMORY(bytes)\n{pods}").as_bytes(), None);
        let _ = History::default().read(format!("REVISION CHANGE-CAUSE\n{pods}").as_bytes());
        let _ = History::default().read(&bytes);
    }
}

//! What [`KnowledgeStore`] and [`KnowledgeHistory`](crate::KnowledgeHistory) mean, as a suite that every
//! implementation passes.
//!
//! A check uses a namespace of its own and panics with the story that it tells. None depends on how
//! well a store understands language: where an order matters, the right memory shares its words with
//! the question.
//!
//! ```no_run
//! # async fn run() {
//! let store = memorygate_client::InMemoryStore::new();
//! memorygate_client::conformance::check_all(&store, "suite").await;
//! memorygate_client::conformance::check_history(&store, "suite").await;
//! # }
//! ```

mod past;

use std::collections::BTreeSet;

use futures::future::join_all;
use memorygate_core::{
    key::Key,
    limits,
    name::domain,
    time::{DAY_MS, TimeMs},
};

use crate::{
    context::LearningContext,
    error::{Error, Kind, Outcome},
    experience::Experience,
    filter::Filter,
    learn::Learned,
    memory::{Memory, Relation},
    recall::Recalled,
    scope::Scope,
    store::KnowledgeStore,
    time,
};

/// Runs the whole suite in namespaces that begin with `prefix` and hold nothing yet.
///
/// # Panics
/// If the store breaks the contract.
pub async fn check_all(store: &dyn KnowledgeStore, prefix: &str) {
    let in_namespace = |name: &str| Check {
        store,
        namespace: format!("{prefix}.{name}"),
    };
    in_namespace("stored").stored_as_it_was_said().await;
    in_namespace("found").found_by_its_words().await;
    in_namespace("reinforced").same_lesson_reinforces().await;
    in_namespace("batch").batch_is_all_or_nothing().await;
    in_namespace("context")
        .context_completes_an_experience()
        .await;
    in_namespace("scopes").scopes_do_not_leak().await;
    in_namespace("share")
        .sharing_widens_and_never_narrows()
        .await;
    in_namespace("apart").namespaces_do_not_leak().await;
    in_namespace("filter").filters_hold().await;
    in_namespace("limit").limits_and_order_hold().await;
    in_namespace("feedback").feedback_moves_usefulness().await;
    in_namespace("forget").forgotten_is_gone().await;
    in_namespace("expiry").expired_is_gone_unless_pinned().await;
    in_namespace("fold").near_identical_is_told_once().await;
    in_namespace("invalid").bad_input_stores_nothing().await;
    in_namespace("same").same_question_same_answer().await;
    in_namespace("position").position_can_be_handed_over().await;
    in_namespace("together")
        .concurrent_lessons_all_count()
        .await;
}

pub use self::past::check_history;

struct Check<'a> {
    store: &'a dyn KnowledgeStore,
    namespace: String,
}

impl Check<'_> {
    fn context(&self, task: &str) -> LearningContext {
        LearningContext::new(task)
            .namespace(self.namespace.clone())
            .domain(domain::INFRASTRUCTURE)
    }

    async fn learn(&self, context: &LearningContext, experience: Experience) -> Learned {
        let reply = self.store.store_experience(context, experience).await;
        let reply = reply.expect("a valid experience is stored");
        assert_eq!(reply.learned.len(), 1, "one experience, one answer");
        reply.learned[0]
    }

    async fn learn_text(&self, content: &str) -> Learned {
        self.learn(&self.context(""), Experience::new(content, ""))
            .await
    }

    async fn get(&self, context: &LearningContext, key: Key) -> Option<Memory> {
        self.store.get(context, key).await.expect("a get succeeds")
    }

    async fn recall(&self, context: &LearningContext) -> Vec<Recalled> {
        let reply = self.store.retrieve_context(context, 10).await;
        reply.expect("a recall succeeds").results
    }

    /// Contents of what is found, in no particular order.
    async fn found(&self, context: &LearningContext) -> BTreeSet<String> {
        let results = self.recall(context).await;
        results.into_iter().map(|r| r.memory.content).collect()
    }

    async fn stored_as_it_was_said(&self) {
        let other = self.learn_text("an older lesson").await.key;
        let happened = TimeMs(1_700_000_000_123);
        let expires = TimeMs(time::now().0 + 30 * DAY_MS);
        let experience = Experience::new("Grüße aus web-7f9c: v1.29.3 löst es", "db/postgres")
            .occurred_at(happened)
            .importance(0.75)
            .metadata("cluster", "prod")
            .metadata("empty", "")
            .agent("ada")
            .session("ticket 4711")
            .expires_at(expires)
            .pinned()
            .link(Relation::ResolvedBy, other);
        let context = self.context("").agent("ada");
        let learned = self.learn(&context, experience.clone()).await;
        assert_eq!(
            (learned.created, learned.version, learned.occurrences),
            (true, 1, 1)
        );
        let expected = experience.key_in(&self.namespace);
        assert_eq!(Ok(learned.key), expected, "keys can be computed by callers");
        let memory = self
            .get(&context, learned.key)
            .await
            .expect("it is there at once");
        assert_eq!(memory.key, learned.key);
        assert_eq!(memory.namespace, self.namespace);
        assert_eq!(memory.scope, Scope::Shared);
        assert_eq!(memory.content, experience.content);
        assert_eq!(memory.domain, experience.domain);
        assert_eq!(memory.occurred_at, happened);
        assert_eq!(memory.last_seen_at, happened);
        assert_eq!(memory.importance, 0.75);
        assert_eq!(memory.metadata, experience.metadata);
        assert_eq!(memory.agent, experience.agent);
        assert_eq!(memory.session, experience.session);
        assert_eq!(memory.links, experience.links);
        assert_eq!(memory.expires_at, Some(expires));
        assert!(memory.pinned);
        assert_eq!((memory.version, memory.occurrences), (1, 1));
        assert_eq!(
            (memory.feedback.count, memory.feedback.usefulness),
            (0, 0.5)
        );
        let bare = self.get(&context, other).await.expect("it is there");
        assert_eq!(
            bare.importance, 0.5,
            "what is not said has the stated default"
        );
        assert!(bare.occurred_at.0 > happened.0, "the time of the write");
    }

    async fn found_by_its_words(&self) {
        let lessons = [
            "postgres replica lag grew because the archive disk was full",
            "expired certificate on the ingress broke the login page",
            "flaky browser test waits for an animation that never ends",
        ];
        let context = self.context("");
        let batch = lessons.map(|l| Experience::new(l, "")).to_vec();
        let reply = self.store.store_experiences(&context, batch).await;
        assert_eq!(reply.expect("a batch is stored").learned.len(), 3);
        for (question, answer) in [
            ("replica lag on postgres", lessons[0]),
            ("login page: certificate expired", lessons[1]),
            ("browser test is flaky", lessons[2]),
        ] {
            let results = self.recall(&self.context(question)).await;
            let first = results.first().expect("something is found");
            assert_eq!(first.memory.content, answer, "for {question:?}");
        }
    }

    async fn same_lesson_reinforces(&self) {
        let context = self.context("");
        let said = |content: &str| Experience::new(content, "").importance(0.4);
        let first = self.learn(&context, said("line one\nline two")).await;
        let again = self
            .learn(&context, said("line one  \r\nline two\r\n"))
            .await;
        assert_eq!(
            again.key, first.key,
            "line ends and trailing blanks mean nothing"
        );
        assert_eq!(
            (again.created, again.version, again.occurrences),
            (false, 2, 2)
        );
        let memory = self.get(&context, first.key).await.expect("it is there");
        assert_eq!(memory.occurrences, 2);
        assert!(
            memory.importance > 0.4,
            "a lesson that comes back matters more"
        );
        assert_eq!(
            memory.content, "line one\nline two",
            "the first wording stays"
        );
        let other = self.learn(&context, said("Line one\nline two")).await;
        assert!(other.created, "letter case can carry meaning");
        let elsewhere = Experience::new("line one\nline two", domain::CODE_REVIEW);
        let elsewhere = self.learn(&context, elsewhere).await;
        assert!(elsewhere.created, "a domain is part of the identity");
    }

    async fn batch_is_all_or_nothing(&self) {
        let context = self.context("");
        let good = Experience::new("a good one", domain::DEPLOYMENT);
        let bad = Experience::new("a bad one", domain::DEPLOYMENT).importance(1.5);
        let result = self
            .store
            .store_experiences(&context, vec![good.clone(), bad])
            .await;
        refused(result, Kind::Fix, "one bad experience");
        let key = good.key_in(&self.namespace).expect("the names are allowed");
        assert_eq!(
            self.get(&context, key).await,
            None,
            "nothing of the batch is stored"
        );
        let empty = self.store.store_experiences(&context, Vec::new()).await;
        refused(empty, Kind::Fix, "an empty batch");
        let many = (0..=limits::BATCH_MAX).map(|i| Experience::new(format!("{i}"), ""));
        let many = self.store.store_experiences(&context, many.collect()).await;
        refused(many, Kind::Fix, "more than fits in a batch");
    }

    async fn context_completes_an_experience(&self) {
        let context = self
            .context("")
            .agent("ada")
            .team("sre")
            .session("s-1")
            .scope(Scope::Team("sre".into()))
            .metadata("cluster", "a");
        let learned = self
            .learn(&context, Experience::new("said in a context", ""))
            .await;
        let memory = self.get(&context, learned.key).await.expect("it is there");
        assert_eq!(memory.domain, domain::INFRASTRUCTURE);
        assert_eq!(memory.agent.as_deref(), Some("ada"));
        assert_eq!(memory.session.as_deref(), Some("s-1"));
        assert_eq!(memory.scope, Scope::Team("sre".into()));
        assert_eq!(memory.metadata["cluster"], "a");
        let nowhere = LearningContext::new("").namespace(self.namespace.clone());
        let result = self
            .store
            .store_experience(&nowhere, Experience::new("without a domain", ""))
            .await;
        refused(result, Kind::Fix, "no domain anywhere");
    }

    async fn scopes_do_not_leak(&self) {
        let task = "the password rotation runbook";
        let ada = self.context(task).agent("ada").team("sre");
        let bob = self.context(task).agent("bob").team("web");
        // An agent named like a team must not pass for it.
        let sre = self.context(task).agent("sre");
        let own = Experience::new(format!("{task} is private"), "");
        let private = self
            .learn(&ada, own.clone().scope(Scope::Agent("ada".into())))
            .await;
        let team = Experience::new(format!("{task} of the team"), "");
        let team = self
            .learn(&ada, team.scope(Scope::Team("sre".into())))
            .await;
        let shared = Experience::new(format!("{task} for everyone"), "");
        let shared = self.learn(&ada, shared.scope(Scope::Shared)).await;
        let same_words = self
            .learn(&bob, own.scope(Scope::Agent("bob".into())))
            .await;
        assert_ne!(
            same_words.key, private.key,
            "private memories of two agents never meet"
        );

        for (who, context, sees) in [
            ("ada", &ada, [true, true, true]),
            ("bob", &bob, [false, false, true]),
            ("an agent called sre", &sre, [false, false, true]),
            ("nobody", &self.context(task), [false, false, true]),
        ] {
            let found: BTreeSet<Key> = self
                .recall(context)
                .await
                .iter()
                .map(|r| r.memory.key)
                .collect();
            for (key, sees) in [private.key, team.key, shared.key].into_iter().zip(sees) {
                assert_eq!(found.contains(&key), sees, "{who} recalls {key}");
                assert_eq!(
                    self.get(context, key).await.is_some(),
                    sees,
                    "{who} gets {key}"
                );
                if !sees {
                    let feedback = self.store.feedback(context, key, 1.0, "").await;
                    refused(feedback, Kind::NotFound, "feedback on what is not visible");
                    let forget = self.store.forget(context, key).await;
                    refused(forget, Kind::NotFound, "forgetting what is not visible");
                }
            }
        }
        // A filter cannot widen what a reader sees.
        let hostile = bob.clone().filter(Filter::new().agent("ada"));
        let seen = self.found(&hostile).await;
        assert_eq!(seen, [format!("{task} for everyone")].into());
    }

    async fn sharing_widens_and_never_narrows(&self) {
        let task = "rotate the signing key by hand";
        let ada = self.context(task).agent("ada").team("sre");
        let eve = self.context(task).agent("eve").team("sre");
        let bob = self.context(task).agent("bob");
        let own = Experience::new(task, "").scope(Scope::Agent("ada".into()));
        let own = self.learn(&ada, own).await.key;
        let feedback = self.store.feedback(&ada, own, 1.0, "").await;
        feedback.expect("feedback on one's own memory counts");
        let team = || Scope::Team("sre".into());
        for (who, context) in [("a colleague", &eve), ("bob", &bob)] {
            let result = self.store.share(context, own, Scope::Shared).await;
            refused(result, Kind::NotFound, who);
        }
        let web = self.store.share(&ada, own, Scope::Team("web".into())).await;
        refused(web, Kind::Fix, "sharing with a team of others");
        let agent = Scope::Agent("bob".into());
        refused(
            self.store.share(&ada, own, agent).await,
            Kind::Fix,
            "sharing with one agent",
        );

        let of_team = self.store.share(&ada, own, team()).await;
        let of_team = of_team.expect("an agent shares with its team");
        assert_ne!(of_team, own, "a scope is part of the key");
        let seen = self.get(&eve, of_team).await.expect("a colleague sees it");
        assert_eq!((seen.scope, seen.feedback.count), (team(), 1));
        assert_eq!(seen.shared_by[0].agent.as_deref(), Some("ada"));
        assert_eq!(
            self.get(&eve, own).await,
            None,
            "the narrower one stays unseen"
        );
        assert_eq!(self.get(&bob, of_team).await, None);
        let archived = self.get(&ada, own).await.expect("it is in the archive");
        assert_eq!(archived.replaced_by(), Some(of_team));
        let again = self.store.share(&ada, own, team()).await;
        assert_eq!(again.expect("sharing again changes nothing"), of_team);

        let all = self.store.share(&eve, of_team, Scope::Shared).await;
        let all = all.expect("a member shares what is the team's");
        let seen = self.get(&bob, all).await.expect("everyone sees it");
        assert_eq!(seen.shared_by.len(), 2, "it is told who shared it");
        let feedback = self.store.feedback(&ada, own, 1.0, "").await;
        feedback.expect("the old key leads to the new one");
        let seen = self.get(&bob, all).await.expect("it is there");
        assert_eq!(seen.feedback.count, 2);
        refused(
            self.store.share(&ada, all, team()).await,
            Kind::Fix,
            "narrowing",
        );
        let found: Vec<Key> = self
            .recall(&ada)
            .await
            .iter()
            .map(|r| r.memory.key)
            .collect();
        assert_eq!(found, [all], "it is found once");
        let forgotten = self.store.forget(&bob, all).await;
        forgotten.expect("who sees a memory may forget it");
        assert_eq!(
            self.get(&ada, own).await,
            None,
            "it is one lesson, forgotten as one"
        );
    }

    async fn namespaces_do_not_leak(&self) {
        let learned = self.learn_text("known in one namespace alone").await;
        let elsewhere = LearningContext::new("known in one namespace alone")
            .namespace(format!("{}.other", self.namespace))
            .domain(domain::INFRASTRUCTURE);
        assert_eq!(self.get(&elsewhere, learned.key).await, None);
        assert_eq!(self.recall(&elsewhere).await, []);
        let forget = self.store.forget(&elsewhere, learned.key).await;
        refused(forget, Kind::NotFound, "a key of another namespace");
        let there = Experience::new("known in one namespace alone", "");
        let there = self.learn(&elsewhere, there).await;
        assert!(there.created);
        assert_ne!(
            there.key, learned.key,
            "a namespace is part of the identity"
        );
    }

    async fn filters_hold(&self) {
        let at = |day: i64| TimeMs(1_700_000_000_000 + day * DAY_MS);
        let context = self.context("filter probe");
        for (content, domain, agent, session, cluster, day, importance) in [
            ("filter probe one", "deployment", "ada", "s1", "a", 0, 0.2),
            ("filter probe two", "deployment", "bob", "s2", "b", 1, 0.5),
            (
                "filter probe three",
                "code_review",
                "ada",
                "s2",
                "a",
                2,
                0.9,
            ),
        ] {
            let experience = Experience::new(content, domain)
                .agent(agent)
                .session(session)
                .metadata("cluster", cluster)
                .occurred_at(at(day))
                .importance(importance);
            self.learn(&context, experience).await;
        }
        let none: [&str; 0] = [];
        let (one, two, three) = ("filter probe one", "filter probe two", "filter probe three");
        let expectations: [(Filter, &[&str]); 10] = [
            (Filter::new(), &[one, two, three]),
            (Filter::new().domain("deployment"), &[one, two]),
            (Filter::new().domain("never_used"), &none),
            (
                Filter::new().domain("deployment").domain("code_review"),
                &[one, two, three],
            ),
            (Filter::new().agent("ada"), &[one, three]),
            (Filter::new().session("s2"), &[two, three]),
            (Filter::new().metadata("cluster", "a"), &[one, three]),
            (Filter::new().since(at(1)), &[two, three]),
            (Filter::new().since(at(0)).until(at(1)), &[one]),
            (Filter::new().min_importance(0.5).agent("ada"), &[three]),
        ];
        for (filter, expected) in expectations {
            let context = context.clone().filter(filter.clone());
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(self.found(&context).await, expected, "{filter:?}");
        }
    }

    async fn limits_and_order_hold(&self) {
        for i in 0..12 {
            self.learn_text(&format!("queue depth alert number {i} on broker {i}"))
                .await;
        }
        let context = self.context("queue depth alert on broker 7");
        for limit in [1, 5, 12, limits::RECALL_LIMIT_MAX] {
            let reply = self.store.retrieve_context(&context, limit).await;
            let results = reply.expect("the limit is allowed").results;
            assert_eq!(results.len(), limit.min(12));
            assert!(
                results.is_sorted_by(|a, b| a.score >= b.score),
                "best first"
            );
            for result in &results {
                let sum: f32 = result.parts.named().iter().map(|(_, part)| part).sum();
                let difference = (sum - result.score).abs();
                assert!(difference < 1e-3, "parts sum to {sum}: {result:?}");
            }
        }
        for limit in [0, limits::RECALL_LIMIT_MAX + 1, 1_000_000_000] {
            let result = self.store.retrieve_context(&context, limit).await;
            refused(result, Kind::Fix, "a limit out of bounds");
        }
    }

    async fn feedback_moves_usefulness(&self) {
        let context = self.context("");
        let key = self.learn_text("restart the exporter").await.key;
        let give = |score: f32| self.store.feedback(&context, key, score, "it helped");
        let usefulness = || async {
            let memory = self.get(&context, key).await.expect("it is there");
            (memory.feedback.count, memory.feedback.usefulness)
        };
        give(1.0).await.expect("a score within bounds");
        let (count, after_one) = usefulness().await;
        assert_eq!(count, 1);
        assert!(after_one > 0.5);
        give(-1.0).await.expect("a score within bounds");
        give(-0.5).await.expect("a score within bounds");
        let (count, after_three) = usefulness().await;
        assert_eq!(count, 3);
        assert!(after_three < 0.5);
        for bad in [f32::NAN, f32::INFINITY, 1.01, -1.01] {
            refused(give(bad).await, Kind::Fix, "a score out of bounds");
        }
        let long = "x".repeat(limits::REASON_BYTES_MAX + 1);
        let result = self.store.feedback(&context, key, 1.0, &long).await;
        refused(result, Kind::Fix, "a reason that is too long");
        let unknown = self
            .store
            .feedback(&context, Key([0x5a; 16]), 1.0, "")
            .await;
        refused(unknown, Kind::NotFound, "an unknown key");
        assert_eq!(usefulness().await.0, 3, "what was refused does not count");
    }

    async fn forgotten_is_gone(&self) {
        let context = self.context("to be forgotten");
        let learned = self.learn_text("to be forgotten").await;
        let stays = self.learn_text("to be kept").await;
        self.store
            .feedback(&context, learned.key, 1.0, "")
            .await
            .expect("it is there");
        self.store
            .forget(&context, learned.key)
            .await
            .expect("it is there");
        assert_eq!(self.get(&context, learned.key).await, None);
        assert_eq!(self.found(&context).await, ["to be kept".to_owned()].into());
        let twice = self.store.forget(&context, learned.key).await;
        refused(twice, Kind::NotFound, "forgetting it again");
        assert!(self.get(&context, stays.key).await.is_some());
        let again = self.learn_text("to be forgotten").await;
        assert_eq!(again.key, learned.key);
        assert_eq!(
            (again.created, again.occurrences),
            (true, 1),
            "nothing of it was left"
        );
        let memory = self.get(&context, again.key).await.expect("it is back");
        assert_eq!(memory.feedback.count, 0);
    }

    async fn expired_is_gone_unless_pinned(&self) {
        let context = self.context("a lesson past its time");
        let past = TimeMs(time::now().0 - DAY_MS);
        let plain = Experience::new("a lesson past its time", "").expires_at(past);
        let pinned = Experience::new("a lesson past its time, pinned", "")
            .expires_at(past)
            .pinned();
        let plain = self.learn(&context, plain).await;
        let pinned = self.learn(&context, pinned).await;
        assert_eq!(self.get(&context, plain.key).await, None);
        assert!(self.get(&context, pinned.key).await.is_some());
        assert_eq!(
            self.found(&context).await,
            ["a lesson past its time, pinned".to_owned()].into()
        );
    }

    async fn near_identical_is_told_once(&self) {
        self.learn_text("Node pool b ran out of inodes, not of disk space.")
            .await;
        self.learn_text("node pool b ran out of inodes, not of disk space")
            .await;
        self.learn_text("node pool c ran out of inodes 2 hours later")
            .await;
        let context = self.context("node pool ran out of inodes");
        let results = self.recall(&context).await;
        assert_eq!(results.len(), 2, "{results:?}");
        let folded: usize = results.iter().map(|r| r.folded.len()).sum();
        assert_eq!(folded, 1, "the other one is named");
    }

    async fn bad_input_stores_nothing(&self) {
        let context = self.context("anything at all");
        let good = || Experience::new("anything at all", "");
        let long = "x".repeat(limits::CONTENT_BYTES_MAX + 1);
        for (why, experience) in [
            ("empty content", Experience::new("", "")),
            ("blank content", Experience::new(" \r\n\t", "")),
            ("long content", Experience::new(long, "")),
            ("a domain with blanks", Experience::new("x", "Not a domain")),
            ("importance NaN", good().importance(f32::NAN)),
            ("importance below 0", good().importance(-0.1)),
            (
                "10 MB of metadata",
                good().metadata("k", "v".repeat(10 << 20)),
            ),
            ("a time before 1970", good().occurred_at(TimeMs(-1))),
            (
                "a time far ahead",
                good().occurred_at(TimeMs(time::now().0 + 3 * DAY_MS)),
            ),
            (
                "a time after the year 9999",
                good().expires_at(TimeMs(i64::MAX)),
            ),
            ("a short vector", good().vector(vec![1.0; 3])),
            ("a vector with NaN", good().vector(vec![f32::NAN; 384])),
            ("a vector of zeros", good().vector(vec![0.0; 384])),
            ("a control character in a name", good().agent("a\0b")),
            (
                "a scope of nobody",
                good().scope(Scope::Team(String::new())),
            ),
        ] {
            let result = self.store.store_experience(&context, experience).await;
            refused(result, Kind::Fix, why);
        }
        let no_task = self.store.retrieve_context(&self.context(""), 10).await;
        refused(no_task, Kind::Fix, "a recall without a task");
        let bad_namespace = context.clone().namespace("Not/allowed");
        let result = self.store.store_experience(&bad_namespace, good()).await;
        refused(result, Kind::Fix, "a namespace that is not allowed");
        assert_eq!(self.recall(&context).await, [], "nothing was stored");
    }

    async fn same_question_same_answer(&self) {
        for i in 0..20 {
            self.learn_text(&format!("rollout of release {i} was slow"))
                .await;
        }
        let context = self.context("slow rollout");
        let first = self.recall(&context).await;
        for _ in 0..3 {
            assert_eq!(self.recall(&context).await, first);
        }
    }

    async fn position_can_be_handed_over(&self) {
        let writer = self.context("").agent("ada");
        let reply = self
            .store
            .store_experience(&writer, Experience::new("handed over by position", ""))
            .await
            .expect("it is stored");
        let reader = self
            .context("handed over by position")
            .agent("bob")
            .position(reply.position);
        assert!(self.get(&reader, reply.learned[0].key).await.is_some());
        let recalled = self.store.retrieve_context(&reader, 1).await;
        let recalled = recalled.expect("the position is reached");
        assert_eq!(recalled.results.len(), 1);
        assert!(recalled.position.index >= reply.position.index);
        let mut foreign = reply.position;
        foreign.cluster_id ^= 1;
        let foreign = reader.position(foreign);
        let result = self.store.retrieve_context(&foreign, 1).await;
        refused(result, Kind::Restore, "a position of another log");
    }

    async fn concurrent_lessons_all_count(&self) {
        const CALLERS: u32 = 32;
        let context = self.context("");
        let said = (0..CALLERS).map(|_| {
            self.learn(
                &context,
                Experience::new("everyone learns this at once", ""),
            )
        });
        let learned = join_all(said).await;
        assert_eq!(learned.iter().filter(|l| l.created).count(), 1);
        let counts: BTreeSet<u32> = learned.iter().map(|l| l.occurrences).collect();
        assert_eq!(counts, (1..=CALLERS).collect(), "each lesson counts once");
    }
}

/// Asserts that a call failed in this way and changed nothing.
fn refused<T>(result: Result<T, Error>, kind: Kind, why: &str) {
    match result {
        Ok(_) => panic!("{why} was accepted"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{why}: {error}");
            assert_eq!(error.outcome(), Outcome::Failed, "{why}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_in_memory_store_keeps_the_contract() {
        super::check_all(&crate::InMemoryStore::new(), "suite").await;
    }

    #[tokio::test]
    async fn the_in_memory_store_knows_its_past_as_the_contract_says() {
        super::check_history(&crate::InMemoryStore::new(), "suite").await;
    }
}

//! What [`KnowledgeHistory`] means: reads as of a moment, and what happened to a memory.

use std::collections::BTreeSet;

use memorygate_core::{
    key::Key,
    limits::PAGE_MAX,
    moment::Moment,
    time::{DAY_MS, TimeMs},
};

use super::{Check, refused};
use crate::{
    context::LearningContext,
    error::Kind,
    experience::Experience,
    get::Get,
    history::{Event, EventKind, History},
    list::List,
    memory::Memory,
    recall::Recall,
    scope::{Reader, Scope},
    store::KnowledgeHistory,
    time,
};

/// Runs the suite of what was in namespaces that begin with `prefix` and hold nothing yet.
///
/// # Panics
/// If the store breaks the contract.
pub async fn check_history(store: &dyn KnowledgeHistory, prefix: &str) {
    let in_namespace = |name: &str| PastCheck {
        plain: Check {
            store,
            namespace: format!("{prefix}.{name}"),
        },
        store,
    };
    in_namespace("past").reads_are_of_their_moment().await;
    in_namespace("time")
        .a_time_means_what_was_there_by_then()
        .await;
    in_namespace("gone").what_is_forgotten_never_was().await;
    in_namespace("hidden")
        .the_past_is_as_hidden_as_the_present()
        .await;
    in_namespace("to-come").what_is_to_come_is_refused().await;
    in_namespace("history")
        .what_happened_is_told_newest_first()
        .await;
    in_namespace("pages")
        .pages_of_a_history_make_up_the_whole()
        .await;
}

struct PastCheck<'a> {
    plain: Check<'a>,
    store: &'a dyn KnowledgeHistory,
}

impl PastCheck<'_> {
    fn context(&self) -> LearningContext {
        self.plain.context("")
    }

    /// The key, and the position of the log at which it was learned.
    async fn learn(&self, experience: Experience) -> (Key, u64) {
        let context = self.context();
        let reply = self.store.store_experience(&context, experience).await;
        let reply = reply.expect("a valid experience is stored");
        (reply.learned[0].key, reply.position.index)
    }

    async fn rate(&self, key: Key, score: f32) {
        let context = self.context().agent("cy");
        let rated = self.store.feedback(&context, key, score, "why not").await;
        rated.expect("a score within bounds");
    }

    async fn got(&self, key: Key, moment: Moment) -> Option<Memory> {
        let get = Get::new(key)
            .namespace(&self.plain.namespace)
            .reader(Reader::default())
            .as_of(moment);
        self.store.get_past(get).await.expect("the moment has been")
    }

    fn recall(&self, query: &str, moment: Moment) -> Recall {
        Recall::new(query)
            .namespace(&self.plain.namespace)
            .reader(Reader::default())
            .as_of(moment)
    }

    fn list(&self, moment: Moment) -> List {
        List::new()
            .namespace(&self.plain.namespace)
            .reader(Reader::default())
            .as_of(moment)
    }

    /// What a recall and a list find, which has to be the same: versions by key.
    async fn there(&self, query: &str, moment: Moment) -> BTreeSet<(Key, u64)> {
        let of = |memory: &Memory| (memory.key, memory.version);
        let recalled = self.store.recall_past(&self.recall(query, moment)).await;
        let recalled = recalled.expect("the moment has been").results;
        let listed = self.store.list_past(&self.list(moment)).await;
        let listed = listed.expect("the moment has been").memories;
        let recalled: BTreeSet<_> = recalled.iter().map(|found| of(&found.memory)).collect();
        let listed: BTreeSet<_> = listed.iter().map(of).collect();
        assert_eq!(recalled, listed, "{moment:?}");
        listed
    }

    fn history(&self, key: Key) -> History {
        History::new(key)
            .namespace(&self.plain.namespace)
            .reader(Reader::default())
    }

    async fn events(&self, key: Key) -> Vec<Event> {
        let page = self.store.history(&self.history(key)).await;
        let page = page.expect("a history is told").expect("it is there");
        assert!(page.is_complete && page.next.is_none());
        page.events
    }

    async fn reads_are_of_their_moment(&self) {
        let query = "the disk of the archive";
        let said = |content: &str| Experience::new(content, "").importance(0.4);
        let first = said("the disk of the archive was full");
        let (old, learned) = self.learn(first.clone()).await;
        self.rate(old, 1.0).await;
        let (_, again) = self.learn(first).await;
        let (new, last) = self.learn(said("the disk of the archive was slow")).await;

        let at = Moment::Position;
        for (moment, there) in [
            (at(learned - 1), [].into()),
            (at(learned), [(old, 1)].into()),
            (at(again - 1), [(old, 2)].into()),
            (at(again), [(old, 3)].into()),
            (at(last), [(old, 3), (new, 1)].into()),
        ] {
            assert_eq!(self.there(query, moment).await, there, "{moment:?}");
        }
        assert_eq!(self.got(old, at(learned - 1)).await, None);
        assert_eq!(self.got(new, at(again)).await, None);
        let then = self.got(old, at(learned)).await.expect("it was there");
        assert_eq!(
            (then.occurrences, then.feedback.count, then.importance),
            (1, 0, 0.4)
        );
        let rated = self.got(old, at(again - 1)).await.expect("it was there");
        assert_eq!((rated.occurrences, rated.feedback.count), (1, 1));
        let now = self.got(old, at(last)).await.expect("it is there");
        assert!(now.occurrences == 2 && now.importance > 0.4);
        assert_eq!(
            Some(now),
            self.plain.get(&self.context(), old).await,
            "the last moment is the present"
        );
        let found = self.recall(query, at(learned));
        let found = self.store.recall_past(&found).await;
        let found = &found.expect("the moment has been").results[0].memory;
        assert_eq!(*found, then, "a recall tells of a memory what a get does");
    }

    async fn a_time_means_what_was_there_by_then(&self) {
        let (key, _) = self.learn(Experience::new("the clock was wrong", "")).await;
        let learned = self.events(key).await[0].at;
        let before = Moment::Time(TimeMs(learned.0 - 1));
        assert_eq!(self.got(key, before).await, None);
        assert_eq!(self.there("clock", before).await, BTreeSet::new());
        let by_then = Moment::Time(learned);
        assert!(self.got(key, by_then).await.is_some());
        assert_eq!(self.there("clock", by_then).await, [(key, 1)].into());
    }

    async fn what_is_forgotten_never_was(&self) {
        let (key, learned) = self.learn(Experience::new("to be forgotten", "")).await;
        let context = self.context();
        let forgotten = self.store.forget(&context, key).await;
        forgotten.expect("it is there");
        let then = Moment::Position(learned);
        assert_eq!(self.got(key, then).await, None);
        assert_eq!(self.there("forgotten", then).await, BTreeSet::new());
        let history = self.store.history(&self.history(key)).await;
        assert_eq!(history.expect("a history is told"), None);
        let (again, _) = self.learn(Experience::new("to be forgotten", "")).await;
        assert_eq!(again, key);
        let kinds: Vec<_> = self.events(key).await.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Some(EventKind::Learned)], "it begins anew");
    }

    async fn the_past_is_as_hidden_as_the_present(&self) {
        let own = Experience::new("ada rotates the password", "").agent("ada");
        let own = own.scope(Scope::Agent("ada".to_owned()));
        let (key, learned) = self.learn(own).await;
        let then = Moment::Position(learned);
        for (reader, sees) in [
            (Reader::agent("ada"), true),
            (Reader::agent("bob"), false),
            (Reader::default(), false),
        ] {
            let get = Get::new(key)
                .namespace(&self.plain.namespace)
                .reader(reader.clone())
                .as_of(then);
            let got = self.store.get_past(get).await.expect("the moment has been");
            assert_eq!(got.is_some(), sees, "{reader:?}");
            let recall = self.recall("password", then).reader(reader.clone());
            let found = self.store.recall_past(&recall).await;
            let found = found.expect("the moment has been").results;
            assert_eq!(!found.is_empty(), sees, "{reader:?}");
            let list = self.list(then).reader(reader.clone());
            let listed = self.store.list_past(&list).await;
            let listed = listed.expect("the moment has been").memories;
            assert_eq!(!listed.is_empty(), sees, "{reader:?}");
            let history = self.history(key).reader(reader.clone());
            let history = self.store.history(&history).await;
            let history = history.expect("a history is told");
            assert_eq!(history.is_some(), sees, "{reader:?}");
        }
        let elsewhere = format!("{}.other", self.plain.namespace);
        let own = || Reader::agent("ada");
        let get = Get::new(key).namespace(&elsewhere).reader(own());
        let got = self.store.get_past(get.as_of(then)).await;
        assert_eq!(got.expect("the moment has been"), None);
        let history = self.history(key).namespace(&elsewhere).reader(own());
        let history = self.store.history(&history).await;
        assert_eq!(history.expect("a history is told"), None);
    }

    async fn what_is_to_come_is_refused(&self) {
        let (key, last) = self.learn(Experience::new("the present", "")).await;
        let unknown = Key([0x5a; 16]);
        for moment in [
            // Others may write into the same log meanwhile.
            Moment::Position(last + 1_000_000),
            Moment::Time(TimeMs(time::now().0 + 3 * DAY_MS)),
        ] {
            for key in [key, unknown] {
                let get = Get::new(key).namespace(&self.plain.namespace);
                let got = self.store.get_past(get.as_of(moment)).await;
                refused(got, Kind::Fix, "a get as of what is to come");
            }
            let recalled = self
                .store
                .recall_past(&self.recall("present", moment))
                .await;
            refused(recalled, Kind::Fix, "a recall as of what is to come");
            let listed = self.store.list_past(&self.list(moment)).await;
            refused(listed, Kind::Fix, "a list as of what is to come");
        }
    }

    async fn what_happened_is_told_newest_first(&self) {
        let lesson = Experience::new("the exporter hung", "");
        let (key, learned) = self.learn(lesson.clone().agent("ada").session("s-1")).await;
        self.rate(key, -0.5).await;
        let (_, again) = self.learn(lesson.agent("bob")).await;
        let events = self.events(key).await;
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [
                EventKind::LearnedAgain,
                EventKind::Rated,
                EventKind::Learned
            ]
            .map(Some)
        );
        assert!(events.iter().all(|event| event.key == key));
        assert!(events.is_sorted_by(|a, b| a.position > b.position && a.at >= b.at));
        let versions: Vec<u64> = events.iter().map(|event| event.version).collect();
        assert_eq!(versions, [3, 2, 1]);
        assert_eq!((events[0].position, events[2].position), (again, learned));
        let agents: Vec<_> = events.iter().map(|event| event.agent.as_deref()).collect();
        assert_eq!(agents, [Some("bob"), Some("cy"), Some("ada")]);
        assert_eq!(events[2].session.as_deref(), Some("s-1"));
        assert_eq!(events[1].score, Some(-0.5));
        assert_eq!(events[1].reason, "why not");
        let counted = events[0].changes.iter().find(|c| c.field == "occurrences");
        let counted = counted.expect("what was different afterwards");
        assert_eq!(
            (counted.before.as_deref(), counted.after.as_deref()),
            (Some("1"), Some("2"))
        );
        for (event, moment) in events.iter().map(|e| (e, Moment::Position(e.position))) {
            let then = self.got(key, moment).await.expect("it was there");
            assert_eq!(then.version, event.version, "an event is a moment");
        }
    }

    async fn pages_of_a_history_make_up_the_whole(&self) {
        let (key, _) = self.learn(Experience::new("rated over and over", "")).await;
        for round in 0..6_u8 {
            self.rate(key, f32::from(round) / 10.0).await;
        }
        let whole = self.events(key).await;
        assert_eq!(whole.len(), 7);
        for page_size in [1, 2, 7, 100] {
            let mut paged = Vec::new();
            let mut next = Some(String::new());
            while let Some(token) = next {
                let history = self.history(key).page_size(page_size).page_token(token);
                let page = self.store.history(&history).await;
                let page = page.expect("a history is told").expect("it is there");
                assert!(page.events.len() <= page_size);
                paged.extend(page.events);
                next = page.next;
            }
            assert_eq!(paged, whole, "pages of {page_size}");
        }
        for page_size in [0, PAGE_MAX + 1] {
            let history = self.history(key).page_size(page_size);
            let history = self.store.history(&history).await;
            refused(history, Kind::Fix, "a page size out of bounds");
        }
        let history = self.history(key).page_token("no token");
        let history = self.store.history(&history).await;
        refused(history, Kind::Fix, "a token of nobody");
        let history = self.store.history(&self.history(Key([0x5a; 16]))).await;
        assert_eq!(history.expect("a history is told"), None);
    }
}

//! What happened to a memory, and how it was, through a client and without one.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::TryStreamExt as _;
use memorygate_client::{
    Client, Event, EventKind, Experience, Get, GiveFeedback, History, InMemoryStore, Key, Kind,
    List, Moment, Reader, Recall, Scope, TimeMs, Update,
};
use memorygate_fake::Fake;

const START: i64 = 1_748_736_000_000;

/// A store on a clock that a test moves on, and a client of a server over it.
async fn start() -> (Arc<AtomicI64>, InMemoryStore, Client) {
    let clock = Arc::new(AtomicI64::new(START));
    let read = Arc::clone(&clock);
    let now = move || TimeMs(read.load(Ordering::Relaxed));
    let fake = Fake::over(InMemoryStore::with_clock(Arc::new(now)));
    let client = Client::connect(fake.serve().await).unwrap();
    (clock, fake.store, client)
}

async fn learn(client: &Client, experience: Experience) -> (Key, u64) {
    let reply = client.learn(experience).await.unwrap();
    (reply.learned[0].key, reply.position.index)
}

#[tokio::test]
async fn a_client_is_told_what_the_store_knows() {
    let (_clock, store, client) = start().await;
    let (key, _) = learn(&client, Experience::new("disk full", "d").agent("ada")).await;
    learn(&client, Experience::new("disk full", "d").agent("bob")).await;
    let feedback = GiveFeedback::new(key, -0.5).reason("was the inode table");
    let feedback = feedback.reader(Reader::agent("cy"));
    client.feedback(&feedback).await.unwrap();
    let update = Update::new(key)
        .importance(0.75)
        .set_metadata("pod", "web-1");
    client.update(&update).await.unwrap();
    let all: Vec<Event> = client
        .history(History::new(key))
        .try_collect()
        .await
        .unwrap();
    let kinds: Vec<_> = all.iter().map(|event| event.kind.unwrap()).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Updated,
            EventKind::Rated,
            EventKind::LearnedAgain,
            EventKind::Learned
        ]
    );
    let versions: Vec<u64> = all.iter().map(|event| event.version).collect();
    assert_eq!(versions, [4, 3, 2, 1]);
    let agents: Vec<_> = all.iter().map(|event| event.agent.as_deref()).collect();
    assert_eq!(agents, [None, Some("cy"), Some("bob"), Some("ada")]);
    assert_eq!(all[1].score, Some(-0.5));
    assert_eq!(all[1].reason, "was the inode table");
    let fields: Vec<_> = all[0].changes.iter().map(|c| c.field.as_str()).collect();
    assert_eq!(fields, ["importance", "metadata.pod"]);
    let page = store.history_page(&History::new(key)).unwrap().unwrap();
    assert!(page.is_complete && page.next.is_none());
    assert_eq!(page.events, all);
    let paged = client.history(History::new(key).page_size(1));
    let paged: Vec<Event> = paged.try_collect().await.unwrap();
    assert_eq!(paged, all);

    let private = Experience::new("secret", "d").scope(Scope::Agent("ada".to_owned()));
    let (secret, _) = learn(&client, private).await;
    assert_eq!(client.history_page(&secret.into()).await.unwrap(), None);
    let own = History::new(secret).reader(Reader::agent("ada"));
    assert!(client.history_page(&own).await.unwrap().is_some());
    let many = History::new(key).page_size(1001);
    assert_eq!(
        client.history_page(&many).await.unwrap_err().kind(),
        Kind::Fix
    );
    let bad = History::new(key).page_token("x");
    assert_eq!(store.history_page(&bad).unwrap_err().kind(), Kind::Fix);
}

#[tokio::test]
async fn reads_are_of_a_moment_if_they_ask_for_one() {
    let (clock, store, client) = start().await;
    let (key, first) = learn(&client, Experience::new("the disk is full", "d")).await;
    clock.fetch_add(1000, Ordering::Relaxed);
    let update = Update::new(key).set_metadata("pod", "web-1");
    let second = client.update(&update).await.unwrap().position.index;
    clock.fetch_add(1000, Ordering::Relaxed);
    let (_, third) = learn(&client, Experience::new("the disk is slow", "d")).await;
    for (moment, versions) in [
        (Moment::Position(0), vec![]),
        (Moment::Position(first), vec![1]),
        (Moment::Position(second), vec![2]),
        (Moment::Position(third), vec![2, 1]),
        (Moment::Time(TimeMs(START - 1)), vec![]),
        (Moment::Time(TimeMs(START + 999)), vec![1]),
        (Moment::Time(TimeMs(START + 1000)), vec![2]),
        (Moment::Time(TimeMs(START + 2000)), vec![2, 1]),
    ] {
        let recall = Recall::new("is the disk full").as_of(moment);
        let found = client.recall(&recall).await.unwrap();
        assert_eq!(found.results, store.recall(&recall).unwrap().results);
        let found = found.results.iter().map(|found| found.memory.version);
        assert_eq!(found.collect::<Vec<_>>(), versions, "{moment:?}");
        let listed = client.list(List::new().as_of(moment));
        let listed: Vec<_> = listed.try_collect().await.unwrap();
        assert_eq!(listed.len(), versions.len(), "{moment:?}");
        let got = client.get(Get::new(key).as_of(moment)).await.unwrap();
        let version = got.map(|memory| memory.version);
        assert_eq!(version, versions.first().copied(), "{moment:?}");
    }
    for ahead in [
        Moment::Position(third + 1),
        Moment::Time(TimeMs(START + 2001)),
    ] {
        let error = client.get(Get::new(key).as_of(ahead)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Fix, "{error}");
    }
}

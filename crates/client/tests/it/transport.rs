//! What the client makes of broken connections, deadlines and the server's errors.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use memorygate_client::{
    Client, Experience, Filter, Freshness, Get, GiveFeedback, Key, Kind, Learn, List, Outcome,
    Position, Reader, Recall, Relation, SetLink, Settings, Stage, TimeMs, Update,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use memorygate_fake::{Call, Fake, Fault, detailed};

/// A client that does not wait long between attempts.
fn client(address: &str) -> Client {
    Client::new(Settings {
        backoff_initial: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        attempts_max: 4,
        ..Settings::new([address])
    })
    .unwrap()
}

fn unavailable() -> Fault {
    Fault::Status(detailed(
        Code::Unavailable,
        "NOT_READY",
        Some("failed"),
        None,
    ))
}

fn lesson() -> Experience {
    Experience::new("raise the limit", "infrastructure")
}

fn ids(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|c| c.request_id.as_str()).collect()
}

#[tokio::test]
async fn a_write_is_repeated_under_the_same_request_id() {
    let (fake, address) = Fake::start().await;
    fake.fail([unavailable(), unavailable()]);
    let reply = client(&address).learn(lesson()).await.unwrap();
    assert!(reply.learned[0].created);
    let calls = fake.calls();
    assert_eq!(calls.len(), 3);
    assert!(!calls[0].request_id.is_empty());
    assert_eq!(ids(&calls), [&calls[0].request_id; 3]);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_run_once() {
    let (fake, address) = Fake::start().await;
    fake.fail([Fault::Afterwards(Status::unavailable("cut off"))]);
    let reply = client(&address).learn(lesson()).await.unwrap();
    assert_eq!(
        (reply.learned[0].created, reply.learned[0].occurrences),
        (true, 1),
        "the second attempt gets the first answer"
    );
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test]
async fn reads_are_repeated_too_and_bad_requests_are_not() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    fake.fail([unavailable()]);
    assert!(client.recall(&Recall::new("limit")).await.is_ok());
    assert_eq!(fake.calls().len(), 2);
    fake.fail([Fault::Status(Status::invalid_argument("no"))]);
    let error = client.recall(&Recall::new("limit")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Fix, 1));
    assert_eq!(fake.calls().len(), 1);
}

#[tokio::test]
async fn attempts_are_bounded_and_an_unknown_outcome_stays_unknown() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    // The first attempt may have been stored; that the others were not says nothing of it.
    fake.fail([
        Fault::Status(Status::unavailable("connection lost")),
        unavailable(),
        unavailable(),
        unavailable(),
    ]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.attempts()),
        (Kind::Retry, Outcome::Unknown, 4)
    );
    assert_eq!(error.endpoint(), Some(address.as_str()));
    assert!(
        error
            .to_string()
            .starts_with("learn has an unknown outcome")
    );
    let id = error.request_id().unwrap();
    assert_eq!(fake.calls()[0].request_id, id.to_string());

    let settled = client
        .learn(Learn::new([lesson()]).request_id(id))
        .await
        .unwrap();
    assert!(settled.learned[0].created);

    fake.fail([unavailable(), unavailable(), unavailable(), unavailable()]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(
        error.outcome(),
        Outcome::Failed,
        "the server said so each time"
    );
}

#[tokio::test]
async fn an_answer_to_the_request_itself_settles_what_was_unknown() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    fake.fail([
        Fault::Status(Status::unavailable("connection lost")),
        Fault::Status(detailed(Code::NotFound, "NOT_FOUND", Some("failed"), None)),
    ]);
    let error = client.forget(Key([1; 16])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::NotFound, Outcome::Failed)
    );
    // An id that is too old says nothing of what became of the request.
    fake.fail([
        Fault::Status(Status::unavailable("connection lost")),
        Fault::Status(detailed(
            Code::FailedPrecondition,
            "REQUEST_ID_EXPIRED",
            Some("failed"),
            None,
        )),
    ]);
    let error = client.forget(Key([1; 16])).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Fix, Outcome::Unknown)
    );
}

#[tokio::test]
async fn a_deadline_that_passes_leaves_a_write_unknown_and_a_read_failed() {
    let (fake, address) = Fake::start().await;
    let client = Client::new(Settings {
        timeout: Duration::from_millis(200),
        ..Settings::new([address])
    })
    .unwrap();
    fake.fail([Fault::Hang, Fault::Hang]);
    // An id of its own, so that none has to be asked for within the deadline.
    let id = "0-00000000000000000000000000000000".parse().unwrap();
    let learn = Learn::new([lesson()]).request_id(id);
    let error = client.learn(learn).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.code()),
        (Kind::Retry, Outcome::Unknown, Code::DeadlineExceeded)
    );
    let error = client.recall(&Recall::new("limit")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.code()),
        (Kind::Retry, Outcome::Failed, Code::DeadlineExceeded)
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_known_to_have_done_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&format!("http://{address}"));
    let id = "1-00000000000000000000000000000000".parse().unwrap();
    let error = client
        .learn(Learn::new([lesson()]).request_id(id))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.attempts()),
        (Kind::Retry, Outcome::Failed, 4)
    );
    assert!(error.message().contains("cannot connect"), "{error}");
    assert!(error.message().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_write_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Reads the beginning of each request and hangs up.
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 64];
            let _ = stream.read(&mut bytes).await;
        }
    });
    let client = client(&format!("http://{address}"));
    let id = "1-00000000000000000000000000000000".parse().unwrap();
    let error = client
        .learn(Learn::new([lesson()]).request_id(id))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Unknown),
        "{error}"
    );
    let error = client.stats().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Retry, Outcome::Failed),
        "{error}"
    );
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_one_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (fake, address) = Fake::start().await;
    let second = fake.serve().await;
    let client = Client::new(Settings {
        backoff_initial: Duration::from_millis(1),
        ..Settings::new([away, address, second])
    })
    .unwrap();
    client.learn(lesson()).await.unwrap();
    fake.fail([unavailable()]);
    client.recall(&Recall::new("limit")).await.unwrap();
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn details_of_an_error_are_read() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "INVALID",
        "memorygate",
        std::collections::HashMap::from([("outcome".to_owned(), "failed".to_owned())]),
    );
    details.add_bad_request_violation("experiences[0].content", "has 70000 bytes");
    details.add_bad_request_violation("namespace", "is wrong");
    let bad = Status::with_error_details(Code::InvalidArgument, "request is invalid", details);
    fake.fail([Fault::Status(bad)]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome(), error.reason()),
        (Kind::Fix, Outcome::Failed, "INVALID")
    );
    assert_eq!(error.violations()[0].field, "experiences[0].content");
    assert_eq!(
        error.to_string(),
        "learn failed: request is invalid; experiences[0].content: has 70000 bytes; namespace: is \
         wrong"
    );
}

#[tokio::test]
async fn a_full_queue_is_waited_for_and_a_lack_of_room_is_not() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    let wait = Some(Duration::from_millis(5));
    fake.fail([Fault::Status(detailed(
        Code::ResourceExhausted,
        "OVERLOADED",
        Some("failed"),
        wait,
    ))]);
    client.learn(lesson()).await.unwrap();
    assert_eq!(fake.calls().len(), 2);
    for (reason, kind) in [("QUOTA", Kind::Retry), ("ANSWER_TOO_LARGE", Kind::Fix)] {
        fake.fail([Fault::Status(detailed(
            Code::ResourceExhausted,
            reason,
            Some("failed"),
            None,
        ))]);
        let error = client.learn(lesson()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::Failed));
        assert_eq!(fake.calls().len(), 1);
    }
    // Longer than the deadline: not waited for.
    fake.fail([Fault::Status(detailed(
        Code::ResourceExhausted,
        "STORAGE_FULL",
        Some("failed"),
        Some(Duration::from_secs(3600)),
    ))]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn codes_without_details_are_read_with_caution() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    for (code, kind, outcome) in [
        (Code::PermissionDenied, Kind::Fix, Outcome::Failed),
        (Code::Unimplemented, Kind::Report, Outcome::Failed),
        (Code::FailedPrecondition, Kind::Restore, Outcome::Failed),
        (Code::DataLoss, Kind::Restore, Outcome::Unknown),
        (Code::Internal, Kind::Report, Outcome::Unknown),
        (Code::Aborted, Kind::Conflict, Outcome::Unknown),
    ] {
        fake.fail([Fault::Status(Status::new(code, "bare"))]);
        let error = client.learn(lesson()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{code:?}");
    }
    fake.fail([Fault::Status(detailed(
        Code::Internal,
        "INTERNAL",
        Some("surely"),
        None,
    ))]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(
        error.outcome(),
        Outcome::Unknown,
        "a word that nobody knows is no word"
    );
}

#[tokio::test]
async fn what_to_do_about_a_change_of_members_depends_on_the_reason() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    for (code, reason, kind) in [
        (Code::FailedPrecondition, "LAST_VOTER", Kind::Fix),
        (Code::FailedPrecondition, "NOBODY_THERE", Kind::Fix),
        (Code::FailedPrecondition, "LAGGING", Kind::Retry),
        (Code::AlreadyExists, "ADDRESS_TAKEN", Kind::Fix),
        (Code::AlreadyExists, "OTHER", Kind::Conflict),
    ] {
        let wait = Some(Duration::from_millis(1));
        fake.fail([Fault::Status(detailed(code, reason, Some("failed"), wait))]);
        let error = client.learn(lesson()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{reason}");
        assert_eq!(error.outcome(), Outcome::Failed);
    }
    // Changes are made one after the other: this is waited for.
    let wait = Some(Duration::from_millis(1));
    let busy = detailed(Code::Aborted, "CHANGE_IN_PROGRESS", Some("failed"), wait);
    fake.fail([Fault::Status(busy)]);
    client.learn(lesson()).await.unwrap();
}

#[tokio::test]
async fn reads_ask_for_what_was_seen() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    assert_eq!(client.position(), None);
    let written = client.learn(lesson()).await.unwrap().position;
    assert_eq!(client.position(), Some(written));
    let key = lesson().key_in("default").unwrap();
    client.get(key).await.unwrap().unwrap();
    client
        .get(Get::new(key).freshness(Freshness::Any))
        .await
        .unwrap();
    let later = Position {
        index: written.index,
        ..written
    };
    client
        .recall(&Recall::new("limit").freshness(Freshness::AtLeast(later)))
        .await
        .unwrap();
    let at_least: Vec<_> = fake.calls().iter().map(|c| c.at_least).collect();
    assert_eq!(
        at_least,
        [None, Some(written.index), None, Some(written.index)]
    );
    let elsewhere = Position {
        cluster_id: written.cluster_id ^ 1,
        ..written
    };
    let error = client
        .get(Get::new(key).freshness(Freshness::AtLeast(elsewhere)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Restore);

    let unconcerned = Client::new(Settings {
        read_your_writes: false,
        ..Settings::new([address])
    })
    .unwrap();
    unconcerned.learn(lesson()).await.unwrap();
    fake.calls();
    unconcerned.list_page(&List::new()).await.unwrap();
    assert_eq!(fake.calls()[0].at_least, None);
}

#[tokio::test]
async fn another_cluster_behind_the_same_address_is_noticed() {
    let (first_fake, first) = Fake::start().await;
    let (second_fake, second) = Fake::start().await;
    // Its log is longer, so the request id of the first one's means something to it, too.
    for _ in 0..3 {
        second_fake.store.learn(lesson()).unwrap();
    }
    let client = Client::new(Settings {
        backoff_initial: Duration::from_millis(1),
        read_your_writes: false,
        ..Settings::new([first, second])
    })
    .unwrap();
    client.learn(lesson()).await.unwrap();
    // The first node goes away for a moment, so the second is asked.
    first_fake.fail([unavailable()]);
    let error = client.learn(lesson()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Restore, Outcome::Unknown)
    );
    assert!(error.message().contains("answered by cluster"), "{error}");
    client.reset_position();
    assert!(client.learn(lesson()).await.is_ok());
    assert_eq!(second_fake.calls().len(), 2);
}

#[tokio::test]
async fn a_stream_of_batches_is_learned_as_it_arrives() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    let batch = |i: usize| Learn::new([Experience::new(format!("lesson {}", i % 8), "deployment")]);
    let reply = client
        .learn_stream(stream::iter((0..10).map(batch)))
        .await
        .unwrap();
    assert_eq!((reply.batches, reply.created, reply.reinforced), (10, 8, 2));
    assert_eq!(client.position(), reply.position);
    let calls = fake.calls();
    let distinct: std::collections::BTreeSet<_> = ids(&calls).into_iter().collect();
    assert_eq!(distinct.len(), 10, "each batch is a request of its own");

    let empty = client.learn_stream(stream::empty()).await.unwrap();
    assert_eq!((empty.batches, empty.position), (0, None));

    // A batch that breaks a bound ends the stream; what came before stays.
    let batches = vec![batch(100), Learn::default(), batch(101)];
    let error = client
        .learn_stream(stream::iter(batches))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Fix, Outcome::Failed)
    );
    assert_eq!(fake.calls().len(), 1);

    // Repeated with the same ids after it broke, nothing is stored twice.
    let mut repeatable = Vec::new();
    for i in 200..203 {
        repeatable.push(batch(i).request_id(client.request_id().await.unwrap()));
    }
    let broken = || Fault::Afterwards(Status::unavailable("cut off"));
    fake.fail([broken()]);
    let error = client
        .learn_stream(stream::iter(repeatable.clone()))
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let reply = client.learn_stream(stream::iter(repeatable)).await.unwrap();
    assert_eq!(reply.batches, 3);
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let (fake, address) = Fake::start().await;
    let client = client(&address).in_namespace("paged");
    let lessons = (0..25).map(|i| Experience::new(format!("lesson {i}"), "deployment"));
    client.learn(Learn::new(lessons)).await.unwrap();
    fake.calls();
    let list = List::new()
        .page_size(10)
        .filter(Filter::new().domain("deployment"));
    let memories: Vec<_> = client.list(list.clone()).try_collect().await.unwrap();
    assert_eq!(memories.len(), 25);
    assert!(memories.is_sorted_by(|a, b| a.key < b.key));
    assert_eq!(fake.calls().len(), 3);

    fake.fail([Fault::Status(Status::permission_denied("no"))]);
    let results: Vec<_> = client.list(list).collect().await;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), Kind::Fix);
}

#[tokio::test]
async fn every_change_of_a_memory_arrives_as_it_was_meant() {
    let (fake, address) = Fake::start().await;
    let client = client(&address).reading_as(Reader::agent("ada").team("sre"));
    let key = client.learn(lesson()).await.unwrap().learned[0].key;
    let other = Experience::new("the batch job leaks", "infrastructure");
    let other = client.learn(other).await.unwrap().learned[0].key;
    let expires = TimeMs(253_402_300_799_000);
    let update = Update::new(key)
        .importance(0.9)
        .pinned(true)
        .expires_at(expires)
        .set_metadata("cluster", "prod")
        .remove_metadata("region")
        .expected_version(1);
    assert_eq!(client.update(&update).await.unwrap().version, 2);
    let conflict = client.update(&update).await.unwrap_err();
    assert_eq!(
        (conflict.kind(), conflict.outcome()),
        (Kind::Conflict, Outcome::Failed)
    );
    let link = SetLink::new(key, Relation::CausedBy, other);
    assert!(client.link(&link).await.unwrap().changed);
    let feedback = GiveFeedback::new(key, 0.5).reason("it helped").agent("bob");
    assert_eq!(client.feedback(&feedback).await.unwrap().version, 4);
    let memory = client.get(key).await.unwrap().unwrap();
    assert_eq!((memory.importance, memory.pinned), (0.9, true));
    assert_eq!(memory.expires_at, Some(expires));
    assert_eq!(memory.metadata["cluster"], "prod");
    assert_eq!(memory.links.len(), 1);
    assert_eq!(memory.feedback.positive, 0.5);
    client
        .update(&Update::new(key).never_expires())
        .await
        .unwrap();
    assert!(client.link(&link.remove()).await.unwrap().changed);
    let memory = client.get(key).await.unwrap().unwrap();
    assert_eq!((memory.expires_at, memory.links.len()), (None, 0));
    let forgotten = client.forget(key).await.unwrap();
    assert_eq!((forgotten.version, forgotten.changed), (0, true));
    assert_eq!(client.get(key).await.unwrap(), None);
    assert!(fake.calls().iter().any(|c| c.name == "link"));
    let stats = client.stats_of("default").await.unwrap();
    assert_eq!(stats.namespaces[0].memories, 1);
    assert_eq!(stats.node_id.len(), 16);
    assert!(client.stats_of("Not allowed").await.is_err());
}

#[tokio::test]
async fn every_stage_can_be_switched_off() {
    let (_fake, address) = Fake::start().await;
    let client = client(&address);
    client.learn(lesson()).await.unwrap();
    let stages = [
        Stage::Neighbours,
        Stage::Late,
        Stage::Expansion,
        Stage::Session,
        Stage::Recency,
        Stage::Importance,
        Stage::Usefulness,
        Stage::Trust,
        Stage::Fold,
        Stage::Diversity,
        Stage::Lexical,
    ];
    let recall = stages
        .into_iter()
        .fold(Recall::new("limit"), Recall::without);
    let results = client.recall(&recall).await.unwrap().results;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].parts.recency, 0.0);
    let nothing = recall.without(Stage::Dense);
    assert_eq!(client.recall(&nothing).await.unwrap().results, []);
}

#[tokio::test]
async fn bad_requests_are_not_sent() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    let refused = |error: memorygate_client::Error| {
        assert_eq!(
            (error.kind(), error.outcome(), error.attempts()),
            (Kind::Fix, Outcome::Failed, 0)
        );
    };
    refused(client.learn(Vec::new()).await.unwrap_err());
    refused(client.recall(&Recall::new("")).await.unwrap_err());
    refused(
        client
            .list_page(&List::new().page_size(0))
            .await
            .unwrap_err(),
    );
    refused(
        client
            .update(&Update::new(Key([0; 16])).importance(7.0))
            .await
            .unwrap_err(),
    );
    refused(
        client
            .feedback(&GiveFeedback::new(Key([0; 16]), 7.0))
            .await
            .unwrap_err(),
    );
    let nowhere = client.in_namespace("");
    refused(nowhere.forget(Key([0; 16])).await.unwrap_err());
    refused(nowhere.get(Key([0; 16])).await.unwrap_err());
    assert_eq!(nowhere.namespace(), "");
    assert_eq!(client.reader(), &Reader::default());
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn a_reply_that_makes_no_sense_is_said_to_be_one() {
    let (fake, address) = Fake::start().await;
    let client = client(&address);
    let key = client.learn(lesson()).await.unwrap().learned[0].key;
    let check = |error: memorygate_client::Error, outcome| {
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Report, outcome),
            "{error}"
        );
        assert!(
            error.message().starts_with("reply is malformed: "),
            "{error}"
        );
    };
    let empty = || fake.fail([Fault::Empty]);
    empty();
    check(client.learn(lesson()).await.unwrap_err(), Outcome::Unknown);
    empty();
    check(client.get(key).await.unwrap_err(), Outcome::Failed);
    empty();
    check(
        client.recall(&Recall::new("q")).await.unwrap_err(),
        Outcome::Failed,
    );
    empty();
    check(
        client.list_page(&List::new()).await.unwrap_err(),
        Outcome::Failed,
    );
    empty();
    let update = Update::new(key).pinned(true);
    check(client.update(&update).await.unwrap_err(), Outcome::Unknown);
    empty();
    check(client.forget(key).await.unwrap_err(), Outcome::Unknown);
}

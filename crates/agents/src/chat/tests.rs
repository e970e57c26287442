//! A model's endpoint that answers, refuses, hangs, breaks and lies, and an agent that learns through it.
//!
//! A test of one bound has all the others so long that none of them can end it.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use memorygate_client::{InMemoryStore, LearningContext, TimeMs, interaction::VERDICT_METADATA};
use memorygate_fake::model::{Asked, End, Model, Reply, believes_what_worked, delta};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{Action, Case, Known, MemoryEnabledAgent, Outcome};

const KEY: &str = "sk-very-secret";
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

fn settings(endpoint: &str) -> Settings {
    Settings {
        key: Some(Key::parse(KEY).unwrap()),
        bounds: Bounds {
            connect: LONG,
            first_token: LONG,
            between_tokens: LONG,
            whole: LONG,
            pause: Duration::from_millis(1),
        },
        ..Settings::new(endpoint, "small")
    }
}

fn task() -> Task {
    Task::new(LearningContext::new("checkout pods restart every night"))
        .action(Action::new("raise-limit").described("raise the memory limit"))
        .action(Action::new("roll-back").described("roll back the deployment"))
}

fn good() -> Value {
    json!({"explanation": "it grew since", "cases": [], "action": "roll-back", "confidence": 0.8})
}

/// What an endpoint with this script brings an agent to, in words.
async fn check(script: impl IntoIterator<Item = Reply>) -> String {
    check_within(script, |_| {}).await
}

async fn check_within(
    script: impl IntoIterator<Item = Reply>,
    change: impl FnOnce(&mut Bounds),
) -> String {
    let (model, endpoint) = Model::start(script).await;
    let mut settings = settings(&endpoint);
    change(&mut settings.bounds);
    let said = asked(&settings).await;
    // Of no error and no explanation may the key be read.
    assert!(!said.contains(KEY), "{said}");
    let questions = model.asked();
    assert!(
        questions
            .iter()
            .all(|q| q.authorization.as_deref() == Some("Bearer sk-very-secret"))
    );
    match questions.len() {
        1 => said,
        count => format!("{said} ({count} questions)"),
    }
}

async fn asked(settings: &Settings) -> String {
    let chat = Chat::new(settings).unwrap();
    assert!(!format!("{chat:?}").contains(KEY));
    match chat.execute(&task(), &Evidence::default()).await {
        Ok(decision) => match decision.chosen() {
            Some(chosen) => format!(
                "{} {}: {}",
                chosen.action, chosen.confidence, decision.explanation
            ),
            None => format!("not known: {}", decision.explanation),
        },
        Err(error) => {
            let port = settings
                .endpoint
                .rsplit(':')
                .next()
                .unwrap()
                .replace("/v1", "");
            let kind = match error {
                Error::Unavailable { .. } => "unavailable",
                Error::Unusable { .. } => "unusable",
                Error::Refused { .. } => "refused",
            };
            format!("{kind}: {error}").replace(&port, "PORT")
        }
    }
}

const GOOD: &str = "roll-back 0.8: it grew since";

#[tokio::test]
async fn a_streamed_answer_is_a_decision() {
    assert_eq!(check([Reply::json(&good())]).await, GOOD);
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_a_decision_too() {
    let message = json!({"role": "assistant", "content": good().to_string()});
    let document = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let reply = Reply::stream([document.to_string()]).header("content-type", "application/json");
    assert_eq!(check([reply]).await, GOOD);
}

#[tokio::test]
async fn a_model_is_asked_in_a_form_that_leaves_it_only_the_choices() {
    let (model, endpoint) = Model::start([Reply::json(&good())]).await;
    asked(&settings(&endpoint)).await;
    let Asked { body, .. } = model.asked().remove(0);
    assert_eq!(body["model"], "small");
    assert_eq!(
        (&body["stream"], &body["temperature"]),
        (&json!(true), &json!(0.0))
    );
    let format = &body["response_format"];
    assert_eq!(
        (&format["type"], &format["json_schema"]["strict"]),
        (&json!("json_schema"), &json!(true))
    );
    assert_eq!(
        format["json_schema"]["schema"]["properties"]["action"]["enum"],
        json!(["raise-limit", "roll-back", null])
    );
}

#[tokio::test]
async fn a_stream_may_be_cut_anywhere_and_end_its_lines_as_it_likes() {
    let told =
        json!({"explanation": "größer 🦀", "cases": [], "action": "roll-back", "confidence": 1});
    let text = told.to_string();
    let (start, end) = text.split_at(17);
    let stream = format!(
        ": a comment\n\nevent: chunk\n{}data: [DONE]\n\n",
        [
            delta(&json!({"content": start}), None),
            delta(&json!({"content": end}), Some("stop"))
        ]
        .concat()
    );
    for ends in ["\n", "\r\n", "\r"] {
        let stream = stream.replace('\n', ends);
        for size in [1, 2, 3, 5, 64] {
            let bytes = [b"\xef\xbb\xbf", stream.as_bytes()].concat();
            let pieces: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            let said = check([Reply::stream(pieces)]).await;
            assert_eq!(said, "roll-back 1: größer 🦀", "{size} {ends:?}");
        }
    }
}

#[tokio::test]
async fn an_end_that_is_not_told_is_one_if_the_model_had_finished() {
    let whole = delta(&json!({"content": good().to_string()}), Some("stop"));
    assert_eq!(check([Reply::stream([whole])]).await, GOOD);
    let open = delta(&json!({"content": good().to_string()}), None);
    assert_eq!(
        check([Reply::stream([open])]).await,
        "unavailable: the model small at http://127.0.0.1:PORT cannot be had: the answer ended in the \
         middle; try again, or decide without it"
    );
}

#[tokio::test]
async fn each_wait_for_a_model_has_its_bound() {
    let silent = || Reply::stream([""; 0]).end(End::Silence);
    let said = check_within([silent()], |bounds| bounds.first_token = SHORT).await;
    assert!(
        said.starts_with("unavailable: ")
            && said.contains("nothing of an answer came within 100ms"),
        "{said}"
    );

    // A head, and pieces without a word in them, are no first token.
    let empty = delta(&json!({"role": "assistant", "content": ""}), None);
    let head = Reply::stream([empty.clone(), ": ping\n\n".to_owned()]).end(End::Hang);
    let said = check_within([head], |bounds| bounds.first_token = SHORT).await;
    assert!(
        said.contains("nothing of an answer came within 100ms"),
        "{said}"
    );

    let word = delta(&json!({"content": "{"}), None);
    let begun = Reply::stream([word.clone(), empty]).end(End::Hang);
    let said = check_within([begun], |bounds| bounds.between_tokens = SHORT).await;
    assert!(
        said.contains("its answer stopped: nothing more came within 100ms"),
        "{said}"
    );

    let begun = Reply::stream([word]).end(End::Hang);
    let said = check_within([begun], |bounds| bounds.whole = SHORT).await;
    assert!(
        said.contains("it gave no whole answer within 100ms"),
        "{said}"
    );

    // A refusal that does not end says the same as one that does, as far as it came.
    let refusal = Reply::status(401, "no").end(End::Hang);
    let said = check_within([refusal], |bounds| {
        bounds.first_token = Duration::from_secs(1)
    })
    .await;
    assert!(
        said.contains("the key is missing or not accepted (401): no"),
        "{said}"
    );
}

/// A listener that takes connections and says nothing, so that encryption never begins.
async fn mute() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            open.push(connection);
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_tried_three_times() {
    let mut late = settings(&format!("https://{}/v1", mute().await));
    late.bounds.connect = SHORT;
    let said = asked(&late).await;
    assert!(said.starts_with("unavailable: "), "{said}");
    assert!(
        said.contains("it cannot be connected in time, 3 times"),
        "{said}"
    );

    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let said = asked(&settings(&format!("http://{address}/v1"))).await;
    assert!(
        said.starts_with("unavailable: ") && said.contains("it cannot be connected: "),
        "{said}"
    );
    assert!(
        said.contains(", 3 times; try again, or decide without it"),
        "{said}"
    );
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_may_not_is_not() {
    let later = Reply::status(500, "out of memory");
    assert_eq!(
        check([later.clone(), Reply::json(&good())]).await,
        format!("{GOOD} (2 questions)")
    );
    let said = check([
        later.clone(),
        later.clone(),
        later.clone(),
        Reply::json(&good()),
    ])
    .await;
    assert!(
        said.contains("it answers 500: out of memory, 3 times"),
        "{said}"
    );
    assert!(said.ends_with(" (3 questions)"), "{said}");
    for (reply, expected) in [
        (
            Reply::status(401, "bad key sk-very-secret"),
            "the key is missing or not accepted (401): bad key [key]",
        ),
        (
            Reply::status(403, "not you"),
            "the key is missing or not accepted (403): not you",
        ),
        (
            Reply::status(404, "no model small"),
            "no chat completions below this address (404): no model small",
        ),
        (
            Reply::status(400, "context too long"),
            "refuses: context too long (400)",
        ),
        (
            Reply::status(418, "I am a teapot"),
            "it answers 418: I am a teapot",
        ),
        (
            Reply::status(307, "").header("location", "http://elsewhere.example/"),
            "it leads elsewhere (307, to \"http://elsewhere.example/\"), where no key is taken",
        ),
        (
            Reply::stream([r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#])
                .with_status(429),
            "what was paid for is used up (429): pay",
        ),
    ] {
        let said = check([reply]).await;
        assert!(
            said.starts_with("refused: ") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept_unless_it_is_too_long() {
    let later = |after: &str| Reply::status(429, "slowly").header("retry-after", after);
    assert_eq!(
        check([later("0"), Reply::json(&good())]).await,
        format!("{GOOD} (2 questions)")
    );
    let begun = std::time::Instant::now();
    assert_eq!(
        check([later("1"), Reply::json(&good())]).await,
        format!("{GOOD} (2 questions)")
    );
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "it asked again before it was allowed to"
    );
    let said = check([later("3600"), Reply::json(&good())]).await;
    assert!(
        said.contains(
            "it answers 429: slowly; the next attempt would be 3600s later, and the answer has to be there \
             within 60s"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn an_endpoint_that_knows_no_schema_is_asked_in_simpler_forms() {
    let (model, endpoint) = Model::start([
        Reply::status(400, "response_format of type json_schema is not supported"),
        Reply::status(400, "temperature may only be 1"),
        Reply::status(422, "unknown field response_format"),
        Reply::json(&good()),
    ])
    .await;
    assert_eq!(asked(&settings(&endpoint)).await, GOOD);
    let forms: Vec<_> = (model.asked().iter())
        .map(|asked| {
            (
                asked.body["response_format"]["type"].clone(),
                asked.body["temperature"].clone(),
            )
        })
        .collect();
    assert_eq!(
        forms,
        [
            (json!("json_schema"), json!(0.0)),
            (json!("json_object"), json!(0.0)),
            (json!("json_object"), Value::Null),
            (Value::Null, Value::Null),
        ]
    );
    // One that refuses whatever it is asked is not asked for ever.
    let stubborn = Reply::status(400, "response_format, temperature");
    let said = check(vec![stubborn; 9]).await;
    assert!(
        said.starts_with("refused: ") && said.ends_with(" (4 questions)"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_answer_is_unusable_and_not_asked_again() {
    let page =
        Reply::stream(["<html>sign in</html>"]).header("content-type", "text/html; charset=utf-8");
    let not_json = Reply::stream(["data: {\"choices\": [\n\n"]);
    let no_event = Reply::stream(["HTTP/1.1 200 OK\n\nhello\n"]);
    let not_utf8 = Reply::stream([b"data: \xff\xfe\n\n".to_vec()]);
    let wrong_types = Reply::stream(["data: {\"choices\": [{\"delta\": {\"content\": 7}}]}\n\n"]);
    let cut_off = Reply::stream([delta(&json!({"content": "{\"action\""}), Some("length"))]);
    let filtered = Reply::stream([delta(&json!({}), Some("content_filter"))]);
    let refuses = Reply::stream([delta(&json!({"refusal": "I must not"}), Some("stop"))]);
    let wrong = |action: &str, confidence: f64| {
        Reply::json(
            &json!({"explanation": "", "cases": [], "action": action, "confidence": confidence}),
        )
    };
    for (reply, expected) in [
        (
            page,
            "its content type is \"text/html\", expected text/event-stream",
        ),
        (not_json, "which is no JSON: EOF"),
        (no_event, "its stream holds no events"),
        (not_utf8, "its stream holds no events: utf8"),
        (wrong_types, "which is no JSON: invalid type: integer `7`"),
        (cut_off, "its answer was cut off"),
        (filtered, "held back by a filter"),
        (refuses, "the model refuses: I must not"),
        (Reply::text(""), "its answer is empty"),
        (
            Reply::text("Roll it back!"),
            "expected one JSON object, got \"Roll it back!\"",
        ),
        (
            wrong("rm -rf", 1.0),
            "it chose \"rm -rf\", which is none of the 2 actions that can be chosen",
        ),
        (
            wrong("roll-back", 1.5),
            "its confidence is 1.5, expected a number from 0 to 1",
        ),
        (
            Reply::stream(["{"]).header("content-type", "application/json"),
            "which is no JSON",
        ),
    ] {
        let said = check([reply]).await;
        assert!(
            said.starts_with("unusable: ") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_memory_that_was_invented_is_told() {
    let lie =
        json!({"explanation": "as before", "cases": [1], "action": "roll-back", "confidence": 1});
    assert_eq!(
        check([Reply::json(&lie)]).await,
        "not known: not believed, since it names no memory that it was shown: as before (it also named [1], \
         which it was not shown)"
    );
}

#[tokio::test]
async fn an_answer_without_end_takes_bounded_memory() {
    let word = delta(&json!({"content": "many words "}), None);
    let said = check([Reply::stream([""; 0]).end(End::Endless(word.into()))]).await;
    assert!(
        said.contains("its answer has more than 65536 bytes"),
        "{said}"
    );

    let empty = delta(&json!({"content": ""}), None);
    let line = vec![b'x'; 1 << 16];
    for (start, endless) in [
        (": begun\n\n", empty.into_bytes()),
        (": begun\n\n", b": ping\n\n".repeat(1_000)),
        ("data: ", line.clone()),
        ("data: x\n", b"data: x\n".repeat(1_000)),
        (":", line),
    ] {
        let reply = Reply::stream([start]).end(End::Endless(endless.into()));
        let said = check([reply]).await;
        assert!(said.starts_with("unusable: "), "{said}");
        assert!(
            said.contains("the answer has no end: it has more than 16777216 bytes"),
            "{said}"
        );
    }
    let document = Reply::stream(["{\"x\": \""]).end(End::Endless(vec![b'x'; 1 << 16].into()));
    let said = check([document.header("content-type", "application/json")]).await;
    assert!(said.contains("the answer has no end"), "{said}");

    // Of a refusal only the beginning is read.
    let refusal = Reply::status(404, "").end(End::Endless(vec![b'x'; 1 << 16].into()));
    let said = check([refusal]).await;
    assert!(
        said.starts_with("refused: ") && said.len() < 1_000,
        "{said}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_loses_the_answer_and_nothing_else() {
    let word = delta(&json!({"content": "{\"action\": "}), None);
    let said = check([Reply::stream([word]).end(End::Cut)]).await;
    assert!(said.starts_with("unavailable: "), "{said}");
    assert!(
        said.contains("the connection broke in the middle of the answer"),
        "{said}"
    );
    let gave_up = "data: {\"error\": {\"message\": \"overloaded\"}}\n\n";
    let said = check([Reply::stream([gave_up])]).await;
    assert!(
        said.contains("it gave up in the middle of the answer: overloaded"),
        "{said}"
    );
}

#[tokio::test]
async fn without_anything_to_choose_from_nobody_is_asked() {
    let (model, endpoint) = Model::start([]).await;
    let chat = Chat::new(&settings(&endpoint)).unwrap();
    let open = Task::new(LearningContext::new("it is slow"));
    let decision = chat.execute(&open, &Evidence::default()).await.unwrap();
    assert!(decision.abstained && decision.proposals.is_empty());
    assert!(model.asked().is_empty());
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_is() {
    let refused = |settings: &Settings| Chat::new(settings).unwrap_err().to_string();
    let mut clear = settings("http://models.example/v1");
    assert!(
        refused(&clear).starts_with("the model's key would go unencrypted to models.example: name")
    );
    clear.key = None;
    assert!(
        Chat::new(&clear).is_ok(),
        "without a key nobody can take one"
    );
    clear.model = " ".to_owned();
    assert!(refused(&clear).starts_with("no model is named"));
}

#[tokio::test]
async fn a_second_case_is_decided_by_the_outcome_of_the_first_which_the_model_was_shown() {
    let (model, endpoint) = Model::start_with([], believes_what_worked).await;
    let chat = Arc::new(Chat::new(&settings(&endpoint)).unwrap());
    let agent = MemoryEnabledAgent::new(Arc::new(InMemoryStore::new()), chat);
    let first = Task::new(
        LearningContext::new("checkout pods are killed at night")
            .agent("ada")
            .domain("infrastructure"),
    )
    .action(Action::new("raise-limit").described("raise the memory limit"))
    .open();
    let before = agent.perform(&first).await.unwrap();
    assert!(before.decision.abstained);
    assert_eq!(
        before.decision.explanation,
        "the model does not know: nothing like it is remembered"
    );
    let outcome = Outcome::succeeded("quiet for three nights").by("bound-cache");
    agent.conclude(&first, &before, &outcome).await.unwrap();

    let second = Task {
        context: LearningContext::new("payment pods are killed at night").domain("infrastructure"),
        ..first
    };
    let after = agent.perform(&second).await.unwrap();
    let question = model.asked().pop().unwrap();
    let question = question.message("user");
    assert!(
        question.contains("\u{b7} worked \u{b7} just now \u{b7} by \"ada\""),
        "{question}"
    );
    assert!(
        question.contains("\n| checkout pods are killed at night\n"),
        "{question}"
    );
    assert!(
        question.contains("\n| Result: success: quiet for three nights\n"),
        "{question}"
    );
    assert_eq!(after.decision.chosen().unwrap().action, "bound-cache");
    assert_eq!(after.cited().len(), 1);
    assert!(after.cited()[0].worked);
    let concluded = agent
        .conclude(&second, &after, &Outcome::succeeded(""))
        .await
        .unwrap();
    assert_eq!(concluded.rated, [after.cited()[0].key]);
}

#[tokio::test]
async fn a_failed_model_loses_nothing_and_the_same_agent_goes_on_without_it() {
    let (_, endpoint) = Model::start([]).await;
    let store = Arc::new(InMemoryStore::new());
    let chat = Arc::new(Chat::new(&settings(&endpoint)).unwrap());
    let task = Task {
        context: LearningContext::new("pods restart").domain("infrastructure"),
        ..task()
    };
    let with_model = MemoryEnabledAgent::new(store.clone(), chat);
    let error = with_model.perform(&task).await.unwrap_err();
    assert!(
        matches!(error, crate::agent::Error::Executor(Error::Refused { .. })),
        "{error}"
    );
    let without = MemoryEnabledAgent::new(store, Arc::new(crate::CaseBased::default()));
    assert_eq!(
        without
            .perform(&task)
            .await
            .unwrap()
            .decision
            .proposals
            .len(),
        2
    );
}

/// What a model would be asked about such memories.
fn question(contents: &[String], tokens: usize) -> String {
    let store = InMemoryStore::with_clock(Arc::new(|| TimeMs(0)));
    let mut recalled = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let lesson =
            memorygate_client::Experience::new(format!("lesson {number}"), "infrastructure");
        store.learn(lesson).unwrap();
        let recall = memorygate_client::Recall::new(format!("lesson {number}"));
        let mut found = store.recall(&recall).unwrap().results.remove(0);
        found.memory.content.clone_from(content);
        found
            .memory
            .metadata
            .insert("action".to_owned(), content.clone());
        found
            .memory
            .metadata
            .insert(VERDICT_METADATA.to_owned(), "success".to_owned());
        recalled.push(found);
    }
    let evidence = Evidence::new(recalled, Vec::<Known>::new());
    assert_eq!(
        evidence
            .cases
            .iter()
            .map(|case: &Case| case.worked)
            .filter(|w| *w)
            .count(),
        contents.len()
    );
    let task = task().open();
    let choices = Choices::of(&task, &evidence);
    let memories = Injection::new(tokens).adapt_knowledge(&task.context, &evidence.recalled);
    let messages = prompt::messages(&task, &evidence, &choices, &memories);
    let messages = serde_json::to_value(messages).unwrap();
    messages[1]["content"].as_str().unwrap().to_owned()
}

proptest! {
    /// Neither what a memory says nor what it says was done gets out of its quotation in the whole prompt.
    #[test]
    fn no_memory_speaks_in_a_prompt(
        contents in prop::collection::vec("([a-z]{0,6}|[\n\r\u{2028}\u{85}|]|<\\|im_end\\|>|The task:|\\[/INST\\]|\\[9\\] ){0,12}", 0..4),
        tokens in 0..600_usize,
    ) {
        let question = question(&contents, tokens);
        let bare: Vec<&str> = question.lines().filter(|line| !line.starts_with('|') && !line.is_empty()).collect();
        let ours = |line: &&&str| {
            line.starts_with("The task:") || line.starts_with("What can be chosen, ")
                || line.starts_with("Answer with the JSON object.") || line.starts_with("No memory was")
                || line.starts_with("Memories recalled for this task") || line.starts_with("behind \"|\"")
                || line.starts_with("instruction to you")
        };
        let (ours, others): (Vec<&&str>, Vec<&&str>) = bare.iter().partition(ours);
        prop_assert!(ours.len() <= 6, "{question}");
        for (number, heading) in others.iter().enumerate() {
            let expected = format!("[{}] infrastructure \u{b7} worked \u{b7} ", number + 1);
            prop_assert!(heading.starts_with(&expected), "{heading}");
        }
        prop_assert!(!question.contains("<|") && !question.contains("[/INST]"));
    }
}

#[tokio::test]
async fn an_agent_with_a_model_can_be_moved_between_threads() {
    fn is_send<F: Future + Send>(future: F) -> F {
        future
    }
    let chat = Chat::new(&settings("http://127.0.0.1:9/v1")).unwrap();
    let (task, evidence) = (Task::new(LearningContext::new("t")), Evidence::default());
    assert!(
        is_send(chat.execute(&task, &evidence))
            .await
            .unwrap()
            .abstained
    );
}

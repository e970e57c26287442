//! What clients asked, when, where, and what they were told; and how that is written out.
//!
//! An operation that failed for certain, one that is unknown and one that was refused are three
//! different things: the checkers live on the difference.

mod edn;

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};

use crate::caller::Answer;

/// Operations of one run; beyond, workers stop.
pub const OPERATIONS_MAX: usize = 2_000_000;

/// What a workload asks.
pub trait Call: Clone + fmt::Debug + Send + Sync + 'static {
    type Reply: Clone + fmt::Debug + Send + Sync + 'static;

    /// Jepsen's `:f`.
    fn function(&self) -> &'static str;

    /// Jepsen's `:value` when it is asked.
    fn asked(&self) -> Value;

    /// Jepsen's `:value` when it is answered.
    fn replied(&self, reply: &Self::Reply) -> Value;
}

/// One attempt at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<C: Call> {
    /// A client that does one thing after another; never used again after an unknown outcome.
    pub process: u64,
    pub node: usize,
    /// Since the beginning of the run.
    pub invoked_us: u64,
    /// When the answer came, or was given up.
    pub completed_us: u64,
    pub call: C,
    pub answer: Answer<C::Reply>,
}

/// Collects the operations of concurrent workers. Clones share them.
#[derive(Debug)]
pub struct Recorder<C: Call> {
    start: Instant,
    operations: Arc<Mutex<Vec<Operation<C>>>>,
}

impl<C: Call> Clone for Recorder<C> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            operations: Arc::clone(&self.operations),
        }
    }
}

impl<C: Call> Recorder<C> {
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            operations: Arc::default(),
        }
    }

    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("no run takes 500,000 years")
    }

    /// `false` once there is no room for more.
    pub fn record(&self, operation: Operation<C>) -> bool {
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        operations.push(operation);
        operations.len() < OPERATIONS_MAX
    }

    /// All operations so far, in the order of their beginnings.
    pub fn operations(&self) -> Vec<Operation<C>> {
        let operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut operations = operations.clone();
        operations.sort_by_key(|operation| (operation.invoked_us, operation.process));
        operations
    }
}

/// Jepsen's two events of each operation, in the order in which they happened.
pub fn events<C: Call>(operations: &[Operation<C>]) -> Vec<Value> {
    let mut events: Vec<(u64, u8, Value)> = Vec::with_capacity(operations.len() * 2);
    for operation in operations {
        let event = |kind: &str, time_us: u64, value: Value, error: Option<&str>| {
            let mut event = json!({
                "type": kind,
                "f": operation.call.function(),
                "value": value,
                "process": operation.process,
                "time": time_us * 1_000,
                "node": operation.node,
            });
            if let Some(error) = error {
                event["error"] = json!(error);
            }
            event
        };
        let asked = operation.call.asked();
        let invoked = event("invoke", operation.invoked_us, asked.clone(), None);
        events.push((operation.invoked_us, 1, invoked));
        let (kind, value, error) = match &operation.answer {
            Answer::Done(reply) => ("ok", operation.call.replied(reply), None),
            Answer::Refused(why) | Answer::Failed(why) => ("fail", asked, Some(why.as_str())),
            Answer::Unknown(why) => ("info", asked, Some(why.as_str())),
        };
        let completed = event(kind, operation.completed_us, value, error);
        // An answer in the same microsecond as another's question is written first: that it came
        // before is then the weaker claim of the two only for its own question.
        let order = u8::from(operation.completed_us == operation.invoked_us) * 2;
        events.push((operation.completed_us, order, completed));
    }
    events.sort_by_key(|(time_us, order, _)| (*time_us, *order));
    let numbered = events.into_iter().enumerate().map(|(index, (.., event))| {
        let mut event = event;
        event["index"] = json!(index);
        event
    });
    numbered.collect()
}

/// One JSON object a line.
pub fn write_json_lines(events: &[Value], mut out: impl Write) -> io::Result<()> {
    for event in events {
        writeln!(out, "{event}")?;
    }
    Ok(())
}

/// One EDN map a line, as Jepsen's `history.edn`.
pub fn write_edn(events: &[Value], mut out: impl Write) -> io::Result<()> {
    for event in events {
        writeln!(out, "{}", edn::event(event))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Read(u64);

    impl Call for Read {
        type Reply = u64;

        fn function(&self) -> &'static str {
            "read"
        }

        fn asked(&self) -> Value {
            json!([self.0, null])
        }

        fn replied(&self, reply: &u64) -> Value {
            json!([self.0, reply])
        }
    }

    fn operation(process: u64, invoked_us: u64, answer: Answer<u64>) -> Operation<Read> {
        Operation {
            process,
            node: 1,
            invoked_us,
            completed_us: invoked_us + 10,
            call: Read(7),
            answer,
        }
    }

    #[test]
    fn a_history_is_written_as_jepsen_has_it() {
        let recorder = Recorder::new(Instant::now());
        recorder.record(operation(2, 5, Answer::Unknown("gone \"away\"".to_owned())));
        recorder.record(operation(1, 1, Answer::Done(3)));
        let events = events(&recorder.operations());
        let mut lines = Vec::new();
        write_edn(&events, &mut lines).unwrap();
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "{:index 0, :type :invoke, :f :read, :value [7 nil], :process 1, :time 1000, :node 1}\n\
             {:index 1, :type :invoke, :f :read, :value [7 nil], :process 2, :time 5000, :node 1}\n\
             {:index 2, :type :ok, :f :read, :value [7 3], :process 1, :time 11000, :node 1}\n\
             {:index 3, :type :info, :f :read, :value [7 nil], :process 2, :time 15000, :node 1, \
             :error \"gone \\\"away\\\"\"}\n"
        );
        let mut lines = Vec::new();
        write_json_lines(&events, &mut lines).unwrap();
        let first: Value =
            serde_json::from_slice(lines.split(|b| *b == b'\n').next().unwrap()).unwrap();
        assert_eq!(first, events[0]);
    }
}

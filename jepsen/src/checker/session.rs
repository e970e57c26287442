//! Read-your-writes, monotonic reads, and one content at one position.

use std::collections::BTreeMap;

use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::{
        count_outcomes,
        session::{Ask, Told},
    },
};

/// Judges a history. Operations of one session follow each other, whatever process did them.
pub fn check(history: &[Operation<Ask>]) -> Findings {
    let mut findings = Findings::default();
    let writes = history
        .iter()
        .filter(|operation| matches!(operation.call, Ask::Write { .. }));
    count_outcomes(writes.map(|operation| &operation.answer), &mut findings);
    // By session and memory: the newest value that it wrote and was acknowledged, or that it read.
    let mut newest: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    // By position and memory: what was read, and where.
    let mut contents: BTreeMap<(u64, u64), (u64, usize)> = BTreeMap::new();
    // By memory: what its one writer sent and when, and what of it failed for certain.
    let mut sent: BTreeMap<(u64, u64), (u64, bool)> = BTreeMap::new();
    for operation in history {
        if let Ask::Write { memory, value, .. } = operation.call {
            let has_failed = matches!(operation.answer, Answer::Failed(_) | Answer::Refused(_));
            sent.insert((memory, value), (operation.invoked_us, has_failed));
        }
    }
    for operation in history {
        let Answer::Done(Told { position, value }) = operation.answer else {
            continue;
        };
        let node = operation.node;
        match operation.call {
            Ask::Write {
                session, memory, ..
            } => {
                let newest = newest.entry((session, memory)).or_default();
                *newest = (*newest).max(value);
            }
            Ask::Read {
                session,
                memory,
                token,
                ..
            } => {
                if position < token {
                    findings.violate(format!(
                        "session {session} asked node {node} for position {token} and was \
                         answered at {position}"
                    ));
                }
                let newest = newest.entry((session, memory)).or_default();
                if value < *newest {
                    findings.violate(format!(
                        "session {session} had seen {newest} in memory {memory} and read {value} \
                         on node {node} at position {position}"
                    ));
                }
                *newest = (*newest).max(value);
                let (first, other) = *contents.entry((position, memory)).or_insert((value, node));
                if first != value {
                    findings.violate(format!(
                        "memory {memory} at position {position} is {first} on node {other} and \
                         {value} on node {node}"
                    ));
                }
                match sent.get(&(memory, value)) {
                    _ if value == 0 => {}
                    None => findings.haunt(format!(
                        "memory {memory} was {value} on node {node}, which nobody wrote"
                    )),
                    Some((_, true)) => findings.haunt(format!(
                        "memory {memory} was {value} on node {node}, a write that failed for \
                         certain"
                    )),
                    Some((invoked_us, false)) if *invoked_us > operation.completed_us => {
                        findings.haunt(format!(
                            "memory {memory} was {value} on node {node} before it was written"
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    findings
}

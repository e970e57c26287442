//! Each feedback counts once: at least what was acknowledged, at most what may have happened, and a
//! repeat gets the first answer.

use std::collections::BTreeMap;

use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::feedback::{Ask, Counted, Told},
};

/// What became of one feedback over all its attempts.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    memory: u64,
    is_positive: bool,
    version: Option<u64>,
    is_unknown: bool,
}

/// Judges a history that ends with one count of each node.
pub fn check(history: &[Operation<Ask>]) -> Findings {
    let mut findings = Findings::default();
    let mut given: BTreeMap<u64, Given> = BTreeMap::new();
    for operation in history {
        let Ask::Give {
            memory,
            feedback,
            is_positive,
        } = operation.call
        else {
            continue;
        };
        let entry = given.entry(feedback).or_default();
        entry.memory = memory;
        entry.is_positive = is_positive;
        match &operation.answer {
            Answer::Done(Told::Given { version }) => {
                if let Some(first) = entry.version
                    && first != *version
                {
                    findings.violate(format!(
                        "feedback {feedback} was answered with version {first} and, repeated on \
                         node {}, with version {version}",
                        operation.node
                    ));
                }
                entry.version = entry.version.or(Some(*version));
            }
            Answer::Unknown(_) => entry.is_unknown = true,
            Answer::Done(Told::Counts(_)) | Answer::Refused(_) | Answer::Failed(_) => {}
        }
    }
    // By memory: what must be counted, and what may be.
    let mut must: BTreeMap<u64, Counted> = BTreeMap::new();
    let mut may: BTreeMap<u64, Counted> = BTreeMap::new();
    for feedback in given.values() {
        let is_acknowledged = feedback.version.is_some();
        match (is_acknowledged, feedback.is_unknown) {
            (true, _) => findings.acknowledged += 1,
            (false, true) => findings.unknown += 1,
            (false, false) => findings.failed += 1,
        }
        if is_acknowledged {
            count(
                must.entry(feedback.memory).or_default(),
                feedback.is_positive,
            );
        }
        if is_acknowledged || feedback.is_unknown {
            count(
                may.entry(feedback.memory).or_default(),
                feedback.is_positive,
            );
        }
    }
    let mut is_counted = false;
    for operation in history.iter().filter(|o| o.call == Ask::Count) {
        let Answer::Done(Told::Counts(counts)) = &operation.answer else {
            findings.violate(format!(
                "node {} could not be counted in the end",
                operation.node
            ));
            continue;
        };
        is_counted = true;
        for (memory, counted) in counts {
            let least = must.get(memory).copied().unwrap_or_default();
            let most = may.get(memory).copied().unwrap_or_default();
            compare(
                &mut findings,
                operation.node,
                *memory,
                *counted,
                least,
                most,
            );
        }
    }
    if !is_counted {
        findings.violate("no node was counted in the end");
    }
    findings
}

fn count(counted: &mut Counted, is_positive: bool) {
    counted.count += 1;
    if is_positive {
        counted.positive += 1;
    } else {
        counted.negative += 1;
    }
}

fn compare(
    findings: &mut Findings,
    node: usize,
    memory: u64,
    counted: Counted,
    least: Counted,
    most: Counted,
) {
    if counted.count != counted.positive + counted.negative {
        findings.violate(format!(
            "memory {memory} on node {node} counts {} feedbacks of which {} are positive and {} \
             negative",
            counted.count, counted.positive, counted.negative
        ));
    }
    let parts = [
        ("positive", counted.positive, least.positive, most.positive),
        ("negative", counted.negative, least.negative, most.negative),
    ];
    for (name, actual, least, most) in parts {
        if actual < least {
            findings.lose(format!(
                "memory {memory} on node {node} has {actual} {name} feedbacks, {least} were \
                 acknowledged"
            ));
        }
        if actual > most {
            findings.haunt(format!(
                "memory {memory} on node {node} has {actual} {name} feedbacks, at most {most} \
                 can have happened"
            ));
        }
    }
}

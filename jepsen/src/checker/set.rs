//! Nothing acknowledged is lost, nothing unasked appears, and what failed has failed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    caller::Answer,
    findings::Findings,
    history::Operation,
    workload::{
        count_outcomes,
        set::{Ask, Told},
    },
};

/// Judges a history that ends with one read of each node.
pub fn check(history: &[Operation<Ask>]) -> Findings {
    let mut findings = Findings::default();
    let mut asked: BTreeMap<u64, &Answer<Told>> = BTreeMap::new();
    for operation in history {
        if let Ask::Add(element) = operation.call {
            asked.insert(element, &operation.answer);
        }
    }
    count_outcomes(asked.values().copied(), &mut findings);
    let reads = history.iter().filter(|o| o.call == Ask::Read);
    let (mut lost, mut phantom) = (BTreeSet::new(), BTreeSet::new());
    let mut is_read = false;
    for read in reads {
        let Answer::Done(Told::Elements(elements, others)) = &read.answer else {
            findings.violate(format!("node {} could not be read in the end", read.node));
            continue;
        };
        is_read = true;
        for other in others {
            findings.haunt(format!("node {}: {other}", read.node));
        }
        for (element, answer) in &asked {
            let is_there = elements.contains(element);
            if answer.is_done() && !is_there && lost.insert(element) {
                findings.lose(format!(
                    "element {element} was acknowledged and is not on node {}",
                    read.node
                ));
            }
            if let Answer::Failed(why) | Answer::Refused(why) = answer
                && is_there
                && phantom.insert(*element)
            {
                findings.haunt(format!(
                    "element {element} failed for certain ({why}) and is on node {}",
                    read.node
                ));
            }
        }
        for element in elements {
            if !asked.contains_key(element) && phantom.insert(*element) {
                findings.haunt(format!(
                    "element {element} is on node {} and was never sent",
                    read.node
                ));
            }
        }
    }
    if !is_read {
        findings.violate("no node was read in the end");
    }
    findings
}

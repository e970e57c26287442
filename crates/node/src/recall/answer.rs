//! What becomes of the answer: links are followed.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    key::Key,
    memory::Link,
    name::Namespace,
    rank::Parts,
    shown::Shown,
    state::{self, ReadError},
};

use super::{Found, Query, Raw};
use crate::{past::Look, projection::View, stored};

/// Adds the memories that the results link to, at most as many as were asked for. They must pass
/// the filter too: it bounds what may be answered. Each has a share of the score of the best result
/// that links to it.
pub(super) fn with_linked(
    view: &View<'_>,
    query: &Query,
    mut found: Vec<Found>,
    looks: &mut [Look<'_>],
) -> Result<Vec<Found>, ReadError> {
    // Keys differ between namespaces, so what is folded needs no name of its own.
    let here: BTreeSet<Key> = found
        .iter()
        .flat_map(|f| f.folded.iter().copied().chain([f.key]))
        .collect();
    let mut linked: BTreeMap<(Key, &Namespace), (f64, Link)> = BTreeMap::new();
    for source in &found {
        let score = passed_on(source.score, f64::from(query.ranking.link));
        for link in &source.memory.memory().links {
            let from = Link {
                relation: link.relation,
                target: source.key,
            };
            let end = (link.target, &source.namespace);
            let best = linked.entry(end).or_insert((score, from));
            if score > best.0 {
                *best = (score, from);
            }
        }
    }
    let mut best: Vec<((Key, Namespace), (f64, Link))> = linked
        .into_iter()
        .filter(|((key, _), _)| !here.contains(key))
        .map(|((key, namespace), from)| ((key, namespace.clone()), from))
        .collect();
    best.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let snapshot = &*view.records().state;
    let mut added = 0;
    for ((key, namespace), (score, from)) in best {
        if added == query.limit {
            break;
        }
        let Some(memory) = state::memory(snapshot, &namespace, key)? else {
            continue;
        };
        let place = query.namespaces.iter().position(|name| *name == namespace);
        let look = &mut looks[place.expect("a result is of a namespace that was asked")];
        let Some(memory) = look.passing(key, memory, &query.filter, &query.reader)? else {
            continue;
        };
        added += 1;
        found.push(Found {
            key,
            model: stored::model(snapshot, &namespace, key)?,
            memory: Shown::to(&query.reader, snapshot, &namespace, memory)?,
            namespace,
            score,
            parts: Parts {
                link: score,
                ..Parts::default()
            },
            raw: Raw::default(),
            folded: Vec::new(),
            linked_from: Some(from),
            is_behind: false,
        });
    }
    found.sort_by(|a, b| {
        a.is_behind
            .cmp(&b.is_behind)
            .then(b.score.total_cmp(&a.score))
            .then_with(|| (a.key, &a.namespace).cmp(&(b.key, &b.namespace)))
    });
    Ok(found)
}

/// A share of `score`, and never more than it: a score below zero sinks further.
fn passed_on(score: f64, share: f64) -> f64 {
    score - (1.0 - share) * score.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_passes_on_a_share_and_never_more_than_the_whole() {
        assert_eq!(passed_on(2.0, 0.5), 1.0);
        assert_eq!(passed_on(-2.0, 0.5), -3.0);
        assert_eq!(passed_on(2.0, 1.0), 2.0);
        assert_eq!(passed_on(2.0, 0.0), 0.0);
    }
}

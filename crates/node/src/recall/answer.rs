//! What becomes of the ranked memories: near-identical ones are folded, links are followed.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{
    key::Key,
    memory::Link,
    rank::{Parts, Wording},
    state::{self, ReadError},
};

use super::{Found, Query, Raw};
use crate::{projection::View, stored};

/// A place that stays in the answer, and the places that it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) at: usize,
    pub(super) folded: Vec<usize>,
}

/// The first `limit` places of `texts`, which come best first, that do not say the same as one
/// before. What says the same and comes before the last place kept is folded into it.
pub(super) fn fold(texts: &[&str], limit: usize, is_on: bool) -> Vec<Kept> {
    let mut kept: Vec<(Kept, Wording)> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        if kept.len() == limit {
            break;
        }
        let wording = if is_on {
            Wording::of(text)
        } else {
            Wording::default()
        };
        let same = kept
            .iter_mut()
            .filter(|_| is_on)
            .find(|(_, k)| k.is_near(&wording));
        match same {
            Some((same, _)) => same.folded.push(at),
            None => kept.push((
                Kept {
                    at,
                    folded: Vec::new(),
                },
                wording,
            )),
        }
    }
    kept.into_iter().map(|(kept, _)| kept).collect()
}

/// Adds the memories that the results link to, at most as many as were asked for. They must pass
/// the filter too: it bounds what may be answered. Each has a share of the score of the best result
/// that links to it.
pub(super) fn with_linked(
    view: &View<'_>,
    query: &Query,
    mut found: Vec<Found>,
) -> Result<Vec<Found>, ReadError> {
    let here: BTreeSet<Key> = found
        .iter()
        .flat_map(|f| f.folded.iter().copied().chain([f.key]))
        .collect();
    let mut linked: BTreeMap<Key, (f64, Link)> = BTreeMap::new();
    for source in &found {
        let score = passed_on(source.score, f64::from(query.ranking.link));
        for link in &source.memory.links {
            let from = Link {
                relation: link.relation,
                target: source.key,
            };
            let best = linked.entry(link.target).or_insert((score, from));
            if score > best.0 {
                *best = (score, from);
            }
        }
    }
    let mut best: Vec<(Key, (f64, Link))> = linked
        .into_iter()
        .filter(|(key, _)| !here.contains(key))
        .collect();
    best.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(&b.0)));
    let (snapshot, now) = (&*view.records().state, view.clock());
    let mut added = 0;
    for (key, (score, from)) in best {
        if added == query.limit {
            break;
        }
        let memory = state::memory(snapshot, &query.namespace, key)?;
        let passes = |m: &_| query.filter.passes(m, &query.reader, now);
        let Some(memory) = memory.filter(passes) else {
            continue;
        };
        added += 1;
        found.push(Found {
            key,
            model: stored::model(snapshot, &query.namespace, key)?,
            memory,
            score,
            parts: Parts {
                link: score,
                ..Parts::default()
            },
            raw: Raw::default(),
            folded: Vec::new(),
            linked_from: Some(from),
        });
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.key.cmp(&b.key)));
    Ok(found)
}

/// A share of `score`, and never more than it: a score below zero sinks further.
fn passed_on(score: f64, share: f64) -> f64 {
    score - (1.0 - share) * score.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], limit: usize, is_on: bool) -> Vec<(usize, Vec<usize>)> {
        fold(texts, limit, is_on)
            .into_iter()
            .map(|k| (k.at, k.folded))
            .collect()
    }

    #[test]
    fn what_says_the_same_is_folded_into_the_better_and_others_move_up() {
        let texts = [
            "disk full",
            "Disk full!",
            "web-1 is down",
            "DISK FULL",
            "web-2 is down",
        ];
        assert_eq!(check(&texts, 2, true), [(0, vec![1]), (2, vec![])]);
        assert_eq!(
            check(&texts, 3, true),
            [(0, vec![1, 3]), (2, vec![]), (4, vec![])]
        );
        assert_eq!(check(&texts, 2, false), [(0, vec![]), (1, vec![])]);
        assert_eq!(check(&[], 5, true), []);
    }

    #[test]
    fn a_link_passes_on_a_share_and_never_more_than_the_whole() {
        assert_eq!(passed_on(2.0, 0.5), 1.0);
        assert_eq!(passed_on(-2.0, 0.5), -3.0);
        assert_eq!(passed_on(2.0, 1.0), 2.0);
        assert_eq!(passed_on(2.0, 0.0), 0.0);
    }
}

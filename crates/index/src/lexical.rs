//! The words of one namespace: an inverted index with BM25.
//!
//! ```text
//! text ── tokens ──▶ terms ──▶ term → postings (slot, count) …     one entry a document and term
//!                          └─▶ slot → its terms, its length        to take a document out again
//! ```
//!
//! All statistics (documents, documents with a term, words) are integers over the documents that
//! live, kept step by step, and a document that goes is taken out of its lists at once. So scores
//! depend on what is in the index and not on how it came there, which is what makes two replicas
//! agree; indexes that count deleted documents until segments merge do not.
//!
//! The formula is `Σ idf × n (k1 + 1) / (n + k1 (1 − b + b length / mean length))` over the query's
//! terms in their order (Robertson et al., Okapi BM25, with Lucene's idf, which is never negative).
//! Statistics are those of the whole namespace, whoever may see its documents.

mod stored;
mod tokens;

use std::{collections::HashMap, sync::Arc};

pub(crate) use tokens::{Tokenizer, Tokens};

use crate::{
    pieces::inverse_document_frequency,
    postings::{Posting, Postings},
};

/// How soon a term's repetitions stop to count.
const K1: f64 = 1.2;

/// How much a long document must have more of a term than a short one, from 0 (none) to 1.
const B: f64 = 0.75;

/// Documents shorter than this have their part of the formula computed once a query: 1,024 words
/// are some 6 KiB of prose.
const NORM_TABLE_WORDS: u32 = 1024;

/// Terms by their text. The texts are the callers', so the hash is a keyed one; a faster one than the
/// standard library's, since each occurrence of each word is looked up.
type Ids = HashMap<Arc<str>, u32, ahash::RandomState>;

/// The inverted index of one namespace. Documents are addressed by slot.
#[derive(Debug, Default)]
pub(crate) struct Lexical {
    ids: Ids,
    /// By term id.
    terms: Vec<Term>,
    /// Ids of terms that no document holds any more.
    free: Vec<u32>,
    /// By slot: the terms of the document in it. `None` where there is no document.
    documents: Vec<Option<Box<[u32]>>>,
    /// By slot: the length of the document in it.
    lengths: Vec<u32>,
    live: u32,
    /// The sum of all lengths.
    words: u64,
}

#[derive(Debug, Default)]
struct Term {
    text: Arc<str>,
    postings: Postings,
}

impl Lexical {
    /// Different terms in the index.
    pub(crate) fn terms(&self) -> usize {
        self.ids.len()
    }

    /// Puts a document into a slot that holds none.
    pub(crate) fn insert(&mut self, slot: u32, tokens: &Tokens) {
        let at = slot as usize;
        if at >= self.documents.len() {
            self.documents.resize(at + 1, None);
            self.lengths.resize(at + 1, 0);
        }
        assert!(
            self.documents[at].is_none(),
            "slot {slot} holds a document already"
        );
        let mut ids: Vec<u32> = tokens.terms().map(|term| self.id(term)).collect();
        ids.sort_unstable();
        let mut terms = Vec::with_capacity(ids.len());
        for same in ids.chunk_by(|a, b| a == b) {
            let count = u32::try_from(same.len()).expect("a content is at most 64 KiB");
            self.terms[same[0] as usize]
                .postings
                .insert(Posting { slot, count });
            terms.push(same[0]);
        }
        self.documents[at] = Some(terms.into());
        self.lengths[at] = tokens.words;
        self.live += 1;
        self.words += u64::from(tokens.words);
    }

    /// Takes out the document in `slot`; `false` if it holds none.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let Some(terms) = self.documents.get_mut(slot as usize).and_then(Option::take) else {
            return false;
        };
        self.live -= 1;
        self.words -= u64::from(std::mem::take(&mut self.lengths[slot as usize]));
        for id in terms {
            let term = &mut self.terms[id as usize];
            term.postings.remove(slot);
            if term.postings.len() == 0 {
                let Term { text, .. } = std::mem::take(term);
                self.ids.remove(&text);
                self.free.push(id);
            }
        }
        true
    }

    /// BM25 of every document for the query's tokens, by slot: `slots` numbers, 0 where no term
    /// occurs. A term that the query repeats counts as often.
    pub(crate) fn scores(&self, query: &Tokens, slots: u32) -> Vec<f64> {
        let mut scores = vec![0.0; slots as usize];
        let mean = self.words as f64 / f64::from(self.live);
        let norm = |words: u32| K1 * (1.0 - B + B * f64::from(words) / mean);
        let table: Vec<f64> = (0..NORM_TABLE_WORDS).map(norm).collect();
        for (id, times) in self.query_terms(query) {
            let postings = &self.terms[id as usize].postings;
            let idf = inverse_document_frequency(f64::from(self.live), f64::from(postings.len()));
            for posting in postings.blocks().flatten() {
                let words = self.lengths[posting.slot as usize];
                let norm = table
                    .get(words as usize)
                    .copied()
                    .unwrap_or_else(|| norm(words));
                let count = f64::from(posting.count);
                let score = idf * count * (K1 + 1.0) / (count + norm);
                scores[posting.slot as usize] += times * score;
            }
        }
        scores
    }

    /// The query's known terms in the order of their first occurrence, each with how often it
    /// occurs.
    fn query_terms(&self, query: &Tokens) -> Vec<(u32, f64)> {
        let mut known: Vec<(u32, f64)> = Vec::new();
        let mut place: HashMap<u32, usize> = HashMap::new();
        for id in query.terms().filter_map(|term| self.ids.get(term)) {
            let at = *place.entry(*id).or_insert(known.len());
            if at == known.len() {
                known.push((*id, 0.0));
            }
            known[at].1 += 1.0;
        }
        known
    }

    fn id(&mut self, term: &str) -> u32 {
        if let Some(id) = self.ids.get(term) {
            return *id;
        }
        let text: Arc<str> = term.into();
        let new = Term {
            text: text.clone(),
            postings: Postings::default(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.terms[id as usize] = new;
                id
            }
            None => {
                self.terms.push(new);
                u32::try_from(self.terms.len() - 1).expect("memory ends before 2^32 terms")
            }
        };
        self.ids.insert(text, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memorygate_core::{memory::Created, time::TimeMs};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        bitmap::Bitmap,
        sessions::{Place, Sessions, Shares},
    };

    fn tokens(text: &str) -> Tokens {
        Tokenizer::default().tokens(text)
    }

    fn index(texts: &[&str]) -> Lexical {
        let mut index = Lexical::default();
        for (slot, text) in (0..).zip(texts) {
            index.insert(slot, &tokens(text));
        }
        index
    }

    /// BM25 from the texts themselves, with nothing kept.
    fn by_definition(texts: &[(u32, Vec<String>, u32)], query: &Tokens, slots: u32) -> Vec<f64> {
        let n = texts.len() as f64;
        let mean = texts.iter().map(|t| f64::from(t.2)).sum::<f64>() / n;
        let mut scores = vec![0.0; slots as usize];
        for term in query.terms() {
            let count = |t: &[String]| t.iter().filter(|x| *x == term).count() as f64;
            let df = texts.iter().filter(|t| count(&t.1) > 0.0).count() as f64;
            for (slot, terms, words) in texts {
                let count = count(terms);
                if count > 0.0 {
                    let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
                    scores[*slot as usize] += idf * count * 2.2
                        / (count + 1.2 * (0.25 + 0.75 * f64::from(*words) / mean));
                }
            }
        }
        scores
    }

    #[test]
    fn an_identifier_finds_its_own_document_first() {
        let texts = [
            "the web pod was restarted and then the web pod failed again",
            "web-7f9c was OOMKilled after the rollout",
            "nginx reads /etc/nginx/nginx.conf at start",
            "nginx conf etc: all about nginx and its conf in etc",
            "upgrade to v1.29.3 fixed it, v1.29.2 did not",
        ];
        let index = index(&texts);
        let best = |query: &str| {
            let scores = index.scores(&tokens(query), 5);
            (0..5)
                .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
                .unwrap()
        };
        assert_eq!(best("what happened to web-7f9c"), 1);
        assert_eq!(best("oom"), 1);
        assert_eq!(best("killed"), 1);
        assert_eq!(best("who reads /etc/nginx/nginx.conf"), 2);
        assert_eq!(best("v1.29.3"), 4);
    }

    /// The numbers are what the design's reference pipeline (plain Python) prints for these texts.
    #[test]
    fn plain_english_has_the_scores_of_the_reference() {
        let index = index(&[
            "The deployment failed because the image could not be pulled",
            "We restarted the deployment and it failed again",
            "A registry token had expired",
            "Rotating the registry token fixed the failing deployments for good",
            "Nothing else was changed that day",
        ]);
        let scores = index.scores(
            &tokens("why did the deployments fail, was the token expired"),
            5,
        );
        let mut sessions = Sessions::default();
        for (slot, group) in (0..).zip([1, 1, 1, 2, 2]) {
            let created = Created {
                index: u64::from(slot),
                offset: 0,
                at: TimeMs(0),
            };
            sessions.insert(
                Place {
                    group,
                    occurred_at: TimeMs(0),
                    created,
                },
                slot,
            );
        }
        let lent = sessions.lend(scores.clone(), &Bitmap::all(5), Shares::default());
        let check = |actual: &[f64], expected: [f64; 5]| {
            let near = actual
                .iter()
                .zip(expected)
                .all(|(a, e)| (a - e).abs() < 1e-12);
            assert!(near, "{actual:?} is not {expected:?}");
        };
        check(
            &scores,
            [
                2.3397771451819684,
                2.1336055253916753,
                2.651082976079935,
                3.1246801510854647,
                1.5308115339007287,
            ],
        );
        check(
            &lent,
            [
                3.377521249211461,
                3.630863561770246,
                3.642131205474733,
                3.5839236112556834,
                2.468215579226368,
            ],
        );
    }

    #[test]
    fn only_words_count_in_the_length() {
        let index = index(&["see /a-b/c-d/e-f/g-h", "see a b c d e f g h"]);
        let scores = index.scores(&tokens("see"), 2);
        assert_eq!(scores[0], scores[1]);
    }

    #[test]
    fn an_empty_index_and_an_unknown_word_have_no_scores() {
        assert_eq!(Lexical::default().scores(&tokens("anything"), 3), [0.0; 3]);
        assert_eq!(index(&["a b"]).scores(&tokens("unknown"), 1), [0.0]);
        assert_eq!(index(&["…", "—"]).scores(&tokens("…"), 2), [0.0; 2]);
    }

    #[test]
    fn a_term_without_documents_is_forgotten() {
        let mut index = index(&["alpha beta", "beta"]);
        let held = |index: &Lexical, term: &str| {
            index
                .ids
                .get(term)
                .map(|id| index.terms[*id as usize].postings.len())
        };
        assert_eq!(
            (held(&index, "alpha"), held(&index, "beta")),
            (Some(1), Some(2))
        );
        assert!(index.remove(0));
        assert!(!index.remove(0));
        assert!(!index.remove(9));
        assert_eq!(
            (held(&index, "alpha"), held(&index, "beta")),
            (None, Some(1))
        );
        assert_eq!((index.live, index.terms(), index.free.len()), (1, 1, 1));
        index.insert(0, &tokens("gamma"));
        assert_eq!((index.terms.len(), index.free.len()), (2, 0));
        assert!(index.remove(0) && index.remove(1) && index.live == 0);
    }

    proptest! {
        #[test]
        fn scores_are_bm25_of_what_lives_whatever_came_before(
            history in prop::collection::vec(
                (0_u32..12, "[ab]{1,2}([ .-][a-d]{1,2}){0,7}", any::<bool>()), 1..40),
            query in "[ab]{1,2}( [a-d]{1,2}){0,4}",
        ) {
            let mut lived = Lexical::default();
            let mut texts: BTreeMap<u32, String> = BTreeMap::new();
            for (slot, text, put) in history {
                prop_assert_eq!(lived.remove(slot), texts.remove(&slot).is_some());
                if put {
                    lived.insert(slot, &tokens(&text));
                    texts.insert(slot, text);
                }
            }
            let mut fresh = Lexical::default();
            for (slot, text) in texts.iter().rev() {
                fresh.insert(*slot, &tokens(text));
            }
            let query = tokens(&query);
            let bits = |scores: &[f64]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
            let scores = lived.scores(&query, 12);
            prop_assert_eq!(bits(&scores), bits(&fresh.scores(&query, 12)));
            let taken: Vec<_> = texts
                .iter()
                .map(|(slot, text)| (*slot, tokens(text)))
                .map(|(slot, t)| (slot, t.terms().map(str::to_owned).collect(), t.words))
                .collect();
            for (actual, expected) in scores.iter().zip(by_definition(&taken, &query, 12)) {
                prop_assert!((actual - expected).abs() < 1e-12, "{} is not {}", actual, expected);
            }
        }
    }
}

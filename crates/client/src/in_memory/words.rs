//! A simple reading of text: its words for BM25, and a vector of hashed words for closeness.
//!
//! It stands in for the server's index and model where neither is wanted. It knows no language
//! beyond common endings, and finds other words for the same thing only where they share letters.

use std::collections::BTreeMap;

use memorygate_core::embedding::{DIMENSION, unit};

/// BM25's saturation of repeated words, and its normalisation by length (Robertson and Zaragoza,
/// The Probabilistic Relevance Framework: BM25 and Beyond, 2009).
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Lower-case words without their commonest endings; identifiers also whole (`web-7f9c`).
pub(super) fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut words = Vec::new();
    for token in lower.split(|c: char| !(c.is_alphanumeric() || "-_./:".contains(c))) {
        let token = token.trim_matches(|c: char| !c.is_alphanumeric());
        if token.is_empty() {
            continue;
        }
        let parts: Vec<&str> = token
            .split(|c: char| !c.is_alphanumeric())
            .filter(|part| !part.is_empty())
            .collect();
        if parts.len() > 1 {
            words.push(token.to_owned());
        }
        words.extend(parts.into_iter().map(|part| stem(part).to_owned()));
    }
    words
}

fn stem(word: &str) -> &str {
    ["ing", "ed", "es", "s"]
        .iter()
        .find_map(|ending| word.strip_suffix(ending).filter(|rest| rest.len() >= 4))
        .unwrap_or(word)
}

/// A unit vector of hashed words and three-letter pieces. A text without either points along the
/// first axis.
pub(super) fn vector(text: &str) -> Vec<f32> {
    let mut sums = vec![0.0_f32; DIMENSION];
    let mut add = |feature: &str, weight: f32| {
        let hash = fnv1a(feature.as_bytes());
        let at = usize::try_from(hash % DIMENSION as u64).expect("it is below the dimension");
        let sign = if hash >> 63 == 0 { weight } else { -weight };
        sums[at] += sign;
    };
    for word in words(text) {
        add(&word, 1.0);
        let letters: Vec<char> = format!("<{word}>").chars().collect();
        for piece in letters.windows(3) {
            add(&piece.iter().collect::<String>(), 0.3);
        }
    }
    unit(&sums).unwrap_or_else(|_zero| {
        let mut first = vec![0.0; DIMENSION];
        first[0] = 1.0;
        first
    })
}

/// BM25 of each document for the query's words.
pub(super) fn bm25(query: &str, documents: &[&str]) -> Vec<f64> {
    let counts: Vec<BTreeMap<String, f64>> = documents
        .iter()
        .map(|text| {
            let mut counts = BTreeMap::new();
            for word in words(text) {
                *counts.entry(word).or_insert(0.0) += 1.0;
            }
            counts
        })
        .collect();
    let lengths: Vec<f64> = counts.iter().map(|c| c.values().sum()).collect();
    let total = documents.len() as f64;
    let mean_length = lengths.iter().sum::<f64>() / total.max(1.0);
    let mut scores = vec![0.0; documents.len()];
    let mut asked = words(query);
    asked.sort();
    asked.dedup();
    for word in asked {
        let having = counts.iter().filter(|c| c.contains_key(&word)).count() as f64;
        let idf = (1.0 + (total - having + 0.5) / (having + 0.5)).ln();
        for ((score, counts), length) in scores.iter_mut().zip(&counts).zip(&lengths) {
            let count = counts.get(&word).copied().unwrap_or(0.0);
            let norm = K1 * (1.0 - B + B * length / mean_length.max(1.0));
            *score += idf * count * (K1 + 1.0) / (count + norm);
        }
    }
    scores
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_stay_whole_and_common_endings_go() {
        assert_eq!(
            words("Restarted web-7f9c; see /etc/nginx/nginx.conf!"),
            [
                "restart",
                "web-7f9c",
                "web",
                "7f9c",
                "see",
                "etc/nginx/nginx.conf",
                "etc",
                "nginx",
                "nginx",
                "conf"
            ]
        );
        assert!(words(" .. - ").is_empty());
    }

    #[test]
    fn texts_that_share_words_or_letters_are_close() {
        let cosine =
            |a: &str, b: &str| -> f32 { vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum() };
        assert!((cosine("disk full", "disk full") - 1.0).abs() < 1e-5);
        assert!(cosine("disk full", "full disk on node") > cosine("disk full", "login failed"));
        assert!((cosine("", "!") - 1.0).abs() < 1e-5);
    }

    #[test]
    fn rare_words_in_short_texts_count_most() {
        let documents = ["the disk is full", "the pod is down", "the the the"];
        let scores = bm25("the disk", &documents);
        assert!(scores[0] > scores[2] && scores[2] > 0.0, "{scores:?}");
        assert_eq!(bm25("nothing", &documents), [0.0; 3]);
        assert!(bm25("x", &[]).is_empty());
    }
}

//! An embedder without a model, **for tests of other things only**: it knows words, not meanings.
//!
//! Each word stands for a pseudo-random vector of ±1; a text's dense vector is their sum, so texts
//! that share words are near each other, and a token state is its word's vector, so the same word
//! matches exactly and others do not. Words of the context are not read. Windows, kept states and
//! bounds are those of the real model, with a word for a piece.

use memorygate_core::embedding::{
    DIMENSION, Embedder, Embedding, Error, ModelId, Passage, QueryEmbedding, QueryPiece,
    TokenStates, Window, unit,
};
use sha2::{Digest, Sha256};

use super::rotation::sign_bits;
use super::windows::{kept_states, of_memory};

/// Feature hashing of words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stub;

impl Stub {
    /// Never the id of a model.
    pub const MODEL: ModelId = ModelId(u64::from_be_bytes(*b"a stub.."));
}

impl Embedder for Stub {
    fn model(&self) -> ModelId {
        Self::MODEL
    }

    fn embed(&self, passages: &[Passage]) -> Result<Vec<Embedding>, Error> {
        let embeddings = passages.iter().map(|passage| {
            let words = words(&passage.text);
            let pieces: Vec<u16> = words.iter().map(|word| piece(word)).collect();
            let windows = of_memory(words.len());
            let kept = kept_states(&pieces, &windows);
            let windows = windows.into_iter().zip(kept).map(|(window, kept)| {
                Ok(Window {
                    dense: dense(&words[window])?,
                    states: TokenStates {
                        pieces: kept.iter().map(|at| pieces[*at]).collect(),
                        signs: kept
                            .iter()
                            .flat_map(|at| sign_bits(&state(&words[*at])))
                            .collect(),
                    },
                })
            });
            Ok(Embedding {
                model: Self::MODEL,
                windows: windows.collect::<Result<_, Error>>()?,
            })
        });
        embeddings.collect()
    }

    fn embed_queries(&self, texts: &[String]) -> Result<Vec<QueryEmbedding>, Error> {
        let queries = texts.iter().map(|text| {
            let words = words(text);
            let length = (DIMENSION as f32).sqrt();
            let pieces = words.iter().map(|word| QueryPiece {
                piece: piece(word),
                state: state(word).iter().map(|x| x / length).collect(),
            });
            let pieces = pieces.collect();
            Ok(QueryEmbedding {
                model: Self::MODEL,
                dense: dense(&words)?,
                pieces,
            })
        });
        queries.collect()
    }
}

fn words(text: &str) -> Vec<String> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn piece(word: &str) -> u16 {
    let hash = Sha256::digest(word);
    u16::from_be_bytes([hash[30], hash[31]])
}

/// The word's vector of 1 and -1: the bits of two hashes.
fn state(word: &str) -> [f32; DIMENSION] {
    let mut state = [0.0; DIMENSION];
    for (half, state) in state.chunks_mut(256).enumerate() {
        let hash = Sha256::new()
            .chain_update([half as u8])
            .chain_update(word)
            .finalize();
        for (i, x) in state.iter_mut().enumerate() {
            *x = if hash[i / 8] >> (i % 8) & 1 == 1 {
                1.0
            } else {
                -1.0
            };
        }
    }
    state
}

/// The direction of the words' sum. A text without words, or whose words cancel out, gets the
/// direction of a word that no text can have.
fn dense(words: &[String]) -> Result<Vec<f32>, Error> {
    let mut sum = [0.0; DIMENSION];
    for word in words {
        sum.iter_mut()
            .zip(state(word))
            .for_each(|(sum, x)| *sum += x);
    }
    if sum.iter().all(|x| *x == 0.0) {
        sum = state(" ");
    }
    unit(&sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let queries = Stub.embed_queries(&[a.to_owned(), b.to_owned()]).unwrap();
        queries[0]
            .dense
            .iter()
            .zip(&queries[1].dense)
            .map(|(a, b)| a * b)
            .sum()
    }

    #[test]
    fn shared_words_are_near_and_others_are_not() {
        assert!(cosine("the pod was killed", "Killed: the pod!") > 0.8);
        assert!(cosine("the pod was killed", "rotate database credentials") < 0.3);
    }

    proptest! {
        #[test]
        fn any_text_has_a_valid_embedding(text in ".{0,2000}") {
            let passage = Passage { text: text.clone(), before: Vec::new() };
            let embeddings = Stub.embed(&[passage]).unwrap();
            embeddings[0].check().unwrap();
            prop_assert_eq!(Stub.embed_queries(&[text]).unwrap().len(), 1);
        }
    }
}

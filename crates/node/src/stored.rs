//! Reads parts of a stored embedding where they lie, without decoding the whole.
//!
//! A recall looks at the token states of some 200 memories. Decoding their rows would copy every
//! vector; this walks over the row's CBOR and lends the states.

use memorygate_core::{
    embedding::ModelId,
    key::Key,
    name::Namespace,
    state::{Read as _, ReadError, RowKey},
};
use memorygate_index::late::{self, State};
use memorygate_raft::StateSnapshot;
use minicbor::{Decoder, decode::Error};

/// Which model made a memory's embedding; [`ModelId::GIVEN`] if there is no embedding.
pub(crate) fn model(
    snapshot: &StateSnapshot,
    namespace: &Namespace,
    key: Key,
) -> Result<ModelId, ReadError> {
    let row = RowKey::Embedding(namespace.clone(), key);
    match snapshot.get(&row)? {
        Some(bytes) => model_of(&bytes).map_err(|reason| corrupt(row, &reason)),
        None => Ok(ModelId::GIVEN),
    }
}

/// Which model made the embedding in `row`.
pub(crate) fn model_of(row: &[u8]) -> Result<ModelId, Error> {
    let mut decoder = Decoder::new(row);
    decoder.array()?;
    decoder.u64().map(ModelId)
}

/// The token states of each window of the embedding in `row`.
pub(crate) fn windows(row: &[u8]) -> Result<Vec<&[State]>, Error> {
    let mut decoder = Decoder::new(row);
    decoder.array()?;
    decoder.skip()?;
    let count = definite(decoder.array()?)?;
    let mut windows = Vec::new();
    for _ in 0..count {
        decoder.array()?;
        decoder.skip()?;
        decoder.array()?;
        decoder.skip()?;
        let signs = decoder.bytes()?;
        windows.push(late::states(signs).ok_or_else(|| Error::message("half a token state"))?);
    }
    Ok(windows)
}

/// The dense vector of the first window of the embedding in `row`.
pub(crate) fn first_vector(row: &[u8]) -> Result<Vec<f32>, Error> {
    let mut decoder = Decoder::new(row);
    decoder.array()?;
    decoder.skip()?;
    if definite(decoder.array()?)? == 0 {
        return Err(Error::message("an embedding without a window"));
    }
    decoder.array()?;
    let (numbers, rest) = decoder.bytes()?.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::message("half a number of a vector"));
    }
    Ok(numbers.iter().map(|n| f32::from_le_bytes(*n)).collect())
}

/// The rows of many keys, in their order.
pub(crate) fn get_many(
    snapshot: &StateSnapshot,
    keys: &[RowKey],
) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
    keys.iter().map(|key| snapshot.get(key)).collect()
}

pub(crate) fn corrupt(row: RowKey, reason: &Error) -> ReadError {
    ReadError::Corrupt {
        key: Box::new(row),
        reason: reason.to_string(),
    }
}

fn definite(length: Option<u64>) -> Result<u64, Error> {
    length.ok_or_else(|| Error::message("an array without a length"))
}

#[cfg(test)]
mod tests {
    use memorygate_core::embedding::{DIMENSION, Embedding, STATE_BYTES, TokenStates, Window};

    use super::*;

    fn window(pieces: &[u16]) -> Window {
        let signs = (0..pieces.len() * STATE_BYTES).map(|i| i as u8).collect();
        Window {
            dense: vec![0.25; DIMENSION],
            states: TokenStates {
                pieces: pieces.to_vec(),
                signs,
            },
        }
    }

    #[test]
    fn parts_are_what_the_whole_has() {
        let embeddings = [
            Embedding::default(),
            Embedding {
                model: ModelId::GIVEN,
                windows: vec![window(&[])],
            },
            Embedding {
                model: ModelId(u64::MAX),
                windows: vec![window(&[1, 500, 40_000]), window(&[7])],
            },
        ];
        for embedding in embeddings {
            let row = minicbor::to_vec(&embedding).unwrap();
            assert_eq!(model_of(&row).unwrap(), embedding.model);
            let first = embedding.windows.first().map(|w| w.dense.clone());
            assert_eq!(first_vector(&row).ok(), first);
            let states: Vec<Vec<u8>> = windows(&row).unwrap().iter().map(|w| w.concat()).collect();
            let expected: Vec<Vec<u8>> = embedding
                .windows
                .iter()
                .map(|w| w.states.signs.clone())
                .collect();
            assert_eq!(states, expected);
            assert!(
                (1..row.len()).all(|n| windows(&row[..n]).is_err()),
                "cut short"
            );
        }
    }
}

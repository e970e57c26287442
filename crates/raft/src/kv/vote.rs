//! `VOTE`: the last vote that this node cast or accepted.
//!
//! The value is JSON as openraft writes it.

use super::tag;
use crate::types::Vote;

pub(crate) const KEY: [u8; 1] = [tag::VOTE];

pub(crate) fn encode(vote: &Vote) -> Vec<u8> {
    serde_json::to_vec(vote).expect("numbers and texts are always JSON")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vote, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        let vote = Vote::new_committed(4, 5);
        let bytes = encode(&vote);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"leader_id":{"term":4,"node_id":5},"committed":true}"#
        );
        assert_eq!(decode(&bytes), Ok(vote));
        assert!(decode(b"1").is_err());
        assert_eq!(KEY, [0x81]);
    }
}

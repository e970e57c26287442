//! `PURGED`: the last log entry that was purged.
//!
//! The value is JSON as openraft writes it.

use super::tag;
use crate::types::LogId;

pub(crate) const KEY: [u8; 1] = [tag::PURGED];

pub(crate) fn encode(log_id: &LogId) -> Vec<u8> {
    serde_json::to_vec(log_id).expect("numbers are always JSON")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<LogId, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    #[test]
    fn the_bytes_never_change() {
        let log_id = LogId {
            leader_id: LeaderId {
                term: 4,
                node_id: 5,
            },
            index: 6,
        };
        let bytes = encode(&log_id);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"leader_id":{"term":4,"node_id":5},"index":6}"#
        );
        assert_eq!(decode(&bytes), Ok(log_id));
        assert!(decode(b"1").is_err());
        assert_eq!(KEY, [0x82]);
    }
}

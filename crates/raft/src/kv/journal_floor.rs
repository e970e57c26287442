//! `JOURNAL_FLOOR`: the position after which the journal is complete.
//!
//! The value is the position, big endian; an absent row means 0.

use super::tag;

pub(crate) const KEY: [u8; 1] = [tag::JOURNAL_FLOOR];

pub(crate) fn encode(floor: u64) -> Vec<u8> {
    floor.to_be_bytes().to_vec()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<u64, String> {
    let bytes: [u8; 8] = bytes
        .try_into()
        .map_err(|_| format!("{} bytes, expected 8", bytes.len()))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        assert_eq!(encode(258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode(&encode(258)), Ok(258));
        assert_eq!(decode(&[1]), Err("1 bytes, expected 8".to_owned()));
        assert_eq!(KEY, [0x43]);
    }
}

//! `JOURNAL through`: which memories one applied batch may have changed.
//!
//! `through` is the index of the batch's last entry; the batch began after the row before it. The
//! value is a version byte and CBOR: for each namespace the keys, both in order, each once.

use std::collections::{BTreeMap, BTreeSet};

use memorygate_core::{key::Key, name::Namespace, state::Change};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

const VERSION: u8 = 1;

pub(crate) type Touched = BTreeMap<Namespace, BTreeSet<Key>>;

pub(crate) fn encode_key(through: u64) -> Vec<u8> {
    Writer::new(tag::JOURNAL).u64(through).finish()
}

pub(crate) fn decode_key(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader::new(bytes, tag::JOURNAL)?;
    let through = reader.u64()?;
    reader.finish(through)
}

pub(crate) fn touched(changes: &[Change]) -> Touched {
    let mut touched = Touched::new();
    for change in changes {
        touched
            .entry(change.namespace.clone())
            .or_default()
            .insert(change.key);
    }
    touched
}

pub(crate) fn encode(touched: &Touched) -> Vec<u8> {
    // As a vector, because minicbor has no sets.
    let rows: Vec<(&Namespace, Vec<Key>)> = touched
        .iter()
        .map(|(namespace, keys)| (namespace, keys.iter().copied().collect()))
        .collect();
    let mut bytes = vec![VERSION];
    minicbor::encode(&rows, &mut bytes).expect("writing to a vector cannot fail");
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Touched, String> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(format!("unknown version {:?}", bytes.first()));
    };
    let rows: Vec<(Namespace, Vec<Key>)> =
        minicbor::decode(body).map_err(|error| error.to_string())?;
    Ok(rows
        .into_iter()
        .map(|(namespace, keys)| (namespace, keys.into_iter().collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use memorygate_core::state::ChangeKind;

    use super::*;
    use crate::kv::tests::{hex, key_of};

    #[test]
    fn the_bytes_never_change() {
        let change = |namespace: &str, key| Change {
            namespace: Namespace::parse(namespace).unwrap(),
            key: key_of(key),
            kind: ChangeKind::Removed,
        };
        let touched = touched(&[
            change("b", 2),
            change("a", 9),
            change("b", 1),
            change("b", 2),
        ]);
        let bytes = encode(&touched);
        let key = |byte: &str| format!("50{}", byte.repeat(16));
        assert_eq!(
            hex(&bytes),
            format!(
                "018282616181{}82616282{}{}",
                key("09"),
                key("01"),
                key("02")
            )
        );
        assert_eq!(decode(&bytes), Ok(touched));
        assert!(decode(&[2]).is_err());
        assert!(decode(&[1, 0x81]).is_err());
        assert_eq!(hex(&encode_key(258)), "420000000000000102");
        assert_eq!(decode_key(&encode_key(258)), Ok(258));
        assert!(decode_key(&[0x42]).is_err());
    }
}

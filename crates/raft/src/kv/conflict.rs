//! `CONFLICT namespace key key`: two memories that contradict each other, in both orders.

use memorygate_core::{key::Key, name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace, a: Key, b: Key) -> Vec<u8> {
    Writer::new(tag::CONFLICT)
        .namespace(namespace)
        .key(a)
        .key(b)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::CONFLICT)?;
    let row = RowKey::Conflict(reader.namespace()?, reader.key()?, reader.key()?);
    reader.finish(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::{check_frozen, key_of};

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(
            &RowKey::Conflict(name, key_of(1), key_of(2)),
            &format!("0c616200{}{}", "01".repeat(16), "02".repeat(16)),
        );
    }
}

//! `MEMORY namespace key`: a memory's record.

use memorygate_core::{key::Key, name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace, key: Key) -> Vec<u8> {
    Writer::new(tag::MEMORY)
        .namespace(namespace)
        .key(key)
        .finish()
}

/// What all memories of a namespace start with.
pub(crate) fn prefix(namespace: &Namespace) -> Vec<u8> {
    Writer::new(tag::MEMORY).namespace(namespace).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let (namespace, key) = parts(bytes)?;
    Ok(RowKey::Memory(namespace, key))
}

pub(crate) fn parts(bytes: &[u8]) -> Result<(Namespace, Key), Malformed> {
    let mut reader = Reader::new(bytes, tag::MEMORY)?;
    let parts = (reader.namespace()?, reader.key()?);
    reader.finish(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::{check_frozen, key_of};

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(
            &RowKey::Memory(name, key_of(0xfe)),
            &format!("03616200{}", "fe".repeat(16)),
        );
    }
}

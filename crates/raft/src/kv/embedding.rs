//! `EMBEDDING namespace key`: what the model made of a memory.

use memorygate_core::{key::Key, name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace, key: Key) -> Vec<u8> {
    Writer::new(tag::EMBEDDING)
        .namespace(namespace)
        .key(key)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::EMBEDDING)?;
    let row = RowKey::Embedding(reader.namespace()?, reader.key()?);
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
            &RowKey::Embedding(name, key_of(1)),
            &format!("04616200{}", "01".repeat(16)),
        );
    }
}

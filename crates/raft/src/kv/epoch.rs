//! `EPOCH namespace position`: what one log entry consolidated.

use memorygate_core::{name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace, id: u64) -> Vec<u8> {
    Writer::new(tag::EPOCH)
        .namespace(namespace)
        .u64(id)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::EPOCH)?;
    let row = RowKey::Epoch(reader.namespace()?, reader.u64()?);
    reader.finish(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(&RowKey::Epoch(name, 258), "0b6162000000000000000102");
    }
}

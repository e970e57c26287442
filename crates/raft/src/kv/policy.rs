//! `POLICY namespace`: how a namespace is consolidated.

use memorygate_core::{name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace) -> Vec<u8> {
    Writer::new(tag::POLICY).namespace(namespace).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::POLICY)?;
    let row = RowKey::Policy(reader.namespace()?);
    reader.finish(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(&RowKey::Policy(name), "09616200");
    }
}

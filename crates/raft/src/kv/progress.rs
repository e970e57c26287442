//! `PROGRESS namespace`: how far consolidation of a namespace has come.

use memorygate_core::{name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace) -> Vec<u8> {
    Writer::new(tag::PROGRESS).namespace(namespace).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::PROGRESS)?;
    let row = RowKey::Progress(reader.namespace()?);
    reader.finish(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(&RowKey::Progress(name), "0a616200");
    }
}

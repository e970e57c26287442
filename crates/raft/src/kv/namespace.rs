//! `NAMESPACE name`: a namespace's counts.

use memorygate_core::{name::Namespace, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(name: &Namespace) -> Vec<u8> {
    Writer::new(tag::NAMESPACE).namespace(name).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::NAMESPACE)?;
    let name = reader.namespace()?;
    reader.finish(RowKey::Namespace(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let name = Namespace::parse("ab").unwrap();
        check_frozen(&RowKey::Namespace(name), "02616200");
    }
}

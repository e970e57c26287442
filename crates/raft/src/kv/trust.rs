//! `TRUST namespace agent`: what is known of an agent.

use memorygate_core::{
    name::{Name, Namespace},
    state::RowKey,
};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(namespace: &Namespace, agent: &Name) -> Vec<u8> {
    Writer::new(tag::TRUST)
        .namespace(namespace)
        .name(agent)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::TRUST)?;
    let row = RowKey::Trust(reader.namespace()?, reader.name()?);
    reader.finish(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let (namespace, agent) = (Namespace::parse("ab").unwrap(), Name::parse("cé").unwrap());
        check_frozen(&RowKey::Trust(namespace, agent), "0d61620063c3a900");
    }
}

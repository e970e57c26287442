//! `EXPIRY at namespace key`: an empty row for each memory that expires, by when.

use memorygate_core::{key::Key, name::Namespace, state::RowKey, time::TimeMs};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(at: TimeMs, namespace: &Namespace, key: Key) -> Vec<u8> {
    Writer::new(tag::EXPIRY)
        .time(at)
        .namespace(namespace)
        .key(key)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::EXPIRY)?;
    let row = RowKey::Expiry(reader.time()?, reader.namespace()?, reader.key()?);
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
            &RowKey::Expiry(TimeMs(-1), name, key_of(2)),
            &format!("067fffffffffffffff616200{}", "02".repeat(16)),
        );
    }
}

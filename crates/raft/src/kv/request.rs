//! `REQUEST after nonce`: the first answer to a request.

use memorygate_core::{request::RequestId, state::RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode(id: &RequestId) -> Vec<u8> {
    Writer::new(tag::REQUEST)
        .u64(id.after)
        .bytes(&id.nonce)
        .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::REQUEST)?;
    let id = RequestId {
        after: reader.u64()?,
        nonce: reader.array()?,
    };
    reader.finish(RowKey::Request(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        let id = RequestId {
            after: 0x0102,
            nonce: [7; 16],
        };
        check_frozen(
            &RowKey::Request(id),
            &format!("070000000000000102{}", "07".repeat(16)),
        );
    }
}

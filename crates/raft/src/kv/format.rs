//! `FORMAT`: the format in which the log is written.

use memorygate_core::state::RowKey;

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode() -> Vec<u8> {
    Writer::new(tag::FORMAT).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    Reader::new(bytes, tag::FORMAT)?.finish(RowKey::Format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        check_frozen(&RowKey::Format, "08");
    }
}

//! `CLOCK`: the time in the log.

use memorygate_core::state::RowKey;

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

pub(crate) fn encode() -> Vec<u8> {
    Writer::new(tag::CLOCK).finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    Reader::new(bytes, tag::CLOCK)?.finish(RowKey::Clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::tests::check_frozen;

    #[test]
    fn the_bytes_never_change() {
        check_frozen(&RowKey::Clock, "01");
    }
}

//! `HISTORY 0 namespace key position version`: what changed a memory;
//! `HISTORY 1 at position namespace key version`: an empty row that finds the same by its age.

use memorygate_core::state::{HistoryRow, RowKey};

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};

const OF: u8 = 0;
const AGED: u8 = 1;

pub(crate) fn encode(row: &HistoryRow) -> Vec<u8> {
    let writer = Writer::new(tag::HISTORY);
    match row {
        HistoryRow::Of {
            namespace,
            key,
            position,
            version,
        } => writer
            .bytes(&[OF])
            .namespace(namespace)
            .key(*key)
            .u64(*position)
            .u64(*version),
        HistoryRow::Aged {
            at,
            position,
            namespace,
            key,
            version,
        } => writer
            .bytes(&[AGED])
            .time(*at)
            .u64(*position)
            .namespace(namespace)
            .key(*key)
            .u64(*version),
    }
    .finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(bytes, tag::HISTORY)?;
    let row = match reader.array()? {
        [OF] => HistoryRow::Of {
            namespace: reader.namespace()?,
            key: reader.key()?,
            position: reader.u64()?,
            version: reader.u64()?,
        },
        [AGED] => HistoryRow::Aged {
            at: reader.time()?,
            position: reader.u64()?,
            namespace: reader.namespace()?,
            key: reader.key()?,
            version: reader.u64()?,
        },
        [_] => return Err(Malformed::new(bytes, "unknown kind of history")),
    };
    reader.finish(RowKey::History(row))
}

#[cfg(test)]
mod tests {
    use memorygate_core::{name::Namespace, time::TimeMs};

    use super::*;
    use crate::kv::tests::{check_frozen, key_of};

    #[test]
    fn the_bytes_never_change() {
        let namespace = Namespace::parse("ab").unwrap();
        let key = "02".repeat(16);
        let of = HistoryRow::Of {
            namespace: namespace.clone(),
            key: key_of(2),
            position: 258,
            version: 3,
        };
        check_frozen(
            &RowKey::History(of),
            &format!("0e00616200{key}00000000000001020000000000000003"),
        );
        let aged = HistoryRow::Aged {
            at: TimeMs(5),
            position: 258,
            namespace,
            key: key_of(2),
            version: 3,
        };
        check_frozen(
            &RowKey::History(aged),
            &format!("0e0180000000000000050000000000000102616200{key}0000000000000003"),
        );
    }
}

//! The replicated rows of a state, as the core reads them.

use std::ops::ControlFlow;

use memorygate_core::state::{Read, ReadError, RowKey};
use rocksdb::Snapshot;

use crate::{
    kv::{self, Family},
    rocks::{Error, Scan, Store},
};

/// Rows at one moment, or as they are now.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    store: &'a Store,
    snapshot: Option<&'a Snapshot<'a>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(store: &'a Store, snapshot: Option<&'a Snapshot<'a>>) -> Self {
        Self { store, snapshot }
    }

    pub(crate) fn snapshot(&self) -> Option<&'a Snapshot<'a>> {
        self.snapshot
    }

    /// Shows `visit` the rows of one family with encoded keys in `from..until`.
    pub(crate) fn visit(
        &self,
        family: Family,
        (from, until): (&[u8], &[u8]),
        scan: Scan<'_>,
        mut visit: impl FnMut(RowKey, &[u8]) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let mut failed = None;
        let result = self.store.visit(family, from, until, scan, |key, value| {
            let visited = match kv::decode(key) {
                Ok(key) => visit(key, value),
                Err(malformed) => Err(ReadError::Corrupt {
                    key: Box::new(RowKey::Clock),
                    reason: self.store.unreadable(malformed),
                }),
            };
            visited.unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        });
        result.map_err(|error| read_error(&RowKey::Clock, &error))?;
        failed.map_or(Ok(()), Err)
    }
}

impl Read for Rows<'_> {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        let (family, bytes) = kv::encode(key);
        self.store
            .get(family, &bytes, self.snapshot)
            .map_err(|error| read_error(key, &error))
    }

    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        let (first, last) = (kv::encode(from).1, kv::encode(until).1);
        let mut rows = Vec::new();
        for (tag, family) in kv::REPLICATED {
            // Rows of this kind have keys in [tag]..[tag + 1].
            let (start, end) = ([tag], [tag + 1]);
            let from = first.as_slice().max(&start);
            let until = last.as_slice().min(&end);
            if rows.len() >= limit || from >= until {
                continue;
            }
            let scan = Scan::forward(self.snapshot);
            self.visit(family, (from, until), scan, |key, value| {
                rows.push((key, value.to_vec()));
                Ok(if rows.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
        }
        Ok(rows)
    }
}

/// `key` is the row that was read, or one of its kind.
pub(crate) fn read_error(key: &RowKey, error: &Error) -> ReadError {
    let (key, reason) = (Box::new(key.clone()), error.to_string());
    if error.is_corruption() {
        ReadError::Corrupt { key, reason }
    } else {
        ReadError::Storage { key, reason }
    }
}

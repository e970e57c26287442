//! A state told apart by namespace, so that a difference between replicas can be found and not only
//! seen.

use std::collections::BTreeMap;

use super::{RowKey, StateDigest};
use crate::name::Namespace;

/// The digests of a set of rows: of all, of each namespace, and of those that belong to none. The
/// first is the sum of the others, see [`StateDigest`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Digests {
    pub all: StateDigest,
    pub rows: u64,
    /// Of the rows that belong to no namespace: the log's time, remembered answers and the like.
    pub outside: StateDigest,
    /// Every namespace that has a row.
    pub namespaces: BTreeMap<Namespace, StateDigest>,
}

impl Digests {
    /// Where [`Digests::outside`] stands among namespaces, in lists of names: no namespace can have
    /// this one.
    pub const OUTSIDE: &str = "(outside namespaces)";

    pub fn add(&mut self, key: &RowKey, value: &[u8]) {
        let mut row = StateDigest::default();
        row.add(key, value);
        self.all.merge(row);
        self.rows += 1;
        let Some(namespace) = key.namespace() else {
            self.outside.merge(row);
            return;
        };
        if let Some(digest) = self.namespaces.get_mut(namespace) {
            digest.merge(row);
        } else {
            self.namespaces.insert(namespace.clone(), row);
        }
    }

    /// By name, with [`Digests::OUTSIDE`] for what belongs to no namespace.
    pub fn by_name(&self) -> BTreeMap<String, StateDigest> {
        let named = self.namespaces.iter();
        let named = named.map(|(namespace, digest)| (namespace.to_string(), *digest));
        named
            .chain([(Self::OUTSIDE.to_owned(), self.outside)])
            .collect()
    }
}

//! The state in memory: for an in-process store, and for tests to compare real storage with.

use std::collections::BTreeMap;

use super::{Commit, Read, ReadError, RowKey, StateDigest};

/// All rows in an ordered map, with the digest that the commits so far left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    rows: BTreeMap<RowKey, Vec<u8>>,
    digest: StateDigest,
}

impl Rows {
    /// Stores a commit that was made over these rows.
    pub fn store(&mut self, commit: &Commit) {
        for (key, value) in &commit.rows {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
        self.digest = commit.digest;
    }

    pub fn digest(&self) -> StateDigest {
        self.digest
    }

    /// The digest computed anew from every row: equal to [`Rows::digest`] unless something is wrong.
    pub fn digest_of_all(&self) -> StateDigest {
        let mut digest = StateDigest::default();
        self.rows
            .iter()
            .for_each(|(key, value)| digest.add(key, value));
        digest
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RowKey, &[u8])> {
        self.rows.iter().map(|(key, value)| (key, value.as_slice()))
    }
}

impl Read for Rows {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let rows = self.rows.range(from..until).take(limit);
        Ok(rows
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

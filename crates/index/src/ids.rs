//! Small numbers for values that many memories share: scopes, domains, agents, metadata entries.
//!
//! A number lives as long as a memory uses its value, then it is given to another. Which number a
//! value has is history, and decides nothing.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Values in use and their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Ids<T> {
    ids: HashMap<T, u32>,
    /// By id.
    uses: Vec<Use<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Use<T> {
    /// `None` while the id is free.
    value: Option<T>,
    count: u32,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            uses: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Ids<T> {
    /// The number of a value that one more memory uses from now on.
    pub(crate) fn acquire(&mut self, value: &T) -> u32 {
        if let Some(id) = self.ids.get(value) {
            self.uses[*id as usize].count += 1;
            return *id;
        }
        let new = Use {
            value: Some(value.clone()),
            count: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.uses[id as usize] = new;
                id
            }
            None => {
                self.uses.push(new);
                u32::try_from(self.uses.len() - 1).expect("memory ends before 2^32 values")
            }
        };
        self.ids.insert(value.clone(), id);
        id
    }

    /// Takes back one [`Ids::acquire`]. `true` if the value is in use no more.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        let entry = &mut self.uses[id as usize];
        entry.count -= 1;
        if entry.count > 0 {
            return false;
        }
        let value = entry.value.take().expect("an id in use has a value");
        self.ids.remove(&value);
        self.free.push(id);
        true
    }

    /// The number of a value, if it is in use.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        self.ids.get(value).copied()
    }

    /// The value of a number; `None` if it is free.
    pub(crate) fn value(&self, id: u32) -> Option<&T> {
        self.uses.get(id as usize)?.value.as_ref()
    }

    /// One more than the largest number in use.
    pub(crate) fn bound(&self) -> usize {
        self.uses.len()
    }

    /// The value of each number below the bound; `None` where it is free.
    pub(crate) fn values(&self) -> impl Iterator<Item = Option<&T>> {
        self.uses.iter().map(|entry| entry.value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lives_as_long_as_its_value_is_used() {
        let mut ids: Ids<String> = Ids::default();
        let (a, b) = (ids.acquire(&"a".to_owned()), ids.acquire(&"b".to_owned()));
        assert_eq!((a, b, ids.acquire(&"a".to_owned())), (0, 1, 0));
        assert!(!ids.release(a));
        assert_eq!(ids.get("a"), Some(a));
        assert!(ids.release(a));
        assert_eq!(ids.get("a"), None);
        assert_eq!(
            ids.values()
                .map(|v| v.map(String::as_str))
                .collect::<Vec<_>>(),
            [None, Some("b")]
        );
        assert_eq!(ids.acquire(&"c".to_owned()), a);
        assert_eq!(ids.bound(), 2);
    }
}

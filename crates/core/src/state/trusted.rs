//! Rows of trust: what is known of each agent.

use super::{Read, ReadError, RowKey, Transaction, decode, read};
use crate::{
    limits,
    name::{Name, Namespace},
    trust::Trust,
};

/// What is known of an agent; the default if nothing is.
pub fn trust(rows: &impl Read, namespace: &Namespace, agent: &Name) -> Result<Trust, ReadError> {
    let row = RowKey::Trust(namespace.clone(), agent.clone());
    Ok(read(rows, &row)?.unwrap_or_default())
}

/// Up to `limit` agents of whom something is known, in the order of their names, after `after`.
pub fn trusts(
    rows: &impl Read,
    namespace: &Namespace,
    after: Option<&Name>,
    limit: usize,
) -> Result<Vec<(Name, Trust)>, ReadError> {
    let bound = |name: &str| {
        let name = Name::parse(name).expect("it has no control character and is short enough");
        RowKey::Trust(namespace.clone(), name)
    };
    // A blank is the first character that a name can have.
    let from = bound(after.map_or(" ", Name::as_str));
    let last = char::MAX.to_string();
    let until = bound(&last.repeat(limits::NAME_BYTES_MAX / last.len()));
    // The row of `after` itself comes again.
    let mut found = Vec::new();
    for (row, bytes) in &rows.scan(&from, &until, limit.saturating_add(1))? {
        if let RowKey::Trust(_, agent) = row
            && Some(agent) != after
        {
            found.push((agent.clone(), decode(row, bytes)?));
        }
    }
    found.truncate(limit);
    Ok(found)
}

impl<R: Read> Transaction<'_, R> {
    /// What is known of an agent. Where nothing is any more, there is no row.
    pub(crate) fn set_trust(
        &mut self,
        namespace: &Namespace,
        agent: &Name,
        trust: &Trust,
    ) -> Result<(), ReadError> {
        let row = RowKey::Trust(namespace.clone(), agent.clone());
        if *trust == Trust::default() {
            self.delete(row)
        } else {
            self.put(row, trust)
        }
    }
}

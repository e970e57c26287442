//! What filters ask about, in columns: one number a slot and field.
//!
//! [`memorygate_core::filter::Filter::passes`] is the definition of what passes; here the same is
//! answered for all memories of a namespace at once, by reading through the columns that a filter
//! names, and by lists of slots for metadata.

use std::{collections::BTreeMap, hash::Hash};

use memorygate_core::{
    filter::{Archive, Filter},
    memory::Memory,
    name::{Domain, Name},
    scope::{Reader, Scope},
    time::TimeMs,
};

use crate::{
    bitmap::Bitmap,
    ids::Ids,
    postings::{Posting, Postings},
};

/// No agent or session.
const NONE: u32 = u32::MAX;

/// An expiry that never comes: none is set, or the memory is pinned.
const NEVER: TimeMs = TimeMs(i64::MAX);

/// What filters can ask of one memory, but for its metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) domain: &'a Domain,
    pub(crate) agent: Option<&'a Name>,
    pub(crate) session: Option<&'a Name>,
    pub(crate) occurred_at: TimeMs,
    pub(crate) importance: f32,
    /// `None` too if the memory is pinned.
    pub(crate) expires_at: Option<TimeMs>,
    pub(crate) is_archived: bool,
}

impl<'a> From<&'a Memory> for Fields<'a> {
    fn from(memory: &'a Memory) -> Self {
        Self {
            scope: &memory.scope,
            domain: &memory.domain,
            agent: memory.agent.as_ref(),
            session: memory.session.as_ref(),
            occurred_at: memory.occurred_at,
            importance: memory.importance,
            expires_at: memory.expires_at.filter(|_| !memory.pinned),
            is_archived: memory.is_archived(),
        }
    }
}

/// The columns of one namespace, by slot. What stands in a slot without a memory means nothing.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    live: Bitmap,
    archived: Bitmap,
    scopes: Ids<Scope>,
    scope: Vec<u32>,
    domains: Ids<Domain>,
    domain: Vec<u32>,
    agents: Ids<Name>,
    agent: Vec<u32>,
    sessions: Ids<Name>,
    session: Vec<u32>,
    occurred_at: Vec<TimeMs>,
    importance: Vec<f32>,
    expires_at: Vec<TimeMs>,
    /// Memories that expire some day.
    expiring: u32,
    archived_count: u32,
    entries: Ids<(String, String)>,
    /// By entry id: who has it.
    holders: Vec<Postings>,
    metadata: Vec<Box<[u32]>>,
}

impl Columns {
    /// Slots that hold a memory.
    pub(crate) fn live(&self) -> &Bitmap {
        &self.live
    }

    /// Fills a slot that holds no memory.
    pub(crate) fn insert(
        &mut self,
        slot: u32,
        fields: &Fields<'_>,
        metadata: &BTreeMap<String, String>,
    ) {
        let at = slot as usize;
        if slot >= self.live.len() {
            self.grow(slot + 1);
        }
        assert!(
            !self.live.contains(slot),
            "slot {slot} holds a memory already"
        );
        self.live.insert(slot);
        if fields.is_archived {
            self.archived.insert(slot);
            self.archived_count += 1;
        }
        let name = |ids: &mut Ids<Name>, name: Option<&Name>| name.map_or(NONE, |n| ids.acquire(n));
        self.scope[at] = self.scopes.acquire(fields.scope);
        self.domain[at] = self.domains.acquire(fields.domain);
        self.agent[at] = name(&mut self.agents, fields.agent);
        self.session[at] = name(&mut self.sessions, fields.session);
        self.occurred_at[at] = fields.occurred_at;
        self.importance[at] = fields.importance;
        self.expires_at[at] = fields.expires_at.unwrap_or(NEVER);
        self.expiring += u32::from(fields.expires_at.is_some());
        let entry = |(key, value): (&String, &String)| {
            let id = self.entries.acquire(&(key.clone(), value.clone()));
            if id as usize >= self.holders.len() {
                self.holders.push(Postings::default());
            }
            self.holders[id as usize].insert(Posting { slot, count: 1 });
            id
        };
        self.metadata[at] = metadata.iter().map(entry).collect();
    }

    /// What stands in a slot that holds a memory.
    pub(crate) fn fields(&self, slot: u32) -> Fields<'_> {
        let at = slot as usize;
        Fields {
            scope: self
                .scopes
                .value(self.scope[at])
                .expect("a memory has a scope"),
            domain: self
                .domains
                .value(self.domain[at])
                .expect("a memory has a domain"),
            agent: self.agents.value(self.agent[at]),
            session: self.sessions.value(self.session[at]),
            occurred_at: self.occurred_at[at],
            importance: self.importance[at],
            expires_at: Some(self.expires_at[at]).filter(|at| *at != NEVER),
            is_archived: self.archived.contains(slot),
        }
    }

    /// The metadata of a slot's memory.
    pub(crate) fn metadata(&self, slot: u32) -> impl Iterator<Item = &(String, String)> {
        let entries = self.metadata[slot as usize].iter();
        entries.map(|id| {
            self.entries
                .value(*id)
                .expect("an entry lives as long as its holders")
        })
    }

    fn grow(&mut self, slots: u32) {
        let len = slots as usize;
        self.live.grow(slots);
        self.archived.grow(slots);
        for ids in [
            &mut self.scope,
            &mut self.domain,
            &mut self.agent,
            &mut self.session,
        ] {
            ids.resize(len, NONE);
        }
        self.occurred_at.resize(len, TimeMs(0));
        self.importance.resize(len, 0.0);
        self.expires_at.resize(len, NEVER);
        self.metadata.resize(len, Box::default());
    }

    /// Empties a slot that holds a memory.
    pub(crate) fn remove(&mut self, slot: u32) {
        let at = slot as usize;
        assert!(self.live.contains(slot), "slot {slot} holds no memory");
        self.live.remove(slot);
        if self.archived.contains(slot) {
            self.archived.remove(slot);
            self.archived_count -= 1;
        }
        self.scopes.release(self.scope[at]);
        self.domains.release(self.domain[at]);
        if self.agent[at] != NONE {
            self.agents.release(self.agent[at]);
        }
        if self.session[at] != NONE {
            self.sessions.release(self.session[at]);
        }
        self.expiring -= u32::from(self.expires_at[at] != NEVER);
        for entry in std::mem::take(&mut self.metadata[at]) {
            self.holders[entry as usize].remove(slot);
            self.entries.release(entry);
        }
    }

    /// The slots of memories that `slot`'s may be merged with: of its scope and domain, not expired at
    /// the log time `now` and not archived.
    pub(crate) fn like(&self, slot: u32, now: TimeMs) -> Bitmap {
        let at = slot as usize;
        let (scope, domain) = (self.scope[at], self.domain[at]);
        let mut like = self.live.clone();
        like.retain(|other| {
            let at = other as usize;
            self.domain[at] == domain
                && self.scope[at] == scope
                && self.expires_at[at] > now
                && !self.archived.contains(other)
        });
        like
    }

    /// The slots whose memories `reader` may be given at the log time `now` under `filter`.
    pub(crate) fn passing(&self, filter: &Filter, reader: &Reader, now: TimeMs) -> Bitmap {
        let mut passing = self.live.clone();
        match filter.archive {
            Archive::With => {}
            Archive::Without if self.archived_count == 0 => {}
            Archive::Without => passing.retain(|slot| !self.archived.contains(slot)),
            Archive::Only => passing.intersect(&self.archived),
        }
        for (key, value) in &filter.metadata {
            let mut holders = Bitmap::none(passing.len());
            if let Some(id) = self.entries.get(&(key.clone(), value.clone())) {
                let slots = self.holders[id as usize].blocks().flatten();
                holders.extend_sorted(slots.map(|posting| posting.slot));
            }
            passing.intersect(&holders);
        }
        let seen = |scope: Option<&Scope>| scope.is_none_or(|scope| reader.sees(scope));
        let seen: Vec<bool> = self.scopes.values().map(seen).collect();
        if seen.contains(&false) {
            passing.retain(|slot| seen[self.scope[slot as usize] as usize]);
        }
        if self.expiring > 0 {
            passing.retain(|slot| self.expires_at[slot as usize] > now);
        }
        retain_wanted(
            &mut passing,
            &self.domains,
            &self.domain,
            filter.domains.iter(),
        );
        retain_wanted(
            &mut passing,
            &self.agents,
            &self.agent,
            filter.agents.iter(),
        );
        retain_wanted(
            &mut passing,
            &self.sessions,
            &self.session,
            filter.sessions.iter(),
        );
        if let Some(since) = filter.since {
            passing.retain(|slot| self.occurred_at[slot as usize] >= since);
        }
        if let Some(until) = filter.until {
            passing.retain(|slot| self.occurred_at[slot as usize] < until);
        }
        if let Some(least) = filter.min_importance {
            passing.retain(|slot| self.importance[slot as usize] >= least);
        }
        passing
    }
}

/// Keeps the slots that hold one of the wanted values; all where none is named.
fn retain_wanted<'a, T: Clone + Eq + Hash + 'a>(
    passing: &mut Bitmap,
    ids: &Ids<T>,
    column: &[u32],
    values: impl ExactSizeIterator<Item = &'a T>,
) {
    if values.len() == 0 {
        return;
    }
    let mut wanted = vec![false; ids.bound()];
    for id in values.filter_map(|value| ids.get(value)) {
        wanted[id as usize] = true;
    }
    // A slot without a value has an id beyond the bound.
    passing.retain(|slot| {
        wanted
            .get(column[slot as usize] as usize)
            .copied()
            .unwrap_or(false)
    });
}

#[cfg(test)]
mod tests {
    use memorygate_core::name::Domain;
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn filter(seed: u64) -> Filter {
        let mut sequence = samples::Sequence::new(seed);
        let mut often = |bound| sequence.below(bound) == 0;
        let (domains, agents, sessions, metadata, times) =
            (often(3), often(3), often(3), often(3), often(3));
        let mut number = |bound| sequence.below(bound);
        let mut names = |some: bool| match some {
            true => (0..1 + number(2))
                .map(|_| samples::name(number(4)))
                .collect(),
            false => [].into(),
        };
        let (agents, sessions) = (names(agents), names(sessions));
        let domain =
            |number: u64| Domain::parse(["deployment", "d", "e"][number as usize]).unwrap();
        Filter {
            domains: (0..u64::from(domains)).map(|_| domain(number(3))).collect(),
            agents,
            sessions,
            metadata: (0..2 * u64::from(metadata))
                .map(|_| (number(4).to_string(), number(3).to_string()))
                .collect(),
            since: times.then(|| TimeMs(number(6) as i64)),
            until: times.then(|| TimeMs(number(8) as i64)),
            min_importance: (number(3) == 0).then(|| number(5) as f32 / 4.0),
            archive: [Archive::Without, Archive::With, Archive::Only][number(3) as usize],
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_what_the_definition_lets_pass(
            history in prop::collection::vec((0_u32..40, any::<u64>(), any::<bool>()), 0..120),
            asked in prop::collection::vec((any::<u64>(), any::<u64>(), 0_i64..7), 1..12),
        ) {
            let (mut columns, mut live) = (Columns::default(), BTreeMap::new());
            for (slot, seed, put) in history {
                if live.remove(&slot).is_some() {
                    columns.remove(slot);
                }
                if put {
                    let memory = samples::memory(seed, 1);
                    columns.insert(slot, &Fields::from(&memory), &memory.metadata);
                    live.insert(slot, memory);
                }
            }
            prop_assert!(columns.live().iter().eq(live.keys().copied()));
            for (wanted, reader, now) in asked {
                let (filter, reader) = (filter(wanted), samples::reader(reader));
                let passing = columns.passing(&filter, &reader, TimeMs(now));
                let expected = live.iter().filter(|(_, m)| filter.passes(m, &reader, TimeMs(now)));
                prop_assert!(
                    passing.iter().eq(expected.map(|(slot, _)| *slot)),
                    "{:?} {:?} {}", filter, reader, now
                );
            }
        }
    }
}

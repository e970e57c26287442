//! Memories that contradict each other, and how someone decides.

use memorygate_core::{key::Key, request::RequestId, time::TimeMs};
use memorygate_proto::v1;

use crate::{
    error::Violations,
    memory::Memory,
    page::{self, PAGE_SIZE_DEFAULT},
    position::Position,
    time,
};

/// Two memories that contradict each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub a: Memory,
    pub b: Memory,
    pub found_at: TimeMs,
    /// `None` while nobody has decided.
    pub resolved_at: Option<TimeMs>,
}

/// Which conflicts to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListConflicts {
    /// Those that were decided too.
    pub resolved: bool,
    /// 1 to 1000.
    pub page_size: usize,
    /// Where to go on: [`ConflictPage::next`] of the page before; empty for the start.
    pub page_token: String,
}

impl Default for ListConflicts {
    fn default() -> Self {
        Self {
            resolved: false,
            page_size: PAGE_SIZE_DEFAULT,
            page_token: String::new(),
        }
    }
}

impl ListConflicts {
    /// Those that nobody has decided.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that were decided too.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        self.resolved = true;
        self
    }

    #[must_use]
    pub fn page_size(mut self, size: usize) -> Self {
        self.page_size = size;
        self
    }

    #[must_use]
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.page_token = token.into();
        self
    }

    pub(crate) fn check(&self) -> Violations {
        page::check_size(self.page_size)
    }

    pub(super) fn to_wire(&self, namespace: String) -> v1::ListConflictsRequest {
        v1::ListConflictsRequest {
            namespace,
            resolved: self.resolved,
            page_size: page::size_to_wire(self.page_size),
            page_token: self.page_token.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConflictPage {
    pub conflicts: Vec<Conflict>,
    /// Hand it back as [`ListConflicts::page_token`]; `None` after the last page.
    pub next: Option<String>,
    pub position: Position,
}

impl ConflictPage {
    pub(super) fn from_wire(wire: v1::ListConflictsResponse) -> Result<Self, String> {
        let conflicts = wire.conflicts.into_iter().map(Conflict::from_wire);
        Ok(Self {
            conflicts: conflicts.collect::<Result<_, _>>()?,
            next: page::next_from_wire(wire.next_page_token),
            position: Position::from_wire(wire.position)?,
        })
    }
}

impl Conflict {
    fn from_wire(wire: v1::ConflictingPair) -> Result<Self, String> {
        let found_at = wire.found_at.ok_or("found_at is missing")?;
        let resolved_at = wire.resolved_at.map(time::from_wire).transpose();
        Ok(Self {
            a: Memory::from_wire(wire.a.ok_or("a is missing")?)?,
            b: Memory::from_wire(wire.b.ok_or("b is missing")?)?,
            found_at: time::from_wire(found_at).map_err(|e| format!("found_at: {e}"))?,
            resolved_at: resolved_at.map_err(|e| format!("resolved_at: {e}"))?,
        })
    }
}

/// Says which of two memories is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The right one, unless both are.
    pub key: Key,
    /// Superseded by it and archived, unless both hold.
    pub other: Key,
    /// Both hold: the pair is no conflict.
    pub both_hold: bool,
    /// Made by the client if unset. Set it to repeat a write whose outcome is unknown.
    pub request_id: Option<RequestId>,
}

impl Resolve {
    /// `right` holds and `wrong` does not.
    pub fn new(right: Key, wrong: Key) -> Self {
        Self {
            key: right,
            other: wrong,
            both_hold: false,
            request_id: None,
        }
    }

    /// Both hold: the pair is no conflict.
    #[must_use]
    pub fn both_hold(mut self) -> Self {
        self.both_hold = true;
        self
    }

    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    pub(super) fn to_wire(self, namespace: String, id: RequestId) -> v1::ResolveConflictRequest {
        v1::ResolveConflictRequest {
            request_id: id.to_string(),
            namespace,
            key: self.key.to_string(),
            other: self.other.to_string(),
            both_hold: self.both_hold,
        }
    }
}

//! List: memories in key order, in pages.

use memorygate_core::{moment::Moment, name::Namespace};
use memorygate_proto::v1;

use crate::{
    error::Error, filter::Filter, freshness::Freshness, memory::Memory, page, position::Position,
    scope::Reader, time,
};

pub use crate::page::PAGE_SIZE_DEFAULT;

#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// The client's if unset.
    pub namespace: Option<String>,
    /// The client's if unset.
    pub reader: Option<Reader>,
    pub filter: Filter,
    /// 1 to 1000.
    pub page_size: usize,
    /// Where to go on: [`Page::next`] of the page before; empty for the start.
    pub page_token: String,
    pub freshness: Freshness,
    /// The moment whose memories are asked for; the present if unset.
    pub as_of: Option<Moment>,
}

impl Default for List {
    fn default() -> Self {
        Self {
            namespace: None,
            reader: None,
            filter: Filter::default(),
            page_size: PAGE_SIZE_DEFAULT,
            page_token: String::new(),
            freshness: Freshness::default(),
            as_of: None,
        }
    }
}

impl List {
    /// Everything that the reader may see.
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    #[must_use]
    pub fn reader(mut self, reader: Reader) -> Self {
        self.reader = Some(reader);
        self
    }

    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
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

    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// As of a moment of the last 90 days: the memories that were there, as they were. What was forgotten or
    /// has expired since is not there, and a consolidation that was undone never was.
    #[must_use]
    pub fn as_of(mut self, moment: Moment) -> Self {
        self.as_of = Some(moment);
        self
    }

    pub(crate) fn check(&self, namespace: &str, reader: &Reader) -> Result<(), Error> {
        let mut violations = page::check_size(self.page_size);
        violations.check("namespace", Namespace::parse(namespace));
        violations.nest("reader", reader.check().0);
        violations.nest("filter", self.filter.check().0);
        violations.into_result("list")
    }

    pub(crate) fn to_wire(
        &self,
        namespace: &str,
        reader: &Reader,
        at_least: Option<Position>,
    ) -> v1::ListRequest {
        v1::ListRequest {
            namespace: namespace.to_owned(),
            reader: Some(reader.to_wire()),
            filter: Some(self.filter.to_wire()),
            page_size: page::size_to_wire(self.page_size),
            page_token: self.page_token.clone(),
            at_least: at_least.map(Position::to_wire),
            linearizable: self.freshness == Freshness::Linearizable,
            as_of: self.as_of.map(|moment| match moment {
                Moment::Position(index) => v1::list_request::AsOf::AsOfPosition(index),
                Moment::Time(at) => v1::list_request::AsOf::AsOfTime(time::to_wire(at)),
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub memories: Vec<Memory>,
    /// Hand it back as [`List::page_token`]; `None` after the last page.
    pub next: Option<String>,
    pub position: Position,
}

impl Page {
    pub(crate) fn from_wire(wire: v1::ListResponse) -> Result<Self, String> {
        Ok(Self {
            memories: wire
                .memories
                .into_iter()
                .map(Memory::from_wire)
                .collect::<Result<_, _>>()?,
            next: page::next_from_wire(wire.next_page_token),
            position: Position::from_wire(wire.position)?,
        })
    }
}

//! Requests as the domain understands them. The first field that breaks a bound is named.

pub mod cluster;
pub mod consolidation;
mod experience;
mod filter;
mod mutation;
mod reader;
mod recall;

use memorygate_core::{
    key::Key,
    memory::{Link, Relation},
    moment::Moment,
    name::Namespace,
    request::RequestId,
    time::TimeMs,
};
use memorygate_proto::v1;
use prost_types::Timestamp;

pub use self::{
    experience::learn,
    mutation::{feedback, forget, link, restore, share, update},
    recall::recall,
};
use crate::{
    error::Violation, get::Wanted, history, list::Page, list::PageToken, position::Position,
    stats::Scope,
};

/// Memories in a page of a list that does not say.
const PAGE_SIZE_DEFAULT: usize = 100;

pub fn get(request: v1::GetRequest) -> Result<Wanted, Violation> {
    Ok(Wanted {
        namespace: namespace(&request.namespace)?,
        key: key("key", &request.key)?,
        reader: reader::reader(request.reader)?,
        at_least: position(request.at_least)?,
        linearizable: request.linearizable,
        as_of: match request.as_of {
            None => None,
            Some(v1::get_request::AsOf::AsOfPosition(index)) => Some(Moment::Position(index)),
            Some(v1::get_request::AsOf::AsOfTime(time)) => Some(as_of_time(time)?),
        },
    })
}

pub fn history(request: v1::HistoryRequest) -> Result<history::Wanted, Violation> {
    let before =
        match request.page_token.as_str() {
            "" => None,
            text => Some(history::parse_token(text).ok_or_else(|| {
                Violation::at("page_token", "is not a token that this server gave")
            })?),
        };
    Ok(history::Wanted {
        namespace: namespace(&request.namespace)?,
        key: key("key", &request.key)?,
        reader: reader::reader(request.reader)?,
        size: limit(
            "page_size",
            request.page_size,
            PAGE_SIZE_DEFAULT,
            memorygate_core::limits::PAGE_MAX,
        )?,
        before,
        at_least: position(request.at_least)?,
        linearizable: request.linearizable,
    })
}

pub fn list(request: v1::ListRequest) -> Result<Page, Violation> {
    let asks = PageToken::asks(&request);
    let size = limit(
        "page_size",
        request.page_size,
        PAGE_SIZE_DEFAULT,
        memorygate_core::limits::PAGE_MAX,
    )?;
    let token = match request.page_token.as_str() {
        "" => None,
        text => Some(PageToken::parse(text, asks).map_err(|e| Violation::at("page_token", e))?),
    };
    Ok(Page {
        namespace: namespace(&request.namespace)?,
        reader: reader::reader(request.reader)?,
        filter: filter::filter(request.filter)?,
        size,
        token,
        asks,
        at_least: position(request.at_least)?,
        linearizable: request.linearizable,
        as_of: match request.as_of {
            None => None,
            Some(v1::list_request::AsOf::AsOfPosition(index)) => Some(Moment::Position(index)),
            Some(v1::list_request::AsOf::AsOfTime(time)) => Some(as_of_time(time)?),
        },
    })
}

pub fn stats(request: v1::StatsRequest) -> Result<Scope, Violation> {
    let one = match request.namespace.as_str() {
        "" => None,
        name => Some(namespace(name)?),
    };
    Ok(Scope {
        namespace: one,
        at_least: position(request.at_least)?,
        linearizable: request.linearizable,
    })
}

/// `default` if empty.
fn namespace(name: &str) -> Result<Namespace, Violation> {
    if name.is_empty() {
        return Ok(Namespace::default());
    }
    Namespace::parse(name).map_err(|e| Violation::at("namespace", e))
}

fn key(field: &str, text: &str) -> Result<Key, Violation> {
    text.parse()
        .map_err(|e: memorygate_core::key::ParseError| Violation::at(field, e))
}

/// `None` if empty: the server makes one.
fn request_id(text: &str) -> Result<Option<RequestId>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) => Ok(Some(id)),
        Err(error) => Err(Violation::at("request_id", error)),
    }
}

fn position(position: Option<v1::Position>) -> Result<Option<Position>, Violation> {
    let Some(position) = position else {
        return Ok(None);
    };
    let cluster_id = position
        .cluster_id
        .parse()
        .map_err(|e: memorygate_raft::dir::ParseClusterIdError| Violation::at("cluster_id", e))
        .map_err(|v| v.within("at_least"))?;
    Ok(Some(Position {
        cluster_id,
        group: position.group,
        index: position.index,
    }))
}

fn as_of_time(timestamp: Timestamp) -> Result<Moment, Violation> {
    let time = time("as_of_time", Some(timestamp))?;
    Ok(Moment::Time(
        time.expect("a time that is there is read or refused"),
    ))
}

/// Between 1970 and 9999, cut to milliseconds.
fn time(field: &str, timestamp: Option<Timestamp>) -> Result<Option<TimeMs>, Violation> {
    let Some(Timestamp { seconds, nanos }) = timestamp else {
        return Ok(None);
    };
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(Violation::at(
            field,
            format!("nanos is {nanos}, expected 0 to 999999999"),
        ));
    }
    let ms = seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(nanos / 1_000_000));
    TimeMs::new(ms)
        .map(Some)
        .map_err(|e| Violation::at(field, e))
}

fn limit(field: &str, wanted: u32, default: usize, max: usize) -> Result<usize, Violation> {
    match wanted as usize {
        0 => Ok(default),
        wanted if wanted <= max => Ok(wanted),
        wanted => Err(Violation::at(
            field,
            format!("is {wanted}, expected at most {max}"),
        )),
    }
}

fn link_target(target: &v1::LinkTarget) -> Result<Link, Violation> {
    let relation = Relation::parse(&target.relation).ok_or_else(|| {
        let known = Relation::ALL.map(Relation::as_str).join(", ");
        let actual: String = target.relation.chars().take(80).collect();
        Violation::at(
            "relation",
            format!("is {actual:?}, expected one of {known}"),
        )
    })?;
    Ok(Link {
        relation,
        target: key("key", &target.key)?,
    })
}

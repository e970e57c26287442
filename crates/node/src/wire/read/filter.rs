//! What a filter means. A domain, agent or session that nobody has used is no error: nothing passes.

use std::collections::BTreeSet;

use memorygate_core::{
    filter::{Archive, Filter},
    memory,
    name::{self, Domain, Name},
};
use memorygate_proto::v1;

use crate::error::Violation;

/// Values of one field of a filter.
const VALUES_MAX: usize = 1024;

pub(super) fn filter(filter: Option<v1::Filter>) -> Result<Filter, Violation> {
    let Some(filter) = filter else {
        return Ok(Filter::default());
    };
    read(filter).map_err(|v| v.within("filter"))
}

fn read(filter: v1::Filter) -> Result<Filter, Violation> {
    memory::check_metadata(&filter.metadata).map_err(|e| Violation::at("metadata", e))?;
    if let Some(least) = filter.min_importance {
        memory::check_importance(least).map_err(|e| Violation::at("min_importance", e))?;
    }
    Ok(Filter {
        domains: values("domains", &filter.domains, Domain::parse)?,
        agents: values("agents", &filter.agents, Name::parse)?,
        sessions: values("sessions", &filter.sessions, Name::parse)?,
        metadata: filter.metadata,
        since: super::time("since", filter.since)?,
        until: super::time("until", filter.until)?,
        min_importance: filter.min_importance,
        archive: archive(filter.archive)?,
    })
}

fn archive(wanted: i32) -> Result<Archive, Violation> {
    match v1::Archive::try_from(wanted) {
        Ok(v1::Archive::Unspecified) => Ok(Archive::Without),
        Ok(v1::Archive::Included) => Ok(Archive::With),
        Ok(v1::Archive::Only) => Ok(Archive::Only),
        Err(_) => Err(Violation::at(
            "archive",
            format!("is {wanted}, which is none of its values"),
        )),
    }
}

fn values<T: Ord>(
    field: &str,
    values: &[String],
    parse: impl Fn(&str) -> Result<T, name::Error>,
) -> Result<BTreeSet<T>, Violation> {
    if values.len() > VALUES_MAX {
        let actual = values.len();
        return Err(Violation::at(
            field,
            format!("has {actual} values, expected at most {VALUES_MAX}"),
        ));
    }
    (0..)
        .zip(values)
        .map(|(at, value)| parse(value).map_err(|e| Violation::at(&format!("{field}[{at}]"), e)))
        .collect()
}

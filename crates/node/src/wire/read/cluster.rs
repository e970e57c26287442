//! What operators' requests mean.

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;
use prost_types::Timestamp;

use crate::{
    cluster::{
        alarms::{Kind, Which},
        change::Change,
    },
    error::Violation,
};

/// Bytes of an address: a DNS name has at most 253.
const ADDRESS_MAX: usize = 300;

pub fn change(request: v1::ChangeMemberRequest) -> Result<Change, Violation> {
    use v1::change_member_request::Change as Wire;
    match request.change {
        None => Err(Violation::at(
            "change",
            "is absent, expected add, promote, demote, remove or replace",
        )),
        Some(Wire::Add(new)) => Ok(Change::Add {
            address: address("add.peer_address", new.peer_address)?,
        }),
        Some(Wire::Promote(id)) => Ok(Change::Promote(node_id("promote", &id)?)),
        Some(Wire::Demote(id)) => Ok(Change::Demote(node_id("demote", &id)?)),
        Some(Wire::Remove(id)) => Ok(Change::Remove(node_id("remove", &id)?)),
        Some(Wire::Replace(replace)) => Ok(Change::Replace {
            old: node_id("replace.old", &replace.old)?,
            address: address("replace.peer_address", replace.peer_address)?,
        }),
    }
}

pub fn which_alarms(request: v1::ClearAlarmsRequest) -> Result<Which, Violation> {
    let kind = v1::AlarmKind::try_from(request.kind).map_err(|_| {
        let reason = format!(
            "is {}, which is no kind that this server knows",
            request.kind
        );
        Violation::at("kind", reason)
    })?;
    Ok(Which {
        node_id: some_node_id("node_id", &request.node_id)?,
        kind: Kind::of_wire(kind),
    })
}

/// `None` if empty.
pub fn some_node_id(field: &str, text: &str) -> Result<Option<u64>, Violation> {
    match text {
        "" => Ok(None),
        text => node_id(field, text).map(Some),
    }
}

/// Leading zeros may be left out, as in logs.
pub fn node_id(field: &str, text: &str) -> Result<u64, Violation> {
    let is_hex = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.ok_or_else(|| {
        let actual: String = text.chars().take(40).collect();
        let reason = format!("is {actual:?}, expected a node id of up to 16 hexadecimal digits");
        Violation::at(field, reason)
    })
}

/// What a member says of its own clock; 1970 if it is beyond what can be said.
pub fn since(time: Option<Timestamp>) -> TimeMs {
    super::time("since", time)
        .ok()
        .flatten()
        .unwrap_or(TimeMs(0))
}

fn address(field: &str, text: String) -> Result<String, Violation> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
        let has_path = host.contains(['/', '@', '?', '#']);
        is_host && !has_path && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_address && text.len() <= ADDRESS_MAX {
        return Ok(text);
    }
    let actual: String = text.chars().take(80).collect();
    let reason = format!("is {actual:?}, expected HOST:PORT of at most {ADDRESS_MAX} bytes");
    Err(Violation::at(field, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_addresses_are_checked() {
        for (text, id) in [("1", 1), ("00ff", 255), ("ffffffffffffffff", u64::MAX)] {
            assert_eq!(node_id("x", text), Ok(id));
        }
        for text in ["", "g", "-1", "+1", " 1", "10000000000000000"] {
            assert!(node_id("x", text).is_err(), "{text:?}");
        }
        for text in ["a:1", "node-0.memorygate:7413", "[::1]:9"] {
            assert!(address("x", text.to_owned()).is_ok(), "{text:?}");
        }
        let long = format!("{}:1", "a".repeat(400));
        for text in [
            "", "a", ":1", "a:", "a:0", "a:99999", "a b:1", "a/b:1", "u@a:1", &long,
        ] {
            assert!(address("x", text.to_owned()).is_err(), "{text:?}");
        }
    }
}

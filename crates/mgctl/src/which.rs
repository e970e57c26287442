//! Which member an operator means.

use memorygate_client::{
    Client,
    cluster::{Member, Members},
};

use crate::failure::{Operation, Usage};

/// Digits of a node id that are shown where so many tell the members apart, and those that a name may
/// have at least.
const DIGITS_SHOWN: usize = 8;

/// Where to look for members.
pub(crate) const LOOK: &str = "mgctl cluster members";

/// Asks for the members.
pub(crate) async fn members(client: &Client) -> anyhow::Result<Members> {
    let members = client.cluster().members().await;
    members.map_err(|error| {
        anyhow::Error::new(error).context(Operation {
            doing: "ask for the members".to_owned(),
            look: LOOK,
        })
    })
}

/// The member with this node id or the only one whose id begins so, or with this peer or client
/// address.
pub(crate) fn find<'a>(members: &'a Members, name: &str) -> anyhow::Result<&'a Member> {
    let by_address = (members.members.iter())
        .find(|m| m.peer_address == name || m.client_address == name && !name.is_empty());
    if let Some(member) = by_address {
        return Ok(member);
    }
    let prefix = name.to_lowercase();
    let found: Vec<&Member> = (members.members.iter())
        .filter(|m| m.node_id.starts_with(&prefix) && !prefix.is_empty())
        .collect();
    let known = || {
        let all = members.members.iter();
        let all: Vec<String> = all
            .map(|m| format!("{} ({})", m.node_id, m.peer_address))
            .collect();
        all.join(", ")
    };
    match found.as_slice() {
        [member] => Ok(member),
        [] => Err(Usage(format!(
            "no member {name:?}, expected a node id, its beginning, or an address of one of {}",
            known()
        ))
        .into()),
        several => Err(Usage(format!(
            "{name:?} may mean any of {} members, expected more digits of one of {}",
            several.len(),
            known()
        ))
        .into()),
    }
}

/// `ID (ADDRESS)`.
pub(crate) fn told(member: &Member) -> String {
    format!("{} ({})", member.node_id, member.peer_address)
}

/// How many digits of the ids tell them apart.
pub(crate) fn digits<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> usize {
    let differ = |digits: usize| {
        let starts: std::collections::BTreeSet<_> =
            ids.clone().map(|id| start(id, digits)).collect();
        starts.len() == ids.clone().count()
    };
    (DIGITS_SHOWN..16).find(|n| differ(*n)).unwrap_or(16)
}

/// The first digits of an id, which may be anything that a server sent.
pub(crate) fn start(id: &str, digits: usize) -> &str {
    id.get(..digits).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let member = |node_id: &str, port: u16| Member {
            node_id: node_id.to_owned(),
            peer_address: format!("node-{port}:7413"),
            client_address: format!("node-{port}:7411"),
            is_voter: true,
            is_leader: false,
            is_draining: false,
        };
        Members {
            cluster_id: 1,
            term: 1,
            members: vec![
                member("00ab0000000000aa", 1),
                member("00ab0000000000bb", 2),
                member("f1ab0000000000cc", 3),
            ],
            node_id: "00ab0000000000aa".to_owned(),
        }
    }

    #[test]
    fn a_member_is_found_by_id_prefix_or_address() {
        let members = members();
        let check = |name: &str| match find(&members, name) {
            Ok(member) => member.peer_address.clone(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check("f"), "node-3:7413");
        assert_eq!(check("F1AB"), "node-3:7413");
        assert_eq!(check("00ab0000000000bb"), "node-2:7413");
        assert_eq!(check("node-1:7411"), "node-1:7413");
        assert_eq!(check("node-1:7413"), "node-1:7413");
        assert!(check("00ab").contains("may mean any of 2 members"));
        assert!(check("7").contains("no member \"7\", expected a node id"));
        assert!(check("").contains("no member"));
    }

    #[test]
    fn ids_are_shown_as_short_as_they_can_be_told_apart() {
        let members = members();
        let ids = members.members.iter().map(|m| m.node_id.as_str());
        assert_eq!(digits(ids.clone()), 15);
        assert_eq!(digits(ids.skip(1)), 8);
        assert_eq!(start("ab", 8), "ab");
    }
}

//! Stats: what is stored, and where a node stands.

use std::collections::BTreeMap;

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;

use crate::{position::Position, time};

#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    pub position: Position,
    /// The last log index that the search index stands at.
    pub index_position: u64,
    /// 64 hexadecimal digits: a digest of the whole replicated state at `position`.
    pub state_hash: String,
    /// The time in the log; `None` before its first entry.
    pub clock: Option<TimeMs>,
    pub namespaces: Vec<NamespaceStats>,
    /// 16 hexadecimal digits.
    pub node_id: String,
    pub server_version: String,
    /// The embedding model of this node.
    pub model: String,
    /// True while writes are refused because the disk is nearly full.
    pub disk_full: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceStats {
    pub namespace: String,
    /// Those that are not archived.
    pub memories: u64,
    pub archived: u64,
    /// Those that are not archived.
    pub by_domain: BTreeMap<String, u64>,
}

impl Stats {
    pub(crate) fn from_wire(wire: v1::StatsResponse) -> Result<Self, String> {
        let namespace = |n: v1::NamespaceStats| NamespaceStats {
            namespace: n.namespace,
            memories: n.memories,
            archived: n.archived,
            by_domain: n.by_domain,
        };
        Ok(Self {
            position: Position::from_wire(wire.position)?,
            index_position: wire.index_position,
            state_hash: wire.state_hash,
            clock: wire
                .clock
                .map(time::from_wire)
                .transpose()
                .map_err(|e| format!("clock: {e}"))?,
            namespaces: wire.namespaces.into_iter().map(namespace).collect(),
            node_id: wire.node_id,
            server_version: wire.server_version,
            model: wire.model,
            disk_full: wire.disk_full,
        })
    }
}

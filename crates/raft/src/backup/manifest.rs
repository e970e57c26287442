//! What a snapshot file says of itself.

use serde::{Deserialize, Serialize};

use super::{HEAD_BYTES, MAGIC, Part, TRAILER_BYTES};
use crate::{
    dir::ClusterId,
    snapshots::{self, manifest::is_plain},
    types::LeaderId,
};

/// What a snapshot file holds. It stands before the parts, so that it can be shown without them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of the rows in the parts.
    pub data_format: u32,
    /// The cluster that it was made in. A restore begins another.
    pub cluster_id: ClusterId,
    pub group: u64,
    /// Index of the last log entry that the state holds.
    pub position: u64,
    /// Of that entry: its term, and the node that led then.
    pub term: u64,
    pub leader: u64,
    /// The time in the log there, in milliseconds since 1970.
    pub log_time_ms: i64,
    /// Of the replicated rows, 64 hexadecimal digits.
    pub state_hash: String,
    pub memories: u64,
    /// When the file was begun, by the clock of the node that made it, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// Version of the program that made it.
    pub made_by: String,
    /// In order of their names.
    pub parts: Vec<Part>,
}

impl Manifest {
    pub(super) fn new(
        of: &snapshots::manifest::Manifest,
        log_time_ms: i64,
        memories: u64,
        created_at_ms: i64,
    ) -> Self {
        let log_id = of.log_id.expect("a snapshot of nothing is not built");
        let LeaderId { term, node_id } = log_id.leader_id;
        Self {
            data_format: of.format,
            cluster_id: of.cluster_id,
            group: of.group,
            position: log_id.index,
            term,
            leader: node_id,
            log_time_ms,
            state_hash: of.digest.clone(),
            memories,
            created_at_ms,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            parts: of.parts.clone(),
        }
    }

    /// Bytes of all parts.
    pub fn part_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        (self.head().len() + TRAILER_BYTES) as u64 + self.part_bytes()
    }

    /// All that stands before the parts.
    pub(crate) fn head(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("numbers and texts are always JSON");
        let length = u32::try_from(body.len()).expect("a manifest is far below 4 GiB");
        let mut head = Vec::with_capacity(HEAD_BYTES + body.len());
        head.extend(MAGIC);
        head.extend(super::FORMAT.to_le_bytes());
        head.extend(length.to_le_bytes());
        head.extend(body);
        head
    }

    /// Reads the JSON; the reason if it is not a manifest.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        // A name is joined to a directory.
        if let Some(part) = manifest.parts.iter().find(|part| !is_plain(&part.name)) {
            return Err(format!("it names a part {:?}", part.name));
        }
        if !manifest.parts.is_sorted_by(|a, b| a.name < b.name) {
            return Err("its parts are not in the order of their names".to_owned());
        }
        let mut bytes = manifest.parts.iter().map(|part| part.bytes);
        let total = bytes.try_fold(0_u64, u64::checked_add);
        match total {
            Some(_) => Ok(manifest),
            None => Err("its parts have more bytes than can be counted".to_owned()),
        }
    }
}

//! Why this node takes no writes as the leader although it could: another member's disk is full, or
//! the node is about to be stopped.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::Handle;

/// A member has too little room on its disk, so the leader sends it nothing new.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(
    "disk of member {node_id:016x} at {address} is nearly full, it lacks {short_bytes} bytes: give \
     it room"
)]
pub struct MemberFull {
    pub node_id: u64,
    pub address: String,
    /// Until writes are taken again.
    pub short_bytes: u64,
}

#[derive(Default)]
pub(super) struct Gate {
    member_full: Mutex<Option<MemberFull>>,
    is_draining: AtomicBool,
}

impl Gate {
    pub(super) fn check(&self) -> Result<(), MemberFull> {
        let full = self.member_full.lock();
        match full.unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(full) => Err(full.clone()),
            None => Ok(()),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }
}

impl Handle {
    /// Refuses proposals while this node leads, or takes them again. What was proposed before goes
    /// on.
    pub fn refuse_writes(&self, because: Option<MemberFull>) {
        let full = self.shared.gate.member_full.lock();
        let mut full = full.unwrap_or_else(PoisonError::into_inner);
        match (full.as_ref(), &because) {
            (None, Some(reason)) => warn!(%reason, "writes are refused"),
            (Some(_), None) => info!("all members have room again, writes are taken"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        *full = because;
    }

    /// Why proposals are refused here, if that was said.
    pub fn refuses_writes(&self) -> Option<MemberFull> {
        self.shared.gate.check().err()
    }

    /// While it drains, this node sends the proposals of other members away to the next leader, even
    /// if it still leads. Its own it goes on with.
    pub fn set_draining(&self, is_draining: bool) {
        let gate = &self.shared.gate;
        gate.is_draining.store(is_draining, Ordering::SeqCst);
    }
}

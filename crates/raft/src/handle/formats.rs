//! In which format the log is written: the leader raises it when every member, learners too, has said
//! that it reads the newer one.
//!
//! Who says so is heard elsewhere, and told here with [`Handle::note_formats`] as often as it is
//! heard: what a member said once may not be what runs there now.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use memorygate_core::{
    command::{Command, SetFormat},
    format::{FIRST, Formats},
};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};
use tracing::{debug, info};

use super::{Handle, Shared, members::MemberError};

/// How long what a member said counts.
const SAID_WITHIN: Duration = Duration::from_secs(10);

/// Nodes whose word is kept, at most.
const NODES_MAX: usize = 64;

/// How often the leader looks whether all read a newer format.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What other nodes said lately.
#[derive(Default)]
pub(super) struct Said {
    by_node: Mutex<BTreeMap<u64, (Formats, Instant)>>,
}

impl Said {
    fn note(&self, node_id: u64, formats: Formats) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.retain(|_, (_, when)| when.elapsed() < SAID_WITHIN);
        if by_node.len() < NODES_MAX || by_node.contains_key(&node_id) {
            by_node.insert(node_id, (formats, Instant::now()));
        }
    }

    fn get(&self, node_id: u64) -> Option<Formats> {
        let by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let (formats, when) = by_node.get(&node_id)?;
        (when.elapsed() < SAID_WITHIN).then_some(*formats)
    }
}

impl Handle {
    /// The formats of the log that this node reads.
    pub fn formats(&self) -> Formats {
        self.shared.state.formats()
    }

    /// The format that the members have agreed to write, as of what is applied here.
    pub fn format(&self) -> u8 {
        self.shared.state.format()
    }

    /// Notes what another node says that it reads. A node that is to become a member has to be noted
    /// before, where the change is asked for.
    pub fn note_formats(&self, node_id: u64, formats: Formats) {
        self.shared.said.note(node_id, formats);
    }

    /// What is known of a node that is to become a member.
    pub(super) fn noted_formats(&self, node_id: u64) -> Option<Formats> {
        self.shared.said.get(node_id)
    }

    /// Refuses a member that could not read the log.
    pub(super) fn check_formats(
        &self,
        node_id: u64,
        formats: Option<Formats>,
    ) -> Result<(), MemberError> {
        let format = self.format();
        match formats {
            Some(formats) if formats.reads(format) => Ok(()),
            // Every program so far reads the first.
            None if format == FIRST => Ok(()),
            Some(_) | None => Err(MemberError::Format {
                node_id,
                format,
                formats,
            }),
        }
    }

    /// The newest format that all members read, if all have said so lately.
    fn common_format(&self) -> Option<u8> {
        let members = self.membership();
        let said = members.members.iter().map(|member| {
            if member.peer.node_id == self.node_id() {
                Some(self.formats())
            } else {
                self.shared.said.get(member.peer.node_id)
            }
        });
        let all: Option<Vec<Formats>> = said.collect();
        Formats::common(all?)
    }

    async fn raise_format(&self) {
        let Some(format) = self
            .common_format()
            .filter(|common| *common > self.format())
        else {
            return;
        };
        // Whoever becomes a member meanwhile would not have been asked.
        let Ok(_no_change) = self.shared.member_change.try_lock() else {
            return;
        };
        if self.common_format() != Some(format) || self.membership().is_joint {
            return;
        }
        let raise = Command::SetFormat(SetFormat { format });
        match self.propose(raise, None).await {
            Ok(_) => info!(format, "the log is written in a newer format"),
            // It is looked again soon.
            Err(error) => debug!(%error, format, "the format of the log was not raised"),
        }
    }
}

/// Raises the format of the log while this node leads.
pub(super) async fn keep_format(shared: Weak<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        }
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let handle = Handle { shared };
        if handle.is_leader() {
            handle.raise_format().await;
        }
    }
}

//! Whether a node that was started has caught up with its cluster.
//!
//! It asks the leader, as soon as there is one, what is committed, and is ready once it has applied
//! and indexed that. What is written afterwards it follows like any member, and what it lacks of that
//! is no reason to send callers elsewhere: they say by a position what they must see.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tracing::{debug, info};

use crate::backend::Backend;

/// How soon a leader that does not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct CatchUp {
    /// What the leader had committed when it was asked first.
    committed: OnceLock<u64>,
    is_done: watch::Sender<bool>,
}

impl CatchUp {
    /// What a state that stands at `applied` lacks, in words.
    pub fn state_lacks(&self, applied: u64) -> Option<String> {
        self.lacks("node has applied", applied)
    }

    /// What an index that stands at `indexed` lacks, in words.
    pub fn index_lacks(&self, indexed: u64) -> Option<String> {
        // The state has not begun to catch up: that is said of it.
        self.committed.get()?;
        self.lacks("index has", indexed)
    }

    /// Waits until nothing is lacking.
    pub async fn done(&self) {
        let mut is_done = self.is_done.subscribe();
        if is_done.wait_for(|is_done| *is_done).await.is_err() {
            // The sender lives as long as this does.
            std::future::pending().await
        }
    }

    fn lacks(&self, who: &str, position: u64) -> Option<String> {
        if *self.is_done.borrow() {
            return None;
        }
        match self.committed.get() {
            None => Some("the leader has not said yet what is committed".to_owned()),
            Some(committed) if position >= *committed => None,
            Some(committed) => Some(format!(
                "{who} the log up to {position} of {committed}, which was committed at its start"
            )),
        }
    }
}

/// Asks until there is an answer, and waits until all of it is here.
pub(crate) async fn run(backend: Arc<Backend>) {
    let committed = loop {
        match backend.raft.committed().await {
            Ok(committed) => break committed,
            // It is out of service, and health says so by itself.
            Err(_) if backend.raft.fatal().borrow().is_some() => return,
            Err(error) => debug!(%error, "leader does not say what is committed"),
        }
        sleep(ASK_AGAIN_AFTER).await;
    };
    let catch_up = &backend.catch_up;
    let is_first = catch_up.committed.set(committed).is_ok();
    assert!(is_first, "a node is started once");
    let applied = backend.raft.position();
    info!(committed, applied, "leader has said what is committed");
    if backend.raft.wait_applied(committed).await.is_err()
        || backend.index.wait_for(committed).await.is_err()
    {
        // Health says so by itself.
        return;
    }
    catch_up.is_done.send_replace(true);
    info!(committed, "node has caught up");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_said_until_all_was_there_once() {
        let catch_up = CatchUp::default();
        let check = |at: u64, state: Option<&str>, index: Option<&str>| {
            let (state, index) = (state.map(str::to_owned), index.map(str::to_owned));
            assert_eq!(catch_up.state_lacks(at), state);
            assert_eq!(catch_up.index_lacks(at), index);
        };
        check(
            100,
            Some("the leader has not said yet what is committed"),
            None,
        );
        catch_up.committed.set(7).unwrap();
        check(
            6,
            Some("node has applied the log up to 6 of 7, which was committed at its start"),
            Some("index has the log up to 6 of 7, which was committed at its start"),
        );
        check(7, None, None);
        // An index that is built anew later says so by itself.
        catch_up.is_done.send_replace(true);
        check(6, None, None);
    }
}

//! openraft's own suite for log storage and state machine.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use super::run;
use crate::{
    NoObserver, Settings,
    dir::DataDir,
    failpoint::Failpoints,
    fatal::Alarm,
    log_store::{self, LogStore},
    rocks::Memory,
    snapshots::Snapshots,
    state::{self, State},
    state_machine::StateMachine,
    types::TypeConfig,
};

struct Builder {
    settings: Settings,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temporary.path(), None).unwrap();
        let settings = &self.settings;
        let mut identity = *dir.identity();
        // The suite moves snapshots between nodes, which are of one cluster.
        identity.cluster_id = crate::ClusterId(1);
        let memory = Memory::new(settings);
        let (alarm, observer) = (Alarm::new(), Arc::new(NoObserver));
        let group = dir.group();
        let state = State::open(
            state::Parts {
                path: &group.join("state"),
                cluster_id: identity.cluster_id,
                settings,
                formats: memorygate_core::format::Formats::OWN,
                memory: memory.clone(),
                observer: observer.clone(),
                alarm: alarm.clone(),
                failpoints: Failpoints::default(),
                lock: dir.lock(),
            },
            false,
        )
        .unwrap();
        let snapshots = Snapshots::open(
            &group,
            identity.cluster_id,
            settings.snapshots_kept,
            memory.clone(),
            observer.clone(),
            Failpoints::default(),
        )
        .unwrap();
        let opened = LogStore::open(log_store::Parts {
            group: &group,
            identity: &identity,
            settings,
            memory,
            // The suite purges what was never applied.
            state: None,
            observer,
            alarm: alarm.clone(),
            failpoints: Failpoints::default(),
            lock: dir.lock(),
        })
        .unwrap();
        let (machine, _) = StateMachine::new(state, Arc::new(snapshots), alarm);
        Ok((temporary, opened.store, machine))
    }
}

#[test]
fn openraft_accepts_the_storage() {
    let builder = Builder {
        settings: Settings::default(),
    };
    run(Suite::test_all(builder)).unwrap();
}

#[test]
fn openraft_accepts_the_storage_when_no_entry_stays_in_memory() {
    let settings = Settings {
        log_cache_bytes: 1,
        group_commit_bytes_max: 1,
        ..Settings::default()
    };
    run(Suite::test_all(Builder { settings })).unwrap();
}

//! Several nodes: what is acknowledged on any is on all, whoever is cut off or stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use memorygate_core::{apply::Outcome, format::Formats};
use tokio::time::{sleep, timeout};

use super::{Bench, Told, learn, request, run, switchboard::Switchboard};
use crate::{
    BarrierError, First, Handle, OpenError, Peer, ProposeError, Replica, Role, Settings,
    failpoint::Failpoints, transport::Call,
};

/// Nodes that know each other.
pub(crate) struct Nodes {
    pub(crate) board: Arc<Switchboard>,
    benches: Vec<Bench>,
    /// By place: the step that its disk refuses.
    failing: Arc<Mutex<BTreeMap<usize, &'static str>>>,
    pub(crate) handles: Vec<Option<Handle>>,
}

/// Quick elections, since a test waits for them.
pub(crate) fn settings() -> Settings {
    Settings {
        heartbeat_ms: 100,
        election_timeout_min_ms: 600,
        election_timeout_max_ms: 1_200,
        propose_timeout_ms: 20_000,
        ..Settings::default()
    }
}

impl Nodes {
    /// A cluster that is formed by `count` nodes at once.
    pub(crate) async fn form(count: usize, settings: &Settings) -> Self {
        Self::form_of(&vec![Formats::OWN; count], settings).await
    }

    /// The same, of programs that read these formats.
    pub(crate) async fn form_of(formats: &[Formats], settings: &Settings) -> Self {
        let mut nodes = Self {
            board: Switchboard::new(),
            benches: Vec::new(),
            failing: Arc::default(),
            handles: Vec::new(),
        };
        let mut opened = Vec::new();
        let mut cluster_id = None;
        for formats in formats {
            opened.push(nodes.open_new(settings, *formats, &mut cluster_id));
        }
        let founders: Vec<Peer> = opened.iter().map(peer).collect();
        for replica in opened {
            let handle = nodes
                .start(replica, First::Together(founders.clone()))
                .await;
            nodes.handles.push(Some(handle));
        }
        nodes
    }

    fn open_new(
        &mut self,
        settings: &Settings,
        formats: Formats,
        cluster_id: &mut Option<crate::ClusterId>,
    ) -> Replica {
        let mut bench = Bench::new();
        bench.settings = settings.clone();
        bench.formats = formats;
        let (at, failing) = (self.benches.len(), self.failing.clone());
        bench.failpoints = Failpoints::new(move |step| match failing.lock().unwrap().get(&at) {
            Some(refused) if *refused == step => Err(io::Error::other("the disk refuses")),
            Some(_) | None => Ok(()),
        });
        let mut dir = crate::dir::DataDir::open(&bench.path, None).unwrap();
        let id = *cluster_id.get_or_insert(dir.identity().cluster_id);
        dir.belong(id, &[]).unwrap();
        drop(dir);
        let replica = bench.open().unwrap();
        self.benches.push(bench);
        replica
    }

    async fn start(&self, replica: Replica, first: First) -> Handle {
        let node_id = replica.identity().node_id;
        let line = self.board.line(node_id);
        let told = Arc::new(Told::default());
        let handle = replica.start(told, first, line).await.unwrap();
        self.board.connect(&handle);
        handle
    }

    /// Another node, which waits to be added; its place.
    pub(crate) async fn join(&mut self, settings: &Settings) -> usize {
        self.join_of(Formats::OWN, settings).await
    }

    pub(crate) async fn join_of(&mut self, formats: Formats, settings: &Settings) -> usize {
        let mut id = Some(self.any().identity().cluster_id);
        let replica = self.open_new(settings, formats, &mut id);
        let handle = self.start(replica, First::Join).await;
        self.handles.push(Some(handle));
        self.handles.len() - 1
    }

    pub(crate) async fn stop(&mut self, at: usize) {
        let handle = self.handles[at].take().unwrap();
        self.board.disconnect(handle.identity().node_id);
        handle.shutdown().await;
    }

    /// Its place.
    pub(crate) async fn stop_a_follower(&mut self) -> usize {
        let leader = self.leader().await.identity().node_id;
        let follows = |handle: &Option<Handle>| {
            let handle = handle.as_ref();
            handle.is_some_and(|handle| handle.identity().node_id != leader)
        };
        let at = self.handles.iter().position(follows).unwrap();
        self.stop(at).await;
        at
    }

    pub(crate) async fn restart(&mut self, at: usize) {
        let replica = self.benches[at].open().unwrap();
        let handle = self.start(replica, First::Join).await;
        self.handles[at] = Some(handle);
    }

    /// Lets the disk of one node refuse a step, or nothing.
    pub(crate) fn fail(&self, at: usize, step: Option<&'static str>) {
        let mut failing = self.failing.lock().unwrap();
        match step {
            Some(step) => failing.insert(at, step),
            None => failing.remove(&at),
        };
    }

    /// Another version of the program is started in this place from now on.
    pub(crate) fn install(&mut self, at: usize, formats: Formats) {
        self.benches[at].formats = formats;
    }

    pub(crate) fn open(&self, at: usize) -> Result<Replica, OpenError> {
        self.benches[at].open()
    }

    pub(crate) fn path(&self, at: usize) -> &Path {
        &self.benches[at].path
    }

    /// The clock of one node, in milliseconds.
    pub(crate) fn clock(&self, at: usize) -> &AtomicI64 {
        &self.benches[at].now
    }

    /// Of the first running node that is such.
    pub(crate) fn place_of(&self, is_such: impl Fn(&Handle) -> bool) -> usize {
        let such = |handle: &Option<Handle>| handle.as_ref().is_some_and(&is_such);
        self.handles.iter().position(such).unwrap()
    }

    pub(crate) fn running(&self) -> Vec<Handle> {
        self.handles.iter().flatten().cloned().collect()
    }

    pub(crate) fn any(&self) -> Handle {
        self.running()[0].clone()
    }

    /// The one that leads by its own account and that of a majority of those `among`.
    pub(crate) async fn leader_among(&self, among: &[Handle]) -> Handle {
        eventually("a leader", || {
            let led: Vec<u64> = among
                .iter()
                .filter_map(|handle| handle.metrics().leader)
                .map(|leader| leader.node_id)
                .collect();
            among
                .iter()
                .find(|handle| {
                    let node_id = handle.identity().node_id;
                    let agree = led.iter().filter(|led| **led == node_id).count();
                    handle.metrics().role == Role::Leader && 2 * agree > among.len()
                })
                .cloned()
        })
        .await
    }

    pub(crate) async fn leader(&self) -> Handle {
        self.leader_among(&self.running()).await
    }

    pub(crate) async fn followers(&self) -> Vec<Handle> {
        let leader = self.leader().await.identity().node_id;
        let mut running = self.running();
        running.retain(|handle| handle.identity().node_id != leader);
        running
    }

    /// Waits until all stand at one position, and compares what they hold there.
    pub(crate) async fn agree(&self) {
        let running = self.running();
        let leader = self.leader().await;
        let position = leader.metrics().last_log;
        for handle in &running {
            let reached = timeout(Duration::from_secs(30), handle.wait_applied(position)).await;
            reached.expect("it catches up").unwrap();
        }
        eventually("equal digests", || {
            let digests: BTreeSet<(u64, String)> = running
                .iter()
                .map(|handle| {
                    let snapshot = handle.state().snapshot();
                    (snapshot.position(), snapshot.digest().to_string())
                })
                .collect();
            (digests.len() == 1).then_some(())
        })
        .await;
        for handle in &running {
            let snapshot = handle.state().snapshot();
            assert_eq!(snapshot.digest(), snapshot.recompute_digest().unwrap());
        }
    }

    pub(crate) async fn shutdown(self) {
        for handle in self.running() {
            handle.shutdown().await;
        }
    }
}

pub(crate) fn peer(replica: &Replica) -> Peer {
    peer_of(replica.identity().node_id)
}

pub(crate) fn peer_of(node_id: u64) -> Peer {
    Peer {
        node_id,
        address: format!("node-{node_id:x}:1"),
    }
}

pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), seen)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within a minute"))
}

pub(crate) fn contents(handle: &Handle) -> BTreeSet<String> {
    let snapshot = handle.state().snapshot();
    let memories = snapshot.memories(None, 10_000).unwrap();
    memories.into_iter().map(|m| m.memory.content).collect()
}

#[test]
fn what_is_written_on_any_node_is_on_all() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        nodes.leader().await;
        for (n, handle) in nodes.running().iter().cycle().take(30).enumerate() {
            let id = request(0, u8::try_from(n).unwrap());
            let applied = handle
                .propose(learn(&format!("lesson {n}")), Some(id))
                .await;
            let applied = applied.unwrap();
            // Read your own write here, wherever it was written.
            handle.wait_applied(applied.index).await.unwrap();
            assert!(contents(handle).contains(&format!("lesson {n}")));
        }
        nodes.agree().await;
        assert_eq!(contents(&nodes.any()).len(), 30);
        nodes.shutdown().await;
    });
}

#[test]
fn a_linearizable_read_on_any_node_sees_what_was_acknowledged() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        nodes.leader().await;
        let running = nodes.running();
        for n in 0..12 {
            let writer = &running[n % 3];
            let applied = writer.propose(learn(&format!("{n}")), None).await.unwrap();
            for reader in &running {
                let position = reader.linearizable().await.unwrap();
                assert!(position >= applied.index);
                assert!(contents(reader).contains(&n.to_string()));
            }
        }
        nodes.shutdown().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_loses_its_place_and_nothing_acknowledged() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let old = nodes.leader().await;
        let mut acknowledged = BTreeSet::new();
        for n in 0..5 {
            let content = format!("before {n}");
            old.propose(learn(&content), None).await.unwrap();
            acknowledged.insert(content);
        }
        nodes.board.isolate(old.identity().node_id);
        // It is taken by the leader that has lost its followers, and never acknowledged.
        let cut = old.clone();
        let unheard = tokio::spawn(async move { cut.propose(learn("unheard"), None).await });
        let rest: Vec<Handle> = nodes
            .running()
            .into_iter()
            .filter(|handle| handle.identity().node_id != old.identity().node_id)
            .collect();
        let new = nodes.leader_among(&rest).await;
        assert_ne!(new.identity().node_id, old.identity().node_id);
        for n in 0..5 {
            let content = format!("after {n}");
            rest[n % 2].propose(learn(&content), None).await.unwrap();
            acknowledged.insert(content);
        }
        let stale = timeout(Duration::from_secs(2), old.linearizable()).await;
        assert!(
            !matches!(stale, Ok(Ok(_))),
            "a leader without a quorum serves no linearizable read: {stale:?}"
        );
        nodes.board.heal();
        let unheard = unheard.await.unwrap();
        assert!(
            matches!(&unheard, Err(error) if error.is_unknown()),
            "{unheard:?}"
        );
        nodes.agree().await;
        for handle in nodes.running() {
            assert!(contents(&handle).is_superset(&acknowledged));
        }
        nodes.shutdown().await;
    });
}

#[test]
fn a_minority_takes_no_writes_and_says_so() {
    run(async {
        let settings = Settings {
            propose_timeout_ms: 700,
            ..settings()
        };
        let nodes = Nodes::form(3, &settings).await;
        let follower = nodes.followers().await[0].clone();
        nodes.board.isolate(follower.identity().node_id);
        let refused = follower.propose(learn("alone"), None).await.unwrap_err();
        assert!(
            matches!(refused, ProposeError::NotLeader { .. }),
            "{refused:?}"
        );
        let read = follower.linearizable().await.unwrap_err();
        assert!(
            matches!(
                read,
                BarrierError::NoQuorum { .. } | BarrierError::NotLeader { .. }
            ),
            "{read:?}"
        );
        nodes.board.heal();
        nodes.agree().await;
        assert!(!contents(&nodes.any()).contains("alone"));
        nodes.shutdown().await;
    });
}

#[test]
fn a_forwarded_write_whose_answer_is_lost_is_done_once() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let follower = nodes.followers().await[0].clone();
        let id = request(0, 7);
        nodes.board.lose_answer(Call::Propose);
        let applied = follower.propose(learn("once"), Some(id)).await.unwrap();
        let Ok(Outcome::Learned(_)) = &applied.reply.result else {
            panic!("{applied:?}");
        };
        assert!(applied.reply.index < applied.index, "the first answer");
        nodes.board.lose_answer(Call::Propose);
        let unknown = follower
            .propose(learn("who knows"), None)
            .await
            .unwrap_err();
        assert!(unknown.is_unknown(), "{unknown:?}");
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

#[test]
fn a_node_that_was_away_catches_up_from_the_log() {
    run(async {
        let mut nodes = Nodes::form(3, &settings()).await;
        let away = nodes.stop_a_follower().await;
        for n in 0..20 {
            let running = nodes.running();
            running[n % 2]
                .propose(learn(&n.to_string()), None)
                .await
                .unwrap();
        }
        // Some a second for replication and heartbeats, not as many as the processor can make.
        sleep(Duration::from_millis(300)).await;
        let in_vain = nodes.board.opened_in_vain.load(Ordering::SeqCst);
        assert!(in_vain < 500, "{in_vain} attempts to reach who is away");
        nodes.restart(away).await;
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

#[test]
fn all_stop_and_start_again() {
    run(async {
        let mut nodes = Nodes::form(3, &settings()).await;
        for n in 0..10 {
            nodes
                .any()
                .propose(learn(&n.to_string()), None)
                .await
                .unwrap();
        }
        for at in 0..3 {
            nodes.stop(at).await;
        }
        for at in [2, 0, 1] {
            nodes.restart(at).await;
        }
        nodes.any().propose(learn("again"), None).await.unwrap();
        nodes.agree().await;
        assert_eq!(contents(&nodes.any()).len(), 11);
        nodes.shutdown().await;
    });
}

/// Text that no compression makes small.
fn noise(seed: u64) -> String {
    let mut state = seed + 1;
    let letter = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    };
    (0..12_000).map(letter).collect()
}

#[test]
fn a_node_that_is_far_behind_gets_a_snapshot_and_goes_on_where_it_broke_off() {
    run(async {
        let settings = Settings {
            log_entries_kept: 5,
            ..settings()
        };
        let mut nodes = Nodes::form(3, &settings).await;
        let away = nodes.stop_a_follower().await;
        let writer = nodes.leader().await;
        // The log is shortened by some hundred entries at a time.
        for n in 0..400 {
            writer.propose(learn(&noise(n)), None).await.unwrap();
        }
        let built = writer.snapshot_now().await.unwrap();
        assert!(built.bytes > 3_000_000, "{built:?}");
        eventually("a shorter log", || {
            (writer.metrics().purged > 100).then_some(())
        })
        .await;
        // Some of it gets through before the connection breaks.
        nodes
            .board
            .snapshot_bytes
            .store(1_500_000, Ordering::SeqCst);
        nodes.restart(away).await;
        eventually("a broken transfer", || {
            let passed = nodes.board.snapshot_passed.load(Ordering::SeqCst);
            (passed > 1_000_000).then_some(())
        })
        .await;
        nodes.board.snapshot_bytes.store(0, Ordering::SeqCst);
        sleep(Duration::from_millis(100)).await;
        nodes.board.snapshot_bytes.store(u64::MAX, Ordering::SeqCst);
        nodes.agree().await;
        let passed = nodes.board.snapshot_passed.load(Ordering::SeqCst);
        assert!(
            passed < built.bytes + 1_400_000,
            "{passed} bytes were sent of {}: what had arrived was sent again",
            built.bytes
        );
        nodes.shutdown().await;
    });
}

#[test]
fn a_link_that_works_one_way_only_does_not_stop_the_others() {
    run(async {
        let nodes = Nodes::form(3, &settings()).await;
        let leader = nodes.leader().await;
        let follower = nodes.followers().await[0].clone();
        nodes
            .board
            .cut_one_way(leader.identity().node_id, follower.identity().node_id);
        for n in 0..10 {
            leader.propose(learn(&n.to_string()), None).await.unwrap();
        }
        nodes.board.heal();
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

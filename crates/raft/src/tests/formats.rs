//! Programs of two versions in one cluster: the log is written in what all of them read.

use std::time::Duration;

use memorygate_core::{
    format::{FIRST, Formats, NEXT},
    state::{Read as _, RowKey},
};
use tokio::time::sleep;

use super::{
    cluster::{Nodes, contents, eventually, peer_of, settings},
    learn, run,
    writers::Writers,
};
use crate::{Handle, MemberChange, MemberError, OpenError};

const OLD: Formats = Formats {
    oldest: FIRST,
    newest: FIRST,
};

const NEW: Formats = Formats {
    oldest: FIRST,
    newest: NEXT,
};

/// All running nodes tell each other what they read.
fn announce(nodes: &Nodes) {
    for hears in nodes.running() {
        for says in nodes.running() {
            hears.note_formats(says.identity().node_id, says.formats());
        }
    }
}

/// For as long as the leader needs to look several times.
async fn announce_for_a_while(nodes: &Nodes) {
    for _ in 0..8 {
        announce(nodes);
        sleep(Duration::from_millis(250)).await;
    }
}

async fn agreed_on(nodes: &Nodes, format: u8) {
    eventually("the format", || {
        announce(nodes);
        let all = nodes.running();
        all.iter().all(|node| node.format() == format).then_some(())
    })
    .await;
}

fn format_of_all(nodes: &Nodes) -> Vec<u8> {
    nodes.running().iter().map(Handle::format).collect()
}

#[test]
fn nodes_are_upgraded_one_by_one_and_then_write_the_newer_format() {
    run(async {
        let mut nodes = Nodes::form_of(&[OLD; 3], &settings()).await;
        nodes.leader().await;
        let mut lessons = 0;
        for at in 0..3 {
            nodes.stop(at).await;
            nodes.install(at, NEW);
            nodes.restart(at).await;
            assert_eq!(format_of_all(&nodes), [FIRST; 3]);
            let writers = Writers::begin(&nodes.running());
            writers.progress(10).await;
            if at < 2 {
                // One that reads the first only is enough to keep it.
                announce_for_a_while(&nodes).await;
                assert_eq!(format_of_all(&nodes), [FIRST; 3]);
            } else {
                agreed_on(&nodes, NEXT).await;
            }
            writers.progress(10).await;
            // Each time the same lessons, so they are counted and not compared.
            writers.end().await;
            lessons = contents(&nodes.any()).len().max(lessons);
        }
        nodes.agree().await;
        assert!(contents(&nodes.any()).len() >= lessons);
        // Old entries and new ones are read again.
        for at in 0..3 {
            nodes.stop(at).await;
        }
        for at in 0..3 {
            nodes.restart(at).await;
        }
        nodes
            .any()
            .propose(learn("in the newer"), None)
            .await
            .unwrap();
        nodes.agree().await;
        assert_eq!(format_of_all(&nodes), [NEXT; 3]);
        nodes.shutdown().await;
    });
}

#[test]
fn a_program_that_does_not_read_the_format_neither_starts_nor_becomes_a_member() {
    run(async {
        let mut nodes = Nodes::form_of(&[NEW; 3], &settings()).await;
        nodes.leader().await;
        agreed_on(&nodes, NEXT).await;
        nodes.agree().await;
        // Back to the version before.
        let at = nodes.stop_a_follower().await;
        nodes.install(at, OLD);
        let refused = nodes.open(at).err().unwrap();
        assert!(matches!(refused, OpenError::LogFormat { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("writes its log in format 2, this program reads 1 to 1: start a version"),
            "{text}"
        );
        nodes.install(at, NEW);
        nodes.restart(at).await;
        nodes.agree().await;
        // A new node of the version before, asked for on any node.
        let settings = settings();
        let old = nodes.join_of(OLD, &settings).await;
        let old_id = nodes.handles[old].as_ref().unwrap().identity().node_id;
        nodes.leader_among(&nodes.running()[..3]).await;
        for asked in &nodes.running()[..3] {
            let add = MemberChange::Add(peer_of(old_id));
            let unsaid = asked.change_members(add.clone()).await.unwrap_err();
            assert!(unsaid.to_string().contains("has not said"), "{unsaid}");
        }
        for asked in &nodes.running()[..3] {
            asked.note_formats(old_id, OLD);
            let add = MemberChange::Add(peer_of(old_id));
            let refused = asked.change_members(add).await.unwrap_err();
            assert!(matches!(refused, MemberError::Format { .. }), "{refused}");
            assert!(refused.to_string().contains("reads 1 to 1"), "{refused}");
            assert_eq!(asked.membership().get(old_id), None);
        }
        nodes.stop(old).await;
        let new = nodes.join_of(NEW, &settings).await;
        let new_id = nodes.handles[new].as_ref().unwrap().identity().node_id;
        let asked = nodes.any();
        asked.note_formats(new_id, NEW);
        let add = MemberChange::Add(peer_of(new_id));
        asked.change_members(add).await.unwrap();
        nodes.agree().await;
        nodes.shutdown().await;
    });
}

/// A state that has only ever been in the first format has no row about it: its hash is what it was
/// before there were others.
#[test]
fn the_first_format_is_not_written_down() {
    run(async {
        let nodes = Nodes::form_of(&[OLD; 3], &settings()).await;
        nodes.leader().await;
        announce_for_a_while(&nodes).await;
        nodes.agree().await;
        for node in nodes.running() {
            let state = node.state().snapshot();
            assert_eq!(state.get(&RowKey::Format).unwrap(), None);
        }
        nodes.shutdown().await;
    });
}

#[test]
fn a_member_that_is_away_is_waited_for() {
    run(async {
        let mut nodes = Nodes::form_of(&[NEW, NEW, NEW], &settings()).await;
        nodes.leader().await;
        let away = nodes.stop_a_follower().await;
        announce_for_a_while(&nodes).await;
        assert_eq!(format_of_all(&nodes), [FIRST; 2]);
        nodes.restart(away).await;
        agreed_on(&nodes, NEXT).await;
        nodes.shutdown().await;
    });
}

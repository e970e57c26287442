//! Versions that read different formats of the log, in one cluster.

use std::net::TcpListener;

use memorygate_core::format::{FIRST, Formats, NEXT};
use memorygate_proto::v1::{StatusRequest, StatusResponse};

use crate::{
    cluster::{Cluster, addresses, eventually, learn, start},
    cluster_service::{add, change},
    server::{a_moment, failure},
};

const OLD: Formats = Formats {
    oldest: FIRST,
    newest: FIRST,
};

const NEW: Formats = Formats {
    oldest: FIRST,
    newest: NEXT,
};

async fn status(cluster: &Cluster, at: usize) -> StatusResponse {
    let mut operator = cluster.operator(at).await;
    let status = operator.status(StatusRequest {}).await;
    status.unwrap().into_inner()
}

/// What each member reads at most, as one node shows it.
fn newest(status: &StatusResponse) -> Vec<u32> {
    let members = status.members.iter();
    let mut newest: Vec<u32> = members.map(|member| member.log_format_max).collect();
    newest.sort_unstable();
    newest
}

async fn agreed_on(cluster: &Cluster, format: u8) {
    eventually("the format", || {
        let formats = cluster.running().map(|node| node.backend().raft.format());
        formats.into_iter().all(|f| f == format).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_upgraded_one_by_one_under_writes() {
    let mut cluster = Cluster::formed_of(&[OLD; 3]).await;
    for at in 0..3 {
        cluster.stop(at).await;
        cluster.formats[at] = NEW;
        cluster.restart(at).await;
        cluster.leader().await;
        for writer in 0..3 {
            let mut client = cluster.client(writer).await;
            learn(&mut client, &format!("{writer} while {at} is new")).await;
        }
        if at < 2 {
            // Whoever says what it reads is shown, and the old one keeps the format.
            let expected = [[1, 1, 2], [1, 2, 2]][at];
            let seen = loop {
                let seen = status(&cluster, at).await;
                if newest(&seen) == expected {
                    break seen;
                }
                a_moment().await;
            };
            assert_eq!(seen.log_format, u32::from(FIRST));
        }
    }
    agreed_on(&cluster, NEXT).await;
    for at in 0..3 {
        let seen = status(&cluster, at).await;
        assert_eq!(seen.log_format, u32::from(NEXT));
        let mut client = cluster.client(at).await;
        learn(&mut client, &format!("{at} in the next format")).await;
    }
    cluster.agree().await;
    // There is no way back.
    cluster.stop(0).await;
    cluster.formats[0] = OLD;
    let Err(refused) = cluster.start(0).node().await else {
        panic!("it does not read the log");
    };
    let text = format!("{refused:#}");
    assert!(
        text.contains("writes its log in format 2, this program reads 1 to 1: start a version"),
        "{text}"
    );
    let address = &cluster.peers[0];
    eventually("a free address", || TcpListener::bind(address).ok()).await;
    cluster.formats[0] = NEW;
    cluster.restart(0).await;
    cluster.agree().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_read_the_log_becomes_no_member() {
    let cluster = Cluster::formed_of(&[NEW; 3]).await;
    agreed_on(&cluster, NEXT).await;
    for (formats, expected) in [(OLD, Err("FailedPrecondition LOG_FORMAT")), (NEW, Ok(()))] {
        let dir = tempfile::tempdir().unwrap();
        let own = addresses(1).remove(0);
        let mut joiner = start(dir.path(), &own, &cluster.peers);
        joiner.formats = formats;
        let joiner = joiner.node().await.unwrap();
        let id = joiner.backend().raft.identity().node_id;
        // It asks to be added by itself too.
        for asked in 0..3 {
            let mut operator = cluster.operator(asked).await;
            let added = change(&mut operator, add(&own)).await;
            let added = added.map(drop).map_err(|status| failure(&status).0);
            assert_eq!(added, expected.map_err(str::to_owned));
            let members = cluster.nodes[asked].as_ref().unwrap();
            let members = members.backend().raft.membership();
            if expected.is_err() {
                assert!(members.get(id).is_none());
            }
        }
        joiner.shutdown().await;
    }
    cluster.shutdown().await;
}

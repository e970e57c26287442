//! How nodes find each other, so that exactly one cluster forms.
//!
//! ```text
//! a peer belongs to a cluster ──▶ it names me as a founder: I am one     (whoever knows it tells)
//!                             └─▶ it does not: I join, as a learner or in a lost member's place
//! I was restored from a snapshot ──▶ I begin a cluster of my own with it; whoever is empty joins me
//! nobody does, all answer, all
//! were told the same peers    ──▶ the one with the first address writes down the founders
//! otherwise                   ──▶ ask again
//! ```
//!
//! Only the node with the first address ever decides, and what it decides is on its disk before
//! anybody hears of it. All others learn it from whoever knows it already, and write it down before
//! they act on it. So however often anybody is restarted, there is one list of founders. A node that
//! once belonged to a cluster never asks: it goes on there.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use memorygate_proto::peer::HelloResponse;
use memorygate_raft::{ClusterId, First, Peer, dir::DataDir};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{cluster_id, desk::Desk, links::Links, peer};

/// How often the others are asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How often it is said what is waited for.
const SAY_EVERY: u32 = 25;

/// What a node is told of its cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where others reach this node.
    pub own: String,
    /// All that form the cluster, sorted, mostly this one among them; none for a cluster of one.
    pub peers: Vec<String>,
}

/// What one look at the others says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Founder(ClusterId, Vec<Peer>),
    Joiner(ClusterId),
    /// Why it is not decided yet.
    Undecided(String),
}

/// Asks the others until it is clear how this node begins, and writes that down.
pub async fn agree(
    dir: &mut DataDir,
    plan: &Plan,
    links: &Links,
    desk: &Desk,
) -> anyhow::Result<First> {
    let own = dir.identity().node_id;
    if dir.identity().formed || !dir.founders().is_empty() {
        desk.belongs(dir.identity().cluster_id, dir.founders());
        return Ok(first(dir));
    }
    if dir.is_restored() {
        let cluster_id = dir.identity().cluster_id;
        // Before the others are asked, so that of two at least one hears of the other.
        desk.belongs(cluster_id, &[]);
        refuse_second(cluster_id, plan, links).await?;
        info!(cluster = %cluster_id, "beginning a cluster with what was restored");
        return Ok(First::Alone {
            address: plan.own.clone(),
        });
    }
    if plan.peers.iter().all(|peer| *peer == plan.own) {
        desk.belongs(dir.identity().cluster_id, &[]);
        return Ok(First::Alone {
            address: plan.own.clone(),
        });
    }
    let mut round = 0;
    loop {
        let mut heard = Vec::new();
        for address in plan.peers.iter().filter(|peer| **peer != plan.own) {
            let answer = links.hello(address).await;
            heard.push((address.clone(), answer.map_err(|error| error.to_string())));
        }
        let fresh = dir.identity().cluster_id;
        match look(own, fresh, plan, &heard) {
            Found::Founder(cluster_id, founders) => {
                dir.belong(cluster_id, &founders)
                    .context("note the cluster's founders")?;
                desk.belongs(cluster_id, &founders);
                info!(cluster = %cluster_id, founders = founders.len(), "cluster is formed");
                return Ok(first(dir));
            }
            Found::Joiner(cluster_id) => {
                dir.belong(cluster_id, &[]).context("note the cluster")?;
                desk.belongs(cluster_id, &[]);
                info!(cluster = %cluster_id, "joining a cluster");
                return Ok(First::Join);
            }
            Found::Undecided(reason) if round % SAY_EVERY == 0 => {
                info!(reason, "waiting for the cluster to form");
            }
            Found::Undecided(_) => {}
        }
        round += 1;
        sleep(ASK_EVERY).await;
    }
}

/// A snapshot is restored on one node. Peers that are of another cluster would never be this one's.
async fn refuse_second(cluster_id: ClusterId, plan: &Plan, links: &Links) -> anyhow::Result<()> {
    for address in plan.peers.iter().filter(|peer| **peer != plan.own) {
        // One that is not there yet joins later.
        let Ok(answer) = links.hello(address).await else {
            continue;
        };
        if let Some(other) = super::cluster_id(&answer.cluster_id)
            && other != cluster_id
        {
            bail!(
                "{address} belongs to cluster {other}, this node was restored as cluster \
                 {cluster_id}: restore on one node only and start the others with empty data \
                 directories"
            );
        }
    }
    Ok(())
}

fn first(dir: &DataDir) -> First {
    match dir.founders() {
        [] => First::Join,
        founders => First::Together(founders.to_vec()),
    }
}

fn look(
    own: u64,
    fresh: ClusterId,
    plan: &Plan,
    heard: &[(String, Result<HelloResponse, String>)],
) -> Found {
    let answers = || heard.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let belonging: Vec<(ClusterId, &HelloResponse)> = answers()
        .filter_map(|answer| Some((cluster_id(&answer.cluster_id)?, answer)))
        .collect();
    let clusters: BTreeSet<ClusterId> = belonging.iter().map(|(id, _)| *id).collect();
    if clusters.len() > 1 {
        let ids: Vec<String> = clusters.iter().map(ToString::to_string).collect();
        return Found::Undecided(format!(
            "the peers belong to {} clusters, {}: empty the data directories of those that should \
             not",
            ids.len(),
            ids.join(" and ")
        ));
    }
    if let Some((cluster_id, _)) = belonging.first() {
        let named = belonging.iter().find_map(|(_, answer)| {
            let founders: Vec<Peer> = answer.founders.iter().cloned().map(peer).collect();
            founders
                .iter()
                .any(|founder| founder.node_id == own)
                .then_some(founders)
        });
        return match named {
            Some(founders) => Found::Founder(*cluster_id, founders),
            // Whoever knows the founders may not be there yet.
            None if belonging
                .iter()
                .all(|(_, answer)| answer.founders.is_empty() && answer.members.is_empty()) =>
            {
                Found::Undecided(
                    "a peer belongs to a cluster and does not know its members yet".to_owned(),
                )
            }
            None => Found::Joiner(*cluster_id),
        };
    }
    if let Some((address, Err(reason))) = heard.iter().find(|(_, answer)| answer.is_err()) {
        return Found::Undecided(format!("{address} does not answer: {reason}"));
    }
    if !plan.peers.contains(&plan.own) {
        return Found::Undecided(format!(
            "no peer belongs to a cluster, and {} is not one of those that form it",
            plan.own
        ));
    }
    let differs = heard.iter().find(|(_, answer)| {
        answer
            .as_ref()
            .is_ok_and(|answer| answer.peers != plan.peers)
    });
    if let Some((address, Ok(answer))) = differs {
        return Found::Undecided(format!(
            "{address} was told the peers {:?}, this node {:?}",
            answer.peers, plan.peers
        ));
    }
    if plan.peers.first() != Some(&plan.own) {
        return Found::Undecided(format!("{} forms the cluster", plan.peers[0]));
    }
    let mut founders = vec![Peer {
        node_id: own,
        address: plan.own.clone(),
    }];
    founders.extend(heard.iter().filter_map(|(address, answer)| {
        Some(Peer {
            node_id: answer.as_ref().ok()?.node_id,
            address: address.clone(),
        })
    }));
    let ids: BTreeSet<u64> = founders.iter().map(|founder| founder.node_id).collect();
    if ids.len() < founders.len() {
        return Found::Undecided("two of the peers' addresses lead to one node".to_owned());
    }
    Found::Founder(fresh, founders)
}

/// Has this node added, for as long as it is no member. Ends when it is.
pub async fn join(plan: Plan, node_id: u64, links: std::sync::Arc<Links>) {
    let this = Peer {
        node_id,
        address: plan.own.clone(),
    };
    let mut round = 0;
    loop {
        for address in plan.peers.iter().filter(|peer| **peer != plan.own) {
            match links.join(address, &this).await {
                Ok(answer) if answer.is_member => return,
                Ok(answer) if round % SAY_EVERY == 0 => {
                    warn!(
                        address,
                        reason = answer.reason,
                        "not added to the cluster yet"
                    );
                }
                Err(error) if round % SAY_EVERY == 0 => {
                    warn!(%error, "not added to the cluster yet");
                }
                Ok(_) | Err(_) => {}
            }
        }
        round += 1;
        sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(own: &str) -> Plan {
        Plan {
            own: own.to_owned(),
            peers: ["a:1", "b:1", "c:1"].map(str::to_owned).into(),
        }
    }

    fn unformed(node_id: u64) -> HelloResponse {
        HelloResponse {
            node_id,
            peers: plan("a:1").peers,
            ..HelloResponse::default()
        }
    }

    fn of_cluster(founders: &[u64]) -> HelloResponse {
        let founder = |node_id: &u64| memorygate_proto::peer::Member {
            node_id: *node_id,
            address: format!("{node_id}:1"),
        };
        HelloResponse {
            node_id: 77,
            cluster_id: 9_u128.to_be_bytes().to_vec().into(),
            founders: founders.iter().map(founder).collect(),
            ..HelloResponse::default()
        }
    }

    /// What a node with this address makes of what the two others say; none says nothing.
    fn look_from(own: &str, heard: [Option<HelloResponse>; 2]) -> Found {
        let plan = plan(own);
        let others = plan.peers.iter().filter(|peer| **peer != plan.own);
        let answer = |answer: Option<HelloResponse>| answer.ok_or_else(|| "refused".to_owned());
        let heard: Vec<_> = others.cloned().zip(heard.map(answer)).collect();
        look(1, ClusterId(5), &plan, &heard)
    }

    fn reason(found: Found) -> String {
        match &found {
            Found::Undecided(reason) => reason.clone(),
            Found::Founder(..) | Found::Joiner(_) => panic!("it is decided: {found:?}"),
        }
    }

    #[test]
    fn the_first_address_decides_when_all_agree() {
        let Found::Founder(cluster_id, founders) =
            look_from("a:1", [Some(unformed(2)), Some(unformed(3))])
        else {
            panic!("it is not undecided");
        };
        assert_eq!(cluster_id, ClusterId(5));
        let expected = [(1, "a:1"), (2, "b:1"), (3, "c:1")];
        let founders: Vec<_> = founders
            .iter()
            .map(|f| (f.node_id, f.address.as_str()))
            .collect();
        assert_eq!(founders, expected);
        let waiting = reason(look_from("b:1", [Some(unformed(2)), Some(unformed(3))]));
        assert_eq!(waiting, "a:1 forms the cluster");
    }

    #[test]
    fn nobody_decides_before_all_answer_and_agree() {
        let silent = reason(look_from("a:1", [Some(unformed(2)), None]));
        assert_eq!(silent, "c:1 does not answer: refused");
        let mut other = unformed(3);
        other.peers.pop();
        let differs = reason(look_from("a:1", [Some(unformed(2)), Some(other)]));
        assert!(differs.starts_with("c:1 was told the peers"), "{differs}");
        let twice = reason(look_from("a:1", [Some(unformed(2)), Some(unformed(2))]));
        assert!(twice.contains("lead to one node"), "{twice}");
        let stranger = reason(look(
            1,
            ClusterId(5),
            &Plan {
                own: "d:1".to_owned(),
                ..plan("a:1")
            },
            &[("a:1".to_owned(), Ok(unformed(2)))],
        ));
        assert!(stranger.contains("is not one of those"), "{stranger}");
    }

    #[test]
    fn what_was_decided_is_learned_from_whoever_knows_it() {
        for own in ["a:1", "b:1"] {
            let found = look_from(own, [Some(of_cluster(&[1, 2, 3])), None]);
            let Found::Founder(ClusterId(9), founders) = found else {
                panic!("{found:?}");
            };
            assert_eq!(founders.len(), 3);
        }
        // The first address too: it lost its disk after it had decided.
        let joiner = look_from("a:1", [Some(of_cluster(&[7, 2, 3])), Some(unformed(3))]);
        assert_eq!(joiner, Found::Joiner(ClusterId(9)));
        let unknowing = reason(look_from("b:1", [Some(of_cluster(&[])), None]));
        assert!(
            unknowing.contains("does not know its members"),
            "{unknowing}"
        );
        let mut second = of_cluster(&[7, 2, 3]);
        second.cluster_id = 8_u128.to_be_bytes().to_vec().into();
        let two = reason(look_from(
            "a:1",
            [Some(of_cluster(&[7, 2, 3])), Some(second)],
        ));
        assert!(two.contains("2 clusters"), "{two}");
    }
}

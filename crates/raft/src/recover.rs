//! Makes a cluster of one out of what one member holds, when a majority of its cluster is gone for
//! good. Nothing of the log is thrown away: what a majority had acknowledged may be in it without
//! this node having heard of that.
//!
//! ```text
//! intent (ids drawn) ─▶ log: new owner, new term, "the members are: me" ─▶ state: new owner
//!                         ─▶ old snapshots removed ─▶ identity ─▶ intent removed
//! ```
//!
//! The new cluster has an id of its own: members of the old one that turn up again, with a history
//! that this one does not share, are refused. Each step is one synced write or one rename, and
//! is done once: an attempt that broke off is gone on with by the next, and until then the node
//! refuses to start.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use openraft::EntryPayload;
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use crate::{
    dir::{self, ClusterId, DataDir, Identity, OpenError},
    durable,
    failpoint::Failpoints,
    fatal::Alarm,
    handle::members::Member,
    kv::{self, Family, owner::Owner, tag},
    log_store::{
        self, reader,
        seal::{self, Seal},
    },
    rocks::{Kind, Memory, Mode, Scan, Store},
    settings::Settings,
    state::{generation, local},
    transport::Peer,
    types::{Entry, LeaderId, LogId, Node, StoredMembership, Vote},
};

/// What a recovery would find, and keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub identity: Identity,
    /// All members by this node's log, this one among them.
    pub members: Vec<Member>,
    /// Index of the last entry in its log. All of it is kept.
    pub last_log: u64,
    /// The last that it knows to be committed; the cluster may have been further.
    pub committed: u64,
    /// The last that is in its state.
    pub applied: u64,
    /// Whether an earlier attempt broke off.
    pub is_begun: bool,
}

impl Plan {
    /// Whether this node decides alone already, so that there is nothing to recover from.
    pub fn is_alone(&self) -> bool {
        let mut voters = self.members.iter().filter(|member| member.is_voter);
        let first = voters.next().map(|member| member.peer.node_id);
        !self.is_begun && first == Some(self.identity.node_id) && voters.next().is_none()
    }
}

/// Why a directory is not made a cluster of its own.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{} has never been a member of a cluster: start it", path.display())]
    NeverFormed { path: PathBuf },
    #[error(
        "node {node_id:x} is the only voter of cluster {cluster_id}: start it, there is nothing to \
         recover from"
    )]
    Alone { node_id: u64, cluster_id: ClusterId },
    #[error(
        "node {node_id:x} is no member by its own log: recover from one that is, they are \
         {members:x?}"
    )]
    NoMember { node_id: u64, members: Vec<u64> },
}

/// Drawn once, before anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    cluster_id: ClusterId,
    incarnation: u64,
}

/// Looks, and changes nothing.
pub fn plan(path: &Path) -> Result<Plan, RecoverError> {
    let data = DataDir::open_existing(path)?;
    look(&data, &read_intent(path)?)
}

/// Makes the node in this directory the only member of a new cluster. Returns who it is now.
pub fn force_new_cluster(path: &Path) -> Result<Identity, RecoverError> {
    force_with(path, &Failpoints::default())
}

pub(crate) fn force_with(path: &Path, failpoints: &Failpoints) -> Result<Identity, RecoverError> {
    let mut data = DataDir::open_existing(path)?;
    let begun = read_intent(path)?;
    let old = *data.identity();
    let plan = look(&data, &begun)?;
    if plan.is_alone() {
        return Err(RecoverError::Alone {
            node_id: old.node_id,
            cluster_id: old.cluster_id,
        });
    }
    let own = plan.members.iter().find(|m| m.peer.node_id == old.node_id);
    let Some(own) = own.map(|member| member.peer.clone()) else {
        return Err(RecoverError::NoMember {
            node_id: old.node_id,
            members: plan.members.iter().map(|m| m.peer.node_id).collect(),
        });
    };
    let hit = |step| {
        let failed = |error| OpenError::io("recover", path, error);
        failpoints.hit(step).map_err(failed)
    };
    let intent = match begun {
        Some(intent) => intent,
        None => {
            let intent = Intent {
                cluster_id: ClusterId::random(),
                incarnation: rand::random(),
            };
            write_intent(path, &intent)?;
            intent
        }
    };
    hit("recover: intent")?;
    let new = Identity {
        cluster_id: intent.cluster_id,
        incarnation: intent.incarnation,
        ..old
    };
    recover_log(&data, &old, &new, &own)?;
    hit("recover: log")?;
    recover_state(&data, &old, &new)?;
    hit("recover: state")?;
    // They are of the old cluster, by their manifests and by what is in them.
    let snapshots = data.group().join("snapshots");
    durable::remove_dir(&snapshots).map_err(|error| OpenError::io("remove", &snapshots, error))?;
    hit("recover: snapshots")?;
    data.become_another(&new, &[own])?;
    hit("recover: identity")?;
    let intent = intent_path(path);
    fs::remove_file(&intent)
        .and_then(|()| durable::sync_dir(path))
        .map_err(|error| OpenError::io("remove", &intent, error))?;
    Ok(new)
}

fn look(data: &DataDir, begun: &Option<Intent>) -> Result<Plan, RecoverError> {
    let identity = *data.identity();
    if !identity.formed {
        return Err(RecoverError::NeverFormed {
            path: data.path().to_owned(),
        });
    }
    let state = open(data, Kind::State, Mode::ReadOnly)?;
    let log = open(data, Kind::Log, Mode::ReadOnly)?;
    let applied = local(&state, &kv::applied::KEY, kv::applied::decode)?.unwrap_or_default();
    let ends = log_store::load_sealed(&log, &sealed(data)?)?;
    let members = last_membership(&log, &state)?;
    let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
    Ok(Plan {
        identity,
        members: list(&members),
        last_log: index(ends.last.max(applied.log_id)),
        committed: index(ends.committed.max(applied.log_id)),
        applied: applied.position(),
        is_begun: begun.is_some(),
    })
}

/// In one synced batch: whose the log is, a term of its own, and the entry by which this node is the
/// only member.
fn recover_log(
    data: &DataDir,
    old: &Identity,
    new: &Identity,
    own: &Peer,
) -> Result<(), OpenError> {
    let store = open(data, Kind::Log, Mode::Existing)?;
    let owner = local(&store, &kv::owner::KEY, kv::owner::decode)?;
    if owner == Some(log_store::owner(new)) {
        return Ok(());
    }
    log_store::is_owned(&store, old)?;
    let state = open(data, Kind::State, Mode::ReadOnly)?;
    let applied = local(&state, &kv::applied::KEY, kv::applied::decode)?.unwrap_or_default();
    let ends = log_store::load_sealed(&store, &sealed(data)?)?;
    if ends.last < applied.log_id {
        return Err(OpenError::corrupt(
            store.path(),
            format!(
                "log ends at {:?} and the state at {:?}: start the node once, so that it mends this",
                ends.last, applied.log_id
            ),
        ));
    }
    let last_term = ends.last.map_or(0, |last| last.leader_id.term);
    let voted = ends.vote.map_or(0, |vote| vote.leader_id.term);
    let leader_id = LeaderId {
        term: last_term.max(voted) + 1,
        node_id: new.node_id,
    };
    let log_id = LogId {
        leader_id,
        index: ends.last.map_or(0, |last| last.index + 1),
    };
    let node = Node {
        address: own.address.clone(),
    };
    let nodes = BTreeMap::from([(new.node_id, node)]);
    let members = openraft::Membership::new(vec![[new.node_id].into()], nodes)
        .expect("the only voter is a node");
    let entry = Entry {
        log_id,
        payload: EntryPayload::Membership(members),
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(
        store.family(Family::Entries),
        kv::entry::encode_key(log_id.index),
        kv::entry::encode(&entry),
    );
    let local = store.family(Family::Local);
    let vote = Vote::new(leader_id.term, leader_id.node_id);
    batch.put_cf(local, kv::vote::KEY, kv::vote::encode(&vote));
    batch.put_cf(
        local,
        kv::owner::KEY,
        kv::owner::encode(&log_store::owner(new)),
    );
    write(&store, batch)
}

/// Whose the state is.
fn recover_state(data: &DataDir, old: &Identity, new: &Identity) -> Result<(), OpenError> {
    let store = open(data, Kind::State, Mode::Existing)?;
    let owner = local(&store, &kv::owner::KEY, kv::owner::decode)?;
    let Some(owner) = owner else {
        return Err(OpenError::corrupt(
            store.path(),
            "it does not say whose it is",
        ));
    };
    if owner.cluster_id == new.cluster_id {
        return Ok(());
    }
    crate::state::check_owner(&store, old.cluster_id)?;
    let owner = Owner {
        cluster_id: new.cluster_id,
        ..owner
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(
        store.family(Family::Local),
        kv::owner::KEY,
        kv::owner::encode(&owner),
    );
    write(&store, batch)
}

fn write(store: &Store, batch: WriteBatch) -> Result<(), OpenError> {
    let failed = |error| OpenError::io("write", store.path(), io::Error::other(error));
    store.write(batch, true).map_err(failed)
}

fn open(data: &DataDir, kind: Kind, mode: Mode) -> Result<Store, OpenError> {
    let path = match kind {
        Kind::Log => data.group().join("log"),
        Kind::State => generation::current_dir(&data.group().join("state"))?,
    };
    let memory = Memory::new(&Settings::default());
    Store::open(kind, mode, &path, &memory, Alarm::new())
}

fn sealed(data: &DataDir) -> Result<seal::Sealed, OpenError> {
    let path = data.group().join(seal::FILE);
    let seal = Seal::open(&path).map_err(|error| OpenError::io("open", &path, error))?;
    Ok(seal.read())
}

/// The last in the log, or else in the state.
fn last_membership(log: &Store, state: &Store) -> Result<StoredMembership, OpenError> {
    let stored = local(state, &kv::membership::KEY, kv::membership::decode)?;
    let mut last = stored.unwrap_or_default();
    let mut damage = None;
    let (from, until) = ([tag::ENTRY], [tag::ENTRY + 1]);
    let visited = log.visit(
        Family::Entries,
        &from,
        &until,
        Scan::everything(None),
        |key, value| match reader::decode(key, value) {
            Ok(entry) => {
                if let EntryPayload::Membership(members) = entry.payload
                    && Some(entry.log_id) > *last.log_id()
                {
                    last = StoredMembership::new(Some(entry.log_id), members);
                }
                ControlFlow::Continue(())
            }
            Err(reason) => {
                damage = Some(reason);
                ControlFlow::Break(())
            }
        },
    );
    visited.map_err(|error| OpenError::corrupt(log.path(), error))?;
    match damage {
        None => Ok(last),
        Some(reason) => Err(OpenError::corrupt(log.path(), reason)),
    }
}

fn list(members: &StoredMembership) -> Vec<Member> {
    let nodes = members.membership().nodes();
    let member = |(node_id, node): (&u64, &Node)| Member {
        peer: Peer {
            node_id: *node_id,
            address: node.address.clone(),
        },
        is_voter: members
            .membership()
            .voter_ids()
            .any(|voter| voter == *node_id),
        matched: None,
    };
    nodes.map(member).collect()
}

fn intent_path(path: &Path) -> PathBuf {
    path.join(dir::RECOVERY)
}

fn read_intent(path: &Path) -> Result<Option<Intent>, OpenError> {
    let name = intent_path(path);
    match fs::read(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io("read", &name, error)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| OpenError::corrupt(&name, error)),
    }
}

fn write_intent(path: &Path, intent: &Intent) -> Result<(), OpenError> {
    let name = intent_path(path);
    let text = serde_json::to_vec_pretty(intent).expect("numbers are always JSON");
    durable::replace(&name, &text).map_err(|error| OpenError::io("write", &name, error))
}

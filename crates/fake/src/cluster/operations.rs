//! The cluster's own calls at one node of a fake cluster.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use memorygate_client::{Position, TimeMs};
use memorygate_proto::v1::{self, change_member_request::Change, cluster_server::Cluster};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

use super::{Member, State};
use crate::{detailed, timestamp, wire_position};

/// When everything in a fake cluster happened: 2026-01-01.
const LONG_AGO: TimeMs = TimeMs(1_767_225_600_000);

const GIB: u64 = 1 << 30;

#[derive(Clone)]
pub(super) struct Operations {
    pub(super) at: usize,
    pub(super) state: Arc<Mutex<State>>,
}

impl Operations {
    fn note(&self, operation: String) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.operations.push(operation);
        state
    }
}

impl State {
    fn wire_members(&self, asked: usize) -> v1::MembersResponse {
        let member = |(at, m): (usize, &Member)| v1::ClusterMember {
            node_id: m.node_id.clone(),
            peer_address: m.peer_address.clone(),
            client_address: m.client_address.clone(),
            is_voter: m.is_voter,
            is_leader: self.leader == Some(at),
            is_draining: m.is_draining,
        };
        v1::MembersResponse {
            cluster_id: format!("{:032x}", self.cluster_id),
            term: self.term,
            members: self.members.iter().enumerate().map(member).collect(),
            node_id: self.members[asked].node_id.clone(),
        }
    }

    fn find(&mut self, node_id: &str) -> Result<&mut Member, Status> {
        let found = self.members.iter_mut().find(|m| m.node_id == node_id);
        found.ok_or_else(|| detailed(Code::NotFound, "UNKNOWN_MEMBER", Some("failed"), None))
    }

    fn wire_snapshot(&self, name: &str) -> v1::SnapshotDescription {
        v1::SnapshotDescription {
            name: name.to_owned(),
            position: Some(wire_position(Position {
                cluster_id: self.cluster_id,
                group: 0,
                index: 1200,
            })),
            created_at: Some(timestamp(LONG_AGO)),
            bytes: self.snapshot_file.len() as u64,
            state_hash: "5a".repeat(32),
            memories: 1000,
        }
    }

    fn wire_status(&self, at: usize, member: v1::ClusterMember) -> v1::MemberStatus {
        let m = &self.members[at];
        if m.is_away {
            return v1::MemberStatus {
                member: Some(member),
                unreachable: "cannot connect: connection refused".to_owned(),
                ..v1::MemberStatus::default()
            };
        }
        let role = match (self.leader, m.is_voter) {
            (Some(leader), _) if leader == at => v1::Role::Leader,
            (_, false) => v1::Role::Learner,
            (Some(_), true) => v1::Role::Follower,
            (None, true) => v1::Role::Candidate,
        };
        let lag = if m.is_behind { 345 } else { 0 };
        v1::MemberStatus {
            member: Some(member),
            unreachable: String::new(),
            role: role as i32,
            term: self.term,
            last_log: 1234,
            committed: 1234,
            applied: 1234 - lag,
            index_position: 1234 - 2 * lag,
            lag,
            snapshot: 1000,
            disk_free_bytes: 31 * GIB + GIB / 2,
            disk_total_bytes: 100 * GIB,
            server_version: "0.1.0".to_owned(),
            log_format_min: 1,
            log_format_max: 1,
            started_at: Some(timestamp(LONG_AGO)),
            round_trip_ms: 1,
            clock_offset_ms: 0,
        }
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::SaveSnapshotResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Cluster for Operations {
    async fn members(
        &self,
        _: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        let is_hung = self.state.lock().unwrap().members[self.at].is_hung;
        if is_hung {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        state.asked.push(self.at);
        Ok(Response::new(state.wire_members(self.at)))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let state = self.state.lock().unwrap();
        let known = state.wire_members(self.at);
        let voters = || state.members.iter().filter(|m| m.is_voter);
        let alive = voters().filter(|m| !m.is_away).count();
        let members = known.members.into_iter().enumerate();
        Ok(Response::new(v1::StatusResponse {
            cluster_id: known.cluster_id,
            members: members.map(|(at, m)| state.wire_status(at, m)).collect(),
            alarms: state.alarms.clone(),
            is_writable: alive > voters().count() / 2 && state.leader.is_some(),
            log_format: 1,
            node_id: known.node_id,
        }))
    }

    async fn change_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        let change = request.into_inner().change.unwrap();
        let mut state = self.note(format!("{change:?}"));
        match change {
            Change::Add(new) => {
                let mut member = state.members[0].clone();
                member.node_id = "00000000deadbeef".to_owned();
                member.peer_address = new.peer_address;
                member.client_address = String::new();
                member.is_voter = false;
                state.members.push(member);
            }
            Change::Promote(id) => state.find(&id)?.is_voter = true,
            Change::Demote(id) => state.find(&id)?.is_voter = false,
            Change::Remove(id) => {
                state.find(&id)?;
                state.members.retain(|m| m.node_id != id);
            }
            Change::Replace(replace) => {
                let member = state.find(&replace.old)?;
                member.node_id = "00000000deadbeef".to_owned();
                member.peer_address = replace.peer_address;
            }
        }
        if state.is_cut_off {
            return Err(Status::unavailable("cut off"));
        }
        Ok(Response::new(state.wire_members(self.at)))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let to = request.into_inner().to;
        let mut state = self.note(format!("transfer to {to:?}"));
        let next = match to.as_str() {
            "" => 1,
            id => {
                state.find(id)?;
                state.members.iter().position(|m| m.node_id == id).unwrap()
            }
        };
        state.leader = Some(next);
        state.term += 1;
        if state.is_cut_off {
            return Err(Status::unavailable("cut off"));
        }
        Ok(Response::new(v1::TransferLeaderResponse {
            leader: state.members[next].node_id.clone(),
            term: state.term,
        }))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let request = request.into_inner();
        let verb = if request.resume { "resume" } else { "drain" };
        let mut state = self.note(format!("{verb} {}", request.node_id));
        state.find(&request.node_id)?.is_draining = !request.resume;
        if !request.resume
            && let Some(leader) = state.leader
            && state.members[leader].node_id == request.node_id
        {
            state.leader = Some((leader + 1) % state.members.len());
            state.term += 1;
        }
        let writes_in_flight = if state.writes_in_flight.is_empty() {
            0
        } else {
            state.writes_in_flight.remove(0)
        };
        let leader = state.leader.map(|at| state.members[at].node_id.clone());
        Ok(Response::new(v1::DrainResponse {
            node_id: request.node_id,
            is_draining: !request.resume,
            writes_in_flight,
            leader: leader.unwrap_or_default(),
        }))
    }

    async fn verify(
        &self,
        _: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        let state = self.state.lock().unwrap();
        let last = state.members.len() - 1;
        let member = |(at, m): (usize, &Member)| {
            let differs = state.is_diverged && at == last;
            let digit = if differs { "b" } else { "a" };
            v1::MemberDigest {
                node_id: m.node_id.clone(),
                unreachable: String::new(),
                state_hash: digit.repeat(64),
                matches_own_count: !differs,
                namespaces: [("default".to_owned(), digit.repeat(64))].into(),
                rows: 42,
            }
        };
        let namespaces = state.is_diverged.then(|| "default".to_owned());
        Ok(Response::new(v1::VerifyResponse {
            position: Some(wire_position(Position {
                cluster_id: state.cluster_id,
                group: 0,
                index: 1234,
            })),
            members: state.members.iter().enumerate().map(member).collect(),
            is_equal: !state.is_diverged,
            different_namespaces: namespaces.into_iter().collect(),
        }))
    }

    async fn list_alarms(
        &self,
        _: Request<v1::ListAlarmsRequest>,
    ) -> Result<Response<v1::ListAlarmsResponse>, Status> {
        let alarms = self.state.lock().unwrap().alarms.clone();
        Ok(Response::new(v1::ListAlarmsResponse { alarms }))
    }

    async fn clear_alarms(
        &self,
        request: Request<v1::ClearAlarmsRequest>,
    ) -> Result<Response<v1::ClearAlarmsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.note(format!("clear {:?} {:?}", request.node_id, request.kind()));
        let before = state.alarms.len();
        state.alarms.retain(|a| {
            let of_node = request.node_id.is_empty() || a.node_id == request.node_id;
            let of_kind = request.kind() == v1::AlarmKind::Unspecified || a.kind == request.kind;
            !(of_node && of_kind)
        });
        let cleared = u32::try_from(before - state.alarms.len()).unwrap();
        Ok(Response::new(v1::ClearAlarmsResponse { cleared }))
    }

    async fn create_snapshot(
        &self,
        _: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::CreateSnapshotResponse>, Status> {
        let mut state = self.note("create snapshot".to_owned());
        state.asked_of_store.push(self.at);
        let name = format!("snapshot-{}", state.snapshots.len());
        state.snapshots.insert(0, name.clone());
        Ok(Response::new(v1::CreateSnapshotResponse {
            snapshot: Some(state.wire_snapshot(&name)),
            store: "/backups".to_owned(),
        }))
    }

    async fn list_snapshots(
        &self,
        _: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let mut state = self.state.lock().unwrap();
        state.asked_of_store.push(self.at);
        let names = state.snapshots.iter();
        Ok(Response::new(v1::ListSnapshotsResponse {
            snapshots: names.map(|name| state.wire_snapshot(name)).collect(),
            store: "/backups".to_owned(),
        }))
    }

    type SaveSnapshotStream = Chunks;

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let name = request.into_inner().name;
        let mut state = self.note(format!("save {name:?}"));
        state.asked_of_store.push(self.at);
        let name = Some(name).filter(|name| !name.is_empty());
        let first = v1::SaveSnapshotResponse {
            snapshot: Some(state.wire_snapshot(name.as_deref().unwrap_or("snapshot-new"))),
            chunk: Vec::new(),
        };
        let chunks = state.snapshot_file.chunks(1000);
        let chunks = chunks.map(|chunk| v1::SaveSnapshotResponse {
            snapshot: None,
            chunk: chunk.to_vec(),
        });
        let mut all: Vec<_> = std::iter::once(first).chain(chunks).map(Ok).collect();
        if state.is_cut_off {
            all.truncate(3);
            all.push(Err(Status::unavailable("cut off")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn verify_snapshot(
        &self,
        request: Request<v1::VerifySnapshotRequest>,
    ) -> Result<Response<v1::VerifySnapshotResponse>, Status> {
        let name = request.into_inner().name;
        let mut state = self.state.lock().unwrap();
        state.asked_of_store.push(self.at);
        if !state.snapshots.contains(&name) {
            return Err(detailed(Code::NotFound, "NO_SUCH_SNAPSHOT", None, None));
        }
        Ok(Response::new(v1::VerifySnapshotResponse {
            snapshot: Some(state.wire_snapshot(&name)),
        }))
    }
}

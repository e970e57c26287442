//! What a node knows of its cluster, and what an operator can have it do.
//!
//! ```text
//! every half second: Status of every other member ─▶ pulse ─▶ client addresses, who drains
//!                                                       ├──▶ what it reads: the format of the log
//!                                                       ├──▶ a full disk: the leader takes no writes
//!                                                       └──▶ alarms that end
//! Members: from what is known     Status: asks all anew     Drain, ChangeMember …: the operations
//! ```
//!
//! Who the members are is the replica's to decide; nothing that is heard here changes it.

pub mod alarms;
pub mod change;
pub mod drain;
pub mod pulse;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use memorygate_core::time::TimeMs;
use memorygate_proto::{peer, v1};
use memorygate_raft::{
    Member, MemberError, MemberFull, Membership, Metrics, Peer, Role, StorageFull, TransportError,
};
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use self::{
    alarms::{Alarm, Alarms, Kind, Which},
    pulse::{Heard, Pulse},
};
use crate::{
    backend::Backend,
    deadline::Deadline,
    error::{Error, Outcome},
    peer::{formats, links::Links},
    wire::{read, write},
};

/// How often every other member is asked where it stands, one question to each at a time.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long a member may take to say where it stands.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What a member said of its disk counts for so long.
const DISK_HEARD_WITHIN: Duration = Duration::from_secs(5);

/// A member that was heard within this time is there.
const THERE_WITHIN: Duration = Duration::from_secs(2);

/// How long a node that drains waits for another to take over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);

/// How long another member may take to drain: it hands over leadership first.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// How long others may take to note an alarm.
const ALARM_WITHIN: Duration = Duration::from_secs(2);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Where clients reach it; empty if no setting says.
    pub client_address: String,
    pub started_at: TimeMs,
}

/// The cluster as this node knows it.
pub struct Cluster {
    backend: Arc<Backend>,
    links: Arc<Links>,
    own: Own,
    pulse: Pulse,
    alarms: Alarms,
}

impl Cluster {
    pub fn new(backend: Arc<Backend>, links: Arc<Links>, own: Own) -> Self {
        Self {
            backend,
            links,
            own,
            pulse: Pulse::default(),
            alarms: Alarms::default(),
        }
    }

    /// The members and who leads. Asks nobody.
    pub fn members(&self) -> v1::MembersResponse {
        self.members_of(&self.backend.raft.membership())
    }

    fn members_of(&self, membership: &Membership) -> v1::MembersResponse {
        let raft = self.backend.raft.metrics();
        let members = by_address(membership).into_iter();
        v1::MembersResponse {
            cluster_id: self.backend.raft.identity().cluster_id.to_string(),
            term: raft.term,
            members: members.map(|member| self.member(member, &raft)).collect(),
            node_id: self.node_id_text(),
        }
    }

    fn member(&self, member: &Member, raft: &Metrics) -> v1::ClusterMember {
        let node_id = member.peer.node_id;
        let is_own = node_id == self.node_id();
        let heard = self.pulse.of(node_id).map(|heard| heard.member());
        let (client_address, is_draining) = match heard {
            _ if is_own => (
                self.own.client_address.clone(),
                self.backend.drain.is_draining(),
            ),
            Some(heard) => (heard.client_address, heard.is_draining),
            None => (String::new(), false),
        };
        v1::ClusterMember {
            node_id: format!("{node_id:016x}"),
            peer_address: member.peer.address.clone(),
            client_address,
            is_voter: member.is_voter,
            is_leader: raft
                .leader
                .as_ref()
                .is_some_and(|leader| leader.node_id == node_id),
            is_draining,
        }
    }

    /// Where this node stands.
    pub fn own_status(&self) -> v1::MemberStatus {
        let raft = self.backend.raft.metrics();
        let formats = self.backend.raft.formats();
        let membership = self.backend.raft.membership();
        let own = membership.get(self.node_id());
        let member = own.map(|own| self.member(own, &raft)).unwrap_or_else(|| {
            // It waits to be added.
            v1::ClusterMember {
                node_id: self.node_id_text(),
                client_address: self.own.client_address.clone(),
                ..v1::ClusterMember::default()
            }
        });
        v1::MemberStatus {
            member: Some(member),
            unreachable: String::new(),
            role: role(raft.role).into(),
            term: raft.term,
            last_log: raft.last_log,
            committed: raft.committed,
            applied: raft.applied,
            index_position: self.backend.index.position(),
            lag: 0,
            snapshot: raft.snapshot,
            disk_free_bytes: raft.disk_free_bytes,
            disk_total_bytes: raft.disk_total_bytes,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            log_format_min: formats.oldest.into(),
            log_format_max: formats.newest.into(),
            started_at: Some(write::time(self.own.started_at)),
            round_trip_ms: 0,
            clock_offset_ms: 0,
        }
    }

    /// What another member is told that asks.
    pub fn answer_status(&self) -> peer::StatusResponse {
        let alarms = self.alarms.list().into_iter();
        let of_others = alarms.filter(|alarm| alarm.kind != Kind::DiskFull);
        peer::StatusResponse {
            status: self.own_status().encode_to_vec().into(),
            alarms: of_others
                .map(|alarm| alarm.to_wire().encode_to_vec().into())
                .collect(),
            clock_ms: self.backend.clock.now().0,
            disk_short_bytes: self.backend.raft.storage_full().map_or(0, short_bytes),
        }
    }

    /// Where every member stands; asks each of them now.
    pub async fn status(&self) -> v1::StatusResponse {
        let membership = self.backend.raft.membership();
        let raft = self.backend.raft.metrics();
        let members = by_address(&membership);
        let answers = members.iter().map(|member| async {
            if member.peer.node_id == self.node_id() {
                return (
                    self.own_status(),
                    self.backend.raft.storage_full().is_some(),
                );
            }
            match self.ask(&member.peer).await {
                Ok(heard) => {
                    let mut status = heard.status;
                    // Who votes and leads is said by one node for all.
                    status.member = Some(self.member(member, &raft));
                    (status, heard.disk_short_bytes > 0)
                }
                Err(error) => {
                    let status = v1::MemberStatus {
                        member: Some(self.member(member, &raft)),
                        unreachable: error.to_string(),
                        ..v1::MemberStatus::default()
                    };
                    (status, false)
                }
            }
        });
        let (mut members, disks): (Vec<_>, Vec<bool>) = join_all(answers).await.into_iter().unzip();
        let is_there = |status: &&v1::MemberStatus| status.unreachable.is_empty();
        let leader = members
            .iter()
            .filter(is_there)
            .find(|status| status.role() == v1::Role::Leader && is_voter(status));
        let leader_log = leader.map_or(0, |leader| leader.last_log);
        let voters = members.iter().filter(|status| is_voter(status)).count();
        let answering = members
            .iter()
            .filter(is_there)
            .filter(|s| is_voter(s))
            .count();
        let is_disk_full = disks.into_iter().any(|is_full| is_full);
        let is_writable = leader.is_some() && answering > voters / 2 && !is_disk_full;
        for status in &mut members {
            if status.unreachable.is_empty() {
                status.lag = leader_log.saturating_sub(status.applied);
            }
        }
        v1::StatusResponse {
            cluster_id: self.backend.raft.identity().cluster_id.to_string(),
            members,
            alarms: self.alarms().iter().map(Alarm::to_wire).collect(),
            is_writable,
            log_format: self.backend.raft.format().into(),
            node_id: self.node_id_text(),
        }
    }

    /// Asks another member where it stands, and remembers it.
    async fn ask(&self, member: &Peer) -> Result<Heard, TransportError> {
        let (asked_at, asked_by_clock) = (Instant::now(), self.backend.clock.now().0);
        let answer = self.links.status(member, ANSWER_WITHIN).await?;
        let took = asked_at.elapsed();
        let malformed = |reason: String| TransportError::Broken {
            address: member.address.clone(),
            reason,
        };
        let status = v1::MemberStatus::decode(answer.status);
        let mut status = status.map_err(|error| malformed(error.to_string()))?;
        let node_id = status.member.as_ref().map(|member| member.node_id.as_str());
        if node_id != Some(&format!("{:016x}", member.node_id)) {
            return Err(malformed(format!("it speaks of node {node_id:?}")));
        }
        // Its clock was read half a round trip after the question, as far as can be known.
        let half_ms = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
        status.clock_offset_ms = answer
            .clock_ms
            .saturating_sub(asked_by_clock.saturating_add(half_ms));
        status.round_trip_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let alarms = answer.alarms.into_iter();
        let alarms =
            alarms.filter_map(|bytes| Alarm::of_wire(v1::ClusterAlarm::decode(bytes).ok()?));
        let heard = Heard {
            at: asked_at,
            started_at: read::cluster::since(status.started_at),
            alarms: alarms.take(alarms::ALARMS_MAX).collect(),
            disk_short_bytes: answer.disk_short_bytes,
            status,
        };
        let (min, max) = (heard.status.log_format_min, heard.status.log_format_max);
        if let Some(formats) = formats(min, max) {
            self.backend.raft.note_formats(member.node_id, formats);
        }
        self.alarms.heard(member.node_id, heard.started_at);
        self.pulse.heard(member.node_id, heard.clone());
        Ok(heard)
    }

    /// Listens to the other members, until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(self.listen(), self.stay_drained());
    }

    async fn listen(&self) {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = BTreeSet::new();
        let mut answers: FuturesUnordered<BoxFuture<'_, u64>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    for member in self.others() {
                        let node_id = member.node_id;
                        if !asked.insert(node_id) {
                            continue;
                        }
                        answers.push(Box::pin(async move {
                            if let Err(error) = self.ask(&member).await {
                                debug!(%error, "member does not say where it stands");
                            }
                            node_id
                        }));
                    }
                    self.look_after();
                }
                Some(node_id) = answers.next(), if !answers.is_empty() => {
                    asked.remove(&node_id);
                    self.look_after_disks();
                }
            }
        }
    }

    /// Draws the consequences of what is known now.
    fn look_after(&self) {
        let membership = self.backend.raft.membership();
        // Before it is known who they are, nobody is forgotten.
        if !membership.members.is_empty() {
            let is_member = |node_id| membership.get(node_id).is_some();
            self.pulse.keep_members(is_member);
            self.alarms.keep_members(is_member);
        }
        self.look_after_disks();
    }

    /// The leader refuses writes while a member that is there has too little room.
    fn look_after_disks(&self) {
        let own_short = self.backend.raft.storage_full().map_or(0, short_bytes);
        let mut short = BTreeMap::from([(self.node_id(), own_short)]);
        for (node_id, heard) in self.pulse.all() {
            if heard.is_of_the_last(DISK_HEARD_WITHIN) {
                short.insert(node_id, heard.disk_short_bytes);
            }
        }
        let kept = self.alarms.list().into_iter();
        let raised: BTreeSet<u64> = kept
            .filter(|alarm| alarm.kind == Kind::DiskFull)
            .map(|alarm| alarm.node_id)
            .collect();
        short.retain(|_, bytes| *bytes > 0);
        for (node_id, bytes) in &short {
            self.alarms.raise(Alarm {
                node_id: *node_id,
                kind: Kind::DiskFull,
                reason: format!(
                    "its disk lacked {bytes} bytes of what must be free: the whole cluster refuses \
                     writes"
                ),
                remedy: "give its disk room; writes are taken again by themselves then".to_owned(),
                since: self.backend.clock.now(),
            });
        }
        for node_id in raised.into_iter().filter(|id| !short.contains_key(id)) {
            self.alarms.clear(Which {
                node_id: Some(node_id),
                kind: Some(Kind::DiskFull),
            });
        }
        let membership = self.backend.raft.membership();
        let full = short.iter().find_map(|(node_id, bytes)| {
            let member = membership.get(*node_id)?;
            let is_other = *node_id != self.node_id();
            is_other.then(|| MemberFull {
                node_id: *node_id,
                address: member.peer.address.clone(),
                short_bytes: *bytes,
            })
        });
        let is_leader = self.backend.raft.is_leader();
        self.backend.raft.refuse_writes(full.filter(|_| is_leader));
    }

    /// A node that is drained and was elected all the same hands over again.
    async fn stay_drained(&self) {
        loop {
            sleep(ASK_EVERY).await;
            if self.backend.drain.is_draining() && self.backend.raft.is_leader() {
                self.hand_over().await;
            }
        }
    }

    /// Drains a member, or has it take writes again.
    pub async fn drain(
        &self,
        node_id: Option<u64>,
        resume: bool,
        deadline: Deadline,
    ) -> Result<v1::DrainResponse, Error> {
        let node_id = node_id.unwrap_or(self.node_id());
        if node_id == self.node_id() {
            let waiting = "waiting for another leader";
            let draining = self.drain_here(resume);
            return deadline.limit(waiting, Outcome::Unknown, draining).await;
        }
        let membership = self.backend.raft.membership();
        let member = membership
            .get(node_id)
            .ok_or(MemberError::Unknown { node_id })?;
        let waiting = "waiting for the member to drain";
        let asked = self.links.drain(&member.peer, resume, DRAINED_WITHIN);
        let answer = deadline.limit(waiting, Outcome::Unknown, asked).await?;
        let drained = answer.and_then(|answer| {
            v1::DrainResponse::decode(answer.drained).map_err(|error| TransportError::Broken {
                address: member.peer.address.clone(),
                reason: error.to_string(),
            })
        });
        drained.map_err(|error| {
            let reason = error.to_string();
            match error.is_undelivered() {
                true => Error::Unanswered { node_id, reason },
                false => Error::Unknown { reason },
            }
        })
    }

    /// Takes no more writes and hands over leadership; or takes them again. The state that is
    /// answered can be asked for again and again.
    pub async fn drain_here(&self, resume: bool) -> v1::DrainResponse {
        let (backend, was_draining) = (&self.backend, self.backend.drain.is_draining());
        backend.drain.set(!resume);
        backend.raft.set_draining(!resume);
        match (was_draining, resume) {
            (false, false) => info!("node drains: it takes no writes"),
            (true, true) => info!("node takes writes again"),
            (true, false) | (false, true) => {}
        }
        if !resume && backend.raft.is_leader() {
            self.hand_over().await;
        }
        let leader = backend.raft.metrics().leader;
        v1::DrainResponse {
            node_id: self.node_id_text(),
            is_draining: backend.drain.is_draining(),
            writes_in_flight: backend.drain.writes_in_flight(),
            leader: leader.map_or_else(String::new, |leader| format!("{:016x}", leader.node_id)),
        }
    }

    /// Before the end: to anybody who is there, even if that one drains too.
    pub(crate) async fn leave(&self) {
        let others = self.others().into_iter();
        let is_there = others
            .filter_map(|other| self.pulse.of(other.node_id))
            .any(|heard| heard.is_of_the_last(THERE_WITHIN));
        if !self.backend.raft.is_leader() || !is_there {
            return;
        }
        let handing_over = self.backend.raft.transfer_leader(None);
        if let Ok(Ok(new)) = timeout(HAND_OVER_WITHIN, handing_over).await {
            info!(to = new.address, "leadership is handed over");
        }
    }

    /// To the voter that is furthest, among those that are there and take writes.
    async fn hand_over(&self) {
        let Some(successor) = self.successor() else {
            return;
        };
        let handing_over = self.backend.raft.transfer_leader(Some(successor));
        match timeout(HAND_OVER_WITHIN, handing_over).await {
            Ok(Ok(new)) => info!(to = new.address, "leadership is handed over"),
            Ok(Err(error)) => warn!(%error, "leadership is not handed over yet"),
            Err(_) => warn!(waited = ?HAND_OVER_WITHIN, "leadership is not handed over yet"),
        }
    }

    fn successor(&self) -> Option<u64> {
        let membership = self.backend.raft.membership();
        let others = membership
            .members
            .iter()
            .filter(|member| member.is_voter && member.peer.node_id != self.node_id());
        let heard = others.map(|member| (member, self.pulse.of(member.peer.node_id)));
        let takes_writes = |heard: &Option<Heard>| {
            heard
                .as_ref()
                .is_none_or(|heard| !heard.member().is_draining)
        };
        heard
            .filter(|(_, heard)| takes_writes(heard))
            .max_by_key(|(member, heard)| {
                let heard = heard.as_ref();
                let is_there = heard.is_some_and(|heard| heard.is_of_the_last(THERE_WITHIN));
                (is_there, member.matched)
            })
            .map(|(member, _)| member.peer.node_id)
    }

    /// What this node keeps and what others have told that they keep.
    pub fn alarms(&self) -> Vec<Alarm> {
        let mut alarms: BTreeMap<(u64, Kind), Alarm> = BTreeMap::new();
        let heard = self.pulse.all().into_values();
        let told = heard.flat_map(|heard| heard.alarms);
        for alarm in self.alarms.list().into_iter().chain(told) {
            alarms.entry((alarm.node_id, alarm.kind)).or_insert(alarm);
        }
        alarms.into_values().collect()
    }

    /// Keeps an alarm here.
    pub fn raise_here(&self, alarm: Alarm) {
        self.alarms.raise(alarm);
    }

    pub fn clear_here(&self, which: Which) -> u32 {
        let meant = self.alarms().into_iter();
        let meant = meant.filter(|alarm| which.has(alarm) && alarm.kind != Kind::DiskFull);
        let cleared = meant.count();
        self.alarms.clear(which);
        self.pulse.clear_alarms(|alarm| which.has(alarm));
        u32::try_from(cleared).unwrap_or(u32::MAX)
    }

    /// Takes alarms off, here and at every member that answers. How many there were.
    pub async fn clear(&self, which: Which) -> u32 {
        let cleared = self.clear_here(which);
        let request = peer::AlarmRequest {
            what: Some(peer::alarm_request::What::Clear(
                which.to_wire().encode_to_vec().into(),
            )),
        };
        self.tell_others(&request).await;
        cleared
    }

    /// Raises an alarm here and at every other member.
    pub async fn raise(&self, alarm: Alarm) {
        let request = raising(&alarm);
        self.raise_here(alarm);
        self.tell_others(&request).await;
    }

    /// If this node must stop because of its disk, the others are told, for it cannot be asked
    /// then.
    pub async fn announce_failure(&self) {
        let (now, node_id) = (self.backend.clock.now(), self.node_id());
        let fatal = self.backend.raft.fatal().borrow().clone();
        let alarm = match fatal {
            Some(fatal) => Alarm::of_fatal(node_id, &fatal, now),
            None => {
                let reason = self.backend.storage_failure.borrow().clone();
                reason.map(|reason| Alarm::corrupt(node_id, reason, now))
            }
        };
        if let Some(alarm) = alarm {
            self.tell_others(&raising(&alarm)).await;
        }
    }

    async fn tell_others(&self, request: &peer::AlarmRequest) {
        let others = self.others();
        let told = others.iter().map(|other| async move {
            let told = self.links.alarm(other, request.clone(), ALARM_WITHIN).await;
            if let Err(error) = told {
                warn!(%error, "member did not hear of an alarm");
            }
        });
        join_all(told).await;
    }

    /// For the metrics: who the members are, and what each lacks of the leader's log as far as this
    /// node has heard.
    pub fn lags(&self) -> Vec<(Member, Option<u64>)> {
        let raft = self.backend.raft.metrics();
        let leader = raft.leader.as_ref().map(|leader| leader.node_id);
        let heard = |node_id: u64| {
            let heard = self.pulse.of(node_id);
            heard.map(|heard| (heard.status.last_log, heard.status.applied))
        };
        let own = (raft.last_log, raft.applied);
        let stands = |node_id: u64| match node_id == self.node_id() {
            true => Some(own),
            false => heard(node_id),
        };
        let last_log = leader.and_then(stands).map(|(last_log, _)| last_log);
        let members = self.backend.raft.membership().members.into_iter();
        let lag = |member: &Member| {
            let (_, applied) = stands(member.peer.node_id)?;
            Some(last_log?.saturating_sub(applied))
        };
        members
            .map(|member| {
                let lag = lag(&member);
                (member, lag)
            })
            .collect()
    }

    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    fn others(&self) -> Vec<Peer> {
        let members = self.backend.raft.membership().members.into_iter();
        let peers = members.map(|member| member.peer);
        peers
            .filter(|peer| peer.node_id != self.node_id())
            .collect()
    }

    fn node_id(&self) -> u64 {
        self.backend.raft.identity().node_id
    }

    fn node_id_text(&self) -> String {
        format!("{:016x}", self.node_id())
    }
}

/// Raises an alarm about a node that could not start, at whoever of its cluster answers at these
/// addresses.
pub(crate) async fn announce(links: &Links, addresses: &BTreeSet<String>, alarm: &Alarm) {
    let request = raising(alarm);
    let told = addresses.iter().map(|address| {
        let request = request.clone();
        async move {
            let there = links.hello(address).await?;
            let peer = Peer {
                node_id: there.node_id,
                address: address.clone(),
            };
            links.alarm(&peer, request, ALARM_WITHIN).await
        }
    });
    for (address, told) in addresses.iter().zip(join_all(told).await) {
        if let Err(error) = told {
            warn!(address, %error, "member did not hear of an alarm");
        }
    }
}

/// The request that raises an alarm at another member.
fn raising(alarm: &Alarm) -> peer::AlarmRequest {
    peer::AlarmRequest {
        what: Some(peer::alarm_request::What::Raise(
            alarm.to_wire().encode_to_vec().into(),
        )),
    }
}

/// The request that has a member stop.
fn condemning(alarm: &Alarm) -> peer::AlarmRequest {
    peer::AlarmRequest {
        what: Some(peer::alarm_request::What::Condemn(
            alarm.to_wire().encode_to_vec().into(),
        )),
    }
}

fn by_address(membership: &Membership) -> Vec<&Member> {
    let mut members: Vec<&Member> = membership.members.iter().collect();
    members.sort_by(|a, b| a.peer.address.cmp(&b.peer.address));
    members
}

fn is_voter(status: &v1::MemberStatus) -> bool {
    status.member.as_ref().is_some_and(|member| member.is_voter)
}

fn short_bytes(full: StorageFull) -> u64 {
    full.reserve_bytes.saturating_sub(full.free_bytes).max(1)
}

fn role(role: Role) -> v1::Role {
    match role {
        Role::Leader => v1::Role::Leader,
        Role::Follower => v1::Role::Follower,
        Role::Candidate => v1::Role::Candidate,
        Role::Learner => v1::Role::Learner,
        Role::Stopped => v1::Role::Stopped,
    }
}

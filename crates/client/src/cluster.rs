//! What an operator asks of a cluster as a whole: where its members stand, and changes of it.
//!
//! Every node answers every call, and hands on to the leader what only that can do. Errors are those
//! of the rest of the library.

mod alarm;
mod change;
mod leadership;
mod members;
mod snapshot;
mod status;
mod verification;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use memorygate_proto::v1;
use prost::Message;

pub use self::{
    alarm::{Alarm, AlarmKind},
    change::Change,
    leadership::{Drained, Leadership},
    members::{Member, Members},
    snapshot::{CreatedSnapshot, Snapshot, Snapshots},
    status::{MemberStatus, Report, Role, Status},
    verification::{Digest, MemberDigest, Verification},
};
use crate::{
    client::{
        Client,
        call::{self, Method},
        read,
    },
    error::Error,
};

/// A handle to the operations of a cluster: see [`Client::cluster`].
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The members and who leads, as the node that answers knows them. It asks nobody.
    pub async fn members(&self) -> Result<Members, Error> {
        let reply = self.call(&call::MEMBERS, v1::MembersRequest {}).await?;
        read(&call::MEMBERS, Members::from_wire(reply))
    }

    /// Where every member stands. The node that answers asks each of them.
    pub async fn status(&self) -> Result<Status, Error> {
        let reply = self.call(&call::STATUS, v1::StatusRequest {}).await?;
        read(&call::STATUS, Status::from_wire(reply))
    }

    /// Makes one change of membership, and returns the members after it. When this returns, the
    /// change is committed.
    pub async fn change_member(&self, change: &Change) -> Result<Members, Error> {
        let reply = self.call(&call::CHANGE_MEMBER, change.to_wire()).await?;
        read(&call::CHANGE_MEMBER, Members::from_wire(reply))
    }

    /// Has another voter take over: the one with this node id, or the one that is furthest. Returns
    /// when it leads.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<Leadership, Error> {
        let request = v1::TransferLeaderRequest {
            to: to.unwrap_or_default().to_owned(),
        };
        let reply = self.call(&call::TRANSFER_LEADER, request).await?;
        Ok(Leadership::from_wire(reply))
    }

    /// Prepares a node to be stopped: it hands over leadership and takes no new writes.
    pub async fn drain(&self, node_id: &str) -> Result<Drained, Error> {
        self.set_draining(node_id, false).await
    }

    /// Has a drained node take writes again.
    pub async fn resume(&self, node_id: &str) -> Result<Drained, Error> {
        self.set_draining(node_id, true).await
    }

    async fn set_draining(&self, node_id: &str, resume: bool) -> Result<Drained, Error> {
        let request = v1::DrainRequest {
            node_id: node_id.to_owned(),
            resume,
        };
        let reply = self.call(&call::DRAIN, request).await?;
        Ok(Drained::from_wire(reply))
    }

    /// Has every member read its whole state at one position, and compares. It takes as long as
    /// reading the state does: see [`Settings::timeout`](crate::Settings::timeout).
    pub async fn verify(&self) -> Result<Verification, Error> {
        let reply = self.call(&call::VERIFY, v1::VerifyRequest {}).await?;
        read(&call::VERIFY, Verification::from_wire(reply))
    }

    pub async fn alarms(&self) -> Result<Vec<Alarm>, Error> {
        let request = v1::ListAlarmsRequest {};
        let reply: v1::ListAlarmsResponse = self.call(&call::LIST_ALARMS, request).await?;
        read(&call::LIST_ALARMS, Alarm::all_from_wire(reply.alarms))
    }

    /// Takes alarms off, of one node or of all, of one kind or of all, and returns how many. One
    /// whose cause is still there comes back.
    pub async fn clear_alarms(
        &self,
        node_id: Option<&str>,
        kind: Option<AlarmKind>,
    ) -> Result<u32, Error> {
        let request = v1::ClearAlarmsRequest {
            node_id: node_id.unwrap_or_default().to_owned(),
            kind: kind.map_or(v1::AlarmKind::Unspecified, AlarmKind::to_wire) as i32,
        };
        let reply: v1::ClearAlarmsResponse = self.call(&call::CLEAR_ALARMS, request).await?;
        Ok(reply.cleared)
    }

    /// Has a node write a snapshot file to its backup store. Where each node has a store of its own,
    /// this and all that follows goes to the leader, if the client follows the members.
    pub async fn create_snapshot(&self) -> Result<CreatedSnapshot, Error> {
        let request = v1::CreateSnapshotRequest {};
        let reply = self.call(&call::CREATE_SNAPSHOT, request).await?;
        read(&call::CREATE_SNAPSHOT, CreatedSnapshot::from_wire(reply))
    }

    /// The snapshot files in the backup store of the node that answers, newest first.
    pub async fn list_snapshots(&self) -> Result<Snapshots, Error> {
        let request = v1::ListSnapshotsRequest {};
        let reply = self.call(&call::LIST_SNAPSHOTS, request).await?;
        read(&call::LIST_SNAPSHOTS, Snapshots::from_wire(reply))
    }

    /// Fetches a snapshot file: one of the backup store, or a new one. Its description comes first,
    /// then its bytes, which are to be checked as a whole. One server sends it, and it takes as long as
    /// it takes: there is no deadline, and no repeat.
    pub async fn save_snapshot(
        &self,
        name: Option<&str>,
    ) -> Result<(Snapshot, BoxStream<'static, Result<Vec<u8>, Error>>), Error> {
        let method = &call::SAVE_SNAPSHOT;
        let request = v1::SaveSnapshotRequest {
            name: name.unwrap_or_default().to_owned(),
        };
        let mut replies = self
            .client
            .stream::<_, v1::SaveSnapshotResponse>(method, request)
            .await?
            .boxed();
        let first = replies.next().await.transpose()?;
        let first = first.ok_or_else(|| "stream is empty".to_owned());
        let first = read(method, first)?;
        let snapshot = read(method, Snapshot::from_wire(first.snapshot))?;
        let begin = futures::stream::once(async move { Ok(first.chunk) });
        let chunks = begin.chain(replies.map_ok(|reply| reply.chunk));
        let chunks = chunks.try_filter(|chunk| std::future::ready(!chunk.is_empty()));
        Ok((snapshot, chunks.boxed()))
    }

    /// Has a node read a snapshot file of its backup store as a whole and check every digest in it.
    pub async fn verify_snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let request = v1::VerifySnapshotRequest {
            name: name.to_owned(),
        };
        let reply: v1::VerifySnapshotResponse = self.call(&call::VERIFY_SNAPSHOT, request).await?;
        read(&call::VERIFY_SNAPSHOT, Snapshot::from_wire(reply.snapshot))
    }

    async fn call<Q, R>(&self, method: &Method, request: Q) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.client.call(method, request, None).await
    }
}

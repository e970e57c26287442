//! `Members` and `Status`.

use memorygate_proto::v1;

use crate::{
    cluster::Cluster,
    deadline::Deadline,
    error::{Error, Outcome},
};

pub(super) fn members(cluster: &Cluster) -> v1::MembersResponse {
    cluster.members()
}

pub(super) async fn status(
    cluster: &Cluster,
    deadline: Deadline,
) -> Result<v1::StatusResponse, Error> {
    let waiting = "waiting for the members to say where they stand";
    deadline
        .limit(waiting, Outcome::Failed, cluster.status())
        .await
}

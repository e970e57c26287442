//! `ListAlarms` and `ClearAlarms`.

use memorygate_proto::v1;
use tonic::Request;

use crate::{
    cluster::{Cluster, alarms::Alarm},
    error::{Error, Outcome},
    grpc::deadline,
    wire::read,
};

pub(super) fn list(cluster: &Cluster) -> v1::ListAlarmsResponse {
    v1::ListAlarmsResponse {
        alarms: cluster.alarms().iter().map(Alarm::to_wire).collect(),
    }
}

pub(super) async fn clear(
    cluster: &Cluster,
    request: Request<v1::ClearAlarmsRequest>,
) -> Result<v1::ClearAlarmsResponse, Error> {
    let deadline = deadline(&request);
    let which = read::cluster::which_alarms(request.into_inner())?;
    let waiting = "waiting for the members to clear the alarms";
    let clearing = cluster.clear(which);
    let cleared = deadline.limit(waiting, Outcome::Unknown, clearing).await?;
    Ok(v1::ClearAlarmsResponse { cleared })
}

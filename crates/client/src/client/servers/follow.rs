//! Asks the servers who belongs to the cluster, beside the calls.
//!
//! Only calls begin a question, so a client that is not used asks nothing. A server that knows no
//! such question costs one call a minute.

use std::{
    error::Error as _,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use memorygate_proto::v1;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use tracing::{debug, warn};

use super::{Server, Servers, table::Answer};
use crate::{
    client::call::{self, MEMBERS},
    cluster::Members,
};

/// How long a server may take to say who the members are.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Rounds of questions in a row, at most, while nobody is known to lead: some 10 s. The next call
/// begins anew.
const ROUNDS_MAX: u32 = 20;

impl Servers {
    /// Asks about the members if it is time to, without waiting for the answers.
    pub(super) fn follow(self: &Arc<Self>) {
        if !self.settings.follow_members || self.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let asking = Asking(Arc::downgrade(self));
        let asked = self.lock().ask(Instant::now());
        if !asked.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(rounds(asking, asked));
        }
    }
}

/// The right to ask, given back when this is dropped: also when a runtime ends in the middle.
struct Asking(Weak<Servers>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(servers) = self.0.upgrade() {
            servers.is_asking.store(false, Ordering::Release);
        }
    }
}

async fn rounds(asking: Asking, mut asked: Vec<Arc<Server>>) {
    for _ in 0..ROUNDS_MAX {
        let mut answers: FuturesUnordered<_> = asked.into_iter().map(ask).collect();
        while let Some((server, answer)) = answers.next().await {
            let Some(servers) = asking.0.upgrade() else {
                return;
            };
            servers.hear(&server, answer);
        }
        let pause = {
            let Some(servers) = asking.0.upgrade() else {
                return;
            };
            let mut table = servers.lock();
            if !table.asked(Instant::now()) {
                return;
            }
            table.pause()
        };
        sleep(pause).await;
        asked = match asking.0.upgrade() {
            Some(servers) => servers.lock().ask(Instant::now()),
            None => return,
        };
    }
}

impl Servers {
    fn hear(&self, server: &Server, answer: Answer) {
        let endpoint = |address: &str| match self.settings.endpoint(address) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                debug!(%error, "member cannot be addressed");
                None
            }
        };
        let heard = self
            .lock()
            .hear(server.id, answer, Instant::now(), endpoint);
        if heard.is_foreign {
            warn!(
                endpoint = server.address,
                "server is of another cluster than this client has seen: it is not used"
            );
        }
        if heard.is_better {
            self.better.send_modify(|count| *count += 1);
        }
    }
}

async fn ask(server: Arc<Server>) -> (Arc<Server>, Answer) {
    let question = async {
        let path = PathAndQuery::from_static(MEMBERS.path);
        let codec = ProstCodec::<v1::MembersRequest, v1::MembersResponse>::default();
        let mut request = Request::new(v1::MembersRequest {});
        request.set_timeout(ANSWER_TIMEOUT);
        let mut grpc = call::grpc(server.channel()).await?;
        grpc.unary(request, path, codec).await
    };
    let answer = match timeout(ANSWER_TIMEOUT, question).await {
        Ok(Ok(reply)) => match Members::from_wire(reply.into_inner()) {
            Ok(members) => Answer::Members(members),
            Err(what) => {
                debug!(endpoint = server.address, what, "members are malformed");
                Answer::Plain
            }
        },
        Ok(Err(status)) if status.code() == Code::Unimplemented => Answer::Plain,
        // Its own words: it is there and cannot tell, as before a cluster is formed.
        Ok(Err(status)) if status.source().is_none() => Answer::Unsure,
        Ok(Err(_)) | Err(_) => Answer::None,
    };
    (server, answer)
}

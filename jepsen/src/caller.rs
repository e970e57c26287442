//! Asks one node, once: no repeat, no other node, so that a history says what each attempt was told.
//!
//! It knows what an error says of a write (*failed* or *outcome unknown*) and nothing of why.

use std::{error::Error as _, net::SocketAddr, time::Duration};

use memorygate_proto::v1::{
    self, cluster_client::ClusterClient, consolidation_client::ConsolidationClient,
    memory_gate_client::MemoryGateClient,
};
use tokio::time::timeout;
use tonic::{
    Code, ConnectError, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::{ErrorInfo, StatusExt as _};

/// A list of everything in one page has to fit.
const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Memories in one page of a list, as many as the API allows.
const PAGE: u32 = 1_000;

/// Pages of one list: more memories than any run writes.
const PAGES_MAX: usize = 10_000;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    Done(T),
    /// The store looked and said no: another version, nothing there, or changed since.
    Refused(String),
    /// Nothing happened, and nothing will.
    Failed(String),
    /// It may have happened, or may happen still.
    Unknown(String),
}

impl<T> Answer<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Done(value) => Answer::Done(change(value)),
            Self::Refused(why) => Answer::Refused(why),
            Self::Failed(why) => Answer::Failed(why),
            Self::Unknown(why) => Answer::Unknown(why),
        }
    }

    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Refused(_) | Self::Failed(_) | Self::Unknown(_) => None,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// One node's door. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Caller {
    node: usize,
    channel: Channel,
    patience: Duration,
}

impl Caller {
    /// For the node at `address`; each call is given up after `patience`. Nothing is sent yet.
    pub fn new(node: usize, address: SocketAddr, patience: Duration) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(patience)
            // A node whose host vanished answers nothing, not even that a connection is gone.
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2));
        Ok(Self {
            node,
            channel: endpoint.connect_lazy(),
            patience,
        })
    }

    /// Which node it asks.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The same with another patience.
    #[must_use]
    pub fn patient(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    pub async fn learn(&self, request: v1::LearnRequest) -> Answer<v1::LearnResponse> {
        let mut api = self.api();
        self.ask(true, api.learn(self.request(request))).await
    }

    pub async fn update(&self, request: v1::UpdateRequest) -> Answer<v1::MutationResponse> {
        let mut api = self.api();
        self.ask(true, api.update(self.request(request))).await
    }

    pub async fn feedback(&self, request: v1::FeedbackRequest) -> Answer<v1::MutationResponse> {
        let mut api = self.api();
        self.ask(true, api.feedback(self.request(request))).await
    }

    pub async fn get(&self, request: v1::GetRequest) -> Answer<v1::GetResponse> {
        let mut api = self.api();
        self.ask(false, api.get(self.request(request))).await
    }

    pub async fn recall(&self, request: v1::RecallRequest) -> Answer<v1::RecallResponse> {
        let mut api = self.api();
        self.ask(false, api.recall(self.request(request))).await
    }

    pub async fn stats(&self, request: v1::StatsRequest) -> Answer<v1::StatsResponse> {
        let mut api = self.api();
        self.ask(false, api.stats(self.request(request))).await
    }

    /// One page of a list.
    pub async fn page(&self, request: v1::ListRequest) -> Answer<v1::ListResponse> {
        let mut api = self.api();
        self.ask(false, api.list(self.request(request))).await
    }

    /// All memories of a namespace.
    pub async fn list(
        &self,
        namespace: &str,
        at_least: Option<v1::Position>,
    ) -> Answer<Vec<v1::Memory>> {
        let mut memories = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let request = v1::ListRequest {
                namespace: namespace.to_owned(),
                reader: Some(everything()),
                page_size: PAGE,
                page_token,
                at_least: at_least.clone(),
                ..v1::ListRequest::default()
            };
            match self.page(request).await {
                Answer::Done(page) => {
                    memories.extend(page.memories);
                    page_token = page.next_page_token;
                }
                Answer::Refused(why) | Answer::Failed(why) | Answer::Unknown(why) => {
                    return Answer::Failed(why);
                }
            }
            if page_token.is_empty() {
                return Answer::Done(memories);
            }
        }
        Answer::Failed(format!("more than {PAGES_MAX} pages"))
    }

    pub async fn members(&self) -> Answer<v1::MembersResponse> {
        let mut cluster = self.cluster();
        let request = self.request(v1::MembersRequest {});
        self.ask(false, cluster.members(request)).await
    }

    /// Where all members stand.
    pub async fn status(&self) -> Answer<v1::StatusResponse> {
        let mut cluster = self.cluster();
        let request = self.request(v1::StatusRequest {});
        self.ask(false, cluster.status(request)).await
    }

    pub async fn change_member(
        &self,
        change: v1::change_member_request::Change,
    ) -> Answer<v1::MembersResponse> {
        let mut cluster = self.cluster();
        let request = self.request(v1::ChangeMemberRequest {
            change: Some(change),
        });
        self.ask(true, cluster.change_member(request)).await
    }

    pub async fn transfer_leader(&self, to: String) -> Answer<v1::TransferLeaderResponse> {
        let mut cluster = self.cluster();
        let request = self.request(v1::TransferLeaderRequest { to });
        self.ask(true, cluster.transfer_leader(request)).await
    }

    pub async fn verify(&self) -> Answer<v1::VerifyResponse> {
        let mut cluster = self.cluster();
        let request = self.request(v1::VerifyRequest {});
        self.ask(false, cluster.verify(request)).await
    }

    /// Has the node run a pass, and waits for its end.
    pub async fn consolidate(
        &self,
        request: v1::RunConsolidationRequest,
    ) -> Answer<v1::RunConsolidationResponse> {
        let mut api = self.consolidation();
        let run = async {
            let mut progress = api.run_consolidation(self.request(request)).await?;
            while let Some(message) = progress.get_mut().message().await? {
                if message.finished {
                    return Ok(Response::new(message));
                }
            }
            Err(Status::unknown("the pass broke off"))
        };
        self.ask(true, run).await
    }

    pub async fn epochs(&self, request: v1::ListEpochsRequest) -> Answer<v1::ListEpochsResponse> {
        let mut api = self.consolidation();
        self.ask(false, api.list_epochs(self.request(request)))
            .await
    }

    pub async fn undo_epoch(&self, request: v1::UndoEpochRequest) -> Answer<v1::UndoEpochResponse> {
        let mut api = self.consolidation();
        self.ask(true, api.undo_epoch(self.request(request))).await
    }

    pub async fn set_policy(&self, request: v1::SetPolicyRequest) -> Answer<v1::SetPolicyResponse> {
        let mut api = self.consolidation();
        self.ask(true, api.set_policy(self.request(request))).await
    }

    fn consolidation(&self) -> ConsolidationClient<Channel> {
        ConsolidationClient::new(self.channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    fn api(&self) -> MemoryGateClient<Channel> {
        MemoryGateClient::new(self.channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    fn request<Q>(&self, question: Q) -> Request<Q> {
        let mut request = Request::new(question);
        request.set_timeout(self.patience);
        request
    }

    async fn ask<R>(
        &self,
        is_write: bool,
        call: impl Future<Output = Result<Response<R>, Status>>,
    ) -> Answer<R> {
        match timeout(self.patience, call).await {
            Ok(Ok(response)) => Answer::Done(response.into_inner()),
            Ok(Err(status)) => read(is_write, &status),
            Err(_) => nothing_known(is_write, format!("no answer within {:?}", self.patience)),
        }
    }
}

/// Sees every scope.
pub fn everything() -> v1::Reader {
    v1::Reader {
        everything: true,
        ..v1::Reader::default()
    }
}

fn read<T>(is_write: bool, status: &Status) -> Answer<T> {
    let why = format!("{:?}: {}", status.code(), status.message());
    if never_sent(status) {
        return Answer::Failed(why);
    }
    let info = status.get_details_error_info();
    let said = |is: fn(&ErrorInfo) -> bool| info.as_ref().is_some_and(is);
    let is_failed = said(|info| info.metadata.get("outcome").is_some_and(|o| o == "failed"));
    let has_looked = matches!(status.code(), Code::Aborted | Code::NotFound)
        || said(|info| info.reason == "CHANGED_SINCE");
    match (is_failed, has_looked) {
        (true, true) => Answer::Refused(why),
        (true, false) => Answer::Failed(why),
        (false, true) if !is_write => Answer::Refused(why),
        (false, _) => nothing_known(is_write, why),
    }
}

/// Whether there was no connection to send it on.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn nothing_known<T>(is_write: bool, why: String) -> Answer<T> {
    if is_write {
        Answer::Unknown(why)
    } else {
        Answer::Failed(why)
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn check(is_write: bool, code: Code, outcome: Option<&str>) -> &'static str {
        check_reason(is_write, code, outcome, "REASON")
    }

    fn check_reason(
        is_write: bool,
        code: Code,
        outcome: Option<&str>,
        reason: &str,
    ) -> &'static str {
        let mut details = ErrorDetails::new();
        if let Some(outcome) = outcome {
            let metadata = [("outcome".to_owned(), outcome.to_owned())];
            details.set_error_info(reason, "memorygate", metadata);
        }
        let status = Status::with_error_details(code, "words", details);
        match read::<()>(is_write, &status) {
            Answer::Done(()) => "done",
            Answer::Refused(_) => "refused",
            Answer::Failed(_) => "failed",
            Answer::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn a_write_has_failed_only_if_the_server_says_so() {
        assert_eq!(check(true, Code::Unavailable, Some("failed")), "failed");
        assert_eq!(check(true, Code::Unavailable, Some("unknown")), "unknown");
        assert_eq!(check(true, Code::Unavailable, None), "unknown");
        assert_eq!(check(true, Code::Aborted, Some("failed")), "refused");
        assert_eq!(check(true, Code::Aborted, Some("unknown")), "unknown");
        assert_eq!(check(false, Code::Unavailable, None), "failed");
        assert_eq!(check(false, Code::NotFound, None), "refused");
    }

    #[test]
    fn an_undo_that_came_too_late_was_refused() {
        let precondition = Code::FailedPrecondition;
        let check = |reason| check_reason(true, precondition, Some("failed"), reason);
        assert_eq!(check("CHANGED_SINCE"), "refused");
        assert_eq!(check("REQUEST_ID_EXPIRED"), "failed");
    }

    #[tokio::test]
    async fn what_could_not_be_sent_has_failed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let caller = Caller::new(0, address, Duration::from_secs(5)).unwrap();
        let answer = caller.learn(v1::LearnRequest::default()).await;
        assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn what_is_not_answered_is_unknown() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let caller = Caller::new(0, address, Duration::from_millis(200)).unwrap();
        let answer = caller.learn(v1::LearnRequest::default()).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
    }
}

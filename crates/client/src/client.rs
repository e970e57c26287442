//! The client: one method for each call of the API.
//!
//! It connects when first used, follows the members of the cluster, repeats what is safe to repeat,
//! tells *failed* from *outcome unknown*, and reads its own writes on any node by the positions that
//! it has seen. It knows nothing of ranking or storage.

pub(crate) mod call;
mod seen;
mod servers;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, TryStreamExt as _};
use memorygate_core::{moment::Moment, name::Namespace, request::RequestId};
use memorygate_proto::v1;
use prost::Message;
use rand::Rng as _;
use tokio_stream::StreamExt as _;
use tonic::{Request, Status, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

pub use self::settings::{ENDPOINT_DEFAULT, ENDPOINTS_MAX, Settings};
use self::{
    call::Method,
    seen::Seen,
    servers::{Choice, Servers},
};
use crate::{
    cluster::Cluster,
    consolidation::Consolidation,
    error::{Error, Failure, Kind, Outcome, Violations},
    feedback::GiveFeedback,
    forget::Forget,
    freshness::Freshness,
    get::Get,
    history::{Event, History, HistoryPage},
    learn::{Learn, LearnReply, LearnStreamReply},
    link::SetLink,
    list::{List, Page},
    memory::Memory,
    mutation::{Mutation, Target},
    page,
    position::Position,
    recall::{Recall, RecallReply},
    restore::Restore,
    scope::Reader,
    share::Share,
    stats::Stats,
    time,
    update::Update,
};

/// A handle to a MemoryGate cluster. Cheap to clone; clones share connections and what was seen.
///
/// ```no_run
/// # async fn run() -> Result<(), memorygate_client::Error> {
/// use memorygate_client::{Client, Experience, Recall, domain};
///
/// let client = Client::connect("http://127.0.0.1:7411")?;
/// let lesson = Experience::new("raise the memory limit to 512Mi", domain::INFRASTRUCTURE);
/// let reply = client.learn(lesson).await?;
/// println!("stored as {}", reply.learned[0].key);
/// for found in client.recall(&Recall::new("pod was OOMKilled")).await?.results {
///     println!("{:.2} {}", found.score, found.memory.content);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    namespace: String,
    reader: Reader,
}

struct Shared {
    settings: Settings,
    servers: Arc<Servers>,
    seen: Seen,
}

impl Client {
    /// A client with default settings for one server. Nothing is sent yet.
    pub fn connect(endpoint: impl Into<String>) -> Result<Self, Error> {
        Self::new(Settings::new([endpoint]))
    }

    /// A client with these settings. Nothing is sent yet; errors are those of the settings.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let endpoints = settings.check()?;
        Ok(Self {
            namespace: settings.namespace.clone(),
            reader: settings.reader.clone(),
            shared: Arc::new(Shared {
                servers: Arc::new(Servers::new(settings.clone(), endpoints)),
                settings,
                seen: Seen::default(),
            }),
        })
    }

    /// The same client for another namespace. A name that is not allowed is refused by the first
    /// call.
    #[must_use]
    pub fn in_namespace(&self, name: impl Into<String>) -> Self {
        Self {
            namespace: name.into(),
            ..self.clone()
        }
    }

    /// The same client on behalf of another reader.
    #[must_use]
    pub fn reading_as(&self, reader: Reader) -> Self {
        Self {
            reader,
            ..self.clone()
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The newest position seen: hand it to another agent, and with [`Freshness::AtLeast`] it sees
    /// what this client saw and wrote.
    pub fn position(&self) -> Option<Position> {
        self.shared.seen.position()
    }

    /// Forgets what was seen, for a client that is knowingly pointed at another cluster, such as
    /// one restored from a backup.
    pub fn reset_position(&self) {
        self.shared.seen.reset();
        self.shared.servers.reset();
    }

    /// A new request id. Put it into a request to be able to repeat that request later, even from
    /// another process; otherwise the client makes one for each write by itself.
    pub async fn request_id(&self) -> Result<RequestId, Error> {
        let position = match self.shared.seen.fresh() {
            Some(position) => position,
            None => {
                self.stats_at(self.namespace.clone(), Freshness::Any)
                    .await?
                    .position
            }
        };
        Ok(RequestId {
            after: position.index,
            nonce: rand::rng().random(),
        })
    }

    /// Stores experiences, all or none. When this returns, they are durable.
    pub async fn learn(&self, learn: impl Into<Learn>) -> Result<LearnReply, Error> {
        let learn = learn.into();
        let namespace = self.namespace_or(learn.namespace.as_deref());
        learn.check(namespace)?;
        let id = self.id_or(learn.request_id).await?;
        let reply = self
            .call(&call::LEARN, learn.to_wire(namespace, id), Some(id))
            .await?;
        let reply = read(&call::LEARN, LearnReply::from_wire(reply))?;
        let (expected, actual) = (learn.experiences.len(), reply.learned.len());
        if expected != actual {
            let what = format!("{actual} results, expected {expected}");
            return Err(Error::malformed("learn", true, &what));
        }
        self.note(&call::LEARN, reply.position)?;
        Ok(reply)
    }

    /// Stores a stream of batches, each atomic and committed as it arrives. It is sent once, and
    /// takes as long as it takes: there is no deadline, and no repeat. To be able to repeat a broken
    /// stream without storing anything twice, give each batch an id by [`Client::request_id`] and
    /// send the same batches again. A batch that breaks a bound ends the stream before it: the error
    /// is returned, and what was sent before stays stored.
    pub async fn learn_stream(
        &self,
        batches: impl Stream<Item = Learn> + Send + 'static,
    ) -> Result<LearnStreamReply, Error> {
        let method = &call::LEARN_STREAM;
        let first_id = self.request_id().await?;
        let refused = Arc::new(Mutex::new(None));
        let requests = {
            let (refused, namespace) = (Arc::clone(&refused), self.namespace.clone());
            batches.map_while(move |batch| {
                let namespace = batch.namespace.as_deref().unwrap_or(&namespace);
                if let Err(error) = batch.check(namespace) {
                    *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return None;
                }
                let id = batch.request_id.unwrap_or_else(|| RequestId {
                    after: first_id.after,
                    nonce: rand::rng().random(),
                });
                Some(batch.to_wire(namespace, id))
            })
        };
        let servers = &self.shared.servers;
        let Choice::Ask(asked) = servers.choose(method.purpose, &[]) else {
            return Err(call::foreign(method));
        };
        let channel = asked.server.channel();
        let send = async {
            let path = PathAndQuery::from_static(method.path);
            let codec = ProstCodec::<v1::LearnRequest, v1::LearnStreamResponse>::default();
            let mut grpc = call::grpc(channel).await?;
            grpc.client_streaming(Request::new(requests), path, codec)
                .await
        };
        let reply = send.await.map_err(|status| {
            let mut failure = Failure::of(method.name, method.mutating, &status);
            if let Some(trouble) = failure.trouble {
                servers.failed(&asked.server, method.purpose, trouble);
            }
            failure.error.set_trail(&asked.server.address, 1, None);
            failure.error
        })?;
        let reply = read(method, LearnStreamReply::from_wire(reply.into_inner()))?;
        if let Some(position) = reply.position {
            self.note(method, position)?;
        }
        match refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(error) => Err(error),
            None => Ok(reply),
        }
    }

    /// Finds the memories relevant to a task, best first.
    pub async fn recall(&self, recall: &Recall) -> Result<RecallReply, Error> {
        let namespace = self.namespace_or(recall.namespace.as_deref());
        let reader = recall.reader.as_ref().unwrap_or(&self.reader);
        recall.check(namespace, reader)?;
        let request = recall.to_wire(namespace, reader, self.at_least(recall.freshness)?);
        let reply = self.call(&call::RECALL, request, None).await?;
        let reply = read(&call::RECALL, RecallReply::from_wire(reply))?;
        self.note(&call::RECALL, reply.position)?;
        Ok(reply)
    }

    /// One memory; `None` if there is none that the reader may see.
    pub async fn get(&self, get: impl Into<Get>) -> Result<Option<Memory>, Error> {
        let get = get.into();
        let namespace = self.namespace_or(get.namespace.as_deref());
        let reader = get.reader.as_ref().unwrap_or(&self.reader);
        check_place("get", namespace, reader, Violations::default())?;
        let request = v1::GetRequest {
            namespace: namespace.to_owned(),
            key: get.key.to_string(),
            reader: Some(reader.to_wire()),
            at_least: self.at_least(get.freshness)?.map(Position::to_wire),
            linearizable: get.freshness == Freshness::Linearizable,
            as_of: get.as_of.map(|moment| match moment {
                Moment::Position(index) => v1::get_request::AsOf::AsOfPosition(index),
                Moment::Time(at) => v1::get_request::AsOf::AsOfTime(time::to_wire(at)),
            }),
        };
        let reply: v1::GetResponse = match self.call(&call::GET, request, None).await {
            Ok(reply) => reply,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let memory = reply.memory.ok_or_else(|| "memory is missing".to_owned());
        let memory = read(&call::GET, memory.and_then(Memory::from_wire))?;
        let position = read(&call::GET, Position::from_wire(reply.position))?;
        self.note(&call::GET, position)?;
        Ok(Some(memory))
    }

    /// One page of a list.
    pub async fn list_page(&self, list: &List) -> Result<Page, Error> {
        let namespace = self.namespace_or(list.namespace.as_deref());
        let reader = list.reader.as_ref().unwrap_or(&self.reader);
        list.check(namespace, reader)?;
        let request = list.to_wire(namespace, reader, self.at_least(list.freshness)?);
        let reply = self.call(&call::LIST, request, None).await?;
        let page = read(&call::LIST, Page::from_wire(reply))?;
        self.note(&call::LIST, page.position)?;
        Ok(page)
    }

    /// All memories of a list, in key order, page by page as they are asked for.
    pub fn list(&self, list: List) -> impl Stream<Item = Result<Memory, Error>> + Send + use<> {
        let client = self.clone();
        page::entries(list, move |list: List| {
            let client = client.clone();
            async move {
                let page = client.list_page(&list).await?;
                let next = page.next.map(|token| list.page_token(token));
                Ok((page.memories, next))
            }
        })
    }

    /// One page of what happened to a memory and to those that were merged into it, newest first; `None` if
    /// there is none that the reader may see.
    pub async fn history_page(&self, history: &History) -> Result<Option<HistoryPage>, Error> {
        let namespace = self.namespace_or(history.namespace.as_deref());
        let reader = history.reader.as_ref().unwrap_or(&self.reader);
        check_place("history", namespace, reader, history.check())?;
        let at_least = self.at_least(history.freshness)?;
        let request = history.to_wire(namespace, reader, at_least);
        let reply = match self.call(&call::HISTORY, request, None).await {
            Ok(reply) => reply,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let page = read(&call::HISTORY, HistoryPage::from_wire(reply))?;
        self.note(&call::HISTORY, page.position)?;
        Ok(Some(page))
    }

    /// All that happened to a memory and to those that were merged into it, newest first, page by page as it
    /// is asked for. Nothing if there is none that the reader may see.
    pub fn history(
        &self,
        history: History,
    ) -> impl Stream<Item = Result<Event, Error>> + Send + use<> {
        let client = self.clone();
        page::entries(history, move |history: History| {
            let client = client.clone();
            async move {
                let Some(page) = client.history_page(&history).await? else {
                    return Ok((Vec::new(), None));
                };
                let next = page.next.map(|token| history.page_token(token));
                Ok((page.events, next))
            }
        })
    }

    /// Changes metadata, importance, pin or expiry of a memory.
    pub async fn update(&self, update: &Update) -> Result<Mutation, Error> {
        let (namespace, reader) = self.place(&update.target);
        check_place("update", namespace, reader, update.check())?;
        let id = self.id_or(update.target.request_id).await?;
        let request = update.to_wire(namespace, reader, id);
        self.mutate(&call::UPDATE, request, id).await
    }

    /// Says how useful a memory was.
    pub async fn feedback(&self, feedback: &GiveFeedback) -> Result<Mutation, Error> {
        let (namespace, reader) = self.place(&feedback.target);
        check_place("feedback", namespace, reader, feedback.check())?;
        let id = self.id_or(feedback.target.request_id).await?;
        let request = feedback.to_wire(namespace, reader, id);
        self.mutate(&call::FEEDBACK, request, id).await
    }

    /// Removes a memory for good.
    pub async fn forget(&self, forget: impl Into<Forget>) -> Result<Mutation, Error> {
        let forget = forget.into();
        let (namespace, reader) = self.place(&forget.target);
        check_place("forget", namespace, reader, Violations::default())?;
        let id = self.id_or(forget.target.request_id).await?;
        let request = forget.to_wire(namespace, reader, id);
        self.mutate(&call::FORGET, request, id).await
    }

    /// Adds or removes a link from one memory to another.
    pub async fn link(&self, link: &SetLink) -> Result<Mutation, Error> {
        let (namespace, reader) = self.place(&link.target);
        check_place("link", namespace, reader, Violations::default())?;
        let id = self.id_or(link.target.request_id).await?;
        let request = link.to_wire(namespace, reader, id);
        self.mutate(&call::LINK, request, id).await
    }

    /// Makes a memory of a narrower scope one of a wider scope; the answer names its new key.
    pub async fn share(&self, share: &Share) -> Result<Mutation, Error> {
        let (namespace, reader) = self.place(&share.target);
        check_place("share", namespace, reader, share.check())?;
        let id = self.id_or(share.target.request_id).await?;
        let request = share.to_wire(namespace, reader, id);
        let reply = self.call(&call::SHARE, request, Some(id)).await?;
        let mutation = read(&call::SHARE, Mutation::from_share(reply))?;
        self.note(&call::SHARE, mutation.position)?;
        Ok(mutation)
    }

    /// Brings a memory back from the archive.
    pub async fn restore(&self, restore: impl Into<Restore>) -> Result<Mutation, Error> {
        let restore = restore.into();
        let (namespace, reader) = self.place(&restore.target);
        check_place("restore", namespace, reader, Violations::default())?;
        let id = self.id_or(restore.target.request_id).await?;
        let request = restore.to_wire(namespace, reader, id);
        self.mutate(&call::RESTORE, request, id).await
    }

    /// What is stored in all namespaces, and where the node that answers stands.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.stats_as_of(None, Freshness::Seen).await
    }

    /// The same with the counts of one namespace alone.
    pub async fn stats_of(&self, namespace: &str) -> Result<Stats, Error> {
        self.stats_as_of(Some(namespace), Freshness::Seen).await
    }

    /// The same, of one namespace or of all, as recent as asked for.
    pub async fn stats_as_of(
        &self,
        namespace: Option<&str>,
        freshness: Freshness,
    ) -> Result<Stats, Error> {
        if let Some(namespace) = namespace {
            let mut violations = Violations::default();
            violations.check("namespace", Namespace::parse(namespace));
            violations.into_result("stats")?;
        }
        self.stats_at(namespace.unwrap_or_default().to_owned(), freshness)
            .await
    }

    async fn stats_at(&self, namespace: String, freshness: Freshness) -> Result<Stats, Error> {
        let request = v1::StatsRequest {
            namespace,
            at_least: self.at_least(freshness)?.map(Position::to_wire),
            linearizable: freshness == Freshness::Linearizable,
        };
        let reply = self.call(&call::STATS, request, None).await?;
        let stats = read(&call::STATS, Stats::from_wire(reply))?;
        self.note(&call::STATS, stats.position)?;
        Ok(stats)
    }

    pub(crate) async fn mutate<Q: Message + Clone + 'static>(
        &self,
        method: &Method,
        request: Q,
        id: RequestId,
    ) -> Result<Mutation, Error> {
        let reply = self.call(method, request, Some(id)).await?;
        let mutation = read(method, Mutation::from_wire(reply))?;
        self.note(method, mutation.position)?;
        Ok(mutation)
    }

    /// The operations on the cluster as a whole.
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.clone())
    }

    /// How this client's namespace is consolidated. It sees every scope, whoever the reader is.
    pub fn consolidation(&self) -> Consolidation {
        Consolidation::new(self.clone())
    }

    /// Asks for a stream of answers. Another server is asked only if one that cannot be reached, or cannot
    /// now, has surely done nothing; once there is a stream, it is the only one.
    pub(crate) async fn stream<Q, R>(
        &self,
        method: &Method,
        request: Q,
    ) -> Result<impl Stream<Item = Result<R, Error>> + Send + use<Q, R>, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let servers = &self.shared.servers;
        let (name, mutating, purpose) = (method.name, method.mutating, method.purpose);
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let Choice::Ask(asked) = servers.choose(purpose, &tried) else {
                return Err(last.unwrap_or_else(|| call::foreign(method)));
            };
            let attempt = u32::try_from(tried.len() + 1).expect("fewer servers than 2^32");
            let fail = {
                let (servers, server) = (Arc::clone(servers), Arc::clone(&asked.server));
                move |status: Status| {
                    let mut failure = Failure::of(name, mutating, &status);
                    if let Some(trouble) = failure.trouble {
                        servers.failed(&server, purpose, trouble);
                    }
                    failure.error.set_trail(&server.address, attempt, None);
                    failure
                }
            };
            let open = async {
                let path = PathAndQuery::from_static(method.path);
                let codec = ProstCodec::<Q, R>::default();
                let mut grpc = call::grpc(asked.server.channel()).await?;
                let request = Request::new(request.clone());
                grpc.server_streaming(request, path, codec).await
            };
            match open.await {
                // The call is open for as long as the stream is.
                Ok(replies) => {
                    return Ok(replies.into_inner().map_err(move |status| {
                        let _open = &asked;
                        fail(status).error
                    }));
                }
                Err(status) => {
                    let Failure { error, trouble, .. } = fail(status);
                    if trouble.is_none() || error.outcome() == Outcome::Unknown {
                        return Err(error);
                    }
                    tried.push(asked.server.id);
                    last = Some(error);
                }
            }
        }
    }

    pub(crate) async fn call<Q, R>(
        &self,
        method: &Method,
        request: Q,
        id: Option<RequestId>,
    ) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let Shared {
            settings, servers, ..
        } = &*self.shared;
        call::call(servers, settings, method, request, id).await
    }

    fn namespace_or<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        given.unwrap_or(&self.namespace)
    }

    fn place<'a>(&'a self, target: &'a Target) -> (&'a str, &'a Reader) {
        (
            self.namespace_or(target.namespace.as_deref()),
            target.reader.as_ref().unwrap_or(&self.reader),
        )
    }

    pub(crate) async fn id_or(&self, given: Option<RequestId>) -> Result<RequestId, Error> {
        match given {
            Some(id) => Ok(id),
            None => self.request_id().await,
        }
    }

    /// The position that a read asks for.
    fn at_least(&self, freshness: Freshness) -> Result<Option<Position>, Error> {
        let seen = self
            .position()
            .filter(|_| self.shared.settings.read_your_writes);
        match freshness {
            Freshness::Any => Ok(None),
            Freshness::Seen | Freshness::Linearizable => Ok(seen),
            Freshness::AtLeast(asked) => match seen {
                Some(seen) if !seen.is_comparable(&asked) => Err(Error::new(
                    Kind::Restore,
                    Outcome::Failed,
                    "read",
                    format!("position {asked} is of another cluster than {seen}, which was seen"),
                )),
                Some(seen) if seen.index > asked.index => Ok(Some(seen)),
                Some(_) | None => Ok(Some(asked)),
            },
        }
    }

    /// Notes where an answer stands. One from another cluster is an error: its positions, and so
    /// its request ids, mean nothing here.
    pub(crate) fn note(&self, method: &Method, position: Position) -> Result<(), Error> {
        self.shared.servers.know_cluster(position.cluster_id);
        self.shared.seen.note(position).map_err(|known| {
            let outcome = if method.mutating {
                Outcome::Unknown
            } else {
                Outcome::Failed
            };
            let message = format!(
                "answered by cluster {:032x}, expected {:032x}: the endpoints are of different \
                 clusters, or one was restored from a backup",
                position.cluster_id, known.cluster_id
            );
            Error::new(Kind::Restore, outcome, method.name, message)
        })
    }
}

/// Reads a reply, or says that it cannot be read.
pub(crate) fn read<T>(method: &Method, reply: Result<T, String>) -> Result<T, Error> {
    reply.map_err(|what| Error::malformed(method.name, method.mutating, &what))
}

/// Checks what every call has, together with what was found wrong already.
fn check_place(
    operation: &'static str,
    namespace: &str,
    reader: &Reader,
    mut violations: Violations,
) -> Result<(), Error> {
    violations.check("namespace", Namespace::parse(namespace));
    violations.nest("reader", reader.check().0);
    violations.into_result(operation)
}

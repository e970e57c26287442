//! Snapshot files in a bucket of an object store that speaks S3.
//!
//! An object appears when the last part of its upload was acknowledged, so one that is listed is
//! whole. Who may do what, and which region and endpoint there are, is told by the settings and by the
//! variables of the environment that other programs use for it. No credential is in an error or a log.
//!
//! Each request is bounded in time and retries, and each transfer in the bytes that it holds:
//! [`PARTS_MAX`] parts on their way up, three pieces on their way down.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io::{self, Error as IoError},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use memorygate_raft::backup::Backup;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutPayloadMut, RetryConfig, aws::AmazonS3Builder, path::Path as Key,
};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};
use tracing::warn;

use super::{FILES_MAX, Listed};
use crate::backup::{FileName, pipe};

/// One request from connecting to the last byte of the answer. A part or a piece is 8 MiB, so that
/// 140 KB/s are enough.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After a first attempt, and none that would begin later than that. Whoever asked asks again in his
/// own time.
const RETRIES_MAX: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of one part of an upload, at least; all but the last have the same. S3 takes 10,000 parts, so
/// a file beyond 75 GB has larger ones.
const PART_BYTES_MIN: u64 = 8 * 1024 * 1024;
const PARTS_IN_FILE_MAX: u64 = 9_000;

/// Parts on their way at once, at most.
const PARTS_MAX: usize = 4;

/// How long parts on their way are waited for before an upload is given up.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that one request of a download asks for.
pub(super) const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// As much of an error as is shown, in characters.
const ERROR_CHARS_MAX: usize = 600;

/// What the environment may call an endpoint and a region.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// Other ways to credentials, which the environment of a container names.
const OTHER_CREDENTIALS: [&str; 4] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// How the store is reached. What is empty is left to the environment.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub endpoint: String,
    pub region: String,
    /// Endpoints without encryption are used.
    pub allow_http: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("there is no such object")]
    Missing,
    /// What was set or asked cannot be; it is not tried.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
}

/// A bucket, and where in it.
#[derive(Clone)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    prefix: Key,
    /// No credentials were given: those of the machine's role are used, if it has one.
    asks_machine: bool,
}

impl Objects {
    /// `place` is `BUCKET` or `BUCKET/PREFIX`. Of the environment, what begins with `AWS_` is used.
    pub(super) fn open(
        place: &str,
        access: &Access,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(refused("expected s3://BUCKET/PREFIX"));
        }
        let environment = variables(access, environment);
        let asks_machine = check(&environment)?;
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: RETRY_PAUSE_MAX,
                ..BackoffConfig::default()
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        };
        let mut builder = AmazonS3Builder::new()
            .with_client_options(client)
            .with_retry(retry)
            // Not every store knows how to remove many at once.
            .with_disable_bulk_delete(true);
        for (name, value) in environment {
            if let Ok(option) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(option, value);
            }
        }
        // The bucket of the URL counts, whatever the environment says.
        let store = builder.with_bucket_name(bucket).build();
        Ok(Self {
            store: Arc::new(store.map_err(|error| refused(&error.to_string()))?),
            bucket: bucket.to_owned(),
            prefix: Key::from(prefix),
            asks_machine,
        })
    }

    /// The files whose names are a snapshot's, in no order that means something.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let objects = self.store.list(Some(&self.prefix)).take(FILES_MAX + 1);
        let objects: Result<Vec<ObjectMeta>, _> = objects.try_collect().await;
        let objects = objects.map_err(|error| self.failed(error))?;
        if objects.len() > FILES_MAX {
            return Err(Failure::Refused(format!(
                "more than {FILES_MAX} objects are there: give each cluster a prefix of its own"
            )));
        }
        let listed = objects.into_iter().filter_map(|object| {
            let name = object.location.filename()?.parse().ok()?;
            // Not what is deeper below.
            (object.location == self.key(&name)).then(|| Listed {
                name,
                bytes: object.size,
                version: (object.e_tag).unwrap_or_else(|| object.last_modified.to_rfc3339()),
            })
        });
        Ok(listed.collect())
    }

    /// Uploads a file. If this is not polled to its end, what was uploaded is given up.
    pub(super) async fn put(&self, name: &FileName, backup: &Backup) -> Result<(), Failure> {
        let key = self.key(name);
        let begun = self.store.put_multipart(&key).await;
        let begun = begun.map_err(|error| self.failed(error))?;
        let bytes = backup.manifest().file_bytes();
        let part = PART_BYTES_MIN.max(bytes.div_ceil(PARTS_IN_FILE_MAX));
        let part_bytes = usize::try_from(part).unwrap_or(usize::MAX);
        let mut upload = Upload {
            of: Some(begun),
            parts: JoinSet::new(),
            next: PutPayloadMut::new(),
            part_bytes,
        };
        let (mut out, mut chunks) = pipe::to_async();
        let backup = backup.clone();
        let writing = tokio::task::spawn_blocking(move || backup.write_to(&mut out).map(drop));
        while let Some(chunk) = chunks.recv().await {
            let uploaded = upload.write(chunk).await;
            uploaded.map_err(|error| self.failed(error))?;
        }
        let written = writing.await.map_err(IoError::other).flatten();
        written.map_err(|error| Failure::Failed(error.to_string()))?;
        let finished = upload.finish().await;
        finished.map_err(|error| self.failed(error))
    }

    pub(super) async fn remove(&self, name: &FileName) -> Result<(), Failure> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The object called `name`, for code that blocks, read by pieces of so many bytes. What replaces
    /// the object meanwhile is not mixed with it. To be called where tasks can be spawned.
    pub(super) async fn reader(
        &self,
        name: &FileName,
        piece_bytes: u64,
    ) -> Result<pipe::Chunks, Failure> {
        self.read(self.key(name), piece_bytes).await
    }

    /// The object that the place itself names.
    pub(super) async fn whole(&self, piece_bytes: u64) -> Result<pipe::Chunks, Failure> {
        self.read(self.prefix.clone(), piece_bytes).await
    }

    async fn read(&self, key: Key, piece_bytes: u64) -> Result<pipe::Chunks, Failure> {
        let head = match self.store.head(&key).await {
            Ok(head) => head,
            Err(object_store::Error::NotFound { .. }) => return Err(Failure::Missing),
            Err(error) => return Err(self.failed(error)),
        };
        let (sender, chunks) = pipe::to_blocking(head.size);
        let objects = self.clone();
        tokio::spawn(async move {
            let mut at = 0;
            while at < head.size {
                let end = head.size.min(at + piece_bytes);
                // A piece ahead of who reads, and no further.
                let Ok(room) = sender.reserve().await else {
                    return;
                };
                let piece = tokio::select! {
                    () = sender.closed() => return,
                    piece = objects.piece(&key, &head, at, end) => piece,
                };
                let is_last = piece.is_err();
                room.send(piece.map_err(IoError::other));
                if is_last {
                    return;
                }
                at = end;
            }
        });
        Ok(chunks)
    }

    async fn piece(
        &self,
        key: &Key,
        head: &ObjectMeta,
        start: u64,
        end: u64,
    ) -> Result<Bytes, Failure> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            // A weak one never matches.
            if_match: (head.e_tag.clone()).filter(|e_tag| !e_tag.starts_with("W/")),
            ..GetOptions::default()
        };
        let got = match self.store.get_opts(key, options).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = got.map_err(|error| self.failed(error))?;
        let (expected, actual) = (end - start, bytes.len() as u64);
        if actual != expected {
            return Err(Failure::Failed(format!(
                "the store sent {actual} bytes, expected {expected}"
            )));
        }
        Ok(bytes)
    }

    fn key(&self, name: &FileName) -> Key {
        self.prefix.clone().join(name.to_string())
    }

    /// What went wrong, and what to do.
    fn failed(&self, error: object_store::Error) -> Failure {
        let (text, bucket) = (told(&error), &self.bucket);
        let machine = match self.asks_machine {
            true => format!(
                "; {ID} and {SECRET} are not set, so the machine's role was asked for: set them \
                 unless it has one"
            ),
            false => String::new(),
        };
        Failure::Failed(match status(&error, &text) {
            Some(401 | 403) => {
                let code = code(&text).unwrap_or("access denied");
                format!(
                    "the store refused the credentials ({code}): check {ID}, {SECRET} and \
                     AWS_SESSION_TOKEN, the clock, and that they may list, read, write and delete in \
                     bucket {bucket}{machine}"
                )
            }
            Some(404) => format!(
                "bucket {bucket} is not there ({}): make it, or correct the URL, the endpoint or the \
                 region",
                code(&text).unwrap_or("not found")
            ),
            Some(412) => "it was replaced while it was read".to_owned(),
            Some(_) | None => format!("{text}{machine}"),
        })
    }
}

/// An upload that is given up when it is dropped before its end, so that nobody pays for its parts.
struct Upload {
    /// None once it is complete.
    of: Option<Box<dyn MultipartUpload>>,
    /// On their way.
    parts: JoinSet<object_store::Result<()>>,
    next: PutPayloadMut,
    part_bytes: usize,
}

impl Upload {
    async fn write(&mut self, mut chunk: Bytes) -> object_store::Result<()> {
        while !chunk.is_empty() {
            let room = self.part_bytes - self.next.content_length();
            self.next.push(chunk.split_to(room.min(chunk.len())));
            if self.next.content_length() == self.part_bytes {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> object_store::Result<()> {
        while self.parts.len() >= PARTS_MAX {
            self.wait().await?;
        }
        let part = std::mem::take(&mut self.next).freeze();
        let of = self.of.as_mut().expect("nothing is sent after the end");
        self.parts.spawn(of.put_part(part));
        Ok(())
    }

    /// Waits for one of the parts, if one is on its way.
    async fn wait(&mut self) -> object_store::Result<()> {
        match self.parts.join_next().await {
            Some(sent) => sent?,
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> object_store::Result<()> {
        if !self.next.is_empty() {
            self.send().await?;
        }
        while !self.parts.is_empty() {
            self.wait().await?;
        }
        let of = self.of.as_mut().expect("it ends once");
        of.complete().await?;
        self.of = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut of), Ok(runtime)) = (self.of.take(), Handle::try_current()) else {
            return;
        };
        let mut parts = std::mem::take(&mut self.parts);
        runtime.spawn(async move {
            // A part that arrives after the end would stay.
            let arrived = async { while parts.join_next().await.is_some() {} };
            let _ = timeout(SETTLE_TIMEOUT, arrived).await;
            parts.shutdown().await;
            if let Err(error) = of.abort().await {
                let error = told(&error);
                warn!(
                    error,
                    "parts of an upload stay in the store until a rule of the bucket removes them"
                );
            }
        });
    }
}

/// What is set in the environment, with the settings in place of what they replace.
fn variables(
    access: &Access,
    environment: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let of_store = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
    let mut variables: BTreeMap<_, _> = environment.into_iter().filter(of_store).collect();
    for (names, value) in [
        (ENDPOINTS.as_slice(), &access.endpoint),
        (&REGIONS, &access.region),
    ] {
        if !value.is_empty() {
            variables.retain(|name, _| !names.contains(&name.as_str()));
            variables.insert(names[0].to_owned(), value.clone());
        }
    }
    if access.allow_http {
        variables.insert("AWS_ALLOW_HTTP".to_owned(), "true".to_owned());
    }
    variables
}

/// Refuses what cannot work, before anything is asked. True if the machine will be asked for
/// credentials.
fn check(variables: &BTreeMap<String, String>) -> Result<bool, Failure> {
    let endpoint = ENDPOINTS.iter().find_map(|name| variables.get(*name));
    let allows_http = variables.get("AWS_ALLOW_HTTP");
    let allows_http = allows_http.is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if let Some(endpoint) = endpoint {
        if endpoint.starts_with("http://") && !allows_http {
            return Err(Failure::Refused(format!(
                "the endpoint {endpoint} is not encrypted: use https://, or set backup.s3_allow_http \
                 (or AWS_ALLOW_HTTP=true) if nobody listens"
            )));
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Failure::Refused(format!(
                "the endpoint is {endpoint:?}, expected https://HOST:PORT"
            )));
        }
    }
    let is_set = |name: &str| variables.contains_key(name);
    match (is_set(ID), is_set(SECRET)) {
        (true, true) => return Ok(false),
        (true, false) => return Err(refused(&format!("{ID} is set and {SECRET} is not"))),
        (false, true) => return Err(refused(&format!("{SECRET} is set and {ID} is not"))),
        (false, false) => {}
    }
    if OTHER_CREDENTIALS.into_iter().any(is_set) {
        return Ok(false);
    }
    if endpoint.is_some() {
        return Err(Failure::Refused(format!(
            "there are no credentials: set {ID} and {SECRET} (and AWS_SESSION_TOKEN if they are \
             temporary) in the environment"
        )));
    }
    Ok(true)
}

/// An error and what caused it, in a line.
fn told(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(ERROR_CHARS_MAX).collect()
}

/// The HTTP status that the store answered with. Where it was a list that failed, the library tells it
/// in words alone.
fn status(error: &object_store::Error, text: &str) -> Option<u16> {
    use object_store::Error;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's kinds grow, and each of them says what it is"
    )]
    match error {
        Error::Unauthenticated { .. } => Some(401),
        Error::PermissionDenied { .. } => Some(403),
        Error::NotFound { .. } => Some(404),
        Error::Precondition { .. } => Some(412),
        _ => {
            let (_, status) = text.split_once("status code: ")?;
            status.get(..3)?.parse().ok()
        }
    }
}

/// What S3 calls the error, as its answer has it. The rest of that answer may name keys.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code)
}

fn refused(reason: &str) -> Failure {
    Failure::Refused(reason.to_owned())
}

impl From<Failure> for IoError {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Missing => io::ErrorKind::NotFound,
            Failure::Refused(_) => io::ErrorKind::InvalidInput,
            Failure::Failed(_) => io::ErrorKind::Other,
        };
        Self::new(kind, failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(access: &Access, environment: &[(&str, &str)]) -> String {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match Objects::open("bucket/a/prefix/", access, environment) {
            Ok(objects) => format!("{} {}", objects.prefix, objects.asks_machine),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_asked() {
        let keys = [(ID, "an-id"), (SECRET, "a-secret")];
        let none = Access::default();
        let at = |endpoint: &str, allow_http| Access {
            endpoint: endpoint.to_owned(),
            allow_http,
            ..Access::default()
        };
        assert_eq!(opened(&none, &keys), "a/prefix false");
        assert_eq!(opened(&none, &[]), "a/prefix true");
        let role = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token")];
        assert_eq!(opened(&none, &role), "a/prefix false");
        for (access, environment, expected) in [
            (none.clone(), &keys[..1], "AWS_SECRET_ACCESS_KEY is not"),
            (none.clone(), &keys[1..], "AWS_ACCESS_KEY_ID is not"),
            (
                at("https://s3.local", false),
                &[],
                "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            (at("http://s3.local", false), &keys, "is not encrypted"),
            (at("s3.local", true), &keys, "expected https://HOST:PORT"),
            (none, &[("AWS_ALLOW_HTTP", "perhaps")], "perhaps"),
        ] {
            let error = opened(&access, environment);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("a-secret") && !error.contains("an-id"));
        }
        assert_eq!(
            opened(&at("http://s3.local", true), &keys),
            "a/prefix false"
        );
    }

    #[test]
    fn settings_go_before_the_environment_and_empty_variables_are_none() {
        let environment = [
            ("AWS_ENDPOINT_URL", "https://other"),
            ("AWS_REGION", "there"),
            ("AWS_SESSION_TOKEN", ""),
            ("HOME", "/root"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let unset = variables(&Access::default(), environment.clone());
        let names: Vec<_> = unset.keys().collect();
        assert_eq!(names, ["AWS_ENDPOINT_URL", "AWS_REGION"]);
        let access = Access {
            endpoint: "https://here".to_owned(),
            region: "eu".to_owned(),
            allow_http: true,
        };
        let set: Vec<_> = variables(&access, environment).into_iter().collect();
        let expected = [
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ENDPOINT_URL_S3", "https://here"),
            ("AWS_REGION", "eu"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(set, expected);
    }
}

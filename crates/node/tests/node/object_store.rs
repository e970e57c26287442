//! Snapshots in an object store. The store is a real server of the S3 protocol (`s3s` over a
//! directory, `s3s-fs`), with signatures checked, asked over HTTP on the loopback address; but it runs
//! in this process, and is neither Amazon's nor another that people run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Method, Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use memorygate_node::backup::FileName;
use memorygate_proto::v1::{
    CreateSnapshotRequest, ListSnapshotsRequest, SaveSnapshotRequest, SnapshotDescription,
    VerifySnapshotRequest, cluster_client::ClusterClient,
};
use memorygate_raft::{ClusterId, backup::verify};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};

use crate::{
    cluster::eventually,
    server::{Server, Start, ask, contents, experience},
};

const KEY: &str = "an-access-key";
const SECRET: &str = "a-secret-key";
const URL: &str = "s3://bucket/some/prefix";

/// What the store does wrong.
const NOTHING: u32 = 0;
/// Each connection ends at its first request.
const DOWN: u32 = 1;
/// The connection ends at every part of an upload but the first.
const PARTS_BREAK: u32 = 2;
/// Parts of an upload but the first are never answered.
const PARTS_HANG: u32 = 3;

/// A store with a bucket, which is a directory here.
struct Store {
    dir: TempDir,
    endpoint: String,
    fault: Arc<AtomicU32>,
    /// Requests for parts that were not answered.
    hanging: Arc<AtomicU32>,
}

impl Store {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(&root).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (fault, hanging) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let faults = (fault.clone(), hanging.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, faults) = (service.clone(), faults.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let answer =
                        service_fn(move |request| answer(service.clone(), faults.clone(), request));
                    // A client that goes away ends its connection, and so does a fault.
                    let _ = server.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self {
            dir,
            endpoint,
            fault,
            hanging,
        }
    }

    fn does(&self, fault: u32) {
        self.fault.store(fault, Ordering::SeqCst);
    }

    /// What a node is told of it.
    fn environment(&self) -> Vec<(String, String)> {
        keys(KEY, SECRET)
    }

    /// A node that keeps its snapshots there.
    fn node(&self, interval_s: u64, keep: usize) -> Start {
        let mut start = Start::new(&self.dir.path().join("data"));
        start.settings.backup.store = URL.to_owned();
        start.settings.backup.s3_endpoint = self.endpoint.clone();
        start.settings.backup.s3_allow_http = true;
        start.settings.backup.interval_s = interval_s;
        start.settings.backup.keep = keep;
        start.environment = self.environment();
        start
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Where the objects are.
    fn objects(&self) -> PathBuf {
        self.root().join("bucket/some/prefix")
    }

    /// The objects under the prefix, by name.
    fn kept(&self) -> Vec<String> {
        names(&self.objects())
    }

    /// Parts of uploads that nobody finished.
    fn has_parts(&self) -> bool {
        names(&self.root())
            .iter()
            .any(|name| name.starts_with(".upload_id-"))
    }

    /// The command line, which is told by the environment alone.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memorygate"));
        command.args(arguments).envs(self.environment());
        command.env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("AWS_ALLOW_HTTP", "true");
        tokio::task::block_in_place(|| command.output().unwrap())
    }
}

fn keys(key: &str, secret: &str) -> Vec<(String, String)> {
    [
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    names
}

async fn answer(
    service: S3Service,
    (fault, hanging): (Arc<AtomicU32>, Arc<AtomicU32>),
    request: Request<Incoming>,
) -> Result<s3s::HttpResponse, Box<dyn std::error::Error + Send + Sync>> {
    let query = request.uri().query().unwrap_or_default();
    let is_late_part = request.method() == Method::PUT
        && query.contains("partNumber=")
        && !query.split('&').any(|pair| pair == "partNumber=1");
    match fault.load(Ordering::SeqCst) {
        DOWN => Err("down".into()),
        PARTS_BREAK if is_late_part => Err("broken".into()),
        PARTS_HANG if is_late_part => {
            hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }
        _ => {
            let answered = service.call(request.map(s3s::Body::from)).await;
            Ok(answered.map_err(|error| format!("{error:?}"))?)
        }
    }
}

async fn operator(server: &Server) -> ClusterClient<Channel> {
    let endpoint = format!("http://{}", server.node.grpc_address());
    ClusterClient::connect(endpoint).await.unwrap()
}

async fn create(server: &Server) -> Result<SnapshotDescription, tonic::Status> {
    let mut operator = operator(server).await;
    let created = operator.create_snapshot(CreateSnapshotRequest {});
    Ok(created.await?.into_inner().snapshot.unwrap())
}

async fn list(server: &Server) -> Result<Vec<SnapshotDescription>, tonic::Status> {
    let mut operator = operator(server).await;
    let listed = operator.list_snapshots(ListSnapshotsRequest {});
    Ok(listed.await?.into_inner().snapshots)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// So much that its snapshot takes several parts of an upload.
async fn learn_much(server: &mut Server) {
    // Numbers that do not compress (xorshift), the same in each run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut number = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    for batch in 0..40 {
        let lessons = (0..200).map(|n| {
            let mut lesson = experience(&format!("lesson {batch} {n}"));
            lesson.vector = (0..384).map(|_| number()).collect();
            lesson
        });
        server.learn(lessons.collect()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_several_parts_goes_into_a_bucket_and_comes_back() {
    let store = Store::start().await;
    let mut server = Server::with(store.node(0, 1)).await;
    learn_much(&mut server).await;

    // An upload that breaks, and one that nobody waits for any more, leave nothing.
    store.does(PARTS_BREAK);
    let broken = create(&server).await.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable, "{broken}");
    assert!(broken.message().contains(URL), "{broken}");
    assert_eq!(list(&server).await.unwrap(), []);
    eventually("no parts", || (!store.has_parts()).then_some(())).await;
    store.does(PARTS_HANG);
    let backend = server.node.backend().clone();
    let creating = tokio::spawn(async move { backend.backups.create(&backend).await.map(drop) });
    eventually("a part hangs", || {
        (store.hanging.load(Ordering::SeqCst) > 0 && store.has_parts()).then_some(())
    })
    .await;
    creating.abort();
    eventually("no parts", || (!store.has_parts()).then_some(())).await;
    assert_eq!(list(&server).await.unwrap(), []);
    store.does(NOTHING);

    let made = create(&server).await.unwrap();
    assert!(made.bytes > 8 << 20, "{} bytes are one part", made.bytes);
    assert_eq!(store.kept(), [made.name.as_str()]);
    assert_eq!(list(&server).await.unwrap(), std::slice::from_ref(&made));
    let mut operator = operator(&server).await;
    let request = SaveSnapshotRequest {
        name: made.name.clone(),
    };
    let mut stream = operator.save_snapshot(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&message.chunk);
    }
    assert_eq!(bytes.len() as u64, made.bytes);
    let sent = verify(&mut &bytes[..]).unwrap();
    assert_eq!(sent.state_hash, made.state_hash);

    // The command line verifies it there, and restores it from there.
    let url = format!("{URL}/{}", made.name);
    for verb in ["show", "verify"] {
        let shown = store.run(&["snapshot", verb, &url]);
        assert!(
            text(&shown.stdout).contains(&made.state_hash),
            "{}",
            text(&shown.stderr)
        );
    }
    let data = store.dir.path().join("restored");
    let restore = |from: &str| {
        let to = data.to_str().unwrap();
        store.run(&["restore", "--from", from, "--data-dir", to])
    };
    let refused = restore(&format!("{URL}/no-such-file"));
    let said = text(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("there is no such object"), "{said}");
    let restored = restore(&url);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let mut again = Server::on(&data).await;
    let state = again.node.backend().raft.state().snapshot();
    assert_eq!(state.digest().to_string(), made.state_hash);
    assert_eq!(again.contents("lesson 7 7").await.len(), 10);
    again.stop().await;

    // One byte of it changed on the store.
    let object = store.objects().join(&made.name);
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).unwrap();
    let named = |name: &str| VerifySnapshotRequest {
        name: name.to_owned(),
    };
    let damaged = operator.verify_snapshot(named(&made.name)).await;
    assert_eq!(damaged.unwrap_err().code(), Code::DataLoss);
    let refused = store.run(&["snapshot", "verify", &url]);
    let said = text(&refused.stderr);
    assert!(said.contains("it is damaged"), "{said}");
    fs::remove_file(&object).unwrap();
    let missing = operator.verify_snapshot(named(&made.name)).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_snapshots_of_this_cluster_go_and_nothing_else_does() {
    let store = Store::start().await;
    let other = FileName {
        cluster_id: ClusterId(0xcd),
        position: 1,
        created_at_ms: 1,
    };
    let mut server = Server::with(store.node(1, 2)).await;
    let own = FileName {
        cluster_id: server.node.backend().raft.identity().cluster_id,
        ..other
    };
    let deeper = store.objects().join("deeper").join(own.to_string());
    fs::create_dir_all(deeper.parent().unwrap()).unwrap();
    let foreign = [
        deeper,
        store.objects().join(other.to_string()),
        store.objects().join("notes.txt"),
        store.objects().join(format!("{own}.copy")),
        store.root().join("bucket").join(own.to_string()),
    ];
    for file in &foreign {
        fs::write(file, "x").unwrap();
    }
    let others = store.kept();
    // An own one that is damaged, or was never whole, does not count and is left to be looked at.
    fs::write(store.objects().join(own.to_string()), "").unwrap();
    let mut last = Vec::new();
    for n in 0..4 {
        server.learn(vec![experience(&format!("lesson {n}"))]).await;
        server.clock.advance(10_000);
        server
            .metric(&format!("memorygate_backups_total {}", n + 1))
            .await;
        eventually("the old ones are gone", || {
            let mut kept = store.kept();
            kept.retain(|name| !others.contains(name) && *name != own.to_string());
            let is_new = kept.len() == 2.min(n + 1) && kept != last;
            is_new.then(|| last = kept)
        })
        .await;
    }
    server.metric("memorygate_backup_failing 0").await;
    for file in &foreign {
        assert_eq!(fs::read(file).unwrap(), b"x", "{}", file.display());
    }
    for name in &last {
        let mut file = fs::File::open(store.objects().join(name)).unwrap();
        verify(&mut file).unwrap();
    }
    // That one cannot be read, so it is not shown.
    let listed = list(&server).await.unwrap();
    let memories: Vec<u64> = listed.iter().map(|snapshot| snapshot.memories).collect();
    assert_eq!(memories, [4, 3]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_said_and_disturbs_nothing_else() {
    let store = Store::start().await;
    store.does(DOWN);
    let mut server = Server::with(store.node(1, 2)).await;
    server.learn(vec![experience("lesson")]).await;
    server.metric("memorygate_backup_failing 1").await;
    server.learn(vec![experience("another")]).await;
    assert_eq!(server.contents("another").await[0], "another");
    assert_eq!(server.http("/readyz").await.0, 200);
    let refused = list(&server).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains(URL), "{refused}");
    store.does(NOTHING);
    server.metric("memorygate_backup_failing 0").await;
    server.metric("memorygate_backups_total 1").await;
    assert_eq!(store.kept().len(), 1);
    let found = server.recall(ask("lesson")).await;
    assert_eq!(contents(&found)[0], "lesson");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_hears_what_to_do_and_no_key_is_said() {
    let store = Store::start().await;
    for (key, secret, expected) in [
        (KEY, "wrong-secret", "SignatureDoesNotMatch"),
        ("wrong-key", SECRET, "NotSignedUp"),
    ] {
        let mut start = store.node(0, 1);
        start.environment = keys(key, secret);
        let server = Server::with(start).await;
        let refused = list(&server).await.unwrap_err();
        let said = refused.message().to_owned();
        assert!(said.contains("check AWS_ACCESS_KEY_ID"), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(key) && !said.contains(secret), "{said}");
        server.stop().await;
    }
    let mut start = store.node(0, 1);
    start.settings.backup.store = "s3://no-such-bucket".to_owned();
    let server = Server::with(start).await;
    let said = list(&server).await.unwrap_err().message().to_owned();
    let expected = "bucket no-such-bucket is not there (NoSuchBucket): make it";
    assert!(said.contains(expected), "{said}");
    server.stop().await;
    // What cannot work is refused at the start.
    let refused = async |adjust: fn(&mut Start)| {
        let mut start = store.node(0, 1);
        adjust(&mut start);
        format!("{:#}", start.node().await.err().unwrap())
    };
    let said = refused(|start| start.environment.clear()).await;
    assert!(said.contains("there are no credentials"), "{said}");
    let said = refused(|start| start.settings.backup.s3_allow_http = false).await;
    assert!(said.contains("is not encrypted"), "{said}");
    let said = refused(|start| start.settings.backup.store = "s3://".to_owned()).await;
    assert!(said.contains("expected s3://BUCKET/PREFIX"), "{said}");
    let refused = store.run(&["snapshot", "verify", "s3://bucket"]);
    let said = text(&refused.stderr);
    assert!(said.contains("expected s3://BUCKET/KEY"), "{said}");
}

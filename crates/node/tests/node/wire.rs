//! What does not even come in the shape of a request.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use memorygate_core::time::TimeMs;
use memorygate_proto::v1::{self, LearnRequest};
use proptest::{prelude::*, strategy::ValueTree as _};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::server::{NOW_MS, Server, experience, failure};

/// Sends bytes as they are.
#[derive(Default)]
struct Raw(PhantomData<()>);

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn send(server: &Server, method: &str, bytes: Vec<u8>) -> Result<Bytes, Status> {
    let endpoint = format!("http://{}", server.node.grpc_address());
    let channel = Channel::from_shared(endpoint)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path: PathAndQuery = format!("/memorygate.v1.MemoryGate/{method}")
        .parse()
        .unwrap();
    let answer = grpc
        .unary(Request::new(Bytes::from(bytes)), path, Raw::default())
        .await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_request_field_is_refused_at_any_depth() {
    let mut server = Server::start().await;
    server.learn(vec![experience("x")]).await;
    let unknown = [0xa8, 0x46, 1]; // field 1125, varint 1
    let status = send(&server, "List", unknown.to_vec()).await.unwrap_err();
    let (text, details) = failure(&status);
    assert_eq!(text, "InvalidArgument MALFORMED_MESSAGE");
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert!(
        violation.description.contains("unknown field 1125"),
        "{violation:?}"
    );
    let mut nested = vec![0x1a, 3]; // field 3 of ListRequest: the filter
    nested.extend(unknown);
    let status = send(&server, "List", nested).await.unwrap_err();
    assert!(
        status
            .message()
            .contains("unknown field 1125 in memorygate.v1.Filter"),
        "{status:?}"
    );
    let mut learn = LearnRequest {
        experiences: vec![experience("stored only if the field is ignored")],
        ..LearnRequest::default()
    }
    .encode_to_vec();
    learn.extend(unknown);
    let status = send(&server, "Learn", learn).await.unwrap_err();
    assert_eq!(
        failure(&status).1.error_info().unwrap().metadata["outcome"],
        "failed"
    );
    assert_eq!(server.stats().await.namespaces[0].memories, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_is_refused() {
    let server = Server::start().await;
    let content = b"\x0a\x03ok\xff"; // field 1 of Experience
    let mut request = vec![0x1a, content.len() as u8]; // field 3 of LearnRequest
    request.extend(content);
    let status = send(&server, "Learn", request).await.unwrap_err();
    let (text, _) = failure(&status);
    assert_eq!(text, "InvalidArgument MALFORMED_MESSAGE");
    assert!(status.message().contains("UTF-8"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_protobuf_is_refused() {
    let mut server = Server::start().await;
    for bytes in [
        vec![0xff; 64],
        vec![0x0a, 100],
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        for method in ["Learn", "Recall", "Get", "List", "Stats"] {
            let status = send(&server, method, bytes.clone()).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{method} {status:?}");
        }
    }
    server.learn(vec![experience("it goes on")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_unimplemented() {
    let server = Server::start().await;
    let status = send(&server, "Consolidate", Vec::new()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// Bytes of requests that make sense, to be damaged.
fn requests() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let learn = LearnRequest {
        request_id: "1-00112233445566778899aabbccddeeff".to_owned(),
        namespace: "n".to_owned(),
        experiences: vec![v1::Experience {
            occurred_at: Some(prost_types::Timestamp {
                seconds: 5,
                nanos: 7,
            }),
            importance: Some(0.5),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            session: "s".to_owned(),
            scope: Some(v1::Scope {
                kind: Some(v1::scope::Kind::Team("t".to_owned())),
            }),
            links: vec![v1::LinkTarget {
                relation: "caused_by".to_owned(),
                key: "00112233445566778899aabbccddeeff".to_owned(),
            }],
            ..experience("content")
        }],
    };
    let recall = v1::RecallRequest {
        query: "why".to_owned(),
        limit: 7,
        reader: Some(v1::Reader {
            agent: "a".to_owned(),
            ..v1::Reader::default()
        }),
        filter: Some(v1::Filter {
            domains: vec!["d".to_owned()],
            min_importance: Some(0.1),
            ..v1::Filter::default()
        }),
        weights: Some(v1::Weights {
            late: Some(1.0),
            ..v1::Weights::default()
        }),
        without: vec![3],
        ..v1::RecallRequest::default()
    };
    let update = v1::UpdateRequest {
        key: "00112233445566778899aabbccddeeff".to_owned(),
        expected_version: Some(3),
        set_metadata: [("a".to_owned(), "b".to_owned())].into(),
        ..v1::UpdateRequest::default()
    };
    let whole = prop_oneof![
        Just((0_u8, learn.encode_to_vec())),
        Just((1_u8, recall.encode_to_vec())),
        Just((4_u8, update.encode_to_vec())),
    ];
    (
        whole,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|((method, mut bytes), damage)| {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            (method, bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_convert_or_are_refused(method in any::<u8>(), bytes in any::<Vec<u8>>()) {
        memorygate_node::wire::fuzz(method, &bytes, TimeMs(NOW_MS));
    }

    #[test]
    fn damaged_requests_convert_or_are_refused((method, bytes) in requests()) {
        memorygate_node::wire::fuzz(method, &bytes, TimeMs(NOW_MS));
    }
}

/// Without damage they convert, so the property above sees more than refusals.
#[test]
fn whole_requests_convert() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut converted = 0;
    for _ in 0..200 {
        let (method, bytes) = requests().new_tree(&mut runner).unwrap().current();
        converted += u32::from(memorygate_node::wire::fuzz(method, &bytes, TimeMs(NOW_MS)));
    }
    assert!(converted > 20, "{converted} of 200 converted");
}

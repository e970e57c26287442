//! What the proxy does to bytes between two members, each played by a socket here.

use std::{net::IpAddr, time::Duration};

use memorygate_jepsen::cluster::proxy::{Conditions, Proxy, Sources};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Both ends of a connection from member 0 to member 1.
struct Ends {
    proxy: Proxy,
    client: TcpStream,
    server: TcpStream,
}

/// Members are told apart by the process that owns a socket: both are this one, so the first it is.
async fn ends() -> Ends {
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    let listener = TcpListener::bind((here, 0)).await.unwrap();
    let target = listener.local_addr().unwrap();
    let nowhere = TcpListener::bind((here, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = Proxy::new(here, &[nowhere, target], Sources::by_owner(2))
        .await
        .unwrap();
    proxy.belongs(0, Some(std::process::id()));
    let mut client = TcpStream::connect(proxy.addresses()[1]).await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut preface = vec![0; PREFACE.len()];
    server.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    Ends {
        proxy,
        client,
        server,
    }
}

/// A frame of data of one stream.
fn data(stream: u8, byte: u8) -> Vec<u8> {
    vec![0, 0, 1, 0, 0, 0, 0, 0, stream, byte]
}

async fn receive(server: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; 10];
    server.read_exact(&mut frame).await.unwrap();
    frame
}

#[tokio::test]
async fn frames_pass_as_they_are() {
    let mut ends = ends().await;
    ends.client.write_all(&data(1, b'a')).await.unwrap();
    assert_eq!(receive(&mut ends.server).await, data(1, b'a'));
    ends.server.write_all(&data(1, b'b')).await.unwrap();
    assert_eq!(receive(&mut ends.client).await, data(1, b'b'));
    assert_eq!(ends.proxy.total(), Default::default());
}

#[tokio::test]
async fn a_cut_link_holds_one_direction_until_it_is_mended() {
    let mut ends = ends().await;
    ends.proxy
        .change(|conditions| conditions.link(0, 1).is_cut = true);
    ends.client.write_all(&data(1, b'a')).await.unwrap();
    // The other direction goes on.
    ends.server.write_all(&data(1, b'b')).await.unwrap();
    assert_eq!(receive(&mut ends.client).await, data(1, b'b'));
    while ends.proxy.counts(0, 1).held == 0 {
        tokio::task::yield_now().await;
    }
    let early = timeout(Duration::from_millis(100), receive(&mut ends.server)).await;
    assert!(early.is_err(), "nothing comes over a cut link");
    ends.proxy
        .change(|conditions| *conditions = Conditions::new(2));
    assert_eq!(receive(&mut ends.server).await, data(1, b'a'));
}

#[tokio::test]
async fn delayed_and_lost_frames_arrive_in_their_order() {
    let mut ends = ends().await;
    ends.proxy.change(|conditions| {
        let link = conditions.link(0, 1);
        link.delay_ms_max = 20;
        link.loss_percent = 30;
    });
    for byte in 0..20 {
        ends.client.write_all(&data(1, byte)).await.unwrap();
    }
    for byte in 0..20 {
        assert_eq!(receive(&mut ends.server).await, data(1, byte));
    }
    let counts = ends.proxy.counts(0, 1);
    assert_eq!(counts.delayed, 20);
}

#[tokio::test]
async fn data_of_one_stream_is_overtaken_by_that_of_others_and_stays_in_order() {
    let mut ends = ends().await;
    ends.proxy
        .change(|conditions| conditions.link(0, 1).overtaken_percent = 50);
    // Half of the streams wait from their first frame on, so that with so many of them the rest has
    // something to overtake, whatever is drawn: all wait in one of a million runs.
    let streams = 20;
    let mut sent = Vec::new();
    for byte in 0..60 {
        let frame = data(1 + byte % streams, byte);
        ends.client.write_all(&frame).await.unwrap();
        sent.push(frame);
    }
    let mut received = Vec::new();
    for _ in 0..60 {
        received.push(receive(&mut ends.server).await);
    }
    let of = |frames: &[Vec<u8>], stream: u8| -> Vec<u8> {
        let of_it = frames.iter().filter(|frame| frame[8] == stream);
        of_it.map(|frame| frame[9]).collect()
    };
    for stream in 1..=streams {
        assert_eq!(of(&received, stream), of(&sent, stream));
    }
    assert!(ends.proxy.counts(0, 1).overtaken > 0);
}

#[tokio::test]
async fn an_end_that_goes_takes_the_other_along() {
    let mut ends = ends().await;
    drop(ends.client);
    let mut rest = Vec::new();
    ends.server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

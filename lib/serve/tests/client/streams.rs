//! What is done with connections over HTTP/2: shared by a few calls each, left, and reset stream by stream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use parm_oip::instance::{CallContext, CallError};
use tokio::sync::Semaphore;

use crate::fake::*;
use crate::grpc::{framed, grpc_client, message, replied};

#[tokio::test]
async fn calls_share_a_few_connections() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let fake = Fake::start(None, move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            replied(&message(1), "0")
        })
    })
    .await;
    let server = grpc_client(fake.address);
    open.add_permits(5);
    for _ in 0..5 {
        infer(&server).await.unwrap();
    }
    assert_eq!(fake.connections(), 1, "one after the other");
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { infer(&server).await.unwrap() })
        })
        .collect();
    soon("all calls", || fake.asked().len() == 5 + 16).await;
    open.add_permits(16);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(fake.connections(), 4, "at the same time");
}

#[tokio::test]
async fn calls_that_are_dropped_reset_their_streams_and_leave_the_connections() {
    // Answers to calls that were dropped are errors to HTTP/2, of which its libraries bear 1024.
    const ROUNDS: usize = 30;
    const CALLS: usize = 400;
    // One on each connection.
    const KEPT: usize = 4;
    let fake = Fake::new(|_| replied(&message(LIMIT / 8), "0")).await;
    let server = grpc_client(fake.address);
    for round in 1..=ROUNDS {
        let mut calls: Vec<_> =
            (0..CALLS).map(|_| tokio::spawn(server.infer(request(3), CallContext::default()))).collect();
        soon("all calls", || fake.asked().len() == round * CALLS).await;
        calls.drain(..CALLS - KEPT).for_each(|call| call.abort());
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().outputs[0].data.len(), LIMIT / 8);
        }
    }
    assert_eq!(fake.connections(), 4);
}

/// A server of HTTP/2 frame by frame: what it does with the request of this number on the connection of
/// this number.
async fn frames(
    act: impl Fn(usize, usize, h2::server::SendResponse<Bytes>) -> bool + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, act) = (Arc::new(AtomicUsize::new(0)), Arc::new(act));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = counted.fetch_add(1, Ordering::SeqCst);
            let act = Arc::clone(&act);
            tokio::spawn(async move {
                let mut h2 = h2::server::handshake(stream).await.unwrap();
                let mut number = 0;
                while let Some(Ok((_, respond))) = h2.accept().await {
                    if act(connection, number, respond) {
                        h2.graceful_shutdown();
                    }
                    number += 1;
                }
            });
        }
    });
    (address, connections)
}

fn respond(mut respond: h2::server::SendResponse<Bytes>) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(framed(&message(1)), false).unwrap();
    let status = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
    stream.send_trailers(status.into_iter().collect()).unwrap();
}

#[tokio::test]
async fn a_connection_that_the_server_takes_leave_of_fails_no_call() {
    let (address, connections) = frames(|_, number, stream| {
        respond(stream);
        number == 1
    })
    .await;
    let server = grpc_client(address);
    for _ in 0..10 {
        infer(&server).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5, "two calls on each");
}

#[tokio::test]
async fn a_stream_that_is_reset_fails_its_call_alone() {
    let (address, connections) = frames(|_, number, mut stream| {
        if number == 1 {
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        } else {
            respond(stream);
        }
        false
    })
    .await;
    let server = grpc_client(address);
    infer(&server).await.unwrap();
    let error = infer(&server).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable(_)), "{error:?}");
    infer(&server).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_unreachable() {
    let (address, _) = frames(|_, _, mut stream| {
        let mut stream = stream.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"\0\0\0\x01\0abc"), false).unwrap();
        stream.send_reset(h2::Reason::CANCEL);
        false
    })
    .await;
    let error = infer(&grpc_client(address)).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_answered_any_more_is_left() {
    let held = Mutex::new(Vec::new());
    let (address, connections) = frames(move |connection, number, stream| {
        if connection == 0 && number > 0 {
            held.lock().unwrap().push(stream);
        } else {
            respond(stream);
        }
        false
    })
    .await;
    let server = grpc_client(address);
    infer(&server).await.unwrap();
    for _ in 0..8 {
        let error = infer_within(&server, 20).await.unwrap_err();
        assert_eq!(error, CallError::Timeout(Duration::from_millis(20)));
    }
    infer(&server).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_stops_and_comes_back_fails_no_call_after_that() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = grpc_client(address);
    let serve = async |listener: tokio::net::TcpListener| {
        let (stream, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::handshake(stream).await.unwrap();
        let (_, stream) = h2.accept().await.unwrap().unwrap();
        respond(stream);
        // Until the answer is out; then everything is dropped without a word.
        let _ = tokio::time::timeout(Duration::from_millis(50), h2.accept()).await;
    };
    let ((), answer) = tokio::join!(serve(listener), infer(&server));
    answer.unwrap();
    // A call that comes before the client can know would be lost with the server.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let ((), answer) = tokio::join!(serve(listener), infer(&server));
    answer.unwrap();
}

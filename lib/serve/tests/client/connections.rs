//! What is done with connections over HTTP/1: kept, shared by none, and closed.

use std::sync::Arc;
use std::time::Duration;

use parm_oip::instance::{CallContext, CallError};
use parm_oip::{Error, Status};
use tokio::sync::Semaphore;

use crate::fake::*;

fn whole() -> Step {
    Step::Write(http("200 OK", "", ANSWER))
}

/// The connections that requests came on, in order.
fn connections(log: &Log) -> Vec<usize> {
    log.lock().unwrap().iter().filter(|(_, head)| head.is_some()).map(|(connection, _)| *connection).collect()
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call() {
    let fake = Fake::new(|_| answer()).await;
    let server = json_client(fake.address);
    for _ in 0..10 {
        infer(&server).await.unwrap();
    }
    assert_eq!((fake.connections(), fake.asked().len()), (1, 10));
}

#[tokio::test]
async fn calls_at_the_same_time_have_connections_of_their_own() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let fake = Fake::start(None, move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            answer()
        })
    })
    .await;
    let server = json_client(fake.address);
    for _ in 0..2 {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { infer(&server).await.unwrap() })
            })
            .collect();
        soon("all calls", || fake.asked().len().is_multiple_of(8) && !fake.asked().is_empty()).await;
        open.add_permits(8);
        for call in calls {
            call.await.unwrap();
        }
    }
    assert_eq!((fake.connections(), fake.asked().len()), (8, 16));
}

#[tokio::test]
async fn connections_that_the_server_closed_long_ago_are_not_used() {
    let (address, log) = raw(|_, _| vec![whole(), Step::Close]).await;
    let server = json_client(address);
    for call in 0..3 {
        infer(&server).await.unwrap();
        soon("the end", || log.lock().unwrap().contains(&(call, None))).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(connections(&log), [0, 1, 2]);
}

#[tokio::test]
async fn a_request_that_may_have_run_is_not_sent_again() {
    // It closes when it has read the next request, which it may have worked on.
    let (address, log) =
        raw(|_, request| if request == 0 { vec![whole(), Step::Next] } else { vec![Step::Close] }).await;
    let server = json_client(address);
    for _ in 0..2 {
        infer(&server).await.unwrap();
        assert!(matches!(infer(&server).await, Err(CallError::Unreachable(_))));
    }
    assert_eq!(connections(&log), [0, 0, 1, 1]);
}

#[tokio::test]
async fn connections_that_the_server_closed_meanwhile_fail_no_call() {
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let fake = Fake::start(None, move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            answer()
        })
    })
    .await;
    // All that it has are closed at once, while the runtime is at work elsewhere.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = json_client(address);
    let upstream = fake.address;
    let close = Arc::new(tokio::sync::Notify::new());
    let closed = Arc::clone(&close);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let closed = Arc::clone(&closed);
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(upstream).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    () = closed.notified() => {}
                }
            });
        }
    });
    let calls: Vec<_> =
        (0..4).map(|_| tokio::spawn(server.infer(request(3), CallContext::default()))).collect();
    soon("all calls", || fake.asked().len() == 4).await;
    open.add_permits(5);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    close.notify_waiters();
    tokio::time::sleep(Duration::from_millis(50)).await;
    infer(&server).await.unwrap();
    assert_eq!(fake.asked().len(), 5);
}

#[tokio::test]
async fn an_answer_that_is_garbage_is_not_asked_for_again() {
    let (address, log) = raw(|_, request| match request {
        0 => vec![whole(), Step::Next],
        _ => vec![Step::Write(b"garbage\r\n\r\n".to_vec()), Step::Close],
    })
    .await;
    let server = json_client(address);
    infer(&server).await.unwrap();
    assert!(matches!(infer(&server).await, Err(CallError::Garbled(_))));
    assert_eq!(connections(&log), [0, 0]);
}

#[tokio::test]
async fn more_than_the_answer_ends_the_connection() {
    let (address, log) = raw(|_, _| {
        vec![Step::Write([http("200 OK", "", ANSWER), http("200 OK", "", "{}")].concat()), Step::Next]
    })
    .await;
    let server = json_client(address);
    for _ in 0..3 {
        // Never what was left of the answer before.
        assert_eq!(floats(&infer(&server).await.unwrap()), [1.5]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(connections(&log), [0, 1, 2]);
}

#[tokio::test]
async fn a_connection_is_not_kept_where_the_server_says_so() {
    let (address, log) =
        raw(|_, _| vec![Step::Write(http("200 OK", "connection: close\r\n", ANSWER)), Step::Hang]).await;
    let server = json_client(address);
    for _ in 0..2 {
        infer(&server).await.unwrap();
    }
    assert_eq!(connections(&log), [0, 1]);
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection_and_no_other() {
    let (address, log) = raw(|connection, _| match connection {
        0 => vec![Step::Hang],
        _ => vec![Step::Drip(http("200 OK", "", ANSWER)), Step::Next],
    })
    .await;
    let server = json_client(address);
    let first = tokio::spawn(server.infer(request(3), CallContext::default()));
    soon("the first call", || connections(&log) == [0]).await;
    let second = tokio::spawn(server.infer(request(3), CallContext::default()));
    soon("the second call", || connections(&log) == [0, 1]).await;
    first.abort();
    soon("the end of the first", || log.lock().unwrap().contains(&(0, None))).await;
    assert_eq!(floats(&second.await.unwrap().unwrap()), [1.5]);
    // Between its head and its end, too.
    let third = tokio::spawn(server.infer(request(3), CallContext::default()));
    soon("the third call", || connections(&log) == [0, 1, 1]).await;
    tokio::time::sleep(Duration::from_millis(5 * 60)).await;
    third.abort();
    soon("the end of the third", || log.lock().unwrap().contains(&(1, None))).await;
}

#[tokio::test]
async fn a_server_may_answer_before_it_has_read_the_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = json_client(listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        stream.write_all(&http("413 Payload Too Large", "", r#"{"error":"large"}"#)).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = server.infer(request(4_000_000), CallContext::default()).await.unwrap_err();
    assert_eq!(error, CallError::Refused(Error::new(Status::TooLarge, "large")));
}

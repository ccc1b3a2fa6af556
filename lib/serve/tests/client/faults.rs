//! Instances that send unexpected bytes, answers to other calls, and what their protocol forbids.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parm_oip::instance::{CallContext, CallError};
use parm_oip::proto::ModelInferRequest;
use parm_oip::{InferResponse, Parameter};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fake::*;
use crate::grpc::{framed, grpc_client, message, replied};

fn is_mismatched(error: &CallError) -> bool {
    matches!(error, CallError::Mismatched(_))
}

/// A response in JSON with this id, whose y is a number.
fn response(id: &str, y: f32) -> Vec<u8> {
    let body = format!(
        r#"{{"model_name":"m","id":"{id}","outputs":[{{"name":"y","datatype":"FP32","shape":[1,1],"data":[{y}]}}]}}"#
    );
    http("200 OK", "", &body)
}

/// Reads a request of HTTP/1 with its body; its id.
async fn read_id(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: "))
            && body.len() >= length.parse().unwrap()
        {
            return Some(body.split("\"id\":\"").nth(1)?.split('"').next()?.to_owned());
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A server that answers each request of HTTP/1 with what a function makes of the ids so far, by connection.
async fn server(answers: impl Fn(usize, &[String]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(answers);
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                while let Some(id) = read_id(&mut stream).await {
                    ids.push(id);
                    if stream.write_all(&answers(connection, &ids)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn the_answer_of_the_call_before_is_no_answer_and_ends_the_connection() {
    // It comes when the next request has been written: nothing but its id tells.
    let address = server(|_, ids| match ids {
        [only] => response(only, 1.0),
        [.., before, last] => [response(before, 1.0), response(last, 2.0)].concat(),
        [] => Vec::new(),
    })
    .await;
    let client = json_client(address);
    assert_eq!(floats(&infer(&client).await.unwrap()), [1.0]);
    let error = infer(&client).await.unwrap_err();
    assert!(is_mismatched(&error) && error.to_string().contains("with the id 'parm-"), "{error:?}");
    // On a new connection.
    assert_eq!(floats(&infer(&client).await.unwrap()), [1.0]);
    let view = client.view();
    assert_eq!((view.echoes_ids, view.mismatched), (Some(true), 1));
}

#[tokio::test]
async fn an_answer_that_comes_while_a_connection_is_kept_is_never_read() {
    // Without ids: the connection alone shows it.
    let (address, log) =
        raw(|_, _| vec![Step::Write(http("200 OK", "", ANSWER)), Step::Drip(b"HT".to_vec())]).await;
    let client = json_client(address);
    for call in 0..3 {
        assert_eq!(floats(&infer(&client).await.unwrap()), [1.5]);
        // The server's own thread may be late.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(log.lock().unwrap().iter().filter(|(_, head)| head.is_some()).count(), call + 1);
    }
    let connections: Vec<usize> =
        log.lock().unwrap().iter().filter(|(_, head)| head.is_some()).map(|(of, _)| *of).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[tokio::test]
async fn an_answer_that_the_runtime_has_not_seen_yet_is_found_before_the_next_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = json_client(listener.local_addr().unwrap());
    let (asked, more) = std::sync::mpsc::channel();
    let (wrote, written) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(&http("200 OK", "", ANSWER)).unwrap();
            if more.recv().is_err() {
                return;
            }
            stream.write_all(&http("200 OK", "", &ANSWER.replace("1.5", "9.5"))).unwrap();
            wrote.send(()).unwrap();
        }
    });
    for _ in 0..3 {
        assert_eq!(floats(&infer(&client).await.unwrap()), [1.5]);
        asked.send(()).unwrap();
        // This blocks the only thread of the runtime: it cannot learn of the answer.
        written.recv().unwrap();
    }
}

#[tokio::test]
async fn a_success_that_begins_before_its_request_was_sent_is_another_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = json_client(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        stream.write_all(&http("200 OK", "", ANSWER)).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = client.infer(request(4_000_000), CallContext::default()).await.unwrap_err();
    assert!(is_mismatched(&error), "{error:?}");
    assert_eq!(client.view().mismatched, 1);
}

#[tokio::test]
async fn another_model_or_version_is_no_answer() {
    for (said, version, expected) in [
        (r#""model_name":"n""#, "", "with the model 'n', expected 'm'"),
        (r#""model_name":"m","model_version":"1""#, "2", "with the version '1', expected '2'"),
    ] {
        let body = ANSWER.replace(r#""model_name":"m""#, said);
        let fake = Fake::new(move |_| json(200, &body)).await;
        let mut asked = request(3);
        version.clone_into(&mut asked.version);
        let error = json_client(fake.address).infer(asked, CallContext::default()).await.unwrap_err();
        assert!(is_mismatched(&error) && error.to_string().contains(expected), "{error:?}");
    }
    // What is not said, and a version that was not asked for, are no mismatch.
    for said in [r#""model_name":"m","model_version":"7""#, r#""parameters":{}"#] {
        let body = ANSWER.replace(r#""model_name":"m""#, said);
        let fake = Fake::new(move |_| json(200, &body)).await;
        infer(&json_client(fake.address)).await.unwrap();
    }
}

#[tokio::test]
async fn over_grpc_the_answer_of_another_call_is_no_answer() {
    // The server sends ids back, but of the call before.
    let before = std::sync::Mutex::new(String::new());
    let calls = AtomicUsize::new(0);
    let fake = Fake::new(move |seen| {
        let asked = ModelInferRequest::decode(&seen.body[5..]).unwrap();
        let swapped = std::mem::replace(&mut *before.lock().unwrap(), asked.id.clone());
        let answer = parm_oip::proto::ModelInferResponse {
            model_name: "m".to_owned(),
            id: if calls.fetch_add(1, Ordering::SeqCst) == 1 { swapped } else { asked.id },
            ..parm_oip::proto::ModelInferResponse::decode(&message(1)[..]).unwrap()
        };
        replied(&answer.encode_to_vec(), "0")
    })
    .await;
    let client = grpc_client(fake.address);
    infer(&client).await.unwrap();
    assert!(is_mismatched(&infer(&client).await.unwrap_err()));
    infer(&client).await.unwrap();
    assert_eq!((fake.connections(), client.view().mismatched), (2, 1));
}

#[tokio::test]
async fn interim_replies_without_end_are_garbled() {
    let (address, _) =
        raw(|_, _| vec![Step::Flood(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(100))]).await;
    let error = infer_within(&json_client(address), 20_000).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Garbled(text) if text.contains("without the head of an answer")),
        "{error:?}"
    );
    // A few are read over.
    let few =
        [b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(10), http("200 OK", "", ANSWER)].concat();
    let (address, _) = raw(move |_, _| vec![Step::Write(few.clone()), Step::Next]).await;
    infer(&json_client(address)).await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::handshake(stream).await.unwrap();
        let mut open = Vec::new();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            for _ in 0..200 {
                respond.send_informational(http::Response::builder().status(103).body(()).unwrap()).unwrap();
            }
            open.push(respond);
        }
    });
    let error = infer_within(&grpc_client(address), 20_000).await.unwrap_err();
    assert!(matches!(&error, CallError::Garbled(text) if text.contains("interim responses")), "{error:?}");
}

#[tokio::test]
async fn a_step_of_a_sequence_is_sent_once_whatever_becomes_of_it() {
    // Its form is not known yet: of a server that fails, JSON would be tried next.
    let fake = Fake::new(|seen| if seen.asked == "GET /v2" { json(404, "") } else { json(500, "") }).await;
    let client = client(&fake.url(), fake.address, parm_config::Encoding::Auto);
    let mut step = request(3);
    step.parameters.insert("sequence_id".to_owned(), Parameter::Int(7));
    client.infer(step, CallContext::default()).await.unwrap_err();
    assert_eq!(fake.asked(), ["GET /v2", "POST /v2/models/m/infer"]);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers, none of which is compressed.
fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    fields.iter().flat_map(field).collect()
}

fn head(stream: u32) -> Vec<u8> {
    frame(1, 4, stream, &literal(&[(":status", "200"), ("content-type", "application/grpc")]))
}

fn whole(stream: u32) -> Vec<u8> {
    let trailers = literal(&[("grpc-status", "0")]);
    [head(stream), frame(0, 0, stream, &framed(&message(1))), frame(1, 5, stream, &trailers)].concat()
}

/// A server of HTTP/2 by hand: it answers the first request well, the second with what it is told, and
/// closes then, if that says so; and all others well.
async fn by_hand(
    wrong: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    closes: bool,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (number, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wrong, counted) = (Arc::new(wrong), Arc::clone(&connections));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let (number, wrong) = (Arc::clone(&number), Arc::clone(&wrong));
            tokio::spawn(async move {
                stream.read_exact(&mut [0; 24]).await?;
                stream.write_all(&frame(4, 0, 0, &[])).await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let [a, b, c, kind, flags, d, e, f, g] = head;
                    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                    stream.read_exact(&mut payload).await?;
                    let id = u32::from_be_bytes([d, e, f, g]);
                    let reply = match kind {
                        4 if flags & 1 == 0 => frame(4, 1, 0, &[]),
                        6 if flags & 1 == 0 => frame(6, 1, 0, &payload),
                        0 | 1 if flags & 1 == 1 => match number.fetch_add(1, Ordering::SeqCst) {
                            1 => {
                                stream.write_all(&wrong(id)).await?;
                                if closes {
                                    return Ok::<_, std::io::Error>(());
                                }
                                continue;
                            }
                            _ => whole(id),
                        },
                        _ => continue,
                    };
                    stream.write_all(&reply).await?;
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn after_every_kind_of_error_of_http_2_the_next_call_is_answered() {
    type Wrong = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;
    let fixed = |bytes: Vec<u8>| Box::new(move |_| bytes.clone()) as Wrong;
    let goaway =
        |last: u32, reason: u32| frame(7, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat());
    let kinds: Vec<(&str, Wrong)> = vec![
        ("nothing", fixed(Vec::new())),
        ("a window update by 0", fixed(frame(8, 0, 0, &[0; 4]))),
        ("a window update that overflows", fixed(frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]))),
        ("an answer of HTTP/1.1", fixed(http("400 Bad Request", "", ""))),
        ("garbage", fixed(vec![0xff; 64])),
        ("data on the connection", fixed(frame(0, 0, 0, b"x"))),
        ("data of a stream that is not", fixed(frame(0, 0, 99, b"x"))),
        ("headers of a stream that is not", Box::new(|_| head(98))),
        ("headers that cannot be read", Box::new(|id| frame(1, 4, id, &[0xff; 16]))),
        ("headers without a status", Box::new(|id| frame(1, 4, id, &literal(&[("a", "b")])))),
        ("headers in capitals", Box::new(|id| frame(1, 4, id, &literal(&[(":status", "200"), ("A", "b")])))),
        ("headers that do not end", Box::new(|id| [frame(1, 0, id, &[]), frame(0, 0, id, b"x")].concat())),
        ("a continuation of nothing", Box::new(|id| frame(9, 4, id, &[]))),
        ("a ping of 7 bytes", fixed(frame(6, 0, 0, &[0; 7]))),
        ("settings of 5 bytes", fixed(frame(4, 0, 0, &[0; 5]))),
        ("settings that cannot be", fixed(frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]))),
        ("a frame that is too large", fixed([&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 100]].concat())),
        (
            "a push",
            Box::new(|id| frame(5, 4, id, &[&[0, 0, 0, 2][..], &literal(&[(":path", "/")])].concat())),
        ),
        ("a reset of the connection", fixed(frame(3, 0, 0, &[0; 4]))),
        ("a reset of the stream", Box::new(|id| frame(3, 0, id, &2_u32.to_be_bytes()))),
        ("leave with an error", Box::new(move |id| goaway(id, 11))),
        ("leave with an error, of no call", fixed(goaway(0, 1))),
        (
            "more data than its length",
            Box::new(|id| {
                let head = literal(&[(":status", "200"), ("content-length", "1")]);
                [frame(1, 4, id, &head), frame(0, 1, id, b"xy")].concat()
            }),
        ),
        ("an answer twice", Box::new(|id| [whole(id), whole(id)].concat())),
    ];
    for (what, wrong) in kinds {
        let wrong = Arc::new(wrong);
        for closes in [false, true] {
            let made = Arc::clone(&wrong);
            let (address, connections) = by_hand(move |id| made(id), closes).await;
            let client = grpc_client(address);
            infer(&client).await.unwrap();
            // It may be answered, if the server says that it did not take it; or fail, or hang.
            let _ = infer_within(&client, 300).await;
            for _ in 0..2 {
                let answer = infer_within(&client, 10_000).await;
                assert!(answer.is_ok(), "{what}: {answer:?}");
            }
            assert!(connections.load(Ordering::SeqCst) <= 3, "{what}");
        }
    }
}

#[tokio::test]
async fn after_every_kind_of_error_of_http_1_the_next_call_is_answered() {
    let whole = http("200 OK", "", ANSWER);
    for (what, steps) in [
        ("nothing", vec![Step::Close]),
        ("garbage", vec![Step::Write(vec![0xff; 64]), Step::Close]),
        ("garbage, and no end", vec![Step::Write(b"SSH-2.0-x\r\n\r\n".to_vec()), Step::Hang]),
        ("half a head", vec![Step::Write(whole[..20].to_vec()), Step::Close]),
        ("half a body", vec![Step::Write(whole[..whole.len() - 5].to_vec()), Step::Close]),
        (
            "another length",
            vec![Step::Write(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".to_vec()), Step::Hang],
        ),
        ("another protocol", vec![Step::Write(frame(4, 0, 0, &[])), Step::Hang]),
        (
            "a switch of protocols",
            vec![Step::Write(b"HTTP/1.1 101 X\r\nupgrade: x\r\n\r\n".to_vec()), Step::Hang],
        ),
        ("an answer twice", vec![Step::Write(whole.repeat(2)), Step::Next]),
        ("no JSON", vec![Step::Write(http("200 OK", "", "<html>")), Step::Next]),
        ("an error", vec![Step::Write(http("500 X", "", "")), Step::Next]),
        ("a refusal", vec![Step::Write(http("400 X", "", "")), Step::Next]),
        ("a redirection", vec![Step::Write(http("302 X", "location: /\r\n", "")), Step::Next]),
        ("interim responses", vec![Step::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]),
    ] {
        let asked = AtomicUsize::new(0);
        let answer = whole.clone();
        let (address, _) = raw(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
            1 => steps.clone(),
            _ => vec![Step::Write(answer.clone()), Step::Next],
        })
        .await;
        let client = json_client(address);
        infer(&client).await.unwrap();
        let _ = infer_within(&client, 20_000).await;
        for _ in 0..2 {
            let answer = infer_within(&client, 10_000).await;
            assert!(answer.is_ok_and(|answer: InferResponse| floats(&answer) == [1.5]), "{what}");
        }
    }
}

#[tokio::test]
async fn a_request_that_the_server_says_it_did_not_take_is_sent_again_and_no_other() {
    let refused = 7_u32.to_be_bytes();
    for (what, wrong, taken) in [
        ("refused", frame(3, 0, 3, &refused), false),
        ("leave before it", frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), false),
        ("reset", frame(3, 0, 3, &2_u32.to_be_bytes()), true),
        ("leave after it", frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 2]), true),
        ("nothing", Vec::new(), true),
    ] {
        let (address, _) = by_hand(move |_| wrong.clone(), true).await;
        let client = grpc_client(address);
        infer(&client).await.unwrap();
        let answer = infer_within(&client, 10_000).await;
        assert_eq!(answer.is_err(), taken, "{what}: {answer:?}");
    }
}

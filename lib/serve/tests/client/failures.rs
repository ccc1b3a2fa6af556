//! Answers that are none: garbage, halves, floods and drips.

use std::time::Duration;

use parm_config::{Encoding, Remote};
use parm_oip::client::{Error, resolve};
use parm_oip::instance::CallError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fake::*;

/// What becomes of a call that is answered like this.
async fn of(steps: Vec<Step>) -> CallError {
    let (address, _) = raw(move |_, _| steps.clone()).await;
    infer(&json_client(address)).await.unwrap_err()
}

fn is_unreachable(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable(_))
}

fn is_garbled(error: &CallError) -> bool {
    matches!(error, CallError::Garbled(_))
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for url in [format!("http://{address}"), format!("grpc://{address}")] {
        let server = client(&url, address, Encoding::Auto);
        let error = infer(&server).await.unwrap_err();
        assert!(
            error.to_string().starts_with("the instance cannot be reached: Connection refused"),
            "{error}"
        );
        assert!(is_unreachable(&error) && is_unreachable(&server.ready("m", "").await.unwrap_err()));
        assert!(is_unreachable(&server.metadata("m", "").await.unwrap_err()));
    }
}

#[tokio::test]
async fn half_an_answer_is_unreachable() {
    let whole = http("200 OK", "", ANSWER);
    let head = whole.len() - ANSWER.len();
    for end in [0, 5, head - 1, head, head + 10, whole.len() - 1] {
        let error = of(vec![Step::Write(whole[..end].to_vec()), Step::Close]).await;
        assert!(is_unreachable(&error), "{end}: {error:?}");
    }
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"out\r\n";
    let error = of(vec![Step::Write(chunks.to_vec()), Step::Close]).await;
    assert!(is_unreachable(&error), "{error:?}");
}

#[tokio::test]
async fn garbage_is_garbled() {
    let json = |body: &str| http("200 OK", "", body);
    let binary = |length: &str, body: &str| {
        http("200 OK", &format!("inference-header-content-length: {length}\r\n"), body)
    };
    let sized =
        r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
    for (bytes, expected) in [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), "the answer is not HTTP"),
        (vec![0xff; 100], "the answer is not HTTP"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec(), "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n".to_vec(), "the answer is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
            "the answer is not HTTP",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_vec(), "the answer is not HTTP"),
        (json(""), "response"),
        (json("<html>"), "response"),
        (json("[]"), "response"),
        (json("{}"), "missing field `outputs`"),
        (json(&"[".repeat(100_000)), "response"),
        (json(r#"{"outputs":[{"name":"y","datatype":"FP99","shape":[1],"data":[1]}]}"#), "FP99"),
        (json(r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1]}]}"#), "output 'y'"),
        (json(r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1,2]}]}"#), "output 'y'"),
        (json(r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[-1],"data":[1]}]}"#), "response"),
        (
            json(
                r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[9999999999,9999999999],"data":[1]}]}"#,
            ),
            "which overflows",
        ),
        (json(r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1]}]}"#), "output 'y'"),
        (binary("x", "{}"), "Unable to parse Inference-Header-Content-Length, got: x"),
        (binary("-1", "{}"), "Unable to parse Inference-Header-Content-Length, got: -1"),
        (binary("99", "{}"), "inference header size should be in range (0, 2), got: 99"),
        (binary("92", &format!("{sized}abc")), "expecting 1 additional bytes"),
        (binary("92", &format!("{sized}abcde")), "expected 0 bytes, got 1"),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let error = of(vec![Step::Write(bytes), Step::Close]).await;
        assert!(is_garbled(&error) && error.to_string().contains(expected), "{shown}: {error:?}");
    }
}

#[tokio::test]
async fn mutated_answers_end_their_call_and_nothing_else() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let [text, binary] =
        ["", "inference-header-content-length: 97\r\n"].map(|headers| http("200 OK", headers, ANSWER));
    for number in 0..500 {
        let mut bytes = if random.random() { text.clone() } else { binary.clone() };
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => bytes[at] ^= 1 << random.random_range(0..7),
                2 => drop(bytes.drain(at..(at + 5).min(bytes.len()))),
                _ => bytes.splice(at..at, *b"0").for_each(drop),
            }
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let (address, _) = raw(move |_, _| vec![Step::Write(bytes.clone()), Step::Close]).await;
        match infer_within(&json_client(address), 5000).await {
            Ok(answer) => assert!(answer.outputs.iter().all(|output| output.data.len() < 100), "{shown}"),
            Err(CallError::Timeout(_)) => panic!("{number}: {shown}"),
            Err(_) => {}
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_garbled() {
    let start = Step::Write(b"HTTP/1.1 200 OK\r\n".to_vec());
    let error = of(vec![start, Step::Flood(b"a: b\r\n".repeat(1000))]).await;
    assert!(is_garbled(&error), "{error:?}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_garbled_before_it_has_come() {
    let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LIMIT + 1);
    let error = of(vec![Step::Write(said.into_bytes()), Step::Hang]).await;
    let expected = "found an answer of 1048577 bytes or more, expected at most 1048576";
    assert_eq!(error, CallError::Garbled(expected.to_owned()));
    for head in ["transfer-encoding: chunked\r\n", ""] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
        let chunk = [&b"2000\r\n"[..], &vec![b' '; 0x2000], b"\r\n"].concat();
        let error = of(vec![Step::Write(head), Step::Flood(chunk)]).await;
        assert!(is_garbled(&error) && error.to_string().contains("expected at most 1048576"), "{error:?}");
    }
    // As much as may come does.
    let whole = http("200 OK", "", &(ANSWER.to_owned() + &" ".repeat(LIMIT - ANSWER.len())));
    let (address, _) = raw(move |_, _| vec![Step::Write(whole.clone()), Step::Next]).await;
    assert_eq!(floats(&infer(&json_client(address)).await.unwrap()), [1.5]);
}

#[tokio::test]
async fn a_server_that_drips_is_too_slow() {
    let whole = http("200 OK", "", ANSWER);
    let head = whole.len() - ANSWER.len();
    for steps in [
        vec![Step::Hang],
        vec![Step::Drip(whole.clone())],
        vec![Step::Write(whole[..head].to_vec()), Step::Drip(whole[head..].to_vec())],
        vec![Step::Write(whole[..whole.len() - 1].to_vec()), Step::Hang],
    ] {
        let (address, log) = raw(move |_, _| steps.clone()).await;
        let client = json_client(address);
        let error = crate::wait::soon("the end of a call", infer_within(&client, 100)).await.unwrap_err();
        assert_eq!(error, CallError::Timeout(Duration::from_millis(100)));
        // Given up, a call closes its connection.
        soon("the end of the connection", || log.lock().unwrap().contains(&(0, None))).await;
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_of_itself_is_asked_for_a_while_only() {
    // Accepted by the system, and by nobody else.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = json_client(address);
    let (ready, metadata) = tokio::join!(server.ready("m", ""), server.metadata("m", ""));
    assert_eq!(ready.unwrap_err(), CallError::Timeout(Duration::from_secs(5)));
    assert_eq!(metadata.unwrap_err(), CallError::Timeout(Duration::from_secs(5)));
}

#[tokio::test]
async fn names_are_looked_up() {
    let found = resolve("http://localhost:81").await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|found| found.ip().is_loopback() && found.port() == 81));
    assert_eq!(resolve("grpc://[::1]:5").await.unwrap(), ["[::1]:5".parse().unwrap()]);
    assert_eq!(resolve("https://127.0.0.1").await.unwrap(), ["127.0.0.1:443".parse().unwrap()]);
    let error = resolve("http://a..b:81").await.unwrap_err();
    assert!(matches!(&error, Error::Lookup { host, .. } if host == "a..b"), "{error:?}");
    assert!(matches!(resolve("localhost").await.unwrap_err(), Error::Url { .. }));
}

#[test]
fn what_is_refused_needs_no_call() {
    let remote = |url: &str, name: &str| Remote {
        url: url.to_owned(),
        headers: [(name.to_owned(), String::new())].into(),
        ..Remote::default()
    };
    let address = "127.0.0.1:1".parse().unwrap();
    let refused = |remote: &Remote| parm_oip::client::connect(remote, address, LIMIT).err().unwrap();
    assert!(matches!(refused(&remote("x", "a")), Error::Url { .. }));
    assert!(matches!(refused(&remote("http://a", "a b")), Error::Header { .. }));
    assert!(parm_oip::client::check(&remote("http://a", "a")).is_ok());
    assert!(parm_oip::client::check(&remote("http://a", "te")).is_err());
}

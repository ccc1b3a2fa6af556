//! Servers that do as a test says, and clients of them.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parm_config::{Encoding, Remote};
use parm_oip::client::{connect, resolve};
use parm_oip::instance::{CallContext, CallError, Instance, within};
use parm_oip::{Datatype, InferRequest, InferResponse, Tensor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::wait::until;

/// The most bytes of an answer.
pub(crate) const LIMIT: usize = 1 << 20;

/// A request as a server got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method and path, as in `GET /v2`.
    pub(crate) asked: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An answer that a test makes.
pub(crate) type Made = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

type Handler = Arc<dyn Fn(Seen) -> Made + Send + Sync>;

/// A server of HTTP/1 and HTTP/2.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// A server that answers at once.
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(None, move |seen| {
            let response = answer(&seen);
            Box::pin(async { response })
        })
        .await
    }

    pub(crate) async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Seen) -> Made + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, connections) = (Arc::clone(&fake.seen), Arc::clone(&fake.connections));
        let handler: Handler = Arc::new(answer);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                match tls.clone() {
                    None => drop(tokio::spawn(serve(stream, handler, seen))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, handler, seen).await;
                        }
                    })),
                }
            }
        });
        fake
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.asked.clone()).collect()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Handler,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let asked = format!("{} {}", parts.method, parts.uri.path());
            let mut headers = parts.headers;
            // Over HTTP/2 the host is a part of the address.
            if let Some(authority) = parts.uri.authority() {
                headers.insert(http::header::HOST, authority.as_str().parse().unwrap());
            }
            let got = Seen { asked, headers, body };
            seen.lock().unwrap().push(got.clone());
            Ok::<_, hyper::Error>(handler(got).await)
        }
    });
    // A client that hangs up is a test's business.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A response of JSON.
pub(crate) fn json(code: u16, body: &str) -> Response<Body> {
    let builder = Response::builder().status(code).header("content-type", "application/json");
    builder.body(Body::from(body.to_owned())).unwrap()
}

/// An inference response in JSON: y is 1.5.
pub(crate) fn answer() -> Response<Body> {
    json(200, ANSWER)
}

pub(crate) const ANSWER: &str =
    r#"{"model_name":"m","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[1.5]}]}"#;

/// An inference response in binary: y is 1.5.
pub(crate) fn binary_answer() -> Response<Body> {
    let text = r#"{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":4}}]}"#;
    let body = [text.as_bytes(), &1.5_f32.to_le_bytes()].concat();
    let builder = Response::builder().header("inference-header-content-length", text.len());
    builder.body(Body::from(body)).unwrap()
}

/// What a server does on a connection, after it read a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Vec<u8>),
    /// Writes one byte after the other, slowly.
    Drip(Vec<u8>),
    /// Writes the same again and again.
    Flood(Vec<u8>),
    /// Reads the next request, which ends the steps for this one.
    Next,
    Close,
    Hang,
}

/// Requests by connection, as a raw server counts them; `None` is the end of a connection.
pub(crate) type Log = Arc<Mutex<Vec<(usize, Option<String>)>>>;

/// A server that reads requests of HTTP/1, and writes what it is told: of the request with this number
/// on the connection with this number.
pub(crate) async fn raw(
    steps: impl Fn(usize, usize) -> Vec<Step> + Send + Sync + 'static,
) -> (SocketAddr, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Log::default();
    let (steps, logged) = (Arc::new(steps), Arc::clone(&log));
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (steps, log) = (Arc::clone(&steps), Arc::clone(&logged));
            tokio::spawn(async move {
                for request in 0.. {
                    let Some(head) = read_request(&mut stream).await else { break };
                    log.lock().unwrap().push((connection, Some(head)));
                    if !act(&mut stream, steps(connection, request)).await {
                        break;
                    }
                }
                log.lock().unwrap().push((connection, None));
            });
        }
    });
    (address, log)
}

/// False: the connection is over.
async fn act(stream: &mut TcpStream, steps: Vec<Step>) -> bool {
    for step in steps {
        let written = match step {
            Step::Write(bytes) => stream.write_all(&bytes).await,
            Step::Drip(bytes) => drip(stream, &bytes).await,
            Step::Flood(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
            },
            Step::Next => return true,
            Step::Close => return false,
            // Until the client hangs up.
            Step::Hang => return stream.read(&mut [0; 64]).await.is_ok_and(|bytes| bytes > 0),
        };
        if written.is_err() {
            return false;
        }
    }
    true
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The head of a request, after its body was read, too.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(text)
}

/// A response over HTTP/1 in bytes.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// A client of a server at an address.
pub(crate) fn client(url: &str, address: SocketAddr, encoding: Encoding) -> Arc<dyn Instance> {
    let remote = Remote { url: url.to_owned(), encoding, ..Remote::default() };
    connect(&remote, address, LIMIT).unwrap()
}

/// A client that sends JSON.
pub(crate) fn json_client(address: SocketAddr) -> Arc<dyn Instance> {
    client(&format!("http://{address}"), address, Encoding::Json)
}

/// A client of a configured server.
pub(crate) async fn client_of(remote: Remote) -> Arc<dyn Instance> {
    let addresses = resolve(&remote.url).await.unwrap();
    connect(&remote, addresses[0], LIMIT).unwrap()
}

/// A request of so many floats, in one row.
pub(crate) fn request(floats: usize) -> InferRequest {
    let data: Bytes = (0..floats).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let tensor = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1, floats as u64],
        parameters: [].into(),
        data: data.into(),
    };
    InferRequest { model: "m".to_owned(), inputs: vec![tensor], ..InferRequest::default() }
}

/// Asks for 3 floats.
pub(crate) async fn infer(client: &Arc<dyn Instance>) -> Result<InferResponse, CallError> {
    client.infer(request(3), CallContext::default()).await
}

/// What comes of a call that may take so long.
pub(crate) async fn infer_within(client: &Arc<dyn Instance>, ms: u64) -> Result<InferResponse, CallError> {
    let longest = Duration::from_millis(ms);
    let call = CallContext { timeout: Some(longest), ..CallContext::default() };
    within(longest, client.infer(request(3), call)).await
}

/// The floats of the first output.
pub(crate) fn floats(response: &InferResponse) -> Vec<f32> {
    let bytes = response.outputs[0].data.contiguous();
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

/// Waits until something is so.
pub(crate) async fn soon(what: &str, is: impl Fn() -> bool) {
    until(what, async || is()).await;
}

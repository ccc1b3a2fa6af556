//! Requests that a test writes itself: packed bodies, and messages over gRPC that no client would send.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;

/// A body, packed.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A connection over HTTP/2.
pub(crate) async fn connect(at: SocketAddr) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(at).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Calls a method with these bytes, which are all if that is so; gives the status of the end. Of a method
/// that goes on, it is 0.
pub(crate) async fn call(
    client: &mut SendRequest<Bytes>,
    method: &str,
    key: &str,
    bytes: &'static [u8],
    is_all: bool,
) -> String {
    let key = (!key.is_empty()).then(|| ("authorization", format!("Bearer {key}")));
    call_with(client, method, key, Bytes::from_static(bytes), is_all).await
}

/// Calls a method with packed messages, which are all.
pub(crate) async fn call_packed(
    client: &mut SendRequest<Bytes>,
    method: &str,
    packing: &str,
    bytes: Vec<u8>,
) -> String {
    let header = Some(("grpc-encoding", packing.to_owned()));
    call_with(client, method, header, bytes.into(), true).await
}

async fn call_with(
    client: &mut SendRequest<Bytes>,
    method: &str,
    header: Option<(&str, String)>,
    bytes: Bytes,
    is_all: bool,
) -> String {
    let mut request = http::Request::post(format!("http://x/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(bytes, is_all).unwrap();
    let answer = answer.await.unwrap();
    let of = |headers: &http::HeaderMap| headers["grpc-status"].to_str().unwrap().to_owned();
    if answer.headers().contains_key("grpc-status") {
        return of(answer.headers());
    }
    if method.ends_with("/Watch") {
        return "0".to_owned();
    }
    let mut body = answer.into_body();
    while body.data().await.is_some() {}
    of(&body.trailers().await.unwrap().unwrap())
}

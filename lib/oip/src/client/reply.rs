//! Responses of servers over HTTP.

use std::error::Error as StdError;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body;

use super::failure::broke;
use crate::http::{HEADER_LENGTH, header_length};
use crate::instance::CallError;
use crate::transport::{Incomplete, collect};

/// A complete answer.
pub(super) struct Reply {
    pub(super) code: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Reads the body of an answer, of at most `limit` bytes.
pub(super) async fn receive<B>(parts: Parts, body: &mut B, limit: usize) -> Result<Reply, CallError>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let said = parts.headers.get(HEADER_LENGTH).and_then(|value| header_length(value.as_bytes()).ok());
    let (body, trailers) = collect(body, said.unwrap_or(0), limit).await.map_err(|error| match error {
        Incomplete::TooLarge(found) => {
            CallError::Garbled(format!("found an answer of {found} bytes or more, expected at most {limit}"))
        }
        Incomplete::Broken(error) => broke(&error),
    })?;
    Ok(Reply { code: parts.status, headers: parts.headers, body, trailers })
}

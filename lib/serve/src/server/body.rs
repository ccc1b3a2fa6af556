//! Bodies of requests and responses over HTTP: read within limits, packed and unpacked.

use std::io::{Read, Write};
use std::time::Duration;

use crate::config::Limits;
use crate::oip::{Error, Status};
use crate::transport::{Incomplete, collect};
use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};

/// Reads a body, so that what is behind its first `header` bytes is aligned, and unpacks it.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    header: usize,
    limits: &Limits,
) -> Result<Bytes, Error> {
    let limit = limits.body_bytes;
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(said) = said
        && said > limit
    {
        return Err(too_large(said, limit));
    }
    let longest = Duration::from_millis(limits.body_ms);
    let collected = tokio::time::timeout(longest, collect(&mut body, header, limit)).await.map_err(|_| {
        let text = format!("the body did not arrive within {} ms", longest.as_millis());
        Error::new(Status::DeadlineExceeded, text)
    })?;
    let (bytes, _) = collected.map_err(|error| match error {
        Incomplete::TooLarge(found) => too_large(found, limit),
        Incomplete::Broken(error) => Error::invalid(format!("the body broke off: {error}")),
    })?;
    match headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip") => unpack(GzDecoder::new(&bytes[..]), "gzip", limit),
        Some(b"deflate") => unpack(ZlibDecoder::new(&bytes[..]), "deflate", limit),
        Some(other) => Err(Error::invalid(format!(
            "found Content-Encoding '{}', expected gzip or deflate",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn too_large(found: usize, limit: usize) -> Error {
    Error::new(Status::TooLarge, format!("found a body of {found} bytes or more, expected at most {limit}"))
}

fn unpack(packed: impl Read, name: &str, limit: usize) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    packed
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::invalid(format!("the body cannot be unpacked by {name}: {error}")))?;
    if bytes.len() > limit { Err(too_large(bytes.len(), limit)) } else { Ok(Bytes::from(bytes)) }
}

/// How a client wants what it gets packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Deflate,
}

impl Packing {
    /// The first that the client names, of those that there are.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        accepted.split(',').find_map(|name| {
            let (name, quality) = name.split_once(';').unwrap_or((name, ""));
            let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
            match name.trim() {
                _ if refused => None,
                "gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                _ => None,
            }
        })
    }

    /// The name in the header Content-Encoding.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Packs a body; none if that fails, which memory never does.
    pub(super) fn pack(self, bytes: &[u8]) -> Option<Bytes> {
        let level = Compression::fast();
        let packed = match self {
            Self::Gzip => {
                let mut packer = GzEncoder::new(Vec::new(), level);
                packer.write_all(bytes).and_then(|()| packer.finish())
            }
            Self::Deflate => {
                let mut packer = ZlibEncoder::new(Vec::new(), level);
                packer.write_all(bytes).and_then(|()| packer.finish())
            }
        };
        packed.ok().map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(of: &[(http::HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn in_pieces(bytes: &[u8], size: usize) -> Body {
        let pieces: Vec<_> =
            bytes.chunks(size).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
        Body::from_stream(tokio_stream::iter(pieces))
    }

    fn limits(body_bytes: usize) -> Limits {
        Limits { body_bytes, body_ms: 50, ..Limits::default() }
    }

    #[tokio::test]
    async fn too_much_is_413_whether_it_is_said_or_found_or_packed() {
        let bytes = vec![0; 1001];
        let said = headers(&[(CONTENT_LENGTH, "1001")]);
        for headers in [said, HeaderMap::new()] {
            let error = read(&headers, in_pieces(&bytes, 10), 0, &limits(1000)).await.unwrap_err();
            assert_eq!(
                (error.status, error.message.contains("expected at most 1000")),
                (Status::TooLarge, true)
            );
        }
        for packing in [Packing::Gzip, Packing::Deflate] {
            let packed = packing.pack(&bytes).unwrap();
            assert!(packed.len() < 100);
            let headers = headers(&[(CONTENT_ENCODING, packing.name())]);
            let error = read(&headers, Body::from(packed.clone()), 0, &limits(1000)).await.unwrap_err();
            assert_eq!(error.status, Status::TooLarge);
            assert_eq!(read(&headers, Body::from(packed), 0, &limits(1001)).await.unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn what_is_slow_broken_or_packed_otherwise_is_refused() {
        let slow = Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(&HeaderMap::new(), slow, 0, &limits(10)).await.unwrap_err();
        assert_eq!(error.status, Status::DeadlineExceeded);
        let broken = Body::from_stream(tokio_stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]));
        let error = read(&HeaderMap::new(), broken, 0, &limits(10)).await.unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        for (encoding, expected) in [("br", "found Content-Encoding 'br'"), ("gzip", "cannot be unpacked")] {
            let headers = headers(&[(CONTENT_ENCODING, encoding)]);
            let error = read(&headers, Body::from("no"), 0, &limits(10)).await.unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_packing_is_what_the_client_names_first() {
        for (accepted, wanted) in [
            ("gzip", Some(Packing::Gzip)),
            ("br, deflate;q=0.5, gzip", Some(Packing::Deflate)),
            ("gzip;q=0, identity", None),
            ("", None),
        ] {
            assert_eq!(Packing::wanted(&headers(&[(ACCEPT_ENCODING, accepted)])), wanted, "{accepted}");
        }
        assert_eq!(Packing::wanted(&HeaderMap::new()), None);
    }
}

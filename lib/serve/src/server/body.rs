//! Bodies over HTTP: reads those of requests within limits, compresses and decompresses.

use std::io::{Read, Write};

use super::budget::Reservation;
use super::meter;
use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use parm_oip::transport::{Incomplete, collect};
use parm_oip::{Error, Status};

/// A body as it was received.
pub(super) struct Received {
    bytes: Bytes,
    packing: Option<Packing>,
}

/// The most bytes that are decompressed at once.
const PIECE: usize = 64 << 10;

/// The size up to which a compressed body is decompressed on the serving thread.
const LITTLE_PACKED: usize = 512;

/// Reads a body into memory that is aligned after the first `header` bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    header: usize,
    limit: usize,
) -> Result<Received, Error> {
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(said) = said
        && said > limit
    {
        return Err(too_large(said, limit));
    }
    let packing = match headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None => None,
        Some(name) if name.eq_ignore_ascii_case(b"identity") => None,
        Some(name) => Some(Packing::named(name).ok_or_else(|| {
            Error::invalid(format!(
                "found Content-Encoding '{}', expected gzip or deflate",
                String::from_utf8_lossy(name)
            ))
        })?),
    };
    let (bytes, _) = collect(&mut body, header, limit).await.map_err(|error| match error {
        Incomplete::TooLarge(found) => too_large(found, limit),
        Incomplete::Broken(error) => meter::error_of(&error),
    })?;
    Ok(Received { bytes, packing })
}

impl Received {
    /// True if it may take long to decompress and parse it; `json` is the number of its bytes that are JSON,
    /// none if all are.
    pub(super) fn is_long(&self, json: Option<usize>) -> bool {
        match self.packing {
            Some(_) => Packing::is_long(&self.bytes),
            None => json.unwrap_or(self.bytes.len()) > super::blocking::LITTLE,
        }
    }

    /// Decompresses it.
    pub(super) fn unpack(self, limit: usize, held: &Reservation) -> Result<Bytes, Error> {
        match self.packing {
            None => Ok(self.bytes),
            Some(packing) => packing.unpack(&self.bytes, limit, held),
        }
    }
}

fn too_large(found: usize, limit: usize) -> Error {
    Error::new(Status::TooLarge, format!("found a body of {found} bytes or more, expected at most {limit}"))
}

fn cannot(packing: Packing, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the body cannot be decompressed by {}: {why}", packing.name()))
}

fn unpack(
    packed: &mut impl Read,
    packing: Packing,
    limit: usize,
    held: &Reservation,
) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    loop {
        let piece = PIECE.min(limit - bytes.len() + 1) as u64;
        let read =
            packed.by_ref().take(piece).read_to_end(&mut bytes).map_err(|error| cannot(packing, error))?;
        if read == 0 {
            return Ok(Bytes::from(bytes));
        }
        if bytes.len() > limit {
            return Err(too_large(bytes.len(), limit));
        }
        held.reserve(read)?;
    }
}

/// A compression of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Deflate,
}

impl Packing {
    /// The compression with this name in headers.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name {
            _ if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            _ if is("deflate") => Some(Self::Deflate),
            _ => None,
        }
    }

    /// True if it may take long to decompress this.
    pub(super) fn is_long(packed: &[u8]) -> bool {
        packed.len() > LITTLE_PACKED
    }

    /// Decompresses at most `limit` bytes, which it reserves.
    pub(super) fn unpack(self, packed: &[u8], limit: usize, held: &Reservation) -> Result<Bytes, Error> {
        match self {
            Self::Gzip => unpack(&mut MultiGzDecoder::new(packed), self, limit, held),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(packed);
                let unpacked = unpack(&mut decoder, self, limit, held)?;
                match decoder.get_ref().len() {
                    0 => Ok(unpacked),
                    rest => Err(cannot(self, format!("found {rest} bytes after its end"))),
                }
            }
        }
    }

    /// The first supported compression that the client accepts.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        accepted.split(',').find_map(|name| {
            let (name, quality) = name.split_once(';').unwrap_or((name, ""));
            let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
            if refused { None } else { Self::named(name.trim().as_bytes()) }
        })
    }

    /// Its name in the header Content-Encoding.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Compresses a body; none if that fails, which it cannot do in memory.
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

    fn held(bytes: usize) -> std::sync::Arc<Reservation> {
        Reservation::new(&super::super::budget::Budget::new(bytes))
    }

    async fn unpacked(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
        read(headers, body, 0, limit).await?.unpack(limit, &held(1 << 20))
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_413_by_its_header_its_length_or_its_decompressed_length() {
        let bytes = vec![0; 1001];
        let said = headers(&[(CONTENT_LENGTH, "1001")]);
        for headers in [said, HeaderMap::new()] {
            let error = unpacked(&headers, in_pieces(&bytes, 10), 1000).await.unwrap_err();
            assert_eq!(
                (error.status, error.message.contains("expected at most 1000")),
                (Status::TooLarge, true)
            );
        }
        for packing in [Packing::Gzip, Packing::Deflate] {
            let packed = packing.pack(&bytes).unwrap();
            assert!(packed.len() < 100);
            let headers = headers(&[(CONTENT_ENCODING, packing.name())]);
            let error = unpacked(&headers, Body::from(packed.clone()), 1000).await.unwrap_err();
            assert_eq!(error.status, Status::TooLarge);
            assert_eq!(unpacked(&headers, Body::from(packed.clone()), 1001).await.unwrap(), bytes);
            // The limit of all bodies together applies, too.
            let received = read(&headers, Body::from(packed), 0, 1001).await.unwrap();
            assert_eq!(received.unpack(1001, &held(1000)).unwrap_err().status, Status::Unavailable);
        }
    }

    /// Several gzip members in a row are one body, as in files.
    #[tokio::test]
    async fn all_members_of_a_compressed_body_are_read_and_nothing_may_follow() {
        let long = vec![7; 3 * PIECE];
        let pack = |packing: Packing, parts: &[&[u8]]| {
            let parts = parts.iter().map(|part| packing.pack(part).unwrap());
            Body::from(parts.flat_map(Vec::from).collect::<Vec<u8>>())
        };
        // Encodings may be in upper case, and gzip has an old name.
        for name in ["GZIP", "x-gzip"] {
            let headers = headers(&[(CONTENT_ENCODING, name)]);
            assert_eq!(unpacked(&headers, pack(Packing::Gzip, &[b"one"]), 1000).await.unwrap(), "one");
        }
        let gzip = headers(&[(CONTENT_ENCODING, "gzip")]);
        let members = pack(Packing::Gzip, &[b"one ", b"", &long, b" two"]);
        let expected = [b"one ", &long[..], b" two"].concat();
        assert_eq!(unpacked(&gzip, members, 1 << 20).await.unwrap(), expected);
        let members = pack(Packing::Gzip, &[&long, &long]);
        assert_eq!(unpacked(&gzip, members, 5 * PIECE).await.unwrap_err().status, Status::TooLarge);
        let garbage = [&Packing::Gzip.pack(b"one").unwrap()[..], b"garbage"].concat();
        unpacked(&gzip, Body::from(garbage), 1000).await.unwrap_err();
        let deflate = headers(&[(CONTENT_ENCODING, "deflate")]);
        let error = unpacked(&deflate, pack(Packing::Deflate, &[b"one", b"two"]), 1000).await.unwrap_err();
        assert!(error.message.contains("after its end"), "{error}");
    }

    #[tokio::test]
    async fn broken_bodies_and_unknown_encodings_are_refused() {
        let broken = Body::from_stream(tokio_stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]));
        let error = unpacked(&HeaderMap::new(), broken, 10).await.unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        for (encoding, expected) in
            [("br", "found Content-Encoding 'br'"), ("gzip", "cannot be decompressed")]
        {
            let headers = headers(&[(CONTENT_ENCODING, encoding)]);
            let error = unpacked(&headers, Body::from("no"), 10).await.unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_response_uses_the_first_compression_that_the_client_accepts() {
        for (accepted, wanted) in [
            ("gzip", Some(Packing::Gzip)),
            ("br, deflate;q=0.5, gzip", Some(Packing::Deflate)),
            ("gzip;q=0, identity", None),
            ("X-GZIP", Some(Packing::Gzip)),
            ("Deflate", Some(Packing::Deflate)),
            ("", None),
        ] {
            assert_eq!(Packing::wanted(&headers(&[(ACCEPT_ENCODING, accepted)])), wanted, "{accepted}");
        }
        assert_eq!(Packing::wanted(&HeaderMap::new()), None);
    }
}

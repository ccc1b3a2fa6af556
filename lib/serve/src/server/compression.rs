//! Compression of bodies and messages, within limits.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::budget::Reservation;
use parm_oip::{Error, Status};

/// The most bytes that are decompressed at once.
pub(super) const PIECE: usize = 64 << 10;

/// Decompressing more bytes than this may take long.
const LITTLE: usize = 512;

/// A body that is longer than the limit.
pub(super) fn too_large(found: usize, limit: usize) -> Error {
    Error::new(Status::TooLarge, format!("found a body of {found} bytes or more, expected at most {limit}"))
}

fn cannot(compression: Compression, why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the body cannot be decompressed by {}: {why}", compression.name()))
}

fn decompress(
    compressed: &mut impl Read,
    compression: Compression,
    limit: usize,
    held: &Reservation,
) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    loop {
        let piece = PIECE.min(limit - bytes.len() + 1) as u64;
        let read = compressed
            .by_ref()
            .take(piece)
            .read_to_end(&mut bytes)
            .map_err(|error| cannot(compression, error))?;
        if read == 0 {
            return Ok(Bytes::from(bytes));
        }
        if bytes.len() > limit {
            return Err(too_large(bytes.len(), limit));
        }
        held.reserve(read)?;
    }
}

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Deflate,
}

impl Compression {
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
    pub(super) fn is_long(compressed: &[u8]) -> bool {
        compressed.len() > LITTLE
    }

    /// Decompresses at most `limit` bytes, which it reserves.
    pub(super) fn decompress(
        self,
        compressed: &[u8],
        limit: usize,
        held: &Reservation,
    ) -> Result<Bytes, Error> {
        match self {
            Self::Gzip => decompress(&mut MultiGzDecoder::new(compressed), self, limit, held),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(compressed);
                let decompressed = decompress(&mut decoder, self, limit, held)?;
                match decoder.get_ref().len() {
                    0 => Ok(decompressed),
                    rest => Err(cannot(self, format!("found {rest} bytes after its end"))),
                }
            }
        }
    }

    /// The first that the client accepts, of those that there are.
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

    /// Compresses a body; none if that fails, which it never does in memory.
    pub(super) fn compress(self, bytes: &[u8]) -> Option<Bytes> {
        let level = flate2::Compression::fast();
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
        };
        compressed.ok().map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_compression_is_what_the_client_accepts_first() {
        for (accepted, wanted) in [
            ("gzip", Some(Compression::Gzip)),
            ("br, deflate;q=0.5, gzip", Some(Compression::Deflate)),
            ("gzip;q=0, identity", None),
            ("X-GZIP", Some(Compression::Gzip)),
            ("Deflate", Some(Compression::Deflate)),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(Compression::wanted(&headers), wanted, "{accepted}");
        }
        assert_eq!(Compression::wanted(&HeaderMap::new()), None);
    }
}

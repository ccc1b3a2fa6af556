//! Bodies of requests over HTTP: read within limits, and decompressed.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use super::blocking::LITTLE;
use super::budget::Reservation;
use super::compression::{Compression, too_large};
use parm_oip::Error;
use parm_oip::transport::{Incomplete, collect};

/// A body as it was received.
pub(super) struct Received {
    bytes: Bytes,
    compression: Option<Compression>,
}

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
    let compression = match headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
        None => None,
        Some(name) if name.eq_ignore_ascii_case(b"identity") => None,
        Some(name) => Some(Compression::named(name).ok_or_else(|| {
            Error::invalid(format!(
                "found Content-Encoding '{}', expected gzip or deflate",
                String::from_utf8_lossy(name)
            ))
        })?),
    };
    let (bytes, _) = collect(&mut body, header, limit).await.map_err(|error| match error {
        Incomplete::TooLarge(found) => too_large(found, limit),
        Incomplete::Broken(error) => error_of(&error),
    })?;
    Ok(Received { bytes, compression })
}

impl Received {
    /// True if it may take long to decompress and read it, of which so many bytes are JSON; of none all.
    pub(super) fn is_long(&self, json: Option<usize>) -> bool {
        match self.compression {
            Some(_) => Compression::is_long(&self.bytes),
            None => json.unwrap_or(self.bytes.len()) > LITTLE,
        }
    }

    /// Decompresses it.
    pub(super) fn decompress(self, limit: usize, held: &Reservation) -> Result<Bytes, Error> {
        match self.compression {
            None => Ok(self.bytes),
            Some(compression) => compression.decompress(&self.bytes, limit, held),
        }
    }
}

/// The error of a body, from what axum wraps it in.
pub(super) fn error_of(error: &axum::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(status) = error.downcast_ref::<tonic::Status>() {
            return Error::from(status);
        }
        source = error.source();
    }
    Error::invalid(format!("the body is incomplete: {error}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use parm_oip::Status;

    use super::super::budget::Budget;
    use super::super::compression::PIECE;
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
        Reservation::new(&Budget::new(bytes))
    }

    async fn decompressed(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
        read(headers, body, 0, limit).await?.decompress(limit, &held(1 << 20))
    }

    #[tokio::test]
    async fn too_much_is_413_whether_it_is_said_or_found_or_compressed() {
        let bytes = vec![0; 1001];
        let said = headers(&[(CONTENT_LENGTH, "1001")]);
        for headers in [said, HeaderMap::new()] {
            let error = decompressed(&headers, in_pieces(&bytes, 10), 1000).await.unwrap_err();
            assert_eq!(
                (error.status, error.message.contains("expected at most 1000")),
                (Status::TooLarge, true)
            );
        }
        for compression in [Compression::Gzip, Compression::Deflate] {
            let compressed = compression.compress(&bytes).unwrap();
            assert!(compressed.len() < 100);
            let headers = headers(&[(CONTENT_ENCODING, compression.name())]);
            let error = decompressed(&headers, Body::from(compressed.clone()), 1000).await.unwrap_err();
            assert_eq!(error.status, Status::TooLarge);
            assert_eq!(decompressed(&headers, Body::from(compressed.clone()), 1001).await.unwrap(), bytes);
            // The limit of all bodies together applies, too.
            let received = read(&headers, Body::from(compressed), 0, 1001).await.unwrap();
            assert_eq!(received.decompress(1001, &held(1000)).unwrap_err().status, Status::Unavailable);
        }
    }

    /// Several gzip members in a row are one body, as in files.
    #[tokio::test]
    async fn nothing_of_a_compressed_body_is_left_out() {
        let long = vec![7; 3 * PIECE];
        let compress = |compression: Compression, parts: &[&[u8]]| {
            let parts = parts.iter().map(|part| compression.compress(part).unwrap());
            Body::from(parts.flat_map(Vec::from).collect::<Vec<u8>>())
        };
        // Encodings may be in upper case, and gzip has an old name.
        for name in ["GZIP", "x-gzip"] {
            let headers = headers(&[(CONTENT_ENCODING, name)]);
            assert_eq!(
                decompressed(&headers, compress(Compression::Gzip, &[b"one"]), 1000).await.unwrap(),
                "one"
            );
        }
        let gzip = headers(&[(CONTENT_ENCODING, "gzip")]);
        let members = compress(Compression::Gzip, &[b"one ", b"", &long, b" two"]);
        let expected = [b"one ", &long[..], b" two"].concat();
        assert_eq!(decompressed(&gzip, members, 1 << 20).await.unwrap(), expected);
        let members = compress(Compression::Gzip, &[&long, &long]);
        assert_eq!(decompressed(&gzip, members, 5 * PIECE).await.unwrap_err().status, Status::TooLarge);
        let garbage = [&Compression::Gzip.compress(b"one").unwrap()[..], b"garbage"].concat();
        decompressed(&gzip, Body::from(garbage), 1000).await.unwrap_err();
        let deflate = headers(&[(CONTENT_ENCODING, "deflate")]);
        let error = decompressed(&deflate, compress(Compression::Deflate, &[b"one", b"two"]), 1000)
            .await
            .unwrap_err();
        assert!(error.message.contains("after its end"), "{error}");
    }

    #[tokio::test]
    async fn what_is_broken_or_compressed_otherwise_is_refused() {
        let broken = Body::from_stream(tokio_stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]));
        let error = decompressed(&HeaderMap::new(), broken, 10).await.unwrap_err();
        assert_eq!(error.status, Status::InvalidArgument);
        for (encoding, expected) in
            [("br", "found Content-Encoding 'br'"), ("gzip", "cannot be decompressed")]
        {
            let headers = headers(&[(CONTENT_ENCODING, encoding)]);
            let error = decompressed(&headers, Body::from("no"), 10).await.unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }
}

//! HTTP settings and functions that server and client share.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

/// The window of an HTTP/2 stream, large enough for a picture's tensor.
pub const STREAM_WINDOW: u32 = 16 << 20;

/// The window of an HTTP/2 connection.
pub const CONNECTION_WINDOW: u32 = 64 << 20;

/// The largest HTTP/2 frame that the peer may send. With the standard's 16 KiB a tensor of 600 KB takes
/// forty frames.
pub const FRAME: u32 = 1 << 20;

/// The alignment of tensors, so that codes compute with them in place.
const ALIGNMENT: usize = 16;

/// The size up to which bodies are not aligned, since it costs little to copy their tensors.
const SMALL: usize = 4096;

/// The most bytes that are allocated before they arrive.
const AT_ONCE: usize = 1 << 20;

/// Why a body is incomplete.
#[derive(Debug)]
pub enum Incomplete<E> {
    /// It has this many bytes or more.
    TooLarge(usize),
    /// It ended early.
    Broken(E),
}

/// Reads a body of at most `limit` bytes, and its trailers. The bytes after the first `header` ones are
/// aligned, unless the body is small.
pub async fn collect<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    header: usize,
    limit: usize,
) -> Result<(Bytes, Option<HeaderMap>), Incomplete<B::Error>> {
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > limit {
        return Err(Incomplete::TooLarge(said));
    }
    let (mut all, mut trailers) = (Vec::new(), None);
    // The system's allocator aligns large blocks to 16 bytes.
    let before = header.wrapping_neg() % ALIGNMENT;
    while let Some(frame) = body.frame().await {
        let data = match frame.map_err(Incomplete::Broken)?.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        if all.is_empty() {
            if said == data.len() && said <= SMALL && body.is_end_stream() {
                return Ok((data, None));
            }
            all.reserve(before + said.min(AT_ONCE).max(data.len()));
            all.resize(before, 0);
        }
        let found = all.len() - before + data.len();
        if found > limit {
            return Err(Incomplete::TooLarge(found));
        }
        all.extend_from_slice(&data);
    }
    let all = if all.is_empty() { Bytes::new() } else { Bytes::from(all).slice(before..) };
    Ok((all, trailers))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn in_pieces(bytes: &[u8], size: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces: Vec<_> =
            bytes.chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        StreamBody::new(tokio_stream::iter(pieces))
    }

    #[tokio::test]
    async fn bytes_after_the_header_are_aligned() {
        let bytes: Vec<u8> = (0..100_000).map(|byte| byte as u8).collect();
        for header in [0, 1, 77, 128] {
            let (read, _) = collect(&mut in_pieces(&bytes, 1000), header, 100_000).await.unwrap();
            assert_eq!(&read[..], &bytes);
            assert_eq!((read.as_ptr() as usize + header) % ALIGNMENT, 0);
        }
    }

    #[tokio::test]
    async fn a_small_body_is_not_copied() {
        let bytes = Bytes::from(vec![1; SMALL]);
        let (read, _) = collect(&mut Full::new(bytes.clone()), 1, SMALL).await.unwrap();
        assert_eq!((read.as_ptr(), read.len()), (bytes.as_ptr(), SMALL));
        assert!(collect(&mut in_pieces(&[], 1), 5, 0).await.unwrap().0.is_empty());
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_by_its_header_or_its_length() {
        let said = collect(&mut Full::new(Bytes::from(vec![1; 11])), 0, 10).await;
        assert!(matches!(said, Err(Incomplete::TooLarge(11))));
        let found = collect(&mut in_pieces(&[1; 11], 4), 0, 10).await;
        assert!(matches!(found, Err(Incomplete::TooLarge(11))));
        assert_eq!(collect(&mut in_pieces(&[1; 10], 4), 0, 10).await.unwrap().0, [1; 10][..]);
    }

    #[tokio::test]
    async fn trailers_are_returned() {
        let trailers: HeaderMap =
            [(http::header::ETAG, http::HeaderValue::from_static("x"))].into_iter().collect();
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"ab"))),
            Ok::<_, Infallible>(Frame::trailers(trailers.clone())),
        ];
        let read = collect(&mut StreamBody::new(tokio_stream::iter(frames)), 0, 10).await.unwrap();
        assert_eq!(read, (Bytes::from_static(b"ab"), Some(trailers)));
    }
}

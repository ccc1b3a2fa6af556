//! Compressed gRPC messages: each is decompressed within the limits of bodies, before its method reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

use super::budget::Reservation;
use super::compression::Compression;
use super::messages::PREFIX;
use parm_oip::proto::aside;

/// The header with the compression of the messages of a call.
const ENCODING: &str = "grpc-encoding";

/// Takes the header that says how messages are compressed, if it is one that there is.
pub(super) fn take_compression(headers: &mut HeaderMap) -> Option<Compression> {
    let compression = Compression::named(headers.get(ENCODING)?.as_bytes())?;
    headers.remove(ENCODING);
    Some(compression)
}

/// A body whose messages are decompressed.
pub(super) struct Decompressed<B> {
    body: B,
    compression: Compression,
    /// The most bytes of a decompressed message.
    limit: usize,
    held: Arc<Reservation>,
    /// The received bytes of incomplete messages.
    came: BytesMut,
}

impl<B> Decompressed<B> {
    /// The messages of `body`, which bounds their compressed length.
    pub(super) fn new(body: B, compression: Compression, limit: usize, held: Arc<Reservation>) -> Self {
        Self { body, compression, limit, held, came: BytesMut::new() }
    }

    /// The next message, if it is complete.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(&[flag, a, b, c, d]) = self.came.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = PREFIX + u32::from_be_bytes([a, b, c, d]) as usize;
        if self.came.len() < length {
            return Ok(None);
        }
        let message = self.came.split_to(length).freeze();
        if flag == 0 {
            return Ok(Some(message));
        }
        let compressed = message.slice(PREFIX..);
        let decompress = || self.compression.decompress(&compressed, self.limit, &self.held);
        let bytes = aside(Compression::is_long(&compressed), decompress).map_err(Status::from)?;
        let mut decompressed = BytesMut::with_capacity(PREFIX + bytes.len());
        decompressed.put_u8(0);
        decompressed.put_u32(u32::try_from(bytes.len()).map_err(|_| Status::resource_exhausted("4 GiB"))?);
        decompressed.put(bytes);
        Ok(Some(decompressed.freeze()))
    }
}

impl<B> http_body::Body for Decompressed<B>
where
    B: http_body::Body<Data = Bytes, Error = axum::BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.next().transpose() {
                return Poll::Ready(Some(message.map(Frame::data).map_err(Into::into)));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.came.extend_from_slice(&data),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
    }
}

//! Bodies of requests and responses, in pieces.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

/// Pieces below this are copied together, since each piece costs the network's code more than that.
const SMALL: usize = 4096;

/// A body of a known size, in pieces that belong to the tensors that are sent. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Body(VecDeque<Bytes>);

impl Body {
    /// All bytes that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of the pieces that are left.
    pub(crate) fn next_piece(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }

    /// One piece, copied together if there are several.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if let (Some(one), 1) = (self.0.front(), self.0.len()) {
            return one.clone();
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.0.iter().for_each(|piece| all.extend_from_slice(piece));
        all.freeze()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        let mut body = Writer { done: Self::default(), last: bytes };
        body.finish_piece();
        body.done
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

/// Makes a body of text followed by tensors.
#[derive(Debug, Default)]
pub(super) struct Writer {
    done: Body,
    /// The piece that is being written.
    last: Vec<u8>,
}

impl Writer {
    /// Starts with these bytes.
    pub(super) fn new(text: Vec<u8>) -> Self {
        Self { done: Body::default(), last: text }
    }

    /// The buffer for text and other short data.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    pub(super) fn push(&mut self, piece: &Bytes) {
        if piece.len() < SMALL {
            self.last.extend_from_slice(piece);
        } else {
            self.finish_piece();
            self.done.0.push_back(piece.clone());
        }
    }

    pub(super) fn finish(mut self) -> Body {
        self.finish_piece();
        self.done
    }

    fn finish_piece(&mut self) {
        if !self.last.is_empty() {
            self.done.0.push_back(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn frames(mut body: Body) -> Vec<Bytes> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        std::iter::from_fn(|| match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap().into_data().unwrap()),
            Poll::Pending => panic!("the body is complete"),
        })
        .collect()
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_are_not_copied() {
        let (small, large) = (Bytes::from_static(b"abc"), Bytes::from(vec![7; SMALL]));
        let mut writer = Writer::new(b"{}".to_vec());
        for piece in [&small, &small, &large, &large, &small] {
            writer.push(piece);
        }
        let body = writer.finish();
        assert_eq!((body.len(), body.is_end_stream()), (2 + 9 + 2 * SMALL, false));
        assert_eq!(body.size_hint().exact(), Some(body.len() as u64));
        let frames = frames(body.clone());
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [8, SMALL, SMALL, 3]);
        assert_eq!(frames[1].as_ptr(), large.as_ptr(), "not a copy");
        assert_eq!(body.to_bytes(), frames.concat());
    }

    #[test]
    fn an_empty_body_is_at_its_end() {
        let body = Body::from(Vec::new());
        assert!(
            body.is_end_stream() && body.is_empty() && body.to_bytes().is_empty() && frames(body).is_empty()
        );
        let body = Body::from(b"x".to_vec());
        assert_eq!(
            (body.to_bytes(), frames(body)),
            (Bytes::from_static(b"x"), vec![Bytes::from_static(b"x")])
        );
    }
}

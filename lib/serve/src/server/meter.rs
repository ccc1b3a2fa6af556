//! The service between a connection and the routes: it counts the bytes of bodies, times out bodies that do
//! not arrive, and tracks when a response is sent completely.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::service::TowerToHyperService;
use tokio::time::Sleep;
use tonic::Status;

use super::budget::{Budget, Reservation};
use super::decompressed::{Decompressed, take_compression};
use super::messages::Messages;
use super::response::ErrorResponse;
use super::timeouts::{InFlight, Timeouts};
use parm_config::Limits;
use parm_oip::Error;

/// The gRPC method whose clients may pause between messages.
const STREAM: &str = "/ModelStreamInfer";

/// The most bytes of a response that are handed to the connection at once.
const PIECE: usize = 256 << 10;

/// The service of one connection.
#[derive(Clone)]
pub(super) struct MeteredService {
    pub(super) router: TowerToHyperService<Router>,
    pub(super) limits: Arc<Limits>,
    pub(super) budget: Arc<Budget>,
    pub(super) timeouts: Arc<Timeouts>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

impl<B> hyper::service::Service<Request<B>> for MeteredService
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<B>) -> Answer {
        let open = self.timeouts.begin();
        let held = Reservation::new(&self.budget);
        let (mut parts, body) = request.into_parts();
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            let messages = is_grpc(&parts.headers).then(|| Messages::new(self.limits.body_bytes));
            let compression = messages.as_ref().and_then(|_| take_compression(&mut parts.headers));
            let body = RequestBody {
                body,
                held: Arc::clone(&held),
                longest: Duration::from_millis(self.limits.body_ms),
                timer: None,
                streams: messages.is_some() && parts.uri.path().ends_with(STREAM),
                messages,
            };
            match compression {
                Some(compression) => {
                    let limit = self.limits.body_bytes;
                    Body::new(Decompressed::new(body, compression, limit, Arc::clone(&held)))
                }
                None => Body::new(body),
            }
        };
        parts.extensions.insert(Arc::clone(&held));
        let answer = hyper::service::Service::call(&self.router, Request::from_parts(parts, body));
        Box::pin(async move {
            let response = as_json(answer.await.unwrap_or_else(|error| match error {})).await;
            Ok(response.map(|body| ResponseBody { body, rest: Bytes::new(), _held: held, open }))
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Turns the plain-text errors of axum into JSON.
async fn as_json(response: Response<Body>) -> Response<Body> {
    let plain = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    if !response.status().is_client_error() || !response.headers().get(CONTENT_TYPE).is_some_and(plain) {
        return response;
    }
    let (status, body) = (response.status(), response.into_body());
    // The bodies of such errors are in memory.
    let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let error = Error::invalid(String::from_utf8_lossy(&text));
    let mut response = ErrorResponse(error).into_response();
    *response.status_mut() = status;
    response
}

/// The body of a request.
struct RequestBody<B> {
    body: B,
    held: Arc<Reservation>,
    longest: Duration,
    /// Starts when the body is first polled.
    timer: Option<Pin<Box<Sleep>>>,
    /// Its gRPC messages; none if it is not gRPC.
    messages: Option<Messages>,
    /// True if the client may pause between messages.
    streams: bool,
}

impl<B> RequestBody<B> {
    fn is_between_messages(&self) -> bool {
        self.streams && self.messages.as_ref().is_none_or(Messages::is_between)
    }
}

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            if this.is_between_messages() {
                this.timer = None;
                return Poll::Pending;
            }
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.longest)));
            ready!(timer.as_mut().poll(context));
            let text = format!("the body did not arrive within {} ms", this.longest.as_millis());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text).into())));
        };
        let seen = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |data| {
                this.held.reserve(data.len()).map_err(Status::from)?;
                this.messages.as_mut().map_or(Ok(()), |messages| messages.see(data))
            }),
            None if this.messages.as_ref().is_some_and(|messages| !messages.is_between()) => {
                Err(Status::invalid_argument("the message is incomplete"))
            }
            Some(Err(_)) | None => Ok(()),
        };
        Poll::Ready(match seen {
            Ok(()) => frame.map(|frame| frame.map_err(Into::into)),
            Err(status) => Some(Err(status.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.messages.as_ref().is_none_or(Messages::is_between)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response; dropping it releases its reservation and its connection's timeout.
pub(super) struct ResponseBody {
    body: Body,
    /// The rest of the last frame.
    rest: Bytes,
    _held: Arc<Reservation>,
    open: InFlight,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
                this.open.awaits_handler();
                return Poll::Pending;
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        // The connection buffers each piece; the rest stays here, and its bytes stay reserved.
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.open.sent_piece();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use tokio_stream::StreamExt;

    use super::super::body::error_of;
    use super::*;
    use parm_oip as oip;

    const MS: Duration = Duration::from_millis(1);

    /// Pieces, each after a delay in ms, and then the end or silence.
    fn body(
        pieces: &[(u32, &'static [u8])],
        ends: bool,
    ) -> impl http_body::Body<Data = Bytes, Error = axum::Error> + Unpin + use<> {
        let pieces: Vec<_> = pieces.to_vec();
        let pieces = tokio_stream::iter(pieces).then(|(pause, bytes)| async move {
            tokio::time::sleep(MS * pause).await;
            Ok(Frame::data(Bytes::from_static(bytes)))
        });
        let end = tokio_stream::pending().take(usize::from(!ends));
        StreamBody::new(Box::pin(pieces.chain(end)))
    }

    fn counted<B>(body: B, messages: bool, streams: bool) -> RequestBody<B> {
        let held = Reservation::new(&Budget::new(1000));
        let messages = messages.then(|| Messages::new(10));
        RequestBody { body, held, longest: 100 * MS, timer: None, messages, streams }
    }

    async fn read<B>(body: RequestBody<B>) -> Result<Bytes, Error>
    where
        B: http_body::Body<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
    {
        let read =
            tokio::time::timeout(100_000 * MS, Body::new(body).collect()).await.expect("the body ends");
        read.map(http_body_util::Collected::to_bytes).map_err(|error| error_of(&error))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_one_timeout_however_slowly_it_arrives() {
        let status = |read: Result<Bytes, Error>| read.map_err(|error| error.status);
        assert_eq!(
            status(read(counted(body(&[(60, b"a"), (30, b"b")], true), false, false)).await),
            Ok(Bytes::from("ab"))
        );
        for (messages, pieces) in
            [(false, &[(60, &b"a"[..]), (60, b"b")][..]), (true, &[]), (true, &[(0, b"\0\0\0\0\x01a")])]
        {
            let late = status(read(counted(body(pieces, false), messages, false)).await);
            assert_eq!(late, Err(oip::Status::DeadlineExceeded));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent_between_messages_but_not_within_one() {
        let two: &[(u32, &[u8])] =
            &[(5000, b"\0\0\0\0\x01a"), (5000, b"\0\0\0"), (50, b"\0\x01b"), (5000, b"")];
        assert_eq!(read(counted(body(two, true), true, true)).await.unwrap().len(), 12);
        let half = read(counted(body(&[(5000, b"\0\0\0\0\x02a")], false), true, true)).await.unwrap_err();
        assert_eq!(half.status, oip::Status::DeadlineExceeded);
    }

    #[tokio::test]
    async fn messages_that_are_too_large_or_malformed_are_refused_at_their_prefix() {
        for (bytes, status) in [
            (&b"\0\0\0\0\x0b"[..], oip::Status::TooLarge),
            (b"\0\0\0\0\0\x02\0\0\0\0", oip::Status::InvalidArgument),
            (b"\0\0\0\0\x05abc", oip::Status::InvalidArgument),
            (b"\0\0", oip::Status::InvalidArgument),
        ] {
            for size in 1..=bytes.len() {
                let pieces: Vec<(u32, &[u8])> = bytes.chunks(size).map(|piece| (0, piece)).collect();
                let error = read(counted(body(&pieces, true), true, false)).await.unwrap_err();
                assert_eq!(error.status, status, "{error}");
            }
        }
    }

    #[tokio::test]
    async fn the_bytes_of_a_body_are_reserved_until_it_is_dropped() {
        let budget = Budget::new(10);
        let other = Reservation::new(&budget);
        other.reserve(5).unwrap();
        let with = |held: &Arc<Reservation>| RequestBody {
            held: Arc::clone(held),
            ..counted(body(&[(0, b"abc"), (0, b"def")], true), false, false)
        };
        let held = Reservation::new(&budget);
        let error = read(with(&held)).await.unwrap_err();
        assert_eq!(error.status, oip::Status::Unavailable);
        drop((held, other));
        assert_eq!(read(with(&Reservation::new(&budget))).await.unwrap(), "abcdef");
        Reservation::new(&budget).reserve(10).unwrap();
    }
}

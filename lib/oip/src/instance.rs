//! Instances: the trait of everything that runs models.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, InferRequest, InferResponse, ModelMetadata, Status};

/// The future of an answer.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>;

/// An instance: a remote model server, or models inside this process. It runs concurrent calls in parallel
/// or one after another.
pub trait Instance: Send + Sync + 'static {
    /// Runs a model on a batch. Dropping the future cancels the call.
    fn infer(&self, request: InferRequest, call: CallContext) -> Answer<InferResponse>;

    /// Checks that a model is ready, or the server if the name is empty.
    fn ready(&self, model: &str, version: &str) -> Answer<()>;

    /// The inputs and outputs of a model.
    fn metadata(&self, model: &str, version: &str) -> Answer<ModelMetadata>;

    /// True if it makes coded queries itself, on its device. A request for them then has the groups,
    /// `[rows, k, …]` with zeros in empty slots, and [`CallContext::coded`] is the index of the coded query.
    fn encodes(&self) -> bool {
        false
    }

    /// The most rows of a request that a model accepts; none if the instance does not report it.
    fn most_rows(&self, _model: &str, _version: &str) -> Answer<Option<usize>> {
        Box::pin(async { Ok(None) })
    }

    /// What the client observed of the instance.
    fn view(&self) -> InstanceView {
        InstanceView::default()
    }
}

/// Observations of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceView {
    /// Whether it returns the ids of requests; none: not known yet.
    pub echoes_ids: Option<bool>,
    /// Answers that belonged to another request.
    pub mismatched: u64,
}

/// Waits for an answer for at most `longest`.
///
/// # Errors
/// The call's error, or [`CallError::Timeout`].
pub async fn within<T>(
    longest: Duration,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(longest, answer).await.unwrap_or(Err(CallError::Timeout(longest)))
}

/// Headers, by lower-case names.
pub type Headers = Arc<[(String, String)]>;

/// The context of a call.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// How long the caller waits. The instance may stop early; the caller enforces it, see [`within`].
    pub timeout: Option<Duration>,
    /// Headers of the client's request to pass on: `x-request-id`, `traceparent`, `tracestate`.
    pub headers: Headers,
    /// If the instance encodes: the index of the coded query to make from the groups.
    pub coded: Option<usize>,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The instance cannot be reached, or the connection was lost.
    #[error("{0}")]
    Unreachable(String),
    /// The call timed out.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The instance refuses the request.
    #[error("{0}")]
    Refused(Error),
    /// The instance reports a failure, or is not ready.
    #[error("{0}")]
    Failed(Error),
    /// The answer violates the protocol.
    #[error("{0}")]
    Garbled(String),
    /// The answer has an HTTP status that is neither success nor an error.
    #[error("found status {0}, expected 200")]
    Unexpected(u16),
    /// The answer belongs to another request.
    #[error("{0}")]
    Mismatched(String),
}

impl CallError {
    /// The error for the client, if no other call answers.
    #[must_use]
    pub fn to_client(&self) -> Error {
        match self {
            Self::Refused(error) | Self::Failed(error) => error.clone(),
            Self::Timeout(_) => Error::new(Status::DeadlineExceeded, self.to_string()),
            Self::Unreachable(_) => Error::new(Status::Unavailable, self.to_string()),
            Self::Garbled(_) | Self::Unexpected(_) | Self::Mismatched(_) => {
                Error::new(Status::Internal, self.to_string())
            }
        }
    }
}

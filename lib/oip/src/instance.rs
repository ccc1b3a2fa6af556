//! What runs a model.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, InferRequest, InferResponse, ModelMetadata, Status};

/// What an instance promises.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>;

/// Something that runs models: a remote model server, or a model inside this process. One that is
/// called again while it works does both at once, or one after the other.
pub trait Instance: Send + Sync + 'static {
    /// Runs a model on a batch. Dropping the promise gives the call up.
    fn infer(&self, request: InferRequest, call: CallContext) -> Answer<InferResponse>;

    /// Sees whether a model is ready; of an empty name, whether the server is.
    fn ready(&self, model: &str, version: &str) -> Answer<()>;

    /// What a model takes and gives.
    fn metadata(&self, model: &str, version: &str) -> Answer<ModelMetadata>;

    /// True if it makes coded queries itself, where it computes: a request for them then holds the groups,
    /// `[rows, k, …]` with zeros in slots without a query, and [`CallContext::coded`] says which coded query
    /// of each group is asked.
    fn encodes(&self) -> bool {
        false
    }

    /// The most rows of a request that it says a model takes; none if it does not say.
    fn most_rows(&self, _model: &str, _version: &str) -> Answer<Option<usize>> {
        Box::pin(async { Ok(None) })
    }

    /// What is known of it.
    fn view(&self) -> InstanceView {
        InstanceView::default()
    }
}

/// What is known of an instance beside how its calls end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceView {
    /// Whether it sends back the ids of requests, so that they are compared; none: nothing has shown yet.
    pub echoes_ids: Option<bool>,
    /// Answers that were not the ones to their requests.
    pub mismatched: u64,
}

/// Waits for an answer so long, and then gives it up.
///
/// # Errors
/// The call's, and [`CallError::Timeout`].
pub async fn within<T>(
    longest: Duration,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(longest, answer).await.unwrap_or(Err(CallError::Timeout(longest)))
}

/// Headers, by lower-case names.
pub type Headers = Arc<[(String, String)]>;

/// What accompanies a call.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// How long the caller waits; the instance may use it to stop early. It is the caller who drops the
    /// promise then: see [`within`].
    pub timeout: Option<Duration>,
    /// Headers of the client's request to pass on: `x-request-id`, `traceparent`, `tracestate`.
    pub headers: Headers,
    /// The coded query to make of the groups that are sent, by index, where the instance encodes.
    pub coded: Option<usize>,
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The instance cannot be reached, or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It refuses the request itself.
    #[error("{0}")]
    Refused(Error),
    /// It said that it failed, or is not ready.
    #[error("{0}")]
    Failed(Error),
    /// Its answer is not one of the protocol.
    #[error("{0}")]
    Garbled(String),
    /// Its answer is not the one to the request.
    #[error("{0}")]
    Mismatched(String),
}

impl CallError {
    /// What the client is told where this is the last word.
    #[must_use]
    pub fn to_client(&self) -> Error {
        match self {
            Self::Refused(error) | Self::Failed(error) => error.clone(),
            Self::Timeout(_) => Error::new(Status::DeadlineExceeded, self.to_string()),
            Self::Unreachable(_) => Error::new(Status::Unavailable, self.to_string()),
            Self::Garbled(_) | Self::Mismatched(_) => Error::new(Status::Internal, self.to_string()),
        }
    }
}

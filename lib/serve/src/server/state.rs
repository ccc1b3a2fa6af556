//! What all connections share: the models, the limits, and what is used of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{Extensions, HeaderMap};
use tokio::sync::{Semaphore, watch};

use super::auth::Access;
use super::blocking::Blocking;
use super::budget::{Budget, Reservation};
use crate::models::Models;
use parm_config::{Limits, PassedHeaders};
use parm_oip::instance::{CallContext, Headers};
use parm_oip::{Error, InferRequest, InferResponse, ServerMetadata, Status};

/// What all handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) server: Arc<Server>,
    pub(super) access: Arc<Access>,
}

/// The models, and what limits the work for them.
pub(super) struct Server {
    /// The models.
    pub(super) models: Models,
    /// The limits on requests.
    pub(super) limits: Limits,
    /// The time of its start.
    pub(super) since: Instant,
    requests: Semaphore,
    pub(super) budget: Arc<Budget>,
    pub(super) blocking: Blocking,
    pub(super) draining: watch::Sender<bool>,
    /// The number of headers that were not passed on since they were too many or too long.
    pub(super) dropped_headers: AtomicU64,
}

impl Server {
    /// A server with these models.
    pub(super) fn new(models: Models, limits: Limits) -> Self {
        let requests = Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS));
        let (budget, blocking, draining) =
            (Budget::new(limits.bytes), Blocking::new(), watch::Sender::new(false));
        let dropped_headers = AtomicU64::new(0);
        Self { models, limits, since: Instant::now(), requests, budget, blocking, draining, dropped_headers }
    }

    /// True if it is not stopping, and each model that is loaded or being loaded has an instance that is alive.
    pub(super) fn is_ready(&self) -> bool {
        !*self.draining.borrow() && self.models.are_ready()
    }

    /// Marks the server as stopping: it is no longer ready, but still answers requests.
    pub(super) fn stop(&self) {
        self.draining.send_replace(true);
    }

    /// The reservation of the request with these extensions.
    pub(super) fn held(&self, of: &Extensions) -> Arc<Reservation> {
        of.get().cloned().unwrap_or_else(|| Reservation::new(&self.budget))
    }

    /// The headers of a request that are passed on to instances.
    pub(super) fn passed_on(&self, headers: &HeaderMap) -> Headers {
        let PassedHeaders { names, count, bytes } = &self.limits.passed_headers;
        let found = names.iter().filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?)));
        let mut passed = Vec::new();
        for (name, value) in found {
            if passed.len() < *count && value.len() <= *bytes {
                passed.push((name.clone(), value.to_owned()));
            } else {
                self.dropped_headers.fetch_add(1, Ordering::Relaxed);
            }
        }
        passed.into()
    }

    /// Answers an inference request.
    ///
    /// # Errors
    /// The error for the client.
    pub(super) async fn infer(
        &self,
        request: InferRequest,
        call: CallContext,
        held: &Reservation,
    ) -> Result<InferResponse, Error> {
        let Ok(_permit) = self.requests.try_acquire() else {
            let text =
                format!("overloaded: {} requests are open, the most that are allowed", self.limits.requests);
            return Err(Error::new(Status::Unavailable, text));
        };
        let served = self.models.find(&request.model, &request.version)?;
        served.infer(request, call, &self.limits, held).await
    }
}

/// What the server says of itself.
pub(super) fn metadata() -> ServerMetadata {
    let extensions = [
        "classification",
        "binary_tensor_data",
        "model_repository",
        "model_configuration",
        "statistics",
        "parameters",
    ];
    ServerMetadata {
        name: "parm-serve".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: extensions.map(str::to_owned).to_vec(),
    }
}

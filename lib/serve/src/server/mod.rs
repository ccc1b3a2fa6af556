//! The server: speaks the protocol to clients, and passes requests to runtimes.
//!
//! `listen` accepts connections within limits and with TLS; `http` and `grpc` decode requests; `auth` checks
//! access; `infer` answers inference requests of both.

mod auth;
mod blocking;
mod body;
mod budget;
mod counts;
mod grpc;
mod http;
mod infer;
mod listen;
mod meter;
mod metrics;
mod model_config;
mod page;
mod refusals;
mod run;
mod statistics;
mod timeouts;
mod unpacking;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::http::HeaderMap;
use tokio::sync::{Semaphore, watch};

pub use auth::{Access, Keys};
pub use run::{Addresses, Order, Running};

use blocking::Blocking;
use budget::{Budget, Reservation};

use crate::models::Models;
use parm_config::{Config, Limits, PassedHeaders};
use parm_oip::instance::{CallContext, Headers};
use parm_oip::{Error, InferRequest, InferResponse, ServerMetadata, Status};

/// Reads the files of keys and certificates.
///
/// # Errors
/// The field of the configuration, and the problem of its file.
pub(crate) fn check_files(config: &Config) -> Result<(), (&'static str, String)> {
    Access::of(config).map_err(|problem| ("keys", problem))?;
    let tls = config.tls.as_ref().map(listen::acceptor).transpose();
    tls.map(drop).map_err(|problem| ("tls", problem))
}

/// The state that all connections share.
pub struct Server {
    /// The models.
    pub models: Models,
    /// The limits on requests.
    pub limits: Limits,
    /// The time of its start.
    pub since: Instant,
    requests: Semaphore,
    budget: Arc<Budget>,
    blocking: Blocking,
    draining: watch::Sender<bool>,
    /// The number of headers that were not passed on since they were too many or too long.
    dropped_headers: AtomicU64,
}

impl Server {
    /// A server with these models.
    #[must_use]
    pub fn new(models: Models, limits: Limits) -> Self {
        let requests = Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS));
        let (budget, blocking, draining) =
            (Budget::new(limits.bytes), Blocking::new(), watch::Sender::new(false));
        let dropped_headers = AtomicU64::new(0);
        Self { models, limits, since: Instant::now(), requests, budget, blocking, draining, dropped_headers }
    }

    /// True if it is not stopping, and each model that is loaded or being loaded has an instance that is alive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !*self.draining.borrow() && self.models.are_ready()
    }

    /// Marks the server as stopping: it is no longer ready, but still answers requests.
    pub fn stop(&self) {
        self.draining.send_replace(true);
    }

    /// The reservation of the request with these extensions.
    fn held(&self, of: &axum::http::Extensions) -> Arc<Reservation> {
        of.get().cloned().unwrap_or_else(|| Reservation::new(&self.budget))
    }

    /// The metadata of the server.
    #[must_use]
    pub fn metadata(&self) -> ServerMetadata {
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

    /// The headers of a request that are passed on to instances.
    fn passed_on(&self, headers: &HeaderMap) -> Headers {
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
    async fn infer(
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

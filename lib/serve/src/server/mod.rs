//! The server: the protocol to clients, over runtimes.
//!
//! `infer` is what a request becomes, however it came; `http` and `grpc` are its forms; `listen`
//! accepts connections, within limits and with TLS; `auth` says who may ask.

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

/// Sees that the files of keys and certificates are there, and are what they should be.
///
/// # Errors
/// The field of the configuration, and what is wrong with its file.
pub(crate) fn check_files(config: &Config) -> Result<(), (&'static str, String)> {
    Access::of(config).map_err(|problem| ("keys", problem))?;
    let tls = config.tls.as_ref().map(listen::acceptor).transpose();
    tls.map(drop).map_err(|problem| ("tls", problem))
}

/// What all connections share.
pub struct Server {
    /// The models.
    pub models: Models,
    /// What clients may ask.
    pub limits: Limits,
    /// When it started.
    pub since: Instant,
    requests: Semaphore,
    budget: Arc<Budget>,
    blocking: Blocking,
    draining: watch::Sender<bool>,
    /// Headers that were not passed on: there were too many, or they were too long.
    dropped_headers: AtomicU64,
}

impl Server {
    /// A server of these models.
    #[must_use]
    pub fn new(models: Models, limits: Limits) -> Self {
        let requests = Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS));
        let (budget, blocking, draining) =
            (Budget::new(limits.bytes), Blocking::new(), watch::Sender::new(false));
        let dropped_headers = AtomicU64::new(0);
        Self { models, limits, since: Instant::now(), requests, budget, blocking, draining, dropped_headers }
    }

    /// True if it takes queries: it is not being stopped, and all models that are loaded have an
    /// instance.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !*self.draining.borrow() && self.models.are_ready()
    }

    /// It is being stopped: it is not ready from now on, but goes on to answer.
    pub fn stop(&self) {
        self.draining.send_replace(true);
    }

    /// What the request with these extensions holds of the memory that all share.
    fn held(&self, of: &axum::http::Extensions) -> Arc<Reservation> {
        of.get().cloned().unwrap_or_else(|| Reservation::new(&self.budget))
    }

    /// What it says of itself.
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

    /// The headers of a request that go on to instances.
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
    /// What the client is told.
    async fn infer(
        &self,
        request: InferRequest,
        call: CallContext,
        held: &Reservation,
    ) -> Result<InferResponse, Error> {
        let Ok(_permit) = self.requests.try_acquire() else {
            let text = format!("overloaded: {} requests are answered, no more may be", self.limits.requests);
            return Err(Error::new(Status::Unavailable, text));
        };
        let served = self.models.find(&request.model, &request.version)?;
        served.infer(request, call, &self.limits, held).await
    }
}

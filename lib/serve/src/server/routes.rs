//! All routes of HTTP, and who may use them.

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use super::auth::Port;
use super::response::{ErrorResponse, json};
use super::state::Shared;
use super::{http, metrics, page};
use parm_oip::http as wire;
use parm_oip::{Error, Status};

/// The routes of clients.
pub(super) fn inference(shared: Shared) -> Router {
    let routes = Router::new()
        .route("/v2", get(http::server_metadata))
        .route("/v2/", get(http::server_metadata))
        .route("/v2/models/stats", get(http::all_statistics))
        .route("/v2/models/{model}", get(http::metadata))
        .route("/v2/models/{model}/ready", get(http::ready))
        .route("/v2/models/{model}/config", get(http::config))
        .route("/v2/models/{model}/stats", get(http::model_statistics))
        .route("/v2/models/{model}/infer", post(http::infer))
        .route("/v2/models/{model}/versions/{version}", get(http::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(http::ready))
        .route("/v2/models/{model}/versions/{version}/config", get(http::config))
        .route("/v2/models/{model}/versions/{version}/stats", get(http::model_statistics))
        .route("/v2/models/{model}/versions/{version}/infer", post(http::infer));
    let access = Arc::clone(&shared.access);
    guarded(routes, move |headers| access.inference(headers))
        // Load balancers, which ask for health, have no key.
        .route("/v2/health/live", get(async || StatusCode::OK))
        .route("/v2/health/ready", get(http::server_ready))
        .with_state(shared)
}

/// The routes of operators.
pub(super) fn admin(shared: Shared, port: Port) -> Router {
    let views = Router::new()
        .route("/", get(page::page))
        .route("/status.json", get(page::status))
        .route("/metrics", get(metrics::metrics))
        .route("/v2/repository/index", post(http::index));
    let management = Router::new()
        .route("/v2/repository/models/{model}/load", post(http::load))
        .route("/v2/repository/models/{model}/unload", post(http::unload))
        .route("/v2/models/{model}/coding/resume", post(http::resume_coding));
    let [one, other] = [Arc::clone(&shared.access), Arc::clone(&shared.access)];
    let views = guarded(views, move |headers| one.view(headers));
    views.merge(guarded(management, move |headers| other.manage(headers, port))).with_state(shared)
}

fn guarded(
    routes: Router<Shared>,
    check: impl Fn(&HeaderMap) -> Result<(), Error> + Clone + Send + Sync + 'static,
) -> Router<Shared> {
    routes.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let allowed = check(request.headers());
        async move {
            match allowed {
                Ok(()) => next.run(request).await,
                Err(error) => ErrorResponse(error).into_response(),
            }
        }
    }))
}

/// Adds the responses to unknown routes and methods.
pub(super) fn with_fallbacks(router: Router) -> Router {
    router
        .fallback(async |request: Request| {
            ErrorResponse(Error::new(Status::NotFound, format!("found no route {}", request.uri().path())))
        })
        .method_not_allowed_fallback(async |request: Request| {
            let text = format!(
                "found the method {}, which {} does not support",
                request.method(),
                request.uri().path()
            );
            (StatusCode::METHOD_NOT_ALLOWED, json(wire::encode_error(&Error::invalid(text)).to_bytes()))
        })
}

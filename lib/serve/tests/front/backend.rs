//! A model server of this test: y = x0 + 10 x1, in JSON over HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::common::wait::until;

/// A model whose instances are these, in JSON; its name is `m`.
pub(crate) fn model(instances: &[&Backend], more: &str) -> String {
    let remote = |backend: &&Backend| {
        format!(r#"{{"remote": {{"url": "http://{}", "encoding": "json"}}, "capacity": 4}}"#, backend.at)
    };
    let remotes: Vec<String> = instances.iter().map(remote).collect();
    format!(
        r#"{{"name": "m", "placement": "pooled", {more}
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}],
            "instances": [{}]}}"#,
        remotes.join(", ")
    )
}

/// A request for rows, with further fields.
pub(crate) fn rows(rows: &[[i32; 2]], more: &str) -> String {
    let data = rows.as_flattened();
    format!(
        r#"{{{more} "inputs": [{{"name": "x", "shape": [{}, 2], "datatype": "FP32", "data": {data:?}}}]}}"#,
        rows.len()
    )
}

/// One that runs.
pub(crate) struct Backend {
    pub(crate) at: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
    /// What it says of itself.
    pub(crate) ready: Arc<AtomicBool>,
    runtime: Option<Runtime>,
}

impl Backend {
    /// One that answers after a while.
    pub(crate) async fn start(pause: Duration) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), pause).await
    }

    pub(crate) async fn at(address: SocketAddr, pause: Duration) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let seen = Arc::clone(&asked);
        let ready = Arc::new(AtomicBool::new(true));
        let says = Arc::clone(&ready);
        let router = Router::new()
            .fallback(move |request: Request| answer(request, Arc::clone(&seen), Arc::clone(&says), pause));
        let listener = runtime.spawn(tokio::net::TcpListener::bind(address)).await.unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { at, asked, ready, runtime: Some(runtime) }
    }

    /// One in the place of one that was killed: the system may keep the port for a moment.
    pub(crate) async fn back(at: SocketAddr) -> Self {
        until("the port", async || tokio::net::TcpListener::bind(at).await.is_ok()).await;
        Self::at(at, Duration::ZERO).await
    }

    /// The inference requests that came, each with the model's name as `model`.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// Ends it and its connections.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn answer(
    request: Request,
    seen: Arc<Mutex<Vec<Value>>>,
    ready: Arc<AtomicBool>,
    pause: Duration,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let Some(model) = parts.uri.path().strip_suffix("/infer").and_then(|path| path.split('/').nth(3)) else {
        let code =
            if ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        return (code, "{}").into_response();
    };
    let body = body.collect().await.unwrap().to_bytes();
    let mut asked: Value = serde_json::from_slice(&body).unwrap();
    asked["model"] = model.into();
    seen.lock().unwrap().push(asked.clone());
    tokio::time::sleep(pause).await;
    let data: Vec<f64> =
        asked["inputs"][0]["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let y: Vec<f64> = data.chunks(2).map(|row| row[0] + 10.0 * row[1]).collect();
    let output = json!({"name": "y", "datatype": "FP32", "shape": [y.len(), 1], "data": y});
    let answer = json!({"model_name": model, "id": asked["id"], "outputs": [output]});
    (StatusCode::OK, answer.to_string()).into_response()
}

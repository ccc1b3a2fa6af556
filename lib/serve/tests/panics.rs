//! A panic takes nothing with it but what it was about.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::http::{get, post};
use common::server::Server;
use common::wait::{soon, until};
use common::{linear, respond};
use parm::codes::{Code, Network, NetworkError};
use parm_config::{Embedded, Model};
use parm_oip::instance::{Answer, CallContext, Instance, InstanceView};
use parm_oip::{InferRequest, InferResponse, ModelMetadata};
use parm_serving::Embed;

/// An instance that panics when it is looked at, or asked, as long as a test wants it.
#[derive(Clone, Default)]
struct Fragile {
    in_view: Arc<AtomicBool>,
    in_call: Arc<AtomicBool>,
}

impl Instance for Fragile {
    fn infer(&self, request: InferRequest, _: CallContext) -> Answer<InferResponse> {
        let panics = Arc::clone(&self.in_call);
        let waits = common::floats(&request.inputs[0].data.contiguous())[0] < 0.0;
        Box::pin(async move {
            assert!(!panics.swap(false, Ordering::Relaxed), "a call breaks");
            if waits {
                std::future::pending::<()>().await;
            }
            Ok(respond(&request, linear))
        })
    }

    fn ready(&self, _: &str, _: &str) -> Answer<()> {
        Box::pin(async { Ok(()) })
    }

    fn metadata(&self, _: &str, _: &str) -> Answer<ModelMetadata> {
        Box::pin(async { Ok(ModelMetadata::default()) })
    }

    fn view(&self) -> InstanceView {
        // By the task of the model, which asks all of its instances.
        assert!(!self.in_view.swap(false, Ordering::Relaxed), "a view breaks");
        InstanceView::default()
    }
}

impl Embed for Fragile {
    fn instance(
        &self,
        _: &Embedded,
        _: &BTreeMap<String, PathBuf>,
        _: &Model,
        _: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError> {
        Ok(Arc::new(self.clone()))
    }

    fn network(&self, _: &Path, _: &Model, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
        Err(NetworkError("the tests have none".to_owned()))
    }
}

async fn server(fragile: &Fragile) -> Server {
    let model = r#"{"name": "m", "deadline_ms": 60000, "call_timeout_ms": 60000,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
        "files": {"deployed": "a"}, "instances": [{"embedded": {"count": 2}, "roles": ["deployed"]}]}"#;
    Server::embedding(model, "", Arc::new(fragile.clone())).await
}

fn body(first: i32) -> String {
    format!(
        r#"{{"inputs": [{{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [{first}, 0, 0]}}]}}"#
    )
}

#[tokio::test]
async fn a_model_whose_task_panics_is_not_ready_answers_503_and_starts_again() {
    let fragile = Fragile::default();
    let server = server(&fragile).await;
    let at = server.http();
    assert_eq!(post(at, "/v2/models/m/infer", &body(1)).await.code, 200);
    // One that is under way, and would be for a minute.
    let open = tokio::spawn(async move { post(at, "/v2/models/m/infer", &body(-1)).await });
    let running = ["embedded-0.0", "embedded-0.1"]
        .map(|name| format!("parm_instance_running{{model=\"m\",version=\"1\",instance=\"{name}\"}} 1"));
    until("a running call", async || {
        let metrics = get(at, "/metrics").await.text();
        running.iter().any(|line| metrics.contains(line))
    })
    .await;
    fragile.in_view.store(true, Ordering::Relaxed);
    get(at, "/metrics").await;
    let lost = soon("an answer", open).await.unwrap();
    assert_eq!(lost.code, 503, "{}", lost.text());
    assert!(lost.text().contains("the task of the model failed"), "{}", lost.text());
    server.ready().await;
    assert_eq!(post(at, "/v2/models/m/infer", &body(1)).await.code, 200);
    let metrics = get(at, "/metrics").await.text();
    assert!(metrics.contains("parm_model_panics_total{model=\"m\",version=\"1\"} 1"), "{metrics}");
    assert!(server.stop().await);
}

#[tokio::test]
async fn a_call_that_panics_is_a_call_that_failed() {
    let fragile = Fragile::default();
    let server = server(&fragile).await;
    fragile.in_call.store(true, Ordering::Relaxed);
    // It is sent again.
    let reply = soon("an answer", post(server.http(), "/v2/models/m/infer", &body(1))).await;
    assert_eq!(reply.code, 200, "{}", reply.text());
    let metrics = get(server.http(), "/metrics").await.text();
    assert!(metrics.contains("why=\"failed\"} 1"), "{metrics}");
    assert!(metrics.contains("parm_model_panics_total{model=\"m\",version=\"1\"} 0"), "{metrics}");
}

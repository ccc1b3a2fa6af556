//! This server as a model server: called, and behind another one of itself.

use std::sync::Arc;

use parm_config::{Config, Encoding, Remote};
use parm_oip::instance::{CallContext, CallError, Instance, InstanceView};
use parm_oip::{Datatype, Status};
use parm_serving::NoModels;
use parm_serving::server::{Addresses, Order, Running};
use tokio::sync::mpsc;

use crate::fake::*;
use crate::wait::until;

/// A server, which runs as long as it is held.
struct Server {
    addresses: Addresses,
    _orders: mpsc::Sender<Order>,
}

impl Server {
    async fn start(instances: &str) -> Self {
        let text = format!(
            r#"{{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "models": [{{"name": "m", "deadline_ms": 5000,
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [4]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [2]}}],
                "instances": [{instances}]}}]}}"#
        );
        let config = Config::parse(&text).unwrap();
        config.check().unwrap();
        let running = Running::start(config, Arc::new(NoModels)).await.unwrap();
        let (addresses, (orders, to_do)) = (running.addresses, mpsc::channel(1));
        tokio::spawn(running.serve(to_do));
        Self { addresses, _orders: orders }
    }

    fn http(&self) -> String {
        format!("http://{}", self.addresses.http.unwrap())
    }

    fn grpc(&self) -> String {
        format!("grpc://{}", self.addresses.grpc.unwrap())
    }

    /// A client in each way there is.
    async fn clients(&self) -> Vec<Arc<dyn Instance>> {
        let mut clients = Vec::new();
        for (url, encoding) in [
            (self.http(), Encoding::Json),
            (self.http(), Encoding::Binary),
            (self.http(), Encoding::Auto),
            (self.grpc(), Encoding::Auto),
        ] {
            clients.push(client_of(Remote { url, encoding, ..Remote::default() }).await);
        }
        clients
    }
}

async fn ready(client: &Arc<dyn Instance>) {
    until("readiness", async || client.ready("m", "").await.is_ok()).await;
}

/// 0 1 2 3 is 0 + 2 and 1 + 3.
async fn answers(client: &Arc<dyn Instance>) {
    ready(client).await;
    let answer = client.infer(request(4), CallContext::default()).await.unwrap();
    assert_eq!((floats(&answer), &answer.outputs[0].shape[..]), (vec![2.0, 4.0], &[1, 2][..]));
    assert!(answer.id.starts_with("parm-"));
    assert_eq!(client.view(), InstanceView { echoes_ids: Some(true), mismatched: 0 });
    // As many rows as a request may have.
    assert_eq!(client.most_rows("m", "").await, Ok(Some(4096)));
}

#[tokio::test]
async fn every_client_gets_the_same_answers_and_the_same_errors() {
    let server = Server::start(r#"{"synthetic": {}, "roles": ["deployed"]}"#).await;
    for client in server.clients().await {
        answers(&client).await;
        assert_eq!(client.ready("", "").await, Ok(()));
        let metadata = client.metadata("m", "").await.unwrap();
        assert_eq!((&*metadata.name, &metadata.versions[..]), ("m", &["1".to_owned()][..]));
        let [input] = &metadata.inputs[..] else { panic!("{metadata:?}") };
        assert_eq!((&*input.name, input.datatype, &input.shape[..]), ("x", Datatype::Fp32, &[-1, 4][..]));
        // What is wrong with a request, and where there is no such model.
        let error = client.infer(request(5), CallContext::default()).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Refused(error) if error.status == Status::InvalidArgument),
            "{error:?}"
        );
        assert!(error.to_string().contains("[-1,4]"), "{error}");
        let mut other = request(4);
        "other".clone_into(&mut other.model);
        let errors = [
            client.infer(other, CallContext::default()).await.unwrap_err(),
            client.metadata("m", "9").await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, CallError::Failed(error) if error.status == Status::NotFound),
                "{error:?}"
            );
        }
        // Over gRPC that is a word of its own, as with Triton.
        let error = client.ready("other", "").await.unwrap_err();
        assert!(matches!(&error, CallError::Failed(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_in_front_of_others_of_all_kinds_serves_their_model() {
    let behind = Server::start(r#"{"synthetic": {}, "roles": ["deployed"]}"#).await;
    for (url, encoding) in [
        (behind.http(), "json"),
        (behind.http(), "binary"),
        (behind.http().replace("127.0.0.1", "localhost"), "auto"),
        (behind.grpc(), "auto"),
    ] {
        let instance =
            format!(r#"{{"remote": {{"url": "{url}", "encoding": "{encoding}"}}, "roles": ["deployed"]}}"#);
        let front = Server::start(&instance).await;
        for client in front.clients().await {
            answers(&client).await;
            // Twelve rows in one request.
            let mut rows = request(48);
            rows.inputs[0].shape = vec![12, 4];
            let answer = client.infer(rows, CallContext::default()).await.unwrap();
            assert_eq!((answer.outputs[0].shape[0], floats(&answer)[22..].to_vec()), (12, vec![90.0, 92.0]));
        }
    }
}

#[tokio::test]
async fn an_answer_of_other_rows_or_another_shape_is_none_and_another_instance_is_asked() {
    let right = Server::start(r#"{"synthetic": {}, "roles": ["deployed"]}"#).await;
    for (shape, data) in [("[1,1]", "[1]"), ("[2,2]", "[1,2,3,4]"), ("[2]", "[1,2]"), ("[0,2]", "[]")] {
        let body =
            format!(r#"{{"outputs":[{{"name":"y","datatype":"FP32","shape":{shape},"data":{data}}}]}}"#);
        let wrong = Fake::new(move |_| json(200, &body)).await;
        let instance = |url: &str| {
            format!(r#"{{"remote": {{"url": "{url}", "encoding": "json"}}, "roles": ["deployed"]}}"#)
        };
        let alone = Server::start(&instance(&wrong.url())).await;
        let client = &alone.clients().await[0];
        ready(client).await;
        let error = client.infer(request(4), CallContext::default()).await.unwrap_err();
        assert!(matches!(&error, CallError::Failed(_)), "{shape}: {error:?}");
        let asked = || wrong.asked().iter().filter(|asked| asked.ends_with("/infer")).count();
        assert_eq!(asked(), 3, "{shape}: as often as work is tried");

        let both = Server::start(&format!("{}, {}", instance(&wrong.url()), instance(&right.http()))).await;
        let client = &both.clients().await[0];
        for _ in 0..4 {
            answers(client).await;
        }
    }
}

#[tokio::test]
async fn what_is_not_a_url_is_refused_with_its_place() {
    let text =
        r#"{"models": [{"name": "m", "instances": [{"remote": {"url": "a:1"}, "roles": ["deployed"]}]}]}"#;
    let config = Config::parse(text).unwrap();
    let error = parm_serving::check::check(&config).unwrap_err().to_string();
    assert!(error.starts_with("models[0].instances[0]: remote: found the URL 'a:1'"), "{error}");
}

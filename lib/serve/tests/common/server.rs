//! A server in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use parm_config::Config;
use parm_oip::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use parm_serving::server::{Addresses, Order, Running};
use parm_serving::{Embed, NoModels};
use tokio::sync::mpsc;

use super::http::get;
use super::wait::{soon, until};

pub(crate) struct Server {
    pub(crate) at: Addresses,
    pub(crate) orders: mpsc::Sender<Order>,
    over: tokio::task::JoinHandle<bool>,
}

impl Server {
    /// One of models that need nothing inside this process.
    pub(crate) async fn start(models: &str, more: &str) -> Self {
        Self::embedding(models, more, Arc::new(NoModels)).await
    }

    pub(crate) async fn embedding(models: &str, more: &str, embed: Arc<dyn Embed>) -> Self {
        let config = config(models, more);
        let (orders, told) = mpsc::channel(1);
        let running = Running::start(config, embed).await.unwrap();
        let at = running.addresses;
        let over = tokio::spawn(running.serve(told));
        let server = Self { at, orders, over };
        server.ready().await;
        server
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.at.http.unwrap()
    }

    pub(crate) async fn ready(&self) {
        until("readiness", async || get(self.http(), "/v2/health/ready").await.code == 200).await;
    }

    pub(crate) async fn grpc(&self) -> GrpcInferenceServiceClient<tonic::transport::Channel> {
        GrpcInferenceServiceClient::connect(format!("http://{}", self.at.grpc.unwrap())).await.unwrap()
    }

    pub(crate) async fn stop(self) -> bool {
        self.orders.send(Order::Stop).await.unwrap();
        soon("the end of the server", self.over).await.unwrap()
    }
}

pub(crate) fn config(models: &str, more: &str) -> Config {
    let text = format!(r#"{{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", {more} "models": [{models}]}}"#);
    let config = Config::parse(&text).unwrap();
    config.check().unwrap();
    config
}

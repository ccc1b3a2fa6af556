//! The generated service and client, over a connection.

use bytes::Bytes;
use parm_oip::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use parm_oip::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use parm_oip::proto::{ModelInferRequest, ModelInferResponse, ServerLiveRequest};
use parm_oip::{Datatype, InferRequest, InferResponse, Tensor, grpc};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

/// Gives back its inputs, and does nothing else.
struct Echo;

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let InferRequest { model, version, id, parameters, inputs: outputs, .. } =
            grpc::read_request(request.into_inner())?;
        let response = InferResponse { model, version, id, parameters, outputs };
        Ok(Response::new(grpc::write_response(&response)))
    }
}

async fn client() -> GrpcInferenceServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(GrpcInferenceServiceServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    GrpcInferenceServiceClient::connect(format!("http://{address}")).await.unwrap()
}

fn request(elements: usize) -> InferRequest {
    let tensor = Tensor {
        name: "x".into(),
        datatype: Datatype::Uint8,
        shape: vec![1, elements as u64],
        parameters: [].into(),
        data: Bytes::from((0..elements).map(|i| i as u8).collect::<Vec<_>>()).into(),
    };
    InferRequest { model: "m".into(), id: "7".into(), inputs: vec![tensor], ..Default::default() }
}

#[tokio::test]
async fn tensors_go_there_and_back() {
    let mut client = client().await;
    for elements in [0, 8, 600_000] {
        let request = request(elements);
        let answer = client.model_infer(grpc::write_request(&request)).await.unwrap();
        let response = grpc::read_response(answer.into_inner()).unwrap();
        assert_eq!((response.outputs, &*response.id), (request.inputs, "7"));
    }
}

#[tokio::test]
async fn what_is_not_implemented_and_what_has_too_many_fields_is_refused() {
    let mut client = client().await;
    let error = client.server_live(ServerLiveRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let mut message = grpc::write_request(&request(8));
    message.raw_input_contents.resize(20_000, Bytes::new());
    let error = client.model_infer(message).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("more than 16384 fields"), "{error}");
    // The connection lives on.
    assert!(client.model_infer(grpc::write_request(&request(8))).await.is_ok());
}

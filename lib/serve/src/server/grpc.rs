//! The protocol over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::HeaderMap;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::auth::Port;
use super::blocking::LITTLE;
use super::budget::Reservation;
use super::infer::REDUNDANCY;
use super::state::{self, Shared};
use super::{model_config, statistics};
use parm_oip::instance::CallContext;
use parm_oip::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use parm_oip::proto::infer_parameter::ParameterChoice;
use parm_oip::proto::{
    InferParameter, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    repository_index_response,
};
use parm_oip::{Error, Parameter, grpc as wire};

/// The most requests of one stream that are answered at once, and the most responses that wait to be sent.
const STREAM: usize = 256;

/// The parameter that marks the last response to a request of a stream.
const FINAL: &str = "triton_final_response";

/// The header that says how long the client waits.
const TIMEOUT: &str = "grpc-timeout";

/// The service's implementation.
#[derive(Clone)]
struct Service(Shared);

/// The routes of the services.
pub(super) fn routes(shared: Shared) -> Router {
    let limit = shared.server.limits.body_bytes;
    let inference = GrpcInferenceServiceServer::new(Service(shared.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX);
    tonic::service::Routes::new(inference).add_service(HealthServer::new(Service(shared))).into_axum_router()
}

impl Service {
    fn inference(&self, headers: &HeaderMap) -> Result<(), Error> {
        self.0.access.inference(headers)
    }

    fn manage(&self, headers: &HeaderMap) -> Result<(), Error> {
        self.0.access.manage(headers, Port::Public)
    }

    async fn infer(
        &self,
        message: ModelInferRequest,
        call: CallContext,
        held: &Reservation,
        redundancy: Option<String>,
    ) -> Result<ModelInferResponse, Error> {
        let server = &self.0.server;
        // Raw contents are not copied.
        let is_long = message.inputs.iter().any(|input| input.contents.is_some()) && held.bytes() > LITTLE;
        let mut request = server.blocking.run(is_long, || wire::read_request(message)).await?;
        if let Some(redundancy) = redundancy {
            request.parameters.entry(REDUNDANCY.to_owned()).or_insert(Parameter::String(redundancy));
        }
        Ok(wire::write_response(&server.infer(request, call, held).await?))
    }

    /// Waits until the server is stopping.
    async fn stopping(&self) {
        let mut draining = self.0.server.draining.subscribe();
        // A server that was dropped is stopping, too.
        let _ = draining.wait_for(|draining| *draining).await;
    }
}

/// How much redundancy the metadata ask for, if they do.
fn redundancy(headers: &HeaderMap) -> Option<String> {
    headers.get(REDUNDANCY).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The headers of a request, which gRPC calls metadata.
fn headers<T>(request: &Request<T>) -> &HeaderMap {
    request.metadata().as_ref()
}

/// How long the client waits for an answer, if it says so.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(said) = headers.get(TIMEOUT) else { return Ok(None) };
    let parse = || {
        let (number, unit) = said.to_str().ok()?.split_at_checked(said.len().checked_sub(1)?)?;
        let number =
            number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u32>().ok())??;
        let unit = match unit {
            "H" => Duration::from_hours(1),
            "M" => Duration::from_mins(1),
            "S" => Duration::from_secs(1),
            "m" => Duration::from_millis(1),
            "u" => Duration::from_micros(1),
            "n" => Duration::from_nanos(1),
            _ => return None,
        };
        unit.checked_mul(number)
    };
    let wrong =
        || Error::invalid(format!("found {TIMEOUT} {said:?}, expected a number and H, M, S, m, u or n"));
    parse().map(Some).ok_or_else(wrong)
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.server.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        self.inference(headers(&request))?;
        let asked = request.into_inner();
        // As in Triton, an unknown model is not ready, and no error.
        let found = self.0.server.models.find(&asked.name, &asked.version);
        let ready = found.is_ok_and(|served| served.ready().is_ok());
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        self.inference(headers(&request))?;
        Ok(Response::new(wire::write_server_metadata(state::metadata())))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        self.inference(headers(&request))?;
        let asked = request.into_inner();
        let metadata = self.0.server.models.metadata(&asked.name, &asked.version)?;
        Ok(Response::new(wire::write_model_metadata(&metadata)))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let headers = headers(&request);
        self.inference(headers)?;
        let call = CallContext {
            timeout: timeout(headers)?,
            headers: self.0.server.passed_on(headers),
            coded: None,
        };
        let redundancy = redundancy(headers);
        let held = self.0.server.held(request.extensions());
        Ok(Response::new(self.infer(request.into_inner(), call, &held, redundancy).await?))
    }

    /// Requests of a stream are answered in any order, those of a sequence in order. A server that is
    /// stopping answers the requests that it has received, and ends the stream.
    async fn model_stream_infer(
        &self,
        request: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Result<Response<BoxStream<ModelStreamInferResponse>>, Status> {
        let headers = headers(&request);
        self.inference(headers)?;
        // The timeout of the stream does not apply to one request.
        let call = CallContext { headers: self.0.server.passed_on(headers), ..CallContext::default() };
        let redundancy = redundancy(headers);
        let (answers, sent) = mpsc::channel::<(_, Arc<Reservation>)>(STREAM);
        let (service, room) = (self.clone(), Arc::new(Semaphore::new(STREAM)));
        let of_stream = self.0.server.held(request.extensions());
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = requests.next() => message,
                    () = service.stopping() => return,
                };
                let message = match message {
                    Some(Ok(message)) => message,
                    // An invalid message ends its stream; the client may have closed it.
                    Some(Err(status)) => return drop(answers.send((Err(status), of_stream)).await),
                    None => return,
                };
                let held = of_stream.split_off();
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let id = message.id.clone();
                let in_order = message.parameters.contains_key("sequence_id");
                let (service, answers, call) = (service.clone(), answers.clone(), call.clone());
                let redundancy = redundancy.clone();
                let answer = async move {
                    let answer = service.infer(message, call, &held, redundancy).await;
                    let _ = answers.send((Ok(streamed(id, answer)), held)).await;
                    drop(permit);
                };
                if in_order {
                    answer.await;
                } else {
                    tokio::spawn(answer);
                }
            }
        });
        // Dropping a response's reservation when it is sent releases its bytes.
        Ok(Response::new(Box::pin(ReceiverStream::new(sent).map(|(answer, _)| answer))))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        self.inference(headers(&request))?;
        let asked = request.into_inner();
        let served = self.0.server.models.find(&asked.name, &asked.version)?;
        let config = model_config::ModelConfig::of(&served, &self.0.server.limits)?;
        Ok(Response::new(ModelConfigResponse { config: Some(config.into()) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        self.inference(headers(&request))?;
        let asked = request.into_inner();
        let models = &self.0.server.models;
        let of = if asked.name.is_empty() {
            models.all()
        } else {
            models.versions(&asked.name, &asked.version)?
        };
        let model_stats = statistics::of(&of).await.into_iter().map(Into::into).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        self.0.access.view(headers(&request))?;
        let entries = self.0.server.models.index(request.into_inner().ready).into_iter();
        let models = entries.map(|entry| repository_index_response::ModelIndex {
            name: entry.name,
            version: entry.version,
            state: entry.state.to_owned(),
            reason: entry.reason,
        });
        Ok(Response::new(RepositoryIndexResponse { models: models.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        self.manage(headers(&request))?;
        self.0.server.models.load(&request.into_inner().model_name).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        self.manage(headers(&request))?;
        self.0.server.models.unload(&request.into_inner().model_name)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

/// A response of a stream; an error keeps the id of its request.
fn streamed(id: String, answer: Result<ModelInferResponse, Error>) -> ModelStreamInferResponse {
    let (error_message, mut response) = match answer {
        Ok(response) => (String::new(), response),
        Err(error) => (error.message, ModelInferResponse { id, ..ModelInferResponse::default() }),
    };
    // Each request has one response.
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    response.parameters.insert(FINAL.to_owned(), last);
    ModelStreamInferResponse { error_message, infer_response: Some(response) }
}

#[tonic::async_trait]
impl Health for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.health(&request.into_inner().service)?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (service, of) = (self.clone(), request.into_inner().service);
        let interval = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(WATCH));
        let mut last = None;
        let changes = interval.map_while(move |_| {
            let status = service.health(&of).unwrap_or(ServingStatus::ServiceUnknown);
            let is_new = last.replace(status) != Some(status);
            // A server that is stopping sends that status, and ends the stream.
            let over = !is_new && *service.0.server.draining.borrow();
            (!over).then(|| is_new.then(|| Ok(HealthCheckResponse { status: status.into() })))
        });
        Ok(Response::new(Box::pin(changes.filter_map(|change| change))))
    }
}

/// The time between two checks for a watcher of the health.
const WATCH: Duration = Duration::from_millis(500);

impl Service {
    /// The health of the server, of a service, or of a model by its name.
    fn health(&self, of: &str) -> Result<ServingStatus, Error> {
        let ready = match of {
            "" | "inference.GRPCInferenceService" => self.0.server.is_ready(),
            model => self.0.server.models.find(model, "")?.ready().is_ok(),
        };
        Ok(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        let read =
            |text: &str| timeout(&[(TIMEOUT.parse().unwrap(), text.parse().unwrap())].into_iter().collect());
        for (text, expected) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("250u", Duration::from_micros(250)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Ok(Some(expected)));
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "1 S", "99999999999S"] {
            let error = read(text).unwrap_err();
            assert!(
                error.message.contains("found grpc-timeout")
                    && error.status == parm_oip::Status::InvalidArgument
            );
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}

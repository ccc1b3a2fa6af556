//! Instances that do as a test says, and runtimes around them.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod http;
pub(crate) mod server;
pub(crate) mod wait;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parm::codes::{LoadNetwork, Network, NetworkError};
use parm_config::{Config, Model, Redundancy, code_of, engine_config};
use parm_engine::{RedundancyLevel, Roles};
use parm_oip::instance::{Answer, CallContext, CallError, Headers, Instance};
use parm_oip::{Error, InferRequest, InferResponse, ModelMetadata};
use parm_serving::runtime::{
    Ask, Coding, Member, Options, PassedParameters, Payload, RoleNames, RowAnswer, Runtime, Spec, Values,
    coders,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A call that an instance got, and the way to end it.
pub(crate) struct Call {
    pub(crate) request: InferRequest,
    pub(crate) context: CallContext,
    pub(crate) end: oneshot::Sender<Result<InferResponse, CallError>>,
}

impl Call {
    /// Answers with the outputs that a function makes of each row of the first input.
    pub(crate) fn answer(self, of: impl Fn(&[f32]) -> Vec<f32>) {
        let response = respond(&self.request, of);
        let _ = self.end.send(Ok(response));
    }

    pub(crate) fn fail(self, error: CallError) {
        let _ = self.end.send(Err(error));
    }

    /// The first element of each row.
    pub(crate) fn firsts(&self) -> Vec<f32> {
        let rows = self.request.inputs[0].shape[0] as usize;
        let values = floats(&self.request.inputs[0].data.contiguous());
        values.chunks(values.len() / rows).map(|row| row[0]).collect()
    }
}

pub(crate) fn respond(request: &InferRequest, of: impl Fn(&[f32]) -> Vec<f32>) -> InferResponse {
    let input = &request.inputs[0];
    let rows = input.shape[0] as usize;
    let values = floats(&input.data.contiguous());
    let outputs: Vec<f32> = values.chunks(values.len() / rows).flat_map(of).collect();
    let mut output = input.clone();
    "y".clone_into(&mut output.name);
    output.shape = vec![rows as u64, (outputs.len() / rows) as u64];
    output.data = bytes(&outputs).into();
    InferResponse {
        model: request.model.clone(),
        version: "1".to_owned(),
        id: request.id.clone(),
        outputs: vec![output],
        ..InferResponse::default()
    }
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

pub(crate) fn bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An instance whose calls a test ends by hand.
pub(crate) struct Puppet(mpsc::UnboundedSender<Call>, Arc<Mutex<bool>>);

impl Puppet {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Call>, Arc<Mutex<bool>>) {
        let (calls, got) = mpsc::unbounded_channel();
        let ready = Arc::new(Mutex::new(true));
        (Self(calls, Arc::clone(&ready)), got, ready)
    }
}

impl Instance for Puppet {
    fn infer(&self, request: InferRequest, context: CallContext) -> Answer<InferResponse> {
        let (end, ended) = oneshot::channel();
        let _ = self.0.send(Call { request, context, end });
        Box::pin(async move {
            ended.await.unwrap_or_else(|_| Err(CallError::Unreachable("the puppet is gone".to_owned())))
        })
    }

    fn ready(&self, _: &str, _: &str) -> Answer<()> {
        let ready = *self.1.lock().unwrap();
        Box::pin(
            async move { if ready { Ok(()) } else { Err(CallError::Unreachable("not ready".to_owned())) } },
        )
    }

    fn metadata(&self, _: &str, _: &str) -> Answer<ModelMetadata> {
        Box::pin(async { Ok(ModelMetadata::default()) })
    }
}

/// A model of 3 floats `x` and 2 floats `y`, with this redundancy and so on, in JSON.
pub(crate) fn model(more: &str) -> Model {
    let text = format!(
        r#"{{"models": [{{"name": "m",
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [3]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [2]}}],
            {more}}}]}}"#
    );
    Config::parse(&text).unwrap().models.remove(0)
}

pub(crate) fn runtime(model: &Model) -> Runtime {
    runtime_with(model, &no_network)
}

/// As [`runtime`], with networks for what is learned.
pub(crate) fn runtime_with(model: &Model, load: &LoadNetwork<'_>) -> Runtime {
    let spec = Arc::new(Spec::new(model, &ModelMetadata::default()).unwrap());
    let coding = code_of(model).unwrap().map(|code| {
        let Redundancy::Coded(coded) = &model.redundancy else { panic!("it has a code") };
        let (inputs, encoder, decoder) = coders(&spec, coded, model.task, &code, load).unwrap();
        let made_for = coded.made_for.clone();
        let (parities, k) = (code.r(), code.k());
        let max_scale = coded.max_scale;
        Coding { inputs, encoder: Arc::new(encoder), decoder, parities, k, made_for, max_scale }
    });
    let names = RoleNames {
        deployed: "m".to_owned(),
        approximate: "m-cheap".to_owned(),
        parity: (0..4).map(|parity| format!("m-parity-{parity}")).collect(),
    };
    Runtime::start(Options {
        engine: engine_config(model).unwrap(),
        spec: Some(spec),
        coding,
        label: "m".to_owned(),
        names,
        version: String::new(),
        fallback: model.fallback,
        non_finite: model.non_finite,
        origin: Instant::now(),
        journal: None,
    })
    .unwrap()
}

/// There are no networks.
pub(crate) fn no_network(_: &Path, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
    Err(NetworkError("there is none".to_owned()))
}

/// An instance of a runtime whose calls a test ends by hand.
pub(crate) async fn puppet(runtime: &Runtime, roles: Roles) -> mpsc::UnboundedReceiver<Call> {
    let (puppet, calls, _) = Puppet::new();
    let member = Member {
        instance: Arc::new(puppet),
        name: format!("{roles:?}"),
        roles,
        capacity: 1,
        parity_input: None,
        most_rows: None,
        cancel_running: None,
        suspected: Arc::default(),
    };
    runtime.join(member).await.unwrap();
    calls
}

/// A request of rows that are three times the same number each.
pub(crate) fn ask(firsts: &[f32]) -> Ask {
    let values: Vec<f32> = firsts.iter().flat_map(|&first| [first; 3]).collect();
    Ask {
        payload: Payload::Rows { inputs: vec![bytes(&values)], rows: firsts.len() },
        deadline: None,
        priority: 0,
        redundancy: RedundancyLevel::Normal,
        allow_reconstructed: true,
        headers: Headers::default(),
        parameters: PassedParameters::default(),
    }
}

/// What a deployed model that is linear answers: the number, and twice that.
pub(crate) fn linear(row: &[f32]) -> Vec<f32> {
    vec![row[0], 2.0 * row[0]]
}

pub(crate) fn asked(runtime: &Runtime, ask: Ask) -> tokio::task::JoinHandle<Result<Vec<RowAnswer>, Error>> {
    let runtime = runtime.clone();
    tokio::spawn(async move { runtime.ask(ask).await })
}

/// The first output of an answer.
pub(crate) fn values(answer: &RowAnswer) -> Vec<f32> {
    let Values::Row(outputs) = &answer.values else { panic!("{answer:?}") };
    floats(&outputs[0])
}

/// A code directory for k = 2, queries and predictions of 2 floats, with a learned encoder `e.pt` and a learned
/// decoder `d.pt` that are empty; it has a row of weights for each parity.
pub(crate) fn learned_code(name: &str, weights: &[[f64; 2]]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("parm-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for part in ["e.pt", "d.pt"] {
        std::fs::write(folder.join(part), "").unwrap();
    }
    let file = serde_json::json!({
        "format": 1, "code": "learned", "k": 2, "r": weights.len(), "weights": weights, "query_shape": [2],
        "prediction_shape": [2], "output": "logits", "runs_on": "deployed", "parity": [], "encoder": "e.pt",
        "decoder": "d.pt", "deployed": {"sha256": "", "name": ""},
        "scores": {"A_a": null, "A_d": null, "agreement": null, "n": 0},
        "made_by": {"version": "", "command": ""},
    });
    std::fs::write(folder.join("code.json"), file.to_string()).unwrap();
    folder
}

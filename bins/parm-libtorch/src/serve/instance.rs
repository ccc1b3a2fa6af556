//! Instances that run models on libtorch.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use parm::Dtype;
use parm::codes::NetworkError;
use parm::dtype::Float;
use parm_oip::instance::{Answer, CallContext, CallError, Instance};
use parm_oip::{
    Chunks, Datatype, Error, InferRequest, InferResponse, ModelMetadata, Parameters, Status, Tensor,
    TensorMetadata,
};
use parm_torch::{Device, Encoder, Session};
use tokio::sync::oneshot;

use super::coder::failed;

/// A loaded model with its input and output.
pub(super) struct Loaded {
    pub(super) session: Session,
    pub(super) shape: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) dtype: Dtype,
}

/// The models of an instance's thread.
pub(super) struct Models {
    pub(super) device: Device,
    pub(super) loaded: HashMap<String, Loaded>,
    /// The encoder, if the instance makes coded queries.
    pub(super) encoder: Option<Encoder>,
    /// The name of the output.
    pub(super) output: String,
}

/// The input and output of a model.
struct Described {
    shape: Vec<usize>,
    outputs: Vec<usize>,
    dtype: Dtype,
}

type Job = (InferRequest, Option<usize>, oneshot::Sender<Result<InferResponse, CallError>>);

/// An instance with a thread of its own, which runs one call after the other.
pub(super) struct EmbeddedInstance {
    jobs: mpsc::Sender<Job>,
    described: HashMap<String, Described>,
    encodes: bool,
    /// The names of the input and the output.
    names: [String; 2],
}

impl EmbeddedInstance {
    /// Starts the thread.
    ///
    /// # Errors
    /// A thread or a GPU stream cannot be created.
    pub(super) fn start(models: Models, names: [String; 2]) -> Result<Self, NetworkError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let describe = |(name, loaded): (&String, &Loaded)| {
            let Loaded { shape, outputs, dtype, .. } = loaded;
            (name.clone(), Described { shape: shape.clone(), outputs: outputs.clone(), dtype: *dtype })
        };
        let described = models.loaded.iter().map(describe).collect();
        let encodes = models.encoder.is_some();
        let (started, has_stream) = mpsc::channel();
        let work = move || {
            // The constructor waits for this.
            let _ = started.send(models.device.own_stream());
            while let Ok((request, coded, reply)) = todo.recv() {
                // A cancelled call is not run.
                if !reply.is_closed() {
                    let _ = reply.send(models.run(request, coded));
                }
            }
        };
        thread::Builder::new().name("embedded".into()).spawn(work).map_err(failed)?;
        has_stream.recv().map_err(failed)?.map_err(failed)?;
        Ok(Self { jobs, described, encodes, names })
    }
}

impl Models {
    /// Answers a request for queries, or for coded query `coded` of groups.
    fn run(&self, request: InferRequest, coded: Option<usize>) -> Result<InferResponse, CallError> {
        let refused = |text: String| CallError::Refused(Error::invalid(text));
        let loaded = self.loaded.get(&request.model);
        let loaded =
            loaded.ok_or_else(|| CallError::Failed(Error::new(Status::NotFound, "unknown model")))?;
        let coded = self.encoder.as_ref().zip(coded);
        let [input] = &request.inputs[..] else {
            return Err(refused(format!("found {} inputs, expected 1", request.inputs.len())));
        };
        let dtype = input.datatype.dtype().ok_or_else(|| refused(format!("found {}", input.datatype)))?;
        let data = input.data.contiguous();
        let queries = coded.map_or(1, |(encoder, _)| encoder.k());
        let size = queries * loaded.shape.iter().product::<usize>();
        let rows = input.shape.first().map_or(0, |&rows| rows as usize);
        if rows.checked_mul(size * dtype.size()) != Some(data.len()) {
            let times = if coded.is_some() { format!("{queries} times ") } else { String::new() };
            return Err(refused(format!(
                "found input of shape {:?}, expected rows of {times}{:?}",
                input.shape, loaded.shape
            )));
        }
        let mut values = vec![0.0_f32; rows * size];
        f32::decode(dtype, &data, &mut values);
        let mut bytes = Vec::new();
        let answered = match coded {
            Some((encoder, coded)) => loaded.session.run_coded(encoder, coded, rows, &values, &mut bytes),
            None => loaded.session.run(rows, &values, &mut bytes),
        };
        let failed = |text: String| CallError::Failed(Error::new(Status::Internal, text));
        answered.map_err(|error| failed(error.to_string()))?;
        let outputs = loaded.outputs.iter().map(|&axis| axis as u64);
        let tensor = Tensor {
            name: self.output.clone(),
            datatype: Datatype::from(loaded.dtype),
            shape: std::iter::once(rows as u64).chain(outputs).collect(),
            parameters: Parameters::default(),
            data: Chunks::from(Bytes::from(bytes)),
        };
        Ok(InferResponse {
            model: request.model,
            version: request.version,
            id: request.id,
            parameters: Parameters::default(),
            outputs: vec![tensor],
        })
    }
}

impl Instance for EmbeddedInstance {
    fn infer(&self, request: InferRequest, call: CallContext) -> Answer<InferResponse> {
        let (reply, answer) = oneshot::channel();
        let gone = || CallError::Unreachable("the thread of the embedded instance has ended".to_owned());
        let sent = self.jobs.send((request, call.coded, reply)).map_err(|_| gone());
        Box::pin(async move {
            sent?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn ready(&self, model: &str, _: &str) -> Answer<()> {
        let known = self.described.contains_key(model);
        Box::pin(async move {
            if known { Ok(()) } else { Err(CallError::Failed(Error::new(Status::NotFound, "unknown model"))) }
        })
    }

    fn metadata(&self, model: &str, version: &str) -> Answer<ModelMetadata> {
        let shape =
            |shape: &[usize]| std::iter::once(-1).chain(shape.iter().map(|&axis| axis as i64)).collect();
        let metadata = self.described.get(model).map(|described| ModelMetadata {
            name: model.to_owned(),
            versions: vec![version.to_owned()],
            platform: "libtorch".to_owned(),
            inputs: vec![TensorMetadata {
                name: self.names[0].clone(),
                datatype: Datatype::Fp32,
                shape: shape(&described.shape),
            }],
            outputs: vec![TensorMetadata {
                name: self.names[1].clone(),
                datatype: Datatype::from(described.dtype),
                shape: shape(&described.outputs),
            }],
        });
        Box::pin(async move {
            metadata.ok_or_else(|| CallError::Failed(Error::new(Status::NotFound, "unknown model")))
        })
    }

    fn encodes(&self) -> bool {
        self.encodes
    }
}

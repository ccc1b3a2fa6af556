//! Models inside this process, on libtorch: each instance has a thread of its own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use bytes::Bytes;
use parm::dtype::Float;
use parm::{CodeFile, DeviceChoice, Dtype};
use parm_serving::Embed;
use parm_serving::config::{CodeChoice, Embedded, Model as ModelConfig, Redundancy};
use parm_serving::instance::{Answer, CallContext, CallError, Instance};
use parm_serving::lane::Network;
use parm_serving::oip::{
    Chunks, Datatype, Error, InferRequest, InferResponse, ModelMetadata, Parameters, Status, Tensor,
    TensorMetadata,
};
use parm_torch::device::Device;
use parm_torch::train::sha256;
use parm_torch::{Model, Session, device};
use tokio::sync::oneshot;

/// libtorch, as far as servers need it.
pub(crate) struct Libtorch {
    threads: Option<u32>,
}

impl Libtorch {
    /// With so many threads for one model's operations; none: as libtorch chooses.
    pub(crate) fn new(threads: Option<u32>) -> Self {
        Self { threads }
    }

    fn device(&self, name: &str) -> Result<Device, String> {
        let choice: DeviceChoice = name.parse().map_err(|error| format!("device {name}: {error}"))?;
        let chosen = device::prepare(choice, self.threads).map_err(|error| error.to_string())?;
        if let Some(note) = chosen.note {
            tracing::warn!(note, "the device");
        }
        Ok(chosen.device)
    }
}

impl Embed for Libtorch {
    fn instance(
        &self,
        embedded: &Embedded,
        files: &BTreeMap<String, PathBuf>,
        model: &ModelConfig,
    ) -> Result<Arc<dyn Instance>, String> {
        let device = self.device(&embedded.device)?;
        let (input, output) = (model.inputs.first(), model.outputs.first());
        if model.inputs.len() > 1 || model.outputs.len() > 1 {
            return Err("embedded models have one input and one output".to_owned());
        }
        let configured: Option<Vec<usize>> = input
            .map(|spec| spec.shape.iter().map(|&axis| usize::try_from(axis)).collect::<Result<_, _>>())
            .transpose()
            .map_err(|_| "embedded models need fixed shapes".to_owned())?;
        made_for(model)?;
        let mut models = HashMap::new();
        for (name, file) in files {
            let loaded = Model::load(file, device).map_err(|error| error.to_string())?;
            let shape = configured.clone().or(loaded.query_shape().map(<[usize]>::to_vec));
            let shape = shape.ok_or_else(|| {
                format!(
                    "{} does not say the shape of a query, expected inputs in the configuration",
                    file.display()
                )
            })?;
            let mut session = Session::new(loaded, device, &shape)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            // Also its first run, which takes longer than all others.
            let layout = session.output().map_err(|error| format!("{}: {error}", file.display()))?.clone();
            models.insert(
                name.clone(),
                Loaded { session, shape, outputs: layout.shape.clone(), dtype: layout.dtype },
            );
        }
        let names = [
            input.map_or("input", |spec| &spec.name).to_owned(),
            output.map_or("output", |spec| &spec.name).to_owned(),
        ];
        Ok(Arc::new(EmbeddedInstance::start(models, names)?))
    }

    fn network(&self, file: &Path) -> Result<Arc<dyn Network>, String> {
        let device = self.device("cpu")?;
        // It is loaded for each shape that it is asked to code.
        Ok(Arc::new(Coder { file: file.to_owned(), device, sessions: Mutex::default() }))
    }
}

/// Sees that a code directory was made for the deployed model.
fn made_for(model: &ModelConfig) -> Result<(), String> {
    let Redundancy::Coded(coded) = &model.redundancy else { return Ok(()) };
    let (CodeChoice::Directory { directory }, Some(deployed)) = (&coded.code, &model.files.deployed) else {
        return Ok(());
    };
    let code = CodeFile::load(directory).map_err(|error| error.to_string())?;
    let found = sha256(deployed).map_err(|error| format!("{}: {error}", deployed.display()))?;
    if found == code.deployed.sha256 {
        return Ok(());
    }
    Err(format!(
        "{} was made for {} with the SHA-256 {}, found {found} of {}",
        directory.display(),
        code.deployed.name,
        code.deployed.sha256,
        deployed.display()
    ))
}

/// A model that is loaded, and what goes in and out.
struct Loaded {
    session: Session,
    shape: Vec<usize>,
    outputs: Vec<usize>,
    dtype: Dtype,
}

/// What a model takes and gives.
struct Described {
    shape: Vec<usize>,
    outputs: Vec<usize>,
    dtype: Dtype,
}

type Job = (InferRequest, oneshot::Sender<Result<InferResponse, CallError>>);

/// An instance with a thread of its own, which runs one call after the other.
struct EmbeddedInstance {
    jobs: mpsc::Sender<Job>,
    described: HashMap<String, Described>,
    /// The names of the input and the output.
    names: [String; 2],
}

impl EmbeddedInstance {
    fn start(mut models: HashMap<String, Loaded>, names: [String; 2]) -> Result<Self, String> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let describe = |(name, loaded): (&String, &Loaded)| {
            let Loaded { shape, outputs, dtype, .. } = loaded;
            (name.clone(), Described { shape: shape.clone(), outputs: outputs.clone(), dtype: *dtype })
        };
        let described = models.iter().map(describe).collect();
        let output = names[1].clone();
        let work = move || {
            while let Ok((request, reply)) = todo.recv() {
                // Who gave up is not answered.
                if !reply.is_closed() {
                    let _ = reply.send(run(&mut models, &output, request));
                }
            }
        };
        thread::Builder::new().name("embedded".into()).spawn(work).map_err(|error| error.to_string())?;
        Ok(Self { jobs, described, names })
    }
}

fn run(
    models: &mut HashMap<String, Loaded>,
    output: &str,
    request: InferRequest,
) -> Result<InferResponse, CallError> {
    let refused = |text: String| CallError::Refused(Error::invalid(text));
    let loaded = models.get_mut(&request.model);
    let loaded = loaded.ok_or_else(|| CallError::Failed(Error::new(Status::NotFound, "unknown model")))?;
    let [input] = &request.inputs[..] else {
        return Err(refused(format!("found {} inputs, expected 1", request.inputs.len())));
    };
    let dtype = input.datatype.dtype().ok_or_else(|| refused(format!("found {}", input.datatype)))?;
    let data = input.data.contiguous();
    let size: usize = loaded.shape.iter().product();
    let rows = input.shape.first().map_or(0, |&rows| rows as usize);
    if rows.checked_mul(size * dtype.size()) != Some(data.len()) {
        return Err(refused(format!(
            "found input of shape {:?}, expected rows of {:?}",
            input.shape, loaded.shape
        )));
    }
    let mut queries = vec![0.0_f32; rows * size];
    f32::decode(dtype, &data, &mut queries);
    let mut bytes = Vec::new();
    let failed = |text: String| CallError::Failed(Error::new(Status::Internal, text));
    loaded.session.run(rows, &queries, &mut bytes).map_err(|error| failed(error.to_string()))?;
    let shape = std::iter::once(rows as u64).chain(loaded.outputs.iter().map(|&axis| axis as u64)).collect();
    let tensor = Tensor {
        name: output.to_owned(),
        datatype: Datatype::from(loaded.dtype),
        shape,
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

impl Instance for EmbeddedInstance {
    fn infer(&self, request: InferRequest, _: CallContext) -> Answer<InferResponse> {
        let (reply, answer) = oneshot::channel();
        let gone = || CallError::Unreachable("the thread of the embedded instance is gone".to_owned());
        let sent = self.jobs.send((request, reply)).map_err(|_| gone());
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
}

/// A learned encoder or decoder.
struct Coder {
    file: PathBuf,
    device: Device,
    /// By the shape of a group.
    sessions: Mutex<HashMap<Vec<usize>, Session>>,
}

impl Network for Coder {
    fn run(&self, rows: usize, shape: &[u64], values: &[f32]) -> Result<Vec<f32>, String> {
        let group: Vec<usize> =
            std::iter::once(rows).chain(shape.iter().map(|&axis| axis as usize)).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if !sessions.contains_key(&group) {
            let model = Model::load(&self.file, self.device).map_err(|error| error.to_string())?;
            let session = Session::new(model, self.device, &group).map_err(|error| error.to_string())?;
            sessions.insert(group.clone(), session);
        }
        let session = sessions.get_mut(&group).ok_or("the session is gone")?;
        let mut bytes = Vec::new();
        let layout = session.run(1, values, &mut bytes).map_err(|error| error.to_string())?;
        let mut outputs = vec![0.0; layout.elements()];
        f32::decode(layout.dtype, &bytes, &mut outputs);
        Ok(outputs)
    }
}

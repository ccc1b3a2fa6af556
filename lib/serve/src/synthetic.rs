//! Instances without a model, for experiments. They answer with sums of their inputs; their times and
//! faults come from the configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parm::Dtype;
use parm::dtype::Float;
use parm_workload::faults::{Conditions, Fate, Shared, Synthetic};

use crate::runtime::{RowTensor, Spec};
use parm_oip::instance::{Answer, CallContext, CallError, Instance};
use parm_oip::{
    Chunks, Datatype, Error, InferRequest, InferResponse, ModelMetadata, Parameters, Status, Tensor,
    TensorMetadata,
};

/// An instance that answers with sums: element j of an output of n elements is the sum of the elements
/// j, j + n, j + 2n, … of the first input. This model is linear; therefore it is its own parity model,
/// and reconstructions are exact.
#[derive(Clone)]
pub struct SyntheticInstance {
    behavior: Arc<Mutex<Synthetic>>,
    /// The faults that it shares with other instances, and its number among them.
    among: Option<(Arc<Mutex<Shared>>, usize)>,
    spec: Arc<Spec>,
    origin: Instant,
}

impl SyntheticInstance {
    /// An instance that starts now.
    #[must_use]
    pub fn new(behavior: Synthetic, spec: Arc<Spec>) -> Self {
        Self { behavior: Arc::new(Mutex::new(behavior)), among: None, spec, origin: Instant::now() }
    }

    /// Makes it share faults with other instances; `number` is its number among them.
    #[must_use]
    pub fn among(self, faults: Arc<Mutex<Shared>>, number: usize) -> Self {
        Self { among: Some((faults, number)), ..self }
    }

    /// Calls a function with the behavior, the time and the shared conditions.
    fn now<T>(&self, of: impl FnOnce(&mut Synthetic, u64, Conditions) -> T) -> T {
        // The state is consistent even if a holder of the lock panicked.
        let mut behavior = self.behavior.lock().unwrap_or_else(PoisonError::into_inner);
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let around = self.among.as_ref().map_or(Conditions::default(), |(faults, number)| {
            faults.lock().unwrap_or_else(PoisonError::into_inner).around(now, *number)
        });
        of(&mut behavior, now, around)
    }
}

impl Instance for SyntheticInstance {
    fn infer(&self, request: InferRequest, _: CallContext) -> Answer<InferResponse> {
        let rows =
            request.inputs.first().and_then(|input| input.shape.first()).map_or(0, |&rows| rows as usize);
        let fate = self.now(|behavior, now, around| behavior.call(now, rows, around));
        let spec = Arc::clone(&self.spec);
        Box::pin(async move {
            match fate {
                Fate::Hang => std::future::pending().await,
                Fate::Fail(time) => {
                    wait(time).await;
                    Err(CallError::Failed(Error::new(Status::Internal, "the synthetic instance fails")))
                }
                Fate::Answer(time) => {
                    wait(time).await;
                    Ok(sums(&spec, request, rows))
                }
            }
        })
    }

    fn ready(&self, _: &str, _: &str) -> Answer<()> {
        let up = self.now(Synthetic::is_up);
        Box::pin(async move {
            if up { Ok(()) } else { Err(CallError::Unreachable("the synthetic instance is down".to_owned())) }
        })
    }

    fn metadata(&self, model: &str, version: &str) -> Answer<ModelMetadata> {
        let said = |tensors: &[RowTensor]| {
            let tensor = |tensor: &RowTensor| TensorMetadata {
                name: tensor.name.clone(),
                datatype: tensor.datatype,
                shape: std::iter::once(-1).chain(tensor.shape.iter().map(|&axis| axis as i64)).collect(),
            };
            tensors.iter().map(tensor).collect()
        };
        let metadata = ModelMetadata {
            name: model.to_owned(),
            versions: vec![version.to_owned()],
            platform: "synthetic".to_owned(),
            inputs: said(&self.spec.inputs),
            outputs: said(&self.spec.outputs),
        };
        Box::pin(async move { Ok(metadata) })
    }
}

/// Waits for a time in ns; tokio rounds it up to ms, but 0 does not wait at all.
async fn wait(time: u64) {
    if time > 0 {
        tokio::time::sleep(Duration::from_nanos(time)).await;
    }
}

fn sums(spec: &Spec, request: InferRequest, rows: usize) -> InferResponse {
    let input = request.inputs.first();
    let (dtype, data) = input.map_or((Dtype::F32, Bytes::new()), |input| {
        (input.datatype.dtype().unwrap_or(Dtype::U8), input.data.contiguous())
    });
    let mut values = vec![0.0_f64; data.len() / dtype.size()];
    f64::decode(dtype, &data, &mut values);
    let size = values.len() / rows.max(1);
    // A parity query may have another type than a query; its answer has the same type as itself.
    let coded = input.zip(spec.inputs.first()).is_some_and(|(found, own)| found.datatype != own.datatype);
    let output = |output: &RowTensor| {
        let elements = output.elements();
        let datatype = match output.datatype {
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 if !coded => output.datatype,
            Datatype::Fp64 => Datatype::Fp64,
            _ => Datatype::Fp32,
        };
        let mut bytes = Vec::with_capacity(rows * elements * 4);
        for row in values.chunks(size.max(1)).take(rows) {
            let mut sums = vec![0.0; elements];
            for (index, value) in row.iter().enumerate() {
                sums[index % elements] += value;
            }
            f64::encode(&sums, datatype.dtype().unwrap_or(Dtype::F32), &mut bytes);
        }
        Tensor {
            name: output.name.clone(),
            datatype,
            shape: output.shape_of(rows),
            parameters: Parameters::default(),
            data: Chunks::from(Bytes::from(bytes)),
        }
    };
    InferResponse {
        model: request.model,
        version: request.version,
        id: request.id,
        parameters: Parameters::default(),
        outputs: spec.outputs.iter().map(output).collect(),
    }
}

//! The configuration of a model in Triton's format, which Triton's tools read.

use serde::Serialize;

use crate::models::Served;
use parm_config::Limits;
use parm_oip::proto;
use parm_oip::{Datatype, Error, TensorMetadata};

/// The configuration of a model in Triton's format.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelConfig {
    name: String,
    platform: String,
    backend: &'static str,
    version_policy: VersionPolicy,
    /// 0: the model has no dimension of rows.
    max_batch_size: usize,
    input: Vec<Tensor>,
    output: Vec<Tensor>,
    instance_group: [(); 0],
    default_model_filename: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct VersionPolicy {
    specific: Versions,
}

#[derive(Clone, Debug, Serialize)]
struct Versions {
    versions: Vec<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Tensor {
    name: String,
    data_type: String,
    dims: Vec<i64>,
}

impl ModelConfig {
    /// The configuration of a model that is ready.
    pub(super) fn of(served: &Served, limits: &Limits) -> Result<Self, Error> {
        let loaded = served.loaded()?;
        let rows = loaded.spec.is_ok();
        let tensor = |tensor: &TensorMetadata| Tensor {
            name: tensor.name.clone(),
            data_type: match tensor.datatype {
                Datatype::Bytes => "TYPE_STRING".to_owned(),
                other => format!("TYPE_{other}"),
            },
            dims: tensor.shape[usize::from(rows).min(tensor.shape.len())..].to_vec(),
        };
        Ok(Self {
            name: served.config.name.clone(),
            platform: loaded.metadata.platform.clone(),
            backend: "parm",
            version_policy: VersionPolicy {
                specific: Versions { versions: served.config.version.parse().into_iter().collect() },
            },
            max_batch_size: if rows { limits.rows } else { 0 },
            input: loaded.metadata.inputs.iter().map(tensor).collect(),
            output: loaded.metadata.outputs.iter().map(tensor).collect(),
            instance_group: [],
            default_model_filename: "",
        })
    }
}

impl From<ModelConfig> for proto::ModelConfig {
    fn from(from: ModelConfig) -> Self {
        let data_type = |name: &str| proto::DataType::from_str_name(name).unwrap_or_default().into();
        Self {
            input: from
                .input
                .into_iter()
                .map(|tensor| proto::ModelInput {
                    data_type: data_type(&tensor.data_type),
                    name: tensor.name,
                    dims: tensor.dims,
                    ..Default::default()
                })
                .collect(),
            output: from
                .output
                .into_iter()
                .map(|tensor| proto::ModelOutput {
                    data_type: data_type(&tensor.data_type),
                    name: tensor.name,
                    dims: tensor.dims,
                    ..Default::default()
                })
                .collect(),
            name: from.name,
            platform: from.platform,
            backend: from.backend.to_owned(),
            max_batch_size: i32::try_from(from.max_batch_size).unwrap_or(i32::MAX),
            ..Self::default()
        }
    }
}

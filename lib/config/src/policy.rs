//! What the engine is told, from what the file says.

use std::path::PathBuf;

use nalgebra::DMatrix;
use parm::calibration::Calibration;
use parm::code_dir::RunsOn;
use parm::codes::{Code, CodeName, InterpolatingCode, SpecifiedCode};
use parm::{CodeFile, LinearCode};
use parm_engine::{CodeRule, Completion, Policy, Time};

use crate::{CodeChoice, Coded, Model, Redundancy, TensorSpec};

/// A code, as a server needs it.
#[derive(Clone, Debug)]
pub struct ServedCode {
    /// Queries of a group.
    pub k: usize,
    /// How coded queries are made.
    pub encoder: Encoder,
    /// How predictions are rebuilt.
    pub decoder: Decoder,
    /// The files of the parity models, where a directory has them.
    pub parity_files: Vec<PathBuf>,
    /// The deployed model answers the parity queries.
    pub runs_on_deployed: bool,
}

/// How coded queries are made.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// Row i of the matrix `[coded queries, k]` makes coded query i.
    Matrix(DMatrix<f64>),
    /// Shrunk and tiled images; one parity query.
    Concat,
    /// A model, `[1, k, …]` to `[1, r, …]`.
    Network {
        /// Its file.
        file: PathBuf,
        /// Parities.
        r: usize,
    },
}

/// How predictions are rebuilt.
#[derive(Clone, Debug)]
pub enum Decoder {
    /// From predictions and parity outputs, by a linear system.
    Linear(LinearCode),
    /// From the outputs of coded queries, by interpolation.
    Interpolating(InterpolatingCode),
    /// By a model, `[1, k + r, …]` with zeros for what is missing to `[1, k, …]`.
    Network {
        /// Its file.
        file: PathBuf,
        /// Parities.
        r: usize,
    },
}

impl ServedCode {
    /// Parity models.
    #[must_use]
    pub fn parities(&self) -> usize {
        match &self.decoder {
            Decoder::Linear(code) => code.r(),
            Decoder::Interpolating(_) => 0,
            Decoder::Network { r, .. } => *r,
        }
    }

    /// The files of learned encoders and decoders.
    pub fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        let encoder = match &self.encoder {
            Encoder::Network { file, .. } => Some(file.as_path()),
            Encoder::Matrix(_) | Encoder::Concat => None,
        };
        let decoder = match &self.decoder {
            Decoder::Network { file, .. } => Some(file.as_path()),
            Decoder::Linear(_) | Decoder::Interpolating(_) => None,
        };
        encoder.into_iter().chain(decoder)
    }

    /// What the engine must know of it.
    fn rule(&self) -> Result<CodeRule, String> {
        match &self.decoder {
            Decoder::Linear(code) => CodeRule::matrix(Box::new(code.clone())),
            Decoder::Interpolating(code) => CodeRule::coded(self.k, code.workers(), code.needed()),
            Decoder::Network { r, .. } => CodeRule::parity(self.k, *r),
        }
        .map_err(|error| error.to_string())
    }

    fn linear(code: LinearCode) -> Self {
        let parities = code.encoding().rows(code.k(), code.r()).into_owned();
        Self {
            k: code.k(),
            encoder: Encoder::Matrix(parities),
            decoder: Decoder::Linear(code),
            parity_files: Vec::new(),
            runs_on_deployed: false,
        }
    }

    fn interpolating(code: InterpolatingCode) -> Self {
        Self {
            k: code.k(),
            encoder: Encoder::Matrix(code.encoding()),
            decoder: Decoder::Interpolating(code),
            parity_files: Vec::new(),
            runs_on_deployed: true,
        }
    }

    fn directory(directory: &std::path::Path) -> Result<Self, String> {
        let file = CodeFile::load(directory).map_err(|error| error.to_string())?;
        let linear = file.linear().map_err(|error| error.to_string())?;
        let mut code = Self::linear(linear);
        match (file.code.as_str(), &file.encoder) {
            ("concat", _) => code.encoder = Encoder::Concat,
            (_, Some(encoder)) => {
                code.encoder = Encoder::Network { file: directory.join(encoder), r: file.r };
            }
            _ => {}
        }
        if let Some(decoder) = &file.decoder {
            code.decoder = Decoder::Network { file: directory.join(decoder), r: file.r };
        }
        code.parity_files = file.parity.iter().map(|parity| directory.join(parity)).collect();
        code.runs_on_deployed = file.runs_on == RunsOn::Deployed;
        Ok(code)
    }
}

/// The code of a model; none if its policy has none.
///
/// # Errors
/// A code that cannot be, or a directory that cannot be read.
pub fn code_of(model: &Model) -> Result<Option<ServedCode>, String> {
    let Redundancy::Coded(coded) = &model.redundancy else { return Ok(None) };
    let spec = match (&coded.code, coded.code.spec()) {
        (CodeChoice::Directory { directory }, _) => return ServedCode::directory(directory).map(Some),
        (_, None) => return Ok(None),
        (_, Some(spec)) => spec,
    };
    // Groups are sets of workers to the engine; it counts them before anything is made.
    if spec.workers() > parm_engine::MAX_WORKERS {
        let (found, most) = (spec.workers(), parm_engine::MAX_WORKERS);
        return Err(format!("found {found} workers for k = {}, expected at most {most}", spec.k));
    }
    Ok(Some(match spec.make().map_err(|error| error.to_string())? {
        SpecifiedCode::Interpolating(code) => ServedCode::interpolating(code),
        SpecifiedCode::Systematic(code) if spec.name == CodeName::Concat => {
            ServedCode { encoder: Encoder::Concat, ..ServedCode::linear(code) }
        }
        SpecifiedCode::Systematic(code) => ServedCode::linear(code),
    }))
}

/// Sees that the directory of a model's code was made for its deployed model, as far as both are known.
///
/// # Errors
/// What differs, or cannot be read.
pub fn made_for(model: &Model) -> Result<(), String> {
    let Redundancy::Coded(coded) = &model.redundancy else { return Ok(()) };
    let CodeChoice::Directory { directory } = &coded.code else { return Ok(()) };
    let code = CodeFile::load(directory).map_err(|error| error.to_string())?;
    let shape = |tensors: &[TensorSpec]| match tensors {
        [tensor] => tensor.shape.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let queries = shape(&model.inputs).map_or(Ok(()), |shape| code.check_queries(directory, &shape));
    let predictions = shape(&model.outputs).map_or(Ok(()), |shape| code.check_predictions(directory, &shape));
    let deployed = model.files.deployed.as_deref();
    let deployed = deployed.map_or(Ok(()), |deployed| code.check_model(directory, deployed));
    queries.and(predictions).and(deployed).map_err(|error| error.to_string())
}

/// The calibration of a model's reconstructions, if it has one.
///
/// # Errors
/// A file that cannot be read, or is no calibration.
pub fn calibration_of(coded: &Coded) -> Result<Option<Calibration>, String> {
    let Some(path) = &coded.calibration else { return Ok(None) };
    let wrong = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let calibration: Calibration =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("malformed calibration: {error}")))?;
    calibration.check().map_err(|error| wrong(error.to_string()))?;
    Ok(Some(calibration))
}

/// What the engine is told of a model.
///
/// # Errors
/// A configuration that cannot work.
pub fn engine_config(model: &Model) -> Result<parm_engine::Config, String> {
    let policy = match &model.redundancy {
        Redundancy::None => Policy::None,
        Redundancy::Replicate { copies } => Policy::Replicate(*copies),
        Redundancy::Hedge(of) => Policy::Hedge(*of),
        Redundancy::Approximate => Policy::Approximate,
        Redundancy::Coded(of) => coded(model, of)?,
    };
    let config = parm_engine::Config {
        max_batch: model.batch.max_size,
        batch_delay: ns(model.batch.delay_ms),
        batch_target: model.batch.target_ms.map(ns),
        policy,
        when: model.answer,
        shadow: model.shadow,
        balance: model.balance,
        deadline: ns(model.deadline_ms),
        call_timeout: ns(model.call_timeout_ms),
        max_attempts: model.attempts,
        max_queries: model.max_queries,
        max_queue: model.max_queue,
        cancel_running: model.cancel_running,
        ejection: model.ejection,
    };
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

fn coded(model: &Model, coded: &Coded) -> Result<Policy, String> {
    let code = code_of(model)?.ok_or("found no code")?;
    Ok(Policy::Coded {
        code: code.rule()?,
        version: 0,
        group_delay: ns(coded.group_delay_ms),
        completion: if coded.complete { Completion::Known } else { Completion::Shorter },
        agreement: coded.agreement,
        hedge: coded.hedge,
    })
}

/// Milliseconds, which the check of the configuration bounds, in nanoseconds.
fn ns(ms: f64) -> Time {
    (ms * 1e6) as Time
}

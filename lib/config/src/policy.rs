//! What the engine is told, from what the file says.

use parm::CodeFile;
use parm::calibration::{Calibration, CalibrationFileError};
use parm::codes::directory::CodeDirError;
use parm::codes::{Code, CodeError, CodeKind};
use parm_engine::{Auto, CodeRule, Completion, Groups, Policy, Time};

use crate::{CodeChoice, Coded, Model, Redundancy, TensorSpec};

/// A policy that cannot be, or a file that it needs and that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// More workers than the engine tells apart.
    #[error("found {workers} workers for k = {k}, expected at most {}", parm_engine::MAX_WORKERS)]
    Workers {
        /// Workers of a group.
        workers: usize,
        /// Queries of a group.
        k: usize,
    },
    /// Parameters that make no code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The directory of a code.
    #[error(transparent)]
    Directory(Box<CodeDirError>),
    /// The file of a calibration.
    #[error(transparent)]
    Calibration(#[from] CalibrationFileError),
    /// What the engine refuses.
    #[error(transparent)]
    Engine(#[from] parm_engine::ConfigError),
}

impl From<CodeDirError> for PolicyError {
    fn from(error: CodeDirError) -> Self {
        Self::Directory(Box::new(error))
    }
}

/// The code of a model; none if its policy has none.
///
/// # Errors
/// A code that cannot be, or a directory that cannot be read.
pub fn code_of(model: &Model) -> Result<Option<Code>, PolicyError> {
    model.redundancy.coded().map(code).transpose()
}

fn code(coded: &Coded) -> Result<Code, PolicyError> {
    let spec = match &coded.code {
        CodeChoice::Directory(directory) => return Ok(Code::load(directory)?),
        CodeChoice::Named(spec) => spec,
    };
    // Groups are sets of workers to the engine; they are counted before anything is made.
    let (workers, k) = (spec.workers(), spec.k);
    if workers > parm_engine::MAX_WORKERS {
        return Err(PolicyError::Workers { workers, k });
    }
    Ok(Code::new(spec)?)
}

/// What the engine must know of a code.
fn rule(code: &Code) -> Result<CodeRule, parm_engine::ConfigError> {
    match code.kind() {
        // A network rebuilds any losses that it has parities for.
        CodeKind::Systematic(_) if code.learned_decoder().is_some() => CodeRule::parity(code.k(), code.r()),
        CodeKind::Systematic(linear) => CodeRule::matrix(Box::new(linear.clone())),
        CodeKind::Interpolating(of) => CodeRule::coded(code.k(), code.workers(), of.needed()),
    }
}

/// Sees that the directory of a model's code was made for its deployed model, as far as both are known.
///
/// # Errors
/// What differs, or cannot be read.
pub fn made_for(model: &Model) -> Result<(), CodeDirError> {
    let Some(coded) = model.redundancy.coded() else { return Ok(()) };
    let CodeChoice::Directory(directory) = &coded.code else { return Ok(()) };
    let code = CodeFile::load(directory)?;
    let shape = |tensors: &[TensorSpec]| match tensors {
        [tensor] => tensor.shape.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let queries = shape(&model.inputs).map_or(Ok(()), |shape| code.check_queries(directory, &shape));
    let predictions = shape(&model.outputs).map_or(Ok(()), |shape| code.check_predictions(directory, &shape));
    let deployed = model.files.deployed.as_deref();
    let deployed = deployed.map_or(Ok(()), |deployed| code.check_model(directory, deployed));
    queries.and(predictions).and(deployed)
}

/// The calibration of a model's reconstructions, if it has one.
///
/// # Errors
/// A file that cannot be read, or is no calibration.
pub fn calibration_of(coded: &Coded) -> Result<Option<Calibration>, CalibrationFileError> {
    coded.calibration.as_deref().map(Calibration::read).transpose()
}

/// What the engine is told of a model.
///
/// # Errors
/// A configuration that cannot work.
pub fn engine_config(model: &Model) -> Result<parm_engine::Config, PolicyError> {
    let policy = match &model.redundancy {
        Redundancy::None => Policy::None,
        Redundancy::Replicate { copies } => Policy::Replicate(*copies),
        Redundancy::Hedge(of) => Policy::Hedge(*of),
        Redundancy::Approximate => Policy::Approximate,
        Redundancy::Coded(of) => Policy::Coded { groups: groups(of)?, hedge: of.hedge },
        Redundancy::Auto(of) => Policy::Auto(Auto {
            groups: of.coded.as_ref().map(groups).transpose()?,
            hedge: of.hedge,
            max_reconstructed: of.max_reconstructed,
            max_calls: of.max_calls,
        }),
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
    config.check()?;
    Ok(config)
}

fn groups(coded: &Coded) -> Result<Groups, PolicyError> {
    Ok(Groups {
        code: rule(&code(coded)?)?,
        version: 0,
        group_delay: ns(coded.group_delay_ms),
        completion: if coded.complete { Completion::Known } else { Completion::Shorter },
        agreement: coded.agreement,
    })
}

/// Milliseconds, which the check of the configuration bounds, in nanoseconds.
fn ns(ms: f64) -> Time {
    (ms * 1e6) as Time
}

//! The code directory: how a trained code is handed from tool to tool.
//!
//! A directory holds `code.json` ([`CodeFile`]) and the models that it names. `code.json` is written
//! last, so its presence says that the rest is complete.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::error::CodeError;
use super::geometry::Points;
use super::linear::LinearCode;
use super::spec::{CodeKind, CodeName, CodeSpec};
use crate::hash::sha256;
use crate::made_by::MadeBy;
use crate::task::{self, Task};

/// The name of the file that describes the directory.
pub const FILE_NAME: &str = "code.json";

/// The version of the format that is written. Format 1, in which every field was required, is read too.
pub const FORMAT: u32 = 2;

/// What `code.json` has in every format.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
    code: Option<serde_json::Value>,
}

/// The content of `code.json`. A file needs `format`, `code`, `k` and the files of its parts; all else has
/// a default, or is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeFile {
    /// The version of this format: [`FORMAT`], or 1.
    pub format: u32,
    /// Its name; that of `learned` is of a code whose encoder is the model `encoder`.
    pub code: CodeName,
    /// Queries of a group.
    pub k: usize,
    /// Parities of a group; 1 by default, and 0 of interpolating codes.
    #[serde(default = "one")]
    pub r: usize,
    /// Answers of a group that may be missing, of interpolating codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stragglers: Option<usize>,
    /// Answers of a group that may be wrong, of interpolating codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub byzantine: Option<usize>,
    /// The points of the workers, of interpolating codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Points>,
    /// The blending degree of `floater-hormann`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degree: Option<usize>,
    /// The weight of smoothness on the queries, λ_e of `spline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_e: Option<f64>,
    /// The weight of smoothness on the answers, λ_d of `spline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_d: Option<f64>,
    /// The weights `[r][k]` of `sum`'s encoder, and of the linear decoder of any code without a learned one;
    /// by default (i+1)^j of parity j, slot i.
    #[serde(default)]
    pub weights: Vec<Vec<f64>>,
    /// The shape of one query, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_shape: Option<Vec<usize>>,
    /// The shape of one prediction, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction_shape: Option<Vec<usize>>,
    /// The input that is the query, of models with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_name: Option<String>,
    /// The output that is the prediction, of models with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_name: Option<String>,
    /// The task of the deployed model, by the word for its outputs; `logits` by default.
    #[serde(default, with = "task::output")]
    pub output: Task,
    /// Which model answers the parity queries; parity models by default.
    #[serde(default)]
    pub runs_on: RunsOn,
    /// The parity models' files, by parity index.
    #[serde(default)]
    pub parity: Vec<String>,
    /// The learned encoder's file, `[B, k, …]` to `[B, r, …]`.
    #[serde(default)]
    pub encoder: Option<String>,
    /// The learned decoder's file, `[B, k + r, …]` with zeros for what is missing to `[B, k, …]`.
    #[serde(default)]
    pub decoder: Option<String>,
    /// What the code was trained for, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// How it did on the rows that were kept for validation, if it was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// What wrote the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
}

fn one() -> usize {
    1
}

/// Which model answers the coded queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunsOn {
    /// Parity models, one per parity.
    #[default]
    Parity,
    /// The deployed model itself.
    Deployed,
}

/// The deployed model, or the recorded predictions, that a code was trained for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The file's name, without its folder.
    pub name: String,
    /// The file holds recorded predictions: the model that made them is not known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recorded: bool,
    /// The model was trained together with the code: its file is in the directory, and no other model goes with
    /// the code.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joint: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Scores on the validation rows, every single loss simulated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Accuracy of the deployed model; none without labels.
    #[serde(rename = "A_a")]
    pub available: Option<f64>,
    /// Accuracy of the reconstructions; none without labels.
    #[serde(rename = "A_d")]
    pub degraded: Option<f64>,
    /// Share of reconstructions that agree with the deployed model's own predictions, as their task has it.
    pub agreement: Option<f64>,
    /// Values: R² of the deployed model and of the reconstructions against the true values, and of the
    /// reconstructions against the deployed model's predictions.
    #[serde(rename = "R2_a", default, skip_serializing_if = "Option::is_none")]
    pub available_determination: Option<f64>,
    /// The second of these.
    #[serde(rename = "R2_d", default, skip_serializing_if = "Option::is_none")]
    pub degraded_determination: Option<f64>,
    /// The third.
    #[serde(rename = "R2", default, skip_serializing_if = "Option::is_none")]
    pub determination: Option<f64>,
    /// Values: the mean absolute error of the reconstructions against the deployed model's predictions.
    #[serde(rename = "MAE", default, skip_serializing_if = "Option::is_none")]
    pub absolute_error: Option<f64>,
    /// Embeddings: the mean cosine of the reconstructions and the deployed model's predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// Embeddings: the share of the ten nearest neighbours of the deployed model's predictions that are those of
    /// the reconstructions.
    #[serde(rename = "recall@10", default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Boxes: the mean intersection over union with the true boxes, if they are known, or else with the deployed
    /// model's.
    #[serde(rename = "IoU", default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f64>,
    /// Reconstructions that were scored.
    pub n: u64,
}

/// A code directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CodeDirError {
    /// `code.json` cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A directory without `code.json`.
    #[error(
        "{}: found no {FILE_NAME}, expected the directory of a trained code (it is written last: the \
         training may not have finished)",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// `code.json` is not what this format asks for.
    #[error("{}: malformed: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: serde_json::Error,
    },
    /// A format of the future.
    #[error("{}: found format {found}, expected 1 or {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it claims.
        found: u32,
    },
    /// A code that this version does not know.
    #[error("{}: found code '{found}', expected {}", path.display(), names())]
    UnknownCode {
        /// The file.
        path: PathBuf,
        /// The code's name.
        found: String,
    },
    /// Values that do not fit each other.
    #[error("{}: {error}", path.display())]
    Code {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        error: CodeError,
    },
    /// Lists whose length is not that which k and r ask for.
    #[error("{}: found {found} {what}, expected {expected}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: String,
    },
    /// A model that `code.json` names does not exist.
    #[error("{}: not found, though {FILE_NAME} beside it names it", .0.display())]
    MissingPart(PathBuf),
    /// A code for one model is used with another.
    #[error(
        "{}: found the SHA-256 {found}, expected {expected} ({name}), the model that {} was trained for",
        model.display(),
        directory.display()
    )]
    OtherModel {
        /// The code directory.
        directory: PathBuf,
        /// The model that it is used with.
        model: PathBuf,
        /// The hash of that.
        found: String,
        /// The hash of the model that the code was made for.
        expected: String,
        /// The name of that.
        name: String,
    },
    /// A code for queries or predictions of one shape is used with others.
    #[error("found {what} of shape {found:?}, but the code {} was trained for {expected:?}", directory.display())]
    OtherShape {
        /// The code directory.
        directory: PathBuf,
        /// `queries` or `predictions`.
        what: &'static str,
        /// The shape of those.
        found: Vec<usize>,
        /// The shape that the code was made for.
        expected: Vec<usize>,
    },
    /// A name that leads out of the directory.
    #[error("{}: found the file name '{name}', expected a plain name within the directory", path.display())]
    PartName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl CodeFile {
    /// A file that says what a specification says, but for its weights, and nothing else.
    #[must_use]
    pub fn new(spec: &CodeSpec) -> Self {
        let [lambda_e, lambda_d] = spec.lambdas;
        Self {
            format: FORMAT,
            code: spec.name,
            k: spec.k,
            r: spec.parities(),
            stragglers: spec.stragglers,
            byzantine: spec.byzantine,
            points: spec.points,
            degree: spec.degree,
            lambda_e,
            lambda_d,
            weights: Vec::new(),
            query_shape: None,
            prediction_shape: None,
            input_name: None,
            output_name: None,
            output: Task::default(),
            runs_on: if spec.name.interpolates() { RunsOn::Deployed } else { RunsOn::Parity },
            parity: Vec::new(),
            encoder: None,
            decoder: None,
            deployed: None,
            scores: None,
            made_by: None,
        }
    }

    /// Reads and checks the `code.json` of a directory.
    ///
    /// # Errors
    /// [`CodeDirError`], by kind.
    pub fn load(directory: &Path) -> Result<Self, CodeDirError> {
        let path = directory.join(FILE_NAME);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if directory.is_dir() => CodeDirError::Unfinished(directory.to_owned()),
            _ => CodeDirError::Io { path: path.clone(), error },
        })?;
        // The format comes first: another one may have other fields.
        let json = |error| CodeDirError::Json { path: path.clone(), error };
        let Versioned { format, code } = serde_json::from_slice(&text).map_err(json)?;
        if ![1, FORMAT].contains(&format) {
            return Err(CodeDirError::Format { path, found: format });
        }
        if let Some(serde_json::Value::String(found)) = code
            && CodeName::in_directories().all(|name| name.as_str() != found)
        {
            return Err(CodeDirError::UnknownCode { path, found });
        }
        let mut file: Self = serde_json::from_slice(&text).map_err(json)?;
        let wrong = |error| CodeDirError::Code { path: path.clone(), error };
        if file.code.interpolates() {
            (file.r, file.runs_on) = (0, RunsOn::Deployed);
        }
        file.spec().check_size().map_err(wrong)?;
        if file.weights.is_empty()
            && let CodeKind::Systematic(code) = file.kind().map_err(wrong)?
        {
            file.weights = (0..code.r()).map(|parity| code.weights(parity)).collect();
        }
        file.check(directory, path)?;
        Ok(file)
    }

    fn check(&self, directory: &Path, path: PathBuf) -> Result<(), CodeDirError> {
        let count = |what, found: usize, expected: String| {
            Err(CodeDirError::Count { path: path.clone(), what, found, expected })
        };
        if self.weights.len() != self.r {
            return count("rows of weights", self.weights.len(), format!("r = {}", self.r));
        }
        if let Some(row) = self.weights.iter().find(|row| row.len() != self.k) {
            return count("weights in a row", row.len(), format!("k = {}", self.k));
        }
        if self.runs_on == RunsOn::Parity && self.parity.len() != self.r {
            return count("parity models", self.parity.len(), format!("r = {}", self.r));
        }
        let encoders = usize::from(self.code == CodeName::Learned);
        if usize::from(self.encoder.is_some()) != encoders {
            return count("encoders", 1 - encoders, format!("{encoders} for the code '{}'", self.code));
        }
        for name in self.parts().chain(self.joint().map(|deployed| &deployed.name)) {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(CodeDirError::PartName { path, name: name.clone() });
            }
            let part = directory.join(name);
            if !part.is_file() {
                return Err(CodeDirError::MissingPart(part));
            }
        }
        self.kind().map(drop).map_err(|error| CodeDirError::Code { path, error })
    }

    /// The deployed model, if it was trained together with the code.
    #[must_use]
    pub fn joint(&self) -> Option<&Deployed> {
        self.deployed.as_ref().filter(|deployed| deployed.joint)
    }

    /// The names of the files of all parts.
    fn parts(&self) -> impl Iterator<Item = &String> {
        self.parity.iter().chain(&self.encoder).chain(&self.decoder)
    }

    /// Sees that the code was made for a model, as far as it says for which.
    ///
    /// # Errors
    /// [`CodeDirError::OtherModel`], and [`CodeDirError::Io`] if the model cannot be read.
    pub fn check_model(&self, directory: &Path, model: &Path) -> Result<(), CodeDirError> {
        let Some(deployed) = self.deployed.as_ref().filter(|deployed| !deployed.recorded) else {
            return Ok(());
        };
        let found = sha256(model).map_err(|error| CodeDirError::Io { path: model.to_owned(), error })?;
        if found == deployed.sha256 {
            return Ok(());
        }
        Err(CodeDirError::OtherModel {
            directory: directory.to_owned(),
            model: model.to_owned(),
            found,
            expected: deployed.sha256.clone(),
            name: deployed.name.clone(),
        })
    }

    /// Sees that the code was made for queries of this shape, as far as it says so.
    ///
    /// # Errors
    /// [`CodeDirError::OtherShape`].
    pub fn check_queries(&self, directory: &Path, found: &[usize]) -> Result<(), CodeDirError> {
        same_shape(directory, "queries", found, self.query_shape.as_ref())
    }

    /// Sees that the code was made for predictions of this shape, as far as it says so.
    ///
    /// # Errors
    /// [`CodeDirError::OtherShape`].
    pub fn check_predictions(&self, directory: &Path, found: &[usize]) -> Result<(), CodeDirError> {
        same_shape(directory, "predictions", found, self.prediction_shape.as_ref())
    }

    /// Removes the parts of an earlier code from the directory: files with the names that trainings give
    /// to parts (`parity-N`, `encoder`, `decoder` and `deployed`, with the extensions of models), but for the parts
    /// of this code and the TorchScript (`.pt`) of its native ones.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove_other_parts(&self, directory: &Path) -> Result<(), CodeDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| CodeDirError::Io { path, error }
        };
        let twin = |name: &str| name.strip_suffix("safetensors").map(|stem| format!("{stem}pt"));
        let all = self.parts().chain(self.joint().map(|deployed| &deployed.name));
        let own: Vec<String> = all.flat_map(|name| [Some(name.to_owned()), twin(name)]).flatten().collect();
        let is_own = |path: &Path| own.iter().any(|own| path.file_name() == Some(OsStr::new(own)));
        for entry in fs::read_dir(directory).map_err(at(directory))? {
            let path = entry.map_err(at(directory))?.path();
            if is_part(&path) && path.is_file() && !is_own(&path) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// What the file says of its code, but for the weights.
    pub(super) fn spec(&self) -> CodeSpec {
        CodeSpec {
            name: self.code,
            k: self.k,
            r: Some(self.r),
            weights: None,
            stragglers: self.stragglers,
            byzantine: self.byzantine,
            points: self.points,
            degree: self.degree,
            lambdas: [self.lambda_e, self.lambda_d],
        }
    }

    /// The matrices of the code that the file describes: by its weights, or by the default ones.
    ///
    /// # Errors
    /// Weights or parameters that make no code.
    pub fn kind(&self) -> Result<CodeKind, CodeError> {
        if self.weights.is_empty() {
            return self.spec().matrices();
        }
        let weights = DMatrix::from_row_iterator(self.r, self.k, self.weights.iter().flatten().copied());
        LinearCode::weighted(self.k, weights).map(CodeKind::Systematic)
    }

    /// Writes `code.json`, by way of a temporary file beside it. Call it when all else is written.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, directory: &Path) -> Result<(), CodeDirError> {
        let path = directory.join(FILE_NAME);
        let temporary = directory.join(".code.json.tmp");
        let write = || {
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
            CodeDirError::Io { path: path.clone(), error }
        })
    }
}

/// The names that a code in a file may have, for a message.
fn names() -> String {
    let names: Vec<String> = CodeName::in_directories().map(|name| format!("'{name}'")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Whether a file has the name that trainings give to a part.
fn is_part(path: &Path) -> bool {
    let words = path.file_stem().and_then(OsStr::to_str).zip(path.extension().and_then(OsStr::to_str));
    let Some((stem, extension)) = words else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    ["safetensors", "pt2", "pt"].contains(&extension)
        && (["encoder", "decoder", "deployed"].contains(&stem)
            || stem.strip_prefix("parity-").is_some_and(is_number))
}

fn same_shape(
    directory: &Path,
    what: &'static str,
    found: &[usize],
    expected: Option<&Vec<usize>>,
) -> Result<(), CodeDirError> {
    match expected {
        Some(expected) if expected != found => Err(CodeDirError::OtherShape {
            directory: directory.to_owned(),
            what,
            found: found.to_vec(),
            expected: expected.clone(),
        }),
        _ => Ok(()),
    }
}

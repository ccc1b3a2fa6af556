//! The code directory: how a trained code is handed from tool to tool.
//!
//! A directory holds `code.json` ([`CodeFile`]) and the models that it names. `code.json` is written
//! last, so its presence says that the rest is complete.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::codes::{CodeError, LinearCode};

/// The name of the file that describes the directory.
pub const FILE_NAME: &str = "code.json";

/// The version of the format that is read and written.
pub const FORMAT: u32 = 1;

/// The most queries or parities that a code file may ask for; a guard, far above any real code.
const MAX_WIDTH: usize = 4096;

/// What `code.json` has in every format.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// The content of `code.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeFile {
    /// The version of this format: [`FORMAT`].
    pub format: u32,
    /// What the encoder is: `sum`, `concat`, or `learned`, the model `encoder`.
    pub code: String,
    /// Queries of a group.
    pub k: usize,
    /// Parities of a group.
    pub r: usize,
    /// The weights `[r][k]` of `sum`'s encoder, and of the linear decoder of any code without a learned one.
    pub weights: Vec<Vec<f64>>,
    /// The shape of one query.
    pub query_shape: Vec<usize>,
    /// The shape of one prediction.
    pub prediction_shape: Vec<usize>,
    /// What the predictions are: `logits`.
    pub output: String,
    /// Which model answers the parity queries.
    pub runs_on: RunsOn,
    /// The parity models' files, by parity index.
    pub parity: Vec<String>,
    /// The learned encoder's file, `[B, k, …]` to `[B, r, …]`.
    pub encoder: Option<String>,
    /// The learned decoder's file, `[B, k + r, …]` with zeros for what is missing to `[B, k, …]`.
    pub decoder: Option<String>,
    /// What the code was trained for.
    pub deployed: Deployed,
    /// How it did on the rows that were kept for validation.
    pub scores: Scores,
    /// What wrote the directory.
    pub made_by: MadeBy,
}

/// Which model answers the coded queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunsOn {
    /// Parity models, one per parity.
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
}

/// Scores on the validation rows, every single loss simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Accuracy of the deployed model; none without labels.
    #[serde(rename = "A_a")]
    pub available: Option<f64>,
    /// Accuracy of the reconstructions; none without labels.
    #[serde(rename = "A_d")]
    pub degraded: Option<f64>,
    /// Share of reconstructions with the deployed model's own top-1.
    pub agreement: Option<f64>,
    /// Reconstructions that were scored.
    pub n: u64,
}

/// The program that wrote a code directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeBy {
    /// Its version.
    pub version: String,
    /// Its command line.
    pub command: String,
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
    #[error("{}: found format {found}, expected {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it claims.
        found: u32,
    },
    /// A code that this version does not know.
    #[error("{}: found code '{found}', expected 'sum', 'concat' or 'learned'", path.display())]
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
        let Versioned { format } = serde_json::from_slice(&text).map_err(json)?;
        if format != FORMAT {
            return Err(CodeDirError::Format { path, found: format });
        }
        let file: Self = serde_json::from_slice(&text).map_err(json)?;
        file.check(directory, path)?;
        Ok(file)
    }

    fn check(&self, directory: &Path, path: PathBuf) -> Result<(), CodeDirError> {
        if !["sum", "concat", "learned"].contains(&self.code.as_str()) {
            return Err(CodeDirError::UnknownCode { path, found: self.code.clone() });
        }
        let count = |what, found: usize, expected: String| {
            Err(CodeDirError::Count { path: path.clone(), what, found, expected })
        };
        if self.k > MAX_WIDTH {
            return count("queries in a group", self.k, format!("at most {MAX_WIDTH}"));
        }
        if self.weights.len() != self.r {
            return count("rows of weights", self.weights.len(), format!("r = {}", self.r));
        }
        if let Some(row) = self.weights.iter().find(|row| row.len() != self.k) {
            return count("weights in a row", row.len(), format!("k = {}", self.k));
        }
        if self.runs_on == RunsOn::Parity && self.parity.len() != self.r {
            return count("parity models", self.parity.len(), format!("r = {}", self.r));
        }
        let encoders = usize::from(self.code == "learned");
        if usize::from(self.encoder.is_some()) != encoders {
            return count("encoders", 1 - encoders, format!("{encoders} for the code '{}'", self.code));
        }
        for name in self.parity.iter().chain(&self.encoder).chain(&self.decoder) {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(CodeDirError::PartName { path, name: name.clone() });
            }
            let part = directory.join(name);
            if !part.is_file() {
                return Err(CodeDirError::MissingPart(part));
            }
        }
        self.linear().map(drop).map_err(|error| CodeDirError::Code { path, error })
    }

    /// The code that the file describes.
    ///
    /// # Errors
    /// Weights that make no code.
    pub fn linear(&self) -> Result<LinearCode, CodeError> {
        let weights = DMatrix::from_row_iterator(self.r, self.k, self.weights.iter().flatten().copied());
        LinearCode::weighted(self.k, weights)
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

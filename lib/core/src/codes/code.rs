//! A code: what encodes groups of queries, what rebuilds their predictions, and which models answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nalgebra::DMatrix;

use super::decoder::Decoder;
use super::directory::{CodeDirError, CodeFile, RunsOn};
use super::encoder::{Encoder, EncoderError};
use super::error::CodeError;
use super::interpolating::InterpolatingCode;
use super::learned::{LoadNetwork, Network, NetworkError};
use super::linear::LinearCode;
use super::matrices::Matrices;
use super::spec::{CodeKind, CodeName, CodeSpec};
use crate::task::Task;

/// A code, made of a [`CodeSpec`] or read from the directory of a trained code.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {
    /// What was said of it; the weights of a directory are in its matrices alone.
    spec: CodeSpec,
    kind: CodeKind,
    encoding: Encoding,
    learned_decoder: Option<PathBuf>,
    runs_on: RunsOn,
    trained: Option<Trained>,
}

/// How the coded queries of a code are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As weighted sums.
    Weighted,
    /// As one image of k smaller ones.
    Tiled,
    /// By the network of this file, `[k, …]` to `[r, …]`.
    Learned(PathBuf),
}

/// What the directory of a trained code says.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The directory.
    pub directory: PathBuf,
    /// Its `code.json`.
    pub file: CodeFile,
}

impl Code {
    /// The code of a specification.
    ///
    /// # Errors
    /// As [`CodeSpec::matrices`], and a learned code, which only a directory has.
    pub fn new(spec: &CodeSpec) -> Result<Self, CodeError> {
        if spec.name == CodeName::Learned {
            return Err(CodeError::Untrained);
        }
        let kind = spec.matrices()?;
        Ok(Self {
            spec: spec.clone(),
            kind,
            encoding: if spec.is_tiled() { Encoding::Tiled } else { Encoding::Weighted },
            learned_decoder: None,
            runs_on: if spec.name.is_trained() { RunsOn::Parity } else { RunsOn::Deployed },
            trained: None,
        })
    }

    /// The code of a directory.
    ///
    /// # Errors
    /// As [`CodeFile::load`].
    pub fn load(directory: &Path) -> Result<Self, CodeDirError> {
        let file = CodeFile::load(directory)?;
        let kind = file.kind();
        let kind = kind.map_err(|error| CodeDirError::Code { path: directory.to_owned(), error })?;
        Ok(Self {
            spec: file.spec(),
            kind,
            encoding: match &file.encoder {
                Some(name) => Encoding::Learned(directory.join(name)),
                None if file.spec().is_tiled() => Encoding::Tiled,
                None => Encoding::Weighted,
            },
            learned_decoder: file.decoder.as_ref().map(|name| directory.join(name)),
            runs_on: file.runs_on,
            trained: Some(Trained { directory: directory.to_owned(), file }),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> CodeName {
        self.spec.name
    }

    /// What was said of it.
    #[must_use]
    pub fn spec(&self) -> &CodeSpec {
        &self.spec
    }

    /// Queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        self.kind.k()
    }

    /// Parities of a group: 0 if all coded queries run on the deployed model.
    #[must_use]
    pub fn r(&self) -> usize {
        self.systematic().map_or(0, LinearCode::r)
    }

    /// Workers of a group, n.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.kind.workers()
    }

    /// Its matrices.
    #[must_use]
    pub fn kind(&self) -> &CodeKind {
        &self.kind
    }

    /// Its matrices, if it keeps the queries and adds parities.
    #[must_use]
    pub fn systematic(&self) -> Option<&LinearCode> {
        match &self.kind {
            CodeKind::Systematic(code) => Some(code),
            CodeKind::Interpolating(_) => None,
        }
    }

    /// Its matrices, if all its coded queries run on the deployed model.
    #[must_use]
    pub fn interpolating(&self) -> Option<&InterpolatingCode> {
        match &self.kind {
            CodeKind::Systematic(_) => None,
            CodeKind::Interpolating(code) => Some(code),
        }
    }

    /// The matrix `[coded queries, k]` of weighted sums: see [`CodeKind::parity_matrix`].
    #[must_use]
    pub fn parity_matrix(&self) -> DMatrix<f64> {
        self.kind.parity_matrix()
    }

    /// How its coded queries are made.
    #[must_use]
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// The file of the network that encodes, if one does.
    #[must_use]
    pub fn learned_encoder(&self) -> Option<&Path> {
        match &self.encoding {
            Encoding::Learned(file) => Some(file),
            Encoding::Weighted | Encoding::Tiled => None,
        }
    }

    /// The file of the network that rebuilds, if one does.
    #[must_use]
    pub fn learned_decoder(&self) -> Option<&Path> {
        self.learned_decoder.as_deref()
    }

    /// The files of the networks that encode and rebuild.
    pub fn networks(&self) -> impl Iterator<Item = &Path> {
        self.learned_encoder().into_iter().chain(self.learned_decoder())
    }

    /// Which model answers the coded queries that are not queries.
    #[must_use]
    pub fn runs_on(&self) -> RunsOn {
        self.runs_on
    }

    /// The directory that it was read from.
    #[must_use]
    pub fn trained(&self) -> Option<&Trained> {
        self.trained.as_ref()
    }

    /// The task of the predictions, if it is the code of a directory.
    #[must_use]
    pub fn task(&self) -> Option<Task> {
        self.trained.as_ref().map(|of| of.file.output)
    }

    /// The files of its parity models, by parity; none of a code without a directory.
    #[must_use]
    pub fn parity_models(&self) -> Vec<PathBuf> {
        let of = |Trained { directory, file }: &Trained| {
            file.parity.iter().map(|name| directory.join(name)).collect()
        };
        self.trained.as_ref().map(of).unwrap_or_default()
    }

    /// The file of the deployed model that was trained together with it, if one was.
    #[must_use]
    pub fn joint_model(&self) -> Option<PathBuf> {
        let Trained { directory, file } = self.trained.as_ref()?;
        Some(directory.join(&file.joint()?.name))
    }

    /// What makes its coded queries of queries of this shape. `load` loads a learned encoder.
    ///
    /// # Errors
    /// Queries that cannot be tiled, or a network that cannot be loaded.
    pub fn encoder(&self, shape: &[usize], load: &LoadNetwork<'_>) -> Result<Encoder, EncoderError> {
        let elements = shape.iter().product();
        Ok(match &self.encoding {
            Encoding::Learned(file) => Encoder::learned(file, (self.k(), self.r()), shape, load)?,
            Encoding::Tiled => Encoder::tiled(self.k(), shape)?,
            Encoding::Weighted => Encoder::weighted(self.parity_matrix(), elements),
        })
    }

    /// What rebuilds predictions by its matrices.
    #[must_use]
    pub fn linear_decoder(&self) -> Decoder {
        let decoder = Decoder::new(self.kind.clone()).with_task(self.task().unwrap_or_default());
        match self.runs_on {
            RunsOn::Parity => decoder.with_parity_models(),
            RunsOn::Deployed => decoder,
        }
    }

    /// What rebuilds predictions of this shape. `load` loads a learned decoder.
    ///
    /// # Errors
    /// A network that cannot be loaded.
    pub fn decoder(&self, shape: &[usize], load: &LoadNetwork<'_>) -> Result<Decoder, NetworkError> {
        let network = |file: &PathBuf| -> Result<Arc<dyn Network>, NetworkError> {
            load(file, &[&[self.workers()], shape].concat())
        };
        let decoder = self.linear_decoder();
        Ok(match self.learned_decoder.as_ref().map(network).transpose()? {
            Some(network) => decoder.with_network(network),
            None => decoder,
        })
    }
}

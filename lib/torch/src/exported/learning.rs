//! A copy of a program that is trained.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::Program;
use super::graph::Role;
use crate::model::{Model, ModelError};
use crate::network::{CheckpointError, checkpoint};
use crate::numbers::{Entry, Numbers, Part};
use crate::trainable::{Mode, Trainable};

/// A program whose parameters and buffers are views of flat tensors.
#[derive(Debug)]
pub(super) struct Learning {
    program: Program,
    numbers: Numbers,
    /// The entry of each input of the graph; none: it has none, as constants and buffers of other types.
    entries: Arc<[Option<usize>]>,
}

impl Learning {
    /// A copy of a program, whose parameters are f32. Tied tensors stay tied.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn new(program: &Program) -> Result<Self, TchError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut places = Vec::new();
        for (input, tensor) in program.file.graph.inputs.iter().zip(&program.tensors) {
            let part = match (input.role, tensor.kind()) {
                (Role::Parameter, _) => Part::Learned,
                (Role::Buffer, Kind::Float) => Part::Fixed,
                (Role::Buffer, Kind::Int64) => Part::Integers,
                _ => {
                    places.push(None);
                    continue;
                }
            };
            let size = tensor.size();
            let is_same = |other: &Tensor| other.data_ptr() == tensor.data_ptr() && other.size() == size;
            // Empty tensors have no memory to share.
            let tied = tensors.iter().position(is_same).filter(|_| tensor.numel() > 0);
            places.push(Some(tied.unwrap_or(entries.len())));
            if let Some(entry) = tied.and_then(|at| entries.get_mut(at)) {
                entry.names.push(input.name.clone());
            } else {
                let shape: Vec<usize> = size.iter().map(|&axis| axis as usize).collect();
                entries.push(Entry::new(input.name.clone(), &shape, part));
                tensors.push(tensor.shallow_clone());
            }
        }
        let numbers = Numbers::of(entries, &tensors, program.device)?;
        Ok(Self::of(program, numbers, places.into()))
    }

    /// The program with these numbers.
    fn of(program: &Program, numbers: Numbers, entries: Arc<[Option<usize>]>) -> Self {
        let mut program = program.share();
        for (tensor, entry) in program.tensors.iter_mut().zip(entries.iter()) {
            if let Some(view) = entry.and_then(|entry| numbers.views().get(entry)) {
                *tensor = view.shallow_clone();
            }
        }
        Self { program, numbers, entries }
    }
}

impl Trainable for Learning {
    fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn with(&self, numbers: Numbers) -> Result<Box<dyn Trainable>, TchError> {
        Ok(Box::new(Self::of(&self.program, numbers, Arc::clone(&self.entries))))
    }

    fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        self.program.forward(queries, mode)
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        let io = |error| CheckpointError::Io { path: path.into(), error };
        Ok(checkpoint::write_bytes(path, &self.program.to_bytes().map_err(io)?)?)
    }

    fn extension(&self) -> &'static str {
        "pt2"
    }

    fn record(&self) -> String {
        format!("exported program {}", self.program.file.hash)
    }

    fn is_random(&self) -> bool {
        self.program.file.graph.draws()
    }

    fn into_model(self: Box<Self>) -> Model {
        let Self { mut program, .. } = *self;
        for tensor in &mut program.tensors {
            *tensor = tensor.detach();
        }
        Model::Exported(Box::new(program))
    }
}

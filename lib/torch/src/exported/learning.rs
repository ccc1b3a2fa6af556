//! A copy of a program that is trained.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::Program;
use super::graph::{Input, Role};
use crate::model::{Model, ModelError};
use crate::network::{CheckpointError, checkpoint};
use crate::numbers::{Gathered, Numbers, Part};
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
        let (gathered, has_entry) = gather(program);
        let (numbers, places) = gathered.numbers(program.device)?;
        let mut places = places.into_iter();
        let entries: Vec<_> = has_entry.iter().map(|has| has.then(|| places.next()).flatten()).collect();
        Ok(Self::of(program, numbers, entries.into()))
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

/// The tensors that a copy of a program has as its own, and of each input of the graph whether it is among them.
pub(super) fn gather(program: &Program) -> (Gathered, Vec<bool>) {
    let all = program.graph.inputs.iter();
    // A model that was frozen as a whole, to answer, learns as a whole.
    let is_frozen = !all.clone().any(|input| input.role == Role::Parameter && input.requires_grad);
    let part = |input: &Input, kind| match (input.role, kind) {
        (Role::Parameter, _) if input.requires_grad || is_frozen => Some(Part::Learned),
        (Role::Parameter, _) | (Role::Buffer, Kind::Float) => Some(Part::Fixed),
        (Role::Buffer, Kind::Int64) => Some(Part::Integers),
        _ => None,
    };
    let inputs = all.zip(&program.tensors).map(|(input, tensor)| (part(input, tensor.kind()), input, tensor));
    let own = inputs
        .clone()
        .filter_map(|(part, input, tensor)| Some((input.name.clone(), part?, tensor.shallow_clone())));
    (Gathered::new(own), inputs.map(|(part, ..)| part.is_some()).collect())
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

    fn is_random(&self) -> bool {
        self.program.graph.draws()
    }

    fn into_model(self: Box<Self>) -> Model {
        let Self { mut program, .. } = *self;
        for tensor in &mut program.tensors {
            *tensor = tensor.detach();
        }
        Model::Exported(Box::new(program))
    }
}

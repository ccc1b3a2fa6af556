//! Learned encoders and decoders.

use std::path::Path;
use std::sync::Arc;

use crate::dtype::Float;
use crate::task::Task;

/// A network that encodes or decodes whole groups: libtorch's models are brought to the codes as such.
pub trait Network: Send + Sync {
    /// Runs it on groups of rows one behind the other, and gives its outputs one behind the other. An
    /// encoder makes `[groups, r, …]` of `[groups, k, …]`, and a decoder `[groups, k, …]` of
    /// `[groups, k + r, …]`, with zeros for what is missing.
    ///
    /// # Errors
    /// The network's own.
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError>;
}

/// Loads the network of a file for groups of this shape, `[rows, …]`.
pub type LoadNetwork<'a> = dyn Fn(&Path, &[usize]) -> Result<Arc<dyn Network>, NetworkError> + 'a;

/// A network that cannot be loaded, or that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Appends the rows of one group as a learned decoder takes them, `[k + r, elements]` with zeros for what is
/// missing. `available` has an entry for each query of the group and each parity, and `answer` gives the
/// answers by its indices. The last query of a short group fills its empty slots, as it did when it was
/// encoded; where its prediction is missing, theirs are missing too.
///
/// False, and nothing is appended, for a group that is not decoded: nothing is missing, or more predictions
/// than parity outputs are there.
pub fn gather<'a, T: Float>(
    k: usize,
    r: usize,
    available: &[bool],
    elements: usize,
    answer: impl Fn(usize) -> &'a [T],
    rows: &mut Vec<T>,
) -> bool {
    let (slots, parities) = available.split_at(available.len() - r);
    let repeated = |slot: usize| slot.min(slots.len() - 1);
    let missing = (0..k).filter(|&slot| !slots[repeated(slot)]).count();
    if missing == 0 || missing > parities.iter().filter(|there| **there).count() {
        return false;
    }
    for worker in (0..k).map(repeated).chain(slots.len()..available.len()) {
        if available[worker] {
            rows.extend_from_slice(answer(worker));
        } else {
            rows.resize(rows.len() + elements, T::zeroed());
        }
    }
    true
}

/// How far to trust a prediction that a network rebuilt. By how much errors of the answers grow in it is not
/// known: as in one that they reach as they are.
#[must_use]
pub fn confidence<T: Float>(task: Task, prediction: &[T]) -> f32 {
    super::confidence_of(task, prediction, 1.0)
}

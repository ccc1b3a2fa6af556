//! What all codes have in common: a matrix that encodes, and matrices that decode.

use nalgebra::DMatrix;

use super::kernel::combine;
use crate::dtype::Float;

/// The matrices of a code: E on the queries of a group, and for each pattern of losses D_F on the
/// answers.
///
/// Answers have explicit indices, those of the workers, whatever the order in which they arrive.
pub trait Matrices {
    /// Queries of a group.
    fn k(&self) -> usize;

    /// Workers of a group, n: each answers one coded query.
    fn workers(&self) -> usize;

    /// The encoding matrix E, `[n, k]`: coded query i is Σ E_ij·X_j.
    fn encoding(&self) -> DMatrix<f64>;

    /// What can be done about one pattern of losses. `available` has an entry for each worker.
    ///
    /// # Panics
    /// If `available` has another length.
    fn decoding(&self, available: &[bool]) -> Decoding;
}

/// How one prediction is rebuilt: Σ coefficients\[a\]·answer(a).
#[derive(Clone, Debug, PartialEq)]
pub struct Reconstruction {
    /// The slot that is rebuilt.
    pub slot: usize,
    /// The answers that take part, by worker, with their coefficients. The workers of a systematic
    /// code are the predictions by slot, 0..k, and then the parity outputs.
    pub terms: Vec<(usize, f64)>,
}

impl Reconstruction {
    /// The Euclidean norm of the coefficients: by how much independent errors of the answers grow.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        self.terms.iter().map(|(_, c)| c * c).sum::<f64>().sqrt()
    }

    /// True if nothing is computed: one answer is the prediction itself.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self.terms[..], [(_, c)] if (c - 1.0).abs() < 1e-12)
    }

    /// Writes the prediction to `out`, from the answers by worker, all of them as long as `out`.
    pub fn combine<'a, T: Float>(&self, answer: impl Fn(usize) -> &'a [T], out: &mut [T]) {
        self.combine_rows(self.terms.iter().map(|&(worker, _)| answer(worker)), out);
    }

    /// The same, from the answers of the terms, in their order.
    pub fn combine_rows<'a, T: Float>(&self, answers: impl Iterator<Item = &'a [T]>, out: &mut [T]) {
        let coefficients: Vec<T> = self.terms.iter().map(|&(_, c)| T::from_f64(c)).collect();
        combine(&coefficients, &answers.collect::<Vec<_>>(), out);
    }
}

/// What can be done about one pattern of losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// The predictions that can be rebuilt, by slot: of a systematic code the lost ones, of an
    /// interpolating code all.
    pub rebuilt: Vec<Reconstruction>,
    /// The slots of predictions that did not arrive and that nothing determines.
    pub unsolved: Vec<usize>,
    /// How errors grow: of a system that is solved its condition number, of an interpolant its
    /// Lebesgue constant at the queries' points, ‖D_F‖∞. 1 where nothing is rebuilt.
    pub condition: f64,
}

impl Decoding {
    /// A decoding that rebuilds nothing.
    #[must_use]
    pub(super) fn nothing(unsolved: Vec<usize>) -> Self {
        Self { rebuilt: Vec::new(), unsolved, condition: 1.0 }
    }
}

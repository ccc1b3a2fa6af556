//! What all codes have in common, and the decodings that are kept.

use std::collections::HashMap;
use std::sync::Arc;

use nalgebra::DMatrix;

/// Loss patterns whose decoding matrices are kept. More than real losses show; a bound all the
/// same, since 60 workers would allow 2^60.
const MAX_CACHED: usize = 4096;

/// A linear code: a matrix on the queries of a group, and a matrix on the answers for each pattern
/// of losses.
///
/// Answers have explicit indices, those of the workers; the order in which they arrive is nobody's
/// business.
pub trait Code {
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

impl<C: Code + ?Sized> Code for &C {
    fn k(&self) -> usize {
        (**self).k()
    }

    fn workers(&self) -> usize {
        (**self).workers()
    }

    fn encoding(&self) -> DMatrix<f64> {
        (**self).encoding()
    }

    fn decoding(&self, available: &[bool]) -> Decoding {
        (**self).decoding(available)
    }
}

impl<C: Code + ?Sized> Code for Box<C> {
    fn k(&self) -> usize {
        (**self).k()
    }

    fn workers(&self) -> usize {
        (**self).workers()
    }

    fn encoding(&self) -> DMatrix<f64> {
        (**self).encoding()
    }

    fn decoding(&self, available: &[bool]) -> Decoding {
        (**self).decoding(available)
    }
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

/// A code with the decodings of the loss patterns it has met.
#[derive(Debug)]
pub struct Decoder<C> {
    code: C,
    cache: HashMap<Vec<bool>, Arc<Decoding>>,
}

impl<C: Code> Decoder<C> {
    /// A decoder of the given code.
    #[must_use]
    pub fn new(code: C) -> Self {
        Self { code, cache: HashMap::new() }
    }

    /// The code that is decoded.
    #[must_use]
    pub fn code(&self) -> &C {
        &self.code
    }

    /// The decoding of one pattern of losses, solved once: see [`Code::decoding`].
    pub fn decoding(&mut self, available: &[bool]) -> Arc<Decoding> {
        if let Some(known) = self.cache.get(available) {
            return Arc::clone(known);
        }
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        let decoding = Arc::new(self.code.decoding(available));
        self.cache.insert(available.to_vec(), Arc::clone(&decoding));
        decoding
    }
}
